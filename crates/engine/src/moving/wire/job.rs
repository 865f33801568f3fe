//! A job as its line has it, with its input, result, errors and history.

use super::{bytes, fingerprint, hex, id, in_member, is_false, millis, name};
use crate::store::archive::{KeptHistory, KeptJob, Record};
use anteroom_core as core;
use anteroom_core::{
    AttemptError, ClaimNumber, EventId, EventPart, Failure, FailureKind, Happened, JobEvent, Label,
    Lease, LogStream, Name, Payload as CorePayload, Priority, Progress as CoreProgress,
    Report as CoreReport, ShownState, Spec, State, StateEvent, Status, Timestamp,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The words for stored states, in the order of a job's life.
const STATES: [(&str, State); 5] = [
    ("waiting", State::Waiting),
    ("running", State::Running),
    ("succeeded", State::Succeeded),
    ("failed", State::Failed),
    ("cancelled", State::Cancelled),
];

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Job {
    id: String,
    task: String,
    queue: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    priority: u8,
    created_at: i64,
    timeout_ms: u64,
    retain_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_url: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
    state: String,
    version: u64,
    run_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_before: Option<i64>,
    attempt: u32,
    max_attempts: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    claim: u64,
    #[serde(default, skip_serializing_if = "is_false")]
    pulled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_expires_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<i64>,
    #[serde(default, skip_serializing_if = "is_false")]
    cancel_requested: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    hand_backs: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Error>,
    #[serde(default, skip_serializing_if = "is_zero")]
    reports_made: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reports: Vec<Report>,
    #[serde(default, skip_serializing_if = "is_zero")]
    states_dropped: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    states: Vec<Entered>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settled: Option<Settled>,
    input: Payload,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Payload>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    content_type: String,
    base64: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "exact"
    )]
    fraction: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Error {
    attempt: u32,
    at: i64,
    kind: String,
    message: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    number: u64,
    version: u64,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<Log>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    stream: String,
    line: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entered {
    /// The id of the event, as it is told.
    id: String,
    state: String,
    attempt: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settled {
    claim: u64,
    said: String,
}

impl From<&KeptJob> for Job {
    fn from(kept: &KeptJob) -> Self {
        let core::Job {
            spec,
            status,
            errors,
            progress,
            result: _,
        } = &kept.job;
        let lease_expires_at = Some(status.lease_expires_at);
        Self {
            id: spec.id.to_string(),
            task: spec.task.to_string(),
            queue: spec.queue.to_string(),
            group: spec.group.as_deref().map(str::to_owned),
            priority: spec.priority.get(),
            created_at: spec.created_at.as_millis(),
            timeout_ms: millis(spec.timeout),
            retain_ms: millis(spec.retain),
            unique_key: spec.unique_key.as_deref().map(str::to_owned),
            callback_url: spec.callback_url.as_deref().map(str::to_owned),
            tags: tags(&spec.tags),
            state: word(status.state).to_owned(),
            version: status.version,
            run_at: status.run_at.as_millis(),
            start_before: status.start_before.map(Timestamp::as_millis),
            attempt: status.attempt,
            max_attempts: status.max_attempts,
            claim: status.claim.get(),
            pulled: status.lease == Lease::Pulled,
            lease_expires_at: lease_expires_at
                .filter(|end| *end != Timestamp::MIN)
                .map(Timestamp::as_millis),
            lease_ms: kept.lease_for.map(millis),
            started_at: status.started_at.map(Timestamp::as_millis),
            finished_at: status.finished_at.map(Timestamp::as_millis),
            cancel_requested: status.cancel_requested,
            hand_backs: status.hand_backs.into(),
            progress: progress.as_ref().map(Progress::from),
            errors: errors.iter().map(Error::from).collect(),
            reports_made: kept.told.reports_made,
            reports: kept.told.reports.iter().filter_map(Report::of).collect(),
            states_dropped: kept.told.states_dropped,
            states: kept.told.states.iter().map(Entered::from).collect(),
            settled: kept.settled.map(|(claim, said)| Settled {
                claim: claim.get(),
                said: hex(&said.0),
            }),
            input: Payload::from(&kept.input),
            result: kept.result.as_ref().map(Payload::from),
        }
    }
}

impl Job {
    pub(in super::super) fn record(self) -> Result<Record, String> {
        let status = self.status()?;
        let told = KeptHistory {
            reports_made: self.reports_made,
            reports: each("reports", self.reports, Report::event)?,
            states_dropped: self.states_dropped,
            states: each("states", self.states, Entered::event)?,
        };
        let settled = match self.settled {
            None => None,
            Some(Settled { claim, said }) => {
                let said = fingerprint("settled.said", &said)?;
                Some((ClaimNumber::new(claim), said))
            }
        };
        let input = self.input.payload("input")?;
        let result = self.result.map(|result| result.payload("result"));
        let result = result.transpose()?;
        let label = |member, text: Option<String>| {
            let label = text.map(|text| Label::new(&text));
            label.transpose().map_err(in_member(member))
        };
        let spec = Spec {
            id: id("id", &self.id)?,
            task: name("task", &self.task)?,
            queue: name("queue", &self.queue)?,
            group: label("group", self.group)?,
            priority: Priority::new(self.priority.into()).map_err(in_member("priority"))?,
            created_at: Timestamp::from_millis(self.created_at),
            timeout: Duration::from_millis(self.timeout_ms),
            retain: Duration::from_millis(self.retain_ms),
            unique_key: label("unique_key", self.unique_key)?,
            callback_url: self.callback_url.map(Arc::from),
            tags: read_tags(self.tags)?,
            input: input.info(),
        };
        Ok(Record::Job(Box::new(KeptJob {
            job: core::Job {
                spec: Arc::new(spec),
                status,
                errors: each("errors", self.errors, Error::error)?,
                result: result.as_ref().map(CorePayload::info),
                progress: match self.progress {
                    None => None,
                    Some(progress) => Some(progress.progress().map_err(in_member("progress"))?),
                },
            },
            input,
            result,
            lease_for: self.lease_ms.map(Duration::from_millis),
            told,
            settled,
        })))
    }

    fn status(&self) -> Result<Status, String> {
        let state = STATES.iter().find(|(word, _)| *word == self.state);
        let (_, state) = state.ok_or_else(|| format!("state: there is no {:?}", self.state))?;
        let expires_at = self.lease_expires_at.map(Timestamp::from_millis);
        Ok(Status {
            state: *state,
            version: self.version,
            run_at: Timestamp::from_millis(self.run_at),
            start_before: self.start_before.map(Timestamp::from_millis),
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            claim: ClaimNumber::new(self.claim),
            lease: if self.pulled {
                Lease::Pulled
            } else {
                Lease::Node
            },
            lease_expires_at: expires_at.unwrap_or(Timestamp::MIN),
            started_at: self.started_at.map(Timestamp::from_millis),
            finished_at: self.finished_at.map(Timestamp::from_millis),
            cancel_requested: self.cancel_requested,
            hand_backs: u32::try_from(self.hand_backs).map_err(in_member("hand_backs"))?,
        })
    }
}

impl From<&CorePayload> for Payload {
    fn from(payload: &CorePayload) -> Self {
        Self {
            content_type: payload.content_type.to_string(),
            base64: BASE64_STANDARD.encode(&payload.bytes),
        }
    }
}

impl Payload {
    fn payload(self, member: &str) -> Result<CorePayload, String> {
        Ok(CorePayload {
            content_type: self.content_type.into(),
            bytes: bytes(&format!("{member}.base64"), &self.base64)?,
        })
    }
}

impl From<&CoreProgress> for Progress {
    fn from(progress: &CoreProgress) -> Self {
        Self {
            fraction: progress.fraction(),
            message: progress.message().map(str::to_owned),
        }
    }
}

impl Progress {
    fn progress(self) -> Result<CoreProgress, &'static str> {
        CoreProgress::new(self.fraction, self.message).ok_or("says nothing")
    }
}

impl From<&AttemptError> for Error {
    fn from(error: &AttemptError) -> Self {
        Self {
            attempt: error.attempt,
            at: error.at.as_millis(),
            kind: error.failure.kind.as_str().to_owned(),
            message: error.failure.message.clone(),
        }
    }
}

impl Error {
    fn error(self) -> Result<AttemptError, String> {
        let kind = FailureKind::from_word(&self.kind);
        Ok(AttemptError {
            attempt: self.attempt,
            at: Timestamp::from_millis(self.at),
            failure: Failure {
                kind: kind.ok_or_else(|| format!("there is no kind {:?}", self.kind))?,
                message: self.message,
            },
        })
    }
}

impl Report {
    fn of(event: &JobEvent) -> Option<Self> {
        let Happened::Reported { attempt, report } = &event.happened else {
            return None;
        };
        let (progress, log) = match report {
            CoreReport::Progress(progress) => (Some(Progress::from(progress)), None),
            CoreReport::Log { stream, line } => {
                let (stream, line) = (stream.as_str().to_owned(), line.clone());
                (None, Some(Log { stream, line }))
            }
        };
        Some(Self {
            number: event.id.reports,
            version: event.id.version,
            attempt: *attempt,
            progress,
            log,
        })
    }

    fn event(self) -> Result<JobEvent, String> {
        let report = match (self.progress, self.log) {
            (Some(progress), None) => CoreReport::Progress(progress.progress()?),
            (None, Some(Log { stream, line })) => CoreReport::Log {
                stream: LogStream::from_word(&stream)
                    .ok_or_else(|| format!("there is no stream {stream:?}"))?,
                line,
            },
            _ => return Err("one of progress and log is needed".to_owned()),
        };
        Ok(JobEvent {
            id: EventId {
                version: self.version,
                reports: self.number,
                part: EventPart::Report,
            },
            happened: Happened::Reported {
                attempt: self.attempt,
                report,
            },
        })
    }
}

impl From<&StateEvent> for Entered {
    fn from(event: &StateEvent) -> Self {
        Self {
            id: event.id.to_string(),
            state: event.state.as_str().to_owned(),
            attempt: event.attempt,
        }
    }
}

impl Entered {
    fn event(self) -> Result<StateEvent, String> {
        let state = ShownState::from_word(&self.state);
        Ok(StateEvent {
            id: self.id.parse().map_err(|error| format!("id: {error}"))?,
            state: state.ok_or_else(|| format!("there is no state {:?}", self.state))?,
            attempt: self.attempt,
        })
    }
}

const fn word(state: State) -> &'static str {
    match state {
        State::Waiting => STATES[0].0,
        State::Running => STATES[1].0,
        State::Succeeded => STATES[2].0,
        State::Failed => STATES[3].0,
        State::Cancelled => STATES[4].0,
    }
}

fn tags(tags: &BTreeMap<Name, String>) -> BTreeMap<String, String> {
    let each = tags.iter();
    each.map(|(name, value)| (name.to_string(), value.clone()))
        .collect()
}

fn read_tags(tags: BTreeMap<String, String>) -> Result<BTreeMap<Name, String>, String> {
    let each = tags.into_iter();
    each.map(|(text, value)| Ok((name("tags", &text)?, value)))
        .collect()
}

/// Reads each of a list, and says of which one something is wrong.
fn each<T, U>(
    member: &str,
    list: Vec<T>,
    read: impl Fn(T) -> Result<U, String>,
) -> Result<Vec<U>, String> {
    let numbered = list.into_iter().enumerate();
    numbered
        .map(|(at, one)| read(one).map_err(|error| format!("{member}[{at}]: {error}")))
        .collect()
}

/// Reads a number to the last bit, which the JSON library does only under a feature that is not for
/// a library to choose.
fn exact<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    let raw = <Box<RawValue>>::deserialize(from)?;
    let number = raw.get().parse().map_err(serde::de::Error::custom)?;
    Ok(Some(number))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "that is how it is called"
)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}
