//! What a program finds when it begins, and what becomes of one that cannot.

use crate::harness::{exec, failure, patiently, run, shell, text};
use anteroom::run::exec::{Exec, Launcher};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use tokio::task::JoinSet;

fn variable(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[tokio::test]
async fn the_environment_is_what_is_listed_and_nothing_else() {
    let exec = Exec {
        env: [
            variable("LANG", "C.UTF-8"),
            variable("BOTH", "set"),
            variable("ANTEROOM_ATTEMPT", "7"),
        ]
        .into(),
        env_inherit: vec![
            variable("HOME", "/home/somebody"),
            variable("BOTH", "inherited"),
            // Kept for what is said of the attempt itself.
            variable("ANTEROOM_CLAIM", "1"),
            variable("TRACEPARENT", "inherited"),
            variable("PATH", "/usr/bin:/bin"),
        ],
        ..exec(&["env"])
    };
    let found = text(run(exec, "").await);
    let (traces, found): (Vec<&str>, Vec<&str>) = found
        .lines()
        .partition(|line| line.starts_with("TRACEPARENT="));
    let [trace] = traces[..] else {
        panic!("{traces:?}");
    };
    let of_the_job = "TRACEPARENT=00-018bcfe568007007800000000000002a-";
    assert!(
        trace.starts_with(of_the_job) && trace.ends_with("-01"),
        "{trace}"
    );
    let expected = [
        "ANTEROOM_JOB_ID=018bcfe5-6800-7007-8000-00000000002a",
        "ANTEROOM_TASK=wordcount",
        "ANTEROOM_ATTEMPT=2",
        "ANTEROOM_MAX_ATTEMPTS=5",
        "ANTEROOM_CLAIM=99",
        "ANTEROOM_DEADLINE=2026-11-22T12:00:00.007Z",
        "ANTEROOM_EVENTS_FD=3",
        "PATH=/usr/bin:/bin",
        "LANG=C.UTF-8",
        "BOTH=set",
        "HOME=/home/somebody",
    ];
    let found: BTreeSet<&str> = found.into_iter().collect();
    assert_eq!(found, expected.into());
}

#[tokio::test]
async fn only_descriptors_0_to_3_are_open() {
    // One that the server means to keep, and forgot to close on exec.
    let kept = tempfile::tempfile().unwrap();
    fcntl(&kept, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let listing = text(run(exec(&["ls", "-l", "/proc/self/fd"]), "").await);
    let open: Vec<&str> = listing
        .lines()
        .filter_map(|line| line.split_once(" -> "))
        // The listing's own.
        .filter(|(_entry, target)| !target.starts_with("/proc/"))
        .filter_map(|(entry, _target)| entry.rsplit(' ').next())
        .collect();
    assert_eq!(open, ["0", "1", "2", "3"], "{listing}");
    let pipes = listing.matches(" -> pipe:").count();
    assert_eq!(pipes, 4, "{listing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_start_together_do_not_get_pipes_of_each_other() {
    let mut attempts = JoinSet::new();
    for _ in 0..50 {
        attempts.spawn(run(
            shell("readlink /proc/self/fd/*; readlink /proc/$$/fd/3"),
            "",
        ));
    }
    let mut pipes = BTreeSet::new();
    for listing in patiently(attempts.join_all()).await {
        let listing = text(listing);
        let open: Vec<&str> = listing.lines().collect();
        // What a shell opens for itself it does not pass on: what `readlink` finds is all there is.
        let [input, output, complaints, events, same] = open[..] else {
            panic!("{listing}");
        };
        assert_eq!(events, same);
        for pipe in [input, output, complaints, events] {
            assert!(pipe.starts_with("pipe:"), "{listing}");
            assert!(pipes.insert(pipe.to_owned()), "two have {pipe}");
        }
    }
}

#[tokio::test]
async fn signals_are_as_a_program_expects_them() {
    let status = text(run(exec(&["cat", "/proc/self/status"]), "").await);
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    };
    assert_eq!(mask("SigBlk:"), 0);
    let broken_pipe = 1 << (13 - 1);
    assert_eq!(mask("SigIgn:") & broken_pipe, 0);
}

#[tokio::test]
async fn arguments_arrive_untouched() {
    let arguments = [
        ";$(id)", "a\nb", "-rf", "--", "", "*", "ü'\"\\", "$HOME", " ",
    ];
    let mut argv = vec!["printf", "%s\\0"];
    argv.extend(arguments);
    let found = text(run(exec(&argv), "").await);
    let found: Vec<&str> = found.split_terminator('\0').collect();
    assert_eq!(found, arguments);
}

#[tokio::test]
async fn a_program_is_looked_for_in_its_own_path_and_starts_in_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    symlink("/bin/pwd", directory.path().join("where-am-i")).unwrap();
    let path = directory.path().to_str().unwrap();
    let exec = Exec {
        env: [variable("PATH", path)].into(),
        current_dir: Some(directory.path().to_owned()),
        ..exec(&["where-am-i"])
    };
    assert_eq!(text(run(exec, "").await).trim_end(), path);
}

#[tokio::test]
async fn a_program_that_cannot_be_started_fails_for_good_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("plain");
    std::fs::write(&plain, "no program").unwrap();
    let plain = plain.to_str().unwrap();
    for (argv, expected) in [
        (
            ["no-such-program"],
            "cannot start \"no-such-program\": no such program",
        ),
        (
            ["/no/such/program"],
            "cannot start \"/no/such/program\": no such program",
        ),
        ([plain], "it is not executable, or permission is denied"),
        (["/"], "cannot start \"/\": it is not executable"),
    ] {
        let (message, is_for_good) = failure(run(exec(&argv), "some input").await);
        assert!(message.contains(expected), "{message}");
        assert!(is_for_good, "{message}");
    }
}

