//! One server.

use crate::binaries::{NotThere, attempt, binaries, command, done, user, variable};
use crate::database::TestDatabase;
use nix::sys::statvfs::statvfs;
use nix::unistd::{User, chown};
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use tempfile::TempDir;

/// The name and the password of the user that everything may.
const USER: &str = "anteroom";
const PASSWORD: &str = "pgtest-secret";
/// Within this the server has to come up or go down.
const PATIENCE_SECONDS: &str = "60";

/// The setting of a server that syncs nothing.
const NO_SYNC: &str = "fsync = off";

/// A file system in memory, and the room that it has to have for a server.
const MEMORY: &str = "/dev/shm";
const MEMORY_BYTES_MIN: u64 = 2 << 30;

/// What every server of ours is set to. What it promises is that of a real one, but for `fsync`,
/// which a test that is not about it can do without: [`shared`] does.
const SETTINGS: &[&str] = &[
    "listen_addresses = '127.0.0.1'",
    "max_connections = 300",
    "shared_buffers = 64MB",
    "max_wal_size = 256MB",
    "log_min_messages = warning",
];

/// Stops the server once nobody holds the other end of its input any more, and removes the folder.
const WATCHDOG: &str = r#"
read -r _
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid"
waited=0
while [ -e "$1/data/postmaster.pid" ] && [ $waited -lt 100 ]; do
    sleep 0.05
    waited=$((waited + 1))
done
rm -rf "$1"
"#;

/// How a server is told to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// As by an operator: it ends all connections, and what they were at is rolled back.
    Fast,
    /// As by a crash: it stops where it is, and recovers when it comes back.
    Immediate,
}

/// A server that belongs to this process, or one that `DATABASE_URL` names.
#[derive(Debug)]
pub struct Cluster {
    /// With `{}` where the name of the database stands.
    url: String,
    psql: PathBuf,
    own: Option<Own>,
}

/// What there is of a server of our own.
#[derive(Debug)]
struct Own {
    binaries: PathBuf,
    user: Option<User>,
    port: u16,
    // Before the folder: it removes the folder, too.
    watchdog: Child,
    folder: TempDir,
}

/// Returns the server that all tests of this process share. It is started without `fsync`, which is
/// why a store that is opened on it has to be told that this is allowed.
///
/// # Panics
///
/// Where there is no server to start: a test that did not run has not passed.
pub fn shared() -> &'static Cluster {
    static SHARED: LazyLock<Result<Cluster, NotThere>> = LazyLock::new(|| {
        // Nothing drops a static: its server goes with the process, by its watchdog.
        match variable("DATABASE_URL") {
            Some(url) => Cluster::running(&url),
            None => Cluster::start(&[NO_SYNC]),
        }
    });
    match &*SHARED {
        Ok(cluster) => cluster,
        Err(why) => panic!("{why}"),
    }
}

impl Cluster {
    /// Makes and starts a server of its own, with settings beside the usual ones. One without `fsync`
    /// lies in memory where there is room.
    ///
    /// # Errors
    ///
    /// [`NotThere`], where `PostgreSQL` is not installed.
    ///
    /// # Panics
    ///
    /// Where it does not start.
    pub fn start(settings: &[&str]) -> Result<Self, NotThere> {
        let binaries = binaries()?;
        let user = user()?;
        let folder = tempfile::Builder::new()
            .prefix("anteroom-pg-")
            .tempdir_in(place(settings))
            .map_err(|error| NotThere(format!("cannot make a folder: {error}")))?;
        if let Some(user) = &user {
            chown(folder.path(), Some(user.uid), Some(user.gid)).expect("root may");
        }
        init(&binaries, user.as_ref(), folder.path());
        let port = free_port();
        let mut lines: Vec<String> = SETTINGS.iter().map(ToString::to_string).collect();
        lines.extend(settings.iter().map(ToString::to_string));
        lines.push(format!("port = {port}"));
        lines.push(format!(
            "unix_socket_directories = '{}'",
            folder.path().display()
        ));
        let own = Own {
            watchdog: watch(folder.path()),
            binaries,
            user,
            port,
            folder,
        };
        own.append("postgresql.conf", &lines.join("\n"));
        own.up();
        Ok(Self {
            url: format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{port}/{{}}"),
            psql: own.binaries.join("psql"),
            own: Some(own),
        })
    }

