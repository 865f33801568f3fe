//! What the bodies of calls about leases say. Everything wrong with one is told at once.

use super::super::App;
use super::super::body::{self, Room};
use super::super::limits::{EXTENSION_BYTES_MAX, LEASE_NAMES_MAX};
use super::super::members::{Wrong, no, read_object};
use super::super::problem::{FieldError, Kind, Problem};
use super::super::submit::span;
use anteroom::core::limits::{
    AHEAD_MAX, CLAIM_JOBS_MAX, LEASE_DEFAULT, LEASE_MAX, LEASE_MIN, REPORTS_KEPT_MAX,
};
use anteroom::core::{Label, LogStream, Name, Progress, Report};
use anteroom::run::RetryHint;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use serde_json::value::RawValue;
use std::time::Duration;

/// What a call for leases asks for.
#[derive(Debug)]
pub(super) struct LeaseAsked {
    /// None: all that are left to workers.
    pub(super) tasks: Option<Vec<Name>>,
    pub(super) queues: Option<Vec<Name>>,
    pub(super) max: usize,
    pub(super) lease_for: Duration,
    pub(super) worker: Option<Label>,
}

/// What a failed attempt says.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) retry: RetryHint,
}

/// What an attempt says that goes on.
#[derive(Debug)]
pub(super) struct Extension {
    pub(super) lease_for: Duration,
    pub(super) reports: Vec<Report>,
}

/// Receives a small JSON body, with the room that it takes up; none at all is an empty object.
pub(super) async fn receive(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, Room), Problem> {
    let content_type = body::content_type(headers)?;
    let is_named = headers.contains_key(header::CONTENT_TYPE);
    if is_named && !body::is_json(content_type) {
        let detail = format!("this call takes application/json, not {content_type}");
        return Err(Problem::new(Kind::UnsupportedMediaType, detail));
    }
    let (bytes, room) = body::receive(body, EXTENSION_BYTES_MAX, &app.buffered).await?;
    if bytes.is_empty() {
        return Ok((Bytes::from_static(b"{}"), room));
    }
    if !is_named {
        let detail = "this call takes application/json; say so in Content-Type";
        return Err(Problem::new(Kind::UnsupportedMediaType, detail));
    }
    body::check_json(&bytes)?;
    Ok((bytes, room))
}

/// Reads what a call for leases asks for.
pub(super) fn lease(bytes: &[u8]) -> Result<LeaseAsked, Problem> {
    let mut asked = LeaseAsked {
        tasks: None,
        queues: None,
        max: 1,
        lease_for: LEASE_DEFAULT,
        worker: None,
    };
    let takes = "tasks, queues, max, lease and worker";
    let wrong = read_object(bytes, &[], takes, |name, value, at, wrong| {
        let read = match name {
            "tasks" => names(value, at, wrong).map(|it| asked.tasks = it),
            "queues" => names(value, at, wrong).map(|it| asked.queues = it),
            "max" => max(value).map(|it| asked.max = it),
            "lease" => lease_for(value).map(|it| asked.lease_for = it),
            "worker" => worker(value).map(|it| asked.worker = it),
            _ => return None,
        };
        Some(read)
    });
    done(asked, wrong)
}

/// Reads why an attempt failed.
pub(super) fn failure(bytes: &[u8]) -> Result<Failure, Problem> {
    let mut failing = Failing::default();
    let takes = "error, retry and retry_after";
    let wrong = read_object(bytes, &[], takes, |name, value, _at, _wrong| {
        failing.read(name, value)
    });
    match failing.finish() {
        Ok(failure) => done(failure, wrong),
        Err((member, detail)) => {
            let mut wrong = wrong;
            if !wrong.iter().any(|error| error.pointer == "#") {
                wrong.push(FieldError::of(&[member], detail));
            }
            Err(Problem::members(wrong))
        }
    }
}

/// The members of a failure, being read.
#[derive(Debug, Default)]
pub(super) struct Failing {
    message: Option<String>,
    /// The members that were wrong by themselves.
    has_message: bool,
    retry: Option<bool>,
    retry_after: Option<Duration>,
}

