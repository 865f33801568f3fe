//! Anteroom's server in a process of its own, and a client that submits over HTTP.

use super::embedded;
use super::follow::Follow;
use super::order::{Done, Order, SUBMITTERS};
use crate::clock::now;
use crate::life::take;
use crate::process::{self, Process};
use crate::server::{self, NOOP};
use crate::wire::Connection;
use anteroom::store::postgres::PostgresUrl;
use anyhow::{Context, ensure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::task::JoinSet;

/// Between two looks at how many are done, once all are submitted. Each look has the server count.
const LOOK: Duration = Duration::from_millis(20);
/// The counter of what is done.
const FINISHED: &str = "anteroom_jobs_finished_total{";

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
                pause().await;
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
        Ok(Done { jobs, span })
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
            Order::Stick { .. } | Order::Drain { .. } => {
                anyhow::bail!("the engine alone is killed and rescued from")
            }
        };
        Ok(Done {
            jobs,
            span: begun.elapsed(),
        })
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

/// Submits until all are acknowledged, on so many connections.
async fn submit(
    address: SocketAddr,
    jobs: u64,
    batch: u64,
    connections: usize,
) -> anyhow::Result<()> {
    let left = Arc::new(AtomicU64::new(jobs));
    let mut running = JoinSet::new();
    for _ in 0..connections {
        let mut connection = Connection::open(address).await?;
        let left = left.clone();
        running.spawn(async move {
            let whole = request(usize::try_from(batch)?);
            loop {
                let count = take(&left, batch)?;
                if count == 0 {
                    return anyhow::Ok(());
                }
                let rest;
                let bytes = if u64::try_from(count)? == batch {
                    &whole
                } else {
                    rest = request(count);
                    &rest
                };
                connection.exchange(bytes).await?.expect(202)?;
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

/// Returns a submit of so many jobs: of one by its task's address, of several as an array.
fn request(count: usize) -> Vec<u8> {
    let input = server::input(embedded::INPUT_BYTES).bytes;
    let (path, body) = if count == 1 {
        (format!("/v1/tasks/{NOOP}/jobs"), input.to_vec())
    } else {
        let input = String::from_utf8_lossy(&input);
        let one = format!(r#"{{"task":"{NOOP}","input":{input}}}"#);
        let body = format!("[{}]", vec![one; count].join(","));
        ("/v1/jobs".to_owned(), body.into_bytes())
    };
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

/// Returns how many jobs the server has finished since it was started.
async fn finished(connection: &mut Connection) -> anyhow::Result<u64> {
    let asked = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    let answer = connection.exchange(asked).await?;
    answer.expect(200)?;
    finished_of(&String::from_utf8_lossy(answer.body)).context("what /metrics answers")
}

/// Adds up what is finished, in whatever state.
fn finished_of(metrics: &str) -> anyhow::Result<u64> {
    let mut sum = 0;
    let lines = metrics.lines().filter(|line| line.starts_with(FINISHED));
    let mut found = lines.peekable();
    ensure!(found.peek().is_some(), "no line begins with {FINISHED}");
    for line in found {
        let value = line.rsplit(' ').next().unwrap_or_default();
        sum += value.parse::<u64>().with_context(|| line.to_owned())?;
    }
    Ok(sum)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this program measures time; nothing that it decides hangs on it"
)]
async fn pause() {
    tokio::time::sleep(LOOK).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finished_jobs_are_added_up() {
        let text = "# TYPE x counter\nanteroom_jobs_finished_total{task=\"a\",state=\"failed\"} 2\n\
                    anteroom_jobs_finished_total{task=\"a\",state=\"succeeded\"} 40\nother 7\n";
        assert_eq!(finished_of(text).unwrap(), 42);
        assert!(finished_of("other 7\n").is_err());
    }

    #[test]
    fn a_request_says_how_long_it_is() {
        for count in [1, 2, 500] {
            let request = String::from_utf8(request(count)).unwrap();
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert!(
                head.contains(&format!("Content-Length: {}", body.len())),
                "{head}"
            );
            let value: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(value.as_array().map_or(1, Vec::len), count);
        }
    }
}
