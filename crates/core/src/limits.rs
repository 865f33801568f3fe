//! Every bound, with its unit and its reason.
//!
//! What an operator may set is here as the default; `anteroom.toml` changes it.

use std::time::Duration;

/// Bytes of a name: fits a label of a metric and a column of a terminal.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of a group, unique key or worker: fits a key of the caller's own, such as a URL.
pub const LABEL_BYTES_MAX: usize = 255;
/// What the names begin with that the server keeps for itself.
pub const RESERVED_NAME_PREFIX: &str = "anteroom.";
/// Characters of an idempotency key: fits any key that clients make, and keeps an index narrow.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;
/// How long a submit is remembered by its idempotency key: clients that try again do so within it.
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_hours(24);
/// The queue of a job that names none.
pub const DEFAULT_QUEUE: &str = "default";
/// Queues made on first use, those apart that the configuration or a task names: a client that
/// makes up a name for each submit is stopped before the lists of queues are of no use.
pub const QUEUES_MADE_MAX: usize = 1_000;
/// Queues that a store keeps settings of: the made ones, and named ones that were changed.
pub const QUEUES_KEPT_MAX: usize = 10_000;
/// The greatest `max_depth`: beyond it, it is no limit.
pub const QUEUE_DEPTH_MAX: u64 = 1_000_000_000;
/// The greatest `max_concurrency` and `group_concurrency`: beyond it, they are no limits.
pub const QUEUE_CONCURRENCY_MAX: u64 = 1_000_000;
/// The most starts that a `rate_limit` names in one period: beyond it, it is no limit.
pub const RATE_LIMIT_MAX: u32 = 1_000_000;
/// The shortest period of a `rate_limit`: instants are told to the millisecond.
pub const RATE_PERIOD_MIN: Duration = Duration::from_millis(1);
/// The longest period of a `rate_limit`.
pub const RATE_PERIOD_MAX: Duration = Duration::from_hours(24 * 31);
/// Jobs ahead of another that are told exactly: further ones are worth no walk.
pub const POSITION_EXACT_MAX: u64 = 1_000;
/// Times that a change of a queue is made anew because somebody else changed it meanwhile.
pub const QUEUE_CHANGE_TRIES_MAX: usize = 16;
/// Seconds that the rates of a queue look back.
pub const QUEUE_RATE_SECONDS: usize = 60;

/// Schedules, those of the configuration included: all of them are looked at for the next firing.
pub const SCHEDULES_MAX: usize = 1_000;
/// Bytes of the input of a schedule: in base64 it fits a document with all the rest.
pub const SCHEDULE_INPUT_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the inputs of all schedules together: every node has them in memory.
pub const SCHEDULES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Times that a change of a schedule is made anew because it fired, or somebody else changed it.
pub const SCHEDULE_CHANGE_TRIES_MAX: usize = 16;
/// How often a node looks for schedules that others changed; its own changes hold at once.
pub const SCHEDULES_LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Firings that are dealt with together: the next ones wait no longer than that.
pub const FIRINGS_PASS_MAX: usize = 100;
/// Submits of firings at once: they share commits.
pub const FIRINGS_AT_ONCE_MAX: usize = 32;
/// How late a firing may be that is not made up for: a full queue or a store that is away for a while
/// costs none.
pub const FIRING_LATE_MAX: Duration = Duration::from_hours(1);
/// Bytes of a cron expression, and of the name of its zone: room for long lists.
pub const CRON_BYTES_MAX: usize = 255;
/// Firings that a preview shows.
pub const PREVIEW_MAX: usize = 100;
/// Firings that a preview shows that names no number.
pub const PREVIEW_DEFAULT: usize = 5;

/// The least urgent priority; 0 is the most urgent.
pub const PRIORITY_MAX: u8 = 9;
/// The priority of a job that names none: half-way, so that there is room either side.
pub const PRIORITY_DEFAULT: u8 = 5;

/// Tags of a job: they are read with every listing.
pub const TAGS_MAX: usize = 32;
/// Bytes of a tag's value.
pub const TAG_VALUE_BYTES_MAX: usize = 255;
/// Bytes of a content type: longer ones are no media types that anybody uses.
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;

