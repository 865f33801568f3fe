//! The job resource: what a client sees of a job. Written straight to bytes.

use super::body;
use super::json::{self, Object};
use super::value::{Eta, Friendly, Instant};
use anteroom::Waiting;
use anteroom::core::{AttemptError, Job, Payload, PayloadInfo, Progress, State, Timestamp};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// A job to be shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JobView<'a> {
    /// The job.
    pub(crate) job: &'a Job,
    /// Its result, where that is JSON to be shown.
    pub(crate) result: Option<&'a str>,
    /// What tells scheduled from ready.
    pub(crate) now: Timestamp,
    /// Where the router is mounted.
    pub(crate) prefix: &'a str,
    /// It answers a submit, and was there before: it has the unique key.
    pub(crate) duplicate: bool,
    /// What it waits for, where that is asked for.
    pub(crate) waiting: Option<&'a Waiting>,
}

/// How much of a job is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it.
    Full,
    /// What a list shows: without its errors and its waiting.
    Listed,
}

/// Bytes of a resource, about: more than most are.
pub(crate) const JOB_BYTES: usize = 1_200;

impl<'a> JobView<'a> {
    /// Shows a job as it stands, and nothing that is not in it.
    pub(crate) const fn of(job: &'a Job, now: Timestamp, prefix: &'a str) -> Self {
        Self {
            job,
            result: None,
            now,
            prefix,
            duplicate: false,
            waiting: None,
        }
    }

    /// Returns the resource in full.
    pub(crate) fn to_json(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(JOB_BYTES);
        self.write(&mut bytes, Extent::Full);
        bytes
    }

    /// Appends the resource, its members in the order of the contract.
    pub(crate) fn write(self, bytes: &mut Vec<u8>, extent: Extent) {
        let is_full = extent == Extent::Full;
        let (spec, status) = (&*self.job.spec, &self.job.status);
        json::object(bytes, |job| {
            job.text("id", spec.id.encode(&mut [0; 36]));
            job.text("task", &spec.task);
            job.text("queue", &spec.queue);
            job.maybe_text("group", spec.group.as_deref());
            job.value("priority", &spec.priority.get());
            job.text("state", status.shown(self.now).as_str());
            job.flag("done", status.state.is_final());
            job.value("attempt", &status.attempt);
            job.value("max_attempts", &status.max_attempts);
            job.text("timeout", &Friendly(spec.timeout).text());
            self.write_times(job);
            job.maybe_text("unique_key", spec.unique_key.as_deref());
            job.maybe_text("callback_url", spec.callback_url.as_deref());
            self.write_payloads(job);
            self.write_errors(job, is_full);
            match &self.job.progress {
                Some(progress) => job.value("progress", &ProgressView(progress)),
                None => job.null("progress"),
            }
            if is_full {
                self.write_waiting(job);
            }
            job.flag("cancel_requested", status.cancel_requested);
            job.object("tags", |tags| {
                for (name, value) in &spec.tags {
                    tags.text(name, value);
                }
            });
            self.write_links(job);
            if self.duplicate {
                job.flag("duplicate", true);
            }
        });
    }

    fn write_times(&self, job: &mut Object<'_>) {
        let status = &self.job.status;
        for (name, instant) in [
            ("created_at", Some(self.job.spec.created_at)),
            ("run_at", Some(status.run_at)),
            ("start_before", status.start_before),
            ("started_at", status.started_at),
            ("finished_at", status.finished_at),
            ("expires_at", self.job.expires_at()),
        ] {
            match instant {
                Some(instant) => job.text(name, &Instant(instant).text()),
                None => job.null(name),
            }
        }
    }

    fn write_payloads(&self, job: &mut Object<'_>) {
        let described = |payload: &mut Object<'_>, info: &PayloadInfo| {
            payload.text("content_type", &info.content_type);
            payload.value("bytes", &info.bytes);
        };
        job.object("input", |input| described(input, &self.job.spec.input));
        match &self.job.result {
            Some(info) => job.object("result", |result| {
                described(result, info);
                if let Some(json) = self.result {
                    result.json("json", json);
                }
            }),
            None => job.null("result"),
        }
    }

    fn write_errors(&self, job: &mut Object<'_>, is_full: bool) {
        let failed = self.job.status.state == State::Failed;
        match self.job.errors.last().filter(|_| failed) {
            Some(error) => job.value("error", &ErrorView(error)),
            None => job.null("error"),
        }
        if is_full {
            job.list("errors", &self.job.errors, |bytes, error| {
                // Writing to memory does not fail, and every key is a string.
                let _cannot_fail = serde_json::to_writer(bytes, &ErrorView(error));
            });
        }
    }

    /// Writes what it waits for; null where it does not wait, or nobody asks.
    fn write_waiting(&self, job: &mut Object<'_>) {
        let Some(waiting) = self.waiting else {
            return job.null("waiting");
        };
        let position = waiting.position;
        job.object("waiting", |members| {
            members.value("position", &position.map(|it| it.ahead));
            members.flag("exact", position.is_some_and(|it| it.is_exact));
            members.value("eta", &waiting.starts_in.map(Eta));
            members.list("reasons", &waiting.reasons, |bytes, reason| {
                json::text(bytes, reason);
            });
        });
    }

    fn write_links(&self, job: &mut Object<'_>) {
        let id = &mut [0; 36];
        let mut link = [self.prefix, "/v1/jobs/", self.job.spec.id.encode(id)].concat();
        job.object("links", |links| {
            links.text("self", &link);
            link.push('/');
            let job_bytes = link.len();
            for name in ["result", "input", "events", "cancel"] {
                link.truncate(job_bytes);
                link.push_str(name);
                links.text(name, &link);
            }
        });
    }
}

/// Returns the JSON of a result that is to be shown within its job, if it is fit for that.
pub(crate) fn shown_result(payload: &Payload) -> Option<&str> {
    body::check_json(&payload.bytes).ok()?;
    Some(body::utf8(&payload.bytes).ok()?.trim_ascii())
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

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom::core::{JobId, Name, Priority, Spec, Status};
    use serde_json::{Value, json};
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn links_carry_the_prefix_whatever_is_in_it() {
        let id = JobId::from_parts(1_700_000_000_000, 7, 42);
        let now = Timestamp::from_millis(1_700_000_000_000);
        let job = Job {
            spec: Arc::new(Spec {
                id,
                task: Name::new("task").unwrap(),
                queue: Name::new("queue").unwrap(),
                group: None,
                priority: Priority::default(),
                created_at: now,
                timeout: Duration::from_mins(5),
                retain: Duration::from_hours(24),
                unique_key: None,
                callback_url: None,
                tags: [(Name::new("tag").unwrap(), "\"1\"".to_owned())].into(),
                input: PayloadInfo {
                    content_type: "text/plain".into(),
                    bytes: 3,
                },
            }),
            status: Status::submitted(now, None, 5),
            errors: Vec::new(),
            result: None,
            progress: None,
        };
        for prefix in ["", "/queue", "/a\"b\\c"] {
            let view = JobView::of(&job, now, prefix);
            let shown: Value = serde_json::from_slice(&view.to_json()).unwrap();
            let path = format!("{prefix}/v1/jobs/{id}");
            let expected = json!({
                "self": path,
                "result": format!("{path}/result"),
                "input": format!("{path}/input"),
                "events": format!("{path}/events"),
                "cancel": format!("{path}/cancel"),
            });
            assert_eq!(shown["links"], expected);
            assert_eq!(shown["tags"], json!({"tag": "\"1\""}));
        }
    }
}
