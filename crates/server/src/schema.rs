//! JSON Schema 2020-12 as what a task asks of its inputs.
//!
//! The validator stays behind the engine's [`Validate`]: no type of its library is in anybody's
//! interface. What it costs to check an input is bounded: patterns run in time linear in the text,
//! nothing is fetched, and nesting is bounded by the parser.

use anteroom::{Invalid, Validate};
use jsonschema::{PatternOptions, ValidationError, Validator, draft202012};
use serde_json::Value;
use std::fmt;

/// Bytes of a schema: what people write, and small enough to be shown with its task.
pub const SCHEMA_BYTES_MAX: usize = 1024 * 1024;
/// Errors of an input that are told: a person mends no more at a time.
const ERRORS_MAX: usize = 20;
/// Bytes of an input beyond which only its first error is looked for: the library collects all of
/// them, and each may be larger than what is wrong.
const ALL_ERRORS_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a place or of what is wrong there: both may repeat names of the input.
const TOLD_BYTES_MAX: usize = 1024;
/// What `$schema` says of a schema of this version.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A JSON Schema, ready to check inputs.
pub struct JsonSchema {
    text: String,
    validator: Validator,
}

impl JsonSchema {
    /// Reads a schema, and refuses what it cannot check by.
    ///
    /// # Errors
    ///
    /// What is wrong with it: no JSON, no schema, of another version, or one that refers to what is
    /// not in it.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > SCHEMA_BYTES_MAX {
            let bytes = text.len();
            return Err(format!("is {bytes} bytes; the limit is {SCHEMA_BYTES_MAX}"));
        }
        let schema: Value =
            serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
        if let Some(dialect) = schema.get("$schema")
            && dialect.as_str().map(|it| it.trim_end_matches('#')) != Some(DIALECT)
        {
            return Err(format!("has the $schema {dialect}; expected {DIALECT:?}"));
        }
        let validator = draft202012::options()
            .offline()
            .with_pattern_options(PatternOptions::regex())
            .build(&schema)
            .map_err(|error| refusal(&error))?;
        Ok(Self {
            text: text.trim().to_owned(),
            validator,
        })
    }
}

fn refusal(error: &ValidationError<'_>) -> String {
    let place = error.instance_path().as_str();
    let at = if place.is_empty() { "" } else { " at " };
    format!("is no JSON Schema that can be checked by{at}{place}: {error}")
}

impl fmt::Debug for JsonSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonSchema")
            .field("bytes", &self.text.len())
            .finish_non_exhaustive()
    }
}

impl Validate for JsonSchema {
    fn check(&self, input: &[u8]) -> Vec<Invalid> {
        let value: Value = match serde_json::from_slice(input) {
            Ok(value) => value,
            Err(error) => {
                return vec![Invalid {
                    pointer: String::new(),
                    detail: format!("is not JSON that can be checked: {error}"),
                }];
            }
        };
        if self.validator.is_valid(&value) {
            return Vec::new();
        }
        if input.len() > ALL_ERRORS_BYTES_MAX {
            let first = self.validator.validate(&value).err();
            return first.iter().map(invalid).collect();
        }
        let errors = self.validator.iter_errors(&value).take(ERRORS_MAX);
        errors.map(|error| invalid(&error)).collect()
    }

    fn schema(&self) -> Option<&str> {
        Some(&self.text)
    }
}

