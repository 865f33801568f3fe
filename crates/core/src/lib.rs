//! Decides what becomes of a job.
//!
//! Nothing here does I/O, waits, reads a clock or draws a random number; the dependencies in
//! `Cargo.toml` are the proof. Whoever calls passes in the time and the jitter.
//!
//! The life of a job, and the events that move it ([`transition`] decides each of them):
//!
//! ```text
//!                 submit
//!                   |
//!                   v   failed, attempts left; handed back; lease lost; retry requested
//!              +---------+ <---------------------------------------------+
//!              | waiting |                                               |
//!              +---------+ --claimed--> +---------+ ---------------------+
//!                |     |                | running |
//!       deadline |     | cancel         +---------+ --succeeded--> succeeded (for ever)
//!         passed |     | requested        |     |
//!                v     v                  |     +--any other end after a cancel--> cancelled
//!           failed   cancelled            +--failed for good, attempts used up--> failed
//! ```
//!
//! A waiting job is shown as `scheduled` while its `run_at` lies ahead and as `ready` from then on
//! ([`Status::shown`]): the passage of time is not a change that anybody has to store.
#![warn(clippy::wildcard_enum_match_arm)]

mod forecast;
pub mod history;
mod id;
mod idempotency;
mod job;
mod lifecycle;
pub mod limits;
mod name;
pub mod order;
mod place;
mod queue;
mod rate;
mod report;
mod retry;
mod schedule;
mod time;

pub use forecast::{Outlook, ServiceTimes, Slots};
pub use history::{EventId, EventPart, Happened, JobEvent, MalformedEventId, StateEvent};
pub use id::{ClaimNumber, JobId, MalformedId};
pub use idempotency::{Fingerprint, Idempotency, IdempotencyKey, IdempotencyKeyError};
pub use job::{
    Amendment, AttemptError, Failure, FailureKind, Job, Payload, PayloadInfo, Priority,
    PriorityOutOfRange, Spec,
};
pub use lifecycle::{
    Event, HandBack, Lease, Next, Rejected, Retry, ShownState, State, Status, transition,
};
pub use name::{Label, Name, NameError};
pub use order::Order;
pub use place::{Place, Position};
pub use queue::{Patch, QueueDefaults, QueuePatch, QueueRule, QueueSettingError, QueueSettings};
pub use rate::{Pace, RateLimit};
pub use report::{LogStream, Progress, Report, Reports};
pub use retry::{Jitter, RetryPolicy};
pub use schedule::{Cron, CronError, UnknownZone, Zone};
pub use time::Timestamp;
