//! The server of `PostgreSQL` under test: one of our own, set up alike for everybody, and what is
//! watched of it.

use crate::cpu;
use anteroom_pgtest::{Cluster, TestDatabase};
use anyhow::{Context, anyhow};
use std::path::Path;
use std::time::Duration;

/// What it is set to, beside what every server of the tests is. It keeps what it commits, and no
/// checkpoint falls into a part.
const SETTINGS: [&str; 7] = [
    "fsync = on",
    "synchronous_commit = on",
    "full_page_writes = on",
    "shared_buffers = 1GB",
    "wal_buffers = 64MB",
    "max_wal_size = 16GB",
    "checkpoint_timeout = 1h",
];
/// Counts statements where a database asks for it, and costs nothing elsewhere.
const COUNTING: [&str; 2] = [
    "shared_preload_libraries = 'pg_stat_statements'",
    "pg_stat_statements.track = 'none'",
];

/// A server, and whether it can count statements.
#[derive(Debug)]
pub(crate) struct Server {
    cluster: Cluster,
    counts: bool,
    pid: u32,
}

impl Server {
    /// Starts one, in the system's folder for temporary files.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let no_server = |why| anyhow!("no server can be measured: {why}");
        let binaries = anteroom_pgtest::binaries().map_err(no_server)?;
        let library = binaries.join("../lib/pg_stat_statements.so");
        let counts = library.is_file();
        let counting = if counts { &COUNTING[..] } else { &[] };
        let cluster = Cluster::start(&[&SETTINGS, counting].concat()).map_err(no_server)?;
        let file = cluster.folder().join("data/postmaster.pid");
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let pid = text.lines().next().unwrap_or_default().trim().parse();
        Ok(Self {
            pid: pid.with_context(|| format!("{} is not as expected", file.display()))?,
            cluster,
            counts,
        })
    }

    /// Returns the folder whose disk is under test.
    pub(crate) fn folder(&self) -> &Path {
        self.cluster.folder()
    }

    /// Describes it in a line.
    pub(crate) fn describe(&self) -> String {
        format!("PostgreSQL {}, {}", self.version(), settings())
    }

    /// Returns its version.
    pub(crate) fn version(&self) -> String {
        let version = self.cluster.sql("postgres", "SHOW server_version");
        version.split(' ').next().unwrap_or_default().to_owned()
    }

    /// Returns the URL of the database that every server has.
    pub(crate) fn url(&self) -> String {
        self.cluster.url("postgres")
    }

    /// Returns the number of the process that all of its others descend from.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Makes an empty database, whose statements are counted if that is asked for, and has what was
    /// written before go to the disk.
    pub(crate) fn database(&self, counted: bool) -> anyhow::Result<Database<'_>> {
        let inner = self.cluster.database();
        if counted {
            anyhow::ensure!(
                self.counts,
                "statements cannot be counted: pg_stat_statements is not installed"
            );
            inner.sql("CREATE EXTENSION pg_stat_statements");
            let name = inner.name();
            inner.sql(&format!(
                "ALTER DATABASE {name} SET pg_stat_statements.track = 'all'"
            ));
        }
        inner.sql("CHECKPOINT");
        Ok(Database(inner))
    }

    /// Tells whether statements can be counted.
    pub(crate) fn counts(&self) -> bool {
        self.counts
    }

    /// Returns the CPU time that all of its processes have used.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu::of_tree(self.pid)
    }
}

/// Says what every server is set to.
pub(crate) fn settings() -> String {
    let each = SETTINGS.iter();
    let settings: Vec<_> = each.map(|one| format!("`{one}`")).collect();
    settings.join(", ")
}

/// A database of its own, dropped with this value.
#[derive(Debug)]
pub(crate) struct Database<'a>(TestDatabase<'a>);

impl Database<'_> {
    /// Returns its URL.
    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    /// Returns how many bytes have gone to the log so far.
    pub(crate) fn wal(&self) -> anyhow::Result<u64> {
        let asked = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')";
        number(&self.0.sql(asked))
    }

    /// Forgets the statements counted so far.
    pub(crate) fn forget_statements(&self) {
        self.0
            .sql("SET pg_stat_statements.track = 'none'; SELECT pg_stat_statements_reset()");
    }

    /// Returns how many statements were run here since, but this.
    pub(crate) fn statements(&self) -> anyhow::Result<u64> {
        number(&self.0.sql(
            "SET pg_stat_statements.track = 'none'; \
             SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE dbid = \
             (SELECT oid FROM pg_database WHERE datname = current_database())",
        ))
    }

    /// Returns the statements that took the longest in all: calls, milliseconds in all, rows, bytes
    /// of log, and the text's beginning and end, separated by `|`.
    pub(crate) fn top_statements(&self, limit: u32) -> String {
        self.0.sql(&format!(
            "SET pg_stat_statements.track = 'none'; \
             SELECT calls, round(total_exec_time::numeric, 1), rows, wal_bytes, \
             left(text, 60) || ' … ' || right(text, 90) \
             FROM pg_stat_statements, regexp_replace(query, '\\s+', ' ', 'g') AS text \
             WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             ORDER BY total_exec_time DESC LIMIT {limit}"
        ))
    }
}

fn number(said: &str) -> anyhow::Result<u64> {
    let last = said.lines().last().unwrap_or_default();
    last.parse()
        .with_context(|| format!("PostgreSQL said {said:?}, not a number"))
}
