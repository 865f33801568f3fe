//! Random lives of jobs, led in the store on trial and in the memory store side by side.
//!
//! Both go by one clock and are asked the same things in the same order; every answer has to be
//! the same: jobs, refusals, lists, counts. Each draws claim numbers of its own, so numbers are
//! compared by when they were drawn. Where the store on trial survives it, it is closed and
//! opened in between, while the reference goes on: nobody may notice but the workers that died.
//!
//! A life that went wrong names its seed. `ANTEROOM_SEED=…` leads it again.

mod numbers;
mod plan;

use super::Trial;
use super::trial::{TICK, done, name, payload, priority};
use crate::store::memory::MemoryStore;
use crate::store::{
    Applied, Claimed, Counts, Cursor, Filter, Found, History, Inserted, NewJob, Overdue,
    OverdueReason, Page, PlaceOf, QueueChange, Store, Want,
};
use anteroom_core::limits::{CALLBACK_TASK, EVENTS_PAGE_MAX, IDEMPOTENCY_KEPT};
use anteroom_core::{
    Event, EventId, Fingerprint, Idempotency, IdempotencyKey, Job, JobId, Label, Lease, Payload,
    Place, Position, QueueSettings, RateLimit, Reports, ShownState, Status, Timestamp,
};
use fastrand::Rng;
use numbers::Numbers;
use plan::{Plan, give_up, random_event, random_reports, random_span, rescue};
use std::fmt;
use std::time::Duration;

/// Lives led with seeds that are always the same.
const FIXED_SEEDS: u64 = 4;
/// Things that happen in one life.
const STEPS: usize = 400;
/// More than a life has jobs.
const ALL: usize = 100_000;

/// Random lives of jobs agree, answer for answer, with the memory store.
pub async fn random_lives_agree_with_the_memory_store(trial: &mut Trial) {
    #[expect(
        clippy::disallowed_methods,
        reason = "who looks into a failed life names its seed, and configures nothing"
    )]
    let named = std::env::var("ANTEROOM_SEED").ok();
    if let Some(seed) = named.and_then(|seed| seed.parse().ok()) {
        lead_a_life(trial, seed).await;
        return;
    }
    for seed in (0..FIXED_SEEDS).chain([fastrand::u64(..)]) {
        lead_a_life(trial, seed).await;
    }
}

async fn lead_a_life(trial: &mut Trial, seed: u64) {
    // Shown by the test harness only if it goes wrong.
    println!("leading the life of ANTEROOM_SEED={seed}");
    let mut life = Life {
        reference: MemoryStore::new(trial.clock()),
        random: Rng::with_seed(seed),
        jobs: Vec::new(),
        held: Vec::new(),
        theirs: Numbers::default(),
        ours: Numbers::default(),
        // Lives share a store: each has tasks and queues of its own, and overlooks those of others.
        tasks: ["a", "b", "c"].map(|task| name(&format!("{task}-{seed}"))),
        queues: ["q", "r", "s"].map(|queue| name(&format!("{queue}-{seed}"))),
        began: trial.now(),
        seed,
        step: 0,
    };
    for step in 0..STEPS {
        life.step = step;
        life.one_step(trial).await;
    }
    life.compare_everything(trial).await;
    life.end_everything(trial).await;
}

/// What is known of a life so far.
struct Life {
    reference: MemoryStore,
    random: Rng,
    jobs: Vec<JobId>,
    /// Every claim that was ever made, current or not: which job, and when it was drawn.
    held: Vec<(JobId, u64)>,
    theirs: Numbers,
    ours: Numbers,
    tasks: [anteroom_core::Name; 3],
    queues: [anteroom_core::Name; 3],
    began: Timestamp,
    seed: u64,
    step: usize,
}

