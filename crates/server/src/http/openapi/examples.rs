//! Examples of what goes over the wire. Tests hold them to the schemas.

use super::MOUNT;
use crate::http::problem::Kind;
use serde_json::{Value, json};

const ID: &str = "019aaa2e-7c00-7000-8000-3f0c5a1b2c3d";

/// Returns a job that was just submitted.
pub(super) fn job_ready() -> Value {
    let itself = format!("{MOUNT}/v1/jobs/{ID}");
    json!({
        "id": ID, "task": "wordcount", "queue": "default", "group": null, "priority": 5,
        "state": "ready", "done": false, "attempt": 0, "max_attempts": 5, "timeout": "30s",
        "created_at": "2026-11-22T12:00:00.000Z", "run_at": "2026-11-22T12:00:00.000Z",
        "start_before": null, "started_at": null, "finished_at": null, "expires_at": null,
        "unique_key": null, "callback_url": null,
        "input": {"content_type": "text/plain", "bytes": 5},
        "result": null, "error": null, "errors": [], "progress": null,
        "waiting": {
            "position": 12, "exact": true, "eta": "3.2s",
            "reasons": ["all 4 slots of task wordcount on this node are busy", "12 jobs are ahead of it"],
        },
        "cancel_requested": false, "tags": {"customer": "acme"},
        "links": {
            "self": itself, "result": format!("{itself}/result"),
            "input": format!("{itself}/input"), "events": format!("{itself}/events"),
            "cancel": format!("{itself}/cancel"),
        },
    })
}

/// Returns the same job with other members.
fn job_with(members: Value) -> Value {
    let mut job = job_ready();
    job["waiting"] = Value::Null;
    if let (Some(job), Value::Object(members)) = (job.as_object_mut(), members) {
        job.extend(members);
    }
    job
}

pub(super) fn job_running() -> Value {
    job_with(json!({
        "state": "running", "attempt": 1, "started_at": "2026-11-22T12:00:00.012Z",
    }))
}

/// Returns a running job whose attempt was told to stop.
pub(super) fn job_stopping() -> Value {
    job_with(json!({
        "state": "running", "attempt": 1, "started_at": "2026-11-22T12:00:00.012Z",
        "cancel_requested": true,
    }))
}

pub(super) fn job_cancelled() -> Value {
    job_with(json!({
        "state": "cancelled", "done": true, "finished_at": "2026-11-22T12:00:01.000Z",
        "expires_at": "2026-11-23T12:00:01.000Z",
    }))
}

pub(super) fn job_succeeded() -> Value {
    job_with(json!({
        "state": "succeeded", "done": true, "attempt": 1,
        "started_at": "2026-11-22T12:00:00.012Z", "finished_at": "2026-11-22T12:00:00.052Z",
        "expires_at": "2026-11-23T12:00:00.052Z",
        "result": {"content_type": "text/plain", "bytes": 2},
    }))
}

/// Returns a page of a list.
pub(super) fn page() -> Value {
    let mut job = job_succeeded();
    if let Some(job) = job.as_object_mut() {
        job.remove("errors");
        job.remove("waiting");
    }
    json!({"jobs": [job], "next_page_token": null})
}

pub(super) fn task() -> Value {
    let itself = format!("{MOUNT}/v1/tasks/wordcount");
    json!({
        "name": "wordcount", "runner": "exec", "queue": "default", "timeout": "30s",
        "max_attempts": 5,
        "backoff": {"initial": "1s", "factor": 2.0, "max": "1h", "jitter": 0.1},
        "concurrency": 4, "content_type": null, "schema": null,
        "counts": {"scheduled": 0, "ready": 3, "running": 1},
        "links": {
            "self": itself, "jobs": format!("{itself}/jobs"), "call": format!("{itself}/call"),
        },
    })
}

pub(super) fn queue() -> Value {
    json!({
        "name": "default", "paused": false,
        "depth": {"scheduled": 0, "ready": 12, "running": 4}, "oldest_ready_age": "3.2s",
        "rates": {
            "submitted_per_second": 1.5, "started_per_second": 1.3, "finished_per_second": 1.28,
        },
        "limits": {
            "max_concurrency": 8, "rate_limit": {"limit": 100, "period": "1s"},
            "max_depth": 1_000_000, "group_concurrency": null,
        },
        "links": {
            "self": format!("{MOUNT}/v1/queues/default"),
            "jobs": format!("{MOUNT}/v1/jobs?queue=default"),
        },
    })
}

const LEASE: &str = "AZqqLnwAcACAAD8MWhssPQAAAQAAAAABAAABmqouiAi3h0p2v1kYdXoNlhkKqPyE";

pub(super) fn lease() -> Value {
    json!({
        "lease": LEASE, "claim": 1_099_511_627_777_u64, "expires_at": "2026-11-22T12:00:30.012Z",
        "job": job_running(), "input_base64": "YSBiIGM=", "content_type": "text/plain",
    })
}

