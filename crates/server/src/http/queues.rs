//! The lines that jobs wait in: `GET /v1/queues`, and pausing, resuming and limiting them.
//!
//! The entity tag of a queue is that of its settings, so that it can be named in `If-Match`; what is
//! counted in it changes all the time, and none of it is ever kept by a cache.

use super::App;
use super::body;
use super::call::Call;
use super::conditional;
use super::limits::SETTINGS_BYTES_MAX;
use super::members::Members;
use super::problem::{FieldError, Kind, Problem};
use super::value::{self, Age};
use anteroom::core::limits::QUEUE_DEPTH_MAX;
use anteroom::core::{Name, Patch, QueuePatch, Timestamp};
use anteroom::{Queue, QueueError};
use axum::extract::State as Shared;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use serde_json::Value;

/// What a change of a queue may come as, besides plain JSON.
const MERGE_PATCH: &str = "application/merge-patch+json";
/// Members of a change that are to come.
const UNSUPPORTED: [&str; 3] = ["max_concurrency", "rate_limit", "group_concurrency"];

#[derive(Serialize)]
struct QueuesView<'a> {
    queues: Vec<QueueView<'a>>,
}

#[derive(Serialize)]
struct QueueView<'a> {
    name: &'a str,
    paused: bool,
    depth: DepthView,
    oldest_ready_age: Option<Age>,
    rates: RatesView,
    limits: LimitsView,
    links: LinksView,
}

