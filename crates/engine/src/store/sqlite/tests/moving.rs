//! The content of a database as records: damage in it, keys that were taken, and copies.

use super::*;
use crate::moving::{About, Content, MoveError, export, import, verify};
use crate::store::archive::{Archive, RecordKind};
use crate::store::sqlite::{BackupError, OpenError, SqliteArchive, backup};
use anteroom_core::{
    Failure, FailureKind, Fingerprint, HandBack, Idempotency, IdempotencyKey, Label, LogStream,
    Report, Reports, Retry,
};

async fn content(path: PathBuf) -> (Content, Vec<String>) {
    let archive = SqliteArchive::open(path).unwrap();
    let mut damages = Vec::new();
    let verified = verify(&archive, &mut |damage| damages.push(damage.to_owned())).await;
    archive.close().await.unwrap();
    (verified.unwrap().content, damages)
}

async fn exported(place: &Place) -> Vec<u8> {
    let archive = SqliteArchive::open(place.path()).unwrap();
    let mut file = Vec::new();
    let about = About::made_at(Timestamp::from_millis(0));
    export(&archive, &about, &mut file).await.unwrap();
    archive.close().await.unwrap();
    file
}

async fn imported(file: &[u8]) -> Place {
    let place = Place::new();
    let archive = SqliteArchive::open_or_make(place.path()).unwrap();
    import(&archive, &mut { file }).await.unwrap();
    archive.close().await.unwrap();
    place
}

/// A database with jobs 1 (waits, with a unique key), 2 (runs), 3 (succeeded), 4 (failed twice, said
/// something, waits again) and 5 (cancelled and deleted).
async fn lived() -> Place {
    let place = Place::new();
    let store = place.open();
    let key = IdempotencyKey::new("key").unwrap();
    let scope = "".into();
    let mut first = job(1);
    first.spec_mut().unique_key = Label::new("unique").ok();
    first.spec_mut().task = Name::new("other").unwrap();
    first.idempotency = Some((Idempotency { scope, key }, Fingerprint([1; 32])));
    store.insert(vec![first]).await.unwrap();
    let want = |lease| Want {
        tasks: vec![Name::new("t").unwrap()],
        queues: None,
        limit: 1,
        lease,
        lease_for: Duration::from_mins(1),
        wait: Duration::ZERO,
    };
    store.insert(vec![job(4)]).await.unwrap();
    for said in ["one", "two"] {
        let claimed = store.claim(want(Lease::Pulled)).await.unwrap();
        let claim = claimed[0].job.status.claim;
        let failure = Failure::new(FailureKind::Error, "it broke");
        let retry = Retry::In(Duration::ZERO);
        let failed = Event::Failed {
            claim,
            failure,
            retry,
        };
        let list = vec![Report::log(LogStream::Log, said)];
        let reports = Reports { skipped: 0, list };
        let change = Change {
            reports,
            ..Change::new(id(4), failed)
        };
        store.apply(vec![change]).await.unwrap().remove(0).unwrap();
    }
    let claimed = store.claim(want(Lease::Pulled)).await.unwrap();
    let released = Event::Released {
        claim: claimed[0].job.status.claim,
        hand_back: HandBack::Busy,
        delay: Duration::from_hours(1),
    };
    store
        .apply(vec![Change::new(id(4), released)])
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    store.insert(vec![job(3)]).await.unwrap();
    let claimed = store.claim(want(Lease::Node)).await.unwrap();
    let claim = claimed[0].job.status.claim;
    let result = Some(claimed[0].input.clone());
    let change = Change {
        result,
        ..Change::new(id(3), Event::Succeeded { claim })
    };
    store.apply(vec![change]).await.unwrap().remove(0).unwrap();
    store.insert(vec![job(2)]).await.unwrap();
    assert_eq!(store.claim(want(Lease::Node)).await.unwrap().len(), 1);
    store.insert(vec![job(5)]).await.unwrap();
    let cancel = Change::new(id(5), Event::CancelRequested);
    store.apply(vec![cancel]).await.unwrap().remove(0).unwrap();
    store.delete(id(5), None).await.unwrap();
    store.close().await;
    place
}

