//! Input, output and complaints.

use crate::harness::{Mark, attempt, exec, failure, output, patiently, run, runner, shell, text};
use anteroom::run::exec::Exec;
use anteroom::run::{Outcome, Runner as _, Stop, StopReason};
use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::JoinSet;

const MEBIBYTE: usize = 1024 * 1024;

fn all_bytes(length: usize) -> Bytes {
    let byte = |place: usize| (place.wrapping_mul(31) ^ (place >> 8)).to_le_bytes()[0];
    (0..length).map(byte).collect()
}

#[tokio::test]
async fn input_comes_back_byte_for_byte() {
    let input = all_bytes(MEBIBYTE);
    assert_eq!(output(run(exec(&["cat"]), input.clone()).await), input);
    assert_eq!(output(run(exec(&["cat"]), "").await), "");
}

#[tokio::test]
async fn a_program_need_not_read_its_input() {
    let input = all_bytes(MEBIBYTE);
    assert_eq!(text(run(shell("echo read"), input.clone()).await), "read\n");
    let script = "exec <&-; head -c 1000000 /dev/zero | wc -c";
    assert_eq!(text(run(shell(script), input).await), "1000000\n");
}

#[tokio::test]
async fn a_stop_and_the_end_of_the_input_may_come_together() {
    let mark = Mark::new();
    let stop = Stop::default();
    let script = "trap '' TERM; sleep 1000; head -c 1048576 | wc -c; tail -f /dev/null; cat";
    let runner = runner(mark.on(shell(script)));
    let ordering = async {
        let send = |process, signal| kill(Pid::from_raw(process), signal).unwrap();
        let sleeper = mark.wait_for("sleep", 1).await[0];
        let supervisor = mark.wait_for("anteroom-exec", 1).await[0];
        // It takes no orders until both are there.
        send(supervisor, Signal::SIGSTOP);
        send(sleeper, Signal::SIGKILL);
        let tail = mark.wait_for("tail", 1).await[0];
        stop.request(StopReason::Timeout);
        send(tail, Signal::SIGKILL);
        mark.wait_for("cat", 1).await;
        send(supervisor, Signal::SIGCONT);
    };
    let running = runner.run(attempt(all_bytes(MEBIBYTE), &stop));
    let (outcome, ()) = patiently(async { tokio::join!(running, ordering) }).await;
    assert_eq!(text(outcome), "1048576\n");
}

#[tokio::test]
async fn output_that_comes_before_the_input_is_read_does_not_block() {
    let input = all_bytes(MEBIBYTE);
    let both = run(shell("head -c 1048576 /dev/zero; cat"), input.clone()).await;
    assert_eq!(output(both)[MEBIBYTE..], input);
}

#[tokio::test]
async fn the_result_has_the_content_type_of_the_task() {
    let types = [
        (
            "application/octet-stream",
            Exec::default().result_content_type,
        ),
        ("text/plain", "text/plain".to_owned()),
    ];
    for (expected, result_content_type) in types {
        let exec = Exec {
            result_content_type,
            ..exec(&["true"])
        };
        let Outcome::Succeeded(payload) = run(exec, "").await else {
            panic!("true fails");
        };
        assert_eq!(&*payload.content_type, expected);
    }
}

#[tokio::test]
async fn output_up_to_the_limit_is_a_result_and_beyond_it_a_failure_for_good() {
    let limited = |argv: &[&str]| Exec {
        result_bytes_max: MEBIBYTE,
        ..exec(argv)
    };
    let fits = run(limited(&["head", "-c", "1048576", "/dev/zero"]), "").await;
    assert_eq!(output(fits).len(), MEBIBYTE);
    let too_long = "the output is longer than 1048576 bytes, the limit of a result";
    for argv in [&["head", "-c", "1048577", "/dev/zero"][..], &["yes"]] {
        let mark = Mark::new();
        let outcome = run(mark.on(limited(argv)), "").await;
        assert_eq!(failure(outcome), (too_long.to_owned(), true), "{argv:?}");
        assert!(mark.processes().is_empty(), "{argv:?}");
    }
}

#[tokio::test]
async fn the_end_of_the_complaints_is_in_the_message() {
    let script = "head -c 100000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 3";
    let (message, _) = failure(run(shell(script), "").await);
    assert_eq!(message.len(), 8 * 1024);
    assert!(message.starts_with("exit status 3: xxx") && message.ends_with("xxxthe end"));
    let (message, _) = failure(run(shell("printf 'a\\377b\\n' >&2; exit 4"), "").await);
    assert_eq!(message, "exit status 4: a\u{fffd}b");
}

#[tokio::test]
async fn a_background_process_that_keeps_the_output_open_holds_nothing_up() {
    let mark = Mark::new();
    let outcome = run(mark.on(shell("sleep 1000 & echo done")), "").await;
    assert_eq!(text(outcome), "done\n");
    assert!(mark.processes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_attempts_at_once_keep_their_outputs_apart() {
    let mark = Mark::new();
    let mut attempts = JoinSet::new();
    for number in 0..100 {
        let input = Bytes::from(vec![number; 100_000]);
        let exec = mark.on(exec(&["cat"]));
        attempts.spawn(async move { output(run(exec, input.clone()).await) == input });
    }
    let all = patiently(attempts.join_all()).await;
    assert_eq!(all, [true; 100]);
    assert!(mark.processes().is_empty());
}
