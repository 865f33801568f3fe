//! A client of whoever is asked over HTTP: a submit and the read of its result are a job; and arrays
//! of jobs, where that is understood.

use crate::clock::{micros, now, pause};
use crate::disk;
use crate::follow::Follow;
use crate::life::take;
use crate::order::{Done, Latency, Order, SUBMITTERS};
use crate::requests::{self, INPUT_BYTES, READ};
use crate::server::{self, NOOP};
use crate::wire::Connection;
use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::task::JoinSet;

/// Between two looks at how many are done. Each look has the server count.
const LOOK: Duration = Duration::from_millis(10);
/// Reads of one result before it counts as lost: the last of them wait.
const READS_MAX: u32 = 2_000;
/// How many reads are made at once before one waits.
const READS_AT_ONCE: u32 = 20;

/// Whose requests and answers they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Site {
    /// The bare handler, which answers as Anteroom did.
    Bare,
    /// Anteroom.
    Anteroom,
    /// aiohttp with an `asyncio.Queue`.
    Aiohttp,
    /// Restate.
    Restate,
}

impl Site {
    fn submit(self) -> Vec<u8> {
        let path = match self {
            Self::Bare | Self::Anteroom => return requests::submit_one(NOOP, INPUT_BYTES, ""),
            Self::Aiohttp => "/",
            Self::Restate => "/Bench/noop/send",
        };
        let input = server::input(INPUT_BYTES).bytes;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            input.len()
        );
        [head.as_bytes(), &input].concat()
    }
}

/// A connection, and what is asked on it.
#[derive(Debug)]
struct Client {
    site: Site,
    submit: Vec<u8>,
    connection: Connection,
}

impl Client {
    async fn open(site: Site, address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self {
            site,
            submit: site.submit(),
            connection: Connection::open(address).await?,
        })
    }

    /// Submits a job, and returns the request for its result.
    async fn submit(&mut self) -> anyhow::Result<String> {
        let answer = self.connection.exchange(&self.submit).await?;
        answer.expect(202)?;
        let id = |key| {
            let found = text_of(answer.body, key);
            found.with_context(|| format!("an answer to a submit without {key}"))
        };
        Ok(match self.site {
            Site::Bare | Site::Anteroom => {
                let path = answer.field("location").context("a 202 without Location")?;
                format!("GET {path}{READ}")
            }
            Site::Aiohttp => get(&format!("/{}", id("id")?)),
            Site::Restate => get(&format!(
                "/restate/invocation/{}/attach",
                id("invocationId")?
            )),
        })
    }

    /// Reads a result; again, where it is not there yet and the server does not wait for it.
    async fn read(&mut self, request: &str) -> anyhow::Result<()> {
        for reads in 0..READS_MAX {
            let answer = self.connection.exchange(request.as_bytes()).await?;
            if answer.status == 200 {
                ensure!(
                    answer.body.ends_with(b"no more\"}") || answer.body.ends_with(b"no more\"}}"),
                    "{:?} is another result",
                    String::from_utf8_lossy(answer.body)
                );
                return Ok(());
            }
            ensure!(
                self.site == Site::Aiohttp && answer.status == 404,
                "a read of a result is answered {}",
                answer.status
            );
            if reads > READS_AT_ONCE {
                pause(Duration::from_millis(1)).await;
            }
        }
        bail!("a result is not there after {READS_MAX} reads")
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
}

/// Returns the text of this key, which holds nothing that is escaped.
fn text_of<'a>(body: &'a [u8], key: &str) -> Option<&'a str> {
    let body = std::str::from_utf8(body).ok()?;
    let (_, rest) = body.split_once(&format!("\"{key}\""))?;
    rest.split('"').nth(1)
}

/// A client, and what it has seen done.
#[derive(Debug)]
pub(crate) struct OverHttp {
    site: Site,
    address: SocketAddr,
    done: u64,
}

impl OverHttp {
    /// Asks the server at this address.
    pub(crate) fn new(site: Site, address: &str) -> anyhow::Result<Self> {
        Ok(Self {
            site,
            address: address.parse()?,
            done: 0,
        })
    }

