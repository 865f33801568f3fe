//! Hand-written SQL: what the database allows. A job that waits, one that runs and one that is done
//! are rows of three narrow tables, and each step is one statement for many jobs, in a transaction of
//! its own. It retries nothing, and rescues nobody.

use crate::clock::now;
use crate::follow::Follow;
use crate::life::take;
use crate::order::{Done, Order, SUBMITTERS};
use crate::requests::INPUT_BYTES;
use crate::server::{self, RESULT};
use anyhow::{Context, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls, Statement};
use uuid::Uuid;

/// Those that lease and finish, at once.
const LEASERS: usize = 2;
/// Jobs of one lease.
const LEASED_MAX: i64 = 500;
/// How long a leaser that found nothing waits.
const PAUSE: Duration = Duration::from_millis(2);

const TABLES: &str = "
CREATE TABLE job (id uuid PRIMARY KEY, task text NOT NULL, input bytea NOT NULL,
    created_at timestamptz NOT NULL);
CREATE TABLE ready (queue int, priority smallint, run_at timestamptz, id uuid,
    PRIMARY KEY (queue, priority, run_at, id));
CREATE TABLE lease (id uuid PRIMARY KEY, node int NOT NULL, attempt smallint NOT NULL,
    since timestamptz NOT NULL);
CREATE TABLE result (id uuid PRIMARY KEY, state smallint NOT NULL, body bytea NOT NULL,
    finished_at timestamptz NOT NULL)";
/// Every statement has an index to go by; tables without statistics are scanned else.
const BY_INDEX: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; \
    SET enable_mergejoin = off";
const SUBMIT: &str = "WITH given AS (SELECT * FROM unnest($1::uuid[], $2::bytea[]) AS t (id, input)), \
    kept AS (INSERT INTO job SELECT id, 'noop', input, now() FROM given) \
    INSERT INTO ready SELECT 1, 0, now(), id FROM given";
const LEASE: &str = "WITH gone AS (DELETE FROM ready WHERE ctid = ANY (ARRAY( \
        SELECT ctid FROM ready WHERE queue = 1 AND priority = 0 AND run_at <= now() \
        ORDER BY run_at, id LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING id), \
    leased AS (INSERT INTO lease SELECT id, 1, 1, now() FROM gone) \
    SELECT job.id, job.input FROM gone JOIN job USING (id)";
const FINISH: &str = "WITH gone AS (DELETE FROM lease WHERE id = ANY ($1::uuid[]) \
        AND node = 1 AND attempt = 1 RETURNING id) \
    INSERT INTO result SELECT id, 0, t.body, now() \
    FROM gone JOIN unnest($1::uuid[], $2::bytea[]) AS t (id, body) USING (id)";
/// What is in no table has no index: a hash brings bodies to their jobs.
const BY_HASH: &str = "SET enable_hashjoin = on";

/// The tables, and who uses them.
#[derive(Debug)]
pub(crate) struct Raw {
    url: String,
    input: Vec<u8>,
    /// How many results there should be; none where it ended early.
    results: Option<u64>,
}

impl Raw {
    /// Makes the tables.
    pub(crate) async fn start(url: &str) -> anyhow::Result<Self> {
        let raw = Self {
            url: url.to_owned(),
            input: server::input(INPUT_BYTES).bytes.to_vec(),
            results: None,
        };
        raw.connect().await?.batch_execute(TABLES).await?;
        Ok(raw)
    }

    async fn connect(&self) -> anyhow::Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await?;
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with the client, and what fails in it fails there as well"
        )]
        tokio::spawn(connection);
        client.batch_execute(BY_INDEX).await?;
        Ok(client)
    }

    /// Submits until none is left, on so many connections.
    async fn submit(
        &self,
        left: &Arc<AtomicU64>,
        batch: u64,
        connections: usize,
    ) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
        let mut running = JoinSet::new();
        for number in 0..connections {
            let client = self.connect().await?;
            let statement = client.prepare(SUBMIT).await?;
            let (left, input) = (left.clone(), self.input.clone());
            let mut ids = Ids(u64::try_from(number)? << 32);
            running.spawn(async move {
                loop {
                    let count = take(&left, batch)?;
                    if count == 0 {
                        return Ok(());
                    }
                    let ids: Vec<Uuid> = ids.by_ref().take(count).collect();
                    let inputs = vec![&input[..]; count];
                    client.execute(&statement, &[&ids, &inputs]).await?;
                }
            });
        }
        Ok(running)
    }

    /// Leases and finishes jobs until it is ended.
    async fn work(&self, done: &Arc<AtomicU64>) -> anyhow::Result<Workers> {
        let ended = Arc::new(AtomicBool::new(false));
        let mut running = JoinSet::new();
        for _ in 0..LEASERS {
            let worker = Worker {
                client: self.connect().await?,
                finisher: self.connect().await?,
                ended: ended.clone(),
                done: done.clone(),
            };
            let lease = worker.client.prepare(LEASE).await?;
            worker.finisher.batch_execute(BY_HASH).await?;
            let finish = worker.finisher.prepare(FINISH).await?;
            running.spawn(async move { worker.run(&lease, &finish).await });
        }
        Ok(Workers { running, ended })
    }

    async fn live(
        &mut self,
        jobs: u64,
        batch: u64,
        seconds: f64,
        is_backlog: bool,
    ) -> anyhow::Result<Done> {
        let done = Arc::new(AtomicU64::new(0));
        let left = Arc::new(AtomicU64::new(jobs));
        let mut workers = self.work(&done).await?;
        let begun = now();
        let limit = Duration::from_secs_f64(seconds);
        let mut submitters = self.submit(&left, batch, SUBMITTERS).await?;
        while done.load(Ordering::Relaxed) < jobs && begun.elapsed() < limit {
            // What fails ends it at once.
            tokio::select! {
                ended = submitters.join_next(), if !submitters.is_empty() => all_well(ended)?,
                ended = workers.running.join_next() => all_well(ended)?,
                () = pause() => {}
            }
        }
        let span = begun.elapsed();
        let finished = done.load(Ordering::Relaxed);
        self.results = (finished >= jobs && !is_backlog).then_some(jobs);
        left.store(0, Ordering::Relaxed);
        workers.ended.store(true, Ordering::Relaxed);
        join(submitters).await?;
        join(workers.running).await?;
        Ok(Done::new(finished, span))
    }
}

