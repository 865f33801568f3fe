//! The forms of bodies, as JSON Schemas: for the document alone.
//!
//! Answers write themselves, members in the order of the contract and as cheaply as can be
//! (`represent.rs`); these types are never made. That both say the same is held by tests, which
//! compare what a live server says with these, member by member.
#![expect(dead_code, reason = "only their descriptions are used")]

use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema};
use utoipa::openapi::{RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

mod schedules;

pub(crate) use schedules::{Preview, Schedule, ScheduleList, SchedulePut};

/// An instant by RFC 3339: answers give UTC with milliseconds, requests may have any offset.
#[derive(ToSchema)]
#[schema(value_type = String, format = DateTime, examples("2026-11-22T12:00:00.000Z"))]
pub(crate) struct Instant(String);

/// A duration, friendly (`30s`, `1h30m`, `7d`) or ISO 8601 (`PT30S`). No sign; a day is 24 hours.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[0-9PT].*$", examples("30s"))]
pub(crate) struct Duration(String);

/// A UUID, version 7, in lower case.
#[derive(ToSchema)]
#[schema(
    value_type = String,
    format = "uuid",
    pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
    examples("019aaa2e-7c00-7000-8000-3f0c5a1b2c3d")
)]
pub(crate) struct JobId(String);

/// A name of a task, queue or tag. Those that begin with `anteroom.` are kept for the server.
#[derive(ToSchema)]
#[schema(
    value_type = String,
    pattern = "^[a-z0-9][a-z0-9._-]{0,63}$",
    examples("wordcount")
)]
pub(crate) struct Name(String);

/// Labels of a client's own: names with values.
pub(crate) struct Tags;

impl ToSchema for Tags {}

impl PartialSchema for Tags {
    fn schema() -> RefOr<Schema> {
        let name = ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some("^(?!anteroom\\.)[a-z0-9][a-z0-9._-]{0,63}$"))
            .build();
        let value = ObjectBuilder::new()
            .schema_type(Type::String)
            .max_length(Some(255));
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .description(Some("Labels of a client's own: names with values."))
            .property_names(Some(Schema::Object(name)))
            .additional_properties(Some(AdditionalProperties::from(value)))
            .max_properties(Some(32))
            .into()
    }
}

/// The state of a job. The last three are final.
///
/// `scheduled`: its `run_at` lies ahead, or it waits for its next attempt.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum State {
    Scheduled,
    Ready,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

/// A job: one submitted run of a task.
///
/// Clients ignore members that they do not know.
#[derive(ToSchema)]
pub(crate) struct Job {
    id: JobId,
    /// The kind of work.
    task: Name,
    /// The line that it waits in.
    queue: Name,
    /// Whose work it is.
    #[schema(required)]
    group: Option<String>,
    /// From 0, most urgent, to 9.
    #[schema(minimum = 0, maximum = 9)]
    priority: u8,
    state: State,
    /// True in the final states.
    done: bool,
    /// Attempts begun so far. A hand-back takes one off again.
    #[schema(minimum = 0)]
    attempt: u32,
    /// How often it may be begun.
    #[schema(minimum = 1, maximum = 100)]
    max_attempts: u32,
    /// How long an attempt may run.
    timeout: Duration,
    /// When it was submitted.
    created_at: Instant,
    /// It is not begun before this.
    run_at: Instant,
    /// Not begun by then, it fails.
    #[schema(required)]
    start_before: Option<Instant>,
    /// When its latest attempt began.
    #[schema(required)]
    started_at: Option<Instant>,
    /// When it came to its end.
    #[schema(required)]
    finished_at: Option<Instant>,
    /// When it is forgotten. Null until it is done.
    #[schema(required)]
    expires_at: Option<Instant>,
    /// While it is unfinished no other job of its task is made with the same.
    #[schema(required)]
    unique_key: Option<String>,
    /// Who is told of its end. Null: nobody.
    #[schema(required)]
    callback_url: Option<String>,
    /// What its input is.
    input: Payload,
    /// What its result is, once it succeeded. It never changes.
    #[schema(required)]
    result: Option<JobResult>,
    /// What its last attempt said, in a job that failed.
    #[schema(required)]
    error: Option<AttemptError>,
    /// One for each failed attempt, newest last. Not in lists.
    #[schema(max_items = 20)]
    errors: Option<Vec<AttemptError>>,
    /// How far its running attempt has come. Null where it has not said.
    #[schema(required)]
    progress: Option<Progress>,
    /// What it waits for: in answers to submits, and where it is asked for. Else, and once it runs,
    /// null. Not in lists.
    waiting: Option<Waiting>,
    /// Its running attempt was told to stop.
    cancel_requested: bool,
    /// Labels of the client's own.
    tags: Tags,
    links: JobLinks,
    /// True in the answer to a submit whose `unique_key` this job had. Not there elsewhere.
    duplicate: Option<bool>,
}

