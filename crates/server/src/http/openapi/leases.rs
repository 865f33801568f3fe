//! Workers that pull, described.

use super::examples;
use super::operation::{Call, Reply, any_body, json_body};
use super::parts::{Field, path_lease, prefer};
use super::schema_of;
use super::schemas::{
    Extension, HeldLease, Job, LeaseFailure, LeaseList, LeaseRequest, Settle, SettleResults,
};
use super::submit::PREFERRED;
use crate::http::limits::SETTLES_MAX;
use crate::http::problem::Kind;
use serde_json::json;
use utoipa::openapi::Required;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::ArrayBuilder;

/// What a small JSON body can be refused for.
const OF_BODIES: [Kind; 5] = [
    Kind::MalformedJson,
    Kind::PayloadTooLarge,
    Kind::UnsupportedMediaType,
    Kind::InvalidBody,
    Kind::Overloaded,
];

pub(super) fn calls() -> Vec<Call> {
    vec![
        lease(),
        settle(),
        complete(),
        fail(),
        extend(),
        of_lease("releaseLease", "/v1/leases/{lease}/release")
            .says(
                "Workers",
                "Hand a job back",
                "Undone, and at no cost of an attempt; after 100 times it costs one. It can be \
                 repeated without harm until another attempt begins.",
            )
            .replies(204, Reply::new("It is handed back.")),
    ]
}

fn of_lease(id: &'static str, path: &'static str) -> Call {
    Call::post(id, path)
        .takes(path_lease())
        .problems(&[Kind::LeaseLost])
}

fn lease() -> Call {
    Call::post("leaseJobs", "/v1/leases")
        .says(
            "Workers",
            "Lease jobs",
            "Up to `max` jobs, each with its input, under a lease that ends unless it is extended. \
             Fewer than `max` means that no more were ready; the inputs of one answer have 8 MiB, \
             or one job. With `Prefer: wait=N` it waits for the first for N seconds at most.\n\n\
             `claim` rises with every start of a job: send it along where you write elsewhere, and \
             have a lower one than the last refused there.",
        )
        .takes(prefer())
        .body(json_body::<LeaseRequest>(
            "What to lease. None at all asks for one job of any task. At most 1 MiB.",
            &json!({"tasks": ["wordcount"], "max": 10, "lease": "30s", "worker": "w1"}),
            Required::False,
        ))
        .replies(
            200,
            Reply::new("The leases.")
                .json::<LeaseList>(json!({"leases": [examples::lease()]}))
                .fields(&[Field::CacheControl])
                .fields(&PREFERRED),
        )
        .replies(
            204,
            Reply::new("There is nothing to do.").fields(&PREFERRED),
        )
        .problems(&OF_BODIES)
        .problems(&[
            Kind::UnknownTask,
            Kind::UnknownQueue,
            Kind::NotAPullTask,
            Kind::Draining,
        ])
        .fields_at(&[503], &PREFERRED)
}

fn complete() -> Call {
    of_lease("completeLease", "/v1/leases/{lease}/complete")
        .says(
            "Workers",
            "Give a job its result",
            "The body is the result, of any content type, and is kept byte for byte. It can be \
             repeated without harm: the same result again is answered with the job as it is, until \
             another attempt begins.",
        )
        .body(any_body(
            "The result, at most `max_result` bytes (16 MiB unless the operator says otherwise).",
            &[("text/plain", json!("2"))],
        ))
        .replies(
            200,
            job("The job has succeeded.", examples::job_succeeded()),
        )
        .problems(&[
            Kind::PayloadTooLarge,
            Kind::UnsupportedMediaType,
            Kind::Overloaded,
        ])
}

fn fail() -> Call {
    of_lease("failLease", "/v1/leases/{lease}/fail")
        .says(
            "Workers",
            "Say that an attempt failed",
            "The job waits for its next attempt, by its task's policy unless `retry_after` says \
             when; or it has failed, where `retry` is false or its attempts are used up. It can be \
             repeated without harm.",
        )
        .body(json_body::<LeaseFailure>(
            "Why. At most 1 MiB.",
            &json!({"error": "the printer is out of paper", "retry_after": "10s"}),
            Required::True,
        ))
        .replies(
            200,
            job("It is noted.", examples::job_ready()).fields(&[Field::RetryAfter]),
        )
        .problems(&OF_BODIES)
}

fn extend() -> Call {
    of_lease("extendLease", "/v1/leases/{lease}/extend")
        .says(
            "Workers",
            "Hold a lease for longer",
            "From now on, never for less than before and never beyond the attempt's `timeout`. \
             Extend at a third of the lease's length. Says whether the job was cancelled: then \
             stop, and fail or release it; a result that is still given is kept.",
        )
        .body(json_body::<Extension>(
            "For how long, 30 s unless it says, and what the attempt says beside. At most 1 MiB.",
            &json!({"lease": "30s", "progress": {"fraction": 0.5, "message": "page 4 of 8"}}),
            Required::False,
        ))
        .replies(
            200,
            Reply::new("It is held.")
                .json::<HeldLease>(examples::held_lease())
                .fields(&[Field::CacheControl]),
        )
        .problems(&OF_BODIES)
}

fn settle() -> Call {
    Call::post("settleLeases", "/v1/leases/settle")
        .says(
            "Workers",
            "Settle or extend many leases",
            "Each on its own, in their order, in one durable commit. What is wrong with one of them \
             does not concern the others; each has its status, and a problem where it was not done.",
        )
        .body(settles())
        .replies(
            200,
            Reply::new("What became of each.")
                .json::<SettleResults>(json!({"results": [examples::settle_result()]}))
                .fields(&[Field::CacheControl]),
        )
        .problems(&OF_BODIES)
}

fn settles() -> RequestBody {
    let many = ArrayBuilder::new()
        .items(schema_of::<Settle>())
        .max_items(Some(SETTLES_MAX));
    let content = ContentBuilder::new()
        .schema(Some(many))
        .example(Some(json!([examples::settle()])))
        .build();
    RequestBodyBuilder::new()
        .description(Some(
            "An array of settles, at most `max_bulk` bytes (64 MiB unless the operator says \
             otherwise).",
        ))
        .content("application/json", content)
        .required(Some(Required::True))
        .build()
}

fn job(what: &'static str, example: serde_json::Value) -> Reply {
    Reply::new(what)
        .json::<Job>(example)
        .fields(&[Field::ETag, Field::CacheControl, Field::Vary])
}
