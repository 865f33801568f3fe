//! A JSON greeting from an async server that slow work never blocks.
//!
//! The first half of the small pattern: `GET /` answers at once, whatever the workers do. Here
//! the slow work blocks its thread for real, which in an async server would block the greeting
//! too; as a job it runs on a thread of its own.
//!
//! Run it with `cargo run -p anteroom-server --example greeting`, then
//! `curl localhost:PORT/` and `curl -X POST localhost:PORT/slow`.

use anteroom::clock::Clock;
use anteroom::core::{Name, Payload};
use anteroom::run::{Outcome, function};
use anteroom::store::memory::MemoryStore;
use anteroom::{Engine, Options, Submission, Task, TaskRunner};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let slow = function::blocking(|_| {
        std::thread::sleep(Duration::from_secs(2));
        Outcome::Succeeded(Payload {
            content_type: "text/plain".into(),
            bytes: "done".into(),
        })
    });
    let task = Task::new("slow", TaskRunner::Here(slow))?;
    let store = Arc::new(MemoryStore::new(Clock::system()));
    let engine = Engine::start(store, vec![task], Options::default()).await?;

    let app = Router::new()
        .route("/", get(async || Json(json!({"message": "Hello, world"}))))
        .route("/slow", post(submit))
        .with_state(engine);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn submit(State(engine): State<Engine>) -> Result<(StatusCode, Json<Value>), StatusCode> {
    let input = Payload {
        content_type: "text/plain".into(),
        bytes: "".into(),
    };
    let task = Name::new("slow").map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    match engine.submit(Submission::new(task, input)).await {
        Ok(submitted) => Ok((
            StatusCode::ACCEPTED,
            Json(json!({"id": submitted.job.spec.id.to_string()})),
        )),
        Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}
