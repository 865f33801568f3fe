//! The readers: threads with connections of their own, which see what was committed.
//!
//! A reader takes all questions that wait for it and answers them from one short transaction: a
//! long one would keep the log from beginning anew. It takes them before it begins the
//! transaction, so that whoever was told of a commit sees it.

mod list;
use super::documents::{DOCUMENT, DOCUMENTS, document};
use super::fault::Fault;
use super::keys::{REMEMBERS, remembered_since};
use super::operation::Reply;
use super::rows::{AFTER_DONE, Stored, attempt_error, bytes, payload, stored};
use super::shared::{FailOnPanic, Shared};
use super::statements::{ERRORS, IS_GONE, find_sql};
use crate::store::{Document, Filter, Found, History, Listing, Page};
use anteroom_core::{EventId, Idempotency, Job, JobId, Name, Payload, Timestamp};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Statement, params};
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use tokio::sync::oneshot;

/// Questions answered from one transaction.
const QUESTIONS_MAX: usize = 64;

/// A question to a reader.
#[derive(Debug)]
pub(super) enum Question {
    Get(JobId, Reply<Found<Job>>),
    Input(JobId, Reply<Found<Payload>>),
    Result(JobId, Reply<Found<(Job, Option<Payload>)>>),
    Events(JobId, EventId, usize, Reply<Found<History>>),
    List(Box<Filter>, Page, Reply<Listing>),
    Remembers(Box<(Name, Idempotency)>, Reply<bool>),
    Document((Name, Name), Reply<Option<Document>>),
    Documents(Name, Reply<Vec<Document>>),
    /// End, and tell when that is done.
    Close(oneshot::Sender<()>),
}

/// Where a reader is asked.
#[derive(Debug)]
pub(super) struct Desk {
    questions: mpsc::Sender<Question>,
    /// Questions that are not answered yet.
    waiting: Arc<AtomicUsize>,
}

impl Desk {
    /// Returns where a reader is asked, and where it takes the questions from.
    pub(super) fn new() -> (Self, Questions) {
        let (questions, taken) = mpsc::channel();
        let waiting = Arc::<AtomicUsize>::default();
        let desk = Self {
            questions,
            waiting: waiting.clone(),
        };
        (desk, Questions { taken, waiting })
    }

    /// Asks, unless the reader has ended.
    pub(super) fn ask(&self, question: Question) -> Result<(), mpsc::SendError<Question>> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.questions.send(question)
    }

    /// Returns how many full transactions the questions make that wait for the reader.
    pub(super) fn transactions(&self) -> usize {
        self.waiting.load(Ordering::Relaxed) / QUESTIONS_MAX
    }
}

/// The questions to a reader.
#[derive(Debug)]
pub(super) struct Questions {
    taken: mpsc::Receiver<Question>,
    waiting: Arc<AtomicUsize>,
}

/// What a reader thread does from its beginning to its end.
pub(super) fn run(db: Connection, shared: &Arc<Shared>, questions: &Questions) {
    let fail_on_panic = FailOnPanic(shared);
    let closing = match Reader::new(&db, shared) {
        Ok(reader) => work(&reader, questions),
        Err(error) => {
            shared.error(Fault::Final(error.to_string()));
            None
        }
    };
    drop(fail_on_panic);
    drop(db);
    if let Some(done) = closing {
        // Whoever asked may have gone.
        let _unheard = done.send(());
    }
}

