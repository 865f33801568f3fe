//! The `OpenAPI` 3.1 document: what `GET /openapi.json` serves and `anteroom openapi` prints.
//!
//! It is put together from descriptions in code (`operation::Call`), one for each line of the
//! route table, by area: `jobs.rs`, `submit.rs`, … Forms of bodies are types (`schemas.rs`); fields
//! and parameters that calls share are in `parts.rs`. Handlers know nothing of it.
//!
//! `docs/openapi.json` is a copy for readers and generators; a test holds it to the code.

mod control;
mod events;
mod examples;
mod jobs;
mod leases;
mod operation;
mod parts;
mod queues;
mod schedules;
mod schemas;
mod server;
mod submit;
mod webhooks;

use super::App;
use super::call::Call as Request;
use super::conditional;
use super::problem::{Kind, Problem};
use super::query::encode_path;
use super::routes::Needs;
use axum::body::Body;
use axum::response::Response as Answer;
use http::{HeaderValue, Method, StatusCode, header};
use operation::{Call, Shared, TOKEN};
use parts::Field;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;
use utoipa::openapi::path::HttpMethod;
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Components, Info, License, OpenApi, PathItem, Paths, Ref, RefOr, Schema, Server, Tag,
};
use utoipa::{PartialSchema, ToSchema};

/// Stands for the path that the router is mounted under, until a request shows it.
pub(super) const MOUNT: &str = "@mount@";
/// Stands for that path where it may not be empty.
const SERVER: &str = "@server@";

/// `GET /openapi.json`: the document, with links for where the router is mounted.
pub(crate) async fn serve(_app: App, call: Request) -> Result<Answer, Problem> {
    call.no_query()?;
    let prefix = encode_path(call.mount.prefix());
    let text = mounted(compact(), &prefix);
    let tag = entity_tag(&text);
    let is_known = conditional::is_known(call.headers(), &tag);
    let mut answer = Answer::new(if is_known {
        Body::empty()
    } else {
        Body::from(text)
    });
    if is_known {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    Ok(answer)
}

/// Returns the document for a router that is mounted at the root, in lines and indented.
pub fn pretty() -> String {
    // What has only strings as keys can always be written.
    let mut text = serde_json::to_string_pretty(template()).unwrap_or_default();
    text.push('\n');
    mounted(&text, "")
}

/// Returns the document that `docs.rs` shows, with [`MOUNT`] where the prefix goes.
pub(super) fn template() -> &'static OpenApi {
    static TEMPLATE: OnceLock<OpenApi> = OnceLock::new();
    TEMPLATE.get_or_init(document)
}

fn compact() -> &'static str {
    static COMPACT: OnceLock<String> = OnceLock::new();
    COMPACT.get_or_init(|| serde_json::to_string(template()).unwrap_or_default())
}

/// Puts the prefix in. It is percent-encoded, and so has nothing to escape.
pub(super) fn mounted(text: &str, prefix: &str) -> String {
    let server = if prefix.is_empty() { "/" } else { prefix };
    text.replace(SERVER, server).replace(MOUNT, prefix)
}

/// Returns a strong entity tag of a text of this version.
pub(super) fn entity_tag(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("\"{}-{:016x}\"", env!("CARGO_PKG_VERSION"), hasher.finish())
}

/// Returns a reference to the schema of a type that has one.
fn schema_of<T: ToSchema>() -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(T::name()))
}

/// Describes every call, in the order in which they are read.
fn calls() -> Vec<Call> {
    let mut calls = submit::calls();
    calls.extend(jobs::calls());
    calls.extend(events::calls());
    calls.extend(control::calls());
    calls.extend(leases::calls());
    calls.extend(queues::calls());
    calls.extend(schedules::calls());
    calls.extend(server::calls());
    calls
}

fn document() -> OpenApi {
    let table = super::route_table();
    let mut shared = Shared::default();
    let mut paths = Paths::new();
    for call in calls() {
        let (path, calls_back) = (call.path, call.callbacks);
        let method = method_of(&call.method);
        let route = table
            .iter()
            .find(|route| route.path == path && route.method == call.method);
        let needs = route.map_or(Needs::Nothing, |route| route.needs);
        let mut operation = call.needs(needs).build(&mut shared);
        if calls_back {
            let callback = webhooks::callback();
            operation
                .callbacks
                .insert("jobEnded".to_owned(), callback.into());
        }
        let item = PathItem::new(method, operation);
        match paths.paths.get_mut(path) {
            Some(known) => known.merge_operations(item),
            None => {
                paths.paths.insert(path.to_owned(), item);
            }
        }
    }
    // No call of the document is answered with it: a call that it names is there.
    let of_no_call = Kind::MethodNotAllowed;
    shared.responses.insert(
        format!("{of_no_call:?}"),
        operation::problem_response(of_no_call.status(), &[of_no_call], &[]),
    );
    let mut document = OpenApi::new(info(), paths);
    document.servers = Some(vec![Server::new(SERVER)]);
    document.tags = Some(tags());
    document.webhooks = Some(webhooks::webhooks());
    document.components = Some(components(shared));
    document
}

