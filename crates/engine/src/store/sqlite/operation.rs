//! What the writer is asked to do, and how it answers.

pub(super) use crate::store::delivery::{Delivery, Parked, Reply};
use crate::store::room::Entered;
use crate::store::{
    Applied, Change, Counts, Deleted, DocumentChange, DocumentPut, Inserted, KeptQueue, NewJob,
    Overdue, PlaceOf, QueueChange, QueueSet, StoreError,
};
use anteroom_core::{ClaimNumber, JobId, Label, Name, Place, QueueDefaults};
use bytes::Bytes;
use tokio::sync::oneshot;

/// Something for the writer to do.
#[derive(Debug)]
pub(super) enum Operation {
    Insert(Entered, Vec<NewJob>, Reply<Vec<Inserted>>),
    Claim(Parked),
    Apply(Vec<Change>, Reply<Vec<Applied>>),
    /// Claims that nobody received.
    HandBack(Vec<(JobId, ClaimNumber)>),
    Overdue(usize, Reply<Vec<Overdue>>),
    Prune(usize, Reply<Pruned>),
    Delete(JobId, Option<u64>, Reply<Deleted>),
    Place(PlaceOf, Reply<Option<Place>>),
    Counts(Reply<Vec<Counts>>),
    Queues(Reply<Vec<KeptQueue>>),
    SetQueues(Vec<QueueChange>, Reply<Vec<QueueSet>>),
    ConfigureQueues(Box<QueueDefaults>, Reply<()>),
    PutDocuments(Vec<DocumentChange>, Reply<Vec<DocumentPut>>),
    /// The clock was moved, or the store failed.
    LookAgain,
    /// Lets a test do something with the connection.
    #[cfg(test)]
    Meddle(fn(&rusqlite::Connection), oneshot::Sender<()>),
    /// Take no more, and end. Tells when that is done; `true`: merge the log first.
    Close(bool, oneshot::Sender<()>),
}

/// What undoes a part of an insert.
#[derive(Debug)]
pub(super) enum Undo {
    /// Takes back the job with this key.
    Job(i64),
    /// Lets go of the unique key of a task.
    Hold(Box<(Name, Label)>),
    /// Forgets the submit with this number.
    Submit(i64),
}

/// What one pass of pruning did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pruned {
    pub(super) jobs: usize,
    /// It stopped at the bytes of a batch, so that there may be more.
    pub(super) is_cut_short: bool,
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
            Self::Prune(limit, _) => (*limit, 0),
            Self::SetQueues(changes, _) => (changes.len(), 0),
            Self::PutDocuments(changes, _) => {
                let values = changes.iter().filter_map(|change| change.value.as_ref());
                (changes.len(), values.map(Bytes::len).sum())
            }
            Self::Claim(_) | Self::Overdue(..) | Self::Delete(..) | Self::Counts(_) => (1, 0),
            Self::Place(..) | Self::Queues(_) | Self::ConfigureQueues(..) => (1, 0),
            Self::LookAgain | Self::Close(..) => (0, 0),
            #[cfg(test)]
            Self::Meddle(..) => (0, 0),
        }
    }

    /// Answers that it was not done.
    pub(super) fn refuse(self, error: StoreError) {
        // Whoever does not wait any more needs no answer.
        let _unheard = match self {
            Self::Insert(_, _, reply) => reply.send(Err(error)).is_err(),
            Self::Claim(parked) => parked.reply.send(Err(error)).is_err(),
            Self::Apply(_, reply) => reply.send(Err(error)).is_err(),
            Self::Overdue(_, reply) => reply.send(Err(error)).is_err(),
            Self::Prune(_, reply) => reply.send(Err(error)).is_err(),
            Self::Delete(_, _, reply) => reply.send(Err(error)).is_err(),
            Self::Place(_, reply) => reply.send(Err(error)).is_err(),
            Self::Counts(reply) => reply.send(Err(error)).is_err(),
            Self::Queues(reply) => reply.send(Err(error)).is_err(),
            Self::SetQueues(_, reply) => reply.send(Err(error)).is_err(),
            Self::ConfigureQueues(_, reply) => reply.send(Err(error)).is_err(),
            Self::PutDocuments(_, reply) => reply.send(Err(error)).is_err(),
            Self::HandBack(_) | Self::LookAgain | Self::Close(..) => true,
            #[cfg(test)]
            Self::Meddle(..) => true,
        };
    }
}