/// A job to be handed in. A member that is null, apart from `input`, is one that is not given.
#[derive(ToSchema)]
pub(crate) struct Envelope {
    task: Name,
    /// Kept as the exact bytes of this value, as `application/json`. Not together with
    /// `input_base64`; without either the input is empty.
    input: Option<serde_json::Value>,
    /// The bytes of an input of any type: base64 by RFC 4648, section 4, padded.
    input_base64: Option<String>,
    /// Of the input: `application/octet-stream` if it is not given; with `input` nothing but
    /// `application/json`.
    content_type: Option<String>,
    /// The line to wait in; made on first use.
    queue: Option<Name>,
    /// Whose work it is.
    group: Option<String>,
    /// 0, most urgent, to 9.
    #[schema(minimum = 0, maximum = 9)]
    priority: Option<u8>,
    /// Start that much later. Not together with `run_at`.
    delay: Option<Duration>,
    /// Start no earlier than this.
    run_at: Option<Instant>,
    #[schema(minimum = 1, maximum = 100)]
    max_attempts: Option<u32>,
    /// Of each attempt.
    timeout: Option<Duration>,
    /// A job not begun by then fails.
    start_before: Option<Instant>,
    /// While the job is unfinished no other of its task is made with the same.
    unique_key: Option<String>,
    /// How long it is kept after its end.
    retain: Option<Duration>,
    tags: Option<Tags>,
    /// What the field `Idempotency-Key` is to a submit.
    idempotency_key: Option<String>,
}

/// What became of envelopes.
#[derive(ToSchema)]
pub(crate) struct SubmittedJobs {
    /// In the order of the body.
    #[schema(min_items = 1, max_items = 10000)]
    jobs: Vec<SubmittedJob>,
}

/// What became of an envelope.
#[derive(ToSchema)]
pub(crate) struct SubmittedJob {
    id: JobId,
    state: State,
    /// An unfinished job has the `unique_key`, and this is it.
    duplicate: bool,
}

/// What is changed of a waiting job. What is left out stays.
#[derive(ToSchema)]
pub(crate) struct JobPatch {
    /// It is not begun before this. Null: at once.
    run_at: Option<Instant>,
    /// Null: 5.
    #[schema(minimum = 0, maximum = 9)]
    priority: Option<u8>,
    /// The line to wait in; made on first use. Null: the task's.
    queue: Option<Name>,
    /// All of them: those that are left out are gone. Null: none.
    tags: Option<Tags>,
}

/// What a bulk call came to.
#[derive(ToSchema)]
pub(crate) struct BulkResult {
    /// Jobs that fit the filter and could be changed so.
    #[schema(minimum = 0)]
    matched: u64,
    /// Those that were; of the others somebody else changed some meanwhile.
    #[schema(minimum = 0)]
    changed: u64,
    /// There may be more: repeat it.
    more: bool,
}

