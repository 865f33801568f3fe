//! The writer: one thread that owns the only connection that writes.
//!
//! It takes everything that waits for it, does it in one transaction, commits, and only then
//! answers. It does not wait for a batch to fill: while one commit is being written to the disk
//! the next batch gathers. Claims come last in a batch, so that a job is claimed in the commit
//! that inserts it; those that find no job are parked here until one comes or their wait is over.
//!
//! How each operation changes the database is in [`change`](super::change).

use super::fault::Fault;
use super::lock::Lock;
use super::operation::{Delivery, Operation, Parked, Reply};
use super::order::Order;
use super::shared::{FailOnPanic, Shared};
use super::statements::Statements;
use crate::metrics::Commit;
use crate::store::{Change, StoreError};
use anteroom_core::limits::{COMMIT_BYTES_MAX, COMMIT_OPERATIONS_MAX, STORE_QUEUE_MAX};
use anteroom_core::{ClaimNumber, Event, HandBack, JobId, Payload, Spec, Status, Timestamp};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Pages of the log that are not merged yet, from which on they are: about 16 MB.
const LOG_PAGES_MERGED: i64 = 4_000;
/// Pages of the log from which on it waits for the readers, to begin at its start again.
const LOG_PAGES_MAX: i64 = 16_000;
/// How long the log's beginning anew waits for readers: no commit is held up for longer.
const READERS_AWAITED: Duration = Duration::from_millis(20);
/// How long a transaction waits for one of another program.
const OTHERS_AWAITED: Duration = Duration::from_secs(5);
/// The longest sleep, so that a corrected clock is noticed.
const SLEEP_MAX: Duration = Duration::from_hours(1);
/// How long parked claims rest after a transaction failed.
const REST: Duration = Duration::from_secs(1);

/// What the writer begins with.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) db: Connection,
    pub(super) lock: Lock,
    pub(super) order: Order,
    /// The number before the first claim.
    pub(super) last_claim: ClaimNumber,
    /// How many ids are remembered of jobs that are gone.
    pub(super) gone: u64,
}

/// What the writer thread does from its beginning to its end.
pub(super) fn run(beginning: Beginning, shared: &Arc<Shared>, operations: Receiver<Operation>) {
    let Beginning {
        db,
        lock,
        order,
        last_claim,
        gone,
    } = beginning;
    let fail_on_panic = FailOnPanic(shared);
    let closing = match Statements::prepare(&db) {
        Ok(sql) => {
            let writer = Writer {
                db: &db,
                sql,
                now: shared.clock.now(),
                order,
                last_claim,
                gone,
                gone_before: gone,
                in_transaction: false,
                fresh: HashMap::new(),
                parked: VecDeque::new(),
                first_until: Timestamp::MAX,
                returned: Vec::new(),
                returned_from: Timestamp::MIN,
                pace: Pace::Sleep,
                size: (0, 0),
                restart_from: LOG_PAGES_MAX,
                set_aside: None,
                closing: None,
                shared: shared.clone(),
                operations,
            };
            writer.work()
        }
        Err(error) => {
            shared.error(Fault::Final(error.to_string()));
            None
        }
    };
    drop(fail_on_panic);
    let merge = closing.as_ref().is_some_and(|(closing, _)| closing.merge);
    if merge
        && shared.failure().is_none()
        && let Err(error) = merge_log(&db)
    {
        // Nothing is lost: it is merged when the store is opened again.
        let path = shared.path.display();
        tracing::warn!("{path}: its log was not merged at the end: {error}");
    }
    drop(db);
    drop(lock);
    if let Some((closing, operations)) = closing {
        drop(operations);
        for done in closing.done {
            // Whoever asked may have gone.
            let _unheard = done.send(());
        }
    }
}

/// Leaves all there is in the one file.
fn merge_log(db: &Connection) -> rusqlite::Result<()> {
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(())
}