    async fn each(&self, jobs: u64, connections: u64) -> anyhow::Result<Done> {
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(Client::open(self.site, self.address).await?);
        }
        let left = Arc::new(AtomicU64::new(jobs));
        let mut running = JoinSet::new();
        let begun = now();
        for mut client in open {
            let left = left.clone();
            running.spawn(async move {
                while take(&left, 1)? > 0 {
                    let request = client.submit().await?;
                    client.read(&request).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        Ok(Done::new(jobs, begun.elapsed()))
    }

    async fn time(&self, jobs: u64) -> anyhow::Result<Done> {
        let mut client = Client::open(self.site, self.address).await?;
        let (mut submits, mut results) = (disk::histogram(), disk::histogram());
        let begun = now();
        for _ in 0..jobs {
            let begun = now();
            let request = client.submit().await?;
            submits.record(micros(begun.elapsed()))?;
            client.read(&request).await?;
            results.record(micros(begun.elapsed()))?;
        }
        Ok(timed(jobs, begun.elapsed(), &submits, &results))
    }

    /// Arrays of jobs, until the server has counted all of them as done.
    async fn live(&self, jobs: u64, batch: u64) -> anyhow::Result<Done> {
        ensure!(
            self.site == Site::Anteroom,
            "{:?} takes one job a request",
            self.site
        );
        let mut looking = Connection::open(self.address).await?;
        let begun = now();
        requests::submit(self.address, jobs, batch, SUBMITTERS).await?;
        while requests::finished(&mut looking).await? < self.done + jobs {
            pause(LOOK).await;
        }
        Ok(Done::new(jobs, begun.elapsed()))
    }
}

/// What was timed, of so many jobs.
pub(super) fn timed(
    jobs: u64,
    span: Duration,
    submits: &Histogram<u64>,
    results: &Histogram<u64>,
) -> Done {
    let quantiles = |times: &Histogram<u64>| {
        // Microseconds of a bounded histogram: far below 2^53.
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 µs")]
        [0.5, 0.99].map(|share| times.value_at_quantile(share) as f64 / 1_000.0)
    };
    let latency = Some(Latency {
        submit: quantiles(submits),
        result: quantiles(results),
    });
    Done {
        latency,
        ..Done::new(jobs, span)
    }
}

impl Follow for OverHttp {
    fn version(&self) -> String {
        match self.site {
            Site::Anteroom => env!("CARGO_PKG_VERSION").to_owned(),
            Site::Bare | Site::Aiohttp | Site::Restate => String::new(),
        }
    }

    async fn follow(&mut self, order: Order) -> anyhow::Result<Done> {
        let done = match order {
            Order::Each { jobs, connections } => self.each(jobs, connections).await?,
            Order::Latency { jobs } => self.time(jobs).await?,
            Order::Life { jobs, batch, .. } => self.live(jobs, batch).await?,
            Order::Submit { .. }
            | Order::Single { .. }
            | Order::Idle
            | Order::Stick { .. }
            | Order::Drain { .. } => bail!("{order} is not measured side by side"),
        };
        self.done += done.jobs;
        Ok(done)
    }

    /// Each result was read, where there is one job a request; beyond that Anteroom counts.
    async fn check(&mut self) -> anyhow::Result<()> {
        if self.site == Site::Anteroom {
            let mut looking = Connection::open(self.address).await?;
            let finished = requests::finished(&mut looking).await?;
            ensure!(
                finished == self.done,
                "{finished} jobs are done, not {}",
                self.done
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_in_an_answer() {
        for (body, key, expected) in [
            (r#"{"id": "7f"}"#, "id", Some("7f")),
            (
                r#"{"invocationId":"inv_1","status":"Accepted"}"#,
                "invocationId",
                Some("inv_1"),
            ),
            (r#"{"id":7}"#, "id", None),
            ("", "id", None),
        ] {
            assert_eq!(text_of(body.as_bytes(), key), expected, "{body}");
        }
    }
}
