//! Conditions on what a client has seen: entity tags and ranges, by RFC 9110.

use super::problem::{Kind, Problem};
use anteroom::core::{Job, ShownState, Timestamp};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use std::ops::Range;

/// Returns the strong entity tag of a job as it is shown at `now`.
///
/// The version changes with every change that is stored; the passage from scheduled to ready is
/// stored nowhere, hence the word.
pub(crate) fn tag_of(job: &Job, now: Timestamp) -> String {
    shown_tag(job.status.version, job.status.shown(now))
}

fn shown_tag(version: u64, shown: ShownState) -> String {
    format!("\"{version}-{shown}\"")
}

/// What a request says of what its client has already, apart from that request.
#[derive(Debug)]
pub(crate) struct Asked {
    method: Method,
    fields: HeaderMap,
}

impl Asked {
    /// Copies it.
    pub(crate) fn of(request: &Parts) -> Self {
        let mut fields = HeaderMap::new();
        for name in [header::IF_NONE_MATCH, header::IF_RANGE, header::RANGE] {
            for value in request.headers.get_all(&name) {
                if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                    fields.append(name.clone(), value);
                }
            }
        }
        Self {
            method: request.method.clone(),
            fields,
        }
    }

    pub(crate) const fn headers(&self) -> &HeaderMap {
        &self.fields
    }

    /// Returns the one range that is asked for, as [`range`] does.
    ///
    /// # Errors
    ///
    /// A problem if there is no such range.
    pub(crate) fn range(&self, tag: &str, bytes: usize) -> Result<Option<Range<usize>>, Problem> {
        match self.method {
            Method::GET => range(&self.fields, tag, bytes),
            // A range means something with GET alone: HEAD says how long the whole is.
            _ => Ok(None),
        }
    }
}

/// How two tags are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    /// A weak tag is as good as a strong one.
    Weak,
    /// A weak tag matches nothing.
    Strong,
}

/// Tells whether the client has `tag` already: `If-None-Match` names it, or is `*`.
pub(crate) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    names(headers, &header::IF_NONE_MATCH, tag, Comparison::Weak)
}

/// Tells whether `If-None-Match` is `*`: what is there in whatever form is known.
pub(crate) fn takes_none(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(header::IF_NONE_MATCH);
    (fields.iter()).any(|value| value.as_bytes().trim_ascii() == b"*")
}

/// Tells whether `If-Match`, if it is there, names `tag` or is `*`.
pub(crate) fn is_as_expected(headers: &HeaderMap, tag: &str) -> bool {
    !headers.contains_key(header::IF_MATCH)
        || names(headers, &header::IF_MATCH, tag, Comparison::Strong)
}

/// Tells whether `If-Match` takes the job as it is, whatever has become of it.
pub(crate) fn takes_any(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::IF_MATCH)
        .iter()
        .any(|value| value.as_bytes().trim_ascii() == b"*")
}

fn names(headers: &HeaderMap, field: &HeaderName, tag: &str, comparison: Comparison) -> bool {
    headers.get_all(field).iter().any(|value| {
        value.to_str().is_ok_and(|list| {
            list.trim() == "*"
                || tags(list).any(|(weak, named)| {
                    named == tag && !(weak && comparison == Comparison::Strong)
                })
        })
    })
}

/// Splits a list of tags, each with whether it is weak. What is no tag ends the list.
fn tags(list: &str) -> impl Iterator<Item = (bool, &str)> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (weak, opaque) = match rest.strip_prefix("W/") {
            Some(opaque) => (true, opaque),
            None => (false, rest),
        };
        let end = opaque.strip_prefix('"')?.find('"')? + 2;
        let (tag, after) = opaque.split_at(end);
        rest = after;
        Some((weak, tag))
    })
}

