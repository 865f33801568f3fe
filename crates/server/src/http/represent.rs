//! The job resource: what a client sees of a job. Written straight to bytes.

use super::value::{Eta, Friendly, Instant};
use anteroom::Waiting;
use anteroom::core::{
    AttemptError, Job, JobId, Name, Payload, PayloadInfo, Progress, State, Timestamp,
};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// A job to be shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JobView<'a> {
    /// The job.
    pub(crate) job: &'a Job,
    /// Its result, where that is JSON to be shown.
    pub(crate) result: Option<&'a RawValue>,
    /// What tells scheduled from ready.
    pub(crate) now: Timestamp,
    /// Where the router is mounted.
    pub(crate) prefix: &'a str,
    /// It answers a submit, and was there before: it has the unique key.
    pub(crate) duplicate: bool,
    /// What it waits for, where that is asked for.
    pub(crate) waiting: Option<&'a Waiting>,
}

impl JobView<'_> {
    /// Returns the resource in full.
    pub(crate) fn to_json(self) -> Vec<u8> {
        let mut page = Page(Vec::with_capacity(1_200));
        // Writing to memory does not fail, and every key is a string.
        let _cannot_fail = serde_json::to_writer(&mut page, &self);
        page.0
    }
}

/// Bytes that are written to in very small pieces: most are a quote, a colon or a comma.
struct Page(Vec<u8>);

impl Write for Page {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match bytes {
            [byte] => self.0.push(*byte),
            bytes => self.0.extend_from_slice(bytes),
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a result that is to be shown within its job, if it is fit for that.
pub(crate) fn shown_result(payload: &Payload) -> Option<&RawValue> {
    super::body::check_json(&payload.bytes).ok()?;
    serde_json::from_slice(&payload.bytes).ok()
}

/// Members in the order of the contract. A job in a list goes without some of them.
#[derive(Serialize)]
struct Resource<'a> {
    #[serde(serialize_with = "encoded")]
    id: JobId,
    task: &'a str,
    queue: &'a str,
    group: Option<&'a str>,
    priority: u8,
    state: &'static str,
    done: bool,
    attempt: u32,
    max_attempts: u32,
    timeout: Friendly,
    created_at: Instant,
    run_at: Instant,
    start_before: Option<Instant>,
    started_at: Option<Instant>,
    finished_at: Option<Instant>,
    expires_at: Option<Instant>,
    unique_key: Option<&'a str>,
    callback_url: Option<&'a str>,
    input: Described<'a>,
    result: Option<Returned<'a>>,
    error: Option<ErrorView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Errors<'a>>,
    progress: Option<ProgressView<'a>>,
    /// Null where it is neither left out nor asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<MaybeWaiting<'a>>,
    cancel_requested: bool,
    tags: Tags<'a>,
    links: Links<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
}

fn encoded<S: Serializer>(id: &JobId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(id.encode(&mut [0; 36]))
}

impl<'a> JobView<'a> {
    fn resource(&self, is_listed: bool) -> Resource<'a> {
        let (job, spec, status) = (self.job, &*self.job.spec, &self.job.status);
        let state = status.shown(self.now);
        let failed = status.state == State::Failed;
        Resource {
            id: spec.id,
            task: &spec.task,
            queue: &spec.queue,
            group: spec.group.as_deref(),
            priority: spec.priority.get(),
            state: state.as_str(),
            done: status.state.is_final(),
            attempt: status.attempt,
            max_attempts: status.max_attempts,
            timeout: Friendly(spec.timeout),
            created_at: Instant(spec.created_at),
            run_at: Instant(status.run_at),
            start_before: status.start_before.map(Instant),
            started_at: status.started_at.map(Instant),
            finished_at: status.finished_at.map(Instant),
            expires_at: job.expires_at().map(Instant),
            unique_key: spec.unique_key.as_deref(),
            callback_url: spec.callback_url.as_deref(),
            input: Described::of(&spec.input),
            result: job.result.as_ref().map(|result| Returned {
                content_type: &result.content_type,
                bytes: result.bytes,
                json: self.result,
            }),
            error: job.errors.last().filter(|_| failed).map(ErrorView),
            errors: (!is_listed).then_some(Errors(&job.errors)),
            progress: job.progress.as_ref().map(ProgressView),
            waiting: (!is_listed).then_some(MaybeWaiting(self.waiting)),
            cancel_requested: status.cancel_requested,
            tags: Tags(&spec.tags),
            links: Links {
                prefix: self.prefix,
                id: spec.id,
            },
            duplicate: self.duplicate.then_some(true),
        }
    }
}

