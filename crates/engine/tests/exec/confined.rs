//! What a program may use, and as whom it runs.

use crate::harness::{
    Mark, PATIENCE, attempt, exec, failure, may_become_others, patiently, run, runner, shell, text,
    until,
};
use anteroom::run::exec::{Exec, Limits, User};
use anteroom::run::{Outcome, Runner as _, Stop, StopReason};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

const MEBIBYTE: u64 = 1024 * 1024;

fn limited(limits: Limits, script: &str) -> Exec {
    Exec {
        limits,
        ..shell(script)
    }
}

/// `script` as a user that no other test has: a limit of processes counts all that he has.
fn as_user(uid: u32, script: &str) -> Exec {
    Exec {
        user: Some(User { uid, gid: uid }),
        ..shell(script)
    }
}

/// Returns a limit as `/proc/self/limits` has it, soft and hard.
fn shown<'t>(table: &'t str, name: &str) -> (&'t str, &'t str) {
    let row = table.lines().find_map(|line| line.strip_prefix(name));
    let mut words = row.unwrap().split_whitespace();
    (words.next().unwrap(), words.next().unwrap())
}

#[tokio::test]
async fn limits_hold_for_a_program_and_what_it_starts() {
    let limits = Limits {
        cpu: Some(Duration::from_millis(59_001)),
        memory: Some(512 * MEBIBYTE),
        open_files: Some(32),
        processes: None,
        file_size: Some(4_096),
        core_dump: 0,
    };
    let table = text(run(limited(limits, "cat /proc/self/limits; true"), "").await);
    for (name, expected) in [
        ("Max cpu time", ("60", "61")),
        ("Max address space", ("536870912", "536870912")),
        ("Max open files", ("32", "32")),
        ("Max file size", ("4096", "4096")),
        ("Max core file size", ("0", "0")),
    ] {
        assert_eq!(shown(&table, name), expected, "{name}");
    }
}

#[tokio::test]
async fn without_limits_there_are_those_of_the_server_and_no_dumps() {
    let ours = fs::read_to_string("/proc/self/limits").unwrap();
    let table = text(run(exec(&["cat", "/proc/self/limits"]), "").await);
    for line in ours
        .lines()
        .filter(|line| !line.starts_with("Max core file size"))
    {
        assert!(table.lines().any(|other| other == line), "{line}\n{table}");
    }
    assert_eq!(shown(&table, "Max core file size"), ("0", "0"));
}

#[tokio::test]
async fn a_limit_is_never_raised() {
    let ours = fs::read_to_string("/proc/self/limits").unwrap();
    let (_soft, hard) = shown(&ours, "Max open files");
    let limits = Limits {
        open_files: Some(u64::MAX),
        ..Limits::default()
    };
    let table = text(run(limited(limits, "cat /proc/self/limits"), "").await);
    assert_eq!(shown(&table, "Max open files"), (hard, hard));
}

#[tokio::test]
async fn a_program_beyond_its_limit_fails_and_the_limit_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits {
        cpu: Some(Duration::from_secs(1)),
        memory: Some(64 * MEBIBYTE),
        file_size: Some(4_096),
        ..Limits::default()
    };
    for (script, expected) in [
        (
            "while :; do :; done",
            "killed by signal 24 (SIGXCPU: its limit of processor time)",
        ),
        (
            "trap '' XCPU; while :; do :; done",
            "killed by signal 9 (SIGKILL)",
        ),
        (
            "exec head -c 10000 /dev/zero > file",
            "killed by signal 25 (SIGXFSZ: its limit of the size of a file)",
        ),
        (
            "exec dd if=/dev/zero of=/dev/null bs=200M count=1",
            "exit status 1: dd: memory exhausted",
        ),
    ] {
        let exec = Exec {
            current_dir: Some(directory.path().to_owned()),
            ..limited(limits.clone(), script)
        };
        let (message, is_for_good) = failure(run(exec, "").await);
        assert!(message.starts_with(expected), "{message}");
        assert!(!is_for_good);
    }
    let file = fs::metadata(directory.path().join("file")).unwrap();
    assert_eq!(file.len(), 4_096);
}

#[tokio::test]
async fn a_program_starts_within_the_least_memory() {
    let limits = Limits {
        memory: Some(16 * MEBIBYTE),
        ..Limits::default()
    };
    assert_eq!(text(run(limited(limits, "cat"), "in").await), "in");
}

#[tokio::test]
async fn a_program_gains_no_privileges_unless_it_may() {
    for (new_privileges, expected) in [(false, "NoNewPrivs:\t1"), (true, "NoNewPrivs:\t0")] {
        let exec = Exec {
            new_privileges,
            ..exec(&["cat", "/proc/self/status"])
        };
        let status = text(run(exec, "").await);
        assert!(status.lines().any(|line| line == expected), "{status}");
    }
}

#[tokio::test]
async fn a_program_of_another_user_has_nothing_of_the_server() {
    if !may_become_others() {
        return;
    }
    let exec = Exec {
        user: Some(User {
            uid: 65_534,
            gid: 54_320,
        }),
        ..exec(&["cat", "/proc/self/status"])
    };
    let status = text(run(exec, "").await);
    for expected in [
        "Uid:\t65534\t65534\t65534\t65534",
        "Gid:\t54320\t54320\t54320\t54320",
        "Groups:\t ",
        "NoNewPrivs:\t1",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
    ] {
        assert!(status.lines().any(|line| line == expected), "{status}");
    }
}

