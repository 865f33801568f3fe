//! Step 3 of a job's path: free slots → claim that many jobs → begin their attempts.
//!
//! There is a dispatcher for each task that this process runs. Its claim waits within the store
//! for a job to come, so that no wake-up can be lost between looking and waiting.

use crate::attempt;
use crate::engine::{Registered, Shared};
use crate::run::{Runner, Stop};
use crate::store::{Claimed, StoreError, Want};
use anteroom_core::Lease;
use anteroom_core::limits::CLAIM_JOBS_MAX;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{error, warn};

/// How long a claim waits before it is made anew: a safety net, not the way jobs are found.
const CLAIM_WAIT: Duration = Duration::from_mins(1);
/// The waits after the first and after later claims that the store could not do.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Dispatches a task's jobs until the engine drains.
pub(crate) async fn dispatch(
    shared: Arc<Shared>,
    registered: Arc<Registered>,
    runner: Arc<dyn Runner>,
) {
    tokio::select! {
        () = shared.phases.draining() => {}
        () = claim_and_begin(&shared, &registered, &runner) => {}
    }
}

/// Claims and begins until the store is closed or has failed for good.
async fn claim_and_begin(
    shared: &Arc<Shared>,
    registered: &Arc<Registered>,
    runner: &Arc<dyn Runner>,
) {
    let name = &registered.task.name;
    let mut delay = RETRY_DELAYS.0;
    loop {
        let mut slots = free_slots(registered).await;
        let want = Want {
            tasks: vec![name.clone()],
            queues: None,
            limit: slots.num_permits(),
            lease: Lease::Node,
            lease_for: shared.options.lease,
            wait: CLAIM_WAIT,
        };
        registered
            .offered
            .store(slots.num_permits(), Ordering::Relaxed);
        let claimed = shared.store.claim(want).await;
        registered.offered.store(0, Ordering::Relaxed);
        match claimed {
            Ok(claimed) => {
                delay = RETRY_DELAYS.0;
                for (claimed, slot) in claimed
                    .into_iter()
                    .map_while(|c| Some((c, slots.split(1)?)))
                {
                    begin(shared, registered, runner, claimed, slot);
                }
            }
            Err(error) if error.is_retryable() => {
                if delay == RETRY_DELAYS.0 {
                    warn!(task = %name, %error, "cannot claim jobs of task {name}: {error}");
                }
                drop(slots);
                shared.clock.sleep(delay).await;
                delay = (delay * 2).min(RETRY_DELAYS.1);
            }
            Err(StoreError::Closed) => return,
            Err(error) => {
                error!(task = %name, %error, "no more jobs of task {name} are run: {error}");
                return;
            }
        }
    }
}

/// Waits for a free slot and takes all that are free, up to what a claim may ask for.
async fn free_slots(registered: &Registered) -> OwnedSemaphorePermit {
    let slots = &registered.slots;
    let mut taken = slots
        .clone()
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    let more = slots.available_permits().min(CLAIM_JOBS_MAX - 1);
    // Attempts only give slots back, and nobody else takes them: what is free stays free.
    if let Ok(more) = slots
        .clone()
        .try_acquire_many_owned(u32::try_from(more).unwrap_or(0))
    {
        taken.merge(more);
    }
    taken
}

fn begin(
    shared: &Arc<Shared>,
    registered: &Arc<Registered>,
    runner: &Arc<dyn Runner>,
    claimed: Claimed,
    slot: OwnedSemaphorePermit,
) {
    shared.began(&claimed.job);
    // Entered before it is spawned, so that whoever stops all attempts stops this one too.
    let stop = Stop::default();
    let (id, claim) = (claimed.job.spec.id, claimed.job.status.claim);
    let entered = shared.running.enter(id, claim, stop.clone());
    let attempt = attempt::begin(claimed, stop, slot, &shared.outbox);
    let (shared, registered) = (shared.clone(), registered.clone());
    let run = attempt::run(shared.clone(), registered, runner.clone(), attempt, entered);
    shared.attempts.spawn(run);
}
