//! Schedules of a real server that is killed while it fires.

use crate::harness::{Server, folder, run};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const CONFIG: &str = r#"
store = "sqlite:jobs.db"

[tasks.far]
pull = true
content_type = "text/plain"

[schedules.tick]
task = "far"
cron = "* * * * * *"
input = "a b c"
catch_up = "last"
"#;

/// Returns the time and the job of a line about a firing.
fn firing(line: &str) -> Option<(String, String)> {
    let (_, rest) = line.split_once("schedule tick fired for ")?;
    let (time, rest) = rest.split_once(": job ")?;
    Some((time.to_owned(), rest.split_whitespace().next()?.to_owned()))
}

#[test]
fn a_server_that_is_killed_again_and_again_fires_each_time_once() {
    let folder = folder(CONFIG);
    let mut fired: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for _ in 0..4 {
        let mut server = Server::start(folder.path());
        let heard: Vec<String> = (0..2)
            .map(|_| server.wait_for_line("schedule tick fired for "))
            .collect();
        server.signal(Signal::SIGKILL);
        let (_, mut lines) = server.wait();
        lines.extend(heard);
        for (time, job) in lines.iter().filter_map(|line| firing(line)) {
            fired.entry(time).or_default().insert(job);
        }
    }
    // One that was submitted and not noted yet is submitted again, and gives the same job.
    assert!(fired.len() >= 5, "{fired:?}");
    let jobs: BTreeSet<&String> = fired.values().flatten().collect();
    assert_eq!(jobs.len(), fired.len(), "one each: {fired:#?}");
    let server = Server::start(folder.path());
    let answer = server.get("/v1/schedules/tick", "");
    let (_head, body) = answer.split_once("\r\n\r\n").unwrap();
    let schedule: Value = serde_json::from_str(body).unwrap();
    assert_eq!(schedule["defined_in"], "configuration", "{schedule}");
    assert_eq!(schedule["content_type"], "text/plain");
    for job in jobs {
        let answer = server.get(&format!("/v1/jobs/{job}/input"), "");
        assert!(answer.ends_with("\r\n\r\na b c"), "{answer}");
    }
}

#[test]
fn a_check_finds_what_would_stop_the_start() {
    let wrong = CONFIG.replace("* * * * * *", "0 0 31 2 *");
    let folder = folder(&wrong);
    for command in ["check", "serve"] {
        let finished = run(folder.path(), &[command]);
        assert_eq!(finished.code, Some(2), "{finished:?}");
        let expected = "anteroom.toml:10:8: cron never fires: there is no day with";
        assert!(finished.stderr.starts_with(expected), "{finished:?}");
    }
}
