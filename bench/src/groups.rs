//! What groups cost, and what they are good for: CPU time of a job with and without them, and how
//! soon small groups are through beside a large one.

use crate::clock::now;
use crate::cpu::Usage;
use crate::held::{Held, Start};
use crate::machine;
use crate::server::NOOP;
use anyhow::{Context, ensure};
use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Slots of the no-op whose CPU time is measured.
const SLOTS: usize = 256;
/// How long a part may take.
const PART_MAX: Duration = Duration::from_mins(10);
/// What CPU time of a job may be with groups, of that without.
const RATIO_MAX: f64 = 1.1;
/// Small groups, and jobs of each.
const SMALL_GROUPS: usize = 100;
const SMALL_JOBS: usize = 10;
/// How often the place of a job is told.
const PLACES: usize = 100;
/// The group with many jobs.
const LARGE: &str = "large";
/// The large group is given up on once it has started so many times what it may.
const HOPELESS: usize = 20;

/// What waits.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Settings {
    /// The folder whose disk is under test; each part has a folder in it that is gone afterwards.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Jobs that wait, 2,000 to 100,000,000.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2_000..=100_000_000))]
    jobs: u32,
    /// Groups that they are in, up to as many.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    groups: u32,
    /// Of them so many are run and measured, in percent.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100))]
    percent: u32,
    /// Rounds, each with groups and without; figures are medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Slots where small groups wait beside a large one, up to 1,000.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    slots: u32,
}

/// A part of a round: a process of its own.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Part {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    jobs: usize,
    /// 0: without groups.
    #[arg(long)]
    groups: usize,
    #[arg(long)]
    measured: usize,
}

/// What a part came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// CPU microseconds of a job, from its claim to its stored end.
    pub(crate) run_us: f64,
    /// CPU microseconds of a submit.
    pub(crate) submit_us: f64,
    /// Jobs a second.
    pub(crate) rate: f64,
    /// What other programs used meanwhile, as a share of all cores.
    pub(crate) elsewhere: f64,
    /// Microseconds to tell the place in line of the first job, the middle one and the last.
    pub(crate) place_us: [f64; 3],
}

/// Measures, and returns the report.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<String> {
    let machine = machine::describe(&settings.dir);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..settings.rounds {
        let mut parts = [(settings.groups, &mut with), (0, &mut without)];
        if round % 2 == 1 {
            parts.reverse();
        }
        for (groups, figures) in parts {
            eprintln!(
                "round {} of {}: {groups} groups",
                round + 1,
                settings.rounds
            );
            let measured = u64::from(settings.jobs) * u64::from(settings.percent) / 100;
            figures.push(part_of(&settings.dir, settings.jobs, groups, measured)?);
        }
    }
    eprintln!("small groups beside a large one");
    let fairness = fairness(settings)?;
    Ok(report(settings, &machine, &with, &without, &fairness))
}

/// Has another process submit jobs in so many groups (0: in none), on a store in `dir` that is gone
/// afterwards, and run and measure some of them.
pub(crate) fn part_of(
    dir: &Path,
    jobs: u32,
    groups: u32,
    measured: u64,
) -> anyhow::Result<Figures> {
    let folder = tempfile::tempdir_in(dir)?;
    let output = Command::new(std::env::current_exe()?)
        .arg("groups-part")
        .arg(format!("--jobs={jobs}"))
        .arg(format!("--groups={groups}"))
        .arg(format!("--measured={measured}"))
        .arg("--dir")
        .arg(folder.path())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "a part ended with {}",
        output.status
    );
    let text = String::from_utf8(output.stdout)?;
    let said = text.split_whitespace().map(str::parse);
    let said: Vec<f64> = said.collect::<Result<_, _>>()?;
    let [run_us, submit_us, rate, elsewhere, ref place_us @ ..] = said[..] else {
        anyhow::bail!("a part said {text:?}");
    };
    Ok(Figures {
        run_us,
        submit_us,
        rate,
        elsewhere,
        place_us: place_us.try_into().context("three places")?,
    })
}

