//! `GET /docs`: the `OpenAPI` document as a page for people.
//!
//! Made on the server from what `/openapi.json` says: it loads nothing from elsewhere and runs
//! nothing, so that it works offline, in any browser, and under the policy of all other pages.
//! Text is put together by [`page`], which escapes everything that it is given.

mod page;
mod text;
mod types;

use super::App;
use super::call::Call;
use super::openapi::{entity_tag, mounted};
use super::problem::Problem;
use super::query::encode_path;
use super::{conditional, openapi};
use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use std::sync::OnceLock;

/// The page may have its own style and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// `GET /docs`: the page, with links for where the router is mounted.
pub(crate) async fn serve(_app: App, call: Call) -> Result<Response, Problem> {
    static PAGE: OnceLock<String> = OnceLock::new();
    call.no_query()?;
    let template = PAGE.get_or_init(|| page::html(openapi::template()));
    let prefix = encode_path(call.mount.prefix()).replace('\'', "%27");
    let html = mounted(template, &prefix.replace('&', "&amp;"));
    Ok(answer(&call, html, "text/html; charset=utf-8"))
}

/// `GET /docs/style.css`: how the page looks.
pub(crate) async fn style(_app: App, call: Call) -> Result<Response, Problem> {
    call.no_query()?;
    let css = include_str!("docs/style.css").to_owned();
    Ok(answer(&call, css, "text/css; charset=utf-8"))
}

fn answer(call: &Call, text: String, content_type: &'static str) -> Response {
    let tag = entity_tag(&text);
    let is_known = conditional::is_known(call.headers(), &tag);
    let mut response = Response::new(if is_known {
        Body::empty()
    } else {
        Body::from(text)
    });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}
