//! Step 5 of a job's path: an attempt's outcome is written down, under its claim.
//!
//! Attempts settle each on their own; the store groups what is waiting into one commit. The fence
//! is the store's: a settle whose claim is no longer the current one changes nothing.

use crate::engine::Shared;
use crate::metrics::{AttemptEnd, TaskMetrics};
use crate::running::Entered;
use crate::shutdown::Phase;
use crate::store::{Applied, Change, Refused, StoreError};
use anteroom_core::{Event, Rejected, State};
use std::time::Duration;
use tracing::{error, info, warn};

/// The waits after the first and after later settles that the store could not do.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long it goes on trying once the engine is stopping.
const LAST_TRIES: Duration = Duration::from_secs(5);

/// Settles an attempt. While the store is unavailable it goes on trying, for as long as the
/// engine runs and a little longer: the outcome is all that there is to show for the work.
/// What became of the attempt is counted.
pub(crate) async fn settle(shared: &Shared, task: &TaskMetrics, change: Change, ended: Ended<'_>) {
    if let Err(error) = try_to_settle(shared, task, &change, ended).await {
        // In a box: most are settled at once, and need no room for it.
        Box::pin(go_on_trying(shared, task, change, ended, error)).await;
    }
}

/// An attempt that has ended, before anybody knows of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended<'a> {
    /// Its place among the running ones, which it keeps until the store has answered.
    pub(crate) entered: &'a Entered,
    /// How long it took.
    pub(crate) took: Duration,
}

async fn try_to_settle(
    shared: &Shared,
    task: &TaskMetrics,
    change: &Change,
    ended: Ended<'_>,
) -> Result<(), StoreError> {
    // Before anybody hears of it: whoever still finds it running is told of its end.
    let leave = |applied: &[Applied]| {
        ended.entered.leave();
        for applied in applied {
            settled(shared, task, change, applied, ended.took);
        }
    };
    let applied = shared.apply_and(vec![change.clone()], leave).await;
    applied.map(drop)
}

/// Goes on where the store could not do it at first.
async fn go_on_trying(
    shared: &Shared,
    task: &TaskMetrics,
    change: Change,
    ended: Ended<'_>,
    mut error: StoreError,
) {
    let id = change.id;
    let mut delay = RETRY_DELAYS.0;
    let mut given_up = std::pin::pin!(async {
        shared.phases.reached(Phase::Stopping).await;
        shared.clock.sleep(LAST_TRIES).await;
    });
    loop {
        if !error.is_retryable() {
            if !matches!(error, StoreError::Closed) {
                error!(job.id = %id, %error, "cannot settle job {id}: {error}");
            }
            return task.ended(AttemptEnd::Unsettled, ended.took);
        }
        if delay == RETRY_DELAYS.0 {
            warn!(job.id = %id, %error, "cannot settle job {id} yet: {error}");
        }
        tokio::select! {
            () = shared.clock.sleep(delay) => {}
            // The job will be found running under a dead process.
            () = &mut given_up => {
                error!(job.id = %id, %error, "gave up settling job {id}: {error}");
                return task.ended(AttemptEnd::Unsettled, ended.took);
            }
        }
        delay = (delay * 2).min(RETRY_DELAYS.1);
        match try_to_settle(shared, task, &change, ended).await {
            Ok(()) => return,
            Err(again) => error = again,
        }
    }
}

/// The store has answered: counts what it made of the outcome.
fn settled(
    shared: &Shared,
    task: &TaskMetrics,
    change: &Change,
    applied: &Applied,
    took: Duration,
) {
    match applied {
        Ok(job) => {
            let end = end_of(&change.event, job.status.state);
            shared.took(&job.spec, end, took);
            task.ended(end, took);
        }
        Err(refused) => {
            task.ended(AttemptEnd::Lost, took);
            log_refused(change, refused);
        }
    }
}

/// Tells what an event made of the attempt, by what it made of the job.
pub(crate) fn end_of(event: &Event, state: State) -> AttemptEnd {
    match state {
        State::Succeeded => AttemptEnd::Succeeded,
        State::Failed => AttemptEnd::Failed,
        State::Cancelled => AttemptEnd::Cancelled,
        State::Waiting | State::Running if matches!(event, Event::Released { .. }) => {
            AttemptEnd::HandedBack
        }
        State::Waiting | State::Running => AttemptEnd::Retried,
    }
}

fn log_refused(change: &Change, refused: &Refused) {
    let id = change.id;
    match refused {
        Refused::Rejected(Rejected::LeaseLost, _) => {
            info!(job.id = %id, "the outcome of job {id} came after its lease was lost");
        }
        Refused::Rejected(rejected, _) => {
            warn!(job.id = %id, "the outcome of job {id} was refused: {rejected}");
        }
        Refused::Repeated(_)
        | Refused::Unknown
        | Refused::Gone
        | Refused::VersionDiffers(_)
        | Refused::UniqueKeyTaken { .. } => {
            warn!(job.id = %id, "the outcome of job {id} came after the job was gone");
        }
    }
}
