//! What an error looks like: a problem document by RFC 9457.
//!
//! A handler returns a `Problem`; the edge of the router writes it, where it is known what the
//! router is mounted under. Each [`Kind`] has its page in `docs/problems`.

use super::envelope::fragment;
use super::limits::{
    RETRY_AFTER_DRAINING, RETRY_AFTER_MAX, RETRY_AFTER_OVERLOAD, RETRY_AFTER_QUEUE_FULL,
};
use super::prefer::Prefer;
use super::query::encode_path;
use super::represent::ErrorView;
use anteroom::core::{AttemptError, JobId};
use anteroom::store::StoreError;
use anteroom::{Invalid, SubmitError};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

/// The sorts of problem. Each is a page under `/problems/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No task has the name.
    UnknownTask,
    /// No queue has the name, or it is kept for the server.
    UnknownQueue,
    /// As many queues were made as may.
    TooManyQueues,
    /// No schedule has the name, or it is kept for the server.
    UnknownSchedule,
    /// There are as many schedules as may be, or their inputs are as large.
    TooManySchedules,
    /// The schedule stands in the configuration.
    DefinedInConfiguration,
    /// A callback may not go where it is to go.
    CallbackRefused,
    /// As many jobs wait in the queue as may.
    QueueFull,
    /// No job has the id.
    UnknownJob,
    /// A job had the id.
    JobExpired,
    /// Nothing is at the path.
    UnknownRoute,
    /// Something is at the path, but not for this method.
    MethodNotAllowed,
    /// The request is not HTTP as it should be.
    MalformedRequest,
    /// The path is not UTF-8 in percent-encoding.
    MalformedPath,
    /// The body is said to be JSON and is not.
    MalformedJson,
    /// Something is wrong in the query.
    InvalidParameter,
    /// Something is wrong in the body.
    InvalidBody,
    /// The input is not what its task asks for.
    InvalidInput,
    /// The body is too large.
    PayloadTooLarge,
    /// The body is of the wrong type.
    UnsupportedMediaType,
    /// No such part of a result.
    RangeNotSatisfiable,
    /// The path and query are too long.
    UriTooLong,
    /// The head is too large.
    HeadersTooLarge,
    /// The job failed.
    JobFailed,
    /// The job failed for its timeout.
    JobTimedOut,
    /// The job was cancelled.
    JobCancelled,
    /// The job has its result.
    AlreadySucceeded,
    /// The job is ready or running.
    NothingToRetry,
    /// The job is running or has ended.
    NotWaiting,
    /// Another unfinished job has the unique key.
    UniqueKeyTaken,
    /// The idempotency key was used for something else.
    IdempotencyKeyReused,
    /// The job has not ended.
    NotFinal,
    /// The task is not left to workers.
    NotAPullTask,
    /// The lease is none to speak for.
    LeaseLost,
    /// The job, or what holds for the queue, changed since it was read.
    VersionDiffers,
    /// The server is shutting down.
    Draining,
    /// The job's `start_before` went by before it was stored.
    TooLate,
    /// The store cannot be used.
    StoreUnavailable,
    /// Too much is on its way to the store.
    Overloaded,
    /// There is no token, or none that is known.
    Unauthorized,
    /// The token does not cover it.
    Forbidden,
    /// The token's rate is used up.
    RateLimited,
    /// The request comes from a foreign page.
    CrossSite,
    /// This version cannot do it.
    NotSupported,
    /// The request came too slowly.
    RequestTimeout,
    /// A fault of the server.
    InternalError,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 46] = [
        Self::UnknownTask,
        Self::UnknownQueue,
        Self::TooManyQueues,
        Self::UnknownSchedule,
        Self::TooManySchedules,
        Self::DefinedInConfiguration,
        Self::CallbackRefused,
        Self::QueueFull,
        Self::UnknownJob,
        Self::JobExpired,
        Self::UnknownRoute,
        Self::MethodNotAllowed,
        Self::MalformedRequest,
        Self::MalformedPath,
        Self::MalformedJson,
        Self::InvalidParameter,
        Self::InvalidBody,
        Self::InvalidInput,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::RangeNotSatisfiable,
        Self::UriTooLong,
        Self::HeadersTooLarge,
        Self::JobFailed,
        Self::JobTimedOut,
        Self::JobCancelled,
        Self::AlreadySucceeded,
        Self::NothingToRetry,
        Self::NotWaiting,
        Self::UniqueKeyTaken,
        Self::IdempotencyKeyReused,
        Self::NotFinal,
        Self::NotAPullTask,
        Self::LeaseLost,
        Self::VersionDiffers,
        Self::Draining,
        Self::TooLate,
        Self::StoreUnavailable,
        Self::Overloaded,
        Self::Unauthorized,
        Self::Forbidden,
        Self::RateLimited,
        Self::CrossSite,
        Self::NotSupported,
        Self::RequestTimeout,
        Self::InternalError,
    ];

    /// Returns the last part of its `type`, the name of its page.
    pub const fn slug(self) -> &'static str {
        self.facts().0
    }

    /// Returns its usual status.
    pub const fn status(self) -> u16 {
        self.facts().1
    }

    /// Returns its title.
    pub const fn title(self) -> &'static str {
        self.facts().2
    }

    const fn facts(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::UnknownTask => ("unknown-task", 404, "There is no such task"),
            Self::UnknownQueue => ("unknown-queue", 404, "There is no such queue"),
            Self::TooManyQueues => ("too-many-queues", 422, "There are too many queues"),
            Self::UnknownSchedule => ("unknown-schedule", 404, "There is no such schedule"),
            Self::TooManySchedules => ("too-many-schedules", 422, "There are too many schedules"),
            Self::DefinedInConfiguration => (
                "defined-in-configuration",
                409,
                "It is defined in the configuration",
            ),
            Self::CallbackRefused => ("callback-refused", 422, "Callbacks may not go there"),
            Self::QueueFull => ("queue-full", 429, "The queue is full"),
            Self::UnknownJob => ("unknown-job", 404, "There is no such job"),
            Self::JobExpired => ("job-expired", 410, "The job is gone"),
            Self::UnknownRoute => ("unknown-route", 404, "There is nothing at this path"),
            Self::MethodNotAllowed => ("method-not-allowed", 405, "The method is not allowed here"),
            Self::MalformedRequest => ("malformed-request", 400, "The request is malformed"),
            Self::MalformedPath => ("malformed-path", 400, "The path is malformed"),
            Self::MalformedJson => ("malformed-json", 400, "The body is not JSON"),
            Self::InvalidParameter => ("invalid-parameter", 400, "The query is wrong"),
            Self::InvalidBody => ("invalid-body", 422, "The body is wrong"),
            Self::InvalidInput => ("invalid-input", 422, "The input is not what the task takes"),
            Self::PayloadTooLarge => ("payload-too-large", 413, "The body is too large"),
            Self::UnsupportedMediaType => (
                "unsupported-media-type",
                415,
                "The content type is not taken here",
            ),
            Self::RangeNotSatisfiable => ("range-not-satisfiable", 416, "There is no such range"),
            Self::UriTooLong => ("uri-too-long", 414, "The path and query are too long"),
            Self::HeadersTooLarge => ("headers-too-large", 431, "The header fields are too large"),
            Self::JobFailed => ("job-failed", 409, "The job failed"),
            Self::JobTimedOut => ("job-timed-out", 504, "The job timed out"),
            Self::JobCancelled => ("job-cancelled", 409, "The job was cancelled"),
            Self::AlreadySucceeded => ("already-succeeded", 409, "The job succeeded already"),
            Self::NothingToRetry => ("nothing-to-retry", 409, "There is nothing to retry"),
            Self::NotWaiting => ("not-waiting", 409, "The job is not waiting"),
            Self::UniqueKeyTaken => ("unique-key-taken", 409, "The unique key is taken"),
            Self::IdempotencyKeyReused => (
                "idempotency-key-reused",
                422,
                "The idempotency key was used for something else",
            ),
            Self::NotFinal => ("not-final", 409, "The job has not ended"),
            Self::NotAPullTask => ("not-a-pull-task", 422, "The task is not left to workers"),
            Self::LeaseLost => ("lease-lost", 409, "The lease is lost"),
            Self::VersionDiffers => ("version-differs", 412, "It has changed"),
            Self::Draining => ("draining", 503, "The server is shutting down"),
            Self::TooLate => ("too-late", 503, "The job can no longer begin in time"),
            Self::StoreUnavailable => ("store-unavailable", 503, "The store is unavailable"),
            Self::Overloaded => ("overloaded", 503, "The server is overloaded"),
            Self::Unauthorized => ("unauthorized", 401, "A token is needed"),
            Self::Forbidden => ("forbidden", 403, "The token does not cover this"),
            Self::RateLimited => ("rate-limited", 429, "The rate is used up"),
            Self::CrossSite => ("cross-site", 403, "Requests of other sites are refused"),
            Self::NotSupported => ("not-supported", 501, "This version cannot do that"),
            Self::RequestTimeout => ("request-timeout", 408, "The request came too slowly"),
            Self::InternalError => ("internal-error", 500, "The server made a mistake"),
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FieldError {
    /// What is wrong.
    pub(crate) detail: String,
    /// In which parameter of the query; empty where it is in the body.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) parameter: String,
    /// Where in the body, as a pointer by RFC 6901; empty where it is in the query.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) pointer: String,
}

impl FieldError {
    /// Returns what is wrong in the body.
    pub(crate) fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
            parameter: String::new(),
            pointer: pointer.into(),
        }
    }

    /// Returns what is wrong with the member at a path of the body; none: with the body as a whole.
    pub(crate) fn of(path: &[&str], detail: impl Into<String>) -> Self {
        Self::at(pointer(path), detail)
    }
}

