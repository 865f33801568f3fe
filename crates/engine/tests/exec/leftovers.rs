//! Nothing of an attempt outlives it, however it ends.

use crate::harness::{
    Mark, PATIENCE, attempt, failure, may_become_others, output, patiently, run, runner, shell,
    until,
};
use anteroom::run::exec::{Exec, User};
use anteroom::run::{Outcome, Runner as _, Stop};
use futures_util::future::{FutureExt as _, join_all};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A program with a child, one that nobody waits for, and one in a session of its own whose
/// parent is gone.
const FAMILY: &str = "sleep 1000 & (sleep 1000 &); setsid sh -c 'sleep 1000 & sleep 1000' & wait";
const SLEEPERS: usize = 4;

/// How long it may take after a death that nobody could prepare for.
const LIMIT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_program_that_ends_leaves_nothing() {
    let mark = Mark::new();
    // It ends only once the one in a session of its own has begun.
    let script = "sleep 1000 &
        { setsid sh -c 'sleep 1000 & echo up; exec >&-; exec sleep 1000' & } | head -n 1 >&2
        exit 7";
    let outcome = run(mark.on(shell(script)), "").await;
    assert_eq!(failure(outcome).0, "exit status 7: up");
    assert!(mark.processes().is_empty(), "{:?}", mark.processes());
}

#[tokio::test]
async fn a_dropped_attempt_leaves_nothing() {
    let mark = Mark::new();
    let runner = runner(mark.on(shell(FAMILY)));
    let stop = Stop::default();
    let started = async {
        mark.wait_for("sleep", SLEEPERS).await;
        mark.wait_for("anteroom-exec", 1).await[0]
    };
    let supervisor = tokio::select! {
        outcome = runner.run(attempt("", &stop)) => panic!("{outcome:?}"),
        supervisor = started => supervisor,
    };
    mark.wait_for_none(LIMIT).await;
    let is_reaped = || (!Path::new(&format!("/proc/{supervisor}")).exists()).then_some(());
    until(LIMIT, is_reaped).await;
}

