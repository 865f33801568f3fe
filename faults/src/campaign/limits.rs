//! Limits of queues, counted from outside: never exceeded, over a kill of the server too, and
//! reached while there is work.
//!
//! Every program writes down when its attempt began by the server's clock: its deadline less its
//! timeout. So starts are known that the server's own answers no longer tell of, since the attempt
//! was cut off and another followed.

mod attempts;
mod figures;

use super::{Common, Ground, Kind};
use crate::client::{Ask, Client, digest};
use crate::flow::Rate;
use crate::history::now_us;
use crate::listing::list;
use crate::load::{Acked, submit_one};
use crate::pause;
use anyhow::{bail, ensure};
use attempts::Attempts;
use bytes::Bytes;
use figures::Figures;
use std::time::Duration;

/// At once, of the queue `narrow`.
const CONCURRENCY: usize = 4;
/// At once of each group, of the queue `shared`.
const GROUP_CONCURRENCY: usize = 2;
/// The groups whose jobs wait there.
const GROUPS: [&str; 3] = ["a", "b", "c"];
/// Starts, of the queue `paced`.
const RATE: Rate = Rate {
    limit: 50,
    period_ms: 1_000,
};
/// A nap, in `narrow` and `shared`.
const NAP_MS: u64 = 500;
/// Of each limit so much has to be reached.
const REACHED_PERCENT_MIN: i64 = 95;
/// The timeout of every task.
const TIMEOUT_MS: i64 = 60_000;
/// The file that programs write to, in the folder of the configuration.
const STARTS: &str = "starts";

/// `>>` appends each line by one write.
const CONFIGURED: &str = r#"
retain = "1h"
shutdown_grace = "3s"

[queues.narrow]
max_concurrency = 4

[queues.paced]
rate_limit = { limit = 50, period = "1s" }

[queues.shared]
group_concurrency = 2

[tasks.narrow]
exec = ["sh", "-c", "echo $ANTEROOM_JOB_ID $ANTEROOM_ATTEMPT $ANTEROOM_DEADLINE >> starts; exec sleep 0.5"]
queue = "narrow"
timeout = "60s"
concurrency = 64
max_attempts = 100
backoff = { initial = "20ms", factor = 1.0, max = "20ms", jitter = 0.0 }

[tasks.paced]
exec = ["sh", "-c", "echo $ANTEROOM_JOB_ID $ANTEROOM_ATTEMPT $ANTEROOM_DEADLINE >> starts"]
queue = "paced"
timeout = "60s"
concurrency = 64
max_attempts = 100
backoff = { initial = "20ms", factor = 1.0, max = "20ms", jitter = 0.0 }

[tasks.shared]
exec = ["sh", "-c", "echo $ANTEROOM_JOB_ID $ANTEROOM_ATTEMPT $ANTEROOM_DEADLINE >> starts; exec sleep 0.5"]
queue = "shared"
timeout = "60s"
concurrency = 64
max_attempts = 100
backoff = { initial = "20ms", factor = 1.0, max = "20ms", jitter = 0.0 }
"#;

/// Holds a server with limits to them.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Periods of a second, before a kill of the server and after each.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=600))]
    periods: u32,
    /// Kills of the server.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=20))]
    kills: u32,
    /// How often to try, on a machine that others use as well, where a limit is not reached.
    #[arg(long, default_value_t = 3)]
    tries: u32,
}

/// Runs the campaign, again where others kept the machine busy.
///
/// # Errors
///
/// When a limit was exceeded, or never reached, a promise was broken, or the server cannot be run.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    for _ in 0..arguments.tries.max(1) {
        match one(arguments).await? {
            None => return Ok(()),
            Some(why) => println!("limits: {why}"),
        }
    }
    bail!("limits were not reached {} times", arguments.tries)
}

/// A span in which the server ran and there was work all the while.
#[derive(Clone, Copy, Debug)]
struct Part {
    from_ms: i64,
    to_ms: i64,
}