/// A change of the database, the number of the job that it is about, and what is said of it.
const DAMAGES: &[(&str, u16, &str)] = &[
    (
        "DELETE FROM live WHERE seq = ?1",
        1,
        "job {1}: it is neither finished nor not",
    ),
    (
        "INSERT INTO done (seq, state, version, run_at, attempt, claim, lease, \
             cancel_requested, hand_backs, errors, finished_at, expires_at) \
             VALUES (?1, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 3600000)",
        1,
        "job {1}: it is both finished and not",
    ),
    (
        "DELETE FROM job WHERE seq = ?1",
        2,
        "it stands among the unfinished jobs",
    ),
    (
        "DELETE FROM job WHERE seq = ?1",
        3,
        "it stands among the finished jobs",
    ),
    (
        "DELETE FROM job WHERE seq = ?1",
        4,
        "errors or events are kept of it",
    ),
    (
        "UPDATE live SET queue = 'z' WHERE seq = ?1",
        1,
        "job {1}: it waits as another job",
    ),
    (
        "UPDATE live SET state = 4 WHERE seq = ?1",
        1,
        "job {1}: it has ended and stands",
    ),
    (
        "UPDATE done SET state = 0 WHERE seq = ?1",
        3,
        "job {3}: it has not ended and stands",
    ),
    (
        "UPDATE done SET expires_at = 7 WHERE seq = ?1",
        3,
        "job {3}: it is kept for another",
    ),
    (
        "INSERT INTO gone SELECT id, 0 FROM job WHERE seq = ?1",
        3,
        "job {3}: it is there and is remembered as gone",
    ),
    (
        "DELETE FROM unique_key WHERE ?1 > 0",
        1,
        "job {1}: it is unfinished and does not hold its unique key",
    ),
    (
        "UPDATE unique_key SET id = (SELECT id FROM job WHERE seq = ?1)",
        3,
        "job {3}: it holds a unique key and is no unfinished job",
    ),
    (
        "UPDATE live SET errors = 5 WHERE seq = ?1",
        4,
        "job {4}: it says that it has 5 errors",
    ),
    (
        "DELETE FROM error WHERE seq = ?1 AND ordinal = 0",
        4,
        "job {4}: it says",
    ),
    (
        "UPDATE live SET reports = 1 WHERE seq = ?1",
        4,
        "job {4}: it says",
    ),
    (
        "UPDATE live SET states = 1 WHERE seq = ?1",
        4,
        "job {4}: it says",
    ),
    (
        "DELETE FROM state WHERE seq = ?1 AND ordinal = 2",
        4,
        "job {4}: it says",
    ),
    (
        "UPDATE opening SET number = 0 WHERE ?1 > 0",
        1,
        "a job has a greater claim",
    ),
    (
        "INSERT INTO document VALUES ('k', 'n', ?1, x'00')",
        1,
        "a document has a greater version",
    ),
    (
        "UPDATE done SET result = NULL, result_content_type = NULL WHERE seq = ?1",
        3,
        "job {3}: it succeeded and has no",
    ),
    (
        "UPDATE done SET state = 3 WHERE seq = ?1",
        3,
        "job {3}: it has a result",
    ),
    (
        "UPDATE live SET attempt = 9 WHERE seq = ?1",
        2,
        "job {2}: it has begun more attempts",
    ),
    (
        "UPDATE state SET version = 99 WHERE seq = ?1",
        4,
        "job {4}: its history: ",
    ),
    ("UPDATE job SET task = 'No' WHERE seq = ?1", 3, "job {3}: "),
    (
        "UPDATE error SET kind = 'odd' WHERE seq = ?1",
        4,
        "job {4}: it cannot be read: there is no failure",
    ),
    (
        "DELETE FROM opening WHERE ?1 > 0",
        1,
        "the database: its table opening has no row",
    ),
];

