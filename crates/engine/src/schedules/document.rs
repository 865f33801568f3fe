//! What the store keeps of a schedule: a document of JSON.
//!
//! One has all there is, what it submits and how far its firings have come, so that a change of either
//! is refused where the other changed meanwhile. Of one in the configuration it has the latter alone.

use super::{CatchUp, Schedule};
use crate::callback::CallbackUrl;
use crate::store::Document;
use crate::submit::{StartAt, Submission};
use anteroom_core::{Cron, JobId, Label, Name, Payload, Priority, Timestamp, Zone};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// The kind of the documents.
pub(super) fn kind() -> Name {
    Name::new("anteroom.schedule").expect("what the kind is named by is a name")
}

/// What is kept of a schedule.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) revision: u64,
    /// None: it stands in the configuration.
    pub(super) schedule: Option<Arc<Schedule>>,
    /// The expression and the zone that the rest is about.
    pub(super) times: String,
    /// Firings up to here were dealt with.
    pub(super) handled_at: Timestamp,
    /// The firing that somebody is submitting, or was when he ended.
    pub(super) begun: Option<Begun>,
    pub(super) last_at: Option<Timestamp>,
    pub(super) last_job: Option<JobId>,
    pub(super) last_failure: Option<(Timestamp, String)>,
}

/// A firing under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(i64, i64)", into = "(i64, i64)")]
pub(super) struct Begun {
    /// Its time.
    pub(super) at: Timestamp,
    /// When it was begun. Its key is remembered for so long from then on at the least.
    pub(super) since: Timestamp,
}

impl From<(i64, i64)> for Begun {
    fn from((at, since): (i64, i64)) -> Self {
        Self {
            at: Timestamp::from_millis(at),
            since: Timestamp::from_millis(since),
        }
    }
}

impl From<Begun> for (i64, i64) {
    fn from(begun: Begun) -> Self {
        (begun.at.as_millis(), begun.since.as_millis())
    }
}

fn times_of(schedule: &Schedule) -> String {
    let cron = &schedule.cron;
    format!("{} {}", cron.text(), cron.zone().name())
}

impl Kept {
    /// Returns what is kept of a schedule that was put, in the place of `before`.
    pub(super) fn put(schedule: Arc<Schedule>, before: Option<&Self>, now: Timestamp) -> Self {
        let new = Self {
            revision: u64::try_from(now.as_millis()).unwrap_or_default().max(1),
            ..Self::configured(&schedule, now)
        };
        let Some(before) = before else {
            return Self {
                schedule: Some(schedule),
                ..new
            };
        };
        let was = before.schedule.as_ref();
        // The same again at the moment of a firing must not lose it.
        let goes_on = was.is_some_and(|was| was.cron == schedule.cron && !was.paused);
        let has_same_task = was.is_some_and(|was| was.submission.task == schedule.submission.task);
        Self {
            revision: new.revision.max(before.revision.saturating_add(1)),
            handled_at: if goes_on { before.handled_at } else { now },
            begun: before.begun.filter(|_| goes_on && has_same_task),
            last_at: before.last_at,
            last_job: before.last_job,
            last_failure: before.last_failure.clone(),
            schedule: Some(schedule),
            times: new.times,
        }
    }

    /// Returns what is kept of a schedule of the configuration that has not fired yet.
    pub(super) fn configured(schedule: &Schedule, now: Timestamp) -> Self {
        Self {
            revision: 0,
            schedule: None,
            times: times_of(schedule),
            handled_at: now,
            begun: None,
            last_at: None,
            last_job: None,
            last_failure: None,
        }
    }

    /// Tells whether it is about the times of this schedule.
    pub(super) fn is_about(&self, schedule: &Schedule) -> bool {
        self.times == times_of(schedule)
    }

    /// Reads a document; none where it is not to be understood, which is logged.
    pub(super) fn read(document: &Document) -> Option<Self> {
        let read = serde_json::from_slice::<Written>(&document.value)
            .map_err(|error| error.to_string())
            .and_then(Self::of_written);
        let name = &document.name;
        read.map_err(|error| warn!(schedule = %name, "cannot read schedule {name}: {error}"))
            .ok()
    }

    pub(super) fn write(&self) -> Bytes {
        let schedule = self.schedule.as_deref();
        let written = Written {
            revision: self.revision,
            times: self.times.clone(),
            handled_at: self.handled_at.as_millis(),
            begun: self.begun,
            last_at: self.last_at.map(Timestamp::as_millis),
            last_job: self.last_job.map(|id| id.to_string()),
            last_failure: (self.last_failure.as_ref())
                .map(|(at, reason)| (at.as_millis(), reason.clone())),
            schedule: schedule.map(WrittenSchedule::of),
        };
        // Strings and numbers always serialize.
        serde_json::to_vec(&written).unwrap_or_default().into()
    }

