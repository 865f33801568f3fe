//! The routes over the memory store, without a socket, and what holds for each of their answers.

use anteroom::clock::Clock;
use anteroom::store::memory::MemoryStore;
use anteroom::{Engine, Options, Task, TaskRunner};
use anteroom_server::http::{RouterOptions, router};
use axum::Router;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, StatusCode};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// Requests after which a server is replaced by a new one, so that its jobs do not slow it down.
const REQUESTS_MAX: usize = 2_000;

/// Inputs made at random in each run, unless it is told otherwise.
pub(crate) const INPUTS: usize = 1_000;

/// Makes the bytes of a request of an input.
pub(crate) fn written(input: &[u8], words: &[&str]) -> Vec<u8> {
    let Some((first, rest)) = input.split_first() else {
        return Vec::new();
    };
    if first & 0x80 == 0 {
        return input.to_vec();
    }
    let mut bytes = Vec::new();
    let mut rest = rest.iter();
    while let Some(chosen) = rest.next() {
        match words.get(usize::from(*chosen) % (words.len() + 1)) {
            Some(word) => bytes.extend_from_slice(word.as_bytes()),
            None => bytes.extend(rest.next()),
        }
    }
    bytes
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Jobs that there are more than before.
    pub(crate) stored: usize,
}

/// A server that takes one request after the other.
pub(crate) struct Target {
    runtime: Runtime,
    router: Router,
    engine: Engine,
    requests: usize,
    jobs: usize,
}

impl Target {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (router, engine) = runtime.block_on(start());
        Self {
            runtime,
            router,
            engine,
            requests: 0,
            jobs: 0,
        }
    }

    /// Sends a request, and checks what holds for every answer.
    pub(crate) fn send(
        &mut self,
        request: http::request::Builder,
        body: Vec<u8>,
    ) -> Option<Answer> {
        // What the library refuses to put together never reaches a server.
        let request = request.body(Body::from(body)).ok()?;
        if self.requests == REQUESTS_MAX {
            // Its threads would stay for as long as the fuzzer runs.
            self.runtime.block_on(self.engine.shutdown(Duration::ZERO));
            (self.router, self.engine) = self.runtime.block_on(start());
            (self.requests, self.jobs) = (0, 0);
        }
        self.requests += 1;
        let router = self.router.clone();
        let (status, headers, body) = self.runtime.block_on(async {
            let response = router.oneshot(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let content_type = parts.headers.get(CONTENT_TYPE);
            let body = if content_type.is_some_and(|it| it == "text/event-stream") {
                // It does not end.
                Bytes::new()
            } else {
                to_bytes(body, usize::MAX).await.unwrap()
            };
            (parts.status, parts.headers, body)
        });
        let counts = self.runtime.block_on(self.engine.store().counts()).unwrap();
        let jobs = counts
            .iter()
            .map(|counts| counts.scheduled + counts.ready + counts.running);
        let jobs: u64 = jobs.sum();
        let jobs = usize::try_from(jobs).unwrap();
        let answer = Answer {
            status,
            headers,
            body,
            stored: jobs.checked_sub(self.jobs).unwrap(),
        };
        self.jobs = jobs;
        check(&answer);
        Some(answer)
    }

    /// Returns the id of a job that waits.
    pub(crate) fn job(&mut self) -> String {
        let request = Request::post("/v1/tasks/pulled/jobs");
        let answer = self.send(request, Vec::new()).unwrap();
        let job: Value = serde_json::from_slice(&answer.body).unwrap();
        job["id"].as_str().unwrap().to_owned()
    }
}

async fn start() -> (Router, Engine) {
    let store = Arc::new(MemoryStore::new(Clock::system()));
    let tasks = vec![Task::new("pulled", TaskRunner::Pull).unwrap()];
    let engine = Engine::start(store, tasks, Options::default())
        .await
        .unwrap();
    (router(engine.clone(), &RouterOptions::default()), engine)
}

fn check(answer: &Answer) {
    let status = answer.status.as_u16();
    assert!(status < 500 || status == 501, "{answer:?}");
    if status < 400 {
        return;
    }
    assert_eq!(answer.stored, 0, "refused and stored: {answer:?}");
    assert_eq!(
        answer.headers["content-type"], "application/problem+json",
        "{answer:?}"
    );
    let problem: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(problem["status"], status, "{problem}");
    for member in ["type", "title", "detail", "instance"] {
        assert!(problem[member].is_string(), "{member}: {problem}");
    }
}
