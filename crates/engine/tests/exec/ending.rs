//! How a program's end is judged, and how one is stopped.

use crate::harness::{Mark, attempt, failure, patiently, run, runner, shell, text};
use anteroom::run::exec::Exec;
use anteroom::run::{Outcome, Runner as _, Stop, StopReason};
use std::path::Path;
use std::time::Duration;

#[tokio::test]
async fn exit_statuses_say_whether_another_attempt_may_help() {
    for (status, is_for_good) in [
        (1, false),
        (3, false),
        (64, false),
        (65, true),
        (66, false),
        (125, false),
        (126, false),
        (127, false),
        (255, false),
    ] {
        let outcome = run(shell(&format!("echo oops >&2; exit {status}")), "").await;
        let expected = format!("exit status {status}: oops");
        assert_eq!(failure(outcome), (expected, is_for_good));
    }
}

#[tokio::test]
async fn a_signal_is_named() {
    for (signal, expected) in [
        ("KILL", "killed by signal 9 (SIGKILL)"),
        ("TERM", "killed by signal 15 (SIGTERM)"),
        ("SEGV", "killed by signal 11 (SIGSEGV)"),
        ("40", "killed by signal 40"),
    ] {
        let outcome = run(shell(&format!("ulimit -c 0; kill -{signal} $$")), "").await;
        assert_eq!(failure(outcome), (expected.to_owned(), false));
    }
}

/// Runs `exec`, asks it to stop once `ready` of its processes are called `sleep`, and returns what
/// it came to.
async fn stopped(exec: Exec, ready: usize) -> Outcome {
    let mark = Mark::new();
    let stop = Stop::default();
    let runner = runner(mark.on(exec));
    let running = runner.run(attempt("", &stop));
    let asking = async {
        mark.wait_for("sleep", ready).await;
        let supervisor = mark.wait_for("anteroom-exec", 1).await[0];
        stop.request(StopReason::Timeout);
        supervisor
    };
    let (outcome, supervisor) = patiently(async { tokio::join!(running, asking) }).await;
    // Not a moment later: that is what returning means.
    let left = mark.processes();
    assert!(left.is_empty(), "{left:?}");
    let is_reaped = !Path::new(&format!("/proc/{supervisor}")).exists();
    assert!(is_reaped, "the supervisor is left as a zombie");
    outcome
}

#[tokio::test]
async fn a_stop_ends_the_whole_group() {
    let outcome = stopped(shell("sleep 1000 & sleep 1000"), 2).await;
    let expected = "killed by signal 15 (SIGTERM)".to_owned();
    assert_eq!(failure(outcome), (expected, false));
}

#[tokio::test]
async fn a_program_that_ignores_the_stop_is_killed_after_its_grace() {
    let exec = Exec {
        kill_grace: Duration::from_millis(300),
        ..shell("trap '' TERM; sleep 1000 & while :; do wait; done")
    };
    let before = tokio::time::Instant::now();
    let outcome = stopped(exec, 1).await;
    assert!(before.elapsed() >= Duration::from_millis(300));
    assert_eq!(failure(outcome).0, "killed by signal 9 (SIGKILL)");
}

#[tokio::test]
async fn a_program_that_heeds_the_stop_keeps_its_result() {
    let script = "trap 'echo saved; exit 0' TERM; sleep 1000 & wait";
    assert_eq!(text(stopped(shell(script), 1).await), "saved\n");
}

#[tokio::test]
async fn the_group_has_its_grace_also_when_the_program_ends_first() {
    let directory = tempfile::tempdir().unwrap();
    let tidy = "trap 'sleep 0.2; echo yes > tidied; exit' TERM; sleep 1000 & wait";
    let exec = Exec {
        current_dir: Some(directory.path().to_owned()),
        env: [("TIDY".to_owned(), tidy.to_owned())].into(),
        ..shell("sh -c \"$TIDY\" & exec sleep 1000")
    };
    let outcome = stopped(exec, 2).await;
    assert_eq!(failure(outcome).0, "killed by signal 15 (SIGTERM)");
    let tidied = std::fs::read_to_string(directory.path().join("tidied")).unwrap();
    assert_eq!(tidied, "yes\n");
}

#[tokio::test]
async fn a_stop_waits_for_no_process_that_left_the_group() {
    let exec = Exec {
        kill_grace: Duration::from_mins(10),
        ..shell("setsid sleep 1000 & exec sleep 1000")
    };
    let outcome = stopped(exec, 2).await;
    assert_eq!(failure(outcome).0, "killed by signal 15 (SIGTERM)");
}

#[tokio::test]
async fn a_stop_before_the_start_stops_too() {
    let mark = Mark::new();
    let stop = Stop::default();
    stop.request(StopReason::Cancelled);
    let runner = runner(mark.on(shell("sleep 1000")));
    let outcome = patiently(runner.run(attempt("", &stop))).await;
    assert_eq!(failure(outcome).0, "killed by signal 15 (SIGTERM)");
    assert!(mark.processes().is_empty());
}
