//! A store on `PostgreSQL` as the operator meets it.

use crate::harness::{Finished, Server, anteroom, folder, run};
use anteroom_pgtest::Cluster;
use nix::sys::signal::Signal;
use serde_json::Value;

#[test]
fn a_database_is_brought_forward_and_its_password_never_shown() {
    let cluster = Cluster::start(&[]).unwrap();
    let database = cluster.database();
    let (url, folder) = (database.url(), folder(""));
    let migrate = ["store", "migrate", "--store", &url];
    for said in ["made, version", "is at version"] {
        let finished = run(folder.path(), &migrate);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert!(finished.stdout.contains(said), "{finished:?}");
        assert!(!finished.stdout.contains("secret"), "{finished:?}");
    }
    assert_ne!(database.sql("SELECT count(*) FROM anteroom.migration"), "0");

    let bare = url.replace(":pgtest-secret", "");
    let refused = run(folder.path(), &["store", "migrate", "--store", &bare]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("asks for a password"),
        "{refused:?}"
    );
    let output = anteroom(folder.path(), &["store", "migrate", "--store", &bare])
        .env("PGPASSWORD", "pgtest-secret")
        .output()
        .unwrap();
    let finished = Finished::new(&output);
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

#[test]
fn a_store_that_cannot_be_brought_forward_says_why() {
    let folder = folder("store = \"postgres://u:secret@127.0.0.1:1/jobs\"\n");
    let checked = run(folder.path(), &["check"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(
        checked.stdout.contains("postgres://u:***@127.0.0.1:1/jobs"),
        "{checked:?}"
    );
    for (arguments, code, said) in [
        (
            &["store", "migrate"][..],
            1,
            "127.0.0.1:1 cannot be reached",
        ),
        (
            &["store", "migrate", "--store", "memory:"],
            2,
            "gone with its server",
        ),
        (
            &["store", "migrate", "--store", "postgres://u:secret@h"],
            2,
            "names no database",
        ),
        (&["check"], 0, ""),
    ] {
        let finished = run(folder.path(), arguments);
        assert_eq!(finished.code, Some(code), "{finished:?}");
        assert!(finished.stderr.contains(said), "{finished:?}");
        let all = format!("{}{}", finished.stdout, finished.stderr);
        assert!(!all.contains("secret"), "{all}");
    }
}

const PULLED: &str = "[tasks.pulled]\npull = true\n";

/// What a store holds is written down while servers work on it, as it is at one instant; nothing is
/// imported under them, and its backups are those of the database.
#[test]
fn a_store_that_servers_work_on_is_read_and_not_imported_into() {
    let cluster = Cluster::start(&[]).unwrap();
    let database = cluster.database();
    let url = database.url();
    let folder = folder(PULLED);
    let server = Server::start_with(folder.path(), &[("ANTEROOM_STORE", &url)]);
    let id = server.submit(&["pulled", "--input", "x"]);
    let of = |command: &str, more: &[&str]| {
        let words = [&["store", command, "--store", &url], more].concat();
        let finished = run(folder.path(), &words);
        let all = format!("{}{}", finished.stdout, finished.stderr);
        assert!(!all.contains("secret"), "{all}");
        finished
    };
    let exported = of("export", &["--output", "all.ndjson", "--json"]);
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let exported: Value = serde_json::from_str(&exported.stdout).unwrap();
    assert_eq!(exported["counts"]["job"], 1, "{exported}");
    let verified = of("verify", &[]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let imported = of("import", &["--input", "all.ndjson"]);
    assert_eq!(imported.code, Some(1), "{imported:?}");
    let said = "is in use (running servers: 1)";
    assert!(imported.stderr.contains(said), "{imported:?}");
    let copied = of("backup", &["copy.db"]);
    assert_eq!(copied.code, Some(2), "{copied:?}");
    assert!(copied.stderr.contains("pg_dump"), "{copied:?}");
    assert_eq!(server.client(&["job", &id]).code, Some(0));
    server.signal(Signal::SIGTERM);
    server.wait();
    // It holds just that already.
    let imported = of("import", &["--input", "all.ndjson"]);
    assert_eq!(imported.code, Some(0), "{imported:?}");
    assert!(
        imported.stdout.contains("0 records written"),
        "{imported:?}"
    );
}

/// An import that ended in its middle keeps servers out until it is run again to its end.
#[test]
fn half_an_import_keeps_servers_out() {
    let cluster = Cluster::start(&[]).unwrap();
    let database = cluster.database();
    let url = database.url();
    let folder = folder(PULLED);
    let server = Server::start(folder.path());
    server.submit(&["pulled", "--input", "x"]);
    server.signal(Signal::SIGTERM);
    server.wait();
    let exported = run(folder.path(), &["store", "export"]);
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let import = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        let mut command = anteroom(folder.path(), &["store", "import", "--store", &url]);
        // From a pipe or the like nothing is known of the end before it comes.
        let file = std::fs::File::open(folder.path().join(name)).unwrap();
        Finished::new(&command.stdin(file).output().unwrap())
    };
    let text = &exported.stdout;
    let cut = import("cut", &text[..text.len() - 40]);
    assert_eq!(cut.code, Some(1), "{cut:?}");
    assert!(cut.stderr.contains("the import was begun"), "{cut:?}");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--store", &url];
    let refused = run(folder.path(), &serve);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let said = "is in the middle of an import";
    assert!(refused.stderr.contains(said), "{refused:?}");
    let whole = import("whole", text);
    assert_eq!(whole.code, Some(0), "{whole:?}");
    let server = Server::start_with(folder.path(), &[("ANTEROOM_STORE", &url)]);
    assert!(server.client(&["jobs"]).stdout.contains("pulled"));
}

#[test]
fn a_database_without_a_store_stays_without() {
    let cluster = Cluster::start(&[]).unwrap();
    let database = cluster.database();
    let folder = folder("");
    for command in ["verify", "export"] {
        let words = ["store", command, "--store", &database.url()];
        let finished = run(folder.path(), &words);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        let said = "there is no store in the database";
        assert!(finished.stderr.contains(said), "{finished:?}");
    }
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'anteroom'";
    assert_eq!(database.sql(schemas), "0");
}
