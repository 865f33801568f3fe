//! What a service answers to a push or a callback: read within bounds, and never interpreted.

use crate::run::client::causes;
use anteroom_core::Timestamp;
use anteroom_core::limits::CONTENT_TYPE_BYTES_MAX;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// Bytes of a failure's body that are shown with the job.
const EXCERPT_BYTES_MAX: usize = 4 * 1024;
/// How long those are waited for.
const EXCERPT_MAX: Duration = Duration::from_secs(5);
/// The shortest wait that an answer may ask for: less would go round without a pause.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// The longest: a mistake in a date should not stop a job for years.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);
/// The content type of what has none.
const CONTENT_TYPE_DEFAULT: &str = "application/octet-stream";

/// An answer whose body is still to come.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
}

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    #[error("the answer is longer than {limit} bytes, the limit of a result")]
    TooLong { limit: usize },
    #[error("the answer broke off: {0}")]
    Broken(String),
}

impl From<Response<Incoming>> for Answer {
    fn from(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        Self {
            status: head.status,
            headers: head.headers,
            body,
        }
    }
}

impl Answer {
    /// Returns how long it asks to be left alone, within reason; none if it does not.
    pub(crate) fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let wait = if is_number {
            Duration::from_secs(text.parse().unwrap_or(u64::MAX))
        } else {
            let date = httpdate::parse_http_date(text).ok()?;
            let since_epoch = date.duration_since(UNIX_EPOCH).unwrap_or_default();
            Timestamp::from_millis(0).after(since_epoch).since(now)
        };
        Some(wait.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX))
    }

    /// Returns its content type, if it is fit to be sent on.
    pub(crate) fn content_type(&self) -> Arc<str> {
        let mut values = self.headers.get_all(CONTENT_TYPE).iter();
        let first = values.next().and_then(|value| value.to_str().ok());
        match first {
            Some(text) if values.next().is_none() && is_media_type(text) => text.into(),
            _ => CONTENT_TYPE_DEFAULT.into(),
        }
    }

    /// Returns how its body is encoded, though it was asked for as it is; none if it is not.
    pub(crate) fn encoding(&self) -> Option<&str> {
        let text = self.text_of(&CONTENT_ENCODING)?;
        (!text.eq_ignore_ascii_case("identity")).then_some(text)
    }

    fn text_of(&self, name: &HeaderName) -> Option<&str> {
        let text = self.headers.get(name)?.to_str().unwrap_or("?").trim();
        (!text.is_empty()).then_some(text)
    }

    /// Reads its body to the end.
    pub(crate) async fn read(self, limit: usize) -> Result<Bytes, Unread> {
        let least = usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX);
        if least > limit {
            return Err(Unread::TooLong { limit });
        }
        let mut body = self.body;
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Unread::Broken(causes(&error)))?;
            // Trailers say nothing of the result.
            let data = frame.into_data().unwrap_or_default();
            if data.len() > limit - whole.len() {
                return Err(Unread::TooLong { limit });
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }

    /// Says what it was in words: its status, and the start of its body if that is text.
    pub(crate) async fn describe(self) -> String {
        let status = self.status;
        let words = status.canonical_reason().unwrap_or_default();
        let mut text = format!("the service answered {} {words}", status.as_u16());
        text.truncate(text.trim_end().len());
        if self.encoding().is_some() || !is_text(&self.content_type()) {
            return text;
        }
        let start = start_of(self.body, EXCERPT_BYTES_MAX, EXCERPT_MAX).await;
        let start = String::from_utf8_lossy(&start);
        let start = start.trim();
        if !start.is_empty() {
            text.push_str(": ");
            text.push_str(start);
        }
        text
    }
}

/// Reads the start of a body, as far as it comes within the time.
async fn start_of(mut body: Incoming, limit: usize, time: Duration) -> Bytes {
    let mut start = BytesMut::new();
    let reading = async {
        while start.len() < limit
            && let Some(Ok(frame)) = body.frame().await
        {
            let data = frame.into_data().unwrap_or_default();
            let room = limit - start.len();
            start.extend_from_slice(&data[..data.len().min(room)]);
        }
    };
    // What came until then is worth showing, too.
    let _in_time = tokio::time::timeout(time, reading).await;
    start.freeze()
}

/// Tells whether a text is a media type that can be sent on in a header of ours.
fn is_media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim();
    let is_token = |part: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+%'*`|~".contains(&b);
        !part.is_empty() && part.bytes().all(fits)
    };
    let parts = essence.split_once('/');
    text.len() <= CONTENT_TYPE_BYTES_MAX
        && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && parts.is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

fn is_text(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence.starts_with("text/")
        || ["json", "xml"].iter().any(|kind| {
            essence.ends_with(&format!("/{kind}")) || essence.ends_with(&format!("+{kind}"))
        })
}