/// Writes a path as a pointer by RFC 6901, in its form of a fragment of a URI.
fn pointer(path: &[&str]) -> String {
    let mut pointer = "#".to_owned();
    for name in path {
        point_to(&mut pointer, name);
    }
    pointer
}

/// Makes a pointer in a fragment of a URI go on to a member, whatever its name.
pub(crate) fn point_to(pointer: &mut String, member: &str) {
    pointer.push('/');
    for byte in member.bytes() {
        match byte {
            b'~' => pointer.push_str("~0"),
            b'/' => pointer.push_str("~1"),
            _ if byte.is_ascii_alphanumeric() || b"-._!$&'()*+,;=:@?".contains(&byte) => {
                pointer.push(char::from(byte));
            }
            // Writing to a string does not fail.
            _ => drop(write!(pointer, "%{byte:02X}")),
        }
    }
}

/// An error on its way to the client.
#[derive(Clone, Debug)]
pub(crate) struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    kind: Kind,
    status: StatusCode,
    detail: String,
    headers: HeaderMap,
    errors: Vec<FieldError>,
    position: Option<(usize, usize)>,
    job: Option<JobId>,
    job_error: Option<AttemptError>,
    reasons: Vec<String>,
    cause: Option<StoreError>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    reasons: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorView<'a>>,
}