    fn of_written(written: Written) -> Result<Self, String> {
        let schedule = written.schedule.map(WrittenSchedule::read).transpose()?;
        let last_job = written.last_job.map(|id| id.parse()).transpose();
        Ok(Self {
            revision: written.revision,
            schedule: schedule.map(Arc::new),
            times: written.times,
            handled_at: Timestamp::from_millis(written.handled_at),
            begun: written.begun,
            last_at: written.last_at.map(Timestamp::from_millis),
            last_job: last_job.map_err(|error| format!("last_job: {error}"))?,
            last_failure: (written.last_failure)
                .map(|(at, reason)| (Timestamp::from_millis(at), reason)),
        })
    }
}

/// A document as it is written. A member that is not there is none: a later version may add some.
#[derive(Serialize, Deserialize)]
struct Written {
    revision: u64,
    times: String,
    handled_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begun: Option<Begun>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_job: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_failure: Option<(i64, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schedule: Option<WrittenSchedule>,
}

#[derive(Serialize, Deserialize)]
struct WrittenSchedule {
    cron: String,
    timezone: String,
    paused: bool,
    catch_up: String,
    task: String,
    content_type: String,
    /// In base64.
    input: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delay: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retain: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unique_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    callback_url: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
}

impl WrittenSchedule {
    fn of(schedule: &Schedule) -> Self {
        // Each of them named: a new option has to be thought of.
        let Submission {
            task,
            input,
            queue,
            group,
            priority,
            start,
            max_attempts,
            timeout,
            start_before: _,
            retain,
            unique_key,
            callback_url,
            tags,
            idempotency: _,
        } = &schedule.submission;
        let tags = tags.iter();
        Self {
            cron: schedule.cron.text().to_owned(),
            timezone: schedule.cron.zone().name().to_owned(),
            paused: schedule.paused,
            catch_up: schedule.catch_up.as_str().to_owned(),
            task: task.to_string(),
            content_type: input.content_type.to_string(),
            input: BASE64_STANDARD.encode(&input.bytes),
            queue: queue.as_ref().map(Name::to_string),
            group: group.as_ref().map(Label::to_string),
            priority: priority.map(Priority::get),
            delay: match start {
                Some(StartAt::In(delay)) => Some(*delay),
                Some(StartAt::At(_)) | None => None,
            },
            max_attempts: *max_attempts,
            timeout: *timeout,
            retain: *retain,
            unique_key: unique_key.as_ref().map(Label::to_string),
            callback_url: callback_url.as_ref().map(|url| url.as_str().to_owned()),
            tags: tags
                .map(|(name, value)| (name.to_string(), value.clone()))
                .collect(),
        }
    }

