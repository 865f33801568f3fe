//! Reading a job, its result and its input.

use super::App;
use super::body::is_json_like;
use super::call::{Call, Mount};
use super::conditional::{self, Asked};
use super::idempotency;
use super::limits::RETRY_AFTER_MAX;
use super::prefer::Prefer;
use super::problem::{Kind, Problem, whole_seconds};
use super::represent::{JobView, shown_result};
use anteroom::core::limits::RESULT_SHOWN_BYTES_MAX;
use anteroom::core::{Job, JobId, Payload, PayloadInfo, State, Timestamp};
use anteroom::store::{Found, StoreError};
use anteroom::{Submitted, Until, Waiting};
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::time::Duration;
use tracing::debug;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The entity tag of an input: it never changes.
const INPUT_TAG: &str = "\"input\"";

/// `GET /v1/jobs/{id}`: the job; with a wait, once it is done or differs from what was seen.
pub(crate) async fn job(app: App, call: Call) -> Result<Response, Problem> {
    let id = call.job_id(&app);
    let mut query = call.query();
    let is_waiting_asked = query.value("include", |text| match text {
        "waiting" => Ok(()),
        other => Err(format!("is {other:?}; there is waiting to include")),
    });
    let query = query.finish();
    let prefer = Prefer::of(call.headers());
    let (mount, asked) = call.before_a_wait();
    let id = id.await?;
    query?;
    let answer = Answer::new(mount, prefer);
    if is_waiting_asked.is_some() {
        return job_and_waiting(&app, id, &asked, &answer)
            .await
            .map_err(|problem| problem.preferring(prefer));
    }
    let (job, now, is_known) = wait_for(&app, id, asked.headers(), prefer)
        .await
        .map_err(|problem| problem.preferring(prefer))?;
    let mut response = if is_known {
        let mut response = answer.empty(StatusCode::NOT_MODIFIED);
        say_retry_after(&mut response, &app, &job, None, now);
        response
    } else {
        let shown = shown_payload(&app, &job).await?;
        answer.job_at(&app, StatusCode::OK, &job, shown.as_ref(), now)
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, text(conditional::tag_of(&job, now)));
    headers.insert(header::CACHE_CONTROL, NO_CACHE);
    headers.remove(header::LOCATION);
    Ok(response)
}

/// Answers `?include=waiting`: the job and what it waits for.
///
/// This has no tag, since what it says changes without the job: an `If-None-Match` does not match it,
/// but says which change is waited for.
async fn job_and_waiting(
    app: &App,
    id: JobId,
    asked: &Asked,
    answer: &Answer,
) -> Result<Response, Problem> {
    let (mut job, _, _) = wait_for(app, id, asked.headers(), answer.prefer).await?;
    if conditional::takes_none(asked.headers()) {
        let mut response = answer.empty(StatusCode::NOT_MODIFIED);
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, NO_STORE);
        return Ok(response);
    }
    let mut waiting = app.engine.waiting(&job).await?;
    if waiting.is_none() && job.status.state == State::Waiting {
        // It has gone on between the two looks.
        job = here(id, app.engine.store().get(id).await)?;
        waiting = app.engine.waiting(&job).await?;
    }
    let shown = shown_payload(app, &job).await?;
    let now = app.engine.clock().now();
    let view = View {
        waiting: waiting.as_ref(),
        ..View::of(&job, now)
    };
    let mut response = answer.view(app, StatusCode::OK, view, shown.as_ref());
    response.headers_mut().remove(header::LOCATION);
    Ok(response)
}

