//! SIGKILL at random moments: under load, while starting, while purging, while draining.

use super::{Common, DIGEST_TASK, Ground, Kind, middle_and_greatest};
use crate::history::now_us;
use crate::load::{Load, Mix};
use crate::pause;
use crate::server::{Launch, Server};
use crate::verify;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a short job is kept.
const RETAIN_SHORT: Duration = Duration::from_millis(400);
/// How long a round may take to reach its moment.
const ROUND_MAX: Duration = Duration::from_mins(1);
const SUBMITTERS: usize = 8;
const READERS: usize = 2;

/// Kills a server over and over.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How often, of the server with function tasks.
    #[arg(long, default_value_t = 20)]
    kills: u64,
    /// Acknowledgements to collect, of the server with function tasks.
    #[arg(long, default_value_t = 20_000)]
    acks: u64,
    /// How often, of the server whose tasks are programs.
    #[arg(long, default_value_t = 10)]
    exec_kills: u64,
    /// Acknowledgements to collect, of the server whose tasks are programs.
    #[arg(long, default_value_t = 3_000)]
    exec_acks: u64,
}

/// The moment of a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    UnderLoad,
    Starting,
    Purging,
    Draining,
}

impl Moment {
    const ALL: [Self; 4] = [
        Self::UnderLoad,
        Self::Starting,
        Self::Purging,
        Self::Draining,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::UnderLoad => "under load",
            Self::Starting => "while starting",
            Self::Purging => "while purging",
            Self::Draining => "while draining",
        }
    }
}

/// Runs the campaign on both servers.
///
/// # Errors
///
/// When the promise was broken, or the servers cannot be run.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let common = &arguments.common;
    let functions = campaign(Kind::Digest, common, arguments.kills, arguments.acks).await;
    let programs = campaign(
        Kind::Anteroom,
        common,
        arguments.exec_kills,
        arguments.exec_acks,
    )
    .await;
    functions.and(programs)
}

async fn campaign(kind: Kind, common: &Common, kills: u64, acks: u64) -> anyhow::Result<()> {
    if kills == 0 {
        return Ok(());
    }
    let (name, mix) = match kind {
        Kind::Digest => ("kill", Mix::functions(RETAIN_SHORT)),
        Kind::Anteroom => ("kill-exec", Mix::exec(RETAIN_SHORT)),
    };
    let ground = Ground::make(name, common)?;
    let launch = ground.launch(kind, &ground.path().join("anteroom.db"), DIGEST_TASK)?;
    let load = ground.load(mix, SUBMITTERS, READERS)?;
    let mut recoveries = Vec::new();
    let mut moments: BTreeMap<Moment, u64> = BTreeMap::new();
    let mut server = launch.start().await?;
    ground.up(&server);
    for round in 0..kills {
        let per_round = acks / kills;
        load.add_budget(usize::try_from(per_round)?);
        let within = ground.draw(0..per_round.max(10) * 9 / 10);
        let acked = usize::try_from(round * per_round + within)?;
        load.reach(acked, ROUND_MAX).await?;
        let index = usize::try_from(ground.draw(0..4))?;
        // Each moment comes up once before chance decides.
        let moment = Moment::ALL[usize::try_from(round).map_or(index, |round| match round {
            0..4 => round,
            _ => index,
        })];
        *moments.entry(moment).or_default() += 1;
        let killed_us = hurt(&ground, &launch, moment, server).await?;
        server = launch.start().await?;
        ground.up(&server);
        load.another(ROUND_MAX).await?;
        recoveries.push(now_us().1 - killed_us);
    }
    load.reach(usize::MAX, ROUND_MAX).await?;
    finish(
        &ground,
        kind,
        launch,
        load,
        server,
        &moments,
        &mut recoveries,
    )
    .await
}

/// Kills the server at that moment, and returns when.
async fn hurt(
    ground: &Ground,
    launch: &Launch,
    moment: Moment,
    server: Server,
) -> anyhow::Result<u64> {
    match moment {
        Moment::UnderLoad => pause(Duration::from_micros(ground.draw(0..20_000))).await,
        Moment::Purging => {
            let until_purge = u64::try_from(RETAIN_SHORT.as_micros())?;
            let wait = ground.draw(until_purge..until_purge * 5);
            pause(Duration::from_micros(wait)).await;
        }
        Moment::Draining => {
            server.signal(Signal::SIGTERM)?;
            pause(Duration::from_micros(ground.draw(0..150_000))).await;
        }
        Moment::Starting => {
            ground.kill(server).await?;
            let starting = launch.spawn()?;
            pause(Duration::from_micros(ground.draw(0..60_000))).await;
            let killed_us = now_us().1;
            ground.kill(starting.not_listening()).await?;
            return Ok(killed_us);
        }
    }
    let killed_us = now_us().1;
    ground.kill(server).await?;
    Ok(killed_us)
}

/// Reads everything before and after a clean restart, and concludes.
async fn finish(
    ground: &Ground,
    kind: Kind,
    launch: Launch,
    load: Load,
    server: Server,
    moments: &BTreeMap<Moment, u64>,
    recoveries: &mut [u64],
) -> anyhow::Result<()> {
    let answers = load.answers();
    let acked = load.stop().await?;
    let client = ground.client("verifier")?;
    let before = ground.drain(&client, &acked).await?;
    ground.stop(server).await?;
    let server = launch.start().await?;
    ground.up(&server);
    let mut tally = ground.drain(&client, &acked).await?;
    verify::unacknowledged(&client, &acked).await?;
    ground.stop(server).await?;
    if !before.is_right() {
        tally = before;
    }
    let (middle, greatest) = middle_and_greatest(recoveries);
    let kills: Vec<_> = moments
        .iter()
        .map(|(moment, count)| format!("{count} {}", moment.as_str()))
        .collect();
    let line = format!(
        "kill ({kind:?}): {} kills ({}); first 202 after a kill p50 {middle} ms, max {greatest} ms; \
         other answers {answers:?}",
        recoveries.len(),
        kills.join(", ")
    );
    ground.conclude(&line, tally, kind == Kind::Digest)
}