/// Returns the method as the document knows it. No route has another.
fn method_of(method: &Method) -> HttpMethod {
    match method.as_str() {
        "POST" => HttpMethod::Post,
        "PUT" => HttpMethod::Put,
        "PATCH" => HttpMethod::Patch,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

fn info() -> Info {
    let mut info = Info::new("Anteroom", env!("CARGO_PKG_VERSION"));
    info.description = Some(include_str!("openapi/introduction.md").to_owned());
    let mut license = License::new("MIT OR Apache-2.0");
    license.identifier = Some("MIT OR Apache-2.0".to_owned());
    info.license = Some(license);
    info
}

fn tags() -> Vec<Tag> {
    [
        ("Submit", "Handing jobs in."),
        ("Jobs", "Reading jobs, their inputs and their results."),
        ("Events", "Following jobs as they go on."),
        ("Control", "Changing jobs from outside."),
        (
            "Workers",
            "Leases of jobs for workers that pull, and what their holders say.",
        ),
        ("Queues", "What waits where, and what holds it."),
        ("Schedules", "What is submitted again and again."),
        ("Tasks", "What there is to submit to."),
        ("Server", "The server itself."),
    ]
    .map(|(name, description)| {
        TagBuilder::new()
            .name(name)
            .description(Some(description))
            .build()
    })
    .into()
}

fn components(shared: Shared) -> Components {
    let mut components = Components::new();
    components.schemas = all_schemas();
    components.responses = shared
        .responses
        .into_iter()
        .map(|(name, response)| (name, response.into()))
        .collect();
    components.parameters = shared
        .parameters
        .into_iter()
        .map(|(name, parameter)| (name, parameter.into()))
        .collect();
    let mut token = Http::new(HttpAuthScheme::Bearer);
    token.description = Some(
        "`Authorization: Bearer …`, where the server has tokens. What a token covers is its \
         scopes: `submit` (handing jobs in, and cancelling one), `read` (everything that is read \
         under `/v1`, and `/metrics`), `work` (leases, and settling them), `admin` (everything). A token that is for \
         some tasks sees and touches their jobs only: others are refused on submit, and otherwise \
         as if they were not there."
            .to_owned(),
    );
    let token = SecurityScheme::Http(token);
    components.security_schemes = [(TOKEN.to_owned(), token.into())].into();
    components.headers = Field::ALL
        .into_iter()
        .map(|field| (field.name().to_owned(), field.header().into()))
        .collect();
    components
}

/// Returns the schemas of all types, and of those that they are made of.
fn all_schemas() -> BTreeMap<String, RefOr<Schema>> {
    let mut schemas = Vec::new();
    with::<schemas::Job>(&mut schemas);
    with::<schemas::JobPage>(&mut schemas);
    with::<schemas::TaskList>(&mut schemas);
    with::<schemas::Root>(&mut schemas);
    with::<schemas::Health>(&mut schemas);
    with::<schemas::Problem>(&mut schemas);
    with::<schemas::JobEnded>(&mut schemas);
    with::<schemas::BulkResult>(&mut schemas);
    with::<schemas::Envelope>(&mut schemas);
    with::<schemas::SubmittedJobs>(&mut schemas);
    with::<schemas::JobPatch>(&mut schemas);
    with::<schemas::LeaseRequest>(&mut schemas);
    with::<schemas::LeaseList>(&mut schemas);
    with::<schemas::LeaseFailure>(&mut schemas);
    with::<schemas::Extension>(&mut schemas);
    with::<schemas::HeldLease>(&mut schemas);
    with::<schemas::Settle>(&mut schemas);
    with::<schemas::SettleResults>(&mut schemas);
    with::<schemas::QueueList>(&mut schemas);
    with::<schemas::QueuePatch>(&mut schemas);
    with::<schemas::ScheduleList>(&mut schemas);
    with::<schemas::SchedulePut>(&mut schemas);
    with::<schemas::Preview>(&mut schemas);
    let mut schemas: BTreeMap<_, _> = schemas.into_iter().collect();
    // What requests may not have more of; answers may, in a later version.
    for name in [
        schemas::Envelope::name(),
        schemas::JobPatch::name(),
        schemas::QueuePatch::name(),
        schemas::NewRate::name(),
        schemas::SchedulePut::name(),
        schemas::LeaseRequest::name(),
        schemas::LeaseFailure::name(),
        schemas::Extension::name(),
        schemas::LeaseProgress::name(),
        schemas::Settle::name(),
    ] {
        if let Some(RefOr::T(Schema::Object(object))) = schemas.get_mut(&*name) {
            object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        }
    }
    schemas
}

fn with<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((T::name().into(), <T as PartialSchema>::schema()));
    T::schemas(schemas);
}

#[cfg(test)]
mod tests;
