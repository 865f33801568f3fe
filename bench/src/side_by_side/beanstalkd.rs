//! A client of beanstalkd on its plain protocol: producers put, consumers reserve and delete. It keeps no
//! results; where one is waited for, a consumer puts it into another tube.

use super::over_http::timed;
use crate::clock::{micros, now};
use crate::disk;
use crate::follow::Follow;
use crate::life::take;
use crate::order::{Done, Order};
use crate::requests::INPUT_BYTES;
use crate::server::RESULT;
use anyhow::{Context, bail, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Producers, and as many consumers, that send many commands at once.
const PIPELINED: u64 = 2;
/// The tube of results.
const RESULTS: &str = "results";

/// A connection.
#[derive(Debug)]
struct Tube(BufReader<TcpStream>);

impl Tube {
    async fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await;
        let stream = stream.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::with_capacity(64 * 1024, stream)))
    }

    async fn say(&mut self, commands: &[u8]) -> anyhow::Result<()> {
        Ok(self.0.get_mut().write_all(commands).await?)
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).await?;
        ensure!(read > 0, "beanstalkd closed the connection");
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    async fn expect(&mut self, expected: &str) -> anyhow::Result<()> {
        let line = self.line().await?;
        ensure!(line.starts_with(expected), "beanstalkd says {line:?}");
        Ok(())
    }

    async fn tell(&mut self, command: &str, expected: &str) -> anyhow::Result<()> {
        self.say(format!("{command}\r\n").as_bytes()).await?;
        self.expect(expected).await
    }

    /// Reads what is reserved, or that nothing is.
    async fn reserved(&mut self) -> anyhow::Result<Option<u64>> {
        let line = self.line().await?;
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["RESERVED", id, bytes] => {
                let mut body = vec![0; bytes.parse::<usize>()? + 2];
                self.0.read_exact(&mut body).await?;
                Ok(Some(id.parse()?))
            }
            ["TIMED_OUT"] => Ok(None),
            _ => bail!("beanstalkd says {line:?}"),
        }
    }

    async fn produce(mut self, left: Arc<AtomicU64>, window: u64) -> anyhow::Result<()> {
        let one = put(INPUT_BYTES);
        loop {
            let count = take(&left, window)?;
            if count == 0 {
                return Ok(());
            }
            self.say(&one.repeat(count)).await?;
            for _ in 0..count {
                self.expect("INSERTED").await?;
            }
        }
    }

    async fn consume(mut self, left: Arc<AtomicU64>, window: usize) -> anyhow::Result<()> {
        let one = "reserve-with-timeout 0\r\n".repeat(window - 1);
        let reserve = format!("reserve-with-timeout 1\r\n{one}");
        while left.load(Ordering::Relaxed) > 0 {
            self.say(reserve.as_bytes()).await?;
            let mut ids = Vec::new();
            for _ in 0..window {
                ids.extend(self.reserved().await?);
            }
            let each = ids.iter().map(|id| format!("delete {id}\r\n"));
            self.say(each.collect::<String>().as_bytes()).await?;
            for _ in &ids {
                self.expect("DELETED").await?;
            }
            let done = u64::try_from(ids.len())?;
            left.fetch_sub(done, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Is a worker whose results somebody waits for.
    async fn answer(mut self) -> anyhow::Result<()> {
        self.tell(&format!("use {RESULTS}"), "USING").await?;
        loop {
            self.say(b"reserve\r\n").await?;
            let id = self.reserved().await?.context("a reserve that ends")?;
            let put = format!("put 0 0 60 {}\r\n", RESULT.len());
            let delete = format!("\r\ndelete {id}\r\n");
            let both = [put.as_bytes(), RESULT, delete.as_bytes()];
            self.say(&both.concat()).await?;
            self.expect("INSERTED").await?;
            self.expect("DELETED").await?;
        }
    }
}

fn put(bytes: usize) -> Vec<u8> {
    let input = crate::server::input(bytes).bytes;
    let head = format!("put 0 0 60 {bytes}\r\n");
    [head.as_bytes(), &input, b"\r\n"].concat()
}

/// A client, and how many jobs it has seen done.
#[derive(Debug)]
pub(crate) struct Beanstalkd {
    address: String,
    deleted: u64,
}

impl Beanstalkd {
    /// Asks the server at this address.
    pub(crate) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            deleted: 0,
        }
    }

    async fn live(&mut self, jobs: u64, pairs: u64, window: u64) -> anyhow::Result<Done> {
        let (submit, run) = (Arc::new(jobs.into()), Arc::new(AtomicU64::new(jobs)));
        let mut open = Vec::new();
        for _ in 0..pairs {
            open.push(Tube::open(&self.address).await?);
            open.push(Tube::open(&self.address).await?);
        }
        let mut running = JoinSet::new();
        let begun = now();
        while let (Some(producer), Some(consumer)) = (open.pop(), open.pop()) {
            running.spawn(producer.produce(Arc::clone(&submit), window));
            running.spawn(consumer.consume(run.clone(), usize::try_from(window)?));
        }
        let mut span = begun.elapsed();
        while let Some(ended) = running.join_next().await {
            ended??;
            // Consumers who found nothing any more wait a second for more.
            if run.load(Ordering::Relaxed) == 0 {
                span = begun.elapsed();
                break;
            }
            span = begun.elapsed();
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        self.deleted += jobs;
        Ok(Done::new(jobs, span))
    }

    async fn time(&mut self, jobs: u64) -> anyhow::Result<Done> {
        let worker = Tube::open(&self.address).await?;
        let mut worker = std::pin::pin!(worker.answer());
        let measured = async {
            let mut client = Tube::open(&self.address).await?;
            client.tell(&format!("watch {RESULTS}"), "WATCHING").await?;
            client.tell("ignore default", "WATCHING").await?;
            let one = put(INPUT_BYTES);
            let (mut submits, mut results) = (disk::histogram(), disk::histogram());
            let begun = now();
            for _ in 0..jobs {
                let begun = now();
                client.say(&one).await?;
                client.expect("INSERTED").await?;
                submits.record(micros(begun.elapsed()))?;
                client.say(b"reserve\r\n").await?;
                let id = client.reserved().await?.context("a reserve that ends")?;
                results.record(micros(begun.elapsed()))?;
                client.tell(&format!("delete {id}"), "DELETED").await?;
            }
            anyhow::Ok(timed(jobs, begun.elapsed(), &submits, &results))
        };
        let done = tokio::select! {
            ended = &mut worker => {
                ended?;
                bail!("the worker ended")
            }
            done = measured => done?,
        };
        // Jobs and their results.
        self.deleted += jobs * 2;
        Ok(done)
    }
}

impl Follow for Beanstalkd {
    fn version(&self) -> String {
        String::new()
    }

    async fn follow(&mut self, order: Order) -> anyhow::Result<Done> {
        match order {
            Order::Each { jobs, connections } => self.live(jobs, connections / 2, 1).await,
            Order::Life { jobs, batch, .. } => self.live(jobs, PIPELINED, batch).await,
            Order::Latency { jobs } => self.time(jobs).await,
            Order::Submit { .. }
            | Order::Single { .. }
            | Order::Idle
            | Order::Stick { .. }
            | Order::Drain { .. } => bail!("{order} is not measured side by side"),
        }
    }

    /// All that was put was deleted by a consumer.
    async fn check(&mut self) -> anyhow::Result<()> {
        let mut tube = Tube::open(&self.address).await?;
        tube.say(b"stats\r\n").await?;
        let line = tube.line().await?;
        let bytes = line.strip_prefix("OK ").context("no statistics")?;
        let mut text = vec![0; bytes.parse::<usize>()? + 2];
        tube.0.read_exact(&mut text).await?;
        let text = String::from_utf8_lossy(&text);
        let count = |name: &str| -> anyhow::Result<u64> {
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            Ok(value.with_context(|| format!("no {name}"))?.parse()?)
        };
        let (deleted, put) = (count("cmd-delete")?, count("total-jobs")?);
        let left = count("current-jobs-ready")? + count("current-jobs-reserved")?;
        ensure!(
            left == 0 && put == self.deleted && deleted >= put,
            "{put} jobs were put, {deleted} deletes asked for, {left} are left"
        );
        Ok(())
    }
}
