//! What programs say while they run, as those who follow their jobs are told.

use crate::harness::{Mark, PATIENCE, engine, failure, patiently, run, shell, submit, text, until};
use anteroom::core::limits::{REPORT_BYTES_MAX, REPORTS_KEPT_BYTES_MAX, REPORTS_KEPT_MAX};
use anteroom::core::{EventId, FailureKind, Happened, JobId, LogStream, Report, State};
use anteroom::run::exec::Exec;
use anteroom::{Engine, Follow, Told, Until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

async fn follow(engine: &Engine, id: JobId) -> Follow {
    let followed = engine.follow(id, EventId::START).await;
    followed.unwrap().here().unwrap()
}

/// Returns what a follower is told next that the program said; none: the job has ended. What is
/// missing is told by its number.
async fn said(follow: &mut Follow) -> Option<Result<Report, u64>> {
    loop {
        match patiently(follow.next()).await? {
            Told::Event(event) => match event.happened {
                Happened::Reported { report, .. } => return Some(Ok(report)),
                Happened::Entered { .. } => {}
            },
            Told::Missing { count, .. } => return Some(Err(count)),
        }
    }
}

/// Runs `exec` as a job, and returns what is kept of all that it said, and how much more it was.
async fn all_said(exec: Exec) -> (Vec<Report>, u64) {
    let engine = engine(exec).await;
    let id = submit(&engine).await;
    let ended = engine.wait(id, Until::Done, PATIENCE).await;
    let job = ended.unwrap().here().unwrap();
    assert!(job.status.state.is_final(), "{job:?}");
    let mut follow = follow(&engine, id).await;
    let (mut reports, mut missing) = (Vec::new(), 0);
    while let Some(said) = said(&mut follow).await {
        match said {
            Ok(report) => reports.push(report),
            Err(count) => missing += count,
        }
    }
    (reports, missing)
}

fn complaint(line: &str) -> Report {
    Report::log(LogStream::Stderr, line)
}

/// Returns what was logged, and fails if anything else was said or anything is missing.
async fn logged(script: &str) -> Vec<String> {
    let (reports, missing) = all_said(shell(script)).await;
    assert_eq!(missing, 0);
    let line = |report| match report {
        Report::Log {
            stream: LogStream::Stderr,
            line,
        } => line,
        other @ (Report::Log { .. } | Report::Progress(_)) => panic!("{other:?}"),
    };
    reports.into_iter().map(line).collect()
}

/// Returns each progress that was told, and fails if anything else was.
async fn progressed(script: &str) -> Vec<(Option<f64>, Option<String>)> {
    let (reports, missing) = all_said(shell(script)).await;
    assert_eq!(missing, 0);
    let progress = |report| match report {
        Report::Progress(it) => (it.fraction(), it.message().map(str::to_owned)),
        other @ Report::Log { .. } => panic!("{other:?}"),
    };
    reports.into_iter().map(progress).collect()
}

#[tokio::test]
async fn each_line_of_the_complaints_is_logged_and_their_end_is_in_the_error() {
    let script = "printf 'one\\n\\ntwo\\r\\nwithout an end' >&2; exit 65";
    assert_eq!(logged(script).await, ["one", "", "two", "without an end"]);
    let (message, _) = failure(run(shell(script), "").await);
    assert_eq!(message, "exit status 65: one\n\ntwo\r\nwithout an end");
}

#[tokio::test]
async fn a_long_line_is_cut_and_what_is_no_text_is_replaced() {
    let long = "head -c 10000 /dev/zero | tr '\\0' x >&2";
    let lines = logged(&format!("{long}; echo 'the rest' >&2; echo after >&2")).await;
    assert_eq!(lines, ["x".repeat(REPORT_BYTES_MAX), "after".to_owned()]);
    // Two bytes a character, and the cut in the middle of one.
    let long = "printf y >&2; yes '\u{e4}' | head -n 5000 | tr -d '\\n' >&2";
    let lines = logged(&format!("{long}; printf '\\na\\377b' >&2")).await;
    let kept = format!("y{}", "\u{e4}".repeat((REPORT_BYTES_MAX - 1) / 2));
    assert_eq!(lines, [kept, "a\u{fffd}b".to_owned()]);
}

#[tokio::test]
async fn complaints_without_an_end_are_told_while_they_go_on() {
    let engine = engine(shell("tr '\\0' x < /dev/zero >&2")).await;
    let id = submit(&engine).await;
    let mut follow = follow(&engine, id).await;
    let line = complaint(&"x".repeat(REPORT_BYTES_MAX));
    assert_eq!(said(&mut follow).await, Some(Ok(line)));
    engine.cancel(id, None).await.unwrap().unwrap();
    assert_eq!(said(&mut follow).await, None);
}

#[tokio::test]
async fn of_a_flood_the_latest_is_kept_and_the_rest_is_counted() {
    let flood = 300_000;
    let (reports, missing) = all_said(shell(&format!("seq {flood} >&2"))).await;
    assert_eq!(reports.len(), REPORTS_KEPT_MAX);
    assert_eq!(reports[REPORTS_KEPT_MAX - 1], complaint(&flood.to_string()));
    assert_eq!(missing, flood - REPORTS_KEPT_MAX as u64);
    let long = "yes $(printf %08000d 7) | head -n 1000 >&2; echo last >&2";
    let (reports, missing) = all_said(shell(long)).await;
    assert!(reports.iter().map(Report::bytes).sum::<usize>() <= REPORTS_KEPT_BYTES_MAX);
    assert_eq!(reports.last(), Some(&complaint("last")));
    assert_eq!(missing + reports.len() as u64, 1_001);
}

#[tokio::test]
async fn lines_on_descriptor_3_become_progress_while_it_runs() {
    let mark = Mark::new();
    let script = r#"
        exec 2> /dev/null # the shell tells of the death of its child
        echo '{"fraction": 0.5, "message": "half"}' >&"$ANTEROOM_EVENTS_FD"
        sleep 1000
        echo '{"fraction": 1}' >&3"#;
    let engine = engine(mark.on(shell(script))).await;
    let id = submit(&engine).await;
    let mut follow = follow(&engine, id).await;
    let Some(Ok(Report::Progress(half))) = said(&mut follow).await else {
        panic!("no progress");
    };
    assert_eq!((half.fraction(), half.message()), (Some(0.5), Some("half")));
    let job = engine.store().get(id).await.unwrap().here().unwrap();
    assert_eq!(job.progress, Some(half));
    let sleeper = mark.wait_for("sleep", 1).await[0];
    kill(Pid::from_raw(sleeper), Signal::SIGKILL).unwrap();
    let Some(Ok(Report::Progress(whole))) = said(&mut follow).await else {
        panic!("no progress");
    };
    assert_eq!((whole.fraction(), whole.message()), (Some(1.0), None));
    assert_eq!(said(&mut follow).await, None);
}

#[tokio::test]
async fn what_is_no_progress_is_ignored_and_a_last_line_needs_no_end() {
    let script = r#"
        echo 'no json' >&3
        echo '{"fraction": "half"}' >&3
        echo '["fraction"]' >&3
        echo >&3
        printf '{"message": "%070000d"}\n' 1 >&3
        head -c 1000000 /dev/zero >&3
        printf '\n{"fraction": 0.25, "message": "the last", "more": true}' >&3"#;
    let expected = (Some(0.25), Some("the last".to_owned()));
    assert_eq!(progressed(script).await, [expected]);
    assert_eq!(progressed("printf '{\"fraction\": 0.2' >&3").await, []);
    // As long as a message may be, however it is written.
    let script =
        r#"{ printf '{"message": "'; yes '\u00e4' | head -n 4096 | tr -d '\n'; echo '"}'; } >&3"#;
    let expected = (None, Some("\u{e4}".repeat(REPORT_BYTES_MAX / 2)));
    assert_eq!(progressed(script).await, [expected]);
}

#[tokio::test]
async fn a_program_that_says_much_is_not_held_up_and_one_may_close_it_all() {
    let script = "head -c 3000000 /dev/zero >&3; head -c 3000000 /dev/zero >&2; echo done";
    assert_eq!(text(run(shell(script), "").await), "done\n");
    let script = "exec 2>&- 3>&-; cat; echo done";
    assert_eq!(text(run(shell(script), "in ").await), "in done\n");
}

#[tokio::test]
async fn last_words_are_told_however_the_attempt_ends() {
    let mark = Mark::new();
    let script = "trap 'printf last >&2; printf \"{\\\"fraction\\\": 0.75}\" >&3; exit 1' TERM
        sleep 1000 & wait";
    let engine = engine(mark.on(shell(script))).await;
    let id = submit(&engine).await;
    mark.wait_for("sleep", 1).await;
    let mut follow = follow(&engine, id).await;
    engine.cancel(id, None).await.unwrap().unwrap();
    let mut reports = Vec::new();
    while let Some(Ok(report)) = said(&mut follow).await {
        reports.push(report);
    }
    assert!(reports.contains(&complaint("last")), "{reports:?}");
    assert_eq!(reports.len(), 2, "{reports:?}");
    until(PATIENCE, || mark.processes().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_program_that_is_killed_ends_in_an_error_and_is_tried_again() {
    let script = "echo \"attempt $ANTEROOM_ATTEMPT\" >&2
        [ $ANTEROOM_ATTEMPT = 2 ] || kill -KILL $$; cat";
    let engine = engine(shell(script)).await;
    let id = submit(&engine).await;
    let ended = engine.wait(id, Until::Done, PATIENCE).await;
    let job = ended.unwrap().here().unwrap();
    assert_eq!(
        (job.status.state, job.status.attempt),
        (State::Succeeded, 2)
    );
    let [error] = &job.errors[..] else {
        panic!("{:?}", job.errors);
    };
    assert_eq!(error.failure.kind, FailureKind::Error);
    let message = "killed by signal 9 (SIGKILL): attempt 1";
    assert_eq!(error.failure.message, message);
}
