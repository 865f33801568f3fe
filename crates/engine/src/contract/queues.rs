//! What holds for a queue holds where its jobs are claimed and inserted, from the commit that sets it
//! on, over restarts too.

use super::Trial;
use super::trial::{Held, done, ids, name, poll_once, soon, want, want_and_wait};
use crate::store::{Claimed, KeptQueue, NewJob, QueueChange, QueueSet, Store, StoreError, Want};
use anteroom_core::limits::{
    QUEUE_CONCURRENCY_MAX, QUEUE_DEPTH_MAX, QUEUES_KEPT_MAX, RATE_LIMIT_MAX, RATE_PERIOD_MAX,
    RATE_PERIOD_MIN,
};
use anteroom_core::{
    Event, HandBack, JobId, Lease, QueueDefaults, QueueSettings, RateLimit, Retry,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

const PAUSED: QueueSettings = QueueSettings {
    paused: Some(true),
    ..NOTHING
};
const RESUMED: QueueSettings = QueueSettings {
    paused: Some(false),
    ..NOTHING
};
const NOTHING: QueueSettings = QueueSettings {
    paused: None,
    max_depth: None,
    max_concurrency: None,
    rate_limit: None,
    group_concurrency: None,
};

const fn depth(limit: u64) -> QueueSettings {
    QueueSettings {
        max_depth: Some(limit),
        ..NOTHING
    }
}

fn change(queue: &str, settings: QueueSettings) -> QueueChange {
    QueueChange {
        name: name(queue),
        settings,
        if_version: None,
    }
}

async fn set_all(trial: &Trial, changes: Vec<QueueChange>) -> Vec<QueueSet> {
    done("set_queues", trial.store().set_queues(changes).await)
}

/// Sets what holds for a queue, which must not be refused.
async fn set(trial: &Trial, queue: &str, settings: QueueSettings) -> KeptQueue {
    match set_all(trial, vec![change(queue, settings)])
        .await
        .as_slice()
    {
        [QueueSet::Done(kept)] => kept.clone(),
        other => panic!("setting queue {queue} came to {other:?}"),
    }
}

async fn configure(trial: &Trial, defaults: QueueDefaults) {
    let configured = trial.store().configure_queues(defaults).await;
    done("configure_queues", configured);
}

async fn kept(trial: &Trial) -> Vec<KeptQueue> {
    done("queues", trial.store().queues().await)
}

async fn submit_to(trial: &Trial, queue: &'static str) -> JobId {
    trial.submit(|job| job.spec_mut().queue = name(queue)).await
}

fn jobs_for(trial: &Trial, queue: &'static str, count: usize) -> Vec<NewJob> {
    let job = |_| {
        let mut job = trial.new_job();
        job.spec_mut().queue = name(queue);
        job
    };
    (0..count).map(job).collect()
}

/// Inserts jobs, and returns how many waited and how many may if they were refused for that.
async fn refused(store: &Arc<dyn Store>, jobs: Vec<NewJob>) -> Option<(u64, u64)> {
    match store.insert(jobs).await {
        Ok(_) => None,
        Err(StoreError::QueueFull { waiting, limit, .. }) => Some((waiting, limit)),
        Err(error) => panic!("insert failed: {error}"),
    }
}

/// Sees that neither any claim nor one for that queue gets a job, and that one that waits goes on.
async fn gives_nothing(trial: &Trial, queue: &str) {
    assert_eq!(ids(&trial.claim(want(9)).await), []);
    let of_queue = Want {
        queues: Some(vec![name(queue)]),
        ..want(9)
    };
    assert_eq!(ids(&trial.claim(of_queue).await), []);
    let mut claiming = trial.store().claim(want_and_wait(9));
    let polled = poll_once(claiming.as_mut()).await;
    assert!(polled.is_pending(), "should wait, and gave {polled:?}");
    trial.round_trip().await;
    let polled = poll_once(claiming.as_mut()).await;
    assert!(polled.is_pending(), "should wait, and gave {polled:?}");
}

/// A paused queue takes jobs and gives none to any claim; a resumed one gives them in their order.
pub async fn a_paused_queue_takes_jobs_and_gives_none(trial: &mut Trial) {
    let before = submit_to(trial, "queue").await;
    set(trial, "queue", PAUSED).await;
    let after = submit_to(trial, "queue").await;
    gives_nothing(trial, "queue").await;
    assert_eq!(trial.job(after).await.status.attempt, 0);
    set(trial, "queue", RESUMED).await;
    assert_eq!(ids(&trial.claim(want(9)).await), [before, after]);
    set(trial, "queue", PAUSED).await;
    submit_to(trial, "queue").await;
    gives_nothing(trial, "queue").await;
}

/// A claim that waits gets nothing that is inserted into a paused queue, and all of it when that is
/// resumed, without the clock being moved.
pub async fn a_waiting_claim_gets_nothing_paused_and_is_woken_by_a_resume(trial: &mut Trial) {
    for queues in [None, Some(vec![name("other"), name("queue")])] {
        set(trial, "queue", PAUSED).await;
        let wanted = Want {
            queues,
            ..want_and_wait(9)
        };
        let mut claiming = trial.store().claim(wanted);
        assert!(poll_once(claiming.as_mut()).await.is_pending());
        let id = submit_to(trial, "queue").await;
        for _ in 0..2 {
            trial.round_trip().await;
            let polled = poll_once(claiming.as_mut()).await;
            assert!(polled.is_pending(), "should wait, and gave {polled:?}");
        }
        set(trial, "queue", RESUMED).await;
        let claimed = done("claim", soon("the waiting claim", claiming).await);
        assert_eq!(ids(&claimed), [id]);
        trial
            .happen(id, Held::from(claimed[0].clone()).succeeded())
            .await;
    }
}

/// A pause of one queue holds back no job of another, whatever its priority and age.
pub async fn a_pause_leaves_other_queues_alone(trial: &mut Trial) {
    set(trial, "paused", PAUSED).await;
    let urgent = |job: &mut NewJob| {
        job.spec_mut().queue = name("paused");
        job.spec_mut().priority = super::trial::priority(0);
        job.status.run_at = trial.now().before(Duration::from_secs(9));
    };
    let held_back = trial.submit(urgent).await;
    let free = submit_to(trial, "queue").await;
    assert_eq!(ids(&trial.claim(want(9)).await), [free]);
    let claiming = trial.store().claim(want_and_wait(9));
    let next = submit_to(trial, "queue").await;
    let claimed = done("claim", soon("the claim", claiming).await);
    assert_eq!(ids(&claimed), [next]);
    set(trial, "paused", RESUMED).await;
    assert_eq!(ids(&trial.claim(want(9)).await), [held_back]);
}

/// What runs when its queue is paused goes on; what comes back to the queue, or comes due in it, stays.
pub async fn running_jobs_of_a_paused_queue_go_on(trial: &mut Trial) {
    let second = Duration::from_secs(1);
    let later = trial.now().after(second);
    let succeeds = trial.running(Lease::Node).await;
    let released = trial.running(Lease::Node).await;
    let fails = trial.running(Lease::Pulled).await;
    let due = trial.submit(|job| job.status.run_at = later).await;
    set(trial, "queue", PAUSED).await;
    let until = trial.now().after(Duration::from_secs(40));
    trial.happen(succeeds.id, succeeds.extended(until)).await;
    let ended = trial.happen(succeeds.id, succeeds.succeeded()).await;
    assert!(ended.status.state.is_final());
    trial
        .happen(released.id, released.released(HandBack::Drain))
        .await;
    trial
        .happen(fails.id, fails.failed(Retry::In(second)))
        .await;
    gives_nothing(trial, "queue").await;
    trial.advance(second * 2);
    gives_nothing(trial, "queue").await;
    // A person can still cancel them.
    trial.happen(due, Event::CancelRequested).await;
    set(trial, "queue", RESUMED).await;
    let claimed = ids(&trial.claim(want(9)).await);
    assert_eq!(claimed, [released.id, fails.id]);
}

/// What was set survives a reopen, and holds before the first claim.
pub async fn what_was_set_for_queues_survives_a_reopen(trial: &mut Trial) {
    submit_to(trial, "queue").await;
    set(trial, "queue", RESUMED).await;
    set(trial, "queue", PAUSED).await;
    set(trial, "small", depth(1)).await;
    set(trial, "made", QueueSettings::default()).await;
    submit_to(trial, "small").await;
    let before = kept(trial).await;
    if !trial.reopen().await {
        return;
    }
    assert_eq!(kept(trial).await, before);
    let of_queue = Want {
        queues: Some(vec![name("queue")]),
        ..want(9)
    };
    assert_eq!(ids(&trial.claim(of_queue).await), []);
    let more = jobs_for(trial, "small", 1);
    assert_eq!(refused(trial.store(), more).await, Some((1, 1)));
    assert_eq!(set(trial, "queue", RESUMED).await.version, 3);
    assert_eq!(trial.claim(want(9)).await.len(), 2);
}

/// Each limit is kept as it was set, from the least to the greatest, apart from the others; a change
/// replaces all of them; and they survive a reopen.
pub async fn limits_are_kept_and_survive_a_reopen(trial: &mut Trial) {
    let rate = |limit, period| {
        let rate_limit = Some(RateLimit { limit, period });
        QueueSettings {
            rate_limit,
            ..NOTHING
        }
    };
    let of_queue = |max_concurrency| QueueSettings {
        max_concurrency,
        ..NOTHING
    };
    let of_group = |group_concurrency| QueueSettings {
        group_concurrency,
        ..NOTHING
    };
    let all = QueueSettings {
        paused: Some(false),
        max_depth: Some(QUEUE_DEPTH_MAX),
        max_concurrency: Some(QUEUE_CONCURRENCY_MAX),
        group_concurrency: Some(QUEUE_CONCURRENCY_MAX),
        ..rate(RATE_LIMIT_MAX, RATE_PERIOD_MAX)
    };
    let each = [
        ("all", all),
        ("group", of_group(Some(1))),
        ("other-rate", rate(7, Duration::from_millis(1_500))),
        ("queue", of_queue(Some(1))),
        ("rate", rate(1, RATE_PERIOD_MIN)),
        ("replaced", of_group(Some(2))),
        ("reset", NOTHING),
    ];
    set(trial, "replaced", of_queue(Some(2))).await;
    set(trial, "reset", all).await;
    for (queue, settings) in each {
        assert_eq!(set(trial, queue, settings).await.settings, settings);
    }
    let expected: Vec<_> = each.map(|(queue, settings)| (name(queue), settings)).into();
    let found = async |trial: &Trial| -> Vec<_> {
        let kept = kept(trial).await.into_iter();
        kept.map(|kept| (kept.name, kept.settings)).collect()
    };
    assert_eq!(found(trial).await, expected);
    if trial.reopen().await {
        assert_eq!(found(trial).await, expected);
    }
}

/// A change for another version than the one that is kept is refused and changes nothing; versions
/// rise with every change, each change of a call is on its own, and queues are told by name.
pub async fn a_change_of_another_version_of_a_queue_is_refused(trial: &mut Trial) {
    let at = |queue, settings, version| QueueChange {
        if_version: Some(version),
        ..change(queue, settings)
    };
    let kept_as = |queue, version, settings| KeptQueue {
        name: name(queue),
        version,
        settings,
    };
    let first = kept_as("q", 1, PAUSED);
    let answers = set_all(
        trial,
        vec![
            at("q", RESUMED, 1),
            at("q", PAUSED, 0),
            at("q", RESUMED, 0),
            at("q", RESUMED, 2),
            change("a", depth(7)),
        ],
    )
    .await;
    let expected = [
        QueueSet::VersionDiffers(None),
        QueueSet::Done(first.clone()),
        QueueSet::VersionDiffers(Some(first.clone())),
        QueueSet::VersionDiffers(Some(first.clone())),
        QueueSet::Done(kept_as("a", 1, depth(7))),
    ];
    assert_eq!(answers, expected);
    assert_eq!(kept(trial).await, [kept_as("a", 1, depth(7)), first]);
    let second = set_all(trial, vec![at("q", RESUMED, 1)]).await;
    assert_eq!(second, [QueueSet::Done(kept_as("q", 2, RESUMED))]);
    let third = set(trial, "q", QueueSettings::default()).await;
    assert_eq!(third, kept_as("q", 3, QueueSettings::default()));
}

/// Of several changes at once for one version, one is made.
pub async fn of_several_changes_of_a_queue_at_once_one_is_made(trial: &mut Trial) {
    let mut changes = JoinSet::new();
    for limit in 1..=8 {
        let store = trial.store().clone();
        let first = QueueChange {
            if_version: Some(0),
            ..change("q", depth(limit))
        };
        changes.spawn(async move { store.set_queues(vec![first]).await });
    }
    let answers = soon("the changes", changes.join_all()).await;
    let answers = answers.into_iter().flat_map(|set| done("set_queues", set));
    let (made, refused): (Vec<_>, Vec<_>) =
        answers.partition(|set| matches!(set, QueueSet::Done(_)));
    let all = kept(trial).await;
    assert_eq!(made, [QueueSet::Done(all[0].clone())]);
    assert_eq!(
        refused,
        vec![QueueSet::VersionDiffers(Some(all[0].clone())); 7]
    );
}

/// There is a bound to how many queues something is kept of, and those that are can still be changed.
pub async fn settings_are_kept_of_so_many_queues_only(trial: &mut Trial) {
    let changes = (0..QUEUES_KEPT_MAX).map(|n| change(&format!("q{n}"), depth(1)));
    let set_up = set_all(trial, changes.collect()).await;
    assert!(set_up.iter().all(|set| matches!(set, QueueSet::Done(_))));
    let more = set_all(trial, vec![change("more", PAUSED), change("q7", PAUSED)]).await;
    assert_eq!(more[0], QueueSet::TooMany);
    assert!(matches!(&more[1], QueueSet::Done(kept) if kept.version == 2));
    assert_eq!(kept(trial).await.len(), QUEUES_KEPT_MAX);
}

/// What the process says of queues holds where nothing was set, also for queues that come later; it
/// takes the place of what it said before, and wakes claims that wait.
pub async fn what_the_process_says_of_queues_holds_where_nothing_was_set(trial: &mut Trial) {
    let paused = QueueDefaults {
        of: BTreeMap::from([(name("queue"), PAUSED), (name("small"), depth(1))]),
        ..QueueDefaults::default()
    };
    let early = submit_to(trial, "queue").await;
    configure(trial, paused.clone()).await;
    gives_nothing(trial, "queue").await;
    submit_to(trial, "small").await;
    let more = jobs_for(trial, "small", 1);
    assert_eq!(refused(trial.store(), more).await, Some((1, 1)));
    // What was set wins.
    set(trial, "small", depth(2)).await;
    let more = jobs_for(trial, "small", 1);
    assert_eq!(refused(trial.store(), more).await, None);
    assert_eq!(trial.claim(want(9)).await.len(), 2);
    set(trial, "queue", RESUMED).await;
    assert_eq!(ids(&trial.claim(want(9)).await), [early]);
    set(trial, "queue", QueueSettings::default()).await;

    let late = submit_to(trial, "queue").await;
    let claiming = trial.store().claim(want_and_wait(9));
    gives_nothing(trial, "queue").await;
    configure(trial, QueueDefaults::default()).await;
    let claimed = done("claim", soon("the waiting claim", claiming).await);
    assert_eq!(ids(&claimed), [late]);
}

/// A hold pauses every queue, used or not, whatever was set, until it is released.
pub async fn a_hold_pauses_every_queue_until_it_is_released(trial: &mut Trial) {
    let mut hold = QueueDefaults {
        hold: true,
        ..QueueDefaults::default()
    };
    set(trial, "resumed", RESUMED).await;
    let first = submit_to(trial, "queue").await;
    configure(trial, hold.clone()).await;
    submit_to(trial, "resumed").await;
    submit_to(trial, "new").await;
    gives_nothing(trial, "queue").await;
    hold.released = BTreeSet::from([name("queue")]);
    configure(trial, hold.clone()).await;
    assert_eq!(ids(&trial.claim(want(9)).await), [first]);
    gives_nothing(trial, "new").await;
    set(trial, "queue", PAUSED).await;
    submit_to(trial, "queue").await;
    gives_nothing(trial, "queue").await;
    configure(trial, QueueDefaults::default()).await;
    assert_eq!(trial.claim(want(9)).await.len(), 2);
}

/// No more jobs wait in a queue than may: a submit beyond that is refused as a whole, and says how many
/// wait. Scheduled ones wait too, running ones do not.
pub async fn a_full_queue_takes_no_more_jobs(trial: &mut Trial) {
    set(trial, "queue", depth(3)).await;
    let store = trial.store().clone();
    let batch = jobs_for(trial, "queue", 4);
    assert_eq!(refused(&store, batch).await, Some((0, 3)), "four at once");
    let mut two = jobs_for(trial, "queue", 2);
    two[1].status.run_at = trial.now().after(Duration::from_hours(1));
    assert_eq!(refused(&store, two).await, None);
    let mut mixed = jobs_for(trial, "queue", 2);
    mixed.extend(jobs_for(trial, "other", 2));
    let mixed_ids: Vec<JobId> = mixed.iter().map(|job| job.spec.id).collect();
    assert_eq!(refused(&store, mixed).await, Some((2, 3)), "one too many");
    for id in mixed_ids {
        assert_eq!(trial.found(id).await.here(), None, "{id}");
    }
    let one = jobs_for(trial, "queue", 1);
    assert_eq!(refused(&store, one).await, None);
    let one = jobs_for(trial, "queue", 1);
    assert_eq!(refused(&store, one).await, Some((3, 3)));
    let others = jobs_for(trial, "other", 5);
    assert_eq!(refused(&store, others).await, None, "another queue");
    // One that began leaves room for one that is submitted, and may come back all the same.
    let held = Held::from(trial.claim(want(1)).await.remove(0));
    let one = jobs_for(trial, "queue", 1);
    let cancelled = one[0].spec.id;
    assert_eq!(refused(&store, one).await, None);
    trial.happen(held.id, held.released(HandBack::Drain)).await;
    let one = jobs_for(trial, "queue", 1);
    assert_eq!(refused(&store, one).await, Some((4, 3)));
    trial.happen(cancelled, Event::CancelRequested).await;
    let one = jobs_for(trial, "queue", 1);
    assert_eq!(refused(&store, one).await, Some((3, 3)));
    set(trial, "queue", QueueSettings::default()).await;
    let many = jobs_for(trial, "queue", 9);
    assert_eq!(refused(&store, many).await, None, "without a limit");
}

/// A limit that is set counts the jobs that wait already, late ones too.
pub async fn a_limit_counts_what_waits_already(trial: &mut Trial) {
    let second = Duration::from_secs(1);
    let deadline = trial.now().after(second);
    trial.insert(jobs_for(trial, "queue", 2)).await;
    trial
        .submit(|job| job.status.start_before = Some(deadline))
        .await;
    trial.advance(second * 2);
    set(trial, "queue", depth(4)).await;
    let store = trial.store().clone();
    let two = jobs_for(trial, "queue", 2);
    assert_eq!(refused(&store, two).await, Some((3, 4)));
    assert_eq!(trial.claim(want(9)).await.len(), 2);
    let three = jobs_for(trial, "queue", 3);
    assert_eq!(refused(&store, three).await, None);
}

/// However many submit at once, no more jobs wait than may, and no fewer.
pub async fn a_limit_holds_under_submits_at_once(trial: &mut Trial) {
    const LIMIT: u64 = 10;
    set(trial, "queue", depth(LIMIT)).await;
    let mut submits = JoinSet::new();
    for _ in 0..40 {
        let (store, jobs) = (trial.store().clone(), jobs_for(trial, "queue", 1));
        submits.spawn(async move { refused(&store, jobs).await });
    }
    let answers = soon("the submits", submits.join_all()).await;
    let taken = answers.iter().filter(|answer| answer.is_none()).count();
    assert_eq!(taken as u64, LIMIT);
    let claimed: Vec<Claimed> = trial.claim(want(100)).await;
    assert_eq!(claimed.len() as u64, LIMIT);
}

/// Counts tell since when the oldest ready job of a task in a queue has been so.
pub async fn counts_tell_of_the_oldest_ready_job(trial: &mut Trial) {
    let second = Duration::from_secs(1);
    let (early, late) = (trial.now().before(second), trial.now().after(second));
    let oldest = async |trial: &Trial| {
        let counts = done("counts", trial.store().counts().await);
        let of_queue = counts.into_iter().find(|of| of.queue == name("queue"));
        of_queue.and_then(|of| of.oldest_ready)
    };
    assert_eq!(oldest(trial).await, None);
    trial.submit(|job| job.status.run_at = late).await;
    assert_eq!(oldest(trial).await, None, "it is scheduled");
    let submitted = trial.now();
    trial.submit_plain().await;
    assert_eq!(oldest(trial).await, Some(submitted));
    trial
        .submit(|job| {
            job.status.run_at = early;
            job.spec_mut().priority = super::trial::priority(9);
        })
        .await;
    set(trial, "queue", PAUSED).await;
    assert_eq!(oldest(trial).await, Some(early));
    set(trial, "queue", RESUMED).await;
    assert_eq!(trial.claim(want(9)).await.len(), 2);
    assert_eq!(oldest(trial).await, None, "none is ready");
    trial.advance(second);
    assert_eq!(oldest(trial).await, Some(late));
    let deadline = trial.now();
    trial
        .submit(|job| {
            job.status.run_at = early;
            job.status.start_before = Some(deadline);
        })
        .await;
    trial.advance(second);
    assert_eq!(
        oldest(trial).await,
        Some(early),
        "too late, and still there"
    );
}
