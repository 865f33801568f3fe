//! The members of a JSON object in a body, as they stand there.

use super::problem::FieldError;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Characters of a wrong value that are shown.
const SHOWN_MAX: usize = 64;

/// Everything that is wrong in a body, each with its place.
pub(crate) type Wrong = Vec<FieldError>;

/// Reads an object at a path of a body, and returns everything that is wrong with it.
///
/// `read` is given each member with its value as JSON text, its path, and where to put what is
/// wrong further in; it returns none where the object takes no such member. `takes` says which.
pub(crate) fn read_object(
    json: &[u8],
    path: &[&str],
    takes: &str,
    mut read: impl FnMut(&str, &str, &[&str], &mut Wrong) -> Option<Result<(), String>>,
) -> Wrong {
    let Ok(members) = serde_json::from_slice::<Members>(json) else {
        let detail = format!("is no object; it may have the members {takes}");
        return vec![FieldError::of(path, detail)];
    };
    let mut wrong = Vec::new();
    for (name, value) in members.each() {
        let at = [path, &[name]].concat();
        let read = value.and_then(|value| {
            read(name, value, &at, &mut wrong)
                .unwrap_or_else(|| Err(format!("is unknown; there may be {takes}")))
        });
        wrong.extend(read.err().map(|detail| FieldError::of(&at, detail)));
    }
    wrong
}

/// Says that a value is not what it should be.
pub(crate) fn no(what: &str, value: &str) -> String {
    let shown: String = value.chars().take(SHOWN_MAX).collect();
    let rest = if shown.len() < value.len() { "…" } else { "" };
    format!("is {shown}{rest}, which is no {what}")
}

/// The members of an object in their order, one that is given twice included.
pub(crate) struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns each with its value as JSON text, or with what is wrong where it was given before:
    /// readers differ in which of the two they take.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&str, Result<&str, String>)> {
        self.0.iter().enumerate().map(|(index, (name, value))| {
            let mut earlier = self.0[..index].iter();
            let value = if earlier.any(|(other, _)| other == name) {
                Err("is given twice; give it once".to_owned())
            } else {
                Ok(value.get())
            };
            (name.as_str(), value)
        })
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}
