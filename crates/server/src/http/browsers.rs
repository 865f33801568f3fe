//! What keeps pages of other sites from using a server that asks for no token, and lets those of
//! allowed origins read its answers, whether it asks for one or not.
//!
//! A layer of the binary's server. A router that is mounted in somebody's own application is
//! guarded by that application.

use super::call::Mount;
use super::problem::{Kind, Problem};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use futures_util::future::{Either, Ready, ready};
use http::header::{self, HeaderName, ToStrError};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready as ready_or_pending};
use tower::Service;

/// Which requests of browsers are let in.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// The server listens on loopback only, so that every `Host` has to be a loopback name: a
    /// page that had its own name resolve to this machine is turned away.
    pub is_loopback: bool,
    /// The server asks for tokens, which no page has by itself: the token decides, and nothing is
    /// refused here.
    pub has_tokens: bool,
    /// Origins whose pages may use the server, such as `https://app.example`. Default none.
    pub allowed_origins: Vec<String>,
}

/// What a page of an allowed origin may send beside the usual.
const ALLOWED_HEADERS: &str = "authorization, content-type, idempotency-key, if-match, \
                               if-none-match, if-range, last-event-id, prefer, range";
/// What it may read beside the usual.
const EXPOSED_HEADERS: &str = "accept-patch, accept-ranges, allow, anteroom-job, \
                               content-range, etag, idempotency-replayed, location, preference-applied, ratelimit, \
                               ratelimit-policy, retry-after, www-authenticate, x-request-id";
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

/// Puts a guard around all routes of a server.
pub fn loopback_guard(router: Router, guard: Guard) -> Guarded {
    Guarded {
        router,
        guard: Arc::new(guard),
    }
}

/// All routes of a server behind a guard.
#[derive(Clone, Debug)]
pub struct Guarded {
    router: Router,
    guard: Arc<Guard>,
}

impl Service<Request> for Guarded {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response, Infallible>>, Passed>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.router, cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let guard = &self.guard;
        let allowed = guard.allowed(request.headers());
        let mut answered = match guard.check(&request, allowed.is_some()) {
            Err(problem) => {
                let mount = Mount::of(&request);
                problem.render(mount.prefix(), mount.path())
            }
            Ok(()) if allowed.is_some() && is_preflight(&request) => preflight(request.headers()),
            Ok(()) => {
                return Either::Right(Passed {
                    answer: self.router.call(request),
                    guard: guard.clone(),
                    allowed,
                });
            }
        };
        guard.tell(allowed, answered.headers_mut());
        Either::Left(ready(Ok(answered)))
    }
}

/// The answer to a request that was let in.
pub struct Passed {
    answer: RouteFuture<Infallible>,
    guard: Arc<Guard>,
    allowed: Option<HeaderValue>,
}

impl fmt::Debug for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passed").finish_non_exhaustive()
    }
}

impl Future for Passed {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(mut response) = ready_or_pending!(Pin::new(&mut self.answer).poll(cx));
        let allowed = self.allowed.take();
        self.guard.tell(allowed, response.headers_mut());
        Poll::Ready(Ok(response))
    }
}

impl Guard {
    /// Says in an answer whose pages may read it.
    fn tell(&self, allowed: Option<HeaderValue>, headers: &mut HeaderMap) {
        if !self.allowed_origins.is_empty() {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(origin) = allowed {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(
                header::ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static(EXPOSED_HEADERS),
            );
        }
    }

    /// Returns the request's origin, if its pages may use the server.
    fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let origin = origins.next().filter(|_| origins.next().is_none())?;
        let is_named = |named: &String| origin.as_bytes().eq_ignore_ascii_case(named.as_bytes());
        self.allowed_origins
            .iter()
            .any(is_named)
            .then(|| origin.clone())
    }

