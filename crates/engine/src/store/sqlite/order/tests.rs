use super::*;
use anteroom_core::{Event, JobId, PayloadInfo, QueueSettings, RateLimit, transition};
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
        lane: order.lane_of(&name(task), &name("default"), None, priority),
        run_at: at(run_at),
        deadline: None,
    }
}

/// Takes all that is ready, first things first.
fn drain(order: &mut Order, jobs: &[Waiting]) -> Vec<i64> {
    let sources = order.sources(&[name("a"), name("b")], None);
    let mut taken = Vec::new();
    while let Some((seq, _)) = order.next(&sources) {
        let job = jobs.iter().find(|job| job.seq == seq);
        order.displace(*job.unwrap());
        taken.push(seq);
    }
    taken
}

/// What there is to be seen of it, whose turn it is apart: that an undone start moved on.
fn state(order: &mut Order, jobs: &[Waiting]) -> String {
    let next_due = order.next_due();
    let seen = format!("{:?}", (order.tally(), next_due, order.kept_queues()));
    // The undo of a transaction of its own.
    let undo = std::mem::take(&mut order.undo);
    let mut ready = drain(order, jobs);
    ready.sort_unstable();
    order.undo();
    order.undo = undo;
    format!("{seen} {ready:?}")
}

fn running(order: &mut Order, seq: i64) -> Running {
    let lane = order.lane_of(&name("a"), &name("default"), None, Priority::default());
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
        lane,
        errors: 0,
        told: Told::default(),
    }
}

#[test]
fn a_failed_transaction_leaves_no_trace() {
    let mut order = order();
    let kept_rate = KeptQueue {
        settings: QueueSettings {
            max_concurrency: Some(3),
            rate_limit: Some(RateLimit {
                limit: 2,
                period: Duration::from_hours(1),
            }),
            ..QueueSettings::default()
        },
        ..kept("default", false)
    };
    order.set_queue(kept_rate);
    let jobs: Vec<Waiting> = (0..50)
        .map(|seq| waiting(&mut order, "a", seq % 3, seq, seq * 40))
        .collect();
    for job in &jobs {
        order.place(*job);
    }
    let job = running(&mut order, 70);
    order.begin(70, job);
    order.keep();
    let before = state(&mut order, &jobs);
    let (leases, running_jobs) = (order.expiries.clone(), order.running.clone());

    let sources = order.sources(&[name("a")], None);
    while let Some((seq, _)) = order.next(&sources) {
        let job = running(&mut order, seq);
        order.start(jobs[usize::try_from(seq).unwrap()], job);
    }
    assert_eq!(order.running.len(), 3, "as many as may");
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

    assert_eq!(state(&mut order, &jobs), before);
    assert_eq!((order.expiries, order.running), (leases, running_jobs));
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

fn kept(queue: &str, paused: bool) -> KeptQueue {
    KeptQueue {
        name: name(queue),
        version: 1,
        settings: QueueSettings {
            paused: Some(paused),
            ..QueueSettings::default()
        },
    }
}

#[test]
fn a_pause_hides_what_is_ready_and_a_failed_transaction_shows_it_again() {
    let mut order = order();
    let jobs: Vec<Waiting> = (1..=3)
        .map(|seq| waiting(&mut order, "a", 5, seq, 900 + seq))
        .collect();
    for job in &jobs {
        order.place(*job);
    }
    order.keep();
    let before = state(&mut order, &jobs);
    order.set_queue(kept("default", true));
    assert!(!order.has_ready());
    // Within the same transaction the first goes and another comes.
    order.displace(jobs[0]);
    let urgent = waiting(&mut order, "a", 0, 9, 900);
    order.place(urgent);
    assert!(!order.has_ready());
    order.undo();
    assert_eq!(state(&mut order, &jobs), before);
    assert_eq!(drain(&mut order, &jobs), [1, 2, 3]);
}
