//! The configuration as the operator meets it. Its rules are tested beside the code.

use crate::harness::{folder, run};

#[test]
fn a_mistake_stops_the_start_with_file_line_and_column() {
    let cases = [
        (
            "listen = \"127.0.0.1:0\"\n[tasks.a]\nexec = [\"wc\"]\ntimeout = \"10ms\"\n",
            "anteroom.toml:4:11: timeout is 10ms; the least is 100ms\n",
        ),
        (
            "lisen = \"x\"\n",
            "anteroom.toml:1:1: unknown key \"lisen\"; expected one of listen, store, insecure, \
             shutdown_grace, max_input, max_result, max_buffered, max_bulk, retain, allowed_origins, \
             strict_queues, tokens, webhooks, callbacks, queues, tasks, schedules\n",
        ),
        (
            "store = 3\n\n[tasks.a]\npull = 3\n",
            "anteroom.toml:1:9: store is an integer; expected a string\n\
             anteroom.toml:4:8: pull is an integer; expected true or false\n",
        ),
        (
            "retain = \"24h\n",
            "anteroom.toml:1:14: invalid basic string, expected `\"`\n",
        ),
    ];
    for (config, expected) in cases {
        let folder = folder(config);
        for command in ["check", "serve"] {
            let finished = run(folder.path(), &[command]);
            assert_eq!(finished.code, Some(2), "{command} {config}: {finished:?}");
            assert_eq!(finished.stderr, expected, "{command} {config}");
            assert_eq!(finished.stdout, "", "{command} {config}");
        }
    }
}

#[test]
fn check_tells_what_it_found_in_a_line() {
    let folder = folder("store = \"memory:\"\n[tasks.count]\nexec = [\"wc\", \"-w\"]\n");
    let finished = run(folder.path(), &["check"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(
        finished.stdout,
        "anteroom.toml: well; 1 task (count), store memory:, listening on 127.0.0.1:8080\n"
    );
}

#[test]
fn the_configuration_of_the_repository_is_well() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let finished = run(root.as_ref(), &["check"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let tasks = "6 tasks (checksum, compress, nap, shout, steps, wordcount)";
    assert!(finished.stdout.contains(tasks), "{finished:?}");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let folder = folder("");
    let cases: &[&[&str]] = &[
        &["nonsense"],
        &["serve", "--listen", "8080"],
        &["serve", "--listen", "0.0.0.0:0"],
        &["serve", "--store", "redis://h"],
        &["check", "--config", "nowhere.toml"],
        &["submit", "No Name"],
        &["job", "7"],
        &[
            "job",
            "019abc00-0000-7000-8000-000000000000",
            "--server",
            "https://a",
        ],
    ];
    for case in cases {
        let finished = run(folder.path(), case);
        assert_eq!(finished.code, Some(2), "{case:?}: {finished:?}");
        assert!(!finished.stderr.is_empty(), "{case:?}");
    }
}

/// It needs no configuration, not even one that is well.
#[test]
fn the_openapi_document_is_printed() {
    let folder = folder("nonsense");
    let printed = run(folder.path(), &["openapi"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let copy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    assert!(printed.stdout == std::fs::read_to_string(copy).unwrap());
}
