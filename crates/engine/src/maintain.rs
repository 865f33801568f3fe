//! Upkeep: rescues jobs whose lease or deadline ran out, forgets jobs whose retention is over,
//! and keeps the leases of the attempts that run here.
//!
//! Each pass is bounded and harmless to repeat: what somebody else did first is refused.

use crate::engine::Shared;
use crate::metrics::Rescue;
use crate::run::StopReason;
use crate::shutdown::Phase;
use crate::store::{Change, Overdue, OverdueReason, Refused, Store, StoreError};
use anteroom_core::limits::{CLAIM_JOBS_MAX, PRUNE_JOBS_MAX, UPKEEP_JOBS_MAX};
use anteroom_core::{Event, Rejected};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tracing::{info, warn};

/// How often something is looked for that ran out.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often where nothing is unfinished, and on a node of many on which nothing runs.
const IDLE_INTERVAL: Duration = Duration::from_secs(3);
/// How often jobs are forgotten, in passes, where each pass of each node costs a query.
const PASSES_PER_PRUNE: u32 = 4;
/// How often a node that others may take for dead is looked after.
const ALIVE_INTERVAL: Duration = Duration::from_millis(500);
/// Extensions of a lease before it would run out, so that two may fail.
const EXTENSIONS_PER_LEASE: u32 = 3;

/// Rescues and prunes until the engine drains.
pub(crate) async fn maintain(shared: Arc<Shared>) {
    let mut was_well = true;
    let mut last_pass = shared.clock.now();
    let mut rescue_from = last_pass;
    let mut round = 0_u32;
    loop {
        let interval = interval(&shared);
        tokio::select! {
            () = shared.phases.draining() => return,
            () = pause(&shared, interval) => {}
        }
        let now = shared.clock.now();
        shared.feed.tend(now);
        // A clock that was set back must not put it off for longer than a lease.
        rescue_from = rescue_from.min(now.after(shared.options.lease));
        // After a sleep of the machine the leases of living workers look as if they had run out:
        // their holders get the time to extend them.
        if now.since(last_pass) > interval + shared.options.lease / 2 {
            rescue_from = now.after(shared.options.lease);
            info!(
                "the clock went on by {:?}: leases are left alone",
                now.since(last_pass)
            );
        }
        let rescued = async {
            if now >= rescue_from {
                rescue(&shared).await?;
            }
            Ok(())
        };
        let pruned = async {
            if !shared.store.is_shared() || round.is_multiple_of(PASSES_PER_PRUNE) {
                prune(&shared).await?;
            }
            Ok(())
        };
        // At once, so that a store that sleeps is woken once.
        let (rescued, pruned): (Result<(), StoreError>, _) = tokio::join!(rescued, pruned);
        let passed = rescued.and(pruned);
        round = round.wrapping_add(1);
        last_pass = shared.clock.now();
        match &passed {
            Err(StoreError::Closed) => return,
            Err(error) if was_well => warn!(%error, "upkeep has to wait: {error}"),
            Ok(()) | Err(_) => {}
        }
        was_well = passed.is_ok();
    }
}

/// Returns how long it is until the next pass.
fn interval(shared: &Shared) -> Duration {
    // Whoever follows the feed is told there of jobs that came due.
    if shared.feed.is_followed() {
        return INTERVAL;
    }
    let runs_nothing = || shared.store.is_shared() && shared.running.held().is_empty();
    if shared.rest.begin(&*shared.store) || runs_nothing() {
        IDLE_INTERVAL
    } else {
        INTERVAL
    }
}

/// Waits for an interval, or for a short one from the end of a rest on.
async fn pause(shared: &Shared, interval: Duration) {
    let began = shared.clock.now();
    tokio::select! {
        () = shared.clock.sleep(interval) => {}
        () = shared.rest.ended.notified() => {
            let left = interval.saturating_sub(shared.clock.now().since(began));
            shared.clock.sleep(left.min(INTERVAL)).await;
        }
    }
}

/// The rest of upkeep while no job is unfinished.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    is_on: AtomicBool,
    ended: Notify,
}

impl Rest {
    /// Begins, if no job is unfinished, and tells whether it has.
    fn begin(&self, store: &dyn Store) -> bool {
        // Before it looks: a job that it does not see comes from somebody who sees this.
        self.is_on.store(true, Ordering::SeqCst);
        let is_idle = store.is_idle();
        // Not written again where it is on: it may have been ended by now.
        if !is_idle {
            self.is_on.store(false, Ordering::SeqCst);
        }
        is_idle
    }

    /// Ends, if it is on: a job may be unfinished from now on.
    pub(crate) fn end(&self) {
        if self.is_on.load(Ordering::SeqCst) && self.is_on.swap(false, Ordering::SeqCst) {
            self.ended.notify_one();
        }
    }
}

