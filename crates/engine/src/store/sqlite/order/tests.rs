use super::*;
use anteroom_core::{Event, JobId, PayloadInfo, transition};
use std::time::Duration;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn order() -> Order {
    Order::new(ClaimNumber::first_of_opening(1), at(1_000))
}

fn waiting(order: &mut Order, task: &str, priority: i64, seq: i64, run_at: i64) -> Waiting {
    let priority = Priority::new(priority).unwrap();
    Waiting {
        seq,
        line: order.line(&name(task), &name("default"), priority),
        run_at: at(run_at),
        deadline: None,
    }
}

/// Takes all that is ready, first things first.
fn drain(order: &mut Order, tasks: &[&str], queues: Option<&[Name]>) -> Vec<i64> {
    let tasks: Vec<Name> = tasks.iter().map(|task| name(task)).collect();
    let sources = order.sources(&tasks, queues);
    let mut taken = Vec::new();
    while let Some(seq) = order.first(&sources) {
        let holds = |line: &Line| line.ready.first().is_some_and(|first| first.1 == seq);
        let line = order.lines.iter().position(holds).unwrap();
        let run_at = order.lines[line].ready.first().unwrap().0;
        let line = u32::try_from(line).unwrap();
        let deadline = None;
        order.displace(Waiting {
            seq,
            line,
            run_at,
            deadline,
        });
        taken.push(seq);
    }
    taken
}

fn running(order: &mut Order, seq: i64) -> Running {
    let line = order.line(&name("a"), &name("default"), Priority::default());
    let id = JobId::from_parts(1, 1, seq.unsigned_abs());
    let claimed = Event::Claimed {
        claim: ClaimNumber::first_of_opening(1).next(),
        lease: Lease::Pulled,
        lease_expires_at: at(9_000),
    };
    let status = Status::submitted(at(0), None, 5);
    Running {
        spec: Arc::new(Spec {
            id,
            task: name("a"),
            queue: name("default"),
            group: None,
            priority: Priority::default(),
            created_at: at(0),
            timeout: Duration::from_secs(1),
            retain: Duration::from_secs(1),
            unique_key: None,
            callback_url: None,
            tags: BTreeMap::new(),
            input: PayloadInfo {
                content_type: "text/plain".into(),
                bytes: 0,
            },
        }),
        status: transition(&status, &claimed, at(1_000)).unwrap().status,
        line,
        errors: 0,
        told: Told::default(),
    }
}

#[test]
fn ready_jobs_come_by_priority_then_run_at_then_submission() {
    let fill = |order: &mut Order| {
        for (task, priority, seq, run_at) in [
            ("a", 5, 1, 500),
            ("b", 5, 2, 400),
            ("a", 5, 3, 400),
            ("a", 0, 9, 900),
            ("b", 9, 4, 0),
            ("c", 0, 5, 0),
        ] {
            let job = waiting(order, task, priority, seq, run_at);
            order.place(job);
        }
    };
    let mut order = order();
    fill(&mut order);
    assert_eq!(drain(&mut order, &["a", "b"], None), [9, 2, 3, 1, 4]);
    order.undo();
    fill(&mut order);
    let queues = [name("default"), name("other")];
    let taken = drain(&mut order, &["b", "a", "a"], Some(&queues));
    assert_eq!(taken, [9, 2, 3, 1, 4]);
    assert!(drain(&mut order, &["c"], Some(&queues[1..])).is_empty());
}

#[test]
fn a_failed_transaction_leaves_no_trace() {
    let mut order = order();
    for seq in 0..50 {
        let job = waiting(&mut order, "a", seq % 3, seq, seq * 40);
        order.place(job);
    }
    let job = running(&mut order, 70);
    order.begin(70, job);
    order.keep();
    let before = format!("{:?}", (order.tally(), &order.tasks[0], &order.scheduled));
    let (leases, jobs) = (order.expiries.clone(), order.running.clone());

    drain(&mut order, &["a"], None);
    let job = waiting(&mut order, "b", 1, 60, 0);
    order.place(job);
    let changed = Status {
        lease_expires_at: at(12_000),
        ..order.running(70).unwrap().status
    };
    order.change(70, changed, 1, Told::default());
    order.end(70);
    let job = running(&mut order, 71);
    order.begin(71, job);
    order.undo();

    let after = format!("{:?}", (order.tally(), &order.tasks[0], &order.scheduled));
    assert_eq!(after, before);
    assert_eq!((order.expiries, order.running), (leases, jobs));
}