/// A job in a list: without `errors`, `waiting` and `result.json`.
#[derive(ToSchema)]
pub(crate) struct JobPage {
    /// Newest first. May be fewer than asked for, even none, while there is a next page.
    #[schema(max_items = 1000)]
    jobs: Vec<Job>,
    /// What to give as `page_token` for the next page. Null on the last one.
    #[schema(required)]
    next_page_token: Option<String>,
}

/// What there is to read, and how much of it.
#[derive(ToSchema)]
pub(crate) struct Payload {
    /// Its media type.
    content_type: String,
    #[schema(minimum = 0)]
    bytes: u64,
}

/// What a job returned.
#[derive(ToSchema)]
pub(crate) struct JobResult {
    /// Its media type.
    content_type: String,
    #[schema(minimum = 0)]
    bytes: u64,
    /// The result itself, if it is JSON of at most 64 KiB. Not in lists.
    json: Option<serde_json::Value>,
}

/// Why an attempt failed.
///
/// `error`: the work said so. `lease_expired`: nobody kept its lease. `crash`: the server died.
/// `too_late`: it was not begun by `start_before`.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum FailureKind {
    Error,
    Timeout,
    Panic,
    LeaseExpired,
    Crash,
    Cancelled,
    TooLate,
}

/// What a failed attempt said.
#[derive(ToSchema)]
pub(crate) struct AttemptError {
    /// Which attempt. 0 where none was begun.
    #[schema(minimum = 0)]
    attempt: u32,
    at: Instant,
    kind: FailureKind,
    /// At most 8 KiB.
    message: String,
}

/// How far a running attempt has come.
#[derive(ToSchema)]
pub(crate) struct Progress {
    /// From 0 to 1.
    #[schema(required, minimum = 0, maximum = 1)]
    fraction: Option<f64>,
    #[schema(required)]
    message: Option<String>,
}

/// Why a job has not started.
#[derive(ToSchema)]
pub(crate) struct Waiting {
    /// Ready jobs of its queue that are ahead of it by priority and order. Null while it is
    /// scheduled.
    #[schema(required, minimum = 0)]
    position: Option<u64>,
    /// Whether `position` is counted: up to 1,000. False where it is an estimate, or null.
    exact: bool,
    /// In how long it starts, by what is ahead of it and how long jobs took lately: an estimate. Null
    /// where it cannot be told.
    #[schema(required)]
    eta: Option<Duration>,
    /// Why it has not started, in words that a person can act on, most important first.
    #[schema(min_items = 1, max_items = 5)]
    reasons: Vec<String>,
}

/// Where to go on. Paths on the same server.
#[derive(ToSchema)]
pub(crate) struct JobLinks {
    #[schema(rename = "self")]
    itself: String,
    result: String,
    input: String,
    /// A stream of what happens to it.
    events: String,
    cancel: String,
}

/// The tasks, by name.
#[derive(ToSchema)]
pub(crate) struct TaskList {
    tasks: Vec<Task>,
}

/// Who runs a task's jobs: a program, a service that they are pushed to, a function within the
/// server, or workers.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum RunnerKind {
    Exec,
    Push,
    Function,
    Pull,
}

/// A named kind of work.
#[derive(ToSchema)]
pub(crate) struct Task {
    name: Name,
    runner: RunnerKind,
    /// The line of its jobs, where they do not say.
    queue: Name,
    /// How long an attempt may run, where the job does not say.
    timeout: Duration,
    /// How often a job may be begun, where it does not say.
    #[schema(minimum = 1, maximum = 100)]
    max_attempts: u32,
    backoff: Backoff,
    /// Attempts at once on this node.
    #[schema(minimum = 0)]
    concurrency: u64,
    /// The media type of inputs. Null: any.
    #[schema(required)]
    content_type: Option<String>,
    /// The JSON Schema of inputs. Null: none.
    #[schema(required)]
    schema: Option<serde_json::Value>,
    counts: TaskCounts,
    links: TaskLinks,
}

