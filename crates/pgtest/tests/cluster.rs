//! The server of the tests is itself tested: it has to be what it says, and to leave nothing behind.

use anteroom_pgtest::{Cluster, Shutdown, shared};
use std::path::Path;

#[test]
fn each_test_has_a_database_of_its_own() {
    let (one, other) = (shared().database(), shared().database());
    one.sql("CREATE TABLE t (x int); INSERT INTO t VALUES (7)");
    assert_eq!(one.sql("SELECT x FROM t"), "7");
    assert_eq!(other.sql("SELECT to_regclass('t') IS NULL"), "t");
    let name = one.name().to_owned();
    drop(one);
    let sql = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    let is_there = |_: &usize| shared().sql("postgres", &sql) != "0";
    assert!((0..1000).take_while(is_there).count() < 1000);
}

#[test]
fn a_server_keeps_what_was_committed_over_a_crash_and_leaves_no_folder() {
    let cluster = Cluster::start(&[]).unwrap();
    let database = cluster.database();
    database.sql("CREATE TABLE t (x int); INSERT INTO t VALUES (7)");
    cluster.restart(Shutdown::Immediate);
    assert_eq!(database.sql("SELECT x FROM t"), "7");
    assert_eq!(database.sql("SHOW fsync"), "on");
    let folder = cluster.folder().to_owned();
    drop(database);
    drop(cluster);
    assert!(!Path::new(&folder).exists());
}
