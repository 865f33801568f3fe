//! Stores that are verified, copied, exported and imported, by the command line.

use crate::harness::{Finished, PATIENCE, Server, anteroom, folder, post_to, run};
use anteroom_pgtest::Cluster;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use tempfile::TempDir;

const CONFIG: &str = r#"
[tasks.echo]
exec = ["cat"]
[tasks.broken]
exec = ["false"]
max_attempts = 1
[tasks.pulled]
pull = true
"#;

/// Jobs that are too many for one batch of an import.
const MANY: usize = 3_000;

fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{finished:?}"))
}

/// Runs `anteroom store`, which has to do well, and returns what it printed.
fn store(folder: &Path, arguments: &[&str]) -> Value {
    let finished = run(folder, &[&["store"], arguments, &["--json"]].concat());
    assert_eq!(finished.code, Some(0), "{finished:?}");
    json(&finished)
}

/// Runs `anteroom store`, which has to fail, and returns its one line of error.
fn refused(folder: &Path, code: i32, arguments: &[&str]) -> String {
    let finished = run(folder, &[&["store"], arguments].concat());
    assert_eq!(finished.code, Some(code), "{finished:?}");
    assert_eq!(finished.stdout, "", "{finished:?}");
    let lines: Vec<&str> = finished.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{finished:?}");
    assert!(lines[0].starts_with("error: "), "{finished:?}");
    lines[0].to_owned()
}

fn body(answer: &str) -> Value {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 20"), "{answer}");
    serde_json::from_str(body).unwrap()
}

/// Stops a server, so that its store can be opened by others.
fn stop(server: Server) {
    server.signal(Signal::SIGTERM);
    let (status, lines) = server.wait();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
}

/// Submits many jobs that wait for a worker.
fn submit_many(server: &Server, count: usize) {
    let input = "x".repeat(200);
    let job = serde_json::json!({"task": "pulled", "input": input});
    let jobs = vec![job; count];
    let answer = server.post("/v1/jobs", &serde_json::to_string(&jobs).unwrap());
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer:.200}");
}

/// A store with many jobs, and its export.
fn exported() -> (TempDir, Value) {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    submit_many(&server, MANY);
    stop(server);
    let exported = store(folder.path(), &["export", "--output", "all.ndjson"]);
    (folder, exported)
}

#[test]
fn a_moved_store_goes_on_as_if_it_were_the_same() {
    goes_on("sqlite:old.db", "sqlite:new.db");
}

#[test]
fn a_store_that_is_moved_to_postgresql_goes_on() {
    let cluster = Cluster::start(&[]).unwrap();
    goes_on("sqlite:old.db", &cluster.database().url());
}

#[test]
fn a_store_that_is_moved_from_postgresql_goes_on() {
    let cluster = Cluster::start(&[]).unwrap();
    goes_on(&cluster.database().url(), "sqlite:new.db");
}

