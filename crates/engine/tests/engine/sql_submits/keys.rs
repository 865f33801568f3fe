//! Idempotency keys and unique keys, over SQL and the engine alike.

use super::*;
use anteroom::core::{Event, Idempotency, IdempotencyKey, Label, Payload};
use anteroom::store::Found;
use anteroom::{StartAt, Submission, SubmitError};

/// A key of somebody without a token.
pub(super) fn key(text: &str) -> Idempotency {
    Idempotency {
        scope: "".into(),
        key: IdempotencyKey::new(text).unwrap(),
    }
}

fn submission(input: &'static str) -> Submission {
    let input = Payload {
        content_type: "application/json".into(),
        bytes: input.into(),
    };
    Submission::new(name("work"), input)
}

#[tokio::test]
async fn the_same_idempotency_key_gives_the_same_job_over_sql_and_the_engine() {
    let database = database();
    let engine = idle(&database).await;
    let session = Session::of(&database).await;
    let options = r#"{"idempotency_key":"a","delay":"60s","tags":{"b":"c"}}"#;
    let by_sql = session.submit("[1 ]", options).await;
    let same = Submission {
        start: Some(StartAt::In(Duration::from_mins(1))),
        tags: [(name("b"), "c".to_owned())].into(),
        idempotency: Some(key("a")),
        ..submission("[1 ]")
    };
    let replayed = engine.submit(same.clone()).await.unwrap();
    assert!(replayed.replayed && !replayed.duplicate);
    assert_eq!(replayed.job.spec.id, by_sql);
    let other = Submission {
        tags: [(name("b"), "d".to_owned())].into(),
        ..same
    };
    let reused = engine.submit(other).await;
    assert!(matches!(
        reused,
        Err(SubmitError::IdempotencyKeyReused { .. })
    ));

    let by_engine = Submission {
        idempotency: Some(key("é\"")),
        ..submission("2")
    };
    let by_engine = engine.submit(by_engine).await.unwrap().job.spec.id;
    let options = r#"{"idempotency_key":"é\""}"#;
    assert_eq!(session.submit("2", options).await, by_engine);
    assert_eq!(session.submit("2", options).await, by_engine);
    let another = r#"SELECT anteroom.submit('work', '3', '{"idempotency_key":"é\""}')"#;
    let (state, problem, _) = session.refusal(another).await;
    assert_eq!((&*state, &*problem), ("23505", "idempotency-key-reused"));
    assert_eq!(database.sql("SELECT count(*) FROM anteroom.job"), "2");
    stop(engine).await;
}

