//! What calls share: header fields of answers, and parameters.

use super::operation::header;
use super::schema_of;
use super::schemas::{Duration, Instant, JobId, Name};
use crate::http::problem::Kind;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn, ParameterStyle};
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, ObjectBuilder, Schema, SchemaFormat,
};
use utoipa::openapi::{Header, Ref, RefOr, Required, Type};

/// A field of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    AccelBuffering,
    AcceptPatch,
    AcceptPost,
    AcceptRanges,
    Allow,
    AnteroomJob,
    CacheControl,
    ContentLength,
    ContentRange,
    ContentSecurityPolicy,
    ETag,
    IdempotencyReplayed,
    Location,
    PreferenceApplied,
    RateLimit,
    RateLimitPolicy,
    RequestId,
    RetryAfter,
    Vary,
    WwwAuthenticate,
}

impl Field {
    pub(super) const ALL: [Self; 20] = [
        Self::AccelBuffering,
        Self::AcceptPatch,
        Self::AcceptPost,
        Self::AcceptRanges,
        Self::Allow,
        Self::AnteroomJob,
        Self::CacheControl,
        Self::ContentLength,
        Self::ContentRange,
        Self::ContentSecurityPolicy,
        Self::ETag,
        Self::IdempotencyReplayed,
        Self::Location,
        Self::PreferenceApplied,
        Self::RateLimit,
        Self::RateLimitPolicy,
        Self::RequestId,
        Self::RetryAfter,
        Self::Vary,
        Self::WwwAuthenticate,
    ];

    /// Returns its name on the wire.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::AccelBuffering => "X-Accel-Buffering",
            Self::AcceptPatch => "Accept-Patch",
            Self::AcceptPost => "Accept-Post",
            Self::AcceptRanges => "Accept-Ranges",
            Self::Allow => "Allow",
            Self::AnteroomJob => "Anteroom-Job",
            Self::CacheControl => "Cache-Control",
            Self::ContentLength => "Content-Length",
            Self::ContentRange => "Content-Range",
            Self::ContentSecurityPolicy => "Content-Security-Policy",
            Self::ETag => "ETag",
            Self::IdempotencyReplayed => "Idempotency-Replayed",
            Self::Location => "Location",
            Self::PreferenceApplied => "Preference-Applied",
            Self::RateLimit => "RateLimit",
            Self::RateLimitPolicy => "RateLimit-Policy",
            Self::RequestId => "x-request-id",
            Self::RetryAfter => "Retry-After",
            Self::Vary => "Vary",
            Self::WwwAuthenticate => "WWW-Authenticate",
        }
    }

    pub(super) fn link(self) -> Ref {
        Ref::new(format!("#/components/headers/{}", self.name()))
    }

    pub(super) fn header(self) -> Header {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let number = || ObjectBuilder::new().schema_type(Type::Integer);
        match self {
            Self::AccelBuffering => header("`no`: proxies are not to gather the stream.", text()),
            Self::AcceptPatch => header("The content types that a change may have.", text()),
            Self::AcceptPost => header("The content types that envelopes may have.", text()),
            Self::AcceptRanges => header("Parts can be asked for with `Range`.", text()),
            Self::Allow => header("The methods that the path takes.", text()),
            Self::AnteroomJob => header(
                "The id of the job, whatever the answer.",
                schema_of::<JobId>(),
            ),
            Self::CacheControl => header(
                "Whether the answer may be kept: `no-store`, or `no-cache` where it has an `ETag`.",
                text(),
            ),
            Self::ContentLength => header("Bytes of the body.", number().minimum(Some(0))),
            Self::ContentRange => header(
                "Which part it is: `bytes FIRST-LAST/ALL`; or `bytes */ALL` where there is none.",
                text(),
            ),
            Self::ContentSecurityPolicy => {
                header("Keeps browsers from running anything of the body.", text())
            }
            Self::ETag => header(
                "The strong entity tag of what is shown, for `If-None-Match`, `If-Match` and \
                 `If-Range`.",
                text(),
            ),
            Self::IdempotencyReplayed => header(
                "`true` where an earlier submit with the same `Idempotency-Key` gave the job. \
                 Absent where none did.",
                text(),
            ),
            Self::Location => header(
                "The path of the job, or of the schedule that was made.",
                text().format(Some(SchemaFormat::Custom("uri-reference".to_owned()))),
            ),
            Self::PreferenceApplied => header(
                "The preferences that were applied, such as `wait=60`. Absent where none was.",
                text(),
            ),
            Self::RateLimit => header(
                "What is left of the token's rate: `\"submit\";r=COUNT;t=SECONDS`. Absent where it \
                 has none.",
                text(),
            ),
            Self::RateLimitPolicy => header(
                "The token's rate: `\"submit\";q=COUNT;w=SECONDS`. Absent where it has none.",
                text(),
            ),
            Self::RequestId => header(
                "What the server's log calls the request.",
                number().minimum(Some(0)),
            ),
            Self::RetryAfter => header(
                "Whole seconds after which it is worth asking again.",
                number().minimum(Some(1)),
            ),
            Self::WwwAuthenticate => {
                header("Asks for a token, and says which scope is needed.", text())
            }
            Self::Vary => header("The request fields that the answer depends on.", text()),
        }
    }
}

