//! Streams of events (Server-Sent Events): what happens to one job, and what happens to all.
//!
//! An answer that goes on until the job has ended, its client is gone or the engine has stopped. It
//! is written as fast as the client reads and no faster: what a slow one does not take waits in the
//! store, or is told as missing.

use super::App;
use super::access::Access;
use super::call::Call;
use super::limits::{HEARTBEAT, RECONNECT_AFTER, STREAM_PIECE_BYTES};
use super::problem::{Kind, Problem};
use super::read::here;
use super::represent::ProgressView;
use anteroom::clock::Clock;
use anteroom::core::{EventId, Happened, JobId, Name, Report, Timestamp};
use anteroom::{FeedTold, Follow, FollowAll, Told};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use std::convert::Infallible;
use std::fmt::{Display, Write};
use std::str::FromStr;

/// Where a client of the stream was, from the last event that it has.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// `GET /v1/jobs/{id}/events`: what happened to a job, and what happens to it until its end.
pub(crate) async fn of_job(app: App, call: Call) -> Result<Response, Problem> {
    let id = call.job_id(&app).await?;
    call.no_query()?;
    let after = last_event_id(call.headers())?.unwrap_or(EventId::START);
    let follow = here(id, app.engine.follow(id, after).await)?;
    if follow.is_over() {
        // What makes a browser connect no more.
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let no_store = HeaderValue::from_static("no-store");
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, no_store);
        return Ok(response);
    }
    Ok(stream(OfJob { id, follow }, app.engine.clock()))
}

/// `GET /v1/events`: what this node makes happen to jobs, from now on.
pub(crate) async fn of_all(app: App, call: Call) -> Result<Response, Problem> {
    let mut query = call.query();
    let task = query.value("task", Name::new);
    let queue = query.value("queue", Name::new);
    query.finish()?;
    let after = last_event_id(call.headers())?;
    let follow = app.engine.follow_all(after);
    let source = OfAll {
        task,
        queue,
        access: call.access().clone(),
        follow,
    };
    Ok(stream(source, app.engine.clock()))
}

/// Reads the id of the last event that the client has; an empty one is none.
fn last_event_id<T: FromStr<Err: Display>>(headers: &HeaderMap) -> Result<Option<T>, Problem> {
    let Some(value) = headers.get(LAST_EVENT_ID) else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(id) => Ok(Some(id)),
        Err(error) => {
            let detail = format!("the field Last-Event-ID is {text:?}, which {error}");
            Err(Problem::new(Kind::MalformedRequest, detail))
        }
    }
}

/// Where the events of a stream come from, each written as a frame.
trait Source: Send + 'static {
    /// Waits for the next; none: there will be no more. Can be dropped without loss.
    fn next(&mut self) -> impl Future<Output = Option<String>> + Send;

    /// Returns one that is there already.
    fn ready(&mut self) -> Option<String>;
}

struct OfJob {
    id: JobId,
    follow: Follow,
}

impl OfJob {
    fn frame(&self, told: Told) -> String {
        match told {
            Told::Event(event) => frame(event.id, &event.happened, self.id, None),
            Told::Missing { id, count } => missing(id, Some(count)),
        }
    }
}

impl Source for OfJob {
    async fn next(&mut self) -> Option<String> {
        let told = self.follow.next().await?;
        Some(self.frame(told))
    }

    fn ready(&mut self) -> Option<String> {
        let told = self.follow.ready()?;
        Some(self.frame(told))
    }
}

struct OfAll {
    task: Option<Name>,
    queue: Option<Name>,
    /// What its token lets it see.
    access: Access,
    follow: FollowAll,
}

impl OfAll {
    /// Returns nothing for an event of a job that is not asked for.
    fn frame(&self, told: &FeedTold) -> Option<String> {
        match told {
            FeedTold::Event(event) => {
                let is_of = |wanted: &Option<Name>, name: &Name| {
                    wanted.as_ref().is_none_or(|wanted| wanted == name)
                };
                let job = &event.job;
                // What is the server's own is told of where it is asked for by its name.
                let is_wanted = is_of(&self.task, &job.task)
                    && is_of(&self.queue, &job.queue)
                    && (self.task.is_some() || !job.task.is_reserved())
                    && self.access.sees(&job.task);
                is_wanted.then(|| frame(event.id, &event.happened, job.id, Some(job.id)))
            }
            FeedTold::Missing { id, count } => Some(missing(id, *count)),
        }
    }
}

impl Source for OfAll {
    async fn next(&mut self) -> Option<String> {
        loop {
            let told = self.follow.next().await?;
            if let Some(frame) = self.frame(&told) {
                return Some(frame);
            }
        }
    }

    fn ready(&mut self) -> Option<String> {
        loop {
            let told = self.follow.ready()?;
            if let Some(frame) = self.frame(&told) {
                return Some(frame);
            }
        }
    }
}

