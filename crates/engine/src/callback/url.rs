//! The URL that a callback is sent to: what can be told of it without asking anybody.

use anteroom_core::limits::TARGET_URL_BYTES_MAX;
use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;

/// The URL that a callback is sent to: `http` or `https`, at most 2,048 bytes, without user
/// information and fragment. Whether callbacks may go there is another question. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallbackUrl(Arc<str>);

/// A text that is no URL to send callbacks to, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallbackUrlError {
    /// It has too many bytes.
    #[error("is {bytes} bytes; the limit is {TARGET_URL_BYTES_MAX}")]
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// It is of another scheme, or no URL at all.
    #[error("begins with neither http:// nor https://")]
    Scheme,
    /// It has a character that no URL has.
    #[error("has {character:?} at byte {at}, which has to be percent-encoded")]
    Character {
        /// The character.
        character: char,
        /// Its place.
        at: usize,
    },
    /// It names a user.
    #[error("names a user before an @; a callback is signed and has no use for one")]
    UserInfo,
    /// It has a fragment.
    #[error("has a fragment after a #, which is never sent")]
    Fragment,
    /// What should be a host is none.
    #[error("names no host such as example.org, 192.0.2.1 or [2001:db8::1]")]
    Host,
    /// What should be a port is none.
    #[error("has a port that is no number from 1 to 65535")]
    Port,
}

impl CallbackUrl {
    /// Checks and keeps `text`.
    ///
    /// # Errors
    ///
    /// [`CallbackUrlError`].
    pub fn new(text: &str) -> Result<Self, CallbackUrlError> {
        if text.len() > TARGET_URL_BYTES_MAX {
            let bytes = text.len();
            return Err(CallbackUrlError::TooLong { bytes });
        }
        let (scheme, rest) = text.split_once("://").ok_or(CallbackUrlError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(CallbackUrlError::Scheme);
        }
        if text.contains('#') {
            return Err(CallbackUrlError::Fragment);
        }
        let is_of_urls = |character: char| {
            character.is_ascii_alphanumeric() || "-._~:/?[]@!$&'()*+,;=%".contains(character)
        };
        if let Some((at, character)) = text.char_indices().find(|(_, it)| !is_of_urls(*it)) {
            return Err(CallbackUrlError::Character { character, at });
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        check_authority(&rest[..end])?;
        Ok(Self(text.into()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_text(self) -> Arc<str> {
        self.0
    }
}

impl fmt::Display for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_authority(authority: &str) -> Result<(), CallbackUrlError> {
    if authority.contains('@') {
        return Err(CallbackUrlError::UserInfo);
    }
    let (is_host, rest) = if let Some(literal) = authority.strip_prefix('[') {
        let (address, rest) = literal.split_once(']').ok_or(CallbackUrlError::Host)?;
        (address.parse::<Ipv6Addr>().is_ok(), rest)
    } else {
        let (host, rest) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
        let is_of_hosts = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        (!host.is_empty() && host.bytes().all(is_of_hosts), rest)
    };
    if !is_host {
        return Err(CallbackUrlError::Host);
    }
    let is_port = |digits: &str| {
        let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
        are_digits && digits.parse::<u16>().is_ok_and(|port| port > 0)
    };
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Ok(()),
        None => Err(CallbackUrlError::Host),
        Some(digits) if is_port(digits) => Ok(()),
        Some(_) => Err(CallbackUrlError::Port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_url_says_where_to_and_nothing_else() {
        use CallbackUrlError::{Character, Fragment, Host, Port, Scheme, TooLong, UserInfo};
        let longest = format!("http://a/{}", "x".repeat(TARGET_URL_BYTES_MAX - 9));
        let too_long = format!("{longest}x");
        let bytes = TARGET_URL_BYTES_MAX + 1;
        let at = |character, at| Err(Character { character, at });
        for (text, expected) in [
            ("http://example.org", Ok(())),
            ("HTTPS://Example.org:8443/a%20b?c=d&e=[1]", Ok(())),
            ("http://192.0.2.1?x", Ok(())),
            ("http://[2001:db8::1]:80/", Ok(())),
            ("http://a_b.example/@x:y", Ok(())),
            (&longest, Ok(())),
            (&too_long, Err(TooLong { bytes })),
            ("", Err(Scheme)),
            ("example.org/hook", Err(Scheme)),
            ("//example.org/hook", Err(Scheme)),
            ("ftp://example.org/", Err(Scheme)),
            ("file:///etc/passwd", Err(Scheme)),
            ("javascript://a", Err(Scheme)),
            (" http://a", Err(Scheme)),
            ("http://a/b c", at(' ', 10)),
            ("http://a\\@b/", at('\\', 8)),
            ("http://a/\u{e4}", at('\u{e4}', 9)),
            ("http://a/\n", at('\n', 9)),
            ("http://a/b#c", Err(Fragment)),
            ("http://a#", Err(Fragment)),
            ("http://user@a/", Err(UserInfo)),
            ("http://user:word@a/", Err(UserInfo)),
            ("http://", Err(Host)),
            ("http:///a", Err(Host)),
            ("http://:80/", Err(Host)),
            ("http://127%2e0.0.1/", Err(Host)),
            ("http://[::1", Err(Host)),
            ("http://[a]/", Err(Host)),
            ("http://[::1]80/", Err(Host)),
            ("http://a:/", Err(Port)),
            ("http://a:0/", Err(Port)),
            ("http://a:+1/", Err(Port)),
            ("http://a:65536/", Err(Port)),
            ("http://a:80:90/", Err(Port)),
        ] {
            let kept = CallbackUrl::new(text).map(|url| url.to_string());
            assert_eq!(kept, expected.map(|()| text.to_owned()), "{text:?}");
        }
    }
}
