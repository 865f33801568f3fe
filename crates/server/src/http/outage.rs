//! Log lines about requests that failed for their store: few, however many requests there are.

use anteroom::store::StoreError;
use std::mem::take;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// The time between two lines about errors of one kind: an outage fails every request.
const BETWEEN_LINES: Duration = Duration::from_secs(1);
/// Kinds of error that are told apart.
const KINDS: usize = 6;

/// Logs requests that failed for their store.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    kinds: Mutex<[Lines; KINDS]>,
}

/// The lines about one kind of error.
#[derive(Clone, Copy, Debug, Default)]
struct Lines {
    last_at: Option<Instant>,
    left_out: u64,
}

impl Outage {
    /// Logs that a request failed for its store, unless the last line about the like is too young.
    pub(crate) fn log(&self, request: u64, error: &StoreError) {
        let kinds = self.kinds.lock();
        let mut kinds = kinds.unwrap_or_else(PoisonError::into_inner);
        let admitted = kinds[kind(error)].admit(Instant::now());
        drop(kinds);
        let Some(left_out) = admitted else { return };
        let more = match left_out {
            0 => String::new(),
            _ => format!("; left out {left_out} lines like this since the last"),
        };
        warn!(request.id = request, left_out, %error, "request {request} failed: {error}{more}");
    }
}

impl Lines {
    /// Returns how many lines were left out before this one; none if it is left out too.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        let too_young = |last: Instant| now.saturating_duration_since(last) < BETWEEN_LINES;
        if self.last_at.is_some_and(too_young) {
            self.left_out += 1;
            return None;
        }
        self.last_at = Some(now);
        Some(take(&mut self.left_out))
    }
}

fn kind(error: &StoreError) -> usize {
    match error {
        StoreError::Unavailable { .. } => 0,
        StoreError::Overloaded { .. } => 1,
        StoreError::Unknown { .. } => 2,
        StoreError::Closed => 3,
        StoreError::Failed { .. } => 4,
        _ => KINDS - 1,
    }
}