impl Failing {
    /// Reads a member, if it is one of a failure.
    pub(super) fn read(&mut self, name: &str, value: &str) -> Option<Result<(), String>> {
        Some(match name {
            "error" => {
                self.has_message = true;
                text(value).map(|it| self.message = Some(it))
            }
            "retry" => truth(value).map(|it| self.retry = it),
            "retry_after" => wait(value).map(|it| self.retry_after = it),
            _ => return None,
        })
    }

    /// Tells whether any member of a failure was given.
    pub(super) const fn is_given(&self) -> bool {
        self.has_message || self.retry.is_some() || self.retry_after.is_some()
    }

    /// Returns the failure, or the member that is wrong beside the others, and why.
    pub(super) fn finish(self) -> Result<Failure, (&'static str, &'static str)> {
        let retry = match (self.retry, self.retry_after) {
            (Some(false), Some(_)) => {
                let detail = "says when to try again, and retry is false; give one of them";
                return Err(("retry_after", detail));
            }
            (Some(false), None) => RetryHint::Never,
            (_, Some(wait)) => RetryHint::After(wait),
            (_, None) => RetryHint::ByPolicy,
        };
        match self.message {
            Some(message) => Ok(Failure { message, retry }),
            None if self.has_message => Ok(Failure {
                message: String::new(),
                retry,
            }),
            None => Err(("error", "is missing; it says what went wrong")),
        }
    }
}

/// Reads what an attempt says that goes on.
pub(super) fn extension(bytes: &[u8]) -> Result<Extension, Problem> {
    let mut extending = Extending::default();
    let takes = "lease, progress and log";
    let wrong = read_object(bytes, &[], takes, |name, value, at, wrong| match name {
        "lease" => Some(lease_for(value).map(|it| extending.lease_for = Some(it))),
        _ => extending.read(name, value, at, wrong),
    });
    done(extending.finish(), wrong)
}

/// The members of what an attempt says that goes on, being read.
#[derive(Debug, Default)]
pub(super) struct Extending {
    pub(super) lease_for: Option<Duration>,
    progress: Option<Progress>,
    log: Vec<Report>,
}

impl Extending {
    /// Reads a member, if it is one of what an attempt says.
    pub(super) fn read(
        &mut self,
        name: &str,
        value: &str,
        at: &[&str],
        wrong: &mut Wrong,
    ) -> Option<Result<(), String>> {
        Some(match name {
            "progress" => {
                self.progress = progress(value, at, wrong);
                Ok(())
            }
            "log" => log(value, at, wrong).map(|it| self.log = it),
            _ => return None,
        })
    }

    /// Tells whether any of it was given.
    pub(super) const fn is_given(&self) -> bool {
        self.lease_for.is_some() || self.progress.is_some() || !self.log.is_empty()
    }

    pub(super) fn finish(self) -> Extension {
        let mut reports = self.log;
        reports.extend(self.progress.map(Report::Progress));
        Extension {
            lease_for: self.lease_for.unwrap_or(LEASE_DEFAULT),
            reports,
        }
    }
}

fn done<T>(asked: T, wrong: Wrong) -> Result<T, Problem> {
    if wrong.is_empty() {
        Ok(asked)
    } else {
        Err(Problem::members(wrong))
    }
}

/// Reads a list of names; none: any.
fn names(value: &str, at: &[&str], wrong: &mut Wrong) -> Result<Option<Vec<Name>>, String> {
    let list = serde_json::from_str::<Option<Vec<&RawValue>>>(value);
    let Some(list) = list.map_err(|_| no("list of names", value))? else {
        return Ok(None);
    };
    if list.is_empty() {
        return Err("is empty; leave it out for all of them".to_owned());
    }
    if list.len() > LEASE_NAMES_MAX {
        let names = list.len();
        return Err(format!("has {names} names; the limit is {LEASE_NAMES_MAX}"));
    }
    let mut names = Vec::with_capacity(list.len());
    for (index, item) in list.into_iter().enumerate() {
        match text(item.get()).and_then(|text| Name::new(&text).map_err(|it| it.to_string())) {
            Ok(name) => names.push(name),
            Err(detail) => {
                let index = index.to_string();
                wrong.push(FieldError::of(&[at, &[&index]].concat(), detail));
            }
        }
    }
    // Each is looked up, and once is enough.
    names.sort_unstable();
    names.dedup();
    Ok(Some(names))
}

