//! Handing jobs in by envelope: `POST /v1/jobs`, one or an array of them, all or nothing.
//!
//! What comes as a stream, a line each, is in `stream.rs`. What an envelope says is read in
//! `envelope.rs`; here it meets the tasks, the caller's token and the store.

use super::App;
use super::access::{Access, Scope};
use super::body::{self, Room};
use super::call::Call;
use super::envelope::{self, Bounds, Envelopes, InputMember, Keep, Mistakes, Place, Refused};
use super::idempotency;
use super::limits::PARSED_INLINE_BYTES_MAX;
use super::problem::{Kind, Problem};
use super::stream;
use anteroom::core::{Idempotency, JobId, Name, Timestamp};
use anteroom::{Admitted, Phase, Submission, SubmitError, Submitted};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Serialize, Serializer};
use std::panic::resume_unwind;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

/// Says what a `POST` takes, by the Linked Data Platform's registration.
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
/// What this one takes: one or an array; a stream.
const TAKEN: &str = "application/json, application/x-ndjson";

/// `POST /v1/jobs`: 202 once all jobs are durable; or a stream, a line each.
pub(crate) async fn submit(app: App, call: Call) -> Result<Response, Problem> {
    call.no_query()?;
    let content_type = body::content_type(call.headers())?;
    let is_stream = body::essence(content_type).eq_ignore_ascii_case("application/x-ndjson");
    if !is_stream && !body::is_json(content_type) {
        let detail = format!("jobs come as one of {TAKEN}, not as {content_type}");
        let taken = HeaderValue::from_static(TAKEN);
        return Err(
            Problem::new(Kind::UnsupportedMediaType, detail).with_header(ACCEPT_POST, taken)
        );
    }
    let key = idempotency::of(&call)?;
    if app.engine.phase() != Phase::Running {
        return Err(Problem::draining());
    }
    match (is_stream, key) {
        (true, None) => stream::submit(app, call).await,
        (true, Some(_)) => Err(one_key_of_many()),
        (false, key) => at_once(&app, call, key).await,
    }
}

/// Refuses a key for many jobs.
fn one_key_of_many() -> Problem {
    let detail = "is for a single job; give each of several its idempotency_key";
    Problem::parameter("Idempotency-Key", detail)
}

#[derive(Serialize)]
struct SubmittedView<'a> {
    jobs: Vec<JobLine<'a>>,
}

/// A job, as short as it can be told.
#[derive(Serialize)]
pub(crate) struct JobLine<'a> {
    #[serde(serialize_with = "encoded")]
    id: &'a JobId,
    state: &'static str,
    duplicate: bool,
}

impl<'a> JobLine<'a> {
    pub(crate) fn of(submitted: &'a Submitted, now: Timestamp) -> Self {
        let job = &submitted.job;
        Self {
            id: &job.spec.id,
            state: job.status.shown(now).as_str(),
            duplicate: submitted.duplicate,
        }
    }
}

fn encoded<S: Serializer>(id: &JobId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(id.encode(&mut [0; 36]))
}

async fn at_once(app: &App, call: Call, key: Option<Idempotency>) -> Result<Response, Problem> {
    let desk = Desk::of(app, &call);
    let (bytes, room) = body::receive(call.body, app.max_bulk, &app.buffered).await?;
    // As much again, for what is kept of it.
    app.buffered.reserve(&room, bytes.len())?;
    let size = bytes.len();
    let released = room.clone();
    let all = off_thread(size, async move { desk.admit_all(bytes, &room, key).await }).await?;
    let in_time = match all.admitted.as_slice() {
        [one] if !all.inputs.is_array => app.engine.check_in_time(one).await,
        _ => Ok(()),
    };
    let submitted = match in_time {
        Ok(()) => app.engine.submit_admitted(all.admitted).await,
        Err(error) => Err(error),
    };
    released.release();
    let submitted = submitted.map_err(|error| all.inputs.refusal(error))?;
    let now = app.engine.clock().now();
    let line = |submitted| JobLine::of(submitted, now);
    let mut response = super::pages::json(&SubmittedView {
        jobs: submitted.iter().map(line).collect(),
    });
    *response.status_mut() = StatusCode::ACCEPTED;
    // Of several, some can be new.
    if let [one] = submitted.as_slice() {
        idempotency::tell(&mut response, one.replayed && !all.inputs.is_array);
    }
    Ok(response)
}

