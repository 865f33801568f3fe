//! What a case is given: a store on trial, its clock, and short ways to say usual things.
//!
//! A call that fails where no case expects it to panics, and so fails the case.

use super::StoreUnderTest;
use crate::clock::{Clock, ManualClock};
use crate::store::{
    Applied, Change, Claimed, Found, History, Inserted, NewJob, Overdue, Store, StoreError, Want,
};
use anteroom_core::{
    ClaimNumber, Event, EventId, Failure, FailureKind, HandBack, Job, JobId, Label, Lease,
    LogStream, Name, Payload, Priority, Progress, Report, Reports, Retry, Spec, Status, Timestamp,
};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

/// How long anything may take that has to happen by itself. Far more than it needs.
const PATIENCE: Duration = Duration::from_mins(1);
/// What the clock shows first.
const STARTED_AT: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// The lease of a claim that names no other.
pub(super) const LEASE_FOR: Duration = Duration::from_secs(30);
/// The least that a clock can be moved by.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// Longer than any case goes on.
pub(super) const LONG: Duration = Duration::from_hours(1);

/// A store on trial, empty at first, and a clock that stands still until the case moves it.
#[derive(Debug)]
pub struct Trial {
    subject: Box<dyn StoreUnderTest>,
    store: Arc<dyn Store>,
    clock: Clock,
    hand: ManualClock,
    jobs_made: AtomicU64,
}

impl Trial {
    pub(super) async fn begin(subject: Box<dyn StoreUnderTest>) -> Self {
        let (clock, hand) = Clock::manual(STARTED_AT);
        let store = subject.open(clock.clone()).await;
        Self {
            subject,
            store,
            clock,
            hand,
            jobs_made: AtomicU64::new(0),
        }
    }

    pub(super) fn subject(&self) -> &dyn StoreUnderTest {
        &*self.subject
    }

    pub(super) fn is_durable(&self) -> bool {
        self.subject.is_durable()
    }

    /// Returns an empty store of the same kind.
    pub(super) fn another(&self) -> Box<dyn StoreUnderTest> {
        let another = self.subject.another();
        another.unwrap_or_else(|| panic!("a store that has an archive has another of its kind"))
    }

    /// Closes the store, if it is there without being open.
    pub(super) async fn pause(&self) {
        if self.subject.is_durable() {
            soon("close", self.store.close()).await;
        }
    }

    /// Opens it again.
    pub(super) async fn resume(&mut self) {
        self.store = self.subject.open(self.clock.clone()).await;
    }