/// Is the other process: says its figures.
pub(crate) async fn part(part: Part) -> anyhow::Result<()> {
    let held = Held::start(&part.dir, NOOP, SLOTS, false).await?;
    let pid = std::process::id();
    let before = Usage::read(pid)?;
    let group = |number: usize| Some(format!("g{}", number.checked_rem(part.groups)?));
    let ids = held.submit(part.jobs, group).await?;
    let submits = Usage::read(pid)?.since(before, false);
    let mut places = String::new();
    for id in ids {
        write!(places, " {}", held.place_us(id, PLACES).await?)?;
    }
    let (before, begun) = (Usage::read(pid)?, now());
    held.release().await?;
    held.until(PART_MAX, |held| held.started() >= part.measured)
        .await?;
    let (used, span) = (Usage::read(pid)?.since(before, false), begun.elapsed());
    let ran = count(held.started());
    let left = usize::try_from(held.settle().await?)?;
    let started = held.started();
    held.end().await;
    ensure!(
        started + left == part.jobs,
        "of {} jobs {started} started and {left} are left",
        part.jobs
    );
    println!(
        "{} {} {} {}{places}",
        used.process.as_secs_f64() * 1e6 / ran,
        submits.process.as_secs_f64() * 1e6 / count(part.jobs),
        ran / span.as_secs_f64(),
        used.elsewhere,
    );
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53 jobs, which no run reaches"
)]
fn count(jobs: usize) -> f64 {
    jobs as f64
}

/// When small groups are through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fairness {
    /// Jobs of the large group that had started when the last job of a small one did, where that
    /// were most; none: they had not all started when there were far too many.
    large_starts: Option<usize>,
    /// How many there may be.
    large_starts_max: usize,
}

