//! What a submit is remembered by: the `Idempotency-Key` field, a draft of the IETF.
//!
//! The draft has a string of RFC 8941, in quotes; a bare key, as most clients send it, means the
//! same. What is remembered, and how long, is the engine's affair.

use super::call::Call;
use super::problem::Problem;
use anteroom::core::{Idempotency, IdempotencyKey};
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::Arc;

const FIELD: HeaderName = HeaderName::from_static("idempotency-key");
/// The field as it is told of.
const FIELD_NAME: &str = "Idempotency-Key";
/// Says that an answer is about what an earlier submit gave.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// Returns what the submit is to be remembered by, if it says so.
///
/// # Errors
///
/// A problem that names the field, where it is malformed or repeated.
pub(crate) fn of(call: &Call) -> Result<Option<Idempotency>, Problem> {
    let key = key(call.headers()).map_err(|detail| Problem::parameter(FIELD_NAME, detail))?;
    Ok(key.map(|key| Idempotency {
        scope: scope_of(call),
        key,
    }))
}

/// Returns whose keys those of a call are: the name of its token, empty without one.
pub(crate) fn scope_of(call: &Call) -> Arc<str> {
    call.access().token_name().into()
}

/// Says in an answer, if it is so, that it is about what an earlier submit gave.
pub(crate) fn tell(response: &mut Response, replayed: bool) {
    if replayed {
        response.headers_mut().insert(REPLAYED, TRUE);
    }
}

/// Says so in a problem that the job of an earlier submit came to.
pub(crate) fn tell_problem(problem: Problem, replayed: bool) -> Problem {
    if replayed {
        problem.with_header(REPLAYED, TRUE)
    } else {
        problem
    }
}

fn key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, String> {
    let mut fields = headers.get_all(FIELD).iter();
    let Some(field) = fields.next() else {
        return Ok(None);
    };
    let more = fields.count();
    if more > 0 {
        return Err(format!("is given {} times; give it once", more + 1));
    }
    let text = std::str::from_utf8(field.as_bytes()).map_err(|_| "is not UTF-8")?;
    let text = text.trim_matches([' ', '\t']);
    let key = match text.strip_prefix('"') {
        Some(rest) => IdempotencyKey::new(&unquoted(rest)?),
        None => IdempotencyKey::new(text),
    };
    key.map(Some).map_err(|error| error.to_string())
}

/// Reads a string up to its closing quote, after which nothing may stand.
fn unquoted(text: &str) -> Result<String, &'static str> {
    let mut key = String::with_capacity(text.len());
    let mut rest = text.chars();
    loop {
        match rest.next() {
            None => return Err("has no closing quote"),
            Some('"') if rest.as_str().is_empty() => return Ok(key),
            Some('"') => return Err("has something after its closing quote"),
            Some('\\') => match rest.next() {
                Some(escaped @ ('"' | '\\')) => key.push(escaped),
                Some(_) | None => {
                    return Err("has a backslash that is before no quote and no backslash");
                }
            },
            Some(character) => key.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[&[u8]]) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(FIELD, HeaderValue::from_bytes(field).unwrap());
        }
        key(&headers).map(|key| key.map(|key| key.to_string()))
    }

    #[test]
    fn a_key_is_quoted_or_bare() {
        let long = format!("\"{}\"", "x".repeat(255));
        for (field, key) in [
            ("\"8e03978e-40d5\"", "8e03978e-40d5"),
            ("8e03978e-40d5", "8e03978e-40d5"),
            (" \t\"a b\"\t ", "a b"),
            ("\" a \"", " a "),
            ("\"a\\\"b\\\\c\"", "a\"b\\c"),
            ("order 7, again", "order 7, again"),
            ("a\"b", "a\"b"),
            ("\u{e4}", "\u{e4}"),
            (&long, &"x".repeat(255)),
        ] {
            let read = read(&[field.as_bytes()]);
            assert_eq!(read, Ok(Some(key.to_owned())), "{field}");
        }
        assert_eq!(read(&[]), Ok(None));
    }

    #[test]
    fn a_malformed_key_is_refused() {
        let (quoted, bare) = (format!("\"{}\"", "x".repeat(256)), "x".repeat(256));
        let fields: [&[&[u8]]; 13] = [
            &[b""],
            &[b"  "],
            &[b"\"\""],
            &[b"\""],
            &[b"\"a"],
            &[b"\"a\\\""],
            &[b"\"a\\b\""],
            &[b"\"a\", \"b\""],
            &[b"\"a\tb\""],
            &[b"\xff"],
            &[quoted.as_bytes()],
            &[bare.as_bytes()],
            &[b"a", b"a"],
        ];
        for fields in fields {
            assert!(read(fields).is_err(), "{fields:?}");
        }
    }
}