impl Life {
    async fn one_step(&mut self, trial: &mut Trial) {
        match self.random.u32(0..100) {
            0..14 => self.insert(trial).await,
            14..34 => self.claim(trial).await,
            34..62 => self.change(trial).await,
            62..72 => self.advance(trial),
            72..78 => self.deal_with_overdue(trial).await,
            78..82 => self.prune(trial).await,
            82..87 => self.delete(trial).await,
            87..91 => self.read(trial).await,
            91..94 => self.list(trial).await,
            94..96 => self.count(trial).await,
            96..98 => self.pause_or_resume(trial).await,
            _ => self.reopen(trial).await,
        }
    }

    fn agree<T: PartialEq + fmt::Debug>(&self, what: &str, theirs: &T, ours: &T) {
        assert!(
            theirs == ours,
            "{what} differs at step {} of ANTEROOM_SEED={}\n the store: {theirs:#?}\n reference: {ours:#?}",
            self.step,
            self.seed,
        );
    }

    async fn insert(&mut self, trial: &Trial) {
        let jobs: Vec<NewJob> = (0..self.random.usize(1..=4))
            .map(|_| self.random_job(trial))
            .collect();
        self.jobs.extend(jobs.iter().map(|job| job.spec.id));
        let theirs = trial.store().insert(jobs.clone()).await;
        let ours = self.reference.insert(jobs).await;
        let mut theirs = self.theirs.plain_inserted(theirs);
        let mut ours = self.ours.plain_inserted(ours);
        for inserted in [&mut theirs, &mut ours].into_iter().flatten() {
            if let [Inserted::New(Some(place))] = &mut **inserted {
                make_comparable(trial, place);
            }
        }
        // A store need not say where a job stands as it inserts it.
        if let (Ok(theirs), Ok(ours)) = (&theirs, &mut ours)
            && let [Inserted::New(None)] = **theirs
            && let [Inserted::New(place)] = &mut **ours
        {
            *place = None;
        }
        self.agree("the answer to an insert", &theirs, &ours);
    }

    fn random_job(&mut self, trial: &Trial) -> NewJob {
        let random = &mut self.random;
        let mut job = trial.new_job();
        job.spec_mut().task = self.tasks[random.usize(0..3)].clone();
        job.spec_mut().queue = self.queues[random.usize(0..2)].clone();
        job.spec_mut().group = Label::new("g").ok().filter(|_| random.bool());
        job.spec_mut().priority = priority(random.i64(4..=6));
        job.spec_mut().retain = Duration::from_millis(random.u64(0..120_000));
        if random.bool() {
            let value = random.u8(0..3).to_string();
            job.spec_mut().tags.insert(name("tag"), value);
        }
        // Nothing is drawn for it, so that lives by fixed seeds stay what they are.
        if job.spec.id.order_key() % 4 == 0 {
            job.spec_mut().callback_url = Some("https://example.org/".into());
        }
        if random.u8(0..3) == 0 {
            job.spec_mut().unique_key = Label::new(["u", "v"][random.usize(0..2)]).ok();
        }
        if random.u8(0..3) == 0 {
            let key = IdempotencyKey::new(&random.u8(0..4).to_string()).ok();
            // Now and then it is used for something else.
            let fingerprint = Fingerprint([u8::from(random.u8(0..9) == 0); 32]);
            let scope = ["", "web"][random.usize(0..2)].into();
            job.idempotency = key.map(|key| (Idempotency { scope, key }, fingerprint));
        }
        let run_at = match random.u8(0..3) {
            0 => trial.now().after(random_span(random)),
            1 => trial.now().before(random_span(random)),
            _ => trial.now(),
        };
        let is_bounded = random.u8(0..4) == 0;
        let start_before = trial.now().after(random_span(random));
        let start_before = is_bounded.then_some(start_before);
        job.status = Status::submitted(run_at, start_before, random.u32(1..=4));
        job
    }

