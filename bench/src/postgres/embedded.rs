//! Anteroom's engine in the process that submits, as an application embeds it.

use crate::clock::now;
use crate::follow::Follow;
use crate::life;
use crate::order::{Done, Order, SUBMITTERS};
use crate::requests::INPUT_BYTES;
use crate::server;
use anteroom::core::JobId;
use anteroom::store::Store;
use anteroom::store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
use anteroom::{Engine, Submission};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// Between two looks at how many have run.
const LOOK: Duration = Duration::from_millis(2);

/// An engine, and what it has done.
#[derive(Debug)]
pub(crate) struct Embedded {
    url: PostgresUrl,
    concurrency: usize,
    engine: Engine,
    runs: Arc<AtomicU64>,
    /// Ids of jobs that have to have their result.
    checked: Vec<JobId>,
}

impl Embedded {
    /// Starts an engine that runs nothing: workers would, and there are none.
    pub(crate) async fn start(url: &str, concurrency: usize) -> anyhow::Result<Self> {
        let url = PostgresUrl::new(url)?;
        let (engine, runs) = start(&url, None).await?;
        Ok(Self {
            url,
            concurrency,
            engine,
            runs,
            checked: Vec::new(),
        })
    }

    /// Starts another engine in its place, which runs what there is.
    async fn run_jobs(&mut self) -> anyhow::Result<()> {
        self.engine.shutdown(Duration::ZERO).await;
        (self.engine, self.runs) = start(&self.url, Some(self.concurrency)).await?;
        Ok(())
    }

    async fn until_run(&self, jobs: u64) {
        while self.runs.load(Ordering::Relaxed) < jobs {
            self.engine.clock().sleep(LOOK).await;
        }
    }

    async fn until_finished(&self) -> anyhow::Result<()> {
        while server::unfinished(&self.engine).await? > 0 {
            self.engine.clock().sleep(LOOK).await;
        }
        Ok(())
    }

    async fn live(
        &mut self,
        jobs: u64,
        batch: u64,
        seconds: f64,
        is_backlog: bool,
    ) -> anyhow::Result<Done> {
        self.run_jobs().await?;
        let left = Arc::new(AtomicU64::new(jobs));
        let begun = now();
        let limit = Duration::from_secs_f64(seconds);
        let submit = life::submit(&self.engine, &left, batch, SUBMITTERS, INPUT_BYTES);
        let all = async {
            let checked = submit.await?;
            self.until_run(jobs).await;
            // What has run has to have its result, too. With others left over nobody can tell by
            // their number.
            if !is_backlog {
                self.until_finished().await?;
            }
            anyhow::Ok(checked)
        };
        let lived = tokio::time::timeout(limit, all).await;
        let span = begun.elapsed();
        if let Ok(checked) = lived {
            let checked = checked?;
            if !is_backlog {
                self.checked = checked;
            }
        }
        Ok(Done::new(self.runs.load(Ordering::Relaxed).min(jobs), span))
    }

    async fn submit_one_by_one(&self, jobs: u64, connections: u64) -> anyhow::Result<()> {
        let left = Arc::new(AtomicU64::new(jobs));
        let submission = Submission::new(server::noop()?, server::input(INPUT_BYTES));
        let mut running = JoinSet::new();
        for _ in 0..connections {
            let (engine, left) = (self.engine.clone(), left.clone());
            let submission = submission.clone();
            running.spawn(async move {
                while life::take(&left, 1)? > 0 {
                    engine.submit(submission.clone()).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        Ok(())
    }
}

impl Follow for Embedded {
    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    async fn follow(&mut self, order: Order) -> anyhow::Result<Done> {
        let begun = now();
        let jobs = match order {
            Order::Submit { jobs, batch } => {
                let left = Arc::new(AtomicU64::new(jobs));
                life::submit(&self.engine, &left, batch, SUBMITTERS, INPUT_BYTES).await?;
                jobs
            }
            Order::Single { jobs, connections } => {
                self.submit_one_by_one(jobs, connections).await?;
                jobs
            }
            Order::Life {
                jobs,
                batch,
                seconds,
                is_backlog,
            } => return self.live(jobs, batch, seconds, is_backlog).await,
            Order::Each { .. } | Order::Latency { .. } => {
                anyhow::bail!("the server is asked for one job at a time, not the engine")
            }
            Order::Idle => {
                self.run_jobs().await?;
                0
            }
            Order::Stick { jobs } => {
                self.engine.shutdown(Duration::ZERO).await;
                let store = open(&self.url).await?;
                let run = |_attempt| std::future::pending();
                (self.engine, self.runs) =
                    server::start_with(store, Some(self.concurrency), run).await?;
                self.until_run(jobs).await;
                jobs
            }
            Order::Drain { jobs } => {
                self.until_run(jobs).await;
                self.until_finished().await?;
                jobs
            }
        };
        Ok(Done::new(jobs, begun.elapsed()))
    }

    async fn check(&mut self) -> anyhow::Result<()> {
        for id in std::mem::take(&mut self.checked) {
            life::check(&self.engine, id).await?;
        }
        Ok(())
    }
}

/// Starts an engine on a database.
pub(super) async fn start(
    url: &PostgresUrl,
    concurrency: Option<usize>,
) -> anyhow::Result<(Engine, Arc<AtomicU64>)> {
    server::start_on(open(url).await?, concurrency).await
}

async fn open(url: &PostgresUrl) -> anyhow::Result<Arc<dyn Store>> {
    let store = PostgresStore::open(url.clone(), PostgresOptions::default()).await?;
    Ok(Arc::new(store))
}
