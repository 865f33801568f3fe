//! A durable job queue to embed: at least once; never twice at a time under a valid lease; one
//! result, that never changes; what was acknowledged is never lost.
//!
//! A job's path is six files: [`submit`](Engine::submit) → [`store`] → `dispatch` → `attempt`
//! ([`run`]) → `settle` → `notify`.

mod attempt;
pub mod clock;
#[cfg(feature = "contract")]
pub mod contract;
mod dispatch;
mod engine;
mod maintain;
pub mod metrics;
mod notify;
pub mod run;
mod running;
mod settle;
mod shutdown;
pub mod store;
mod submit;
mod task;

pub use anteroom_core as core;
pub use engine::{Engine, Options, StartError, Until};
pub use shutdown::Phase;
pub use submit::{StartAt, Submission, SubmitError, Submitted};
pub use task::{Task, TaskRunner};
