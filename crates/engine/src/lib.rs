//! A durable job queue to embed: at least once; never twice at a time under a valid lease; one
//! result, that never changes; what was acknowledged is never lost.
//!
//! A job's path is six files: [`submit`](Engine::submit) → [`store`] → `dispatch` → `attempt`
//! ([`run`]) → `settle` → `notify`.

mod admit;
mod amend;
mod asking;
mod attempt;
mod bulk;
mod callback;
pub mod clock;
#[cfg(feature = "contract")]
pub mod contract;
mod dispatch;
mod elsewhere;
mod engine;
mod feed;
mod fingerprint;
mod follow;
mod forecast;
mod lease;
mod maintain;
pub mod metrics;
pub mod moving;
mod notify;
mod queues;
mod rates;
mod reasons;
mod report;
pub mod run;
mod running;
mod schedules;
mod settle;
mod shutdown;
pub mod store;
mod submit;
mod task;
mod validate;
#[cfg(feature = "push")]
pub mod webhook;

pub use admit::Admitted;
pub use amend::AmendError;
pub use anteroom_core as core;
pub use bulk::{Bulk, BulkAction};
pub use callback::{
    CallbackUrl, CallbackUrlError, Callbacks, CheckTarget, another_id, callback_of,
};
pub use engine::{Engine, Options, StartError, Until};
pub use feed::{FeedEvent, FeedId, FeedTold, FollowAll};
pub use follow::{Follow, Told};
pub use forecast::Waiting;
pub use lease::{LeaseError, LeaseRefused, LeaseRequest, Leased, Settlement};
pub use queues::{Queue, QueueError};
pub use rates::Rates;
pub use schedules::{CatchUp, DefinedIn, Expected, Schedule, ScheduleError, Scheduled};
pub use shutdown::Phase;
pub use submit::{StartAt, Submission, SubmitError, Submitted, Watched};
pub use task::{Task, TaskRunner};
pub use validate::{Invalid, Validate};
