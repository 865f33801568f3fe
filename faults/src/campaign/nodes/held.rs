//! A load at a steady pace, while somebody holds a transaction open that keeps every dead row in the
//! way, and while the database crashes.
//!
//! What is reached of the pace is counted from the ends that the nodes write down, in windows; after
//! a crash, by when as many of the jobs that are due within a second are acknowledged in time.

use super::NODES;
use super::site::{Site, database};
use crate::campaign::{Common, Ground, middle_and_greatest};
use crate::client::Client;
use crate::history::{Event, Line, now_us};
use crate::keyed::{Answers, Keyed, Nodes, submit_until_known};
use crate::load::{Acked, Mix};
use crate::pause;
use anyhow::{Context, ensure};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Calls a second.
const CALLS_PER_S: u64 = 20;
/// Calls under way at once: more than are due while the database is down.
const CALLS_MAX: usize = 400;
/// What has to be reached of the pace in each window, in percent.
const REACHED_PERCENT_MIN: u64 = 95;
/// How soon after its database is back the pace has to be reached again.
const FULL_RATE_MAX: Duration = Duration::from_secs(5);
/// How long the pace is kept before anything is hurt.
const BEFORE: Duration = Duration::from_secs(2);
/// How long after it was due a submit is acknowledged in time.
const IN_TIME_US: u64 = SECOND_US;
/// How long it is kept after a crash.
const AFTER: Duration = Duration::from_secs(7);
/// The longest window.
const WINDOW_SECONDS_MAX: u64 = 30;
const SECOND_US: u64 = 1_000_000;

/// Holds a transaction open, and crashes the database.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// For how many seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Jobs a second: a multiple of 20.
    #[arg(long, default_value_t = 100)]
    pace: u64,
    /// How often the database crashes afterwards.
    #[arg(long, default_value_t = 1)]
    crashes: u64,
}

/// Runs the campaign.
///
/// # Errors
///
/// When the pace was not kept, the promise was broken, or the processes cannot be run.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let name = "held";
    let Some(cluster) = database(name).await? else {
        return Ok(());
    };
    let mut site = Site::make(Ground::make(name, &arguments.common)?, cluster, "held").await?;
    for _ in 0..NODES {
        site.add_node(None).await?;
    }
    let paced = Paced::start(&site, arguments.pace)?;
    pause(BEFORE).await;
    let holder = hold(&site).await?;
    let held_us = now_us().1;
    pause(Duration::from_secs(arguments.seconds)).await;
    let released_us = now_us().1;
    let dead = site.sql(DEAD_ROWS).await?;
    release(holder).await?;
    let mut crashes = Vec::new();
    for _ in 0..arguments.crashes {
        let from_us = now_us().1;
        site.crash_database().await?;
        crashes.push((from_us, now_us().1));
        pause(AFTER).await;
    }
    let (acked, answered) = paced.stop().await?;
    let workers = site.start_workers(0)?;
    let (tally, jobs) = site.finish(&acked, workers).await?;
    let windows = windows(held_us, released_us);
    let reached = Reached::within(&windows, &ends(&site)?, &answered, &crashes, arguments.pace);
    let (middle, greatest) = middle_and_greatest(&mut reached.full_us());
    let mut down_us: Vec<u64> = crashes.iter().map(|(from, to)| to - from).collect();
    let line = format!(
        "held: {NODES} nodes, {} jobs a second; with a transaction held open for {} s, {:?} % of \
         them ended in each window of {} s, {dead} dead rows at its end; {} crashes of the database \
         (down for {} ms at most), the full rate again p50 {middle} ms, max {greatest} ms after it \
         was back; {jobs} jobs in the database, each once",
        arguments.pace,
        arguments.seconds,
        reached.percent,
        windows
            .first()
            .map_or(0, |(from, to)| (to - from) / SECOND_US),
        crashes.len(),
        middle_and_greatest(&mut down_us).1,
    );
    site.ground.conclude(&line, tally, true)?;
    reached.check()
}

/// What was reached.
struct Reached {
    /// Of the pace in each window, in percent.
    percent: Vec<u64>,
    /// How long after each crash the full rate was reached; none where it was not.
    again_us: Vec<Option<u64>>,
}

impl Reached {
    fn within(
        windows: &[(u64, u64)],
        ended_us: &[u64],
        answered: &[(u64, u64)],
        crashes: &[(u64, u64)],
        pace: u64,
    ) -> Self {
        let windows = windows.iter();
        let crashes = crashes.iter();
        Self {
            percent: windows
                .map(|(from_us, to_us)| percent(ended_us, *from_us, *to_us, pace))
                .collect(),
            again_us: crashes
                .map(|(_, back_us)| full_rate(answered, *back_us, pace))
                .collect(),
        }
    }

