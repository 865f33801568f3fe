//! Ten times as many submits as the server can run: what it takes it runs in time, what it does
//! not take it refuses at once.

mod offer;

use super::{Common, Ground, Kind};
use crate::client::{Ask, Client, digest};
use crate::history::{Bounds, now_us};
use crate::listing::{Listed, list};
use crate::load::{Acked, submit_one};
use crate::measure::{Cpu, MemoryWatch, at_percent, resident_bytes, spread};
use crate::server::Server;
use crate::verify;
use anyhow::{Context, bail, ensure};
use nix::unistd::Pid;
use offer::{Seen, offer};
use std::collections::HashSet;
use std::time::Duration;

/// How long the task `nap` of `digest_server` takes, and how many at once: 400 a second.
pub const NAP: Duration = Duration::from_millis(20);
/// See [`NAP`].
pub const NAP_SLOTS: usize = 8;
/// As many a second as these give.
const NAPS_PER_S: u64 = 400;

/// Jobs that may wait: a quarter of a second's, so that they end in time also where the machine has
/// half of its time for others.
const DEPTH_MAX: u64 = NAPS_PER_S / 4;
/// A job that took longer from its submit to its end is of no use any more.
const IN_TIME_MS_MAX: i64 = 1_000;
/// How long a client waits for an answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// What has to be reached of the peak, in percent.
const GOODPUT_PERCENT_MIN: u64 = 80;
/// The longest time that a refusal may take (p99).
const REFUSAL_MAX: Duration = Duration::from_millis(100);
/// How much more memory the server may have resident than before.
const RESIDENT_MORE_MAX: u64 = 128 * 1024 * 1024;
/// Submits more than the server can run.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// For how many seconds.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// How many times as much as it can run.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=100))]
    times: u64,
    /// How often to try, on a machine that others use as well.
    #[arg(long, default_value_t = 3)]
    tries: u32,
}

/// Runs the campaign, again where others kept the machine busy.
///
/// # Errors
///
/// When it was too slow each time, a promise was broken, or the server cannot be run.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    for _ in 0..arguments.tries.max(1) {
        match one(arguments).await? {
            None => return Ok(()),
            Some(why) => println!("overload: {why}"),
        }
    }
    bail!("overload was too much {} times", arguments.tries)
}

