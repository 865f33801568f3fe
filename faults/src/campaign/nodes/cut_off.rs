//! A node that stands still for longer than others take it for alive, and one that cannot reach the
//! database for as long, while a third goes on.
//!
//! What they ran is rescued meanwhile, so that attempts of a job may overlap, and what they say later
//! changes nothing. How many do overlap is counted: those of a node that is cut off need not, since it
//! can tell; one that stands still cannot.

use super::site::{Site, database};
use super::{NODES, WAITERS, WORKERS};
use crate::campaign::{Common, Ground};
use crate::client::{Ask, digest};
use crate::history::{FaultKind, now_us};
use crate::keyed::{Answers, Keyed, Load, submit_until_known};
use crate::load::{Acked, Mix};
use crate::netns::Namespace;
use crate::pause;
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use nix::sys::signal::Signal;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long the first attempt of a job of `doze` takes: longer than others wait until they take its
/// node for dead and rescue it, by enough to be seen.
pub const DOZE: Duration = Duration::from_secs(26);
/// How long a node is paused, and another cut off: as long.
const AWAY: Duration = Duration::from_secs(25);
/// Jobs that are still at their first attempt meanwhile.
const DOZERS: u64 = 30;
/// Fewer than elsewhere: it goes on for long.
const SUBMITTERS: usize = 4;
/// How long it may take until the one that was cut off acknowledges again: what it sent is repeated
/// less and less often, and given up after half a minute.
const BACK_SECONDS_MAX: u64 = 40;
/// For how long at least what comes after is taken for an effect of having been away.
const AFTER_SECONDS: u64 = 4;
/// How long it takes until they have begun.
const BEGUN: Duration = Duration::from_secs(1);
/// Which node is paused, and which one is cut off.
const PAUSED: usize = 0;
const CUT_OFF: usize = 1;

/// Pauses a node, and cuts another one off from the database.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How often.
    #[arg(long, default_value_t = 1)]
    times: usize,
}

/// Runs the campaign.
///
/// # Errors
///
/// When the promise was broken, or the processes cannot be run.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let name = "cut-off";
    let Some(cluster) = database(name).await? else {
        return Ok(());
    };
    let namespace = match Namespace::make() {
        Ok(namespace) => Some(namespace),
        Err(error) => {
            println!("{name}: COULD NOT RUN: no node in a network of its own: {error:#}");
            None
        }
    };
    let has_network = namespace.is_some();
    let mut site = Site::make(Ground::make(name, &arguments.common)?, cluster, "cut_off").await?;
    let mut namespace = namespace;
    for at in 0..NODES {
        let own = if at == CUT_OFF {
            namespace.take()
        } else {
            None
        };
        site.add_node(own).await?;
    }
    let mut workers = site.start_workers(WORKERS)?;
    let mix = Mix {
        tasks: vec![("digest", "", 17), ("pulled", "", 3)],
        ..Mix::exec(Duration::ZERO)
    };
    let load = site.load(mix.all_kept(), SUBMITTERS, WAITERS)?;
    let mut others = Vec::new();
    let (mut meanwhile, mut back_ms_max) = (0, 0);
    for time in 0..arguments.times {
        others.extend(submit_dozers(&site, time).await?);
        pause(BEGUN).await;
        meanwhile += keep_away(&site, &load).await?;
        let (acked, back_ms) = come_back(&site, time).await?;
        others.extend(acked);
        back_ms_max = back_ms_max.max(back_ms);
        workers.check()?;
    }
    let answers = load.answers();
    let mut acked = load.stop().await?;
    acked.extend(others);
    let (paused, away) = (site.nodes[PAUSED].name()?, site.nodes[CUT_OFF].name()?);
    let (tally, jobs) = site.finish(&acked, workers).await?;
    let overlaps = site.overlaps()?;
    let of = |node: &String| overlaps.get(node).copied().unwrap_or_default();
    let cut_off = if has_network { arguments.times } else { 0 };
    let line = format!(
        "cut-off: {NODES} nodes, {} times one was paused and {cut_off} times one could not reach the \
         database, for {AWAY:?}; {meanwhile} acknowledged meanwhile; the one that was cut off acknowledges \
         again {back_ms_max} ms after it is back at the latest; on the paused one {}; on the one \
         that was cut off {}; {jobs} jobs in the database, each once; other answers {answers:?}",
        arguments.times,
        of(&paused),
        of(&away),
    );
    site.ground.conclude(&line, tally, true)
}

