//! Pages: the root, and one for each kind of problem. Plain HTML for browsers, else JSON or text.

use super::App;
use super::call::Call;
use super::problem::{Kind, Problem};
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use std::fmt::Write;

/// Pages load nothing and run nothing.
const PAGE_POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(Serialize)]
struct RootView {
    message: &'static str,
    version: &'static str,
    links: RootLinks,
}

#[derive(Serialize)]
struct RootLinks {
    #[serde(rename = "self")]
    itself: String,
    tasks: String,
    jobs: String,
    queues: String,
    schedules: String,
    live: String,
    ready: String,
    openapi: String,
    docs: String,
    metrics: String,
}

/// `GET /`: a page for a browser, JSON for everybody else.
pub(crate) async fn root(_app: App, call: Call) -> Result<Response, Problem> {
    call.no_query()?;
    let prefix = call.mount.prefix();
    let view = RootView {
        message: "Anteroom takes jobs",
        version: env!("CARGO_PKG_VERSION"),
        links: RootLinks {
            itself: format!("{prefix}/"),
            tasks: format!("{prefix}/v1/tasks"),
            jobs: format!("{prefix}/v1/jobs"),
            queues: format!("{prefix}/v1/queues"),
            schedules: format!("{prefix}/v1/schedules"),
            live: format!("{prefix}/livez"),
            ready: format!("{prefix}/readyz"),
            openapi: format!("{prefix}/openapi.json"),
            docs: format!("{prefix}/docs"),
            metrics: format!("{prefix}/metrics"),
        },
    };
    if !prefers_html(call.headers()) {
        return Ok(varying(json(&view)));
    }
    let mut body = format!(
        "<h1>Anteroom {}</h1>\n<p>The server is up and takes jobs over HTTP.</p>\n<ul>\n",
        view.version
    );
    for (link, what) in [
        (&view.links.tasks, "tasks"),
        (&view.links.jobs, "jobs"),
        (&view.links.queues, "queues"),
        (&view.links.schedules, "schedules"),
        (&view.links.ready, "readiness"),
        (&view.links.docs, "the HTTP API"),
        (&view.links.metrics, "metrics"),
    ] {
        // Writing to a string does not fail.
        let _ = writeln!(body, "<li><a href=\"{}\">{what}</a></li>", escaped(link));
    }
    body.push_str("</ul>\n");
    Ok(varying(page("Anteroom", &body)))
}

/// `GET /problems/{slug}`: what a kind of problem means, and what to do about it.
pub(crate) async fn problem(_app: App, call: Call) -> Result<Response, Problem> {
    call.no_query()?;
    let slug = call.segment(1);
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.slug() == slug) else {
        let detail = format!("there is no problem named {slug:?}");
        return Err(Problem::new(Kind::UnknownRoute, detail));
    };
    let text = text_of(kind);
    if prefers_html(call.headers()) {
        let body = format!("<pre>{}</pre>\n", escaped(text));
        return Ok(varying(page(kind.title(), &body)));
    }
    let mut response = Response::new(Body::from(text));
    set(
        &mut response,
        &header::CONTENT_TYPE,
        "text/markdown; charset=utf-8",
    );
    secure(&mut response);
    Ok(varying(response))
}

