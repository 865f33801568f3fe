//! Step 1 of a job's path: a submission is checked, given its id, and stored.

use crate::callback::CallbackUrl;
use crate::clock::about;
use crate::engine::{Engine, Shared, Until};
use crate::notify::Watch;
use crate::shutdown::Phase;
use crate::store::{Found, Inserted, NewJob, Published, PublishedTask, StoreError};
use crate::task::Task;
use crate::validate::Invalid;
use anteroom_core::limits::{
    AHEAD_MAX, CONTENT_TYPE_BYTES_MAX, MAX_ATTEMPTS_MAX, RETAIN_MAX, SUBMIT_JOBS_MAX,
    TAG_VALUE_BYTES_MAX, TAGS_MAX, TIMEOUT_MAX, TIMEOUT_MIN,
};
use anteroom_core::{
    Fingerprint, Idempotency, Job, JobId, Label, Name, Payload, Place, Priority, Spec, Status,
    Timestamp,
};
use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A job as somebody hands it in. What is `None` is taken from the task or the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// The kind of work.
    pub task: Name,
    /// What the task is given.
    pub input: Payload,
    /// The line to wait in.
    pub queue: Option<Name>,
    /// Whose turn to take within the queue.
    pub group: Option<Label>,
    /// How urgent it is.
    pub priority: Option<Priority>,
    /// When to start; none: at once. At most a year ahead.
    pub start: Option<StartAt>,
    /// Attempts, 1 to 100.
    pub max_attempts: Option<u32>,
    /// How long an attempt may run, 100 ms to 7 d.
    pub timeout: Option<Duration>,
    /// Fail it if it has not begun by then. Ahead, at most a year.
    pub start_before: Option<Timestamp>,
    /// How long to keep it after its end, 0 to 90 d.
    pub retain: Option<Duration>,
    /// While an unfinished job of the task has it, no other is made: that one is the answer.
    pub unique_key: Option<Label>,
    /// Who is told of its end.
    pub callback_url: Option<CallbackUrl>,
    /// Labels, at most 32.
    pub tags: BTreeMap<Name, String>,
    /// What it is remembered by for 24 h: the same again gives the same job.
    pub idempotency: Option<Idempotency>,
}

impl Submission {
    /// Returns a submission with nothing but its task and input.
    pub const fn new(task: Name, input: Payload) -> Self {
        Self {
            task,
            input,
            queue: None,
            group: None,
            priority: None,
            start: None,
            max_attempts: None,
            timeout: None,
            start_before: None,
            retain: None,
            unique_key: None,
            callback_url: None,
            tags: BTreeMap::new(),
            idempotency: None,
        }
    }
}

/// When a job may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// After this wait (`delay`).
    In(Duration),
    /// At this instant (`run_at`); one that has passed means at once.
    At(Timestamp),
}