/// Has small groups wait behind a large one, and lets all go.
fn fairness(settings: &Settings) -> anyhow::Result<Fairness> {
    let folder = tempfile::tempdir_in(&settings.dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let slots = usize::try_from(settings.slots)?;
    // Its own turns, what is claimed or runs while the last of them start, and a claim of as many
    // as there are slots.
    let large_starts_max = SMALL_JOBS + 2 * slots + slots;
    let starts = runtime.block_on(starts(
        folder.path(),
        usize::try_from(settings.jobs)?,
        slots,
        large_starts_max,
    ))?;
    Ok(Fairness {
        large_starts: large_starts(starts)?,
        large_starts_max,
    })
}

async fn starts(
    folder: &Path,
    jobs: usize,
    slots: usize,
    large_starts_max: usize,
) -> anyhow::Result<Vec<Start>> {
    let held = Held::start(folder, NOOP, slots, true).await?;
    held.submit(jobs, |_| Some(LARGE.to_owned())).await?;
    let small = |number| Some(format!("small-{}", number / SMALL_JOBS));
    held.submit(SMALL_GROUPS * SMALL_JOBS, small).await?;
    held.release().await?;
    // All small jobs have started by then, or there is no hope.
    let all = SMALL_GROUPS * SMALL_JOBS;
    let hopeless = (all + large_starts_max * HOPELESS).min(jobs + all);
    held.until(PART_MAX, |held| {
        held.started() >= hopeless || held.started() >= all && small_starts(held) >= all
    })
    .await?;
    let starts = held.with_starts(<[Start]>::to_vec);
    held.end().await;
    Ok(starts)
}

fn small_starts(held: &Held) -> usize {
    held.with_starts(|starts| starts.iter().filter(|start| !is_large(start)).count())
}

fn is_large(start: &Start) -> bool {
    start.group.as_deref() == Some(LARGE)
}

/// Returns how many jobs of the large group had started when the last job of a small group did,
/// for the group where that were most; none where a job of a small group has not started.
fn large_starts(mut starts: Vec<Start>) -> anyhow::Result<Option<usize>> {
    starts.sort_unstable();
    let in_order = starts.is_sorted_by_key(|start| start.at);
    ensure!(in_order, "claims and times of starts are not in one order");
    let mut through: HashMap<String, (usize, usize)> = HashMap::new();
    let mut large = 0;
    for start in &starts {
        let group = start.group.as_deref().context("a job without a group")?;
        if group == LARGE {
            large += 1;
            continue;
        }
        let (jobs, ahead) = through.entry(group.to_owned()).or_default();
        *jobs += 1;
        *ahead = large;
    }
    let all = through.values().filter(|(jobs, _)| *jobs == SMALL_JOBS);
    if all.count() < SMALL_GROUPS {
        return Ok(None);
    }
    Ok(through.values().map(|(_, ahead)| *ahead).max())
}

fn median(figures: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = figures.iter().map(of).collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(
    settings: &Settings,
    machine: &str,
    with: &[Figures],
    without: &[Figures],
    fairness: &Fairness,
) -> String {
    let mut text = format!(
        "{machine}\n\n{} jobs wait in SQLite, {} % of them are run, {SLOTS} at once; {} rounds in \
         turn, medians (lowest to highest)\n\n\
         | waiting | CPU µs a job, claim to stored end | CPU µs a submit | jobs/s | other \
         programs' CPU | place of the first, middle and last job µs |\n\
         | --- | --- | --- | --- | --- | --- |\n",
        settings.jobs, settings.percent, settings.rounds,
    );
    let name = format!("in {} groups", settings.groups);
    for (name, figures) in [(&*name, with), ("without groups", without)] {
        let runs = figures.iter().map(|figures| figures.run_us);
        let [lowest, highest] = [f64::min, f64::max].map(|of| {
            let first = figures.first().map_or(f64::NAN, |figures| figures.run_us);
            runs.clone().fold(first, of)
        });
        // Writing to a string does not fail.
        let _never = writeln!(
            text,
            "| {name} | {:.1} ({lowest:.1} to {highest:.1}) | {:.1} | {:.0} | {:.0} % | {} |",
            median(figures, |figures| figures.run_us),
            median(figures, |figures| figures.submit_us),
            median(figures, |figures| figures.rate),
            median(figures, |figures| figures.elsewhere) * 100.0,
            [0, 1, 2]
                .map(|of| median(figures, |figures| figures.place_us[of]).to_string())
                .join(", "),
        );
    }
    let [with, without] = [with, without].map(|all| median(all, |figures| figures.run_us));
    let Fairness {
        large_starts,
        large_starts_max,
    } = fairness;
    let through = large_starts.map_or_else(
        || "they were not through when the large one had started many times as many".to_owned(),
        |starts| format!("each was through when the large one had started {starts} jobs"),
    );
    let _never = writeln!(
        text,
        "\nwith groups : without: {:.3}; target ≤ {RATIO_MAX}\n\n\
         {SMALL_GROUPS} groups of {SMALL_JOBS} jobs, submitted behind one of {}, {} slots: \
         {through}; target ≤ {large_starts_max}",
        with / without,
        settings.jobs,
        settings.slots,
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom::core::{Label, Timestamp};

    fn start(claim: u64, group: &str) -> Start {
        Start {
            claim,
            at: Timestamp::from_millis(i64::try_from(claim / 10).unwrap()),
            group: Some(Label::new(group).unwrap()),
        }
    }

    /// Turns: ten times one of each group, the large one last.
    fn in_turn() -> Vec<Start> {
        let turn = SMALL_GROUPS + 1;
        let starts = (0..turn * SMALL_JOBS).map(|number| {
            let group = match number % turn {
                SMALL_GROUPS => LARGE.to_owned(),
                group => format!("small-{group}"),
            };
            start(number as u64, &group)
        });
        starts.collect()
    }

    #[test]
    fn what_the_large_group_started_before_is_counted() {
        let starts = in_turn();
        assert_eq!(large_starts(starts.clone()).unwrap(), Some(SMALL_JOBS - 1));
        // Another order of the same starts is the same.
        let reversed = starts.iter().rev().cloned().collect();
        assert_eq!(large_starts(reversed).unwrap(), Some(SMALL_JOBS - 1));
        // The last job of a small group comes behind five more of the large one.
        let mut late = starts.clone();
        let last = late.iter().rposition(|start| !is_large(start)).unwrap();
        let next = starts.len() as u64;
        late.extend((next..next + 5).map(|claim| start(claim, LARGE)));
        late[last].claim = next + 5;
        late[last].at = Timestamp::from_millis(i64::MAX);
        assert_eq!(large_starts(late.clone()).unwrap(), Some(SMALL_JOBS + 5));
        late.remove(last);
        assert_eq!(large_starts(late).unwrap(), None);
    }

    #[test]
    fn starts_whose_times_go_back_are_an_error() {
        let mut starts = in_turn();
        starts[0].at = Timestamp::from_millis(7);
        assert!(large_starts(starts).is_err());
    }
}
