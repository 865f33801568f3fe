//! Several nodes on one `PostgreSQL` database, under load, hurt at random: nodes killed, the database
//! stopped as by a crash, its connections ended, and cut around commits.
//!
//! [`cut_off`] pauses a node and cuts one off, [`held`] holds a transaction open; `site` is what
//! they have in common. `teeth` shows that a lost commit would be seen.

pub mod cut_off;
pub mod held;
mod site;

use super::{Common, Ground, middle_and_greatest};
use crate::client::Client;
use crate::history::{Bounds, FaultKind, Rule, Seen, check, now_us};
use crate::keyed::{Answers, Keyed, Load, UNKNOWN, submit_until_known};
use crate::load::Mix;
use crate::pause;
use crate::proxy::{Moment, What};
use anyhow::{bail, ensure};
use site::{Site, database};
use std::collections::BTreeMap;
use std::time::Duration;

const NODES: usize = 3;
const SUBMITTERS: usize = 8;
const WAITERS: usize = 3;
const WORKERS: usize = 3;
/// How long it may take until a job is acknowledged again, or a commit comes by.
const NEXT_MAX: Duration = Duration::from_secs(20);
/// Connections that are ended at once, at the most.
const ENDED_MAX: u64 = 6;

/// Hurts nodes, their database, and the connections between them.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How often something is hurt.
    #[arg(long, default_value_t = 8)]
    faults: usize,
}

/// Shows that a lost commit is seen.
#[derive(Clone, Debug, clap::Args)]
pub struct TeethArguments {
    #[command(flatten)]
    common: Common,
}

/// What is hurt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    Restart,
    EndConnections,
    Cut(MomentOf, WhatOf),
}

/// [`Moment`], in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum MomentOf {
    Before,
    After,
}

/// [`What`], in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum WhatOf {
    Submits,
    Changes,
}

impl Fault {
    const ALL: [Self; 7] = [
        Self::Kill,
        Self::Cut(MomentOf::After, WhatOf::Submits),
        Self::Cut(MomentOf::Before, WhatOf::Submits),
        Self::Restart,
        Self::Cut(MomentOf::After, WhatOf::Changes),
        Self::Cut(MomentOf::Before, WhatOf::Changes),
        Self::EndConnections,
    ];

    fn words(self) -> &'static str {
        match self {
            Self::Kill => "kills of a node",
            Self::Restart => "crashes of the database",
            Self::EndConnections => "times connections ended",
            Self::Cut(MomentOf::Before, _) => "connections cut before a commit",
            Self::Cut(MomentOf::After, _) => "connections cut between a commit and its answer",
        }
    }
}

/// Runs the campaign.
///
/// # Errors
///
/// When the promise was broken, or the processes cannot be run.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Some(cluster) = database("nodes").await? else {
        return Ok(());
    };
    let ground = Ground::make("nodes", &arguments.common)?;
    let mut site = Site::make(ground, cluster, "nodes").await?;
    for _ in 0..NODES {
        site.add_node(None).await?;
    }
    let mut workers = site.start_workers(WORKERS)?;
    let load = start_load(&site)?;
    let mut hurt: BTreeMap<Fault, u64> = BTreeMap::new();
    let mut recoveries_us = Vec::new();
    for round in 0..arguments.faults {
        pause(Duration::from_millis(site.ground.draw(100..800))).await;
        // Each comes once before chance decides.
        let drawn = usize::try_from(site.ground.draw(0..Fault::ALL.len() as u64))?;
        let fault = Fault::ALL[if round < Fault::ALL.len() {
            round
        } else {
            drawn
        }];
        *hurt.entry(fault).or_default() += 1;
        let over_us = inject(&mut site, fault).await?;
        load.another(NEXT_MAX).await?;
        if fault == Fault::Restart {
            recoveries_us.push(now_us().1 - over_us);
        }
        workers.check()?;
    }
    let answers = load.answers();
    let acked = load.stop().await?;
    let (tally, jobs) = site.finish(&acked, workers).await?;
    let cuts = |what| -> u64 {
        let of = hurt
            .iter()
            .filter(|(fault, _)| matches!(fault, Fault::Cut(_, it) if *it == what));
        of.map(|(_, count)| count).sum()
    };
    let (middle, greatest) = middle_and_greatest(&mut recoveries_us);
    let overlaps = site.overlaps()?;
    let unknown = answers.get(UNKNOWN).copied().unwrap_or_default();
    let line = format!(
        "nodes: {NODES} nodes, {}; first 202 after the database was back p50 {middle} ms, max \
         {greatest} ms; {jobs} jobs in the database, each once; other answers {answers:?}; {} attempts \
         went on beside a later one of their job",
        list(&hurt),
        overlaps.values().map(|of_node| of_node.count).sum::<u64>()
    );
    site.ground.conclude(&line, tally, true)?;
    let expected = cuts(WhatOf::Submits);
    ensure!(
        unknown >= expected,
        "{expected} commits of submits were cut, and {unknown} answers say that it is not known"
    );
    Ok(())
}