/// Attempts that a job may be given.
pub const MAX_ATTEMPTS_MAX: u32 = 100;
/// Attempts of a job that names none and whose task names none.
pub const MAX_ATTEMPTS_DEFAULT: u32 = 5;
/// Hand-backs that cost no attempt; later ones do, so that none goes round for ever.
pub const HAND_BACKS_FREE: u32 = 100;

/// The shortest timeout of an attempt: below it, starting costs more than running.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// The longest timeout of an attempt.
pub const TIMEOUT_MAX: Duration = Duration::from_hours(168);
/// The timeout of a task that names none.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_mins(5);
/// How far ahead `run_at`, `delay` and `start_before` may lie.
pub const AHEAD_MAX: Duration = Duration::from_hours(8784);
/// How long a finished job may be kept.
pub const RETAIN_MAX: Duration = Duration::from_hours(2160);
/// How long a finished job is kept where nothing else is said.
pub const RETAIN_DEFAULT: Duration = Duration::from_hours(24);

/// The shortest lease: below it a busy network loses leases that nobody gave up.
pub const LEASE_MIN: Duration = Duration::from_secs(1);
/// The longest lease: a dead worker's job comes back within it.
pub const LEASE_MAX: Duration = Duration::from_hours(1);
/// The lease of an attempt that the node runs itself; its keeper extends it three times within.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(30);
/// The longest that a lease taken before a restart is honoured after it.
pub const LEASE_GRACE_MAX: Duration = Duration::from_mins(1);

/// Errors kept of a job, newest last: enough to see a pattern.
pub const ERRORS_MAX: usize = 20;
/// Bytes of an error's message, cut at a character.
pub const ERROR_MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// Reports of attempts (progress, lines of logs) kept of a job, the latest: enough to see what it
/// was at.
pub const REPORTS_KEPT_MAX: usize = 1_000;
/// Bytes of their texts.
pub const REPORTS_KEPT_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a line or a message of progress, cut at a character.
pub const REPORT_BYTES_MAX: usize = 8 * 1024;
/// How often at most what attempts report is written down: a chatty one must not fill the disk.
pub const REPORT_INTERVAL: Duration = Duration::from_millis(200);
/// States kept of a job that did not go straight on. Its attempts and hand-backs make a few
/// hundred; beyond it lie only drains and retries that people ask for, thousands of times.
pub const STATES_KEPT_MAX: usize = 10_000;
/// Events of a job that are read at once: with the longest lines not a megabyte.
pub const EVENTS_PAGE_MAX: usize = 100;
/// Events of all jobs that a node keeps for those who follow them: a slow one misses what is older.
pub const FEED_EVENTS_MAX: usize = 4_096;
/// Bytes of the texts in them.
pub const FEED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The task of the jobs that tell of the end of others, and the queue that they wait in.
pub const CALLBACK_TASK: &str = "anteroom.callback";
/// Attempts to deliver a callback: the waits between them make three days.
pub const CALLBACK_ATTEMPTS_MAX: u32 = 10;
/// How long an attempt to deliver a callback may take: whoever takes it has only to note it.
pub const CALLBACK_TIMEOUT: Duration = Duration::from_secs(30);
/// Callbacks that a node delivers at once.
pub const CALLBACKS_AT_ONCE_MAX: usize = 64;
/// Targets of callbacks that a submit has looked at at once.
pub const CALLBACK_CHECKS_AT_ONCE_MAX: usize = 16;
/// How long the targets of a submit are looked at: names may have to be asked for. What nobody could tell
/// by then is taken.
pub const CALLBACK_CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of an input.
pub const INPUT_BYTES_MAX_DEFAULT: usize = 1024 * 1024;
/// Bytes of a result.
pub const RESULT_BYTES_MAX_DEFAULT: usize = 16 * 1024 * 1024;
/// Bytes of a JSON result that is shown inside the job itself.
pub const RESULT_SHOWN_BYTES_MAX: usize = 64 * 1024;
/// Levels of nesting in a JSON body: deeper ones are attacks on parsers.
pub const JSON_DEPTH_MAX: usize = 128;

