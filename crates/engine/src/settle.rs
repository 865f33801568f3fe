//! Step 5 of a job's path: an attempt's outcome is written down, under its claim.
//!
//! Attempts settle each on their own; the store groups what is waiting into one commit. The fence
//! is the store's: a settle whose claim is no longer the current one changes nothing.

use crate::engine::Shared;
use crate::shutdown::Phase;
use crate::store::{Change, Refused, StoreError};
use anteroom_core::Rejected;
use std::time::Duration;
use tracing::{error, info, warn};

/// The waits after the first and after later settles that the store could not do.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long it goes on trying once the engine is stopping.
const LAST_TRIES: Duration = Duration::from_secs(5);

/// Settles an attempt. While the store is unavailable it goes on trying, for as long as the
/// engine runs and a little longer: the outcome is all that there is to show for the work.
pub(crate) async fn settle(shared: &Shared, change: Change) {
    let id = change.id;
    let mut delay = RETRY_DELAYS.0;
    let mut given_up = std::pin::pin!(async {
        shared.phases.reached(Phase::Stopping).await;
        shared.clock.sleep(LAST_TRIES).await;
    });
    loop {
        let error = match shared.apply_one(change.clone()).await {
            Ok(Ok(_)) => return,
            Ok(Err(refused)) => return log_refused(&change, &refused),
            Err(error) => error,
        };
        if !error.is_retryable() {
            if !matches!(error, StoreError::Closed) {
                error!(job.id = %id, %error, "cannot settle job {id}: {error}");
            }
            return;
        }
        if delay == RETRY_DELAYS.0 {
            warn!(job.id = %id, %error, "cannot settle job {id} yet: {error}");
        }
        tokio::select! {
            () = shared.clock.sleep(delay) => {}
            // The job will be found running under a dead process.
            () = &mut given_up => {
                return error!(job.id = %id, %error, "gave up settling job {id}: {error}");
            }
        }
        delay = (delay * 2).min(RETRY_DELAYS.1);
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
        Refused::Unknown
        | Refused::Gone
        | Refused::VersionDiffers(_)
        | Refused::UniqueKeyTaken { .. } => {
            warn!(job.id = %id, "the outcome of job {id} came after the job was gone");
        }
    }
}
