//! What is submitted again and again: `/v1/schedules`.
//!
//! The entity tag of a schedule is that of its definition, so that it can be named in `If-Match`; when
//! it fires next, and did last, changes all the time. What a body asks for is read in
//! `schedules/asked.rs`.

use super::App;
use super::access::{Access, Scope};
use super::body;
use super::call::Call;
use super::conditional;
use super::idempotency;
use super::prefer::Prefer;
use super::problem::{FieldError, Kind, Problem};
use super::read::Answer;
use super::submit_many::refusal_of_one;
use super::value::Instant;
use anteroom::core::Name;
use anteroom::core::limits::{PREVIEW_DEFAULT, PREVIEW_MAX};
use anteroom::{DefinedIn, Expected, ScheduleError, Scheduled, SubmitError};
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use view::ScheduleView;

mod asked;
mod view;

#[derive(Serialize)]
struct SchedulesView<'a> {
    schedules: Vec<ScheduleView<'a>>,
}

#[derive(Serialize)]
struct PreviewView {
    times: Vec<Instant>,
}

/// `GET /v1/schedules`: all of them that the token covers, by name, without their inputs.
pub(crate) async fn all(app: App, call: Call) -> Result<Response, Problem> {
    call.no_query()?;
    let mut schedules = app.engine.schedules().await?;
    schedules.retain(|it| call.access().covers(&it.schedule.submission.task));
    let view = |it| ScheduleView::of(it, call.mount.prefix()).without_input();
    let schedules = schedules.iter().map(view).collect();
    Ok(super::pages::json(&SchedulesView { schedules }))
}

/// `GET /v1/schedules/{schedule}`: one of them.
pub(crate) async fn one(app: App, call: Call) -> Result<Response, Problem> {
    let scheduled = named(&app, &call).await?;
    call.no_query()?;
    Ok(shown(&call, &scheduled))
}

/// `GET /v1/schedules/{schedule}/preview`: when it will fire, also while it is paused.
pub(crate) async fn preview(app: App, call: Call) -> Result<Response, Problem> {
    let scheduled = named(&app, &call).await?;
    let mut query = call.query();
    let count = query.value("count", |text| match text.parse() {
        Ok(count) if (1..=PREVIEW_MAX).contains(&count) => Ok(count),
        _ => Err(format!(
            "is {text:?}, which is no whole number from 1 to {PREVIEW_MAX}"
        )),
    });
    query.finish()?;
    let cron = &scheduled.schedule.cron;
    let first = cron.next_after(app.engine.clock().now());
    let times = std::iter::successors(first, |time| cron.next_after(*time));
    let times = times.take(count.unwrap_or(PREVIEW_DEFAULT)).map(Instant);
    Ok(super::pages::json(&PreviewView {
        times: times.collect(),
    }))
}

/// `PUT /v1/schedules/{schedule}`: 201 if it is new, 200 if it takes the place of another.
pub(crate) async fn put(app: App, mut call: Call) -> Result<Response, Problem> {
    let name = name_of(&call)?;
    call.no_query()?;
    check_type(call.headers())?;
    let before = app.engine.schedule(&name).await?;
    if let Some(before) = &before {
        check_covered(call.access(), before)?;
        check_api(before)?;
    }
    let expected = expected(call.headers(), &name, before.as_ref())?;
    let sent = std::mem::take(&mut call.body);
    let (bytes, _room) = body::receive(sent, asked::bytes_max(&app), &app.buffered).await?;
    let (schedule, input) = asked::read(&app, &bytes)?;
    call.access()
        .check_task(&schedule.submission.task, Scope::Admin)?;
    let put = app.engine.put_schedule(&name, schedule, expected).await;
    let (scheduled, is_new) = put.map_err(|error| match error {
        ScheduleError::Submission(error) => refusal_of_one(error.into(), input),
        error => error.into(),
    })?;
    let mut response = shown(&call, &scheduled);
    if is_new {
        *response.status_mut() = StatusCode::CREATED;
        let path = format!("{}/v1/schedules/{name}", call.mount.prefix());
        if let Ok(path) = HeaderValue::try_from(path) {
            response.headers_mut().insert(header::LOCATION, path);
        }
    }
    Ok(response)
}