#[derive(Serialize)]
struct DepthView {
    scheduled: u64,
    ready: u64,
    running: u64,
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are those of the wire")]
struct RatesView {
    submitted_per_second: f64,
    started_per_second: f64,
    finished_per_second: f64,
}

/// What is null is not limited. All but the depth are to come.
#[derive(Serialize)]
struct LimitsView {
    max_concurrency: Option<()>,
    rate_limit: Option<()>,
    max_depth: Option<u64>,
    group_concurrency: Option<()>,
}

#[derive(Serialize)]
struct LinksView {
    #[serde(rename = "self")]
    itself: String,
    jobs: String,
}

/// `GET /v1/queues`: all of them, in the order of their names.
pub(crate) async fn all(Shared(app): Shared<App>, call: Call) -> Result<Response, Problem> {
    call.no_query()?;
    let queues = app.engine.queues().await?;
    let now = app.engine.clock().now();
    let view = |queue| QueueView::of(queue, now, call.mount.prefix());
    let queues = queues.iter().map(view).collect();
    Ok(super::pages::json(&QueuesView { queues }))
}

/// `GET /v1/queues/{queue}`: one of them.
pub(crate) async fn one(Shared(app): Shared<App>, call: Call) -> Result<Response, Problem> {
    let name = name_of(&call)?;
    call.no_query()?;
    match app.engine.queue(&name).await? {
        Some(queue) => Ok(shown(&app, &call, &queue)),
        None => Err(QueueError::Unknown { queue: name }.into()),
    }
}

/// `PATCH /v1/queues/{queue}`: pauses, resumes or limits it, whether it was used before or not.
pub(crate) async fn patch(Shared(app): Shared<App>, mut call: Call) -> Result<Response, Problem> {
    let name = name_of(&call)?;
    call.no_query()?;
    check_type(call.headers())?;
    let sent = std::mem::take(&mut call.body);
    let (bytes, _room) = body::receive(sent, SETTINGS_BYTES_MAX, &app.buffered).await?;
    let patch = read_patch(&bytes)?;
    let if_version = expected_version(&app, call.headers(), &name).await?;
    let queue = app.engine.set_queue(&name, patch, if_version).await?;
    Ok(shown(&app, &call, &queue))
}

/// Returns the name of the queue in the path. What is no name names no queue.
fn name_of(call: &Call) -> Result<Name, Problem> {
    let text = call.segment(2);
    Name::new(&text).map_err(|error| {
        let detail = format!("there is no queue {text:?}: the name {error}");
        Problem::new(Kind::UnknownQueue, detail)
    })
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = body::content_type(headers)?;
    if body::is_json(content_type) || body::essence(content_type).eq_ignore_ascii_case(MERGE_PATCH)
    {
        return Ok(());
    }
    let detail = format!("a change is application/json or {MERGE_PATCH}, not {content_type}");
    let accepted = HeaderValue::from_static("application/json, application/merge-patch+json");
    let problem = Problem::new(Kind::UnsupportedMediaType, detail);
    Err(problem.with_header(header::HeaderName::from_static("accept-patch"), accepted))
}

/// Reads a change, and says everything that is wrong with it.
fn read_patch(bytes: &[u8]) -> Result<QueuePatch, Problem> {
    body::check_json(bytes)?;
    let Ok(members) = serde_json::from_slice::<Members>(bytes) else {
        let expected = "is no object such as {\"paused\": true}";
        return Err(Problem::members(vec![FieldError::of(&[], expected)]));
    };
    let mut patch = QueuePatch::default();
    let mut wrong = Vec::new();
    let mut unsupported = None;
    for (member, value) in members.each() {
        let read = value
            .and_then(|text| serde_json::from_str(text).map_err(|error| format!("{error}")))
            .and_then(|value: Value| {
                match member {
                    "paused" => patch.paused = truth(&value)?,
                    "max_depth" => patch.max_depth = whole(&value)?,
                    "max_concurrency" | "group_concurrency" => drop(whole(&value)?),
                    "rate_limit" => rate_limit(&value)?,
                    _ => {
                        let to_come = UNSUPPORTED.join(", ");
                        let known = format!("a queue has paused, max_depth, {to_come}");
                        return Err(format!("is unknown; {known}"));
                    }
                }
                if UNSUPPORTED.contains(&member) && !value.is_null() {
                    unsupported = Some(member);
                }
                Ok(())
            });
        wrong.extend(read.err().map(|detail| FieldError::of(&[member], detail)));
    }
    if !wrong.is_empty() {
        return Err(Problem::members(wrong));
    }
    if let Some(member) = unsupported {
        let detail = format!("this version does not know {member} of a queue; nothing was changed");
        return Err(Problem::new(Kind::NotSupported, detail));
    }
    Ok(patch)
}

fn truth(value: &Value) -> Result<Patch<bool>, String> {
    match value {
        Value::Null => Ok(Patch::Reset),
        Value::Bool(truth) => Ok(Patch::Set(*truth)),
        other => Err(format!("is {}; it is true, false or null", brief(other))),
    }
}

fn whole(value: &Value) -> Result<Patch<u64>, String> {
    if value.is_null() {
        return Ok(Patch::Reset);
    }
    match value.as_u64() {
        Some(number) if (1..=QUEUE_DEPTH_MAX).contains(&number) => Ok(Patch::Set(number)),
        _ => Err(format!(
            "is {}; it is a whole number from 1 to {QUEUE_DEPTH_MAX}, or null",
            brief(value)
        )),
    }
}

fn rate_limit(value: &Value) -> Result<(), String> {
    let expected = "it is {\"limit\": 100, \"period\": \"1s\"} or null";
    let members = match value {
        Value::Null => return Ok(()),
        Value::Object(members) => members,
        other => return Err(format!("is {}; {expected}", brief(other))),
    };
    let is_limit = members.get("limit").is_some_and(|limit| {
        let number = limit.as_u64();
        number.is_some_and(|number| number > 0)
    });
    let period = members.get("period").and_then(Value::as_str);
    let is_period = period.is_some_and(|text| {
        let span = value::duration(text);
        span.is_ok_and(|span| !span.is_zero())
    });
    if is_limit && is_period && members.len() == 2 {
        return Ok(());
    }
    Err(format!("is {}; {expected}", brief(value)))
}

/// Writes a value, unless it is long.
fn brief(value: &Value) -> String {
    const SHOWN_BYTES_MAX: usize = 80;
    let text = value.to_string();
    if text.len() <= SHOWN_BYTES_MAX {
        return text;
    }
    match value {
        Value::String(_) => "a long string",
        Value::Array(_) => "a long array",
        _ => "a large object",
    }
    .to_owned()
}

/// Returns the version that `If-Match` stands for, so that it holds until the change is made.
async fn expected_version(
    app: &App,
    headers: &HeaderMap,
    name: &Name,
) -> Result<Option<u64>, Problem> {
    if !headers.contains_key(header::IF_MATCH) {
        return Ok(None);
    }
    let Some(queue) = app.engine.queue(name).await? else {
        let detail = format!("there is no queue {name} yet, so that it is not as it was seen");
        return Err(Problem::new(Kind::VersionDiffers, detail));
    };
    if conditional::is_as_expected(headers, &tag(queue.version)) {
        Ok(Some(queue.version))
    } else {
        Err(version_differs(name, queue.version))
    }
}

/// Returns the entity tag of a queue's settings.
fn tag(version: u64) -> String {
    format!("\"{version}\"")
}

fn tag_value(version: u64) -> HeaderValue {
    HeaderValue::try_from(tag(version)).unwrap_or(HeaderValue::from_static("\"\""))
}

fn version_differs(name: &Name, version: u64) -> Problem {
    let detail = format!("what holds for queue {name} changed since it was read; read it again");
    Problem::new(Kind::VersionDiffers, detail).with_header(header::ETAG, tag_value(version))
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        let detail = error.to_string();
        match error {
            QueueError::Unknown { .. } => Self::new(Kind::UnknownQueue, detail),
            QueueError::TooMany { .. } => Self::new(Kind::TooManyQueues, detail),
            QueueError::VersionDiffers { queue, version } => version_differs(&queue, version),
            QueueError::Store(error) => error.into(),
            _ => Self::new(Kind::InternalError, "the queue was not changed"),
        }
    }
}

