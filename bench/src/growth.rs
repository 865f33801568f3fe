//! Growth curves: what a job costs, and what memory and time everything takes, as there is more and
//! more of one thing.
//!
//! One file for each curve: jobs that wait ([`waiting`]), results that are kept ([`kept`]), [`groups`],
//! long polls held open ([`waiters`]), and the size of [`inputs`]. What is measured runs in a process
//! of its own ([`mod@part`]), on a [`store`] that another process filled, so that memory is that of serving
//! alone. A [`chart`] shows them all.

mod chart;
mod drain;
mod groups;
mod inputs;
mod kept;
mod life;
mod part;
mod purge;
mod store;
mod waiters;
mod waiting;

pub(crate) use part::{Part, part};

use crate::machine;
use anyhow::Context;
use chart::Line;
use std::fmt;
use std::path::PathBuf;

/// No-ops at once.
const SLOTS: usize = 256;
/// What CPU time of a job may be with much of something, of that with nothing.
const RATIO_MAX: f64 = 1.1;

/// Which curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Curve {
    /// Jobs that wait.
    Waiting,
    /// Results that are kept.
    Kept,
    /// Groups that the jobs are in.
    Groups,
    /// Long polls held open.
    Waiters,
    /// Bytes of an input.
    Inputs,
    /// All of them.
    All,
}

/// What grows, and how far.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Settings {
    /// What grows.
    #[arg(value_enum, default_value = "all")]
    curve: Curve,
    /// The folder whose disk is under test; each part has a folder in it that is gone afterwards.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Where the report is written to as well, as `growth.md`, with a picture, `growth.svg`.
    #[arg(long)]
    results: Option<PathBuf>,
    /// Jobs that wait, each up to 100,000,000.
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000,10000000",
        value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    jobs: Vec<u64>,
    /// Results that are kept, each up to 100,000,000.
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000,5000000",
        value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    kept: Vec<u64>,
    /// No-op jobs of a life that is measured beside them, up to 10,000,000.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    life_jobs: u64,
    /// Rounds, each with an empty store and a full one; figures are medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Single submits that are timed in each part, up to 100,000.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    singles: u32,
    /// Seconds that a purge of kept results is watched, at most, up to 3,600.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    purge_seconds: u32,
    /// Groups, each up to 10,000,000.
    #[arg(long, value_delimiter = ',', default_value = "1,100,10000,100000",
        value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    groups: Vec<u32>,
    /// Jobs that wait in the groups, 2 to 100,000,000.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(2..=100_000_000))]
    group_jobs: u32,
    /// Rounds of the groups and of the inputs.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    short_rounds: u32,
    /// Long polls held open, each up to 1,000,000.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    waiters: Vec<u32>,
    /// Bytes of an input, each 2 to 1,048,576.
    #[arg(long, value_delimiter = ',', default_value = "100,1024,10240,102400,1048576",
        value_parser = clap::value_parser!(u32).range(2..=1_048_576))]
    input_bytes: Vec<u32>,
    /// Connections of the load over HTTP, up to 10,000.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Seconds that a load over HTTP is measured, up to 600.
    #[arg(long, default_value_t = 4.0, value_parser = crate::seconds)]
    seconds: f64,
}

/// Measures, and returns the report.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<String> {
    type Measure = fn(&Settings) -> anyhow::Result<Section>;
    let curves: [(Curve, Measure); 5] = [
        (Curve::Waiting, waiting::run),
        (Curve::Kept, kept::run),
        (Curve::Groups, groups::run),
        (Curve::Waiters, waiters::run),
        (Curve::Inputs, inputs::run),
    ];
    let machine = machine::describe(&settings.dir);
    let mut text = format!("{machine}\n\n`{}`\n", machine::command());
    let mut lines = Vec::new();
    if let Some(folder) = &settings.results {
        let made = std::fs::create_dir_all(folder);
        made.with_context(|| format!("cannot make {}", folder.display()))?;
    }
    for (curve, measure) in curves {
        if settings.curve == Curve::All || settings.curve == curve {
            text.push('\n');
            let section = measure(settings)?;
            text.push_str(&section.text);
            lines.extend(section.line);
            keep(settings, &text, &lines)?;
        }
    }
    Ok(text)
}

/// Writes what is measured so far: a curve that fails takes none with it.
fn keep(settings: &Settings, text: &str, lines: &[Line]) -> anyhow::Result<()> {
    let Some(folder) = &settings.results else {
        return Ok(());
    };
    let drawn = chart::draw(lines, RATIO_MAX);
    for (name, content) in [("growth.md", text), ("growth.svg", &drawn)] {
        let path = folder.join(name);
        let written = std::fs::write(&path, content);
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// What a curve came to.
#[derive(Debug)]
struct Section {
    /// Its part of the report.
    text: String,
    /// CPU time over how much there is, if that was compared with nothing.
    line: Option<Line>,
}

/// A median with the lowest and the highest.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Spread {
    fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self {
            median: at(values.len() / 2),
            lowest: at(0),
            highest: at(values.len().saturating_sub(1)),
        }
    }
}

/// With the precision that is asked for.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let Self {
            median,
            lowest,
            highest,
        } = self;
        write!(
            f,
            "{median:.digits$} ({lowest:.digits$} to {highest:.digits$})"
        )
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53, which no count or size here reaches"
)]
const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::grouped;

    #[test]
    fn a_spread_is_the_middle_and_both_ends() {
        let spread = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!(format!("{spread:.1}"), "2.0 (1.0 to 3.0)");
        assert!(Spread::of([]).median.is_nan());
    }

    #[test]
    fn large_numbers_are_grouped() {
        for (count, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(grouped(count), text);
        }
    }
}
