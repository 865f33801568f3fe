//! `anteroom jobs` against a real server.

use crate::harness::{Server, folder};
use serde_json::Value;

const CONFIG: &str = r#"
store = "memory:"

[tasks.echo]
exec = ["cat"]

[tasks.left]
pull = true
"#;

fn rows(table: &str) -> Vec<Vec<&str>> {
    let lines = table.lines().skip(1);
    lines
        .map(|line| line.split_whitespace().collect())
        .collect()
}

#[test]
fn jobs_are_listed_by_every_filter() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let plain = server.submit(&["left"]);
    let other = server.submit(&["left", "--queue", "q", "--group", "g 1", "--tag", "k=v w"]);
    let later = server.submit(&["left", "--delay", "1h", "--tag", "k=v w", "--tag", "l=2"]);
    let done = server.client(&["submit", "echo", "--wait", "30s", "--json"]);
    let done: Value = serde_json::from_str(&done.stdout).unwrap();
    let (done, created_at) = (
        done["id"].as_str().unwrap(),
        done["created_at"].as_str().unwrap(),
    );
    let (plain, other, later) = (&*plain, &*other, &*later);
    let cases: &[(&[&str], &[&str])] = &[
        (&[], &[done, later, other, plain]),
        (&["--task", "echo"], &[done]),
        (&["--queue", "q"], &[other]),
        (&["--group", "g 1"], &[other]),
        (&["--tag", "k=v w"], &[later, other]),
        (&["--tag", "k=v w", "--tag", "l=2"], &[later]),
        (&["--state", "scheduled,succeeded"], &[done, later]),
        (
            &["--state", "scheduled", "--state", "ready"],
            &[later, other, plain],
        ),
        (&["--created-after", "2999-01-01T00:00:00Z"], &[]),
        (&["--created-after", created_at, "--task", "echo"], &[]),
        (&["--created-before", created_at, "--task", "echo"], &[]),
        (&["--limit", "2"], &[done, later]),
        (&["--page-size", "3"], &[done, later, other]),
        (&["--limit", "3", "--page-size", "2"], &[done, later, other]),
    ];
    for (arguments, expected) in cases {
        let arguments = [&["jobs"], *arguments].concat();
        let listed = server.client(&arguments);
        assert_eq!(listed.code, Some(0), "{arguments:?}: {listed:?}");
        let ids: Vec<&str> = rows(&listed.stdout).iter().map(|row| row[0]).collect();
        assert_eq!(ids, *expected, "{arguments:?}");
    }
    let listed = server.client(&["jobs", "--queue", "q"]);
    let mut lines = listed.stdout.lines();
    let header = "ID                                    STATE  TASK  QUEUE  ATTEMPT  CREATED";
    assert!(lines.next().unwrap().starts_with(header), "{listed:?}");
    let row = lines.next().unwrap();
    assert!(
        row.starts_with(&format!("{other}  ready  left  q      0/5      20")),
        "{row}"
    );
    assert!(row.ends_with("Z  group=g 1 k=v w"), "{row}");
}

#[test]
fn a_list_goes_on_where_it_ended() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let ids: Vec<String> = (0..5).map(|_| server.submit(&["left"])).collect();
    let first = server.client(&["jobs", "--limit", "3"]);
    assert_eq!(rows(&first.stdout).len(), 3, "{first:?}");
    let token = first
        .stderr
        .split_whitespace()
        .find(|word| word.len() == 20);
    let token = token.unwrap_or_else(|| panic!("no token in {first:?}"));
    let rest = server.client(&["jobs", "--page-token", token]);
    let shown: Vec<&str> = rows(&rest.stdout).iter().map(|row| row[0]).collect();
    assert_eq!(shown, [&ids[1], &ids[0]]);
    assert_eq!(rest.stderr, "", "there are no more");
    let wrong = server.client(&["jobs", "--page-token", "nonsense"]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.stderr.contains("page_token"), "{wrong:?}");
}

#[test]
fn json_is_the_servers_own_and_one_document() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    for _ in 0..5 {
        server.submit(&["left", "--delay", "1h"]);
    }
    let raw = server.get("/v1/jobs?page_size=50", "");
    let (_, raw) = raw.split_once("\r\n\r\n").unwrap();
    let listed = server.client(&["jobs", "--json"]);
    assert_eq!(listed.stdout.trim_end(), raw);
    let whole: Value = serde_json::from_str(raw).unwrap();
    let paged = server.client(&["jobs", "--json", "--limit", "5", "--page-size", "2"]);
    let paged: Value = serde_json::from_str(&paged.stdout).unwrap();
    assert_eq!(paged, whole);
    let part = server.client(&["jobs", "--json", "--limit", "3", "--page-size", "2"]);
    let part: Value = serde_json::from_str(&part.stdout).unwrap();
    assert_eq!(
        part["jobs"].as_array().unwrap()[..],
        whole["jobs"].as_array().unwrap()[..3]
    );
    assert!(part["next_page_token"].is_string());
}
