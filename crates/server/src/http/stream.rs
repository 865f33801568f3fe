//! Handing jobs in as a stream: an envelope a line in, what became of it a line out, in order.
//!
//! Lines are taken in chunks (`lines.rs`). Each chunk is durable before it is answered, and the next
//! is not read before that answer is taken: memory is bounded however long the stream, and a client
//! that does not read stops its own stream. A line that is refused concerns no other.

use super::App;
use super::call::{Call, Mount};
use super::envelope::InputMember;
use super::limits::STREAM_LINE_EXTRA_BYTES_MAX;
use super::lines::{Chunk, End, Line, Lines};
use super::problem::Problem;
use super::submit_many::{Desk, JobLine, off_thread, refusal_of_one};
use anteroom::{Admitted, Engine, Phase, Submitted};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{StreamExt, once, unfold};
use http::{HeaderValue, header};
use std::convert::Infallible;
use tracing::warn;

/// Bytes of an answer to a job that was taken.
const ANSWER_BYTES: usize = 100;

/// Answers a stream as it comes.
pub(crate) async fn submit(app: App, call: Call) -> Result<Response, Problem> {
    let input_bytes_max = app.engine.options().input_bytes_max;
    let limit = input_bytes_max.div_ceil(3) * 4 + STREAM_LINE_EXTRA_BYTES_MAX;
    let desk = Desk::of(&app, &call);
    let mut stream = Stream {
        lines: Lines::new(call.body, limit, app.buffered.clone()),
        desk,
        mount: call.mount,
        has_warned: false,
        is_over: false,
    };
    // Before the head is sent, so that whoever waits for a word before it sends anything gets it,
    // and so that what goes wrong at once has a status.
    let first = stream.begin().await?;
    let rest = unfold(stream, |mut stream| async move {
        let answers = stream.next().await?;
        Some((Ok::<_, Infallible>(answers), stream))
    });
    let first = once(async move { Ok(first) });
    let mut response = Response::new(Body::from_stream(first.chain(rest)));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

struct Stream {
    lines: Lines,
    desk: Desk,
    mount: Mount,
    /// An outage is a line in the log for each stream.
    has_warned: bool,
    is_over: bool,
}

impl Stream {
    /// Returns the answers to the first lines.
    async fn begin(&mut self) -> Result<Bytes, Problem> {
        let chunk = self.lines.next().await;
        match &chunk.end {
            Some(End::Broken(problem)) if chunk.lines.is_empty() => Err(problem.clone()),
            _ => Ok(self.answer(chunk).await),
        }
    }

    /// Returns the answers to the next lines; none once there are no more.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let engine = self.desk.app.engine.clone();
        let chunk = tokio::select! {
            biased;
            () = engine.phase_reached(Phase::Draining) => None,
            chunk = self.lines.next() => Some(chunk),
        };
        let Some(chunk) = chunk else {
            // Nobody waits for what a silent sender may still have to say.
            self.is_over = true;
            let mut last = Vec::new();
            self.write(&Problem::draining(), &mut last);
            return Some(last.into());
        };
        Some(self.answer(chunk).await)
    }

    async fn answer(&mut self, mut chunk: Chunk) -> Bytes {
        let end = chunk.end.take();
        let is_draining = self.desk.app.engine.phase() != Phase::Running;
        let mut answers = Vec::with_capacity(ANSWER_BYTES * chunk.lines.len());
        let answered = submit_chunk(self.desk.clone(), chunk).await;
        let now = self.desk.app.engine.clock().now();
        for answer in answered {
            match answer {
                Ok(submitted) => {
                    // Writing to memory does not fail, and every key is a string.
                    let _cannot_fail =
                        serde_json::to_writer(&mut answers, &JobLine::of(&submitted, now));
                    answers.push(b'\n');
                }
                Err(problem) => self.write(&problem, &mut answers),
            }
        }
        if let Some(End::Broken(problem)) = &end {
            self.write(problem, &mut answers);
        }
        // What has not been read is not stored: another server can take it.
        self.is_over = end.is_some() || is_draining;
        answers.into()
    }

    fn write(&mut self, problem: &Problem, answers: &mut Vec<u8>) {
        if let Some(error) = problem.cause().filter(|_| !self.has_warned) {
            self.has_warned = true;
            warn!(%error, "lines of a stream were not stored: {error}");
        }
        let (_, _, document) = problem.to_parts(self.mount.prefix(), self.mount.path());
        answers.extend_from_slice(&document);
        answers.push(b'\n');
    }
}

/// Submits the lines of a chunk, and returns what became of each once that is durable.
async fn submit_chunk(desk: Desk, chunk: Chunk) -> Vec<Result<Submitted, Problem>> {
    let (engine, room) = (desk.app.engine.clone(), chunk.room.clone());
    let admitted = off_thread(chunk.bytes, async move {
        let mut admitted = Vec::with_capacity(chunk.lines.len());
        for (number, line) in chunk.lines {
            admitted.push(match line {
                Line::Whole(line) => desk.admit_line(&line, number, &chunk.room).await,
                Line::Refused(problem) => Err(problem),
            });
        }
        admitted
    })
    .await;
    let (mut taken, mut answers) = (Vec::new(), Vec::with_capacity(admitted.len()));
    for admitted in admitted {
        answers.push(admitted.map(|admitted| taken.push(admitted)));
    }
    let mut submitted = submit_each(&engine, taken).await.into_iter();
    room.release();
    let answer = |answer: Result<(), Problem>| match answer {
        // There is one for each that was taken.
        Ok(()) => submitted.next().unwrap_or_else(|| Err(no_answer())),
        Err(problem) => Err(problem),
    };
    answers.into_iter().map(answer).collect()
}

/// Submits jobs each on its own. Together first, as none is refused mostly.
async fn submit_each(engine: &Engine, taken: Vec<Admitted>) -> Vec<Result<Submitted, Problem>> {
    if taken.is_empty() {
        return Vec::new();
    }
    let error = match engine.submit_admitted(taken.clone()).await {
        Ok(jobs) => return jobs.into_iter().map(Ok).collect(),
        Err(error) => Problem::from(error),
    };
    if taken.len() == 1 || error.status().is_server_error() {
        return taken
            .iter()
            .map(|_| Err(refusal_of_one(error.clone(), InputMember::Json)))
            .collect();
    }
    let each = taken.into_iter().map(|one| async {
        let submitted = engine.submit_admitted(vec![one]).await;
        let mut jobs =
            submitted.map_err(|error| refusal_of_one(error.into(), InputMember::Json))?;
        jobs.pop().ok_or_else(no_answer)
    });
    join_all(each).await
}

fn no_answer() -> Problem {
    use super::problem::Kind;

    Problem::new(Kind::InternalError, "the store gave no answer for this job")
}
