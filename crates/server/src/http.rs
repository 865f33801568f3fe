//! Everything HTTP: which URL does what, in one place.
//!
//! [`router`] can be mounted under any path of another application, and its links say so. A route
//! is a line with what it needs of its caller's token (`routes.rs`, `access.rs`).
//! [`serve::serve`] is the accept loop of the binary, and [`browsers::loopback_guard`] what keeps
//! other sites' pages away from a server that asks for no token. Handlers take requests apart and
//! put answers together; what happens to a job is the engine's affair.

pub mod browsers;
pub mod envelope;
pub mod limits;
pub mod metrics;
pub mod openapi;
pub mod problem;
pub mod serve;

mod access;
mod body;
mod bulk;
mod call;
mod conditional;
mod connection;
mod control;
mod docs;
mod edge;
mod events;
mod framing;
mod health;
mod idempotency;
mod json;
mod leases;
mod lines;
mod list;
mod members;
mod outage;
mod pages;
mod patch;
mod prefer;
mod query;
mod queues;
mod rate;
mod read;
mod represent;
mod routes;
mod schedules;
mod scrape;
mod stream;
mod submit;
mod submit_many;
mod tasks;
mod value;

use access::Tokens;
pub use access::{Scope, Token};
use anteroom::Engine;
use axum::Router;
use axum::response::Response;
use body::Buffered;
use call::Call;
use edge::{Edge, Edged};
use limits::{BUFFERED_BYTES_MAX_DEFAULT, BULK_BYTES_MAX_DEFAULT};
use metrics::HttpMetrics;
use problem::{Kind, Problem};
use prometheus_client::registry::Registry;
pub use rate::RateLimit;
use routes::Routes;
pub use routes::{Needs, Route};
use std::ops::Deref;
use std::sync::Arc;

/// What holds for a router.
#[derive(Clone, Debug)]
pub struct RouterOptions {
    /// Bytes of all bodies together that the store does not have yet. Default 256 MiB.
    pub max_buffered: usize,
    /// Bytes of a body of envelopes; never more than half of `max_buffered`, as what is kept of
    /// them counts too. Default 64 MiB.
    pub max_bulk: usize,
    /// Whose calls are taken; none: everybody's. No two have the same name. Default none.
    pub tokens: Vec<Token>,
    /// Where its requests are counted.
    pub metrics: HttpMetrics,
}

impl Default for RouterOptions {
    fn default() -> Self {
        Self {
            max_buffered: BUFFERED_BYTES_MAX_DEFAULT,
            max_bulk: BULK_BYTES_MAX_DEFAULT,
            tokens: Vec::new(),
            metrics: HttpMetrics::default(),
        }
    }
}

/// What every handler may use. Cheap to clone, which every request does.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Parts>);

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl AsRef<Edge> for App {
    fn as_ref(&self) -> &Edge {
        &self.0.edge
    }
}

/// What is behind [`App`].
#[derive(Debug)]
pub(crate) struct Parts {
    engine: Engine,
    buffered: Buffered,
    max_bulk: usize,
    tokens: Tokens,
    edge: Edge,
    /// What `GET /metrics` shows.
    registry: Registry,
}

