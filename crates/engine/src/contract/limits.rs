//! What limits a queue holds whatever is asked for, and is used up where there is work.

use super::Trial;
use super::trial::{Held, LONG, done, label, name, poll_once, soon, want, want_and_wait};
use crate::store::{NewJob, QueueChange, QueueSet, Want};
use anteroom_core::{HandBack, JobId, Lease, QueueSettings, RateLimit, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

async fn limit(trial: &Trial, settings: QueueSettings) {
    let change = QueueChange {
        name: name("queue"),
        settings,
        if_version: None,
    };
    let set = done("set_queues", trial.store().set_queues(vec![change]).await);
    assert!(matches!(*set, [QueueSet::Done(_)]), "{set:?}");
}

fn concurrency(most: u64) -> QueueSettings {
    QueueSettings {
        max_concurrency: Some(most),
        ..QueueSettings::default()
    }
}

fn rate(limit: u32, period: Duration) -> QueueSettings {
    QueueSettings {
        rate_limit: Some(RateLimit { limit, period }),
        ..QueueSettings::default()
    }
}

fn jobs(trial: &Trial, count: usize, group: Option<&str>) -> Vec<NewJob> {
    let job = |_| {
        let mut job = trial.new_job();
        job.spec_mut().group = group.map(label);
        job
    };
    (0..count).map(job).collect()
}

/// No more jobs of a queue run at once than may, however many ask and whoever holds them, and each
/// end lets the next one start.
pub async fn no_more_of_a_queue_run_than_may(trial: &mut Trial) {
    limit(trial, concurrency(3)).await;
    trial.insert(jobs(trial, 20, None)).await;
    let pulled = Want {
        lease: Lease::Pulled,
        ..want(2)
    };
    let mut held: Vec<Held> = Vec::new();
    for want in [pulled, want(9), want(9)] {
        let claimed = trial.claim(want).await;
        held.extend(claimed.into_iter().map(Held::from));
    }
    assert_eq!(held.len(), 3);
    for started in 4..=20 {
        let ending = held.remove(0);
        // A job that is handed back waits again, and makes room as well.
        if started == 10 {
            trial
                .happen(ending.id, ending.released(HandBack::Drain))
                .await;
        } else {
            trial.happen(ending.id, ending.succeeded()).await;
        }
        let claimed = trial.claim(want(9)).await;
        assert_eq!(claimed.len(), 1, "after end {started}");
        held.extend(claimed.into_iter().map(Held::from));
        let counts = done("counts", trial.store().counts().await);
        assert_eq!(counts[0].running, 3);
    }
}

/// A claim that waits gets a job as soon as the end of another lets it start, or the limit is raised.
pub async fn a_waiting_claim_gets_a_job_that_a_limit_held_back(trial: &mut Trial) {
    limit(trial, concurrency(1)).await;
    trial.insert(jobs(trial, 3, None)).await;
    let first = trial.claim_one().await;
    let mut claiming = trial.store().claim(want_and_wait(9));
    assert!(poll_once(claiming.as_mut()).await.is_pending());
    trial.round_trip().await;
    assert!(poll_once(claiming.as_mut()).await.is_pending());
    trial.happen(first.id, first.succeeded()).await;
    let claimed = done("claim", soon("a claim after an end", claiming).await);
    assert_eq!(claimed.len(), 1);
    let mut claiming = trial.store().claim(want_and_wait(9));
    assert!(poll_once(claiming.as_mut()).await.is_pending());
    limit(trial, QueueSettings::default()).await;
    let claimed = done("claim", soon("a claim after a change", claiming).await);
    assert_eq!(claimed.len(), 1);
}

/// No more jobs of one group run at once than may. Other groups are not held up by it, and jobs
/// without a group have no such limit.
pub async fn no_more_of_a_group_run_than_may(trial: &mut Trial) {
    let settings = QueueSettings {
        group_concurrency: Some(2),
        ..QueueSettings::default()
    };
    limit(trial, settings).await;
    trial.insert(jobs(trial, 5, Some("a"))).await;
    trial.insert(jobs(trial, 3, Some("b"))).await;
    trial.insert(jobs(trial, 3, None)).await;
    let claimed = trial.claim(want(99)).await;
    let mut by_group: BTreeMap<Option<String>, usize> = BTreeMap::new();
    for one in &claimed {
        let group = one.job.spec.group.as_ref().map(ToString::to_string);
        *by_group.entry(group).or_default() += 1;
    }
    let expected = [(None, 3), (Some("a".into()), 2), (Some("b".into()), 2)];
    assert_eq!(by_group, BTreeMap::from(expected));
    let of_a = claimed
        .into_iter()
        .find(|one| one.job.spec.group == Some(label("a")));
    let Some(of_a) = of_a.map(Held::from) else {
        panic!("two of group a were claimed");
    };
    assert!(trial.claim(want(99)).await.is_empty());
    trial.happen(of_a.id, of_a.succeeded()).await;
    let claimed = trial.claim(want(99)).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].job.spec.group, Some(label("a")));
}

