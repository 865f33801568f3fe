//! Embedding in an app of your own: all of Anteroom's routes under a prefix, beside your routes.
//!
//! Links, `Location` and problem types carry the prefix. The engine is yours: submit from your
//! own handlers, and stop it cleanly when your app stops.
//!
//! Run it with `cargo run -p anteroom-server --example mounted`, then
//! `curl localhost:PORT/`, `curl localhost:PORT/queue/v1/tasks/greet/call -d '"Ada"'`. Ctrl-C stops.

use anteroom::clock::Clock;
use anteroom::run::function;
use anteroom::store::memory::MemoryStore;
use anteroom::{Engine, Options, Task, TaskRunner};
use anteroom_server::http::{RouterOptions, router};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let greet = function::json(|name: String, _| async move {
        Ok::<_, Infallible>(json!({"message": format!("Hello, {name}")}))
    });
    let tasks = vec![Task::new("greet", TaskRunner::Here(greet))?];
    let store = Arc::new(MemoryStore::new(Clock::system()));
    let engine = Engine::start(store, tasks, Options::default()).await?;

    let app = Router::new()
        .route("/", get(async || Json(json!({"message": "your own app"}))))
        .nest("/queue", router(engine.clone(), &RouterOptions::default()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);

    let stopping = engine.clone();
    let stopped = async move {
        // Should there be no signal to listen to, the app stops at once.
        let _signal = tokio::signal::ctrl_c().await;
        stopping.stop(Duration::from_secs(5)).await;
    };
    axum::serve(listener, app)
        .with_graceful_shutdown(stopped)
        .await?;
    engine.close().await;
    println!("stopped");
    Ok(())
}
