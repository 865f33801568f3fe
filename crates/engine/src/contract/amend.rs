//! What its owner changes of a waiting job holds from then on, wherever the store has it.

use super::Trial;
use super::trial::{done, ids, name, poll_once, priority, soon, want, want_and_wait};
use crate::store::{Change, Filter, Found, NewJob, Page, Refused, Want};
use anteroom_core::{
    Amendment, Event, HandBack, Job, JobId, Label, Lease, Rejected, Retry, State, Timestamp,
};
use std::collections::BTreeMap;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn amended(amendment: Amendment) -> Event {
    let amendment = Box::new(amendment);
    Event::Amended { amendment }
}

fn moved_to(run_at: Timestamp) -> Event {
    amended(Amendment {
        run_at: Some(run_at),
        ..Amendment::default()
    })
}

fn of_priority(number: i64) -> Event {
    amended(Amendment {
        priority: Some(priority(number)),
        ..Amendment::default()
    })
}

fn in_queue(queue: &str) -> Event {
    amended(Amendment {
        queue: Some(name(queue)),
        ..Amendment::default()
    })
}

/// Every member at once.
fn everything(trial: &Trial) -> Amendment {
    Amendment {
        run_at: Some(trial.now().after(SECOND)),
        priority: Some(priority(1)),
        queue: Some(name("other")),
        tags: Some(BTreeMap::from([(name("b"), "\u{e4}\0\"2\"".to_owned())])),
    }
}

fn with_all(job: &mut NewJob) {
    job.spec_mut().group = Label::new("g").ok();
    job.spec_mut().tags = BTreeMap::from([(name("a"), "1".to_owned())]);
}

/// An amendment changes what it names, each member alone and all at once, and nothing else.
pub async fn an_amendment_changes_what_it_names(trial: &mut Trial) {
    let all = everything(trial);
    let parts = [
        all.clone(),
        Amendment {
            run_at: all.run_at,
            ..Amendment::default()
        },
        Amendment {
            priority: all.priority,
            ..Amendment::default()
        },
        Amendment {
            queue: all.queue.clone(),
            ..Amendment::default()
        },
        Amendment {
            tags: all.tags.clone(),
            ..Amendment::default()
        },
        Amendment {
            tags: Some(BTreeMap::new()),
            ..Amendment::default()
        },
    ];
    for amendment in parts {
        let id = trial.submit(with_all).await;
        let mut expected = trial.job(id).await;
        let spec = std::sync::Arc::make_mut(&mut expected.spec);
        amendment.amend(spec);
        expected.status.version += 1;
        expected.status.run_at = amendment.run_at.unwrap_or(expected.status.run_at);
        let changed = trial.happen(id, amended(amendment.clone())).await;
        assert_eq!(changed, expected, "{amendment:?}");
        assert_eq!(trial.job(id).await, expected, "{amendment:?}");
        let input = done("input", trial.store().input(id).await).here();
        assert!(input.is_some_and(|input| input.bytes.starts_with(b"input ")));
    }
}

/// An amendment that says nothing is no change: the version stays.
pub async fn an_amendment_that_says_nothing_is_no_change(trial: &mut Trial) {
    let id = trial.submit(with_all).await;
    let before = trial.job(id).await;
    let after = trial.happen(id, amended(Amendment::default())).await;
    assert_eq!(after, before);
    assert_eq!(trial.job(id).await, before);
}

/// Claims find an amended job where it was moved, and not where it was.
pub async fn an_amended_job_is_claimed_where_it_was_moved(trial: &mut Trial) {
    let first = trial.submit_plain().await;
    let urgent = trial.submit_plain().await;
    let off = trial.submit_plain().await;
    let elsewhere = trial.submit_plain().await;
    trial.happen(urgent, of_priority(0)).await;
    let due = trial.now().after(SECOND);
    trial.happen(off, moved_to(due)).await;
    trial.happen(elsewhere, in_queue("other")).await;
    let of = |queue: &str| Want {
        queues: Some(vec![name(queue)]),
        ..want(9)
    };
    assert_eq!(ids(&trial.claim(of("queue")).await), [urgent, first]);
    trial.advance_almost(SECOND);
    assert!(trial.claim(of("queue")).await.is_empty(), "before its time");
    trial.advance(super::trial::TICK);
    assert_eq!(ids(&trial.claim(of("queue")).await), [off]);
    assert_eq!(ids(&trial.claim(of("other")).await), [elsewhere]);
}