#[tokio::test]
async fn a_dropped_attempt_ends_no_input() {
    let mark = Mark::new();
    let begun = tempfile::tempdir().unwrap();
    let runner = runner(mark.on(shell(&begin_once_all_is_read(begun.path()))));
    let stop = Stop::default();
    let mut running = runner.run(attempt(vec![b'x'; INPUT_BYTES], &stop));
    let sleepers = tokio::select! {
        outcome = &mut running => panic!("{outcome:?}"),
        sleepers = mark.wait_for("sleep", 1) => sleepers,
    };
    // Not polled any more, it writes no more.
    signal(&sleepers, Signal::SIGKILL);
    mark.wait_for("cat", 1).await;
    drop(running);
    mark.wait_for_none(LIMIT).await;
    assert_eq!(begun.path().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn a_dropped_attempt_kills_a_program_that_has_not_begun() {
    let mark = Mark::new();
    let runner = runner(mark.on(shell("sleep 1000")));
    let run = runner.run(attempt("", &Stop::default()));
    // Polled once, which starts the launcher, and dropped.
    assert!(run.now_or_never().is_none());
    mark.wait_for_none(LIMIT).await;
}

#[tokio::test]
async fn a_killed_supervisor_takes_its_group_along() {
    let mark = Mark::new();
    let runner = runner(mark.on(shell("sleep 1000 & (sleep 1000 &); wait")));
    let stop = Stop::default();
    let killing = async {
        mark.wait_for("sleep", 2).await;
        let supervisor = mark.wait_for("anteroom-exec", 1).await[0];
        kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    };
    let running = runner.run(attempt("", &stop));
    let (outcome, ()) = patiently(async { tokio::join!(running, killing) }).await;
    let (message, is_for_good) = failure(outcome);
    assert!(
        message.starts_with("the launcher ended without"),
        "{message}"
    );
    assert!(!is_for_good);
    mark.wait_for_none(LIMIT).await;
}

#[tokio::test]
async fn a_signal_to_every_process_of_the_server_does_not_end_the_supervisor() {
    let mark = Mark::new();
    let runner = runner(mark.on(shell("sleep 1000 & wait")));
    let stop = Stop::default();
    let signalling = async {
        let sleeper = mark.wait_for("sleep", 1).await[0];
        let supervisor = mark.wait_for("anteroom-exec", 1).await[0];
        for signal in [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGUSR1,
        ] {
            kill(Pid::from_raw(supervisor), signal).unwrap();
        }
        kill(Pid::from_raw(sleeper), Signal::SIGKILL).unwrap();
    };
    let running = runner.run(attempt("", &stop));
    let (outcome, ()) = patiently(async { tokio::join!(running, signalling) }).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_server_that_is_killed_leaves_nothing() {
    let mark = Mark::new();
    let mut server = Server::start(&mark, FAMILY);
    mark.wait_for("sleep", ATTEMPTS * SLEEPERS).await;
    server.0.kill().unwrap();
    mark.wait_for_none(LIMIT).await;
}

/// A server that was killed while it wrote an input ended that input: programs took what they had
/// for all of it, and began with it before their supervisors had killed them.
#[tokio::test]
async fn a_server_that_is_killed_ends_no_input() {
    for are_supervisors_slow in [false, true] {
        let mark = Mark::new();
        let begun = tempfile::tempdir().unwrap();
        let mut server = Server::start(&mark, &begin_once_all_is_read(begun.path()));
        let sleepers = mark.wait_for("sleep", ATTEMPTS).await;
        // It writes no more: a pipe holds far less than the input.
        server.halt();
        signal(&sleepers, Signal::SIGKILL);
        mark.wait_for("cat", ATTEMPTS).await;
        let supervisors = mark.wait_for("anteroom-exec", ATTEMPTS).await;
        if are_supervisors_slow {
            signal(&supervisors, Signal::SIGSTOP);
        }
        server.0.kill().unwrap();
        server.0.wait().unwrap();
        if are_supervisors_slow {
            // An attempt of our own takes longer than they would to notice an end.
            output(run(shell("cat"), "whole").await);
            signal(&supervisors, Signal::SIGCONT);
        }
        mark.wait_for_none(LIMIT).await;
        let begun = begun.path().read_dir().unwrap().count();
        assert_eq!(begun, 0, "slow supervisors: {are_supervisors_slow}");
    }
}

#[tokio::test]
async fn a_program_dies_with_its_supervisor_when_the_server_cannot_help() {
    let mark = Mark::new();
    let server = Server::start(&mark, "exec sleep 1000");
    mark.wait_for("sleep", ATTEMPTS).await;
    server.halt();
    let supervisors = mark.wait_for("anteroom-exec", ATTEMPTS).await;
    signal(&supervisors, Signal::SIGKILL);
    mark.wait_for_none(LIMIT).await;
}

/// What makes a program die with its supervisor is cleared when it becomes another user.
#[tokio::test]
async fn nothing_is_left_of_a_program_of_another_user_either() {
    if !may_become_others() {
        return;
    }
    for is_supervisor_killed in [false, true] {
        let mark = Mark::new();
        let mut server = Server::start_as(&mark, "exec sleep 1000", "65534");
        mark.wait_for("sleep", ATTEMPTS).await;
        let supervisors = mark.wait_for("anteroom-exec", ATTEMPTS).await;
        if is_supervisor_killed {
            server.halt();
            signal(&supervisors, Signal::SIGKILL);
        } else {
            server.0.kill().unwrap();
        }
        mark.wait_for_none(LIMIT).await;
    }
}

/// A program that waits, reads its input, and leaves a file in `directory`.
fn begin_once_all_is_read(directory: &Path) -> String {
    let directory = directory.display();
    format!("sleep 1000; cat > /dev/null; : > {directory}/$$")
}

fn signal(processes: &[i32], signal: Signal) {
    for process in processes {
        kill(Pid::from_raw(*process), signal).unwrap();
    }
}

const ATTEMPTS: usize = 3;

/// Bytes of the input of each: many times what a pipe holds.
const INPUT_BYTES: usize = 1024 * 1024;

/// Tell the test below that it is the server, how its processes are marked, what it runs, and as whom.
const SERVE_MARK: &str = "ANTEROOM_TEST_SERVE_MARK";
const SERVE_SCRIPT: &str = "ANTEROOM_TEST_SERVE_SCRIPT";
const SERVE_UID: &str = "ANTEROOM_TEST_SERVE_UID";

/// A process that runs attempts, killed when it is dropped.
struct Server(Child);

impl Server {
    fn start(mark: &Mark, script: &str) -> Self {
        Self::start_as(mark, script, "")
    }

    /// Starts one whose programs run as this user; empty: as itself.
    fn start_as(mark: &Mark, script: &str, uid: &str) -> Self {
        let server = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "leftovers::the_server_of_other_tests"])
            .env(SERVE_MARK, mark.name())
            .env(SERVE_SCRIPT, script)
            .env(SERVE_UID, uid)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(server.unwrap())
    }

    /// Stops it, and returns once it has stopped.
    fn halt(&self) {
        let pid = Pid::from_raw(self.0.id().cast_signed());
        kill(pid, Signal::SIGSTOP).unwrap();
        let status = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert_eq!(status, WaitStatus::Stopped(pid, Signal::SIGSTOP));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been killed already.
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Does nothing, unless another test starts it as its server.
#[tokio::test]
async fn the_server_of_other_tests() {
    let variable = |name| std::env::var_os(name)?.into_string().ok();
    let (Some(mark), Some(script)) = (variable(SERVE_MARK), variable(SERVE_SCRIPT)) else {
        return;
    };
    let user = variable(SERVE_UID).and_then(|uid| uid.parse().ok());
    let exec = Exec {
        user: user.map(|uid| User { uid, gid: uid }),
        ..shell(&script)
    };
    let runner = runner(Mark::named(mark).on(exec));
    let stop = Stop::default();
    let running = (0..ATTEMPTS).map(|_| runner.run(attempt(vec![b'x'; INPUT_BYTES], &stop)));
    // Should the other test fail, this does not stay.
    let _never = tokio::time::timeout(PATIENCE, join_all(running)).await;
}
