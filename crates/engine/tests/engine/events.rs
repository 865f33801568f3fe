//! What attempts say, and those who follow jobs.

use crate::failing_store::FailingStore;
use crate::harness::*;
use anteroom::core::limits::{FEED_EVENTS_MAX, REPORT_INTERVAL, REPORTS_KEPT_MAX};
use anteroom::core::{
    EventId, Happened, JobId, LogStream, Progress, Report, RetryPolicy, ShownState, State,
};
use anteroom::run::{Outcome, function};
use anteroom::store::Store;
use anteroom::{Engine, FeedTold, Follow, FollowAll, StartAt, Submission, Told};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

fn word(happened: &Happened) -> String {
    match happened {
        Happened::Entered { state, attempt } => format!("{state} {attempt}"),
        Happened::Reported { attempt, report } => match report {
            Report::Log { line, .. } => format!("{attempt}: {line}"),
            Report::Progress(progress) => {
                let part = progress.fraction().unwrap();
                format!("{attempt}: {part} {}", progress.message().unwrap_or("-"))
            }
        },
    }
}

async fn follow(engine: &Engine, id: JobId, after: EventId) -> Follow {
    engine.follow(id, after).await.unwrap().here().unwrap()
}

/// Returns what a follower is told next, in a word, and its place.
async fn next(follow: &mut Follow) -> Option<(EventId, String)> {
    let told = tokio::time::timeout(LONG, follow.next()).await.unwrap();
    Some(match told? {
        Told::Event(event) => (event.id, word(&event.happened)),
        Told::Missing { id, count } => (id, format!("missing {count}")),
    })
}

/// Returns all that a follower is told, to the end.
async fn rest(mut follow: Follow) -> Vec<(EventId, String)> {
    let mut told = Vec::new();
    while let Some(next) = next(&mut follow).await {
        told.push(next);
    }
    assert!(follow.is_over());
    told
}

fn words(told: &[(EventId, String)]) -> Vec<&str> {
    told.iter().map(|(_, word)| word.as_str()).collect()
}