/// How long a failed job waits for its next attempt.
#[derive(ToSchema)]
pub(crate) struct Backoff {
    /// Before the second attempt.
    initial: Duration,
    /// What each further wait is longer by.
    #[schema(minimum = 1)]
    factor: f64,
    /// The longest wait.
    max: Duration,
    /// The share of a wait that is left to chance.
    #[schema(minimum = 0, maximum = 1)]
    jitter: f64,
}

/// Unfinished jobs of a task, in all queues.
#[derive(ToSchema)]
pub(crate) struct TaskCounts {
    #[schema(minimum = 0)]
    scheduled: u64,
    #[schema(minimum = 0)]
    ready: u64,
    #[schema(minimum = 0)]
    running: u64,
}

/// Where to go on.
#[derive(ToSchema)]
pub(crate) struct TaskLinks {
    #[schema(rename = "self")]
    itself: String,
    jobs: String,
    call: String,
}

/// The queues, by name.
#[derive(ToSchema)]
pub(crate) struct QueueList {
    queues: Vec<Queue>,
}

/// A line that jobs wait in.
#[derive(ToSchema)]
pub(crate) struct Queue {
    name: Name,
    /// None of its jobs is started.
    paused: bool,
    depth: QueueDepth,
    /// How long ago the ready job that waits longest came due. Null if none is ready.
    #[schema(required)]
    oldest_ready_age: Option<Duration>,
    rates: QueueRates,
    limits: QueueLimits,
    links: QueueLinks,
}

/// Its unfinished jobs.
#[derive(ToSchema)]
pub(crate) struct QueueDepth {
    #[schema(minimum = 0)]
    scheduled: u64,
    #[schema(minimum = 0)]
    ready: u64,
    #[schema(minimum = 0)]
    running: u64,
}

/// Jobs a second, over the last minute on this server.
#[derive(ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names are those of the wire")]
pub(crate) struct QueueRates {
    #[schema(minimum = 0)]
    submitted_per_second: f64,
    #[schema(minimum = 0)]
    started_per_second: f64,
    #[schema(minimum = 0)]
    finished_per_second: f64,
}

/// What holds for a queue. What is null is not limited.
#[derive(ToSchema)]
pub(crate) struct QueueLimits {
    /// Jobs of it that may run at once, over all nodes. Leased ones count.
    #[schema(required, minimum = 1, maximum = 1_000_000)]
    max_concurrency: Option<u64>,
    /// Jobs of it that may start, over all nodes: those in any time t never exceed
    /// limit × (1 + t / period).
    #[schema(required)]
    rate_limit: Option<Rate>,
    /// Jobs that may wait in it, scheduled and ready ones together.
    #[schema(required, minimum = 1)]
    max_depth: Option<u64>,
    /// Jobs of one of its groups that may run at once, over all nodes. Those without a group are
    /// not limited by it.
    #[schema(required, minimum = 1, maximum = 1_000_000)]
    group_concurrency: Option<u64>,
}

/// So many in a period.
#[derive(ToSchema)]
pub(crate) struct Rate {
    #[schema(minimum = 1, maximum = 1_000_000)]
    limit: u64,
    /// From 1 ms to 31 days, in whole milliseconds.
    period: Duration,
}

/// So many starts in a period, in the place of what held before.
#[derive(ToSchema)]
pub(crate) struct NewRate {
    #[schema(minimum = 1, maximum = 1_000_000)]
    limit: u64,
    /// From 1 ms to 31 days, in whole milliseconds.
    period: Duration,
}

/// Where to go on.
#[derive(ToSchema)]
pub(crate) struct QueueLinks {
    #[schema(rename = "self")]
    itself: String,
    jobs: String,
}

