//! What a store or a file holds, in numbers: counts, and a digest that two of them are compared by.

use super::wire::hex;
use crate::store::archive::{Record, RecordKind};
use anteroom_core::State;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What a store or a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// How many records there are of each kind that has any.
    pub counts: BTreeMap<RecordKind, u64>,
    /// How many jobs there are in each stored state: waiting, running, succeeded, failed, cancelled.
    pub states: [u64; 5],
    /// The SHA-256 of the lines of all records, in their order, as hexadecimal digits.
    pub digest: String,
}

impl Content {
    /// Returns how many records there are of a kind.
    pub fn count(&self, kind: RecordKind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or_default()
    }

    /// Returns how many records there are.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// Adds records up.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: BTreeMap<RecordKind, u64>,
    states: [u64; 5],
    digest: Sha256,
}

impl Tally {
    /// Adds a record, whose line is `line`.
    pub(super) fn add(&mut self, record: &Record, line: &[u8]) {
        *self.counts.entry(record.key().kind()).or_default() += 1;
        if let Record::Job(kept) = record {
            let place = match kept.job.status.state {
                State::Waiting => 0,
                State::Running => 1,
                State::Succeeded => 2,
                State::Failed => 3,
                State::Cancelled => 4,
            };
            self.states[place] += 1;
        }
        self.digest.update(line);
    }

    /// Returns what they come to.
    pub(super) fn content(self) -> Content {
        Content {
            counts: self.counts,
            states: self.states,
            digest: hex(&self.digest.finalize()),
        }
    }
}
