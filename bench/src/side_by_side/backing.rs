//! What a contender needs beside itself: a server, a database or a folder, all its own and gone with
//! its turn.

use super::install::Programs;
use super::peer::Beside;
use crate::clock::now;
use crate::postgres::Server;
use crate::process::Process;
use crate::requests::{self, INPUT_BYTES};
use crate::server::Kind;
use crate::wire::Connection;
use anyhow::{Context, bail, ensure};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long a server may take to come up.
const START_MAX: Duration = Duration::from_mins(1);
/// Between two looks at whether it is there.
const LOOK: Duration = Duration::from_millis(20);
/// No-ops at once of Anteroom: those of a durable database wait for its commits.
const CONCURRENCY: &str = "256";
const POSTGRES_CONCURRENCY: &str = "2000";

/// What runs beside a contender. All of it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Backing {
    /// Where the contender has to work.
    pub(crate) place: String,
    /// What it is, if that is to be said.
    pub(crate) version: String,
    // In the order in which they are to end.
    processes: Vec<Process>,
    daemons: Vec<Daemon>,
    server: Option<Server>,
    _folder: TempDir,
}

impl Backing {
    /// Starts what there has to be, in a folder within `dir`.
    pub(crate) fn start(beside: Beside, programs: &Programs, dir: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in(dir)?;
        let mut backing = Self {
            place: path(folder.path())?.to_owned(),
            version: String::new(),
            processes: Vec::new(),
            daemons: Vec::new(),
            server: None,
            _folder: folder,
        };
        match beside {
            Beside::Folder => {}
            Beside::Bare => backing.bare()?,
            Beside::Anteroom(kind) => backing.anteroom(kind)?,
            Beside::AnteroomPostgres => {
                let url = backing.postgres()?;
                let arguments = ["postgres-serve", "--concurrency", POSTGRES_CONCURRENCY];
                backing.listen(Process::start(&arguments, &url)?);
            }
            Beside::Postgres => backing.place = backing.postgres()?,
            Beside::Aiohttp => {
                let mut command = programs.python("aiohttp_queue.py")?;
                let server = Process::start_command(&mut command, "")?;
                backing.version = programs.version_in_python("aiohttp")?;
                backing.listen(server);
            }
            Beside::Redis(appendfsync) => backing.redis(appendfsync)?,
            Beside::Beanstalkd => backing.beanstalkd()?,
            Beside::Restate => backing.restate(programs)?,
        }
        Ok(backing)
    }