    fn full_us(&self) -> Vec<u64> {
        self.again_us.iter().flatten().copied().collect()
    }

    fn check(&self) -> anyhow::Result<()> {
        let Self { percent, again_us } = self;
        ensure!(
            percent
                .iter()
                .all(|percent| *percent >= REACHED_PERCENT_MIN),
            "a transaction that was held open slowed the nodes: {percent:?} % of the pace"
        );
        let most_us = u64::try_from(FULL_RATE_MAX.as_micros())?;
        let in_time = |again_us: &Option<u64>| again_us.is_some_and(|us| us <= most_us);
        ensure!(
            again_us.iter().all(in_time),
            "the full rate was not reached within {FULL_RATE_MAX:?} after a crash"
        );
        Ok(())
    }
}

const DEAD_ROWS: &str = "SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_user_tables";

/// Opens a transaction that has written something, sees the database as it is now, and does nothing.
async fn hold(site: &Site) -> anyhow::Result<Child> {
    let psql = anteroom_pgtest::binaries().map_err(|missing| anyhow::anyhow!("{missing}"))?;
    let mut holder = Command::new(psql.join("psql"))
        .args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-d",
            &site.cluster.url(&site.database),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start psql")?;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ;\n\
                 SELECT txid_current() > 0 AND count(*) >= 0 FROM anteroom.job;\n";
    let input = holder.stdin.as_mut().context("a piped input")?;
    input.write_all(begin.as_bytes()).await?;
    input.flush().await?;
    let output = holder.stdout.take().context("a piped output")?;
    let mut said = String::new();
    BufReader::new(output).read_line(&mut said).await?;
    ensure!(said.trim() == "t", "psql says {said:?}");
    Ok(holder)
}

async fn release(mut holder: Child) -> anyhow::Result<()> {
    let ended = holder.try_wait()?;
    ensure!(ended.is_none(), "the transaction was not held: {ended:?}");
    drop(holder.stdin.take());
    holder.wait().await?;
    Ok(())
}

/// What was acknowledged, and of each job when it was due and when it was acknowledged.
type Came = (Vec<Acked>, Vec<(u64, u64)>);

/// Load at a pace, whatever the answers take.
struct Paced {
    stop: watch::Sender<bool>,
    pacing: JoinSet<anyhow::Result<Came>>,
}

impl Paced {
    fn start(site: &Site, pace: u64) -> anyhow::Result<Self> {
        let stop = watch::Sender::new(false);
        let calls = Calls {
            client: site.ground.client("pacer")?,
            nodes: site.found(),
            jobs: usize::try_from((pace / CALLS_PER_S).max(1))?,
            random: fastrand::Rng::with_seed(site.ground.draw(0..u64::MAX)),
        };
        let mut pacing = JoinSet::new();
        pacing.spawn(calls.make(stop.subscribe()));
        Ok(Self { stop, pacing })
    }

    /// Ends, and returns what came of it.
    async fn stop(mut self) -> anyhow::Result<Came> {
        self.stop.send_replace(true);
        let ended = self.pacing.join_next().await;
        ended.context("nobody kept the pace")??
    }
}

struct Calls {
    client: Client,
    nodes: Nodes,
    /// Of each call.
    jobs: usize,
    random: fastrand::Rng,
}

impl Calls {
    async fn make(mut self, stop: watch::Receiver<bool>) -> anyhow::Result<Came> {
        let mix = Mix {
            tasks: vec![("digest", "", 1)],
            body_bytes_max: 200,
            ..Mix::exec(Duration::ZERO)
        };
        let mix = mix.all_kept();
        let answers = Arc::new(Answers::default());
        let mut under_way = JoinSet::new();
        let (mut acked, mut answered) = (Vec::new(), Vec::new());
        let mut note = |(jobs, due_us, at_us): (Vec<Acked>, u64, u64)| {
            answered.extend(std::iter::repeat_n((due_us, at_us), jobs.len()));
            acked.extend(jobs);
        };
        let from_us = now_us().1;
        let mut number = 0;
        while !*stop.borrow() {
            let due_us = from_us + number * SECOND_US / CALLS_PER_S;
            pause(Duration::from_micros(due_us.saturating_sub(now_us().1))).await;
            let jobs: Vec<_> = (0..self.jobs)
                .map(|at| Keyed {
                    ask: mix.ask(&mut self.random),
                    key: format!("{number}-{at}"),
                })
                .collect();
            number += 1;
            let (client, nodes) = (self.client.clone(), self.nodes.clone());
            let (answers, mut random) = (answers.clone(), self.random.fork());
            under_way.spawn(async move {
                let acked = submit_until_known(&client, &nodes, &jobs, &answers, &mut random);
                anyhow::Ok((acked.await?, due_us, now_us().1))
            });
            while let Some(ended) = under_way.try_join_next() {
                note(ended.context("a call panicked")??);
            }
            ensure!(
                under_way.len() < CALLS_MAX,
                "{CALLS_MAX} calls wait for answers"
            );
        }
        while let Some(ended) = under_way.join_next().await {
            note(ended.context("a call panicked")??);
        }
        Ok((acked, answered))
    }
}