/// What is changed of a queue. What is left out stays; null goes back to what the configuration
/// says.
#[derive(ToSchema)]
pub(crate) struct QueuePatch {
    /// Null: not paused.
    paused: Option<bool>,
    #[schema(minimum = 1, maximum = 1_000_000)]
    max_concurrency: Option<u64>,
    rate_limit: Option<NewRate>,
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    max_depth: Option<u64>,
    #[schema(minimum = 1, maximum = 1_000_000)]
    group_concurrency: Option<u64>,
}

/// What a worker asks for.
#[derive(ToSchema)]
pub(crate) struct LeaseRequest {
    /// Of these tasks, all of which are left to workers; none: of all that are and that the token
    /// is for.
    #[schema(min_items = 1, max_items = 1_000)]
    tasks: Option<Vec<Name>>,
    /// In these queues; none: in any.
    #[schema(min_items = 1, max_items = 1_000)]
    queues: Option<Vec<Name>>,
    /// At most so many. 1 where it is left out.
    #[schema(minimum = 1, maximum = 1_000, nullable = false)]
    max: Option<u32>,
    /// For how long, from 1 s to 1 h, and no longer than the attempt may run. 30 s where it is left
    /// out.
    #[schema(nullable = false)]
    lease: Option<Duration>,
    /// Who asks: for the server's log. 1 to 255 bytes.
    #[schema(min_length = 1, max_length = 255)]
    worker: Option<String>,
}

/// What was leased.
#[derive(ToSchema)]
pub(crate) struct LeaseList {
    leases: Vec<Lease>,
}

/// The right to run one attempt of a job for a while.
#[derive(ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names are those of the wire")]
pub(crate) struct Lease {
    /// Its token: a secret of the worker's.
    lease: String,
    /// Rises with every start of the job, on every node and after every restart: what a worker
    /// fences its own writes with. Up to 63 bits.
    #[schema(minimum = 1)]
    claim: u64,
    /// When it ends unless it is extended.
    expires_at: Instant,
    job: Job,
    /// The input, if it is JSON, as the bytes that it was.
    input: Option<serde_json::Value>,
    /// The input in base64, if it is not.
    input_base64: Option<String>,
    /// Of the input.
    content_type: String,
}

/// Why an attempt failed.
#[derive(ToSchema)]
pub(crate) struct LeaseFailure {
    /// What went wrong. Kept up to 8 KiB.
    error: String,
    /// Whether another attempt may help. True where it is left out.
    retry: Option<bool>,
    /// When to try again, instead of by the task's policy. Not with `retry` false.
    retry_after: Option<Duration>,
}

/// What an attempt says that goes on.
#[derive(ToSchema)]
pub(crate) struct Extension {
    /// For how long from now on, from 1 s to 1 h.
    #[schema(nullable = false)]
    lease: Option<Duration>,
    progress: Option<LeaseProgress>,
    /// Lines of a log, each kept up to 8 KiB.
    #[schema(max_items = 1_000)]
    log: Option<Vec<String>>,
}

/// How far an attempt has come.
#[derive(ToSchema)]
pub(crate) struct LeaseProgress {
    #[schema(minimum = 0, maximum = 1)]
    fraction: Option<f64>,
    message: Option<String>,
}

/// How a lease stands that was extended.
#[derive(ToSchema)]
pub(crate) struct HeldLease {
    expires_at: Instant,
    /// Whether the job was cancelled: the attempt should stop.
    cancel_requested: bool,
}

/// What the holder of a lease says: one of many.
#[derive(ToSchema)]
pub(crate) struct Settle {
    /// The token of the lease.
    lease: String,
    action: SettleAction,
    /// With `complete`: the result, kept as `application/json` and as the bytes that it was.
    result: Option<serde_json::Value>,
    /// With `complete`, instead: the result in base64.
    #[schema(nullable = false)]
    result_base64: Option<String>,
    /// With `complete`: of the result. `application/octet-stream` where it is left out.
    #[schema(nullable = false)]
    content_type: Option<String>,
    /// With `fail`: what went wrong.
    #[schema(nullable = false)]
    error: Option<String>,
    /// With `fail`: whether another attempt may help.
    retry: Option<bool>,
    /// With `fail`: when to try again.
    retry_after: Option<Duration>,
    /// With `extend`: for how long from now on. 30 s where it is left out.
    #[schema(nullable = false)]
    extend_by: Option<Duration>,
    /// With `extend`.
    progress: Option<LeaseProgress>,
    /// With `extend`: lines of a log.
    #[schema(max_items = 1_000)]
    log: Option<Vec<String>>,
}

