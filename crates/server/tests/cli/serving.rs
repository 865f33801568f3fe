//! Starting and stopping a real server.

use crate::harness::{PATIENCE, Server, anteroom, folder, run};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;

const CONFIG: &str = r#"
store = "sqlite:jobs.db"
shutdown_grace = "30s"

[tasks.echo]
exec = ["cat"]

[tasks.gate]
exec = ["sh", "-c", "until [ -e gate ]; do sleep 0.05; done; echo through"]
result_content_type = "text/plain"

[tasks.long]
exec = ["sleep", "300"]
kill_grace = "1s"
"#;

#[test]
fn a_free_port_is_picked_and_printed() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    assert!(
        server.address.starts_with("127.0.0.1:"),
        "{}",
        server.address
    );
    assert!(!server.address.ends_with(":0"), "{}", server.address);
    let answer = server.get("/readyz", "");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn log_lines_are_json_if_asked_for_and_never_hold_an_input() {
    let folder = folder(CONFIG);
    let variables = [("ANTEROOM_LOG", "trace"), ("ANTEROOM_LOG_FORMAT", "json")];
    let server = Server::start_with(folder.path(), &variables);
    server.submit(&["echo", "--input", "a-secret", "--wait", "30s"]);
    server.signal(Signal::SIGTERM);
    let (status, lines) = server.wait();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    for line in &lines {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(
            parsed.is_ok_and(|line| line["message"].is_string()),
            "{line}"
        );
        assert!(!line.contains("a-secret"), "{line}");
    }
    let is_draining = |line: &String| line.contains("\"signal\":\"SIGTERM\"");
    assert!(lines.iter().any(is_draining), "{lines:#?}");
}

#[test]
fn results_survive_a_restart() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let id = server.submit(&["echo", "--input", "kept", "--wait", "30s"]);
    server.signal(Signal::SIGTERM);
    let (status, lines) = server.wait();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    let server = Server::start(folder.path());
    let result = server.client(&["job", &id, "--result"]);
    assert_eq!(
        (result.code, result.stdout.as_str()),
        (Some(0), "kept"),
        "{result:?}"
    );
}

#[test]
fn results_survive_a_kill() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let id = server.submit(&["echo", "--input", "kept", "--wait", "30s"]);
    server.signal(Signal::SIGKILL);
    server.wait();
    let server = Server::start(folder.path());
    let result = server.client(&["job", &id, "--result"]);
    assert_eq!(
        (result.code, result.stdout.as_str()),
        (Some(0), "kept"),
        "{result:?}"
    );
}

#[test]
fn a_draining_server_refuses_submits_and_lets_running_attempts_end() {
    let folder = folder(CONFIG);
    let mut server = Server::start(folder.path());
    let id = server.submit(&["gate"]);
    server.wait_for_state(&id, "running");
    server.signal(Signal::SIGINT);
    server.wait_for_line("draining");
    let refused = server.client(&["submit", "echo"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(server.get("/readyz", "").starts_with("HTTP/1.1 503 "));
    assert!(server.get("/livez", "").starts_with("HTTP/1.1 200 "));
    std::fs::write(folder.path().join("gate"), "").unwrap();
    let (status, lines) = server.wait();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    let server = Server::start(folder.path());
    let result = server.client(&["job", &id, "--result"]);
    assert_eq!(result.stdout, "through\n", "{result:?}");
}

#[test]
fn an_attempt_that_outlasts_the_grace_is_handed_back() {
    let folder = folder(&CONFIG.replace("\"30s\"", "\"200ms\""));
    let server = Server::start(folder.path());
    let id = server.submit(&["long"]);
    server.wait_for_state(&id, "running");
    server.signal(Signal::SIGTERM);
    let (status, lines) = server.wait();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    let server = Server::start(folder.path());
    server.wait_for_state(&id, "running");
    let shown = server.client(&["job", &id]);
    assert!(
        shown.stdout.contains("attempt   1 of 5"),
        "it cost an attempt: {shown:?}"
    );
}

#[test]
fn a_second_signal_stops_at_once() {
    let folder = folder(CONFIG);
    let mut server = Server::start(folder.path());
    let id = server.submit(&["long"]);
    server.wait_for_state(&id, "running");
    server.signal(Signal::SIGINT);
    server.wait_for_line("draining");
    server.signal(Signal::SIGTERM);
    let (status, lines) = server.wait();
    assert_eq!(status.code(), Some(130), "{lines:#?}");
}

#[test]
fn a_store_has_one_server() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let second = run(folder.path(), &["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("jobs.db"), "{second:?}");
    let id = server.submit(&["echo", "--input", "well", "--wait", "30s"]);
    assert_eq!(server.client(&["job", &id, "--result"]).stdout, "well");
}

#[test]
fn an_address_that_is_taken_is_told() {
    let folder = folder("store = \"memory:\"");
    let server = Server::start(folder.path());
    let second = run(folder.path(), &["serve", "--listen", &server.address]);
    assert_eq!(second.code, Some(1), "{second:?}");
    let expected = format!("cannot listen on {}: ", server.address);
    assert!(second.stderr.contains(&expected), "{second:?}");
}

#[test]
fn the_environment_of_the_server_is_not_the_programs() {
    let config = r#"
        store = "memory:"
        [tasks.env]
        exec = ["env"]
        env = { LANG = "C.UTF-8" }
        env_inherit = ["HOME"]
    "#;
    let folder = folder(config);
    let server = Server::start(folder.path());
    let id = server.submit(&["env", "--wait", "30s"]);
    let result = server.client(&["job", &id, "--result"]);
    let mut names: Vec<&str> = result
        .stdout
        .lines()
        .filter_map(|line| line.split('=').next())
        .collect();
    names.retain(|name| !name.starts_with("ANTEROOM_") && *name != "TRACEPARENT");
    names.sort_unstable();
    let home = std::env::var_os("HOME").map(|_| "HOME");
    let expected: Vec<&str> = home.into_iter().chain(["LANG", "PATH"]).collect();
    assert_eq!(names, expected, "{}", result.stdout);
}

/// A server that was opening its store was once deaf to signals until it had done so.
#[test]
fn a_server_that_is_still_starting_can_be_stopped() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let folder = folder(CONFIG);
        let path = folder.path().join("jobs.db");
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let command = anteroom(folder.path(), &["serve", "--listen", "127.0.0.1:0"]);
        let server = Server::spawn(command);
        // Opening a pipe waits for its other end: from here on the server waits for its header.
        let (tx, opened) = channel();
        std::thread::spawn(move || tx.send(OpenOptions::new().write(true).open(path)));
        let _pipe = opened.recv_timeout(PATIENCE).unwrap().unwrap();
        server.signal(signal);
        let (status, lines) = server.wait();
        assert_eq!(status.code(), Some(0), "{lines:#?}");
        let told = |line: &String| line.contains("while starting");
        assert!(lines.iter().any(told), "{lines:#?}");
    }
}

#[test]
fn a_low_limit_of_descriptors_is_raised() {
    let folder = folder("store = \"memory:\"");
    let server = Server::start_within(folder.path(), 100);
    let mut connections = Vec::new();
    for number in 0..200 {
        let mut connection = TcpStream::connect(&server.address).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
        connection.write_all(request).unwrap();
        let mut answer = [0; 12];
        connection.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200", "connection {number}");
        connections.push(connection);
    }
}