/// All that a store holds is the same in the one that it is moved to, for its commands and for its
/// clients: jobs, results, keys, queues, and leases that are held meanwhile.
fn goes_on(from: &str, to: &str) {
    let folder = folder(CONFIG);
    let server = Server::start_with(folder.path(), &[("ANTEROOM_STORE", from)]);
    let submit = |task: &str, more: &[&str]| {
        server.submit(&[&[task, "--input", "odd \u{e4}\n"], more].concat())
    };
    let succeeded = submit("echo", &["--tag", "a=b", "--idempotency-key", "key"]);
    let failed = submit("broken", &[]);
    let scheduled = submit("pulled", &["--delay", "1h", "--unique-key", "unique"]);
    let cancelled = submit("pulled", &["--delay", "1h"]);
    assert_eq!(server.client(&["cancel", &cancelled]).code, Some(0));
    server.wait_for_state(&succeeded, "succeeded");
    server.wait_for_state(&failed, "failed");
    let held = submit("pulled", &[]);
    let leases = body(&server.post("/v1/leases", r#"{"lease": "1h"}"#));
    let lease = leases["leases"][0]["lease"].as_str().unwrap().to_owned();
    assert_eq!(leases["leases"][0]["job"]["id"], held);
    assert_eq!(server.client(&["pause", "default"]).code, Some(0));
    let ids = [&succeeded, &failed, &scheduled, &cancelled];
    let read = |server: &Server, id: &str| body(&server.get(&format!("/v1/jobs/{id}"), ""));
    let before = ids.map(|id| read(&server, id));
    stop(server);

    let old = ["--store", from];
    let verified = store(folder.path(), &[&["verify"], &old[..]].concat());
    assert_eq!(verified["counts"]["job"], 5, "{verified}");
    assert_eq!(verified["states"]["running"], 1, "{verified}");
    let export = [&["store", "export", "--json"], &old[..]].concat();
    let exported = run(folder.path(), &export);
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    std::fs::write(folder.path().join("all.ndjson"), &exported.stdout).unwrap();
    let said: Value = serde_json::from_str(&exported.stderr).unwrap();
    let new = ["--store", to];
    let import = [&["import", "--input", "all.ndjson"], &new[..]].concat();
    let imported = store(folder.path(), &import);
    let of_new = store(folder.path(), &[&["verify"], &new[..]].concat());
    for view in [&said, &imported, &of_new] {
        for member in ["digest", "counts", "states"] {
            assert_eq!(view[member], verified[member], "{view}");
        }
    }
    // Once more does nothing.
    assert_eq!(store(folder.path(), &import)["written"], 0);

    let server = Server::start_with(folder.path(), &[("ANTEROOM_STORE", to)]);
    assert_eq!(ids.map(|id| read(&server, id)), before);
    let result = server.client(&["job", &succeeded, "--result"]);
    assert_eq!(result.stdout, "odd \u{e4}\n");
    let again = ["echo", "--input", "odd \u{e4}\n", "--tag", "a=b"];
    let again = server.submit(&[&again[..], &["--idempotency-key", "key"]].concat());
    assert_eq!(again, succeeded);
    let duplicate = server.submit(&["pulled", "--unique-key", "unique"]);
    assert_eq!(duplicate, scheduled);
    let queues = body(&server.get("/v1/queues/default", ""));
    assert_eq!(queues["paused"], true, "{queues}");
    let settled = body(&server.post(&format!("/v1/leases/{lease}/complete"), "{}"));
    assert_eq!(
        (&settled["id"], &settled["state"]),
        (&held.into(), &"succeeded".into())
    );
    stop(server);
    store(folder.path(), &[&["verify"], &new[..]].concat());
}

/// An import that is killed goes on where it was. Until it is complete nobody else opens the store.
#[test]
fn an_import_that_is_killed_goes_on() {
    let (folder, exported) = exported();
    let file = std::fs::read(folder.path().join("all.ndjson")).unwrap();
    let new = ["--store", "sqlite:new.db"];
    let mut child = anteroom(folder.path(), &[&["store", "import"], &new[..]].concat())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // What a pipe does not hold was read, and all but the last batch of that was written.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&file[..file.len() * 3 / 4]).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();

    let half = run(folder.path(), &[&["store", "verify"], &new[..]].concat());
    assert_eq!(half.code, Some(1), "{half:?}");
    let begun = "an import into the store was begun and not completed";
    assert!(
        half.stderr.contains(&format!("damage: {begun}")),
        "{half:?}"
    );
    let refusal = refused(folder.path(), 1, &[&["export"], &new[..]].concat());
    assert!(refusal.contains(begun), "{refusal}");
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--store",
        "sqlite:new.db",
    ];
    let served = run(folder.path(), &serve);
    assert_eq!(served.code, Some(1), "{served:?}");
    assert!(
        served.stderr.contains("is in the middle of an import"),
        "{served:?}"
    );

    // Another export of the same is another file.
    store(folder.path(), &["export", "--output", "other.ndjson"]);
    let other = [&["import", "--input", "other.ndjson"], &new[..]].concat();
    let refusal = refused(folder.path(), 1, &other);
    assert!(
        refusal.contains("the import of another export"),
        "{refusal}"
    );
    let import = [&["import", "--input", "all.ndjson"], &new[..]].concat();
    let imported = store(folder.path(), &import);
    assert!(imported["there"].as_u64() > Some(500), "{imported}");
    assert!(imported["written"].as_u64() > Some(500), "{imported}");
    assert_eq!(imported["digest"], exported["digest"]);
    let verified = store(folder.path(), &[&["verify"], &new[..]].concat());
    assert_eq!(verified["digest"], exported["digest"]);
}

/// What is wrong with a file is said in a sentence, and changes nothing.
#[test]
fn a_file_that_is_not_what_was_exported_is_refused() {
    let (folder, _) = exported();
    let at = |name: &str| folder.path().join(name);
    let file = std::fs::read_to_string(at("all.ndjson")).unwrap();
    let lines = file.lines().count();
    let cases = [
        (file[..file.len() / 2].to_owned(), "it is cut short"),
        (file.replacen("\"pulled\"", "\"echo\"", 1), "it was altered"),
        (
            file.replacen("\"version\":1,\"export\"", "\"version\":9,\"export\"", 1),
            "line 1: it has version 9 of the format",
        ),
        (
            file.replacen("{\"job\":{", "{\"job\":{\"colour\":1,", 1),
            "unknown field `colour`",
        ),
        (
            file.split_inclusive('\n').take(lines - 1).collect(),
            "it is cut short",
        ),
        (
            format!("{file}{{}}\n"),
            "something comes after its last line",
        ),
        ("hello\n".to_owned(), "line 1: it is no export of a store"),
    ];
    let import = [
        "import",
        "--input",
        "bad.ndjson",
        "--store",
        "sqlite:new.db",
    ];
    for (bad, expected) in cases {
        std::fs::write(at("bad.ndjson"), bad).unwrap();
        let refusal = refused(folder.path(), 1, &import);
        assert!(refusal.starts_with("error: bad.ndjson: "), "{refusal}");
        assert!(refusal.contains(expected), "{refusal}");
        assert!(refusal.ends_with("nothing was changed"), "{refusal}");
        assert!(!at("new.db").exists(), "{refusal}");
    }
    std::fs::remove_file(at("bad.ndjson")).unwrap();
    let refusal = refused(folder.path(), 1, &import);
    assert!(
        refusal.starts_with("error: cannot read bad.ndjson: "),
        "{refusal}"
    );
    // A pipe is read once, so that what was read before its end was written.
    let mut child = anteroom(
        folder.path(),
        &["store", "import", "--store", "sqlite:new.db"],
    )
    .stdin(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&file.as_bytes()[..file.len() - 9]).unwrap();
    drop(stdin);
    let finished = Finished::new(&child.wait_with_output().unwrap());
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let expected = "error: standard input: it is cut short";
    assert!(finished.stderr.starts_with(expected), "{finished:?}");
    assert!(
        finished.stderr.contains("the import was begun"),
        "{finished:?}"
    );
}

/// A store that a server has open is for its server alone, but for copies of it.
#[test]
fn a_store_that_a_server_has_open_can_be_copied_only() {
    let (folder, exported) = exported();
    let server = Server::start(folder.path());
    for command in [
        &["verify"][..],
        &["export"],
        &["import", "--input", "all.ndjson"],
    ] {
        let refusal = refused(folder.path(), 1, command);
        assert!(
            refusal.contains("is in use by another process"),
            "{refusal}"
        );
    }
    let copied = store(folder.path(), &["backup", "copy.db"]);
    assert_eq!(copied["copy"], "sqlite:copy.db", "{copied}");
    let bytes = std::fs::metadata(folder.path().join("copy.db"))
        .unwrap()
        .len();
    assert_eq!(copied["bytes"], bytes, "{copied}");
    let of_copy = store(folder.path(), &["verify", "--store", "sqlite:copy.db"]);
    assert_eq!(of_copy["counts"]["job"], exported["counts"]["job"]);
    stop(server);
    // Nothing is left beside it that was not there before.
    let copied = store(folder.path(), &["backup", "quiet.db"]);
    assert_eq!(copied["copy"], "sqlite:quiet.db", "{copied}");
    let of_copy = store(folder.path(), &["verify", "--store", "sqlite:quiet.db"]);
    let verified = store(folder.path(), &["verify"]);
    assert_eq!(of_copy["digest"], verified["digest"]);
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.contains("-new"), "{name}");
    }
}

