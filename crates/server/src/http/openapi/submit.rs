//! Handing jobs in, described.

use super::examples;
use super::operation::{Call, Reply, any_body, anything};
use super::parts::{Field, idempotency_key, path_task, prefer, submit_options};
use super::schema_of;
use super::schemas::{Envelope, Job, SubmittedJobs};
use crate::http::problem::Kind;
use anteroom::core::limits::SUBMIT_JOBS_MAX;
use serde_json::{Value, json};
use utoipa::openapi::Required;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{ArrayBuilder, OneOfBuilder};

/// Fields of the answers that a wait can bring about.
pub(super) const PREFERRED: [Field; 2] = [Field::Vary, Field::PreferenceApplied];

/// What is wrong with a submit.
const OF_SUBMITS: [Kind; 15] = [
    Kind::InvalidInput,
    Kind::MalformedJson,
    Kind::UnknownTask,
    Kind::UnknownQueue,
    Kind::PayloadTooLarge,
    Kind::UnsupportedMediaType,
    // The job of the `Idempotency-Key`; and of a call, one that is retained for no time at all.
    Kind::JobExpired,
    Kind::IdempotencyKeyReused,
    Kind::TooManyQueues,
    Kind::CallbackRefused,
    Kind::QueueFull,
    Kind::NotSupported,
    Kind::Draining,
    Kind::TooLate,
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
    vec![submit(), call(), submit_many()]
}

fn submit_many() -> Call {
    Call::post("submitJobs", "/v1/jobs")
        .says(
            "Submit",
            "Hand many jobs in",
            "An envelope, or an array of up to 10,000: all or nothing, in one durable commit. As \
             `application/x-ndjson` a stream without end: an envelope a line in, and for each, in \
             order, what became of it or a problem out, while the stream goes on. Read the answers \
             while you send.\n\n\
             `errors` points at the element that is wrong: `#/2/task` in an array, `#/task` in a \
             single envelope.",
        )
        .takes(idempotency_key())
        .body(envelopes())
        .replies(
            202,
            Reply::new("All jobs are durable.")
                .json::<SubmittedJobs>(json!({"jobs": [examples::submitted()]}))
                .fields(&[Field::CacheControl, Field::IdempotencyReplayed]),
        )
        .replies(
            200,
            Reply::new("Of a stream: a line for each line, what became of it or a problem.")
                .content("application/x-ndjson", anything())
                .fields(&[Field::CacheControl]),
        )
        .problems(&[
            Kind::MalformedJson,
            Kind::JobExpired,
            Kind::PayloadTooLarge,
            Kind::UnsupportedMediaType,
            Kind::InvalidBody,
            Kind::InvalidInput,
            Kind::IdempotencyKeyReused,
            Kind::TooManyQueues,
            Kind::CallbackRefused,
            Kind::QueueFull,
            Kind::NotSupported,
            Kind::Draining,
            Kind::TooLate,
            Kind::Overloaded,
        ])
        .problem_at(422, Kind::UnknownTask)
        .problem_at(422, Kind::UnknownQueue)
        .problem_at(422, Kind::UnsupportedMediaType)
        .problem_at(422, Kind::PayloadTooLarge)
        .problem_at(422, Kind::JobExpired)
        .fields_at(&[415], &[Field::AcceptPost])
}

fn envelopes() -> RequestBody {
    let many = ArrayBuilder::new()
        .items(schema_of::<Envelope>())
        .min_items(Some(1))
        .max_items(Some(SUBMIT_JOBS_MAX));
    let either = OneOfBuilder::new().item(schema_of::<Envelope>()).item(many);
    let content = ContentBuilder::new()
        .schema(Some(either))
        .example(Some(json!([examples::envelope()])))
        .build();
    RequestBodyBuilder::new()
        .description(Some(
            "One envelope or an array of them, at most `max_bulk` bytes (64 MiB unless the operator \
             says otherwise); or a stream, a line each.",
        ))
        .content("application/json", content)
        .content("application/x-ndjson", anything())
        .required(Some(Required::True))
        .build()
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
