//! How many jobs may wait for a writer to insert them.

use super::StoreError;
use anteroom_core::limits::STORE_QUEUE_MAX;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The jobs whose submit waits for the writer.
#[derive(Debug, Default)]
pub(super) struct Room(AtomicUsize);

impl Room {
    /// Makes room for a submit of `jobs` jobs among those that wait.
    pub(super) fn enter(self: &Arc<Self>, jobs: usize) -> Result<Entered, StoreError> {
        let waiting = self.0.fetch_add(jobs, Ordering::Relaxed);
        let entered = Entered {
            room: self.clone(),
            jobs,
        };
        // A single submit is let in whatever its size, which has a limit of its own.
        if waiting > 0 && waiting + jobs > STORE_QUEUE_MAX {
            return Err(StoreError::Overloaded {
                waiting,
                limit: STORE_QUEUE_MAX,
            });
        }
        Ok(entered)
    }
}

/// The place that a submit takes while it waits for the writer.
#[derive(Debug)]
pub(super) struct Entered {
    room: Arc<Room>,
    jobs: usize,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.jobs, Ordering::Relaxed);
    }
}
