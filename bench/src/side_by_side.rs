//! Anteroom and others' job queues side by side, in one run on one machine.
//!
//! One file for each thing: who is measured and what each promises ([`peer`]), what others' programs need
//! ([`install`]), what runs beside a contender ([`backing`]), the clients that are part of this program
//! ([`over_http`], [`mod@beanstalkd`]; the others are in `bench/peers`), a [`turn`] of one, and what is
//! written of it all: the [`table`] and the [`chart`].

mod backing;
mod beanstalkd;
mod chart;
mod install;
mod over_http;
mod peak;
mod peer;
mod table;
mod turn;

pub(crate) use over_http::Site;

use crate::follow::Told;
use crate::{machine, within};
use anyhow::Context;
use clap::{Args, ValueEnum};
use install::Programs;
use peer::Peer;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use turn::{Figures, Sizes, Spans};

/// What is measured, for how long, and where it is written.
#[derive(Clone, Debug, Args)]
pub(crate) struct Settings {
    /// Who; by itself everybody.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Peer>,
    /// Rounds; each figure is the median of them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds that single jobs, and those in bulk, shall take in each turn, up to 600.
    #[arg(long, default_value_t = 3.0, value_parser = positive_seconds)]
    seconds: f64,
    /// Jobs whose latency is measured in each turn, up to 100,000.
    #[arg(long, default_value_t = 300, value_parser = within::<100_000>)]
    requests: usize,
    /// The folder whose disk is under test; what is in it is gone afterwards.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// The folder that the table and the chart are written to.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    results: PathBuf,
    /// The folder with others' programs.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/peers"))]
    peers: PathBuf,
    /// The folder that what they need is installed in.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench-peers"))]
    installed: PathBuf,
}

fn positive_seconds(text: &str) -> Result<f64, String> {
    match crate::seconds(text)? {
        seconds if seconds >= 0.05 => Ok(seconds),
        _ => Err("is less than 0.05 seconds".to_owned()),
    }
}

/// What came of a run.
#[derive(Debug)]
struct Outcome {
    /// Figures of those that were measured, round by round.
    figures: BTreeMap<Peer, Vec<(u32, Figures)>>,
    /// Who was not measured, or not in every round, and why.
    failures: Vec<(Peer, String)>,
    /// The machine, in a line.
    machine: String,
    /// What was typed.
    command: String,
    /// How many rounds there were.
    rounds: u32,
}

/// Measures everybody, writes the table and the chart, and returns the table.
///
/// # Errors
///
/// When nobody can be measured, or nothing can be written. One who cannot be measured is in the table,
/// with the reason.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<String> {
    let mut programs = Programs::new(&settings.peers, &settings.installed)?;
    let mut outcome = Outcome {
        figures: BTreeMap::new(),
        failures: Vec::new(),
        machine: String::new(),
        command: machine::command(),
        rounds: 0,
    };
    let mut peers = Vec::new();
    for peer in asked(settings) {
        match programs.missing(peer.facts()) {
            Some(why) => outcome.failures.push((peer, why)),
            None => peers.push(peer),
        }
    }
    // After all is installed and built.
    outcome.machine = machine::describe(&settings.dir);
    take_turns(settings, &programs, &peers, &mut outcome)?;
    anyhow::ensure!(
        !outcome.figures.is_empty(),
        "nobody could be measured: {:?}",
        outcome.failures
    );
    Ok(table::markdown(&outcome))
}

fn write(folder: &Path, outcome: &Outcome) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, content) in [
        ("side-by-side.md", table::markdown(outcome)),
        ("side-by-side.svg", chart::svg(outcome)),
    ] {
        let path = folder.join(name);
        let written = std::fs::write(&path, content);
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn take_turns(
    settings: &Settings,
    programs: &Programs,
    peers: &[Peer],
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let spans = Spans {
        seconds: settings.seconds,
        latencies: u64::try_from(settings.requests)?,
    };
    let mut sizes: BTreeMap<Peer, Sizes> = BTreeMap::new();
    for round in 0..settings.rounds {
        let mut order = peers.to_vec();
        // Nobody is always the one who comes after the same other one.
        if round % 2 == 1 {
            order.reverse();
        }
        for peer in order {
            let name = peer.facts().name;
            eprintln!("round {} of {}: {name}", round + 1, settings.rounds);
            let sizes = sizes.entry(peer).or_default();
            match turn::measure(peer, programs, &settings.dir, spans, sizes) {
                Ok(figures) => {
                    let rounds = outcome.figures.entry(peer).or_default();
                    rounds.push((round, figures));
                }
                Err(error) => {
                    let why = format!("round {}: {error:#}", round + 1);
                    eprintln!("{name}: {why}");
                    outcome.failures.push((peer, why));
                }
            }
        }
        // What is written after a round is not lost with a later one.
        outcome.rounds = round + 1;
        write(&settings.results, outcome)?;
    }
    Ok(())
}

fn asked(settings: &Settings) -> Vec<Peer> {
    if settings.only.is_empty() {
        Peer::value_variants().to_vec()
    } else {
        settings.only.clone()
    }
}

/// Is the client of a server, until its standard input ends.
///
/// # Errors
///
/// When anything fails.
pub(crate) async fn client(site: Site) -> anyhow::Result<()> {
    let mut told = Told::read();
    let address = told.place().await?;
    told.obey(over_http::OverHttp::new(site, &address)?).await
}

/// Is the client of beanstalkd, until its standard input ends.
///
/// # Errors
///
/// When anything fails.
pub(crate) async fn beanstalkd() -> anyhow::Result<()> {
    let mut told = Told::read();
    let address = told.place().await?;
    told.obey(beanstalkd::Beanstalkd::new(&address)).await
}