fn max(value: &str) -> Result<usize, String> {
    match serde_json::from_str(value) {
        Ok(max) if (1..=CLAIM_JOBS_MAX).contains(&max) => Ok(max),
        Ok(_) | Err(_) => {
            let what = format!("whole number from 1 to {CLAIM_JOBS_MAX}");
            Err(no(&what, value))
        }
    }
}

/// Reads the length of a lease.
pub(super) fn lease_for(value: &str) -> Result<Duration, String> {
    let text = serde_json::from_str::<String>(value);
    let text = text.map_err(|_| no("duration such as \"30s\"", value))?;
    span(&text, LEASE_MIN..=LEASE_MAX)
}

fn worker(value: &str) -> Result<Option<Label>, String> {
    let text = serde_json::from_str::<Option<String>>(value);
    match text.map_err(|_| no("string", value))? {
        None => Ok(None),
        Some(text) => Label::new(&text)
            .map(Some)
            .map_err(|error| error.to_string()),
    }
}

fn text(value: &str) -> Result<String, String> {
    serde_json::from_str(value).map_err(|_| no("string", value))
}

fn truth(value: &str) -> Result<Option<bool>, String> {
    serde_json::from_str(value).map_err(|_| no("boolean", value))
}

fn wait(value: &str) -> Result<Option<Duration>, String> {
    let text = serde_json::from_str::<Option<String>>(value);
    let text = text.map_err(|_| no("duration such as \"10s\"", value))?;
    text.map(|text| span(&text, Duration::ZERO..=AHEAD_MAX))
        .transpose()
}

fn progress(value: &str, at: &[&str], wrong: &mut Wrong) -> Option<Progress> {
    if value == "null" {
        return None;
    }
    let (mut fraction, mut message) = (None, None);
    let takes = "fraction and message";
    let found = read_object(value.as_bytes(), at, takes, |name, value, _at, _wrong| {
        Some(match name {
            "fraction" => self::fraction(value).map(|it| fraction = it),
            "message" => serde_json::from_str::<Option<String>>(value)
                .map(|it| message = it)
                .map_err(|_| no("string", value)),
            _ => return None,
        })
    });
    wrong.extend(found);
    Progress::new(fraction, message)
}

fn fraction(value: &str) -> Result<Option<f64>, String> {
    match serde_json::from_str::<Option<f64>>(value) {
        Ok(None) => Ok(None),
        Ok(Some(fraction)) if (0.0..=1.0).contains(&fraction) => Ok(Some(fraction)),
        Ok(Some(_)) | Err(_) => Err(no("number from 0 to 1", value)),
    }
}