/// Does what takes time with its bytes on a thread where nobody waits for it, if they are many.
pub(crate) async fn off_thread<T: Send + 'static>(
    bytes: usize,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    if bytes <= PARSED_INLINE_BYTES_MAX {
        return work.await;
    }
    let runtime = Handle::current();
    match spawn_blocking(move || runtime.block_on(work)).await {
        Ok(done) => done,
        // It panicked, and the request with it. It is never cancelled: a runtime that shuts down
        // polls nobody who could see that.
        Err(error) => resume_unwind(error.into_panic()),
    }
}

/// Where envelopes become jobs, for one caller.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    pub(crate) app: App,
    access: Access,
    key_scope: Arc<str>,
}

/// What all of a body's envelopes became.
struct All {
    admitted: Vec<Admitted>,
    inputs: Inputs,
}

/// What a refusal of the store is looked up by.
struct Inputs {
    members: Vec<InputMember>,
    /// The queues that the jobs were to wait in.
    queues: Vec<Name>,
    is_array: bool,
}

impl Inputs {
    fn place(&self, index: usize) -> Place {
        Place::envelope(self.is_array.then_some(index))
    }

    /// Returns the answer to a refusal of all, which may concern one of them.
    fn refusal(&self, error: SubmitError) -> Problem {
        let of_queue = |queue| self.queues.iter().position(|it| it == queue);
        let index = error.index().or_else(|| error.queue().and_then(of_queue));
        let problem = Problem::from(error);
        if concerns_all(&problem) {
            return problem;
        }
        let place = index.map_or(Place::whole(), |index| self.place(index));
        let input = self.members.get(index.unwrap_or_default());
        let mut mistakes = Mistakes::default();
        mistakes.add_refusal(&problem, &place, input.map_or("input", |it| it.name()));
        mistakes.into_problem(self.is_array)
    }
}

/// Tells a refusal that says nothing of the envelope: the caller's token, an overload, an outage.
fn concerns_all(problem: &Problem) -> bool {
    let status = problem.status();
    // What is not supported is a member of this one.
    (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
        || matches!(
            status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
        )
}

impl Desk {
    pub(crate) fn of(app: &App, call: &Call) -> Self {
        Self {
            app: app.clone(),
            access: call.access().clone(),
            key_scope: idempotency::scope_of(call),
        }
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            now: self.app.engine.clock().now(),
            input_bytes_max: self.app.engine.options().input_bytes_max,
            key_scope: self.key_scope.clone(),
        }
    }

    /// Admits all envelopes of a body, or says everything that is wrong with them.
    async fn admit_all(
        &self,
        bytes: Bytes,
        room: &Room,
        key: Option<Idempotency>,
    ) -> Result<All, Problem> {
        let mut kept = Kept::new(&bytes, room);
        let read = envelope::read(&bytes, &self.bounds(), &mut kept);
        // What is left of the room that was kept for copies; the body's own goes with it.
        room.give_back(bytes.len().saturating_sub(kept.taken));
        let is_array = bytes.trim_ascii_start().first() == Some(&b'[');
        drop(bytes);
        let Envelopes {
            mut submissions, ..
        } = read.map_err(|refused| refusal(refused, is_array))?;
        if let Some(key) = key {
            let (one, _) = submissions
                .first_mut()
                .filter(|_| !is_array)
                .ok_or_else(one_key_of_many)?;
            set_key(one, &key)?;
        }
        let now = self.app.engine.clock().now();
        let mut inputs = Inputs {
            members: submissions.iter().map(|(_, member)| *member).collect(),
            queues: Vec::with_capacity(submissions.len()),
            is_array,
        };
        let mut mistakes = Mistakes::default();
        let mut admitted = Vec::with_capacity(submissions.len());
        for (submission, _) in &submissions {
            self.access.check_task(&submission.task, Scope::Submit)?;
        }
        self.access.take_submits(submissions.len(), now)?;
        for (index, (submission, member)) in submissions.into_iter().enumerate() {
            match self.app.engine.admit(submission).await {
                Ok(job) => {
                    inputs.queues.push(job.queue().clone());
                    admitted.push(job);
                }
                Err(error) => {
                    let problem = Problem::from(error);
                    if concerns_all(&problem) {
                        return Err(problem);
                    }
                    mistakes.add_refusal(&problem, &inputs.place(index), member.name());
                    if mistakes.is_full() {
                        break;
                    }
                }
            }
        }
        if mistakes.is_empty() {
            Ok(All { admitted, inputs })
        } else {
            Err(mistakes.into_problem(is_array))
        }
    }

    /// Admits the envelope on a line.
    pub(crate) async fn admit_line(
        &self,
        line: &Bytes,
        number: usize,
        room: &Room,
    ) -> Result<Admitted, Problem> {
        let (submission, member) = self.read_line(line, number, room)?;
        self.access.check_task(&submission.task, Scope::Submit)?;
        let now = self.app.engine.clock().now();
        self.access.take_submits(1, now)?;
        let admitted = self.app.engine.admit(submission).await;
        admitted.map_err(|error| refusal_of_one(error.into(), member))
    }

    fn read_line(
        &self,
        line: &Bytes,
        number: usize,
        room: &Room,
    ) -> Result<(Submission, InputMember), Problem> {
        let mut kept = Kept::copying(line, room);
        let read = envelope::read(line, &self.bounds(), &mut kept);
        let mut envelopes = read.map_err(|refused| match refused {
            Refused::Malformed(error) => error.on_line(number).into(),
            Refused::Wrong(mistakes) => mistakes.into_problem(false),
        })?;
        match envelopes.submissions.pop() {
            Some(one) if !envelopes.is_array => Ok(one),
            Some(_) | None => {
                let mut mistakes = Mistakes::default();
                let detail = "is an array; a line is one job, an object with its task";
                mistakes.add(&Place::whole(), detail);
                Err(mistakes.into_problem(false))
            }
        }
    }
}

