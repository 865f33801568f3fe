//! The load: a number of keep-alive connections that submit jobs for a while.
//!
//! *Closed loop*: each connection sends its next request as soon as it has its answer; that shows
//! how much the server can do. *Open loop*: requests are due at a steady rate, and the latency of
//! one counts from when it was due, not from when a connection was free to send it; otherwise a
//! server that stalls would be asked nothing while it stalls, and the stall would not show.
//!
//! Everything is bounded: connections by number, a load by its span, and what is under way at the
//! end by [`LAST_ANSWERS_MAX`].

use crate::clock::{micros, now, sleep_until};
use crate::cpu::{Usage, Used};
use crate::disk::{self, Beside};
use crate::wire::{Answer, Connection};
use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

/// How long answers may take after the end of a load, and how late an open loop may send.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(30);

/// What one turn of a connection is.
#[derive(Clone, Debug)]
pub(crate) enum Turn {
    /// One request, answered with this status.
    One {
        /// The request, ready to be sent.
        request: Vec<u8>,
        /// The status.
        status: u16,
    },
    /// A submit, answered 202, then the result of that job, answered 200.
    Pair {
        /// The submit, ready to be sent.
        submit: Vec<u8>,
        /// What follows the job's path in the request for its result, up to the end of the head.
        read: &'static str,
    },
}

impl Turn {
    /// Takes a turn and returns its last answer.
    async fn take<'a>(&self, connection: &'a mut Connection) -> anyhow::Result<Answer<'a>> {
        let (answer, status) = match self {
            Self::One { request, status } => (connection.exchange(request).await?, *status),
            Self::Pair { submit, read } => {
                let answer = connection.exchange(submit).await?;
                answer.expect(202)?;
                let location = answer.field("location").context("a 202 without Location")?;
                let request = format!("GET {location}{read}");
                (connection.exchange(request.as_bytes()).await?, 200)
            }
        };
        answer.expect(status)?;
        Ok(answer)
    }
}

/// How fast turns follow one another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// As fast as answers come.
    Closed,
    /// This many a second, over all connections.
    Open(f64),
}

/// A load.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Whom it is put on.
    pub(crate) address: SocketAddr,
    /// That server's process.
    pub(crate) pid: u32,
    /// What each connection does, over and over.
    pub(crate) turn: Turn,
    /// Its pace.
    pub(crate) pace: Pace,
    /// Connections at once.
    pub(crate) connections: usize,
    /// Threads that they are spread over.
    pub(crate) threads: usize,
    /// How long it goes on before anything is measured.
    pub(crate) warm_up: Duration,
    /// How long it is measured.
    pub(crate) measured: Duration,
}

/// What came of a load.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Turns that ended while it was measured.
    pub(crate) turns: u64,
    /// Turns that ended at all.
    pub(crate) turns_ever: u64,
    /// Turns of an open loop that were due and never begun, for want of a free connection.
    pub(crate) never_begun: u64,
    /// How long it was measured.
    pub(crate) span: Duration,
    /// Latencies in microseconds of the turns that began (or were due) while it was measured.
    pub(crate) latency: Histogram<u64>,
    /// CPU time while it was measured.
    pub(crate) used: Used,
    /// Times of appends to the disk while it was measured, in microseconds.
    pub(crate) disk: Histogram<u64>,
}

