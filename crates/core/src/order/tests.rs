use super::*;
use crate::limits::POSITION_EXACT_MAX;
use crate::{Label, Patch, Position, Priority, QueuePatch, RateLimit};
use std::time::Duration;

mod model;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn label(text: &str) -> Label {
    Label::new(text).unwrap()
}

fn priority(number: u8) -> Priority {
    Priority::new(number.into()).unwrap()
}

/// A short way to use an order: one task, jobs by number.
struct Short {
    order: Order,
    jobs: BTreeMap<i64, Waiting>,
}

impl Short {
    fn new() -> Self {
        Self {
            order: Order::new(at(1_000)),
            jobs: BTreeMap::new(),
        }
    }

    fn place(&mut self, queue: &str, group: &str, number: u8, seq: i64) {
        let group = (!group.is_empty()).then(|| label(group));
        let task = name("t");
        let lane = self
            .order
            .lane(&task, &name(queue), group.as_ref(), priority(number));
        let job = Waiting {
            seq,
            lane,
            run_at: at(0),
            deadline: None,
        };
        self.order.place(job);
        self.jobs.insert(seq, job);
    }

    fn set(&mut self, queue: &str, patch: QueuePatch) {
        let settings = QueueSettings::default().patched(patch);
        self.order.set_queue(&name(queue), Some(settings));
    }

    fn next(&self) -> Option<i64> {
        let next = self.order.next(&self.order.sources(&[name("t")], None));
        next.map(|(seq, _)| seq)
    }

    fn start(&mut self) -> Option<i64> {
        let seq = self.next()?;
        self.order.start(self.jobs[&seq]);
        Some(seq)
    }

    /// Starts all that may be, and ends each at once.
    fn drain(&mut self) -> Vec<i64> {
        let mut started = Vec::new();
        while let Some(seq) = self.start() {
            self.order.end(self.jobs[&seq].lane);
            self.order.tidy();
            started.push(seq);
        }
        started
    }
}

#[test]
fn groups_take_turns_whatever_their_depth() {
    const SLOTS: usize = 8;
    let mut short = Short::new();
    for seq in 0..100_000 {
        short.place("q", "large", 5, seq);
    }
    for group in 0..100 {
        for job in 0..10 {
            short.place("q", &format!("small{group}"), 5, 100_000 + 10 * group + job);
        }
    }
    let started = short.drain();
    assert_eq!(started.len(), 101_000);
    let is_large = |seq: &i64| *seq < 100_000;
    for group in 0..100 {
        let range = 100_000 + 10 * group..100_010 + 10 * group;
        let through = started.iter().rposition(|seq| range.contains(seq)).unwrap();
        let large = started[..through]
            .iter()
            .filter(|seq| is_large(seq))
            .count();
        assert!(large <= 10 + 2 * SLOTS, "group {group}: {large}");
    }
}

#[test]
fn a_group_that_comes_back_does_not_go_first_again() {
    let mut short = Short::new();
    for seq in 0..10 {
        short.place("q", "patient", 5, seq);
    }
    for seq in 10..20 {
        // One at a time, as from a client that waits for each answer.
        short.place("q", "busy", 5, seq);
        let (first, second) = (short.start().unwrap(), short.start().unwrap());
        let busy = [first, second].into_iter().filter(|started| *started >= 10);
        assert_eq!(busy.count(), 1, "{first} {second}");
        short.order.end(short.jobs[&first].lane);
        short.order.end(short.jobs[&second].lane);
        short.order.tidy();
    }
}

#[test]
fn each_priority_gets_twice_the_starts_of_the_next() {
    let mut short = Short::new();
    for number in [4_u8, 5, 7] {
        for job in 0..1_000 {
            short.place("q", "", number, i64::from(number) * 10_000 + job);
        }
    }
    assert_eq!(short.next(), Some(40_000), "the most urgent comes first");
    let started = short.drain();
    for taken in [13, 130, 650, 1_300] {
        let of = |number| {
            started[..taken]
                .iter()
                .filter(move |seq| **seq / 10_000 == number)
        };
        let counts = [of(4).count(), of(5).count(), of(7).count()];
        for (count, weight) in counts.into_iter().zip([8, 4, 1]) {
            let fair = taken * weight / 13;
            assert!(count.abs_diff(fair) <= 1, "{counts:?} of {taken}");
        }
    }
}

