//! A writer: it makes changes, one transaction after the other.
//!
//! A node has three: one gives jobs to those who wait for them, one inserts what comes in bulk, one
//! changes jobs that are there. To each other they are what other nodes are.
//!
//! A writer takes everything that waits for it, does it in one transaction, commits, and only then answers.
//! It does not wait for a batch to fill: while one is being committed the next one gathers. Claims come
//! last in a transaction, so that a job that is inserted while somebody waits for it is written as
//! running at once; those that find no job are parked here until one comes or their wait is over.
//!
//! Two transactions that were in each other's way are no failure: the same again goes well.

use super::batch::Batch;
use super::change::Keys;
use super::claim::{self, Numbers};
use super::fault::Fault;
use super::link::Link;
use super::operation::{Delivery, Operation, Parked};
use super::queues;
use super::session::Session;
use super::shared::Shared;
use super::transact::{Answer, Decisions};
use super::window::{Lane, Since, Window};
use super::write::Writes;
use crate::metrics::Commit;
use crate::store::delivery::HandBack;
use crate::store::{Claimed, StoreError};
use anteroom_core::limits::{COMMIT_BYTES_MAX, COMMIT_OPERATIONS_MAX};
use anteroom_core::{JobId, QueueDefaults, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// How often those who wait have the database asked for jobs that came from elsewhere.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How often where other nodes are heard of such jobs.
const LISTENING_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// How often a transaction is tried that others get in the way of.
const TRIES: usize = 8;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) link: Arc<Link>,
    operations: mpsc::UnboundedReceiver<Operation>,
    parked: Vec<Parked>,
    pub(super) window: Window,
    lanes: BTreeSet<Lane>,
    /// Lanes that jobs came to wait in since that was last looked at.
    untaken: BTreeSet<Lane>,
    /// Whether it gives jobs to those who wait for them; otherwise it tells the one that does.
    gives: bool,
    numbers: Numbers,
    /// The epoch that this node's attempts run under.
    node: i64,
    /// The change of queues' settings that is known.
    rules: Option<i64>,
    /// When a job comes due next, or a rate lets one start.
    next_due: Option<Timestamp>,
    polled_at: Option<Instant>,
    /// More may be ready than the last transaction took.
    has_more: bool,
    /// What came since those who wait have looked.
    stirred: Stirred,
}

/// What those who wait for jobs are to have looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stirred {
    /// Nothing came.
    No,
    /// Somebody came to wait, and no job is known of that he wants.
    ByWait,
    /// A job came, or one may start that could not before.
    ByJob,
}

