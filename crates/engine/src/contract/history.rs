//! What happened to a job can be read: every state, and the latest of what its attempts said.

use super::Trial;
use super::trial::{LEASE_FOR, TICK, done, line, payload, progress};
use crate::store::{Change, Found, Refused};
use anteroom_core::limits::{
    REPORT_BYTES_MAX, REPORTS_KEPT_BYTES_MAX, REPORTS_KEPT_MAX, STATES_KEPT_MAX,
};
use anteroom_core::{
    Event, EventId, EventPart, HandBack, Happened, JobEvent, JobId, Lease, Rejected, Report,
    Reports, Retry, ShownState, Status,
};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Fails unless ids rise and these states were entered, each with its attempt.
fn states_are(events: &[JobEvent], expected: &[(ShownState, u32)]) {
    let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();
    assert!(ids.is_sorted_by(|one, next| one < next), "{events:#?}");
    let states: Vec<_> = events
        .iter()
        .filter_map(|event| match event.happened {
            Happened::Entered { state, attempt } => Some((state, attempt)),
            Happened::Reported { .. } => None,
        })
        .collect();
    assert_eq!(states, expected, "{events:#?}");
}

/// Returns what was said, with the attempt that said it.
fn said(events: &[JobEvent]) -> Vec<(u32, Report)> {
    let said = events.iter().filter_map(|event| match &event.happened {
        Happened::Entered { .. } => None,
        Happened::Reported { attempt, report } => Some((*attempt, report.clone())),
    });
    said.collect()
}

/// Submitted, begun once and ended: each state is told, at every point of the way, and those told
/// before keep their ids.
pub async fn a_straight_life_is_told_as_it_happened(trial: &mut Trial) {
    use ShownState::{Cancelled, Failed, Ready, Running, Succeeded};
    let held = trial.running(Lease::Node).await;
    let begun = trial.history(held.id).await.events;
    states_are(&begun, &[(Ready, 0), (Running, 1)]);
    trial.happen(held.id, held.succeeded()).await;
    let ended = trial.history(held.id).await;
    states_are(&ended.events, &[(Ready, 0), (Running, 1), (Succeeded, 1)]);
    assert_eq!(ended.events[..2], begun);
    assert_eq!(ended.job, trial.job(held.id).await);
    assert!(ended.is_all && ended.states_missing == 0);

    let held = trial.running(Lease::Node).await;
    trial.happen(held.id, held.failed(Retry::Never)).await;
    let events = trial.history(held.id).await.events;
    states_are(&events, &[(Ready, 0), (Running, 1), (Failed, 1)]);

    let id = trial.submit_plain().await;
    trial.happen(id, Event::CancelRequested).await;
    let events = trial.history(id).await.events;
    states_are(&events, &[(Ready, 0), (Cancelled, 0)]);
}

/// Attempts that fail, are handed back or lost, and retries: none of the states is forgotten.
pub async fn every_state_is_told_of_a_life_that_is_not_straight(trial: &mut Trial) {
    use ShownState::{Cancelled, Failed, Ready, Running, Scheduled, Succeeded};
    let id = trial
        .submit(|job| job.status = Status::submitted(job.status.run_at, None, 2))
        .await;
    let held = trial.claim_one().await;
    trial.happen(id, held.failed(Retry::In(SECOND))).await;
    let mut expected = vec![(Ready, 0), (Running, 1), (Scheduled, 1)];
    states_are(&trial.history(id).await.events, &expected);
    trial.advance(SECOND);
    let held = trial.claim_one().await;
    trial.happen(id, held.released(HandBack::Drain)).await;
    expected.extend([(Ready, 1), (Running, 2), (Ready, 1)]);
    states_are(&trial.history(id).await.events, &expected);
    let held = trial.claim_one().await;
    // Told to stop, and still running: no other state.
    trial.happen(id, Event::CancelRequested).await;
    trial.happen(id, held.failed(Retry::In(SECOND))).await;
    expected.extend([(Running, 2), (Cancelled, 2)]);
    states_are(&trial.history(id).await.events, &expected);
    trial.happen(id, Event::RetryRequested).await;
    let held = trial.claim_one().await;
    trial.happen(id, held.failed(Retry::Never)).await;
    expected.extend([(Ready, 0), (Running, 1), (Failed, 1)]);
    states_are(&trial.history(id).await.events, &expected);
    trial.happen(id, Event::RetryRequested).await;
    let held = trial.claim_one().await;
    trial.happen(id, held.succeeded()).await;
    expected.extend([(Ready, 0), (Running, 1), (Succeeded, 1)]);
    states_are(&trial.history(id).await.events, &expected);
}

