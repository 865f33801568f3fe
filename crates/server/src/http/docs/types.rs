//! Schemas in few words, for a cell of a table.

use super::text::inline;
use crate::http::pages::escaped;
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::schema::{AdditionalProperties, ArrayItems, Object, Schema, SchemaType};
use utoipa::openapi::{RefOr, Type};

/// The last part of a reference.
pub(super) fn name_of(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or_default()
}

/// Says what a value is, with links to named schemas.
pub(super) fn words(schema: &RefOr<Schema>) -> String {
    match schema {
        RefOr::Ref(reference) => {
            let name = escaped(name_of(&reference.ref_location));
            format!("<a href=\"#schema-{name}\">{name}</a>")
        }
        RefOr::T(schema) => words_of(schema),
    }
}

fn words_of(schema: &Schema) -> String {
    match schema {
        Schema::Object(object) => object_words(object),
        Schema::Array(array) => match &array.items {
            ArrayItems::RefOrSchema(items) => format!("list of {}", words(items)),
            ArrayItems::False => "list".to_owned(),
        },
        Schema::OneOf(one) => alternatives(&one.items, " or "),
        Schema::AnyOf(any) => alternatives(&any.items, " or "),
        // What follows the first only narrows it down.
        Schema::AllOf(all) => all.items.first().map(words).unwrap_or_default(),
        _ => "anything".to_owned(),
    }
}

fn alternatives(items: &[RefOr<Schema>], between: &str) -> String {
    let is_null = |item: &&RefOr<Schema>| matches!(item, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null));
    let (null, others): (Vec<_>, Vec<_>) = items.iter().partition(is_null);
    let mut said: Vec<String> = others.into_iter().map(words).collect();
    if !null.is_empty() {
        said.push("null".to_owned());
    }
    said.join(between)
}

fn object_words(object: &Object) -> String {
    let mut said = match &object.schema_type {
        SchemaType::Type(kind) => word(kind).to_owned(),
        SchemaType::Array(kinds) => kinds.iter().map(word).collect::<Vec<_>>().join(" or "),
        SchemaType::AnyValue => "anything".to_owned(),
    };
    if let Some(AdditionalProperties::RefOr(values)) = object.additional_properties.as_deref() {
        said = format!("object of {}", words(values));
    }
    if let Some(format) = &object.format {
        said = format!("{said} ({})", escaped(&json_word(format)));
    }
    let range = (
        bound(object.minimum.as_ref()),
        bound(object.maximum.as_ref()),
    );
    match range {
        (Some(least), Some(most)) => said = format!("{said}, {least} to {most}"),
        (Some(least), None) => said = format!("{said}, from {least}"),
        (None, Some(most)) => said = format!("{said}, to {most}"),
        (None, None) => {}
    }
    if let Some(values) = &object.enum_values {
        let values: Vec<String> = values
            .iter()
            .map(|value| ["<code>", &escaped(&plain(value)), "</code>"].concat())
            .collect();
        said = values.join(", ");
    }
    said
}

fn bound(number: Option<&impl Serialize>) -> Option<String> {
    let value = serde_json::to_value(number?).ok()?;
    Some(match value.as_f64() {
        Some(number) => number.to_string(),
        None => plain(&value),
    })
}

const fn word(kind: &Type) -> &'static str {
    match kind {
        Type::Object => "object",
        Type::String => "string",
        Type::Integer => "integer",
        Type::Number => "number",
        Type::Boolean => "boolean",
        Type::Array => "list",
        Type::Null => "null",
    }
}

fn json_word(value: &impl Serialize) -> String {
    serde_json::to_value(value).map_or_else(|_| String::new(), |value| plain(&value))
}

/// Writes a string without quotes, and anything else as JSON.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Returns what a schema says about itself.
pub(super) fn description(schema: &Schema) -> String {
    let text = match schema {
        Schema::Object(object) => object.description.as_deref(),
        Schema::Array(array) => array.description.as_deref(),
        Schema::OneOf(one) => one.description.as_deref(),
        Schema::AllOf(all) => all.description.as_deref(),
        Schema::AnyOf(any) => any.description.as_deref(),
        _ => None,
    };
    inline(text.unwrap_or_default())
}