/// Returns the job, when it was looked at, and whether the client has seen it so.
async fn wait_for(
    app: &App,
    id: JobId,
    headers: &HeaderMap,
    prefer: Prefer,
) -> Result<(Job, Timestamp, bool), Problem> {
    let clock = app.engine.clock();
    let wait = prefer.wait().unwrap_or_default();
    let is_conditional = headers.contains_key(header::IF_NONE_MATCH);
    if !is_conditional && !wait.is_zero() {
        let job = here(id, app.engine.wait(id, Until::Done, wait).await)?;
        return Ok((job, clock.now(), false));
    }
    let job = here(id, app.engine.store().get(id).await)?;
    let now = clock.now();
    let seen = conditional::tag_of(&job, now);
    let is_known = is_conditional && conditional::is_known(headers, &seen);
    // A success never changes: nothing is worth waiting for.
    if !is_known || wait.is_zero() || job.status.state == State::Succeeded {
        return Ok((job, now, is_known));
    }
    let until = Until::Changed {
        version: job.status.version,
        shown: job.status.shown(now),
    };
    let job = here(id, app.engine.wait(id, until, wait).await)?;
    let now = clock.now();
    let is_known = conditional::tag_of(&job, now) == seen;
    Ok((job, now, is_known))
}

/// `GET /v1/jobs/{id}/result`: the raw result; until it is there, the job.
pub(crate) async fn result(app: App, call: Call) -> Result<Response, Problem> {
    let (id, query) = (call.job_id(&app), call.no_query());
    let prefer = Prefer::of(call.headers());
    // What is wrong is seen after the wait, and may have come about during it.
    let (mount, asked) = call.before_a_wait();
    let id = id.await?;
    query?;
    awaited_result(&app, id, &asked, &Answer::new(mount, prefer))
        .await
        .map_err(|problem| problem.preferring(prefer))
}

async fn awaited_result(
    app: &App,
    id: JobId,
    asked: &Asked,
    answer: &Answer,
) -> Result<Response, Problem> {
    let wait = answer.prefer.wait().unwrap_or_default();
    let (job, result) = here(id, app.engine.wait_for_result(id, wait).await)?;
    match (job.status.state, result) {
        (State::Succeeded, Some(result)) => {
            let tag = conditional::tag_of(&job, app.engine.clock().now());
            answer.payload(asked, &tag, result)
        }
        (State::Succeeded, None) => Err(expired(id)),
        (State::Failed, _) => Err(ended(&job, Kind::JobFailed)),
        (State::Cancelled, _) => Err(ended(&job, Kind::JobCancelled)),
        (State::Waiting | State::Running, _) => {
            Ok(answer.job(app, StatusCode::ACCEPTED, &job).await)
        }
    }
}

/// `GET /v1/jobs/{id}/input`: the raw input.
pub(crate) async fn input(app: App, call: Call) -> Result<Response, Problem> {
    let id = call.job_id(&app).await?;
    call.no_query()?;
    let input = here(id, app.engine.store().input(id).await)?;
    let (mount, asked) = call.before_a_wait();
    Answer::new(mount, Prefer::default()).payload(&asked, INPUT_TAG, input)
}

/// Returns what is under an id, or the problem that nothing is.
pub(crate) fn here<T>(id: JobId, found: Result<Found<T>, StoreError>) -> Result<T, Problem> {
    match found? {
        Found::Here(value) => Ok(value),
        Found::Gone => Err(expired(id)),
        Found::Unknown => Err(unknown(id)),
    }
}

pub(crate) fn unknown(id: JobId) -> Problem {
    Problem::new(Kind::UnknownJob, format!("there is no job {id}"))
}

pub(crate) fn expired(id: JobId) -> Problem {
    let detail = format!("job {id} was deleted, or its retention is over");
    Problem::new(Kind::JobExpired, detail)
}

/// Returns the problem that a job ended without a result, with what it said last.
pub(crate) fn ended(job: &Job, kind: Kind) -> Problem {
    let id = job.spec.id;
    let last = job.errors.last().cloned();
    let detail = match (&last, kind) {
        (Some(error), Kind::JobFailed | Kind::JobTimedOut) => format!(
            "job {id} failed: {}: {}",
            error.failure.kind, error.failure.message
        ),
        (_, Kind::JobCancelled) => format!("job {id} was cancelled"),
        (_, _) => format!("job {id} failed"),
    };
    Problem::new(kind, detail).with_job(id, last)
}

