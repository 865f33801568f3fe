//! Reading jobs and tasks, described.

use super::examples;
use super::operation::{Call, Reply};
use super::parts::{
    Field, filters, if_none_match, integer, path_job, path_task, prefer, query, range,
};
use super::schemas::{Job, JobPage, Task, TaskList};
use super::submit::PREFERRED;
use crate::http::problem::Kind;
use serde_json::json;
use utoipa::openapi::Type;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::schema::ObjectBuilder;

/// No such job, or not any more.
pub(super) const ABSENT: [Kind; 2] = [Kind::UnknownJob, Kind::JobExpired];

const OF_PAYLOADS: [Field; 5] = [
    Field::AcceptRanges,
    Field::CacheControl,
    Field::ContentLength,
    Field::ContentSecurityPolicy,
    Field::ETag,
];

pub(super) fn calls() -> Vec<Call> {
    vec![
        job(),
        result(),
        input(),
        list(),
        Call::get("listTasks", "/v1/tasks")
            .says("Tasks", "All tasks", "By name.")
            .replies(
                200,
                Reply::new("The tasks.")
                    .json::<TaskList>(json!({"tasks": [examples::task()]}))
                    .fields(&[Field::CacheControl]),
            ),
        Call::get("getTask", "/v1/tasks/{task}")
            .says(
                "Tasks",
                "A task",
                "How it is run, and how many jobs it has to do.",
            )
            .takes(path_task())
            .replies(
                200,
                Reply::new("The task.")
                    .json::<Task>(examples::task())
                    .fields(&[Field::CacheControl]),
            )
            .problems(&[Kind::UnknownTask]),
    ]
}

fn job() -> Call {
    Call::get("getJob", "/v1/jobs/{id}")
        .says(
            "Jobs",
            "A job",
            "With `Prefer: wait=N` it is answered when the job is done, or as it stands after N \
             seconds. With `If-None-Match` as well, as soon as the job differs from that: to follow \
             a job, read it with `Prefer: wait=60` and the `ETag` of the last answer, again and \
             again.\n\n\
             `include=waiting` says as well what a job that waits is waiting for: `position`, `eta` and \
             `reasons`. That answer has no `ETag` and is `no-store`; with `Prefer: wait=N` and \
             `If-None-Match` it comes as soon as the job differs from that, or after N seconds.",
        )
        .takes(path_job())
        .takes(include())
        .takes(prefer())
        .takes(if_none_match())
        .replies(
            200,
            Reply::new("The job. `Retry-After` until it is done.")
                .json::<Job>(examples::job_running())
                .fields(&[Field::ETag, Field::CacheControl, Field::RetryAfter])
                .fields(&PREFERRED),
        )
        .replies(
            304,
            Reply::new("It is as it was. `Retry-After` until it is done.")
                .fields(&[Field::ETag, Field::CacheControl, Field::RetryAfter])
                .fields(&PREFERRED),
        )
        .problems(&ABSENT)
        .fields_at(&[404, 410, 503], &PREFERRED)
}

fn include() -> Parameter {
    let word = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(["waiting"]));
    query("include", "What to show as well.", word)
}

fn result() -> Call {
    Call::get("getJobResult", "/v1/jobs/{id}/result")
        .says(
            "Jobs",
            "The raw result of a job",
            "Byte for byte, with the content type that it was returned with. Until the job is done \
             the answer is the job; `Prefer: wait=N` holds it.",
        )
        .takes(path_job())
        .takes(prefer())
        .takes(if_none_match())
        .takes(range())
        .replies(200, payload("The result.").fields(&PREFERRED))
        .replies(206, part().fields(&PREFERRED))
        .replies(304, known().fields(&PREFERRED))
        .replies(
            202,
            Reply::new("It is not done.")
                .json::<Job>(examples::job_running())
                .fields(&[Field::Location, Field::RetryAfter, Field::CacheControl])
                .fields(&PREFERRED),
        )
        .problems(&ABSENT)
        .problems(&[
            Kind::JobFailed,
            Kind::JobCancelled,
            Kind::RangeNotSatisfiable,
        ])
        .fields_at(&[404, 409, 410, 416, 503], &PREFERRED)
}

fn input() -> Call {
    Call::get("getJobInput", "/v1/jobs/{id}/input")
        .says(
            "Jobs",
            "The raw input of a job",
            "Byte for byte, with the content type that it was submitted with.",
        )
        .takes(path_job())
        .takes(if_none_match())
        .takes(range())
        .replies(200, payload("The input.").fields(&[Field::Vary]))
        .replies(206, part().fields(&[Field::Vary]))
        .replies(304, known().fields(&[Field::Vary]))
        .problems(&ABSENT)
        .problems(&[Kind::RangeNotSatisfiable])
}

fn payload(what: &'static str) -> Reply {
    Reply::new(what).bytes().fields(&OF_PAYLOADS)
}

fn part() -> Reply {
    Reply::new("The part that `Range` asks for.")
        .bytes()
        .fields(&OF_PAYLOADS)
        .fields(&[Field::ContentRange])
}

fn known() -> Reply {
    Reply::new("It is what `If-None-Match` says.").fields(&[
        Field::AcceptRanges,
        Field::CacheControl,
        Field::ETag,
    ])
}

fn list() -> Call {
    let token = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[0-9a-f]{20}$"));
    Call::get("listJobs", "/v1/jobs")
        .says(
            "Jobs",
            "Jobs that match all of the filters, newest first",
            "Jobs that are submitted meanwhile do not shift the pages. A page looks at 10,000 jobs \
             at most, so that it may hold fewer than asked for, even none: go on until \
             `next_page_token` is null.",
        )
        .takes(filters())
        .takes([
            query(
                "page_size",
                "How many at most.",
                integer(1, 1_000).default(Some(json!(50))),
            ),
            query(
                "page_token",
                "The `next_page_token` of the page before, with the same filters.",
                token,
            ),
        ])
        .replies(
            200,
            Reply::new("A page.")
                .json::<JobPage>(examples::page())
                .fields(&[Field::CacheControl]),
        )
}
