//! What may be put, by whom, and how much of it.

use super::*;
use anteroom::StartError;
use anteroom::core::Payload;
use anteroom::core::limits::{SCHEDULE_INPUT_BYTES_MAX, SCHEDULES_BYTES_MAX, SCHEDULES_MAX};

#[tokio::test(start_paused = true)]
async fn one_of_the_configuration_is_not_changed_here() {
    let store = store();
    let engine = start_with(&store, &[]).await;
    put(&engine, "s", every("* * * * *")).await;
    engine.stop(secs(1)).await;
    // Named in the configuration from now on, which wins.
    let configured = [("s", every("0 3 * * *"))];
    let engine = start_with(&store, &configured).await;
    let found = shown(&engine, "s").await;
    assert_eq!(
        (found.defined_in, found.revision),
        (DefinedIn::Configuration, 0)
    );
    assert_eq!(*found.schedule, configured[0].1);
    let put = try_put(&engine, "s", every("* * * * *"), Expected::Anything);
    assert!(matches!(put.await, Err(ScheduleError::Configured { .. })));
    let delete = delete(&engine, "s", Expected::Anything);
    assert!(matches!(
        delete.await,
        Err(ScheduleError::Configured { .. })
    ));
    nap(HOUR).await;
    assert_eq!(submitted(&store).await, []);
    engine.stop(secs(1)).await;
    // And no more: what was before does not come back.
    let engine = start_with(&store, &[]).await;
    assert_eq!(engine.schedules().await.unwrap(), []);
}