#[test]
fn a_priority_that_waited_for_nobody_saves_nothing_up() {
    let mut short = Short::new();
    for seq in 0..100 {
        short.place("q", "", 9, seq);
    }
    short.drain();
    for seq in 100..110 {
        short.place("q", "", 8, seq);
        short.place("q", "", 9, seq + 100);
    }
    let started = short.drain();
    let urgent = started[..9].iter().filter(|seq| **seq < 200).count();
    assert_eq!(urgent, 6, "{started:?}");
}

#[test]
fn no_more_run_than_limits_let() {
    let mut short = Short::new();
    let limits = QueuePatch {
        max_concurrency: Patch::Set(5),
        group_concurrency: Patch::Set(2),
        ..QueuePatch::default()
    };
    short.set("q", limits);
    for seq in 0..10 {
        short.place("q", "a", 5, seq);
    }
    let started: Vec<_> = std::iter::from_fn(|| short.start()).collect();
    assert_eq!(started, [0, 1], "two of the group");
    for seq in 10..20 {
        short.place("q", "", 5, seq);
    }
    let started: Vec<_> = std::iter::from_fn(|| short.start()).collect();
    assert_eq!(
        started,
        [10, 11, 12],
        "five of the queue, and no limit without a group"
    );
    assert!(!short.order.has_ready());
    short.order.end(short.jobs[&10].lane);
    assert_eq!(short.start(), Some(13));
    short.order.end(short.jobs[&0].lane);
    assert_eq!(short.start(), Some(2));
    assert_eq!(short.start(), None);
    short.set("q", QueuePatch::default());
    assert_eq!(short.drain().len(), 13);
}

#[test]
fn a_rate_holds_a_queue_until_more_may_start() {
    let mut short = Short::new();
    let rate_limit = Patch::Set(RateLimit {
        limit: 2,
        period: Duration::from_secs(1),
    });
    let limits = QueuePatch {
        rate_limit,
        ..QueuePatch::default()
    };
    short.set("q", limits);
    for seq in 0..10 {
        short.place("q", "", 5, seq);
        short.place("free", "", 5, 100 + seq);
    }
    let mut started = short.drain();
    started.sort_unstable();
    assert_eq!(started[..3], [0, 1, 100]);
    assert_eq!(started.len(), 12);
    assert_eq!(short.order.next_due(), Some(at(1_500)));
    let paces = short.order.take_paces();
    assert_eq!(paces.len(), 1, "{paces:?}");
    assert!(short.order.take_paces().is_empty());
    short.order.set_now(at(1_499), 99);
    assert_eq!(short.next(), None);
    short.order.set_now(at(1_500), 99);
    assert_eq!(short.drain(), [2]);
    // As after a restart.
    let mut again = Short::new();
    again.set("q", limits);
    again.order.set_pace(&paces[0].0, paces[0].1);
    again.place("q", "", 5, 1);
    assert_eq!(again.next(), None);
    assert_eq!(again.order.next_due(), Some(at(1_500)));
}

#[test]
fn an_undone_start_is_none() {
    let mut short = Short::new();
    let rate_limit = Patch::Set(RateLimit {
        limit: 1,
        period: Duration::from_hours(1),
    });
    let limits = QueuePatch {
        rate_limit,
        max_concurrency: Patch::Set(1),
        ..QueuePatch::default()
    };
    short.set("q", limits);
    for seq in 0..3 {
        short.place("q", "g", 5, seq);
    }
    for _ in 0..3 {
        let job = short.jobs[&short.next().unwrap()];
        let before = short.order.start(job);
        assert_eq!(short.next(), None);
        short.order.undo_start(job, before);
        short.order.tidy();
    }
    assert_eq!(short.start(), Some(0));
}