/// What a transaction that was committed leaves to be told.
pub(super) struct Done {
    pub(super) answers: Vec<Answer>,
    pub(super) claimed: Vec<Vec<Claimed>>,
    next_due: Option<Timestamp>,
    is_blind: bool,
    is_freed: bool,
    /// The jobs as it left them.
    left: Batch,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        link: Arc<Link>,
        operations: mpsc::UnboundedReceiver<Operation>,
        node: i64,
        gives: bool,
    ) -> Self {
        let now = shared.clock.now();
        Self {
            shared,
            link,
            operations,
            parked: Vec::new(),
            window: Window::new(now),
            lanes: BTreeSet::new(),
            untaken: BTreeSet::new(),
            gives,
            numbers: Numbers::default(),
            node,
            rules: None,
            next_due: None,
            polled_at: None,
            has_more: false,
            stirred: Stirred::No,
        }
    }

    /// Works until it is closed.
    pub(super) async fn run(mut self) {
        while let Some(batch) = self.gather().await {
            if let Some(closed) = self.work(batch).await {
                self.end(closed);
                return;
            }
        }
    }

    /// Waits for something to do, and takes all that waits with it, up to what a commit takes. Nothing
    /// is to be done but to look for jobs where a time has come.
    async fn gather(&mut self) -> Option<Vec<Operation>> {
        let mut batch = Vec::new();
        if !self.has_more {
            let look_at = self.look_at();
            tokio::select! {
                biased;
                operation = self.operations.recv() => batch.push(operation?),
                () = self.link.heard().notified(), if look_at.is_some() => self.polled_at = None,
                () = time_to_look(&self.shared, look_at), if look_at.is_some() => {}
            }
        }
        let mut weight = (0, 0);
        let add = |weight: &mut (usize, usize), operation: &Operation| {
            let (jobs, bytes) = operation.weight();
            weight.0 += jobs;
            weight.1 += bytes;
        };
        for operation in &batch {
            add(&mut weight, operation);
        }
        while weight.0 < COMMIT_OPERATIONS_MAX && weight.1 < COMMIT_BYTES_MAX {
            let Ok(operation) = self.operations.try_recv() else {
                break;
            };
            add(&mut weight, &operation);
            batch.push(operation);
        }
        Some(batch)
    }

    /// Returns when a claim has waited for long enough, or a job comes due; none where nobody waits.
    fn look_at(&self) -> Option<Timestamp> {
        let first = self.parked.iter().map(|parked| parked.until).min()?;
        Some(self.next_due.map_or(first, |due| due.min(first)))
    }

    /// Does what was gathered, and returns who is to be told that the store is closed.
    async fn work(&mut self, batch: Vec<Operation>) -> Option<oneshot::Sender<()>> {
        let mut to_do = Vec::with_capacity(batch.len());
        let mut places = Vec::new();
        let mut closing = None;
        for operation in batch {
            match operation {
                Operation::Claim(parked) => {
                    // Where a job is known of, a look before would be one too many.
                    let mut lanes = self.lanes.iter();
                    self.stir(if lanes.any(|lane| claim::wants(&parked.want, lane)) {
                        Stirred::ByJob
                    } else {
                        Stirred::ByWait
                    });
                    self.parked.push(parked);
                }
                Operation::ConfigureQueues(defaults, reply) => {
                    self.stir(Stirred::ByJob);
                    self.configure(*defaults);
                    let _unheard = reply.send(Ok(())).is_err();
                }
                Operation::Place(of, reply) => places.push((of, reply)),
                Operation::Came(waiting) => {
                    self.stir(Stirred::ByJob);
                    self.came(waiting);
                }
                Operation::LookAgain => self.stir(Stirred::ByJob),
                Operation::Close(done) => closing = Some(done),
                Operation::Insert(..) | Operation::Apply(..) | Operation::HandBack(_) => {
                    to_do.push(operation);
                }
            }
        }
        self.parked.retain(|parked| !parked.reply.is_closed());
        if closing.is_some() {
            self.end_waits();
        }
        self.transact(to_do).await;
        self.tell_others();
        for (of, reply) in places {
            let place = self.place(&of).await;
            let _unheard = reply.send(self.shared.answer(place)).is_err();
        }
        closing
    }

    fn configure(&mut self, defaults: QueueDefaults) {
        self.window.configure(defaults);
    }

    /// Does operations in one transaction, tries again where others were in the way, and answers.
    async fn transact(&mut self, operations: Vec<Operation>) {
        let is_stirred = self.has_more || self.stirred == Stirred::ByJob;
        let is_alone = operations.is_empty() && !is_stirred;
        if is_alone && !self.is_due() && !self.look().await {
            self.stirred = Stirred::No;
            self.end_old_waits();
            return;
        }
        (self.has_more, self.stirred) = (false, Stirred::No);
        if operations.is_empty() && self.parked.is_empty() {
            return;
        }
        let mut taken = HashSet::new();
        let mut tries = 0;
        let done = loop {
            let is_careful = tries > 0;
            match self.try_once(&operations, is_careful, &mut taken).await {
                Err(Fault::Conflict(_)) if tries < TRIES => tries += 1,
                done => break done,
            }
        };
        match done {
            Ok(mut done) => {
                self.window.keep();
                let left = std::mem::take(&mut done.left);
                self.announce(left.waiting(self.shared.clock.now()), done.is_freed);
                self.shared.known.keep(left.jobs.into_values());
                self.add_places(&operations, &mut done).await;
                self.tell(operations, done);
            }
            Err(fault) => {
                let error = fault.into_error();
                self.shared.metrics.failed(&error);
                self.refuse(operations, &error);
            }
        }
    }

    async fn try_once(
        &mut self,
        operations: &[Operation],
        is_careful: bool,
        taken: &mut HashSet<JobId>,
    ) -> Result<Done, Fault> {
        let session = self.link.session().await?;
        let now = self.shared.clock.now();
        let done = self
            .within(&session, operations, is_careful, taken, now)
            .await;
        if done.is_err() {
            // What was thought to have started did not.
            self.window.forget(now);
            if let Err(error) = session.run("ROLLBACK").await {
                tracing::debug!(%error, "a transaction was not rolled back: {error}");
            }
        }
        done
    }

    async fn within(
        &mut self,
        session: &Session,
        operations: &[Operation],
        is_careful: bool,
        taken: &mut HashSet<JobId>,
        now: Timestamp,
    ) -> Result<Done, Fault> {
        let began_at = Instant::now();
        // What begins under the epoch of a node that is taken for dead is rescued at once.
        let counts_until = self.shared.counts_until();
        let is_alive = began_at < counts_until;
        session.begin().await?;
        self.read_rules(session).await?;
        if !self.parked.is_empty() && self.is_time_to_poll() {
            self.lanes = claim::lanes(session).await?;
            self.window.look_from_the_beginning();
        }
        self.window.set_now(now);
        let takers = if is_alive { &self.parked[..] } else { &[] };
        let mut decisions = Decisions {
            now,
            window: &mut self.window,
            lanes: &self.lanes,
            is_freed: false,
            offered: HashMap::new(),
            known: &self.shared.known,
            wanted: takers.iter().map(|parked| &parked.want).collect(),
            batch: Batch::default(),
            taken,
            gone: HashSet::new(),
            keys: Keys::default(),
            remembered: HashMap::new(),
            submits: Vec::new(),
            depths: HashMap::new(),
            callbacks: Vec::new(),
        };
        decisions.read(session, operations, is_careful).await?;
        let most = claim::asked(takers.iter());
        decisions.read_offers(session, most).await?;
        let each = operations.iter();
        let answers = each.map(|operation| decisions.decide(operation)).collect();
        if decisions.batch.has_guess() {
            return Err(Fault::Conflict(
                "a job may have changed elsewhere".to_owned(),
            ));
        }
        if is_careful {
            decisions.check_callbacks(session).await?;
        }
        let mut claimed = decisions
            .claim(session, takers, &mut self.numbers, self.node)
            .await?;
        claimed.resize_with(self.parked.len(), Vec::new);
        let next_due = if self.parked.is_empty() {
            None
        } else {
            claim::next_due(session, now).await?
        };
        let writes = Writes::of(&mut decisions);
        let (left, is_freed) = (decisions.batch, decisions.is_freed);
        let written_at = Instant::now();
        let committed = writes.commit(session).await;
        let is_unknown = matches!(committed, Err(Fault::Unknown(_)));
        if is_unknown || Instant::now() >= counts_until {
            // What may have started, or may run elsewhere by now, is to be handed back once the database
            // can be asked.
            for jobs in &mut claimed {
                drop(Delivery::new(std::mem::take(jobs), self.shared.clone()));
            }
        }
        committed?;
        if !writes.is_empty() {
            self.shared.metrics.committed(Commit {
                operations: left.jobs.len(),
                bytes: writes.bytes(),
                took: written_at.elapsed(),
                transaction: began_at.elapsed(),
            });
        }
        let next_due = next_due.into_iter().chain(self.window.next_due()).min();
        Ok(Done {
            answers,
            claimed,
            next_due,
            is_blind: self.window.is_blind() && is_alive,
            is_freed,
            left,
        })
    }

    /// Has jobs that came to wait be looked for, and those that may begin now.
    fn announce(&mut self, waiting: BTreeMap<Lane, Since>, is_freed: bool) {
        if self.gives {
            self.came(waiting);
        } else if !waiting.is_empty() || is_freed {
            self.shared.came(waiting);
        }
    }

    fn stir(&mut self, stirred: Stirred) {
        self.stirred = self.stirred.max(stirred);
    }

    fn came(&mut self, waiting: BTreeMap<Lane, Since>) {
        if !waiting.is_empty() {
            self.stir(Stirred::ByJob);
        }
        for (lane, since) in waiting {
            self.window.look_from(&lane, since);
            self.lanes.insert(lane.clone());
            self.untaken.insert(lane);
        }
    }

    /// Tells the other nodes of jobs that came and that nobody takes here.
    fn tell_others(&mut self) {
        let is_taken = |lane: &Lane| {
            self.parked
                .iter()
                .any(|parked| claim::wants(&parked.want, lane))
        };
        if std::mem::take(&mut self.untaken)
            .iter()
            .any(|lane| !is_taken(lane))
        {
            self.shared.untold.notify_one();
        }
    }

    /// Takes in what was set for queues, if that has changed.
    pub(super) async fn read_rules(&mut self, session: &Session) -> Result<(), Fault> {
        if self.rules != Some(queues::change_number(session).await?) {
            let (number, kept) = queues::queues_and_change(session).await?;
            let own = kept.into_iter().map(|kept| (kept.name, kept.settings));
            self.window.set_queues(own.collect());
            self.rules = Some(number);
        }
        Ok(())
    }

    /// Tells whether a job came due, or a rate lets one start.
    fn is_due(&self) -> bool {
        let now = self.shared.clock.now();
        self.next_due.is_some_and(|due| due <= now)
    }

    /// Asks, if somebody came to wait or it is time to, whether there may be jobs for those who wait: one
    /// statement, where a transaction takes several. Where that cannot be asked, a transaction is to
    /// say so.
    async fn look(&mut self) -> bool {
        let is_asked = self.stirred == Stirred::ByWait;
        if self.parked.is_empty() || !(is_asked || self.is_time_to_poll()) {
            return false;
        }
        self.polled_at = Some(Instant::now());
        let seen = async { claim::look(&*self.link.session().await?).await };
        let Ok((number, lanes)) = seen.await else {
            return true;
        };
        let wanted = |lane| {
            self.parked
                .iter()
                .any(|parked| claim::wants(&parked.want, lane))
        };
        let is_new = self.rules != Some(number) || lanes.iter().any(wanted);
        self.lanes = lanes;
        self.window.look_from_the_beginning();
        is_new
    }

    fn is_time_to_poll(&mut self) -> bool {
        let interval = poll_interval(&self.shared);
        let is_time = self
            .polled_at
            .is_none_or(|polled_at| polled_at.elapsed() >= interval);
        if is_time {
            self.polled_at = Some(Instant::now());
        }
        is_time
    }

    /// Answers what was done.
    fn tell(&mut self, operations: Vec<Operation>, done: Done) {
        self.next_due = done.next_due;
        for (operation, answer) in operations.into_iter().zip(done.answers) {
            // Whoever does not wait any more needs no answer.
            let _unheard = match (operation, answer) {
                (Operation::Insert(entered, _, reply), Answer::Inserted(inserted)) => {
                    // Others may take its place from here on.
                    drop(entered);
                    reply.send(inserted).is_err()
                }
                (Operation::Apply(_, reply), Answer::Applied(applied)) => {
                    reply.send(Ok(applied)).is_err()
                }
                _ => true,
            };
        }
        let now = self.shared.clock.now();
        let parked = std::mem::take(&mut self.parked);
        let mut got_all = true;
        for (parked, jobs) in parked.into_iter().zip(done.claimed) {
            if jobs.is_empty() && parked.until > now {
                got_all = false;
                self.parked.push(parked);
                continue;
            }
            let delivery = Delivery::new(jobs, self.shared.clone());
            // What is not heard is handed back by its drop.
            drop(parked.reply.send(Ok(delivery)));
        }
        self.has_more = done.is_blind && !got_all;
    }

    /// Answers that nothing was done, or that it is not known.
    fn refuse(&mut self, operations: Vec<Operation>, error: &StoreError) {
        for operation in operations {
            let _unheard = match operation {
                Operation::Insert(_, _, reply) => reply.send(Err(error.clone())).is_err(),
                Operation::Apply(_, reply) => reply.send(Err(error.clone())).is_err(),
                Operation::HandBack(claims) => {
                    // Nobody else would: tried again until the database can be asked.
                    self.shared.hand_back(claims);
                    true
                }
                _ => true,
            };
        }
        for parked in self.parked.drain(..) {
            let _unheard = parked.reply.send(Err(error.clone())).is_err();
        }
    }

    /// Ends the waits that took long enough, without a job.
    fn end_old_waits(&mut self) {
        let now = self.shared.clock.now();
        let is_over = |parked: &Parked| parked.until <= now;
        let (over, parked) = self.parked.drain(..).partition(is_over);
        self.parked = parked;
        end(over, &self.shared);
    }

    /// Ends all waits for jobs: the store is being closed.
    fn end_waits(&mut self) {
        end(std::mem::take(&mut self.parked), &self.shared);
    }

    /// Refuses what still comes.
    fn end(mut self, closed: oneshot::Sender<()>) {
        self.operations.close();
        while let Ok(operation) = self.operations.try_recv() {
            match operation {
                Operation::Claim(parked) => self.parked.push(parked),
                Operation::ConfigureQueues(_, reply) => {
                    let _unheard = reply.send(Err(StoreError::Closed)).is_err();
                }
                Operation::Place(_, reply) => {
                    let _unheard = reply.send(Err(StoreError::Closed)).is_err();
                }
                operation => self.refuse(vec![operation], &StoreError::Closed),
            }
        }
        self.end_waits();
        let _unheard = closed.send(()).is_err();
    }
}

/// Waits until an instant, or until it is time to ask the database.
#[expect(
    clippy::disallowed_methods,
    reason = "how often the database is asked is no matter of its own clock"
)]
async fn time_to_look(shared: &Shared, at: Option<Timestamp>) {
    tokio::select! {
        () = shared.clock.sleep_until(at.unwrap_or(Timestamp::MAX)) => {}
        () = tokio::time::sleep(poll_interval(shared)) => {}
    }
}

/// Returns how often those who wait have the database asked.
fn poll_interval(shared: &Shared) -> Duration {
    if shared.listens() {
        LISTENING_POLL_INTERVAL
    } else {
        POLL_INTERVAL
    }
}

/// Answers those who waited that no job came.
fn end(waits: Vec<Parked>, shared: &Arc<Shared>) {
    for parked in waits {
        let delivery = Delivery::new(Vec::new(), shared.clone());
        drop(parked.reply.send(Ok(delivery)));
    }
}
