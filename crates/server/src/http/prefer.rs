//! What a client would like: the `Prefer` field of RFC 7240.

use super::limits::WAIT_MAX;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::borrow::Cow;
use std::time::Duration;

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The preferences that are understood. Others are ignored, and so is what follows a mistake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prefer {
    /// How long to wait, as it is applied.
    wait: Option<Duration>,
    respond_async: bool,
}

impl Prefer {
    /// Reads all `Prefer` fields of a request as one list.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut prefer = Self::default();
        let mut wait_seen = false;
        for field in headers.get_all(PREFER) {
            for preference in pieces(&String::from_utf8_lossy(field.as_bytes()), ',') {
                let whole = pieces(preference, ';').next();
                let (name, value) = named(whole.unwrap_or_default());
                if name.eq_ignore_ascii_case("respond-async") {
                    prefer.respond_async = true;
                } else if name.eq_ignore_ascii_case("wait") && !wait_seen {
                    // Of several only the first counts, even if it is none.
                    wait_seen = true;
                    prefer.wait = seconds(&value);
                }
            }
        }
        prefer
    }

    /// Returns how long to wait; none where the client says nothing of it.
    ///
    /// `respond-async` alone means not at all; beside `wait` it says what comes after.
    pub(crate) fn wait(self) -> Option<Duration> {
        match self.wait {
            Some(wait) => Some(wait),
            None if self.respond_async => Some(Duration::ZERO),
            None => None,
        }
    }

    /// Says in an answer that it depends on preferences, and which were applied.
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        headers.insert(header::VARY, HeaderValue::from_static("Prefer"));
        if let Some(applied) = self.applied() {
            headers.insert(HeaderName::from_static("preference-applied"), applied);
        }
    }

    /// Returns `Preference-Applied`, if any was.
    fn applied(self) -> Option<HeaderValue> {
        let wait = self.wait.map(|wait| format!("wait={}", wait.as_secs()));
        let text = match (self.respond_async, wait) {
            (false, None) => return None,
            (true, None) => "respond-async".to_owned(),
            (false, Some(wait)) => wait,
            (true, Some(wait)) => format!("respond-async, {wait}"),
        };
        HeaderValue::try_from(text).ok()
    }
}

/// Reads whole seconds, and caps them.
fn seconds(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Only too many digits do not fit.
    let seconds = text.parse().unwrap_or(u64::MAX);
    Some(Duration::from_secs(seconds).min(WAIT_MAX))
}

/// Splits `text` where a separator stands outside quotes.
fn pieces(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character| {
        let ends = character == separator && !quoted;
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        ends
    })
    .map(str::trim)
}

/// Splits `name = value`, the value quoted or not.
fn named(piece: &str) -> (&str, Cow<'_, str>) {
    let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
    let value = value.trim();
    let unquoted = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    let value = match unquoted {
        Some(inner) => inner.replace('\\', "").into(),
        None => value.into(),
    };
    (name.trim(), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefer(fields: &[&str]) -> Prefer {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append("prefer", HeaderValue::from_str(field).unwrap());
        }
        Prefer::of(&headers)
    }

    #[test]
    fn preferences_are_read_by_the_rfc() {
        let cases: [(&[&str], Option<u64>, Option<&str>); 18] = [
            (&[], None, None),
            (&["wait=10"], Some(10), Some("wait=10")),
            (&["WAIT = \"10\""], Some(10), Some("wait=10")),
            (&["wait=100"], Some(60), Some("wait=60")),
            (&["wait=99999999999999999999999"], Some(60), Some("wait=60")),
            (&["wait=0"], Some(0), Some("wait=0")),
            (&["respond-async"], Some(0), Some("respond-async")),
            (
                &["respond-async, wait=10"],
                Some(10),
                Some("respond-async, wait=10"),
            ),
            (
                &["handling=lenient", "wait=5", "wait=7"],
                Some(5),
                Some("wait=5"),
            ),
            (&["wait=5;why=\"a, wait=7\""], Some(5), Some("wait=5")),
            (&["x=\"a, wait=7\", wait=5"], Some(5), Some("wait=5")),
            (&["x=\"\\\", wait=7\", wait=5"], Some(5), Some("wait=5")),
            (&["wait=soon, wait=5"], None, None),
            (&["wait=-1"], None, None),
            (&["wait=1.5"], None, None),
            (&["wait"], None, None),
            (&[", ,;=,wait=3"], Some(3), Some("wait=3")),
            (&["waiting=3"], None, None),
        ];
        for (fields, wait, applied) in cases {
            let prefer = prefer(fields);
            assert_eq!(prefer.wait(), wait.map(Duration::from_secs), "{fields:?}");
            let shown = prefer.applied();
            let shown = shown.as_ref().map(|value| value.to_str().unwrap());
            assert_eq!(shown, applied, "{fields:?}");
        }
    }
}
