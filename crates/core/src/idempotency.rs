//! What a submit is remembered by, so that the same again gives the same job.

use crate::limits::IDEMPOTENCY_KEY_CHARS_MAX;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

/// A client's own name for one of its submits: 1 to 255 characters, none of them a control
/// character.
///
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(Arc<str>);

/// A text that is no idempotency key, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdempotencyKeyError {
    /// There is no text.
    #[error("is empty")]
    Empty,
    /// It has too many characters.
    #[error("is {characters} characters; the limit is {IDEMPOTENCY_KEY_CHARS_MAX}")]
    TooLong {
        /// How many it has.
        characters: usize,
    },
    /// It has a control character.
    #[error("has {character:?} at byte {at}; control characters may not stand there")]
    Control {
        /// The character.
        character: char,
        /// Its place.
        at: usize,
    },
}

impl IdempotencyKey {
    /// Checks and keeps `text`.
    ///
    /// # Errors
    ///
    /// [`IdempotencyKeyError`] when it is empty, longer than 255 characters, or has a control
    /// character.
    pub fn new(text: &str) -> Result<Self, IdempotencyKeyError> {
        if text.is_empty() {
            return Err(IdempotencyKeyError::Empty);
        }
        let characters = text.chars().count();
        if characters > IDEMPOTENCY_KEY_CHARS_MAX {
            return Err(IdempotencyKeyError::TooLong { characters });
        }
        match text
            .char_indices()
            .find(|(_, character)| character.is_control())
        {
            Some((at, character)) => Err(IdempotencyKeyError::Control { character, at }),
            None => Ok(Self(text.into())),
        }
    }
}

impl Deref for IdempotencyKey {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = IdempotencyKeyError;

    fn from_str(text: &str) -> Result<Self, IdempotencyKeyError> {
        Self::new(text)
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a submit of a task is remembered by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Idempotency {
    /// Whose key it is: the name of the client's token, empty without one. The same key of
    /// somebody else is another key.
    pub scope: Arc<str>,
    /// The key.
    pub key: IdempotencyKey,
}

/// What a submit asked for, as a digest: the same again has the same, anything else another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_checked() {
        for good in ["a", "order 7; \"b\"", &"ä".repeat(255)] {
            assert_eq!(IdempotencyKey::new(good).as_deref(), Ok(good));
        }
        for bad in ["", "a\nb", "\t", "\u{7f}", "a\u{85}", &"x".repeat(256)] {
            assert!(IdempotencyKey::new(bad).is_err(), "{bad:?}");
        }
        let error = IdempotencyKey::new(&"ä".repeat(300)).unwrap_err();
        assert_eq!(error.to_string(), "is 300 characters; the limit is 255");
    }
}
