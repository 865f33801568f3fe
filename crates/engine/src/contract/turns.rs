//! Who is next: groups take turns, priorities have shares, and everybody can be told his place.

use super::Trial;
use super::trial::{done, ids, label, name, priority, want};
use crate::store::{Change, Claimed, NewJob, PlaceOf, QueueChange};
use anteroom_core::{Amendment, Event, JobId, Place, Position, QueueSettings};
use std::time::Duration;

fn jobs(trial: &Trial, count: usize, alter: impl Fn(&mut NewJob)) -> Vec<NewJob> {
    let job = |_| {
        let mut job = trial.new_job();
        alter(&mut job);
        job
    };
    (0..count).map(job).collect()
}

async fn insert_for(trial: &Trial, group: &str, count: usize) {
    let jobs = jobs(trial, count, |job| {
        job.spec_mut().group = Some(label(group));
    });
    trial.insert(jobs).await;
}

/// Claims all there is to claim, a few at a time.
async fn claim_all(trial: &Trial) -> Vec<Claimed> {
    let mut all = Vec::new();
    loop {
        let claimed = trial.claim(want(7)).await;
        if claimed.is_empty() {
            return all;
        }
        all.extend(claimed);
    }
}

async fn place(trial: &Trial, id: JobId) -> Option<Place> {
    done("place", trial.store().place(PlaceOf::Job(id)).await)
}

async fn ahead(trial: &Trial, id: JobId) -> Option<u64> {
    let place = place(trial, id).await?;
    place.position.map(|position| position.ahead)
}

/// Groups take turns, whatever their depth: small ones are through before a large one has started
/// more than as many of its own, and a batch.
pub async fn groups_take_turns_whatever_their_depth(trial: &mut Trial) {
    insert_for(trial, "large", 400).await;
    for group in ["a", "b", "c"] {
        insert_for(trial, group, 10).await;
    }
    let all = claim_all(trial).await;
    assert_eq!(all.len(), 430);
    let is_of = |one: &Claimed, group: &str| one.job.spec.group == Some(label(group));
    for group in ["a", "b", "c"] {
        let places: Vec<usize> = (0..all.len())
            .filter(|at| is_of(&all[*at], group))
            .collect();
        assert_eq!(places.len(), 10, "jobs of group {group}");
        let through = &all[..places[9]];
        let large = through.iter().filter(|one| is_of(one, "large")).count();
        assert!(large <= 10 + 7, "{large} before the last of {group}");
    }
}