/// Why a submission was not taken. Nothing was stored, unless the store says it does not know.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// No task has this name.
    #[error("there is no task {task}")]
    UnknownTask {
        /// The name.
        task: Name,
    },
    /// The task takes inputs of another content type.
    #[error("task {task} takes {expected}, not {got}")]
    ContentType {
        /// The task.
        task: Name,
        /// What it takes.
        expected: String,
        /// What it was given.
        got: String,
    },
    /// The input is not what the task asks for.
    #[error("the input is not what task {task} takes")]
    InvalidInput {
        /// The task.
        task: Name,
        /// What is wrong, and where.
        errors: Vec<Invalid>,
    },
    /// The input is too large.
    #[error("the input is {bytes} bytes; the limit is {limit}")]
    InputTooLarge {
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
    /// An option is out of its range.
    #[error("{option} {detail}")]
    OutOfRange {
        /// The option, as it is written on the wire.
        option: &'static str,
        /// What it is and what it may be.
        detail: String,
    },
    /// It has a `callback_url`, and nobody here sends callbacks.
    #[error("this server sends no callbacks; nothing was stored")]
    CallbacksUnsupported,
    /// It has a `callback_url` that callbacks may not go to.
    #[error("callbacks may not go to {url}: {reason}")]
    CallbackRefused {
        /// Which of the submissions, from 0.
        index: usize,
        /// The URL.
        url: Arc<str>,
        /// Why.
        reason: String,
    },
    /// Too many jobs at once.
    #[error("{jobs} jobs at once; the limit is {limit}")]
    TooMany {
        /// How many.
        jobs: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Only named queues are taken, and this is none.
    #[error("there is no queue {queue}, and none is made on first use here")]
    UnknownQueue {
        /// The name.
        queue: Name,
    },
    /// A queue would have to be made, and as many were made as may.
    #[error(
        "{limit} queues were made on first use, which is the limit; {queue} is not one of them"
    )]
    TooManyQueues {
        /// The name.
        queue: Name,
        /// How many there may be.
        limit: usize,
    },
    /// As many jobs wait in the queue as may. Worth a retry, later.
    #[error("{waiting} jobs wait in queue {queue}; the limit is {limit}")]
    QueueFull {
        /// The queue.
        queue: Name,
        /// How many wait.
        waiting: u64,
        /// How many may.
        limit: u64,
        /// In how long there is room for what was refused, about; none where that cannot be told.
        room_in: Option<Duration>,
    },
    /// Its idempotency key was used for a submit of something else.
    #[error("the idempotency key was used for another submit in the last 24 hours")]
    IdempotencyKeyReused {
        /// Which of the submissions, from 0.
        index: usize,
    },
    /// Its idempotency key was used for the same, and the job that it gave is gone.
    #[error(
        "the idempotency key gave job {id}, which was deleted, or its retention is over; \
         no new job was made"
    )]
    Gone {
        /// Which of the submissions, from 0.
        index: usize,
        /// The job.
        id: JobId,
    },
    /// By how busy the server is it would not start by its `start_before`. Worth a retry, later or with
    /// a later one.
    #[error(
        "about {before} jobs start before it, so that it would start in {}; start_before is in {}",
        about(*starts_in),
        about(*spare)
    )]
    StartsTooLate {
        /// How many jobs would start before it, about.
        before: u64,
        /// In how long it would start, about.
        starts_in: Duration,
        /// In how long it was to start.
        spare: Duration,
    },
    /// Its `start_before` went by while it waited for the store. Worth a retry, with a later one.
    #[error("start_before went by before the job was stored")]
    TooLate,
    /// The engine is shutting down. Worth a retry, elsewhere or later.
    #[error("the server is shutting down")]
    Draining,
    /// The store could not keep it. Worth a retry where the store's error is.
    #[error(transparent)]
    Store(StoreError),
}

impl SubmitError {
    /// Returns which of the submissions it is about, from 0, where that is told.
    pub const fn index(&self) -> Option<usize> {
        match self {
            Self::IdempotencyKeyReused { index }
            | Self::Gone { index, .. }
            | Self::CallbackRefused { index, .. } => Some(*index),
            _ => None,
        }
    }

    /// Returns the queue that it is about, if it is about one.
    pub const fn queue(&self) -> Option<&Name> {
        match self {
            Self::UnknownQueue { queue }
            | Self::TooManyQueues { queue, .. }
            | Self::QueueFull { queue, .. } => Some(queue),
            _ => None,
        }
    }
}

impl From<StoreError> for SubmitError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::KeyReused { index } => Self::IdempotencyKeyReused { index },
            StoreError::KeyGone { index, id } => Self::Gone { index, id },
            StoreError::QueueFull {
                queue,
                waiting,
                limit,
            } => Self::QueueFull {
                queue,
                waiting,
                limit,
                room_in: None,
            },
            StoreError::TooLate { .. } => Self::TooLate,
            error => Self::Store(error),
        }
    }
}

impl Engine {
    /// Submits a job and returns once it is durable.
    ///
    /// # Errors
    ///
    /// [`SubmitError`].
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have submitted the job.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, SubmitError> {
        let new = self.shared.admit(submission).await?;
        self.shared.check_in_time(&new).await?;
        let job = job_of(&new);
        let inserted = self.shared.insert_one(new, &job).await?;
        Ok(self.shared.told(job, inserted))
    }