fn work(reader: &Reader<'_>, questions: &Questions) -> Option<oneshot::Sender<()>> {
    loop {
        let mut batch = vec![questions.taken.recv().ok()?];
        while batch.len() < QUESTIONS_MAX
            && let Ok(question) = questions.taken.try_recv()
        {
            batch.push(question);
        }
        let count = batch.len();
        let several = count > 1;
        // Without it each statement is a transaction of its own: as true, but dearer.
        let begun = several && reader.db.execute_batch("BEGIN").is_ok();
        let mut closing = None;
        for question in batch {
            match question {
                Question::Get(id, reply) => reader.answer(reply, |reader| reader.get(id)),
                Question::Input(id, reply) => reader.answer(reply, |reader| reader.input(id)),
                Question::Result(id, reply) => reader.answer(reply, |reader| reader.result(id)),
                Question::Events(id, after, limit, reply) => {
                    reader.answer(reply, |reader| reader.events(id, after, limit));
                }
                Question::List(filter, page, reply) => {
                    reader.answer(reply, |reader| reader.list(&filter, page));
                }
                Question::Remembers(key, reply) => {
                    reader.answer(reply, |reader| reader.remembers(&key.0, &key.1));
                }
                Question::Document(key, reply) => {
                    reader.answer(reply, |reader| reader.document(&key));
                }
                Question::Documents(kind, reply) => {
                    reader.answer(reply, |reader| reader.documents(&kind));
                }
                Question::Close(done) => closing = Some(done),
            }
        }
        questions.waiting.fetch_sub(count, Ordering::Relaxed);
        if begun && let Err(error) = reader.db.execute_batch("COMMIT") {
            let error = reader.shared.error(Fault::from(error));
            tracing::warn!("a reader could not end its transaction: {error}");
        }
        // One that stayed open would show what was once, and keep the log from beginning anew.
        if !reader.db.is_autocommit()
            && let Err(error) = reader.db.execute_batch("ROLLBACK")
        {
            reader.shared.error(Fault::Final(error.to_string()));
        }
        if closing.is_some() {
            return closing;
        }
    }
}

pub(super) struct Reader<'a> {
    db: &'a Connection,
    shared: &'a Arc<Shared>,
    /// Finds a job. Kept apart from the others: those are looked up by their text each time.
    job: RefCell<Statement<'a>>,
    /// Finds a job with its result.
    job_and_result: RefCell<Statement<'a>>,
}

impl<'a> Reader<'a> {
    fn new(db: &'a Connection, shared: &'a Arc<Shared>) -> rusqlite::Result<Self> {
        Ok(Self {
            db,
            shared,
            job: db.prepare(&find_sql(""))?.into(),
            job_and_result: db.prepare(&find_sql(", done.result"))?.into(),
        })
    }

    fn answer<T>(&self, reply: Reply<T>, look: impl FnOnce(&Self) -> Result<T, Fault>) {
        if reply.is_closed() {
            return;
        }
        let answer = look(self).map_err(|fault| self.shared.error(fault));
        // Whoever does not wait any more needs no answer.
        let _unheard = reply.send(answer).is_err();
    }

    pub(super) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Finds a job, without what its attempts said.
    pub(super) fn stored(&self, id: JobId) -> Result<Found<Stored>, Fault> {
        self.find(id, &self.job, stored)
    }

    fn get(&self, id: JobId) -> Result<Found<Job>, Fault> {
        let found = self.stored(id)?;
        self.with_errors(found, |job| job)
    }

    fn input(&self, id: JobId) -> Result<Found<Payload>, Fault> {
        let sql = "SELECT job.content_type, job.input FROM job WHERE ";
        let sql = format!("{sql}{}", super::rows::WHERE_ID);
        let bytes = id.as_bytes().as_slice();
        let found = self
            .prepared(&sql)?
            .query_row(params![id.order_key(), bytes], |row| payload(row, 0))
            .optional()?;
        self.or_gone(id, found)
    }

    fn result(&self, id: JobId) -> Result<Found<(Job, Option<Payload>)>, Fault> {
        let found = self.find(id, &self.job_and_result, |row| {
            let job = stored(row)?;
            let result = match &job.result {
                Some(info) => Some(Payload {
                    content_type: info.content_type.clone(),
                    bytes: bytes(row, AFTER_DONE)?,
                }),
                None => None,
            };
            Ok((job, result))
        })?;
        match found {
            Found::Here((job, result)) => self.with_errors(Found::Here(job), |job| (job, result)),
            Found::Gone => Ok(Found::Gone),
            Found::Unknown => Ok(Found::Unknown),
        }
    }

