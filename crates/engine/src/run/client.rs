//! The HTTP client of pushes and callbacks.
//!
//! It connects to no address that its [`Targets`] do not allow: the check is in the connector, so
//! that what was checked is what is connected to. It follows no redirect, knows no proxy and no
//! cookie, and bounds what it keeps of an answer's head. How long an answer may take is for others
//! to say: a push may run for hours.

use crate::run::targets::{Targets, Unreachable, place};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;
use tower_service::Service;
use tracing::warn;

/// How long it takes at most from a name to a connection, TLS included.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Addresses of a host that are tried.
const ADDRESSES_MAX: usize = 4;
/// How long an idle connection is kept: common servers close theirs after five seconds, and what
/// is sent meanwhile is lost.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// Idle connections that are kept to one host: as many as a task has attempts at once.
const IDLE_CONNECTIONS_MAX: usize = anteroom_core::limits::CONCURRENCY_PUSH_DEFAULT;
/// Fields of an answer's head.
const HEADERS_MAX: usize = 100;
/// Bytes of an answer's head, and of what is read ahead of its body. Checked between reads, so that
/// a head may come to twice as many before it is refused.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// How long a connection is silent before the other side is asked whether it is there, in seconds.
const KEEPALIVE_AFTER_SECS: u32 = 30;
/// How often it is asked, in seconds; it is gone after as many times as below.
const KEEPALIVE_EVERY_SECS: u32 = 10;
/// How often it is asked in vain.
const KEEPALIVE_TIMES: u32 = 6;

/// Sends requests to allowed targets. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    targets: Targets,
    /// Made when it is first needed: it reads the machine's certificate authorities.
    http: OnceLock<Http>,
    connections: TaskTracker,
}

type Http = legacy::Client<InTime, Full<Bytes>>;

impl Client {
    /// Returns a client that connects to what `targets` allow.
    pub fn new(targets: Targets) -> Self {
        Self(Arc::new(Inner {
            targets,
            http: OnceLock::new(),
            connections: TaskTracker::new(),
        }))
    }

    /// Returns what it may connect to.
    pub fn targets(&self) -> &Targets {
        &self.0.targets
    }

    /// Sends a request, and returns the head of its answer.
    ///
    /// Dropping the future or the answer's body drops the connection.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let http = self.0.http.get_or_init(|| self.0.start());
        http.request(request)
            .await
            .map_err(|error| Unanswered(causes(&error)))
    }
}

impl Inner {
    fn start(&self) -> Http {
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls())
            .https_or_http()
            .enable_http1()
            .wrap_connector(Checked(self.targets.clone()));
        legacy::Client::builder(Owned(self.connections.clone()))
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .http1_max_headers(HEADERS_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(InTime(https))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("targets", &self.0.targets)
            .finish_non_exhaustive()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer: {0}")]
pub(crate) struct Unanswered(String);

/// Writes an error as its causes, from the outermost to the innermost.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let words = error.to_string();
        // Some repeat what they were caused by.
        if !text.ends_with(&words) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&words);
        }
        next = error.source();
    }
    text
}

/// Trusts the machine's certificate authorities; where it has none, those of browsers.
fn tls() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        warn!(%error, "cannot read some of the machine's certificate authorities: {error}");
    }
    let (_taken, _unreadable) = roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    // Named here, so that it does not depend on what else of the process uses TLS.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has what both versions of TLS need")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Spawns the futures of connections where they are owned. Each ends with its connection.
#[derive(Clone)]
struct Owned(TaskTracker);

impl<F> hyper::rt::Executor<F> for Owned
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, connection: F) {
        self.0.spawn(connection);
    }
}

/// Connects to hosts, but only to addresses that are allowed.
#[derive(Clone)]
struct Checked(Targets);

impl Service<Uri> for Checked {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let targets = self.0.clone();
        async move {
            let (host, port) = place(&uri).ok_or(ConnectError::NoHost)?;
            let addresses = targets.addresses(host, port).await?;
            connect(&addresses).await.map(TokioIo::new)
        }
        .boxed()
    }
}

/// Connects to the first of the addresses that answers in its share of the time.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    let addresses = &addresses[..addresses.len().min(ADDRESSES_MAX)];
    let share = CONNECT_MAX / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut last = ConnectError::NoHost;
    for address in addresses {
        let connected = tokio::time::timeout(share, TcpStream::connect(address)).await;
        let source = match connected {
            Ok(Ok(stream)) => {
                set_up(&stream);
                return Ok(stream);
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        last = ConnectError::Tcp {
            address: *address,
            source,
        };
    }
    Err(last)
}

/// Has small requests sent at once, and a peer that is gone noticed though nothing is sent.
fn set_up(stream: &TcpStream) {
    let set = stream.set_nodelay(true).and_then(|()| {
        setsockopt(stream, sockopt::KeepAlive, &true)?;
        setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE_AFTER_SECS)?;
        setsockopt(stream, sockopt::TcpKeepInterval, &KEEPALIVE_EVERY_SECS)?;
        Ok(setsockopt(stream, sockopt::TcpKeepCount, &KEEPALIVE_TIMES)?)
    });
    if let Err(error) = set {
        // The connection is as good without, only slower and later to be given up.
        warn!(%error, "cannot set up a connection for a push: {error}");
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("the URL names no host")]
    NoHost,
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    #[error("{address}: {source}")]
    Tcp {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("not connected within {} s", CONNECT_MAX.as_secs())]
    Late,
}

/// Bounds how long connecting takes, the handshake of TLS included.
#[derive(Clone)]
struct InTime(HttpsConnector<Checked>);

impl Service<Uri> for InTime {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        async move {
            tokio::time::timeout(CONNECT_MAX, connecting)
                .await
                .unwrap_or_else(|_| Err(ConnectError::Late.into()))
        }
        .boxed()
    }
}
