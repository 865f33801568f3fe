//! Breaks a running server on purpose and checks the history of what it acknowledged.
//!
//! [`history`] is what was seen and the rules it is held to; a [`campaign`] starts a real
//! [`server`] process, puts a [`load`] on it, hurts it in one way, and compares what it promised
//! with what is there afterwards ([`verify`]).

pub mod campaign;
pub mod client;
pub mod flow;
pub mod history;
pub mod keyed;
pub mod listing;
pub mod load;
pub mod measure;
mod netns;
pub mod overlap;
pub mod proxy;
pub mod server;
mod storage;
pub mod verify;
pub mod wire;
pub mod worker;

use std::time::Duration;

/// Waits for `span`.
#[expect(
    clippy::disallowed_methods,
    reason = "a campaign hurts real processes in real time"
)]
async fn pause(span: Duration) {
    tokio::time::sleep(span).await;
}
