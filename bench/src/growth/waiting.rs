//! The curve over jobs that wait: a life beside them, a single submit, their memory, the opening of
//! their store, and then all of them run.

use super::chart::Line;
use super::life::{self, Orders};
use super::part::Figures;
use super::store::Filled;
use super::{RATIO_MAX, Section, Settings, Spread, float};
use crate::clock::now;
use crate::report::grouped;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// Bytes of memory that a waiting job may take.
const BYTES_MAX: f64 = 100.0;
/// How long the opening of a store may take in which so many jobs are ready, in milliseconds.
const OPENED_MS_MAX: (u64, f64) = (1_000_000, 1_000.0);

/// The parts of the rounds, the same round at the same place.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    pub(super) empty: Vec<Figures>,
    pub(super) full: Vec<Figures>,
}

/// A store of one size.
#[derive(Debug)]
struct Row {
    jobs: u64,
    filled: Duration,
    bytes: u64,
    rounds: Rounds,
    drain: Figures,
}

/// Measures, and returns this part of the report.
pub(super) fn run(settings: &Settings) -> anyhow::Result<Section> {
    let mut rows = Vec::new();
    for jobs in &settings.jobs {
        rows.push(measure(settings, *jobs)?);
    }
    let ratios = rows.iter().map(|row| (row.jobs, &row.rounds));
    Ok(Section {
        text: report(settings, &rows)?,
        line: Some(line("waiting jobs", ratios)?),
    })
}

fn measure(settings: &Settings, jobs: u64) -> anyhow::Result<Row> {
    eprintln!("{jobs} jobs are submitted that wait");
    let begun = now();
    let mut filled = Filled::waiting(&settings.dir, jobs)?;
    let (span, bytes) = (begun.elapsed(), filled.bytes()?);
    let rounds = rounds(settings, &mut filled)?;
    eprintln!("they are run");
    let waits = filled.waits();
    let drain = Figures::of("drain", filled.folder(), &[format!("--jobs={waits}")])?;
    Ok(Row {
        jobs,
        filled: span,
        bytes,
        rounds,
        drain,
    })
}

/// Has lives take turns on empty stores and on a full one.
pub(super) fn rounds(settings: &Settings, filled: &mut Filled) -> anyhow::Result<Rounds> {
    let mut rounds = Rounds::default();
    let singles = u64::from(settings.singles);
    let added = life::added_by(singles);
    let live =
        |folder: &Path, waiting| Orders::run(folder, settings.life_jobs, singles, waiting, None);
    for round in 0..settings.rounds {
        eprintln!("round {} of {}", round + 1, settings.rounds);
        // In the opposite order every other round.
        for is_full in [round % 2 == 0, round % 2 == 1] {
            if is_full {
                let in_all = u64::from(settings.rounds) * (settings.life_jobs + added);
                let (store, waiting) = filled.round(in_all, added)?;
                rounds.full.push(live(store.folder(), waiting)?);
            } else {
                let folder = tempfile::tempdir_in(&settings.dir)?;
                rounds.empty.push(live(folder.path(), 0)?);
            }
        }
    }
    Ok(rounds)
}

impl Rounds {
    /// Returns the CPU time of a job with a full store, of that with an empty one, round by round.
    pub(super) fn ratio(&self) -> anyhow::Result<Spread> {
        let pairs = self.full.iter().zip(&self.empty);
        let ratios =
            pairs.map(|(full, empty)| Ok(full.number("cpu_us")? / empty.number("cpu_us")?));
        Ok(Spread::of(ratios.collect::<anyhow::Result<Vec<_>>>()?))
    }

    /// Returns the memory of a process with a full store beyond that with an empty one.
    pub(super) fn memory(&self) -> anyhow::Result<f64> {
        let [full, empty] = [&self.full, &self.empty].map(|figures| spread(figures, "resident"));
        Ok(full?.median - empty?.median)
    }
}

/// Returns the curve of the ratios over how many there are.
pub(super) fn line<'a>(
    name: &'static str,
    rows: impl Iterator<Item = (u64, &'a Rounds)>,
) -> anyhow::Result<Line> {
    let mut points = vec![(1.0, 1.0)];
    for (count, rounds) in rows {
        points.push((float(count), rounds.ratio()?.median));
    }
    Ok(Line { name, points })
}

