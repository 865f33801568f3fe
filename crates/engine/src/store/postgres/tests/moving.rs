//! The content of a database as records: damage in it, servers beside it, and imports that fail.

use super::{allowed, url};
use crate::clock::Clock;
use crate::moving::{About, Content, MoveError, export, import, verify};
use crate::store::archive::{Archive, RecordKind};
use crate::store::postgres::{OpenError, PostgresArchive, PostgresStore};
use crate::store::{Change, NewJob, Store, StoreError, Want};
use anteroom_core::{
    Event, Failure, FailureKind, Fingerprint, HandBack, Idempotency, IdempotencyKey, JobId, Label,
    Lease, LogStream, Name, Payload, Priority, Report, Reports, Retry, Spec, Status, Timestamp,
};
use anteroom_pgtest::{TestDatabase, shared};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn id(number: u16) -> JobId {
    JobId::from_parts(1_800_000_000_000, number, 7)
}

fn job(number: u16) -> NewJob {
    let input = Payload {
        content_type: "text/plain".into(),
        bytes: "input".into(),
    };
    NewJob {
        spec: Arc::new(Spec {
            id: id(number),
            task: Name::new("t").unwrap(),
            queue: Name::new("q").unwrap(),
            group: None,
            priority: Priority::default(),
            created_at: Timestamp::from_millis(0),
            timeout: Duration::from_mins(5),
            retain: Duration::from_hours(1),
            unique_key: None,
            callback_url: None,
            tags: BTreeMap::new(),
            input: input.info(),
        }),
        status: Status::submitted(Timestamp::from_millis(0), None, 3),
        input,
        idempotency: None,
    }
}

async fn store(database: &TestDatabase<'_>) -> PostgresStore {
    let opened = PostgresStore::open(url(&database.url()), allowed()).await;
    opened.unwrap()
}

async fn archive(database: &TestDatabase<'_>) -> Result<PostgresArchive, OpenError> {
    PostgresArchive::open(url(&database.url()), allowed()).await
}

async fn to_write(database: &TestDatabase<'_>) -> Result<PostgresArchive, OpenError> {
    PostgresArchive::open_or_make(url(&database.url()), allowed()).await
}

async fn looked_at(archive: &dyn Archive) -> (Content, Vec<String>) {
    let mut damages = Vec::new();
    let verified = verify(archive, &mut |damage| damages.push(damage.to_owned())).await;
    (verified.unwrap().content, damages)
}

async fn content(database: &TestDatabase<'_>) -> (Content, Vec<String>) {
    let archive = archive(database).await.unwrap();
    let looked_at = looked_at(&archive).await;
    archive.close().await.unwrap();
    looked_at
}

async fn exported(database: &TestDatabase<'_>) -> Vec<u8> {
    let archive = archive(database).await.unwrap();
    let mut file = Vec::new();
    let about = About::made_at(Timestamp::from_millis(0));
    export(&archive, &about, &mut file).await.unwrap();
    archive.close().await.unwrap();
    file
}

async fn claimed(store: &PostgresStore, lease: Lease) -> anteroom_core::ClaimNumber {
    let want = Want {
        tasks: vec![Name::new("t").unwrap()],
        queues: None,
        limit: 1,
        lease,
        lease_for: Duration::from_mins(1),
        wait: Duration::ZERO,
    };
    store.claim(want).await.unwrap()[0].job.status.claim
}

async fn happen(store: &PostgresStore, change: Change) {
    let mut applied = store.apply(vec![change]).await.unwrap();
    applied.remove(0).unwrap();
}

