//! Following a job: everything that happened to it and happens to it, one event after the other.
//!
//! Nothing is gathered for a follower: whenever something wakes it, it reads in the store what
//! comes after the last that it was told. So a slow one costs nothing, and one that comes back with
//! the id of its last event goes on where it was, on any node and after any restart.

use crate::engine::{Engine, Shared};
use crate::notify::Watch;
use crate::store::{Found, History, StoreError};
use anteroom_core::limits::EVENTS_PAGE_MAX;
use anteroom_core::{EventId, JobEvent, JobId, ShownState, Spec, Status, Timestamp};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tracing::debug;

/// How often a follower looks whatever it is told: a safety net, for what nobody here brought about.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);
/// The wait after a look that the store could not do.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// What a follower is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// This happened.
    Event(JobEvent),
    /// Something happened before the next event that is told no more.
    Missing {
        /// The place of the last of it.
        id: EventId,
        /// How many events.
        count: u64,
    },
}

/// Follows a job. Dropping it ends that.
#[derive(Debug)]
pub struct Follow {
    shared: Arc<Shared>,
    watch: Watch,
    id: JobId,
    job: Arc<Spec>,
    /// The last that was told.
    last: EventId,
    /// Read, and not told yet.
    waiting: VecDeque<JobEvent>,
    /// States missing before the first of them.
    states_missing: u64,
    /// Where the job stood when it was last read.
    status: Status,
    /// Whether there may be more to read.
    is_stale: bool,
    /// Whether nothing comes after `waiting`.
    is_last: bool,
    look_at: Timestamp,
}

impl Engine {
    /// Follows a job from after an event on; from its beginning after [`EventId::START`].
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn follow(&self, id: JobId, after: EventId) -> Result<Found<Follow>, StoreError> {
        let shared = &self.shared;
        // Before it looks, so that no change in between is missed.
        let watch = shared.notices.subscribe(id);
        let found = shared.store.events(id, after, EVENTS_PAGE_MAX).await?;
        Ok(found.map(|history| {
            let mut follow = Follow {
                shared: shared.clone(),
                watch,
                id,
                job: history.job.spec.clone(),
                last: after,
                waiting: VecDeque::new(),
                states_missing: 0,
                status: history.job.status,
                is_stale: false,
                is_last: false,
                look_at: Timestamp::MIN,
            };
            follow.take(history);
            follow
        }))
    }
}

impl Follow {
    /// Returns the job, as it was submitted.
    pub const fn job(&self) -> &Arc<Spec> {
        &self.job
    }

    /// Tells whether the job has ended and there is nothing to tell of it any more.
    pub fn is_over(&self) -> bool {
        self.is_last && self.waiting.is_empty()
    }

    /// Waits for the next to be told. None: that was the end of the job, or it was deleted, or the
    /// engine has stopped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is told to a call that was dropped.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.ready() {
                return Some(told);
            }
            if self.is_last {
                return None;
            }
            if self.is_stale {
                self.look().await;
            } else {
                self.wait().await;
            }
        }
    }

    /// Returns what is there to be told already.
    pub fn ready(&mut self) -> Option<Told> {
        let next = self.waiting.front()?.id;
        let count = next.missing_since(self.last) + std::mem::take(&mut self.states_missing);
        if count > 0 {
            self.last = next.before();
            let id = self.last;
            return Some(Told::Missing { id, count });
        }
        self.last = next;
        self.waiting.pop_front().map(Told::Event)
    }

    async fn look(&mut self) {
        let store = &self.shared.store;
        let looked = store.events(self.id, self.last, EVENTS_PAGE_MAX).await;
        match looked {
            Ok(Found::Here(history)) => self.take(history),
            Ok(Found::Gone | Found::Unknown) => self.is_last = true,
            Err(error) if error.is_retryable() => {
                let id = self.id;
                debug!(job.id = %id, %error, "cannot follow job {id} just now: {error}");
                self.is_stale = false;
                self.look_at = self.shared.clock.now().after(RETRY_DELAY);
            }
            Err(_) => self.is_last = true,
        }
    }

    fn take(&mut self, history: History) {
        self.status = history.job.status;
        self.waiting.extend(history.events);
        self.states_missing = history.states_missing;
        self.is_stale = !history.is_all;
        self.is_last = history.is_all && self.status.state.is_final();
        self.look_at = self.shared.clock.now().after(LOOK_INTERVAL);
    }

    /// Waits until there may be more to tell.
    async fn wait(&mut self) {
        let clock = &self.shared.clock;
        let is_scheduled = self.status.shown(clock.now()) == ShownState::Scheduled;
        let look_at = if is_scheduled {
            self.look_at.min(self.status.run_at)
        } else {
            self.look_at
        };
        tokio::select! {
            () = self.watch.changed() => {}
            () = clock.sleep_until(look_at) => {}
            () = self.shared.phases.stopped() => self.is_last = true,
        }
        self.is_stale = true;
    }
}
