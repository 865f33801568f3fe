//! The lines that jobs wait in: `GET /v1/queues`, and pausing, resuming and limiting them.
//!
//! The entity tag of a queue is that of its settings, so that it can be named in `If-Match`; what is
//! counted in it changes all the time, and none of it is ever kept by a cache.

mod asked;

use super::App;
use super::body;
use super::call::Call;
use super::conditional;
use super::limits::SETTINGS_BYTES_MAX;
use super::patch::check_type;
use super::problem::{FieldError, Kind, Problem};
use super::value::{Age, Friendly};
use anteroom::core::{Name, QueueRule, RateLimit, Timestamp};
use anteroom::{Queue, QueueError};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;

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

/// What is null is not limited.
#[derive(Serialize)]
struct LimitsView {
    max_concurrency: Option<u64>,
    rate_limit: Option<RateView>,
    max_depth: Option<u64>,
    group_concurrency: Option<u64>,
}

#[derive(Serialize)]
struct RateView {
    limit: u32,
    period: Friendly,
}

#[derive(Serialize)]
struct LinksView {
    #[serde(rename = "self")]
    itself: String,
    jobs: String,
}

/// `GET /v1/queues`: all of them, in the order of their names.
pub(crate) async fn all(app: App, call: Call) -> Result<Response, Problem> {
    call.no_query()?;
    let queues = app.engine.queues().await?;
    let now = app.engine.clock().now();
    let view = |queue| QueueView::of(queue, now, call.mount.prefix());
    let queues = queues.iter().map(view).collect();
    Ok(super::pages::json(&QueuesView { queues }))
}

/// `GET /v1/queues/{queue}`: one of them.
pub(crate) async fn one(app: App, call: Call) -> Result<Response, Problem> {
    let name = name_of(&call)?;
    call.no_query()?;
    match app.engine.queue(&name).await? {
        Some(queue) => Ok(shown(&app, &call, &queue)),
        None => Err(QueueError::Unknown { queue: name }.into()),
    }
}

/// `PATCH /v1/queues/{queue}`: pauses, resumes or limits it, whether it was used before or not.
pub(crate) async fn patch(app: App, mut call: Call) -> Result<Response, Problem> {
    let name = name_of(&call)?;
    call.no_query()?;
    check_type(call.headers(), "a queue")?;
    let sent = std::mem::take(&mut call.body);
    let (bytes, _room) = body::receive(sent, SETTINGS_BYTES_MAX, &app.buffered).await?;
    let patch = asked::patch(&bytes)?;
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
            QueueError::OutOfRange { error, .. } => {
                let path: Vec<&str> = error.setting.split('.').collect();
                Self::members(vec![FieldError::of(&path, error.detail.clone())])
            }
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
            limits: LimitsView::of(queue.rule),
            links: LinksView {
                itself: format!("{prefix}/v1/queues/{name}"),
                jobs: format!("{prefix}/v1/jobs?queue={name}"),
            },
        }
    }
}

impl LimitsView {
    fn of(rule: QueueRule) -> Self {
        Self {
            max_concurrency: rule.max_concurrency,
            rate_limit: rule.rate_limit.map(|RateLimit { limit, period }| RateView {
                limit,
                period: Friendly(period),
            }),
            max_depth: rule.max_depth,
            group_concurrency: rule.group_concurrency,
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