/// Makes jobs 1 (waits, with a unique key), 2 (runs), 3 (succeeded), 4 (failed twice, said
/// something, waits again) and 5 (cancelled and deleted).
async fn live(database: &TestDatabase<'_>) {
    let store = store(database).await;
    let key = IdempotencyKey::new("key").unwrap();
    let scope = "".into();
    let mut first = job(1);
    first.spec_mut().unique_key = Label::new("unique").ok();
    first.spec_mut().task = Name::new("other").unwrap();
    first.idempotency = Some((Idempotency { scope, key }, Fingerprint([1; 32])));
    store.insert(vec![first]).await.unwrap();
    store.insert(vec![job(4)]).await.unwrap();
    for said in ["one", "two"] {
        let failed = Event::Failed {
            claim: claimed(&store, Lease::Pulled).await,
            failure: Failure::new(FailureKind::Error, "it broke"),
            retry: Retry::In(Duration::ZERO),
        };
        let list = vec![Report::log(LogStream::Log, said)];
        let reports = Reports { skipped: 0, list };
        let change = Change {
            reports,
            ..Change::new(id(4), failed)
        };
        happen(&store, change).await;
    }
    let released = Event::Released {
        claim: claimed(&store, Lease::Pulled).await,
        hand_back: HandBack::Busy,
        delay: Duration::from_hours(1),
    };
    happen(&store, Change::new(id(4), released)).await;
    store.insert(vec![job(3)]).await.unwrap();
    let claim = claimed(&store, Lease::Node).await;
    let change = Change {
        result: Some(job(3).input),
        ..Change::new(id(3), Event::Succeeded { claim })
    };
    happen(&store, change).await;
    store.insert(vec![job(2)]).await.unwrap();
    claimed(&store, Lease::Node).await;
    store.insert(vec![job(5)]).await.unwrap();
    happen(&store, Change::new(id(5), Event::CancelRequested)).await;
    store.delete(id(5), None).await.unwrap();
    store.close().await;
}

/// A change of the database and what is said of it: `{n}` is the id of job n.
const DAMAGES: &[(&str, &str)] = &[
    (
        "DELETE FROM waiting WHERE id = '{1}'",
        "job {1}: it neither waits nor runs, and has not ended",
    ),
    (
        "INSERT INTO done (id, state, version, run_at, attempt, claim, lease, hand_backs, errors, \
            reports, states, cancel_requested, finished_at, expires_at) \
            VALUES ('{1}', 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, false, 0, 3600000)",
        "job {1}: it is both finished and not",
    ),
    (
        "INSERT INTO waiting (id, task, queue, \"group\", priority, is_scheduled, version, run_at, \
            attempt, claim, lease, hand_backs, errors, reports, states) \
            VALUES ('{2}', 't', 'q', '', 5, false, 1, 0, 0, 0, 0, 0, 0, 0, 0)",
        "job {2}: it both waits and runs",
    ),
    (
        "DELETE FROM job WHERE id = '{2}'",
        "job {2}: it stands among the unfinished jobs",
    ),
    (
        "DELETE FROM job WHERE id = '{3}'",
        "job {3}: it stands among the finished jobs",
    ),
    (
        "DELETE FROM job WHERE id = '{4}'",
        "job {4}: errors or events are kept of it",
    ),
    (
        "UPDATE waiting SET queue = 'z' WHERE id = '{1}'",
        "job {1}: it waits or runs as another job",
    ),
    (
        "UPDATE waiting SET \"group\" = 'z' WHERE id = '{1}'",
        "job {1}: it waits or runs as another job",
    ),
    (
        "UPDATE running SET task = 'z' WHERE id = '{2}'",
        "job {2}: it waits or runs as another job",
    ),
    (
        "UPDATE waiting SET deadline = 7 WHERE id = '{1}'",
        "job {1}: it waits for another deadline",
    ),
    (
        "UPDATE running SET node = NULL WHERE id = '{2}'",
        "job {2}: it runs on a server under the lease of a worker, or",
    ),
    (
        "UPDATE done SET state = 0 WHERE id = '{3}'",
        "job {3}: it has not ended and stands",
    ),
    (
        "UPDATE done SET expires_at = 7 WHERE id = '{3}'",
        "job {3}: it is kept for another",
    ),
    (
        "INSERT INTO gone VALUES ('{3}', 0)",
        "job {3}: it is there and is remembered as gone",
    ),
    (
        "DELETE FROM unique_key",
        "job {1}: it is unfinished and does not hold its unique key",
    ),
    (
        "UPDATE unique_key SET id = '{3}'",
        "job {3}: it holds a unique key and is no unfinished job",
    ),
    (
        "UPDATE unique_key SET key = 'other'",
        "job {1}: it holds a unique key and is no unfinished job that has it",
    ),
    (
        "UPDATE waiting SET errors = 5 WHERE id = '{4}'",
        "job {4}: it says that it has 5 errors",
    ),
    (
        "DELETE FROM error WHERE id = '{4}' AND ordinal = 0",
        "job {4}: it says",
    ),
    (
        "UPDATE waiting SET reports = 1 WHERE id = '{4}'",
        "job {4}: it says",
    ),
    (
        "UPDATE waiting SET states = 1 WHERE id = '{4}'",
        "job {4}: it says",
    ),
    (
        "DELETE FROM state WHERE id = '{4}' AND ordinal = 2",
        "job {4}: it says",
    ),
    (
        "UPDATE running SET claim = 9223372036854775807 WHERE id = '{2}'",
        "a job has a greater claim",
    ),
    (
        "UPDATE running SET node = 9223372036854775807 WHERE id = '{2}'",
        "a job runs under a greater epoch",
    ),
    (
        "INSERT INTO document VALUES ('k', 'n', 99, '')",
        "a document has a greater version",
    ),
    (
        "DELETE FROM queue_change",
        "the database: its table queue_change has no row",
    ),
    (
        "UPDATE done SET result = NULL, result_content_type = NULL WHERE id = '{3}'",
        "job {3}: it succeeded and has no",
    ),
    (
        "UPDATE done SET state = 3 WHERE id = '{3}'",
        "job {3}: it has a result",
    ),
    (
        "UPDATE done SET result = NULL WHERE id = '{3}'",
        "job {3}: it cannot be read: ",
    ),
    (
        "UPDATE running SET attempt = 9 WHERE id = '{2}'",
        "job {2}: it has begun more attempts",
    ),
    (
        "UPDATE state SET version = 99 WHERE id = '{4}'",
        "job {4}: its history: ",
    ),
    (
        "UPDATE job SET task = 'No' WHERE id = '{3}'",
        "job {3}: it cannot be read: ",
    ),
    (
        "UPDATE error SET kind = 'odd' WHERE id = '{4}'",
        "job {4}: it cannot be read: a row is damaged: kind: there is no failure",
    ),
    (
        "UPDATE report SET stream = 'odd' WHERE id = '{4}'",
        "job {4}: it cannot be read: a row is damaged: stream",
    ),
];

