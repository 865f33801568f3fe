//! Schedules: when they fire, and that each firing is one job whatever happens.

use crate::failing_store::FailingStore;
use crate::harness::*;
use anteroom::core::{Cron, Job, Label, Name, QueueSettings, Timestamp, Zone};
use anteroom::run::function;
use anteroom::store::{DocumentChange, DocumentPut, Filter, Page, Store};
use anteroom::{
    CatchUp, DefinedIn, Engine, Expected, Options, Phase, Schedule, ScheduleError, Scheduled,
    StartAt, Submission, SubmitError, Task,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

mod changes;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Submits to `work` at the times of an expression in UTC. [`START`] is at 08:00:00.
fn every(cron: &str) -> Schedule {
    Schedule {
        cron: Cron::new(cron, Zone::utc()).unwrap(),
        submission: submission("tick"),
        paused: false,
        catch_up: CatchUp::None,
    }
}

fn tasks() -> Vec<Task> {
    vec![task("work", function::bytes(|_| async { done("") }))]
}

async fn start_with(store: &Arc<dyn Store>, schedules: &[(&str, Schedule)]) -> Engine {
    let each = schedules.iter().cloned();
    let options = Options {
        schedules: each.map(|(key, schedule)| (name(key), schedule)).collect(),
        ..Options::default()
    };
    let started = Engine::start(store.clone(), tasks(), options).await;
    started.unwrap()
}

async fn put(engine: &Engine, key: &str, schedule: Schedule) -> Scheduled {
    let put = try_put(engine, key, schedule, Expected::Anything).await;
    put.unwrap().0
}

async fn try_put(
    engine: &Engine,
    key: &str,
    schedule: Schedule,
    expected: Expected,
) -> Result<(Scheduled, bool), ScheduleError> {
    engine.put_schedule(&name(key), schedule, expected).await
}

async fn delete(engine: &Engine, key: &str, expected: Expected) -> Result<(), ScheduleError> {
    engine.delete_schedule(&name(key), expected).await
}

async fn shown(engine: &Engine, key: &str) -> Scheduled {
    engine.schedule(&name(key)).await.unwrap().unwrap()
}

/// All jobs, oldest first.
async fn jobs(store: &Arc<dyn Store>) -> Vec<Job> {
    let page = Page {
        size: 1_000,
        after: None,
    };
    let mut jobs = store.list(&Filter::default(), page).await.unwrap().jobs;
    jobs.reverse();
    jobs
}

/// When its jobs were submitted, from the start on.
async fn submitted(store: &Arc<dyn Store>) -> Vec<Duration> {
    let jobs = jobs(store).await;
    jobs.iter()
        .map(|job| job.spec.created_at.since(START))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn each_firing_is_one_job_at_its_time() {
    let store = store();
    let engine = start_with(&store, &[]).await;
    let schedule = Schedule {
        submission: Submission {
            group: Label::new("ann").ok(),
            start: Some(StartAt::In(secs(5))),
            tags: BTreeMap::from([(name("who"), "ann".to_owned())]),
            ..submission("tick")
        },
        ..every("*/10 * * * *")
    };
    let put = put(&engine, "s", schedule).await;
    assert_eq!(put.next_at, Some(START.after(10 * MINUTE)));
    assert_eq!((put.last_at, put.last_job), (None, None));
    nap(35 * MINUTE).await;
    let times = submitted(&store).await;
    assert_eq!(times, [10 * MINUTE, 20 * MINUTE, 30 * MINUTE]);
    let jobs = jobs(&store).await;
    let last = jobs.last().unwrap();
    assert_eq!(last.spec.group, Label::new("ann").ok());
    assert_eq!(last.spec.tags[&name("who")], "ann");
    assert_eq!(last.status.run_at, START.after(30 * MINUTE + secs(5)));
    assert_eq!(result(&engine, last.spec.id).await, "");
    let shown = shown(&engine, "s").await;
    assert_eq!(shown.last_at, Some(START.after(30 * MINUTE)));
    assert_eq!(shown.last_job, Some(last.spec.id));
    assert_eq!(shown.next_at, Some(START.after(40 * MINUTE)));
    assert_eq!(
        (shown.defined_in, shown.revision),
        (DefinedIn::Store, put.revision)
    );
}

#[tokio::test(start_paused = true)]
async fn every_second_is_every_second() {
    let store = store();
    let engine = start_with(&store, &[("s", every("* * * * * *"))]).await;
    nap(secs(60) + Duration::from_millis(500)).await;
    let expected: Vec<Duration> = (1..=60).map(secs).collect();
    assert_eq!(submitted(&store).await, expected);
    engine.stop(secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn many_that_are_due_at_once_all_fire() {
    let store = store();
    let keys: Vec<String> = (0..250).map(|n| format!("s{n}")).collect();
    let all: Vec<(&str, Schedule)> = keys
        .iter()
        .map(|key| (&**key, every("0 * * * *")))
        .collect();
    let _engine = start_with(&store, &all).await;
    nap(HOUR + secs(1)).await;
    let times = submitted(&store).await;
    assert_eq!(times.len(), 250);
    assert!(times.iter().all(|time| *time == HOUR), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_paused_one_does_not_fire_and_a_change_holds_at_once() {
    let store = store();
    let engine = start_with(&store, &[]).await;
    let paused = Schedule {
        paused: true,
        catch_up: CatchUp::Last,
        ..every("* * * * *")
    };
    assert_eq!(put(&engine, "s", paused.clone()).await.next_at, None);
    nap(10 * MINUTE + secs(30)).await;
    assert_eq!(submitted(&store).await, []);
    // What came due while it was paused is not made up for.
    let resumed = Schedule {
        paused: false,
        ..paused.clone()
    };
    put(&engine, "s", resumed).await;
    nap(MINUTE).await;
    assert_eq!(submitted(&store).await, [11 * MINUTE]);
    // From the next day to the next half minute.
    put(&engine, "s", every("0 3 * * *")).await;
    nap(MINUTE).await;
    put(&engine, "s", every("30 * * * * *")).await;
    nap(2 * MINUTE + secs(1)).await;
    let half = |minute: u32| minute * MINUTE + secs(30);
    assert_eq!(submitted(&store).await, [11 * MINUTE, half(13), half(14)]);
    put(&engine, "s", paused).await;
    nap(HOUR).await;
    assert_eq!(submitted(&store).await.len(), 3);
}

/// A deployment may put the same again at any moment.
#[tokio::test(start_paused = true)]
async fn the_same_again_loses_no_firing_and_repeats_none() {
    let store = store();
    let engine = start_with(&store, &[]).await;
    for _ in 0..600 {
        put(&engine, "s", every("* * * * * *")).await;
        nap(Duration::from_millis(100)).await;
    }
    nap(Duration::from_millis(1)).await;
    let expected: Vec<Duration> = (1..=60).map(secs).collect();
    assert_eq!(submitted(&store).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_removed_one_fires_no_more_and_keeps_its_jobs() {
    let store = store();
    let engine = start_with(&store, &[]).await;
    put(&engine, "s", every("* * * * *")).await;
    nap(MINUTE + secs(1)).await;
    assert!(matches!(
        delete(&engine, "s", Expected::Revision(1)).await,
        Err(ScheduleError::VersionDiffers { .. })
    ));
    let revision = shown(&engine, "s").await.revision;
    delete(&engine, "s", Expected::Revision(revision))
        .await
        .unwrap();
    assert!(matches!(
        delete(&engine, "s", Expected::Anything).await,
        Err(ScheduleError::Unknown { .. })
    ));
    assert_eq!(engine.schedule(&name("s")).await.unwrap(), None);
    nap(HOUR).await;
    assert_eq!(submitted(&store).await, [MINUTE]);
    // Another of the name begins anew.
    put(&engine, "s", every("* * * * *")).await;
    nap(MINUTE).await;
    assert_eq!(submitted(&store).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_while_nobody_ran_is_left_out_or_made_up_for_once() {
    for (catch_up, is_configured) in [
        (CatchUp::None, false),
        (CatchUp::Last, false),
        (CatchUp::None, true),
        (CatchUp::Last, true),
    ] {
        let store = store();
        let began = store.clock().now();
        let schedule = Schedule {
            catch_up,
            ..every("0 * * * *")
        };
        let mut configured = vec![("s", schedule.clone())];
        configured.retain(|_| is_configured);
        let engine = start_with(&store, &configured).await;
        if !is_configured {
            put(&engine, "s", schedule).await;
        }
        nap(MINUTE).await;
        engine.stop(secs(1)).await;
        nap(5 * HOUR).await;
        let next = start_with(&store, &configured).await;
        nap(secs(1)).await;
        let made_up = jobs(&store).await;
        let case = format!("{catch_up:?}, {is_configured}");
        assert_eq!(
            made_up.len(),
            usize::from(catch_up == CatchUp::Last),
            "{case}"
        );
        if let [job] = made_up.as_slice() {
            let shown = shown(&next, "s").await;
            assert_eq!(shown.last_job, Some(job.spec.id), "{case}");
            assert_eq!(shown.last_at, Some(began.after(5 * HOUR)), "{case}");
        }
        // Another restart makes up for nothing again; the next one is as ever.
        next.stop(secs(1)).await;
        let last = start_with(&store, &configured).await;
        nap(HOUR).await;
        assert_eq!(jobs(&store).await.len(), made_up.len() + 1, "{case}");
        last.stop(secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_engines_over_one_store_fire_once() {
    let store = store();
    let configured = [("file", every("*/5 * * * * *"))];
    let one = start_with(&store, &configured).await;
    let other = start_with(&store, &configured).await;
    put(&one, "api", every("*/5 * * * * *")).await;
    nap(secs(300) + secs(1)).await;
    // The other one is told within ten seconds; the first one never stops.
    assert_eq!(jobs(&store).await.len(), 2 * 60);
    one.stop(secs(1)).await;
    nap(secs(300)).await;
    assert_eq!(jobs(&store).await.len(), 2 * 120, "the other goes on alone");
    // What one changes the other does not overrun.
    let third = start_with(&store, &configured).await;
    let paused = Schedule {
        paused: true,
        ..every("*/5 * * * * *")
    };
    put(&third, "api", paused).await;
    nap(secs(300)).await;
    assert_eq!(
        jobs(&store).await.len(),
        3 * 120 - 60,
        "from one of the two"
    );
    drop(other);
}

/// The process ended between the submit and the note that it was done.
#[tokio::test(start_paused = true)]
async fn a_firing_that_was_begun_is_not_submitted_twice() {
    for (down_for, catch_up, is_submitted) in [
        (MINUTE, CatchUp::None, true),
        (MINUTE, CatchUp::None, false),
        (20 * HOUR, CatchUp::Last, true),
        (20 * HOUR, CatchUp::Last, false),
        // Nobody knows any more: better none than a second one.
        (48 * HOUR, CatchUp::Last, true),
    ] {
        let store = store();
        let began = store.clock().now();
        // Once a week.
        let schedule = Schedule {
            catch_up,
            ..every("1 8 * * 5")
        };
        let engine = start_with(&store, &[]).await;
        put(&engine, "s", schedule).await;
        if is_submitted {
            nap(MINUTE + secs(1)).await;
        }
        engine.stop(secs(1)).await;
        let kind = name("anteroom.schedule");
        let document = store.document(&kind, &name("s")).await.unwrap().unwrap();
        let mut value: serde_json::Value = serde_json::from_slice(&document.value).unwrap();
        let at = began.after(MINUTE).as_millis();
        value["begun"] = serde_json::json!([at, at]);
        value["handled_at"] = began.as_millis().into();
        let change = DocumentChange {
            kind,
            name: name("s"),
            value: Some(value.to_string().into()),
            if_version: None,
        };
        let done = store.put_documents(vec![change]).await.unwrap();
        assert!(matches!(done[..], [DocumentPut::Done(_)]));
        nap(down_for + MINUTE).await;
        let next = start_with(&store, &[]).await;
        nap(MINUTE).await;
        let case = format!("{down_for:?}, {is_submitted}");
        let jobs = jobs(&store).await;
        let kept = usize::from(down_for < 24 * HOUR);
        assert_eq!(jobs.len(), kept, "{case}");
        if let [job] = jobs.as_slice() {
            let shown = shown(&next, "s").await;
            assert_eq!(shown.last_job, Some(job.spec.id), "{case}");
        }
        next.stop(secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_delays_a_firing_and_no_other_schedule() {
    let store = store();
    let settings = QueueSettings {
        paused: Some(true),
        max_depth: Some(1),
        ..QueueSettings::default()
    };
    let options = Options {
        queues: BTreeMap::from([(name("full"), settings)]),
        ..Options::default()
    };
    let engine = Engine::start(store.clone(), tasks(), options)
        .await
        .unwrap();
    let full = |input: &str| Submission {
        queue: Some(name("full")),
        ..submission(input)
    };
    let in_the_way = engine.submit(full("first")).await.unwrap().job.spec.id;
    let delayed = Schedule {
        submission: full("tick"),
        ..every("5 8 * * *")
    };
    put(&engine, "delayed", delayed).await;
    put(&engine, "other", every("6 8 * * *")).await;
    nap(10 * MINUTE).await;
    assert_eq!(
        jobs(&store).await.len(),
        2,
        "the first one, and the other's"
    );
    assert_eq!(shown(&engine, "delayed").await.last_at, None);
    engine.cancel(in_the_way, None).await.unwrap().unwrap();
    nap(2 * MINUTE).await;
    assert_eq!(jobs(&store).await.len(), 3);
    let shown = shown(&engine, "delayed").await;
    assert_eq!(shown.last_at, Some(START.after(5 * MINUTE)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_delays_a_firing_and_does_not_end_the_timer() {
    let failing = FailingStore::new();
    let store: Arc<dyn Store> = failing.clone();
    let _engine = start_with(&store, &[("s", every("*/10 * * * *"))]).await;
    nap(9 * MINUTE).await;
    failing.set_down(true);
    nap(3 * MINUTE).await;
    assert!(failing.refused() > 0);
    failing.set_down(false);
    nap(2 * MINUTE).await;
    assert_eq!(jobs(&store).await.len(), 1);
    let late = submitted(&store).await[0];
    assert!(late >= 12 * MINUTE && late <= 13 * MINUTE, "{late:?}");
    // Of those that came due meanwhile the last is submitted.
    failing.set_down(true);
    nap(24 * MINUTE).await;
    failing.set_down(false);
    nap(MINUTE + secs(30)).await;
    assert_eq!(jobs(&store).await.len(), 2);
    nap(10 * MINUTE).await;
    assert_eq!(jobs(&store).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_never_taken_is_told_of_and_does_not_end_the_timer() {
    let store = store();
    let engine = start_with(&store, &[]).await;
    put(&engine, "s", every("* * * * *")).await;
    engine.stop(secs(1)).await;
    // The next version has another task.
    let other = vec![task("other", function::bytes(|_| async { done("") }))];
    let next = Engine::start(store.clone(), other, Options::default()).await;
    let next = next.unwrap();
    nap(2 * MINUTE + secs(1)).await;
    let shown_now = shown(&next, "s").await;
    let failure = Some((START.after(2 * MINUTE), "there is no task work".to_owned()));
    assert_eq!(shown_now.last_failure, failure);
    let mended = Schedule {
        submission: Submission::new(name("other"), text("")),
        ..every("* * * * *")
    };
    put(&next, "s", mended).await;
    nap(MINUTE).await;
    assert_eq!(submitted(&store).await, [3 * MINUTE]);
    assert_eq!(shown(&next, "s").await.last_failure, None);
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_job_of_the_unique_key_is_the_firing_too() {
    let store = store();
    let slow = function::bytes(|_| async {
        nap(Duration::from_secs(150)).await;
        done("")
    });
    let engine = start(&store, vec![task("work", slow)]).await;
    let alone = Schedule {
        submission: Submission {
            unique_key: Label::new("alone").ok(),
            ..submission("tick")
        },
        ..every("* * * * *")
    };
    put(&engine, "s", alone).await;
    nap(3 * MINUTE + secs(1)).await;
    let jobs = jobs(&store).await;
    assert_eq!(jobs.len(), 1);
    let shown = shown(&engine, "s").await;
    assert_eq!(shown.last_job, Some(jobs[0].spec.id));
    assert_eq!(shown.last_at, Some(START.after(3 * MINUTE)));
}

#[tokio::test(start_paused = true)]
async fn while_it_drains_nothing_fires() {
    let store = store();
    let stuck = vec![task("work", function::bytes(|_| std::future::pending()))];
    let engine = start(&store, stuck).await;
    submit(&engine, "").await;
    put(&engine, "s", every("* * * * *")).await;
    engine.drain();
    nap(5 * MINUTE).await;
    assert_eq!(engine.phase(), Phase::Draining);
    assert_eq!(jobs(&store).await.len(), 1);
    engine.stop(secs(1)).await;
    let again = engine
        .put_schedule(&name("s"), every("* * * * *"), Expected::Anything)
        .await;
    let is_draining =
        |error: &ScheduleError| matches!(error, ScheduleError::Submission(SubmitError::Draining));
    assert!(again.is_err_and(|error| is_draining(&error)));
}

/// On a real file, in real time but for the clock: what one process began the next goes on with.
#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_database_that_is_opened_again_fires_each_time_once() {
    use anteroom::clock::Clock;
    use anteroom::store::sqlite::SqliteStore;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let (clock, hand) = Clock::manual(START);
    let open = || -> Arc<dyn Store> { Arc::new(SqliteStore::open(&path, clock.clone()).unwrap()) };
    let store = open();
    let engine = start_with(&store, &[]).await;
    let hourly = Schedule {
        catch_up: CatchUp::Last,
        ..every("0 * * * *")
    };
    put(&engine, "s", hourly).await;
    let mut hours = Vec::new();
    hand.advance(HOUR);
    hours.push(fired(&engine, START.after(HOUR)).await);
    engine.shutdown(secs(1)).await;
    for round in 1..4_u32 {
        // Two are missed while nobody is there, the last of which is made up for.
        hand.advance(2 * HOUR);
        let store = open();
        let engine = start_with(&store, &[]).await;
        let last = START.after(HOUR + round * 2 * HOUR);
        hours.push(fired(&engine, last).await);
        assert_eq!(jobs(&store).await.len(), hours.len());
        engine.shutdown(secs(1)).await;
    }
    hours.dedup();
    assert_eq!(hours.len(), 4);
}

/// Waits until a schedule has fired for this time, and returns its job.
#[cfg(feature = "sqlite")]
async fn fired(engine: &Engine, at: Timestamp) -> anteroom::core::JobId {
    let fired = async {
        loop {
            let shown = shown(engine, "s").await;
            if shown.last_at == Some(at) {
                return shown.last_job.unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    let fired = tokio::time::timeout(secs(20), fired).await;
    fired.unwrap_or_else(|_| panic!("nothing fired for {at:?}"))
}
