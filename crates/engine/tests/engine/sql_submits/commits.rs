//! What a transaction decides: whether there is a job, and what has to wait for it.

use super::*;
use anteroom::core::{Patch, QueuePatch, State};
use anteroom::store::Found;
use anteroom::{Submission, Until};
use std::future::poll_fn;
use tokio_postgres::AsyncMessage;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_there_once_its_transaction_commits_and_any_node_runs_it() {
    let database = database();
    let here = idle(&database).await;
    let there = engine(&database, vec![echo("work")], Options::default()).await;
    let session = Session::of(&database).await;
    session.sql("CREATE TABLE orders (id int)").await;
    session.sql("BEGIN").await;
    session.sql("INSERT INTO orders VALUES (1)").await;
    let id = session.submit(r#"{"order":1}"#, "{}").await;
    let looked = here.store().get(id).await.unwrap();
    assert_eq!(looked, Found::Unknown, "nobody sees it before the commit");
    session.sql("COMMIT").await;
    let ended = here.wait(id, Until::Done, PATIENCE).await.unwrap();
    assert_eq!(ended.here().unwrap().status.state, State::Succeeded);
    let result = here.store().result(id).await.unwrap().here().unwrap().1;
    assert_eq!(&result.unwrap().bytes[..], br#"{"order":1}"#);
    stop(here).await;
    stop(there).await;
}

#[tokio::test]
async fn a_job_of_a_transaction_that_is_rolled_back_never_was() {
    let database = database();
    let engine = idle(&database).await;
    let session = Session::of(&database).await;
    let options = r#"{"unique_key":"u","idempotency_key":"i","queue":"fresh"}"#;
    session.sql("BEGIN").await;
    let id = session.submit("1", options).await;
    session.sql("ROLLBACK").await;
    assert_eq!(engine.store().get(id).await.unwrap(), Found::Unknown);
    session.sql("BEGIN; SAVEPOINT a").await;
    let within = session.submit("1", options).await;
    session.sql("ROLLBACK TO a").await;
    let beside = session.submit("2", r#"{"unique_key":"u"}"#).await;
    session.sql("COMMIT").await;
    assert_eq!(engine.store().get(within).await.unwrap(), Found::Unknown);
    assert!(engine.store().get(beside).await.unwrap().here().is_some());
    let left = "SELECT concat_ws(',', (SELECT count(*) FROM anteroom.job), \
        (SELECT count(*) FROM anteroom.waiting), (SELECT count(*) FROM anteroom.submit), \
        (SELECT count(*) FROM anteroom.queue), (SELECT id FROM anteroom.unique_key))";
    assert_eq!(session.sql(left).await, format!("1,1,0,0,{beside}"));
    stop(engine).await;
}

/// A transaction may be open for long. What it has submitted holds up no server, whatever both of them
/// are about: the same keys, a queue that is used first, one with a depth.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_stays_open_holds_up_no_server() {
    let database = database();
    let options = with_depth(100);
    let engine = engine(&database, vec![left("work")], options).await;
    let session = Session::of(&database).await;
    session.sql("BEGIN").await;
    session.submit("1", r#"{"queue":"deep"}"#).await;
    session.submit("1", r#"{"queue":"fresh"}"#).await;
    session.submit("1", r#"{"unique_key":"u"}"#).await;
    session.submit("1", r#"{"idempotency_key":"i"}"#).await;
    let json = || anteroom::core::Payload {
        content_type: "application/json".into(),
        bytes: "1".into(),
    };
    let submission = || Submission::new(name("work"), json());
    let all = [
        Submission {
            queue: Some(name("deep")),
            ..submission()
        },
        Submission {
            queue: Some(name("fresh")),
            ..submission()
        },
        Submission {
            unique_key: anteroom::core::Label::new("u").ok(),
            ..submission()
        },
        Submission {
            idempotency: Some(super::keys::key("i")),
            ..submission()
        },
    ];
    for submission in all {
        let asked = format!("{submission:?}");
        let submitted = tokio::time::timeout(Duration::from_secs(20), engine.submit(submission));
        let submitted = submitted.await.unwrap_or_else(|_| panic!("{asked} waits"));
        let submitted = submitted.unwrap();
        assert!(!submitted.duplicate && !submitted.replayed, "{asked}");
    }
    let (state, problem, said) = session.refusal("COMMIT").await;
    assert_eq!(
        (&*state, &*problem),
        ("40001", "submitted-meanwhile"),
        "{said}"
    );
    assert_eq!(database.sql("SELECT count(*) FROM anteroom.job"), "4");
    stop(engine).await;
}

#[tokio::test]
async fn a_full_queue_takes_no_more_however_its_depth_was_set() {
    let database = database();
    let options = with_depth(2);
    let engine = engine(&database, vec![left("work")], options).await;
    let session = Session::of(&database).await;
    let submit = "SELECT anteroom.submit('work', '1', '{\"queue\":\"deep\"}')";
    session.sql(submit).await;
    session.sql(submit).await;
    let full = session.refusal(submit).await;
    let said = "2 jobs wait in queue deep; the limit is 2".to_owned();
    assert_eq!(full, ("53400".into(), "queue-full".into(), said));
    let patch = QueuePatch {
        max_depth: Patch::Set(4),
        ..QueuePatch::default()
    };
    engine.set_queue(&name("deep"), patch, None).await.unwrap();
    // A transaction counts its own, at its commit at the latest.
    let many = format!("BEGIN; {submit}; {submit}; {submit}; COMMIT");
    assert_eq!(session.refusal(&many).await.1, "queue-full");
    session.sql("ROLLBACK").await;
    session
        .sql(&format!("BEGIN; {submit}; {submit}; COMMIT"))
        .await;
    assert_eq!(session.refusal(submit).await.1, "queue-full");
    assert_eq!(database.sql("SELECT count(*) FROM anteroom.waiting"), "4");
    stop(engine).await;
}

/// Neither sees what the other one submits. The second to commit counts both.
#[tokio::test]
async fn two_transactions_share_the_last_place_of_a_queue() {
    let database = database();
    let engine = idle(&database).await;
    let patch = QueuePatch {
        max_depth: Patch::Set(1),
        ..QueuePatch::default()
    };
    engine.set_queue(&name("deep"), patch, None).await.unwrap();
    let (one, other) = (Session::of(&database).await, Session::of(&database).await);
    for session in [&one, &other] {
        session.sql("BEGIN").await;
        session.submit("1", r#"{"queue":"deep"}"#).await;
    }
    one.sql("COMMIT").await;
    let (state, problem, said) = other.refusal("COMMIT").await;
    assert_eq!((&*state, &*problem), ("53400", "queue-full"));
    assert_eq!(said, "2 jobs wait in queue deep; the limit is 1");
    assert_eq!(database.sql("SELECT count(*) FROM anteroom.waiting"), "1");
    stop(engine).await;
}

#[tokio::test]
async fn a_queue_is_made_on_first_use_as_far_as_that_goes() {
    let database = database();
    let engine = idle(&database).await;
    let session = Session::of(&database).await;
    session.submit("1", r#"{"queue":"fresh"}"#).await;
    let queues = engine.queues().await.unwrap();
    let names: Vec<&str> = queues.iter().map(|queue| &*queue.name).collect();
    assert_eq!(names, ["default", "fresh"]);
    let fill = "INSERT INTO anteroom.queue (name, version) \
        SELECT 'made-' || n, 1 FROM generate_series(2, 1000) AS n";
    session.sql(fill).await;
    session.submit("1", r#"{"queue":"fresh"}"#).await;
    let another = "SELECT anteroom.submit('work', '1', '{\"queue\":\"another\"}')";
    let (state, problem, said) = session.refusal(another).await;
    assert_eq!((&*state, &*problem), ("53400", "too-many-queues"));
    assert!(
        said.contains("1000 queues") && said.contains("another"),
        "{said}"
    );
    stop(engine).await;
}

#[tokio::test]
async fn strict_queues_are_named_ones() {
    let database = database();
    let mut work = left("work");
    work.queue = name("works");
    let options = Options {
        strict_queues: true,
        ..Options::default()
    };
    let strict = engine(&database, vec![work], options).await;
    let session = Session::of(&database).await;
    session.submit("1", "{}").await;
    session.submit("1", r#"{"queue":"default"}"#).await;
    let fresh = "SELECT anteroom.submit('work', '1', '{\"queue\":\"fresh\"}')";
    let (state, problem, _) = session.refusal(fresh).await;
    assert_eq!((&*state, &*problem), ("42704", "unknown-queue"));
    stop(strict).await;
    // The server that started last says what holds.
    let lax = idle(&database).await;
    session.sql(fresh).await;
    stop(lax).await;
}

/// Servers that listen hear of a commit, and of no transaction that is open or rolled back.
#[tokio::test]
async fn a_commit_is_told_to_those_who_listen() {
    let database = database();
    let engine = idle(&database).await;
    let (client, mut connection) = tokio_postgres::connect(&database.url(), NoTls)
        .await
        .unwrap();
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message {
                told.send(notification.channel().to_owned()).unwrap();
            }
        }
    });
    client.batch_execute("LISTEN anteroom").await.unwrap();
    let session = Session::of(&database).await;
    session.sql("BEGIN").await;
    session.submit("1", "{}").await;
    session.sql("ROLLBACK").await;
    client.batch_execute("SELECT 1").await.unwrap();
    assert!(heard.try_recv().is_err());
    session.sql("BEGIN").await;
    session.submit("1", "{}").await;
    session.submit("2", "{}").await;
    client.batch_execute("SELECT 1").await.unwrap();
    assert!(heard.try_recv().is_err());
    session.sql("COMMIT").await;
    let first = tokio::time::timeout(PATIENCE, heard.recv()).await;
    assert_eq!(first.unwrap().as_deref(), Some("anteroom"));
    client.batch_execute("SELECT 1").await.unwrap();
    assert!(heard.try_recv().is_err(), "once for each transaction");
    stop(engine).await;
}

/// With all servers down an application goes on submitting.
#[tokio::test(flavor = "multi_thread")]
async fn submits_are_taken_while_no_server_runs() {
    let database = database();
    stop(engine(&database, vec![echo("work")], Options::default()).await).await;
    let session = Session::of(&database).await;
    let id = session.submit("1", "{}").await;
    let engine = engine(&database, vec![echo("work")], Options::default()).await;
    let ended = engine.wait(id, Until::Done, PATIENCE).await.unwrap();
    assert_eq!(ended.here().unwrap().status.state, State::Succeeded);
    stop(engine).await;
}