/// Makes it a store that nobody has used.
const EMPTY: &str = "TRUNCATE job, waiting, running, done, error, report, state, settled, gone, \
    submit, unique_key, queue, limited, document, queue_change; \
    INSERT INTO queue_change VALUES (1, 0)";

#[tokio::test]
async fn each_damage_is_named() {
    let whole = shared().database();
    live(&whole).await;
    let (content_of_whole, damages) = content(&whole).await;
    let states = content_of_whole.states;
    assert_eq!((damages, states), (Vec::new(), [2, 1, 1, 0, 0]));
    let file = exported(&whole).await;
    let with_ids = |text: &str| {
        (1..=5).fold(text.to_owned(), |text, number| {
            text.replace(&format!("{{{number}}}"), &id(number).to_string())
        })
    };
    let broken = shared().database();
    let archive = to_write(&broken).await.unwrap();
    for (sql, expected) in DAMAGES {
        import(&archive, &mut &*file).await.unwrap();
        broken.sql(&with_ids(&format!("SET search_path = anteroom; {sql}")));
        let (_, damages) = content(&broken).await;
        broken.sql(&format!("SET search_path = anteroom; {EMPTY}"));
        let expected = with_ids(expected);
        let is_named = damages.iter().any(|damage| damage.contains(&expected));
        assert!(is_named, "{sql}: {expected} in {damages:#?}");
    }
}

/// From the first look to the last it is the same instant, whatever servers do meanwhile.
#[tokio::test]
async fn what_servers_do_meanwhile_is_not_seen() {
    let database = shared().database();
    let store = store(&database).await;
    store.insert((0..9).map(job).collect()).await.unwrap();
    let reading = archive(&database).await.unwrap();
    let documents = reading.page(RecordKind::Document, None).await.unwrap();
    assert_eq!(documents, []);
    claimed(&store, Lease::Node).await;
    store.insert((9..20).map(job).collect()).await.unwrap();
    happen(&store, Change::new(id(3), Event::CancelRequested)).await;
    let (before, damages) = looked_at(&reading).await;
    assert_eq!((before.states, damages), ([9, 0, 0, 0, 0], Vec::new()));
    let (after, damages) = content(&database).await;
    assert_eq!((after.states, damages), ([18, 1, 0, 0, 1], Vec::new()));
    reading.close().await.unwrap();
    let closed = reading.counters().await;
    assert!(matches!(closed, Err(StoreError::Closed)), "{closed:?}");
    store.close().await;
}

