//! What the server sends to others, described: pushes and callbacks.

use super::schema_of;
use super::schemas::JobEnded;
use serde_json::json;
use utoipa::openapi::path::{
    Callback, HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::ObjectBuilder;
use utoipa::openapi::{
    Content, ContentBuilder, PathItem, Paths, RefOr, Required, ResponseBuilder, Schema, Type,
};

/// Fields that both have, by Standard Webhooks.
const SIGNED: [(&str, &str); 3] = [
    ("webhook-id", "The same for each time that it is sent."),
    (
        "webhook-timestamp",
        "When it is sent, in seconds since 1970.",
    ),
    (
        "webhook-signature",
        "Signatures by the secrets of the configuration, if it has any: `v1,…`, with spaces \
         between them.",
    ),
];

/// Returns what is sent to services that the configuration names, and to `callback_url`s.
pub(super) fn webhooks() -> Paths {
    let mut webhooks = Paths::new();
    for (name, operation) in [("push", push()), ("jobEnded", job_ended("jobEndedWebhook"))] {
        let item = PathItem::new(HttpMethod::Post, operation);
        webhooks.paths.insert(name.to_owned(), item);
    }
    webhooks
}

/// Returns what a submit with `callback_url` brings about.
pub(super) fn callback() -> Callback {
    let item = PathItem::new(HttpMethod::Post, job_ended("jobEndedCallback"));
    let url = "{$request.query.callback_url}".to_owned();
    [(url, RefOr::T(item))].into_iter().collect()
}

fn push() -> Operation {
    let description = "An attempt of a task with `push = \"http://…\"`: the input, with its content \
                       type. What is answered with 2xx is the result. 408, 425, 429, 5xx and broken \
                       connections are tried again (`Retry-After` is kept to; 429 and 503 with it cost \
                       no attempt); other answers fail the job for good.";
    let input = RequestBodyBuilder::new()
        .description(Some("The input."))
        .content("*/*", Content::new::<RefOr<Schema>>(None))
        .build();
    let mut operation = operation("pushJob", "An attempt of a job", description)
        .request_body(Some(input))
        .response("2XX", ResponseBuilder::new().description("The result."))
        .response(
            "default",
            ResponseBuilder::new().description("The attempt has failed."),
        );
    for (name, what) in [
        ("Idempotency-Key", "The id of the job."),
        ("Anteroom-Job", "The id of the job."),
        ("Anteroom-Task", "Its task."),
        ("Anteroom-Attempt", "Which attempt it is."),
        (
            "Anteroom-Claim",
            "A number that rises with every start of the job.",
        ),
        (
            "Anteroom-Deadline",
            "When the attempt times out (RFC 3339).",
        ),
        ("traceparent", "The trace that it belongs to (W3C)."),
    ]
    .into_iter()
    .chain(SIGNED)
    {
        operation = operation.parameter(field(name, what));
    }
    operation.build()
}

fn job_ended(id: &str) -> Operation {
    let description = "Where this server sends none, a submit with `callback_url` is refused with 501 \
         `not-supported`. By Standard Webhooks: sent to the `callback_url` of a job each time that it \
         ends, and tried again for about three days until it is answered with 2xx; 410 stops it. \
         It is a job itself, of the task `anteroom.callback`.";
    let itself = "/v1/jobs/019aaa2e-7c00-7000-8000-3f0c5a1b2c3d";
    let example = json!({
        "type": "job.succeeded",
        "timestamp": "2026-11-22T12:00:00.052Z",
        "data": {
            "id": "019aaa2e-7c00-7000-8000-3f0c5a1b2c3d", "task": "wordcount",
            "state": "succeeded", "tags": {"customer": "acme"},
            "links": {
                "self": itself, "result": format!("{itself}/result"),
                "input": format!("{itself}/input"), "events": format!("{itself}/events"),
                "cancel": format!("{itself}/cancel"),
            },
        },
    });
    let content = ContentBuilder::new()
        .schema(Some(schema_of::<JobEnded>()))
        .example(Some(example))
        .build();
    let body = RequestBodyBuilder::new()
        .description(Some("How it ended."))
        .content("application/json", content)
        .required(Some(Required::True))
        .build();
    let mut operation = operation(id, "A job has ended", description)
        .request_body(Some(body))
        .response("2XX", ResponseBuilder::new().description("It is taken."))
        .response(
            "410",
            ResponseBuilder::new().description("It is not to be sent again."),
        )
        .response(
            "default",
            ResponseBuilder::new().description("It is sent again later."),
        );
    for (name, what) in SIGNED {
        operation = operation.parameter(field(name, what));
    }
    operation.build()
}

fn operation(id: &str, summary: &str, description: &str) -> OperationBuilder {
    OperationBuilder::new()
        .operation_id(Some(id))
        .summary(Some(summary))
        .description(Some(description))
}

fn field(name: &str, description: &str) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
}
