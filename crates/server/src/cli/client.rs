//! Speaks HTTP to a server, for the client commands.

use super::{ClientArgs, Stopped, plain};
use crate::config::{Environment, SERVER_DEFAULT};
use anteroom::core::IdempotencyKey;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Read as _;
use std::time::Duration;

/// How long a server may take to answer beyond the wait it was asked for.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Bytes of an answer that is no result: jobs are far smaller.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of a file with a token: whatever is longer holds something else.
const TOKEN_FILE_BYTES_MAX: u64 = 4 * 1024;

/// A server as its clients see it.
#[derive(Debug)]
pub(super) struct Client {
    authority: Authority,
    /// What all paths begin with: a server may be mounted in another app.
    prefix: String,
    http: HttpClient<HttpConnector, Full<Bytes>>,
    /// Marked as not to be shown.
    authorization: Option<HeaderValue>,
}

/// A call to be made.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    /// Path and query, from `/v1`.
    pub(super) path: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
    /// How long the server may wait before it answers.
    pub(super) wait: Option<Duration>,
}

impl Call {
    /// Returns a call without headers or body.
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            wait: None,
        }
    }

    /// Asks the server to wait that long for the job's end, in whole seconds.
    pub(super) fn waiting(mut self, wait: Option<Duration>) -> Self {
        self.wait = wait;
        self
    }
}

impl Client {
    /// Returns a client of the server that the flags, or else the environment, name.
    pub(super) fn new(args: &ClientArgs, environment: &Environment) -> Result<Self, Stopped> {
        let url = args.server.clone().or_else(|| environment.server());
        let url = url.as_deref().unwrap_or(SERVER_DEFAULT);
        let wrong = || {
            let expected = "expected a URL such as \"http://127.0.0.1:8080\"";
            Stopped::Usage(format!("error: the server is {url:?}; {expected}"))
        };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme() != Some(&Scheme::HTTP) || uri.query().is_some() {
            return Err(wrong());
        }
        let authority = uri.authority().cloned().ok_or_else(wrong)?;
        Ok(Self {
            authority,
            prefix: uri.path().trim_end_matches('/').to_owned(),
            http: HttpClient::builder(TokioExecutor::new()).build_http(),
            authorization: authorization(args, environment)?,
        })
    }

    /// Makes a call and returns a 2xx answer, or that nothing is new (304).
    ///
    /// # Errors
    ///
    /// [`Stopped::Refused`] where the server did not want it, [`Stopped::Trouble`] where there was no
    /// answer or the server is in trouble: then it may help to try again.
    pub(super) async fn call(&self, call: Call) -> Result<Response<Incoming>, Stopped> {
        let patience = call.wait.unwrap_or_default().saturating_add(ANSWER_WITHIN);
        let sent = self.http.request(self.request(call)?);
        let Ok(answer) = tokio::time::timeout(patience, sent).await else {
            let (server, seconds) = (&self.authority, patience.as_secs());
            let message = format!("http://{server} gave no answer within {seconds} s");
            return Err(Stopped::Trouble(message));
        };
        let response = answer.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let body = body(response).await?;
        let message = describe_problem(status, &body);
        Err(if is_trouble(status) {
            Stopped::Trouble(message)
        } else {
            Stopped::Refused(message)
        })
    }

    fn request(&self, call: Call) -> Result<Request<Full<Bytes>>, Stopped> {
        let bug = |error: http::Error| Stopped::Refused(format!("cannot ask that: {error}"));
        let path: PathAndQuery = format!("{}{}", self.prefix, call.path)
            .parse()
            .map_err(|error: http::uri::InvalidUri| bug(error.into()))?;
        let uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .map_err(bug)?;
        let mut request = Request::builder().method(call.method).uri(uri);
        if let Some(wait) = call.wait {
            // Rounded up: the server counts whole seconds.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            request = request.header("prefer", format!("wait={seconds}"));
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(call.body)).map_err(bug)
    }

    fn unreachable(&self, error: &hyper_util::client::legacy::Error) -> Stopped {
        // The layers above the innermost say no more than that it did not work.
        let mut innermost: &dyn Error = error;
        while let Some(cause) = innermost.source() {
            innermost = cause;
        }
        let server = &self.authority;
        Stopped::Trouble(format!("cannot reach http://{server}: {innermost}"))
    }
}

