//! The lines that jobs wait in, described.

use super::examples;
use super::operation::{Call, Reply, merge_patch};
use super::parts::{Field, if_match, path_queue};
use super::schemas::{Queue, QueueList, QueuePatch};
use crate::http::problem::Kind;
use serde_json::json;

pub(super) fn calls() -> Vec<Call> {
    vec![
        Call::get("listQueues", "/v1/queues")
            .says(
                "Queues",
                "All queues",
                "By name: those that the configuration names, those of its tasks, `default`, and \
                 those that were made by their first job or by a change.",
            )
            .replies(
                200,
                Reply::new("The queues.")
                    .json::<QueueList>(json!({"queues": [examples::queue()]}))
                    .fields(&[Field::CacheControl]),
            ),
        Call::get("getQueue", "/v1/queues/{queue}")
            .says(
                "Queues",
                "A queue",
                "What waits in it, and what holds for it. The `ETag` is that of its settings, and \
                 does not change with what is counted.",
            )
            .takes(path_queue())
            .replies(200, shown("The queue."))
            .problems(&[Kind::UnknownQueue]),
        patch(),
    ]
}

fn patch() -> Call {
    Call::patch("patchQueue", "/v1/queues/{queue}")
        .says(
            "Queues",
            "Pause, resume or limit a queue",
            "What is left out stays. What is set holds from the answer on, wins over the \
             configuration, and outlasts restarts. A paused queue still takes submits. A queue \
             that was not used yet is made. It can be repeated without harm.",
        )
        .takes(path_queue())
        .takes(if_match())
        .body(merge_patch::<QueuePatch>(
            "What is changed. At most 64 KiB.",
            &json!({"max_concurrency": 8, "rate_limit": {"limit": 100, "period": "1s"}}),
        ))
        .replies(200, shown("It holds."))
        .problems(&[
            Kind::MalformedJson,
            Kind::UnknownQueue,
            Kind::VersionDiffers,
            Kind::PayloadTooLarge,
            Kind::UnsupportedMediaType,
            Kind::InvalidBody,
            Kind::TooManyQueues,
            Kind::Overloaded,
        ])
        .fields_at(&[415], &[Field::AcceptPatch])
}

fn shown(what: &'static str) -> Reply {
    Reply::new(what)
        .json::<Queue>(examples::queue())
        .fields(&[Field::ETag, Field::CacheControl])
}
