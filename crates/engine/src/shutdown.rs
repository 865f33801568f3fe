//! Stopping, in four phases: running → draining → stopping → stopped.
//!
//! - *draining*: no job is claimed and no submit taken; reads and waits are served, and running
//!   attempts go on for the grace.
//! - *stopping*: attempts that still run are told to stop. Their jobs are handed back, which costs
//!   them no attempt.
//! - *stopped*: nothing runs; waits end. The store is closed last.

use crate::engine::Engine;
use crate::run::StopReason;
use std::time::Duration;
use tokio::sync::watch;
use tracing::info;

/// How far an engine has come in stopping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It takes and runs jobs.
    #[default]
    Running,
    /// It takes none, and lets running attempts go on.
    Draining,
    /// Attempts are told to stop, and their jobs handed back.
    Stopping,
    /// Nothing runs any more.
    Stopped,
}

/// The phase, and those who wait for the next.
#[derive(Debug, Default)]
pub(crate) struct Phases(watch::Sender<Phase>);

impl Phases {
    pub(crate) fn now(&self) -> Phase {
        *self.0.borrow()
    }

    /// Goes on to `phase`; never back.
    fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let later = *now < phase;
            if later {
                *now = phase;
            }
            later
        });
    }

    /// Waits until `phase` has come.
    pub(crate) async fn reached(&self, phase: Phase) {
        let mut phases = self.0.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let _reached = phases.wait_for(|now| *now >= phase).await;
    }

    pub(crate) async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    pub(crate) async fn stopped(&self) {
        self.reached(Phase::Stopped).await;
    }
}

impl Engine {
    /// Returns the phase.
    pub fn phase(&self) -> Phase {
        self.shared.phases.now()
    }

    /// Waits until `phase` or a later one has come.
    pub async fn phase_reached(&self, phase: Phase) {
        self.shared.phases.reached(phase).await;
    }

    /// Begins to drain: claims no more jobs and refuses submits. Returns at once.
    pub fn drain(&self) {
        self.shared.phases.advance(Phase::Draining);
    }

    /// Drains, gives running attempts `grace` to end, then stops them and hands their jobs back.
    /// Returns once nothing runs; the store can still be read.
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves the engine in the phase it had reached; call it again to go on.
    pub async fn stop(&self, grace: Duration) {
        let shared = &self.shared;
        self.drain();
        shared.dispatchers.close();
        shared.attempts.close();
        shared.loops.close();
        // Dispatchers end first, so that no attempt begins after the others were counted.
        let ended = async {
            shared.dispatchers.wait().await;
            shared.attempts.wait().await;
        };
        tokio::select! {
            () = ended => {}
            () = shared.clock.sleep(grace) => {
                let left = shared.attempts.len();
                info!(attempts = left, "stopping {left} attempts that still run");
            }
        }
        shared.phases.advance(Phase::Stopping);
        shared.dispatchers.wait().await;
        shared.running.stop_all(StopReason::Shutdown);
        shared.attempts.wait().await;
        shared.phases.advance(Phase::Stopped);
        shared.loops.wait().await;
    }

    /// Closes the store. Nothing works after it.
    pub async fn close(&self) {
        self.shared.store.close().await;
    }

    /// Stops and closes.
    pub async fn shutdown(&self, grace: Duration) {
        self.stop(grace).await;
        self.close().await;
    }
}