/// Returns the one range of bytes that is asked for, of `bytes` in all; none: all of it.
///
/// Other units, several ranges and malformed ones are ignored, as the RFC allows.
///
/// # Errors
///
/// A problem if there is no such range.
fn range(headers: &HeaderMap, tag: &str, bytes: usize) -> Result<Option<Range<usize>>, Problem> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    // Only the strong tag will do: there is no date to compare.
    if text(header::IF_RANGE).is_some_and(|condition| condition.trim() != tag)
        || headers.get_all(header::RANGE).iter().count() > 1
    {
        return Ok(None);
    }
    let Some(asked) = text(header::RANGE).and_then(first_and_last) else {
        return Ok(None);
    };
    let range = match asked {
        (Some(first), Some(last)) if last < first => return Ok(None),
        (Some(first), last) => {
            let end = last.map_or(bytes, |last| last.saturating_add(1).min(bytes));
            first..end
        }
        (None, Some(tail)) => bytes.saturating_sub(tail)..bytes,
        (None, None) => return Ok(None),
    };
    if range.is_empty() {
        let detail = format!("there are {bytes} bytes; the range begins beyond them");
        let extent = HeaderValue::try_from(format!("bytes */{bytes}"))
            .unwrap_or(HeaderValue::from_static("bytes */0"));
        let problem = Problem::new(Kind::RangeNotSatisfiable, detail);
        return Err(problem.with_header(header::CONTENT_RANGE, extent));
    }
    Ok(Some(range))
}

/// Reads `bytes=FIRST-LAST`, either of them absent.
fn first_and_last(text: &str) -> Option<(Option<usize>, Option<usize>)> {
    let (unit, range) = text.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    Some((position(first)?, position(last)?))
}

/// Reads a position that may be absent; none at all if it is malformed.
#[expect(clippy::option_option, reason = "absent and malformed are different")]
fn position(text: &str) -> Option<Option<usize>> {
    if text.is_empty() {
        return Some(None);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    // Only too many digits do not fit.
    digits.then(|| Some(text.parse().unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn tags_are_compared_by_the_rfc() {
        let tag = "\"7-ready\"";
        for (list, weak, strong) in [
            ("*", true, true),
            ("\"7-ready\"", true, true),
            ("W/\"7-ready\"", true, false),
            ("\"1\", \"7-ready\"", true, true),
            ("\"1,\",,\t\"7-ready\"", true, true),
            ("\"7\"", false, false),
            ("7-ready", false, false),
            ("\"7-ready", false, false),
            ("", false, false),
        ] {
            assert_eq!(
                is_known(&headers(header::IF_NONE_MATCH, list), tag),
                weak,
                "{list}"
            );
            assert_eq!(
                is_as_expected(&headers(header::IF_MATCH, list), tag),
                strong,
                "{list}"
            );
        }
        assert!(!is_known(&HeaderMap::new(), tag));
        assert!(is_as_expected(&HeaderMap::new(), tag));
    }

    #[test]
    fn one_range_is_served() {
        for (text, expected) in [
            ("bytes=0-4", Some(Some(0..5))),
            ("bytes=5-", Some(Some(5..10))),
            ("bytes=-3", Some(Some(7..10))),
            ("bytes=-30", Some(Some(0..10))),
            ("bytes=2-99999999999999999999999", Some(Some(2..10))),
            ("Bytes=9-9", Some(Some(9..10))),
            ("bytes=10-", None),
            ("bytes=-0", None),
            ("bytes=4-2", Some(None)),
            ("bytes=0-1,3-4", Some(None)),
            ("bytes=-", Some(None)),
            ("bytes=a-b", Some(None)),
            ("items=0-1", Some(None)),
        ] {
            let range = range(&headers(header::RANGE, text), "\"1\"", 10).ok();
            assert_eq!(range, expected, "{text}");
        }
    }

    #[test]
    fn a_range_of_something_older_is_all_of_it() {
        for (condition, expected) in [("\"1\"", Some(0..1)), ("\"2\"", None), ("W/\"1\"", None)] {
            let mut headers = headers(header::RANGE, "bytes=0-0");
            headers.insert(header::IF_RANGE, HeaderValue::from_str(condition).unwrap());
            assert_eq!(
                range(&headers, "\"1\"", 10).unwrap(),
                expected,
                "{condition}"
            );
        }
    }
}