    fn check(&self, request: &Request, origin_allowed: bool) -> Result<(), Problem> {
        if self.has_tokens {
            return Ok(());
        }
        let headers = request.headers();
        let is_here = |host: Result<&str, ToStrError>| host.is_ok_and(is_loopback);
        if self.is_loopback && (hosts(request).next().is_none() || !hosts(request).all(is_here)) {
            let detail = "the server listens on loopback, and Host is no loopback name";
            return Err(Problem::new(Kind::CrossSite, detail));
        }
        let changes = ![Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
        if !changes || origin_allowed {
            return Ok(());
        }
        if headers
            .get_all("sec-fetch-site")
            .iter()
            .any(|site| site == "cross-site")
        {
            let detail = "a page of another site may not change anything here";
            return Err(Problem::new(Kind::CrossSite, detail));
        }
        let is_own = |origin: &HeaderValue| {
            let is_its = |host: &str| is_origin_of(origin, host);
            hosts(request).all(|host| host.is_ok()) && hosts(request).flatten().any(is_its)
        };
        match headers
            .get_all(header::ORIGIN)
            .iter()
            .find(|origin| !is_own(origin))
        {
            None => Ok(()),
            Some(origin) => {
                let detail = format!(
                    "the origin {origin:?} is neither this server's nor in allowed_origins"
                );
                Err(Problem::new(Kind::CrossSite, detail))
            }
        }
    }
}

/// Returns every host that a request names.
fn hosts(request: &Request) -> impl Iterator<Item = Result<&str, ToStrError>> {
    let fields = request.headers().get_all(header::HOST).iter();
    let named = request.uri().authority().map(|it| Ok(it.as_str()));
    named.into_iter().chain(fields.map(HeaderValue::to_str))
}

/// Tells whether a host, with or without a port, is this machine to itself.
fn is_loopback(host: &str) -> bool {
    let (name, _) = name_and_port(host);
    if let Some(bracketed) = name.strip_prefix('[') {
        let address = bracketed.strip_suffix(']').unwrap_or_default();
        return address
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| address.is_loopback());
    }
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback() && address.is_ipv4())
}

/// Splits a host from its port. What follows the last colon has to be digits.
fn name_and_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, Some(port)),
        Some(_) | None => (host, None),
    }
}

/// Tells whether an origin is that of this server, which speaks plain HTTP, reached under `host`.
/// `null` is nobody's.
fn is_origin_of(origin: &HeaderValue, host: &str) -> bool {
    let Some(uri) = origin
        .to_str()
        .ok()
        .and_then(|text| text.parse::<Uri>().ok())
    else {
        return false;
    };
    let Some(authority) = uri.authority() else {
        return false;
    };
    if uri.scheme() != Some(&Scheme::HTTP) {
        return false;
    }
    let usual = "80";
    let (here, here_port) = name_and_port(host);
    let (there, there_port) = name_and_port(authority.as_str());
    here.eq_ignore_ascii_case(there)
        && here_port.filter(|port| !port.is_empty()).unwrap_or(usual)
            == there_port.filter(|port| !port.is_empty()).unwrap_or(usual)
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight(asked: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if asked.contains_key("access-control-request-private-network") {
        headers.insert(
            HeaderName::from_static("access-control-allow-private-network"),
            HeaderValue::from_static("true"),
        );
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_several_names() {
        for (host, expected) in [
            ("localhost", true),
            ("LocalHost:8080", true),
            ("127.0.0.1", true),
            ("127.1.2.3:80", true),
            ("[::1]", true),
            ("[::1]:8080", true),
            ("localhost.", false),
            ("example.org", false),
            ("localhost.example.org", false),
            ("127.0.0.1.example.org", false),
            ("10.0.0.1", false),
            ("0.0.0.0", false),
            ("[::2]:80", false),
            ("::1", false),
            ("[::1", false),
            ("", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }

    #[test]
    fn an_origin_is_compared_with_its_port() {
        for (origin, host, expected) in [
            ("http://localhost:8080", "localhost:8080", true),
            ("http://LOCALHOST:8080", "localhost:8080", true),
            ("http://localhost", "localhost:80", true),
            ("https://jobs.example", "jobs.example", false),
            ("https://jobs.example", "jobs.example:443", false),
            ("https://localhost:8080", "localhost:8080", false),
            ("http://localhost:3000", "localhost:8080", false),
            ("http://localhost", "localhost:8080", false),
            ("http://evil.example", "localhost", false),
            ("null", "localhost", false),
            ("ftp://localhost", "localhost", false),
        ] {
            let value = HeaderValue::from_static(origin);
            assert_eq!(is_origin_of(&value, host), expected, "{origin} {host}");
        }
    }
}