/// Returns the header with the token from the file that is named, or else from the environment.
///
/// Whatever is wrong with it, the token is not repeated.
fn authorization(
    args: &ClientArgs,
    environment: &Environment,
) -> Result<Option<HeaderValue>, Stopped> {
    let (text, place) = match (&args.token_file, environment.token()) {
        (Some(path), _) => {
            let place = path.display().to_string();
            let file = std::fs::File::open(path);
            let mut bytes = Vec::new();
            file.and_then(|file| file.take(TOKEN_FILE_BYTES_MAX).read_to_end(&mut bytes))
                .map_err(|error| Stopped::Refused(format!("cannot read {place}: {error}")))?;
            (bytes, place)
        }
        (None, Some(text)) => (
            text.as_encoded_bytes().to_vec(),
            "ANTEROOM_TOKEN".to_owned(),
        ),
        (None, None) => return Ok(None),
    };
    let token = text.trim_ascii();
    let value = [b"Bearer ", token].concat();
    let value = (!token.is_empty() && token.iter().all(u8::is_ascii_graphic))
        .then(|| HeaderValue::from_bytes(&value).ok())
        .flatten();
    let Some(mut value) = value else {
        let expected = "expected one word of ASCII, such as `anteroom token` prints first";
        return Err(Stopped::Usage(format!(
            "error: {place} holds no token; {expected}"
        )));
    };
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Reads an answer that is no result.
pub(super) async fn body(response: Response<Incoming>) -> Result<Bytes, Stopped> {
    let limited = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    let collected = limited.collect().await;
    collected
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| Stopped::Trouble(format!("the answer broke off: {error}")))
}

/// Tells whether it is not the request that is wrong: the same one may do later.
fn is_trouble(status: StatusCode) -> bool {
    let passes = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    let never_will = status == StatusCode::NOT_IMPLEMENTED;
    passes.contains(&status) || (status.is_server_error() && !never_will)
}

/// Returns a query with its question mark, or nothing where there are no options.
pub(super) fn query(options: &[(String, String)]) -> String {
    let each = options.iter();
    let query: Vec<String> = each
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{mark}{}", query.join("&"))
}

/// Percent-encodes a value of a query.
fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Returns a header that gives the body's media type.
pub(super) fn content_type(media_type: &str) -> Result<(HeaderName, HeaderValue), Stopped> {
    let value = HeaderValue::from_str(media_type)
        .map_err(|_| Stopped::Usage(format!("error: {media_type:?} is not a media type")))?;
    Ok((CONTENT_TYPE, value))
}

/// Returns a header that names the submit, as a string of RFC 8941.
pub(super) fn idempotency_key(key: &IdempotencyKey) -> Result<(HeaderName, HeaderValue), Stopped> {
    let escaped = key.replace('\\', "\\\\").replace('"', "\\\"");
    let value = HeaderValue::from_bytes(format!("\"{escaped}\"").as_bytes())
        .map_err(|_| Stopped::Usage(format!("error: {key:?} is not an idempotency key")))?;
    Ok((HeaderName::from_static("idempotency-key"), value))
}

/// What a server says that refuses.
#[derive(Deserialize)]
struct Problem {
    title: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    errors: Vec<ProblemPart>,
}

#[derive(Deserialize)]
struct ProblemPart {
    detail: String,
    pointer: Option<String>,
    parameter: Option<String>,
}

fn describe_problem(status: StatusCode, body: &[u8]) -> String {
    let Ok(problem) = serde_json::from_slice::<Problem>(body) else {
        return format!("the server answered {status}");
    };
    let mut text = plain::line(&problem.title).into_owned();
    if !problem.detail.is_empty() {
        text = format!("{text}: {}", plain::line(&problem.detail));
    }
    for part in problem.errors {
        let place = part.parameter.or(part.pointer).unwrap_or_default();
        let (place, detail) = (plain::line(&place), plain::line(&part.detail));
        // Writing to a string does not fail.
        let _ = write!(text, "\n  {place}: {detail}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_with_its_parts() {
        let body = br#"{"title": "Invalid query", "status": 400, "detail": "one is wrong",
                        "errors": [{"detail": "is 10; the most is 9", "parameter": "priority"}]}"#;
        assert_eq!(
            describe_problem(StatusCode::BAD_REQUEST, body),
            "Invalid query: one is wrong\n  priority: is 10; the most is 9"
        );
        assert_eq!(
            describe_problem(StatusCode::BAD_GATEWAY, b"<html>"),
            "the server answered 502 Bad Gateway"
        );
        let body = br#"{"title": "No", "detail": "\u001b[2Jgone\nerror: all is well"}"#;
        assert_eq!(
            describe_problem(StatusCode::NOT_FOUND, body),
            "No: \\u{1b}[2Jgone\\nerror: all is well"
        );
    }

    #[test]
    fn trouble_is_what_may_pass() {
        for (status, expected) in [
            (400, false),
            (404, false),
            (408, true),
            (409, false),
            (429, true),
            (500, true),
            (501, false),
            (503, true),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_trouble(status), expected, "{status}");
        }
    }

    #[test]
    fn a_query_value_is_encoded() {
        assert_eq!(encode("a b&c=ä/1-._~"), "a%20b%26c%3D%C3%A4%2F1-._~");
    }
}
