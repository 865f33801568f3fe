//! SIGINT with jobs running: what ends in time ends, the rest is handed back at no cost.

use super::{Common, Ground, Kind};
use crate::client::{Ask, Client, Submitted, digest};
use crate::history::{FaultKind, Seen, now_us};
use crate::load::Acked;
use crate::pause;
use anyhow::{Context, bail};
use bytes::Bytes;
use hyper::Method;
use nix::sys::signal::Signal;
use std::time::Duration;

const TASKS: &str = r#"
retain = "1h"
shutdown_grace = "2s"

[tasks.short]
exec = ["sleep", "0.7"]
concurrency = 100
max_attempts = 1

[tasks.long]
exec = ["sleep", "600"]
concurrency = 10
kill_grace = "1s"
max_attempts = 1
"#;

/// The second configuration: the long ones are short now, so that they come to an end.
const TASKS_AFTER: &str = r#"
retain = "1h"

[tasks.short]
exec = ["sleep", "0.7"]
max_attempts = 1

[tasks.long]
exec = ["sleep", "0.2"]
max_attempts = 1
"#;

/// Stops a server with jobs running.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How often.
    #[arg(long, default_value_t = 2)]
    rounds: u32,
}

/// Runs the campaign.
///
/// # Errors
///
/// When the promise was broken, or the server cannot be run.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let ground = Ground::make("drain", &arguments.common)?;
    let database = ground.path().join("anteroom.db");
    let client = ground.client("client")?;
    let mut acked = Vec::new();
    let mut longest_us = 0;
    let mut refused = 0;
    for _ in 0..arguments.rounds {
        let launch = ground.launch(Kind::Anteroom, &database, TASKS)?;
        let mut server = launch.start().await?;
        ground.up(&server);
        // Ten of the long ones run, ten wait; all the short ones run.
        let round = submit(&client, &mut acked).await?;
        let from_us = now_us().1;
        server.signal(Signal::SIGINT)?;
        refused += u32::from(is_refused(&client).await?);
        let status = server.ended().await?;
        longest_us = longest_us.max(now_us().1 - from_us);
        ground.down();
        ground.hurt(FaultKind::Stop, &server)?;
        if status.code() != Some(0) {
            bail!(
                "after SIGINT the server ended with {status}: {}",
                server.last_words()
            );
        }
        // With max_attempts = 1 an attempt that was charged would fail the job.
        let launch = ground.launch(Kind::Anteroom, &database, TASKS_AFTER)?;
        let server = launch.start().await?;
        ground.up(&server);
        let tally = ground.drain(&client, &round).await?;
        if !tally.is_right() {
            bail!("after a drain: {tally:?}");
        }
        for job in &round {
            let (state, attempt) = client.job(&job.id, None).await?;
            if (state, attempt) != (Seen::Succeeded, 1) {
                bail!("{} is {state:?} with attempt {attempt}", job.id);
            }
        }
        ground.stop(server).await?;
    }
    let launch = ground.launch(Kind::Anteroom, &database, TASKS_AFTER)?;
    let server = launch.start().await?;
    ground.up(&server);
    let tally = ground.drain(&client, &acked).await?;
    ground.stop(server).await?;
    let line = format!(
        "drain: {} times SIGINT with 30 jobs running and 10 waiting: exit 0 within {} ms (grace \
         2 s), no attempt charged; submits meanwhile refused as draining {refused} times",
        arguments.rounds,
        longest_us / 1_000
    );
    ground.conclude(&line, tally, false)
}

/// Submits 20 short jobs and 20 long ones, and waits until 30 of them run.
async fn submit(client: &Client, acked: &mut Vec<Acked>) -> anyhow::Result<Vec<Acked>> {
    let mut round = Vec::new();
    for number in 0..40 {
        let ask = Ask {
            task: if number % 2 == 0 { "long" } else { "short" },
            body: Bytes::new(),
            expected: Some(digest(b"")),
            options: String::new(),
            retain: None,
        };
        match client.submit(&ask).await? {
            Submitted::Acked(id) => round.push(Acked {
                id,
                expected: ask.expected,
                is_short: false,
            }),
            other => bail!("a submit is answered {other:?}"),
        }
    }
    for _ in 0..100 {
        let mut begun = 0;
        for job in &round {
            let (state, _) = client.job(&job.id, None).await?;
            begun += usize::from(!matches!(state, Seen::Ready | Seen::Scheduled));
        }
        if begun >= 30 {
            acked.extend_from_slice(&round);
            return Ok(round);
        }
        pause(Duration::from_millis(5)).await;
    }
    bail!("30 jobs were not running in time")
}

/// Tells whether a draining server says so, to submits and to who asks whether it is ready.
async fn is_refused(client: &Client) -> anyhow::Result<bool> {
    for _ in 0..100 {
        let ready = client.call(Method::GET, "/readyz", &[], Bytes::new()).await;
        let ready = ready.context("ask a draining server whether it is ready")?;
        if ready.status == 503 {
            let path = "/v1/tasks/short/jobs";
            let answer = client.call(Method::POST, path, &[], Bytes::new()).await?;
            return Ok((answer.status, &*answer.problem()) == (503, "draining"));
        }
        pause(Duration::from_millis(5)).await;
    }
    bail!("the server was ready long after it was told to stop")
}
