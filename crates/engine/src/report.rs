//! What attempts say while they run, on its way to the store.
//!
//! An attempt's reports lie with its [`Reporter`] until one loop writes down those of all attempts,
//! at most once in [`REPORT_INTERVAL`]; it runs apart from the attempts, so that one that hogs a
//! thread holds up nobody's. What is left when an attempt ends travels with its settle, so that
//! nothing is lost and nothing comes out of order. An attempt that says more than is kept anyway
//! loses the oldest of it, and how many those were is told.

use crate::engine::Shared;
use crate::store::{Change, StoreError};
use anteroom_core::limits::{
    CLAIM_JOBS_MAX, COMMIT_BYTES_MAX, REPORT_INTERVAL, REPORTS_KEPT_BYTES_MAX, REPORTS_KEPT_MAX,
};
use anteroom_core::{ClaimNumber, Event, JobId, Report, Reports};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedMutexGuard};
use tracing::{debug, warn};

/// The wait after a write that the store could not do.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The reports of one attempt.
#[derive(Debug)]
pub(crate) struct Reporter {
    id: JobId,
    claim: ClaimNumber,
    pending: Mutex<Pending>,
    /// Held while a write of them is under way. Made by the first, as most attempts say nothing.
    writing: OnceLock<Arc<tokio::sync::Mutex<()>>>,
    outbox: Arc<Outbox>,
}

/// What an attempt said and nobody has written down.
#[derive(Debug, Default)]
struct Pending {
    list: VecDeque<Report>,
    bytes: usize,
    /// Reports before `list` that are told no more.
    skipped: u64,
    /// Whether it ever said something.
    is_used: bool,
    /// Whether the outbox knows of it.
    is_queued: bool,
    /// It ended, or lost its lease: nobody listens any more.
    is_closed: bool,
}

impl Reporter {
    pub(crate) fn new(id: JobId, claim: ClaimNumber, outbox: Arc<Outbox>) -> Arc<Self> {
        Arc::new(Self {
            id,
            claim,
            pending: Mutex::default(),
            writing: OnceLock::new(),
            outbox,
        })
    }

    /// Takes a report. Never waits.
    pub(crate) fn report(self: &Arc<Self>, report: Report) {
        let mut pending = self.pending();
        if pending.is_closed {
            return;
        }
        pending.push(report);
        pending.is_used = true;
        let was_queued = std::mem::replace(&mut pending.is_queued, true);
        drop(pending);
        if !was_queued {
            self.outbox.queue(self.clone());
        }
    }

    /// Ends the reporting, and returns what was not written down yet. Waits for a write of earlier
    /// reports that is under way.
    pub(crate) async fn last_words(&self) -> Reports {
        if self.pending().close_unused() {
            return Reports::default();
        }
        let _written = self.writing().lock().await;
        let mut pending = self.pending();
        pending.is_closed = true;
        pending.take()
    }

    fn writing(&self) -> &Arc<tokio::sync::Mutex<()>> {
        self.writing.get_or_init(Arc::default)
    }

    // Nothing in here panics while it holds the lock, so a poisoned one is still good.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn push(&mut self, report: Report) {
        // Of several in a row only the last says how far it has come.
        if let (Report::Progress(_), Some(Report::Progress(_))) = (&report, self.list.back())
            && let Some(earlier) = self.list.pop_back()
        {
            self.bytes -= earlier.bytes();
        }
        self.bytes += report.bytes();
        self.list.push_back(report);
        self.trim();
    }

    fn trim(&mut self) {
        while self.list.len() > REPORTS_KEPT_MAX || self.bytes > REPORTS_KEPT_BYTES_MAX {
            if let Some(dropped) = self.list.pop_front() {
                self.bytes -= dropped.bytes();
                self.skipped += 1;
            }
        }
    }

    fn take(&mut self) -> Reports {
        self.bytes = 0;
        self.is_queued = false;
        Reports {
            skipped: std::mem::take(&mut self.skipped),
            list: std::mem::take(&mut self.list).into(),
        }
    }

    /// Puts back what could not be written, before what was said since.
    fn put_back(&mut self, reports: Reports) {
        if self.skipped > 0 {
            // What is missing comes first, or its number would be told at the wrong place.
            self.skipped += reports.count();
            return;
        }
        self.skipped = reports.skipped;
        self.bytes += reports.bytes();
        for report in reports.list.into_iter().rev() {
            self.list.push_front(report);
        }
        self.trim();
    }

    /// Closes it if it was never used, and tells whether it did.
    fn close_unused(&mut self) -> bool {
        self.is_closed |= !self.is_used;
        !self.is_used
    }
}

/// The attempts that said something since the last write.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Each attempt once, so that there are no more than run here.
    queued: Mutex<Vec<Arc<Reporter>>>,
    woken: Notify,
}

/// Reports under way to the store. While this is alive their attempt does not settle.
struct Writing {
    reporter: Arc<Reporter>,
    reports: Reports,
    _guard: OwnedMutexGuard<()>,
}

impl Outbox {
    fn queue(&self, reporter: Arc<Reporter>) {
        self.queued().push(reporter);
        self.woken.notify_one();
    }

