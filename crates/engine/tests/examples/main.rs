//! Runs the examples, as their readers would.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// `cargo test` builds the examples beside the tests.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    profile.join("examples").join(name)
}

#[test]
fn parallel_workers_are_as_many_as_they_should_be() {
    let output = Command::new(example("parallel_workers"))
        .output()
        .expect("the examples are built by `cargo test` without `--test`");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "8 jobs done, 4 at a time\n"
    );
}

/// A running example. Dropping it kills it.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn ctrl_c_stops_cleanly_and_the_next_run_finds_what_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("jobs.db");
    for run in 0..3 {
        let mut child = Command::new(example("clean_stop"))
            .arg(&store)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the examples are built by `cargo test` without `--test`");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut child = Example(child);
        let mut next = || lines.next().unwrap().unwrap();
        assert_eq!(next(), format!("{run} jobs left by the run before"));
        assert!(next().starts_with("for ever: job "));
        assert!(next().starts_with("quick: job "));
        assert_eq!(next(), "working; Ctrl-C stops");
        let pid = Pid::from_raw(i32::try_from(child.0.id()).unwrap());
        kill(pid, Signal::SIGINT).unwrap();
        assert_eq!(next(), "stopped");
        assert!(child.0.wait().unwrap().success());
    }
}

#[cfg(feature = "postgres")]
#[test]
fn an_order_and_its_job_are_there_both_or_neither() {
    // With `fsync`, as the example is for a server that somebody trusts.
    let cluster = anteroom_pgtest::Cluster::start(&[]).unwrap();
    let database = cluster.database();
    let output = Command::new(example("transactional_submit"))
        .arg(database.url())
        .output()
        .expect("the examples are built by `cargo test` without `--test`");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = "order 1: its receipt has succeeded\n\
        order 1 again: duplicate key value violates unique constraint \"orders_pkey\"; jobs: 1\n";
    assert_eq!(said, expected);
    assert_eq!(database.sql("SELECT count(*) FROM orders"), "1");
}
