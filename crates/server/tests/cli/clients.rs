//! The client commands against a real server, in memory.

use crate::harness::{Server, folder, run};
use std::process::Stdio;

const CONFIG: &str = r#"
store = "memory:"

[tasks.echo]
exec = ["cat"]
result_content_type = "text/plain"

[tasks.json]
exec = ["cat"]
result_content_type = "application/json"

[tasks.broken]
exec = ["sh", "-c", "echo went wrong >&2; exit 65"]

[tasks.long]
exec = ["sleep", "300"]
kill_grace = "1s"
"#;

#[test]
fn a_job_goes_in_and_its_result_comes_out() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let done = server.client(&["submit", "echo", "--input", "a b", "--wait", "30s"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    for line in [
        "task      echo",
        "state     succeeded",
        "attempt   1 of 5",
        "text/plain, 3 bytes",
    ] {
        assert!(done.stdout.contains(line), "{line:?} in {done:?}");
    }
    let id = done
        .stdout
        .lines()
        .next()
        .unwrap()
        .strip_prefix("job ")
        .unwrap();
    let result = server.client(&["job", id, "--result"]);
    assert_eq!(
        (result.code, result.stdout.as_str()),
        (Some(0), "a b"),
        "{result:?}"
    );
    let shown = server.client(&["job", id, "--json"]);
    let job: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(job["id"], id);
    assert_eq!(job["input"]["content_type"], "text/plain; charset=utf-8");
}

#[test]
fn every_option_of_a_submit_arrives() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let id = server.submit(&[
        "json",
        "--input",
        "{}",
        "--content-type",
        "application/json",
        "--queue",
        "q",
        "--group",
        "Customer 7 & co",
        "--priority",
        "2",
        "--delay",
        "1h",
        "--max-attempts",
        "3",
        "--timeout",
        "45s",
        "--retain",
        "2h",
        "--tag",
        "a=x=1",
        "--tag",
        "b=",
    ]);
    let shown = server.client(&["job", &id, "--json"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let job: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    let expected = serde_json::json!({
        "task": "json", "queue": "q", "group": "Customer 7 & co", "priority": 2,
        "state": "scheduled", "max_attempts": 3, "timeout": "45s", "tags": {"a": "x=1", "b": ""},
    });
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(&job[member], value, "{member}");
    }
}

#[test]
fn the_same_again_makes_no_second_job() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let keyed = ["long", "--idempotency-key", "a \\ \"b\" ä"];
    let id = server.submit(&keyed);
    assert_eq!(server.submit(&keyed), id);
    let again = server.client(&[&["submit"], &keyed[..]].concat());
    assert_eq!(again.code, Some(0), "{again:?}");
    let said = "It was submitted before under this idempotency key.";
    assert!(again.stdout.contains(said), "{again:?}");
    let other = [&["submit"], &keyed[..], &["--input", "other"]].concat();
    let refused = server.client(&other);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("idempotency key"), "{refused:?}");

    let unique = ["long", "--unique-key", "Customer 7 & co"];
    let id = server.submit(&unique);
    assert_eq!(server.submit(&unique), id);
    let again = server.client(&[&["submit"], &unique[..]].concat());
    assert_eq!(again.code, Some(0), "{again:?}");
    let said = "It was there before: it has this unique key.";
    assert!(again.stdout.contains(said), "{again:?}");
}

#[test]
fn an_input_comes_from_a_file_or_standard_input() {
    let folder = folder(CONFIG);
    std::fs::write(folder.path().join("in.txt"), "from a file").unwrap();
    let server = Server::start(folder.path());
    let url = format!("http://{}", server.address);
    let submit = |input: &str, stdin: Stdio| {
        let arguments = [
            "submit", "echo", "--input", input, "--wait", "30s", "--json",
        ];
        let mut command = crate::harness::anteroom(folder.path(), &arguments);
        let output = command
            .args(["--server", &url])
            .stdin(stdin)
            .output()
            .unwrap();
        let job: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let id = job["id"].as_str().unwrap();
        server.client(&["job", id, "--result"]).stdout
    };
    assert_eq!(submit("@in.txt", Stdio::null()), "from a file");
    let file = std::fs::File::open(folder.path().join("in.txt")).unwrap();
    assert_eq!(submit("-", file.into()), "from a file");
}

#[test]
fn a_job_that_failed_is_exit_code_1() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let failed = server.client(&["submit", "broken", "--wait", "30s"]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stdout.contains("state     failed"), "{failed:?}");
    assert!(failed.stdout.contains("went wrong"), "{failed:?}");
    let id = failed
        .stdout
        .lines()
        .next()
        .unwrap()
        .strip_prefix("job ")
        .unwrap();
    assert_eq!(server.client(&["job", id]).code, Some(1));
    let result = server.client(&["job", id, "--result"]);
    assert_eq!(result.code, Some(1), "{result:?}");
    assert!(
        result.stderr.contains("has no result: it is failed"),
        "{result:?}"
    );
}

