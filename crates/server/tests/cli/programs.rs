//! Programs of a real server: what they say, what they may, and that none outlives it.

use crate::harness::{PATIENCE, Server, folder, run};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

/// A program with a child, one whose parent is gone, and two in a session of their own. All of them
/// hold a named pipe open, so that it ends when the last of them does.
const FAMILY: &str = r#"
store = "memory:"
shutdown_grace = "100ms"

[tasks.family]
exec = ["sh", "-c", '''
    trap '' TERM
    exec 9> alive
    sleep 1000 & (sleep 1000 &)
    setsid sh -c 'sleep 1000 & echo up >&9; exec sleep 1000' &
    while :; do wait; done
''']
kill_grace = "100ms"
max_attempts = 1
"#;

/// The processes of a family.
struct Family(Receiver<String>);

impl Family {
    /// Submits one, and returns its job's id once all of it is up.
    fn of(server: &Server, folder: &Path, arguments: &[&str]) -> (Self, String) {
        let path = folder.join("alive");
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let (tx, said) = channel();
        std::thread::spawn(move || {
            let mut pipe = BufReader::new(File::open(path).unwrap());
            let mut line = String::new();
            pipe.read_line(&mut line).unwrap();
            // A test that is over does not listen any more.
            let _ = tx.send(line);
            let mut rest = String::new();
            pipe.read_to_string(&mut rest).unwrap();
            let _ = tx.send(rest);
        });
        let id = server.submit(&[&["family"], arguments].concat());
        assert_eq!(said.recv_timeout(PATIENCE).as_deref(), Ok("up\n"));
        (Self(said), id)
    }

    /// Waits until nothing is left of it.
    fn is_gone(&self) {
        assert_eq!(self.0.recv_timeout(PATIENCE).as_deref(), Ok(""));
    }

    /// Fails if nothing is left of it.
    fn lives(&self) {
        assert!(self.0.try_recv().is_err());
    }
}

fn events(server: &Server, id: &str) -> String {
    server.get(&format!("/v1/jobs/{id}/events"), "")
}

#[test]
fn a_cancelled_program_is_ended_with_all_that_it_started() {
    let folder = folder(FAMILY);
    let server = Server::start(folder.path());
    let (family, id) = Family::of(&server, folder.path(), &[]);
    family.lives();
    assert_eq!(server.client(&["cancel", &id]).code, Some(0));
    family.is_gone();
    server.wait_for_state(&id, "cancelled");
}

#[test]
fn a_program_over_its_time_is_ended_with_all_that_it_started() {
    let folder = folder(FAMILY);
    let server = Server::start(folder.path());
    let (family, id) = Family::of(&server, folder.path(), &["--timeout", "3s"]);
    family.is_gone();
    server.wait_for_state(&id, "failed");
    let job = server.get(&format!("/v1/jobs/{id}"), "");
    assert!(job.contains(r#""kind":"timeout""#), "{job}");
}

#[test]
fn a_server_that_stops_ends_its_programs_first() {
    let folder = folder(FAMILY);
    let server = Server::start(folder.path());
    let (family, _) = Family::of(&server, folder.path(), &[]);
    server.signal(Signal::SIGTERM);
    let (status, lines) = server.wait();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    family.is_gone();
}

#[test]
fn a_server_that_is_killed_takes_its_programs_along() {
    let folder = folder(FAMILY);
    let server = Server::start(folder.path());
    let (family, _) = Family::of(&server, folder.path(), &[]);
    family.lives();
    server.signal(Signal::SIGKILL);
    family.is_gone();
}

#[test]
fn what_a_program_says_is_told_to_those_who_follow_its_job() {
    let config = r#"
        store = "memory:"
        [tasks.say]
        exec = ["sh", "-c", '''
            echo '{"fraction": 0.25, "message": "begun"}' >&3
            echo 'a complaint' >&2
            printf 'the last' >&2
        ''']
    "#;
    let folder = folder(config);
    let server = Server::start(folder.path());
    let id = server.submit(&["say", "--wait", "30s"]);
    let events = events(&server, &id);
    for data in [
        r#"data: {"fraction":0.25,"message":"begun"}"#,
        r#"data: {"attempt":1,"stream":"stderr","line":"a complaint"}"#,
        r#"data: {"attempt":1,"stream":"stderr","line":"the last"}"#,
    ] {
        assert!(
            events.lines().any(|line| line == data),
            "{data} in {events}"
        );
    }
    let job = server.get(&format!("/v1/jobs/{id}"), "");
    let progress = r#""progress":{"fraction":0.25,"message":"begun"}"#;
    assert!(job.contains(progress), "{job}");
}

#[test]
fn a_program_starts_in_its_directory_within_its_limits() {
    let config = r#"
        store = "memory:"
        [tasks.look]
        exec = ["sh", "-c", "pwd; ulimit -n; ulimit -v; ulimit -t; grep NoNewPrivs /proc/self/status"]
        current_dir = "sub"
        limits = { open_files = 64, memory = "16MiB", cpu = "10s" }
    "#;
    let folder = folder(config);
    let sub = folder.path().join("sub");
    std::fs::create_dir(&sub).unwrap();
    let server = Server::start(folder.path());
    let id = server.submit(&["look", "--wait", "30s"]);
    let found = server.client(&["job", &id, "--result"]);
    let sub = sub.canonicalize().unwrap();
    let expected = format!("{}\n64\n16384\n10\nNoNewPrivs:\t1\n", sub.display());
    assert_eq!(found.stdout, expected, "{found:?}");
}

#[test]
fn a_program_runs_as_the_user_of_its_task() {
    let config = r#"
        store = "memory:"
        [tasks.who]
        exec = ["sh", "-c", "id -u; id -g; id -G"]
        user = "65534:54320"
        limits = { processes = 1000 }
    "#;
    let folder = folder(config);
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    if !geteuid().is_root() {
        let checked = run(folder.path(), &["check"]);
        assert_eq!(checked.code, Some(2), "{checked:?}");
        let place = "anteroom.toml:5:16: user is \"65534:54320\", but only a server that is";
        assert!(checked.stderr.contains(place), "{checked:?}");
        return;
    }
    let server = Server::start(folder.path());
    let id = server.submit(&["who", "--wait", "30s"]);
    let found = server.client(&["job", &id, "--result"]);
    assert_eq!(found.stdout, "65534\n54320\n54320\n", "{found:?}");
}

#[test]
fn a_program_without_end_is_ended_at_the_limit_of_its_output() {
    let config = r#"
        store = "memory:"
        max_result = "1MiB"
        [tasks.endless]
        exec = ["yes"]
    "#;
    let folder = folder(config);
    let server = Server::start(folder.path());
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kibibytes.trim().parse::<u64>().unwrap()
    };
    let before = peak();
    let id = server.submit(&["endless"]);
    server.wait_for_state(&id, "failed");
    let job = server.get(&format!("/v1/jobs/{id}"), "");
    let message = "the output is longer than 1048576 bytes, the limit of a result";
    assert!(
        job.contains(message) && job.contains(r#""attempt":1"#),
        "{job}"
    );
    let grown = peak() - before;
    assert!(grown < 32 * 1024, "it grew by {grown} KiB");
}