/// In any time no more jobs start than the rate lets, what was saved up included; and with work
/// waiting nearly as many do. A hand-back refunds no start.
pub async fn no_more_start_than_a_rate_lets(trial: &mut Trial) {
    const LIMIT: u32 = 7;
    const PERIOD_MS: u64 = 1_000;
    const PERIODS: u32 = 10;
    limit(trial, rate(LIMIT, Duration::from_millis(PERIOD_MS))).await;
    trial.insert(jobs(trial, 200, None)).await;
    let began = trial.now();
    let mut starts: Vec<Timestamp> = Vec::new();
    while trial.now().since(began) < Duration::from_millis(PERIOD_MS) * PERIODS {
        let claimed = trial.claim(want(5)).await;
        starts.extend(claimed.iter().map(|_| trial.now()));
        if let Some(one) = claimed.into_iter().next() {
            let held = Held::from(one);
            trial.happen(held.id, held.released(HandBack::Drain)).await;
        }
        trial.advance(Duration::from_millis(11));
    }
    let limit = u64::from(LIMIT);
    for (i, from) in starts.iter().enumerate() {
        for (count, to) in (1_u64..).zip(&starts[i..]) {
            let span = u64::try_from(to.since(*from).as_millis()).unwrap_or(u64::MAX);
            let is_within = count * PERIOD_MS <= limit * (PERIOD_MS + span);
            assert!(is_within, "{count} starts in {span} ms");
        }
    }
    let reached = starts.len() as u64 * 100 / (limit * u64::from(PERIODS));
    assert!(
        reached >= 95,
        "{reached} % of the rate: {} starts",
        starts.len()
    );
}

/// A claim that waits gets a job at the very instant at which the rate lets it start.
pub async fn a_waiting_claim_gets_a_job_that_a_rate_held_back(trial: &mut Trial) {
    limit(trial, rate(1, Duration::from_secs(10))).await;
    trial.insert(jobs(trial, 2, None)).await;
    assert_eq!(trial.claim(want(9)).await.len(), 1);
    let mut claiming = trial.store().claim(want_and_wait(9));
    assert!(poll_once(claiming.as_mut()).await.is_pending());
    trial.advance_almost(Duration::from_secs(10));
    trial.round_trip().await;
    assert!(
        poll_once(claiming.as_mut()).await.is_pending(),
        "1 ms early"
    );
    trial.advance(Duration::from_millis(1));
    let claimed = done("claim", soon("a claim by the rate", claiming).await);
    assert_eq!(claimed.len(), 1);
}

/// How far a rate has come and how many jobs run is known after a reopen: it is as durable as the
/// starts themselves.
pub async fn limits_hold_after_a_reopen(trial: &mut Trial) {
    let settings = QueueSettings {
        max_concurrency: Some(4),
        group_concurrency: Some(1),
        ..rate(3, Duration::from_hours(1))
    };
    limit(trial, settings).await;
    trial.insert(jobs(trial, 2, Some("a"))).await;
    trial.insert(jobs(trial, 9, None)).await;
    let pulled = |limit| Want {
        lease: Lease::Pulled,
        lease_for: LONG,
        ..want(limit)
    };
    let claimed = trial.claim(pulled(2)).await;
    let in_group = |one: &JobId| claimed.iter().any(|other| other.job.spec.id == *one);
    assert_eq!(claimed.len(), 2);
    assert!(claimed.iter().any(|one| one.job.spec.group.is_some()));
    if !trial.reopen().await {
        return;
    }
    let one = trial.claim(pulled(9)).await;
    assert_eq!(one.len(), 1, "the third of the rate");
    assert_eq!(one[0].job.spec.group, None, "one of the group runs");
    assert!(!in_group(&one[0].job.spec.id));
    trial.advance(Duration::from_mins(20));
    assert_eq!(trial.claim(pulled(9)).await.len(), 1, "four run");
    trial.advance(Duration::from_mins(20));
    assert!(trial.claim(pulled(9)).await.is_empty(), "more may not");
}
