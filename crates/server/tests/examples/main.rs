//! Runs the examples, as their readers would, and talks to them.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running example. Dropping it kills it.
struct Example {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl Example {
    /// Starts an example; `cargo test` builds them beside the tests.
    fn start(name: &str, arguments: &[&Path]) -> Self {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().and_then(Path::parent).unwrap();
        let mut child = Command::new(profile.join("examples").join(name))
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the examples are built by `cargo test` without `--test`");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        let address = line
            .strip_prefix("listening on http://")
            .unwrap()
            .to_owned();
        Self {
            child,
            lines,
            address,
        }
    }

    /// Sends a request and returns the status, the head and the body of its answer.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String, String) {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        write!(
            socket,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn slow_work_never_blocks_the_greeting() {
    let example = Example::start("greeting", &[]);
    for _ in 0..4 {
        let (status, _, body) = example.ask("POST", "/slow", "");
        assert_eq!(status, 202, "{body}");
    }
    // Four threads sleep now, on two of which a greeting would have to wait.
    for _ in 0..20 {
        let (status, _, body) = example.ask("GET", "/", "");
        assert_eq!(
            (status, body.as_str()),
            (200, r#"{"message":"Hello, world"}"#)
        );
    }
}

#[test]
fn routes_share_a_queue_and_results_are_found_by_id_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("jobs.db");
    let example = Example::start("shared_queue", &[&store]);
    let (status, _, id) = example.ask("POST", "/words", "to be or not to be");
    assert_eq!(status, 202);
    let until_done = |example: &Example| {
        loop {
            let (status, _, body) = example.ask("GET", &format!("/words/{id}"), "");
            if status != 202 {
                return (status, body);
            }
        }
    };
    assert_eq!(until_done(&example), (200, "6".to_owned()));
    drop(example);
    let example = Example::start("shared_queue", &[&store]);
    assert_eq!(until_done(&example), (200, "6".to_owned()));
    assert_eq!(example.ask("GET", "/words/nothing", "").0, 404);
}

#[test]
fn mounted_under_a_prefix_every_link_carries_it_and_ctrl_c_stops_cleanly() {
    let mut example = Example::start("mounted", &[]);
    let (_, _, own) = example.ask("GET", "/", "");
    assert_eq!(own, r#"{"message":"your own app"}"#);

    let (status, head, body) = example.ask("POST", "/queue/v1/tasks/greet/jobs", "\"Ada\"");
    assert_eq!(status, 202, "{body}");
    let job: Value = serde_json::from_str(&body).unwrap();
    let link = job["links"]["self"].as_str().unwrap();
    assert!(link.starts_with("/queue/v1/jobs/"), "{link}");
    assert!(
        head.to_lowercase()
            .contains(&format!("\r\nlocation: {link}\r\n")),
        "{head}"
    );
    assert_eq!(example.ask("GET", link, "").0, 200);

    let (status, _, body) = example.ask("POST", "/queue/v1/tasks/greet/call", "\"Ada\"");
    assert_eq!(
        (status, body.as_str()),
        (200, r#"{"message":"Hello, Ada"}"#)
    );

    let (status, _, body) = example.ask("GET", "/queue/v1/jobs/none", "");
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &problem["type"]),
        (404, &Value::from("/queue/problems/unknown-job"))
    );

    let pid = Pid::from_raw(i32::try_from(example.child.id()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(example.lines.next().unwrap().unwrap(), "stopped");
    assert!(example.child.wait().unwrap().success());
}
