//! Anteroom over HTTP: what the binary `anteroom` is made of, and a router to mount elsewhere.

pub mod http;
#[cfg(feature = "schema")]
pub mod schema;