/// An instant that has passed means at once, and does not cost a job that may start its turn.
pub async fn a_start_that_has_passed_means_at_once(trial: &mut Trial) {
    let later = trial.now().after(SECOND * 60);
    let waits = trial.submit(|job| job.status.run_at = later).await;
    let first = trial.submit_plain().await;
    trial.advance(SECOND);
    let second = trial.submit_plain().await;
    let long_ago = moved_to(Timestamp::from_millis(0));
    let before = trial.job(first).await.status.run_at;
    let job = trial.happen(first, moved_to(trial.now())).await;
    assert_eq!(job.status.run_at, before, "it keeps its turn");
    let job = trial.happen(waits, long_ago).await;
    assert_eq!(job.status.run_at, trial.now());
    // Of the same instant: in the order of submission.
    assert_eq!(ids(&trial.claim(want(9)).await), [first, waits, second]);
}

/// A claim that waits gets a job that an amendment made ready, or moved to where it looks.
pub async fn a_waiting_claim_gets_a_job_that_was_amended(trial: &mut Trial) {
    let later = trial.now().after(SECOND * 60);
    let scheduled = trial.submit(|job| job.status.run_at = later).await;
    let elsewhere = trial
        .submit(|job| job.spec_mut().queue = name("elsewhere"))
        .await;
    for (id, event) in [
        (scheduled, moved_to(trial.now())),
        (elsewhere, in_queue("queue")),
    ] {
        let wanted = Want {
            queues: Some(vec![name("queue")]),
            ..want_and_wait(1)
        };
        let mut claim = trial.store().claim(wanted);
        assert!(poll_once(claim.as_mut()).await.is_pending());
        trial.round_trip().await;
        trial.happen(id, event).await;
        let claimed = done("claim", soon("the amended job", claim).await);
        assert_eq!(ids(&claimed), [id]);
    }
}

/// Jobs are amended while they wait, between attempts too, and neither running nor ended.
pub async fn only_a_waiting_job_can_be_amended(trial: &mut Trial) {
    let held = trial.running(Lease::Node).await;
    trial.happen(held.id, held.failed(Retry::In(SECOND))).await;
    let job = trial.happen(held.id, of_priority(2)).await;
    assert_eq!((job.status.attempt, job.errors.len()), (1, 1));
    let mut refused = Vec::new();
    for lease in [Lease::Node, Lease::Pulled] {
        refused.push(trial.running(lease).await.id);
    }
    let told = trial.running(Lease::Node).await;
    trial.happen(told.id, Event::CancelRequested).await;
    let succeeded = trial.running(Lease::Node).await;
    trial.happen(succeeded.id, succeeded.succeeded()).await;
    let failed = trial.running(Lease::Node).await;
    trial.happen(failed.id, failed.failed(Retry::Never)).await;
    let cancelled = trial.submit_plain().await;
    trial.happen(cancelled, Event::CancelRequested).await;
    refused.extend([told.id, succeeded.id, failed.id, cancelled]);
    for id in refused {
        let before = trial.job(id).await;
        for amendment in [everything(trial), Amendment::default()] {
            let applied = trial.apply(Change::new(id, amended(amendment))).await;
            let why = Refused::Rejected(Rejected::NotWaiting, Box::new(before.clone()));
            assert_eq!(applied, Err(why));
            assert_eq!(trial.job(id).await, before);
        }
    }
}