/// Jobs of one group and priority go by `run_at`, then in the order of submission; so do those that
/// have none.
pub async fn jobs_of_a_group_keep_their_order(trial: &mut Trial) {
    let now = trial.now();
    let mut expected = Vec::new();
    for group in [Some("a"), None] {
        let mut jobs = jobs(trial, 9, |job| job.spec_mut().group = group.map(label));
        for (job, ago) in jobs.iter_mut().zip([3, 1, 4, 1, 5, 9, 2, 6, 5]) {
            job.status.run_at = now.before(Duration::from_millis(ago));
        }
        let mut order: Vec<_> = jobs
            .iter()
            .map(|job| (job.status.run_at, job.spec.id))
            .collect();
        order.sort_unstable();
        expected.push(order.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
        trial.insert(jobs).await;
    }
    let all = claim_all(trial).await;
    for (group, expected) in [Some(label("a")), None].into_iter().zip(expected) {
        let of_group = all.iter().filter(|one| one.job.spec.group == group);
        let of_group: Vec<JobId> = of_group.map(|one| one.job.spec.id).collect();
        assert_eq!(of_group, expected, "{group:?}");
    }
}

/// Each priority gets twice the starts of the next less urgent one while both have jobs waiting, and
/// the more urgent one begins: none starves, and none waits for the others to be done.
pub async fn priorities_have_shares(trial: &mut Trial) {
    for number in [9, 8, 6] {
        let jobs = jobs(trial, 200, |job| job.spec_mut().priority = priority(number));
        trial.insert(jobs).await;
    }
    let all = claim_all(trial).await;
    assert_eq!(all[0].job.spec.priority, priority(6));
    for taken in [11, 22, 110, 220] {
        let counts = [(6, 8), (8, 2), (9, 1)].map(|(number, weight)| {
            let of = |one: &&Claimed| one.job.spec.priority == priority(number);
            (all[..taken].iter().filter(of).count(), taken * weight / 11)
        });
        for (count, fair) in counts {
            assert!(count.abs_diff(fair) <= 1, "{counts:?} of {taken}");
        }
    }
}

/// A change that is refused, or that says nothing of where a job waits, leaves it its turn.
pub async fn what_does_not_move_a_job_leaves_it_its_turn(trial: &mut Trial) {
    let patient = trial
        .submit(|job| job.spec_mut().priority = priority(6))
        .await;
    trial.insert(jobs(trial, 10, |_| {})).await;
    assert_eq!(trial.claim(want(2)).await.len(), 2);
    let tags = Some([(name("tag"), "1".to_owned())].into());
    let amendment = Box::new(Amendment {
        tags,
        ..Amendment::default()
    });
    let changes = [Event::RetryRequested, Event::Amended { amendment }];
    let changes = changes.map(|event| Change::new(patient, event)).into();
    let applied = done("apply", trial.store().apply(changes).await);
    let went = applied.iter().map(Result::is_ok);
    assert_eq!(went.collect::<Vec<_>>(), [false, true]);
    assert_eq!(ids(&trial.claim(want(1)).await), [patient]);
}

/// Queues of what is asked for take turns: a deep one holds up no other.
pub async fn queues_take_turns(trial: &mut Trial) {
    trial.insert(jobs(trial, 100, |_| {})).await;
    let others = jobs(trial, 10, |job| job.spec_mut().queue = name("other"));
    trial.insert(others).await;
    let claimed = trial.claim(want(30)).await;
    let of_other = claimed
        .iter()
        .filter(|one| one.job.spec.queue == name("other"));
    assert_eq!(of_other.count(), 10);
}

/// A waiting job can be told how many ready ones of its queue are ahead of it by priority and order;
/// one that does not wait has no place, and a scheduled one no position.
pub async fn a_waiting_job_can_be_told_its_place(trial: &mut Trial) {
    insert_for(trial, "large", 5).await;
    let small = trial
        .submit(|job| job.spec_mut().group = Some(label("small")))
        .await;
    let urgent = trial
        .submit(|job| job.spec_mut().priority = priority(0))
        .await;
    let elsewhere = trial
        .submit(|job| job.spec_mut().queue = name("other"))
        .await;
    let due = trial.now().after(Duration::from_hours(1));
    let scheduled = trial.submit(|job| job.status.run_at = due).await;
    assert_eq!(ahead(trial, urgent).await, Some(0));
    assert_eq!(
        ahead(trial, small).await,
        Some(2),
        "the urgent one, and one of the large group"
    );
    assert_eq!(ahead(trial, elsewhere).await, Some(0));
    let of_scheduled = place(trial, scheduled).await;
    let Some(of_scheduled) = of_scheduled else {
        panic!("a scheduled job waits");
    };
    assert_eq!((of_scheduled.position, of_scheduled.ready), (None, 7));
    let new = |group, number| PlaceOf::New {
        task: name("task"),
        queue: name("queue"),
        group,
        priority: priority(number),
    };
    for (of, expected) in [
        (new(None, 5), 3),
        (new(Some(label("large")), 5), 7),
        (new(Some(label("small")), 5), 4),
        (new(None, 0), 1),
        (new(None, 9), 7),
    ] {
        let place = done("place", trial.store().place(of.clone()).await);
        let position = place.and_then(|place| place.position);
        let is_exact = true;
        let expected = Position {
            ahead: expected,
            is_exact,
        };
        assert_eq!(position, Some(expected), "{of:?}");
    }
    assert_eq!(ids(&trial.claim(want(1)).await), [urgent]);
    assert_eq!(place(trial, urgent).await, None, "it runs");
    assert_eq!(place(trial, trial.new_job().spec.id).await, None);
    assert_eq!(ahead(trial, small).await, Some(1));
}

/// A place tells what holds a job back: limits of its queue, how many run, and what its priority's
/// share makes of those ahead.
pub async fn a_place_tells_what_holds_a_job_back(trial: &mut Trial) {
    let settings = QueueSettings {
        max_concurrency: Some(2),
        group_concurrency: Some(1),
        ..QueueSettings::default()
    };
    let change = QueueChange {
        name: name("queue"),
        settings,
        if_version: None,
    };
    done("set_queues", trial.store().set_queues(vec![change]).await);
    insert_for(trial, "a", 3).await;
    trial
        .insert(jobs(trial, 8, |job| job.spec_mut().priority = priority(6)))
        .await;
    let last = trial
        .submit(|job| job.spec_mut().group = Some(label("a")))
        .await;
    assert_eq!(trial.claim(want(9)).await.len(), 2);
    let Some(place) = place(trial, last).await else {
        panic!("it waits");
    };
    assert_eq!(place.rule.max_concurrency, Some(2));
    assert_eq!(place.rule.group_concurrency, Some(1));
    assert_eq!((place.running, place.group_running), (2, 1));
    assert_eq!(place.position.map(|position| position.ahead), Some(2));
    // Two of its own and, by their share, one in two of the less urgent ones.
    assert_eq!(place.starts_before, 2 + 1);
    assert_eq!(place.next_start_at, None);
}
