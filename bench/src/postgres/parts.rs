//! The parts of a run: one order to a contender on a database of its own, and what is watched
//! meanwhile.

use super::cluster::Server;
use super::contender::{Programs, Who};
use crate::contender::ORDER_MAX;
use crate::order::Order;
use crate::{cpu, disk};
use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use std::time::Duration;
use tokio_postgres::NoTls;

/// Appends that the quiet disk is timed with.
const QUIET_APPENDS: usize = 50;
/// Jobs of one submit of a backlog.
const BACKLOG_BATCH: u64 = 1_000;

/// What a contender has to do, and beside what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    /// What is measured.
    pub(crate) order: Order,
    /// Jobs that wait already.
    pub(crate) backlog: u64,
    /// Whether somebody keeps a transaction open all the while.
    pub(crate) is_held: bool,
}

/// What a part came to.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Jobs.
    pub(crate) jobs: u64,
    /// The time that they took.
    pub(crate) span: Duration,
    /// CPU time of the database.
    pub(crate) database: Duration,
    /// CPU time of the contender's processes.
    pub(crate) own: Duration,
    /// Bytes of the database's log.
    pub(crate) wal: u64,
    /// What other programs used meanwhile, as a share of all cores.
    pub(crate) elsewhere: f64,
    /// The quiet disk, just before.
    pub(crate) disk: Histogram<u64>,
    /// What the contender says it is.
    pub(crate) version: String,
    /// The statements that took the longest, if they were asked for.
    pub(crate) statements: Option<String>,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53, which no run reaches"
)]
impl Figures {
    /// Returns jobs a second.
    pub(crate) fn rate(&self) -> f64 {
        self.jobs as f64 / self.span.as_secs_f64()
    }

    /// Returns microseconds of the database's CPU time for a job.
    pub(crate) fn database_us(&self) -> f64 {
        self.database.as_secs_f64() * 1e6 / self.jobs as f64
    }

    /// Returns microseconds of the contender's CPU time for a job.
    pub(crate) fn own_us(&self) -> f64 {
        self.own.as_secs_f64() * 1e6 / self.jobs as f64
    }

    /// Returns bytes of the log for a job.
    pub(crate) fn wal_bytes(&self) -> f64 {
        self.wal as f64 / self.jobs as f64
    }

    /// Returns the median of an append to the quiet disk, in milliseconds.
    pub(crate) fn fdatasync_ms(&self) -> f64 {
        self.disk.value_at_quantile(0.5) as f64 / 1_000.0
    }
}

impl Part {
    /// Measures one contender.
    ///
    /// # Errors
    ///
    /// When it fails, or has not done what it says.
    pub(crate) fn measure(
        self,
        server: &Server,
        programs: &Programs,
        who: Who,
        statements: Option<u32>,
    ) -> anyhow::Result<Figures> {
        let database = server.database(statements.is_some())?;
        let mut contender = programs.start(who, &database.url())?;
        if self.backlog > 0 {
            contender.prepare(Order::Submit {
                jobs: self.backlog,
                batch: BACKLOG_BATCH,
            })?;
        }
        let held = self.is_held.then(|| Held::begin(&database.url()));
        let held = held.transpose()?;
        let disk = disk::quiet(server.folder(), QUIET_APPENDS)?;
        if statements.is_some() {
            database.forget_statements();
        }
        let before = (database.wal()?, Watched::read(server, contender.pid())?);
        contender.order(self.order)?;
        let done = contender.done(ORDER_MAX)?;
        let used = Watched::read(server, contender.pid())?.since(&before.1);
        let wal = database.wal()?.saturating_sub(before.0);
        contender.well()?;
        let statements = statements.map(|limit| database.top_statements(limit));
        if let Some(held) = held {
            held.end()?;
        }
        ensure!(done.jobs > 0, "{} did not do a single job", who.name());
        let version = contender.version.clone();
        contender.end()?;
        Ok(Figures {
            jobs: done.jobs,
            span: done.span,
            database: used.database,
            own: used.own,
            wal,
            elsewhere: used.elsewhere(),
            disk,
            version,
            statements,
        })
    }
}

/// Who has used the cores up to now, or in a span.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    /// The database.
    pub(crate) database: Duration,
    /// The contender.
    pub(crate) own: Duration,
    busy: Duration,
    all: Duration,
}

impl Watched {
    /// Reads it.
    pub(crate) fn read(server: &Server, pid: u32) -> anyhow::Result<Self> {
        let (busy, all) = cpu::of_machine()?;
        Ok(Self {
            database: server.cpu()?,
            own: cpu::of_tree(pid)?,
            busy,
            all,
        })
    }

    /// Returns what was used since.
    pub(crate) fn since(self, before: &Self) -> Self {
        Self {
            database: self.database.saturating_sub(before.database),
            own: self.own.saturating_sub(before.own),
            busy: self.busy.saturating_sub(before.busy),
            all: self.all.saturating_sub(before.all),
        }
    }

    /// Returns the share of all cores that neither of the two used.
    pub(crate) fn elsewhere(&self) -> f64 {
        let others = self.busy.saturating_sub(self.database + self.own);
        others.as_secs_f64() / self.all.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// A transaction that is kept open with a snapshot and a number of its own, as by a long report: no
/// row that is dead since can be cleaned away.
struct Held {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
}

impl Held {
    fn begin(url: &str) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
            #[expect(
                clippy::disallowed_methods,
                reason = "it ends with the client, and its runtime with this value"
            )]
            tokio::spawn(connection);
            let held = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id()";
            client.batch_execute(held).await?;
            anyhow::Ok(client)
        });
        let client = client.context("a transaction to be held")?;
        Ok(Self { runtime, client })
    }

    /// Ends it; an error if it was not there any more.
    fn end(self) -> anyhow::Result<()> {
        let ended = self
            .runtime
            .block_on(self.client.batch_execute("SELECT 1; COMMIT"));
        ended.context("the transaction was not held")
    }
}
