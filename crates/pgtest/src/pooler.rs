//! `PgBouncer` in front of a server.

use crate::binaries::{NotThere, attempt, command};
use crate::cluster::{Cluster, comes_up, free_port, shared};
use nix::unistd::chown;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use tempfile::TempDir;

/// The first version that knows which prepared statements a client made.
const TRACKS_STATEMENTS: (u32, u32) = (1, 21);

/// Runs a program until nobody holds the other end of its input any more. Asked more kindly, a newer
/// one waits for its clients to go first.
const WATCHDOG: &str = r#""$@" & read -r _; kill -QUIT "$!"; wait"#;

/// What becomes of a prepared statement when the next transaction gets another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statements {
    /// It is prepared there as well.
    Kept,
    /// It is not known there, as with all versions before 1.21.
    Forgotten,
}

/// Returns the pooler of five connections that all tests of this process share, in front of the
/// server that they share.
///
/// # Errors
///
/// [`NotThere`], where it is not installed, or is too old to keep statements.
///
/// # Panics
///
/// Where there is no server to start.
pub fn shared_pooler() -> Result<&'static Pooler, NotThere> {
    static SHARED: LazyLock<Result<Pooler, NotThere>> = LazyLock::new(|| {
        if !shared().is_own() {
            return Err(NotThere(
                "the server of DATABASE_URL gets no pooler".to_owned(),
            ));
        }
        Pooler::start(shared(), 5, Statements::Kept)
    });
    SHARED.as_ref().map_err(Clone::clone)
}

/// A `PgBouncer` that gives each transaction any of a few connections.
#[derive(Debug)]
pub struct Pooler {
    url: String,
    watchdog: Child,
    _folder: TempDir,
}

impl Pooler {
    /// Starts one in front of a server of our own, with so many connections for each database.
    ///
    /// # Errors
    ///
    /// [`NotThere`], where it is not installed, or is too old to keep statements.
    ///
    /// # Panics
    ///
    /// Where it does not start.
    pub fn start(
        cluster: &Cluster,
        connections: u32,
        statements: Statements,
    ) -> Result<Self, NotThere> {
        let program = program()?;
        let version = version(&program)?;
        let kept = match (statements, version >= TRACKS_STATEMENTS) {
            (Statements::Kept, true) => "max_prepared_statements = 200",
            (Statements::Forgotten, true) => "max_prepared_statements = 0",
            (Statements::Forgotten, false) => "",
            (Statements::Kept, false) => {
                let why = "PgBouncer keeps prepared statements from 1.21 on, and this one is older";
                return Err(NotThere(why.to_owned()));
            }
        };
        let folder = tempfile::Builder::new()
            .prefix("anteroom-pgbouncer-")
            .tempdir()
            .map_err(|error| NotThere(format!("cannot make a folder: {error}")))?;
        let (path, port) = (folder.path(), free_port());
        let settings = write_settings(cluster, path, port, kept, connections);
        let mut sh = command(Path::new("sh"), cluster.server_user(), path);
        let watchdog = sh
            .args(["-c", WATCHDOG, "watchdog"])
            .args([&program, &settings])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("there is a shell");
        let (user, password) = Cluster::user_and_password();
        let pooler = Self {
            url: format!("postgres://{user}:{password}@127.0.0.1:{port}/{{}}"),
            watchdog,
            _folder: folder,
        };
        let url = pooler.url("postgres");
        comes_up(|| {
            let mut psql = Command::new("psql");
            psql.args(["-X", "-q", "-d", &url, "-c", "SELECT 1"]);
            psql
        })
        .expect("PgBouncer comes up");
        Ok(pooler)
    }

    /// Returns the URL of a database of the server behind it.
    pub fn url(&self, database: &str) -> String {
        self.url.replace("{}", database)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // What it reads from ends, and so does the program.
        drop(self.watchdog.stdin.take());
        let _status = self.watchdog.wait();
    }
}

fn program() -> Result<PathBuf, NotThere> {
    let path = crate::binaries::variable("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.push("/usr/sbin".into());
    let mut programs = places.iter().map(|place| place.join("pgbouncer"));
    let missing =
        || NotThere("PgBouncer is not installed: install the Debian package pgbouncer".to_owned());
    programs
        .find(|program| program.is_file())
        .ok_or_else(missing)
}

/// Returns the version that a program says it is: `PgBouncer 1.21.0`, and more.
fn version(program: &Path) -> Result<(u32, u32), NotThere> {
    let said = attempt(Command::new(program).arg("--version")).map_err(NotThere)?;
    let number = said.split_whitespace().nth(1).unwrap_or_default();
    let mut parts = number.split('.').map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err(NotThere(format!("PgBouncer says that it is {said:?}"))),
    }
}

/// Writes what it needs to know, and returns the name of the file.
fn write_settings(
    cluster: &Cluster,
    folder: &Path,
    port: u16,
    kept: &str,
    connections: u32,
) -> PathBuf {
    let (user, password) = Cluster::user_and_password();
    let settings = format!(
        "[databases]\n* = host=127.0.0.1 port={server}\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = plain\nauth_file = {folder}/users\npool_mode = transaction\n\
         default_pool_size = {connections}\nmax_client_conn = 500\n{kept}\n",
        server = cluster.port(),
        folder = folder.display(),
    );
    let file = folder.join("pgbouncer.ini");
    let users = format!("\"{user}\" \"{password}\"\n");
    for (path, content) in [(folder.join("users"), users), (file.clone(), settings)] {
        fs::write(&path, content).expect("a folder of our own");
        own(cluster, &path);
    }
    own(cluster, folder);
    file
}

/// Gives a file to the user that servers run as.
fn own(cluster: &Cluster, path: &Path) {
    if let Some(user) = cluster.server_user() {
        chown(path, Some(user.uid), Some(user.gid)).expect("root may");
    }
}
