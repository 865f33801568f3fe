//! What is around every handler: the request's span and number, its place in the metrics, a panic as
//! an answer, and problems written out.

use super::call::{Call, Mount};
use super::leases;
use super::limits::URI_BYTES_MAX;
use super::metrics::{HttpMetrics, Route};
use super::outage::Outage;
use super::problem::{Kind, Problem};
use super::query;
use axum::extract::Request;
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::HeaderValue;
use std::any::Any;
use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::{Instrument, Span, debug, debug_span, error};

/// What the edges of a router's routes have in common.
#[derive(Debug, Default)]
pub(crate) struct Edge {
    requests: AtomicU64,
    outage: Outage,
    metrics: HttpMetrics,
}

impl Edge {
    /// Returns an edge that counts in `metrics`.
    pub(crate) fn new(metrics: HttpMetrics) -> Self {
        Self {
            metrics,
            ..Self::default()
        }
    }
}

/// What answers a route's requests: a function of the state and of the request, as far as nothing
/// stands before it.
pub(crate) trait Endpoint<S>: Clone + Send + Sync + 'static {
    fn answer(
        self,
        state: S,
        call: Call,
    ) -> impl Future<Output = Result<Response, Problem>> + Send + 'static;
}

impl<S, H, F> Endpoint<S> for H
where
    H: Fn(S, Call) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response, Problem>> + Send + 'static,
{
    fn answer(
        self,
        state: S,
        call: Call,
    ) -> impl Future<Output = Result<Response, Problem>> + Send + 'static {
        self(state, call)
    }
}

/// An endpoint with its edge, as a handler of the router. It is no layer, and an endpoint is no
/// handler by itself, as each of those costs every request several allocations more.
#[derive(Clone, Debug)]
pub(crate) struct Edged<E> {
    endpoint: E,
    route: Arc<Route>,
}

impl<E> Edged<E> {
    pub(crate) fn new(endpoint: E) -> Self {
        Self {
            endpoint,
            route: Arc::default(),
        }
    }
}

impl<E, S> Handler<(), S> for Edged<E>
where
    E: Endpoint<S>,
    S: AsRef<Edge> + Clone + Send + Sync + 'static,
{
    type Future = Pin<Box<dyn Future<Output = Response> + Send>>;

    fn call(self, request: Request, state: S) -> Self::Future {
        let mount = Mount::of(&request);
        let counter = self
            .route
            .counter(&state.as_ref().metrics, &request, &mount);
        if let Err(problem) = check_uri(&request) {
            let refused = problem.render(mount.prefix(), mount.path());
            counter.answered(refused.status());
            return Box::pin(ready(refused));
        }
        let number = state.as_ref().requests.fetch_add(1, Ordering::Relaxed);
        let span = span(&request, &mount, number);
        let call = Call::new(request, mount.clone());
        // No block: what that captures, such as the call, stays in it through the wait.
        let answer = span.in_scope(|| self.endpoint.answer(state.clone(), call));
        let answer = AssertUnwindSafe(answer)
            .catch_unwind()
            .map(move |answered| {
                let response = match answered {
                    Ok(answered) => answered.unwrap_or_else(IntoResponse::into_response),
                    Err(panic) => panicked(&*panic, number).into_response(),
                };
                let response = written(response, &mount, number, &state.as_ref().outage);
                counter.answered(response.status());
                let status = response.status().as_u16();
                debug!(status, "answered {status}");
                response
            });
        Box::pin(answer.instrument(span))
    }
}

fn span(request: &Request, mount: &Mount, number: u64) -> Span {
    let method = request.method();
    debug_span!("request", request.id = number, %method, path = %leases::without_token(mount.path()))
}

fn check_uri(request: &Request) -> Result<(), Problem> {
    let uri = request.uri();
    let bytes = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1);
    if bytes > URI_BYTES_MAX {
        let detail = format!("the path and query are {bytes} bytes; the limit is {URI_BYTES_MAX}");
        return Err(Problem::new(Kind::UriTooLong, detail));
    }
    match query::decode(uri.path(), false) {
        Ok(_) => Ok(()),
        Err(detail) => Err(Problem::new(
            Kind::MalformedPath,
            format!("the path {detail}"),
        )),
    }
}