pub(super) fn held_lease() -> Value {
    json!({"expires_at": "2026-11-22T12:00:40.000Z", "cancel_requested": false})
}

pub(super) fn settle() -> Value {
    json!({"lease": LEASE, "action": "complete", "result": {"words": 3}})
}

pub(super) fn settle_result() -> Value {
    json!({"lease": LEASE, "status": 200})
}

pub(super) fn envelope() -> Value {
    json!({
        "task": "wordcount", "input_base64": "YSBiIGM=", "content_type": "text/plain",
        "priority": 2, "delay": "90s", "tags": {"user": "ann"}, "idempotency_key": "order 7",
    })
}

pub(super) fn schedule_put() -> Value {
    json!({
        "task": "wordcount", "cron": "0 3 * * *", "timezone": "Europe/Berlin",
        "input_base64": "YSBiIGM=", "content_type": "text/plain", "catch_up": "last",
    })
}

pub(super) fn schedule() -> Value {
    let itself = format!("{MOUNT}/v1/schedules/nightly");
    json!({
        "name": "nightly", "task": "wordcount", "cron": "0 3 * * *",
        "timezone": "Europe/Berlin", "paused": false, "catch_up": "last",
        "input_base64": "YSBiIGM=", "content_type": "text/plain", "queue": null, "group": null,
        "priority": null, "delay": null, "max_attempts": null, "timeout": null, "retain": null,
        "unique_key": null, "callback_url": null, "tags": {}, "defined_in": "api",
        "next_at": "2026-11-23T02:00:00.000Z", "last_at": "2026-11-22T02:00:00.000Z",
        "last_job": ID, "last_error": null,
        "links": {
            "self": itself, "trigger": format!("{itself}/trigger"),
            "preview": format!("{itself}/preview"), "last_job": format!("{MOUNT}/v1/jobs/{ID}"),
        },
    })
}

pub(super) fn schedule_in_list() -> Value {
    let mut schedule = schedule();
    if let Some(schedule) = schedule.as_object_mut() {
        schedule.remove("input_base64");
    }
    schedule
}

pub(super) fn submitted() -> Value {
    json!({"id": ID, "state": "scheduled", "duplicate": false})
}

pub(super) fn root() -> Value {
    json!({
        "message": "Anteroom takes jobs", "version": env!("CARGO_PKG_VERSION"),
        "links": {
            "self": format!("{MOUNT}/"), "tasks": format!("{MOUNT}/v1/tasks"),
            "jobs": format!("{MOUNT}/v1/jobs"), "queues": format!("{MOUNT}/v1/queues"),
            "schedules": format!("{MOUNT}/v1/schedules"),
            "live": format!("{MOUNT}/livez"),
            "ready": format!("{MOUNT}/readyz"), "openapi": format!("{MOUNT}/openapi.json"),
            "docs": format!("{MOUNT}/docs"), "metrics": format!("{MOUNT}/metrics"),
        },
    })
}

