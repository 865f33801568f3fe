//! The server itself, described.

use super::examples;
use super::operation::{Call, Reply};
use super::parts::{Field, if_none_match, problem_slug};
use super::schemas::{Health, Root};
use crate::http::problem::Kind;
use serde_json::json;
use utoipa::openapi::ContentBuilder;
use utoipa::openapi::Type;
use utoipa::openapi::schema::ObjectBuilder;

const OF_PAGES: [Field; 2] = [Field::CacheControl, Field::ContentSecurityPolicy];

const METRICS: &str = "# TYPE anteroom_queue_jobs gauge\n\
    anteroom_queue_jobs{queue=\"default\",state=\"ready\"} 3\n";

pub(super) fn calls() -> Vec<Call> {
    let mut calls = state();
    calls.extend(pages());
    calls
}

/// What the server is, how it is, and what it has counted.
fn state() -> Vec<Call> {
    vec![
        Call::get("getRoot", "/")
            .says(
                "Server",
                "What the server is",
                "A page for browsers, JSON for others.",
            )
            .replies(
                200,
                Reply::new("The server, in the form that `Accept` likes better.")
                    .json::<Root>(examples::root())
                    .text("text/html", "<!doctype html>…")
                    .fields(&OF_PAGES)
                    .fields(&[Field::Vary]),
            )
            .problems(&[Kind::InvalidParameter]),
        Call::get("getLive", "/livez")
            .says(
                "Server",
                "Whether the process answers",
                "Restart it when it does not.",
            )
            .replies(
                200,
                Reply::new("It does.")
                    .json::<Health>(json!({"status": "live"}))
                    .fields(&[Field::CacheControl]),
            )
            .problems(&[Kind::InvalidParameter]),
        Call::get("getReady", "/readyz")
            .says(
                "Server",
                "Whether the server takes jobs",
                "Send no new work to a server that is not ready. `reasons` says why.",
            )
            .replies(
                200,
                Reply::new("It does.")
                    .json::<Health>(json!({"status": "ready"}))
                    .fields(&[Field::CacheControl]),
            )
            .problems(&[
                Kind::InvalidParameter,
                Kind::Draining,
                Kind::StoreUnavailable,
            ]),
        Call::get("getMetrics", "/metrics")
            .says(
                "Server",
                "What the server has counted",
                "For Prometheus: OpenMetrics where `Accept` names it. Also while the store does not \
                 answer.",
            )
            .replies(
                200,
                Reply::new("The metrics, in the form that `Accept` likes better.")
                    .text("text/plain", METRICS)
                    .text("application/openmetrics-text", METRICS)
                    .fields(&[Field::CacheControl, Field::Vary]),
            )
            .problems(&[Kind::InvalidParameter]),
    ]
}

/// What there is to read about it.
fn pages() -> Vec<Call> {
    vec![
        Call::get("getProblemPage", "/problems/{slug}")
            .says(
                "Server",
                "What a problem means",
                "What it means, why it comes about, and what to do about it.",
            )
            .takes(problem_slug())
            .replies(
                200,
                Reply::new("The page, in the form that `Accept` likes better.")
                    .text("text/markdown", "# The query is wrong")
                    .text("text/html", "<!doctype html>…")
                    .fields(&OF_PAGES)
                    .fields(&[Field::Vary]),
            )
            .problems(&[Kind::InvalidParameter, Kind::UnknownRoute]),
        Call::get("getOpenApi", "/openapi.json")
            .says("Server", "This document", "In OpenAPI 3.1.")
            .takes(if_none_match())
            .replies(
                200,
                Reply::new("The document.")
                    .content("application/json", an_object())
                    .fields(&[Field::ETag, Field::CacheControl]),
            )
            .replies(
                304,
                Reply::new("It is as it was.").fields(&[Field::ETag, Field::CacheControl]),
            )
            .problems(&[Kind::InvalidParameter]),
        Call::get("getDocs", "/docs")
            .says(
                "Server",
                "This document as a page",
                "It loads nothing from elsewhere, and needs no JavaScript.",
            )
            .takes(if_none_match())
            .replies(
                200,
                Reply::new("The page.")
                    .text("text/html", "<!doctype html>…")
                    .fields(&[Field::ETag])
                    .fields(&OF_PAGES),
            )
            .replies(
                304,
                Reply::new("It is as it was.")
                    .fields(&[Field::ETag])
                    .fields(&OF_PAGES),
            )
            .problems(&[Kind::InvalidParameter]),
        Call::get("getDocsStyle", "/docs/style.css")
            .says("Server", "How that page looks", "Its style sheet.")
            .takes(if_none_match())
            .replies(
                200,
                Reply::new("The style sheet.")
                    .text("text/css", "body { margin: 0; }")
                    .fields(&[Field::ETag])
                    .fields(&OF_PAGES),
            )
            .replies(
                304,
                Reply::new("It is as it was.")
                    .fields(&[Field::ETag])
                    .fields(&OF_PAGES),
            )
            .problems(&[Kind::InvalidParameter]),
    ]
}

fn an_object() -> utoipa::openapi::Content {
    let object = ObjectBuilder::new().schema_type(Type::Object);
    ContentBuilder::new().schema(Some(object)).build()
}
