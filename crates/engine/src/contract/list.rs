//! Lists show the newest jobs first, page by page, and counts say how many there are.

use super::Trial;
use super::trial::{done, name, want};
use crate::store::{Change, Counts, Cursor, Filter, NewJob, Page};
use anteroom_core::limits::PAGE_LOOKED_AT_MAX;
use anteroom_core::{Event, Failure, FailureKind, JobId, Label, Lease, Retry, ShownState};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn page(size: usize) -> Page {
    Page { size, after: None }
}

async fn listed(trial: &Trial, filter: &Filter) -> Vec<JobId> {
    let listing = trial.store().list(filter, page(1_000)).await;
    let jobs = done("list", listing).jobs;
    jobs.iter().map(|job| job.spec.id).collect()
}

/// A list is newest first; its jobs are as they stand, and of all their errors it has the last one
/// of those that failed.
pub async fn a_list_is_newest_first_and_has_the_last_error_of_what_failed(trial: &mut Trial) {
    let empty = done(
        "list",
        trial.store().list(&Filter::default(), page(9)).await,
    );
    assert!(empty.jobs.is_empty() && empty.next.is_none(), "{empty:?}");
    let held = trial.running(Lease::Node).await;
    trial.happen(held.id, held.failed(Retry::In(SECOND))).await;
    let running = trial.running(Lease::Pulled).await;
    let done_already = trial.running(Lease::Node).await;
    trial
        .happen(done_already.id, done_already.succeeded())
        .await;
    let failed = failed_twice(trial).await;
    let retried = failed_twice(trial).await;
    trial.happen(retried, Event::RetryRequested).await;
    let mut expected = Vec::new();
    for id in [retried, failed, done_already.id, running.id, held.id] {
        let mut job = trial.job(id).await;
        let last = job.errors.pop().filter(|_| id == failed);
        job.errors = last.into_iter().collect();
        expected.push(job);
    }
    assert_eq!(expected[1].errors.len(), 1);
    let listing = done(
        "list",
        trial.store().list(&Filter::default(), page(9)).await,
    );
    assert_eq!(listing.jobs, expected);
}

/// Submits a job, lets two attempts of it fail, each with an error of its own, and returns its id.
async fn failed_twice(trial: &Trial) -> JobId {
    let id = trial.submit_plain().await;
    for (n, retry) in [Retry::In(Duration::ZERO), Retry::Never]
        .into_iter()
        .enumerate()
    {
        let event = Event::Failed {
            claim: trial.claim_one().await.claim,
            failure: Failure::new(FailureKind::Error, format!("error {n} of {id}")),
            retry,
        };
        trial.happen(id, event).await;
    }
    id
}

/// A list shows those jobs that its filter names, in each of its members and all at once.
pub async fn a_list_shows_what_its_filter_names(trial: &mut Trial) {
    let all = one_job_in_every_state(trial).await;
    let of = |numbers: &[usize]| -> Vec<JobId> {
        let newest_first = (0..all.len()).rev();
        let shown = newest_first.filter(|n| numbers.contains(n));
        shown.map(|n| all[n]).collect()
    };
    let mut cases = vec![
        (Filter::default(), of(&[0, 1, 2, 3, 4, 5])),
        (created_between(Some(1), None), of(&[2, 3, 4, 5])),
        (created_between(None, Some(1)), of(&[0])),
        (created_between(Some(0), Some(3)), of(&[1, 2])),
    ];
    for (n, state) in ShownState::ALL.into_iter().enumerate() {
        cases.push((in_states(&[state]), of(&[n])));
    }
    let ends = [ShownState::Succeeded, ShownState::Ready];
    cases.push((in_states(&ends), of(&[1, 3])));
    let task = Some(name("even"));
    let allowed = |tasks: &[&str]| Some(tasks.iter().map(|task| name(task)).collect::<Vec<_>>());
    let queue = Some(name("high"));
    let group = Label::new("g").ok();
    let tags = |pairs: &[(&str, &str)]| -> Vec<_> {
        let owned = |(key, value): &(&str, &str)| (name(key), (*value).to_owned());
        pairs.iter().map(owned).collect()
    };
    #[rustfmt::skip]
    cases.extend([
        (Filter { task: task.clone(), ..Filter::default() }, of(&[0, 2, 4])),
        (Filter { tasks_allowed: allowed(&["even"]), ..Filter::default() }, of(&[0, 2, 4])),
        (Filter { tasks_allowed: allowed(&["odd", "x", "even"]), ..Filter::default() }, of(&[0, 1, 2, 3, 4, 5])),
        (Filter { tasks_allowed: allowed(&[]), ..Filter::default() }, of(&[])),
        (Filter { tasks_allowed: allowed(&["odd"]), task: task.clone(), ..Filter::default() }, of(&[])),
        (Filter { task: Some(name("none")), ..Filter::default() }, of(&[])),
        (Filter { queue: queue.clone(), ..Filter::default() }, of(&[3, 4, 5])),
        (Filter { group: group.clone(), ..Filter::default() }, of(&[0])),
        (Filter { tags: tags(&[("n", "4")]), ..Filter::default() }, of(&[4])),
        (Filter { tags: tags(&[("n", "4"), ("all", "1")]), ..Filter::default() }, of(&[4])),
        (Filter { tags: tags(&[("n", "4"), ("all", "2")]), ..Filter::default() }, of(&[])),
        (Filter { tags: tags(&[("all", "1")]), task, queue, ..Filter::default() }, of(&[4])),
    ]);
    for (filter, expected) in cases {
        assert_eq!(listed(trial, &filter).await, expected, "{filter:?}");
    }
    // The passage of time alone makes what was scheduled ready.
    trial.advance(SECOND);
    let ready = in_states(&[ShownState::Ready]);
    assert_eq!(listed(trial, &ready).await, of(&[0, 1]));
}

