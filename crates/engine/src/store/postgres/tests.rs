//! The way to a real server, and what is found there.

mod moving;

use super::database::Database;
use super::fault::Fault;
use super::link::Link;
use super::open::{OpenError, PostgresOptions, open};
use super::schema::{MIGRATIONS, Migration, Refusal, bring_forward};
use super::url::PostgresUrl;
use crate::clock::Clock;
use anteroom_pgtest::{Cluster, Pooler, Shutdown, Statements, shared};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// What lets the server of the tests pass.
fn allowed() -> PostgresOptions {
    PostgresOptions {
        allow_fsync_off: true,
    }
}

fn url(text: &str) -> PostgresUrl {
    PostgresUrl::new(text).unwrap()
}

async fn refusal(text: &str) -> OpenError {
    open(url(text), allowed()).await.unwrap_err()
}

#[tokio::test]
async fn an_empty_database_gets_its_tables_and_keeps_them() {
    let database = shared().database();
    let (_, first) = open(url(&database.url()), allowed()).await.unwrap();
    let newest = u32::try_from(MIGRATIONS.len()).unwrap();
    assert_eq!((first.from, first.to), (0, newest));
    let (reached, second) = open(url(&database.url()), allowed()).await.unwrap();
    assert_eq!((second.from, second.to), (newest, newest));
    let session = reached.connect("test").await.unwrap();
    let rows = session
        .query("SELECT count(*) FROM job", &[])
        .await
        .unwrap();
    assert_eq!(rows[0].get::<_, i64>(0), 0);
    let sql = "SELECT current_setting('application_name'), current_setting('synchronous_commit'), \
        current_setting('enable_seqscan'), current_setting('timezone')";
    let row = session.query_opt(sql, &[]).await.unwrap().unwrap();
    let settings: Vec<String> = (0..4).map(|at| row.get(at)).collect();
    assert_eq!(settings, ["anteroom test", "on", "off", "UTC"]);
}

#[tokio::test]
async fn many_nodes_may_begin_at_once_on_an_empty_database() {
    let database = shared().database();
    let text = database.url();
    let nodes = (0..8).map(|_| open(url(&text), allowed()));
    for opened in futures_util::future::join_all(nodes).await {
        let (_, migrated) = opened.unwrap();
        assert_eq!(migrated.to as usize, MIGRATIONS.len());
    }
    let versions = database.sql("SELECT string_agg(version::text, ',') FROM anteroom.migration");
    assert_eq!(versions, "1,2");
}

#[tokio::test]
async fn a_connection_that_broke_is_made_again_when_the_server_is_back() {
    let cluster = Cluster::start(&[]).unwrap();
    let database = cluster.database();
    let reached = Arc::new(Database::new(url(&database.url())).unwrap());
    let link = Arc::new(Link::new(reached, "test"));
    let before = link.session().await.unwrap();
    assert!(Arc::ptr_eq(&before, &link.session().await.unwrap()));
    cluster.stop(Shutdown::Immediate);
    let broken = before.query("SELECT 1", &[]).await;
    assert!(broken.is_err());
    let calls = futures_util::future::join_all((0..10).map(|_| link.session())).await;
    for call in calls {
        let Err(Fault::Passing(why)) = call else {
            panic!("{call:?}");
        };
        assert!(
            why.contains(&format!("127.0.0.1:{}", cluster.port())),
            "{why}"
        );
        assert!(!why.contains("pgtest-secret"), "{why}");
    }
    cluster.start_again();
    let after = link.session().await.unwrap();
    after.query("SELECT 1", &[]).await.unwrap();
    assert_eq!(database.terminate_backends(), 1);
    // It hears of it when it next asks, at the latest.
    while !after.is_closed() {
        let _broken = after.query("SELECT 1", &[]).await;
    }
    link.session()
        .await
        .unwrap()
        .query("SELECT 1", &[])
        .await
        .unwrap();
}