/// A server that is there is seen, also one that came after the store was opened for the import.
#[tokio::test]
async fn nothing_is_imported_under_a_server() {
    let from = shared().database();
    live(&from).await;
    let file = exported(&from).await;
    let database = shared().database();
    let archive = to_write(&database).await.unwrap();
    let server = store(&database).await;
    let refused = to_write(&database).await;
    assert!(
        matches!(refused, Err(OpenError::InUse { servers: 1, .. })),
        "{refused:?}"
    );
    let refused = import(&archive, &mut &*file).await.unwrap_err();
    let said = "the store is in use (running servers: 1); stop them first";
    assert!(refused.to_string().contains(said), "{refused}");
    server.close().await;
    import(&archive, &mut &*file).await.unwrap();
}

/// Of an import and a server that begin at once one is refused, or the server comes after the whole
/// import: there is never a server on half of one.
#[tokio::test]
async fn a_server_and_an_import_do_not_begin_together() {
    for _ in 0..5 {
        let database = shared().database();
        let archive = to_write(&database).await.unwrap();
        let way = url(&database.url());
        let (begun, opened) = tokio::join!(
            archive.begin_import("mark", crate::store::archive::Counters::default()),
            PostgresStore::open_by(Clock::system(), way, allowed()),
        );
        match (&begun, &opened) {
            (Ok(()), Err(OpenError::HalfImported { .. })) => {}
            (Err(StoreError::Unavailable { .. }), Ok(server)) => server.close().await,
            both => panic!("{both:?}"),
        }
    }
}

/// What looks at a database makes nothing in it.
#[tokio::test]
async fn an_empty_database_is_not_made_a_store_by_looking() {
    let database = shared().database();
    let opened = archive(&database).await;
    assert!(
        matches!(opened, Err(OpenError::NoStore { .. })),
        "{opened:?}"
    );
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'anteroom'";
    assert_eq!(database.sql(schemas), "0");
}

/// Two unfinished jobs of a file that was made up have one unique key: the batch is not written, and
/// the second of them is named.
#[tokio::test]
async fn a_unique_key_that_two_jobs_have_is_refused() {
    let from = shared().database();
    let store = store(&from).await;
    store.insert(vec![job(1), job(2)]).await.unwrap();
    store.close().await;
    let reading = archive(&from).await.unwrap();
    let page = reading.page(RecordKind::Job, None).await.unwrap();
    let with_key = page.into_iter().map(|entry| {
        let mut record = entry.unwrap();
        if let crate::store::archive::Record::Job(kept) = &mut record {
            let spec = std::sync::Arc::make_mut(&mut kept.job.spec);
            spec.unique_key = Label::new("unique").ok();
        }
        record
    });
    let into = shared().database();
    let writing = to_write(&into).await.unwrap();
    let refused = writing.put(with_key.collect()).await.unwrap_err();
    let said = format!("job {}: another unfinished job has its unique key", id(2));
    assert!(refused.to_string().contains(&said), "{refused}");
    assert_eq!(content(&into).await.0.total(), 0);
}

/// A connection that breaks ends the look with an error, and what was to be written is not there.
#[tokio::test]
async fn a_broken_connection_is_an_error() {
    let database = shared().database();
    live(&database).await;
    let file = exported(&database).await;
    let reading = archive(&database).await.unwrap();
    reading.page(RecordKind::Job, None).await.unwrap();
    database.terminate_backends();
    let broken = reading.page(RecordKind::Submit, None).await;
    assert!(
        matches!(broken, Err(StoreError::Unavailable { .. })),
        "{broken:?}"
    );
    let into = shared().database();
    let writing = to_write(&into).await.unwrap();
    into.terminate_backends();
    let broken = import(&writing, &mut &*file).await;
    assert!(matches!(broken, Err(MoveError::Store(_))), "{broken:?}");
    assert_eq!(content(&into).await.0.total(), 0);
}
