//! Anteroom's server in a process of its own, and a client that submits over HTTP.

use super::embedded;
use crate::clock::{now, pause};
use crate::follow::Follow;
use crate::order::{Done, Order, SUBMITTERS};
use crate::process::{self, Process};
use crate::requests::{finished, submit};
use crate::server;
use crate::wire::Connection;
use anteroom::store::postgres::PostgresUrl;
use anyhow::{Context, ensure};
use std::net::SocketAddr;
use std::time::Duration;

/// Between two looks at how many are done, once all are submitted. Each look has the server count.
const LOOK: Duration = Duration::from_millis(20);

/// A server, and how it is started again.
#[derive(Debug)]
pub(crate) struct OverHttp {
    url: String,
    concurrency: usize,
    server: Option<Process>,
    /// Jobs that have to be done.
    expected: Option<u64>,
}

impl OverHttp {
    /// Starts a server that runs nothing.
    pub(crate) fn start(url: &str, concurrency: usize) -> anyhow::Result<Self> {
        Ok(Self {
            url: url.to_owned(),
            concurrency,
            server: Some(serve(url, 0)?),
            expected: None,
        })
    }

    /// Starts another server in its place, which runs what there is.
    fn run_jobs(&mut self) -> anyhow::Result<()> {
        if let Some(server) = self.server.take() {
            server.end()?;
        }
        self.server = Some(serve(&self.url, self.concurrency)?);
        Ok(())
    }

    fn address(&self) -> anyhow::Result<SocketAddr> {
        let server = self.server.as_ref().context("no server was started")?;
        Ok(server.address)
    }

    async fn live(
        &mut self,
        jobs: u64,
        batch: u64,
        seconds: f64,
        is_backlog: bool,
    ) -> anyhow::Result<Done> {
        self.run_jobs()?;
        let address = self.address()?;
        let mut looking = Connection::open(address).await?;
        let begun = now();
        let limit = Duration::from_secs_f64(seconds);
        let all = async {
            submit(address, jobs, batch, SUBMITTERS).await?;
            loop {
                let finished = finished(&mut looking).await?;
                if finished >= jobs {
                    return anyhow::Ok(finished);
                }
                pause(LOOK).await;
            }
        };
        let lived = tokio::time::timeout(limit, all).await;
        let span = begun.elapsed();
        let jobs = if let Ok(finished) = lived {
            // Of a backlog more may be done than was submitted here.
            let finished = finished?;
            self.expected = (!is_backlog).then_some(jobs);
            if is_backlog { finished } else { jobs }
        } else {
            finished(&mut Connection::open(address).await?).await?
        };
        Ok(Done::new(jobs, span))
    }
}

impl Follow for OverHttp {
    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    async fn follow(&mut self, order: Order) -> anyhow::Result<Done> {
        let begun = now();
        let jobs = match order {
            Order::Submit { jobs, batch } => {
                submit(self.address()?, jobs, batch, SUBMITTERS).await?;
                jobs
            }
            Order::Single { jobs, connections } => {
                submit(self.address()?, jobs, 1, usize::try_from(connections)?).await?;
                jobs
            }
            Order::Life {
                jobs,
                batch,
                seconds,
                is_backlog,
            } => return self.live(jobs, batch, seconds, is_backlog).await,
            Order::Idle => {
                self.run_jobs()?;
                0
            }
            Order::Each { .. } | Order::Latency { .. } => {
                anyhow::bail!("pairs of requests are measured side by side, not here")
            }
            Order::Stick { .. } | Order::Drain { .. } => {
                anyhow::bail!("the engine alone is killed and rescued from")
            }
        };
        Ok(Done::new(jobs, begun.elapsed()))
    }

    async fn check(&mut self) -> anyhow::Result<()> {
        if let Some(expected) = self.expected.take() {
            let mut looking = Connection::open(self.address()?).await?;
            let done = finished(&mut looking).await?;
            ensure!(done == expected, "{done} jobs are done, not {expected}");
        }
        Ok(())
    }
}

/// Is the server: it runs so many no-ops at once, or nothing, until its standard input ends.
pub(crate) async fn answer(concurrency: usize) -> anyhow::Result<()> {
    let told = process::told()?;
    let url = PostgresUrl::new(told.trim())?;
    let (engine, _runs) = embedded::start(&url, (concurrency > 0).then_some(concurrency)).await?;
    server::serve(&engine).await?;
    engine.shutdown(Duration::ZERO).await;
    Ok(())
}

fn serve(url: &str, concurrency: usize) -> anyhow::Result<Process> {
    let concurrency = concurrency.to_string();
    Process::start(&["postgres-serve", "--concurrency", &concurrency], url)
}
