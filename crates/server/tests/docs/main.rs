//! Runs the examples of the documents, as they stand there, against a real server.
//!
//! An example is a block marked `console`: a line that begins with `$ ` is a command (lines that
//! begin with `> ` go on with it), the others are what it prints. All blocks of a page run in one
//! shell, one after the other. Of what is printed, `…` stands for anything within a line, a line
//! `…` for any number of lines; ids and instants are never compared, nor the case of letters in
//! the names of header fields.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Where the documents say that the server listens.
const WRITTEN: &str = "localhost:8080";
/// What the shell prints before each command: no document has it.
const MARK: &str = "\u{1}command ";
/// How long the examples of one page may take.
const SECONDS: &str = "120";

#[test]
fn the_examples_of_the_http_api_do_what_it_says() {
    run("docs/http-api.md");
}

#[test]
fn the_examples_of_programs_do_what_it_says() {
    run("docs/exec.md");
}

#[test]
fn the_tour_of_the_readme_does_what_it_says() {
    run("README.md");
}

/// Runs all examples of a page, and says everything that came out otherwise.
fn run(page: &str) {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let examples = examples(&text);
    assert!(!examples.is_empty(), "{page} has no examples");
    let server = Server::start();
    let printed = server.run_all(&examples);
    let mut wrong = String::new();
    for (example, printed) in examples.iter().zip(&printed) {
        if !matches(&example.expected, printed) {
            let Example {
                line,
                command,
                expected,
            } = example;
            let expected = expected.join("\n");
            let printed = printed.join("\n");
            write!(
                wrong,
                "\n{page}:{line}: $ {command}\n--- expected\n{expected}\n--- printed\n{printed}\n"
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(
        printed.len(),
        examples.len(),
        "{page}: the shell ended early"
    );
}

/// A command and what it prints.
struct Example {
    line: usize,
    command: String,
    expected: Vec<String>,
}

fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut is_console = false;
    for (number, line) in page.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            is_console = language == "console";
        } else if is_console && let Some(command) = line.strip_prefix("$ ") {
            examples.push(Example {
                line: number + 1,
                command: command.to_owned(),
                expected: Vec::new(),
            });
        } else if is_console {
            let example = examples.last_mut().expect("a block begins with a command");
            match line.strip_prefix("> ") {
                Some(rest) if example.expected.is_empty() => {
                    example.command.push('\n');
                    example.command.push_str(rest);
                }
                Some(_) | None => example.expected.push(line.to_owned()),
            }
        }
    }
    examples
}

/// Tells whether lines are those that are expected.
fn matches(expected: &[String], printed: &[String]) -> bool {
    let Some((first, rest)) = expected.split_first() else {
        return printed.is_empty();
    };
    if first.trim() == "…" {
        return (0..=printed.len()).any(|skipped| matches(rest, &printed[skipped..]));
    }
    printed
        .split_first()
        .is_some_and(|(line, after)| is_line(first, line) && matches(rest, after))
}

fn is_line(expected: &str, printed: &str) -> bool {
    let expected = general(&with_lower_field(expected));
    let printed = general(&with_lower_field(printed));
    let mut pieces = expected.split('…');
    let Some(mut left) = printed.strip_prefix(pieces.next().unwrap_or_default()) else {
        return false;
    };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, between)) = pieces.split_last() else {
        return left.is_empty();
    };
    for piece in between {
        let Some(at) = left.find(piece) else {
            return false;
        };
        left = &left[at + piece.len()..];
    }
    left.ends_with(last)
}

fn with_lower_field(line: &str) -> String {
    match line.split_once(": ") {
        Some((name, value))
            if name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') =>
        {
            format!("{}: {value}", name.to_ascii_lowercase())
        }
        Some(_) | None => line.to_owned(),
    }
}