/// No file that is there is written over, and none is made where there is nothing to read.
#[test]
fn what_is_there_stays_and_what_is_not_is_not_made() {
    let (folder, _) = exported();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("there"), "mine").unwrap();
    for command in [&["backup", "there"][..], &["export", "--output", "there"]] {
        let refusal = refused(folder.path(), 1, command);
        assert!(refusal.contains("there is there already"), "{refusal}");
        assert_eq!(std::fs::read(at("there")).unwrap(), b"mine");
    }
    let missing = ["--store", "sqlite:missing.db"];
    for command in [
        &["verify"][..],
        &["export", "--output", "out"],
        &["backup", "out"],
    ] {
        let refusal = refused(folder.path(), 1, &[command, &missing[..]].concat());
        assert!(
            refusal.contains("missing.db; name the database"),
            "{refusal}"
        );
        for name in ["missing.db", "missing.db-lock", "out"] {
            assert!(!at(name).exists(), "{name}: {refusal}");
        }
        let refusal = refused(
            folder.path(),
            2,
            &[command, &["--store", "memory:"]].concat(),
        );
        assert!(refusal.contains("is gone with its server"), "{refusal}");
    }
    let nowhere = refused(folder.path(), 1, &["backup", "no/such/copy.db"]);
    assert!(nowhere.contains("there is no folder no/such"), "{nowhere}");
    let foreign = refused(folder.path(), 1, &["verify", "--store", "sqlite:there"]);
    assert!(foreign.contains("is no SQLite database"), "{foreign}");
    for usage in [&["store"][..], &["store", "backup"], &["store", "move"]] {
        assert_eq!(run(folder.path(), usage).code, Some(2), "{usage:?}");
    }
}

