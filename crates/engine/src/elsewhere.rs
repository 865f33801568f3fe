//! What other nodes do to jobs that somebody waits for here.
//!
//! A node is told by its own commits of what it brings about itself. Where others share its store, it
//! asks the store for the versions of the jobs that are waited for, and reads those that have changed.
//! Nobody waits: nothing is asked.

use crate::engine::Shared;
use crate::store::{Found, StoreError};
use anteroom_core::JobId;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// How often it is asked, where answers are quick.
const INTERVAL: Duration = Duration::from_millis(50);
/// Asking takes no more than one part in so many of the time.
const PART_OF_TIME: u32 = 10;
/// Jobs that are asked about at once.
const ASKED_AT_ONCE_MAX: usize = 1_000;

/// Tells those who wait here of what other nodes do, until the engine has stopped.
pub(crate) async fn follow_other_nodes(shared: Arc<Shared>) {
    // The versions that those who wait were told of.
    let mut told: HashMap<JobId, u64> = HashMap::new();
    let mut pause = INTERVAL;
    let mut was_well = true;
    loop {
        tokio::select! {
            () = shared.phases.stopped() => return,
            () = shared.clock.sleep(pause) => {}
        }
        let watched = shared.notices.watched_jobs();
        told.retain(|id, _| watched.contains(id));
        let began_at = Instant::now();
        let mut asked = Ok(());
        let watched: Vec<JobId> = watched.into_iter().collect();
        for part in watched.chunks(ASKED_AT_ONCE_MAX) {
            asked = tell_of(&shared, part, &mut told).await;
            if asked.is_err() {
                break;
            }
        }
        pause = INTERVAL.max(began_at.elapsed() * PART_OF_TIME);
        match &asked {
            Err(StoreError::Closed) => return,
            Err(error) if was_well => warn!(%error, "other nodes cannot be followed: {error}"),
            Ok(()) | Err(_) => {}
        }
        was_well = asked.is_ok();
    }
}

/// Tells of those jobs that have changed since that was last done.
async fn tell_of(
    shared: &Shared,
    watched: &[JobId],
    told: &mut HashMap<JobId, u64>,
) -> Result<(), StoreError> {
    let versions = shared.store.versions(watched).await?;
    let versions: HashMap<JobId, u64> = versions.into_iter().collect();
    for id in watched {
        match versions.get(id) {
            Some(version) if told.get(id) == Some(version) => {}
            Some(_) => {
                if let Found::Here(job) = shared.store.get(*id).await? {
                    told.insert(*id, job.status.version);
                    shared.notices.changed(&job, None);
                }
            }
            // One that is being inserted is not there yet; one that was there is gone.
            None if told.remove(id).is_some() => shared.notices.gone(*id),
            None => {}
        }
    }
    Ok(())
}
