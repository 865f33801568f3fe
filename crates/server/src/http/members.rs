//! The members of a JSON object in a body, as they stand there.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

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