#[test]
fn time_moves_jobs_forth_and_back() {
    let mut order = order();
    let job = waiting(&mut order, "a", 5, 1, 2_000);
    order.place(job);
    let late = Waiting {
        seq: 2,
        run_at: at(0),
        deadline: Some(at(1_500)),
        ..job
    };
    order.place(late);
    order.keep();
    let sources = order.sources(&[name("a")], None);
    assert_eq!(order.first(&sources), Some(2));
    assert_eq!(order.next_due(), Some(at(2_000)));

    assert!(order.set_now(at(1_500), 9));
    assert_eq!(order.ran_out(9), [], "not after its deadline yet");
    assert!(order.set_now(at(2_000), 9));
    assert_eq!(order.first(&sources), Some(1));
    assert_eq!(order.ran_out(9), [RanOut::Deadline(2)]);
    let key = (name("a"), name("default"));
    assert_eq!(order.tally()[&key], [0, 2, 0]);

    assert!(order.set_now(at(1_000), 9));
    assert_eq!(order.first(&sources), Some(2));
    assert_eq!(order.next_due(), Some(at(2_000)), "never early");
    assert_eq!(order.ran_out(9), []);
    order.displace(late);
    order.displace(job);
    order.keep();
    assert!(order.tally().is_empty());
    assert_eq!((order.line_of.len(), order.free.len()), (0, 1));
}

#[test]
fn leases_run_out_in_their_order_and_orphans_first() {
    let mut order = order();
    let pulled = running(&mut order, 1);
    order.begin(1, pulled.clone());
    let mut orphan = pulled;
    orphan.status.lease = Lease::Node;
    orphan.status.claim = ClaimNumber::first_of_opening(1);
    orphan.status.lease_expires_at = at(1_000_000);
    order.begin(2, orphan);
    order.keep();
    assert_eq!(order.ran_out(9), [RanOut::Claim(2)]);
    assert!(order.set_now(at(9_000), 9));
    assert_eq!(order.ran_out(9), [RanOut::Claim(2), RanOut::Claim(1)]);
    assert_eq!(order.ran_out(1), [RanOut::Claim(2)]);
}

#[test]
fn many_jobs_that_come_due_at_once_become_ready_piece_by_piece() {
    let mut order = order();
    let key = (name("a"), name("default"));
    let jobs: Vec<Waiting> = (0..10)
        .map(|seq| waiting(&mut order, "a", 5, seq, 2_000))
        .collect();
    for job in &jobs {
        order.place(Waiting {
            deadline: (job.seq == 8).then(|| at(2_500)),
            ..*job
        });
    }
    order.keep();
    assert!(!order.set_now(at(2_000), 4));
    assert_eq!(order.tally()[&key], [6, 4, 0]);
    assert_eq!(order.next_due(), Some(at(2_000)), "the rest is overdue");

    // Those that are moved, those that are not, and the new ones, each where it belongs.
    order.displace(jobs[1]);
    order.displace(jobs[6]);
    let new = waiting(&mut order, "a", 5, 20, 2_000);
    order.place(new);
    let before = waiting(&mut order, "a", 5, 21, 1_999);
    order.place(before);
    assert_eq!(order.tally()[&key], [6, 4, 0]);
    order.undo();
    assert_eq!(order.tally()[&key], [6, 4, 0]);
    order.displace(jobs[6]);
    order.keep();

    // The clock is set back in between, and the deadline goes by of one that was not moved.
    assert!(order.set_now(at(1_500), 4));
    assert_eq!(order.tally()[&key], [9, 0, 0]);
    assert!(!order.set_now(at(2_000), 4));
    assert!(!order.set_now(at(3_000), 4));
    assert_eq!(order.ran_out(9), [RanOut::Deadline(8)]);
    assert!(order.set_now(at(3_000), 4));
    assert_eq!(drain(&mut order, &["a"], None), [0, 1, 2, 3, 4, 5, 7, 9]);
}

fn kept(queue: &str, paused: bool) -> KeptQueue {
    KeptQueue {
        name: name(queue),
        version: 1,
        settings: anteroom_core::QueueSettings {
            paused: Some(paused),
            ..anteroom_core::QueueSettings::default()
        },
    }
}

#[test]
fn a_pause_hides_what_is_ready_and_a_failed_transaction_shows_it_again() {
    let mut order = order();
    for seq in 1..=3 {
        let job = waiting(&mut order, "a", 5, seq, 900 + seq);
        order.place(job);
    }
    order.keep();
    let state = |order: &Order| format!("{:?}", (&order.tasks[0], order.queues.kept()));
    let before = state(&order);
    order.set_queue(kept("default", true));
    assert!(!order.has_ready());
    // Within the same transaction the first goes and another comes.
    let first = waiting(&mut order, "a", 5, 1, 901);
    order.displace(first);
    let urgent = waiting(&mut order, "a", 0, 9, 900);
    order.place(urgent);
    assert!(!order.has_ready());
    order.undo();
    assert_eq!(state(&order), before);
    assert_eq!(drain(&mut order, &["a"], None), [1, 2, 3]);
}

#[test]
fn a_line_made_anew_is_paused_as_its_queue_is() {
    let mut order = order();
    order.set_queue(kept("default", true));
    for _ in 0..2 {
        let job = waiting(&mut order, "a", 5, 1, 900);
        order.place(job);
        order.keep();
        assert!(!order.has_ready());
        assert_eq!(order.queues.waiting(&name("default")), 1);
        order.displace(job);
        order.keep();
        assert_eq!(order.queues.waiting(&name("default")), 0);
    }
    let job = waiting(&mut order, "a", 5, 1, 900);
    order.place(job);
    order.set_queue(kept("default", false));
    assert_eq!(drain(&mut order, &["a"], Some(&[name("default")])), [1]);
}
