//! Pushes and callbacks to real sockets: one test for each sentence of their promise, and for each
//! way in which a service may misbehave.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is an assertion")]

mod harness;

mod callback;
mod hostile;
mod push;
mod targets;