/// Which URL does what, and what it needs of its caller's token.
fn routes() -> Routes {
    Routes::default()
        .get("/", Needs::Nothing, pages::root)
        .get("/livez", Needs::Nothing, health::livez)
        .get("/readyz", Needs::Nothing, health::readyz)
        .get("/metrics", Needs::ReadAll, scrape::metrics)
        .get("/problems/{slug}", Needs::Nothing, pages::problem)
        .get("/openapi.json", Needs::Nothing, openapi::serve)
        .get("/docs", Needs::Nothing, docs::serve)
        .get("/docs/style.css", Needs::Nothing, docs::style)
        .get("/v1/tasks", Needs::Read, tasks::all)
        .get("/v1/tasks/{task}", Needs::Read, tasks::one)
        .post("/v1/tasks/{task}/jobs", Needs::Submit, submit::submit)
        .post("/v1/tasks/{task}/call", Needs::Submit, submit::call)
        .get("/v1/jobs", Needs::Read, list::list)
        .post("/v1/jobs", Needs::SubmitMany, submit_many::submit)
        .delete("/v1/jobs", Needs::Admin, bulk::delete)
        .post("/v1/jobs/cancel", Needs::Admin, bulk::cancel)
        .post("/v1/jobs/retry", Needs::Admin, bulk::retry)
        .get("/v1/jobs/{id}", Needs::Read, read::job)
        .patch("/v1/jobs/{id}", Needs::Admin, patch::patch)
        .delete("/v1/jobs/{id}", Needs::Admin, control::delete)
        .get("/v1/jobs/{id}/result", Needs::Read, read::result)
        .get("/v1/jobs/{id}/input", Needs::Read, read::input)
        .get("/v1/jobs/{id}/events", Needs::Read, events::of_job)
        .post("/v1/jobs/{id}/cancel", Needs::Cancel, control::cancel)
        .post("/v1/jobs/{id}/retry", Needs::Admin, control::retry)
        .post("/v1/leases", Needs::Work, leases::lease)
        .post("/v1/leases/settle", Needs::Work, leases::settle)
        .post("/v1/leases/{lease}/complete", Needs::Work, leases::complete)
        .post("/v1/leases/{lease}/fail", Needs::Work, leases::fail)
        .post("/v1/leases/{lease}/extend", Needs::Work, leases::extend)
        .post("/v1/leases/{lease}/release", Needs::Work, leases::release)
        .get("/v1/events", Needs::Read, events::of_all)
        .get("/v1/queues", Needs::ReadAll, queues::all)
        .get("/v1/queues/{queue}", Needs::ReadAll, queues::one)
        .patch("/v1/queues/{queue}", Needs::AdminAll, queues::patch)
        .get("/v1/schedules", Needs::Read, schedules::all)
        .get("/v1/schedules/{schedule}", Needs::Read, schedules::one)
        .put("/v1/schedules/{schedule}", Needs::Admin, schedules::put)
        .delete("/v1/schedules/{schedule}", Needs::Admin, schedules::delete)
        .post(
            "/v1/schedules/{schedule}/trigger",
            Needs::Admin,
            schedules::trigger,
        )
        .get(
            "/v1/schedules/{schedule}/preview",
            Needs::Read,
            schedules::preview,
        )
}

/// Returns the route table: every route, with what it needs.
pub fn route_table() -> Vec<Route> {
    routes().table()
}

/// Returns the routes of `engine`, to be served, or nested in another application's router.
pub fn router(engine: Engine, options: &RouterOptions) -> Router {
    let mut registry = Registry::default();
    engine.metrics().register(&mut registry);
    options.metrics.register(&mut registry);
    let app = App(Arc::new(Parts {
        engine,
        buffered: Buffered::new(options.max_buffered),
        max_bulk: options.max_bulk.min(options.max_buffered / 2),
        tokens: Tokens::new(&options.tokens),
        edge: Edge::new(options.metrics.clone()),
        registry,
    }));
    routes()
        .router()
        .fallback(Edged::new(unknown_route))
        .method_not_allowed_fallback(Edged::new(method_not_allowed))
        .with_state(app)
}

async fn unknown_route(app: App, call: Call) -> Result<Response, Problem> {
    let detail = format!("there is nothing at {}", call.mount.path());
    routes::check_unrouted(&app, &call)?;
    Err(Problem::new(Kind::UnknownRoute, detail))
}

async fn method_not_allowed(app: App, call: Call) -> Result<Response, Problem> {
    let (method, path) = (&call.parts.method, call.mount.path());
    let detail = format!("{path} does not take {method}; the field Allow says what it takes");
    routes::check_unrouted(&app, &call)?;
    Err(Problem::new(Kind::MethodNotAllowed, detail))
}