    /// Goes on with another store.
    pub(super) async fn go_on_with(&mut self, subject: Box<dyn StoreUnderTest>) {
        self.store = subject.open(self.clock.clone()).await;
        self.subject = subject;
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn advance(&self, span: Duration) {
        self.hand.advance(span);
    }

    /// Moves the clock on to the last instant before `span` has passed.
    pub(super) fn advance_almost(&self, span: Duration) {
        self.hand.advance(span.saturating_sub(TICK));
    }

    /// Tells whether its turns are those of the memory store.
    pub(super) fn keeps_every_turn(&self) -> bool {
        self.subject.keeps_every_turn()
    }

    /// Closes the store and opens it again, unless it is one that does not survive that: then it
    /// does nothing, and tells so by `false`.
    pub(super) async fn reopen(&mut self) -> bool {
        if !self.subject.is_durable() {
            return false;
        }
        soon("close", self.store.close()).await;
        self.store = self.subject.open(self.clock.clone()).await;
        true
    }

    /// Returns a job to be inserted: ready, of task `task` in queue `queue`.
    pub(super) fn new_job(&self) -> NewJob {
        let n = self.jobs_made.fetch_add(1, Ordering::Relaxed);
        let millis = STARTED_AT.as_millis().unsigned_abs() + n / 4_096;
        let counter = u16::try_from(n % 4_096).unwrap_or_default();
        let input = payload("text/plain", format!("input {n}"));
        NewJob {
            spec: Arc::new(Spec {
                id: JobId::from_parts(millis, counter, n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                task: name("task"),
                queue: name("queue"),
                group: None,
                priority: Priority::default(),
                created_at: self.now(),
                timeout: Duration::from_mins(5),
                retain: Duration::from_hours(24),
                unique_key: None,
                callback_url: None,
                tags: BTreeMap::new(),
                input: input.info(),
            }),
            status: Status::submitted(self.now(), None, 5),
            input,
            idempotency: None,
        }
    }

    /// Inserts a job like [`Trial::new_job`], altered by `alter`.
    pub(super) async fn submit(&self, alter: impl FnOnce(&mut NewJob)) -> JobId {
        let mut job = self.new_job();
        alter(&mut job);
        let id = job.spec.id;
        self.insert(vec![job]).await;
        id
    }

    pub(super) async fn submit_plain(&self) -> JobId {
        self.submit(|_| {}).await
    }

    /// Inserts jobs, all of which must be new.
    pub(super) async fn insert(&self, jobs: Vec<NewJob>) {
        let inserted = done("insert", self.store.insert(jobs).await);
        let are_new = inserted.iter().all(|one| matches!(one, Inserted::New(_)));
        assert!(are_new, "{inserted:?}");
    }

    /// Lets the store do something of no interest, after all that it was asked for before.
    pub(super) async fn round_trip(&self) {
        self.submit(|job| job.spec_mut().task = name("bystander"))
            .await;
    }

    pub(super) async fn claim(&self, want: Want) -> Vec<Claimed> {
        done("claim", soon("claim", self.store.claim(want)).await)
    }

    /// Claims the one job that is there to be claimed.
    pub(super) async fn claim_one(&self) -> Held {
        self.claim_one_as(Lease::Node).await
    }

    pub(super) async fn claim_one_as(&self, lease: Lease) -> Held {
        let mut claimed = self.claim(Want { lease, ..want(2) }).await;
        assert_eq!(claimed.len(), 1, "jobs claimed where one was ready");
        Held::from(claimed.remove(0))
    }

    /// Submits a job and claims it.
    pub(super) async fn running(&self, lease: Lease) -> Held {
        self.submit_plain().await;
        self.claim_one_as(lease).await
    }

    pub(super) async fn apply(&self, change: Change) -> Applied {
        let mut applied = self.apply_all(vec![change]).await;
        assert_eq!(applied.len(), 1, "answers to one change");
        applied.remove(0)
    }

    pub(super) async fn apply_all(&self, changes: Vec<Change>) -> Vec<Applied> {
        done("apply", self.store.apply(changes).await)
    }

    /// Lets an event happen that must not be refused.
    pub(super) async fn happen(&self, id: JobId, event: Event) -> Job {
        self.applied(Change::new(id, event)).await
    }

    /// Makes a change that must not be refused.
    pub(super) async fn applied(&self, change: Change) -> Job {
        let what = format!("{:?}", change.event);
        match self.apply(change).await {
            Ok(job) => job,
            Err(refused) => panic!("{what} was refused: {refused:?}"),
        }
    }

    /// Lets a holder say something that must be heard.
    pub(super) async fn say(&self, held: &Held, list: Vec<Report>) -> Job {
        self.applied(held.says(list)).await
    }

    pub(super) async fn found(&self, id: JobId) -> Found<Job> {
        done("get", self.store.get(id).await)
    }

    pub(super) async fn job(&self, id: JobId) -> Job {
        match self.found(id).await {
            Found::Here(job) => job,
            other => panic!("job {id} should be there, and is {other:?}"),
        }
    }

    /// Returns all that happened to a job.
    pub(super) async fn history(&self, id: JobId) -> History {
        let events = self.store.events(id, EventId::START, usize::MAX).await;
        match done("events", events) {
            Found::Here(history) => history,
            other => panic!("job {id} should be there, and is {other:?}"),
        }
    }

    /// Returns all that is overdue, in the order of ids.
    pub(super) async fn overdue(&self) -> Vec<Overdue> {
        let mut overdue = done("overdue", self.store.overdue(1_000).await);
        overdue.sort_by_key(|overdue| overdue.id);
        overdue
    }
}

/// A claim and its job, as its holder has it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) id: JobId,
    pub(super) claim: ClaimNumber,
    pub(super) job: Job,
    pub(super) input: Payload,
}

impl From<Claimed> for Held {
    fn from(Claimed { job, input }: Claimed) -> Self {
        Self {
            id: job.spec.id,
            claim: job.status.claim,
            job,
            input,
        }
    }
}

impl Held {
    pub(super) fn succeeded(&self) -> Event {
        Event::Succeeded { claim: self.claim }
    }