#[tokio::test]
async fn more_arguments_and_variables_than_the_system_takes_are_told_of() {
    let big = "x".repeat(120_000);
    let well = Exec {
        env: [variable("BIG", &big)].into(),
        ..exec(&["printf", "%s", &big])
    };
    assert_eq!(text(run(well, "").await), big);
    // More than any limit of the stack lets through.
    let names = (0..60).map(|number| format!("BIG_{number}"));
    let exec = Exec {
        env: names.map(|name| (name, big.clone())).collect(),
        ..exec(&["true"])
    };
    let (message, is_for_good) = failure(run(exec, "").await);
    let expected = "cannot start \"true\": its arguments and environment are 72";
    assert!(message.starts_with(expected), "{message}");
    assert!(
        message.ends_with(" bytes, more than the system takes"),
        "{message}"
    );
    assert!(is_for_good);
}

#[tokio::test]
async fn a_directory_that_is_missing_is_named() {
    let exec = Exec {
        current_dir: Some("/no/such/directory".into()),
        ..exec(&["pwd"])
    };
    let (message, is_for_good) = failure(run(exec, "").await);
    let expected = "cannot start \"pwd\" in /no/such/directory: No such file or directory";
    assert!(message.starts_with(expected), "{message}");
    assert!(is_for_good);
}

#[tokio::test]
async fn a_launcher_that_is_none_is_told_of_and_another_attempt_may_help() {
    for (launcher, expected) in [
        (
            "/no/such/launcher",
            "cannot start the launcher /no/such/launcher: ",
        ),
        (
            "/bin/true",
            "the launcher ended without saying what became of the program",
        ),
        (
            "/bin/ls",
            "the launcher ended without saying what became of the program: ",
        ),
    ] {
        let exec = Exec {
            launcher: Some(Launcher::at(launcher)),
            ..exec(&["true"])
        };
        let (message, is_for_good) = failure(run(exec, "").await);
        assert!(message.starts_with(expected), "{message}");
        assert!(!is_for_good);
    }
}

#[test]
fn the_launcher_is_not_for_people() {
    const WELL: &str = r#"{"bounds":[],"user":null,"new_privileges":false}"#;
    for (arguments, status) in [
        (&[][..], 2),
        (&["--help"], 2),
        (&["__anteroom-exec"], 125),
        (&["__anteroom-exec", "supervise", ""], 125),
        (&["__anteroom-exec", "supervise", "", "", "true"], 125),
        (&["__anteroom-exec", "supervise", WELL, "", "true"], 125),
        (
            &["__anteroom-exec", "begin", "1", "0", WELL, "", "true"],
            125,
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_anteroom-launcher"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(status),
            "{arguments:?} {output:?}"
        );
    }
}

#[tokio::test]
async fn a_program_has_a_process_group_of_its_own() {
    let found = text(run(shell("echo $$; cut -d' ' -f5 /proc/$$/stat"), "").await);
    let (pid, group) = found.trim_end().split_once('\n').unwrap();
    assert_eq!(pid, group);
}