#[test]
fn a_position_counts_whoever_is_ahead() {
    let mut short = Short::new();
    for seq in 0..3_000 {
        short.place("q", "", 5, seq);
    }
    short.place("q", "g", 5, 3_000);
    short.place("q", "", 2, 3_001);
    let place = |seq: i64| short.order.place_of(short.jobs[&seq]);
    for (seq, ahead, is_exact) in [
        (3_001, 0, true),
        (0, 1, true),
        (3_000, 2, true),
        (1, 3, true),
        (
            POSITION_EXACT_MAX.cast_signed() - 2,
            POSITION_EXACT_MAX,
            true,
        ),
        (2_999, 3_001, false),
    ] {
        let expected = Position { ahead, is_exact };
        assert_eq!(place(seq).position, Some(expected), "{seq}");
    }
    assert_eq!(place(3_001).starts_before, 0);
    assert_eq!(place(2_999).starts_before, 3_001);
    let other = (name("q"), name("none"), label("g"), label("new"));
    let task = name("t");
    let ahead = |queue, group, number| {
        let asked = Asked {
            task: &task,
            queue,
            group,
            priority: priority(number),
        };
        short.order.place_of_new(asked).position.unwrap().ahead
    };
    assert_eq!(ahead(&other.0, None, 5), 3_002);
    assert_eq!(
        ahead(&other.0, Some(&other.2), 5),
        4,
        "the second of its group"
    );
    assert_eq!(
        ahead(&other.0, Some(&other.3), 5),
        3,
        "the first of its group"
    );
    assert_eq!(ahead(&other.0, None, 1), 0);
    assert_eq!(ahead(&other.1, None, 5), 0);
}

/// Time moves jobs from place to place, and back where a clock is set back.
#[test]
fn time_moves_jobs_forth_and_back() {
    let mut order = Order::new(at(1_000));
    let lane = order.lane(&name("t"), &name("q"), None, priority(5));
    let job = |seq, run_at, deadline: Option<i64>| Waiting {
        seq,
        lane,
        run_at: at(run_at),
        deadline: deadline.map(at),
    };
    let (ahead, overdue) = (job(1, 2_000, None), job(2, 0, Some(1_500)));
    order.place(ahead);
    order.place(overdue);
    let sources = order.sources(&[name("t")], None);
    let ran_out = |order: &Order| order.ran_out().map(|(_, seq)| seq).collect::<Vec<_>>();
    assert_eq!(order.next(&sources), Some((2, lane)));
    assert_eq!(order.next_due(), Some(at(2_000)));
    assert!(order.set_now(at(1_500), 9));
    assert_eq!(ran_out(&order), [], "not after its deadline yet");
    assert!(order.set_now(at(2_000), 9));
    assert_eq!(order.next(&sources), Some((1, lane)));
    assert_eq!(ran_out(&order), [2]);
    assert_eq!(order.tally()[&(name("t"), name("q"))], [0, 2, 0]);
    assert!(order.set_now(at(1_000), 9));
    assert_eq!(order.next(&sources), Some((2, lane)));
    assert_eq!(order.next_due(), Some(at(2_000)), "never early");
    assert_eq!(ran_out(&order), []);
    order.displace(overdue);
    order.displace(ahead);
    order.tidy();
    assert!(order.tally().is_empty());
}

#[test]
fn many_jobs_that_come_due_at_once_become_ready_piece_by_piece() {
    let mut order = Order::new(at(1_000));
    let lane = order.lane(&name("t"), &name("q"), None, priority(5));
    let job = |seq, run_at| Waiting {
        seq,
        lane,
        run_at: at(run_at),
        deadline: (seq == 8).then(|| at(2_500)),
    };
    let tally = |order: &Order| order.tally()[&(name("t"), name("q"))];
    for seq in 0..10 {
        order.place(job(seq, 2_000));
    }
    assert!(!order.set_now(at(2_000), 4));
    assert_eq!(tally(&order), [6, 4, 0]);
    assert_eq!(order.next_due(), Some(at(2_000)), "the rest is overdue");
    // Those that are moved, those that are not, and the new ones, each where it belongs.
    order.displace(job(1, 2_000));
    order.displace(job(6, 2_000));
    order.place(job(20, 2_000));
    order.place(job(21, 1_999));
    assert_eq!(tally(&order), [6, 4, 0]);
    // The clock is set back in between, and the deadline goes by of one that was not moved.
    assert!(order.set_now(at(1_500), 4));
    assert_eq!(tally(&order), [10, 0, 0]);
    assert!(!order.set_now(at(2_000), 4));
    assert!(!order.set_now(at(3_000), 4));
    assert_eq!(order.ran_out().map(|(_, seq)| seq).collect::<Vec<_>>(), [8]);
    assert!(order.set_now(at(3_000), 4));
    assert_eq!(tally(&order), [0, 10, 0]);
}
