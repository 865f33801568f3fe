//! What is drawn on a terminal: a line that says how a job gets on, and nothing that a server's
//! text would have the terminal do.

use crate::harness::{PATIENCE, Server, anteroom, folder};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::Read;
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};

const CONFIG: &str = r#"
store = "memory:"

[tasks.gated]
exec = ["sh", "-c", "until [ -e gate ]; do sleep 0.05; done"]

[tasks.long]
exec = ["sleep", "300"]
kill_grace = "1s"

[tasks.left]
pull = true

[tasks.rude]
exec = ["sh", "-c", "printf 'two\\nlines \\033[2J\\033[31mred' >&2; exit 65"]

[tasks.colourful]
exec = ["printf", "one\\n\\033[31mred"]
result_content_type = "text/plain"
"#;

/// The binary on a terminal of its own. Killed when it is dropped.
pub(crate) struct Terminal {
    child: Child,
    pieces: Receiver<Vec<u8>>,
    /// All that was written on it.
    pub(crate) text: String,
}

impl Terminal {
    pub(crate) fn run(server: &str, columns: u16, arguments: &[&str]) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let child = anteroom(folder.path(), arguments)
            .env("ANTEROOM_SERVER", format!("http://{server}"))
            .stdout(pty.slave.try_clone().unwrap())
            .stderr(pty.slave)
            .spawn()
            .unwrap();
        let mut master = File::from(pty.master);
        let (tx, pieces) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            // An error says that the other side is closed.
            while let Ok(read @ 1..) = master.read(&mut buffer) {
                if tx.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            pieces,
            text: String::new(),
        }
    }

    /// Waits until what is written on it is so.
    pub(crate) fn wait_until(&mut self, is_so: impl Fn(&str) -> bool) {
        while !is_so(&self.text) {
            match self.pieces.recv_timeout(PATIENCE) {
                Ok(piece) => self.text.push_str(&String::from_utf8_lossy(&piece)),
                Err(error) => panic!("{error}: {:?}", self.text),
            }
        }
    }

    pub(crate) fn wait_for(&mut self, part: &str) {
        self.wait_until(|text| text.contains(part));
    }

    /// Waits for its end, and returns its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        while let Ok(piece) = self.pieces.recv_timeout(PATIENCE) {
            self.text.push_str(&String::from_utf8_lossy(&piece));
        }
        self.child.wait().unwrap().code()
    }

    /// Returns the lines that are left standing, as a terminal would show them.
    pub(crate) fn shown(&self) -> Vec<String> {
        let lines = self.text.split('\n');
        let shown = lines.map(|line| {
            let mut cells: Vec<char> = Vec::new();
            for pass in line.split('\r') {
                for (at, character) in pass.chars().enumerate() {
                    match cells.get_mut(at) {
                        Some(cell) => *cell = character,
                        None => cells.push(character),
                    }
                }
            }
            String::from_iter(cells).trim_end().to_owned()
        });
        shown.filter(|line| !line.is_empty()).collect()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It is over already where the test waited for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_line_says_how_a_job_gets_on_and_is_gone_at_its_end() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let arguments = ["submit", "gated", "--wait", "10m"];
    let mut terminal = Terminal::run(&server.address, 80, &arguments);
    terminal.wait_for("running, attempt 1 of 5, ");
    let later = |text: &str| {
        let drawn = text.rsplit("running, attempt 1 of 5, ").next().unwrap();
        drawn.starts_with(|it: char| ('1'..='9').contains(&it))
    };
    terminal.wait_until(later);
    std::fs::write(folder.path().join("gate"), "").unwrap();
    assert_eq!(terminal.ended(), Some(0), "{:?}", terminal.text);
    let shown = terminal.shown();
    assert!(shown[0].starts_with("job 0"), "the line is gone: {shown:?}");
    assert!(
        shown.contains(&"  state     succeeded".to_owned()),
        "{shown:?}"
    );
    assert!(!terminal.text.contains('\u{1b}'), "{:?}", terminal.text);
}

#[test]
fn the_line_takes_no_more_room_than_there_is() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let arguments = ["submit", "long", "--wait", "10m"];
    let mut terminal = Terminal::run(&server.address, 20, &arguments);
    terminal.wait_for("running, attempt 1…");
    for drawn in terminal.text.split(['\r', '\n']) {
        assert!(drawn.chars().count() < 20, "{drawn:?}");
    }
}

