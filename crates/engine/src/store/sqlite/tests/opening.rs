//! What is opened, and what is refused.

use super::super::OpenError;
use super::*;
use rusqlite::Connection;
use std::fs;

/// Returns why it is not opened, having checked that it is left alone.
fn refusal(place: &Place) -> OpenError {
    let before = fs::read(place.path()).ok();
    let error = SqliteStore::open(place.path(), Clock::system()).unwrap_err();
    assert_eq!(fs::read(place.path()).ok(), before, "left alone");
    let text = error.to_string();
    let path = place.path().display().to_string();
    assert!(text.contains(&path), "{text} does not name {path}");
    error
}

/// Makes a database and closes it.
async fn made() -> Place {
    let place = Place::new();
    let store = place.open();
    for number in 0..200 {
        store.insert(vec![job(number)]).await.unwrap();
    }
    store.close().await;
    place
}

#[tokio::test]
async fn a_second_store_is_kept_from_an_open_database() {
    let place = Place::new();
    let store = place.open();
    let error = refusal(&place);
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().ends_with("is in use by another process"));
    store.close().await;
    place.open().close().await;
}

#[tokio::test]
async fn a_link_to_an_open_database_is_kept_from_it_too() {
    let place = Place::new();
    let store = place.open();
    let link = place.file("link.db");
    std::os::unix::fs::symlink(place.path(), &link).unwrap();
    let error = SqliteStore::open(&link, Clock::system()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    store.close().await;
}

#[test]
fn a_link_to_nothing_is_refused_and_stays() {
    let place = Place::new();
    let target = place.file("mount/jobs.db");
    std::os::unix::fs::symlink(&target, place.path()).unwrap();
    let error = refusal(&place);
    let is_named = error.to_string().contains("mount/jobs.db");
    assert!(is_named, "{error}");
    assert!(matches!(error, OpenError::LinkToNothing { .. }), "{error}");
    assert_eq!(fs::read_link(place.path()).unwrap(), target);
    let left = fs::read_dir(place.folder.path()).unwrap().count();
    assert_eq!(left, 1, "nothing is made beside it");
}

#[test]
fn a_missing_folder_is_named() {
    let place = Place::new();
    let path = place.file("nowhere/jobs.db");
    let error = SqliteStore::open(&path, Clock::system()).unwrap_err();
    assert!(matches!(error, OpenError::NoFolder { .. }), "{error}");
    assert!(error.to_string().contains("nowhere/jobs.db"), "{error}");
    assert!(!path.parent().unwrap().exists());
}

#[test]
fn an_empty_file_is_refused() {
    let place = Place::new();
    fs::write(place.path(), "").unwrap();
    let error = refusal(&place);
    assert!(matches!(error, OpenError::Empty { .. }), "{error}");
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let place = Place::new();
    fs::write(place.path(), "a,b,c\n1,2,3\n".repeat(1_000)).unwrap();
    let error = refusal(&place);
    assert!(matches!(error, OpenError::NotADatabase { .. }), "{error}");
    fs::remove_file(place.path()).unwrap();
    fs::create_dir(place.path()).unwrap();
    let error = SqliteStore::open(place.path(), Clock::system()).unwrap_err();
    assert!(matches!(error, OpenError::File { .. }), "{error}");
}

#[test]
fn the_database_of_another_program_is_refused() {
    let place = Place::new();
    let other = Connection::open(place.path()).unwrap();
    other
        .execute_batch("PRAGMA application_id = 7; CREATE TABLE job (seq INTEGER)")
        .unwrap();
    other.close().unwrap();
    let error = refusal(&place);
    let is_foreign = matches!(
        error,
        OpenError::Foreign {
            application_id: 7,
            ..
        }
    );
    assert!(is_foreign, "{error}");
}

#[tokio::test]
async fn a_log_without_its_database_is_refused() {
    let place = Place::new();
    let store = place.open();
    store.insert(vec![job(1)]).await.unwrap();
    let crashed = place.crashed();
    fs::remove_file(crashed.path()).unwrap();
    let error = refusal(&crashed);
    let is_missing = matches!(error, OpenError::LogWithoutDatabase { .. });
    assert!(is_missing, "{error}");
    assert!(!crashed.path().exists(), "nothing is made in its place");
    store.close().await;
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let place = made().await;
    let db = Connection::open(place.path()).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    db.close().unwrap();
    let error = refusal(&place);
    let is_newer = matches!(error, OpenError::Newer { version: 99, .. });
    assert!(is_newer, "{error}");
}

#[tokio::test]
async fn a_damaged_database_is_refused() {
    let place = made().await;
    let whole = fs::read(place.path()).unwrap();
    let mut cases = vec![
        ("cut in the header", whole[..50].to_vec()),
        ("cut after a page", whole[..4_096].to_vec()),
        ("cut in the middle", whole[..whole.len() / 2].to_vec()),
    ];
    let mut garbled = whole.clone();
    garbled[4_096..].fill(0x5a);
    cases.push(("garbled", garbled));
    let mut no_tables = whole;
    // The root page of the schema becomes an empty one.
    no_tables[100..4_096].fill(0);
    no_tables[100] = 0x0d;
    cases.push(("without tables", no_tables));
    for (what, bytes) in cases {
        fs::write(place.path(), bytes).unwrap();
        let error = refusal(&place);
        let is_damaged = matches!(error, OpenError::Damaged { .. });
        assert!(is_damaged, "{what}: {error:?}");
    }
}

#[tokio::test]
async fn what_a_crash_left_of_a_new_database_is_made_anew() {
    let place = Place::new();
    fs::write(place.file("jobs.db-new"), "half of a database").unwrap();
    fs::write(place.file("jobs.db-new-journal"), "its journal").unwrap();
    let store = place.open();
    store.insert(vec![job(1)]).await.unwrap();
    store.close().await;
    let mut left: Vec<_> = fs::read_dir(place.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["jobs.db", "jobs.db-lock"], "all is in the one file");
}

#[tokio::test]
async fn the_database_says_what_it_is() {
    let place = made().await;
    let db = Connection::open(place.path()).unwrap();
    let version = super::super::schema::MIGRATIONS.len().to_string();
    for (pragma, expected) in [
        ("page_size", "4096"),
        ("journal_mode", "wal"),
        ("user_version", version.as_str()),
        ("integrity_check", "ok"),
    ] {
        let value: rusqlite::types::Value = db
            .pragma_query_value(None, pragma, |row| row.get(0))
            .unwrap();
        let text = match value {
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(text, expected, "{pragma}");
    }
}

#[tokio::test]
async fn the_writer_syncs_each_commit() {
    let place = Place::new();
    let store = place.open();
    meddle(&store, |db| {
        let read = |pragma| db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        assert_eq!(read("synchronous").unwrap(), 2, "FULL");
        assert_eq!(read("wal_autocheckpoint").unwrap(), 0, "done by the writer");
    })
    .await;
    store.close().await;
}