/// Reads lines of a log.
fn log(value: &str, at: &[&str], wrong: &mut Wrong) -> Result<Vec<Report>, String> {
    let list = serde_json::from_str::<Option<Vec<&RawValue>>>(value);
    let list = list.map_err(|_| no("list of lines", value))?;
    let list = list.unwrap_or_default();
    if list.len() > REPORTS_KEPT_MAX {
        let lines = list.len();
        return Err(format!(
            "has {lines} lines; the limit is {REPORTS_KEPT_MAX}"
        ));
    }
    let mut reports = Vec::with_capacity(list.len());
    for (index, item) in list.into_iter().enumerate() {
        match text(item.get()) {
            Ok(text) => {
                let lines = text.lines().map(|line| Report::log(LogStream::Log, line));
                reports.extend(lines);
            }
            Err(detail) => {
                let index = index.to_string();
                wrong.push(FieldError::of(&[at, &[&index]].concat(), detail));
            }
        }
    }
    Ok(reports)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers<T: std::fmt::Debug>(read: Result<T, Problem>) -> Vec<String> {
        let problem = read.unwrap_err();
        let errors = problem.errors().iter();
        errors.map(|error| error.pointer.clone()).collect()
    }

    #[test]
    fn an_empty_call_asks_for_one_job_of_any_task() {
        let asked = lease(b"{}").unwrap();
        assert_eq!((asked.tasks, asked.queues), (None, None));
        assert_eq!((asked.max, asked.lease_for), (1, LEASE_DEFAULT));
    }

    #[test]
    fn everything_wrong_with_a_call_for_leases_is_told() {
        for (body, expected) in [
            ("[]", &["#"][..]),
            (r#"{"task": "a"}"#, &["#/task"]),
            (r#"{"tasks": []}"#, &["#/tasks"]),
            (r#"{"tasks": "a"}"#, &["#/tasks"]),
            (r#"{"tasks": ["a", "B", 1]}"#, &["#/tasks/1", "#/tasks/2"]),
            (r#"{"queues": [""]}"#, &["#/queues/0"]),
            (r#"{"max": 0}"#, &["#/max"]),
            (r#"{"max": 1001}"#, &["#/max"]),
            (r#"{"max": 1.5}"#, &["#/max"]),
            (r#"{"max": "1"}"#, &["#/max"]),
            (r#"{"lease": "999ms"}"#, &["#/lease"]),
            (r#"{"lease": "61m"}"#, &["#/lease"]),
            (r#"{"lease": 30}"#, &["#/lease"]),
            (r#"{"worker": ""}"#, &["#/worker"]),
            (r#"{"worker": "a\nb", "max": 0}"#, &["#/worker", "#/max"]),
            (r#"{"max": 1, "max": 1}"#, &["#/max"]),
        ] {
            assert_eq!(pointers(lease(body.as_bytes())), expected, "{body}");
        }
    }

    #[test]
    fn a_failure_says_why_and_whether_to_try_again() {
        for (body, message, retry) in [
            (r#"{"error": "x"}"#, "x", RetryHint::ByPolicy),
            (r#"{"error": "", "retry": true}"#, "", RetryHint::ByPolicy),
            (r#"{"error": "x", "retry": false}"#, "x", RetryHint::Never),
            (
                r#"{"error": "x", "retry_after": "10s"}"#,
                "x",
                RetryHint::After(Duration::from_secs(10)),
            ),
        ] {
            let failure = failure(body.as_bytes()).unwrap();
            assert_eq!(
                (&*failure.message, failure.retry),
                (message, retry),
                "{body}"
            );
        }
        for (body, expected) in [
            ("{}", &["#/error"][..]),
            ("5", &["#"]),
            (r#"{"error": 5}"#, &["#/error"]),
            (r#"{"error": "x", "retry": "no"}"#, &["#/retry"]),
            (
                r#"{"error": "x", "retry_after": "-1s"}"#,
                &["#/retry_after"],
            ),
            (
                r#"{"error": "x", "retry": false, "retry_after": "1s"}"#,
                &["#/retry_after"],
            ),
        ] {
            assert_eq!(pointers(failure(body.as_bytes())), expected, "{body}");
        }
    }

    #[test]
    fn an_extension_may_say_how_far_the_attempt_has_come() {
        let body = r#"{"lease": "1m", "progress": {"fraction": 0.5}, "log": ["a\nb", "c"]}"#;
        let asked = extension(body.as_bytes()).unwrap();
        assert_eq!(asked.lease_for, Duration::from_mins(1));
        assert_eq!(asked.reports.len(), 4);
        let nothing = extension(b"{}").unwrap();
        assert_eq!(
            (nothing.lease_for, nothing.reports.len()),
            (LEASE_DEFAULT, 0)
        );
        let many = format!("{{\"log\": [{}\"\"]}}", "\"\",".repeat(REPORTS_KEPT_MAX));
        for (body, expected) in [
            (
                r#"{"progress": {"fraction": 1.5}}"#,
                &["#/progress/fraction"][..],
            ),
            (r#"{"progress": {"part": 1}}"#, &["#/progress/part"]),
            (r#"{"progress": 0.5}"#, &["#/progress"]),
            (r#"{"log": "a"}"#, &["#/log"]),
            (r#"{"log": ["a", 1]}"#, &["#/log/1"]),
            (&many, &["#/log"]),
        ] {
            assert_eq!(pointers(extension(body.as_bytes())), expected, "{body}");
        }
    }
}