    /// Submits jobs, all or none, in one commit, and returns what became of each, in their order.
    ///
    /// # Errors
    ///
    /// [`SubmitError`]: none was submitted.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have submitted the jobs, all or none of them.
    pub async fn submit_all(
        &self,
        submissions: Vec<Submission>,
    ) -> Result<Vec<Submitted>, SubmitError> {
        let shared = &self.shared;
        let count = submissions.len();
        if count > SUBMIT_JOBS_MAX {
            return Err(SubmitError::TooMany {
                jobs: count,
                limit: SUBMIT_JOBS_MAX,
            });
        }
        let mut new = Vec::with_capacity(count);
        for submission in submissions {
            new.push(shared.admit(submission).await?);
        }
        shared.insert_all(new).await
    }

    /// Submits a job, waits for its end, at most `wait`, and returns it as it stands then.
    ///
    /// # Errors
    ///
    /// [`SubmitError`].
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have submitted the job.
    pub async fn submit_and_wait(
        &self,
        submission: Submission,
        wait: Duration,
    ) -> Result<Submitted, SubmitError> {
        Ok(self.submit_and_watch(submission).await?.done(wait).await)
    }

    /// Submits a job and returns it, watched, once it is durable.
    ///
    /// # Errors
    ///
    /// [`SubmitError`].
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have submitted the job.
    pub async fn submit_and_watch(&self, submission: Submission) -> Result<Watched, SubmitError> {
        let shared = &self.shared;
        let new = shared.admit(submission).await?;
        shared.check_in_time(&new).await?;
        let job = job_of(&new);
        // Before it is inserted, so that no end comes too early to be seen.
        let mut watch = shared.notices.subscribe(job.spec.id);
        let inserted = shared.insert_one(new, &job).await?;
        let is_new = matches!(inserted, Inserted::New(_));
        let submitted = shared.told(job, inserted);
        if !is_new {
            watch = shared.notices.subscribe(submitted.job.spec.id);
        }
        Ok(Watched {
            submitted,
            watch,
            is_new,
            shared: shared.clone(),
        })
    }
}

/// What a submit gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Submitted {
    /// The job, as it stood then.
    pub job: Job,
    /// It is not new: it was unfinished, and has the unique key.
    pub duplicate: bool,
    /// It is not new: the same submit gave it before, under the same idempotency key. Then
    /// `duplicate` is what it was the first time.
    pub replayed: bool,
    /// Where it stood when it was stored, if it was stored alone and just now.
    pub place: Option<Box<Place>>,
    /// Its result, if this process stored that while it was waited for. Where the job has another,
    /// [`Store::result`](crate::store::Store::result) reads it.
    pub result: Option<Payload>,
}

impl Submitted {
    /// Tells what became of the submission that asked for `job`.
    fn of(job: Job, inserted: Inserted) -> Self {
        let (job, duplicate, replayed, place) = match inserted {
            Inserted::New(place) => (job, false, false, place),
            Inserted::Duplicate(job) => (*job, true, false, None),
            Inserted::Replayed { job, duplicate } => (*job, duplicate, true, None),
        };
        Self {
            job,
            duplicate,
            replayed,
            place,
            result: None,
        }
    }
}

/// What a submit gave, its job being watched.
#[derive(Debug)]
pub struct Watched {
    /// What it gave.
    pub submitted: Submitted,
    watch: Watch,
    /// The watch began before there was a job.
    is_new: bool,
    shared: Arc<Shared>,
}

impl Watched {
    /// Waits for the job's end, at most `wait`, and returns it as it stands then.
    pub async fn done(self, wait: Duration) -> Submitted {
        let Self {
            mut submitted,
            watch,
            is_new,
            shared,
        } = self;
        // One that was there before can have ended before the watch began, and be gone by now.
        // Where it cannot be read, it is told of as it was: it is no error any more.
        if !is_new && !submitted.job.status.state.is_final() {
            match shared.store.get(submitted.job.spec.id).await {
                Ok(Found::Here(job)) => submitted.job = job,
                Ok(Found::Gone | Found::Unknown) => return submitted,
                Err(_) => {}
            }
        }
        let told = watch.until(submitted.job, Until::Done, wait, &shared).await;
        (submitted.job, submitted.result) = (told.job, told.result);
        // By now it stands elsewhere.
        submitted.place = None;
        submitted
    }
}

