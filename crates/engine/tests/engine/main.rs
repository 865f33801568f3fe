//! The engine's integration tests: one binary, a module for each subject.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod admitting;
mod attempts;
#[cfg(feature = "contract")]
mod broken_stores;
mod bulk;
mod callbacks;
#[cfg(feature = "postgres")]
mod days;
mod events;
mod failing_store;
mod forecasts;
mod harness;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "postgres")]
mod nodes;
mod path;
mod queues;
mod schedules;
#[cfg(feature = "postgres")]
mod sql_submits;
mod stopping;
#[cfg(feature = "contract")]
mod store_contract;
