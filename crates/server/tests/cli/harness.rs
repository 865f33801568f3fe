//! Runs the real binary in a folder of its own, and waits for what it prints.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take. Far more than it does take, for machines that are busy.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Returns a folder with this `anteroom.toml`.
pub(crate) fn folder(config: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("anteroom.toml"), config).unwrap();
    folder
}

/// Returns the binary, to be run in `folder` and not to be touched by the tester's environment.
pub(crate) fn anteroom(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anteroom"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ANTEROOM_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).current_dir(folder);
    command
}

/// Runs the binary to its end.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Finished {
    let output = anteroom(folder, arguments).output().unwrap();
    Finished::new(&output)
}

/// What a run of the binary came to.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    pub(crate) fn new(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A server of this test's own. Killed, with all its programs, when it is dropped.
pub(crate) struct Server {
    child: Child,
    /// What it prints to standard error, line by line.
    lines: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    /// What was printed so far, for the message of a failed test.
    seen: Vec<String>,
    pub(crate) address: String,
}

impl Server {
    /// Starts a server on a free port, and returns once it is ready.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    /// Starts one with these environment variables.
    pub(crate) fn start_with(folder: &Path, variables: &[(&str, &str)]) -> Self {
        let mut command = anteroom(folder, &["serve", "--listen", "127.0.0.1:0"]);
        command.envs(variables.iter().copied());
        Self::start_as(command)
    }

    /// Starts what is to become a server, and returns once it is ready.
    pub(crate) fn start_as(command: Command) -> Self {
        let mut server = Self::spawn(command);
        server.listens();
        server
    }

    /// Starts one that may open so many descriptors, if it does not raise that limit.
    pub(crate) fn start_within(folder: &Path, descriptors: u32) -> Self {
        let limited = format!("ulimit -S -n {descriptors}; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command
            .args(["-c", &limited, env!("CARGO_BIN_EXE_anteroom")])
            .args(["serve", "--listen", "127.0.0.1:0"])
            .current_dir(folder);
        let mut server = Self::spawn(command);
        server.listens();
        server
    }

    /// Starts one, whether it comes to listen or not.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (tx, lines) = channel();
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // A test that is over does not listen any more.
                let _ = tx.send(line);
            }
        });
        Self {
            child,
            lines,
            reader: Some(reader),
            seen: Vec::new(),
            address: String::new(),
        }
    }

    /// Waits until it is ready.
    pub(crate) fn listens(&mut self) {
        let line = self.wait_for_line("listening on http://");
        line["listening on http://".len()..].clone_into(&mut self.address);
    }

    /// Waits until it prints a line that contains `text`.
    pub(crate) fn wait_for_line(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no line with {text:?} in time, but {:#?}", self.seen)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("no line with {text:?} at all, but {:#?}", self.seen)
                }
            }
        }
    }

    /// Runs a client command against it.
    pub(crate) fn client(&self, arguments: &[&str]) -> Finished {
        self.client_with(arguments, &[])
    }

    /// Runs one with these environment variables.
    pub(crate) fn client_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
        let folder = tempfile::tempdir().unwrap();
        let output = anteroom(folder.path(), arguments)
            .envs(variables.iter().copied())
            .env("ANTEROOM_SERVER", format!("http://{}", self.address))
            .output()
            .unwrap();
        Finished::new(&output)
    }

    /// Submits a job without waiting for it, and returns its id.
    pub(crate) fn submit(&self, arguments: &[&str]) -> String {
        let arguments = [&["submit", "--json"], arguments].concat();
        let submitted = self.client(&arguments);
        assert_eq!(submitted.code, Some(0), "{submitted:?}");
        let job: serde_json::Value = serde_json::from_str(&submitted.stdout).unwrap();
        job["id"].as_str().unwrap().to_owned()
    }

    /// Waits until the job's next long poll shows `state`.
    pub(crate) fn wait_for_state(&self, id: &str, state: &str) {
        let mut seen = String::new();
        // Each round waits for a change, so there are no more rounds than changes.
        for _ in 0..100 {
            let (etag, body) = self.get_changed(id, &seen);
            let job: serde_json::Value = serde_json::from_str(&body).unwrap();
            if job["state"] == state {
                return;
            }
            seen = etag;
        }
        panic!("job {id} did not become {state}");
    }

    fn get_changed(&self, id: &str, seen: &str) -> (String, String) {
        let headers = if seen.is_empty() {
            String::new()
        } else {
            format!("prefer: wait=30\r\nif-none-match: {seen}\r\n")
        };
        let answer = self.get(&format!("/v1/jobs/{id}"), &headers);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let etag = head
            .lines()
            .find_map(|line| line.strip_prefix("etag: "))
            .unwrap_or_else(|| panic!("no etag in {head}"));
        (etag.to_owned(), body.to_owned())
    }

    /// Makes a request and returns the answer as it comes, head and body.
    pub(crate) fn get(&self, path: &str, headers: &str) -> String {
        self.ask("GET", path, headers, "")
    }

    /// Posts JSON and returns the answer as it comes.
    pub(crate) fn post(&self, path: &str, body: &str) -> String {
        self.ask("POST", path, "content-type: application/json\r\n", body)
    }

    /// Changes something by JSON and returns the answer as it comes.
    pub(crate) fn patch(&self, path: &str, body: &str) -> String {
        self.ask("PATCH", path, "content-type: application/json\r\n", body)
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        ask(&self.address, method, path, headers, body)
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    /// Waits for its end and returns how it ended, and what else it printed.
    pub(crate) fn wait(mut self) -> (ExitStatus, Vec<String>) {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it goes on: {:#?}", self.seen),
            }
        }
        let status = self.child.wait().unwrap();
        (status, std::mem::take(&mut self.seen))
    }
}

/// Posts JSON to a server, from any thread, and returns the answer as it comes.
pub(crate) fn post_to(address: &str, path: &str, body: &str) -> String {
    let headers = "content-type: application/json\r\n";
    ask(address, "POST", path, headers, body)
}

fn ask(address: &str, method: &str, path: &str, headers: &str, body: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-length: {length}\r\n{headers}\r\n{body}",
    );
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is over already where the test waited for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