async fn next_of_all(follow: &mut FollowAll) -> String {
    let told = tokio::time::timeout(LONG, follow.next()).await.unwrap();
    match told.unwrap() {
        FeedTold::Event(event) => {
            let input = event.job.tags.values().next();
            format!("{} {}", input.map_or("-", |tag| tag), word(&event.happened))
        }
        FeedTold::Missing { count, .. } => format!("missing {count:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_is_told_everything_while_it_happens() {
    let engine = engine_of(|attempt| async move {
        attempt.log("begun");
        nap(secs(1)).await;
        attempt.progress(0.5, "half");
        nap(secs(1)).await;
        attempt.log("two\nlines\n");
        attempt.progress(1.0, "");
        done("")
    })
    .await;
    let later = Submission {
        start: Some(StartAt::In(secs(60))),
        ..submission("")
    };
    let id = engine.submit(later).await.unwrap().job.spec.id;
    let mut following = follow(&engine, id, EventId::START).await;
    let mut told = Vec::new();
    for (word, at) in [
        ("scheduled 0", 0),
        ("ready 0", 60),
        ("running 1", 60),
        ("1: begun", 60),
        ("1: 0.5 half", 61),
        ("1: two", 62),
        ("1: lines", 62),
        ("1: 1 -", 62),
        ("succeeded 1", 62),
    ] {
        let event = next(&mut following).await.unwrap();
        assert_eq!(event.1, word);
        let late = engine.clock().now().since(START.after(secs(at)));
        assert!(late < secs(1), "{word} came {late:?} late");
        told.push(event);
    }
    assert_eq!(next(&mut following).await, None);
    // From wherever one comes back, it goes on right after it.
    for (at, (last, _)) in told.iter().enumerate() {
        let again = follow(&engine, id, *last).await;
        assert_eq!(rest(again).await, told[at + 1..]);
    }
    let again = follow(&engine, id, told[8].0).await;
    assert!(again.is_over());
}

#[tokio::test(start_paused = true)]
async fn retries_and_their_reports_are_told_in_order() {
    let runner = function::bytes(|attempt| async move {
        attempt.log(format!("attempt {}", attempt.number));
        Outcome::failed("not this time")
    });
    let mut task = task("work", runner);
    task.retry = RetryPolicy {
        initial: secs(10),
        jitter: 0.0,
        ..RetryPolicy::default()
    };
    let engine = start(&store(), vec![task]).await;
    let twice = Submission {
        max_attempts: Some(2),
        ..submission("")
    };
    let id = engine.submit(twice).await.unwrap().job.spec.id;
    let told = rest(follow(&engine, id, EventId::START).await).await;
    let expected = [
        "ready 0",
        "running 1",
        "1: attempt 1",
        "scheduled 1",
        "ready 1",
        "running 2",
        "2: attempt 2",
        "failed 2",
    ];
    assert_eq!(words(&told), expected);
    let ids: Vec<EventId> = told.iter().map(|(id, _)| *id).collect();
    assert!(ids.is_sorted_by(|one, next| one < next), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn reports_are_written_a_few_times_a_second_at_most() {
    let engine = engine_of(|attempt| async move {
        for n in 0..1_000 {
            attempt.log(n.to_string());
            nap(Duration::from_millis(1)).await;
        }
        done("")
    })
    .await;
    let id = submit(&engine, "").await;
    let job = ended(&engine, id).await;
    // Submitted, begun, ended; and its first line at once.
    let writes = u128::from(job.status.version - 3);
    let intervals = 1_000 / REPORT_INTERVAL.as_millis();
    assert!(writes <= intervals + 1, "{writes} writes in a second");
    assert!(writes >= intervals - 1, "{writes} writes in a second");
    let told = rest(follow(&engine, id, EventId::START).await).await;
    assert_eq!(told.len(), 1_003, "none is lost or told twice");
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_told_as_a_gap() {
    let engine = engine_of(|attempt| async move {
        for n in 0..REPORTS_KEPT_MAX + 5 {
            attempt.log(n.to_string());
        }
        done("")
    })
    .await;
    let id = submit(&engine, "").await;
    ended(&engine, id).await;
    let told = rest(follow(&engine, id, EventId::START).await).await;
    assert_eq!(
        words(&told)[..4],
        ["ready 0", "running 1", "missing 5", "1: 5"]
    );
    assert_eq!(told.len(), REPORTS_KEPT_MAX + 4);
    // Who was told of the gap is not told of it again.
    let again = rest(follow(&engine, id, told[2].0).await).await;
    assert_eq!(again, told[3..]);
}

#[tokio::test(start_paused = true)]
async fn what_is_said_while_the_store_is_away_is_kept_in_order() {
    let store = FailingStore::new();
    let gate = Arc::new(Semaphore::new(0));
    let (passing, away) = (gate.clone(), store.clone());
    let runner = function::bytes(move |attempt| {
        let (gate, store) = (passing.clone(), away.clone());
        async move {
            attempt.log("one");
            nap(secs(1)).await;
            store.set_down(true);
            attempt.log("two");
            nap(secs(3)).await;
            attempt.log("three");
            nap(secs(3)).await;
            store.set_down(false);
            gate.acquire().await.unwrap().forget();
            attempt.log("four");
            done("")
        }
    });
    let shared: Arc<dyn Store> = store.clone();
    let engine = start(&shared, vec![task("work", runner)]).await;
    let id = submit(&engine, "").await;
    let mut following = follow(&engine, id, EventId::START).await;
    for word in ["ready 0", "running 1", "1: one", "1: two", "1: three"] {
        assert_eq!(next(&mut following).await.unwrap().1, word);
    }
    assert!(store.refused() > 0, "it was away");
    gate.add_permits(1);
    let told = rest(following).await;
    assert_eq!(words(&told), ["1: four", "succeeded 1"]);
}

#[tokio::test(start_paused = true)]
async fn progress_is_shown_with_the_job() {
    let gate = Arc::new(Semaphore::new(0));
    let passing = gate.clone();
    let engine = engine_of(move |attempt| {
        let gate = passing.clone();
        async move {
            attempt.progress(0.25, "a quarter");
            attempt.report(Report::log(LogStream::Stderr, "not a progress"));
            gate.acquire().await.unwrap().forget();
            done("")
        }
    })
    .await;
    let id = submit(&engine, "").await;
    let mut following = follow(&engine, id, EventId::START).await;
    while next(&mut following).await.unwrap().1 != "1: not a progress" {}
    let quarter = Progress::new(Some(0.25), Some("a quarter".to_owned()));
    assert_eq!(get(&engine, id).await.progress, quarter);
    gate.add_permits(1);
    assert_eq!(ended(&engine, id).await.progress, quarter);
}

/// A thread that was left behind when its time was over still holds its attempt.
#[tokio::test]
async fn nobody_listens_to_an_attempt_that_has_ended() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let runner = function::blocking(move |attempt| {
        attempt.log("in time");
        sender.lock().unwrap().send(attempt).unwrap();
        done("")
    });
    let store: Arc<dyn Store> = Arc::new(anteroom::store::memory::MemoryStore::new(
        anteroom::clock::Clock::system(),
    ));
    let engine = start(&store, vec![task("work", runner)]).await;
    let id = submit(&engine, "").await;
    assert_eq!(ended(&engine, id).await.status.state, State::Succeeded);
    let attempt = receiver.recv().unwrap();
    attempt.log("too late");
    drop(attempt);
    engine.shutdown(secs(1)).await;
    let told = engine.follow(id, EventId::START).await;
    assert!(told.is_err(), "the store is closed");
}

#[tokio::test(start_paused = true)]
async fn followers_are_let_go_when_the_engine_stops_or_the_job_is_deleted() {
    let engine = engine_of(|_| async { done("") }).await;
    let later = || Submission {
        start: Some(StartAt::In(LONG)),
        ..submission("")
    };
    let id = engine.submit(later()).await.unwrap().job.spec.id;
    let mut following = follow(&engine, id, EventId::START).await;
    assert_eq!(next(&mut following).await.unwrap().1, "scheduled 0");
    engine.cancel(id, None).await.unwrap().unwrap();
    engine.delete(id, None).await.unwrap();
    assert_eq!(next(&mut following).await, None);

    let id = engine.submit(later()).await.unwrap().job.spec.id;
    let mut following = follow(&engine, id, EventId::START).await;
    let mut all = engine.follow_all(None);
    assert_eq!(next(&mut following).await.unwrap().1, "scheduled 0");
    engine.stop(secs(1)).await;
    assert_eq!(next(&mut following).await, None);
    assert_eq!(all.next().await, None);
}

fn tagged(tag: &str) -> Submission {
    let mut submission = submission(tag);
    let name = anteroom::core::Name::new("name").unwrap();
    submission.tags.insert(name, tag.to_owned());
    submission
}

#[tokio::test(start_paused = true)]
async fn whoever_follows_all_jobs_is_told_what_happens_to_each() {
    let engine = engine_of(|attempt| async move {
        attempt.progress(0.5, "half");
        nap(secs(1)).await;
        attempt.log("last words");
        match attempt.input.bytes.as_ref() {
            b"bad" => Outcome::failed_for_good("bad"),
            _ => done(""),
        }
    })
    .await;
    // Before anybody follows.
    let before = engine.submit(tagged("before")).await.unwrap().job;
    ended(&engine, before.spec.id).await;
    let mut all = engine.follow_all(None);
    for tag in ["good", "bad"] {
        let job = engine.submit(tagged(tag)).await.unwrap().job;
        let end = ended(&engine, job.spec.id).await.status;
        let end = format!("{} 1", end.shown(engine.clock().now()));
        let expected = ["ready 0", "running 1", "1: 0.5 half", "1: last words", &end];
        for word in expected {
            assert_eq!(next_of_all(&mut all).await, format!("{tag} {word}"));
        }
    }
    let later = Submission {
        start: Some(StartAt::In(LONG)),
        ..tagged("later")
    };
    let later = engine.submit(later).await.unwrap().job.spec.id;
    assert_eq!(next_of_all(&mut all).await, "later scheduled 0");
    engine.cancel(later, None).await.unwrap().unwrap();
    assert_eq!(next_of_all(&mut all).await, "later cancelled 0");
    engine.retry(later, None).await.unwrap().unwrap();
    assert_eq!(next_of_all(&mut all).await, "later ready 0");
}

#[tokio::test(start_paused = true)]
async fn a_slow_follower_of_all_is_told_how_much_it_missed() {
    let engine = engine_of(|_| async { done("") }).await;
    let mut slow = engine.follow_all(None);
    let later = Submission {
        start: Some(StartAt::In(LONG)),
        ..submission("")
    };
    let many = vec![later; FEED_EVENTS_MAX + 9];
    engine.submit_all(many).await.unwrap();
    assert_eq!(next_of_all(&mut slow).await, "missing Some(9)");
    for _ in 0..FEED_EVENTS_MAX {
        assert_eq!(next_of_all(&mut slow).await, "- scheduled 0");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_back_to_all_jobs_goes_on_where_it_was() {
    let engine = engine_of(|_| async { done("") }).await;
    let later = |tag| Submission {
        start: Some(StartAt::In(LONG)),
        ..tagged(tag)
    };
    let mut all = engine.follow_all(None);
    engine.submit(later("one")).await.unwrap();
    let Some(FeedTold::Event(last)) = all.next().await else {
        panic!("it is told");
    };
    drop(all);
    engine.submit(later("two")).await.unwrap();
    nap(secs(10)).await;
    let mut all = engine.follow_all(Some(last.id));
    assert_eq!(next_of_all(&mut all).await, "two scheduled 0");
    drop(all);
    // Long after, nobody knows what it missed.
    nap(secs(60)).await;
    engine.submit(later("three")).await.unwrap();
    let mut all = engine.follow_all(Some(last.id));
    assert_eq!(next_of_all(&mut all).await, "missing None");
    engine.submit(later("four")).await.unwrap();
    let Some(FeedTold::Event(event)) = all.next().await else {
        panic!("it is told");
    };
    assert!(event.id > last.id, "ids rise");
    let entered = Happened::Entered {
        state: ShownState::Scheduled,
        attempt: 0,
    };
    assert_eq!(event.happened, entered);
}

/// In a queue that nobody takes from: what begins at once was ready for no time worth telling.
#[tokio::test(start_paused = true)]
async fn whoever_follows_all_jobs_is_told_within_a_second_that_one_came_due() {
    let pulled = anteroom::Task::new("work", anteroom::TaskRunner::Pull).unwrap();
    let engine = start(&store(), vec![pulled]).await;
    let later = |tag, delay| Submission {
        start: Some(StartAt::In(secs(delay))),
        ..tagged(tag)
    };
    let mut all = engine.follow_all(None);
    engine.submit(later("one", 60)).await.unwrap();
    let cancelled = engine.submit(later("two", 30)).await.unwrap();
    assert_eq!(next_of_all(&mut all).await, "one scheduled 0");
    assert_eq!(next_of_all(&mut all).await, "two scheduled 0");
    engine
        .cancel(cancelled.job.spec.id, None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(next_of_all(&mut all).await, "two cancelled 0");
    assert_eq!(next_of_all(&mut all).await, "one ready 0");
    let late = engine.clock().now().since(START.after(secs(60)));
    assert!(late <= secs(1), "{late:?} late");
}
