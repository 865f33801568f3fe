//! The words that calls are described in: a [`Call`], what it takes, and its [`Reply`] for each
//! status.
//!
//! What holds for every call (problems of HTTP itself, of the store, of tokens) is added here, so
//! that no description has to remember it. A problem is given by its [`Kind`], which knows its
//! status: a description cannot name a slug that does not exist, or a status that it does not have.

use super::parts::{Field, Parameters};
use super::{MOUNT, schema_of};
use crate::http::problem::Kind;
use crate::http::routes::Needs;
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa::openapi::path::{Operation, OperationBuilder, Parameter, ParameterIn};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Schema};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{
    Content, ContentBuilder, Header, Ref, RefOr, Required, Response, ResponseBuilder, Type,
};

/// The name of a content type that stands for all.
pub(super) const ANY: &str = "*/*";
/// The content type of every error.
const PROBLEM: &str = "application/problem+json";

/// The name of the security scheme.
pub(super) const TOKEN: &str = "token";

/// What is said of the rate of a token's submits, if it has one.
const RATE: [Field; 2] = [Field::RateLimit, Field::RateLimitPolicy];

/// What any call may be answered with, whatever it is.
const OF_HTTP: [Kind; 6] = [
    Kind::MalformedRequest,
    Kind::CrossSite,
    Kind::RequestTimeout,
    Kind::UriTooLong,
    Kind::HeadersTooLarge,
    Kind::InternalError,
];

/// A call being described.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    description: &'static str,
    parameters: Vec<Parameter>,
    body: Option<RequestBody>,
    replies: BTreeMap<u16, Reply>,
    problems: BTreeMap<u16, Vec<Kind>>,
    problem_fields: BTreeMap<u16, Vec<Field>>,
    pub(super) callbacks: bool,
    needs: Needs,
}

impl Call {
    fn new(method: Method, id: &'static str, path: &'static str) -> Self {
        let call = Self {
            method,
            path,
            id,
            tag: "",
            summary: "",
            description: "",
            parameters: Vec::new(),
            body: None,
            replies: BTreeMap::new(),
            problems: BTreeMap::new(),
            problem_fields: BTreeMap::new(),
            callbacks: false,
            needs: Needs::Nothing,
        };
        let call = call.problems(&OF_HTTP);
        let call = if path.contains('{') {
            call.problems(&[Kind::MalformedPath])
        } else {
            call
        };
        if path.starts_with("/v1/") {
            call.problems(&[Kind::InvalidParameter, Kind::StoreUnavailable])
        } else {
            call
        }
    }

    pub(super) fn get(id: &'static str, path: &'static str) -> Self {
        Self::new(Method::GET, id, path)
    }

    pub(super) fn post(id: &'static str, path: &'static str) -> Self {
        Self::new(Method::POST, id, path)
    }

    pub(super) fn put(id: &'static str, path: &'static str) -> Self {
        Self::new(Method::PUT, id, path)
    }

    pub(super) fn patch(id: &'static str, path: &'static str) -> Self {
        Self::new(Method::PATCH, id, path)
    }

    pub(super) fn delete(id: &'static str, path: &'static str) -> Self {
        Self::new(Method::DELETE, id, path)
    }

    /// Says under which heading it stands, and what it does: in a line, and in full.
    pub(super) fn says(
        mut self,
        tag: &'static str,
        summary: &'static str,
        description: &'static str,
    ) -> Self {
        (self.tag, self.summary, self.description) = (tag, summary, description);
        self
    }

    pub(super) fn takes(mut self, parameters: impl Parameters) -> Self {
        parameters.add_to(&mut self.parameters);
        self
    }

    pub(super) fn body(mut self, body: RequestBody) -> Self {
        self.body = Some(body);
        self
    }

    /// Says what the answer with a status is, unless that is a problem.
    pub(super) fn replies(mut self, status: u16, reply: Reply) -> Self {
        self.replies.insert(status, reply);
        self
    }

    /// Adds problems that it may be answered with, each under its own status.
    pub(super) fn problems(mut self, kinds: &[Kind]) -> Self {
        for &kind in kinds {
            self = self.problem_at(kind.status(), kind);
        }
        self
    }

    /// Adds a problem under a status that is not its usual one.
    pub(super) fn problem_at(mut self, status: u16, kind: Kind) -> Self {
        let kinds = self.problems.entry(status).or_default();
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
        self
    }

    /// Adds fields to the problems of some statuses.
    pub(super) fn fields_at(mut self, statuses: &[u16], fields: &[Field]) -> Self {
        for status in statuses {
            self.problem_fields
                .entry(*status)
                .or_default()
                .extend(fields);
        }
        self
    }

    /// Says what the route table says: what it needs of its caller's token.
    pub(super) fn needs(mut self, needs: Needs) -> Self {
        self.needs = needs;
        if needs.scope().is_some() {
            self = self.problems(&[Kind::Unauthorized, Kind::Forbidden]);
        }
        if needs.is_rated() {
            self = self.problems(&[Kind::RateLimited]);
        }
        self
    }

