//! Workers that pull, and a real server that dies or writes its log meanwhile.

use crate::harness::{Server, folder};
use nix::sys::signal::Signal;
use serde_json::Value;

const CONFIG: &str = r#"
store = "sqlite:jobs.db"

[tasks.far]
pull = true
"#;

fn json(answer: &str) -> Value {
    let (_head, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// Submits a job and leases it. Returns the token.
fn leased(server: &Server) -> String {
    server.submit(&["far", "--input", "x"]);
    let answer = server.post("/v1/leases", r#"{"worker": "w"}"#);
    let lease = &json(&answer)["leases"][0]["lease"];
    lease.as_str().unwrap().to_owned()
}

#[test]
fn no_log_line_shows_the_token_of_a_lease() {
    let folder = folder(CONFIG);
    for format in ["text", "json"] {
        let variables = [("ANTEROOM_LOG", "trace"), ("ANTEROOM_LOG_FORMAT", format)];
        let server = Server::start_with(folder.path(), &variables);
        let mut tokens = Vec::new();
        for (call, body) in [
            ("extend", "{}"),
            ("complete", "1"),
            ("fail", r#"{"error": "x"}"#),
            ("release", ""),
            ("nothing", ""),
        ] {
            let token = leased(&server);
            let path = format!("/v1/leases/{token}/{call}");
            server.post(&path, body);
            server.post(&path, "{");
            server.get(&path, "");
            let settle = format!(r#"[{{"lease": "{token}", "action": "release"}}]"#);
            server.post("/v1/leases/settle", &settle);
            tokens.push(token);
        }
        server.signal(Signal::SIGTERM);
        let (status, lines) = server.wait();
        assert_eq!(status.code(), Some(0), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("leased job")));
        for token in tokens {
            // Its first characters are the job's id.
            let secret = &token[32..];
            let shows = |line: &&String| line.contains(secret);
            assert_eq!(lines.iter().find(shows), None, "{token}");
        }
    }
}

#[test]
fn a_lease_outlives_the_server_that_gave_it() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let token = leased(&server);
    server.signal(Signal::SIGKILL);
    server.wait();
    let server = Server::start(folder.path());
    let extended = server.post(&format!("/v1/leases/{token}/extend"), "{}");
    assert_eq!(json(&extended)["cancel_requested"], false, "{extended}");
    let complete = format!("/v1/leases/{token}/complete");
    let first = server.post(&complete, "1");
    assert_eq!(json(&first)["state"], "succeeded", "{first}");
    server.signal(Signal::SIGKILL);
    server.wait();
    let server = Server::start(folder.path());
    let again = server.post(&complete, "1");
    assert_eq!(json(&again)["state"], "succeeded", "{again}");
    let other = server.post(&complete, "2");
    assert_eq!(json(&other)["type"], "/problems/lease-lost", "{other}");
}
