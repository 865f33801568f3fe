//! The page itself: calls by area, then what the server sends, then the forms of bodies.

use super::text::{inline, paragraphs};
use super::types::{description, name_of, plain, words};
use crate::http::openapi::MOUNT;
use crate::http::pages::escaped;
use serde_json::Value;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{Components, Content, OpenApi, PathItem, RefOr, Response};

/// Writes the page, with the marker of the document where the prefix goes.
pub(super) fn html(document: &OpenApi) -> String {
    let none = Components::new();
    let components = document.components.as_ref().unwrap_or(&none);
    let page = Page {
        document,
        components,
    };
    let (title, version) = (&document.info.title, &document.info.version);
    let introduction = document.info.description.as_deref().unwrap_or_default();
    [
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n",
        "<meta name=\"viewport\" content=\"width=device-width\">\n",
        "<meta name=\"color-scheme\" content=\"light dark\">\n",
        &format!("<title>{} HTTP API</title>\n", escaped(title)),
        &format!("<link rel=\"stylesheet\" href=\"{MOUNT}/docs/style.css\">\n"),
        "<nav aria-label=\"Calls\">\n",
        &page.contents(),
        "</nav>\n<main>\n",
        &format!("<h1>{} HTTP API</h1>\n", escaped(title)),
        &format!(
            "<p class=\"meta\">Version {} · <a href=\"{MOUNT}/openapi.json\">OpenAPI 3.1</a></p>\n",
            escaped(version)
        ),
        &paragraphs(introduction),
        &page.calls(),
        &page.webhooks(),
        &page.schemas(),
        "</main>\n</html>\n",
    ]
    .concat()
}

struct Page<'a> {
    document: &'a OpenApi,
    components: &'a Components,
}

impl<'a> Page<'a> {
    /// Returns the operations of a tag, each with method and path.
    fn of_tag(&self, tag: &str) -> Vec<(&'static str, &'a str, &'a Operation)> {
        let mut found = Vec::new();
        for (path, item) in &self.document.paths.paths {
            for (method, operation) in operations(item) {
                let tags = operation.tags.as_deref().unwrap_or_default();
                if tags.iter().any(|given| given == tag) {
                    found.push((method, path.as_str(), operation));
                }
            }
        }
        found
    }

    fn contents(&self) -> String {
        let mut html = String::new();
        for tag in self.document.tags.iter().flatten() {
            html.extend([format!("<h2>{}</h2>\n<ul>\n", escaped(&tag.name))]);
            for (method, path, operation) in self.of_tag(&tag.name) {
                html.extend([format!(
                    "<li><a href=\"#{}\"><b class=\"{method}\">{method}</b> {}</a></li>\n",
                    escaped(id_of(operation)),
                    broken(path)
                )]);
            }
            html.push_str("</ul>\n");
        }
        html.push_str("<h2>More</h2>\n<ul>\n<li><a href=\"#webhooks\">What it sends</a></li>\n");
        html.push_str("<li><a href=\"#schemas\">Schemas</a></li>\n</ul>\n");
        html
    }

    fn calls(&self) -> String {
        let mut html = String::new();
        for tag in self.document.tags.iter().flatten() {
            html.extend([format!("<h2>{}</h2>\n", escaped(&tag.name))]);
            html.push_str(&paragraphs(tag.description.as_deref().unwrap_or_default()));
            for (method, path, operation) in self.of_tag(&tag.name) {
                html.push_str(&self.call(method, path, operation));
            }
        }
        html
    }

    fn call(&self, method: &str, path: &str, operation: &Operation) -> String {
        let heading = format!(
            "<b class=\"{method}\">{method}</b> <code>{}</code>",
            broken(path)
        );
        let curl = self.curl(method, path, operation);
        [
            &self.operation(&heading, operation),
            "<pre class=\"curl\">",
            &escaped(&curl),
            "</pre>\n</article>\n",
        ]
        .concat()
    }

    /// Writes an operation, but for the end of its article.
    fn operation(&self, heading: &str, operation: &Operation) -> String {
        let id = escaped(id_of(operation));
        let summary = operation.summary.as_deref().unwrap_or_default();
        let about = operation.description.as_deref().unwrap_or_default();
        let mut html = format!(
            "<article id=\"{id}\">\n<h3><a href=\"#{id}\">{heading}</a></h3>\n<p class=\"summary\">{}</p>\n{}",
            inline(summary),
            paragraphs(about)
        );
        html.push_str(&self.parameters(operation));
        if let Some(RefOr::T(body)) = &operation.request_body {
            html.push_str(&request_body(body));
        }
        html.push_str(&self.responses(operation));
        html
    }

