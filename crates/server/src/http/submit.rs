//! Handing a job in: `POST /v1/tasks/{task}/jobs` and `…/call`.

use super::App;
use super::access::Scope;
use super::body::{self, Room};
use super::call::Call;
use super::idempotency;
use super::limits::CALL_WAIT_DEFAULT;
use super::prefer::Prefer;
use super::problem::{Kind, Problem};
use super::query::Query;
use super::read::{self, Answer};
use super::value::{self, Friendly};
use anteroom::core::limits::{
    AHEAD_MAX, MAX_ATTEMPTS_MAX, RETAIN_MAX, TAGS_MAX, TIMEOUT_MAX, TIMEOUT_MIN,
};
use anteroom::core::{
    FailureKind, Label, Name, Payload, Priority, PriorityOutOfRange, State, Timestamp,
};
use anteroom::store::Found;
use anteroom::{CallbackUrl, Phase, StartAt, Submission, SubmitError, Submitted};
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// Names the job in the answers of `…/call`.
const JOB_HEADER: HeaderName = HeaderName::from_static("anteroom-job");

/// `POST /v1/tasks/{task}/jobs`: 202 once the job is durable; 200 if a wait is met.
pub(crate) async fn submit(app: App, call: Call) -> Result<Response, Problem> {
    let prefer = Prefer::of(call.headers());
    let wait = prefer.wait().unwrap_or_default();
    let (answer, submission, room) = take_apart(&app, call, prefer).await?;
    let submitted = hand_in(&app, submission, &room, wait).await?;
    // A replay without a wait is answered as the first time, whatever became of the job.
    let is_met = submitted.job.status.state.is_final() && !wait.is_zero();
    let status = if is_met || submitted.duplicate {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    Ok(answer.submitted(&app, status, &submitted).await)
}

/// `POST /v1/tasks/{task}/call`: the raw result if it is there in time.
pub(crate) async fn call(app: App, call: Call) -> Result<Response, Problem> {
    let prefer = Prefer::of(call.headers());
    let wait = prefer.wait().unwrap_or(CALL_WAIT_DEFAULT);
    let (answer, submission, room) = take_apart(&app, call, prefer).await?;
    let submitted = hand_in(&app, submission, &room, wait).await?;
    let id = HeaderValue::try_from(submitted.job.spec.id.to_string())
        .unwrap_or(HeaderValue::from_static("unknown"));
    // From here on there is a job: whatever the answer, it names it.
    match outcome(&app, &answer, &submitted).await {
        Ok(mut response) => {
            response.headers_mut().insert(JOB_HEADER, id);
            idempotency::tell(&mut response, submitted.replayed);
            Ok(response)
        }
        Err(problem) => {
            let problem = problem.preferring(prefer).with_header(JOB_HEADER, id);
            Err(idempotency::tell_problem(problem, submitted.replayed))
        }
    }
}

/// Returns what a call is answered with, as its job stands.
async fn outcome(app: &App, answer: &Answer, submitted: &Submitted) -> Result<Response, Problem> {
    let job = &submitted.job;
    match job.status.state {
        State::Succeeded => returned(app, answer, submitted).await,
        State::Failed => {
            let timed_out = job
                .errors
                .last()
                .is_some_and(|error| error.failure.kind == FailureKind::Timeout);
            Err(if timed_out {
                read::ended(job, Kind::JobTimedOut)
            } else {
                read::ended(job, Kind::JobFailed).with_status(StatusCode::BAD_GATEWAY)
            })
        }
        State::Cancelled => Err(read::ended(job, Kind::JobCancelled)),
        State::Waiting | State::Running => {
            Ok(answer.submitted(app, StatusCode::ACCEPTED, submitted).await)
        }
    }
}

async fn returned(app: &App, answer: &Answer, submitted: &Submitted) -> Result<Response, Problem> {
    if let Some(result) = &submitted.result {
        return Ok(answer.raw(StatusCode::OK, result.clone()));
    }
    let job = &submitted.job;
    match app.engine.store().result(job.spec.id).await? {
        Found::Here((_, Some(result))) => Ok(answer.raw(StatusCode::OK, result)),
        Found::Here((_, None)) | Found::Gone | Found::Unknown => Err(read::expired(job.spec.id)),
    }
}

/// Submits, gives back the body's room, and only then waits. Once the job is durable nothing is an
/// error any more.
async fn hand_in(
    app: &App,
    submission: Submission,
    room: &Room,
    wait: Duration,
) -> Result<Submitted, Problem> {
    if wait.is_zero() {
        let submitted = app.engine.submit(submission).await;
        room.release();
        return Ok(submitted?);
    }
    // In a box, so that what does not wait needs no room for it.
    Box::pin(async move {
        let submitted = app.engine.submit_and_watch(submission).await;
        room.release();
        Ok(submitted?.done(wait).await)
    })
    .await
}

/// Makes a submission of a request. What is wrong with its head is found before its body is read.
async fn take_apart(
    app: &App,
    call: Call,
    prefer: Prefer,
) -> Result<(Answer, Submission, Room), Problem> {
    let name = call.segment(2);
    call.access().check_task(&name, Scope::Submit)?;
    let task = known_task(app, &name)?;
    let mut submission = Submission::new(task, nothing());
    submission.idempotency = idempotency::of(&call)?;
    read_options(&mut submission, call.query(), app.engine.clock().now())?;
    if submission.callback_url.is_some() && app.engine.options().callbacks.is_none() {
        return Err(SubmitError::CallbacksUnsupported.into());
    }
    if app.engine.phase() != Phase::Running {
        return Err(Problem::draining());
    }
    let content_type = body::content_type(call.headers())?;
    let is_json = body::is_json(content_type);
    submission.input.content_type = content_type.into();
    let limit = app.engine.options().input_bytes_max;
    let (bytes, room) = body::receive(call.body, limit, &app.buffered).await?;
    submission.input.bytes = bytes;
    if is_json {
        body::check_json(&submission.input.bytes)?;
    }
    Ok((Answer::new(call.mount, prefer), submission, room))
}

fn nothing() -> Payload {
    Payload {
        content_type: Arc::default(),
        bytes: bytes::Bytes::new(),
    }
}

fn known_task(app: &App, name: &str) -> Result<Name, Problem> {
    match app.engine.task(name) {
        Some(task) => Ok(task.name.clone()),
        None => Err(unknown_task(name)),
    }
}

/// Returns the problem that no task has this name.
pub(crate) fn unknown_task(name: &str) -> Problem {
    let detail = match Name::new(name) {
        Ok(_) => format!("there is no task {name}"),
        Err(error) => format!("there is no task {name:?}: the name {error}"),
    };
    Problem::new(Kind::UnknownTask, detail)
}

/// Reads the options of a submit from its query, and says everything that is wrong with them.
///
/// The engine checks ranges again, as it does for whoever embeds it, and stops at the first.
fn read_options(
    submission: &mut Submission,
    mut query: Query,
    now: Timestamp,
) -> Result<(), Problem> {
    if query.is_empty() {
        return Ok(());
    }
    submission.queue = query.value("queue", Name::new);
    submission.group = query.value("group", Label::new);
    submission.priority = query.value("priority", priority);
    submission.start = start(&mut query, now);
    submission.max_attempts = query.value("max_attempts", attempts);
    submission.timeout = query.value("timeout", |text| span(text, TIMEOUT_MIN..=TIMEOUT_MAX));
    // One that has passed since the first time does no harm to a replay: the engine will tell.
    let may_have_passed = submission.idempotency.is_some();
    submission.start_before = query.value("start_before", |text| match ahead(text, now)? {
        deadline if deadline <= now && !may_have_passed => {
            Err(format!("is {text}, which has passed; it lies ahead"))
        }
        deadline => Ok(deadline),
    });
    submission.unique_key = query.value("unique_key", Label::new);
    submission.callback_url = query.value("callback_url", CallbackUrl::new);
    submission.retain = query.value("retain", |text| span(text, Duration::ZERO..=RETAIN_MAX));
    submission.tags = query.tags().into_iter().collect();
    if submission.tags.len() > TAGS_MAX {
        let count = submission.tags.len();
        let detail = format!("is given {count} times; the limit is {TAGS_MAX}");
        query.wrong("tag.NAME", detail);
    }
    query.finish()?;
    match &submission.queue {
        Some(queue) if queue.is_reserved() => {
            let detail = format!("{queue} begins with what the server keeps for itself");
            Err(Problem::new(Kind::UnknownQueue, detail))
        }
        Some(_) | None => Ok(()),
    }
}

fn start(query: &mut Query, now: Timestamp) -> Option<StartAt> {
    let both = query.has("delay") && query.has("run_at");
    let delay = query.value("delay", |text| span(text, Duration::ZERO..=AHEAD_MAX));
    let run_at = query.value("run_at", |text| ahead(text, now));
    if both {
        query.wrong("delay", "and run_at exclude each other; give one of them");
        query.wrong("run_at", "and delay exclude each other; give one of them");
    }
    delay.map(StartAt::In).or(run_at.map(StartAt::At))
}

fn attempts(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if (1..=MAX_ATTEMPTS_MAX).contains(&number) => Ok(number),
        Ok(number) => Err(format!("is {number}; it is from 1 to {MAX_ATTEMPTS_MAX}")),
        Err(_) => Err(format!(
            "is {text:?}, which is no whole number from 1 to {MAX_ATTEMPTS_MAX}"
        )),
    }
}