impl Serialize for JobView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.resource(false).serialize(serializer)
    }
}

/// A job in a list: without its errors, its waiting and the JSON of its result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListedJob<'a>(pub(crate) JobView<'a>);

impl Serialize for ListedJob<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.resource(true).serialize(serializer)
    }
}

#[derive(Serialize)]
struct Described<'a> {
    content_type: &'a str,
    bytes: usize,
}

impl<'a> Described<'a> {
    fn of(info: &'a PayloadInfo) -> Self {
        Self {
            content_type: &info.content_type,
            bytes: info.bytes,
        }
    }
}

#[derive(Serialize)]
struct Returned<'a> {
    content_type: &'a str,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<&'a RawValue>,
}

/// What a failed attempt said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorView<'a>(pub(crate) &'a AttemptError);

impl Serialize for ErrorView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let AttemptError {
            attempt,
            at,
            failure,
        } = self.0;
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("attempt", attempt)?;
        map.serialize_entry("at", &Instant(*at))?;
        map.serialize_entry("kind", failure.kind.as_str())?;
        map.serialize_entry("message", &failure.message)?;
        map.end()
    }
}

/// How far an attempt has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProgressView<'a>(pub(crate) &'a Progress);

impl Serialize for ProgressView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("fraction", &self.0.fraction())?;
        map.serialize_entry("message", &self.0.message())?;
        map.end()
    }
}

/// What a job waits for; null where it does not wait, or nobody asks.
struct MaybeWaiting<'a>(Option<&'a Waiting>);

impl Serialize for MaybeWaiting<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(waiting) = self.0 else {
            return serializer.serialize_none();
        };
        let position = waiting.position;
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("position", &position.map(|it| it.ahead))?;
        map.serialize_entry("exact", &position.is_some_and(|it| it.is_exact))?;
        map.serialize_entry("eta", &waiting.starts_in.map(Eta))?;
        map.serialize_entry("reasons", &waiting.reasons)?;
        map.end()
    }
}

struct Errors<'a>(&'a [AttemptError]);

impl Serialize for Errors<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for error in self.0 {
            list.serialize_element(&ErrorView(error))?;
        }
        list.end()
    }
}

struct Tags<'a>(&'a BTreeMap<Name, String>);

impl Serialize for Tags<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (&**name, value)))
    }
}

struct Links<'a> {
    prefix: &'a str,
    id: JobId,
}

impl Serialize for Links<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { prefix, id } = self;
        let mut map = serializer.serialize_map(Some(5))?;
        let mut link = [*prefix, "/v1/jobs/", id.encode(&mut [0; 36])].concat();
        map.serialize_entry("self", &link)?;
        link.push('/');
        let job_bytes = link.len();
        for name in ["result", "input", "events", "cancel"] {
            link.truncate(job_bytes);
            link.push_str(name);
            map.serialize_entry(name, &link)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn links_carry_the_prefix_whatever_is_in_it() {
        let id = JobId::from_parts(1_700_000_000_000, 7, 42);
        for prefix in ["", "/queue", "/a\"b\\c"] {
            let links = Links { prefix, id };
            let links: Value =
                serde_json::from_str(&serde_json::to_string(&links).unwrap()).unwrap();
            let path = format!("{prefix}/v1/jobs/{id}");
            let expected = json!({
                "self": path,
                "result": format!("{path}/result"),
                "input": format!("{path}/input"),
                "events": format!("{path}/events"),
                "cancel": format!("{path}/cancel"),
            });
            assert_eq!(links, expected);
        }
    }
}
