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
}

/// Runs the campaign.
///
/// # Errors
///
/// When it took too long, or the server cannot be run.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let ground = Ground::make("naps", &arguments.common)?;
    let launch = ground.launch(Kind::Anteroom, &ground.path().join("anteroom.db"), TASKS)?;
    let server = launch.start().await?;
    ground.up(&server);
    let client = ground.client("client")?;
    let stop = CancellationToken::new();
    let mut pinger = JoinSet::new();
    pinger.spawn(ping(client.clone(), stop.clone()));

    let from_us = now_us().1;
    let ask = Ask {
        task: "nap",
        body: Bytes::new(),
        expected: Some(digest(b"")),
        options: String::new(),
        retain: None,
    };
    let mut acked = Vec::new();
    for _ in 0..arguments.naps {
        match client.submit(&ask).await? {
            Submitted::Acked(id) => acked.push(Acked {
                id,
                expected: ask.expected.clone(),
                is_short: false,
            }),
            other => bail!("a submit is answered {other:?}"),
        }
    }
    let tally = ground.drain(&client, &acked).await?;
    let span_us = now_us().1 - from_us;
    stop.cancel();
    let mut pings = match pinger.join_next().await {
        Some(pings) => pings??,
        None => Vec::new(),
    };
    ground.stop(server).await?;

    pings.sort_unstable();
    let p99_us = pings[pings.len() * 99 / 100];
    let greatest_us = pings[pings.len() - 1];
    let whole_ms = span_us / 1_000;
    let line = format!(
        "naps: {} jobs of 1 s, 100 at once, ended in {}.{:03} s; {} reads of /livez meanwhile: \
         p99 {}.{:03} ms, max {}.{:03} ms",
        arguments.naps,
        whole_ms / 1_000,
        whole_ms % 1_000,
        pings.len(),
        p99_us / 1_000,
        p99_us % 1_000,
        greatest_us / 1_000,
        greatest_us % 1_000
    );
    ground.conclude(&line, tally, false)?;
    if Duration::from_micros(span_us) > Duration::from_secs_f64(arguments.seconds_max) {
        bail!("the naps took longer than {} s", arguments.seconds_max);
    }
    if p99_us > arguments.livez_ms_max * 1_000 {
        bail!("/livez took longer than {} ms", arguments.livez_ms_max);
    }
    Ok(())
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