/// Returns when attempts reached their results.
fn ends(site: &Site) -> anyhow::Result<Vec<u64>> {
    let mut ended_us = Vec::new();
    for file in site.ground.histories()? {
        for line in std::fs::read_to_string(file)?.lines() {
            let line: Line = serde_json::from_str(line)?;
            if matches!(line.event, Event::End { .. }) {
                ended_us.push(line.mono_us);
            }
        }
    }
    Ok(ended_us)
}

/// Cuts a time into windows, which are as long as they may be and all of a length.
fn windows(from_us: u64, to_us: u64) -> Vec<(u64, u64)> {
    let span_us = to_us - from_us;
    // A short time has windows of its own, so that a bad one does not hide.
    let length_us = (WINDOW_SECONDS_MAX * SECOND_US).min(span_us / 4).max(1);
    let count = span_us / length_us;
    let at = |number| from_us + number * length_us;
    (0..count)
        .map(|number| (at(number), at(number + 1)))
        .collect()
}

/// Returns what part of the jobs that are due within a time these are, in percent.
fn percent(at_us: &[u64], from_us: u64, to_us: u64, pace: u64) -> u64 {
    let within = at_us.iter().filter(|at| (from_us..to_us).contains(at));
    let due_millionths = pace * (to_us - from_us);
    within.count() as u64 * 100 * SECOND_US / due_millionths.max(1)
}

/// Returns how long after `back_us` the first second begins whose jobs are acknowledged in time.
fn full_rate(answered: &[(u64, u64)], back_us: u64, pace: u64) -> Option<u64> {
    const STEP_US: u64 = 50_000;
    let in_time = answered
        .iter()
        .filter(|(due_us, at_us)| at_us - due_us <= IN_TIME_US);
    let due_us: Vec<u64> = in_time.map(|(due_us, _)| *due_us).collect();
    let mut steps = (0..AFTER.as_secs() * SECOND_US / STEP_US).map(|number| number * STEP_US);
    steps.find(|after_us| {
        let from_us = back_us + after_us;
        percent(&due_us, from_us, from_us + SECOND_US, pace) >= REACHED_PERCENT_MIN
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_of_a_length_and_leave_nothing_out() {
        let minute_us = 60 * SECOND_US;
        assert_eq!(windows(7, 7 + 3 * minute_us).len(), 6);
        assert_eq!(windows(0, 20 * SECOND_US).len(), 4);
        assert_eq!(
            windows(0, 20 * SECOND_US)[3],
            (15 * SECOND_US, 20 * SECOND_US)
        );
    }

    #[test]
    fn the_full_rate_is_reached_once_what_is_due_is_acknowledged_in_time() {
        // Ten a second; what is due up to two seconds after the database is back at 5 s is late.
        let back_us = 5 * SECOND_US;
        let due = (0..200).map(|number| number * SECOND_US / 10);
        let answered: Vec<_> = due
            .map(|due_us| match due_us {
                5_000_000..7_000_000 => (due_us, due_us + 2 * SECOND_US),
                _ => (due_us, due_us + 1_000),
            })
            .collect();
        let due_us: Vec<u64> = answered.iter().map(|(due_us, _)| *due_us).collect();
        assert_eq!(percent(&due_us, 0, back_us, 10), 100);
        assert_eq!(percent(&due_us, 30 * SECOND_US, 31 * SECOND_US, 10), 0);
        let again_us = full_rate(&answered, back_us, 10).unwrap();
        assert!((1_900_000..=2_000_000).contains(&again_us), "{again_us}");
        assert_eq!(full_rate(&answered[..70], back_us, 10), None);
    }
}
