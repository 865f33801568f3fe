//! The HTTP contract on real sockets: about one test for each sentence.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are outside of test functions, where clippy allows it"
)]

mod browsers;
mod harness;
mod http_connections;
mod http_control;
mod http_errors;
mod http_read;
mod http_submit;
mod mount;