impl Problem {
    /// Returns a problem of this kind.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            kind,
            status: StatusCode::from_u16(kind.status()).unwrap_or_default(),
            detail: detail.into(),
            headers: HeaderMap::new(),
            errors: Vec::new(),
            position: None,
            job: None,
            job_error: None,
            reasons: Vec::new(),
            cause: None,
        }))
    }

    /// Returns the problem that parameters of the query are wrong.
    pub(crate) fn parameters(errors: Vec<FieldError>) -> Self {
        let said: Vec<String> = errors
            .iter()
            .map(|error| format!("{} {}", error.parameter, error.detail))
            .collect();
        let mut problem = Self::new(Kind::InvalidParameter, said.join("; "));
        problem.0.errors = errors;
        problem
    }

    /// Returns the problem that something is wrong in a body that is well formed.
    pub(crate) fn members(errors: Vec<FieldError>) -> Self {
        let said: Vec<String> = errors
            .iter()
            .map(|error| format!("{} {}", error.pointer, error.detail))
            .collect();
        let mut problem = Self::new(Kind::InvalidBody, said.join("; "));
        problem.0.errors = errors;
        problem
    }

    /// Returns the problem that one parameter of the query is wrong.
    pub(crate) fn parameter(parameter: &str, detail: impl Into<String>) -> Self {
        Self::parameters(vec![FieldError {
            detail: detail.into(),
            parameter: parameter.to_owned(),
            pointer: String::new(),
        }])
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    /// Says what is wrong, each with its place.
    pub(crate) fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.0.errors = errors;
        self
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    pub(crate) fn with_retry_after(self, wait: Duration) -> Self {
        self.with_header(
            header::RETRY_AFTER,
            HeaderValue::from(wait.as_secs().max(1)),
        )
    }

    /// Says which preferences were applied before it came to this.
    pub(crate) fn preferring(mut self, prefer: Prefer) -> Self {
        prefer.tell(&mut self.0.headers);
        self
    }

    /// Says that the rest of the request is not read.
    pub(crate) fn closing(self) -> Self {
        self.with_header(header::CONNECTION, HeaderValue::from_static("close"))
    }

    pub(crate) fn with_position(mut self, line: usize, column: usize) -> Self {
        self.0.position = Some((line, column));
        self
    }

    pub(crate) fn with_job(mut self, id: JobId, error: Option<AttemptError>) -> Self {
        self.0.job = Some(id);
        self.0.job_error = error;
        self
    }

    pub(crate) fn with_reasons(mut self, reasons: Vec<String>) -> Self {
        self.0.reasons = reasons;
        self
    }

    /// Returns what the store said, if it is the store's. For the log only.
    pub(crate) fn cause(&self) -> Option<&StoreError> {
        self.0.cause.as_ref()
    }

    pub(crate) fn kind(&self) -> Kind {
        self.0.kind
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.0.status
    }

    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    pub(crate) fn errors(&self) -> &[FieldError] {
        &self.0.errors
    }

    /// Writes the answer, for a router that is mounted under `prefix`, to a request for `path`.
    pub(crate) fn render(&self, prefix: &str, path: &str) -> Response {
        let (status, headers, body) = self.to_parts(prefix, path);
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    /// Returns the answer in pieces, as [`render`](Self::render) puts them together.
    pub(crate) fn to_parts(&self, prefix: &str, path: &str) -> (StatusCode, HeaderMap, Vec<u8>) {
        let parts = &*self.0;
        let document = Document {
            r#type: format!("{}/problems/{}", encode_path(prefix), parts.kind.slug()),
            title: parts.kind.title(),
            status: parts.status.as_u16(),
            detail: &parts.detail,
            instance: &encode_path(path),
            errors: &parts.errors,
            reasons: &parts.reasons,
            line: parts.position.map(|(line, _)| line),
            column: parts.position.map(|(_, column)| column),
            job: parts.job.map(|id| id.to_string()),
            error: parts.job_error.as_ref().map(ErrorView),
        };
        // Strings and numbers always serialize.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut headers = parts.headers.clone();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        // Several of these statuses may be cached where nothing is said.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        (parts.status, headers, body)
    }
}

impl IntoResponse for Problem {
    /// Leaves the problem in the response's extensions, for the edge to write.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.0.status;
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if let StoreError::QueueFull { waiting, limit, .. } = error {
            return Self::queue_full(error.to_string(), waiting, limit, None);
        }
        let detail = match error {
            StoreError::Overloaded { .. } => "too much is waiting for the store; try again later",
            StoreError::Unknown { .. } => {
                "it is not known whether it was done; look before you try again"
            }
            StoreError::Closed => "the server has shut down its store",
            _ => "the store cannot be used just now; try again later",
        };
        let mut problem = Self::new(Kind::StoreUnavailable, detail);
        // Its reason names files and hosts: it is for the log, not for clients.
        problem.0.cause = Some(error);
        problem.with_retry_after(RETRY_AFTER_OVERLOAD)
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        let detail = error.to_string();
        match error {
            SubmitError::UnknownTask { .. } => Self::new(Kind::UnknownTask, detail),
            SubmitError::ContentType { .. } => Self::new(Kind::UnsupportedMediaType, detail),
            SubmitError::InvalidInput { errors, .. } => {
                let at = |Invalid { pointer, detail }| FieldError::at(fragment(&pointer), detail);
                Self::new(Kind::InvalidInput, detail)
                    .with_errors(errors.into_iter().map(at).collect())
            }
            SubmitError::InputTooLarge { .. } => Self::new(Kind::PayloadTooLarge, detail),
            SubmitError::OutOfRange { option, detail } => Self::parameter(option, detail),
            SubmitError::CallbacksUnsupported => Self::new(Kind::NotSupported, detail),
            SubmitError::CallbackRefused { reason, .. } => {
                let error = FieldError {
                    detail: format!("is refused: {reason}"),
                    parameter: "callback_url".to_owned(),
                    pointer: String::new(),
                };
                Self::new(Kind::CallbackRefused, detail).with_errors(vec![error])
            }
            SubmitError::TooMany { .. } => Self::new(Kind::InvalidBody, detail),
            SubmitError::IdempotencyKeyReused { .. } => {
                Self::new(Kind::IdempotencyKeyReused, detail)
            }
            SubmitError::Gone { id, .. } => Self::new(Kind::JobExpired, detail).with_job(id, None),
            SubmitError::UnknownQueue { .. } => {
                // The path is well: what is wrong is what was asked of it.
                Self::new(Kind::UnknownQueue, detail).with_status(StatusCode::UNPROCESSABLE_ENTITY)
            }
            SubmitError::TooManyQueues { .. } => Self::new(Kind::TooManyQueues, detail),
            SubmitError::QueueFull {
                waiting,
                limit,
                room_in,
                ..
            } => Self::queue_full(detail, waiting, limit, room_in),
            SubmitError::StartsTooLate {
                starts_in, spare, ..
            } => {
                // By then so much is done that the same, as long before its deadline, would start in time.
                let wait = whole_seconds(starts_in.saturating_sub(spare), RETRY_AFTER_MAX);
                let problem = Self::new(Kind::TooLate, format!("{detail}; nothing was stored"));
                problem.with_retry_after(wait)
            }
            SubmitError::TooLate => {
                let problem = Self::new(Kind::TooLate, format!("{detail}; nothing was stored"));
                problem.with_retry_after(RETRY_AFTER_OVERLOAD)
            }
            SubmitError::Draining => Self::draining(),
            SubmitError::Store(error) => error.into(),
            _ => Self::new(Kind::InternalError, "the job was not taken"),
        }
    }
}

