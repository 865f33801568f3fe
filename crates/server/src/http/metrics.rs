//! What is counted of HTTP: connections, and requests by method, route and status.
//!
//! A route finds its counters once and keeps them, so that a request is one addition to a number.
//! How it is told is in `scrape.rs`.

use super::call::Mount;
use super::limits::COUNTED_ROUTES_MAX;
use axum::extract::MatchedPath;
use http::{Method, Request, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Where the requests are counted that no route takes.
const NO_ROUTE: &str = "none";
/// The methods that are told apart.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "other"];
/// The classes of status that are told apart.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What is counted of HTTP. Clones count together: give the same to the router and to the accept
/// loop, and put it into a registry of your own if you have one.
#[derive(Clone, Debug, Default)]
pub struct HttpMetrics {
    routes: Arc<Routes>,
    connections: Arc<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    open: Gauge,
    limit: Gauge,
    accepted: Counter,
    failed: Counter,
    refused_heads: Counter,
}

impl HttpMetrics {
    /// Puts all that is counted into `registry`, where each scrape reads it anew. Their names
    /// begin with `anteroom_http_`; `docs/metrics.md` lists them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.routes.clone()));
        let connections = &self.connections;
        registry.register(
            "anteroom_http_connections",
            "Connections that are open",
            connections.open.clone(),
        );
        registry.register(
            "anteroom_http_connections_limit",
            "Connections that may be open at once; more wait in the system's backlog",
            connections.limit.clone(),
        );
        registry.register(
            "anteroom_http_connections_accepted",
            "Connections that were accepted",
            connections.accepted.clone(),
        );
        registry.register(
            "anteroom_http_accepts_failed",
            "Times that a connection could not be accepted, such as for want of descriptors",
            connections.failed.clone(),
        );
        registry.register(
            "anteroom_http_heads_refused",
            "Requests whose head was malformed, too large or too late, before any route",
            connections.refused_heads.clone(),
        );
    }

    /// The accept loop begins, with so many connections at once.
    pub(super) fn listens(&self, limit: usize) {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.connections.limit.set(limit);
    }

    /// Counts a connection that was accepted, and as open until the guard is dropped.
    pub(super) fn accepted(&self) -> Open {
        self.connections.accepted.inc();
        self.connections.open.inc();
        Open(self.connections.clone())
    }

    pub(super) fn accept_failed(&self) {
        self.connections.failed.inc();
    }

    pub(super) fn head_refused(&self) {
        self.connections.refused_heads.inc();
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Open(Arc<Connections>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.dec();
    }
}

/// The counters of all routes that were asked for.
#[derive(Debug, Default)]
struct Routes(Mutex<BTreeMap<String, Arc<RouteCounters>>>);

/// The counters of a route: by method, then by class of status.
#[derive(Debug, Default)]
struct RouteCounters([[AtomicU64; CLASSES.len()]; METHODS.len()]);

impl Routes {
    fn of(&self, route: &str) -> Arc<RouteCounters> {
        // Nothing in here panics while it holds the lock, so a poisoned one is still good.
        let mut routes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counters) = routes.get(route) {
            return counters.clone();
        }
        let route = if routes.len() < COUNTED_ROUTES_MAX {
            route
        } else {
            NO_ROUTE
        };
        routes.entry(route.to_owned()).or_default().clone()
    }
}

/// Remembers the counters of the one route that it stands before.
#[derive(Debug, Default)]
pub(super) struct Route {
    /// The path as it was matched, and its counters.
    known: OnceLock<(String, Arc<RouteCounters>)>,
}

impl Route {
    /// Returns where this request is counted once it is answered.
    pub(super) fn counter<B>(
        &self,
        metrics: &HttpMetrics,
        request: &Request<B>,
        mount: &Mount,
    ) -> RequestCounter {
        let matched = request.extensions().get::<MatchedPath>();
        let matched = matched.map_or("", MatchedPath::as_str);
        let find = || metrics.routes.of(route_of(matched, mount));
        let (known, counters) = self.known.get_or_init(|| (matched.to_owned(), find()));
        let counters = if known == matched {
            counters.clone()
        } else {
            find()
        };
        let method = method_index(request.method());
        RequestCounter { counters, method }
    }
}

/// Returns the route's own pattern, without the path that the router is mounted under.
fn route_of<'a>(matched: &'a str, mount: &Mount) -> &'a str {
    if matched.is_empty() {
        return NO_ROUTE;
    }
    let prefix_segments = mount.prefix().matches('/').count();
    let mut route = matched;
    for _ in 0..prefix_segments {
        let rest = route.get(1..).unwrap_or_default();
        route = rest.find('/').map_or("", |at| &rest[at..]);
    }
    if route.is_empty() { "/" } else { route }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct RequestCounter {
    counters: Arc<RouteCounters>,
    method: usize,
}

impl RequestCounter {
    pub(super) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.counters.0[self.method][class].fetch_add(1, Ordering::Relaxed);
    }
}

fn method_index(method: &Method) -> usize {
    let other = METHODS.len() - 1;
    let known = METHODS[..other].iter();
    known
        .into_iter()
        .position(|name| *name == method.as_str())
        .unwrap_or(other)
}

impl Collector for Routes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "anteroom_http_requests",
            "Requests that were answered, by method, route and class of status",
            None,
            MetricType::Counter,
        )?;
        let routes = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for (route, counters) in &routes {
            for (method, classes) in METHODS.iter().zip(&counters.0) {
                for (class, counter) in CLASSES.iter().zip(classes) {
                    let answered = counter.load(Ordering::Relaxed);
                    // Most of what could be asked for never is.
                    if answered > 0 {
                        let labels = [("method", *method), ("route", route), ("status", *class)];
                        ConstCounter::new(answered).encode(metric.encode_family(&labels)?)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::OriginalUri;

    #[test]
    fn a_route_is_named_without_what_it_is_mounted_under() {
        for (matched, original, here, route) in [
            ("/v1/jobs/{id}", "/v1/jobs/7", "/v1/jobs/7", "/v1/jobs/{id}"),
            ("/", "/", "/", "/"),
            ("/work/v1/jobs", "/work/v1/jobs", "/v1/jobs", "/v1/jobs"),
            (
                "/of/{who}/v1/jobs",
                "/of/me/v1/jobs",
                "/v1/jobs",
                "/v1/jobs",
            ),
            ("/work", "/work", "/", "/"),
            ("/work/", "/work/", "/", "/"),
            ("", "/nowhere", "/nowhere", NO_ROUTE),
        ] {
            let mut request = Request::new(());
            *request.uri_mut() = here.parse().unwrap();
            let original = OriginalUri(original.parse().unwrap());
            request.extensions_mut().insert(original);
            assert_eq!(route_of(matched, &Mount::of(&request)), route, "{matched}");
        }
    }

    #[test]
    fn routes_beyond_the_bound_are_counted_together() {
        let routes = Routes::default();
        for number in 0..2 * COUNTED_ROUTES_MAX {
            routes.of(&format!("/{number}"));
        }
        assert_eq!(routes.0.lock().unwrap().len(), COUNTED_ROUTES_MAX + 1);
    }
}
