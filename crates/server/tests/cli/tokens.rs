//! Tokens as the operator and the clients meet them.

use crate::harness::{Server, anteroom, folder, run};
use nix::sys::signal::Signal;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write;

const CONFIG: &str = r#"
store = "memory:"
[tasks.echo]
exec = ["cat"]
"#;

/// Makes a token and returns what was printed of it.
fn made(arguments: &[&str]) -> Value {
    let folder = folder("");
    let arguments = [&["token", "--json"], arguments].concat();
    let finished = run(folder.path(), &arguments);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap()
}

#[test]
fn a_token_is_made_with_what_the_server_needs_to_know() {
    let (one, other) = (made(&[]), made(&[]));
    assert_ne!(one["token"], other["token"]);
    let token = one["token"].as_str().unwrap();
    assert!(token.starts_with("ar_"), "{token}");
    assert_eq!(token.len(), 3 + 43, "32 bytes: {token}");
    let digest = Sha256::digest(token);
    let mut hex = String::new();
    for byte in &digest {
        write!(hex, "{byte:02x}").unwrap();
    }
    assert_eq!(one["sha256"], hex);
    assert_eq!(one["scopes"], serde_json::json!(["submit", "read"]));
    let arguments = ["ci", "--scope", "work,admin", "--task", "a", "--task", "b"];
    let toml = made(&arguments)["toml"].as_str().unwrap().to_owned();
    assert!(
        toml.starts_with("[[tokens]]\nname = \"ci\"\nsha256 = \""),
        "{toml}"
    );
    assert!(
        toml.ends_with("scopes = [\"work\",\"admin\"]\ntasks = [\"a\",\"b\"]\n"),
        "{toml}"
    );
}

#[test]
fn what_is_printed_after_the_token_is_for_the_configuration() {
    let folder = folder(CONFIG);
    let finished = run(folder.path(), &["token", "web", "--task", "echo"]);
    let (token, rest) = finished.stdout.split_once('\n').unwrap();
    assert!(token.starts_with("ar_"), "{finished:?}");
    std::fs::write(
        folder.path().join("anteroom.toml"),
        format!("{CONFIG}{rest}"),
    )
    .unwrap();
    let checked = run(folder.path(), &["check"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert_eq!(checked.stderr, "", "{checked:?}");
    assert!(!rest.contains(token), "{rest}");
    for wrong in [&["token", "No Name"][..], &["token", "--scope", "write"]] {
        assert_eq!(run(folder.path(), wrong).code, Some(2), "{wrong:?}");
    }
}

#[test]
fn clients_send_their_token_and_nobody_shows_it() {
    let made = made(&["web"]);
    let (token, toml) = (
        made["token"].as_str().unwrap(),
        made["toml"].as_str().unwrap(),
    );
    let folder = folder(&format!("{CONFIG}{toml}"));
    let variables = [("ANTEROOM_LOG", "trace"), ("ANTEROOM_LOG_FORMAT", "json")];
    let server = Server::start_with(folder.path(), &variables);
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let file = file.to_str().unwrap();
    let submit = ["submit", "echo", "--input", "x", "--wait", "30s"];

    let refused = server.client(&submit);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("A token is needed"), "{refused:?}");
    let wrong = server.client_with(&submit, &[("ANTEROOM_TOKEN", "ar_wrong")]);
    assert!(wrong.stderr.contains("A token is needed"), "{wrong:?}");
    let from_variable = server.client_with(&submit, &[("ANTEROOM_TOKEN", token)]);
    assert_eq!(from_variable.code, Some(0), "{from_variable:?}");
    // The file wins over the variable.
    let from_file = [&submit[..], &["--json", "--token-file", file]].concat();
    let done = server.client_with(&from_file, &[("ANTEROOM_TOKEN", "ar_wrong")]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let job: Value = serde_json::from_str(&done.stdout).unwrap();
    let id = job["id"].as_str().unwrap();
    let shown = server.client(&["job", id, "--result", "--token-file", file]);
    assert_eq!(shown.stdout, "x", "{shown:?}");
    let cancelled = server.client(&["cancel", id, "--token-file", file]);
    assert_eq!(cancelled.code, Some(0), "{cancelled:?}");

    let answer = server.get("/v1/jobs", &format!("authorization: Bearer {token}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = server.get(&format!("/v1/jobs?access_token={token}"), "");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    server.signal(Signal::SIGTERM);
    let (status, lines) = server.wait();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.contains("answered 401")),
        "{lines:#?}"
    );
    let secrets = [token, "ar_wrong", made["sha256"].as_str().unwrap()];
    let outputs = [&refused, &wrong, &from_variable, &done, &shown, &cancelled];
    let printed = outputs.iter().flat_map(|it| [&it.stdout, &it.stderr]);
    for text in printed.chain(&lines) {
        assert!(
            !secrets.iter().any(|secret| text.contains(secret)),
            "{text}"
        );
    }
}

#[test]
fn what_holds_no_token_is_told_without_being_shown() {
    let folder = folder("");
    let id = "019abc00-0000-7000-8000-000000000000";
    for (content, code) in [("", 2), ("se cret", 2), ("secr\u{e9}t", 2), ("sec\nret", 2)] {
        std::fs::write(folder.path().join("token"), content).unwrap();
        let finished = run(folder.path(), &["job", id, "--token-file", "token"]);
        assert_eq!(finished.code, Some(code), "{content}: {finished:?}");
        assert!(
            finished.stderr.contains("token holds no token"),
            "{finished:?}"
        );
        assert!(!finished.stderr.contains("sec"), "{finished:?}");
    }
    let missing = run(folder.path(), &["job", id, "--token-file", "nowhere"]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(
        missing.stderr.contains("cannot read nowhere: "),
        "{missing:?}"
    );
    // Arguments are for all users of a machine to see.
    let argument = run(folder.path(), &["job", id, "--token", "x"]);
    assert_eq!(argument.code, Some(2), "{argument:?}");
}

#[test]
fn only_with_tokens_or_on_purpose_does_a_server_listen_to_strangers() {
    let toml = made(&["web"])["toml"].as_str().unwrap().to_owned();
    let everywhere = ["serve", "--listen", "0.0.0.0:0"];
    let open = folder(CONFIG);
    let refused = run(open.path(), &everywhere);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    for way_out in [
        "[[tokens]]",
        "anteroom token",
        "insecure = true",
        "--insecure",
    ] {
        assert!(refused.stderr.contains(way_out), "{refused:?}");
    }
    let with_tokens = folder(&format!("{CONFIG}{toml}"));
    let mut server = Server::spawn(anteroom(with_tokens.path(), &everywhere));
    server.listens();
    assert!(server.address.starts_with("0.0.0.0:"), "{}", server.address);
    assert!(server.get("/v1/jobs", "").starts_with("HTTP/1.1 401 "));
    let arguments = [&everywhere[..], &["--insecure"]].concat();
    let mut server = Server::spawn(anteroom(open.path(), &arguments));
    let warning = server.wait_for_line("anybody who reaches");
    assert!(warning.contains("WARN"), "{warning}");
    server.listens();
    assert!(server.get("/v1/jobs", "").starts_with("HTTP/1.1 200 "));
}