/// One parameter or several.
pub(super) trait Parameters {
    fn add_to(self, parameters: &mut Vec<Parameter>);
}

impl Parameters for Parameter {
    fn add_to(self, parameters: &mut Vec<Parameter>) {
        parameters.push(self);
    }
}

impl<const N: usize> Parameters for [Parameter; N] {
    fn add_to(self, parameters: &mut Vec<Parameter>) {
        parameters.extend(self);
    }
}

fn parameter(
    place: ParameterIn,
    name: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
) -> Parameter {
    let required = match place {
        ParameterIn::Path => Required::True,
        _ => Required::False,
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

/// Returns a parameter of the query that is left out at will.
pub(super) fn query(name: &str, description: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    parameter(ParameterIn::Query, name, description, schema)
}

/// Returns a parameter of the query of a type that has its own schema.
pub(super) fn query_of<T: ToSchema>(name: &str, description: &str) -> Parameter {
    query(name, description, schema_of::<T>())
}

pub(super) fn path_job() -> Parameter {
    let description = "The job. What is no id is an id that no job has.";
    parameter(ParameterIn::Path, "id", description, schema_of::<JobId>())
}

pub(super) fn path_task() -> Parameter {
    let mut parameter = parameter(ParameterIn::Path, "task", "The task.", schema_of::<Name>());
    parameter.example("wordcount");
    parameter
}

pub(super) fn path_queue() -> Parameter {
    let description = "The queue.";
    let mut parameter = parameter(ParameterIn::Path, "queue", description, schema_of::<Name>());
    parameter.example("default");
    parameter
}

pub(super) fn path_schedule() -> Parameter {
    let description = "The schedule.";
    let schema = schema_of::<Name>();
    let mut parameter = parameter(ParameterIn::Path, "schedule", description, schema);
    parameter.example("nightly");
    parameter
}

pub(super) fn path_lease() -> Parameter {
    let description = "The token of the lease. A secret: no log of the server shows it.";
    let text = ObjectBuilder::new().schema_type(Type::String);
    parameter(ParameterIn::Path, "lease", description, text)
}

pub(super) fn last_event_id() -> Parameter {
    request_field(
        "Last-Event-ID",
        "The id of the last event that the client has: what came after it is told.",
        "1.0.1",
    )
}

pub(super) fn problem_slug() -> Parameter {
    let slugs = Kind::ALL.map(Kind::slug);
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(slugs));
    let description = "The last part of a problem's `type`.";
    parameter(ParameterIn::Path, "slug", description, schema)
}

fn request_field(name: &str, description: &str, example: &str) -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let mut parameter = parameter(ParameterIn::Header, name, description, text);
    parameter.example(example);
    parameter
}

trait Shown {
    fn example(&mut self, example: &str);
}

impl Shown for Parameter {
    /// Shows a value. Where the schema is a reference it cannot stand within it.
    fn example(&mut self, example: &str) {
        let extensions = [("example", Value::from(example))].into_iter().collect();
        self.extensions = Some(extensions);
    }
}

pub(super) fn prefer() -> Parameter {
    request_field(
        "Prefer",
        "`wait=N` (RFC 7240): holds the answer until what is asked for has come about, for N \
         whole seconds at most; the server caps N at 60. `respond-async` alone: do not wait. \
         Other preferences are ignored.",
        "wait=10",
    )
}

pub(super) fn idempotency_key() -> Parameter {
    let quoted_or_bare = ObjectBuilder::new().schema_type(Type::String).pattern(Some(
        "^(\"([ !#-\\[\\]-~]|\\\\[\"\\\\]){1,255}\"|[!#-~]([ -~]{0,253}[!-~])?)$",
    ));
    let mut parameter = parameter(
        ParameterIn::Header,
        "Idempotency-Key",
        "A key of your own for this piece of work, quoted or bare, 1 to 255 characters. The same \
         submit with the same key gives the same job for 24 h, and makes no second one.",
        quoted_or_bare,
    );
    parameter.example("\"8e03978e-40d5-43dd-bc93-6894a57f9324\"");
    parameter
}