fn start_load(site: &Site) -> anyhow::Result<Load> {
    let mix = Mix {
        tasks: vec![
            ("digest", "", 16),
            ("pulled", "", 3),
            ("digest-exec", "  -\n", 1),
        ],
        ..Mix::exec(Duration::ZERO)
    };
    site.load(mix.all_kept(), SUBMITTERS, WAITERS)
}

fn list(hurt: &BTreeMap<Fault, u64>) -> String {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (fault, count) in hurt {
        *counts.entry(fault.words()).or_default() += count;
    }
    let words: Vec<_> = counts
        .iter()
        .map(|(words, count)| format!("{count} {words}"))
        .collect();
    words.join(", ")
}

/// Hurts something, and returns when it was over.
async fn inject(site: &mut Site, fault: Fault) -> anyhow::Result<u64> {
    let at = usize::try_from(site.ground.draw(0..NODES as u64))?;
    match fault {
        Fault::Kill => site.kill_and_start(at).await?,
        Fault::Restart => site.crash_database().await?,
        Fault::EndConnections => {
            let count = site.ground.draw(1..ENDED_MAX + 1);
            let sql = format!(
                "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid() \
                 ORDER BY random() LIMIT {count}) AS drawn"
            );
            site.sql(&sql).await?;
            site.hurt(FaultKind::Database)?;
        }
        Fault::Cut(moment, what) => {
            let moment = match moment {
                MomentOf::Before => Moment::Before,
                MomentOf::After => Moment::After,
            };
            let what = match what {
                WhatOf::Submits => What::Submits,
                WhatOf::Changes => What::Changes,
            };
            site.nodes[at].proxy.cut(moment, what, NEXT_MAX).await?;
            site.hurt(FaultKind::Database)?;
        }
    }
    Ok(now_us().1)
}

/// Has a node believe that its commits of submits went well, and has to see that jobs are lost.
///
/// # Errors
///
/// When no loss was seen.
pub async fn teeth(arguments: &TeethArguments) -> anyhow::Result<()> {
    const JOBS: u64 = 40;
    let name = "teeth-nodes";
    let Some(cluster) = database(name).await? else {
        return Ok(());
    };
    let mut site = Site::make(Ground::make(name, &arguments.common)?, cluster, "teeth").await?;
    site.add_node(None).await?;
    site.nodes[0].proxy.lie();
    let client = site.ground.client("submitter")?;
    let mut random = fastrand::Rng::with_seed(site.ground.draw(0..u64::MAX));
    let mix = Mix::exec(Duration::ZERO).all_kept();
    let mix = Mix {
        tasks: vec![("digest", "", 1)],
        ..mix
    };
    let mut acked = Vec::new();
    let answers = Answers::default();
    for number in 0..JOBS {
        let job = Keyed {
            ask: mix.ask(&mut random),
            key: number.to_string(),
        };
        let nodes = site.found();
        acked.extend(submit_until_known(&client, &nodes, &[job], &answers, &mut random).await?);
    }
    let there = client.at(site.found().draw(&mut random));
    let lost = missing(&there, &acked).await?;
    site.stop_nodes().await?;
    let bounds = Bounds {
        drained: false,
        ..Bounds::default()
    };
    let report = check::check_files(&site.ground.histories()?, &bounds)?;
    let seen = report.count(Rule::Kept);
    println!(
        "{name}: {JOBS} acknowledged by a node whose commits are taken back, {lost} of them lost, \
         {seen} losses seen by the checker: as it must be"
    );
    if lost == 0 || seen == 0 {
        bail!("{name}: commits were taken back, and nothing was seen to be lost");
    }
    Ok(())
}

async fn missing(client: &Client, acked: &[crate::load::Acked]) -> anyhow::Result<u64> {
    let mut lost = 0;
    for job in acked {
        let (state, _) = client.until_answered(|| client.job(&job.id, None)).await?;
        lost += u64::from(state == Seen::Missing);
    }
    Ok(lost)
}