fn no_answer() -> StoreError {
    let reason = "the store gave no answer for an insert".to_owned();
    StoreError::Failed { reason }
}

fn job_of(new: &NewJob) -> Job {
    Job {
        spec: new.spec.clone(),
        status: new.status,
        errors: Vec::new(),
        result: None,
        progress: None,
    }
}

impl Shared {
    /// Says what became of the submission that asked for `job`. One that is new is counted, and told
    /// of to those who follow all jobs.
    fn told(&self, job: Job, inserted: Inserted) -> Submitted {
        if matches!(inserted, Inserted::New(_)) {
            self.metrics.of(&job.spec.task).submitted();
            self.feed.tell(&job, job.spec.created_at);
        }
        Submitted::of(job, inserted)
    }

    /// Returns what submits are checked against, and what they get that do not say.
    pub(crate) fn published(&self) -> Published {
        let options = &self.options;
        let of = |task: &Task| PublishedTask {
            name: task.name.clone(),
            queue: task.queue.clone(),
            max_attempts: task.max_attempts,
            timeout: task.timeout,
            retain: options.retain,
            input_bytes_max: options.input_bytes_max,
            content_type: task.content_type.clone(),
            has_schema: task.validator.is_some(),
        };
        Published {
            tasks: self.tasks.values().map(|it| of(&it.task)).collect(),
            queues: self.queues.named(options),
            strict_queues: options.strict_queues,
        }
    }

    /// Inserts jobs, all or none, and says what became of each.
    pub(crate) async fn insert_all(&self, new: Vec<NewJob>) -> Result<Vec<Submitted>, SubmitError> {
        let jobs: Vec<Job> = new.iter().map(job_of).collect();
        let inserted = self.insert(new, &jobs).await?;
        if inserted.len() != jobs.len() {
            return Err(no_answer().into());
        }
        let each = jobs.into_iter().zip(inserted);
        Ok(each
            .map(|(job, inserted)| self.told(job, inserted))
            .collect())
    }

    async fn insert_one(&self, new: NewJob, job: &Job) -> Result<Inserted, SubmitError> {
        let mut inserted = self.insert(vec![new], slice::from_ref(job)).await?;
        inserted.pop().ok_or_else(|| no_answer().into())
    }

    /// Checks a submission and makes the job that it asks for.
    pub(crate) async fn admit(&self, submission: Submission) -> Result<NewJob, SubmitError> {
        let now = self.clock.now();
        let is_late = submission
            .start_before
            .is_some_and(|deadline| deadline <= now);
        // A deadline that was ahead the first time is none the worse for a replay.
        let is_replay = match &submission.idempotency {
            Some(idempotency) if is_late => {
                self.store.remembers(&submission.task, idempotency).await?
            }
            Some(_) | None => false,
        };
        let new = self.check(submission, now, is_replay)?;
        self.validate(&new).await?;
        Ok(new)
    }