/// `DELETE /v1/schedules/{schedule}`: 204; it fires no more, and its jobs stay.
pub(crate) async fn delete(app: App, call: Call) -> Result<Response, Problem> {
    let before = named(&app, &call).await?;
    call.no_query()?;
    check_api(&before)?;
    let expected = expected(call.headers(), &before.name, Some(&before))?;
    app.engine.delete_schedule(&before.name, expected).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// `POST /v1/schedules/{schedule}/trigger`: 202 + the job of a firing out of turn.
pub(crate) async fn trigger(app: App, call: Call) -> Result<Response, Problem> {
    let scheduled = named(&app, &call).await?;
    call.no_query()?;
    let mut submission = scheduled.schedule.submission.clone();
    submission.idempotency = idempotency::of(&call)?;
    let submitted = app.engine.submit(submission).await.map_err(not_submitted)?;
    let status = if submitted.duplicate {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let answer = Answer::new(call.mount, Prefer::default());
    Ok(answer.submitted(&app, status, &submitted).await)
}

/// Says why a schedule could not be triggered: the path is well, what it would submit is not.
fn not_submitted(error: SubmitError) -> Problem {
    let problem = Problem::from(error);
    match problem.status() {
        StatusCode::NOT_FOUND
        | StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            problem.with_status(StatusCode::UNPROCESSABLE_ENTITY)
        }
        _ => problem,
    }
}

/// Returns the name in the path. What is no name names no schedule.
fn name_of(call: &Call) -> Result<Name, Problem> {
    let text = call.segment(2);
    match Name::new(&text) {
        Ok(name) if name.is_reserved() => Err(unknown(&name)),
        Ok(name) => Ok(name),
        Err(error) => {
            let detail = format!("there is no schedule {text:?}: the name {error}");
            Err(Problem::new(Kind::UnknownSchedule, detail))
        }
    }
}

fn unknown(name: &Name) -> Problem {
    let detail = format!("there is no schedule {name}");
    Problem::new(Kind::UnknownSchedule, detail)
}

/// Returns the schedule in the path, if the caller may see it.
fn named<'a>(
    app: &'a App,
    call: &Call,
) -> impl Future<Output = Result<Scheduled, Problem>> + Send + use<'a> {
    let (name, access) = (name_of(call), call.access().clone());
    async move {
        let name = name?;
        let found = app.engine.schedule(&name).await?;
        let scheduled = found.ok_or_else(|| unknown(&name))?;
        check_covered(&access, &scheduled)?;
        Ok(scheduled)
    }
}

/// Refuses one of a task that the token is not for: it reads as one that is not there.
fn check_covered(access: &Access, scheduled: &Scheduled) -> Result<(), Problem> {
    if access.covers(&scheduled.schedule.submission.task) {
        return Ok(());
    }
    Err(unknown(&scheduled.name))
}

/// Refuses to change one of the configuration.
fn check_api(scheduled: &Scheduled) -> Result<(), Problem> {
    match scheduled.defined_in {
        DefinedIn::Store => Ok(()),
        DefinedIn::Configuration => Err(configured(&scheduled.name)),
    }
}

fn configured(name: &Name) -> Problem {
    let detail = format!("schedule {name} is defined in the configuration; change it there");
    Problem::new(Kind::DefinedInConfiguration, detail)
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = body::content_type(headers)?;
    if body::is_json(content_type) {
        return Ok(());
    }
    let detail = format!("a schedule is application/json, not {content_type}");
    Err(Problem::new(Kind::UnsupportedMediaType, detail))
}

/// Returns what `If-Match` and `If-None-Match` ask of what is there before a change.
fn expected(
    headers: &HeaderMap,
    name: &Name,
    before: Option<&Scheduled>,
) -> Result<Expected, Problem> {
    let revision = before.map_or(0, |before| before.revision);
    let tag = tag(revision);
    if headers.contains_key(header::IF_MATCH) {
        if before.is_none() || !conditional::is_as_expected(headers, &tag) {
            return Err(version_differs(name, revision));
        }
        return Ok(Expected::Revision(revision));
    }
    if !headers.contains_key(header::IF_NONE_MATCH) {
        return Ok(Expected::Anything);
    }
    match before {
        Some(_) if conditional::is_known(headers, &tag) => Err(version_differs(name, revision)),
        Some(_) => Ok(Expected::Revision(revision)),
        None => Ok(Expected::Nothing),
    }
}

/// Returns the entity tag of a schedule's definition.
fn tag(revision: u64) -> String {
    format!("\"{revision}\"")
}

fn tag_value(revision: u64) -> HeaderValue {
    HeaderValue::try_from(tag(revision)).unwrap_or(HeaderValue::from_static("\"\""))
}

fn version_differs(name: &Name, revision: u64) -> Problem {
    if revision == 0 {
        let detail = format!("there is no schedule {name}, so that it is not as it was seen");
        return Problem::new(Kind::VersionDiffers, detail);
    }
    let detail = format!("schedule {name} is not as it was expected to be; read it again");
    Problem::new(Kind::VersionDiffers, detail).with_header(header::ETAG, tag_value(revision))
}

fn shown(call: &Call, scheduled: &Scheduled) -> Response {
    let view = ScheduleView::of(scheduled, call.mount.prefix());
    let mut response = super::pages::json(&view);
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag_value(scheduled.revision));
    response
}

impl From<ScheduleError> for Problem {
    fn from(error: ScheduleError) -> Self {
        let detail = error.to_string();
        match error {
            ScheduleError::Unknown { name } => unknown(&name),
            ScheduleError::Configured { name } => configured(&name),
            ScheduleError::VersionDiffers { name, revision } => version_differs(&name, revision),
            ScheduleError::TooMany { .. } => Self::new(Kind::TooManySchedules, detail),
            ScheduleError::TooLargeTogether { .. } => {
                let error = FieldError::of(&["input"], detail.clone());
                Self::new(Kind::TooManySchedules, detail).with_errors(vec![error])
            }
            ScheduleError::Submission(error) => error.into(),
            ScheduleError::Store(error) => error.into(),
            _ => Self::new(Kind::InternalError, "the schedule was not changed"),
        }
    }
}