/// Overloads a server once, and returns what was too slow.
async fn one(arguments: &Arguments) -> anyhow::Result<Option<String>> {
    let ground = Ground::make("overload", &arguments.common)?;
    let launch = ground.launch(Kind::Digest, &ground.path().join("anteroom.db"), "")?;
    let server = launch.start().await?;
    ground.up(&server);
    let client = ground.client("client")?;
    let mut acked = Vec::new();
    let peak = peak(&client, &mut acked).await?;
    client
        .change_queue("default", &format!(r#"{{"max_depth": {DEPTH_MAX}}}"#))
        .await?;

    let before_bytes = resident_bytes(server.pid())?;
    let watch = MemoryWatch::start(server.pid());
    let rate = NAPS_PER_S * arguments.times;
    let ours = [server.pid(), Pid::this()];
    let before_cpu = Cpu::read(&ours)?;
    ground.overload(true)?;
    let from_ms = wall_ms();
    let mut seen = offer(&client, rate, Duration::from_secs(arguments.seconds)).await?;
    let to_ms = wall_ms();
    ground.overload(false)?;
    let others_percent = Cpu::read(&ours)?.others_percent_since(before_cpu);
    let most_bytes = watch.finish().await?.max(before_bytes);

    let overloaded: HashSet<String> = seen.taken.iter().map(|job| job.id.clone()).collect();
    acked.append(&mut seen.taken);
    let tally = ground.drain(&client, &acked).await?;
    verify::unacknowledged(&client, &acked).await?;
    let listed = list(&client, "task=nap").await?;
    end_well(&ground, server).await?;
    let good = good_per_s(&listed, &overloaded, from_ms, to_ms);
    let line = format!(
        "overload: {} submits in {} s ({rate} a second offered) on a server that runs {peak} a \
         second (8 at once of 20 ms each; {DEPTH_MAX} may wait): {} taken, {}, of which {good} a second \
         came to their end within {IN_TIME_MS_MAX} ms, {} % of the peak; {} refused, {}, \
         all as problems with Retry-After; {} without an answer in {DEADLINE:?}; resident {} MiB \
         before, {} MiB at most; other programs used {others_percent} % of the cores",
        seen.sent,
        (to_ms - from_ms) / 1_000,
        overloaded.len(),
        spread(&mut seen.taken_us),
        good * 100 / peak,
        seen.refusals_us.len(),
        spread(&mut seen.refusals_us),
        seen.unanswered,
        before_bytes >> 20,
        most_bytes >> 20,
    );
    let bounds = Bounds {
        capacity_per_s: Some(NAPS_PER_S),
        capacity_burst: DEPTH_MAX + NAP_SLOTS as u64,
        ..Bounds::default()
    };
    ground.conclude_within(&line, tally, &bounds)?;
    let more_bytes = most_bytes - before_bytes;
    ensure!(
        more_bytes <= RESIDENT_MORE_MAX,
        "the server has {more_bytes} bytes more resident than before"
    );
    Ok(too_slow(&seen, good, peak))
}

/// Stops the server; it has to be there still.
async fn end_well(ground: &Ground, mut server: Server) -> anyhow::Result<()> {
    ensure!(
        server.is_running()?,
        "the server ended: {}",
        server.last_words()
    );
    ground.stop(server).await
}

/// Says what was too slow, if anything was; `seen` is sorted.
fn too_slow(seen: &Seen, good: u64, peak: u64) -> Option<String> {
    let p99 = Duration::from_micros(at_percent(&seen.refusals_us, 99));
    if seen.refusals_us.is_empty() {
        return Some("nothing was refused".to_owned());
    }
    if good * 100 < peak * GOODPUT_PERCENT_MIN {
        return Some(format!("less than {GOODPUT_PERCENT_MIN} % of the peak"));
    }
    if p99 > REFUSAL_MAX {
        return Some(format!("refusals took longer than {REFUSAL_MAX:?} (p99)"));
    }
    if seen.unanswered + seen.unsent > seen.sent / 100 {
        let (unanswered, unsent) = (seen.unanswered, seen.unsent);
        return Some(format!("{unanswered} were not answered, {unsent} not sent"));
    }
    None
}

fn wall_ms() -> i64 {
    i64::try_from(now_us().0 / 1_000).unwrap_or(i64::MAX)
}

fn ask(number: u64) -> Ask {
    let body = number.to_string();
    let result = digest(body.as_bytes());
    Ask {
        task: "nap",
        body: body.into(),
        expected: Some(digest(result.as_bytes())),
        options: String::new(),
        retain: None,
    }
}

/// Measures how many jobs a second the server runs while there are always some waiting.
async fn peak(client: &Client, acked: &mut Vec<Acked>) -> anyhow::Result<u64> {
    client
        .change_queue("default", r#"{"paused": true}"#)
        .await?;
    for number in 0..NAPS_PER_S * 2 {
        let ask = ask(u64::MAX - number);
        acked.push(submit_one(client, &ask).await?);
    }
    client
        .change_queue("default", r#"{"paused": false}"#)
        .await?;
    let tally = verify::drain(client, acked).await?;
    ensure!(tally.is_right(), "without overload: {tally:?}");
    let listed = list(client, "task=nap").await?;
    let starts = listed.iter().filter_map(|job| job.started_at);
    let ends = listed.iter().filter_map(|job| job.finished_at);
    let span_ms = ends.max().context("no ends")?.ms() - starts.min().context("no starts")?.ms();
    Ok(listed.len() as u64 * 1_000 / u64::try_from(span_ms)?.max(1))
}

/// Returns how many of the jobs a second came to their end in time, and within the span.
fn good_per_s(listed: &[Listed], ids: &HashSet<String>, from_ms: i64, to_ms: i64) -> u64 {
    let good = listed.iter().filter(|job| {
        ids.contains(&job.id)
            && job.state == "succeeded"
            && job.finished_at.is_some_and(|at| {
                at.ms() <= to_ms && at.ms() - job.created_at.ms() <= IN_TIME_MS_MAX
            })
    });
    let span_ms = u64::try_from(to_ms - from_ms).unwrap_or_default().max(1);
    good.count() as u64 * 1_000 / span_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naps_a_second_are_slots_by_their_time() {
        let per_slot = 1_000 / u64::try_from(NAP.as_millis()).unwrap();
        assert_eq!(NAPS_PER_S, per_slot * NAP_SLOTS as u64);
    }
}
