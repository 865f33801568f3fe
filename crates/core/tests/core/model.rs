//! A model of claim, fence, retry, hand-back, cancel and crash, explored in full.
//!
//! Two workers share one job of three attempts. They may be as late as they like, send what they
//! have to say any number of times, and die at any moment; a lease may run out and a node may be
//! taken for dead at any moment too, rightly or not. What the job becomes is decided by the real
//! [`transition`]. Broken twins of it must be caught, so that the model is known to see faults.
//!
//! Bounds: of each worker the latest message stays on its way (for ever), an earlier one is lost;
//! claims are told apart by their order only; one hand-back is free instead of a hundred.

use crate::harness::{at, moved_to, ticks};
use anteroom_core::limits::HAND_BACKS_FREE;
use anteroom_core::{
    ClaimNumber, Event, Failure, FailureKind, HandBack, Lease, Next, Rejected, Retry, State,
    Status, Timestamp, transition,
};
use search::explore;
use std::fmt;

mod search;

const MAX_ATTEMPTS: u32 = 3;
/// The length of a lease. While it is good the time is 0; once it ran out the time is this.
const LEASE: i64 = 10;
/// Hand-backs that every job is given to begin with, so that one is left free.
const HAND_BACKS_BEFORE: u32 = HAND_BACKS_FREE - 1;

/// What decides: [`transition`], or a broken twin.
type Decide = fn(&Status, &Event, Timestamp) -> Result<Next, Rejected>;

/// The job, all that is said about it, and what an onlooker knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct World {
    status: Status,
    lease_ran_out: bool,
    workers: [Worker; 2],
    /// The onlooker's: the claim that was given out and has not come to an end.
    open: Option<ClaimNumber>,
    /// The onlooker's: attempts begun since the job was submitted or retried by a person, those
    /// taken off that were handed back for free.
    begun: u32,
    /// The onlooker's: a result was accepted.
    has_result: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Worker {
    /// What it works on.
    held: Option<ClaimNumber>,
    /// What it said last. It may arrive at any time, any number of times.
    said: Option<(ClaimNumber, End)>,
}

/// What a worker says of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Succeeded,
    Failed,
    FailedForGood,
    HandedBack,
    Drained,
}

/// Something that may happen. Workers are numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Claim(usize),
    Extend(usize),
    Report(usize),
    Say(usize, End),
    Arrive(usize),
    Crash(usize),
    LeaseRunsOut,
    TakeBack,
    TakeForDead,
    ComeDue,
    Cancel,
    Retry,
    /// An owner moves the start: `true`, ahead.
    Amend(bool),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(worker) => write!(f, "worker {worker} claims"),
            Self::Extend(worker) => write!(f, "worker {worker} extends"),
            Self::Report(worker) => write!(f, "worker {worker} reports"),
            Self::Say(worker, end) => write!(f, "worker {worker} says {end:?}"),
            Self::Arrive(worker) => write!(f, "what worker {worker} said arrives"),
            Self::Crash(worker) => write!(f, "worker {worker} dies"),
            Self::LeaseRunsOut => f.write_str("the lease runs out"),
            Self::TakeBack => f.write_str("the job is taken back"),
            Self::TakeForDead => f.write_str("the holder is taken for dead"),
            Self::ComeDue => f.write_str("the job comes due"),
            Self::Cancel => f.write_str("a person cancels"),
            Self::Retry => f.write_str("a person retries"),
            Self::Amend(true) => f.write_str("the owner puts it off"),
            Self::Amend(false) => f.write_str("the owner has it start now"),
        }
    }
}

impl World {
    fn new() -> Self {
        let submitted = Status::submitted(at(0), None, MAX_ATTEMPTS);
        Self {
            status: submitted,
            lease_ran_out: false,
            workers: [Worker::default(); 2],
            open: None,
            begun: 0,
            has_result: false,
        }
        .canonical()
    }

    fn now(&self) -> Timestamp {
        at(if self.lease_ran_out { LEASE } else { 0 })
    }