    /// Returns the server of a URL, whose database is of no matter.
    fn running(url: &str) -> Result<Self, NotThere> {
        let wrong =
            || NotThere("DATABASE_URL is not postgres://USER:PASSWORD@HOST/DATABASE".into());
        let (address, parameters) = url.split_once('?').unwrap_or((url, ""));
        let (server, _database) = address.rsplit_once('/').ok_or_else(wrong)?;
        let mark = if parameters.is_empty() { "" } else { "?" };
        Ok(Self {
            url: format!("{server}/{{}}{mark}{parameters}"),
            psql: binaries().map_or_else(|_| "psql".into(), |folder| folder.join("psql")),
            own: None,
        })
    }

    /// Returns the URL of a database of this server, over TCP, with a password.
    pub fn url(&self, database: &str) -> String {
        self.url.replace("{}", database)
    }

    /// Returns the URL of a database of this server over its socket.
    ///
    /// # Panics
    ///
    /// If the server is not our own.
    pub fn socket_url(&self, database: &str) -> String {
        let own = self.own();
        let (folder, port) = (own.folder.path().display(), own.port);
        format!("postgres:///{database}?host={folder}&port={port}&user={USER}")
    }

    /// Makes a database for one test. It is dropped with what is returned.
    pub fn database(&self) -> TestDatabase<'_> {
        TestDatabase::new(self)
    }

    /// Returns what `psql` prints, values separated by `|`.
    ///
    /// # Panics
    ///
    /// With what the server says, where it refuses.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        done(&mut self.psql(database, sql))
    }

    pub(crate) fn psql(&self, database: &str, sql: &str) -> Command {
        let mut psql = Command::new(&self.psql);
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            .arg("-d")
            .arg(self.url(database))
            .arg("-c")
            .arg(sql);
        psql
    }

    /// Returns the port on loopback.
    ///
    /// # Panics
    ///
    /// If the server is not our own.
    pub fn port(&self) -> u16 {
        self.own().port
    }

    /// Returns the folder that has the data in `data`.
    ///
    /// # Panics
    ///
    /// If the server is not our own.
    pub fn folder(&self) -> &Path {
        self.own().folder.path()
    }

    /// Stops the server.
    ///
    /// # Panics
    ///
    /// If the server is not our own, or does not stop.
    pub fn stop(&self, how: Shutdown) {
        self.own().down(how);
    }

    /// Starts the server after [`stop`](Self::stop), where it was, and returns once it answers.
    ///
    /// # Panics
    ///
    /// If the server is not our own, or does not start.
    pub fn start_again(&self) {
        self.own().up();
    }

    /// Stops the server and starts it again.
    ///
    /// # Panics
    ///
    /// If the server is not our own, or does not do so.
    pub fn restart(&self, how: Shutdown) {
        self.stop(how);
        self.start_again();
    }

    /// Adds lines to its configuration, which count after a restart.
    ///
    /// # Panics
    ///
    /// If the server is not our own.
    pub fn set(&self, lines: &str) {
        self.own().append("postgresql.conf", lines);
    }

    /// Puts a file into the folder of the data, as the server's.
    ///
    /// # Panics
    ///
    /// If the server is not our own.
    pub fn put(&self, name: &str, content: &[u8], mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        let own = self.own();
        let path = own.folder.path().join("data").join(name);
        fs::write(&path, content).expect("a folder of our own");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a file of our own");
        if let Some(user) = &own.user {
            chown(&path, Some(user.uid), Some(user.gid)).expect("root may");
        }
    }

    /// Ends all connections to a database but the one that does so, and returns how many there were.
    ///
    /// # Panics
    ///
    /// If the server refuses.
    pub fn terminate_backends(&self, database: &str) -> usize {
        let sql = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = '{database}' AND pid <> pg_backend_pid()"
        );
        self.sql("postgres", &sql).parse().expect("a count")
    }

    pub(crate) fn user_and_password() -> (&'static str, &'static str) {
        (USER, PASSWORD)
    }

    pub(crate) fn server_user(&self) -> Option<&User> {
        self.own().user.as_ref()
    }

    pub(crate) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    fn own(&self) -> &Own {
        let own = self.own.as_ref();
        own.expect("a server of DATABASE_URL is not ours to stop: use Cluster::start")
    }
}