/// A job as an answer shows it.
#[derive(Clone, Copy, Debug)]
struct View<'a> {
    job: &'a Job,
    now: Timestamp,
    duplicate: bool,
    waiting: Option<&'a Waiting>,
}

impl<'a> View<'a> {
    const fn of(job: &'a Job, now: Timestamp) -> Self {
        Self {
            job,
            now,
            duplicate: false,
            waiting: None,
        }
    }
}

/// What an answer about a job says beside it.
#[derive(Debug)]
pub(crate) struct Answer {
    mount: Mount,
    prefer: Prefer,
}

impl Answer {
    pub(crate) const fn new(mount: Mount, prefer: Prefer) -> Self {
        Self { mount, prefer }
    }

    /// Returns an answer without a body.
    fn empty(&self, status: StatusCode) -> Response {
        self.with_body(status, Body::empty())
    }

    fn with_body(&self, status: StatusCode, body: Body) -> Response {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        self.prefer.tell(response.headers_mut());
        response
    }

    /// Returns the job as it stands now.
    pub(crate) async fn job(&self, app: &App, status: StatusCode, job: &Job) -> Response {
        let shown = shown_if_readable(app, job).await;
        self.job_at(app, status, job, shown.as_ref(), app.engine.clock().now())
    }

    /// Returns the job as it was changed, with the tag to change it by again.
    pub(crate) async fn changed(&self, app: &App, status: StatusCode, job: &Job) -> Response {
        let mut response = self.job(app, status, job).await;
        let tag = conditional::tag_of(job, app.engine.clock().now());
        response.headers_mut().insert(header::ETAG, text(tag));
        response
    }

    /// Returns what a submit gave, as it stands now.
    pub(crate) async fn submitted(
        &self,
        app: &App,
        status: StatusCode,
        submitted: &Submitted,
    ) -> Response {
        let Submitted {
            job,
            duplicate,
            replayed,
            place,
            result,
        } = submitted;
        let shown = match result {
            Some(result) => Some(result.clone()).filter(|_| is_shown(job)),
            None => shown_if_readable(app, job).await,
        };
        let waiting = match place {
            Some(place) => Some(app.engine.waiting_at(job, place)),
            None => waiting_if_readable(app, job).await,
        };
        let view = View {
            duplicate: *duplicate,
            waiting: waiting.as_ref(),
            ..View::of(job, app.engine.clock().now())
        };
        let mut response = self.view(app, status, view, shown.as_ref());
        if status == StatusCode::ACCEPTED && job.status.state.is_final() {
            // A replay of what is done since: it is worth asking at once.
            let soon = HeaderValue::from(1_u64);
            response.headers_mut().insert(header::RETRY_AFTER, soon);
        }
        idempotency::tell(&mut response, *replayed);
        response
    }

    fn job_at(
        &self,
        app: &App,
        status: StatusCode,
        job: &Job,
        result: Option<&Payload>,
        now: Timestamp,
    ) -> Response {
        self.view(app, status, View::of(job, now), result)
    }