    fn check(
        &self,
        submission: Submission,
        now: Timestamp,
        is_replay: bool,
    ) -> Result<NewJob, SubmitError> {
        if self.phases.now() != Phase::Running {
            return Err(SubmitError::Draining);
        }
        let Some(registered) = self.tasks.get(&submission.task) else {
            return Err(SubmitError::UnknownTask {
                task: submission.task,
            });
        };
        let task = &registered.task;
        if submission.callback_url.is_some() && self.callbacks.is_none() {
            return Err(SubmitError::CallbacksUnsupported);
        }
        check_input(task, &submission.input, self.options.input_bytes_max)?;
        check_tags(&submission.tags)?;
        let max_attempts = submission.max_attempts.unwrap_or(task.max_attempts);
        within("max_attempts", max_attempts, 1, MAX_ATTEMPTS_MAX)?;
        let timeout = submission.timeout.unwrap_or(task.timeout);
        within_spans("timeout", timeout, TIMEOUT_MIN, TIMEOUT_MAX)?;
        let retain = submission.retain.unwrap_or(self.options.retain);
        within_spans("retain", retain, Duration::ZERO, RETAIN_MAX)?;
        let idempotency = keyed(&submission);
        let spec = Spec {
            id: self.ids.next(now),
            task: submission.task,
            queue: submission.queue.unwrap_or_else(|| task.queue.clone()),
            group: submission.group,
            priority: submission.priority.unwrap_or_default(),
            created_at: now,
            timeout,
            retain,
            unique_key: submission.unique_key,
            callback_url: submission.callback_url.map(CallbackUrl::into_text),
            tags: submission.tags,
            input: submission.input.info(),
        };
        if spec.queue.is_reserved() {
            let detail = format!(
                "{} begins with what the server keeps for itself",
                spec.queue
            );
            return Err(SubmitError::OutOfRange {
                option: "queue",
                detail,
            });
        }
        let run_at = run_at(submission.start, now)?;
        let start_before = start_before(submission.start_before, now, is_replay)?;
        let status = Status::submitted(run_at, start_before, max_attempts);
        Ok(NewJob {
            spec: Arc::new(spec),
            status,
            input: submission.input,
            idempotency,
        })
    }
}

/// Returns what a submission is to be remembered by, and what it asks for.
fn keyed(submission: &Submission) -> Option<(Idempotency, Fingerprint)> {
    let idempotency = submission.idempotency.clone()?;
    Some((idempotency, submission.fingerprint()))
}

fn check_input(task: &Task, input: &Payload, limit: usize) -> Result<(), SubmitError> {
    if input.bytes.len() > limit {
        return Err(SubmitError::InputTooLarge {
            bytes: input.bytes.len(),
            limit,
        });
    }
    if input.content_type.len() > CONTENT_TYPE_BYTES_MAX {
        let bytes = input.content_type.len();
        let detail = format!("is {bytes} bytes; the limit is {CONTENT_TYPE_BYTES_MAX}");
        return Err(SubmitError::OutOfRange {
            option: "content_type",
            detail,
        });
    }
    match &task.content_type {
        Some(expected) if !same_media_type(expected, &input.content_type) => {
            Err(SubmitError::ContentType {
                task: task.name.clone(),
                expected: expected.clone(),
                got: input.content_type.to_string(),
            })
        }
        None if task.validator.is_some() && !is_json(&input.content_type) => {
            Err(SubmitError::ContentType {
                task: task.name.clone(),
                expected: "application/json".to_owned(),
                got: input.content_type.to_string(),
            })
        }
        Some(_) | None => Ok(()),
    }
}

/// Compares two content types, parameters apart.
fn same_media_type(left: &str, right: &str) -> bool {
    essence(left) == essence(right)
}

/// Tells whether a content type is JSON, or something written in it.
fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type);
    essence == "application/json" || essence.ends_with("+json")
}

fn essence(content_type: &str) -> String {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

fn check_tags(tags: &BTreeMap<Name, String>) -> Result<(), SubmitError> {
    let out_of_range = |detail| SubmitError::OutOfRange {
        option: "tags",
        detail,
    };
    if tags.len() > TAGS_MAX {
        return Err(out_of_range(format!(
            "are {}; the limit is {TAGS_MAX}",
            tags.len()
        )));
    }
    match tags
        .iter()
        .find(|(_, value)| value.len() > TAG_VALUE_BYTES_MAX)
    {
        Some((name, value)) => Err(out_of_range(format!(
            "have a value of {} bytes under {name}; the limit is {TAG_VALUE_BYTES_MAX}",
            value.len()
        ))),
        None => Ok(()),
    }
}

fn within(option: &'static str, value: u32, least: u32, most: u32) -> Result<(), SubmitError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let detail = format!("is {value}; it is from {least} to {most}");
    Err(SubmitError::OutOfRange { option, detail })
}

fn within_spans(
    option: &'static str,
    value: Duration,
    least: Duration,
    most: Duration,
) -> Result<(), SubmitError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let detail = format!("is {value:?}; it is from {least:?} to {most:?}");
    Err(SubmitError::OutOfRange { option, detail })
}

