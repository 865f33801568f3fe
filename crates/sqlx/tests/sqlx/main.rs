//! Jobs in transactions of sqlx, on a real server.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are outside of test functions, where clippy allows it"
)]

use anteroom::core::State;
use anteroom::run::{Outcome, function};
use anteroom::store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
use anteroom::{Engine, Options, Task, TaskRunner, Until};
use anteroom_pgtest::TestDatabase;
use anteroom_sqlx::{submit, submit_bytes, submit_many};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use std::sync::Arc;
use std::time::Duration;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Starts a node with a task that gives back what it is given, and a connection beside it.
async fn start(database: &TestDatabase<'_>) -> (Engine, PgConnection) {
    let mut options = PostgresOptions::default();
    options.allow_fsync_off = true;
    let url = PostgresUrl::new(&database.url()).unwrap();
    let store = PostgresStore::open(url, options).await.unwrap();
    let echo = function::bytes(|attempt| async move { Outcome::Succeeded(attempt.input) });
    let echo = Task::new("echo", TaskRunner::Here(echo)).unwrap();
    let engine = Engine::start(Arc::new(store), vec![echo], Options::default()).await;
    let connection = PgConnection::connect(&database.url()).await.unwrap();
    (engine.unwrap(), connection)
}

#[tokio::test]
async fn a_commit_gives_the_job_and_a_rollback_none() {
    let database = anteroom_pgtest::shared().database();
    let (engine, mut connection) = start(&database).await;
    let mut transaction = connection.begin().await.unwrap();
    let dropped = submit(&mut *transaction, "echo", &json!({"a": 1}), &()).await;
    transaction.rollback().await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    let options = json!({"tags": {"of": "sqlx"}});
    let kept = submit(&mut *transaction, "echo", &json!({"a": 2}), &options).await;
    let bytes = submit_bytes(&mut *transaction, "echo", b"\0\xff", &()).await;
    transaction.commit().await.unwrap();

    let store = engine.store();
    assert!(store.get(dropped.unwrap()).await.unwrap().here().is_none());
    for (id, expected) in [
        (kept.unwrap(), &br#"{"a":2}"#[..]),
        (bytes.unwrap(), b"\0\xff"),
    ] {
        let ended = engine.wait(id, Until::Done, PATIENCE).await.unwrap();
        assert_eq!(ended.here().unwrap().status.state, State::Succeeded);
        let (_, result) = store.result(id).await.unwrap().here().unwrap();
        assert_eq!(&*result.unwrap().bytes, expected);
    }
    engine.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn many_are_submitted_in_their_order_and_all_or_none() {
    let database = anteroom_pgtest::shared().database();
    let (engine, mut connection) = start(&database).await;
    let one = json!({"task": "echo", "input": 1, "unique_key": "one", "delay": "1h"});
    let jobs = [one.clone(), json!({"task": "echo", "input": 2}), one];
    let submitted = submit_many(&mut connection, &jobs).await.unwrap();
    let duplicates: Vec<bool> = submitted.iter().map(|job| job.duplicate).collect();
    assert_eq!(duplicates, [false, false, true]);
    assert_eq!(submitted[0].id, submitted[2].id);

    let jobs = [
        json!({"task": "echo", "input": 3}),
        json!({"task": "nobody's"}),
    ];
    let refused = submit_many(&mut connection, &jobs).await.unwrap_err();
    let refused = refused.as_database_error().unwrap();
    assert_eq!(refused.constraint(), Some("unknown-task"), "{refused}");
    assert_eq!(database.sql("SELECT count(*) FROM anteroom.job"), "2");
    engine.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_refusal_names_its_problem() {
    let database = anteroom_pgtest::shared().database();
    let (engine, mut connection) = start(&database).await;
    for (options, problem) in [
        (json!({"priority": 10}), "invalid-body"),
        (json!({"urgent": true}), "invalid-body"),
        (json!([]), "invalid-body"),
    ] {
        let refused = submit(&mut connection, "echo", "text", &options).await;
        let refused = refused.unwrap_err();
        let said = refused.as_database_error().unwrap();
        assert_eq!(said.constraint(), Some(problem), "{options}: {said}");
    }
    engine.shutdown(Duration::ZERO).await;
}
