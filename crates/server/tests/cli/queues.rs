//! Queues from the command line: shown, paused and resumed, over restarts; and a server that holds.

use crate::harness::{Server, anteroom, folder, run};
use nix::sys::signal::Signal;
use serde_json::json;

const CONFIG: &str = r#"
store = "sqlite:jobs.db"

[queues.reports]
max_depth = 2

[tasks.echo]
exec = ["cat"]
result_content_type = "text/plain"
queue = "echoes"
"#;

#[test]
fn queues_are_shown_paused_and_resumed() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let paused = server.client(&["pause", "echoes"]);
    assert_eq!(paused.code, Some(0), "{paused:?}");
    assert!(
        paused.stdout.starts_with("queue echoes is paused: 0 jobs"),
        "{paused:?}"
    );
    let id = server.submit(&["echo", "--input", "x"]);
    let stands = "  waits at  position 0\n  because   queue echoes is paused; resume it to go on\n";
    let job = server.client(&["job", &id]);
    assert!(job.stdout.contains(stands), "{job:?}");
    let shown = server.client(&["queues"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let rows: Vec<Vec<&str>> = shown
        .stdout
        .lines()
        .map(|line| line.split_whitespace().take(5).collect())
        .collect();
    assert_eq!(rows[0], ["QUEUE", "STATE", "SCHEDULED", "READY", "RUNNING"]);
    assert_eq!(rows[1], ["default", "open", "0", "0", "0"]);
    assert_eq!(rows[2], ["echoes", "paused", "0", "1", "0"]);
    assert_eq!(rows[3][0], "reports");
    let json = server.client(&["queues", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["queues"][1]["paused"], true);
    assert_eq!(json["queues"][2]["limits"]["max_depth"], 2);
    let resumed = server.client(&["resume", "echoes"]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert!(
        resumed.stdout.starts_with("queue echoes is not paused"),
        "{resumed:?}"
    );
    server.wait_for_state(&id, "succeeded");
    let refused = server.client(&["pause", "anteroom.x"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.stderr.contains("There is no such queue"),
        "{refused:?}"
    );
}

#[test]
fn a_pause_outlasts_a_kill_and_a_restart() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let paused = server.client(&["pause", "echoes"]);
    assert_eq!(paused.code, Some(0), "{paused:?}");
    let id = server.submit(&["echo", "--input", "x"]);
    server.signal(Signal::SIGKILL);
    server.wait();
    let server = Server::start(folder.path());
    // Of another queue, and of the same task: it would not be done before.
    let other = ["submit", "echo", "--queue", "other", "--wait", "30s"];
    let done = server.client(&other);
    assert_eq!(done.code, Some(0), "{done:?}");
    let job = server.client(&["job", &id, "--json"]);
    let job: serde_json::Value = serde_json::from_str(&job.stdout).unwrap();
    assert_eq!(
        (&job["state"], &job["attempt"]),
        (&"ready".into(), &0.into())
    );
    let shown = server.client(&["queues", "--json"]).stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let all = shown["queues"].as_array().unwrap();
    let named = |name: &str| all.iter().find(|queue| queue["name"] == name).unwrap();
    assert_eq!(named("echoes")["paused"], true);
    assert_eq!(named("other")["paused"], false);
    server.client(&["resume", "echoes"]);
    server.wait_for_state(&id, "succeeded");
}

/// Changes a queue over HTTP, and returns its limits as they hold then.
fn limits_after(server: &Server, change: &str) -> serde_json::Value {
    let answer = server.patch("/v1/queues/reports", change);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let queue: serde_json::Value = serde_json::from_str(body).unwrap();
    queue["limits"].clone()
}

/// Returns the limits of the queue `reports`.
fn limits(server: &Server) -> serde_json::Value {
    limits_after(server, "{}")
}

/// What the file says holds; what is set wins, and outlasts a kill and a drain; null goes back to what
/// the file says by then.
#[test]
fn limits_are_the_files_until_they_are_set_and_again_after_null() {
    let with = |limit: u32| {
        CONFIG.replace(
            "max_depth = 2\n",
            &format!(
                "max_depth = {limit}\nmax_concurrency = {limit}\ngroup_concurrency = {limit}\n\
                 rate_limit = {{ limit = {limit}, period = \"1m\" }}\n"
            ),
        )
    };
    let of_file = |limit: u32| {
        json!({
            "max_depth": limit,
            "max_concurrency": limit,
            "group_concurrency": limit,
            "rate_limit": {"limit": limit, "period": "1m"},
        })
    };
    let folder = folder(&with(5));
    let server = Server::start(folder.path());
    assert_eq!(limits(&server), of_file(5));
    let set = json!({
        "max_depth": 6,
        "max_concurrency": 7,
        "group_concurrency": 8,
        "rate_limit": {"limit": 9, "period": "10s"},
    });
    assert_eq!(limits_after(&server, &set.to_string()), set);
    let shown = server.client(&["queues"]).stdout;
    let row = shown.lines().find(|line| line.starts_with("reports"));
    let expected = "7 running, 9 started in 10s, 8 running of a group, 6 waiting";
    assert!(row.unwrap().ends_with(expected), "{shown}");
    server.signal(Signal::SIGKILL);
    server.wait();
    std::fs::write(folder.path().join("anteroom.toml"), with(20)).unwrap();
    let server = Server::start(folder.path());
    assert_eq!(limits(&server), set);
    let reset = r#"{"max_concurrency": null, "rate_limit": null}"#;
    let expected = json!({
        "max_depth": 6,
        "max_concurrency": 20,
        "group_concurrency": 8,
        "rate_limit": {"limit": 20, "period": "1m"},
    });
    assert_eq!(limits_after(&server, reset), expected);
    server.signal(Signal::SIGTERM);
    server.wait();
    let server = Server::start(folder.path());
    assert_eq!(limits(&server), expected);
    let reset = r#"{"max_depth": null, "group_concurrency": null}"#;
    assert_eq!(limits_after(&server, reset), of_file(20));
    let row = server.client(&["queues"]).stdout;
    let row = row.lines().find(|line| line.starts_with("default"));
    assert!(row.unwrap().ends_with("  -"), "{row:?}");
}

#[test]
fn a_limit_that_is_none_stops_the_start_with_its_place() {
    let folder = folder("[queues.reports]\nmax_concurrency = 0\n");
    for command in ["check", "serve"] {
        let refused = run(folder.path(), &[command]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        let expected = "anteroom.toml:2:19: max_concurrency is 0; the least is 1. To start no jobs, \
                        pause the queue";
        assert!(refused.stderr.contains(expected), "{refused:?}");
    }
}

#[test]
fn a_server_that_holds_starts_nothing_until_a_queue_is_resumed() {
    let folder = folder(CONFIG);
    let listen = ["serve", "--hold", "--listen", "127.0.0.1:0"];
    let server = Server::start_as(anteroom(folder.path(), &listen));
    let held = server.submit(&["echo", "--input", "x"]);
    let other = server.submit(&["echo", "--queue", "other", "--input", "x"]);
    let resumed = server.client(&["resume", "echoes"]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    server.wait_for_state(&held, "succeeded");
    let job = server.client(&["job", &other, "--json"]);
    let job: serde_json::Value = serde_json::from_str(&job.stdout).unwrap();
    assert_eq!(job["state"], "ready");
    server.signal(Signal::SIGTERM);
    server.wait();
    // It was that process's.
    let server = Server::start(folder.path());
    server.wait_for_state(&other, "succeeded");
}

#[test]
fn a_limit_of_the_configuration_holds_and_strict_queues_are_refused() {
    let folder = folder(&format!("strict_queues = true\n{CONFIG}"));
    let server = Server::start(folder.path());
    let paused = server.client(&["pause", "reports"]);
    assert_eq!(paused.code, Some(0), "{paused:?}");
    let into = |queue| server.client(&["submit", "echo", "--queue", queue]);
    assert_eq!(into("reports").code, Some(0));
    assert_eq!(into("reports").code, Some(0));
    let full = into("reports");
    assert_eq!(full.code, Some(3), "{full:?}");
    assert!(full.stderr.contains("The queue is full"), "{full:?}");
    let unknown = into("other");
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(
        unknown.stderr.contains("There is no such queue"),
        "{unknown:?}"
    );
    let checked = run(folder.path(), &["check"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
}