/// The passage from scheduled to ready is told as soon as its time has come, and not before.
pub async fn a_job_becomes_ready_without_a_change(trial: &mut Trial) {
    use ShownState::{Cancelled, Ready, Running, Scheduled, Succeeded};
    let submit = async |trial: &Trial| {
        let run_at = trial.now().after(SECOND);
        let status = Status::submitted(run_at, None, 5);
        trial.submit(|job| job.status = status).await
    };
    let id = submit(trial).await;
    let early = submit(trial).await;
    trial.advance_almost(SECOND);
    trial.happen(early, Event::CancelRequested).await;
    let before = trial.history(id).await.events;
    states_are(&before, &[(Scheduled, 0)]);
    trial.advance(TICK);
    let due = trial.history(id).await.events;
    states_are(&due, &[(Scheduled, 0), (Ready, 0)]);
    assert_eq!(due[..1], before);
    let held = trial.claim_one().await;
    trial.happen(id, held.succeeded()).await;
    let events = trial.history(id).await.events;
    let expected = [(Scheduled, 0), (Ready, 0), (Running, 1), (Succeeded, 1)];
    states_are(&events, &expected);
    assert_eq!(events[..2], due);
    // What ended before its time never was ready, however late it is now.
    let events = trial.history(early).await.events;
    states_are(&events, &[(Scheduled, 0), (Cancelled, 0)]);
}

/// Reports stand where they were made: between the states, those of a settle before its end. Each
/// time they are written is a change of the job.
pub async fn what_an_attempt_says_is_kept_in_its_order(trial: &mut Trial) {
    let held = trial.running(Lease::Node).await;
    let half = Report::Progress(progress(0.5, "half"));
    let first = vec![line("one"), half.clone(), line("\u{e4}\0 \"two\"\n")];
    let before = trial.job(held.id).await;
    let applied = trial.apply(held.says(first.clone())).await;
    let heard = trial.job(held.id).await;
    assert_eq!(applied, Ok(heard.clone()));
    assert_eq!(heard.status.version, before.status.version + 1);
    let mut change = held.success(payload("text/plain", "done"));
    change.reports.list = vec![line("last words")];
    trial.applied(change).await;
    let events = trial.history(held.id).await.events;
    let expected: Vec<_> = first
        .into_iter()
        .chain([line("last words")])
        .map(|report| (1, report))
        .collect();
    assert_eq!(said(&events), expected);
    assert!(matches!(events[1].happened, Happened::Entered { .. }));
    assert!(matches!(events[6].happened, Happened::Entered { .. }));
    let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();
    assert!(ids.is_sorted_by(|one, next| one < next), "{events:#?}");
}

/// What a worker says after it lost its lease is refused, together with the event that brings it.
pub async fn what_a_late_worker_says_is_not_kept(trial: &mut Trial) {
    let late = trial.running(Lease::Node).await;
    trial.advance(LEASE_FOR);
    trial.happen(late.id, late.lease_expired()).await;
    let current = trial.claim_one().await;
    assert_eq!(current.id, late.id);
    trial.say(&current, vec![line("mine")]).await;
    let before = trial.history(late.id).await;
    let list = vec![Report::Progress(progress(0.9, "late")), line("late")];
    let mut settle = late.success(payload("text/plain", "late"));
    settle.reports.list.clone_from(&list);
    for change in [late.says(list), settle] {
        let what = format!("{:?}", change.event);
        let applied = trial.apply(change).await;
        let is_lost = matches!(applied, Err(Refused::Rejected(Rejected::LeaseLost, _)));
        assert!(is_lost, "{what}: {applied:?}");
        assert_eq!(trial.history(late.id).await, before, "{what}");
    }
}

/// The job shows the latest progress, until another attempt begins.
pub async fn progress_is_what_the_latest_attempt_said_last(trial: &mut Trial) {
    let held = trial.running(Lease::Node).await;
    assert_eq!(held.job.progress, None);
    let list = [0.25, 0.5].map(|part| Report::Progress(progress(part, "going on")));
    trial.say(&held, list.to_vec()).await;
    let half = Some(progress(0.5, "going on"));
    assert_eq!(trial.job(held.id).await.progress, half);
    trial.say(&held, vec![line("a line")]).await;
    assert_eq!(trial.job(held.id).await.progress, half, "a line is none");
    let failed = held.failed(Retry::In(Duration::ZERO));
    let waiting = trial.happen(held.id, failed).await;
    assert_eq!(waiting.progress, half, "kept when it ended");
    let again = trial.claim_one().await;
    assert_eq!(again.id, held.id);
    assert_eq!(again.job.progress, None, "another attempt begins anew");
    let mut change = again.success(payload("text/plain", ""));
    let whole = progress(1.0, "done");
    change.reports.list = vec![Report::Progress(whole.clone())];
    assert_eq!(trial.applied(change).await.progress, Some(whole.clone()));
    assert_eq!(trial.job(held.id).await.progress, Some(whole));
}

