//! Streams of events over a real server that is killed and stopped.

use crate::harness::{PATIENCE, Server, folder};
use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

const CONFIG: &str = r#"
store = "sqlite:jobs.db"

[tasks.gate]
exec = ["sh", "-c", "until [ -e gate ]; do sleep 0.05; done"]
backoff = { initial = "10ms" }
"#;

/// A stream that is read line by line.
struct Stream {
    lines: BufReader<TcpStream>,
    /// The id of the last event.
    last: String,
}

impl Stream {
    fn open(server: &Server, id: &str, last: &str) -> Self {
        let mut connection = TcpStream::connect(&server.address).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let (address, path) = (&server.address, format!("/v1/jobs/{id}/events"));
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nlast-event-id: {last}\r\n\r\n");
        connection.write_all(request.as_bytes()).unwrap();
        Self {
            lines: BufReader::new(connection),
            last: String::new(),
        }
    }

    /// Reads up to the next event, and returns its data; none: that was the end.
    fn next(&mut self) -> Option<serde_json::Value> {
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line).unwrap();
            if line.is_empty() || line == "0\r\n" {
                return None;
            }
            if let Some(id) = line.strip_prefix("id: ") {
                id.trim_end().clone_into(&mut self.last);
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }

    fn next_state(&mut self) -> String {
        let data = self.next().unwrap();
        format!("{} {}", data["state"].as_str().unwrap(), data["attempt"])
    }
}

#[test]
fn a_stream_goes_on_after_the_server_was_killed() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let id = server.submit(&["gate"]);
    let mut stream = Stream::open(&server, &id, "");
    assert_eq!(stream.next_state(), "ready 0");
    assert_eq!(stream.next_state(), "running 1");
    server.signal(Signal::SIGKILL);
    server.wait();
    let server = Server::start(folder.path());
    let mut stream = Stream::open(&server, &id, &stream.last);
    // It was rescued when the server started.
    for state in ["scheduled 1", "ready 1", "running 2"] {
        assert_eq!(stream.next_state(), state);
    }
    std::fs::write(folder.path().join("gate"), "").unwrap();
    assert_eq!(stream.next_state(), "succeeded 2");
    assert_eq!(stream.next(), None);
    let after = format!("last-event-id: {}\r\n", stream.last);
    let answer = server.get(&format!("/v1/jobs/{id}/events"), &after);
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    // From its beginning it is still all there.
    let mut all = Stream::open(&server, &id, "");
    let mut seen = Vec::new();
    while let Some(data) = all.next() {
        seen.push(data["state"].as_str().unwrap().to_owned());
    }
    let expected = [
        "ready",
        "running",
        "scheduled",
        "ready",
        "running",
        "succeeded",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_server_that_stops_ends_its_streams_and_waits_for_none() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let id = server.submit(&["gate", "--delay", "1h"]);
    let mut stream = Stream::open(&server, &id, "");
    assert_eq!(stream.next_state(), "scheduled 0");
    server.signal(Signal::SIGTERM);
    assert_eq!(stream.next(), None);
    let (status, lines) = server.wait();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    let is_given_up = |line: &String| line.contains("gave up");
    assert!(!lines.iter().any(is_given_up), "{lines:#?}");
}