impl Problem {
    /// Returns the problem that a queue takes no more jobs, with how many it would have taken.
    fn queue_full(detail: String, waiting: u64, limit: u64, room_in: Option<Duration>) -> Self {
        let known = room_in.map(|wait| whole_seconds(wait, RETRY_AFTER_MAX));
        let wait = known.unwrap_or(RETRY_AFTER_QUEUE_FULL);
        let left = limit.saturating_sub(waiting);
        let policy = format!("\"queue\";q={limit}");
        let standing = format!("\"queue\";r={left};t={}", wait.as_secs());
        let fields = [("ratelimit-policy", policy), ("ratelimit", standing)];
        let problem = Self::new(Kind::QueueFull, detail).with_retry_after(wait);
        fields.into_iter().fold(problem, |problem, (name, text)| {
            let value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
            problem.with_header(HeaderName::from_static(name), value)
        })
    }

    /// Returns the problem that the server gives no more leases.
    pub(crate) fn draining_leases() -> Self {
        let detail = "the server is shutting down and gives no more leases; those that are held can \
                      still be settled";
        Self::new(Kind::Draining, detail).with_retry_after(RETRY_AFTER_DRAINING)
    }

    /// Returns the problem that the server takes no more jobs.
    pub(crate) fn draining() -> Self {
        let detail = "the server is shutting down and takes no more jobs; try again later";
        Self::new(Kind::Draining, detail).with_retry_after(RETRY_AFTER_DRAINING)
    }
}