/// Of what attempts say the latest is kept, within a number and within bytes; states stay.
pub async fn the_latest_reports_are_kept(trial: &mut Trial) {
    let held = trial.running(Lease::Node).await;
    let lines: Vec<Report> = (0..REPORTS_KEPT_MAX + 50)
        .map(|n| line(&n.to_string()))
        .collect();
    for lines in lines.chunks(300) {
        trial.say(&held, lines.to_vec()).await;
    }
    let history = trial.history(held.id).await;
    let kept: Vec<Report> = said(&history.events)
        .into_iter()
        .map(|(_, it)| it)
        .collect();
    assert_eq!(kept, lines[50..]);
    assert_eq!(history.events[2].id.missing_since(history.events[1].id), 50);

    let long = "x".repeat(REPORT_BYTES_MAX);
    let fit = REPORTS_KEPT_BYTES_MAX / REPORT_BYTES_MAX;
    for _ in 0..=fit {
        trial.say(&held, vec![line(&long)]).await;
    }
    let events = trial.history(held.id).await.events;
    assert_eq!(said(&events).len(), fit);
    let first = events.iter().find(|event| event.id.version > 2);
    let first = first.map(|event| event.id.missing_since(EventId::START));
    assert_eq!(first, Some(lines.len() as u64 + 1));

    // More at once than are kept at all.
    let mut change = held.success(payload("text/plain", ""));
    change.reports.list = lines;
    trial.applied(change).await;
    let events = trial.history(held.id).await.events;
    assert_eq!(said(&events).len(), REPORTS_KEPT_MAX);
    let expected = [
        ShownState::Ready,
        ShownState::Running,
        ShownState::Succeeded,
    ];
    let expected: Vec<_> = expected.into_iter().zip([0, 1, 1]).collect();
    states_are(&events, &expected);
}

/// States are dropped only once there are thousands of them, and how many is told.
pub async fn the_oldest_of_very_many_states_are_told_as_missing(trial: &mut Trial) {
    let id = trial.submit_plain().await;
    let rounds = STATES_KEPT_MAX / 2 + 25;
    let round = [Event::CancelRequested, Event::RetryRequested];
    let changes: Vec<Change> = std::iter::repeat_n(round, rounds)
        .flatten()
        .map(|event| Change::new(id, event))
        .collect();
    for changes in changes.chunks(1_000) {
        let applied = trial.apply_all(changes.to_vec()).await;
        assert!(applied.iter().all(Result::is_ok), "{applied:?}");
    }
    let history = trial.history(id).await;
    assert_eq!(history.events.len(), STATES_KEPT_MAX);
    assert_eq!(history.states_missing, 51);
    assert!(history.is_all);
    let first = history.events[0].id;
    let rest = trial.store().events(id, first, usize::MAX).await;
    let Some(rest) = done("events", rest).here() else {
        panic!("the job is there");
    };
    assert_eq!(rest.events, history.events[1..]);
    assert_eq!(rest.states_missing, 0);
}

/// What an attempt said and the server did not get to write down is told as missing.
pub async fn what_was_skipped_leaves_a_gap(trial: &mut Trial) {
    let held = trial.running(Lease::Node).await;
    trial.say(&held, vec![line("one")]).await;
    let mut change = held.says(vec![line("twelve")]);
    change.reports.skipped = 10;
    trial.applied(change).await;
    let mut change = held.success(payload("text/plain", ""));
    change.reports = Reports {
        skipped: 3,
        list: Vec::new(),
    };
    trial.applied(change).await;
    let events = trial.history(held.id).await.events;
    let missing: Vec<u64> = events
        .windows(2)
        .map(|pair| pair[1].id.missing_since(pair[0].id))
        .collect();
    assert_eq!(missing, [0, 0, 10, 3]);
}

/// What was skipped counts among what is kept, also where nothing was said after it.
pub async fn what_was_skipped_pushes_out_what_is_older(trial: &mut Trial) {
    let held = trial.running(Lease::Node).await;
    trial.say(&held, vec![line("one"), line("two")]).await;
    let mut change = held.says(Vec::new());
    change.reports.skipped = (REPORTS_KEPT_MAX - 1) as u64;
    trial.applied(change).await;
    let reports = trial.history(held.id).await.events.into_iter();
    let reports: Vec<u64> = reports
        .filter(|event| event.id.part == EventPart::Report)
        .map(|event| event.id.reports)
        .collect();
    assert_eq!(reports, [2]);
}