pub(super) fn if_match() -> Parameter {
    request_field(
        "If-Match",
        "Entity tags, of which the job has to have one; else 412. Weak tags never match.",
        "\"3-ready\"",
    )
}

pub(super) fn if_none_match() -> Parameter {
    request_field(
        "If-None-Match",
        "Entity tags: 304 while it has one of them.",
        "\"3-ready\"",
    )
}

pub(super) fn if_none_match_put() -> Parameter {
    request_field(
        "If-None-Match",
        "`*`: only if there is none yet; else 412. Entity tags: not if it has one of them.",
        "*",
    )
}

pub(super) fn range() -> [Parameter; 2] {
    [
        request_field(
            "Range",
            "A part: `bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-COUNT`. Several ranges, other \
             units and malformed ones are ignored.",
            "bytes=0-99",
        ),
        request_field(
            "If-Range",
            "The entity tag that the part has to be of; else all of it is answered.",
            "\"5-succeeded\"",
        ),
    ]
}

/// Returns `tag.NAME=VALUE`: an object whose members are parameters of their own.
pub(super) fn tags(description: &str, most: Option<usize>) -> Parameter {
    let name = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^tag\\.(?!anteroom\\.)[a-z0-9][a-z0-9._-]{0,63}$"))
        .build();
    let value = ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(255));
    let schema = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property_names(Some(Schema::Object(name)))
        .additional_properties(Some(AdditionalProperties::from(value)))
        .max_properties(most)
        .examples([json!({"tag.customer": "acme"})]);
    let mut parameter = query("tags", description, schema);
    parameter.style = Some(ParameterStyle::Form);
    parameter.explode = Some(true);
    parameter
}

/// Returns an integer within bounds.
pub(super) fn integer(least: u32, most: u32) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(least))
        .maximum(Some(most))
}

/// Returns a text of one line, 1 to 255 bytes: a label.
pub(super) fn label() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(255))
        .pattern(Some("^[^\\u0000-\\u001f\\u007f-\\u009f]+$"))
}

/// Returns the options of a submit.
pub(super) fn submit_options() -> [Parameter; 11] {
    [
        query_of::<Name>(
            "queue",
            "The line to wait in; made on first use, up to 1,000. Default: the task's.",
        ),
        query("group", "Whose work it is: a label for now.", label()),
        query(
            "priority",
            "From 0, most urgent, to 9.",
            integer(0, 9).default(Some(json!(5))),
        ),
        query_of::<Duration>(
            "delay",
            "Start that much later, up to 366 days. Not together with `run_at`.",
        ),
        query_of::<Instant>(
            "run_at",
            "Start no earlier than this, up to 366 days ahead; what has passed means at once.",
        ),
        query(
            "max_attempts",
            "How often it may be begun. Default: the task's.",
            integer(1, 100),
        ),
        query_of::<Duration>(
            "timeout",
            "How long an attempt may run: 100 ms to 7 d. Default: the task's.",
        ),
        query_of::<Instant>(
            "start_before",
            "An instant ahead, up to 366 days: a job not begun by then fails, `too_late`.",
        ),
        query(
            "unique_key",
            "Make no job while an unfinished one of the task has the same.",
            label(),
        ),
        query_of::<Duration>(
            "retain",
            "How long it is kept after its end: 0 to 90 d. Default: the server's.",
        ),
        tags(
            "Labels of your own, each as `tag.NAME=VALUE`; at most 32, values to 255 bytes.",
            Some(32),
        ),
    ]
}

/// Returns the filters that lists of jobs share.
pub(super) fn filters() -> [Parameter; 7] {
    let mut states = query(
        "state",
        "In one of these states; may be repeated, and separated by commas.",
        ArrayBuilder::new().items(schema_of::<super::schemas::State>()),
    );
    states.style = Some(ParameterStyle::Form);
    states.explode = Some(true);
    [
        query_of::<Name>("task", "Of this task."),
        query_of::<Name>("queue", "In this queue."),
        query("group", "Of this group.", label()),
        states,
        query_of::<Instant>("created_after", "Submitted later than this."),
        query_of::<Instant>("created_before", "Submitted earlier than this."),
        tags(
            "With this tag, as `tag.NAME=VALUE`; several: with all of them.",
            None,
        ),
    ]
}