    fn queued(&self) -> MutexGuard<'_, Vec<Arc<Reporter>>> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down all there is, in as many calls as the bounds of a commit ask for.
    async fn write(&self, shared: &Shared) -> Result<(), StoreError> {
        let mut queued = std::mem::take(&mut *self.queued()).into_iter();
        while queued.len() > 0 {
            let mut batch = Vec::new();
            let mut bytes = 0;
            while batch.len() < CLAIM_JOBS_MAX && bytes < COMMIT_BYTES_MAX {
                let Some(reporter) = queued.next() else {
                    break;
                };
                let guard = reporter.writing().clone().lock_owned().await;
                let reports = reporter.pending().take();
                // Its settle has taken them along.
                if reports.is_empty() {
                    continue;
                }
                bytes += reports.bytes();
                batch.push(Writing {
                    reporter,
                    reports,
                    _guard: guard,
                });
            }
            if let Err(error) = write_batch(shared, batch).await {
                self.queued().extend(queued);
                return Err(error);
            }
        }
        Ok(())
    }
}

async fn write_batch(shared: &Shared, batch: Vec<Writing>) -> Result<(), StoreError> {
    let change = |writing: &Writing| {
        let Reporter { id, claim, .. } = *writing.reporter;
        Change {
            reports: writing.reports.clone(),
            ..Change::new(id, Event::Reported { claim })
        }
    };
    let applied = match shared.apply(batch.iter().map(change).collect()).await {
        Ok(applied) => applied,
        Err(error) => {
            // What may have been written must not be written twice.
            let is_not_written = matches!(
                error,
                StoreError::Unavailable { .. } | StoreError::Overloaded { .. }
            );
            for Writing {
                reporter, reports, ..
            } in batch
            {
                if is_not_written {
                    let mut pending = reporter.pending();
                    pending.put_back(reports);
                    let was_queued = std::mem::replace(&mut pending.is_queued, true);
                    drop(pending);
                    if !was_queued {
                        reporter.outbox.queued().push(reporter.clone());
                    }
                }
            }
            return Err(error);
        }
    };
    for (writing, applied) in batch.iter().zip(applied) {
        if applied.is_err() {
            let id = writing.reporter.id;
            debug!(job.id = %id, "what an attempt of job {id} said came after its lease was lost");
            let mut pending = writing.reporter.pending();
            pending.is_closed = true;
            drop(pending.take());
        }
    }
    Ok(())
}

/// Writes down what attempts say until the engine has stopped: all have settled by then.
pub(crate) async fn write_reports(shared: Arc<Shared>) {
    let stopped = shared.phases.stopped();
    let mut stopped = std::pin::pin!(stopped);
    let mut was_well = true;
    loop {
        tokio::select! {
            () = &mut stopped => return,
            () = shared.outbox.woken.notified() => {}
        }
        let written = shared.outbox.write(&shared).await;
        let pause = match &written {
            Ok(()) => REPORT_INTERVAL,
            Err(error) if error.is_retryable() => {
                if was_well {
                    warn!(%error, "what attempts say has to wait: {error}");
                }
                shared.outbox.woken.notify_one();
                RETRY_DELAY
            }
            // The store is closed, or has failed and said so.
            Err(_) => return,
        };
        was_well = written.is_ok();
        tokio::select! {
            () = &mut stopped => return,
            () = shared.clock.sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_core::{LogStream, Progress};

    fn line(text: impl Into<String>) -> Report {
        Report::log(LogStream::Log, text)
    }

    fn progress(fraction: f64) -> Report {
        Report::Progress(Progress::new(Some(fraction), None).unwrap())
    }

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let mut pending = Pending::default();
        for n in 0..REPORTS_KEPT_MAX + 7 {
            pending.push(line(n.to_string()));
        }
        let reports = pending.take();
        assert_eq!((reports.skipped, reports.list.len()), (7, REPORTS_KEPT_MAX));
        assert_eq!(reports.list[0], line("7"));
        for _ in 0..40 {
            pending.push(line("x".repeat(8_000)));
        }
        let reports = pending.take();
        assert!(reports.bytes() <= REPORTS_KEPT_BYTES_MAX);
        assert_eq!(reports.count(), 40);
        assert!(pending.take().is_empty());
    }

    #[test]
    fn of_progresses_in_a_row_the_last_is_told() {
        let mut pending = Pending::default();
        for report in [progress(0.1), progress(0.2), line("a"), progress(0.3)] {
            pending.push(report);
        }
        let reports = pending.take();
        assert_eq!(reports.skipped, 0);
        assert_eq!(reports.list, [progress(0.2), line("a"), progress(0.3)]);
    }

    #[test]
    fn what_could_not_be_written_comes_before_what_was_said_since() {
        let mut pending = Pending::default();
        pending.push(line("one"));
        let first = pending.take();
        pending.push(line("two"));
        pending.put_back(first);
        let both = pending.take();
        assert_eq!(both.list, [line("one"), line("two")]);
        for _ in 0..=REPORTS_KEPT_MAX {
            pending.push(line("later"));
        }
        pending.put_back(both);
        let reports = pending.take();
        assert_eq!((reports.skipped, reports.list.len()), (3, REPORTS_KEPT_MAX));
    }
}