impl Load {
    /// Puts the load on its server, and times appends to a file in `folder` meanwhile.
    ///
    /// # Errors
    ///
    /// When any answer is not the expected one, or does not come.
    pub(crate) fn run(&self, folder: &Path) -> anyhow::Result<Measured> {
        let schedule = Arc::new(Schedule::default());
        let (ready, readies) = channel();
        let mut starts = Vec::new();
        let mut threads = Vec::new();
        for index in 0..self.threads {
            // The first threads take what cannot be spread evenly.
            let connections = (self.connections + self.threads - 1 - index) / self.threads;
            let (start, started) = channel();
            starts.push(start);
            let (load, schedule, ready) = (self.clone(), schedule.clone(), ready.clone());
            threads.push(std::thread::spawn(move || {
                load.generate(connections, &schedule, &ready, &started)
            }));
        }
        drop(ready);
        // A thread that could not connect says why when it is joined.
        let all_connected = readies.iter().take(self.threads).count() == self.threads;
        let watched = all_connected.then(|| self.watch(&starts, folder));
        drop(starts);
        let mut tally = Tally::default();
        for thread in threads {
            match thread.join() {
                Ok(part) => tally.add(&part?)?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        let (used, disk) = watched.context("a thread of the load ended early")??;
        Ok(Measured {
            turns: tally.turns,
            turns_ever: tally.turns_ever,
            never_begun: tally.never_begun,
            span: self.measured,
            latency: tally.latency,
            used,
            disk,
        })
    }

    /// Starts all threads at once, and watches CPU and disk while the load is measured.
    fn watch(
        &self,
        starts: &[Sender<Window>],
        folder: &Path,
    ) -> anyhow::Result<(Used, Histogram<u64>)> {
        let start = now();
        let begin = start + self.warm_up;
        let window = Window {
            start,
            begin,
            end: begin + self.measured,
        };
        for start in starts {
            start.send(window).context("a thread of the load is gone")?;
        }
        sleep_until(window.begin);
        let before = Usage::read(self.pid)?;
        let beside = Beside::start(folder)?;
        sleep_until(window.end);
        let used = Usage::read(self.pid)?.since(before, self.pid != std::process::id());
        Ok((used, beside.finish()?))
    }

    /// Is one thread of the load.
    fn generate(
        &self,
        connections: usize,
        schedule: &Arc<Schedule>,
        ready: &Sender<()>,
        started: &Receiver<Window>,
    ) -> anyhow::Result<Tally> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let open = runtime.block_on(async {
            let mut open = Vec::with_capacity(connections);
            for _ in 0..connections {
                open.push(Connection::open(self.address).await?);
            }
            anyhow::Ok(open)
        })?;
        ready.send(()).context("the load was given up")?;
        let window = started.recv().context("the load was given up")?;
        let tally = Arc::new(Mutex::new(Tally::default()));
        runtime.block_on(async {
            let mut turns = JoinSet::new();
            for connection in open {
                let client = Client {
                    connection,
                    turn: self.turn.clone(),
                    window,
                    tally: tally.clone(),
                };
                match self.pace {
                    Pace::Closed => turns.spawn(client.closed()),
                    Pace::Open(rate) => turns.spawn(client.open(rate, schedule.clone())),
                };
            }
            let limit = window.end.saturating_duration_since(now()) + LAST_ANSWERS_MAX * 2;
            let all = async {
                while let Some(ended) = turns.join_next().await {
                    ended??;
                }
                anyhow::Ok(())
            };
            let ended = tokio::time::timeout(limit, all).await;
            ended.with_context(|| format!("answers still missing {LAST_ANSWERS_MAX:?} after"))?
        })?;
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *tally))
    }
}

/// When a load starts, and from when to when it is measured.
#[derive(Clone, Copy, Debug)]
struct Window {
    start: Instant,
    begin: Instant,
    end: Instant,
}

/// Which turn of an open loop is due next, over all connections.
#[derive(Debug, Default)]
struct Schedule(AtomicU64);

impl Schedule {
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact up to 2^53 turns, which no load reaches"
    )]
    fn next_due(&self, start: Instant, rate: f64) -> Instant {
        let turn = self.0.fetch_add(1, Ordering::Relaxed) as f64;
        start + Duration::from_secs_f64(turn / rate)
    }
}

/// One connection and what it is used for.
#[derive(Debug)]
struct Client {
    connection: Connection,
    turn: Turn,
    window: Window,
    tally: Arc<Mutex<Tally>>,
}

impl Client {
    async fn closed(mut self) -> anyhow::Result<()> {
        let mut begun = now();
        while begun < self.window.end {
            begun = self.take_turn(begun).await?;
        }
        Ok(())
    }

    async fn open(mut self, rate: f64, schedule: Arc<Schedule>) -> anyhow::Result<()> {
        loop {
            let due = schedule.next_due(self.window.start, rate);
            if due >= self.window.end {
                return Ok(());
            }
            tokio::time::sleep_until(due.into()).await;
            if now() > self.window.end + LAST_ANSWERS_MAX {
                self.tally().never_begun += 1;
            } else {
                self.take_turn(due).await?;
            }
        }
    }

    /// Takes a turn that counts from `begun`, and returns when it ended.
    async fn take_turn(&mut self, begun: Instant) -> anyhow::Result<Instant> {
        self.turn.take(&mut self.connection).await?;
        let ended = now();
        self.tally().record(self.window, begun, ended)?;
        Ok(ended)
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        // Counters are whole whatever panicked.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a thread's connections have done.
#[derive(Debug)]
struct Tally {
    turns: u64,
    turns_ever: u64,
    never_begun: u64,
    latency: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            turns: 0,
            turns_ever: 0,
            never_begun: 0,
            latency: disk::histogram(),
        }
    }
}