    fn read(self) -> Result<Schedule, String> {
        let zone = Zone::new(&self.timezone);
        let zone = zone.map_err(|error| format!("timezone {error}"))?;
        let cron = Cron::new(&self.cron, zone).map_err(|error| format!("cron {error}"))?;
        let bytes = BASE64_STANDARD.decode(&self.input);
        let input = Payload {
            content_type: self.content_type.into(),
            bytes: bytes.map_err(|error| format!("input: {error}"))?.into(),
        };
        let task = parse("task", Some(&self.task), Name::new)?;
        let priority = self.priority.map(|number| Priority::new(i64::from(number)));
        let tags = self.tags.into_iter().map(|(name, value)| {
            let name = Name::new(&name).map_err(|error| format!("tag {name} {error}"))?;
            Ok((name, value))
        });
        let submission = Submission {
            queue: parse("queue", self.queue.as_deref(), Name::new)?,
            group: parse("group", self.group.as_deref(), Label::new)?,
            priority: priority
                .transpose()
                .map_err(|it| format!("priority {it}"))?,
            start: self.delay.map(StartAt::In),
            max_attempts: self.max_attempts,
            timeout: self.timeout,
            retain: self.retain,
            unique_key: parse("unique_key", self.unique_key.as_deref(), Label::new)?,
            callback_url: parse(
                "callback_url",
                self.callback_url.as_deref(),
                CallbackUrl::new,
            )?,
            tags: tags.collect::<Result<_, String>>()?,
            ..Submission::new(task.ok_or("no task")?, input)
        };
        Ok(Schedule {
            cron,
            submission,
            paused: self.paused,
            catch_up: CatchUp::named(&self.catch_up).ok_or("unknown catch_up")?,
        })
    }
}

fn parse<T, E: std::fmt::Display>(
    member: &str,
    text: Option<&str>,
    read: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, String> {
    let value = text.map(read).transpose();
    value.map_err(|error| format!("{member} {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn schedule() -> Schedule {
        let input = Payload {
            content_type: "text/plain".into(),
            bytes: Bytes::from_static(b"\xff\x00 a"),
        };
        let submission = Submission {
            queue: Name::new("q").ok(),
            group: Label::new("Ann & Bob").ok(),
            priority: Priority::new(2).ok(),
            start: Some(StartAt::In(Duration::from_millis(1_500))),
            max_attempts: Some(3),
            timeout: Some(Duration::from_secs(30)),
            retain: Some(Duration::ZERO),
            unique_key: Label::new("one").ok(),
            callback_url: CallbackUrl::new("http://a/").ok(),
            tags: BTreeMap::from([(Name::new("who").unwrap(), "\"ann\"".to_owned())]),
            ..Submission::new(Name::new("t").unwrap(), input)
        };
        Schedule {
            cron: Cron::new("0 3 * * *", Zone::new("Europe/Berlin").unwrap()).unwrap(),
            submission,
            paused: false,
            catch_up: CatchUp::Last,
        }
    }

    fn plain() -> Schedule {
        let Schedule { submission, .. } = schedule();
        Schedule {
            submission: Submission::new(submission.task, submission.input),
            catch_up: CatchUp::None,
            ..schedule()
        }
    }

    fn document(kept: &Kept) -> Document {
        Document {
            name: Name::new("s").unwrap(),
            version: 1,
            value: kept.write(),
        }
    }

    #[test]
    fn what_is_kept_reads_back() {
        let put = Kept::put(Arc::new(schedule()), None, NOW);
        let fired = Kept {
            begun: Some(Begun {
                at: NOW,
                since: NOW.after(Duration::from_secs(1)),
            }),
            last_at: Some(NOW),
            last_job: Some(JobId::from_parts(1, 2, 3)),
            last_failure: Some((NOW, "no such \"queue\"".to_owned())),
            ..put.clone()
        };
        let bare = Kept::put(Arc::new(plain()), None, NOW);
        for kept in [put, fired, bare, Kept::configured(&schedule(), NOW)] {
            assert_eq!(Kept::read(&document(&kept)), Some(kept));
        }
        for value in [
            "",
            "{}",
            "[]",
            r#"{"revision":1,"times":"x","handled_at":"y"}"#,
        ] {
            let document = Document {
                value: value.into(),
                ..document(&Kept::configured(&schedule(), NOW))
            };
            assert_eq!(Kept::read(&document), None, "{value}");
        }
    }

    #[test]
    fn the_same_times_go_on_and_others_begin_anew() {
        let later = NOW.after(Duration::from_hours(1));
        let begun = Begun {
            at: NOW,
            since: NOW,
        };
        let before = |schedule: Schedule| Kept {
            begun: Some(begun),
            last_at: Some(NOW),
            ..Kept::put(Arc::new(schedule), None, NOW)
        };
        let paused = Schedule {
            paused: true,
            ..plain()
        };
        let hourly = Schedule {
            cron: Cron::new("0 * * * *", Zone::utc()).unwrap(),
            ..plain()
        };
        let other_task = Schedule {
            submission: Submission::new(Name::new("u").unwrap(), plain().submission.input),
            ..plain()
        };
        for (before, after, handled_at, goes_on) in [
            (before(plain()), schedule(), NOW, true),
            (before(plain()), paused.clone(), NOW, true),
            (before(plain()), other_task, NOW, false),
            (before(plain()), hourly.clone(), later, false),
            (before(hourly), plain(), later, false),
            (before(paused), plain(), later, false),
        ] {
            let after = Kept::put(Arc::new(after), Some(&before), later);
            assert_eq!(after.handled_at, handled_at, "{after:?}");
            assert_eq!(after.begun.is_some(), goes_on, "{after:?}");
            assert_eq!(after.last_at, Some(NOW));
            assert!(after.revision > before.revision);
        }
        let early = NOW.before(Duration::from_hours(1));
        let old = before(plain());
        let set_back = Kept::put(Arc::new(plain()), Some(&old), early);
        assert_eq!(
            set_back.revision,
            old.revision + 1,
            "a clock that was set back"
        );
    }
}
