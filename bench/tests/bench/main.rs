//! The program as it is used: a tiny run of each command ends and gives plausible numbers.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::process::{Command, Output};

/// Runs a command on a fraction of what it does by itself: long enough for an answer to come, on a
/// machine whose disk has other things to do.
fn run(arguments: &[&str]) -> Output {
    for seconds in ["--seconds=0.3", "--seconds=3"] {
        let output = run_for(seconds, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        if !said.contains("not one request was answered") {
            return output;
        }
    }
    run_for("--seconds=20", arguments)
}

fn run_for(seconds: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let tiny = [
        seconds,
        "--warm-up=0.1",
        "--connections=8",
        "--jobs=2000",
        "--requests=20",
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_anteroom-bench"))
        .args(arguments)
        .args(tiny)
        .arg("--dir")
        .arg(folder.path())
        .output()
        .unwrap();
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    output
}

/// Runs a command that succeeds, and returns the rows of its tables, each a list of cells.
fn rows(arguments: &[&str]) -> Vec<Vec<String>> {
    let output = run(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {said}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(" cores ("), "{text}");
    let lines = text.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = lines.map(|line| line.trim_end_matches(" |").split(" | "));
    cells.map(|row| row.map(str::to_owned).collect()).collect()
}

/// Returns the number that a cell of the row named so begins with.
fn number(rows: &[Vec<String>], name: &str, column: usize) -> f64 {
    let row = rows.iter().find(|row| row[0] == name);
    let row = row.unwrap_or_else(|| panic!("no row {name:?} in {rows:#?}"));
    let first = row[column].split(' ').next().unwrap();
    let parsed = first.parse();
    parsed.unwrap_or_else(|_| panic!("{name:?}, column {column}: {:?}", row[column]))
}

/// Whatever the machine is: an answer takes between a microsecond and the whole run.
fn assert_plausible(rows: &[Vec<String>], name: &str) {
    let rate = number(rows, name, 1);
    assert!((1.0..1_000_000.0).contains(&rate), "{name}: {rate} jobs/s");
    let [p50, p99, max] = [2, 3, 4].map(|column| number(rows, name, column));
    assert!(0.0 < p50 && p50 <= p99, "{name}: {p50}, {p99} ms");
    assert!(
        p99 <= max + 0.1 && max < 30_000.0,
        "{name}: {p99}, {max} ms"
    );
}

#[test]
fn submits_are_measured_beside_the_bare_handler() {
    let rows = rows(&["submit", "--rounds=2"]);
    for name in ["bare submit", "submit"] {
        assert_plausible(&rows, name);
    }
    let ratio = number(&rows, "submit : bare submit", 1);
    assert!((0.001..10.0).contains(&ratio), "{ratio}");
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let rows = rows(&["submit", "--rate=200", "--store=memory", "--rounds=1"]);
    let rate = number(&rows, "submit", 1);
    assert!((50.0..350.0).contains(&rate), "{rate} of 200 a second");
}

#[test]
fn lives_are_measured_in_bulk_and_one_by_one() {
    let rows = rows(&["life", "--rounds=1"]);
    for name in [
        "submit and wait (1 request)",
        "submit, then read (2 requests)",
        "bare pair (2 requests)",
    ] {
        assert_plausible(&rows, name);
    }
    let rate = number(&rows, "full life in bulk, in process", 1);
    assert!((1.0..10_000_000.0).contains(&rate), "{rate}");
}

#[test]
fn the_latency_of_an_idle_server_is_measured() {
    let rows = rows(&["latency", "--rounds=1"]);
    assert_plausible(&rows, "submit and wait, 1 connection, idle");
}

#[test]
fn the_ceiling_has_everything() {
    let rows = rows(&["ceiling", "--store=memory", "--rounds=2"]);
    assert_eq!(rows.len(), 2 + 8 + 2 + 7, "{rows:#?}");
}

/// Runs a command with just these arguments, which succeeds and leaves nothing behind, and returns
/// its report.
fn report(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_anteroom-bench"))
        .args(arguments)
        .arg("--dir")
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {said}");
    assert!(folder.path().read_dir().unwrap().next().is_none());
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the cells of the row of this name, the name apart.
fn cells<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let mut lines = text.lines();
    let line = lines.find(|line| line.starts_with(&format!("| {name} |")));
    let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    let cells = line.trim_end_matches(" |").split(" | ");
    cells.skip(1).collect()
}

#[test]
fn pages_and_bulk_calls_are_measured() {
    let text = report(&["list", "--jobs=4000", "--pages=3"]);
    // Pages, empty ones, jobs.
    assert_eq!(cells(&text, "none")[..3], ["3", "0", "150"]);
    assert_eq!(cells(&text, "task=needle")[..3], ["1", "0", "10"]);
    assert_eq!(cells(&text, "tag.user=none")[..3], ["1", "1", "0"]);
    let needles = r#"{"changed":10,"matched":10,"more":false}"#;
    for call in ["cancel", "retry"] {
        let name = format!("POST /v1/jobs/{call}?tag.needle=1");
        assert_eq!(cells(&text, &name)[0], needles);
    }
}

#[test]
fn jobs_that_come_due_at_once_are_measured() {
    let text = report(&["due", "--jobs=1200", "--ahead=10"]);
    let ms = |name: &str, column: usize| -> f64 { cells(&text, name)[column].parse().unwrap() };
    let first = ms("from the instant to the first start", 0);
    let last = ms("to the last start", 0);
    let end = ms("to the last end", 0);
    assert!(0.0 <= first && first <= last && last <= end, "{text}");
    for name in ["`GET /livez`, while due", "a submit, while due"] {
        let [p50, p99, max, gap] = [0, 1, 2, 3].map(|column| ms(name, column));
        assert!(0.0 < p50 && p50 <= p99 && p99 <= max + 0.1, "{text}");
        // It begins at an answer and ends at the next.
        assert!(gap + 0.1 >= max, "{text}");
    }
}

#[test]
fn every_growth_curve_ends_with_all_its_jobs() {
    let results = tempfile::tempdir().unwrap();
    let text = report(&[
        "growth",
        "--jobs=2000",
        "--kept=2000",
        "--life-jobs=1000",
        "--rounds=1",
        "--singles=10",
        "--purge-seconds=20",
        "--groups=1,50",
        "--group-jobs=2000",
        "--short-rounds=1",
        "--waiters=20",
        "--input-bytes=100,100000",
        "--connections=4",
        "--seconds=1",
        &format!("--results={}", results.path().display()),
    ]);
    let written = std::fs::read_to_string(results.path().join("growth.md")).unwrap();
    assert_eq!(written, text);
    // The column of the CPU time of a job, or of a submit, in microseconds.
    for (title, rows, column) in [
        ("Jobs that wait", &["0", "2,000"][..], 5),
        ("Results that are kept", &["0", "2,000"], 4),
        ("Groups", &["0", "1", "50"], 0),
        ("Long polls", &["0", "20"], 3),
        ("Size of inputs", &["100", "100,000"], 2),
    ] {
        let section = text.split(&format!("## {title}\n")).nth(1).unwrap();
        for row in rows {
            let cell = cells(section, row)[column];
            let micros: f64 = cell.split(' ').next().unwrap().parse().unwrap();
            assert!((0.1..1e6).contains(&micros), "{title}, {row}: {text}");
        }
    }
    // All that was kept is forgotten in the end.
    assert_eq!(cells(&text, "2,000 | purge")[5], "100 %", "{text}");
}

#[test]
fn what_groups_cost_is_measured() {
    let text = report(&["groups", "--jobs=2000", "--groups=100", "--rounds=1"]);
    for name in ["in 100 groups", "without groups"] {
        let cells = cells(&text, name);
        let rate: f64 = cells[2].parse().unwrap();
        assert!((1.0..10_000_000.0).contains(&rate), "{text}");
    }
    assert!(text.contains("100 groups of 10 jobs, submitted behind one of 2000"));
}

#[test]
fn a_place_in_line_is_asked_for_where_it_matters() {
    let text = report(&["position", "--jobs=300", "--requests=20"]);
    for (name, ahead) in [("head", "0"), ("middle", "150"), ("end", "299")] {
        let cells = cells(&text, name);
        assert_eq!(cells[..2], [ahead, "plain"], "{text}");
        let p50: f64 = cells[2].parse().unwrap();
        assert!(0.0 < p50, "{text}");
    }
}

/// Runs a command on `PostgreSQL`, whose server makes a folder of its own, and returns its report.
fn on_postgres(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_anteroom-bench"))
        .arg("postgres")
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap() + &said
}

#[test]
fn lives_on_postgresql_are_measured_whoever_lives_them() {
    let text = on_postgres(&[
        "life",
        "--jobs=1500",
        "--batch=200",
        "--who=raw,embedded,http",
    ]);
    for name in [
        "raw SQL loop",
        "Anteroom, embedded 0.1.0",
        "Anteroom, HTTP 0.1.0",
    ] {
        let cells = cells(&text, name);
        assert_eq!(cells[0], "1500", "{text}");
        for (column, range) in [
            (1, 1.0..1_000_000.0),
            (2, 1.0..1e6),
            (3, 1.0..1e6),
            (4, 200.0..1e5),
        ] {
            let number: f64 = cells[column].parse().unwrap();
            assert!(range.contains(&number), "{name}, column {column}: {text}");
        }
    }
}

#[test]
fn a_life_on_postgresql_goes_on_beside_a_backlog_and_a_transaction_that_is_held() {
    let arguments = [
        "life",
        "--jobs=800",
        "--backlog=3000",
        "--held",
        "--statements",
    ];
    let text = on_postgres(&arguments);
    assert_eq!(cells(&text, "Anteroom, embedded 0.1.0")[0], "800", "{text}");
    let inserts = text
        .lines()
        .filter(|line| line.to_lowercase().contains("insert into"));
    assert!(inserts.count() > 0, "no statement was counted: {text}");
}

#[test]
fn a_life_on_postgresql_ends_when_its_time_is_over() {
    let text = on_postgres(&["life", "--jobs=5000000", "--seconds=2", "--who=raw"]);
    let jobs: u64 = cells(&text, "raw SQL loop")[0].parse().unwrap();
    assert!((1..5_000_000).contains(&jobs), "{text}");
}

#[test]
fn the_table_on_postgresql_has_everybodys_share() {
    let arguments = [
        "table",
        "--who=raw,embedded,boss",
        "--peers=/nowhere",
        "--rounds=2",
        "--submit-rounds=1",
        "--long-rounds=1",
        "--jobs=600",
        "--single-jobs=60",
        "--backlog=700",
        "--idle-seconds=0.5",
    ];
    let text = on_postgres(&arguments);
    for (title, rounds) in [
        ("Full life in bulk", 2),
        ("Submits in bulk", 1),
        ("Submits one by one, 16 connections", 1),
        ("Full life in bulk, while a transaction is kept open", 1),
        ("Full life in bulk, 700 jobs waiting before", 1),
    ] {
        let section = text.split(&format!("### {title}\n")).nth(1).unwrap();
        assert!(
            section.starts_with(&format!("\n{rounds} rounds: ")),
            "{text}"
        );
        assert!(
            cells(section, "raw SQL loop")[1].starts_with("1.00"),
            "{text}"
        );
        let share = cells(section, "Anteroom, embedded")[1];
        let share: f64 = share.split(' ').next().unwrap().parse().unwrap();
        assert!((0.001..100.0).contains(&share), "{text}");
    }
    let idle = text.split("### An idle node\n").nth(1).unwrap();
    let idle = cells(idle, "Anteroom, embedded");
    let statements: f64 = idle[0].parse().unwrap();
    assert!((0.0..1_000.0).contains(&statements), "{text}");
    let rescue = text
        .split("until another one has done them: ")
        .nth(1)
        .unwrap();
    let seconds: f64 = rescue.split(' ').next().unwrap().parse().unwrap();
    assert!((1.0..120.0).contains(&seconds), "{text}");
    assert!(
        text.contains("Not measured: pg-boss: there is no /nowhere"),
        "{text}"
    );
}

#[test]
fn everybody_asked_for_is_in_the_table() {
    let results = tempfile::tempdir().unwrap();
    let nothing = tempfile::tempdir().unwrap();
    let results = results.path();
    let text = report(&[
        "table",
        "--only=bare,memory,sqlite,aiohttp",
        "--rounds=2",
        "--seconds=0.1",
        "--requests=20",
        &format!("--peers={}", nothing.path().display()),
        &format!("--installed={}", results.join("installed").display()),
        &format!("--results={}", results.display()),
    ]);
    for name in ["bare axum handler", "Anteroom, memory", "Anteroom, SQLite"] {
        let cells = cells(&text, name);
        let number = |column: usize| -> f64 {
            let first = cells[column].split(' ').next().unwrap();
            first.parse().unwrap_or(f64::NAN)
        };
        assert!((1.0..1_000_000.0).contains(&number(2)), "{text}");
        if name != "bare axum handler" {
            assert!((1.0..10_000_000.0).contains(&number(3)), "{text}");
        }
        let [p50, p99, result_p50, result_p99] = [4, 5, 6, 7].map(number);
        assert!(
            0.0 < result_p50 && p50 <= p99 && result_p50 <= result_p99,
            "{text}"
        );
        assert!(number(10) > 1.0, "{text}");
    }
    let missing = cells(&text, "aiohttp + asyncio.Queue");
    assert!(missing[1].starts_with("not measured: "), "{text}");
    let written = std::fs::read_to_string(results.join("side-by-side.md")).unwrap();
    assert_eq!(written.trim(), text.trim());
    let chart = std::fs::read_to_string(results.join("side-by-side.svg")).unwrap();
    assert!(chart.contains(">Anteroom, SQLite<"), "{chart}");
}

#[test]
fn who_cannot_be_measured_is_said() {
    let output = Command::new(env!("CARGO_BIN_EXE_anteroom-bench"))
        .args(["postgres", "life", "--who=boss", "--peers=/nowhere"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("pg-boss cannot be measured: there is no /nowhere"),
        "{said}"
    );
}

#[test]
fn what_is_out_of_range_is_refused() {
    for (wrong, expected) in [
        ("--connections=0", "is not a whole number from 1 to 10000"),
        ("--seconds=601", "from 0 to 600"),
        ("--rate=nan", "is not a rate"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_anteroom-bench"))
            .args(["submit", wrong])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected), "{wrong}: {said}");
    }
}