/// Members of the data of an event, in the order of the contract. Where the stream is one of many
/// jobs, each names its own.
#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    State {
        id: String,
        state: &'static str,
        attempt: u32,
    },
    Progress {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        #[serde(flatten)]
        progress: ProgressView<'a>,
    },
    Log {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        attempt: u32,
        stream: &'static str,
        line: &'a str,
    },
    Dropped {
        count: Option<u64>,
    },
}

fn frame(place: impl Display, happened: &Happened, job: JobId, named: Option<JobId>) -> String {
    let id = named.map(|id| id.to_string());
    match happened {
        Happened::Entered { state, attempt } => {
            let data = Data::State {
                id: job.to_string(),
                state: state.as_str(),
                attempt: *attempt,
            };
            written(place, "state", &data)
        }
        Happened::Reported { attempt, report } => match report {
            Report::Progress(progress) => {
                let progress = ProgressView(progress);
                written(place, "progress", &Data::Progress { id, progress })
            }
            Report::Log { stream, line } => {
                let data = Data::Log {
                    id,
                    attempt: *attempt,
                    stream: stream.as_str(),
                    line,
                };
                written(place, "log", &data)
            }
        },
    }
}

fn missing(place: impl Display, count: Option<u64>) -> String {
    written(place, "dropped", &Data::Dropped { count })
}

/// Writes a frame. JSON is one line whatever is in it.
fn written(place: impl Display, name: &str, data: &Data<'_>) -> String {
    // Writing to memory does not fail, and every key is a string.
    let data = serde_json::to_string(data).unwrap_or_default();
    let mut frame = String::with_capacity(data.len() + 64);
    // Nor does this.
    let _cannot_fail = write!(frame, "id: {place}\nevent: {name}\ndata: {data}\n\n");
    frame
}

/// A stream under way.
struct Streaming<S> {
    source: S,
    clock: Clock,
    /// When the next comment is due.
    beat_at: Timestamp,
    has_begun: bool,
}

impl<S: Source> Streaming<S> {
    /// Returns the next piece to be sent; none: that was all.
    async fn piece(&mut self) -> Option<String> {
        if !std::mem::replace(&mut self.has_begun, true) {
            return Some(format!("retry: {}\n\n", RECONNECT_AFTER.as_millis()));
        }
        let beat = async {
            // Silence is bounded also where the clock is set back.
            tokio::select! {
                () = self.clock.sleep_until(self.beat_at) => {}
                () = self.clock.sleep(HEARTBEAT) => {}
            }
        };
        tokio::select! {
            // First, so that a stream that is never silent has its comments too.
            biased;
            () = beat => {
                self.beat_at = self.clock.now().after(HEARTBEAT);
                Some(": still here\n\n".to_owned())
            }
            frame = self.source.next() => {
                let mut piece = frame?;
                while piece.len() < STREAM_PIECE_BYTES
                    && let Some(frame) = self.source.ready()
                {
                    piece.push_str(&frame);
                }
                Some(piece)
            }
        }
    }
}

fn stream(source: impl Source, clock: Clock) -> Response {
    let streaming = Streaming {
        source,
        beat_at: clock.now().after(HEARTBEAT),
        clock,
        has_begun: false,
    };
    let pieces = futures_util::stream::unfold(streaming, |mut streaming| async move {
        let piece = streaming.piece().await?;
        Some((Ok::<_, Infallible>(Bytes::from(piece)), streaming))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Its log lines are anybody's.
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom::core::{LogStream, Progress, ShownState};

    const JOB: JobId = JobId::from_bytes([7; 16]);

    #[test]
    fn a_frame_is_an_id_a_name_and_a_line_of_json() {
        let job = JOB.to_string();
        let state = Happened::Entered {
            state: ShownState::Running,
            attempt: 2,
        };
        let said = |report| Happened::Reported { attempt: 1, report };
        let half = Progress::new(Some(0.5), None).unwrap();
        let line = said(Report::log(LogStream::Stderr, "a\r\n\ndata: \"\u{e4}\"\0"));
        for (happened, named, expected) in [
            (
                state,
                Some(JOB),
                format!(
                    "event: state\ndata: {{\"id\":\"{job}\",\"state\":\"running\",\"attempt\":2}}"
                ),
            ),
            (
                said(Report::Progress(half.clone())),
                None,
                "event: progress\ndata: {\"fraction\":0.5,\"message\":null}".to_owned(),
            ),
            (
                said(Report::Progress(half)),
                Some(JOB),
                format!(
                    "event: progress\ndata: {{\"id\":\"{job}\",\"fraction\":0.5,\"message\":null}}"
                ),
            ),
            (
                line,
                None,
                "event: log\ndata: {\"attempt\":1,\"stream\":\"stderr\",\
                 \"line\":\"a\\r\\n\\ndata: \\\"\u{e4}\\\"\\u0000\"}"
                    .to_owned(),
            ),
        ] {
            let frame = frame("9.1", &happened, JOB, named);
            assert_eq!(frame, format!("id: 9.1\n{expected}\n\n"));
        }
        let unknown = missing("9.1", None);
        assert_eq!(
            unknown,
            "id: 9.1\nevent: dropped\ndata: {\"count\":null}\n\n"
        );
    }
}