/// Submits jobs whose first attempt takes longer than a node may be away.
async fn submit_dozers(site: &Site, time: usize) -> anyhow::Result<Vec<Acked>> {
    let client = site.ground.client(&format!("dozer-{time}"))?;
    let mut random = fastrand::Rng::with_seed(site.ground.draw(0..u64::MAX));
    let (nodes, answers) = (site.found(), Answers::default());
    let mut acked = Vec::new();
    for number in 0..DOZERS {
        let job = [job_of(&format!("doze {time} {number}"), "doze")];
        acked.extend(submit_until_known(&client, &nodes, &job, &answers, &mut random).await?);
    }
    Ok(acked)
}

fn job_of(words: &str, task: &'static str) -> Keyed {
    let body = Bytes::copy_from_slice(words.as_bytes());
    let ask = Ask {
        task,
        expected: Some(digest(digest(&body).as_bytes())),
        body,
        options: String::new(),
        retain: None,
    };
    Keyed {
        ask,
        key: words.to_owned(),
    }
}

/// Keeps two nodes away for longer than they are taken for alive, and returns how many jobs were
/// acknowledged meanwhile.
async fn keep_away(site: &Site, load: &Load) -> anyhow::Result<usize> {
    let before = load.acked_count();
    mark(site)?;
    site.nodes[PAUSED].signal(Signal::SIGSTOP)?;
    site.show(PAUSED, false)?;
    if let Some(namespace) = &site.nodes[CUT_OFF].namespace {
        namespace.reach_database(false)?;
    }
    // What they begin and end meanwhile is explained all along.
    for _ in 0..AWAY.as_secs() {
        pause(Duration::from_secs(1)).await;
        mark(site)?;
    }
    // Two of three are away, and the third takes jobs: those that went to the others first too.
    let meanwhile = load.acked_count() - before;
    ensure!(
        meanwhile > 0,
        "nothing was acknowledged while two nodes were away"
    );
    if let Some(namespace) = &site.nodes[CUT_OFF].namespace {
        namespace.reach_database(true)?;
    }
    site.nodes[PAUSED].signal(Signal::SIGCONT)?;
    site.show(PAUSED, true)?;
    Ok(meanwhile)
}

/// Waits until the node that was cut off acknowledges a submit again, and returns that and how long
/// it took.
async fn come_back(site: &Site, time: usize) -> anyhow::Result<(Vec<Acked>, u64)> {
    let client = site.ground.client(&format!("asker-{time}"))?;
    let mut random = fastrand::Rng::with_seed(site.ground.draw(0..u64::MAX));
    let job = [job_of(&format!("back {time}"), "digest")];
    let (node, from_us) = (site.node(CUT_OFF), now_us().1);
    let mut asking = JoinSet::new();
    asking.spawn(async move {
        let answers = Answers::default();
        let acked = submit_until_known(&client, &node, &job, &answers, &mut random).await;
        (acked, now_us().1)
    });
    for second in 0..BACK_SECONDS_MAX {
        pause(Duration::from_secs(1)).await;
        mark(site)?;
        if second < AFTER_SECONDS {
            continue;
        }
        if let Some(ended) = asking.try_join_next() {
            let (acked, at_us) = ended.context("a client panicked")?;
            return Ok((acked?, (at_us - from_us) / 1_000));
        }
    }
    bail!("the node that was cut off took no job for {BACK_SECONDS_MAX} s after it was back");
}

fn mark(site: &Site) -> anyhow::Result<()> {
    site.hurt_node(FaultKind::Pause, PAUSED)?;
    if site.nodes[CUT_OFF].namespace.is_some() {
        site.hurt_node(FaultKind::Partition, CUT_OFF)?;
    }
    Ok(())
}