#[derive(Debug)]
pub(super) struct Writer<'c> {
    db: &'c Connection,
    pub(super) sql: Statements<'c>,
    /// The time of this batch.
    pub(super) now: Timestamp,
    pub(super) order: Order,
    /// The greatest claim number drawn. One that a failed transaction drew is not drawn again.
    pub(super) last_claim: ClaimNumber,
    /// How many ids are remembered of jobs that are gone.
    pub(super) gone: u64,
    gone_before: u64,
    in_transaction: bool,
    /// Jobs inserted by this batch whose place in `live` is still to be written: those that are
    /// claimed by the same batch are written once.
    pub(super) fresh: HashMap<i64, Fresh>,
    parked: VecDeque<Parked>,
    /// When the first wait of a parked claim is over.
    first_until: Timestamp,
    /// Claims that nobody received, and whose jobs are still to be handed back.
    returned: Vec<(JobId, ClaimNumber)>,
    /// When they may be tried again after a transaction failed.
    returned_from: Timestamp,
    pace: Pace,
    /// Operations and bytes of this batch.
    size: (usize, usize),
    /// Pages of the log from which on it is to begin anew.
    restart_from: i64,
    /// What begins the next batch.
    set_aside: Option<Operation>,
    closing: Option<Closing>,
    shared: Arc<Shared>,
    operations: Receiver<Operation>,
}

/// A job inserted by this batch.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) spec: Arc<Spec>,
    pub(super) status: Status,
    pub(super) input: Payload,
}

/// How soon the next batch is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pace {
    /// When there is something to do.
    Sleep,
    /// At once: parked claims are still to be served, or due jobs to become ready.
    GoOn,
    /// After a rest: parked claims may be served again.
    Rest,
}

#[derive(Debug)]
struct Closing {
    merge: bool,
    done: Vec<oneshot::Sender<()>>,
}

/// What is left of the bounds of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) jobs: usize,
    pub(super) bytes: usize,
}

impl Room {
    pub(super) const FULL: Self = Self {
        jobs: COMMIT_OPERATIONS_MAX,
        bytes: COMMIT_BYTES_MAX,
    };

    pub(super) const fn is_left(self) -> bool {
        self.jobs > 0 && self.bytes > 0
    }

    pub(super) const fn less(self, jobs: usize, bytes: usize) -> Self {
        Self {
            jobs: self.jobs.saturating_sub(jobs),
            bytes: self.bytes.saturating_sub(bytes),
        }
    }
}

/// The answers of a batch, each given once it is known whether it was committed.
#[derive(Default)]
struct Answers(Vec<Box<Answer>>);

type Answer = dyn FnOnce(Result<(), StoreError>);

impl Answers {
    /// Keeps an answer. A fault goes on up: it is the whole batch's.
    fn keep<T: Send + 'static>(
        &mut self,
        reply: Reply<T>,
        outcome: Result<T, Fault>,
    ) -> Result<(), Fault> {
        let (answer, outcome) = match outcome {
            Ok(answer) => (Some(answer), Ok(())),
            Err(fault) => (None, Err(fault)),
        };
        self.0.push(Box::new(move |committed| {
            let answer = committed.map(|()| answer).transpose();
            // Whoever does not wait any more needs no answer.
            let _unheard = answer.is_some_and(|answer| reply.send(answer).is_err());
        }));
        outcome
    }

    /// Keeps a refusal. What it was refused for may be a part of this batch.
    fn keep_refusal<T: Send + 'static>(&mut self, reply: Reply<T>, refusal: StoreError) {
        self.0.push(Box::new(move |committed| {
            let error = committed.err().unwrap_or(refusal);
            // Whoever does not wait any more needs no answer.
            let _unheard = reply.send(Err(error)).is_err();
        }));
    }

    fn give(self, committed: &Result<(), StoreError>) {
        for answer in self.0 {
            answer(committed.clone());
        }
    }
}

/// Returns how many operations a batch is, by jobs where it brings some, and how many bytes.
/// What it will claim comes on top.
fn size_of(batch: &[Operation]) -> (usize, usize) {
    let sizes = batch.iter().map(|operation| match operation {
        Operation::Claim(_)
        | Operation::Place(..)
        | Operation::Counts(_)
        | Operation::Overdue(..) => (0, 0),
        // Its weight is what it may forget, not what it will.
        Operation::Prune(..) => (1, 0),
        operation => operation.weight(),
    });
    sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
}

