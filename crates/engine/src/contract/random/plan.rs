//! Changes that are planned once and made of two stores, each under its own claim numbers.

use super::numbers::Numbers;
use crate::contract::trial::{name, priority};
use crate::store::{Change, Overdue, OverdueReason};
use anteroom_core::{
    Amendment, ClaimNumber, Event, Failure, FailureKind, Fingerprint, HandBack, Job, JobId,
    LogStream, Name, Payload, Progress, Report, Reports, Retry, Timestamp,
};
use fastrand::Rng;
use std::time::Duration;

/// What happens to a job, once it is known under which number a store knows the claim.
pub(super) type EventOfClaim = Box<dyn Fn(ClaimNumber) -> Event + Send + Sync>;

/// A change before either store's claim numbers are put in: the event is made of a claim.
pub(super) struct Plan {
    pub(super) id: JobId,
    /// When the claim was drawn that it speaks for.
    pub(super) when: u64,
    pub(super) event: EventOfClaim,
    pub(super) result: Option<Payload>,
    pub(super) if_version: Option<u64>,
    pub(super) reports: Reports,
    pub(super) settle: Option<Fingerprint>,
}

impl Plan {
    pub(super) fn change(&self, numbers: &Numbers) -> Change {
        Change {
            id: self.id,
            event: (self.event)(numbers.at(self.when)),
            result: self.result.clone(),
            if_version: self.if_version,
            reports: self.reports.clone(),
            settle: self.settle,
        }
    }
}

pub(super) fn random_span(random: &mut Rng) -> Duration {
    Duration::from_millis(random.u64(0..20_000))
}

pub(super) fn random_event(
    random: &mut Rng,
    kind: u8,
    span: Duration,
    until: Timestamp,
    queues: &[Name; 3],
) -> EventOfClaim {
    let hand_back = if random.bool() {
        HandBack::Drain
    } else {
        HandBack::Busy
    };
    let failure_kind = FailureKind::ALL[random.usize(0..FailureKind::ALL.len())];
    let retry = match random.u8(0..4) {
        0 => Retry::Never,
        _ => Retry::In(span),
    };
    let amendment = Box::new(random_amendment(random, until, queues));
    Box::new(move |claim| match kind {
        0..3 => Event::Succeeded { claim },
        3..5 => Event::Failed {
            claim,
            failure: Failure::new(failure_kind, format!("it said {failure_kind}")),
            retry,
        },
        5 => Event::Released {
            claim,
            hand_back,
            delay: span,
        },
        6 => Event::Extended {
            claim,
            lease_expires_at: until,
        },
        7 => Event::LeaseExpired {
            claim,
            retry_in: span,
            is_timeout: matches!(retry, Retry::Never),
        },
        8 => Event::WorkerCrashed {
            claim,
            retry_in: span,
        },
        9 => Event::CancelRequested,
        10 => Event::RetryRequested,
        11 => Event::DeadlinePassed,
        12 | 13 => Event::Amended {
            amendment: amendment.clone(),
        },
        _ => Event::Reported { claim },
    })
}

/// Returns what an attempt says: mostly little, now and then more than is kept.
pub(super) fn random_reports(random: &mut Rng) -> Reports {
    let (count, bytes) = match random.u8(0..40) {
        0 => (random.usize(900..2_100), 8),
        1 => (random.usize(20..60), 8_000),
        _ => (random.usize(0..4), 40),
    };
    let report = |_| {
        let text = "x".repeat(random.usize(0..bytes));
        let fraction = random.bool().then(|| random.f64());
        match Progress::new(fraction, Some(text.clone())) {
            Some(progress) if random.bool() => Report::Progress(progress),
            Some(_) | None => Report::log(LogStream::ALL[random.usize(0..2)], text),
        }
    };
    Reports {
        list: (0..count).map(report).collect(),
        skipped: if random.u8(0..9) == 0 {
            random.u64(0..1_500)
        } else {
            0
        },
    }
}

fn random_amendment(random: &mut Rng, until: Timestamp, queues: &[Name; 3]) -> Amendment {
    let run_at = match random.u8(0..4) {
        0 => Some(until),
        1 => Some(until.before(Duration::from_mins(1))),
        _ => None,
    };
    let number = random.i64(4..=6);
    let queue = &queues[random.usize(0..3)];
    let value = random.u8(0..3).to_string();
    let tags = [(name("tag"), value)].into_iter();
    let tags = tags.take(random.usize(0..2)).collect();
    Amendment {
        run_at,
        priority: random.bool().then(|| priority(number)),
        queue: random.bool().then(|| queue.clone()),
        tags: random.bool().then_some(tags),
    }
}

/// Deals with an overdue job as upkeep does. Claims are told by when they were drawn.
pub(super) fn rescue(overdue: &Overdue, retry_in: Duration) -> Plan {
    let (when, event): (u64, EventOfClaim) = match overdue.reason {
        OverdueReason::Lease(when) | OverdueReason::Timeout(when) => {
            let is_timeout = matches!(overdue.reason, OverdueReason::Timeout(_));
            let event = move |claim| Event::LeaseExpired {
                claim,
                retry_in,
                is_timeout,
            };
            (when.get(), Box::new(event))
        }
        OverdueReason::Process(when) => (
            when.get(),
            Box::new(move |claim| Event::WorkerCrashed { claim, retry_in }),
        ),
        OverdueReason::Deadline => (0, Box::new(|_| Event::DeadlinePassed)),
    };
    Plan {
        id: overdue.id,
        when,
        event,
        result: None,
        if_version: None,
        reports: Reports::default(),
        settle: None,
    }
}

/// Takes a running job from its worker, lease good or not.
pub(super) fn give_up(job: &Job, now: Timestamp) -> Plan {
    let is_over = job.status.lease_expires_at <= now;
    Plan {
        id: job.spec.id,
        when: job.status.claim.get(),
        event: Box::new(move |claim| {
            if is_over {
                Event::LeaseExpired {
                    claim,
                    retry_in: Duration::ZERO,
                    is_timeout: false,
                }
            } else {
                Event::Released {
                    claim,
                    hand_back: HandBack::Drain,
                    delay: Duration::ZERO,
                }
            }
        }),
        result: None,
        if_version: None,
        reports: Reports::default(),
        settle: None,
    }
}