/// What is done with a lease.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum SettleAction {
    Complete,
    Fail,
    Extend,
    Release,
}

/// What became of many settles, in their order.
#[derive(ToSchema)]
pub(crate) struct SettleResults {
    results: Vec<SettleResult>,
}

/// What became of one settle.
#[derive(ToSchema)]
pub(crate) struct SettleResult {
    /// The token of the lease. Null if none could be read.
    #[schema(required)]
    lease: Option<String>,
    /// 200: it is done. Else the status of its problem.
    #[schema(minimum = 200, maximum = 599)]
    status: u16,
    /// Of one that was extended.
    expires_at: Option<Instant>,
    /// Of one that was extended.
    cancel_requested: Option<bool>,
    problem: Option<Problem>,
}

/// What the server is.
#[derive(ToSchema)]
pub(crate) struct Root {
    message: String,
    version: String,
    links: RootLinks,
}

/// Where to go on.
#[derive(ToSchema)]
pub(crate) struct RootLinks {
    #[schema(rename = "self")]
    itself: String,
    tasks: String,
    jobs: String,
    queues: String,
    schedules: String,
    live: String,
    ready: String,
    openapi: String,
    docs: String,
    metrics: String,
}

/// That all is well.
#[derive(ToSchema)]
pub(crate) struct Health {
    /// `live` or `ready`.
    status: HealthStatus,
}

/// How a server is.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum HealthStatus {
    Live,
    Ready,
}

/// An error, by RFC 9457. Its media type is `application/problem+json`.
#[derive(ToSchema)]
pub(crate) struct Problem {
    /// The sort of problem: for programs, and a page for people.
    r#type: String,
    /// The sort of problem in words.
    title: String,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong, where, and what the limit is.
    detail: String,
    /// The path that was asked for.
    instance: String,
    /// Everything that is wrong, where it can be told apart.
    errors: Option<Vec<FieldError>>,
    /// Why the server is not ready.
    reasons: Option<Vec<String>>,
    /// Where malformed JSON goes wrong: the line, from 1.
    #[schema(minimum = 0)]
    line: Option<u64>,
    /// The column, from 1; 0 before the first.
    #[schema(minimum = 0)]
    column: Option<u64>,
    /// The job that it is about.
    job: Option<JobId>,
    /// What the last attempt of that job said.
    error: Option<AttemptError>,
}

/// One thing that is wrong.
#[derive(ToSchema)]
pub(crate) struct FieldError {
    /// What is wrong.
    detail: String,
    /// In which parameter of the query, or field of the head.
    parameter: Option<String>,
    /// Where in the body: a JSON pointer, as `#/tags/a`.
    pointer: Option<String>,
}

/// What a callback says.
#[derive(ToSchema)]
pub(crate) struct JobEnded {
    r#type: JobEndedType,
    timestamp: Instant,
    data: JobEndedData,
}

/// How a job ended.
#[derive(ToSchema)]
pub(crate) enum JobEndedType {
    #[schema(rename = "job.succeeded")]
    Succeeded,
    #[schema(rename = "job.failed")]
    Failed,
    #[schema(rename = "job.cancelled")]
    Cancelled,
}

/// The job that ended.
#[derive(ToSchema)]
pub(crate) struct JobEndedData {
    id: JobId,
    task: Name,
    state: State,
    tags: Tags,
    links: JobLinks,
}