/// Puts words in the place of ids and instants.
fn general(line: &str) -> String {
    let shapes = [
        ("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "ID"),
        ("dddd-dd-ddTdd:dd:dd.dddZ", "INSTANT"),
    ];
    let mut general = String::new();
    let mut rest = line;
    'characters: while let Some(first) = rest.chars().next() {
        for (shape, word) in shapes {
            if has_shape(rest, shape) {
                general.push_str(word);
                rest = &rest[shape.len()..];
                continue 'characters;
            }
        }
        general.push(first);
        rest = &rest[first.len_utf8()..];
    }
    general
}

fn has_shape(text: &str, shape: &str) -> bool {
    text.len() >= shape.len()
        && shape
            .bytes()
            .zip(text.bytes())
            .all(|(wanted, byte)| match wanted {
                b'x' => byte.is_ascii_hexdigit(),
                b'd' => byte.is_ascii_digit(),
                other => byte == other,
            })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

/// The server with the tasks that come with it. Dropping it kills it.
struct Server {
    child: Child,
    address: String,
    /// Where the binary is found by its name.
    folder: TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let binary = env!("CARGO_BIN_EXE_anteroom");
        std::os::unix::fs::symlink(binary, folder.path().join("anteroom")).unwrap();
        let store = format!("sqlite:{}", folder.path().join("jobs.db").display());
        let mut child = Command::new(binary)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--store",
                &store,
                "--config",
            ])
            .arg(root().join("anteroom.toml"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut address = None;
        let mut line = String::new();
        while address.is_none() && lines.read_line(&mut line).unwrap() > 0 {
            let found = line.trim().split_once("listening on http://");
            address = found.map(|(_, address)| address.to_owned());
            line.clear();
        }
        // Read on, so that the server never waits for a reader of its log.
        std::thread::spawn(move || {
            let _ended = lines.read_to_end(&mut Vec::new());
        });
        Self {
            child,
            address: address.expect("the server starts"),
            folder,
        }
    }

    /// Runs commands in one shell and returns the lines that each printed.
    fn run_all(&self, examples: &[Example]) -> Vec<Vec<String>> {
        let mut script = format!("PATH={}:$PATH\n", self.folder.path().display());
        for example in examples {
            let command = example.command.replace(WRITTEN, &self.address);
            // The mark begins a line of its own, whether the one before it was ended or not.
            writeln!(script, "printf '\\n\\001command \\n'\n{command}").unwrap();
        }
        let output = Command::new("timeout")
            .args([SECONDS, "bash", "-c", &script])
            .env("ANTEROOM_SERVER", format!("http://{}", self.address))
            .current_dir(root())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout)
            .unwrap()
            .replace(&self.address, WRITTEN);
        let mut commands = printed.split(MARK);
        // What comes before the first mark.
        commands.next();
        let lines = |text: &str| {
            // Without the line ends of the marks around it, and those of header fields.
            let text = text.strip_prefix('\n').unwrap_or(text);
            let text = text.strip_suffix('\n').unwrap_or(text);
            text.trim_end_matches('\n')
                .lines()
                .map(|line| line.trim_end().to_owned())
                .collect()
        };
        commands.map(lines).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn an_example_is_held_to_what_it_prints() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<String>>();
    let printed = lines(
        "HTTP/1.1 202 Accepted\nlocation: /v1/jobs/019aaa2e-7c00-7000-8000-3f0c5a1b2c3d\n\n{\"a\":1}",
    );
    for (expected, holds) in [
        ("HTTP/1.1 202 Accepted\n…", true),
        (
            "HTTP/1.1 202 Accepted\nLocation: /v1/jobs/00000000-0000-0000-0000-000000000000\n…\n{…}",
            true,
        ),
        ("HTTP/1.1 200 OK\n…", false),
        ("HTTP/1.1 202 Accepted", false),
        ("…\n{\"a\":…}", true),
        ("…\n{\"b\":…}", false),
    ] {
        assert_eq!(matches(&lines(expected), &printed), holds, "{expected}");
    }
}