    /// All that anybody may do or meet with.
    fn actions(&self) -> Vec<Action> {
        let mut actions = vec![Action::Cancel, Action::Retry];
        match self.status.state {
            State::Waiting if self.status.run_at > at(0) => actions.push(Action::ComeDue),
            State::Running if self.lease_ran_out => {
                actions.extend([Action::TakeBack, Action::TakeForDead]);
            }
            State::Running => actions.extend([Action::LeaseRunsOut, Action::TakeForDead]),
            State::Waiting | State::Succeeded | State::Failed | State::Cancelled => {}
        }
        for (number, worker) in self.workers.iter().enumerate() {
            if worker.said.is_some() {
                actions.push(Action::Arrive(number));
            }
            if worker.held.is_none() {
                actions.push(Action::Claim(number));
                continue;
            }
            actions.extend([
                Action::Extend(number),
                Action::Report(number),
                Action::Crash(number),
            ]);
            for end in [
                End::Succeeded,
                End::Failed,
                End::FailedForGood,
                End::HandedBack,
                End::Drained,
            ] {
                actions.push(Action::Say(number, end));
            }
        }
        actions.extend([Action::Amend(true), Action::Amend(false)]);
        actions
    }

    /// Lets `action` happen; none where it changes nothing.
    fn after(
        &self,
        action: Action,
        leases: [Lease; 2],
        decide: Decide,
    ) -> Result<Option<Self>, &'static str> {
        let mut world = *self;
        match action {
            Action::Say(number, end) => {
                let worker = &mut world.workers[number];
                worker.said = worker.held.take().map(|claim| (claim, end));
            }
            Action::Crash(number) => world.workers[number].held = None,
            Action::LeaseRunsOut => world.lease_ran_out = true,
            Action::ComeDue => world.status.run_at = at(0),
            Action::Claim(_)
            | Action::Extend(_)
            | Action::Report(_)
            | Action::Arrive(_)
            | Action::TakeBack
            | Action::TakeForDead
            | Action::Cancel
            | Action::Retry
            | Action::Amend(_) => {
                let Some(event) = self.event(action, leases) else {
                    return Ok(None);
                };
                let Ok(next) = decide(&self.status, &event, self.now()) else {
                    return Ok(None);
                };
                world.status = next.status;
                world.lease_ran_out &= next.status.lease_expires_at <= self.now();
                world.look_on(self, &event)?;
                if let (Action::Claim(number), Event::Claimed { claim, .. }) = (action, &event) {
                    world.workers[number].held = Some(*claim);
                }
            }
        }
        let world = world.canonical();
        Ok((world != *self).then_some(world))
    }

    /// What the store is told.
    fn event(&self, action: Action, leases: [Lease; 2]) -> Option<Event> {
        let retry_in = ticks(1);
        let current = self.status.claim;
        let lease_expires_at = self.now().after(ticks(LEASE.unsigned_abs()));
        Some(match action {
            Action::Claim(number) => Event::Claimed {
                claim: self.claims().max()?.next(),
                lease: leases[number],
                lease_expires_at,
            },
            Action::Extend(number) => Event::Extended {
                claim: self.workers[number].held?,
                lease_expires_at,
            },
            Action::Report(number) => Event::Reported {
                claim: self.workers[number].held?,
            },
            Action::Arrive(number) => {
                let (claim, end) = self.workers[number].said?;
                end.event(claim)
            }
            Action::TakeBack => Event::LeaseExpired {
                claim: current,
                retry_in,
                is_timeout: false,
            },
            Action::TakeForDead => Event::WorkerCrashed {
                claim: current,
                retry_in,
            },
            Action::Cancel => Event::CancelRequested,
            Action::Retry => Event::RetryRequested,
            Action::Amend(true) => moved_to(self.now().as_millis() + 1),
            Action::Amend(false) => moved_to(self.now().as_millis()),
            Action::Say(..) | Action::Crash(_) | Action::LeaseRunsOut | Action::ComeDue => {
                return None;
            }
        })
    }

    /// Notes what was accepted, and says what rule it broke.
    fn look_on(&mut self, before: &Self, event: &Event) -> Result<(), &'static str> {
        match event {
            Event::Claimed { claim, .. } => {
                if before.status.state.is_final() {
                    return Err("an attempt begins after the end");
                }
                if self.open.replace(*claim).is_some() {
                    return Err("two workers have a valid claim at once");
                }
                self.begun += 1;
            }
            Event::Succeeded { claim }
            | Event::Failed { claim, .. }
            | Event::Released { claim, .. }
            | Event::LeaseExpired { claim, .. }
            | Event::WorkerCrashed { claim, .. } => {
                if self.open != Some(*claim) {
                    return Err("a claim comes to two ends");
                }
                self.open = None;
            }
            Event::Reported { claim } => {
                if self.open != Some(*claim) {
                    return Err("a worker without the claim is heard");
                }
            }
            Event::RetryRequested => self.begun = 0,
            Event::Amended { .. } if before.open.is_some() => {
                return Err("a job is amended under a valid claim");
            }
            Event::Extended { .. }
            | Event::CancelRequested
            | Event::DeadlinePassed
            | Event::Amended { .. } => {}
        }
        match event {
            Event::Succeeded { .. } if self.has_result => return Err("the result changes"),
            Event::Succeeded { .. } => self.has_result = true,
            Event::Released { hand_back, .. } => {
                let is_free = before.status.hand_backs < HAND_BACKS_FREE;
                self.begun -= u32::from(is_free || *hand_back == HandBack::Drain);
            }
            Event::Claimed { .. }
            | Event::Extended { .. }
            | Event::Reported { .. }
            | Event::Failed { .. }
            | Event::LeaseExpired { .. }
            | Event::WorkerCrashed { .. }
            | Event::CancelRequested
            | Event::RetryRequested
            | Event::Amended { .. }
            | Event::DeadlinePassed => {}
        }
        self.check()
    }

    /// What must hold after every change.
    fn check(&self) -> Result<(), &'static str> {
        let state = self.status.state;
        let is_running = state == State::Running;
        if self.has_result && state != State::Succeeded {
            return Err("the job goes on after it succeeded");
        }
        if self.open.is_some() && !is_running {
            return Err("the job is validly claimed and not running");
        }
        if is_running && self.open != Some(self.status.claim) {
            return Err("the job is running under a claim that came to its end");
        }
        if self.status.attempt > MAX_ATTEMPTS || self.begun > MAX_ATTEMPTS {
            return Err("more attempts begin than the job may have");
        }
        Ok(())
    }

    /// Every claim that anybody can still name.
    fn claims(&self) -> impl Iterator<Item = ClaimNumber> {
        let [first, second] = self.workers;
        [
            Some(ClaimNumber::NONE),
            Some(self.status.claim),
            self.open,
            first.held,
            second.held,
            first.said.map(|(claim, _)| claim),
            second.said.map(|(claim, _)| claim),
        ]
        .into_iter()
        .flatten()
    }

    /// Leaves out what makes no difference to what may follow: the time, the version, and by how
    /// much claims differ.
    fn canonical(mut self) -> Self {
        // One bit for each claim: there are never more than eight.
        let known = self
            .claims()
            .fold(0_u64, |bits, claim| bits | (1 << claim.get()));
        let rank = |claim: ClaimNumber| {
            let below = known & ((1 << claim.get()) - 1);
            ClaimNumber::new(below.count_ones().into())
        };
        let now = self.now();
        let status = &mut self.status;
        let is_running = status.state == State::Running;
        let is_ahead = status.state == State::Waiting && status.run_at > now;
        status.version = 1;
        status.claim = rank(status.claim);
        status.run_at = at(i64::from(is_ahead));
        status.lease_expires_at = at(LEASE);
        if !is_running {
            status.lease = Lease::Node;
        }
        status.started_at = status.started_at.map(|_| at(0));
        status.finished_at = status.finished_at.map(|_| at(0));
        status.hand_backs = status.hand_backs.clamp(HAND_BACKS_BEFORE, HAND_BACKS_FREE);
        self.lease_ran_out &= is_running;
        self.open = self.open.map(rank);
        for worker in &mut self.workers {
            worker.held = worker.held.map(rank);
            worker.said = worker.said.map(|(claim, end)| (rank(claim), end));
        }
        self
    }
}