impl Follow for Raw {
    fn version(&self) -> String {
        String::new()
    }

    async fn follow(&mut self, order: Order) -> anyhow::Result<Done> {
        let begun = now();
        let (jobs, batch, connections) = match order {
            Order::Submit { jobs, batch } => (jobs, batch, SUBMITTERS),
            Order::Single { jobs, connections } => (jobs, 1, usize::try_from(connections)?),
            Order::Life {
                jobs,
                batch,
                seconds,
                is_backlog,
            } => return self.live(jobs, batch, seconds, is_backlog).await,
            Order::Each { .. }
            | Order::Latency { .. }
            | Order::Idle
            | Order::Stick { .. }
            | Order::Drain { .. } => {
                anyhow::bail!("a loop of one's own does so as it is written to")
            }
        };
        let left = Arc::new(AtomicU64::new(jobs));
        join(self.submit(&left, batch, connections).await?).await?;
        Ok(Done::new(jobs, begun.elapsed()))
    }

    async fn check(&mut self) -> anyhow::Result<()> {
        if let Some(expected) = self.results.take() {
            let client = self.connect().await?;
            let asked = "SELECT count(*) FROM result WHERE body = $1";
            let row = client.query_one(asked, &[&RESULT]).await?;
            let found: i64 = row.get(0);
            ensure!(
                u64::try_from(found)? == expected,
                "{found} results of {expected} jobs"
            );
        }
        Ok(())
    }
}

struct Workers {
    running: JoinSet<anyhow::Result<()>>,
    ended: Arc<AtomicBool>,
}

struct Worker {
    client: Client,
    finisher: Client,
    ended: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
}

impl Worker {
    async fn run(&self, lease: &Statement, finish: &Statement) -> anyhow::Result<()> {
        while !self.ended.load(Ordering::Relaxed) {
            let rows = self.client.query(lease, &[&LEASED_MAX]).await?;
            if rows.is_empty() {
                pause().await;
                continue;
            }
            let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
            let inputs = rows.iter().map(|row| row.get::<_, &[u8]>(1).len());
            ensure!(
                inputs.sum::<usize>() == ids.len() * INPUT_BYTES,
                "an input is another"
            );
            let bodies = vec![RESULT; ids.len()];
            let finished = self.finisher.execute(finish, &[&ids, &bodies]).await?;
            ensure!(finished == u64::try_from(ids.len())?, "a lease was lost");
            self.done.fetch_add(finished, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Ids that grow with time, each connection's apart from the others', random at their ends.
struct Ids(u64);

impl Iterator for Ids {
    type Item = Uuid;

    fn next(&mut self) -> Option<Uuid> {
        self.0 += 1;
        let millis = u128::from(
            anteroom::clock::Clock::system()
                .now()
                .as_millis()
                .unsigned_abs(),
        );
        // Spreads what is counted over all bits, and never the same twice.
        let tail = u128::from(self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Some(Uuid::from_u128((millis << 80) | (7 << 76) | tail))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this program measures time; nothing that it decides hangs on it"
)]
async fn pause() {
    tokio::time::sleep(PAUSE).await;
}

type Ended = Option<Result<anyhow::Result<()>, tokio::task::JoinError>>;

fn all_well(ended: Ended) -> anyhow::Result<()> {
    ended.map_or(Ok(()), |ended| ended.context("a connection's work")?)
}

async fn join(mut running: JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    while let Some(ended) = running.join_next().await {
        all_well(Some(ended))?;
    }
    Ok(())
}