    async fn claim(&mut self, trial: &Trial) {
        let random = &mut self.random;
        let tasks = self.tasks.iter().filter(|_| random.u8(0..4) > 0);
        let wanted = Want {
            tasks: tasks.cloned().collect(),
            queues: (random.u8(0..3) == 0).then(|| vec![self.queues[0].clone()]),
            limit: random.usize(1..=5),
            lease: if random.bool() {
                Lease::Node
            } else {
                Lease::Pulled
            },
            lease_for: Duration::from_millis(random.u64(1_000..30_000)),
            wait: Duration::ZERO,
        };
        let theirs = done("claim", trial.store().claim(wanted.clone()).await);
        let ours = if trial.keeps_every_turn() {
            done("claim", self.reference.claim(wanted).await)
        } else {
            let ids: Vec<JobId> = theirs.iter().map(|one| one.job.spec.id).collect();
            let ours = done("claim", self.reference.claim_these(&ids, &wanted));
            ours.unwrap_or_else(|why| panic!("{why}, at step {} of {}", self.step, self.seed))
        };
        let draw = |numbers: &mut Numbers, claimed: Vec<Claimed>| -> Vec<(Job, Payload)> {
            claimed
                .into_iter()
                .map(|Claimed { job, input }| {
                    numbers.draw(job.status.claim);
                    (numbers.plain_job(job), input)
                })
                .collect()
        };
        let theirs = draw(&mut self.theirs, theirs);
        let ours = draw(&mut self.ours, ours);
        self.agree("a claim", &theirs, &ours);
        let held = theirs
            .iter()
            .map(|(job, _)| (job.spec.id, job.status.claim.get()));
        self.held.extend(held);
    }

    async fn change(&mut self, trial: &Trial) {
        let mut plans = Vec::new();
        for _ in 0..self.random.usize(1..=3) {
            plans.push(self.random_plan(trial).await);
        }
        self.apply(trial, &plans).await;
    }

    async fn apply(&mut self, trial: &Trial, plans: &[Plan]) {
        let changes = |numbers| plans.iter().map(|plan| plan.change(numbers)).collect();
        let theirs = trial.store().apply(changes(&self.theirs)).await;
        let ours = self.reference.apply(changes(&self.ours)).await;
        let plain = |numbers: &Numbers, applied: Vec<Applied>| -> Vec<Applied> {
            let each = applied.into_iter();
            each.map(|applied| numbers.plain_applied(applied)).collect()
        };
        let theirs = plain(&self.theirs, done("apply", theirs));
        let ours = plain(&self.ours, done("apply", ours));
        let events: Vec<_> = plans.iter().map(|plan| plan.change(&self.ours)).collect();
        self.agree(&format!("the answer to {events:#?}"), &theirs, &ours);
    }

    async fn random_plan(&mut self, trial: &Trial) -> Plan {
        let random = &mut self.random;
        let latest = self.held.len().saturating_sub(8);
        let held = match random.u8(0..4) {
            // Mostly a claim that may well be current; now and then one from long ago.
            0 => random.choice(&self.held),
            _ => random.choice(&self.held[latest..]),
        };
        let (mut id, when) = held.copied().unwrap_or((trial.new_job().spec.id, 0));
        let span = random_span(random);
        let until = trial.now().after(span);
        let kind = random.u8(0..17);
        if (9..14).contains(&kind) {
            id = random.choice(&self.jobs).copied().unwrap_or(id);
        }
        let result = (kind < 3).then(|| payload("text/plain", format!("step {}", self.step)));
        let event = random_event(random, kind, span, until, &self.queues);
        // Only holders say something.
        let reports = match kind {
            0..6 | 14.. => random_reports(random),
            _ => Reports::default(),
        };
        let if_version = match self.random.u8(0..8) {
            0 => Some(self.random.u64(1..8)),
            1 => self.version_of(id).await,
            _ => None,
        };
        Plan {
            id,
            when,
            event,
            result,
            if_version,
            reports,
            settle: self.random_settle(),
        }
    }

    /// Few different ones, so that now and then something is said again.
    fn random_settle(&mut self) -> Option<Fingerprint> {
        let said = self.random.u8(0..3);
        (said > 0).then_some(Fingerprint([said; 32]))
    }