/// An amendment that lost its race changes nothing, and one for another version neither.
pub async fn an_amendment_that_comes_late_changes_nothing(trial: &mut Trial) {
    let seen = {
        let id = trial.submit_plain().await;
        trial.job(id).await
    };
    let id = seen.spec.id;
    let held = trial.claim_one().await;
    let change = |if_version| Change {
        if_version,
        ..Change::new(id, amended(everything(trial)))
    };
    let differs = |applied: &Result<Job, Refused>| {
        let differs = matches!(applied, Err(Refused::VersionDiffers(_)));
        assert!(differs, "{applied:?}");
    };
    differs(&trial.apply(change(Some(seen.status.version))).await);
    let job = trial.happen(id, held.released(HandBack::Drain)).await;
    assert_eq!(job.spec, seen.spec);
    // It waits again, and still is not what the amendment was made for.
    differs(&trial.apply(change(Some(seen.status.version))).await);
    assert_eq!(trial.job(id).await, job);
    let applied = trial.apply(change(Some(job.status.version))).await;
    assert!(applied.is_ok(), "{applied:?}");
    // In one call: whichever comes first leaves nothing to the other.
    let id = trial.submit_plain().await;
    let cancel = || Change::new(id, Event::CancelRequested);
    let amend = || Change::new(id, of_priority(3));
    let applied = trial.apply_all(vec![amend(), cancel(), amend()]).await;
    assert!(applied[0].is_ok() && applied[1].is_ok() && applied[2].is_err());
    let job = trial.job(id).await;
    assert_eq!(
        (job.status.state, job.status.version),
        (State::Cancelled, 3)
    );
}

/// Lists and counts show an amended job as it is now.
pub async fn lists_and_counts_follow_an_amendment(trial: &mut Trial) {
    let id = trial.submit(with_all).await;
    trial.happen(id, amended(everything(trial))).await;
    let listed = async |filter: Filter| -> Vec<JobId> {
        let page = Page {
            size: 9,
            after: None,
        };
        let listing = done("list", trial.store().list(&filter, page).await);
        listing.jobs.iter().map(|job| job.spec.id).collect()
    };
    let queue = |queue: &str| Filter {
        queue: Some(name(queue)),
        ..Filter::default()
    };
    let tag = |tag: &str, value: &str| Filter {
        tags: vec![(name(tag), value.to_owned())],
        ..Filter::default()
    };
    assert_eq!(listed(queue("queue")).await, []);
    assert_eq!(listed(queue("other")).await, [id]);
    assert_eq!(listed(tag("a", "1")).await, []);
    assert_eq!(listed(tag("b", "\u{e4}\0\"2\"")).await, [id]);
    let counts = done("counts", trial.store().counts().await);
    let mut counts = counts.iter().filter(|of| of.scheduled + of.ready > 0);
    let of = counts.next().map(|of| (of.queue.clone(), of.scheduled));
    assert_eq!(of, Some((name("other"), 1)));
    assert!(counts.next().is_none());
}

/// An amended job is after a reopen what it was before, and is claimed in its new order.
pub async fn an_amendment_survives_a_reopen(trial: &mut Trial) {
    let first = trial.submit_plain().await;
    let second = trial.submit_plain().await;
    let scheduled = trial.submit(with_all).await;
    let elsewhere = trial.submit_plain().await;
    trial.happen(second, of_priority(0)).await;
    trial.happen(scheduled, amended(everything(trial))).await;
    trial.happen(elsewhere, in_queue("elsewhere")).await;
    let before = [
        trial.job(first).await,
        trial.job(second).await,
        trial.job(scheduled).await,
        trial.job(elsewhere).await,
    ];
    if !trial.reopen().await {
        return;
    }
    for job in before {
        assert_eq!(trial.found(job.spec.id).await, Found::Here(job));
    }
    let of = |queue: &str| Want {
        queues: Some(vec![name(queue)]),
        ..want(9)
    };
    assert_eq!(ids(&trial.claim(of("queue")).await), [second, first]);
    assert_eq!(ids(&trial.claim(of("elsewhere")).await), [elsewhere]);
    assert!(trial.claim(of("other")).await.is_empty(), "before its time");
    trial.advance(SECOND);
    assert_eq!(ids(&trial.claim(of("other")).await), [scheduled]);
}
