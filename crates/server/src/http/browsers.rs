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
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use http::header::{self, HeaderName};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

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
pub fn loopback_guard(router: Router, guard: Guard) -> Router {
    let guard = Arc::new(guard);
    router.layer(from_fn(move |request: Request, next: Next| {
        let guard = guard.clone();
        async move { guard.answer(request, next).await }
    }))
}

impl Guard {
    async fn answer(&self, request: Request, next: Next) -> Response {
        let mount = Mount::of(&request);
        let allowed = self.allowed(request.headers());
        let mut response = match self.check(&request, allowed.is_some()) {
            Err(problem) => problem.render(mount.prefix(), mount.path()),
            Ok(()) if allowed.is_some() && is_preflight(&request) => preflight(request.headers()),
            Ok(()) => next.run(request).await,
        };
        let headers = response.headers_mut();
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
        response
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
        if self.is_loopback && !hosts(request).is_some_and(|hosts| hosts.iter().all(is_loopback)) {
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
            let hosts = hosts(request).unwrap_or_default();
            hosts.iter().any(|host| is_origin_of(origin, host))
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

/// Returns every host that a request names; none when it names none, or one that is no text.
fn hosts(request: &Request) -> Option<Vec<String>> {
    let mut hosts: Vec<String> = Vec::new();
    hosts.extend(request.uri().authority().map(ToString::to_string));
    for field in request.headers().get_all(header::HOST) {
        hosts.push(field.to_str().ok()?.to_owned());
    }
    (!hosts.is_empty()).then_some(hosts)
}

/// Tells whether a host, with or without a port, is this machine to itself.
#[expect(clippy::ptr_arg, reason = "passed to Iterator::all")]
fn is_loopback(host: &String) -> bool {
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
            assert_eq!(is_loopback(&host.to_owned()), expected, "{host}");
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
