//! The client commands against a server that says exactly what the test wants.

use crate::harness::{Finished, PATIENCE, anteroom};
use crate::terminal::Terminal;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

const ID: &str = "019abc00-0000-7000-8000-000000000000";

/// A server that answers one request after the other, each on a connection of its own, and then
/// no more.
struct Scripted {
    address: String,
    thread: JoinHandle<Vec<String>>,
}

impl Scripted {
    /// An answer is a status with fields, such as `200 OK\r\netag: "1"`, and a body; an empty status
    /// closes the connection.
    fn start(answers: Vec<(&str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answers: Vec<(String, String)> = answers
            .into_iter()
            .map(|(head, body)| (head.to_owned(), body))
            .collect();
        let thread = std::thread::spawn(move || {
            let answer = |(head, body): (String, String)| {
                let (socket, _) = listener.accept().unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut lines = BufReader::new(&socket);
                let (mut request, mut bytes) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    lines.read_line(&mut line).unwrap();
                    if let Some(length) = line.strip_prefix("content-length: ") {
                        bytes = length.trim().parse().unwrap();
                    }
                    if line.trim().is_empty() {
                        break;
                    }
                    request.push_str(&line);
                }
                lines.read_exact(&mut vec![0; bytes]).unwrap();
                if !head.is_empty() {
                    let length = body.len();
                    write!(
                        &socket,
                        "HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                    )
                    .unwrap();
                }
                request
            };
            answers.into_iter().map(answer).collect()
        });
        Self { address, thread }
    }

    fn client(&self, arguments: &[&str]) -> Finished {
        let folder = tempfile::tempdir().unwrap();
        let mut command = anteroom(folder.path(), arguments);
        command.env("ANTEROOM_SERVER", format!("http://{}", self.address));
        Finished::new(&command.output().unwrap())
    }

    /// Returns the requests, once all answers were given.
    fn requests(self) -> Vec<String> {
        self.thread.join().unwrap()
    }
}

fn job(state: &str, more: &str) -> String {
    let done = matches!(state, "succeeded" | "failed" | "cancelled");
    format!(
        r#"{{"id": "{ID}", "task": "t", "queue": "default", "state": "{state}", "done": {done},
            "attempt": 0, "max_attempts": 5, "created_at": "2026-11-22T12:00:00.000Z"{more}}}"#
    )
}

#[test]
fn the_exit_code_tells_a_refusal_from_trouble() {
    let problem = r#"{"title": "No", "detail": "not \u001b[2Jtoday", "status": 400}"#;
    for (status, code) in [
        ("400 Bad Request", 2),
        ("401 Unauthorized", 2),
        ("404 Not Found", 2),
        ("410 Gone", 2),
        ("422 Unprocessable Content", 2),
        ("501 Not Implemented", 2),
        ("429 Too Many Requests", 3),
        ("500 Internal Server Error", 3),
        ("503 Service Unavailable", 3),
    ] {
        for arguments in [
            &["submit", "t"][..],
            &["job", ID],
            &["jobs"],
            &["cancel", ID],
        ] {
            let server = Scripted::start(vec![(status, problem.to_owned())]);
            let refused = server.client(arguments);
            assert_eq!(refused.code, Some(code), "{status}: {refused:?}");
            assert_eq!(refused.stderr, "error: No: not \\u{1b}[2Jtoday\n");
            assert_eq!(refused.stdout, "");
            server.requests();
        }
    }
    let ends: Vec<(&str, &str)> = vec![("200 OK", "<html>"), ("", ""), ("302 Found", "")];
    for (status, body) in ends {
        let server = Scripted::start(vec![(status, body.to_owned())]);
        let confused = server.client(&["job", ID]);
        let code = if status == "302 Found" { 2 } else { 3 };
        assert_eq!(confused.code, Some(code), "{status:?}: {confused:?}");
        server.requests();
    }
}

#[test]
fn every_option_of_a_submit_is_passed_on() {
    let server = Scripted::start(vec![("202 Accepted", job("ready", ""))]);
    let arguments = [
        "submit",
        "t",
        "--input",
        "x",
        "--unique-key",
        "order 7",
        "--callback-url",
        "http://a/b?c=d",
        "--idempotency-key",
        "k-1",
        "--start-before",
        "2030-01-01T00:00:00Z",
    ];
    assert_eq!(server.client(&arguments).code, Some(0));
    let request = &server.requests()[0];
    let line = "POST /v1/tasks/t/jobs?start_before=2030-01-01T00%3A00%3A00Z&unique_key=order%207\
                &callback_url=http%3A%2F%2Fa%2Fb%3Fc%3Dd HTTP/1.1\r\n";
    assert!(request.starts_with(line), "{request}");
    assert!(
        request.contains("\r\nidempotency-key: \"k-1\"\r\n"),
        "{request}"
    );
    assert!(!request.contains("\r\nprefer:"), "{request}");
}

#[test]
fn a_wait_outlasts_a_server_that_is_started_anew() {
    let server = Scripted::start(vec![
        ("202 Accepted", job("ready", "")),
        ("200 OK", job("running", "")),
        ("", String::new()),
        (
            "503 Service Unavailable",
            r#"{"title": "Draining"}"#.to_owned(),
        ),
        ("200 OK", job("succeeded", "")),
    ]);
    let done = server.client(&["submit", "t", "--wait", "10m"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("state     succeeded"), "{done:?}");
    let requests = server.requests();
    assert!(
        requests[2].contains("\r\nprefer: wait=60\r\n"),
        "{requests:?}"
    );
}

#[test]
fn a_wait_asks_for_what_has_changed_and_for_the_place_in_the_queue() {
    let waiting = |position: u32| {
        let members = r#""exact": true, "eta": null, "reasons": ["one is ahead"]"#;
        format!(r#", "waiting": {{"position": {position}, {members}}}"#)
    };
    let running = r#", "progress": {"fraction": 0.5, "message": "half"}"#;
    let server = Scripted::start(vec![
        ("202 Accepted", job("ready", &waiting(12))),
        ("200 OK\r\netag: \"1\"", job("ready", "")),
        ("304 Not Modified\r\netag: \"1\"", String::new()),
        ("200 OK", job("ready", &waiting(3))),
        ("200 OK\r\netag: \"2\"", job("running", running)),
        ("200 OK\r\netag: \"3\"", job("failed", "")),
    ]);
    let arguments = ["submit", "t", "--wait", "10m"];
    let mut terminal = Terminal::run(&server.address, 80, &arguments);
    assert_eq!(terminal.ended(), Some(1), "{:?}", terminal.text);
    for drawn in [
        "\rready, position 12, ",
        "\rready, position 3, ",
        "\rrunning, 50 % half, ",
    ] {
        assert!(
            terminal.text.contains(drawn),
            "{drawn:?} in {:?}",
            terminal.text
        );
    }
    let requests = server.requests();
    let path = format!("GET /v1/jobs/{ID}");
    for (request, part) in [
        (1, format!("{path} HTTP/1.1")),
        (2, "\r\nprefer: wait=2\r\n".to_owned()),
        (2, "\r\nif-none-match: \"1\"\r\n".to_owned()),
        (3, format!("{path}?include=waiting HTTP/1.1")),
        (4, "\r\nif-none-match: \"1\"\r\n".to_owned()),
        (5, "\r\nif-none-match: \"2\"\r\n".to_owned()),
        (5, "\r\nprefer: wait=60\r\n".to_owned()),
    ] {
        assert!(requests[request].contains(&part), "{part} in {requests:?}");
    }
}