fn in_states(states: &[ShownState]) -> Filter {
    Filter {
        states: states.to_vec(),
        ..Filter::default()
    }
}

fn created_between(after: Option<i64>, before: Option<i64>) -> Filter {
    let instant = |n: i64| anteroom_core::Timestamp::from_millis(n);
    Filter {
        created_after: after.map(instant),
        created_before: before.map(instant),
        ..Filter::default()
    }
}

/// Submits a job for each state, in their order, and brings it there.
async fn one_job_in_every_state(trial: &Trial) -> Vec<JobId> {
    let mut all = Vec::new();
    for (n, state) in (0_i64..).zip(ShownState::ALL) {
        let mut job = trial.new_job();
        job.spec_mut().task = name(if n % 2 == 0 { "even" } else { "odd" });
        job.spec_mut().queue = name(if n < 3 { "low" } else { "high" });
        job.spec_mut().group = Label::new("g").ok().filter(|_| n == 0);
        job.spec_mut().created_at = anteroom_core::Timestamp::from_millis(n);
        let tags = [(name("n"), n.to_string()), (name("all"), "1".to_owned())];
        job.spec_mut().tags = tags.into_iter().collect();
        if state == ShownState::Scheduled {
            job.status.run_at = trial.now().after(SECOND);
        }
        let (id, task) = (job.spec.id, job.spec.task.clone());
        trial.insert(vec![job]).await;
        all.push(id);
        let needs_claim = [
            ShownState::Running,
            ShownState::Succeeded,
            ShownState::Failed,
        ];
        let claim = if needs_claim.contains(&state) {
            let wanted = crate::store::Want {
                tasks: vec![task],
                queues: Some(vec![name(if n < 3 { "low" } else { "high" })]),
                ..want(1)
            };
            trial.claim(wanted).await[0].job.status.claim
        } else {
            anteroom_core::ClaimNumber::NONE
        };
        match state {
            ShownState::Scheduled | ShownState::Ready | ShownState::Running => {}
            ShownState::Succeeded => {
                trial.happen(id, Event::Succeeded { claim }).await;
            }
            ShownState::Failed => {
                let failure = anteroom_core::Failure::new(anteroom_core::FailureKind::Panic, "");
                let retry = Retry::Never;
                let event = Event::Failed {
                    claim,
                    failure,
                    retry,
                };
                trial.happen(id, event).await;
            }
            ShownState::Cancelled => {
                trial.happen(id, Event::CancelRequested).await;
            }
        }
    }
    all
}

/// Follows the pages of `filter` from `after` to the end.
async fn pages(trial: &Trial, filter: &Filter, size: usize, after: Option<Cursor>) -> Vec<JobId> {
    let mut shown = Vec::new();
    let mut after = after;
    loop {
        let part = trial.store().list(filter, Page { size, after }).await;
        let part = done("list", part);
        assert!(
            part.jobs.len() <= size,
            "{} jobs of {size}",
            part.jobs.len()
        );
        shown.extend(part.jobs.iter().map(|job| job.spec.id));
        match part.next {
            Some(cursor) => {
                assert_ne!(after, Some(cursor), "the list does not get on");
                after = Some(cursor);
            }
            None => return shown,
        }
    }
}

