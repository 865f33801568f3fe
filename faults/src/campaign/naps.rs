//! Many jobs that only wait run beside one another, and hold nobody up.

use super::{Common, Ground, Kind};
use crate::client::{Ask, Submitted, digest};
use crate::history::now_us;
use crate::load::Acked;
use crate::pause;
use anyhow::bail;
use bytes::Bytes;
use hyper::Method;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const TASKS: &str = r#"
retain = "1h"

[tasks.nap]
exec = ["sleep", "1"]
concurrency = 100
"#;

/// Runs many naps at once.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How many jobs of one second, a hundred at once.
    #[arg(long, default_value_t = 500)]
    naps: usize,
    /// The longest time that they may take together, in seconds.
    #[arg(long, default_value_t = 8.0)]
    seconds_max: f64,
    /// The longest time that `/livez` may take meanwhile (p99), in milliseconds.
    #[arg(long, default_value_t = 50)]
    livez_ms_max: u64,
    /// How often to try, on a machine that others use as well.
    #[arg(long, default_value_t = 3)]
    tries: u32,
}

/// Runs the campaign, again where others kept the machine busy.
///
/// # Errors
///
/// When it took too long each time, a promise was broken, or the server cannot be run.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let span_max = Duration::from_secs_f64(arguments.seconds_max);
    let ping_max = Duration::from_millis(arguments.livez_ms_max);
    for _ in 0..arguments.tries.max(1) {
        let (span, p99) = one(arguments).await?;
        if span <= span_max && p99 <= ping_max {
            return Ok(());
        }
        println!("naps: took longer than {span_max:?}, or /livez longer than {ping_max:?} (p99)");
    }
    bail!("the naps or /livez took too long {} times", arguments.tries)
}

/// Runs all naps once, and returns how long they took, and the p99 of `/livez` meanwhile.
async fn one(arguments: &Arguments) -> anyhow::Result<(Duration, Duration)> {
    let ground = Ground::make("naps", &arguments.common)?;
    let launch = ground.launch(Kind::Anteroom, &ground.path().join("anteroom.db"), TASKS)?;
    let server = launch.start().await?;
    ground.up(&server);
    let client = ground.client("client")?;
    let stop = CancellationToken::new();
    let mut pinger = JoinSet::new();
    pinger.spawn(ping(client.clone(), stop.clone()));

    let from_us = now_us().1;
    let mut acked = Vec::new();
    for _ in 0..arguments.naps {
        let ask = Ask {
            task: "nap",
            body: Bytes::new(),
            expected: Some(digest(b"")),
            options: String::new(),
            retain: None,
        };
        match client.submit(&ask).await? {
            Submitted::Acked(id) => acked.push(Acked {
                id,
                expected: ask.expected,
                is_short: false,
            }),
            other => bail!("a submit is answered {other:?}"),
        }
    }
    let tally = ground.drain(&client, &acked).await?;
    let span = Duration::from_micros(now_us().1 - from_us);
    stop.cancel();
    let mut pings = match pinger.join_next().await {
        Some(pings) => pings??,
        None => bail!("nobody asked for /livez"),
    };
    ground.stop(server).await?;

    pings.sort_unstable();
    let p99 = Duration::from_micros(pings[pings.len() * 99 / 100]);
    let greatest = Duration::from_micros(pings[pings.len() - 1]);
    let line = format!(
        "naps: {} jobs of 1 s, 100 at once, ended in {span:.3?}; {} reads of /livez meanwhile: \
         p99 {p99:.1?}, max {greatest:.1?}",
        arguments.naps,
        pings.len(),
    );
    ground.conclude(&line, tally, false)?;
    Ok((span, p99))
}

/// Asks for `/livez` all the time, and returns how long each answer took, in microseconds.
async fn ping(client: crate::client::Client, stop: CancellationToken) -> anyhow::Result<Vec<u64>> {
    let mut took = Vec::new();
    while took.is_empty() || !stop.is_cancelled() {
        let from_us = now_us().1;
        let answer = client
            .call(Method::GET, "/livez", &[], Bytes::new())
            .await?;
        if answer.status != 200 {
            bail!("/livez is answered {}", answer.status);
        }
        took.push(now_us().1 - from_us);
        pause(Duration::from_millis(5)).await;
    }
    Ok(took)
}