/// Every event is on one page, after whichever it is asked from, and the last page says so.
pub async fn a_page_of_a_history_goes_on_where_the_last_ended(trial: &mut Trial) {
    let held = trial.running(Lease::Node).await;
    let list = (0..7).map(|n| line(&n.to_string())).collect();
    trial.say(&held, list).await;
    trial.happen(held.id, held.failed(Retry::In(SECOND))).await;
    trial.advance(SECOND);
    let all = trial.history(held.id).await.events;
    assert_eq!(all.len(), 11, "{all:#?}");
    for limit in 1..=all.len() {
        let (mut after, mut seen) = (EventId::START, Vec::new());
        loop {
            let page = trial.store().events(held.id, after, limit).await;
            let Some(page) = done("events", page).here() else {
                panic!("the job is there");
            };
            assert!(page.events.len() <= limit, "{limit}");
            seen.extend(page.events);
            after = seen.last().map_or(after, |event: &JobEvent| event.id);
            if page.is_all {
                break;
            }
        }
        assert_eq!(seen, all, "{limit}");
        let page = done("events", trial.store().events(held.id, after, limit).await);
        assert!(
            page.here()
                .is_some_and(|page| page.events.is_empty() && page.is_all)
        );
    }
}

/// A history is forgotten with its job, and is not taken for that of another.
pub async fn a_history_goes_with_its_job(trial: &mut Trial) {
    let unknown = trial.new_job().spec.id;
    let found = trial.store().events(unknown, EventId::START, 9).await;
    assert_eq!(done("events", found), Found::Unknown);
    let ended = async |trial: &Trial, retain| {
        let id = trial.submit(|job| job.spec_mut().retain = retain).await;
        let held = trial.claim_one().await;
        trial.say(&held, vec![line("said")]).await;
        trial.happen(id, held.failed(Retry::Never)).await;
        trial.happen(id, Event::RetryRequested).await;
        let held = trial.claim_one().await;
        trial.happen(id, held.succeeded()).await;
        id
    };
    let deleted = ended(trial, Duration::from_hours(1)).await;
    let pruned = ended(trial, Duration::ZERO).await;
    done("delete", trial.store().delete(deleted, None).await);
    trial.advance(TICK);
    assert_eq!(done("prune", trial.store().prune(9).await), 1);
    for id in [deleted, pruned] {
        let found = trial.store().events(id, EventId::START, 9).await;
        assert_eq!(done("events", found), Found::Gone);
    }
    // With the same order keys as the two that are gone.
    for id in [deleted, pruned] {
        let mut bytes = *id.as_bytes();
        bytes[15] ^= 1;
        let twin = JobId::from_bytes(bytes);
        trial.submit(|job| job.spec_mut().id = twin).await;
        let events = trial.history(twin).await.events;
        states_are(&events, &[(ShownState::Ready, 0)]);
        trial.happen(twin, Event::CancelRequested).await;
    }
}

/// All that happened is still told after a reopen, under the same ids, and what happens next comes
/// after it.
pub async fn a_history_survives_a_reopen(trial: &mut Trial) {
    let straight = trial.running(Lease::Pulled).await;
    let half = progress(0.5, "half");
    let list = vec![line("said"), Report::Progress(half.clone())];
    trial.say(&straight, list).await;
    let other = trial.running(Lease::Pulled).await;
    trial.say(&other, vec![line("said")]).await;
    trial.happen(other.id, other.released(HandBack::Busy)).await;
    let other = trial.claim_one_as(Lease::Pulled).await;
    let before = [straight.id, other.id];
    let [first, second] = before;
    let before = [trial.history(first).await, trial.history(second).await];
    if !trial.reopen().await {
        return;
    }
    for (held, before) in [straight, other].into_iter().zip(before) {
        let after = trial.history(held.id).await;
        assert_eq!(after.events, before.events);
        assert_eq!(after.job.progress, before.job.progress);
        trial.say(&held, vec![line("still here")]).await;
        trial.happen(held.id, held.succeeded()).await;
        let later = trial.history(held.id).await.events;
        assert_eq!(later[..before.events.len()], before.events);
        assert_eq!(later.len(), before.events.len() + 2);
        let ids: Vec<EventId> = later.iter().map(|event| event.id).collect();
        assert!(ids.is_sorted_by(|one, next| one < next), "{later:#?}");
    }
}
