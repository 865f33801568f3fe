//! Handing jobs in, described.

use super::examples;
use super::operation::{Call, Reply, any_body};
use super::parts::{Field, idempotency_key, path_task, prefer, submit_options};
use super::schemas::Job;
use crate::http::problem::Kind;
use serde_json::{Value, json};
use utoipa::openapi::request_body::RequestBody;

/// Fields of the answers that a wait can bring about.
pub(super) const PREFERRED: [Field; 2] = [Field::Vary, Field::PreferenceApplied];

/// What is wrong with a submit.
const OF_SUBMITS: [Kind; 12] = [
    Kind::MalformedJson,
    Kind::UnknownTask,
    Kind::UnknownQueue,
    Kind::PayloadTooLarge,
    Kind::UnsupportedMediaType,
    // The job of the `Idempotency-Key`; and of a call, one that is retained for no time at all.
    Kind::JobExpired,
    Kind::IdempotencyKeyReused,
    Kind::TooManyQueues,
    Kind::QueueFull,
    Kind::NotSupported,
    Kind::Draining,
    Kind::Overloaded,
];

/// What can follow a submit.
pub(super) const NEXT: [(&str, &str); 4] = [
    ("getJob", "How it is."),
    ("getJobResult", "What it returned."),
    ("getJobInput", "What it was given."),
    ("cancelJob", "Stops it."),
];

pub(super) fn calls() -> Vec<Call> {
    vec![submit(), call()]
}

fn submit() -> Call {
    let mut call = Call::post("submitJob", "/v1/tasks/{task}/jobs")
        .says(
            "Submit",
            "Hand a job in",
            "The body is the input, of any content type, and is stored and handed on byte for byte. \
             `application/json` is checked to be JSON. The answer is sent once the job is durable; \
             with `Prefer: wait=N` it is held until the job is done, for N seconds at most.\n\n\
             Where the answer was lost, send it again with the same `Idempotency-Key`: it is one \
             job.",
        )
        .takes(path_task())
        .takes(submit_options())
        .takes(prefer())
        .takes(idempotency_key())
        .body(input())
        .replies(
            200,
            Reply::new(
                "With `Prefer: wait=N`: it is done; look at `state`, as it may have failed. Or, with \
                 `duplicate` true: an unfinished job of the task has the `unique_key`, and this is \
                 it; nothing was stored.",
            )
            .json::<Job>(examples::job_succeeded())
            .fields(&[
                Field::CacheControl,
                Field::IdempotencyReplayed,
                Field::RetryAfter,
            ])
            .fields(&PREFERRED)
            .leads_to(&NEXT),
        )
        .replies(202, accepted())
        .problems(&OF_SUBMITS)
        .problem_at(422, Kind::UnknownQueue);
    call.callbacks = true;
    call
}

fn call() -> Call {
    Call::post("callTask", "/v1/tasks/{task}/call")
        .says(
            "Submit",
            "Hand a job in and wait for its raw result",
            "Takes what a submit takes, and waits for the result: 30 s, or what `Prefer: wait=N` \
             says. For where a person waits and the work is short. A client that gives up does not \
             cancel the job.",
        )
        .takes(path_task())
        .takes(submit_options())
        .takes(prefer())
        .takes(idempotency_key())
        .body(input())
        .replies(
            200,
            Reply::new("The raw result, with its content type.")
                .bytes()
                .fields(&[
                    Field::AnteroomJob,
                    Field::IdempotencyReplayed,
                    Field::CacheControl,
                    Field::ContentLength,
                    Field::ContentSecurityPolicy,
                ])
                .fields(&PREFERRED),
        )
        .replies(202, accepted().fields(&[Field::AnteroomJob]))
        .problems(&OF_SUBMITS)
        .problem_at(422, Kind::UnknownQueue)
        .problems(&[Kind::JobCancelled, Kind::JobTimedOut])
        .problem_at(502, Kind::JobFailed)
        .fields_at(
            &[409, 410, 502, 504],
            &[Field::AnteroomJob, Field::IdempotencyReplayed],
        )
        .fields_at(&[409, 410, 502, 504], &PREFERRED)
}

/// Describes what a submit is answered with.
pub(super) fn accepted() -> Reply {
    Reply::new("The job is durable. Ask at `Location` after `Retry-After`, or with a wait.")
        .json::<Job>(examples::job_ready())
        .fields(&[
            Field::Location,
            Field::RetryAfter,
            Field::CacheControl,
            Field::IdempotencyReplayed,
        ])
        .fields(&PREFERRED)
        .leads_to(&NEXT)
}

fn input() -> RequestBody {
    any_body(
        "The input, of any content type; without one it is `application/octet-stream`. At most \
         `max_input` bytes (1 MiB unless the operator says otherwise). JSON nests at most 128 deep.",
        &[
            ("application/json", json!({"text": "a b c"})),
            ("text/plain", Value::from("a b c")),
            ("application/octet-stream", Value::from("a b c")),
        ],
    )
}