#[test]
fn a_wait_that_is_over_is_exit_code_4() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let waited = server.client(&["submit", "long", "--wait", "100ms"]);
    assert_eq!(waited.code, Some(4), "{waited:?}");
    assert!(waited.stderr.contains(" after 100ms"), "{waited:?}");
    let id = waited.stdout.lines().next().unwrap();
    let id = id.strip_prefix("job ").unwrap();
    let result = server.client(&["job", id, "--result"]);
    assert_eq!(result.code, Some(4), "{result:?}");
    assert_eq!(server.client(&["job", id]).code, Some(0), "it was shown");
}

#[test]
fn a_failed_job_runs_again() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let failed = server.client(&["submit", "broken", "--wait", "30s"]);
    let id = failed.stdout.lines().next().unwrap();
    let id = id.strip_prefix("job ").unwrap();
    let again = server.client(&["retry", id]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.stdout.contains("state     ready"), "{again:?}");
    let ended = server.client(&["job", id, "--wait", "30s", "--json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let job: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(job["errors"].as_array().unwrap().len(), 2);
    let done = server.client(&["submit", "echo", "--wait", "30s", "--json"]);
    let job: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let refused = server.client(&["retry", job["id"].as_str().unwrap()]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
}

#[test]
fn what_is_piped_has_no_line_of_progress() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let done = server.client(&["submit", "echo", "--input", "a", "--wait", "30s"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.stderr, "");
    assert!(!done.stdout.contains('\r'), "{done:?}");
}

#[test]
fn shells_can_complete_the_command_line() {
    let folder = folder("");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(folder.path(), &["completions", shell]);
        assert_eq!(script.code, Some(0), "{shell}: {script:?}");
        for word in ["submit", "idempotency-key", "succeeded"] {
            assert!(script.stdout.contains(word), "{word} for {shell}");
        }
    }
    let path = folder.path().join("completions");
    let script = run(folder.path(), &["completions", "bash"]).stdout;
    std::fs::write(&path, script).unwrap();
    let ask = "source completions; COMP_WORDS=(anteroom can); COMP_CWORD=1; \
               _anteroom anteroom can anteroom; echo \"${COMPREPLY[@]}\"";
    let bash = std::process::Command::new("bash")
        .args(["--norc", "-c", ask])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let completed = String::from_utf8_lossy(&bash.stdout);
    assert_eq!(completed.trim(), "cancel", "{bash:?}");
}

#[test]
fn a_running_job_is_cancelled() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let id = server.submit(&["long"]);
    server.wait_for_state(&id, "running");
    let told = server.client(&["cancel", &id]);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.stdout.contains("told to stop"), "{told:?}");
    let ended = server.client(&["job", &id, "--wait", "30s"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("state     cancelled"), "{ended:?}");
    let again = server.client(&["cancel", &id]);
    assert_eq!(again.code, Some(0), "{again:?}");
}

#[test]
fn what_the_server_refuses_is_told() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let cases: &[(&[&str], &str)] = &[
        (&["submit", "nobody"], "nobody"),
        (&["job", "019abc00-0000-7000-8000-000000000000"], "019abc00"),
        (
            &[
                "submit",
                "json",
                "--input",
                "{",
                "--content-type",
                "application/json",
            ],
            "JSON",
        ),
        (&["submit", "echo", "--run-at", "tomorrow"], "run_at"),
    ];
    for (arguments, part) in cases {
        let refused = server.client(arguments);
        assert_eq!(refused.code, Some(2), "{arguments:?}: {refused:?}");
        assert!(
            refused.stderr.starts_with("error: "),
            "{arguments:?}: {refused:?}"
        );
        assert!(refused.stderr.contains(part), "{part} in {refused:?}");
    }
}

#[test]
fn a_server_that_is_not_there_is_told() {
    let folder = folder("");
    let id = "019abc00-0000-7000-8000-000000000000";
    // Port 1 is nobody's.
    for command in [
        &["submit", "echo", "--wait", "1h"][..],
        &["job", id, "--wait", "1h"],
        &["jobs"],
        &["cancel", id],
        &["retry", id],
    ] {
        let arguments = [command, &["--server", "http://127.0.0.1:1"]].concat();
        let refused = run(folder.path(), &arguments);
        assert_eq!(refused.code, Some(3), "{refused:?}");
        let expected = "error: cannot reach http://127.0.0.1:1: Connection refused";
        assert!(refused.stderr.starts_with(expected), "{refused:?}");
    }
}
