//! Each event of right histories dropped, doubled, or swapped with the next one of its job.
//!
//! What each mutation amounts to stands in the three tables `dropped`, `doubled` and `swapped`:
//! the rules that it breaks, one of which the checker has to name, or why it breaks none, in
//! which case the checker has to say that the history is right.

use crate::world::{Entry, History, check, history};
use anteroom_faults::history::{Bounds, Ended, Event, Rule, Seen};
use std::collections::BTreeMap;

const SEEDS: [u64; 4] = [8, 9, 11, 20_261_123];
const JOBS_OF_EACH_KIND: u64 = 6;

/// What a mutation amounts to.
#[derive(Debug)]
enum Amounts {
    /// One of these rules is broken.
    Breaks(&'static [Rule]),
    /// Nothing is broken, for this reason.
    Nothing(&'static str),
}

use Amounts::{Breaks, Nothing};

#[test]
fn a_right_history_breaks_no_rule() {
    for seed in 0..40 {
        let report = check(&history(seed, 10), &Bounds::default());
        assert!(report.is_clean(), "seed {seed}: {report}");
        assert!(report.restarts > 0 && report.appeared > 0, "{report}");
    }
}

#[test]
fn a_dropped_event_is_caught_or_changes_nothing() {
    each_event(|right, at| {
        let mut wrong = right.clone();
        wrong.remove(at);
        Some((wrong, dropped(right, at)))
    });
}

#[test]
fn a_doubled_event_is_caught_or_changes_nothing() {
    each_event(|right, at| {
        let mut wrong = right.clone();
        let mut twin = wrong[at].clone();
        twin.at_us += 1;
        wrong.insert(at + 1, twin);
        Some((wrong, doubled(&right[at].event)))
    });
}

#[test]
fn events_of_a_job_that_are_swapped_are_caught_or_change_nothing() {
    each_event(|right, at| {
        let id = job(right, &right[at])?;
        let next = (at + 1..right.len()).find(|next| job(right, &right[*next]) == Some(id))?;
        let mut wrong = right.clone();
        swap(&mut wrong, at, next);
        Some((wrong, swapped(right, at, next)))
    });
}

#[test]
fn a_kill_moved_over_an_event_is_caught_or_changes_nothing() {
    each_event(|right, at| {
        let is_kill = matches!(right[at].event, Event::Fault { .. });
        let restarted = is_kill.then(|| restarted_after(right, at))?;
        // To where the first attempt that it explains has begun already again.
        let mut wrong = right.clone();
        let Some(next) = restarted else {
            wrong.remove(at);
            return Some((wrong, Nothing("no attempt was running")));
        };
        let mut kill = wrong.remove(at);
        kill.at_us = wrong[next - 1].at_us + 1;
        wrong.insert(next, kill);
        Some((wrong, Breaks(&[Rule::Alone])))
    });
}

#[test]
fn a_line_that_is_missing_from_a_party_is_noticed_whatever_it_said() {
    use anteroom_faults::history::check::Checker;
    use anteroom_faults::history::merge::Placed;
    let lines: Vec<_> = crate::world::numbered(&history(SEEDS[0], 2)).collect();
    for at in 0..lines.len() {
        let last_of_party = !lines[at + 1..]
            .iter()
            .any(|line| line.party == lines[at].party);
        if last_of_party {
            continue;
        }
        let mut checker = Checker::new(Bounds::default());
        for (_, line) in lines.iter().enumerate().filter(|(index, _)| *index != at) {
            checker.take(&Placed {
                line: line.clone(),
                place: String::new(),
            });
        }
        let report = checker.finish();
        assert!(report.count(Rule::Ordered) > 0, "without {:?}", lines[at]);
    }
}

/// Mutates each event of each history and compares with what the mutation amounts to.
fn each_event(mutate: impl Fn(&History, usize) -> Option<(History, Amounts)>) {
    let mut tally: BTreeMap<String, usize> = BTreeMap::new();
    for seed in SEEDS {
        let right = history(seed, JOBS_OF_EACH_KIND);
        for at in 0..right.len() {
            let Some((wrong, amounts)) = mutate(&right, at) else {
                continue;
            };
            let report = check(&wrong, &Bounds::default());
            match amounts {
                Breaks(rules) => {
                    let caught = rules.iter().find(|rule| report.count(**rule) > 0);
                    let caught = caught.unwrap_or_else(|| {
                        panic!("seed {seed}: {:?}: not {rules:?}: {report}", right[at])
                    });
                    *tally.entry(format!("caught as {caught}")).or_default() += 1;
                }
                Nothing(why) => {
                    assert!(
                        report.is_clean(),
                        "seed {seed}: {:?}: {why}: {report}",
                        right[at]
                    );
                    *tally.entry(format!("equivalent: {why}")).or_default() += 1;
                }
            }
        }
    }
    assert!(!tally.is_empty());
    println!("{tally:#?}");
}

fn dropped(right: &History, at: usize) -> Amounts {
    let entry = &right[at];
    match &entry.event {
        Event::Submit(_) => Breaks(&[Rule::Ordered]),
        Event::Ack { .. } | Event::Refused { .. } | Event::Unknown { .. } => {
            Nothing("a submit without an answer may appear or not")
        }
        Event::Get(read) if !read.state.is_final() && read.state != Seen::Gone => {
            Nothing("nobody has to look")
        }
        Event::Get(_) | Event::CancelReply { .. } if was_retried_after(right, at) => {
            Nothing("the job was retried after this end")
        }
        Event::Get(_) | Event::CancelReply { .. } if final_answers(right, at) > 1 => {
            Nothing("the end was seen by another answer too")
        }
        Event::Get(_) | Event::CancelReply { .. } => Breaks(&[Rule::Kept]),
        Event::CancelRequest { .. } => Breaks(&[Rule::Ordered]),
        Event::RetryRequest { .. } => Breaks(&[Rule::Constant, Rule::Cancelled]),
        Event::Start { claim, .. } if ends(right, *claim).is_none() => {
            Nothing("the attempt was killed and left no trace")
        }
        Event::Start { .. } => Breaks(&[Rule::Produced]),
        Event::End { claim, outcome, .. } => match (outcome, settles(right, *claim)) {
            (_, None) => Nothing("the attempt was killed before its end was stored"),
            (Ended::Succeeded, Some(_)) => Breaks(&[Rule::Produced]),
            (Ended::Failed | Ended::Stopped, Some(_)) => end_was_needed(right, at),
        },
        Event::Settle { .. } => Nothing("servers need not write any"),
        Event::Fault { .. } => match restarted_after(right, at) {
            Some(_) => Breaks(&[Rule::Alone]),
            None => Nothing("no attempt was running"),
        },
        Event::Overload { .. } => Nothing("there is no capacity in these bounds"),
    }
}

fn doubled(event: &Event) -> Amounts {
    match event {
        Event::Submit(_) | Event::Ack { .. } | Event::Refused { .. } | Event::Unknown { .. } => {
            Breaks(&[Rule::Ordered])
        }
        Event::CancelReply { .. } => Breaks(&[Rule::Ordered]),
        Event::Start { .. } | Event::End { .. } => Breaks(&[Rule::Fenced]),
        Event::Settle {
            succeeded: true, ..
        } => Breaks(&[Rule::Fenced]),
        Event::Settle { .. } => Nothing("a repeated settle of a failure is answered alike"),
        Event::Get(_) => Nothing("a second look sees the same"),
        Event::CancelRequest { .. } | Event::RetryRequest { .. } => {
            Nothing("an order may be given twice")
        }
        Event::Fault { .. } | Event::Overload { .. } => Nothing("a fault may come twice"),
    }
}

/// `x` was before `y`, and now `y` comes first.
fn swapped(right: &History, x: usize, y: usize) -> Amounts {
    use Event::{
        Ack, CancelReply, CancelRequest, End, Get, Refused, RetryRequest, Settle, Start, Submit,
        Unknown,
    };
    match (&right[x].event, &right[y].event) {
        (Submit(_), Ack { .. } | Refused { .. } | Unknown { .. }) => Breaks(&[Rule::Ordered]),
        (CancelRequest { .. }, CancelReply { .. }) => Breaks(&[Rule::Ordered]),
        (Start { claim, .. }, End { claim: ended, .. }) if claim == ended => {
            Breaks(&[Rule::Produced])
        }
        (Start { .. }, Start { .. }) => Breaks(&[Rule::Fenced]),
        (_, Start { .. }) if needed_the_kill_between(right, x, y) => Breaks(&[Rule::Alone]),
        (End { .. }, Settle { succeeded, .. }) => match succeeded {
            true => Breaks(&[Rule::Produced]),
            false => Nothing("a failure needs no end to be believed"),
        },
        (Settle { .. }, Start { .. }) => Breaks(&[Rule::Fenced]),
        (End { outcome, .. }, Start { .. }) if *outcome != Ended::Succeeded => {
            end_was_needed(right, x)
        }
        (Get(first), Get(second)) if first.state != second.state => Breaks(&[Rule::Constant]),
        (Get(read), RetryRequest { .. }) if read.state.is_final() => Breaks(&[Rule::Constant]),
        (CancelReply { .. }, RetryRequest { .. }) => Breaks(&[Rule::Cancelled, Rule::Constant]),
        (RetryRequest { .. }, Start { .. }) => Breaks(&[Rule::Constant, Rule::Cancelled]),
        (Get(read), Start { .. }) if read.state == Seen::Scheduled && read.attempt == Some(0) => {
            Breaks(&[Rule::NeverEarly])
        }
        (Get(read), Start { .. }) if !read.state.is_final() => {
            if is_kill_between(right, x, y) {
                Nothing("the kill may have undone the start")
            } else {
                Breaks(&[Rule::Constant])
            }
        }
        (_, Get(read)) if read.state == Seen::Gone => Breaks(&[Rule::Kept]),
        _ => Nothing("what the two say does not depend on their order"),
    }
}

/// Whether the next start of the job would overlap with this attempt, had it not ended.
fn end_was_needed(right: &History, at: usize) -> Amounts {
    let id = job(right, &right[at]);
    let next = (at + 1..right.len()).find(|next| {
        matches!(right[*next].event, Event::Start { .. }) && job(right, &right[*next]) == id
    });
    let Event::End { claim, .. } = &right[at].event else {
        panic!("no end at {at}")
    };
    let begun = right
        .iter()
        .position(|entry| matches!(&entry.event, Event::Start { claim: c, .. } if c == claim));
    let kill = next.is_some_and(|next| {
        right[begun.unwrap_or(at)..next]
            .iter()
            .any(|entry| matches!(entry.event, Event::Fault { .. }))
    });
    let was_read_running = right[begun.unwrap_or(at)..at].iter().any(|entry| {
        matches!(&entry.event, Event::Get(read) if read.state == Seen::Running)
            && job(right, entry) == id
    });
    let waited_again = right[at..next.unwrap_or(at)]
        .iter()
        .take_while(|entry| !matches!(entry.event, Event::Fault { .. }))
        .any(|entry| matches!(entry.event, Event::Get(_)) && job(right, entry) == id);
    if waited_again && was_read_running {
        Breaks(&[Rule::Alone, Rule::Constant])
    } else if kill {
        Nothing("a kill explains that it did not end")
    } else {
        Breaks(&[Rule::Alone])
    }
}

/// Whether a kill between the two is what lets the start at `y` follow the attempt before it.
fn needed_the_kill_between(right: &History, x: usize, y: usize) -> bool {
    let id = job(right, &right[y]);
    let before = right[..=x]
        .iter()
        .rev()
        .find_map(|entry| match &entry.event {
            Event::Start { claim, .. } if job(right, entry) == id => Some(*claim),
            _ => None,
        });
    is_kill_between(right, x, y) && before.is_some_and(|claim| settles(right, claim).is_none())
}

fn is_kill_between(right: &History, x: usize, y: usize) -> bool {
    right[x..y]
        .iter()
        .any(|entry| matches!(entry.event, Event::Fault { .. }))
}

/// Finds the first attempt that began again because of the kill at `at` and no other.
fn restarted_after(right: &History, at: usize) -> Option<usize> {
    let is_fault = |entry: &Entry| matches!(entry.event, Event::Fault { .. });
    let until = (at + 1..right.len()).find(|next| is_fault(&right[*next]));
    (at + 1..until.unwrap_or(right.len())).find(|next| {
        let Event::Start { id, .. } = &right[*next].event else {
            return false;
        };
        let before = right[..at]
            .iter()
            .rev()
            .find_map(|entry| match &entry.event {
                Event::Start {
                    id: other, claim, ..
                } if other == id => Some((entry, *claim)),
                _ => None,
            });
        let Some((_, claim)) = before else {
            return false;
        };
        let retried = right[at..*next]
            .iter()
            .any(|entry| matches!(&entry.event, Event::RetryRequest { id: other } if other == id));
        let other_start = right[at + 1..*next]
            .iter()
            .any(|entry| matches!(&entry.event, Event::Start { id: other, .. } if other == id));
        // After a failure the job may begin again, stored or not.
        let failed = right.iter().any(|entry| {
            matches!(&entry.event, Event::End { claim: c, outcome: Ended::Failed, .. } if *c == claim)
        });
        !retried && !other_start && !failed && settles(right, claim).is_none()
    })
}

fn ends(right: &History, claim: u64) -> Option<usize> {
    right
        .iter()
        .position(|entry| matches!(&entry.event, Event::End { claim: c, .. } if *c == claim))
}

fn settles(right: &History, claim: u64) -> Option<usize> {
    right
        .iter()
        .position(|entry| matches!(&entry.event, Event::Settle { claim: c, .. } if *c == claim))
}

fn is_final_answer(event: &Event) -> bool {
    match event {
        Event::Get(read) => read.state.is_final() || read.state == Seen::Gone,
        Event::CancelReply { state, .. } => state.is_final(),
        _ => false,
    }
}

fn final_answers(right: &History, at: usize) -> usize {
    let id = job(right, &right[at]);
    let of_job = |entry: &&Entry| job(right, entry) == id;
    let retried = right
        .iter()
        .rposition(|entry| matches!(entry.event, Event::RetryRequest { .. }) && of_job(&entry));
    right[retried.unwrap_or(0)..]
        .iter()
        .filter(of_job)
        .filter(|entry| is_final_answer(&entry.event))
        .count()
}

fn was_retried_after(right: &History, at: usize) -> bool {
    let id = job(right, &right[at]);
    right[at..]
        .iter()
        .any(|entry| matches!(entry.event, Event::RetryRequest { .. }) && job(right, entry) == id)
}

/// Returns the job that an event is about; for a submit and its answers, the call stands in.
fn job<'a>(right: &'a History, entry: &'a Entry) -> Option<&'a str> {
    match &entry.event {
        Event::Submit(submit) => right.iter().find_map(|other| match &other.event {
            Event::Ack { call, id, .. } if *call == submit.call => Some(id.as_str()),
            _ => None,
        }),
        Event::Ack { id, .. }
        | Event::CancelRequest { id }
        | Event::CancelReply { id, .. }
        | Event::RetryRequest { id }
        | Event::Start { id, .. }
        | Event::End { id, .. }
        | Event::Settle { id, .. } => Some(id),
        Event::Get(read) => Some(&read.id),
        Event::Refused { .. } | Event::Unknown { .. } => None,
        Event::Fault { .. } | Event::Overload { .. } => None,
    }
}

/// Lets two events change their places; a read takes the time of its question along.
fn swap(history: &mut History, x: usize, y: usize) {
    let (at_x, at_y) = (history[x].at_us, history[y].at_us);
    history.swap(x, y);
    for (at, from_us, to_us) in [(x, at_y, at_x), (y, at_x, at_y)] {
        history[at].at_us = to_us;
        if let Event::Get(read) = &mut history[at].event {
            read.sent_us = to_us - (from_us - read.sent_us);
        }
    }
}