/// Returns a wait as `Retry-After` has it: whole seconds, rounded up, from one to `most`.
pub(crate) fn whole_seconds(wait: Duration, most: Duration) -> Duration {
    let seconds = (wait.as_secs()).saturating_add(u64::from(wait.subsec_nanos() > 0));
    Duration::from_secs(seconds.clamp(1, most.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_escaped_as_in_a_uri() {
        for (path, expected) in [
            (&[][..], "#"),
            (&["tags", "a.b-c_d"], "#/tags/a.b-c_d"),
            (&["a/b~c d", "ä", ""], "#/a~1b~0c%20d/%C3%A4/"),
        ] {
            assert_eq!(pointer(path), expected);
        }
    }

    #[test]
    fn what_a_store_says_stays_in_the_log() {
        let reason = "/var/lib/anteroom.db: disk I/O error".to_owned();
        for error in [
            StoreError::Unavailable {
                reason: reason.clone(),
            },
            StoreError::Unknown {
                reason: reason.clone(),
            },
            StoreError::Failed {
                reason: reason.clone(),
            },
            StoreError::Overloaded {
                waiting: 9,
                limit: 8,
            },
            StoreError::Closed,
        ] {
            let problem = Problem::from(SubmitError::Store(error.clone()));
            let (status, headers, body) = problem.to_parts("", "/v1/jobs");
            let text = String::from_utf8(body).unwrap();
            assert_eq!(status, 503, "{error}");
            assert_eq!(headers[header::RETRY_AFTER], "1", "{error}");
            assert!(text.contains("/problems/store-unavailable"), "{text}");
            assert!(!text.contains("disk"), "{text}");
        }
    }

    #[test]
    fn every_kind_has_a_slug_of_its_own_and_an_error_status() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert!((400..600).contains(&kind.status()), "{kind:?}");
            let first = Kind::ALL
                .iter()
                .position(|other| other.slug() == kind.slug());
            assert_eq!(first, Some(index), "{kind:?}");
        }
    }
}