/// Other times of the same name are not owed since before they were.
#[tokio::test(start_paused = true)]
async fn a_changed_configuration_makes_up_for_nothing() {
    let last = |cron: &str| Schedule {
        catch_up: CatchUp::Last,
        ..every(cron)
    };
    let store = store();
    let engine = start_with(&store, &[("s", last("0 3 * * *"))]).await;
    engine.stop(secs(1)).await;
    nap(2 * HOUR).await;
    let engine = start_with(&store, &[("s", last("0 * * * *"))]).await;
    nap(MINUTE).await;
    assert_eq!(submitted(&store).await, []);
    engine.stop(secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn what_would_not_be_taken_is_not_put() {
    let store = store();
    let engine = start_with(&store, &[]).await;
    let with = |submission: Submission| Schedule {
        submission,
        ..every("* * * * *")
    };
    let unknown = with(Submission::new(name("nobody"), text("")));
    let refused = try_put(&engine, "s", unknown.clone(), Expected::Anything);
    assert!(matches!(
        refused.await,
        Err(ScheduleError::Submission(SubmitError::UnknownTask { .. }))
    ));
    let reserved = try_put(
        &engine,
        "anteroom.s",
        every("* * * * *"),
        Expected::Anything,
    );
    assert!(matches!(reserved.await, Err(ScheduleError::Unknown { .. })));
    let large = Payload {
        content_type: "text/plain".into(),
        bytes: vec![b'a'; SCHEDULE_INPUT_BYTES_MAX + 1].into(),
    };
    let large = with(Submission::new(name("work"), large));
    let refused = try_put(&engine, "s", large, Expected::Anything);
    assert!(matches!(
        refused.await,
        Err(ScheduleError::Submission(SubmitError::InputTooLarge { .. }))
    ));
    assert_eq!(engine.schedules().await.unwrap(), []);
    for schedules in [
        BTreeMap::from([(name("s"), unknown)]),
        BTreeMap::from([(name("anteroom.s"), every("* * * * *"))]),
    ] {
        let options = Options {
            schedules,
            ..Options::default()
        };
        let started = Engine::start(store.clone(), tasks(), options).await;
        assert!(matches!(started, Err(StartError::Schedule { .. })));
    }
    let options = Options {
        strict_queues: true,
        ..Options::default()
    };
    let strict = Engine::start(store.clone(), tasks(), options)
        .await
        .unwrap();
    let elsewhere = with(Submission {
        queue: Some(name("elsewhere")),
        ..submission("")
    });
    let refused = try_put(&strict, "s", elsewhere, Expected::Anything);
    assert!(matches!(
        refused.await,
        Err(ScheduleError::Submission(SubmitError::UnknownQueue { .. }))
    ));
}

#[tokio::test(start_paused = true)]
async fn what_is_expected_of_the_one_before_has_to_be_so() {
    let engine = start_with(&store(), &[]).await;
    let put = async |expected| {
        let put = try_put(&engine, "s", every("0 3 * * *"), expected);
        put.await
            .map(|(scheduled, is_new)| (scheduled.revision, is_new))
    };
    let differs = |result: Result<_, ScheduleError>| match result {
        Err(ScheduleError::VersionDiffers { revision, .. }) => Some(revision),
        _ => None,
    };
    assert_eq!(differs(put(Expected::Revision(1)).await), Some(0));
    let (first, is_new) = put(Expected::Nothing).await.unwrap();
    assert!(is_new && first > 0);
    assert_eq!(differs(put(Expected::Nothing).await), Some(first));
    let (second, is_new) = put(Expected::Revision(first)).await.unwrap();
    assert!(!is_new && second > first);
    assert_eq!(differs(put(Expected::Revision(first)).await), Some(second));
    assert!(put(Expected::Anything).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn there_are_no_more_than_may_be_nor_larger_ones_together() {
    let store = store();
    let keys: Vec<String> = (0..SCHEDULES_MAX).map(|n| format!("s{n}")).collect();
    let all: Vec<(&str, Schedule)> = keys
        .iter()
        .map(|key| (&**key, every("0 3 * * *")))
        .collect();
    let engine = start_with(&store, &all).await;
    let put = try_put(&engine, "one-more", every("0 3 * * *"), Expected::Anything);
    assert!(matches!(put.await, Err(ScheduleError::TooMany { .. })));
    engine.stop(secs(1)).await;
    let large = |_| {
        let input = Payload {
            content_type: "text/plain".into(),
            bytes: vec![b'a'; SCHEDULE_INPUT_BYTES_MAX].into(),
        };
        Schedule {
            submission: Submission::new(name("work"), input),
            ..every("0 3 * * *")
        }
    };
    let store = crate::harness::store();
    let engine = start_with(&store, &[]).await;
    let room = SCHEDULES_BYTES_MAX / SCHEDULE_INPUT_BYTES_MAX;
    // By hand, as each put reads all of them.
    put_all(&engine, &store, room, large(0)).await;
    let put = try_put(&engine, "one-more", every("0 3 * * *"), Expected::Anything);
    let Err(ScheduleError::TooLargeTogether { bytes, limit }) = put.await else {
        panic!("it was put");
    };
    assert_eq!(
        (bytes, limit),
        (SCHEDULES_BYTES_MAX + 4, SCHEDULES_BYTES_MAX)
    );
}

/// Puts one, and copies of what the store keeps of it.
async fn put_all(engine: &Engine, store: &Arc<dyn Store>, count: usize, schedule: Schedule) {
    put(engine, "s0", schedule).await;
    let kind = name("anteroom.schedule");
    let document = store.document(&kind, &name("s0")).await.unwrap().unwrap();
    let copies = (1..count).map(|n| DocumentChange {
        kind: kind.clone(),
        name: name(&format!("s{n}")),
        value: Some(document.value.clone()),
        if_version: None,
    });
    store.put_documents(copies.collect()).await.unwrap();
}

/// While a new version is rolled out, some nodes know of a schedule and others do not.
#[tokio::test(start_paused = true)]
async fn a_node_without_it_in_its_configuration_stops_no_other() {
    let store = store();
    let with = start_with(&store, &[("s", every("* * * * *"))]).await;
    nap(MINUTE + secs(1)).await;
    let without = start_with(&store, &[]).await;
    assert_eq!(without.schedules().await.unwrap(), []);
    nap(3 * MINUTE).await;
    let expected: Vec<Duration> = (1..=4).map(|minute| minute * MINUTE).collect();
    assert_eq!(submitted(&store).await, expected);
    with.stop(secs(1)).await;
    nap(3 * MINUTE).await;
    assert_eq!(submitted(&store).await.len(), 4);
}