/// Gives the one envelope the key that stands in the head of its request.
fn set_key(submission: &mut Submission, key: &Idempotency) -> Result<(), Problem> {
    let given = submission.idempotency.get_or_insert_with(|| key.clone());
    if given == key {
        return Ok(());
    }
    let mut mistakes = Mistakes::default();
    let place = Place::whole().of("idempotency_key");
    let detail = "is another key than the field Idempotency-Key; give one of them";
    mistakes.add(&place, detail);
    Err(mistakes.into_problem(false))
}

/// Returns the answer to a refusal of the one envelope there is.
pub(crate) fn refusal_of_one(problem: Problem, input: InputMember) -> Problem {
    if concerns_all(&problem) {
        return problem;
    }
    let mut mistakes = Mistakes::default();
    mistakes.add_refusal(&problem, &Place::whole(), input.name());
    mistakes.into_problem(false)
}

fn refusal(refused: Refused, is_array: bool) -> Problem {
    match refused {
        Refused::Malformed(error) => error.into(),
        Refused::Wrong(mistakes) => mistakes.into_problem(is_array),
    }
}

/// Keeps inputs of a body within its room.
///
/// An input that is most of the body is a part of it. Others are copied: a job that runs for a week
/// would otherwise keep all of a body in memory that nobody counts any more.
struct Kept<'a> {
    body: &'a Bytes,
    room: &'a Room,
    is_copying: bool,
    /// Bytes that took up room for themselves.
    taken: usize,
}

impl<'a> Kept<'a> {
    fn new(body: &'a Bytes, room: &'a Room) -> Self {
        Self {
            body,
            room,
            is_copying: false,
            taken: 0,
        }
    }

    fn copying(body: &'a Bytes, room: &'a Room) -> Self {
        Self {
            is_copying: true,
            ..Self::new(body, room)
        }
    }
}

impl Keep for Kept<'_> {
    fn part(&mut self, text: &str) -> Bytes {
        if !self.is_copying && text.len() >= self.body.len() / 2 {
            return self.body.slice_ref(text.as_bytes());
        }
        self.decoded(text.as_bytes().to_vec())
    }

    fn decoded(&mut self, bytes: Vec<u8>) -> Bytes {
        self.taken += bytes.len();
        self.room.keep(bytes)
    }
}