/// Bytes of an input that is checked by the thread that received it, where its task asks for more
/// than a content type. Larger ones go to a thread of their own.
pub const VALIDATED_INLINE_BYTES_MAX: usize = 16 * 1024;

/// Jobs of one submit: one durable commit, all or nothing.
pub const SUBMIT_JOBS_MAX: usize = 10_000;
/// Jobs of one claim.
pub const CLAIM_JOBS_MAX: usize = 1_000;
/// Operations of one commit: bounds how long the next one waits.
pub const COMMIT_OPERATIONS_MAX: usize = 4_096;
/// Bytes of inputs and results in one commit, for the same reason.
pub const COMMIT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Jobs whose submits wait for the store's writer, and apart from them claims that wait for jobs:
/// beyond it the store says that it is overloaded.
pub const STORE_QUEUE_MAX: usize = 65_536;
/// Jobs that one pass of upkeep rescues in a commit: submits go in between.
pub const UPKEEP_JOBS_MAX: usize = 2_000;
/// Jobs that are forgotten in one commit, which is longer than others: a submit may have to wait for it.
pub const PRUNE_JOBS_MAX: usize = 500;

/// Matches that a bulk call (cancel, retry or delete all that match) takes before it says that
/// there are more, so that its answer comes while somebody waits for it.
pub const BULK_MATCHES_MAX: usize = 10_000;
/// How long a bulk call goes on before it says so, for the same reason.
pub const BULK_TIME_MAX: Duration = Duration::from_secs(5);
/// Jobs that a bulk call changes in a commit: submits go in between.
pub const BULK_JOBS_MAX: usize = 500;
/// Times that a bulk call looks again at a job that changed under its hands.
pub const BULK_TRIES_MAX: usize = 5;
/// Retries in bulk that were cut short and are remembered, so that what fails again while they are
/// repeated is not retried for ever.
pub const BULK_RETRIES_MAX: usize = 100;
/// How long they are remembered: whoever repeats one does so at once.
pub const BULK_RETRIES_KEPT: Duration = Duration::from_mins(1);

/// Bytes of a document that a store keeps beside its jobs: it is read and written as a whole.
pub const DOCUMENT_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Documents of one kind: all of them may be read at once.
pub const DOCUMENTS_MAX: usize = 10_000;

/// Jobs on a page that names no size.
pub const PAGE_SIZE_DEFAULT: usize = 50;
/// Jobs on a page.
pub const PAGE_SIZE_MAX: usize = 1_000;
/// Jobs that are looked at for one page, whatever the filter.
pub const PAGE_LOOKED_AT_MAX: usize = 10_000;

/// Ids remembered of jobs whose retention is over or that were deleted.
pub const GONE_JOBS_MAX: usize = 1_000_000;
/// How long they are remembered.
pub const GONE_KEPT: Duration = Duration::from_hours(24);

/// Attempts at once of a subprocess task on a node.
pub const CONCURRENCY_EXEC_DEFAULT: usize = 16;
/// How long the output of a program is read on once all of its processes are gone: it lies in the
/// pipe already, and only a stranger who was given the pipe can keep it open.
pub const EXEC_DRAIN_MAX: Duration = Duration::from_secs(1);
/// Attempts at once of a task that is pushed to a service, on a node: each waits more than it works.
pub const CONCURRENCY_PUSH_DEFAULT: usize = 64;
/// Bytes of the URL of a push or a callback: longer ones are refused by many servers.
pub const TARGET_URL_BYTES_MAX: usize = 2_048;
/// Attempts at once of a Rust function on a node.
pub const CONCURRENCY_FUNCTION_DEFAULT: usize = 256;
/// Attempts at once of any task on a node.
pub const CONCURRENCY_MAX: usize = 10_000;
/// How long a task that was told to stop may take before it is killed.
pub const KILL_GRACE_DEFAULT: Duration = Duration::from_secs(5);
/// How long running attempts may go on after the server was told to stop.
pub const SHUTDOWN_GRACE_DEFAULT: Duration = Duration::from_secs(30);