/// Deals with all jobs that something ran out for.
pub(crate) async fn rescue(shared: &Shared) -> Result<(), StoreError> {
    loop {
        let mut overdue = shared.store.overdue(UPKEEP_JOBS_MAX).await?;
        let looked_at = overdue.len();
        // What runs here is alive, whatever kept its lease from being extended.
        overdue.retain(|overdue| match overdue.reason {
            OverdueReason::Lease(claim) => !shared.running.holds(overdue.id, claim),
            OverdueReason::Timeout(_) | OverdueReason::Process(_) | OverdueReason::Deadline => true,
        });
        let changes = overdue
            .iter()
            .map(|overdue| change(shared, overdue))
            .collect();
        let mut rescued = 0;
        for (overdue, applied) in overdue.iter().zip(shared.apply(changes).await?) {
            // Refused means that somebody else was first, or that nothing ran out after all.
            if applied.is_ok() {
                rescued += 1;
                shared
                    .metrics
                    .of(&overdue.task)
                    .rescued(match overdue.reason {
                        OverdueReason::Lease(_) => Rescue::LeaseExpired,
                        OverdueReason::Timeout(_) => Rescue::Timeout,
                        OverdueReason::Process(_) => Rescue::Crash,
                        OverdueReason::Deadline => Rescue::TooLate,
                    });
                let (id, reason) = (overdue.id, overdue.reason);
                info!(job.id = %id, task = %overdue.task, "rescued job {id}: {reason:?}");
            }
        }
        if looked_at < UPKEEP_JOBS_MAX || rescued == 0 {
            return Ok(());
        }
    }
}

fn change(shared: &Shared, overdue: &Overdue) -> Change {
    let retry_in = shared.retry_in(&overdue.task, overdue.attempt);
    let event = match overdue.reason {
        OverdueReason::Lease(claim) => Event::LeaseExpired {
            claim,
            retry_in,
            is_timeout: false,
        },
        OverdueReason::Timeout(claim) => Event::LeaseExpired {
            claim,
            retry_in,
            is_timeout: true,
        },
        OverdueReason::Process(claim) => Event::WorkerCrashed { claim, retry_in },
        OverdueReason::Deadline => Event::DeadlinePassed,
    };
    Change::new(overdue.id, event)
}

/// Forgets jobs, for an interval at most: rescues come in between, and a drain.
async fn prune(shared: &Shared) -> Result<(), StoreError> {
    let began = shared.clock.now();
    while shared.store.prune(PRUNE_JOBS_MAX).await? == PRUNE_JOBS_MAX {
        let is_over = shared.clock.now().since(began) > INTERVAL;
        if is_over || shared.phases.now() != Phase::Running {
            break;
        }
        // Submits go in between; the next piece waits its turn behind them.
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Starts the keeper of the leases of this node's attempts.
///
/// It has a thread and a runtime of its own, so that work that hogs the runtime's threads loses
/// no lease. With a clock that only the runtime or a test drives, it runs on that runtime.
pub(crate) fn start_keeper(shared: &Arc<Shared>) {
    let (leases, watch) = (
        keep_leases(shared.clone()),
        stop_where_taken_for_dead(shared.clone()),
    );
    let keeper = async { tokio::join!(leases, watch) };
    if !shared.clock.is_system() {
        shared.loops.spawn(keeper);
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let started = runtime.and_then(|runtime| {
        std::thread::Builder::new()
            .name("anteroom-leases".to_owned())
            .spawn(move || runtime.block_on(keeper))
    });
    if let Err(error) = started {
        // Nothing is lost by it: the node's own late settles are good until a rescue.
        warn!(%error, "the lease keeper has no thread: {error}");
    }
}

async fn keep_leases(shared: Arc<Shared>) {
    let interval = shared.options.lease / EXTENSIONS_PER_LEASE;
    loop {
        tokio::select! {
            () = shared.phases.stopped() => return,
            () = shared.clock.sleep(interval) => {}
        }
        match extend_leases(&shared).await {
            Ok(()) => {}
            Err(StoreError::Closed) => return,
            Err(error) => warn!(%error, "cannot extend leases: {error}"),
        }
    }
}

/// Stops what runs here whenever others may take this node for dead. Apart from what asks the store: that
/// may wait for an answer that does not come.
async fn stop_where_taken_for_dead(shared: Arc<Shared>) {
    while shared.store.is_shared() {
        tokio::select! {
            () = shared.phases.stopped() => return,
            () = shared.clock.sleep(ALIVE_INTERVAL) => {}
        }
        if !shared.store.is_alive() {
            stop_all_running(&shared);
        }
    }
}

/// Stops what runs here: others may have begun it again.
fn stop_all_running(shared: &Shared) {
    let held = shared.running.held();
    if held.is_empty() {
        return;
    }
    warn!(
        "stops {} attempts: this node could not say that it is alive, and others may run their jobs",
        held.len()
    );
    for (id, claim) in held {
        shared
            .running
            .stop_running(id, claim, StopReason::LeaseLost);
    }
}

/// Extends the leases of all attempts that run here, and stops those that may not go on.
async fn extend_leases(shared: &Shared) -> Result<(), StoreError> {
    let held = shared.running.held();
    for held in held.chunks(CLAIM_JOBS_MAX) {
        let lease_expires_at = shared.clock.now().after(shared.options.lease);
        let extend = |(id, claim): &(_, _)| {
            Change::new(
                *id,
                Event::Extended {
                    claim: *claim,
                    lease_expires_at,
                },
            )
        };
        let applied = shared.store.apply(held.iter().map(extend).collect());
        for ((id, claim), applied) in held.iter().zip(applied.await?) {
            let reason = match applied {
                Err(
                    Refused::Rejected(Rejected::LeaseLost, _) | Refused::Gone | Refused::Unknown,
                ) => StopReason::LeaseLost,
                Ok(job) if job.status.cancel_requested => StopReason::Cancelled,
                Ok(_) | Err(_) => continue,
            };
            shared.running.stop_running(*id, *claim, reason);
        }
    }
    Ok(())
}