/// Runs it once, and returns what was not reached.
async fn one(arguments: &Arguments) -> anyhow::Result<Option<String>> {
    let ground = Ground::make("limits", &arguments.common)?;
    let launch = ground.launch(
        Kind::Anteroom,
        &ground.path().join("anteroom.db"),
        CONFIGURED,
    )?;
    let mut server = launch.start().await?;
    ground.up(&server);
    let client = ground.client("client")?;
    for queue in ["narrow", "paced", "shared"] {
        client.change_queue(queue, r#"{"paused": true}"#).await?;
    }
    let acked = submit_all(&client, arguments).await?;
    for queue in ["narrow", "paced", "shared"] {
        client.change_queue(queue, r#"{"paused": false}"#).await?;
    }
    let (mut parts, mut kills_ms) = (Vec::new(), Vec::new());
    loop {
        // The starts that a rate allows at once are over within the first period.
        let from_ms = wall_ms() + i64::from(RATE.period_ms);
        let to_ms = from_ms + i64::from(arguments.periods * RATE.period_ms);
        parts.push(Part { from_ms, to_ms });
        pause(Duration::from_millis(u64::try_from(to_ms - wall_ms())?)).await;
        if parts.len() > usize::try_from(arguments.kills)? {
            break;
        }
        ground.kill(server).await?;
        // Whatever it started, it started before; and the next one only later.
        kills_ms.push(wall_ms());
        server = launch.start().await?;
        ground.up(&server);
    }
    let still_waiting = list(&client, "state=ready,scheduled").await?;
    let tally = ground.drain(&client, &acked).await?;
    let listed = list(&client, "").await?;
    ground.stop(server).await?;
    for queue in ["narrow", "paced", "shared"] {
        let waits = still_waiting.iter().any(|job| job.task == queue);
        ensure!(waits, "nothing was left to wait in {queue}");
    }
    let attempts = Attempts::read(&ground.path().join(STARTS), &listed, &kills_ms)?;
    let figures = Figures::of(&attempts, &parts)?;
    let line = format!(
        "limits: {} s and {} kills of the server; {figures}; {} starts of attempts that a kill cut \
         off, {} more that nobody saw",
        parts.len() * usize::try_from(arguments.periods)?,
        kills_ms.len(),
        attempts.cut_off,
        attempts.unseen,
    );
    ground.conclude(&line, tally, false)?;
    figures.check()
}

fn wall_ms() -> i64 {
    i64::try_from(now_us().0 / 1_000).unwrap_or(i64::MAX)
}

/// Submits more than can be started, to the last moment.
async fn submit_all(client: &Client, arguments: &Arguments) -> anyhow::Result<Vec<Acked>> {
    // A restart takes its time, too; nothing may be left that never waited.
    let parts = u64::from(arguments.kills) + 1;
    let seconds = parts * (u64::from(arguments.periods) + 4);
    let naps = seconds * 1_000 / NAP_MS + 4;
    let mut asks: Vec<(&'static str, String, u64)> = vec![
        ("narrow", String::new(), naps * CONCURRENCY as u64),
        (
            "paced",
            String::new(),
            u64::from(RATE.limit) * (seconds + 2),
        ),
    ];
    for group in GROUPS {
        let jobs = naps * GROUP_CONCURRENCY as u64;
        asks.push(("shared", format!("group={group}"), jobs));
    }
    let mut acked = Vec::new();
    for (task, options, jobs) in asks {
        for _ in 0..jobs {
            let ask = Ask {
                task,
                body: Bytes::new(),
                expected: Some(digest(b"")),
                options: options.clone(),
                retain: None,
            };
            acked.push(submit_one(client, &ask).await?);
        }
    }
    Ok(acked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_says_what_is_checked() {
        let Rate { limit, period_ms } = RATE;
        assert_eq!(period_ms % 1_000, 0);
        let period = period_ms / 1_000;
        let rate = format!("rate_limit = {{ limit = {limit}, period = \"{period}s\" }}");
        for (expected, count) in [
            (format!("max_concurrency = {CONCURRENCY}\n"), 1),
            (rate, 1),
            (format!("group_concurrency = {GROUP_CONCURRENCY}\n"), 1),
            (format!("timeout = \"{}s\"\n", TIMEOUT_MS / 1_000), 3),
            (format!(">> {STARTS}"), 3),
            (format!("exec sleep 0.{}\"", NAP_MS / 100), 2),
        ] {
            assert_eq!(CONFIGURED.matches(&expected).count(), count, "{expected}");
        }
    }
}
