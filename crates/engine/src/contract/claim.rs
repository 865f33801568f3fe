//! A claim takes due jobs in their order, each under a number of its own, and none twice.

use super::Trial;
use super::trial::{LEASE_FOR, TICK, done, ids, name, priority, soon, want, want_and_wait};
use crate::store::{NewJob, StoreError, Want};
use anteroom_core::{
    ClaimNumber, Event, HandBack, JobId, Lease, Retry, State, Status, Timestamp, transition,
};
use std::collections::HashSet;
use std::time::Duration;
use tokio::task::JoinSet;

/// Claims go by priority, then by `run_at`, then by the order of submission.
pub async fn claims_go_by_priority_then_run_at_then_submission(trial: &mut Trial) {
    let now = trial.now();
    // Priority, how long ago it was due in ms, and its place in the order of claims.
    let cases = [
        (5, 0, 6),
        (9, 900, 8),
        (5, 10, 4),
        (0, 0, 1),
        (5, 0, 7),
        (5, 10, 5),
        (0, 1, 0),
        (1, 0, 2),
        (2, 500, 3),
        (9, 0, 9),
    ];
    let mut expected = vec![None; cases.len()];
    for (number, ago, place) in cases {
        let id = trial
            .submit(|job| {
                job.spec_mut().priority = priority(number);
                job.status.run_at = now.before(Duration::from_millis(ago));
            })
            .await;
        expected[place] = Some(id);
    }
    let mut claimed = ids(&trial.claim(want(4)).await);
    claimed.extend(ids(&trial.claim(want(1)).await));
    claimed.extend(ids(&trial.claim(want(100)).await));
    let claimed: Vec<_> = claimed.into_iter().map(Some).collect();
    assert_eq!(claimed, expected);
}

/// A job that comes back or comes due later takes the turn that its `run_at` gives it.
pub async fn a_job_that_comes_due_takes_its_turn(trial: &mut Trial) {
    let in_ms = |millis| trial.now().after(Duration::from_millis(millis));
    let mut order = Vec::new();
    for due in [in_ms(300), in_ms(100), in_ms(200)] {
        order.push(trial.submit(|job| job.status.run_at = due).await);
    }
    let urgent = trial
        .submit(|job| {
            job.spec_mut().priority = priority(1);
            job.status.run_at = in_ms(300);
        })
        .await;
    trial.advance(Duration::from_millis(200));
    assert_eq!(ids(&trial.claim(want(1)).await), [order[1]]);
    trial.advance(Duration::from_millis(100));
    let claimed = ids(&trial.claim(want(9)).await);
    assert_eq!(claimed, [urgent, order[2], order[0]]);
}

/// No job is claimed before its `run_at`, and at that very instant it is.
pub async fn nothing_is_claimed_before_it_is_due(trial: &mut Trial) {
    let due = trial.now().after(Duration::from_secs(1));
    let id = trial.submit(|job| job.status.run_at = due).await;
    assert!(trial.claim(want(1)).await.is_empty());
    trial.advance_almost(Duration::from_secs(1));
    assert!(trial.claim(want(1)).await.is_empty(), "1 ms early");
    trial.advance(TICK);
    assert_eq!(ids(&trial.claim(want(1)).await), [id]);
}

/// A claim takes no more jobs than it asked for, and leaves the others to be claimed.
pub async fn a_claim_takes_no_more_than_its_limit(trial: &mut Trial) {
    trial
        .insert((0..10).map(|_| trial.new_job()).collect())
        .await;
    for (limit, expected) in [(3, 3), (1, 1), (100, 6), (1, 0)] {
        let claimed = trial.claim(want(limit)).await;
        assert_eq!(claimed.len(), expected, "of at most {limit}");
    }
}

/// A claim takes jobs of the wanted tasks in the wanted queues only.
pub async fn a_claim_takes_wanted_tasks_and_queues_only(trial: &mut Trial) {
    let mut all = Vec::new();
    for task in ["a", "b", "c"] {
        for queue in ["q", "r"] {
            let id = trial
                .submit(|job| {
                    job.spec_mut().task = name(task);
                    job.spec_mut().queue = name(queue);
                })
                .await;
            all.push(id);
        }
    }
    let names = |texts: &[&str]| texts.iter().map(|text| name(text)).collect::<Vec<_>>();
    let steps = [
        (&["d"][..], None, &[][..]),
        (&["a", "b"], Some(&["s"][..]), &[]),
        (&["a", "b"], Some(&["r", "s"]), &[1, 3]),
        (&["c", "d"], None, &[4, 5]),
        (&["a"], Some(&[]), &[]),
        (&["c", "b", "a"], Some(&["q", "r"]), &[0, 2]),
    ];
    for (tasks, queues, expected) in steps {
        let claimed = trial
            .claim(Want {
                tasks: names(tasks),
                queues: queues.map(names),
                ..want(10)
            })
            .await;
        let expected: Vec<JobId> = expected.iter().map(|n| all[*n]).collect();
        assert_eq!(ids(&claimed), expected, "{tasks:?} in {queues:?}");
    }
}

