//! The query of a request: each parameter is taken once, and what nobody took is an error.

use super::problem::{FieldError, Problem};
use anteroom::core::Name;
use anteroom::core::limits::TAG_VALUE_BYTES_MAX;
use std::borrow::Cow;
use std::fmt::{Display, Write};

/// Takes a query apart, and remembers everything that is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    taken: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl Query {
    /// Reads `name=value&…`. A plus is a space.
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let mut parsed = Self::default();
        let pieces = query.unwrap_or_default().split('&');
        for piece in pieces.filter(|piece| !piece.is_empty()) {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            match (decode(name, true), decode(value, true)) {
                (Ok(name), Ok(value)) => {
                    parsed.pairs.push((name.into_owned(), value.into_owned()));
                }
                (Err(detail), _) => parsed.wrong(name, detail),
                (Ok(name), Err(detail)) => parsed.wrong(&name, detail),
            }
        }
        parsed
    }

    /// Tells whether nothing was given, right or wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.errors.is_empty()
    }

    /// Remembers that a parameter is wrong.
    pub(crate) fn wrong(&mut self, parameter: &str, detail: impl Into<String>) {
        self.errors.push(FieldError {
            detail: detail.into(),
            parameter: parameter.to_owned(),
            pointer: String::new(),
        });
    }

    /// Tells whether a parameter stands there and was not taken yet.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(given, _)| given == name)
    }

    /// Takes a parameter that stands there once or not at all.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<String> {
        let mut values = self.texts(name);
        if values.len() > 1 {
            self.wrong(
                name,
                format!("is given {} times; give it once", values.len()),
            );
        }
        values.pop()
    }

    /// Takes a parameter that may be repeated.
    pub(crate) fn texts(&mut self, name: &'static str) -> Vec<String> {
        if self.pairs.is_empty() {
            return Vec::new();
        }
        self.taken.push(name);
        let wanted = |(given, _): &mut (String, String)| given == name;
        let found = self.pairs.extract_if(.., wanted);
        found.map(|(_, value)| value).collect()
    }

    /// Takes a parameter that stands there once or not at all, and reads it.
    pub(crate) fn value<T, E: Display>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(name)?;
        match read(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.wrong(name, error.to_string());
                None
            }
        }
    }

    /// Takes every `tag.NAME=VALUE`.
    pub(crate) fn tags(&mut self) -> Vec<(Name, String)> {
        if self.pairs.is_empty() {
            return Vec::new();
        }
        self.taken.push("tag.NAME");
        let mut tags: Vec<(Name, String)> = Vec::new();
        let is_tag = |(given, _): &mut (String, String)| given.starts_with("tag.");
        let found: Vec<_> = self.pairs.extract_if(.., is_tag).collect();
        for (parameter, value) in found {
            match Name::new(&parameter["tag.".len()..]) {
                Err(error) => self.wrong(&parameter, format!("names no tag: the name {error}")),
                Ok(name) if name.is_reserved() => {
                    self.wrong(&parameter, "begins with what the server keeps for itself");
                }
                Ok(name) if tags.iter().any(|(other, _)| *other == name) => {
                    self.wrong(&parameter, "is given twice; give it once");
                }
                Ok(_) if value.len() > TAG_VALUE_BYTES_MAX => {
                    let bytes = value.len();
                    let detail = format!("is {bytes} bytes; the limit is {TAG_VALUE_BYTES_MAX}");
                    self.wrong(&parameter, detail);
                }
                Ok(name) => tags.push((name, value)),
            }
        }
        tags
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// A problem that names every parameter that is wrong, and every one that nobody took.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in std::mem::take(&mut self.pairs) {
            let detail = match self.taken.as_slice() {
                [] => "is unknown; this call takes no parameters".to_owned(),
                taken => format!("is unknown; this call takes {}", taken.join(", ")),
            };
            if !self.errors.iter().any(|error| error.parameter == name) {
                self.wrong(&name, detail);
            }
        }
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(Problem::parameters(self.errors))
        }
    }
}

/// Undoes percent-encoding, and what forms make of a space if `form` says so.
///
/// # Errors
///
/// What is wrong, to follow the name of the place.
pub(crate) fn decode(text: &str, form: bool) -> Result<Cow<'_, str>, String> {
    let text: Cow<'_, str> = if form && text.contains('+') {
        text.replace('+', " ").into()
    } else {
        text.into()
    };
    if !text.contains('%') {
        return Ok(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |index: usize| {
            let digit = char::from(*after.get(index)?).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err("has a % that two hexadecimal digits do not follow".to_owned());
        };
        bytes.push(high << 4 | low);
        rest = &after[2..];
    }
    let decoded = String::from_utf8(bytes).map(Cow::Owned);
    decoded.map_err(|_| "is not UTF-8 once it is decoded".to_owned())
}

/// Percent-encodes what RFC 3986 does not allow in a path. Clients send more than that.
pub(crate) fn encode_path(path: &str) -> Cow<'_, str> {
    let bytes = path.as_bytes();
    let fits = |(index, &byte): (usize, &u8)| match byte {
        b'%' => bytes
            .get(index + 1..index + 3)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)),
        _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte),
    };
    if bytes.iter().enumerate().all(fits) {
        return path.into();
    }
    let mut encoded = String::with_capacity(3 * path.len());
    for (index, byte) in bytes.iter().enumerate() {
        if fits((index, byte)) {
            encoded.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_made_a_uri_reference() {
        for (path, expected) in [
            ("/v1/jobs", "/v1/jobs"),
            ("//", "//"),
            ("/a%20b;c=d:e@f", "/a%20b;c=d:e@f"),
            ("/%", "/%25"),
            ("/%4", "/%254"),
            ("/%zz", "/%25zz"),
            ("/a{b}|\\^`<\">[c]", "/a%7Bb%7D%7C%5C%5E%60%3C%22%3E%5Bc%5D"),
            ("/\u{e4}", "/%C3%A4"),
        ] {
            assert_eq!(encode_path(path), expected, "{path}");
        }
    }

    #[test]
    fn percent_encoding_is_undone_or_refused() {
        for (text, form, expected) in [
            ("a", false, Some("a")),
            ("a+b", false, Some("a+b")),
            ("a+b%2B", true, Some("a b+")),
            ("%c3%A4", true, Some("ä")),
            ("%", true, None),
            ("%4", true, None),
            ("%zz", true, None),
            ("%+1", true, None),
            ("%ff", true, None),
        ] {
            assert_eq!(decode(text, form).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        let mut query = Query::parse(Some("a=1&a=2&b=x&c=%zz&d=4&tag.A=1&tag.k=v&&e"));
        assert_eq!(query.text("a").as_deref(), Some("2"));
        assert_eq!(query.value("b", str::parse::<u8>), None);
        assert_eq!(query.text("e").as_deref(), Some(""));
        assert_eq!(query.tags(), [(Name::new("k").unwrap(), "v".to_owned())]);
        let named: Vec<String> = {
            let problem = query.finish().unwrap_err();
            problem
                .errors()
                .iter()
                .map(|error| error.parameter.clone())
                .collect()
        };
        assert_eq!(named, ["c", "a", "b", "tag.A", "d"]);
    }

    #[test]
    fn an_empty_query_is_fine() {
        for query in [None, Some(""), Some("&")] {
            assert!(Query::parse(query).finish().is_ok(), "{query:?}");
        }
    }
}
