//! A schedule, as it is shown.

use super::super::body;
use super::super::value::{Friendly, Instant};
use anteroom::core::{JobId, Name, Priority, Timestamp};
use anteroom::{CallbackUrl, DefinedIn, Scheduled, StartAt};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// All that was put, an option that was not given being null, and what is known of its firings.
#[derive(Serialize)]
pub(super) struct ScheduleView<'a> {
    name: &'a str,
    task: &'a str,
    cron: &'a str,
    timezone: &'a str,
    paused: bool,
    catch_up: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_base64: Option<String>,
    content_type: &'a str,
    queue: Option<&'a str>,
    group: Option<&'a str>,
    priority: Option<u8>,
    delay: Option<Friendly>,
    max_attempts: Option<u32>,
    timeout: Option<Friendly>,
    retain: Option<Friendly>,
    unique_key: Option<&'a str>,
    callback_url: Option<&'a str>,
    #[serde(serialize_with = "tags")]
    tags: &'a BTreeMap<Name, String>,
    defined_in: &'static str,
    next_at: Option<Instant>,
    last_at: Option<Instant>,
    last_job: Option<String>,
    last_error: Option<ErrorView<'a>>,
    links: LinksView,
}

#[derive(Serialize)]
struct ErrorView<'a> {
    at: Instant,
    message: &'a str,
}

#[derive(Serialize)]
struct LinksView {
    #[serde(rename = "self")]
    itself: String,
    trigger: String,
    preview: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_job: Option<String>,
}

fn tags<S: Serializer>(tags: &BTreeMap<Name, String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(tags.iter().map(|(name, value)| (&**name, value)))
}

impl<'a> ScheduleView<'a> {
    pub(super) fn of(scheduled: &'a Scheduled, prefix: &str) -> Self {
        let Scheduled { name, schedule, .. } = scheduled;
        let submission = &schedule.submission;
        let payload = &submission.input;
        // What is JSON was given as such, or might have been.
        let input = body::is_json(&payload.content_type)
            .then(|| serde_json::from_slice(&payload.bytes).ok())
            .flatten();
        let encoded = || BASE64_STANDARD.encode(&payload.bytes);
        let itself = format!("{prefix}/v1/schedules/{name}");
        let job = |id: JobId| format!("{prefix}/v1/jobs/{id}");
        let instant = |time: Option<Timestamp>| time.map(Instant);
        Self {
            name,
            task: &submission.task,
            cron: schedule.cron.text(),
            timezone: schedule.cron.zone().name(),
            paused: schedule.paused,
            catch_up: schedule.catch_up.as_str(),
            input,
            input_base64: input.is_none().then(encoded),
            content_type: &payload.content_type,
            queue: submission.queue.as_deref(),
            group: submission.group.as_deref(),
            priority: submission.priority.map(Priority::get),
            delay: match submission.start {
                Some(StartAt::In(delay)) => Some(Friendly(delay)),
                Some(StartAt::At(_)) | None => None,
            },
            max_attempts: submission.max_attempts,
            timeout: submission.timeout.map(Friendly),
            retain: submission.retain.map(Friendly),
            unique_key: submission.unique_key.as_deref(),
            callback_url: submission.callback_url.as_ref().map(CallbackUrl::as_str),
            tags: &submission.tags,
            defined_in: match scheduled.defined_in {
                DefinedIn::Configuration => "configuration",
                DefinedIn::Store => "api",
            },
            next_at: instant(scheduled.next_at),
            last_at: instant(scheduled.last_at),
            last_job: scheduled.last_job.map(|id| id.to_string()),
            last_error: (scheduled.last_failure.as_ref()).map(|(at, message)| ErrorView {
                at: Instant(*at),
                message,
            }),
            links: LinksView {
                trigger: format!("{itself}/trigger"),
                preview: format!("{itself}/preview"),
                last_job: scheduled.last_job.map(job),
                itself,
            },
        }
    }

    /// Leaves out the input, which may be long.
    pub(super) fn without_input(self) -> Self {
        Self {
            input: None,
            input_base64: None,
            ..self
        }
    }
}