#[tokio::test]
async fn what_stops_the_start_is_named() {
    let database = shared().database();
    let (text, name) = (database.url(), database.name());
    let wrong = refusal(&text.replace("secret", "wrong")).await;
    assert!(matches!(wrong, OpenError::Login { .. }), "{wrong}");
    let none = refusal(&text.replace(":pgtest-secret", "")).await;
    assert!(matches!(none, OpenError::Login { .. }), "{none}");
    let missing = refusal(&text.replace(name, "nowhere")).await;
    assert!(matches!(missing, OpenError::NoDatabase { .. }), "{missing}");
    assert!(missing.to_string().contains("CREATE DATABASE \"nowhere\""));
    let nobody = refusal("postgres://u:secret@127.0.0.1:1/d").await;
    assert!(matches!(nobody, OpenError::Unreachable { .. }), "{nobody}");
    assert!(nobody.to_string().contains("127.0.0.1:1"), "{nobody}");
    for error in [wrong, none, missing, nobody] {
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let unsafe_one = open(url(&text), PostgresOptions::default())
        .await
        .unwrap_err();
    assert!(
        matches!(unsafe_one, OpenError::FsyncOff { .. }),
        "{unsafe_one}"
    );
    database.sql(&format!(
        "ALTER DATABASE {name} SET default_transaction_read_only = on"
    ));
    let read_only = refusal(&text).await;
    assert!(
        matches!(read_only, OpenError::ReadOnly { .. }),
        "{read_only}"
    );
}

#[tokio::test]
async fn a_schema_that_is_not_ours_stays_as_it_is() {
    let database = shared().database();
    database.sql("CREATE SCHEMA anteroom; CREATE TABLE anteroom.job (x int)");
    let foreign = refusal(&database.url()).await;
    assert!(matches!(foreign, OpenError::Foreign { .. }), "{foreign}");
    assert_eq!(
        database.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'anteroom'"),
        "1"
    );
}

#[tokio::test]
async fn a_schema_of_another_version_stops_the_start() {
    let database = shared().database();
    open(url(&database.url()), allowed()).await.unwrap();
    database.sql("INSERT INTO anteroom.migration VALUES (1000, 'later', '')");
    let newer = refusal(&database.url()).await;
    assert!(
        matches!(newer, OpenError::Newer { found: 1000, .. }),
        "{newer}"
    );
    database.sql(
        "DELETE FROM anteroom.migration WHERE version = 1000; \
        UPDATE anteroom.migration SET checksum = 'other'",
    );
    let altered = refusal(&database.url()).await;
    assert!(
        matches!(altered, OpenError::Altered { version: 1, .. }),
        "{altered}"
    );
}

#[tokio::test]
async fn a_migration_that_fails_leaves_the_version_before_it() {
    let database = shared().database();
    let reached = Database::new(url(&database.url())).unwrap();
    let session = reached.connect("test").await.unwrap();
    let good = Migration {
        name: "good",
        sql: "CREATE TABLE a (x int); INSERT INTO a VALUES (1);",
    };
    let bad = Migration {
        name: "bad",
        sql: "DELETE FROM a; SELECT nothing FROM nowhere;",
    };
    let failed = bring_forward(&session, &[good, bad]).await.unwrap_err();
    assert!(matches!(failed, Refusal::Fault(_)), "{failed:?}");
    assert_eq!(database.sql("SELECT count(*) FROM anteroom.a"), "1");
    let mended = Migration {
        name: "mended",
        sql: "INSERT INTO a VALUES (2)",
    };
    let done = bring_forward(&session, &[good, mended]).await.unwrap();
    assert_eq!((done.from, done.to), (1, 2));
    assert_eq!(database.sql("SELECT sum(x) FROM anteroom.a"), "3");
}

#[tokio::test]
async fn rights_that_are_missing_are_named_with_how_to_grant_them() {
    let database = shared().database();
    let (name, role) = (database.name(), format!("{}_role", database.name()));
    database.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'"));
    let text = database
        .url()
        .replace("anteroom:pgtest-secret", &format!("{role}:secret"));
    let no_schema = refusal(&text).await.to_string();
    assert!(
        no_schema.contains("CREATE SCHEMA anteroom AUTHORIZATION"),
        "{no_schema}"
    );
    database.sql("CREATE SCHEMA anteroom");
    let no_create = refusal(&text).await.to_string();
    assert!(
        no_create.contains("GRANT CREATE, USAGE ON SCHEMA"),
        "{no_create}"
    );
    open(url(&database.url()), allowed()).await.unwrap();
    let no_usage = refusal(&text).await.to_string();
    assert!(
        no_usage.contains("GRANT USAGE ON SCHEMA anteroom"),
        "{no_usage}"
    );
    database.sql(&format!(
        "GRANT USAGE ON SCHEMA anteroom TO {role}; \
        GRANT SELECT ON ALL TABLES IN SCHEMA anteroom TO {role}"
    ));
    let no_insert = refusal(&text).await.to_string();
    assert!(
        no_insert.contains("GRANT SELECT, INSERT, UPDATE, DELETE"),
        "{no_insert}"
    );
    database.sql(&format!(
        "GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA anteroom TO {role}; \
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA anteroom TO {role}"
    ));
    open(url(&text), allowed()).await.unwrap();
    database.sql(&format!(
        "DROP OWNED BY {role}; REVOKE ALL ON DATABASE {name} FROM {role}; \
        DROP ROLE {role}"
    ));
}

/// Behind a pooler nothing that was set for a connection lasts, and each transaction has it all the
/// same. With one connection for all even a pooler that keeps no prepared statements will do.
#[tokio::test]
async fn settings_hold_behind_a_pooler_inside_a_transaction_and_outside() {
    let cluster = Cluster::start(&["synchronous_commit = off"]).unwrap();
    let pooler = match Pooler::start(&cluster, 1, Statements::Forgotten) {
        Ok(pooler) => pooler,
        Err(why) => return eprintln!("NOT RUN: {why}"),
    };
    let database = cluster.database();
    let direct = open(url(&database.url()), allowed()).await.unwrap().0;
    assert!(!direct.connect("test").await.unwrap().is_pooled());
    drop(direct);
    let reached = Database::new(url(&pooler.url(database.name()))).unwrap();
    let session = reached.connect("test").await.unwrap();
    assert!(session.is_pooled());
    let settings = "SELECT current_setting('search_path'), current_setting('synchronous_commit'), \
        (SELECT count(*) FROM job)";
    let expected = ("anteroom, pg_temp".to_owned(), "on".to_owned(), 0_i64);
    let read = async || {
        let row = session.query_opt(settings, &[]).await.unwrap().unwrap();
        (row.get(0), row.get(1), row.get(2))
    };
    assert_eq!(read().await, expected, "on its own");
    session.begin().await.unwrap();
    assert_eq!(read().await, expected, "in a transaction");
    session
        .run("INSERT INTO gone VALUES (gen_random_uuid(), 1)")
        .await
        .unwrap();
    session.run("ROLLBACK").await.unwrap();
    session
        .run("INSERT INTO gone VALUES (gen_random_uuid(), 1)")
        .await
        .unwrap();
    assert_eq!(database.sql("SELECT count(*) FROM anteroom.gone"), "1");
    let failed = session.query("SELECT 1 / $1::integer", &[&0_i32]).await;
    assert!(failed.is_err());
    assert_eq!(read().await, expected, "after a failure");
    let all = futures_util::future::join_all((0..50).map(|_| read())).await;
    assert!(all.iter().all(|one| *one == expected), "many at once");
}

#[tokio::test]
async fn a_pooler_that_forgets_statements_stops_the_start() {
    let cluster = Cluster::start(&[]).unwrap();
    let pooler = match Pooler::start(&cluster, 5, Statements::Forgotten) {
        Ok(pooler) => pooler,
        Err(why) => return eprintln!("NOT RUN: {why}"),
    };
    let database = cluster.database();
    let opened = open(url(&pooler.url(database.name())), allowed()).await;
    let refused = opened.unwrap_err();
    assert!(matches!(refused, OpenError::Pooler { .. }), "{refused}");
    assert!(refused.to_string().contains("1.21"), "{refused}");
}

#[tokio::test]
async fn each_sslmode_verifies_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let key = certificate(folder.path());
    let cluster = Cluster::start(&["ssl = off"]).unwrap();
    let database = cluster.database();
    let with = |parameters: &str| format!("{}?{parameters}", database.url());
    let encrypted = async |text: String| {
        let session = Database::new(url(&text))?.reach("test").await;
        let session = session.map_err(|error| format!("{error:?}"))?;
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = session.query_opt(sql, &[]).await.unwrap().unwrap();
        Ok::<bool, String>(row.get(0))
    };
    assert_eq!(encrypted(with("sslmode=prefer")).await, Ok(false));
    let refused = encrypted(with("sslmode=require")).await.unwrap_err();
    assert!(refused.contains("TLS"), "{refused}");

    cluster.put("server.crt", &key.0, 0o600);
    cluster.put("server.key", &key.1, 0o600);
    cluster.set("ssl = on");
    cluster.restart(Shutdown::Fast);
    let root = format!("sslrootcert={}", folder.path().join("cert.pem").display());
    for (parameters, expected) in [
        ("sslmode=disable".to_owned(), Some(false)),
        ("sslmode=prefer".to_owned(), Some(true)),
        ("sslmode=require".to_owned(), Some(true)),
        ("sslmode=verify-full".to_owned(), None),
        (format!("sslmode=verify-full&{root}"), None),
        (format!("sslmode=verify-ca&{root}"), Some(true)),
        (format!("sslmode=require&{root}"), Some(true)),
        (
            "sslmode=verify-full&sslrootcert=/nowhere.pem".to_owned(),
            None,
        ),
    ] {
        let outcome = encrypted(with(&parameters)).await;
        assert_eq!(outcome.clone().ok(), expected, "{parameters}: {outcome:?}");
    }
    let named = with(&format!("sslmode=verify-full&{root}")).replace("127.0.0.1", "localhost");
    assert_eq!(encrypted(named).await, Ok(true));
}

/// Makes a certificate of `localhost` that signs itself, and returns it and its key.
fn certificate(folder: &Path) -> (Vec<u8>, Vec<u8>) {
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder)
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{made:?}");
    let read = |name| std::fs::read(folder.join(name)).unwrap();
    (read("cert.pem"), read("key.pem"))
}

/// All run on one machine here, so that its own clock tells whether it is right.
#[tokio::test]
async fn the_database_says_what_time_it_is() {
    let database = shared().database();
    let reached = Database::new(url(&database.url())).unwrap();
    let session = reached.connect("test").await.unwrap();
    let before = Clock::system().now();
    let shown = super::time::now(&session).await.unwrap();
    let after = Clock::system().now();
    let off = before.since(shown).max(shown.since(after));
    assert!(off <= Duration::from_millis(250), "it is off by {off:?}");
}
