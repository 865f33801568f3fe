//! What the writer is asked to do, and how it answers.

use super::window::{Lane, Since};
pub(super) use crate::store::delivery::{Delivery, Parked, Reply};
use crate::store::room::Entered;
use crate::store::{Applied, Change, Inserted, NewJob, PlaceOf};
use anteroom_core::{ClaimNumber, JobId, Place, QueueDefaults};
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// Something for the writer to do.
#[derive(Debug)]
pub(super) enum Operation {
    Insert(Entered, Vec<NewJob>, Reply<Vec<Inserted>>),
    Claim(Parked),
    Apply(Vec<Change>, Reply<Vec<Applied>>),
    /// Claims that nobody received.
    HandBack(Vec<(JobId, ClaimNumber)>),
    Place(PlaceOf, Reply<Option<Place>>),
    ConfigureQueues(Box<QueueDefaults>, Reply<()>),
    /// Jobs wait that another writer of this node has put there: of each lane, from where on.
    Came(BTreeMap<Lane, Since>),
    /// Something changed elsewhere, or the clock was moved.
    LookAgain,
    /// Take no more, and end. Tells when that is done.
    Close(oneshot::Sender<()>),
}

impl Operation {
    /// Returns how many jobs it changes and how many bytes it brings: what a batch is bounded by.
    /// What claims take is bounded apart.
    pub(super) fn weight(&self) -> (usize, usize) {
        match self {
            Self::Insert(_, jobs, _) => {
                let bytes = jobs.iter().map(|job| job.input.bytes.len()).sum();
                (jobs.len(), bytes)
            }
            Self::Apply(changes, _) => {
                let bytes = |change: &Change| {
                    let result = change.result.as_ref().map_or(0, |it| it.bytes.len());
                    result + change.reports.bytes()
                };
                (changes.len(), changes.iter().map(bytes).sum())
            }
            Self::HandBack(claims) => (claims.len(), 0),
            Self::Claim(_) | Self::Place(..) | Self::ConfigureQueues(..) => (1, 0),
            Self::Came(_) | Self::LookAgain | Self::Close(_) => (0, 0),
        }
    }
}
