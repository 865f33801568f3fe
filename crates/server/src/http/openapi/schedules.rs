//! Schedules, described.

use super::examples;
use super::operation::{Call, Reply, json_body};
use super::parts::{
    Field, idempotency_key, if_match, if_none_match_put, integer, path_schedule, query,
};
use super::schemas::{Job, Preview, Schedule, ScheduleList, SchedulePut};
use super::submit::NEXT;
use crate::http::problem::Kind;
use anteroom::core::limits::{PREVIEW_DEFAULT, PREVIEW_MAX};
use serde_json::json;
use utoipa::openapi::Required;

pub(super) fn calls() -> Vec<Call> {
    vec![
        Call::get("listSchedules", "/v1/schedules")
            .says(
                "Schedules",
                "All schedules",
                "By name, without their inputs; of the tasks that the token is for.",
            )
            .replies(
                200,
                Reply::new("The schedules.")
                    .json::<ScheduleList>(json!({"schedules": [examples::schedule_in_list()]}))
                    .fields(&[Field::CacheControl]),
            ),
        Call::get("getSchedule", "/v1/schedules/{schedule}")
            .says(
                "Schedules",
                "A schedule",
                "All that was put, when it fires next, and what came of it last. The `ETag` is that of \
                 what was put, and does not change with its firings.",
            )
            .takes(path_schedule())
            .replies(200, shown("The schedule."))
            .problems(&[Kind::UnknownSchedule]),
        put(),
        delete(),
        trigger(),
        preview(),
    ]
}

fn put() -> Call {
    Call::put("putSchedule", "/v1/schedules/{schedule}")
        .says(
            "Schedules",
            "Make or replace a schedule",
            "It holds at once, as a whole: what is left out has its default. The same again changes \
             nothing that is under way, so that a deployment may put its schedules each time.",
        )
        .takes(path_schedule())
        .takes(if_match())
        .takes(if_none_match_put())
        .body(json_body::<SchedulePut>(
            "A submit, and when it is made.",
            &examples::schedule_put(),
            Required::True,
        ))
        .replies(200, shown("It took the place of the one before."))
        .replies(201, shown("It is new.").fields(&[Field::Location]))
        .problems(&[
            Kind::MalformedJson,
            Kind::UnknownSchedule,
            Kind::DefinedInConfiguration,
            Kind::VersionDiffers,
            Kind::PayloadTooLarge,
            Kind::UnsupportedMediaType,
            Kind::InvalidBody,
            Kind::InvalidInput,
            Kind::TooManySchedules,
            Kind::CallbackRefused,
            Kind::NotSupported,
            Kind::Draining,
            Kind::Overloaded,
        ])
        .problem_at(422, Kind::UnknownTask)
        .problem_at(422, Kind::UnknownQueue)
        .problem_at(422, Kind::UnsupportedMediaType)
}

fn delete() -> Call {
    Call::delete("deleteSchedule", "/v1/schedules/{schedule}")
        .says(
            "Schedules",
            "Remove a schedule",
            "It fires no more. Its jobs stay.",
        )
        .takes(path_schedule())
        .takes(if_match())
        .replies(204, Reply::new("It is gone."))
        .problems(&[
            Kind::UnknownSchedule,
            Kind::DefinedInConfiguration,
            Kind::VersionDiffers,
        ])
}

fn trigger() -> Call {
    let fields = [
        Field::RetryAfter,
        Field::CacheControl,
        Field::IdempotencyReplayed,
        Field::Vary,
    ];
    Call::post("triggerSchedule", "/v1/schedules/{schedule}/trigger")
        .says(
            "Schedules",
            "Let a schedule fire now",
            "Out of turn, also while it is paused and where it is defined in the configuration. Its \
             firings go on as if nothing had happened.",
        )
        .takes(path_schedule())
        .takes(idempotency_key())
        .replies(
            200,
            Reply::new(
                "`duplicate` is true: an unfinished job of the task has the `unique_key`, and this \
                 is it; nothing was stored.",
            )
            .json::<Job>(examples::job_ready())
            .fields(&fields)
            .leads_to(&NEXT),
        )
        .replies(
            202,
            Reply::new("The job is durable.")
                .json::<Job>(examples::job_ready())
                .fields(&fields)
                .fields(&[Field::Location])
                .leads_to(&NEXT),
        )
        .problems(&[
            Kind::UnknownSchedule,
            Kind::JobExpired,
            Kind::IdempotencyKeyReused,
            Kind::InvalidInput,
            Kind::TooManyQueues,
            Kind::CallbackRefused,
            Kind::QueueFull,
            Kind::NotSupported,
            Kind::Draining,
            Kind::Overloaded,
        ])
        .problem_at(422, Kind::UnknownTask)
        .problem_at(422, Kind::UnknownQueue)
        .problem_at(422, Kind::InvalidParameter)
        .problem_at(422, Kind::PayloadTooLarge)
        .problem_at(422, Kind::UnsupportedMediaType)
}

fn preview() -> Call {
    let most = u32::try_from(PREVIEW_MAX).unwrap_or(u32::MAX);
    Call::get("previewSchedule", "/v1/schedules/{schedule}/preview")
        .says(
            "Schedules",
            "When a schedule will fire",
            "The next times from now on, also while it is paused, with what changes of the clock \
             make of them.",
        )
        .takes(path_schedule())
        .takes(query(
            "count",
            "How many times.",
            integer(1, most).default(Some(json!(PREVIEW_DEFAULT))),
        ))
        .replies(
            200,
            Reply::new("The times, the earliest first.")
                .json::<Preview>(json!({"times": [
                    "2026-11-23T02:00:00.000Z", "2026-11-24T02:00:00.000Z",
                ]}))
                .fields(&[Field::CacheControl]),
        )
        .problems(&[Kind::UnknownSchedule])
}

fn shown(what: &'static str) -> Reply {
    Reply::new(what)
        .json::<Schedule>(examples::schedule())
        .fields(&[Field::ETag, Field::CacheControl])
}