/// Pages follow each other without a gap or a repetition, also while jobs come and go.
pub async fn pages_are_stable_while_jobs_come_and_go(trial: &mut Trial) {
    let jobs: Vec<NewJob> = (0..10).map(|_| trial.new_job()).collect();
    let all: Vec<JobId> = jobs.iter().rev().map(|job| job.spec.id).collect();
    trial.insert(jobs).await;
    let every = Filter::default();
    for size in [1, 3, 5, 9, 10, 11] {
        assert_eq!(
            pages(trial, &every, size, None).await,
            all,
            "pages of {size}"
        );
    }
    let first = done("list", trial.store().list(&every, page(4)).await);
    let shown: Vec<JobId> = first.jobs.iter().map(|job| job.spec.id).collect();
    assert_eq!(shown, all[..4]);
    // New ones come in front; the one that the cursor stands at goes, and one ahead of it.
    for _ in 0..3 {
        trial.submit_plain().await;
    }
    for id in [all[3], all[6]] {
        trial.happen(id, Event::CancelRequested).await;
        done("delete", trial.store().delete(id, None).await);
    }
    let rest = pages(trial, &every, 2, first.next).await;
    assert_eq!(rest, [all[4], all[5], all[7], all[8], all[9]]);
}

/// A page looks at so many jobs and no more: it may be empty although there are more.
pub async fn a_page_looks_at_no_more_jobs_than_its_bound(trial: &mut Trial) {
    let rare = trial.submit(|job| job.spec_mut().task = name("rare")).await;
    let mut left = PAGE_LOOKED_AT_MAX;
    while left > 0 {
        let some = left.min(1_000);
        trial
            .insert((0..some).map(|_| trial.new_job()).collect())
            .await;
        left -= some;
    }
    let filter = Filter {
        task: Some(name("rare")),
        ..Filter::default()
    };
    let first = done("list", trial.store().list(&filter, page(50)).await);
    assert!(first.jobs.is_empty(), "looked at more than the bound");
    assert!(first.next.is_some(), "there is more");
    assert_eq!(pages(trial, &filter, 50, first.next).await, [rare]);
}

/// Counts say how many unfinished jobs there are of each task in each queue, as time goes by.
pub async fn counts_follow_the_jobs(trial: &mut Trial) {
    assert_eq!(counts(trial).await, []);
    let submit = |task: &'static str, queue: &'static str, delay| {
        let run_at = trial.now().after(delay);
        trial.submit(move |job| {
            job.spec_mut().task = name(task);
            job.spec_mut().queue = name(queue);
            job.status.run_at = run_at;
        })
    };
    let ready = submit("task", "a", Duration::ZERO).await;
    submit("task", "a", Duration::ZERO).await;
    submit("task", "b", SECOND).await;
    submit("other", "a", SECOND * 2).await;
    assert_eq!(
        counts(trial).await,
        [
            ("other", "a", [1, 0, 0]),
            ("task", "a", [0, 2, 0]),
            ("task", "b", [1, 0, 0])
        ]
    );
    let held = trial.claim(want(1)).await.remove(0);
    assert_eq!(held.job.spec.id, ready);
    trial.advance(SECOND);
    assert_eq!(
        counts(trial).await,
        [
            ("other", "a", [1, 0, 0]),
            ("task", "a", [0, 1, 1]),
            ("task", "b", [0, 1, 0])
        ]
    );
    let claim = held.job.status.claim;
    let late = Change::new(
        ready,
        Event::Succeeded {
            claim: claim.next(),
        },
    );
    assert!(trial.apply(late).await.is_err());
    trial.happen(ready, Event::Succeeded { claim }).await;
    for _ in 0..2 {
        let held = trial.claim(want(1)).await.remove(0);
        let claim = held.job.status.claim;
        trial
            .happen(held.job.spec.id, Event::Succeeded { claim })
            .await;
    }
    assert_eq!(counts(trial).await, [("other", "a", [1, 0, 0])]);
}

/// Returns the counts that are not all nought, in order: scheduled, ready, running.
async fn counts(trial: &Trial) -> Vec<(&'static str, &'static str, [u64; 3])> {
    let known = |text: &str| -> &'static str {
        let all = ["task", "other", "a", "b"];
        all.into_iter().find(|known| *known == text).unwrap_or("?")
    };
    let counts = done("counts", trial.store().counts().await);
    let numbers = |of: &Counts| [of.scheduled, of.ready, of.running];
    let mut counts: Vec<_> = counts
        .iter()
        .filter(|of| numbers(of) != [0, 0, 0])
        .map(|of| (known(&of.task), known(&of.queue), numbers(of)))
        .collect();
    counts.sort_unstable();
    counts
}