impl End {
    fn event(self, claim: ClaimNumber) -> Event {
        let failed = |retry| Event::Failed {
            claim,
            failure: Failure::new(FailureKind::Error, ""),
            retry,
        };
        let released = |hand_back| Event::Released {
            claim,
            hand_back,
            delay: ticks(1),
        };
        match self {
            Self::Succeeded => Event::Succeeded { claim },
            Self::Failed => failed(Retry::In(ticks(1))),
            Self::FailedForGood => failed(Retry::Never),
            Self::HandedBack => released(HandBack::Busy),
            Self::Drained => released(HandBack::Drain),
        }
    }
}

#[test]
fn two_late_workers_cannot_break_the_promise() {
    for leases in [
        [Lease::Node, Lease::Node],
        [Lease::Node, Lease::Pulled],
        [Lease::Pulled, Lease::Pulled],
    ] {
        match explore(leases, transition) {
            Ok((worlds, steps)) => println!("{leases:?}: {worlds} states, {steps} steps"),
            Err(fault) => panic!("{leases:?}: {fault}"),
        }
    }
}

/// Explores a broken twin, and checks that the fault is found, by as few steps as can be.
fn assert_caught(twin: Decide, rule: &str, path: &[&str]) {
    match explore([Lease::Node, Lease::Node], twin) {
        Ok((worlds, _)) => panic!("not caught in {worlds} states: {rule}"),
        Err(fault) => {
            println!("{fault}");
            assert_eq!(fault.rule, rule, "{fault}");
            assert_eq!(fault.path, path, "{fault}");
        }
    }
}

