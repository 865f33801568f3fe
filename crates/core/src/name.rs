//! Names and labels: the two kinds of text that identify things.

use crate::limits::{LABEL_BYTES_MAX, NAME_BYTES_MAX, RESERVED_NAME_PREFIX};
use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

/// A text that is no name or no label, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// There is no text.
    #[error("is empty")]
    Empty,
    /// It has too many bytes.
    #[error("is {bytes} bytes; the limit is {limit}")]
    TooLong {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// It has a character that may not stand there.
    #[error("has {character:?} at byte {at}; {allowed}")]
    Character {
        /// The character.
        character: char,
        /// Its place.
        at: usize,
        /// What may stand there.
        allowed: &'static str,
    },
}

/// The name of a task, queue, schedule or tag: `[a-z0-9][a-z0-9._-]{0,63}`.
///
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Checks and keeps `text`.
    ///
    /// # Errors
    ///
    /// [`NameError`] when it is empty, longer than 64 bytes, or has another character.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check_length(text, NAME_BYTES_MAX)?;
        for (at, character) in text.char_indices() {
            let plain = character.is_ascii_lowercase() || character.is_ascii_digit();
            if !plain && (at == 0 || !matches!(character, '.' | '_' | '-')) {
                let allowed = "a name is a-z, 0-9, and after the first character also . _ -";
                return Err(NameError::Character {
                    character,
                    at,
                    allowed,
                });
            }
        }
        Ok(Self(text.into()))
    }

    /// Tells whether the name is kept for the server's own use.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED_NAME_PREFIX)
    }
}

/// A group, unique key or worker: 1 to 255 bytes without control characters.
///
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Arc<str>);

impl Label {
    /// Checks and keeps `text`.
    ///
    /// # Errors
    ///
    /// [`NameError`] when it is empty, longer than 255 bytes, or has a control character.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check_length(text, LABEL_BYTES_MAX)?;
        match text
            .char_indices()
            .find(|(_, character)| character.is_control())
        {
            Some((at, character)) => {
                let allowed = "control characters may not stand there";
                Err(NameError::Character {
                    character,
                    at,
                    allowed,
                })
            }
            None => Ok(Self(text.into())),
        }
    }
}

fn check_length(text: &str, limit: usize) -> Result<(), NameError> {
    match text.len() {
        0 => Err(NameError::Empty),
        bytes if bytes > limit => Err(NameError::TooLong { bytes, limit }),
        _ => Ok(()),
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Deref for Label {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "0", "resize.v2", "a_b-c", &"x".repeat(64)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "A",
            ".a",
            "-a",
            "_a",
            "a b",
            "a/b",
            "ä",
            "a\n",
            &"x".repeat(65),
        ] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
        assert!(Name::new("anteroom.callback").is_ok_and(|name| name.is_reserved()));
        assert!(Name::new("anteroom").is_ok_and(|name| !name.is_reserved()));
    }

    #[test]
    fn labels_are_checked() {
        for good in ["a", "Customer 7", "ä/ö", &"x".repeat(255)] {
            assert!(Label::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a\nb", "\0", "a\u{85}", &"x".repeat(256)] {
            assert!(Label::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_error_says_what_and_where() {
        let error = Name::new("word count").unwrap_err().to_string();
        assert!(error.starts_with("has ' ' at byte 4; "), "{error}");
        let error = Name::new(&"x".repeat(70)).unwrap_err().to_string();
        assert_eq!(error, "is 70 bytes; the limit is 64");
    }
}
