//! The ceiling: an axum handler that answers at once what a real server answered once.
//!
//! Same accept loop, same runtime, same status, head and body; it keeps nothing and decides
//! nothing. What a job server needs beyond this is what a job costs.

use crate::process;
use crate::wire::Answer;
use anteroom_server::http::serve::{self, ServeLimits};
use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::TcpListener;

/// An answer to be given again and again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Canned {
    status: StatusCode,
    fields: HeaderMap,
    body: Bytes,
}

/// What the bare server answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answers {
    /// To a submit.
    pub(crate) submit: Canned,
    /// To a submit that waits for the result.
    pub(crate) wait: Canned,
    /// To the read of a result.
    pub(crate) result: Canned,
}

impl Canned {
    /// Keeps an answer, without the fields that every server adds by itself.
    pub(crate) fn of(answer: &Answer<'_>) -> anyhow::Result<Self> {
        Self::new(
            answer.status,
            answer.fields(),
            Bytes::copy_from_slice(answer.body),
        )
    }

    fn new<'a>(
        status: u16,
        all: impl Iterator<Item = (&'a str, &'a str)>,
        body: Bytes,
    ) -> anyhow::Result<Self> {
        let mut fields = HeaderMap::new();
        for (name, value) in all {
            let name = HeaderName::from_bytes(name.as_bytes())?;
            if !matches!(name.as_str(), "content-length" | "date" | "connection") {
                fields.append(name, HeaderValue::from_str(value)?);
            }
        }
        Ok(Self {
            status: StatusCode::from_u16(status)?,
            fields,
            body,
        })
    }

    fn to_json(&self) -> Value {
        let fields: Vec<_> = self
            .fields
            .iter()
            .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
            .collect();
        json!({
            "status": self.status.as_u16(),
            "fields": fields,
            "body": String::from_utf8_lossy(&self.body),
        })
    }

    fn from_json(value: &Value) -> anyhow::Result<Self> {
        let status = value["status"].as_u64().context("no status")?;
        let fields = value["fields"].as_array().context("no fields")?;
        let pairs = fields
            .iter()
            .map(|pair| Some((pair[0].as_str()?, pair[1].as_str()?)));
        let pairs: Option<Vec<_>> = pairs.collect();
        let body = value["body"].as_str().context("no body")?;
        Self::new(
            u16::try_from(status)?,
            pairs.context("a field is no text")?.into_iter(),
            Bytes::copy_from_slice(body.as_bytes()),
        )
    }

    fn respond(&self) -> Response {
        let mut response = Body::from(self.body.clone()).into_response();
        *response.status_mut() = self.status;
        *response.headers_mut() = self.fields.clone();
        response
    }
}

impl Answers {
    /// Returns them as one line.
    pub(crate) fn to_line(&self) -> String {
        json!({
            "submit": self.submit.to_json(),
            "wait": self.wait.to_json(),
            "result": self.result.to_json(),
        })
        .to_string()
    }

    /// Reads what [`to_line`](Self::to_line) wrote.
    pub(crate) fn from_line(line: &str) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_str(line)?;
        Ok(Self {
            submit: Canned::from_json(&value["submit"]).context("submit")?,
            wait: Canned::from_json(&value["wait"]).context("wait")?,
            result: Canned::from_json(&value["result"]).context("result")?,
        })
    }
}

/// Is the bare process: answers until its standard input ends.
pub(crate) async fn answer() -> anyhow::Result<()> {
    let answers = Answers::from_line(&process::told()?)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    process::say_listening(listener.local_addr()?);
    let limits = ServeLimits::default();
    serve::serve(listener, router(answers), limits, process::asked_to_end()).await;
    Ok(())
}

fn router(answers: Answers) -> Router {
    Router::new()
        .route("/v1/tasks/{task}/jobs", post(submit))
        .route("/v1/jobs/{id}/result", get(result))
        .with_state(Arc::new(answers))
}

/// Receives the input, as a real server has to, before it answers.
async fn submit(State(answers): State<Arc<Answers>>, head: HeaderMap, input: Bytes) -> Response {
    drop(input);
    if head.contains_key("prefer") {
        answers.wait.respond()
    } else {
        answers.submit.respond()
    }
}

async fn result(State(answers): State<Arc<Answers>>) -> Response {
    answers.result.respond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_through_a_line_unharmed() {
        let fields = [
            ("Location", "/v1/jobs/7"),
            ("Retry-After", "1"),
            ("Date", "now"),
            ("Content-Length", "2"),
        ];
        let canned = |status| {
            let body = Bytes::from_static(b"{\"a\": \"\\n\"}");
            Canned::new(status, fields.into_iter(), body).unwrap()
        };
        let answers = Answers {
            submit: canned(202),
            wait: canned(200),
            result: canned(200),
        };
        let line = answers.to_line();
        assert!(!line.contains('\n'), "{line}");
        assert_eq!(Answers::from_line(&line).unwrap(), answers);
        let response = answers.submit.respond();
        assert_eq!(response.status(), 202);
        assert_eq!(response.headers().len(), 2, "{:?}", response.headers());
        assert!(Answers::from_line("{}").is_err());
    }
}
