//! What a store counts of itself.

use super::histogram::Histogram;
use crate::store::StoreError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a store has counted since it was opened: its commits, and the calls that it failed.
#[derive(Debug)]
pub struct StoreMetrics {
    pub(super) operations: Histogram,
    pub(super) bytes: Histogram,
    pub(super) commit: Histogram,
    pub(super) transaction: Histogram,
    pub(super) errors: [AtomicU64; ERROR_KINDS.len()],
}

/// The kinds of error that are told apart.
pub(super) const ERROR_KINDS: [&str; 4] = ["unavailable", "overloaded", "unknown", "failed"];

const OPERATION_BOUNDS: [u64; 7] = [1, 4, 16, 64, 256, 1_024, 4_096];
const BYTE_BOUNDS: [u64; 6] = [1 << 10, 1 << 13, 1 << 16, 1 << 19, 1 << 22, 1 << 25];
/// Microseconds: from a disk with a cache of its own to one that is stuck.
const COMMIT_BOUNDS: [u64; 13] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    5_000_000,
];

impl Default for StoreMetrics {
    fn default() -> Self {
        Self {
            operations: Histogram::new(&OPERATION_BOUNDS),
            bytes: Histogram::new(&BYTE_BOUNDS),
            commit: Histogram::new(&COMMIT_BOUNDS),
            transaction: Histogram::new(&COMMIT_BOUNDS),
            errors: Default::default(),
        }
    }
}

/// A transaction that was committed.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    /// Jobs inserted, claimed and changed in it, and other operations.
    pub operations: usize,
    /// Bytes of inputs and results in it.
    pub bytes: usize,
    /// How long it took to make it durable.
    pub took: Duration,
    /// How long it all took, from its beginning to its being durable.
    pub transaction: Duration,
}

impl StoreMetrics {
    /// A transaction was committed.
    pub fn committed(&self, commit: Commit) {
        self.operations.observe(commit.operations as u64);
        self.bytes.observe(commit.bytes as u64);
        self.commit.observe_span(commit.took);
        self.transaction.observe_span(commit.transaction);
    }

    /// A call failed. What is no trouble of the store's (it was closed, an id is
    /// taken) does not count.
    pub fn failed(&self, error: &StoreError) {
        let kind = match error {
            StoreError::Unavailable { .. } => 0,
            StoreError::Overloaded { .. } => 1,
            StoreError::Unknown { .. } => 2,
            StoreError::Failed { .. } => 3,
            _ => return,
        };
        self.errors[kind].fetch_add(1, Ordering::Relaxed);
    }
}