/// Logs a panic; the client learns nothing of it but that it happened.
fn panicked(panic: &(dyn Any + Send), request: u64) -> Problem {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    error!(
        request.id = request,
        "request {request} panicked: {message}"
    );
    Problem::new(
        Kind::InternalError,
        "the server made a mistake, and has logged it",
    )
}

/// Writes out, and logs if it is the store's, a problem that a handler left in the response, with the headers set beside it.
fn written(mut response: Response, mount: &Mount, request: u64, outage: &Outage) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else {
        return response;
    };
    if let Some(error) = problem.cause() {
        outage.log(request, error);
    }
    let mut rendered = problem.render(mount.prefix(), mount.path());
    for (name, value) in response.headers() {
        rendered.headers_mut().append(name, value.clone());
    }
    if rendered.status().is_server_error() {
        rendered
            .headers_mut()
            .insert("x-request-id", HeaderValue::from(request));
    }
    rendered
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom::store::StoreError;
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use std::io::Write;
    use std::sync::Mutex;
    use std::time::Duration;
    use tower::ServiceExt;
    use tracing::Level;

    /// What was logged.
    #[derive(Clone, Debug, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        /// Returns the lines since the last call.
        fn lines(&self) -> Vec<String> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            let text = String::from_utf8(bytes).unwrap();
            text.lines().map(str::to_owned).collect()
        }
    }

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Every request of an outage was once a line, and none said which request it was about.
    #[tokio::test(start_paused = true)]
    async fn an_outage_is_a_line_a_second_that_names_a_request() {
        let log = Log::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt()
            .with_max_level(Level::INFO)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let _logging = tracing::subscriber::set_default(lines);
        let down = |_: Arc<Edge>, _: Call| async {
            Err(Problem::from(StoreError::Unavailable {
                reason: "the disk is full".to_owned(),
            }))
        };
        let full = |_: Arc<Edge>, _: Call| async {
            Err(Problem::from(StoreError::Overloaded {
                waiting: 9,
                limit: 8,
            }))
        };
        let well = |_: Arc<Edge>, _: Call| async { Ok("well".into_response()) };
        let router = Router::new()
            .route("/down", get(Edged::new(down)))
            .route("/full", get(Edged::new(full)))
            .route("/well", get(Edged::new(well)))
            .with_state(Arc::new(Edge::default()));
        let ask = async |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            response.headers().get("x-request-id").cloned()
        };
        assert_eq!(ask("/well").await, None);
        assert!(log.lines().is_empty(), "all is well");
        let number = ask("/down").await.unwrap();
        let lines = log.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let named = format!("request.id={}", number.to_str().unwrap());
        assert!(lines[0].contains(&named), "{lines:?}");
        assert!(lines[0].contains("the disk is full"), "{lines:?}");
        for _ in 0..4 {
            ask("/down").await;
        }
        assert!(log.lines().is_empty(), "one a second is enough");
        ask("/full").await;
        assert_eq!(log.lines().len(), 1, "another kind has its own");
        tokio::time::advance(Duration::from_secs(1)).await;
        ask("/down").await;
        let lines = log.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("left_out=4"), "{lines:?}");
    }

    /// A request that waits once had room for its endpoint twice: 2 KiB for each long poll.
    #[test]
    fn a_request_has_room_for_its_endpoint_once() {
        const KEPT: usize = 4_096;
        async fn waits(_edge: Arc<Edge>, _call: Call) -> Result<Response, Problem> {
            let kept = [1_u8; KEPT];
            tokio::task::yield_now().await;
            Ok(Body::from(kept.to_vec()).into_response())
        }
        let request = Request::new(Body::empty());
        let answer = Edged::new(waits).call(request, Arc::new(Edge::default()));
        let bytes = size_of_val(&*answer);
        assert!((KEPT..KEPT + 1_024).contains(&bytes), "{bytes} bytes");
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_without_internals() {
        #[expect(clippy::panic, reason = "what is tested")]
        async fn broken(_edge: Arc<Edge>, _call: Call) -> Result<Response, Problem> {
            panic!("the secret is 42")
        }
        let router = Router::new()
            .route("/broken", get(Edged::new(broken)))
            .with_state(Arc::new(Edge::default()));
        let request = Request::get("/broken").body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 500);
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        assert_eq!(response.headers()["x-request-id"], "0");
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["type"], "/problems/internal-error");
        assert_eq!(problem["status"], 500);
        assert_eq!(problem["instance"], "/broken");
        assert!(!problem.to_string().contains("42"), "{problem}");
    }
}
