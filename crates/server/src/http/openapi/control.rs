//! Changing jobs from outside, described.

use super::examples;
use super::jobs::ABSENT;
use super::operation::{Call, Reply, merge_patch};
use super::parts::{Field, filters, if_match, path_job};
use super::schemas::{BulkResult, Job, JobPatch};
use super::submit::NEXT;
use crate::http::problem::Kind;
use serde_json::json;

pub(super) fn calls() -> Vec<Call> {
    vec![
        patch(),
        cancel(),
        retry(),
        delete(),
        bulk(
            Call::post("cancelJobs", "/v1/jobs/cancel"),
            "Cancel all jobs that match",
            "Those that are unfinished and were not told to stop yet.",
        ),
        bulk(
            Call::post("retryJobs", "/v1/jobs/retry"),
            "Retry all jobs that match",
            "Those that failed, were cancelled or are scheduled. Repeated within a minute, it \
             leaves alone what began or ended since the first of its calls.",
        ),
        bulk(
            Call::delete("deleteJobs", "/v1/jobs"),
            "Forget all jobs that match",
            "Those that are finished.",
        ),
    ]
}

fn patch() -> Call {
    Call::patch("patchJob", "/v1/jobs/{id}")
        .says(
            "Control",
            "Change a waiting job",
            "A merge patch (RFC 7396): what is left out stays. It can be repeated without harm.",
        )
        .takes(path_job())
        .takes(if_match())
        .body(merge_patch::<JobPatch>(
            "What is changed. At most 64 KiB.",
            &json!({"priority": 0, "run_at": null}),
        ))
        .replies(
            200,
            Reply::new("It waits by that from now on.")
                .json::<Job>(examples::job_ready())
                .fields(&[
                    Field::ETag,
                    Field::CacheControl,
                    Field::RetryAfter,
                    Field::Vary,
                ]),
        )
        .problems(&ABSENT)
        .problems(&[
            Kind::MalformedJson,
            Kind::UnknownQueue,
            Kind::NotWaiting,
            Kind::VersionDiffers,
            Kind::PayloadTooLarge,
            Kind::UnsupportedMediaType,
            Kind::InvalidBody,
            Kind::TooManyQueues,
            Kind::Overloaded,
        ])
        .problem_at(422, Kind::UnknownQueue)
        .fields_at(&[415], &[Field::AcceptPatch])
}

fn bulk(call: Call, summary: &'static str, which: &'static str) -> Call {
    call.says("Control", summary, which)
        .takes(filters())
        .replies(
            200,
            Reply::new(
                "It takes the filters of a list, at least one. It stops after 10,000 matches or \
                 5 s, and says `more`: repeat it until that is false.",
            )
            .json::<BulkResult>(json!({"matched": 12, "changed": 12, "more": false}))
            .fields(&[Field::CacheControl]),
        )
}

fn cancel() -> Call {
    Call::post("cancelJob", "/v1/jobs/{id}/cancel")
        .says(
            "Control",
            "Cancel a job",
            "It can be repeated without harm.",
        )
        .takes(path_job())
        .takes(if_match())
        .replies(
            200,
            Reply::new(
                "It was waiting and is cancelled for good; or it had ended already, as `state` \
                 says.",
            )
            .json::<Job>(examples::job_cancelled())
            .fields(&[Field::CacheControl, Field::Vary]),
        )
        .replies(
            202,
            Reply::new(
                "It is running, and its attempt is told to stop. A success that it still reaches \
                 is kept; any other end makes it `cancelled`, never a retry.",
            )
            .json::<Job>(examples::job_stopping())
            .fields(&[
                Field::Location,
                Field::RetryAfter,
                Field::CacheControl,
                Field::Vary,
            ]),
        )
        .problems(&ABSENT)
        .problems(&[Kind::VersionDiffers])
}

fn retry() -> Call {
    Call::post("retryJob", "/v1/jobs/{id}/retry")
        .says(
            "Control",
            "Make a job run again, or now",
            "Makes a `failed` or `cancelled` job `ready`, and a `scheduled` one too. Attempts start \
             over; `errors` are kept; a `start_before` that went by is dropped. One that is \
             repeated after it was done finds the job ready or running: 409.",
        )
        .takes(path_job())
        .takes(if_match())
        .replies(
            202,
            Reply::new("It is ready.")
                .json::<Job>(examples::job_ready())
                .fields(&[
                    Field::Location,
                    Field::RetryAfter,
                    Field::CacheControl,
                    Field::Vary,
                ])
                .leads_to(&NEXT),
        )
        .problems(&ABSENT)
        .problems(&[
            Kind::AlreadySucceeded,
            Kind::NothingToRetry,
            Kind::UniqueKeyTaken,
            Kind::VersionDiffers,
        ])
}

fn delete() -> Call {
    Call::delete("deleteJob", "/v1/jobs/{id}")
        .says(
            "Control",
            "Forget a finished job",
            "With its input and its result.",
        )
        .takes(path_job())
        .takes(if_match())
        .replies(204, Reply::new("It is gone."))
        .problems(&ABSENT)
        .problems(&[Kind::NotFinal, Kind::VersionDiffers])
}