impl Tally {
    fn record(&mut self, window: Window, begun: Instant, ended: Instant) -> anyhow::Result<()> {
        self.turns_ever += 1;
        let measured = window.begin..window.end;
        if measured.contains(&ended) {
            self.turns += 1;
        }
        if measured.contains(&begun) {
            self.latency.record(micros(ended - begun))?;
        }
        Ok(())
    }

    fn add(&mut self, part: &Self) -> anyhow::Result<()> {
        self.turns += part.turns;
        self.turns_ever += part.turns_ever;
        self.never_begun += part.never_begun;
        self.latency.add(&part.latency)?;
        Ok(())
    }
}

/// Takes turns one after the other on one connection, and returns the time of each.
///
/// The last answer is handed to `check`.
pub(crate) fn one_by_one(
    address: SocketAddr,
    turn: &Turn,
    count: usize,
    check: impl Fn(&Answer<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Histogram<u64>> {
    ensure!(count > 0, "a latency takes at least one request");
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let turns = async {
        let mut connection = Connection::open(address).await?;
        let mut times = disk::histogram();
        for _ in 0..count {
            let begun = now();
            let answer = turn.take(&mut connection).await?;
            times.record(micros(begun.elapsed()))?;
            check(&answer)?;
        }
        Ok(times)
    };
    let limit = LAST_ANSWERS_MAX * 2;
    runtime.block_on(async {
        let ended = tokio::time::timeout(limit, turns).await;
        ended.with_context(|| format!("{count} requests one by one took more than {limit:?}"))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// A server for one connection that answers each request, the first `slow` ones late.
    fn server(status: &'static str, slow: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
            let mut answered = 0;
            let mut buffer = [0; 1024];
            while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
                if answered < slow {
                    std::thread::sleep(Duration::from_millis(100));
                }
                answered += 1;
                if stream.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        });
        address
    }

    fn load(address: SocketAddr, pace: Pace) -> Load {
        Load {
            address,
            pid: std::process::id(),
            turn: Turn::One {
                request: b"GET / HTTP/1.1\r\n\r\n".to_vec(),
                status: 200,
            },
            pace,
            connections: 1,
            threads: 1,
            warm_up: Duration::ZERO,
            measured: Duration::from_millis(400),
        }
    }

    #[test]
    fn a_closed_loop_counts_every_answer() {
        let folder = tempfile::tempdir().unwrap();
        let load = load(server("200 OK", 0), Pace::Closed);
        let measured = load.run(folder.path()).unwrap();
        assert!(measured.turns > 100, "{}", measured.turns);
        assert!(measured.turns_ever - measured.turns <= 1);
        assert_eq!(measured.latency.len(), measured.turns_ever);
        assert_eq!(measured.never_begun, 0);
    }

    /// Requests due during a stall of 100 ms are late by what is left of it, although the one
    /// connection was not free to send them.
    #[test]
    fn an_open_loop_sees_a_stall_in_full() {
        let folder = tempfile::tempdir().unwrap();
        let open = load(server("200 OK", 1), Pace::Open(200.0));
        let measured = open.run(folder.path()).unwrap();
        assert_eq!(measured.latency.len(), 80, "200 a second for 400 ms");
        let late = measured.latency.len() - measured.latency.count_between(0, 20_000);
        assert!(late >= 15, "{late} of 20 in the stall");
    }

    #[test]
    fn another_status_ends_the_load_with_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let load = load(server("503 Service Unavailable", 0), Pace::Closed);
        let error = load.run(folder.path()).unwrap_err().to_string();
        assert!(error.contains("the answer is 503, not 200: ok"), "{error}");
    }

    #[test]
    fn a_server_that_is_not_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let folder = tempfile::tempdir().unwrap();
        let error = load(address, Pace::Closed).run(folder.path()).unwrap_err();
        assert!(error.to_string().contains("cannot connect"), "{error}");
    }

    #[test]
    fn turns_one_by_one_are_timed() {
        let address = server("200 OK", 0);
        let turn = load(address, Pace::Closed).turn;
        let times = one_by_one(address, &turn, 10, |answer| {
            ensure!(answer.body == b"ok");
            Ok(())
        });
        assert_eq!(times.unwrap().len(), 10);
    }
}
