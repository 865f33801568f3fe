//! Writes a job for people.

use super::plain;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What is shown of a job. The server may say more.
#[derive(Debug, Deserialize)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) done: bool,
    pub(super) task: String,
    pub(super) queue: String,
    pub(super) group: Option<String>,
    pub(super) attempt: u32,
    pub(super) max_attempts: u32,
    pub(super) created_at: String,
    run_at: Option<String>,
    finished_at: Option<String>,
    expires_at: Option<String>,
    #[serde(default)]
    pub(super) duplicate: bool,
    #[serde(default)]
    pub(super) cancel_requested: bool,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
    pub(super) waiting: Option<Waiting>,
    pub(super) progress: Option<Progress>,
    result: Option<JobResult>,
    error: Option<JobError>,
    #[serde(default)]
    errors: Vec<JobError>,
}

/// Why it has not started.
#[derive(Debug, Deserialize)]
pub(super) struct Waiting {
    position: Option<u64>,
    #[serde(default)]
    exact: bool,
    eta: Option<String>,
    #[serde(default)]
    reasons: Vec<String>,
}

impl Waiting {
    pub(super) fn position_text(&self) -> Option<String> {
        let about = if self.exact { "" } else { "about " };
        self.position
            .map(|position| format!("position {about}{position}"))
    }
}

/// How far its attempt says that it is.
#[derive(Debug, Deserialize)]
pub(super) struct Progress {
    fraction: Option<f64>,
    message: Option<String>,
}

impl Progress {
    pub(super) fn text(&self) -> Option<String> {
        let share = self
            .fraction
            .map(|it| format!("{:.0} %", (it * 100.0).floor()));
        let message = self
            .message
            .as_deref()
            .map(|it| plain::line(it).into_owned());
        let parts: Vec<String> = share.into_iter().chain(message).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }
}

impl Job {
    /// Returns how many are ahead of it, where that is known.
    pub(super) fn position(&self) -> Option<u64> {
        self.waiting.as_ref()?.position
    }
}

#[derive(Debug, Deserialize)]
struct JobResult {
    content_type: String,
    bytes: u64,
    json: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct JobError {
    attempt: u32,
    kind: String,
    message: String,
}

/// Returns lines that say what a person wants to know of a job.
pub(super) fn describe(job: &Job) -> String {
    let mut text = format!("job {}\n", plain::line(&job.id));
    let mut line = |name: &str, value: &str| {
        // Further lines of a value stand below the first. Writing to a string does not fail.
        let value = plain::lines(value).replace('\n', "\n            ");
        let _ = writeln!(text, "  {name:<9} {value}");
    };
    let asked = if job.cancel_requested && !job.done {
        ", told to stop"
    } else {
        ""
    };
    line("task", &job.task);
    line("state", &format!("{}{asked}", job.state));
    line(
        "attempt",
        &format!("{} of {}", job.attempt, job.max_attempts),
    );
    line("queue", &job.queue);
    if let Some(position) = job.waiting.as_ref().and_then(Waiting::position_text) {
        line("waits at", &position);
    }
    if let Some(eta) = job
        .waiting
        .as_ref()
        .and_then(|waiting| waiting.eta.as_ref())
    {
        line("starts in", &plain::line(&format!("about {eta}")));
    }
    for reason in job.waiting.iter().flat_map(|waiting| &waiting.reasons) {
        line("because", &plain::line(reason));
    }
    if let Some(progress) = job.progress.as_ref().and_then(Progress::text) {
        line("progress", &progress);
    }
    if let Some(group) = &job.group {
        line("group", &plain::line(group));
    }
    for (name, value) in &job.tags {
        line("tag", &plain::line(&format!("{name}={value}")));
    }
    line("created", &job.created_at);
    if let Some(at) = job.run_at.as_ref().filter(|_| job.state == "scheduled") {
        line("starts", at);
    }
    if let Some(at) = &job.finished_at {
        line("finished", at);
    }
    if let Some(at) = &job.expires_at {
        line("kept till", at);
    }
    if let Some(error) = job.error.as_ref().or(job.errors.last()) {
        let JobError {
            attempt,
            kind,
            message,
        } = error;
        let message = message.trim_end();
        line("error", &format!("{kind} in attempt {attempt}: {message}"));
    }
    if let Some(result) = &job.result {
        let bytes = result.bytes;
        line("result", &format!("{}, {bytes} bytes", result.content_type));
        if let Some(json) = &result.json {
            line("", &json.to_string());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_job_shows_what_it_said() {
        let job = serde_json::json!({
            "id": "019", "task": "t", "queue": "default", "group": null, "state": "failed",
            "done": true, "attempt": 2, "max_attempts": 2, "created_at": "C", "run_at": "R",
            "finished_at": "F", "expires_at": "E", "tags": {"a": "b"}, "result": null,
            "error": {"attempt": 2, "at": "F", "kind": "error", "message": "one\ntwo\u{1b}[2J\n"},
        });
        let job: Job = serde_json::from_value(job).unwrap();
        let expected = "job 019\n  task      t\n  state     failed\n  attempt   2 of 2\n  \
                        queue     default\n  tag       a=b\n  created   C\n  finished  F\n  \
                        kept till E\n  error     error in attempt 2: one\n            two\\u{1b}[2J\n";
        assert_eq!(describe(&job), expected);
    }

    #[test]
    fn a_waiting_job_shows_where_it_stands_and_why() {
        let job = serde_json::json!({
            "id": "019", "task": "t", "queue": "default", "group": null, "state": "ready",
            "done": false, "attempt": 0, "max_attempts": 2, "created_at": "C", "run_at": "R",
            "finished_at": null, "expires_at": null, "result": null,
            "waiting": {
                "position": 12, "exact": true, "eta": "3.2s", "reasons": ["one", "two\u{1b}[2J"],
            },
        });
        let shown = describe(&serde_json::from_value(job).unwrap());
        let expected = "  waits at  position 12\n  starts in about 3.2s\n  because   one\n  \
                        because   two\\u{1b}[2J\n";
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn a_running_job_shows_how_far_it_has_come() {
        for (progress, shown) in [
            (
                serde_json::json!({"fraction": 0.255, "message": "reading"}),
                "25 % reading",
            ),
            (
                serde_json::json!({"fraction": 1.0, "message": null}),
                "100 %",
            ),
            (
                serde_json::json!({"fraction": null, "message": "reading"}),
                "reading",
            ),
        ] {
            let job = serde_json::json!({
                "id": "019", "task": "t", "queue": "default", "group": null, "state": "running",
                "done": false, "attempt": 1, "max_attempts": 2, "created_at": "C", "run_at": "R",
                "finished_at": null, "expires_at": null, "progress": progress, "result": null,
            });
            let job: Job = serde_json::from_value(job).unwrap();
            let line = format!("  progress  {shown}\n");
            assert!(describe(&job).contains(&line), "{}", describe(&job));
        }
    }
}