/// Reads a duration within a range.
pub(crate) fn span(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    let span = value::duration(text)?;
    if range.contains(&span) {
        return Ok(span);
    }
    let (least, most) = (Friendly(*range.start()), Friendly(*range.end()));
    Err(format!("is {text}; it is from {least} to {most}"))
}

/// Reads an instant that lies no more than a year ahead.
pub(crate) fn ahead(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let instant = value::instant(text)?;
    if instant.since(now) <= AHEAD_MAX {
        return Ok(instant);
    }
    let most = Friendly(AHEAD_MAX);
    Err(format!("is {text}, more than a year ({most}) ahead"))
}

fn priority(text: &str) -> Result<Priority, String> {
    let malformed = |_| format!("is {text:?}, which is no whole number from 0 to 9");
    let number: i64 = text.parse().map_err(malformed)?;
    Priority::new(number)
        .map_err(|PriorityOutOfRange(number)| format!("is {number}; it is from 0 to 9"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many bytes a request takes while a handler is at it.
    const fn bytes_of<A, B, F: Future>(_handler: &impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// Each submit that waits for its commit touches all of this again: it should stay near.
    #[test]
    fn a_submit_under_way_is_small() {
        let bytes = bytes_of(&submit);
        assert!(bytes <= 2_400, "{bytes} bytes");
    }
}