    async fn version_of(&self, id: JobId) -> Option<u64> {
        let job = done("get", self.reference.get(id).await).here();
        job.map(|job| job.status.version)
    }

    fn advance(&mut self, trial: &Trial) {
        let span = match self.random.u8(0..30) {
            // Past all that is remembered for a day.
            0 => IDEMPOTENCY_KEPT,
            _ => random_span(&mut self.random) / 2,
        };
        trial.advance(span);
    }

    async fn deal_with_overdue(&mut self, trial: &Trial) {
        let (theirs, ours) = self.overdue(trial).await;
        self.agree("what is overdue", &theirs, &ours);
        let retry_in = random_span(&mut self.random);
        let plans: Vec<Plan> = theirs.iter().map(|one| rescue(one, retry_in)).collect();
        self.apply(trial, &plans).await;
    }

    async fn overdue(&self, trial: &Trial) -> (Vec<Overdue>, Vec<Overdue>) {
        let theirs = done("overdue", trial.store().overdue(ALL).await);
        let ours = done("overdue", self.reference.overdue(ALL).await);
        let theirs = self.theirs.plain_overdue(theirs);
        (theirs, self.ours.plain_overdue(ours))
    }

    async fn prune(&mut self, trial: &Trial) {
        let theirs = done("prune", trial.store().prune(ALL).await);
        let ours = done("prune", self.reference.prune(ALL).await);
        self.agree("how many were pruned", &theirs, &ours);
    }

    async fn delete(&mut self, trial: &Trial) {
        let Some(id) = self.random_id(trial) else {
            return;
        };
        let if_version = match self.random.u8(0..3) {
            0 => Some(self.random.u64(1..8)),
            1 => self.version_of(id).await,
            _ => None,
        };
        let theirs = done("delete", trial.store().delete(id, if_version).await);
        let ours = done("delete", self.reference.delete(id, if_version).await);
        let theirs = self.theirs.plain_deleted(theirs);
        let ours = self.ours.plain_deleted(ours);
        self.agree(&format!("deleting {id}"), &theirs, &ours);
    }

    fn random_id(&mut self, trial: &Trial) -> Option<JobId> {
        match self.random.u8(0..9) {
            0 => Some(trial.new_job().spec.id),
            _ => self.random.choice(&self.jobs).copied(),
        }
    }

    async fn read(&mut self, trial: &Trial) {
        if let Some(id) = self.random_id(trial) {
            self.compare(trial, id).await;
        }
    }

    /// Compares all there is under an id.
    async fn compare(&self, trial: &Trial, id: JobId) {
        let what = format!("job {id}");
        let theirs = done("get", trial.store().get(id).await);
        let ours = done("get", self.reference.get(id).await);
        let theirs = theirs.map(|job| self.theirs.plain_job(job));
        self.agree(&what, &theirs, &ours.map(|job| self.ours.plain_job(job)));
        let theirs = done("input", trial.store().input(id).await);
        let ours = done("input", self.reference.input(id).await);
        self.agree(&format!("the input of {what}"), &theirs, &ours);
        let plain = |numbers: &Numbers, found: Found<(Job, Option<Payload>)>| {
            found.map(|(job, result)| (numbers.plain_job(job), result))
        };
        let theirs = plain(&self.theirs, done("result", trial.store().result(id).await));
        let ours = plain(&self.ours, done("result", self.reference.result(id).await));
        self.agree(&format!("the result of {what}"), &theirs, &ours);
        let theirs = done("place", trial.store().place(PlaceOf::Job(id)).await);
        let ours = done("place", self.reference.place(PlaceOf::Job(id)).await);
        let (mut theirs, mut ours) = (theirs, ours);
        for place in [&mut theirs, &mut ours].into_iter().flatten() {
            make_comparable(trial, place);
        }
        self.agree(&format!("the place of {what}"), &theirs, &ours);
        self.compare_history(trial, id).await;
    }