fn run_at(start: Option<StartAt>, now: Timestamp) -> Result<Timestamp, SubmitError> {
    let (option, instant) = match start {
        None => return Ok(now),
        Some(StartAt::In(delay)) => ("delay", now.after(delay)),
        // What has passed counts as now, so that an old date does not overtake those who wait.
        Some(StartAt::At(instant)) => ("run_at", instant.max(now)),
    };
    check_ahead(option, instant, now)?;
    Ok(instant)
}

fn start_before(
    deadline: Option<Timestamp>,
    now: Timestamp,
    is_replay: bool,
) -> Result<Option<Timestamp>, SubmitError> {
    if let Some(deadline) = deadline {
        check_ahead("start_before", deadline, now)?;
        if deadline <= now && !is_replay {
            let detail = "has passed; it lies ahead".to_owned();
            return Err(SubmitError::OutOfRange {
                option: "start_before",
                detail,
            });
        }
    }
    Ok(deadline)
}

fn check_ahead(
    option: &'static str,
    instant: Timestamp,
    now: Timestamp,
) -> Result<(), SubmitError> {
    if instant.since(now) <= AHEAD_MAX {
        return Ok(());
    }
    let detail = "lies more than a year ahead".to_owned();
    Err(SubmitError::OutOfRange { option, detail })
}

/// How far the order key of an id lies from the one before at the most, where other nodes make ids as
/// well: in a burst those of several nodes come to lie between each other. If they lay on each other, a
/// store that keeps a job near its key would have no room for them, once they are moved there.
const STRIDE_MAX: i64 = 32;

/// Makes ids that rise, whatever the clock does.
#[derive(Debug)]
pub(crate) struct IdSource {
    last_key: AtomicI64,
    stride_max: i64,
}

impl IdSource {
    /// Returns a source whose ids lie above this order key. `is_shared`: others make ids as well.
    pub(crate) const fn after(key: i64, is_shared: bool) -> Self {
        Self {
            last_key: AtomicI64::new(key),
            stride_max: if is_shared { STRIDE_MAX } else { 1 },
        }
    }

    /// Returns the next id, of the millisecond of `now` if that is not behind the one before.
    pub(crate) fn next(&self, now: Timestamp) -> JobId {
        let stride = match self.stride_max {
            1 => 1,
            most => rand::random_range(1..=most),
        };
        // 12 bits count within a millisecond; what is more borrows from the next.
        let by_clock = (now.as_millis().max(0) << 12) + stride - 1;
        let next = |last: i64| Some(by_clock.max(last + stride));
        let last = self
            .last_key
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let key = by_clock.max(last.unwrap_or_else(|last| last) + stride);
        let counter = u16::try_from(key & 0xfff).unwrap_or(0);
        JobId::from_parts((key >> 12).unsigned_abs(), counter, rand::random())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_even_when_the_clock_stands_still() {
        let source = IdSource::after(5_000_000_000_000 << 12, false);
        let now = Timestamp::from_millis(4_000_000_000_000);
        let ids: Vec<JobId> = (0..10_000).map(|_| source.next(now)).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(
            ids[0].order_key() > 5_000_000_000_000 << 12,
            "above what is stored"
        );
    }

    /// The jobs of three nodes that took 1,000 each in one millisecond could not be imported into a file:
    /// each had begun at the same key, and a file has a job within 64 keys of its own.
    #[test]
    fn ids_that_many_nodes_make_at_once_find_room_near_their_keys() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let mut taken = std::collections::HashSet::new();
        for _node in 0..5 {
            let source = IdSource::after(0, true);
            for _job in 0..10_000 {
                let key = source.next(now).order_key();
                let free = (key..key + 64).find(|key| taken.insert(*key));
                assert!(free.is_some(), "no room at {key}");
            }
        }
    }

    #[test]
    fn parameters_of_a_media_type_do_not_count() {
        for (left, right, same) in [
            ("text/plain", "text/plain; charset=utf-8", true),
            ("Text/Plain", "text/plain", true),
            ("text/plain", "text/html", false),
            ("text/plain", "", false),
        ] {
            assert_eq!(same_media_type(left, right), same, "{left} {right}");
        }
    }
}