    /// Returns the operation, and puts what it shares with others into `shared`.
    pub(super) fn build(self, shared: &mut Shared) -> Operation {
        let mut operation = OperationBuilder::new()
            .tag(self.tag)
            .summary(Some(self.summary))
            .description(Some(self.described()))
            .operation_id(Some(self.id))
            .request_body(self.body);
        for parameter in self.parameters {
            operation = match shared.parameter(&parameter) {
                Some(link) => operation.parameter_ref(link),
                None => operation.parameter(parameter),
            };
        }
        let rate: &[Field] = if self.needs.is_rated() { &RATE } else { &[] };
        for (status, reply) in &self.replies {
            assert!(
                !self.problems.contains_key(status),
                "{}: {status} is an answer and a problem",
                self.id
            );
            operation = operation.response(status.to_string(), reply.response(rate));
        }
        for (status, kinds) in &self.problems {
            let fields = self
                .problem_fields
                .get(status)
                .map_or(&[][..], Vec::as_slice);
            let response = problem_response(*status, kinds, fields);
            operation = if fields.is_empty() {
                let name = name_of(*status, kinds);
                let link = Ref::from_response_name(&name);
                shared.responses.insert(name, response);
                operation.response(status.to_string(), link)
            } else {
                operation.response(status.to_string(), response)
            };
        }
        match self.needs.scope() {
            // Where the server has no tokens, none is needed.
            Some(scope) => operation
                .security(SecurityRequirement::new(TOKEN, [scope.as_str()]))
                .security(SecurityRequirement::default()),
            None => operation.securities(Some([])),
        }
        .build()
    }

    fn described(&self) -> String {
        let Some(scope) = self.needs.scope() else {
            return self.description.to_owned();
        };
        let scope = scope.as_str();
        let tasks = if self.needs.is_of_all_tasks() {
            ", and one that is not for some tasks only"
        } else {
            ""
        };
        format!(
            "{}\n\nWhere the server has tokens it needs one with the scope `{scope}`{tasks}.",
            self.description
        )
    }
}

/// What several calls refer to.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) responses: BTreeMap<String, Response>,
    pub(super) parameters: BTreeMap<String, Parameter>,
}

impl Shared {
    /// Returns a reference to a parameter, unless another one has its name.
    fn parameter(&mut self, parameter: &Parameter) -> Option<Ref> {
        let place = match parameter.parameter_in {
            ParameterIn::Path => "path",
            ParameterIn::Query => "query",
            _ => "header",
        };
        let name = format!("{place}.{}", parameter.name);
        let known = self
            .parameters
            .entry(name.clone())
            .or_insert_with(|| parameter.clone());
        (known == parameter).then(|| Ref::new(format!("#/components/parameters/{name}")))
    }
}

/// Names a shared response: `UnknownJob`, `UnknownTaskOrUnknownQueue`.
fn name_of(status: u16, kinds: &[Kind]) -> String {
    let names: Vec<String> = kinds.iter().map(|kind| format!("{kind:?}")).collect();
    let name = names.join("Or");
    if kinds.iter().all(|kind| kind.status() == status) {
        name
    } else {
        format!("{name}As{status}")
    }
}

/// Describes the problems of a status.
pub(super) fn problem_response(status: u16, kinds: &[Kind], fields: &[Field]) -> Response {
    let titles: Vec<String> = kinds
        .iter()
        .map(|kind| format!("`{}`: {}", kind.slug(), kind.title()))
        .collect();
    let mut response = ResponseBuilder::new()
        .description(format!("{}.", titles.join("; ")))
        .content(PROBLEM, problem_content(status, kinds))
        .header_ref("Cache-Control", Field::CacheControl.link());
    for field in fields.iter().copied().chain(fields_of(status, kinds)) {
        response = response.header_ref(field.name(), field.link());
    }
    response.build()
}

/// Returns the fields that problems of a status have by themselves.
fn fields_of(status: u16, kinds: &[Kind]) -> impl Iterator<Item = Field> {
    let retry = [408, 429, 503].contains(&status) && !kinds.contains(&Kind::RequestTimeout);
    [
        (retry, Field::RetryAfter),
        (status >= 500, Field::RequestId),
        (
            status == 401 || kinds.contains(&Kind::Forbidden),
            Field::WwwAuthenticate,
        ),
        (status == 429, Field::RateLimit),
        (status == 429, Field::RateLimitPolicy),
        (status == 412, Field::ETag),
        (status == 405, Field::Allow),
        (status == 416, Field::ContentRange),
    ]
    .into_iter()
    .filter_map(|(has_it, field)| has_it.then_some(field))
}

fn problem_content(status: u16, kinds: &[Kind]) -> Content {
    let types = kinds
        .iter()
        .map(|kind| format!("{MOUNT}/problems/{}", kind.slug()));
    let narrowed = ObjectBuilder::new()
        .property(
            "type",
            ObjectBuilder::new()
                .schema_type(Type::String)
                .enum_values(Some(types)),
        )
        .property(
            "status",
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .enum_values(Some([status])),
        );
    let schema = AllOfBuilder::new()
        .item(Ref::from_schema_name("Problem"))
        .item(narrowed)
        .build();
    let mut content = ContentBuilder::new().schema(Some(Schema::AllOf(schema)));
    if let [kind] = kinds {
        content = content.example(Some(problem_example(status, *kind)));
    } else {
        let examples = kinds.iter().map(|kind| {
            let example = utoipa::openapi::example::ExampleBuilder::new()
                .summary(kind.title())
                .value(Some(problem_example(status, *kind)));
            (kind.slug(), example)
        });
        content = content.examples_from_iter(examples);
    }
    content.build()
}