#[tokio::test]
async fn a_program_of_another_user_may_open_its_pipes_by_name() {
    if !may_become_others() {
        return;
    }
    let script = "cat < /dev/stdin > /dev/stdout
        echo complaint > /dev/stderr
        echo '{\"fraction\": 1}' > /dev/fd/3";
    assert_eq!(text(run(as_user(65_534, script), "in").await), "in");
}

#[tokio::test]
async fn a_directory_is_entered_as_the_user() {
    if !may_become_others() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    for (mode, expected) in [(0o700, Err("Permission denied")), (0o755, Ok(path))] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let exec = Exec {
            current_dir: Some(path.into()),
            ..as_user(65_534, "pwd")
        };
        let outcome = run(exec, "").await;
        match expected {
            Ok(path) => assert_eq!(text(outcome).trim_end(), path),
            Err(reason) => {
                let (message, is_for_good) = failure(outcome);
                let expected = format!("cannot start \"sh\" in {path}: {reason}");
                assert!(message.starts_with(&expected), "{message}");
                assert!(is_for_good);
            }
        }
    }
}

#[tokio::test]
async fn a_stop_ends_all_of_another_user_too() {
    if !may_become_others() {
        return;
    }
    let mark = Mark::new();
    let stop = Stop::default();
    let script = "trap '' TERM; sleep 1000 & setsid sleep 1000 & while :; do wait; done";
    let exec = Exec {
        kill_grace: Duration::from_millis(100),
        ..as_user(54_321, script)
    };
    let runner = runner(mark.on(exec));
    let asking = async {
        mark.wait_for("sleep", 2).await;
        stop.request(StopReason::Timeout);
    };
    let running = runner.run(attempt("", &stop));
    let (outcome, ()) = patiently(async { tokio::join!(running, asking) }).await;
    assert_eq!(failure(outcome).0, "killed by signal 9 (SIGKILL)");
    assert!(mark.processes().is_empty(), "{:?}", mark.processes());
}

#[tokio::test]
async fn processes_are_bounded() {
    if !may_become_others() {
        return;
    }
    let script = "n=1; while sleep 1000 & do n=$((n + 1)); echo $n >&2; done";
    let exec = Exec {
        limits: Limits {
            processes: Some(16),
            ..Limits::default()
        },
        ..as_user(54_322, script)
    };
    let (message, _) = failure(run(exec, "").await);
    // Itself, and those that it started.
    let [.., started, complaint] = message.lines().collect::<Vec<_>>()[..] else {
        panic!("{message}");
    };
    assert_eq!(started, "16");
    assert!(complaint.ends_with("Cannot fork"), "{complaint}");
}

/// One was not to be cleared away: each that was waited for made room for another, and once the numbers
/// of processes had come round, one with the program's own was never waited for.
#[tokio::test]
async fn a_fork_bomb_is_bounded_and_cleared_away() {
    if !may_become_others() {
        return;
    }
    let most = 64;
    // One within its group; one each of whose processes leaves it; and one that tries again whenever
    // it is refused one.
    let bombs = [
        "bomb() { bomb & bomb & exec sleep 1000; }; bomb & exec sleep 1000",
        "export BOMB='setsid sh -c \"$BOMB\" & setsid sh -c \"$BOMB\" & exec sleep 1000'; sh -c \"$BOMB\" & exec sleep 1000",
        "exec perl -e 'use POSIX; while (1) { my $pid = fork; setsid if defined $pid && !$pid }'",
    ];
    let has_perl = Path::new("/usr/bin/perl").exists();
    let bombs = &bombs[..if has_perl { 3 } else { 2 }];
    for (uid, bomb) in (54_323..).zip(bombs) {
        let mark = Mark::new();
        let stop = Stop::default();
        let exec = Exec {
            limits: Limits {
                processes: Some(most),
                ..Limits::default()
            },
            kill_grace: Duration::ZERO,
            ..as_user(uid, bomb)
        };
        let runner = runner(mark.on(exec));
        let count = || {
            mark.processes()
                .values()
                .filter(|name| *name != "anteroom-exec")
                .count()
        };
        let asking = async {
            until(PATIENCE, || (count() > 10).then_some(())).await;
            let count = count() as u64;
            assert!(count <= most, "{count} processes");
            stop.request(StopReason::Timeout);
        };
        let running = runner.run(attempt("", &stop));
        let (outcome, ()) = patiently(async { tokio::join!(running, asking) }).await;
        assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
        assert!(mark.processes().is_empty(), "{:?}", mark.processes());
    }
}

#[tokio::test]
async fn a_job_whose_user_has_no_process_left_is_handed_back() {
    if !may_become_others() {
        return;
    }
    let mark = Mark::new();
    let stop = Stop::default();
    let exec = Exec {
        limits: Limits {
            processes: Some(1),
            ..Limits::default()
        },
        ..as_user(54_325, "exec sleep 1000")
    };
    let runner = runner(mark.on(exec));
    let running = || runner.run(attempt("", &stop));
    let asking = async {
        // One may begin while there are no more than the limit.
        mark.wait_for("sleep", 2).await;
        let third = runner.run(attempt("", &Stop::default())).await;
        stop.request(StopReason::Timeout);
        third
    };
    let (_first, _second, third) =
        patiently(async { tokio::join!(running(), running(), asking) }).await;
    assert!(matches!(third, Outcome::Busy { .. }), "{third:?}");
}