impl Writer<'_> {
    fn work(mut self) -> Option<(Closing, Receiver<Operation>)> {
        loop {
            let batch = self.next_batch();
            if self.shared.failure().is_some() {
                self.refuse(batch);
            } else {
                self.turn(batch);
            }
            if self.closing.is_some() {
                self.end();
                // What is sent from now on is dropped only at the very end: one that closes as
                // well is not to hear before of it.
                return self.closing.map(|closing| (closing, self.operations));
            }
        }
    }

    /// Answers the parked claims, and hands back what was claimed for nobody.
    fn end(&mut self) {
        for parked in self.parked.drain(..) {
            // Whoever does not wait any more needs no answer.
            let none = Delivery::new(Vec::new(), self.shared.clone());
            let _unheard = parked.reply.send(Ok(none));
        }
        while let Ok(operation) = self.operations.try_recv() {
            match operation {
                Operation::HandBack(claims) => self.returned.extend(claims),
                Operation::Close(merge, done) => {
                    if let Some(closing) = &mut self.closing {
                        closing.merge |= merge;
                        closing.done.push(done);
                    }
                }
                operation => operation.refuse(self.shared.ended()),
            }
        }
        if !self.returned.is_empty() && self.shared.failure().is_none() {
            self.turn(Vec::new());
        }
    }

    /// Waits for something to do, and takes all there is to do within the bounds of a batch.
    fn next_batch(&mut self) -> Vec<Operation> {
        let first = match self.set_aside.take() {
            Some(operation) => Some(operation),
            None => self.await_operation(),
        };
        let mut batch = Vec::new();
        let mut room = Room::FULL;
        let mut next = first;
        while let Some(operation) = next {
            let is_long = matches!(operation, Operation::Prune(..));
            // Nobody is to wait for what forgets jobs longer than for one piece of it.
            if is_long && !batch.is_empty() {
                self.set_aside = Some(operation);
                break;
            }
            let (jobs, bytes) = operation.weight();
            room = room.less(jobs, bytes);
            match operation {
                Operation::Close(merge, done) => {
                    let done = vec![done];
                    self.closing = Some(Closing { merge, done });
                    break;
                }
                operation => batch.push(operation),
            }
            if is_long || !room.is_left() {
                break;
            }
            next = self.operations.try_recv().ok();
        }
        batch
    }

    /// Waits for an operation, if there is time to.
    fn await_operation(&self) -> Option<Operation> {
        match self.pause() {
            None => self.operations.recv().ok(),
            Some(pause) if pause.is_zero() => self.operations.try_recv().ok(),
            Some(pause) => self.operations.recv_timeout(pause).ok(),
        }
    }

    /// Returns how long to wait for an operation; none: until there is one.
    fn pause(&self) -> Option<Duration> {
        let rest = match self.pace {
            Pace::GoOn => return Some(Duration::ZERO),
            Pace::Sleep if self.returned.is_empty() => SLEEP_MAX,
            Pace::Sleep | Pace::Rest => REST,
        };
        if self.parked.is_empty() {
            return (!self.returned.is_empty()).then_some(rest);
        }
        let due = self.order.next_due().unwrap_or(Timestamp::MAX);
        let ahead = self.first_until.min(due).since(self.shared.clock.now());
        Some(ahead.min(rest))
    }

    /// Does a batch in one transaction.
    fn turn(&mut self, batch: Vec<Operation>) {
        self.now = self.shared.clock.now();
        self.pace = if self.order.set_now(self.now, COMMIT_OPERATIONS_MAX) {
            Pace::Sleep
        } else {
            Pace::GoOn
        };
        let is_idle = batch.is_empty();
        let began_at = Instant::now();
        self.size = size_of(&batch);
        let mut answers = Answers::default();
        let mut batch = batch.into_iter();
        let outcome = self
            .perform(&mut batch, &mut answers)
            .and_then(|()| self.hand_back(is_idle))
            .and_then(|handed_back| {
                self.serve_parked(&mut answers)?;
                Ok((handed_back, self.commit(began_at)?))
            });
        match outcome {
            Ok((handed_back, written)) => {
                self.order.keep();
                self.shared.set_idle(self.order.is_empty());
                self.returned.drain(..handed_back);
                answers.give(&Ok(()));
                if written {
                    self.tend_log();
                }
            }
            Err(fault) => {
                let error = self.shared.error(fault);
                self.roll_back();
                tracing::warn!("a transaction was rolled back: {error}");
                self.pace = Pace::Rest;
                self.returned_from = self.now.after(REST);
                answers.give(&Err(error.clone()));
                for operation in batch {
                    match operation {
                        Operation::HandBack(claims) => self.returned.extend(claims),
                        operation => operation.refuse(error.clone()),
                    }
                }
                if self.shared.failure().is_some() {
                    self.refuse(Vec::new());
                }
            }
        }
    }

    /// Answers that the store has failed.
    fn refuse(&mut self, batch: Vec<Operation>) {
        let error = self.shared.ended();
        // They are rescued when the store is opened again.
        self.returned.clear();
        self.pace = Pace::Sleep;
        let parked = self.parked.drain(..).map(Operation::Claim);
        for operation in batch.into_iter().chain(parked) {
            operation.refuse(error.clone());
        }
    }

    fn perform(
        &mut self,
        batch: &mut std::vec::IntoIter<Operation>,
        answers: &mut Answers,
    ) -> Result<(), Fault> {
        for operation in batch {
            match operation {
                // Dropped: it may or may not happen, and nobody would know.
                Operation::Insert(_, _, reply) if reply.is_closed() => {}
                Operation::Insert(_place, jobs, reply) => match self.insert(jobs) {
                    Ok(Err(refusal)) => answers.keep_refusal(reply, refusal),
                    Ok(Ok(inserted)) => answers.keep(reply, Ok(inserted))?,
                    Err(fault) => answers.keep(reply, Err(fault))?,
                },
                Operation::Claim(parked) => self.park(parked),
                Operation::Apply(changes, reply) => {
                    let applied = changes.iter().map(|change| self.change(change));
                    let applied = applied.collect();
                    answers.keep(reply, applied)?;
                }
                Operation::HandBack(claims) => self.returned.extend(claims),
                Operation::Overdue(limit, reply) => {
                    let overdue = self.overdue(limit);
                    answers.keep(reply, overdue)?;
                }
                Operation::Prune(limit, reply) => {
                    let pruned = self.prune(limit);
                    answers.keep(reply, pruned)?;
                }
                Operation::Delete(id, if_version, reply) => {
                    let deleted = self.delete(id, if_version);
                    answers.keep(reply, deleted)?;
                }
                Operation::Place(of, reply) => {
                    let place = self.place(&of);
                    answers.keep(reply, place)?;
                }
                Operation::Counts(reply) => answers.keep(reply, Ok(self.counts()))?,
                Operation::Queues(reply) => answers.keep(reply, Ok(self.queues()))?,
                Operation::SetQueues(changes, reply) => {
                    let set = changes.into_iter().map(|change| self.set_queue(change));
                    let set = set.collect();
                    answers.keep(reply, set)?;
                }
                Operation::PutDocuments(changes, reply) => {
                    let put = changes.iter().map(|change| self.put_document(change));
                    let put = put.collect();
                    answers.keep(reply, put)?;
                }
                Operation::ConfigureQueues(defaults, reply) => {
                    self.order.configure_queues(*defaults);
                    answers.keep(reply, Ok(()))?;
                }
                Operation::LookAgain | Operation::Close(..) => {}
                #[cfg(test)]
                Operation::Meddle(how, done) => {
                    how(self.db);
                    done.send(()).unwrap();
                }
            }
        }
        Ok(())
    }

    /// Hands back what was claimed for nobody, and returns how many claims that were. It was not
    /// asked for, so that what it failed with once fails others only once in a while.
    fn hand_back(&mut self, is_idle: bool) -> Result<usize, Fault> {
        if !is_idle && self.closing.is_none() && self.now < self.returned_from {
            return Ok(0);
        }
        let returned = std::mem::take(&mut self.returned);
        let outcome = returned.iter().try_for_each(|&(id, claim)| {
            let hand_back = HandBack::Drain;
            let delay = Duration::ZERO;
            let released = Event::Released {
                claim,
                hand_back,
                delay,
            };
            // Refused where something else took the job back before.
            self.change(&Change::new(id, released)).map(drop)
        });
        self.returned = returned;
        outcome.map(|()| self.returned.len())
    }

    fn park(&mut self, parked: Parked) {
        let waiting = self.parked.len();
        if waiting >= STORE_QUEUE_MAX {
            let limit = STORE_QUEUE_MAX;
            let error = StoreError::Overloaded { waiting, limit };
            return Operation::Claim(parked).refuse(error);
        }
        self.first_until = self.first_until.min(parked.until);
        self.parked.push_back(parked);
    }

    /// Claims what is ready for those who wait for it, the longest waiting first.
    fn serve_parked(&mut self, answers: &mut Answers) -> Result<(), Fault> {
        if self.closing.is_some() {
            return Ok(());
        }
        if self.parked.is_empty() || (self.now < self.first_until && !self.order.has_ready()) {
            return Ok(());
        }
        let mut room = Room::FULL;
        let mut outcome = Ok(());
        self.first_until = Timestamp::MAX;
        for parked in std::mem::take(&mut self.parked) {
            if parked.reply.is_closed() {
                continue;
            }
            if outcome.is_err() || !room.is_left() {
                self.pace = Pace::GoOn;
                self.park(parked);
                continue;
            }
            match self.claim(&parked.want, &mut room) {
                Ok(jobs) if jobs.is_empty() && parked.until > self.now => self.park(parked),
                Ok(jobs) => {
                    self.size.0 += jobs.len();
                    let shared = self.shared.clone();
                    answers.0.push(Box::new(move |committed| {
                        let delivery = committed.map(|()| Delivery::new(jobs, shared));
                        // What is not heard is handed back by its drop.
                        drop(parked.reply.send(delivery));
                    }));
                }
                Err(fault) => outcome = answers.keep(parked.reply, Err(fault)),
            }
        }
        outcome
    }

    /// Begins the transaction, unless this batch has one.
    pub(super) fn begin(&mut self) -> Result<(), Fault> {
        if !self.in_transaction {
            self.sql.begin.execute([])?;
            self.in_transaction = true;
            self.gone_before = self.gone;
        }
        Ok(())
    }

    /// Commits, and tells whether there was anything to commit.
    fn commit(&mut self, began_at: Instant) -> Result<bool, Fault> {
        if !self.in_transaction {
            return Ok(false);
        }
        let mut fresh = std::mem::take(&mut self.fresh);
        for (seq, job) in fresh.drain() {
            self.write_fresh(seq, &job)?;
        }
        // Its room is used again.
        self.fresh = fresh;
        self.write_paces()?;
        let written_at = Instant::now();
        self.sql.commit.execute([]).map_err(Fault::of_commit)?;
        self.in_transaction = false;
        let (operations, bytes) = self.size;
        self.shared.metrics.committed(Commit {
            operations,
            bytes,
            took: written_at.elapsed(),
            transaction: began_at.elapsed(),
        });
        Ok(true)
    }

    fn roll_back(&mut self) {
        self.fresh.clear();
        self.order.undo();
        if !self.in_transaction {
            return;
        }
        self.in_transaction = false;
        self.gone = self.gone_before;
        // Some failures have rolled back by themselves.
        if !self.db.is_autocommit()
            && let Err(error) = self.sql.roll_back.execute([])
        {
            self.shared.error(Fault::Final(error.to_string()));
        }
    }

    /// Merges the log into the database once it is long enough.
    ///
    /// The library would do so by itself, but keep the failure of an fsync to itself as well.
    fn tend_log(&mut self) {
        let merged = self.merge_pages();
        if let Err(fault) = merged {
            let error = self.shared.error(fault);
            tracing::warn!("the log was not merged: {error}");
        }
    }

    fn merge_pages(&mut self) -> Result<(), Fault> {
        let counts = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        let (pages, merged) = self.sql.log_frames.query_row([], counts)?;
        if pages < LOG_PAGES_MAX {
            self.restart_from = LOG_PAGES_MAX;
        }
        if pages >= self.restart_from {
            self.db.busy_timeout(READERS_AWAITED)?;
            let is_held_up = |row: &rusqlite::Row<'_>| row.get::<_, bool>(0);
            let held_up = self.sql.restart_log.query_row([], is_held_up);
            self.db.busy_timeout(OTHERS_AWAITED)?;
            // A reader that takes long, such as a backup, is not waited for at each commit.
            if held_up? {
                self.restart_from = pages + LOG_PAGES_MERGED;
            }
        } else if pages < LOG_PAGES_MAX && pages - merged >= LOG_PAGES_MERGED {
            // Merged as a whole the log would begin anew by itself, in a file as long as it was.
            self.sql.checkpoint.query_row([], counts)?;
        }
        Ok(())
    }
}