    /// Returns the numbers of its processes, those apart that they started.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let processes = self.processes.iter().map(Process::pid);
        let daemons = self.daemons.iter().map(|daemon| daemon.0.id());
        let server = self.server.iter().map(Server::pid);
        processes.chain(daemons).chain(server).collect()
    }

    fn listen(&mut self, process: Process) {
        self.place = process.address.to_string();
        self.processes.push(process);
    }

    fn bare(&mut self) -> anyhow::Result<()> {
        let server = anteroom(Kind::Memory, &self.place)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let answers = runtime.block_on(requests::learn(server.address, INPUT_BYTES))?;
        server.end()?;
        self.listen(Process::start(&["serve-bare"], &answers.to_line())?);
        Ok(())
    }

    fn anteroom(&mut self, kind: Kind) -> anyhow::Result<()> {
        let server = anteroom(kind, &self.place)?;
        self.listen(server);
        Ok(())
    }

    fn postgres(&mut self) -> anyhow::Result<String> {
        let server = Server::start()?;
        self.version = format!("PostgreSQL {}", server.version());
        let url = server.url();
        self.server = Some(server);
        Ok(url)
    }

    fn redis(&mut self, appendfsync: &str) -> anyhow::Result<()> {
        let port = free_port()?.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port, "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", appendfsync]);
        command.args(["--dir", &self.place, "--loglevel", "warning"]);
        self.version = said(
            Command::new("redis-server").arg("--version"),
            "v=",
            "Redis ",
        )?;
        self.daemon(command, &port)
    }

    fn beanstalkd(&mut self) -> anyhow::Result<()> {
        let port = free_port()?.to_string();
        let mut command = Command::new("beanstalkd");
        command.args(["-l", "127.0.0.1", "-p", &port, "-b", &self.place, "-f0"]);
        self.version = said(Command::new("beanstalkd").arg("-v"), "beanstalkd ", "")?;
        self.daemon(command, &port)
    }

    fn restate(&mut self, programs: &Programs) -> anyhow::Result<()> {
        let service = Process::start_command(&mut programs.node("restate.mjs"), "")?;
        let [node, ingress, admin] = [free_port()?, free_port()?, free_port()?];
        let mut command = Command::new(programs.restate());
        command.args(["--bind-ip", "127.0.0.1", "--listen-mode", "tcp"]);
        command.args(["--bind-port", &node.to_string(), "--no-logo"]);
        command.args(["--base-dir", &self.place]);
        command.env("RESTATE_INGRESS__BIND_PORT", ingress.to_string());
        command.env("RESTATE_ADMIN__BIND_PORT", admin.to_string());
        command
            .env("DO_NOT_TRACK", "1")
            .env("RUST_LOG", "error,octocrab=off");
        let uri = format!("http://{}", service.address);
        self.processes.push(service);
        self.version = programs.version_in_node("@restatedev/restate-server")?;
        self.daemon(command, &ingress.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(register(SocketAddr::from(([127, 0, 0, 1], admin)), &uri))
    }

    /// Starts a server, and waits until it listens at the port: that is the contender's place.
    fn daemon(&mut self, mut command: Command, port: &str) -> anyhow::Result<()> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn();
        let mut daemon = Daemon(child.with_context(|| format!("cannot start {name}"))?);
        self.place = format!("127.0.0.1:{port}");
        let begun = now();
        while TcpStream::connect(&self.place).is_err() {
            if let Some(status) = daemon.0.try_wait()? {
                bail!("{name} ended with {status}");
            }
            let waited = begun.elapsed();
            ensure!(
                waited < START_MAX,
                "{name} does not listen after {waited:?}"
            );
            std::thread::sleep(LOOK);
        }
        self.daemons.push(daemon);
        Ok(())
    }
}

/// A server of another make. Killed when it is dropped.
#[derive(Debug)]
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn anteroom(kind: Kind, folder: &str) -> anyhow::Result<Process> {
    let word = kind.word();
    let arguments = [
        "serve",
        "--store",
        word,
        "--dir",
        folder,
        "--concurrency",
        CONCURRENCY,
    ];
    Process::start(&arguments, "")
}

/// Tells Restate where the service is; again, until it is ready to hear it.
async fn register(admin: SocketAddr, uri: &str) -> anyhow::Result<()> {
    let body = format!(r#"{{"uri":"{uri}"}}"#);
    let request = format!(
        "POST /deployments HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let begun = now();
    loop {
        let asked = async {
            let mut connection = Connection::open(admin).await?;
            connection.exchange(request.as_bytes()).await?.expect(201)
        };
        match asked.await {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > START_MAX => {
                return Err(error.context("Restate does not take the service"));
            }
            Err(_) => crate::clock::pause(LOOK).await,
        }
    }
}

/// Returns a port that was free just now.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Returns the word behind a mark in what a command prints, with a name before it.
fn said(command: &mut Command, mark: &str, name: &str) -> anyhow::Result<String> {
    let output = command.output();
    let output = output.with_context(|| format!("cannot run {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_once(mark).map(|(_, rest)| rest);
    let version = version.and_then(|rest| rest.split_whitespace().next());
    Ok(format!("{name}{}", version.unwrap_or("of unknown version")))
}

fn path(folder: &Path) -> anyhow::Result<&str> {
    folder.to_str().context("a folder's name is not UTF-8")
}
