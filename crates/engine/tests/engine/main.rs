//! The engine over the memory store.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod attempts;
mod harness;
mod path;
mod stopping;