/// Returns the page of a kind of problem, as it is in `docs/problems`.
const fn text_of(kind: Kind) -> &'static str {
    match kind {
        Kind::UnknownTask => include_str!("../../../../docs/problems/unknown-task.md"),
        Kind::UnknownQueue => include_str!("../../../../docs/problems/unknown-queue.md"),
        Kind::TooManyQueues => include_str!("../../../../docs/problems/too-many-queues.md"),
        Kind::UnknownSchedule => include_str!("../../../../docs/problems/unknown-schedule.md"),
        Kind::TooManySchedules => include_str!("../../../../docs/problems/too-many-schedules.md"),
        Kind::DefinedInConfiguration => {
            include_str!("../../../../docs/problems/defined-in-configuration.md")
        }
        Kind::CallbackRefused => include_str!("../../../../docs/problems/callback-refused.md"),
        Kind::QueueFull => include_str!("../../../../docs/problems/queue-full.md"),
        Kind::UnknownJob => include_str!("../../../../docs/problems/unknown-job.md"),
        Kind::JobExpired => include_str!("../../../../docs/problems/job-expired.md"),
        Kind::UnknownRoute => include_str!("../../../../docs/problems/unknown-route.md"),
        Kind::MethodNotAllowed => include_str!("../../../../docs/problems/method-not-allowed.md"),
        Kind::MalformedRequest => include_str!("../../../../docs/problems/malformed-request.md"),
        Kind::MalformedPath => include_str!("../../../../docs/problems/malformed-path.md"),
        Kind::MalformedJson => include_str!("../../../../docs/problems/malformed-json.md"),
        Kind::InvalidParameter => include_str!("../../../../docs/problems/invalid-parameter.md"),
        Kind::InvalidInput => include_str!("../../../../docs/problems/invalid-input.md"),
        Kind::InvalidBody => include_str!("../../../../docs/problems/invalid-body.md"),
        Kind::PayloadTooLarge => include_str!("../../../../docs/problems/payload-too-large.md"),
        Kind::UnsupportedMediaType => {
            include_str!("../../../../docs/problems/unsupported-media-type.md")
        }
        Kind::RangeNotSatisfiable => {
            include_str!("../../../../docs/problems/range-not-satisfiable.md")
        }
        Kind::UriTooLong => include_str!("../../../../docs/problems/uri-too-long.md"),
        Kind::HeadersTooLarge => include_str!("../../../../docs/problems/headers-too-large.md"),
        Kind::JobFailed => include_str!("../../../../docs/problems/job-failed.md"),
        Kind::JobTimedOut => include_str!("../../../../docs/problems/job-timed-out.md"),
        Kind::JobCancelled => include_str!("../../../../docs/problems/job-cancelled.md"),
        Kind::AlreadySucceeded => include_str!("../../../../docs/problems/already-succeeded.md"),
        Kind::NothingToRetry => include_str!("../../../../docs/problems/nothing-to-retry.md"),
        Kind::NotWaiting => include_str!("../../../../docs/problems/not-waiting.md"),
        Kind::UniqueKeyTaken => include_str!("../../../../docs/problems/unique-key-taken.md"),
        Kind::IdempotencyKeyReused => {
            include_str!("../../../../docs/problems/idempotency-key-reused.md")
        }
        Kind::NotFinal => include_str!("../../../../docs/problems/not-final.md"),
        Kind::VersionDiffers => include_str!("../../../../docs/problems/version-differs.md"),
        Kind::Draining => include_str!("../../../../docs/problems/draining.md"),
        Kind::TooLate => include_str!("../../../../docs/problems/too-late.md"),
        Kind::StoreUnavailable => include_str!("../../../../docs/problems/store-unavailable.md"),
        Kind::Overloaded => include_str!("../../../../docs/problems/overloaded.md"),
        Kind::Unauthorized => include_str!("../../../../docs/problems/unauthorized.md"),
        Kind::Forbidden => include_str!("../../../../docs/problems/forbidden.md"),
        Kind::RateLimited => include_str!("../../../../docs/problems/rate-limited.md"),
        Kind::CrossSite => include_str!("../../../../docs/problems/cross-site.md"),
        Kind::NotSupported => include_str!("../../../../docs/problems/not-supported.md"),
        Kind::RequestTimeout => include_str!("../../../../docs/problems/request-timeout.md"),
        Kind::NotAPullTask => include_str!("../../../../docs/problems/not-a-pull-task.md"),
        Kind::LeaseLost => include_str!("../../../../docs/problems/lease-lost.md"),
        Kind::InternalError => include_str!("../../../../docs/problems/internal-error.md"),
    }
}

/// Answers with JSON that is not to be kept.
pub(crate) fn json(view: &impl Serialize) -> Response {
    // Writing to memory does not fail, and every key is a string.
    json_text(serde_json::to_vec(view).unwrap_or_default())
}

/// Answers with JSON that is written already.
pub(crate) fn json_text(text: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(text));
    set(&mut response, &header::CONTENT_TYPE, "application/json");
    set(&mut response, &header::CACHE_CONTROL, "no-store");
    response
}

fn page(title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n{body}</html>\n",
        escaped(title)
    );
    let mut response = Response::new(Body::from(html));
    set(
        &mut response,
        &header::CONTENT_TYPE,
        "text/html; charset=utf-8",
    );
    secure(&mut response);
    response
}

fn secure(response: &mut Response) {
    set(response, &header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
    set(response, &header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(response, &header::REFERRER_POLICY, "no-referrer");
    set(response, &header::CACHE_CONTROL, "no-cache");
}

/// Says that the answer depends on what the client takes.
fn varying(mut response: Response) -> Response {
    set(&mut response, &header::VARY, "Accept");
    response
}

fn set(response: &mut Response, name: &header::HeaderName, value: &'static str) {
    let value = HeaderValue::from_static(value);
    response.headers_mut().insert(name, value);
}

pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(character),
        }
    }
    safe
}

/// Tells whether a client names HTML and likes it better than JSON. `*/*` names nothing.
fn prefers_html(headers: &HeaderMap) -> bool {
    let (mut html, mut json) = (0.0_f32, 0.0_f32);
    for field in headers.get_all(header::ACCEPT) {
        for range in field.to_str().unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts
                .find_map(|part| part.strip_prefix("q="))
                .and_then(|text| text.parse().ok())
                .unwrap_or(1.0);
            match name.as_str() {
                "text/html" | "application/xhtml+xml" => html = html.max(quality),
                "application/json" => json = json.max(quality),
                _ => {}
            }
        }
    }
    html > json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_for_those_who_ask_for_it() {
        for (accept, expected) in [
            (None, false),
            (Some("*/*"), false),
            (Some("application/json"), false),
            (Some("text/html,application/xhtml+xml,*/*;q=0.8"), true),
            (Some("text/html;q=0.5, application/json"), false),
            (Some("application/json;q=0.5, text/html;q=0.9"), true),
            (Some("text/html, application/json"), false),
            (Some("text/html;q=0"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(prefers_html(&headers), expected, "{accept:?}");
        }
    }

    /// The pages and the kinds stay in step: each has the other.
    #[test]
    fn every_kind_has_its_page_and_every_page_its_kind() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/problems");
        let mut pages: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut kinds: Vec<String> = Kind::ALL
            .into_iter()
            .map(|kind| format!("{}.md", kind.slug()))
            .collect();
        pages.sort();
        kinds.sort();
        assert_eq!(pages, kinds);
        for kind in Kind::ALL {
            assert!(!text_of(kind).trim().is_empty(), "{kind:?}");
        }
    }
}