fn problem_example(status: u16, kind: Kind) -> Value {
    let mut problem = json!({
        "type": format!("{MOUNT}/problems/{}", kind.slug()),
        "title": kind.title(),
        "status": status,
        "detail": super::examples::detail_of(kind),
        "instance": format!("{MOUNT}{}", super::examples::instance_of(kind)),
    });
    if let (Some(members), Value::Object(more)) =
        (problem.as_object_mut(), super::examples::members_of(kind))
    {
        members.extend(more);
    }
    problem
}

/// An answer that is no problem.
pub(super) struct Reply {
    description: &'static str,
    contents: Vec<(&'static str, Content)>,
    fields: Vec<Field>,
    links: Vec<(&'static str, utoipa::openapi::link::Link)>,
}

impl Reply {
    /// Describes an answer without a body.
    pub(super) const fn new(description: &'static str) -> Self {
        Self {
            description,
            contents: Vec::new(),
            fields: Vec::new(),
            links: Vec::new(),
        }
    }

    /// Says that it is JSON of this form, with an example.
    pub(super) fn json<T: ToSchema>(self, example: Value) -> Self {
        let content = ContentBuilder::new()
            .schema(Some(schema_of::<T>()))
            .example(Some(example))
            .build();
        self.content("application/json", content)
    }

    /// Says that it is text of a content type.
    pub(super) fn text(self, content_type: &'static str, example: &str) -> Self {
        let text = ObjectBuilder::new().schema_type(utoipa::openapi::Type::String);
        let content = ContentBuilder::new()
            .schema(Some(text))
            .example(Some(Value::from(example)))
            .build();
        self.content(content_type, content)
    }

    /// Says that it is bytes of any content type.
    pub(super) fn bytes(self) -> Self {
        self.content(ANY, anything())
    }

    pub(super) fn content(mut self, content_type: &'static str, content: Content) -> Self {
        self.contents.push((content_type, content));
        self
    }

    pub(super) fn fields(mut self, fields: &[Field]) -> Self {
        self.fields.extend(fields);
        self
    }

    /// Says which calls can follow with the id of the job that it holds.
    pub(super) fn leads_to(mut self, calls: &[(&'static str, &'static str)]) -> Self {
        self.links.extend(calls.iter().map(|(id, what)| {
            let link = utoipa::openapi::link::Link::builder()
                .operation_id(*id)
                .parameter("id", "$response.body#/id")
                .description(*what)
                .build();
            (*id, link)
        }));
        self
    }

    fn response(&self, more: &[Field]) -> Response {
        let mut response = ResponseBuilder::new().description(self.description);
        for (content_type, content) in &self.contents {
            response = response.content(*content_type, content.clone());
        }
        for field in self.fields.iter().chain(more) {
            response = response.header_ref(field.name(), field.link());
        }
        for (name, link) in &self.links {
            response = response.link(*name, link.clone());
        }
        response.build()
    }
}

/// Describes a body of any content type, with examples of some.
pub(super) fn any_body(description: &str, examples: &[(&'static str, Value)]) -> RequestBody {
    let mut body = RequestBodyBuilder::new()
        .description(Some(description))
        .required(Some(Required::False));
    for (content_type, example) in examples {
        let mut content = anything();
        content.example = Some(example.clone());
        body = body.content(*content_type, content);
    }
    body.content(ANY, anything()).build()
}

/// Describes a merge patch of this form, with an example.
pub(super) fn merge_patch<T: ToSchema>(description: &str, example: &Value) -> RequestBody {
    let content = ContentBuilder::new()
        .schema(Some(schema_of::<T>()))
        .example(Some(example.clone()))
        .build();
    RequestBodyBuilder::new()
        .description(Some(description))
        .content("application/merge-patch+json", content.clone())
        .content("application/json", content)
        .required(Some(Required::True))
        .build()
}

/// Describes a JSON body of this form, with an example.
pub(super) fn json_body<T: ToSchema>(
    description: &str,
    example: &Value,
    required: Required,
) -> RequestBody {
    let content = ContentBuilder::new()
        .schema(Some(schema_of::<T>()))
        .example(Some(example.clone()))
        .build();
    RequestBodyBuilder::new()
        .description(Some(description))
        .content("application/json", content)
        .required(Some(required))
        .build()
}

/// Returns a content that may be anything.
pub(super) fn anything() -> Content {
    Content::new::<RefOr<Schema>>(None)
}

/// Returns a header that is described once, and referred to.
pub(super) fn header(description: &str, schema: impl Into<RefOr<Schema>>) -> Header {
    let mut header = Header::new(schema);
    header.description = Some(description.to_owned());
    header
}