    fn remembers(&self, task: &Name, by: &Idempotency) -> Result<bool, Fault> {
        let since = remembered_since(self.shared.clock.now());
        let key = params![&*by.scope, &**task, &*by.key, since];
        Ok(self.prepared(REMEMBERS)?.exists(key)?)
    }

    fn document(&self, (kind, name): &(Name, Name)) -> Result<Option<Document>, Fault> {
        let mut statement = self.prepared(DOCUMENT)?;
        Ok(statement
            .query_row([&**kind, &**name], document)
            .optional()?)
    }

    fn documents(&self, kind: &Name) -> Result<Vec<Document>, Fault> {
        let mut statement = self.prepared(DOCUMENTS)?;
        let rows = statement.query_map([&**kind], document)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn find<T>(
        &self,
        id: JobId,
        statement: &RefCell<Statement<'_>>,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Found<T>, Fault> {
        let bytes = id.as_bytes().as_slice();
        let found = statement
            .borrow_mut()
            .query_row(params![id.order_key(), bytes], read)
            .optional()?;
        self.or_gone(id, found)
    }

    fn or_gone<T>(&self, id: JobId, found: Option<T>) -> Result<Found<T>, Fault> {
        if let Some(found) = found {
            return Ok(Found::Here(found));
        }
        let bytes = id.as_bytes().as_slice();
        if self.prepared(IS_GONE)?.exists([bytes])? {
            return Ok(Found::Gone);
        }
        Ok(Found::Unknown)
    }

    fn with_errors<T>(
        &self,
        found: Found<Stored>,
        then: impl FnOnce(Job) -> T,
    ) -> Result<Found<T>, Fault> {
        let job = match found {
            Found::Here(job) => job,
            Found::Gone => return Ok(Found::Gone),
            Found::Unknown => return Ok(Found::Unknown),
        };
        Ok(Found::Here(then(self.whole(job)?)))
    }

    /// Adds what the attempts of a job said.
    fn whole(&self, job: Stored) -> Result<Job, Fault> {
        let mut errors = Vec::new();
        if job.errors > 0 {
            let mut statement = self.prepared(ERRORS)?;
            let rows = statement.query_map([job.seq], attempt_error)?;
            errors = rows.collect::<Result<_, _>>()?;
        }
        Ok(job.into_job(errors))
    }

    pub(super) fn prepared(&self, sql: &str) -> Result<CachedStatement<'_>, Fault> {
        Ok(self.db.prepare_cached(sql)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::sqlite::open;
    use anteroom_core::Timestamp;

    #[test]
    fn a_transaction_whose_end_failed_is_rolled_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.db");
        let _writer = open::open(&path, Timestamp::from_millis(0)).unwrap();
        let db = open::connect_reader(&path).unwrap();
        // As such an end leaves it.
        db.execute_batch("BEGIN; SELECT count(*) FROM job").unwrap();
        let (operations, _to_do) = mpsc::channel();
        let shared = Arc::new(Shared::new(path, Clock::system(), operations));
        let (desk, questions) = Desk::new();
        let (reply, mut answer) = oneshot::channel();
        let (done, _ended) = oneshot::channel();
        let id = JobId::from_parts(1, 1, 1);
        desk.ask(Question::Get(id, reply)).unwrap();
        desk.ask(Question::Close(done)).unwrap();
        let closing = work(&Reader::new(&db, &shared).unwrap(), &questions);
        assert!(closing.is_some());
        assert!(matches!(answer.try_recv(), Ok(Ok(Found::Unknown))));
        assert!(db.is_autocommit(), "it is still open");
        assert!(shared.failure().is_none());
    }
}