/// Returns what a problem of a kind says, for instance.
pub(super) fn detail_of(kind: Kind) -> String {
    let detail = match kind {
        Kind::UnknownTask => "there is no task wordcuont",
        Kind::UnknownQueue => "anteroom.callback begins with what the server keeps for itself",
        Kind::UnknownSchedule => "there is no schedule nighlty",
        Kind::TooManySchedules => {
            "there are 1000 schedules, which is the limit; s1000 is not one of them"
        }
        Kind::DefinedInConfiguration => {
            "schedule nightly is defined in the configuration; change it there"
        }
        Kind::TooManyQueues => "queue q1001 would have to be made, and 1000 were",
        Kind::QueueFull => "queue default has 1000 jobs waiting; the limit is 1000",
        Kind::UnknownJob => return format!("there is no job {ID}"),
        Kind::JobExpired => return format!("job {ID} was deleted, or its retention is over"),
        Kind::UnknownRoute => "there is nothing at /nowhere",
        Kind::MethodNotAllowed => "/v1/jobs does not take PUT; the field Allow says what it takes",
        Kind::MalformedRequest => "the body broke off",
        Kind::MalformedPath => "the path is not UTF-8 once it is decoded",
        Kind::MalformedJson => "the body is not JSON: expected value at line 1 column 7",
        Kind::InvalidParameter => "priority is 11; it is from 0 to 9",
        Kind::InvalidBody => "#/priority is 11; it is from 0 to 9",
        Kind::InvalidInput => "#/width \"wide\" is not of type \"integer\"",
        Kind::NotWaiting => {
            return format!("job {ID} is running; only a waiting job can be changed");
        }
        Kind::UniqueKeyTaken => {
            return format!("another unfinished job of the task has the unique key of job {ID}");
        }
        Kind::IdempotencyKeyReused => {
            "the Idempotency-Key was used for something else; take a new key for other work"
        }
        Kind::PayloadTooLarge => "the body is 2097152 bytes; the limit is 1048576 bytes",
        Kind::UnsupportedMediaType => {
            "Content-Type is \"text\", which is no media type such as text/plain"
        }
        Kind::RangeNotSatisfiable => "there are 2 bytes; the range begins beyond them",
        Kind::UriTooLong => "the path and query are 9000 bytes; the limit is 8192",
        Kind::HeadersTooLarge => "the head is larger than 65536 bytes",
        Kind::JobFailed => return format!("job {ID} failed: error: exit status 1"),
        Kind::JobTimedOut => return format!("job {ID} failed: timeout: it ran longer than 30s"),
        Kind::JobCancelled => return format!("job {ID} was cancelled"),
        Kind::AlreadySucceeded => {
            return format!("job {ID} has its result; submit the work again instead");
        }
        Kind::NothingToRetry => return format!("job {ID}: it is running"),
        Kind::NotFinal => return format!("job {ID} is running; cancel it first"),
        Kind::VersionDiffers => {
            return format!("job {ID} has changed since it was read; read it again");
        }
        Kind::Draining => "the server is shutting down and takes no more jobs; try again later",
        Kind::TooLate => {
            "about 99 jobs start before it, so that it would start in 1m40s; start_before is in 20s; \
             nothing was stored"
        }
        Kind::StoreUnavailable => "the store cannot be used just now; try again later",
        Kind::Overloaded => "too many bodies are being received; try again later",
        Kind::Unauthorized => "this needs a token: Authorization: Bearer …",
        Kind::Forbidden => "the token web covers submit, read; this needs admin",
        Kind::RateLimited => {
            "the token may submit 600 jobs in 60 s, and has; there is room again in 1 s"
        }
        Kind::CrossSite => "the server listens on loopback, and Host is no loopback name",
        Kind::CallbackRefused => {
            "callbacks may not go to http://10.0.0.1/: 10.0.0.1 is a private address"
        }
        Kind::NotSupported => "this server sends no callbacks; nothing was stored",
        Kind::RequestTimeout => "the body did not come in time",
        Kind::NotAPullTask => "wordcount is no task that is left to workers",
        Kind::LeaseLost => {
            "the lease ran out, was settled otherwise, belongs to an earlier attempt or another \
             token, or is none of this server's"
        }
        Kind::InternalError => "the server made a mistake, and has logged it",
    };
    detail.to_owned()
}

/// Returns the path that a problem of a kind is about, for instance.
pub(super) fn instance_of(kind: Kind) -> String {
    match kind {
        Kind::UnknownTask => "/v1/tasks/wordcuont/jobs".to_owned(),
        Kind::UnknownRoute => "/nowhere".to_owned(),
        Kind::Draining => "/v1/tasks/wordcount/jobs".to_owned(),
        Kind::InvalidParameter | Kind::UnknownQueue => "/v1/tasks/wordcount/jobs".to_owned(),
        Kind::MethodNotAllowed => "/v1/jobs".to_owned(),
        Kind::JobFailed | Kind::JobCancelled | Kind::RangeNotSatisfiable => {
            format!("/v1/jobs/{ID}/result")
        }
        Kind::JobTimedOut => "/v1/tasks/wordcount/call".to_owned(),
        Kind::AlreadySucceeded | Kind::NothingToRetry => format!("/v1/jobs/{ID}/retry"),
        Kind::UniqueKeyTaken => format!("/v1/jobs/{ID}/retry"),
        Kind::UnknownJob
        | Kind::JobExpired
        | Kind::NotFinal
        | Kind::NotWaiting
        | Kind::InvalidBody
        | Kind::NotSupported
        | Kind::VersionDiffers => format!("/v1/jobs/{ID}"),
        _ => "/v1/tasks/wordcount/jobs".to_owned(),
    }
}

/// Returns the members that a problem of a kind has beside the usual.
pub(super) fn members_of(kind: Kind) -> Value {
    match kind {
        Kind::InvalidParameter => json!({
            "errors": [{"detail": "is 11; it is from 0 to 9", "parameter": "priority"}],
        }),
        Kind::InvalidBody => json!({
            "errors": [{"detail": "is 11; it is from 0 to 9", "pointer": "#/priority"}],
        }),
        Kind::InvalidInput => json!({
            "errors": [{"detail": "\"wide\" is not of type \"integer\"", "pointer": "#/width"}],
        }),
        Kind::MalformedJson => json!({"line": 1, "column": 7}),
        Kind::JobFailed => json!({"job": ID, "error": {
            "attempt": 5, "at": "2026-11-22T12:00:31.000Z", "kind": "error",
            "message": "exit status 1",
        }}),
        Kind::JobTimedOut => json!({"job": ID, "error": {
            "attempt": 5, "at": "2026-11-22T12:02:31.000Z", "kind": "timeout",
            "message": "it ran longer than 30s",
        }}),
        Kind::JobCancelled
        | Kind::AlreadySucceeded
        | Kind::NothingToRetry
        | Kind::NotWaiting
        | Kind::NotFinal => {
            json!({"job": ID})
        }
        _ => json!({}),
    }
}