#[tokio::test]
async fn each_damage_is_named() {
    let place = lived().await;
    let (whole, damages) = content(place.path()).await;
    assert_eq!((damages, whole.states), (Vec::new(), [2, 1, 1, 0, 0]));
    for &(sql, number, expected) in DAMAGES {
        let broken = Place::new();
        std::fs::copy(place.path(), broken.path()).unwrap();
        let db = Connection::open(broken.path()).unwrap();
        let seq = id(number).order_key();
        assert!(db.execute(sql, [seq]).unwrap() > 0, "{sql}");
        drop(db);
        let (_, damages) = content(broken.path()).await;
        let expected = expected.replace(&format!("{{{number}}}"), &id(number).to_string());
        let is_named = damages.iter().any(|damage| damage.contains(&expected));
        assert!(is_named, "{sql}: {expected} in {damages:#?}");
    }
}

/// Where nobody looks for a job it can be neither read nor moved, and that is an error of its own.
#[tokio::test]
async fn a_job_that_lies_elsewhere_is_found() {
    let place = lived().await;
    let db = Connection::open(place.path()).unwrap();
    for table in ["job", "done"] {
        let sql = format!("UPDATE {table} SET seq = 77 WHERE seq = ?1");
        assert_eq!(db.execute(&sql, [id(3).order_key()]).unwrap(), 1);
    }
    drop(db);
    let archive = SqliteArchive::open(place.path()).unwrap();
    let mut damages = Vec::new();
    let verified = verify(&archive, &mut |damage| damages.push(damage.to_owned())).await;
    let expected = format!(
        "job {}: it lies at key 77, where nobody looks for it",
        id(3)
    );
    assert_eq!(damages, [expected]);
    assert!(matches!(verified, Err(MoveError::Store(_))), "{verified:?}");
}

/// Ids that ask for one key lie behind each other, in the order of their inserts: their records have
/// the order of ids all the same, over the ends of pages too, and each is found where it was moved.
#[tokio::test]
async fn jobs_whose_keys_were_taken_are_moved() {
    let place = Place::new();
    let store = place.open();
    let of = |n: u16, random: u64| JobId::from_parts(1_800_000_000_000, n, random);
    let mut ids = Vec::new();
    for n in 0..600 {
        // A few keys are asked for by forty, so that others lie far behind theirs.
        let same = if n % 97 == 0 { 40 } else { 2 };
        ids.extend((0..same).rev().map(|random| of(3 * n, random)));
    }
    for some in ids.chunks(100) {
        let jobs = some.iter().map(|id| job_with(*id, b"input"));
        store.insert(jobs.collect()).await.unwrap();
    }
    store.close().await;
    let file = exported(&place).await;
    let moved = imported(&file).await;
    let (one, other) = (content(place.path()).await, content(moved.path()).await);
    assert_eq!(one, other);
    assert_eq!(one.0.count(RecordKind::Job), ids.len() as u64);
    let store = moved.open();
    for id in ids {
        assert!(store.get(id).await.unwrap().here().is_some(), "{id}");
    }
    store.close().await;
}

/// Submits are forgotten in the order of their numbers, from the oldest on: after a move the numbers
/// go by their instants again, whatever the order of their keys.
#[tokio::test]
async fn moved_submits_are_forgotten_in_their_time() {
    let place = Place::new();
    place.open().close().await;
    let db = Connection::open(place.path()).unwrap();
    let now = Clock::system().now().as_millis();
    let day = 24 * 60 * 60 * 1_000;
    for (key, at) in [
        ("a", now),
        ("b", now - 2 * day),
        ("c", now),
        ("d", now - day),
    ] {
        let sql = "INSERT INTO submit (scope, task, key, fingerprint, id, duplicate, at) \
                   VALUES ('', 't', ?1, zeroblob(32), zeroblob(16), 0, ?2)";
        db.execute(sql, (key, at)).unwrap();
    }
    drop(db);
    let moved = imported(&exported(&place).await).await;
    let store = moved.open();
    store.prune(10).await.unwrap();
    store.close().await;
    let db = Connection::open(moved.path()).unwrap();
    let sql = "SELECT group_concat(key, '' ORDER BY number) FROM submit";
    let kept: String = db.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(kept, "ac");
}

