//! The exec runner with real programs: one test for each sentence of its promise.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test's unwrap is an assertion")]

mod harness;

mod confined;
mod ending;
mod leftovers;
mod saying;
mod start;
mod streams;
