//! A queue shared by the routes, results by id.
//!
//! The second half of the small pattern: one route puts work in, another gives the result by id.
//! There the queue is `app["queue"]` and the results are a dictionary; here both are the engine,
//! shared as the routes' state, and both are durable. These are routes of your own; `mounted.rs`
//! shows how to have all of Anteroom's instead.
//!
//! Run it with `cargo run -p anteroom-server --example shared_queue -- jobs.db`, then
//! `curl localhost:PORT/words -d 'a b c'` and `curl localhost:PORT/words/ID`.

use anteroom::clock::Clock;
use anteroom::core::{JobId, Name, Payload};
use anteroom::run::function;
use anteroom::store::Found;
use anteroom::store::sqlite::SqliteStore;
use anteroom::{Engine, Options, Submission, Task, TaskRunner};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: shared_queue FILE")?;
    let store = Arc::new(SqliteStore::open(path, Clock::system())?);
    let count = function::json(|text: String, _| async move {
        Ok::<_, Infallible>(text.split_whitespace().count())
    });
    let tasks = vec![Task::new("words", TaskRunner::Here(count))?];
    let engine = Engine::start(store, tasks, Options::default()).await?;

    let app = Router::new()
        .route("/words", post(put))
        .route("/words/{id}", get(result))
        .with_state(engine);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// Puts a text in the queue. Answered once the job is durable.
async fn put(
    State(engine): State<Engine>,
    text: String,
) -> Result<(StatusCode, String), (StatusCode, String)> {
    let unavailable = |error: &dyn Error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    let task = Name::new("words").map_err(|error| unavailable(&error))?;
    let json = serde_json::to_vec(&text).map_err(|error| unavailable(&error))?;
    let input = Payload {
        content_type: "application/json".into(),
        bytes: json.into(),
    };
    let submitted = engine.submit(Submission::new(task, input)).await;
    let submitted = submitted.map_err(|error| unavailable(&error))?;
    let id = submitted.job.spec.id;
    Ok((StatusCode::ACCEPTED, id.to_string()))
}

/// Gives the result under an id: 202 until it is there.
async fn result(
    State(engine): State<Engine>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Vec<u8>), StatusCode> {
    let id: JobId = id.parse().map_err(|_| StatusCode::NOT_FOUND)?;
    match engine.store().result(id).await {
        Ok(Found::Here((_, Some(result)))) => Ok((StatusCode::OK, result.bytes.to_vec())),
        Ok(Found::Here((_, None))) => Ok((StatusCode::ACCEPTED, Vec::new())),
        Ok(Found::Gone) => Err(StatusCode::GONE),
        Ok(Found::Unknown) => Err(StatusCode::NOT_FOUND),
        Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}
