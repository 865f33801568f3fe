//! A store on `PostgreSQL` as the operator meets it.

use crate::harness::{Finished, anteroom, folder, run};
use anteroom_pgtest::Cluster;

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
