//! What the callers and the writer of one store have in common.

use super::counts::Counting;
use super::fault::Fault;
use super::operation::Operation;
use crate::clock::Clock;
use crate::metrics::StoreMetrics;
use crate::store::StoreError;
use crate::store::delivery::HandBack;
use crate::store::room::Room;
use anteroom_core::{ClaimNumber, JobId, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) metrics: Arc<StoreMetrics>,
    pub(super) counting: Counting,
    operations: mpsc::UnboundedSender<Operation>,
    pub(super) room: Arc<Room>,
    closed: AtomicBool,
    /// Since when the database has been reached again and again; the greatest instant where it is not.
    steady_since: AtomicI64,
}

impl Shared {
    pub(super) fn new(clock: Clock, operations: mpsc::UnboundedSender<Operation>) -> Self {
        let steady_since = AtomicI64::new(clock.now().as_millis());
        Self {
            clock,
            metrics: Arc::default(),
            counting: Counting::default(),
            operations,
            room: Arc::default(),
            closed: AtomicBool::new(false),
            steady_since,
        }
    }

    /// Has the writer do something.
    pub(super) fn send(&self, operation: Operation) -> Result<(), StoreError> {
        self.check_open()?;
        self.operations
            .send(operation)
            .map_err(|_| StoreError::Closed)
    }

    /// Has the writer look for jobs to start.
    pub(super) fn look_again(&self) {
        let _ended = self.operations.send(Operation::LookAgain).is_err();
    }

    /// Has the writer end, whatever else holds.
    pub(super) fn send_close(&self, operation: Operation) {
        let _ended_before = self.operations.send(operation).is_err();
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
        let _ended = self.operations.send(Operation::HandBack(claims)).is_err();
    }
}
