//! The accept loop: connections within their number, each under watch, and a stop without loss.
//!
//! `axum::serve` has no deadline for a request's head, no cap on connections, and can wait for
//! ever on a silent one when it is told to stop; hence a loop of our own on the same library.

use super::connection::{Round, Stage, Watched};
use super::limits::{
    ACCEPT_PAUSE, CONNECTIONS_MAX_DEFAULT, DRAIN_TIMEOUT_DEFAULT, HEAD_BYTES_MAX, HEAD_FIELDS_MAX,
    HEAD_TIMEOUT_DEFAULT, IDLE_TIMEOUT_DEFAULT, WRITE_TIMEOUT_DEFAULT,
};
use super::metrics::HttpMetrics;
use super::problem::{Kind, Problem};
use anteroom::clock::Clock;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;
use tracing::{debug, warn};

/// The bounds of a server's connections.
#[derive(Clone, Debug)]
pub struct ServeLimits {
    /// Connections at once; more wait in the system's backlog. Default 10,000.
    pub connections: usize,
    /// From the first byte of a request's head to its last. Default 10 s.
    pub head_timeout: Duration,
    /// How long a connection may be silent between requests. Default 75 s.
    pub idle_timeout: Duration,
    /// How long a client may take none of its answer. Default 1 m.
    pub write_timeout: Duration,
    /// How long requests under way may take once the server stops listening. Default 30 s.
    pub drain_timeout: Duration,
    /// Where its connections are counted.
    pub metrics: HttpMetrics,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS_MAX_DEFAULT,
            head_timeout: HEAD_TIMEOUT_DEFAULT,
            idle_timeout: IDLE_TIMEOUT_DEFAULT,
            write_timeout: WRITE_TIMEOUT_DEFAULT,
            drain_timeout: DRAIN_TIMEOUT_DEFAULT,
            metrics: HttpMetrics::default(),
        }
    }
}

/// What is served: a router, or one behind a guard.
pub trait Routes:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Routes for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Serves `routes`, such as a [`Router`](axum::Router), on `listener` until `shutdown` is ready; then stops accepting, finishes the
/// requests that are under way, within the drain timeout, and returns.
///
/// # Cancel safety
///
/// A dropped call stops accepting and cuts all connections.
pub async fn serve<S>(listener: TcpListener, routes: S, limits: ServeLimits, shutdown: impl Future)
where
    S: Routes,
{
    let slots = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    // Both tokens are cancelled when this future is dropped, too.
    let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
    let (_drain_guard, _stop_guard) = (drain.clone().drop_guard(), stop.clone().drop_guard());
    let drain_timeout = limits.drain_timeout;
    limits.metrics.listens(limits.connections);
    let accept = async {
        loop {
            // The semaphore is never closed.
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            let socket = accept(&listener, &limits.metrics).await;
            let open = limits.metrics.accepted();
            let (routes, limits) = (routes.clone(), limits.clone());
            let (drain, stop) = (drain.clone(), stop.clone());
            connections.spawn(async move {
                let _held = (slot, open);
                // Made in here: what a block captures and then waits for has its room in it twice.
                tokio::select! {
                    () = converse(socket, routes, &limits, &drain) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    };
    tokio::select! {
        () = accept => {}
        _ = shutdown => {}
    }
    drop(listener);
    drain.cancel();
    connections.close();
    if timeout(drain_timeout, connections.wait()).await.is_err() {
        let left = connections.len();
        warn!(
            left,
            "gave up {left} connections that took too long to finish"
        );
        stop.cancel();
        connections.wait().await;
    }
}

/// Accepts a connection, however often that fails: a lack of descriptors passes.
async fn accept(listener: &TcpListener, metrics: &HttpMetrics) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                // Without it an answer in two pieces waits for the client's acknowledgement.
                let _only_slower = socket.set_nodelay(true);
                return socket;
            }
            Err(error) => {
                metrics.accept_failed();
                warn!(%error, "could not accept a connection: {error}");
                Clock::system().sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers the requests of one connection, one after the other.
async fn converse(
    socket: TcpStream,
    routes: impl Routes,
    limits: &ServeLimits,
    drain: &CancellationToken,
) {
    let round = Arc::new(Round::default());
    let io = TokioIo::new(Watched::new(socket, round.clone(), limits));
    let metrics = &limits.metrics;
    let service =
        hyper::service::service_fn(|request| answer(routes.clone(), &round, metrics, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The watch does better: it tells an idle connection from a slow head.
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_FIELDS_MAX)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        // A request that has come is answered, even if it came with the stop.
        biased;
        ended = connection.as_mut() => ended,
        () = drain.cancelled() => {
            // The library keeps a connection that never said anything.
            if round.stage() == Stage::Idle {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke: {error}");
    }
}

fn answer<S: Routes>(
    mut routes: S,
    round: &Arc<Round>,
    metrics: &HttpMetrics,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Tracked>, Infallible>> + use<S> {
    round.begin();
    let round = round.clone();
    let checked = check_head(&request).inspect_err(|_| metrics.head_refused());
    // Written at once: through a wait nothing is kept of a request but what its handler keeps.
    let checked = checked.map_err(|problem| problem.render("", request.uri().path()));
    let checked = checked.map(|()| {
        let request = request.map(|body| {
            let round = round.clone();
            let (body, is_read) = (body, false);
            Body::new(Asked {
                body,
                round,
                is_read,
            })
        });
        routes.call(request)
    });
    async move {
        let response = match checked {
            Ok(answer) => answer.await?,
            Err(refused) => refused,
        };
        Ok(response.map(|body| Tracked { body, round }))
    }
}

/// Refuses a head that is too large, of which the library lets some through, and one without
/// exactly one `Host`, as RFC 9112 demands of HTTP/1.1.
fn check_head(request: &Request<Incoming>) -> Result<(), Problem> {
    let fields = request.headers();
    let bytes: usize = fields
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if bytes > HEAD_BYTES_MAX {
        let detail = format!("the fields are {bytes} bytes; the limit is {HEAD_BYTES_MAX}");
        return Err(Problem::new(Kind::HeadersTooLarge, detail));
    }
    let hosts = fields.get_all(header::HOST).iter().count();
    if hosts == 1 || (hosts == 0 && request.version() != Version::HTTP_11) {
        return Ok(());
    }
    let detail = format!("a request has one field Host; this one has {hosts}");
    Err(Problem::new(Kind::MalformedRequest, detail))
}

/// A request's body that tells when nobody reads the rest of it.
#[derive(Debug)]
struct Asked {
    body: Incoming,
    round: Arc<Round>,
    is_read: bool,
}

impl HttpBody for Asked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.is_read = frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.is_read && !self.body.is_end_stream() {
            self.round.refuse();
        }
    }
}

/// An answer's body that tells when it is sent or given up.
#[derive(Debug)]
struct Tracked {
    body: Body,
    round: Arc<Round>,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.round.answered();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;

    const fn bytes_of<F: Future>(_made_by: &impl FnOnce(TcpStream) -> F) -> usize {
        size_of::<F>()
    }

    /// There are as many of them as connections, most of them waiting.
    #[test]
    fn a_connection_is_small() {
        let (limits, drain) = (ServeLimits::default(), CancellationToken::new());
        let bytes = bytes_of(&|socket| converse(socket, Router::new(), &limits, &drain));
        assert!(bytes <= 1_200, "{bytes} bytes");
    }
}