/// Says what is wrong without the value, which may be large, and secret.
fn invalid(error: &ValidationError<'_>) -> Invalid {
    Invalid {
        pointer: cut(error.instance_path().as_str().to_owned()),
        detail: cut(error.masked().to_string()),
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TOLD_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TOLD_BYTES_MAX));
        text.push('\u{2026}');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(schema: &str, input: &str) -> Vec<String> {
        let schema = JsonSchema::new(schema).unwrap();
        let errors = schema.check(input.as_bytes());
        let mut places: Vec<String> = errors.into_iter().map(|error| error.pointer).collect();
        // They come by the keywords of the schema.
        places.sort_unstable();
        places
    }

    #[test]
    fn an_input_is_checked_by_the_schema_and_a_mistake_has_its_place() {
        let schema = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object", "required": ["a"], "additionalProperties": false,
            "properties": {"a": {"type": "array", "prefixItems": [{"type": "integer"}],
                "items": {"$ref": "\u0023/$defs/short"}}, "b/c": {"const": 1}},
            "$defs": {"short": {"type": "string", "maxLength": 3, "pattern": "^[a-z]*$"}}}"#;
        for (input, expected) in [
            (r#"{"a": [1, "abc"]}"#, &[][..]),
            (r#"{"a": [1.5, "abcd", 7]}"#, &["/a/0", "/a/1", "/a/2"]),
            (r#"{"a": [1, "A"], "b/c": 2}"#, &["/a/1", "/b~1c"]),
            ("{}", &[""]),
            ("[]", &[""]),
            (r#"{"a": [], "x": 1}"#, &[""]),
            ("{", &[""]),
        ] {
            assert_eq!(places(schema, input), expected, "{input}");
        }
    }

    #[test]
    fn what_is_told_is_bounded() {
        let schema = r#"{"items": {"type": "string"}, "maxProperties": 0}"#;
        assert_eq!(places(schema, "[1,2,3]").len(), 3);
        let many = format!("[{}]", vec!["1"; 1_000].join(","));
        assert_eq!(places(schema, &many).len(), ERRORS_MAX);
        let large = format!("[{}]", vec!["1"; 100_000].join(","));
        assert_eq!(places(schema, &large), ["/0"]);
        let secret = "s".repeat(5_000);
        let closed = JsonSchema::new(r#"{"additionalProperties": false}"#).unwrap();
        let errors = closed.check(format!("{{\"{secret}\": 1}}").as_bytes());
        assert!(errors[0].detail.len() < 1_100, "{}", errors[0].detail);
        let number = JsonSchema::new(r#"{"type": "number"}"#).unwrap();
        let errors = number.check(b"\"hush\"");
        assert!(!errors[0].detail.contains("hush"), "{}", errors[0].detail);
    }

    /// With an engine that goes back this takes longer than anybody waits.
    #[test]
    fn a_pattern_takes_time_by_the_length_of_the_text() {
        let schema = r#"{"items": {"pattern": "^(a+)+$"}}"#;
        let text = format!("[\"{}b\"]", "a".repeat(50_000));
        assert_eq!(places(schema, &text), ["/0"]);
    }

    #[test]
    fn what_is_no_schema_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "is not JSON"),
            ("{", "is not JSON"),
            ("7", "is no JSON Schema"),
            (r#"{"type": 7}"#, "at /type"),
            (r#"{"type": "nope"}"#, "at /type"),
            (
                r#"{"$schema": "http://json-schema.org/draft-07/schema#"}"#,
                "has the $schema",
            ),
            (r#"{"$schema": 7}"#, "has the $schema"),
            (
                r#"{"$ref": "https://example.com/other.json"}"#,
                "example.com",
            ),
            (r#"{"$ref": "file:///etc/passwd"}"#, "passwd"),
            (r#"{"$ref": "other.json"}"#, "other.json"),
            (r##"{"$ref": "#/$defs/none"}"##, "none"),
            (r#"{"pattern": "("}"#, "pattern"),
            (r#"{"pattern": "(?=a)b"}"#, "pattern"),
        ] {
            let refusal = JsonSchema::new(text).unwrap_err();
            assert!(refusal.contains(reason), "{text}: {refusal}");
        }
        let long = format!("{{\"title\": \"{}\"}}", "x".repeat(SCHEMA_BYTES_MAX));
        assert!(JsonSchema::new(&long).is_err());
        for (text, input) in [("true", "1"), ("{}", "null")] {
            assert!(
                JsonSchema::new(text)
                    .unwrap()
                    .check(input.as_bytes())
                    .is_empty()
            );
        }
    }
}
