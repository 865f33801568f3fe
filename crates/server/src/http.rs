//! Everything HTTP: which URL does what, in one place.
//!
//! [`router`] can be mounted under any path of another application, and its links say so.
//! [`serve::serve`] is the accept loop of the binary, and [`browsers::loopback_guard`] what keeps
//! other sites' pages away from a server that asks for no token. Handlers take requests apart and
//! put answers together; what happens to a job is the engine's affair.

pub mod browsers;
pub mod limits;
pub mod metrics;
pub mod problem;
pub mod serve;

mod body;
mod call;
mod conditional;
mod connection;
mod control;
mod edge;
mod health;
mod list;
mod outage;
mod pages;
mod prefer;
mod query;
mod read;
mod represent;
mod scrape;
mod submit;
mod tasks;
mod value;

use anteroom::Engine;
use axum::Router;
use axum::routing::{get, post};
use body::Buffered;
use call::Call;
use edge::Edge;
use limits::BUFFERED_BYTES_MAX_DEFAULT;
use metrics::HttpMetrics;
use problem::{Kind, Problem};
use prometheus_client::registry::Registry;
use std::sync::Arc;

/// What holds for a router.
#[derive(Clone, Debug)]
pub struct RouterOptions {
    /// Bytes of all bodies together that the store does not have yet. Default 256 MiB.
    pub max_buffered: usize,
    /// Where its requests are counted.
    pub metrics: HttpMetrics,
}

impl Default for RouterOptions {
    fn default() -> Self {
        Self {
            max_buffered: BUFFERED_BYTES_MAX_DEFAULT,
            metrics: HttpMetrics::default(),
        }
    }
}

/// What every handler may use.
#[derive(Clone, Debug)]
struct App {
    engine: Engine,
    buffered: Buffered,
    /// What `GET /metrics` shows.
    registry: Arc<Registry>,
}

/// Returns the routes of `engine`, to be served, or nested in another application's router.
pub fn router(engine: Engine, options: &RouterOptions) -> Router {
    let buffered = Buffered::new(options.max_buffered);
    let mut registry = Registry::default();
    engine.metrics().register(&mut registry);
    options.metrics.register(&mut registry);
    let app = App {
        engine,
        buffered,
        registry: Arc::new(registry),
    };
    Router::new()
        .route("/", get(pages::root))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(scrape::metrics))
        .route("/problems/{slug}", get(pages::problem))
        .route("/v1/tasks", get(tasks::all))
        .route("/v1/tasks/{task}", get(tasks::one))
        .route("/v1/tasks/{task}/jobs", post(submit::submit))
        .route("/v1/tasks/{task}/call", post(submit::call))
        .route("/v1/jobs", get(list::list))
        .route("/v1/jobs/{id}", get(read::job).delete(control::delete))
        .route("/v1/jobs/{id}/result", get(read::result))
        .route("/v1/jobs/{id}/input", get(read::input))
        .route("/v1/jobs/{id}/cancel", post(control::cancel))
        .route("/v1/jobs/{id}/retry", post(control::retry))
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(Edge::new(options.metrics.clone()))
        .with_state(app)
}

async fn unknown_route(call: Call) -> Problem {
    let detail = format!("there is nothing at {}", call.mount.path());
    Problem::new(Kind::UnknownRoute, detail)
}

async fn method_not_allowed(call: Call) -> Problem {
    let (method, path) = (&call.parts.method, call.mount.path());
    let detail = format!("{path} does not take {method}; the field Allow says what it takes");
    Problem::new(Kind::MethodNotAllowed, detail)
}