    /// Compares all that happened to a job, page by page.
    async fn compare_history(&self, trial: &Trial, id: JobId) {
        let mut after = EventId::START;
        // Lengths of pages that are always the same, and odd.
        for limit in [1, 7, EVENTS_PAGE_MAX].into_iter().cycle() {
            let theirs = done("events", trial.store().events(id, after, limit).await);
            let ours = done("events", self.reference.events(id, after, limit).await);
            let plain = |numbers: &Numbers, found: Found<History>| {
                found.map(|history| History {
                    job: numbers.plain_job(history.job),
                    ..history
                })
            };
            let theirs = plain(&self.theirs, theirs);
            let ours = plain(&self.ours, ours);
            self.agree(
                &format!("what happened to {id} after {after}"),
                &theirs,
                &ours,
            );
            match ours.here() {
                Some(history) if !history.is_all => {
                    after = history.events.last().map_or(after, |event| event.id);
                }
                Some(_) | None => return,
            }
        }
    }

    async fn compare_everything(&self, trial: &Trial) {
        for id in &self.jobs {
            self.compare(trial, *id).await;
        }
        self.compare_callbacks(trial).await;
    }

    /// Compares what tells of the ends of this life's jobs.
    async fn compare_callbacks(&self, trial: &Trial) {
        let filter = Filter {
            task: Some(name(CALLBACK_TASK)),
            created_after: Some(self.began.before(TICK)),
            ..Filter::default()
        };
        let theirs = every_page(&**trial.store(), &self.theirs, &filter, 100).await;
        let ours = every_page(&self.reference, &self.ours, &filter, 100).await;
        self.agree("the callbacks", &theirs, &ours);
    }

    async fn list(&mut self, trial: &Trial) {
        let random = &mut self.random;
        let allowed = self.tasks.iter().filter(|_| random.bool()).cloned();
        let allowed: Vec<_> = allowed.collect();
        let allowed = random.bool().then_some(allowed);
        let states = ShownState::ALL.into_iter().filter(|_| random.u8(0..3) == 0);
        let filter = Filter {
            tasks_allowed: allowed,
            states: states.collect(),
            // Always of one task, so that other lives in the store are not listed.
            task: Some(self.tasks[random.usize(0..3)].clone()),
            queue: (random.u8(0..3) == 0).then(|| self.queues[1].clone()),
            group: Label::new("g").ok().filter(|_| random.u8(0..3) == 0),
            tags: match random.u8(0..3) {
                0 => vec![(name("tag"), "1".to_owned())],
                _ => Vec::new(),
            },
            created_after: (random.u8(0..3) == 0).then(|| trial.now().before(random_span(random))),
            created_before: (random.u8(0..3) == 0).then(|| trial.now().before(random_span(random))),
        };
        let size = random.usize(1..=20);
        let theirs = every_page(&**trial.store(), &self.theirs, &filter, size).await;
        let ours = every_page(&self.reference, &self.ours, &filter, size).await;
        self.agree(&format!("the list of {filter:?}"), &theirs, &ours);
    }

    async fn count(&mut self, trial: &Trial) {
        let sorted = |mut counts: Vec<Counts>| {
            counts.retain(|of| self.tasks.contains(&of.task));
            counts.retain(|of| of.scheduled + of.ready + of.running > 0);
            counts.sort_by_key(|of| (of.task.clone(), of.queue.clone()));
            counts
        };
        let theirs = sorted(done("counts", trial.store().counts().await));
        let ours = sorted(done("counts", self.reference.counts().await));
        self.agree("the counts", &theirs, &ours);
    }

    async fn pause_or_resume(&mut self, trial: &Trial) {
        let queue = self.queues[self.random.usize(0..2)].clone();
        let paused = [None, Some(false), Some(true)][self.random.usize(0..3)];
        let limits = self.limits();
        let change = QueueChange {
            name: queue,
            settings: QueueSettings { paused, ..limits },
            if_version: None,
        };
        let theirs = trial.store().set_queues(vec![change.clone()]).await;
        let ours = self.reference.set_queues(vec![change]).await;
        let (theirs, ours) = (done("set_queues", theirs), done("set_queues", ours));
        self.agree("what was set for a queue", &theirs, &ours);
    }

