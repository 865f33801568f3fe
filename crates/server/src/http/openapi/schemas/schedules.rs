//! The forms of schedules.

use super::{Duration, Instant, JobId, Name, Tags};
use utoipa::ToSchema;

/// What becomes of firings that came due while no server ran.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum CatchUp {
    /// They are left out.
    None,
    /// The last of them is made up for, once.
    Last,
}

/// Where a schedule is defined.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum DefinedIn {
    Configuration,
    Api,
}

/// A schedule to be put. A member that is null, apart from `input`, is one that is not given.
#[derive(ToSchema)]
pub(crate) struct SchedulePut {
    task: Name,
    /// Five fields (minute, hour, day of month, month, day of week), or six with the second first.
    #[schema(max_length = 255)]
    cron: String,
    /// A time zone of the IANA database. Default `UTC`.
    #[schema(max_length = 255)]
    timezone: Option<String>,
    /// It does not fire.
    paused: Option<bool>,
    catch_up: Option<CatchUp>,
    /// Kept as the exact bytes of this value, as `application/json`. Not together with
    /// `input_base64`; without either the input is empty.
    input: Option<serde_json::Value>,
    /// The bytes of an input of any type: base64 by RFC 4648, section 4, padded.
    input_base64: Option<String>,
    /// Of the input: `application/octet-stream` if it is not given; with `input` nothing but
    /// `application/json`.
    content_type: Option<String>,
    /// The line that its jobs wait in; made on first use.
    queue: Option<Name>,
    /// Whose work they are.
    group: Option<String>,
    /// 0, most urgent, to 9.
    #[schema(minimum = 0, maximum = 9)]
    priority: Option<u8>,
    /// Each starts that much later than it is submitted.
    delay: Option<Duration>,
    #[schema(minimum = 1, maximum = 100)]
    max_attempts: Option<u32>,
    /// Of each attempt.
    timeout: Option<Duration>,
    /// How long each is kept after its end.
    retain: Option<Duration>,
    /// A firing makes no job while an unfinished one of the task has the same.
    unique_key: Option<String>,
    /// Who is told of each end.
    callback_url: Option<String>,
    tags: Option<Tags>,
}

/// The schedules, by name.
#[derive(ToSchema)]
pub(crate) struct ScheduleList {
    #[schema(max_items = 1000)]
    schedules: Vec<Schedule>,
}

/// What is submitted again and again. An option that is null was not given.
#[derive(ToSchema)]
pub(crate) struct Schedule {
    name: Name,
    task: Name,
    cron: String,
    timezone: String,
    /// It does not fire.
    paused: bool,
    catch_up: CatchUp,
    /// The input, where it is JSON. Not in lists.
    input: Option<serde_json::Value>,
    /// The input in base64, where it is something else. Not in lists.
    input_base64: Option<String>,
    content_type: String,
    #[schema(required)]
    queue: Option<Name>,
    #[schema(required)]
    group: Option<String>,
    #[schema(required, minimum = 0, maximum = 9)]
    priority: Option<u8>,
    #[schema(required)]
    delay: Option<Duration>,
    #[schema(required, minimum = 1, maximum = 100)]
    max_attempts: Option<u32>,
    #[schema(required)]
    timeout: Option<Duration>,
    #[schema(required)]
    retain: Option<Duration>,
    #[schema(required)]
    unique_key: Option<String>,
    #[schema(required)]
    callback_url: Option<String>,
    tags: Tags,
    defined_in: DefinedIn,
    /// When it fires next. Null while it is paused.
    #[schema(required)]
    next_at: Option<Instant>,
    /// The time of the last firing that was submitted.
    #[schema(required)]
    last_at: Option<Instant>,
    /// The job that it gave.
    #[schema(required)]
    last_job: Option<JobId>,
    /// The last firing that was given up, if it is later than that.
    #[schema(required)]
    last_error: Option<ScheduleFailure>,
    links: ScheduleLinks,
}

/// A firing that was given up.
#[derive(ToSchema)]
pub(crate) struct ScheduleFailure {
    /// Its time.
    at: Instant,
    /// Why.
    message: String,
}

/// Where to go on.
#[derive(ToSchema)]
pub(crate) struct ScheduleLinks {
    #[schema(rename = "self")]
    itself: String,
    trigger: String,
    preview: String,
    /// The last job, where there was one.
    last_job: Option<String>,
}

/// When a schedule will fire.
#[derive(ToSchema)]
pub(crate) struct Preview {
    #[schema(max_items = 100)]
    times: Vec<Instant>,
}