fn shown(app: &App, call: &Call, queue: &Queue) -> Response {
    let now = app.engine.clock().now();
    let view = QueueView::of(queue, now, call.mount.prefix());
    let mut response = super::pages::json(&view);
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag_value(queue.version));
    response
}

impl<'a> QueueView<'a> {
    fn of(queue: &'a Queue, now: Timestamp, prefix: &str) -> Self {
        let name = &queue.name;
        Self {
            name,
            paused: queue.rule.paused,
            depth: DepthView {
                scheduled: queue.scheduled,
                ready: queue.ready,
                running: queue.running,
            },
            oldest_ready_age: queue.oldest_ready.map(|at| Age(now.since(at))),
            rates: RatesView {
                submitted_per_second: in_hundredths(queue.rates.submitted),
                started_per_second: in_hundredths(queue.rates.started),
                finished_per_second: in_hundredths(queue.rates.finished),
            },
            limits: LimitsView {
                max_concurrency: None,
                rate_limit: None,
                max_depth: queue.rule.max_depth,
                group_concurrency: None,
            },
            links: LinksView {
                itself: format!("{prefix}/v1/queues/{name}"),
                jobs: format!("{prefix}/v1/jobs?queue={name}"),
            },
        }
    }
}

/// Rounds a rate, but none that is not nothing to nothing.
fn in_hundredths(rate: f64) -> f64 {
    (rate * 100.0).ceil() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read_member_by_member() {
        let patch = |paused, max_depth| QueuePatch {
            paused,
            max_depth,
            ..QueuePatch::default()
        };
        for (text, expected) in [
            ("{}", patch(Patch::Keep, Patch::Keep)),
            (r#"{"paused": true}"#, patch(Patch::Set(true), Patch::Keep)),
            (
                r#"{"paused": null, "max_depth": 7}"#,
                patch(Patch::Reset, Patch::Set(7)),
            ),
            (
                r#"{"max_depth": null, "rate_limit": null, "max_concurrency": null}"#,
                patch(Patch::Keep, Patch::Reset),
            ),
        ] {
            assert_eq!(read_patch(text.as_bytes()).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_rate_is_never_rounded_to_nothing() {
        for (rate, expected) in [
            (0.0, 0.0),
            (1.0 / 60.0, 0.02),
            (0.5, 0.5),
            (1234.561, 1234.57),
        ] {
            assert!((in_hundredths(rate) - expected).abs() < 1e-9, "{rate}");
        }
    }
}
