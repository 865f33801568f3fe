//! One delivery of an attempt: the request that is sent, with what identifies and signs it.

use crate::clock::rfc3339;
use crate::run::Attempt;
use crate::run::trace::traceparent;
use crate::webhook::{Secret, sign};
use anteroom_core::Timestamp;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, Uri};
use http_body_util::Full;
use std::sync::Arc;

/// Bytes that are signed by the thread that sends them; more go to a thread of their own.
const SIGNED_INLINE_BYTES_MAX: usize = 256 * 1024;
/// What the server calls itself.
const USER_AGENT_VALUE: &str = concat!("anteroom/", env!("CARGO_PKG_VERSION"));

/// Returns the request that delivers an attempt at `now`: its input, with its content type.
///
/// # Errors
///
/// What cannot be sent, in words.
pub(crate) async fn request(
    attempt: &Attempt,
    url: &Uri,
    secrets: &Arc<[Secret]>,
    now: Timestamp,
) -> Result<Request<Full<Bytes>>, String> {
    let id = attempt.job.id.to_string();
    let seconds = now.as_millis().div_euclid(1_000);
    let body = attempt.input.bytes.clone();
    let signature = signature(secrets, &id, seconds, &body).await?;
    let mut request = Request::post(url.clone()).body(Full::new(body));
    let headers = match &mut request {
        Ok(request) => request.headers_mut(),
        Err(error) => return Err(error.to_string()),
    };
    let content_type = &*attempt.input.content_type;
    let content_type = HeaderValue::from_str(content_type)
        .map_err(|_| format!("the content type {content_type:?} cannot be sent"))?;
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    for (name, value) in [
        ("idempotency-key", Some(id.clone())),
        ("anteroom-job", Some(id.clone())),
        ("anteroom-task", Some(attempt.job.task.to_string())),
        ("anteroom-attempt", Some(attempt.number.to_string())),
        ("anteroom-claim", Some(attempt.claim.to_string())),
        ("anteroom-deadline", Some(rfc3339(attempt.deadline))),
        ("traceparent", Some(traceparent(attempt.job.id))),
        ("webhook-id", Some(id)),
        ("webhook-timestamp", Some(seconds.to_string())),
        ("webhook-signature", signature),
    ] {
        if let Some(value) = value {
            let value = HeaderValue::try_from(value).map_err(|_| format!("{name} is no header"))?;
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    request.map_err(|error| error.to_string())
}

async fn signature(
    secrets: &Arc<[Secret]>,
    id: &str,
    seconds: i64,
    body: &Bytes,
) -> Result<Option<String>, String> {
    if secrets.is_empty() || body.len() <= SIGNED_INLINE_BYTES_MAX {
        return Ok(sign(secrets, id, seconds, body));
    }
    let (secrets, id, body) = (secrets.clone(), id.to_owned(), body.clone());
    tokio::task::spawn_blocking(move || sign(&secrets, &id, seconds, &body))
        .await
        .map_err(|error| format!("cannot sign the input: {error}"))
}