    /// Some limits, by the step: nothing is drawn for them, so that lives by fixed seeds stay what
    /// they are.
    fn limits(&self) -> QueueSettings {
        let step = self.step as u64;
        let rate = RateLimit {
            limit: 1 + u32::from(step.is_multiple_of(8)),
            period: Duration::from_secs(1 + step % 20),
        };
        QueueSettings {
            max_concurrency: step.is_multiple_of(3).then_some(2 + step % 4),
            group_concurrency: (step % 5 < 2).then_some(1 + step % 2),
            rate_limit: step.is_multiple_of(4).then_some(rate),
            ..QueueSettings::default()
        }
    }

    /// Closes and opens the store on trial. Its node's attempts die with it; pulled ones are
    /// handed back before, since a store may honour their leases longer after a start.
    async fn reopen(&mut self, trial: &mut Trial) {
        let running = self.running().await;
        let pulled: Vec<Plan> = running
            .iter()
            .filter(|job| job.status.lease == Lease::Pulled)
            .map(|job| give_up(job, trial.now()))
            .collect();
        self.apply(trial, &pulled).await;
        if !trial.reopen().await {
            return;
        }
        done("forget_turns", self.reference.forget_turns());
        let (theirs, ours) = self.overdue(trial).await;
        let mut expected: Vec<Overdue> = ours
            .into_iter()
            .filter(|one| one.reason == OverdueReason::Deadline)
            .collect();
        let dead = running.iter().filter(|job| job.status.lease == Lease::Node);
        expected.extend(dead.map(|job| Overdue {
            id: job.spec.id,
            task: job.spec.task.clone(),
            attempt: job.status.attempt,
            reason: OverdueReason::Process(job.status.claim),
        }));
        expected.sort_by_key(|one| one.id);
        self.agree("what is overdue after a reopen", &theirs, &expected);
        let plans: Vec<Plan> = theirs
            .iter()
            .map(|one| rescue(one, Duration::ZERO))
            .collect();
        self.apply(trial, &plans).await;
        self.compare_everything(trial).await;
    }

    /// Returns the jobs that the reference says are running.
    async fn running(&self) -> Vec<Job> {
        let filter = Filter {
            states: vec![ShownState::Running],
            ..Filter::default()
        };
        every_page(&self.reference, &self.ours, &filter, 1_000).await
    }

    /// Leaves nothing unfinished behind for the next life in the same store.
    async fn end_everything(&mut self, trial: &Trial) {
        for id in self.jobs.clone() {
            let job = done("get", self.reference.get(id).await).here();
            let Some(job) = job.map(|job| self.ours.plain_job(job)) else {
                continue;
            };
            let cancel = Plan {
                event: Box::new(|_| Event::CancelRequested),
                ..give_up(&job, trial.now())
            };
            self.apply(trial, &[cancel, give_up(&job, trial.now())])
                .await;
        }
        trial.advance(Duration::from_hours(1));
        self.prune(trial).await;
        self.compare_everything(trial).await;
    }
}

/// Leaves out of a place what follows from turns, where those of the store on trial are its own.
fn make_comparable(trial: &Trial, place: &mut Place) {
    if !trial.keeps_every_turn() {
        place.position = place.position.map(|_| Position::default());
        place.starts_before = 0;
    }
}

/// Returns the jobs on all pages of a list.
async fn every_page(
    store: &dyn Store,
    numbers: &Numbers,
    filter: &Filter,
    size: usize,
) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let listing = done("list", store.list(filter, Page { size, after }).await);
        jobs.extend(listing.jobs.into_iter().map(|job| numbers.plain_job(job)));
        match listing.next {
            None => return jobs,
            next => after = next,
        }
    }
}
