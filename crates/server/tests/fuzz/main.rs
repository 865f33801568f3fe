//! Whatever a client sends, the answer is by the contract: nothing panics, an error is a problem,
//! and what was refused was not stored.
//!
//! Each target runs as a test over its corpus (`__fuzz__/TARGET/corpus`) and inputs made at random,
//! and for longer with `BOLERO_RANDOM_TEST_TIME_MS`. An input is taken as it is, or, with the upper
//! bit of its first byte set, as a list of words, so that chance gets beyond the first character.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are outside of test functions, where clippy allows it"
)]

mod harness;
mod targets;
