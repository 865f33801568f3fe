//! Other job queues in Rust, each a contender that is told orders on its standard input.
//!
//! A workspace of its own: what these crates need of `SQLite` clashes with what Anteroom needs. Orders
//! and how they are followed are those of `anteroom-bench`.

mod apalis_queue;
#[path = "../../../src/follow.rs"]
mod follow;
mod latency;
#[path = "../../../src/order.rs"]
#[allow(dead_code, reason = "who gives orders needs more of it")]
mod order;
mod postgres;
mod rustqueue_queue;
mod sqlite;

use follow::Told;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let who = std::env::args().nth(1).unwrap_or_default();
    let mut told = Told::read();
    let place = told.place().await?;
    match who.as_str() {
        "apalis-sqlite" => told.obey(sqlite::start(&place).await?).await,
        "apalis-postgres" => told.obey(postgres::start(&place).await?).await,
        "rustqueue" => told.obey(rustqueue_queue::RustQueue::start(&place)?).await,
        other => anyhow::bail!("{other:?} is none of apalis-sqlite, apalis-postgres, rustqueue"),
    }
}

/// What a job is given: 200 bytes of JSON, as those of Anteroom are.
pub(crate) fn input() -> String {
    "x".repeat(198)
}

/// What a job returns.
pub(crate) const NOTE: &str =
    "a result of about a hundred bytes, as a small answer of a real task is; no more";