/// Returns the spread of a figure over the rounds.
pub(super) fn spread(figures: &[Figures], name: &str) -> anyhow::Result<Spread> {
    let values = figures.iter().map(|figures| figures.number(name));
    Ok(Spread::of(values.collect::<anyhow::Result<Vec<_>>>()?))
}

/// Writes the cells of a row that a life fills: CPU, ratio, jobs/s, single submits, other programs.
pub(super) fn life_cells(figures: &[Figures], ratio: &str) -> anyhow::Result<String> {
    let of = |name| spread(figures, name);
    Ok(format!(
        "{:.2} | {ratio} | {:.0} | {:.2} | {:.2} | {:.1} | {:.0} %",
        of("cpu_us")?,
        of("rate")?.median,
        of("single_p50_us")?.median / 1e3,
        of("single_p99_us")?.median / 1e3,
        of("disk_p99_us")?.median / 1e3,
        of("elsewhere")?.median * 100.0,
    ))
}

/// The heads of those cells.
pub(super) const LIFE_HEADS: &str = "CPU µs a job | : empty | jobs/s | single submit p50 ms | \
     p99 ms | fdatasync meanwhile p99 ms | other programs' CPU";

fn report(settings: &Settings, rows: &[Row]) -> anyhow::Result<String> {
    let mut text = format!(
        "## Jobs that wait\n\n{} no-op jobs live through in bulk beside them, in the same queue; {} \
         rounds in turn with an empty store, medians (lowest to highest). Those that wait are ready, \
         of a task that nobody runs. Single submits within the process. Memory is that of a process \
         that has just opened the store beyond one with an empty store, the store's caches (4 MiB to \
         write, 16 MiB to read) included; what was read is in the system's cache.\n\n\
         | waiting | file MB | filled s | opened ms | MiB | bytes a job | {LIFE_HEADS} |\n\
         |{} --- |\n",
        grouped(settings.life_jobs),
        settings.rounds,
        " --- |".repeat(12),
    );
    let empty: Vec<Figures> = rows
        .iter()
        .flat_map(|row| row.rounds.empty.clone())
        .collect();
    writeln!(
        text,
        "| 0 | – | – | {:.0} | {:.1} | – | {} |",
        spread(&empty, "opened_ms")?.median,
        spread(&empty, "resident")?.median / f64::from(1 << 20),
        life_cells(&empty, "1")?,
    )?;
    for row in rows {
        let memory = row.rounds.memory()?;
        writeln!(
            text,
            "| {} | {:.0} | {:.1} | {:.0} | {:.1} | {:.0} | {} |",
            grouped(row.jobs),
            float(row.bytes) / 1e6,
            row.filled.as_secs_f64(),
            spread(&row.rounds.full, "opened_ms")?.median,
            spread(&row.rounds.full, "resident")?.median / f64::from(1 << 20),
            memory / float(row.jobs),
            life_cells(&row.rounds.full, &format!("{:.3}", row.rounds.ratio()?))?,
        )?;
    }
    let (jobs, millis) = OPENED_MS_MAX;
    writeln!(
        text,
        "\nTargets: CPU time ≤ {RATIO_MAX} × empty; ≤ {BYTES_MAX} bytes a job; opened with {} ready \
         within {millis} ms.\n\n\
         All of them run, {} at once, nothing submitted meanwhile; CPU µs a job, from its claim to its \
         stored end:\n\n\
         | waited | all | first tenth | median tenth | last tenth | highest tenth | jobs/s | other \
         programs' CPU |\n|{} --- |",
        grouped(jobs),
        super::SLOTS,
        " --- |".repeat(7),
    )?;
    for row in rows {
        let pieces = row.drain.numbers("pieces_us")?;
        let all = Spread::of(pieces.iter().copied());
        let [first, last] = [pieces.first(), pieces.last()].map(Option::<&f64>::copied);
        writeln!(
            text,
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} % |",
            grouped(row.jobs),
            row.drain.number("cpu_us")?,
            first.unwrap_or(f64::NAN),
            all.median,
            last.unwrap_or(f64::NAN),
            all.highest,
            row.drain.number("rate")?,
            row.drain.number("elsewhere")? * 100.0,
        )?;
    }
    Ok(text)
}
