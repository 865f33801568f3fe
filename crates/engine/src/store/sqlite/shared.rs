//! What the callers, the writer and the readers of one store have in common.

use super::fault::Fault;
use super::operation::Operation;
use crate::clock::Clock;
use crate::metrics::StoreMetrics;
use crate::store::StoreError;
use crate::store::delivery::HandBack;
use crate::store::room::Room;
use anteroom_core::{ClaimNumber, JobId};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use tokio::sync::watch;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<StoreMetrics>,
    operations: mpsc::Sender<Operation>,
    pub(super) room: Arc<Room>,
    closed: AtomicBool,
    /// Whether no job was unfinished after the latest commit.
    is_idle: AtomicBool,
    /// Why the store failed for good, once it did.
    failed: watch::Sender<Option<String>>,
}

impl Shared {
    pub(super) fn new(path: PathBuf, clock: Clock, operations: mpsc::Sender<Operation>) -> Self {
        Self {
            path,
            clock,
            metrics: Arc::default(),
            operations,
            room: Arc::default(),
            closed: AtomicBool::new(false),
            is_idle: AtomicBool::new(false),
            failed: watch::Sender::new(None),
        }
    }

    /// Has the writer do something.
    pub(super) fn send(&self, operation: Operation) -> Result<(), StoreError> {
        if let Some(error) = self.refusal() {
            return Err(error);
        }
        self.operations.send(operation).map_err(|_| self.ended())
    }

    /// Has the writer end, whatever else holds.
    pub(super) fn send_close(&self, operation: Operation) {
        let _ended_before = self.operations.send(operation).is_err();
    }

    /// Returns why nothing is done any more; none while the store goes on.
    pub(super) fn refusal(&self) -> Option<StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Some(StoreError::Closed);
        }
        self.failure()
    }

    /// Returns why the store failed for good, if it did.
    pub(super) fn failure(&self) -> Option<StoreError> {
        let reason = self.failed.borrow().clone()?;
        Some(StoreError::Failed { reason })
    }

    /// Returns what to say where an answer will never come.
    pub(super) fn ended(&self) -> StoreError {
        if let Some(failure) = self.failure() {
            return failure;
        }
        if self.closed.load(Ordering::Acquire) {
            return StoreError::Closed;
        }
        // A thread is panicking, and has not come to say so.
        let reason = format!("{}: a thread of the store ended", self.path.display());
        StoreError::Unknown { reason }
    }

    /// Says whether no job is unfinished. Before anybody hears of the commit after which it is so.
    pub(super) fn set_idle(&self, is_idle: bool) {
        self.is_idle.store(is_idle, Ordering::Release);
    }

    /// Tells whether no job is unfinished.
    pub(super) fn is_idle(&self) -> bool {
        self.is_idle.load(Ordering::Acquire)
    }

    /// Marks the store as closed.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Puts a fault into the words of the trait. After a final one the store has failed.
    pub(super) fn error(&self, fault: Fault) -> StoreError {
        let path = self.path.display();
        match fault {
            Fault::Passing(reason) => StoreError::Unavailable {
                reason: format!("{path}: {reason}"),
            },
            Fault::Final(reason) => {
                let reason = format!("{path}: {reason}");
                self.fail(reason.clone());
                StoreError::Failed { reason }
            }
            Fault::Unknown(fault) => match self.error(*fault) {
                StoreError::Unavailable { reason } | StoreError::Failed { reason } => {
                    StoreError::Unknown { reason }
                }
                error => error,
            },
        }
    }

    /// Makes the store fail for good. The first reason stays.
    pub(super) fn fail(&self, reason: String) {
        let is_first = self.failed.send_if_modified(|failed| {
            let is_first = failed.is_none();
            if is_first {
                tracing::error!("the store failed: {reason}");
                *failed = Some(reason);
            }
            is_first
        });
        if is_first {
            // The claims that are parked with the writer are to hear of it at once.
            let _ended = self.operations.send(Operation::LookAgain).is_err();
        }
    }

    /// Waits until the store has failed for good.
    pub(super) async fn failed(&self) -> StoreError {
        let mut failed = self.failed.subscribe();
        // Fails only once the sender is gone, and `self` has it.
        drop(failed.wait_for(Option::is_some).await);
        self.ended()
    }
}

impl HandBack for Shared {
    /// Has the writer take back claims that nobody received. If it has ended, they are rescued
    /// when the store is opened again.
    fn hand_back(&self, claims: Vec<(JobId, ClaimNumber)>) {
        let _ended = self.operations.send(Operation::HandBack(claims)).is_err();
    }
}

/// Makes the store fail if the thread that holds it panics: nobody would answer any more.
#[derive(Debug)]
pub(super) struct FailOnPanic<'a>(pub(super) &'a Shared);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let path = self.0.path.display();
            self.0
                .fail(format!("{path}: a thread of the store panicked"));
        }
    }
}