    pub(super) fn success(&self, result: Payload) -> Change {
        Change {
            result: Some(result),
            ..Change::new(self.id, self.succeeded())
        }
    }

    pub(super) fn failed(&self, retry: Retry) -> Event {
        Event::Failed {
            claim: self.claim,
            failure: Failure::new(FailureKind::Error, "it broke"),
            retry,
        }
    }

    pub(super) fn released(&self, hand_back: HandBack) -> Event {
        Event::Released {
            claim: self.claim,
            hand_back,
            delay: Duration::ZERO,
        }
    }

    pub(super) fn extended(&self, lease_expires_at: Timestamp) -> Event {
        Event::Extended {
            claim: self.claim,
            lease_expires_at,
        }
    }

    pub(super) fn says(&self, list: Vec<Report>) -> Change {
        let claim = self.claim;
        Change {
            reports: Reports { skipped: 0, list },
            ..Change::new(self.id, Event::Reported { claim })
        }
    }

    pub(super) fn lease_expired(&self) -> Event {
        Event::LeaseExpired {
            claim: self.claim,
            retry_in: Duration::ZERO,
            is_timeout: false,
        }
    }

    pub(super) fn crashed(&self) -> Event {
        Event::WorkerCrashed {
            claim: self.claim,
            retry_in: Duration::ZERO,
        }
    }
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap_or_else(|error| panic!("{text:?} {error}"))
}

pub(super) fn label(text: &str) -> Label {
    match Label::new(text) {
        Ok(label) => label,
        Err(error) => panic!("{text}: {error}"),
    }
}

pub(super) fn priority(number: i64) -> Priority {
    Priority::new(number).unwrap_or_else(|error| panic!("{error}"))
}

pub(super) fn line(text: &str) -> Report {
    Report::log(LogStream::Log, text)
}

pub(super) fn progress(fraction: f64, message: &str) -> Progress {
    let progress = Progress::new(Some(fraction), Some(message.to_owned()));
    progress.unwrap_or_else(|| panic!("{fraction} is a part of the whole"))
}

pub(super) fn payload(content_type: &str, bytes: impl Into<Vec<u8>>) -> Payload {
    Payload {
        content_type: content_type.into(),
        bytes: bytes.into().into(),
    }
}

/// Payloads that a store could be tempted to alter.
pub(super) fn odd_payloads() -> Vec<Payload> {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let mebibyte: Vec<u8> = every_byte.iter().copied().cycle().take(1 << 20).collect();
    vec![
        payload("application/octet-stream", every_byte),
        payload("application/octet-stream", mebibyte),
        payload("text/plain", ""),
        payload(
            "text/plain; charset=utf-8; odd=\"a, b\"",
            "\u{e4}\0\r\n'; --",
        ),
        payload("application/json", "{ \"a\" : 1.0,\n\t\"a\": 1e400 }"),
    ]
}

/// Wants up to `limit` jobs of `task`, in any queue, without a wait.
pub(super) fn want(limit: usize) -> Want {
    Want {
        tasks: vec![name("task")],
        queues: None,
        limit,
        lease: Lease::Node,
        lease_for: LEASE_FOR,
        wait: Duration::ZERO,
    }
}

/// Wants up to `limit` jobs of `task`, and waits for the first.
pub(super) fn want_and_wait(limit: usize) -> Want {
    Want {
        wait: LONG,
        ..want(limit)
    }
}

pub(super) fn ids(claimed: &[Claimed]) -> Vec<JobId> {
    claimed.iter().map(|claimed| claimed.job.spec.id).collect()
}

pub(super) fn done<T>(what: &str, answer: Result<T, StoreError>) -> T {
    answer.unwrap_or_else(|error| panic!("{what} failed: {error}"))
}

/// Waits for what has to happen without the clock being moved.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(PATIENCE, future).await;
    ended.unwrap_or_else(|_| panic!("{what} did not end within {PATIENCE:?}"))
}

/// Asks a call in flight once whether it is done.
pub(super) async fn poll_once<F: Future + ?Sized>(mut call: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await
}