#[tokio::test]
async fn a_store_in_the_middle_of_an_import_is_opened_for_nothing_else() {
    let place = Place::new();
    let archive = SqliteArchive::open_or_make(place.path()).unwrap();
    archive
        .begin_import("mark", crate::store::archive::Counters::default())
        .await
        .unwrap();
    archive.close().await.unwrap();
    let opened = SqliteStore::open(place.path(), Clock::system());
    assert!(
        matches!(opened, Err(OpenError::HalfImported { .. })),
        "{opened:?}"
    );
    let archive = SqliteArchive::open(place.path()).unwrap();
    assert_eq!(archive.importing().await.unwrap().as_deref(), Some("mark"));
    archive.end_import().await.unwrap();
    archive.close().await.unwrap();
    place.open().close().await;
}

/// Looking at a store leaves it as it is: no opening is counted, and no lease made longer.
#[tokio::test]
async fn looking_changes_nothing() {
    let place = lived().await;
    let before = std::fs::read(place.path()).unwrap();
    let (one, _) = content(place.path()).await;
    exported(&place).await;
    let (other, _) = content(place.path()).await;
    assert_eq!(one, other);
    assert!(
        std::fs::read(place.path()).unwrap() == before,
        "the file was changed"
    );
}

#[tokio::test]
async fn an_older_database_is_brought_forward_and_looked_at() {
    let place = Place::of_the_first_version();
    let copy = Place::new();
    backup(place.path(), copy.path()).unwrap();
    for place in [place, copy] {
        let (content, damages) = content(place.path()).await;
        assert_eq!((content.count(RecordKind::Job), damages), (1, Vec::new()));
    }
}

#[tokio::test]
async fn a_backup_is_a_store_of_its_own_and_nothing_is_written_over() {
    let place = lived().await;
    let (whole, _) = content(place.path()).await;
    let store = place.open();
    store.insert(vec![job(6)]).await.unwrap();
    let copy = Place::new();
    let bytes = backup(place.path(), copy.path()).unwrap();
    assert_eq!(bytes, std::fs::metadata(copy.path()).unwrap().len());
    store.insert(vec![job(7)]).await.unwrap();
    store.close().await;
    let (copied, damages) = content(copy.path()).await;
    assert_eq!((copied.total(), damages), (whole.total() + 1, Vec::new()));
    let again = backup(place.path(), copy.path());
    assert!(
        matches!(again, Err(BackupError::Exists { .. })),
        "{again:?}"
    );
    std::os::unix::fs::symlink("nowhere", copy.file("link")).unwrap();
    let link = backup(place.path(), copy.file("link"));
    assert!(matches!(link, Err(BackupError::Exists { .. })), "{link:?}");
    std::fs::write(copy.file("other"), "not a database").unwrap();
    let refused = backup(copy.file("other"), copy.file("new.db"));
    assert!(matches!(refused, Err(BackupError::Open(_))), "{refused:?}");
    let missing = backup(copy.file("missing"), copy.file("new.db"));
    let is_missing = matches!(missing, Err(BackupError::Open(OpenError::Missing { .. })));
    assert!(is_missing, "{missing:?}");
    let store = copy.open();
    assert!(store.get(id(6)).await.unwrap().here().is_some());
    assert!(store.get(id(7)).await.unwrap().here().is_none());
    store.close().await;
    let names = std::fs::read_dir(copy.path().parent().unwrap()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    assert_eq!(names, ["jobs.db", "jobs.db-lock", "link", "other"]);
}