#[test]
fn ctrl_c_ends_the_wait_and_not_the_job() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let arguments = ["submit", "long", "--wait", "10m"];
    let mut terminal = Terminal::run(&server.address, 200, &arguments);
    terminal.wait_for("running, attempt 1 of 5");
    let id = i32::try_from(terminal.child.id()).unwrap();
    kill(Pid::from_raw(id), Signal::SIGINT).unwrap();
    assert_eq!(terminal.ended(), Some(130), "{:?}", terminal.text);
    let shown = terminal.shown();
    let words: Vec<&str> = shown[0].split(' ').collect();
    assert_eq!(
        (words[0], words[2], words[3]),
        ("job", "goes", "on."),
        "{shown:?}"
    );
    let job = server.client(&["job", words[1], "--json"]);
    let job: serde_json::Value = serde_json::from_str(&job.stdout).unwrap();
    assert_eq!(job["state"], "running");
    assert_eq!(job["cancel_requested"], false);
}

#[test]
fn a_table_is_no_wider_than_the_terminal() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let task = [
        "left",
        "--queue",
        "a-queue-with-quite-a-long-name",
        "--tag",
        "colour=red",
    ];
    let id = server.submit(&task);
    for (columns, header) in [
        (
            200,
            &["ID", "STATE", "TASK", "QUEUE", "ATTEMPT", "AGE", "LABELS"][..],
        ),
        (80, &["ID", "STATE", "TASK", "QUEUE", "ATTEMPT", "AGE"]),
        (66, &["ID", "STATE", "TASK", "ATTEMPT", "AGE"]),
        (50, &["ID", "STATE", "TASK"]),
        (46, &["ID", "STATE"]),
    ] {
        let mut terminal = Terminal::run(&server.address, columns, &["jobs"]);
        assert_eq!(terminal.ended(), Some(0), "{:?}", terminal.text);
        let shown = terminal.shown();
        let words: Vec<&str> = shown[0].split_whitespace().collect();
        assert_eq!(words, header, "{columns}: {shown:?}");
        assert!(shown[1].starts_with(&id), "{shown:?}");
        let widest = shown.iter().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= usize::from(columns), "{columns}: {shown:?}");
    }
}

#[test]
fn a_servers_text_moves_nothing_on_a_terminal() {
    let folder = folder(CONFIG);
    let server = Server::start(folder.path());
    let arguments = [
        "submit",
        "rude",
        "--tag",
        "a=\u{1b}[2J\u{9b}31m",
        "--wait",
        "1m",
    ];
    let failed = server.client(&arguments);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(!failed.stdout.contains(['\u{1b}', '\u{9b}']), "{failed:?}");
    assert!(
        failed.stdout.contains("lines \\u{1b}[2J\\u{1b}[31mred"),
        "{failed:?}"
    );
    assert!(
        failed.stdout.contains("tag       a=\\u{1b}[2J\\u{9b}31m"),
        "{failed:?}"
    );
    let id = failed
        .stdout
        .lines()
        .next()
        .unwrap()
        .strip_prefix("job ")
        .unwrap();
    let result = server.client(&["job", id, "--result"]);
    assert!(!result.stderr.contains('\u{1b}'), "{result:?}");
    let done = server.client(&["submit", "colourful", "--wait", "1m", "--json"]);
    let done: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let done = done["id"].as_str().unwrap();
    let piped = server.client(&["job", done, "--result"]);
    assert_eq!(piped.stdout, "one\n\u{1b}[31mred", "byte for byte");
    for arguments in [
        &["jobs"][..],
        &["jobs", "--json"],
        &["job", id],
        &["job", id, "--json"],
        &["job", id, "--wait", "1s"],
        &["job", done, "--result"],
    ] {
        let mut terminal = Terminal::run(&server.address, 200, arguments);
        assert!(
            terminal.ended().is_some_and(|code| code < 2),
            "{:?}",
            terminal.text
        );
        let text = &terminal.text;
        assert!(
            !text.contains(['\u{1b}', '\u{9b}']),
            "{arguments:?}: {text:?}"
        );
    }
    let mut terminal = Terminal::run(&server.address, 80, &["job", done, "--result"]);
    terminal.ended();
    assert_eq!(terminal.text, "one\r\n\\u{1b}[31mred\r\n");
}