/// The twin's settle asks only whether the job is running, not under which claim.
#[test]
fn a_fence_that_only_asks_whether_the_job_runs_is_caught() {
    fn twin(status: &Status, event: &Event, now: Timestamp) -> Result<Next, Rejected> {
        let mut event = event.clone();
        if let Event::Succeeded { claim }
        | Event::Failed { claim, .. }
        | Event::Released { claim, .. } = &mut event
        {
            *claim = status.claim;
        }
        transition(status, &event, now)
    }
    assert_caught(
        twin,
        "a claim comes to two ends",
        &[
            "worker 0 claims",
            "the holder is taken for dead",
            "a person retries",
            "worker 0 says Succeeded",
            "worker 0 claims",
            "what worker 0 said arrives",
        ],
    );
}

/// The twin takes what a worker reports from anybody, while the job runs.
#[test]
fn reports_without_a_fence_are_caught() {
    fn twin(status: &Status, event: &Event, now: Timestamp) -> Result<Next, Rejected> {
        let mut event = event.clone();
        if let Event::Reported { claim } = &mut event {
            *claim = status.claim;
        }
        transition(status, &event, now)
    }
    assert_caught(
        twin,
        "a worker without the claim is heard",
        &[
            "worker 0 claims",
            "the holder is taken for dead",
            "a person retries",
            "worker 1 claims",
            "worker 0 reports",
        ],
    );
}

/// The twin's settle asks only whether there is a result yet.
#[test]
fn a_settle_that_only_asks_for_a_result_is_caught() {
    fn twin(status: &Status, event: &Event, now: Timestamp) -> Result<Next, Rejected> {
        let (Event::Succeeded { claim }
        | Event::Failed { claim, .. }
        | Event::Released { claim, .. }) = event
        else {
            return transition(status, event, now);
        };
        if status.state == State::Succeeded {
            return Err(Rejected::AlreadySucceeded);
        }
        let as_if = Status {
            state: State::Running,
            claim: *claim,
            ..*status
        };
        let mut next = transition(&as_if, event, now)?;
        next.status.claim = status.claim;
        Ok(next)
    }
    assert_caught(
        twin,
        "a claim comes to two ends",
        &[
            "worker 0 claims",
            "the holder is taken for dead",
            "worker 0 says Succeeded",
            "what worker 0 said arrives",
        ],
    );
}