/// A claim makes of a job what the lifecycle says, and hands it over with its input.
pub async fn a_claim_begins_an_attempt(trial: &mut Trial) {
    for (lease, lease_for) in [(Lease::Node, LEASE_FOR), (Lease::Pulled, LEASE_FOR * 2)] {
        let id = trial.submit_plain().await;
        let before = trial.job(id).await;
        trial.advance(Duration::from_secs(1));
        let wanted = Want {
            lease,
            lease_for,
            ..want(1)
        };
        let claimed = trial.claim(wanted).await.remove(0);
        let event = Event::Claimed {
            claim: claimed.job.status.claim,
            lease,
            lease_expires_at: trial.now().after(lease_for),
        };
        let next = transition(&before.status, &event, trial.now());
        let status = next.map(|next| next.status);
        assert_eq!(status, Ok(claimed.job.status));
        assert_eq!(claimed.job.spec, before.spec);
        assert_eq!(claimed.input.info(), before.spec.input);
        assert_eq!(trial.job(id).await, claimed.job);
    }
}

/// Every claim draws a number that is greater than any drawn before.
pub async fn claim_numbers_rise(trial: &mut Trial) {
    trial
        .insert((0..5).map(|_| trial.new_job()).collect())
        .await;
    let mut last = ClaimNumber::NONE;
    for limit in [2, 1, 2] {
        for claimed in trial.claim(want(limit)).await {
            let claim = claimed.job.status.claim;
            assert!(claim > last, "{claim} after {last}");
            last = claim;
        }
    }
    let held = trial.running(Lease::Node).await;
    trial.happen(held.id, held.released(HandBack::Drain)).await;
    let again = trial.claim_one().await;
    assert!(again.claim > held.claim && held.claim > last);
}

/// However many claim at once, no job goes to two of them, and none is left lying.
pub async fn no_job_is_claimed_by_two(trial: &mut Trial) {
    const CLAIMERS: usize = 8;
    const JOBS: usize = 400;
    let jobs: Vec<NewJob> = (0..JOBS).map(|_| trial.new_job()).collect();
    let all: HashSet<JobId> = jobs.iter().map(|job| job.spec.id).collect();
    let mut claimers = JoinSet::new();
    let (claimed_by, mut every_claim) = tokio::sync::mpsc::unbounded_channel();
    for limit in 1..=CLAIMERS {
        let (store, claimed_by) = (trial.store().clone(), claimed_by.clone());
        claimers.spawn(async move {
            loop {
                let claimed = match store.claim(want_and_wait(limit)).await {
                    // Closed while it waited, or before it asked again.
                    Ok(claimed) if claimed.is_empty() => return,
                    Err(StoreError::Closed) => return,
                    answer => done("claim", answer),
                };
                assert!(claimed.len() <= limit);
                for claimed in claimed {
                    let status = claimed.job.status;
                    let claim = (claimed.job.spec.id, status.claim, status.attempt);
                    let _open = claimed_by.send(claim);
                }
            }
        });
    }
    let mut jobs = jobs.into_iter();
    for batch in (1..).map(|n| 1 + n % 7) {
        let batch: Vec<NewJob> = jobs.by_ref().take(batch).collect();
        if batch.is_empty() {
            break;
        }
        trial.insert(batch).await;
    }
    let mut seen = HashSet::new();
    let mut numbers = HashSet::new();
    for _ in 0..JOBS {
        let next = soon("the next claim", every_claim.recv()).await;
        let Some((id, claim, attempt)) = next else {
            panic!("the claimers ended early");
        };
        assert!(seen.insert(id), "{id} was claimed twice");
        assert!(numbers.insert(claim), "{claim} was drawn twice");
        assert_eq!(attempt, 1, "{id}");
    }
    assert_eq!(seen, all);
    // They wait now, and closing ends that.
    trial.store().close().await;
    soon("the claimers", claimers.join_all()).await;
    assert!(
        every_claim.try_recv().is_err(),
        "a job too many was claimed"
    );
}

/// A job past its `start_before` is not claimed; at that very instant it still is.
pub async fn a_job_past_its_deadline_is_not_claimed(trial: &mut Trial) {
    let deadline = trial.now().after(Duration::from_secs(1));
    let submit = || trial.submit(|job| job.status.start_before = Some(deadline));
    let (in_time, too_late) = (submit().await, submit().await);
    trial.advance(Duration::from_secs(1));
    assert_eq!(ids(&trial.claim(want(1)).await), [in_time]);
    trial.advance(TICK);
    let behind = trial.submit_plain().await;
    assert_eq!(ids(&trial.claim(want(9)).await), [behind]);
    assert_eq!(trial.job(too_late).await.status.state, State::Waiting);
}

/// A job that began once is never too late for its next attempt.
pub async fn a_job_that_began_once_is_never_too_late(trial: &mut Trial) {
    let deadline = trial.now().after(Duration::from_secs(1));
    let submitted = Status::submitted(Timestamp::from_millis(0), Some(deadline), 2);
    let id = trial.submit(|job| job.status = submitted).await;
    let held = trial.claim_one().await;
    let retry = Retry::In(Duration::from_secs(5));
    trial.happen(id, held.failed(retry)).await;
    trial.advance(Duration::from_secs(5));
    assert!(trial.overdue().await.is_empty());
    assert_eq!(trial.claim_one().await.id, id);
}
