//! A durable job queue to embed.

pub mod clock;
#[cfg(feature = "contract")]
pub mod contract;
pub mod run;
pub mod store;
mod task;

pub use anteroom_core as core;
pub use task::{Task, TaskRunner};