    fn parameters(&self, operation: &Operation) -> String {
        let parameters = operation.parameters.as_deref().unwrap_or_default();
        let rows: String = parameters
            .iter()
            .filter_map(|parameter| self.parameter(parameter))
            .map(parameter_row)
            .collect();
        if rows.is_empty() {
            return rows;
        }
        table("Parameters", &["", "where", "what", ""], &rows)
    }

    fn parameter(&self, parameter: &'a RefOr<Parameter>) -> Option<&'a Parameter> {
        match parameter {
            RefOr::T(parameter) => Some(parameter),
            RefOr::Ref(reference) => {
                match self
                    .components
                    .parameters
                    .get(name_of(&reference.ref_location))?
                {
                    RefOr::T(parameter) => Some(parameter),
                    RefOr::Ref(_) => None,
                }
            }
        }
    }

    fn responses(&self, operation: &Operation) -> String {
        let rows: String = operation
            .responses
            .responses
            .iter()
            .filter_map(|(status, response)| Some((status, self.response(response)?)))
            .map(|(status, response)| response_row(status, response))
            .collect();
        table("Replies", &["", "", "body and fields"], &rows)
    }

    fn response(&self, response: &'a RefOr<Response>) -> Option<&'a Response> {
        match response {
            RefOr::T(response) => Some(response),
            RefOr::Ref(reference) => {
                match self
                    .components
                    .responses
                    .get(name_of(&reference.ref_location))?
                {
                    RefOr::T(response) => Some(response),
                    RefOr::Ref(_) => None,
                }
            }
        }
    }

    /// Returns a command that makes the call.
    fn curl(&self, method: &str, path: &str, operation: &Operation) -> String {
        let mut path = path.to_owned();
        let parameters = operation.parameters.as_deref().unwrap_or_default();
        for parameter in parameters {
            let Some(parameter) = self.parameter(parameter) else {
                continue;
            };
            if parameter.parameter_in == ParameterIn::Path {
                let value = self.example_of(parameter).in_path();
                path = path.replace(&format!("{{{}}}", parameter.name), &value);
            }
        }
        let method = match method {
            "GET" => String::new(),
            method => format!(" -X {method}"),
        };
        let body = match &operation.request_body {
            Some(RefOr::T(body)) => body_argument(body),
            Some(RefOr::Ref(_)) | None => String::new(),
        };
        format!("curl -i{method} 'http://localhost:8080{MOUNT}{path}'{body}")
    }

    /// Returns an example of a parameter; its name where there is none.
    fn example_of(&self, parameter: &Parameter) -> Example {
        let own = parameter.extensions.as_ref();
        if let Some(value) = own.and_then(|extensions| extensions.get("example")) {
            return Example::Known(plain(value));
        }
        let schema = match &parameter.schema {
            Some(RefOr::Ref(reference)) => self
                .components
                .schemas
                .get(name_of(&reference.ref_location)),
            schema => schema.as_ref(),
        };
        match schema {
            Some(RefOr::T(Schema::Object(object))) => {
                let first = object.examples.first();
                let first = first.or(object
                    .enum_values
                    .as_ref()
                    .and_then(|values| values.first()));
                match first {
                    Some(value) => Example::Known(plain(value)),
                    None => Example::Unknown(parameter.name.clone()),
                }
            }
            _ => Example::Unknown(parameter.name.clone()),
        }
    }

    fn webhooks(&self) -> String {
        let Some(webhooks) = &self.document.webhooks else {
            return String::new();
        };
        let mut html = "<h2 id=\"webhooks\">What it sends</h2>\n".to_owned();
        for (name, item) in &webhooks.paths {
            for (method, operation) in operations(item) {
                let heading = format!(
                    "<b class=\"{method}\">{method}</b> <code>{}</code>",
                    escaped(name)
                );
                html.push_str(&self.operation(&heading, operation));
                html.push_str("</article>\n");
            }
        }
        html
    }

    fn schemas(&self) -> String {
        let mut html = "<h2 id=\"schemas\">Schemas</h2>\n".to_owned();
        for (name, schema) in &self.components.schemas {
            let name = escaped(name);
            let said = words(schema);
            html.extend([format!(
                "<article id=\"schema-{name}\">\n<h3><a href=\"#schema-{name}\"><code>{name}</code></a></h3>\n"
            )]);
            if let RefOr::T(schema) = schema {
                html.extend([format!("<p>{}</p>\n", description(schema))]);
                match schema {
                    Schema::Object(object) if !object.properties.is_empty() => {
                        html.push_str(&properties(object));
                    }
                    _ => html.extend([format!("<p class=\"type\">{said}</p>\n")]),
                }
            }
            html.push_str("</article>\n");
        }
        html
    }
}

/// What to put in the place of a parameter.
enum Example {
    Known(String),
    Unknown(String),
}

impl Example {
    /// A name in capitals is what the reader has to put in.
    fn in_path(&self) -> String {
        match self {
            Self::Known(value) => value.clone(),
            Self::Unknown(name) => name.to_uppercase(),
        }
    }
}

fn operations(item: &PathItem) -> impl Iterator<Item = (&'static str, &Operation)> {
    [
        ("GET", &item.get),
        ("POST", &item.post),
        ("PUT", &item.put),
        ("PATCH", &item.patch),
        ("DELETE", &item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

fn id_of(operation: &Operation) -> &str {
    operation.operation_id.as_deref().unwrap_or_default()
}

/// Lets a path break after its slashes.
fn broken(path: &str) -> String {
    escaped(path).replace('/', "/<wbr>")
}

fn table(caption: &str, columns: &[&str], rows: &str) -> String {
    let columns: String = columns
        .iter()
        .flat_map(|column| ["<th>", column, "</th>"])
        .collect();
    format!(
        "<div class=\"scroll\"><table><caption>{caption}</caption>\n<thead><tr>{columns}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    )
}

fn parameter_row(parameter: &Parameter) -> String {
    let place = match parameter.parameter_in {
        ParameterIn::Path => "path",
        ParameterIn::Query => "query",
        ParameterIn::Header => "field",
        _ => "",
    };
    // The members of this one are what stands in the query.
    let name = match parameter.name.as_str() {
        "tags" => "tag.NAME",
        name => name,
    };
    format!(
        "<tr><th><code>{}</code></th><td>{place}</td><td>{}</td><td>{}</td></tr>\n",
        escaped(name),
        parameter.schema.as_ref().map(words).unwrap_or_default(),
        inline(parameter.description.as_deref().unwrap_or_default())
    )
}

fn request_body(body: &RequestBody) -> String {
    let about = inline(body.description.as_deref().unwrap_or_default());
    let types: Vec<String> = body
        .content
        .iter()
        .map(|(content_type, content)| content_words(content_type, content))
        .collect();
    format!(
        "<h4>Body</h4>\n<p>{about}</p>\n<p>{}</p>\n",
        types.join(", ")
    )
}

fn content_words(content_type: &str, content: &RefOr<Content>) -> String {
    let content_type = escaped(content_type);
    match content {
        RefOr::T(Content {
            schema: Some(schema),
            ..
        }) => format!("<code>{content_type}</code>: {}", words(schema)),
        _ => format!("<code>{content_type}</code>"),
    }
}

fn response_row(status: &str, response: &Response) -> String {
    let contents: Vec<String> = response
        .content
        .iter()
        .map(|(content_type, content)| content_words(content_type, content))
        .collect();
    let fields: Vec<String> = response
        .headers
        .keys()
        .map(|name| format!("<code>{}</code>", escaped(name)))
        .collect();
    let is_problem = response.content.contains_key("application/problem+json");
    let said = if is_problem {
        problems(&response.description)
    } else {
        inline(&response.description)
    };
    format!(
        "<tr class=\"{}\"><th>{}</th><td>{said}</td><td>{}<div class=\"fields\">{}</div></td></tr>\n",
        if is_problem { "problem" } else { "well" },
        escaped(status),
        contents.join("<br>"),
        fields.join(" ")
    )
}

/// Writes the slugs of problems as links to their pages: they stand in backticks.
fn problems(description: &str) -> String {
    let mut html = String::new();
    for (index, piece) in description.split('`').enumerate() {
        let piece = escaped(piece);
        if index % 2 == 1 {
            html.extend([format!("<a href=\"{MOUNT}/problems/{piece}\">{piece}</a>")]);
        } else {
            html.push_str(&piece.replace("; ", "<br>"));
        }
    }
    html
}

/// Returns arguments that send an example of a body.
fn body_argument(body: &RequestBody) -> String {
    let shown = body
        .content
        .iter()
        .find_map(|(content_type, content)| match content {
            RefOr::T(content) => Some((content_type, content.example.as_ref()?)),
            RefOr::Ref(_) => None,
        });
    let Some((content_type, example)) = shown else {
        return String::new();
    };
    let text = match example {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let text = text.replace('\'', "'\\''");
    format!(" \\\n  -H 'Content-Type: {content_type}' -d '{text}'")
}

fn properties(object: &utoipa::openapi::schema::Object) -> String {
    let rows: Vec<String> = object
        .properties
        .iter()
        .map(|(name, schema)| {
            let optional = if object.required.contains(name) {
                ""
            } else {
                " <i>may be absent</i>"
            };
            let about = match schema {
                RefOr::T(schema) => description(schema),
                RefOr::Ref(reference) => inline(&reference.description),
            };
            format!(
                "<tr><th><code>{}</code></th><td>{}{optional}</td><td>{about}</td></tr>\n",
                escaped(name),
                words(schema)
            )
        })
        .collect();
    table("Members", &["", "what", ""], &rows.concat())
}
