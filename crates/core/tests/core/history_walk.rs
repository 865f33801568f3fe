//! The history of every job that can come about within a bound: what is told from where a job
//! stands is what was seen to happen, for as long as that is said to be so.

use crate::harness::{at, claimed, failed, reported, ticks};
use anteroom_core::history::{came_due, entered, stays_straight, straight, submitted};
use anteroom_core::{
    Event, EventId, HandBack, Lease, Retry, State, StateEvent, Status, Timestamp, transition,
};

/// Changes that are followed: two attempts and a retry fit.
const CHANGES_MAX: usize = 6;
/// The last instant of the walk's clock, which begins at 0.
const TICK_MAX: i64 = 3;

/// A job, and all that was seen to happen to it.
#[derive(Clone)]
struct Life {
    status: Status,
    now: Timestamp,
    reports: u64,
    seen: Vec<StateEvent>,
    is_straight: bool,
}

impl Life {
    /// Looks at the clock, as a reader does.
    fn look(&mut self) {
        if let Some(last) = self.seen.last()
            && let Some(passage) = came_due(*last, &self.status, self.now)
        {
            self.seen.push(passage);
        }
    }

    fn after(&self, event: &Event) -> Option<Self> {
        let next = transition(&self.status, event, self.now).ok()?;
        let mut life = self.clone();
        if matches!(event, Event::Reported { .. }) {
            life.reports += 2;
        }
        life.is_straight &= stays_straight(&self.status, &next.status);
        let change = entered(&self.status, &next.status, life.reports, self.now);
        life.seen.extend(change);
        life.status = next.status;
        Some(life)
    }

    fn check(&self) {
        let seen = &self.seen;
        let ids: Vec<EventId> = seen.iter().map(|event| event.id).collect();
        assert!(ids.is_sorted_by(|one, next| one < next), "{seen:#?}");
        let last = seen.last().expect("it was submitted");
        assert_eq!(last.state, self.status.shown(self.now), "{seen:#?}");
        let told = straight(at(0), &self.status, self.reports, self.now);
        if self.is_straight {
            assert_eq!(told, *seen, "{:#?}", self.status);
        }
    }
}

#[test]
fn what_is_told_of_a_job_is_what_happened_to_it() {
    let (mut straight_ends, mut others, mut lives) = (0, 0, 0);
    for run_at in [0, 2] {
        let status = Status::submitted(at(run_at), Some(at(2)), 2);
        let mut next_up = vec![(
            Life {
                status,
                now: at(0),
                reports: 0,
                seen: vec![submitted(at(0), &status)],
                is_straight: true,
            },
            0,
        )];
        while let Some((mut life, changes)) = next_up.pop() {
            life.look();
            life.check();
            lives += 1;
            if life.status.state.is_final() {
                straight_ends += usize::from(life.is_straight);
            }
            others += usize::from(!life.is_straight);
            if life.now < at(TICK_MAX) {
                let mut later = life.clone();
                later.now = life.now.after(ticks(1));
                next_up.push((later, changes));
            }
            if changes < CHANGES_MAX {
                let next = events(&life.status).into_iter();
                let next = next.filter_map(|event| life.after(&event));
                next_up.extend(next.map(|life| (life, changes + 1)));
            }
        }
    }
    println!("{lives} lives, {others} not straight; {straight_ends} straight to an end");
    assert!(straight_ends > 100 && others > 1_000, "the walk gets about");
}

fn events(status: &Status) -> Vec<Event> {
    let claim = status.claim;
    match status.state {
        State::Waiting => vec![
            claimed(claim.next(), Lease::Node, 9),
            Event::CancelRequested,
            Event::RetryRequested,
            Event::DeadlinePassed,
        ],
        State::Running => vec![
            reported(claim),
            Event::CancelRequested,
            Event::Succeeded { claim },
            failed(claim, Retry::In(ticks(0))),
            failed(claim, Retry::In(ticks(1))),
            Event::Released {
                claim,
                hand_back: HandBack::Drain,
                delay: ticks(0),
            },
        ],
        State::Succeeded | State::Failed | State::Cancelled => vec![Event::RetryRequested],
    }
}