impl Own {
    fn up(&self) {
        let log = self.folder.path().join("log");
        let log = log.to_string_lossy();
        let mut pg_ctl = self.pg_ctl();
        pg_ctl.args(["start", "-w", "-t", PATIENCE_SECONDS, "-l", &log]);
        // The server inherits its output, so that nobody may wait for its end.
        let status = pg_ctl
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !status.is_ok_and(|status| status.success()) {
            let log = fs::read_to_string(&*log).unwrap_or_default();
            panic!("PostgreSQL does not start:\n{log}");
        }
    }

    fn down(&self, how: Shutdown) {
        let mode = match how {
            Shutdown::Fast => "fast",
            Shutdown::Immediate => "immediate",
        };
        done(
            self.pg_ctl()
                .args(["stop", "-w", "-t", PATIENCE_SECONDS, "-m", mode]),
        );
    }

    fn pg_ctl(&self) -> Command {
        let folder = self.folder.path();
        let mut pg_ctl = command(&self.binaries.join("pg_ctl"), self.user.as_ref(), folder);
        pg_ctl.arg("-D").arg(folder.join("data"));
        pg_ctl
    }

    fn append(&self, name: &str, lines: &str) {
        use std::io::Write;
        let path = self.folder.path().join("data").join(name);
        let file = fs::OpenOptions::new().append(true).open(path);
        let mut file = file.expect("a file of our own");
        writeln!(file, "{lines}").expect("a file of our own");
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // What it reads from ends, and so does the server.
        drop(self.watchdog.stdin.take());
        let _status = self.watchdog.wait();
    }
}

/// Returns the folder for the data of a server. To drop a database takes seconds where the disk is
/// told of every block that is free again, and a server that syncs nothing promises nothing by it.
fn place(settings: &[&str]) -> PathBuf {
    let room = statvfs(MEMORY).map_or(0, |room| room.blocks_available() * room.fragment_size());
    if settings.contains(&NO_SYNC) && room >= MEMORY_BYTES_MIN {
        MEMORY.into()
    } else {
        std::env::temp_dir()
    }
}

/// Makes the folder `data`.
fn init(binaries: &Path, user: Option<&User>, folder: &Path) {
    let password = folder.join("password");
    fs::write(&password, PASSWORD).expect("a folder of our own");
    if let Some(user) = user {
        chown(&password, Some(user.uid), Some(user.gid)).expect("root may");
    }
    let mut initdb = command(&binaries.join("initdb"), user, folder);
    initdb
        .args([
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
            "--auth-local=trust",
        ])
        .args(["--auth-host=scram-sha-256", "--username", USER, "--pwfile"])
        .arg(&password)
        .arg("-D")
        .arg(folder.join("data"));
    done(&mut initdb);
}

/// Starts what ends the server when this process is gone, by whatever.
fn watch(folder: &Path) -> Child {
    Command::new("sh")
        .args(["-c", WATCHDOG, "watchdog"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        // So that a Ctrl-C of the terminal does not end it before its work.
        .process_group(0)
        .spawn()
        .expect("there is a shell")
}

/// Returns a port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("bound").port()
}

/// Says whether a command goes well within the usual patience.
pub(crate) fn comes_up(mut probe: impl FnMut() -> Command) -> Result<(), String> {
    let mut tries = 0;
    loop {
        match attempt(&mut probe()) {
            Ok(_) => return Ok(()),
            Err(why) if tries == 100 => return Err(why),
            Err(_) => tries += 1,
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