/// Within a transaction too, before anything of it is committed.
#[tokio::test]
async fn a_transaction_knows_its_own_keys() {
    let database = database();
    let engine = idle(&database).await;
    let session = Session::of(&database).await;
    session.sql("BEGIN").await;
    let first = session
        .submit("1", r#"{"idempotency_key":"a","unique_key":"u"}"#)
        .await;
    let again = session
        .submit("1", r#"{"idempotency_key":"a","unique_key":"u"}"#)
        .await;
    let duplicate = session
        .submit("2", r#"{"idempotency_key":"b","unique_key":"u"}"#)
        .await;
    assert_eq!((again, duplicate), (first, first));
    session.sql("SAVEPOINT a").await;
    let another = r#"SELECT anteroom.submit('work', '9', '{"idempotency_key":"a"}')"#;
    assert_eq!(session.refusal(another).await.1, "idempotency-key-reused");
    session.sql("ROLLBACK TO a; COMMIT").await;
    let kept = "SELECT string_agg(concat_ws(' ', key, id, duplicate), ',' ORDER BY key) FROM anteroom.submit";
    assert_eq!(session.sql(kept).await, format!("a {first} f,b {first} t"));
    let envelope = r#"[{"task":"work","input":2,"idempotency_key":"b","unique_key":"u"}]"#;
    let many = format!("SELECT id || ' ' || duplicate FROM anteroom.submit_many('{envelope}')");
    assert_eq!(session.sql(&many).await, format!("{first} true"));
    stop(engine).await;
}

/// Waits until a statement of another session waits for a lock.
async fn one_waits(session: &Session) {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
        AND datname = current_database()";
    let looking = async { while session.sql(waiting).await != "1" {} };
    tokio::time::timeout(PATIENCE, looking).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_with_one_key_get_one_job_or_each_what_is_left() {
    let database = database();
    let engine = idle(&database).await;
    let (one, looker) = (Session::of(&database).await, Session::of(&database).await);
    for options in [r#"{"idempotency_key":"k"}"#, r#"{"unique_key":"k"}"#] {
        for end in ["COMMIT", "ROLLBACK"] {
            let options = options.replace("\"k\"", &format!("\"k {end}\""));
            one.sql("BEGIN").await;
            let first = one.submit("1", &options).await;
            let other = Session::of(&database).await;
            let asked = options.clone();
            let mut second = JoinSet::new();
            second.spawn(async move { other.submit("1", &asked).await });
            one_waits(&looker).await;
            one.sql(end).await;
            let second = second.join_next().await.unwrap().unwrap();
            assert_eq!(first == second, end == "COMMIT", "{options}");
            let there = engine.store().get(second).await.unwrap();
            assert!(there.here().is_some(), "{options}");
        }
    }
    stop(engine).await;
}

/// Sessions that look at what was there when they began cannot be told of what came since.
#[tokio::test]
async fn a_transaction_with_one_snapshot_is_to_be_tried_again() {
    let database = database();
    let engine = idle(&database).await;
    let session = Session::of(&database).await;
    session
        .sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        .await;
    let other = Session::of(&database).await;
    other.submit("1", r#"{"unique_key":"u"}"#).await;
    session.submit("1", r#"{"unique_key":"u"}"#).await;
    assert_eq!(session.refusal("COMMIT").await.0, "40001");
    assert_eq!(database.sql("SELECT count(*) FROM anteroom.job"), "1");
    stop(engine).await;
}

#[tokio::test]
async fn a_unique_key_is_that_of_one_unfinished_job() {
    let database = database();
    let engine = idle(&database).await;
    let session = Session::of(&database).await;
    let options = r#"{"unique_key":"u"}"#;
    let first = session.submit("1", options).await;
    assert_eq!(session.submit("2", options).await, first);
    let unique = |input| Submission {
        unique_key: Label::new("u").ok(),
        ..submission(input)
    };
    let duplicate = engine.submit(unique("3")).await.unwrap();
    assert!(duplicate.duplicate);
    assert_eq!(duplicate.job.spec.id, first);
    engine.cancel(first, None).await.unwrap().unwrap();
    let second = engine.submit(unique("4")).await.unwrap().job.spec.id;
    assert_ne!(second, first);
    assert_eq!(session.submit("5", options).await, second);
    engine.cancel(second, None).await.unwrap().unwrap();
    let third = session.submit("6", options).await;
    assert!(third != first && third != second);
    // One that ended may be retried only while nobody else has its key.
    let retried = engine.retry(first, None).await.unwrap();
    assert!(retried.is_err(), "{:?}", Event::RetryRequested);
    stop(engine).await;
}

#[tokio::test]
async fn a_key_is_remembered_for_a_day_and_gives_no_job_that_is_gone() {
    let database = database();
    let engine = idle(&database).await;
    let session = Session::of(&database).await;
    let options = r#"{"idempotency_key":"k"}"#;
    let first = session.submit("1", options).await;
    let age = |millis: i64| format!("UPDATE anteroom.submit SET at = at - {millis}");
    session.sql(&age(86_400_000 - 60_000)).await;
    assert_eq!(session.submit("1", options).await, first);
    session.sql(&age(60_000)).await;
    let second = session.submit("2", options).await;
    assert_ne!(second, first);
    assert_eq!(
        session.sql("SELECT id FROM anteroom.submit").await,
        second.to_string()
    );
    engine.cancel(second, None).await.unwrap().unwrap();
    engine.store().delete(second, None).await.unwrap();
    assert_eq!(engine.store().get(second).await.unwrap(), Found::Gone);
    let again = format!("SELECT anteroom.submit('work', '2', '{options}')");
    let (state, problem, said) = session.refusal(&again).await;
    assert_eq!((&*state, &*problem), ("02000", "job-expired"));
    assert!(said.contains(&second.to_string()), "{said}");
    stop(engine).await;
}

/// A node looks who has a key, and writes a little later. What somebody else wrote in between was
/// deleted as if it had been long over: two jobs had the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_somebody_takes_between_a_nodes_look_and_its_commit_stays_his() {
    let database = database();
    let options = with_depth(100);
    let here = engine(&database, vec![left("work")], options).await;
    let there = idle(&database).await;
    let (gate, looker) = (Session::of(&database).await, Session::of(&database).await);
    gate.sql("INSERT INTO anteroom.limited VALUES ('deep', 0)")
        .await;
    let unique = || Submission {
        unique_key: Label::new("u").ok(),
        ..submission("1")
    };
    let keyed = || Submission {
        idempotency: Some(key("i")),
        ..submission("1")
    };
    for (asked, is_keyed) in [(unique(), false), (keyed(), true)] {
        // Depths are looked at after keys, under the row of the queue.
        gate.sql("BEGIN; SELECT queue FROM anteroom.limited FOR UPDATE")
            .await;
        let slow = Submission {
            queue: Some(name("deep")),
            ..asked.clone()
        };
        let mut slower = JoinSet::new();
        let engine = here.clone();
        slower.spawn(async move { engine.submit(slow).await });
        one_waits(&looker).await;
        let quick = there.submit(asked).await.unwrap();
        assert!(!quick.duplicate && !quick.replayed);
        gate.sql("COMMIT").await;
        match slower.join_next().await.unwrap().unwrap() {
            Ok(slow) => {
                assert!(!is_keyed && slow.duplicate && slow.job.spec.id == quick.job.spec.id);
            }
            // It asks for something else: another queue.
            Err(error) => assert!(is_keyed, "{error:?}"),
        }
    }
    assert_eq!(database.sql("SELECT count(*) FROM anteroom.job"), "2");
    stop(here).await;
    stop(there).await;
}
