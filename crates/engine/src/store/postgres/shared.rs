//! What the callers and the writer of one store have in common.

use super::counts::Counting;
use super::fault::Fault;
use super::known::Known;
use super::node::KEPT;
use super::operation::Operation;
use super::window::{Lane, Since};
use crate::clock::Clock;
use crate::metrics::StoreMetrics;
use crate::store::StoreError;
use crate::store::delivery::HandBack;
use crate::store::room::Room;
use anteroom_core::{ClaimNumber, JobId, Timestamp};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

/// From so many jobs on a submit is written beside the rest.
const BULK_MIN: usize = 64;

/// The writers of a node, each of which makes one transaction after the other.
#[derive(Debug)]
pub(super) struct Writers {
    /// Gives jobs to those who wait for them, and inserts what comes one by one: a job that somebody
    /// waits for starts in the transaction that inserts it.
    pub(super) claims: mpsc::UnboundedSender<Operation>,
    /// Inserts what comes in bulk.
    pub(super) submits: mpsc::UnboundedSender<Operation>,
    /// Changes jobs that are there.
    pub(super) settles: mpsc::UnboundedSender<Operation>,
}

impl Writers {
    fn of(&self, operation: &Operation) -> &mpsc::UnboundedSender<Operation> {
        match operation {
            Operation::Insert(_, jobs, _) if jobs.len() >= BULK_MIN => &self.submits,
            Operation::Apply(..) | Operation::HandBack(_) => &self.settles,
            _ => &self.claims,
        }
    }

    /// Returns all of them, the one for changes last.
    fn all(&self) -> [&mpsc::UnboundedSender<Operation>; 3] {
        [&self.claims, &self.submits, &self.settles]
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) metrics: Arc<StoreMetrics>,
    pub(super) counting: Counting,
    writers: Writers,
    /// What this node runs, as its writers know it.
    pub(super) known: Known,
    pub(super) room: Arc<Room>,
    closed: AtomicBool,
    /// Told of jobs that wait and that nobody takes here.
    pub(super) untold: Notify,
    /// Whether other nodes are heard of jobs that wait.
    listens: AtomicBool,
    /// Until when other nodes take this one to be alive.
    alive_until: Mutex<Instant>,
    /// Since when the database has been reached again and again; the greatest instant where it is not.
    steady_since: AtomicI64,
}

impl Shared {
    pub(super) fn new(clock: Clock, writers: Writers) -> Self {
        let steady_since = AtomicI64::new(clock.now().as_millis());
        Self {
            clock,
            metrics: Arc::default(),
            counting: Counting::default(),
            writers,
            known: Known::default(),
            room: Arc::default(),
            closed: AtomicBool::new(false),
            untold: Notify::new(),
            listens: AtomicBool::new(false),
            alive_until: Mutex::new(Instant::now() + KEPT),
            steady_since,
        }
    }

    /// Has the writer do something.
    pub(super) fn send(&self, operation: Operation) -> Result<(), StoreError> {
        self.check_open()?;
        let writer = self.writers.of(&operation);
        writer.send(operation).map_err(|_| StoreError::Closed)
    }

    /// Has every writer do something.
    pub(super) fn send_each(
        &self,
        mut operation: impl FnMut() -> Operation,
    ) -> Result<(), StoreError> {
        self.check_open()?;
        for writer in self.writers.all() {
            writer.send(operation()).map_err(|_| StoreError::Closed)?;
        }
        Ok(())
    }

    /// Has those who wait for jobs look for some.
    pub(super) fn look_again(&self) {
        let _ended = self.writers.claims.send(Operation::LookAgain).is_err();
    }

    /// Tells those who wait for jobs that there are some.
    pub(super) fn came(&self, waiting: BTreeMap<Lane, Since>) {
        let _ended = self.writers.claims.send(Operation::Came(waiting)).is_err();
    }

    /// Has the writers end, whatever else holds, and returns once they have.
    pub(super) async fn end_writers(&self) {
        // What the others hand back the last of them takes.
        for writer in self.writers.all() {
            let (done, ended) = oneshot::channel();
            let _ended_before = writer.send(Operation::Close(done)).is_err();
            // An error says that it has ended before.
            let _ended = ended.await;
        }
    }

    /// Refuses everything once the store is closed.
    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        Ok(())
    }

    /// Marks the store as closed.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Notes that this node has said at an instant that it is alive, and whether it hears of others.
    pub(super) fn beaten(&self, sent_at: Instant, listens: bool) {
        let was_alive = self.is_alive();
        *self.alive_until() = sent_at + KEPT;
        self.listens.store(listens, Ordering::Relaxed);
        if !was_alive {
            // Nobody here was given jobs meanwhile.
            self.look_again();
        }
    }

    /// Tells whether no other node takes this one for dead. By the time that passes here alone: what
    /// the clock of the database shows is not known while it cannot be reached.
    pub(super) fn is_alive(&self) -> bool {
        Instant::now() < *self.alive_until()
    }

    /// Returns until when no other node takes this one for dead, by what it has said up to now.
    pub(super) fn counts_until(&self) -> Instant {
        *self.alive_until()
    }

    fn alive_until(&self) -> MutexGuard<'_, Instant> {
        // An instant is whole whatever panicked.
        self.alive_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether other nodes are heard of jobs that wait.
    pub(super) fn listens(&self) -> bool {
        self.listens.load(Ordering::Relaxed)
    }

    /// Notes whether the database could be reached just now.
    pub(super) fn reached(&self, is_reached: bool) {
        let now = if is_reached {
            self.clock.now().as_millis()
        } else {
            i64::MAX
        };
        let since = self.steady_since.load(Ordering::Relaxed);
        if !is_reached || since == i64::MAX {
            self.steady_since.store(now, Ordering::Relaxed);
        }
    }

    /// Tells whether the database has been reached for so long that other living nodes have reached it
    /// as well: after an outage each of them looks dead until it has said otherwise.
    pub(super) fn is_steady(&self, span: Duration) -> bool {
        let since = Timestamp::from_millis(self.steady_since.load(Ordering::Relaxed));
        self.clock.now() >= since.after(span)
    }

    /// Puts what became of a call into the words of the trait, and counts it where it failed.
    pub(super) fn answer<T>(&self, done: Result<T, Fault>) -> Result<T, StoreError> {
        let answer = done.map_err(Fault::into_error);
        answer.inspect_err(|error| self.metrics.failed(error))
    }
}

impl HandBack for Shared {
    /// Has the writer take back claims that nobody received. If it has ended, they are rescued
    /// once others see that this node is gone.
    fn hand_back(&self, claims: Vec<(JobId, ClaimNumber)>) {
        let _ended = self
            .writers
            .settles
            .send(Operation::HandBack(claims))
            .is_err();
    }
}