    fn view(
        &self,
        app: &App,
        status: StatusCode,
        view: View<'_>,
        result: Option<&Payload>,
    ) -> Response {
        let View { job, now, .. } = view;
        let shown = JobView {
            job,
            result: result.and_then(shown_result),
            now,
            prefix: self.mount.prefix(),
            duplicate: view.duplicate,
            waiting: view.waiting,
        };
        let mut response = self.with_body(status, Body::from(shown.to_json()));
        say_retry_after(&mut response, app, job, view.waiting, now);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, JSON);
        headers.insert(header::CACHE_CONTROL, NO_STORE);
        if status == StatusCode::ACCEPTED {
            let id = &mut [0; 36];
            let path = [self.mount.prefix(), "/v1/jobs/", job.spec.id.encode(id)].concat();
            headers.insert(header::LOCATION, text(path));
        }
        response
    }

    /// Returns a result or input, or the part of it that is asked for, or that it is known.
    fn payload(&self, asked: &Asked, tag: &str, payload: Payload) -> Result<Response, Problem> {
        let mut response = if conditional::is_known(asked.headers(), tag) {
            self.empty(StatusCode::NOT_MODIFIED)
        } else if let Some(range) = asked.range(tag, payload.bytes.len())? {
            let bytes = payload.bytes.len();
            let extent = format!("bytes {}-{}/{bytes}", range.start, range.end - 1);
            let part = Payload {
                bytes: payload.bytes.slice(range),
                content_type: payload.content_type,
            };
            let mut response = self.raw(StatusCode::PARTIAL_CONTENT, part);
            response
                .headers_mut()
                .insert(header::CONTENT_RANGE, text(extent));
            response
        } else {
            self.raw(StatusCode::OK, payload)
        };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, text(tag.to_owned()));
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::CACHE_CONTROL, NO_CACHE);
        Ok(response)
    }

    /// Returns a result or input as it is, made harmless for browsers.
    pub(crate) fn raw(&self, status: StatusCode, payload: Payload) -> Response {
        let Payload {
            content_type,
            bytes,
        } = payload;
        let length = HeaderValue::from(bytes.len());
        let mut response = self.with_body(status, Body::from(bytes));
        let headers = response.headers_mut();
        // A runner may name a type that does not fit into a header.
        let content_type = HeaderValue::from_str(&content_type)
            .unwrap_or(HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.insert(header::CONTENT_LENGTH, length);
        headers.insert(header::CACHE_CONTROL, NO_STORE);
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        headers.insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("sandbox"),
        );
        response
    }
}

/// Tells whether a job has a result that is to be shown within it: JSON, and small.
fn is_shown(job: &Job) -> bool {
    let is_fit = |info: &PayloadInfo| {
        info.bytes <= RESULT_SHOWN_BYTES_MAX && is_json_like(&info.content_type)
    };
    job.result.as_ref().is_some_and(is_fit)
}

/// Reads the result that is to be shown within its job.
async fn shown_payload(app: &App, job: &Job) -> Result<Option<Payload>, StoreError> {
    if !is_shown(job) {
        return Ok(None);
    }
    let found = app.engine.store().result(job.spec.id).await?;
    Ok(found.here().and_then(|(_, result)| result))
}

/// Reads it for an answer about what was done already: one that cannot be read is left out.
async fn shown_if_readable(app: &App, job: &Job) -> Option<Payload> {
    match shown_payload(app, job).await {
        Ok(shown) => shown,
        Err(error) => {
            let id = job.spec.id;
            debug!(job.id = %id, %error, "left out the result of job {id}: {error}");
            None
        }
    }
}

/// Asks what a job waits for that an answer is about, if it waits: what cannot be read is left out.
async fn waiting_if_readable(app: &App, job: &Job) -> Option<Waiting> {
    match app.engine.waiting(job).await {
        Ok(waiting) => waiting,
        Err(error) => {
            let id = job.spec.id;
            debug!(job.id = %id, %error, "left out what job {id} waits for: {error}");
            None
        }
    }
}

/// Says when it is worth asking again, unless the job is done: when it is expected to be, whole seconds,
/// at least one. Where it is not known what is ahead of it, that is when it can be at the soonest.
fn say_retry_after(
    response: &mut Response,
    app: &App,
    job: &Job,
    waiting: Option<&Waiting>,
    now: Timestamp,
) {
    let status = &job.status;
    if status.state.is_final() {
        return;
    }
    let ahead = if status.state == State::Waiting {
        status.run_at.since(now)
    } else {
        Duration::ZERO
    };
    let forecast = match waiting {
        Some(waiting) => waiting.done_in,
        None => app.engine.done_in(job),
    };
    let wait = whole_seconds(forecast.unwrap_or_default().max(ahead), RETRY_AFTER_MAX);
    let seconds = HeaderValue::from(wait.as_secs());
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
}

/// Makes a header value of text of our own making.
fn text(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}