/// The twin's claim does not look at where the job stands.
#[test]
fn a_claim_that_does_not_look_is_caught() {
    fn twin(status: &Status, event: &Event, now: Timestamp) -> Result<Next, Rejected> {
        let as_if = Status {
            state: State::Waiting,
            finished_at: None,
            ..*status
        };
        match event {
            Event::Claimed { .. } => transition(&as_if, event, now),
            _ => transition(status, event, now),
        }
    }
    assert_caught(
        twin,
        "an attempt begins after the end",
        &["a person cancels", "worker 0 claims"],
    );
}

/// The twin's claim refuses what has ended and takes what somebody is running.
#[test]
fn a_claim_of_a_running_job_is_caught() {
    fn twin(status: &Status, event: &Event, now: Timestamp) -> Result<Next, Rejected> {
        let mut as_if = *status;
        if matches!(event, Event::Claimed { .. }) && status.state == State::Running {
            as_if.state = State::Waiting;
        }
        transition(&as_if, event, now)
    }
    assert_caught(
        twin,
        "two workers have a valid claim at once",
        &["worker 0 claims", "worker 1 claims"],
    );
}

/// The twin's retry takes jobs that have a result.
#[test]
fn a_retry_of_a_success_is_caught() {
    fn twin(status: &Status, event: &Event, now: Timestamp) -> Result<Next, Rejected> {
        let mut as_if = *status;
        if *event == Event::RetryRequested && status.state == State::Succeeded {
            as_if.state = State::Failed;
        }
        transition(&as_if, event, now)
    }
    assert_caught(
        twin,
        "the job goes on after it succeeded",
        &[
            "worker 0 claims",
            "worker 0 says Succeeded",
            "what worker 0 said arrives",
            "a person retries",
        ],
    );
}

/// The twin's amendment does not look whether somebody is at work, and moves the job back among
/// those that wait.
#[test]
fn an_amendment_of_a_running_job_is_caught() {
    fn twin(status: &Status, event: &Event, now: Timestamp) -> Result<Next, Rejected> {
        let mut as_if = *status;
        if matches!(event, Event::Amended { .. }) && status.state == State::Running {
            as_if.state = State::Waiting;
        }
        transition(&as_if, event, now)
    }
    assert_caught(
        twin,
        "a job is amended under a valid claim",
        &["worker 0 claims", "the owner puts it off"],
    );
}

/// The twin gives back the attempt that a crash cut short, so that a job that kills its process
/// is begun for ever.
#[test]
fn a_crash_that_costs_no_attempt_is_caught() {
    fn twin(status: &Status, event: &Event, now: Timestamp) -> Result<Next, Rejected> {
        let mut next = transition(status, event, now)?;
        if matches!(event, Event::WorkerCrashed { .. }) && !next.status.state.is_final() {
            next.status.attempt -= 1;
        }
        Ok(next)
    }
    assert_caught(
        twin,
        "more attempts begin than the job may have",
        &[
            "worker 0 claims",
            "the holder is taken for dead",
            "the job comes due",
            "worker 0 dies",
            "worker 0 claims",
            "the holder is taken for dead",
            "the job comes due",
            "worker 0 dies",
            "worker 0 claims",
            "the holder is taken for dead",
            "the job comes due",
            "worker 1 claims",
        ],
    );
}

/// The twin never takes a job back.
#[test]
fn a_rescue_that_never_comes_is_caught() {
    fn twin(status: &Status, event: &Event, now: Timestamp) -> Result<Next, Rejected> {
        match event {
            Event::LeaseExpired { .. } | Event::WorkerCrashed { .. } => Err(Rejected::NotYet),
            _ => transition(status, event, now),
        }
    }
    assert_caught(
        twin,
        "no end can be reached without a person",
        &["worker 0 claims", "worker 0 dies"],
    );
}