/// A store that holds something is not mixed with what a file has.
#[test]
fn a_store_that_holds_something_else_is_not_imported_into() {
    let (folder, exported) = exported();
    let other = self::folder(CONFIG);
    let server = Server::start(other.path());
    let id = server.submit(&["pulled"]);
    stop(server);
    let before = store(other.path(), &["verify"]);
    let file = folder.path().join("all.ndjson");
    let import = ["import", "--input", file.to_str().unwrap()];
    let refusal = refused(other.path(), 1, &import);
    assert!(refusal.ends_with("import into a new store"), "{refusal}");
    assert_eq!(store(other.path(), &["verify"])["digest"], before["digest"]);

    // The store that was exported has gone on meanwhile: one of its jobs differs.
    let server = Server::start(folder.path());
    let listed = body(&server.get("/v1/jobs?page_size=1", ""));
    let changed = listed["jobs"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(server.client(&["cancel", &changed]).code, Some(0));
    stop(server);
    let refusal = refused(folder.path(), 1, &import);
    let expected = format!(
        "job {changed} of line {}",
        2 + exported["counts"]["document"].as_u64().unwrap() + MANY as u64 - 1
    );
    assert!(refusal.contains(&expected), "{refusal}: {expected}");
    assert!(
        refusal.contains("is in the store already, and differs"),
        "{refusal}"
    );
    assert_ne!(id, changed);
}

/// Damage is named, and told by the exit code.
#[test]
fn a_damaged_store_is_told_from_one_that_is_well() {
    let (folder, _) = exported();
    let path = folder.path().join("anteroom.db");
    let mut database = std::fs::read(&path).unwrap();
    let pages = database.len() / 4_096;
    database[pages / 2 * 4_096..][..4_096].fill(0);
    std::fs::write(&path, database).unwrap();
    let verified = run(folder.path(), &["store", "verify"]);
    assert_eq!(verified.code, Some(1), "{verified:?}");
    assert!(verified.stderr.contains("error: "), "{verified:?}");
    let export = ["store", "export", "--output", "damaged.ndjson"];
    let exported = run(folder.path(), &export);
    assert_eq!(exported.code, Some(1), "{exported:?}");
    assert!(!folder.path().join("damaged.ndjson").exists());
}

/// A copy that is made while clients submit has all that was acknowledged before it was begun.
#[test]
fn a_backup_under_load_has_all_that_was_acknowledged() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let acknowledged = Mutex::new(Vec::new());
    let address = server.address.clone();
    let stopped = AtomicBool::new(false);
    let (tell, told) = channel();
    let known = std::thread::scope(|scope| {
        let load = || {
            while !stopped.load(Ordering::Relaxed) {
                let job = body(&post_to(&address, "/v1/tasks/pulled/jobs", "{}"));
                let id = job["id"].as_str().unwrap().to_owned();
                let mut all = acknowledged.lock().unwrap();
                all.push(id);
                if all.len() % 50 == 0 {
                    tell.send(all.len()).unwrap();
                }
            }
        };
        for _ in 0..4 {
            scope.spawn(load);
        }
        told.recv_timeout(PATIENCE).unwrap();
        let known = acknowledged.lock().unwrap().clone();
        let copied = run(folder.path(), &["store", "backup", "copy.db"]);
        // More of them after it was made.
        while told.try_recv().is_ok() {}
        told.recv_timeout(PATIENCE).unwrap();
        stopped.store(true, Ordering::Relaxed);
        assert_eq!(copied.code, Some(0), "{copied:?}");
        known
    });
    stop(server);
    let verified = store(folder.path(), &["verify", "--store", "sqlite:copy.db"]);
    let jobs = verified["counts"]["job"].as_u64().unwrap();
    assert!(jobs >= known.len() as u64, "{verified}");
    assert!(
        jobs < acknowledged.lock().unwrap().len() as u64,
        "{verified}"
    );
    let server = Server::start_with(folder.path(), &[("ANTEROOM_STORE", "sqlite:copy.db")]);
    for id in known {
        let answer = server.get(&format!("/v1/jobs/{id}"), "");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

/// What is exported can go through a pipe, and its digests are what others make of its lines.
#[test]
fn an_export_goes_through_a_pipe_and_can_be_summed_up_by_others() {
    let (folder, exported) = exported();
    let binary = env!("CARGO_BIN_EXE_anteroom");
    let shell = |script: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-ec", script]).env("ANTEROOM", binary);
        let output = shell.current_dir(folder.path()).output().unwrap();
        let finished = Finished::new(&output);
        assert_eq!(finished.code, Some(0), "{script}: {finished:?}");
        finished.stdout
    };
    let imported =
        shell("$ANTEROOM store export | $ANTEROOM store import --json --store sqlite:new.db");
    let imported: Value = serde_json::from_str(&imported).unwrap();
    assert_eq!(imported["digest"], exported["digest"]);
    let file = std::fs::read_to_string(folder.path().join("all.ndjson")).unwrap();
    let tail: Value = serde_json::from_str(file.lines().last().unwrap()).unwrap();
    for (lines, sum) in [
        ("head -n -1 all.ndjson", &tail["end"]["sha256"]),
        ("head -n -1 all.ndjson | tail -n +2", &exported["digest"]),
    ] {
        let summed = shell(&format!("{lines} | sha256sum"));
        assert_eq!(summed.split(' ').next(), sum.as_str(), "{lines}");
    }
}
