//! The curve over kept results: a life beside them, the opening of their store, its memory, and single
//! submits while they are forgotten.

use super::life::Orders;
use super::part::Figures;
use super::store::Filled;
use super::waiting::{LIFE_HEADS, Rounds, life_cells, line, rounds, spread};
use super::{RATIO_MAX, Section, Settings, float};
use crate::clock::now;
use crate::report::grouped;
use anyhow::ensure;
use std::fmt::Write;
use std::time::Duration;

/// How long a purge may hold up a submit, in milliseconds.
const STALL_MS_MAX: f64 = 50.0;
/// How long single submits are watched while nothing is forgotten, in seconds.
const QUIET_SECONDS: u32 = 10;

/// A store of one size.
#[derive(Debug)]
struct Row {
    kept: u64,
    filled: Duration,
    bytes: u64,
    rounds: Rounds,
    quiet: Figures,
    purge: Figures,
}

/// Measures, and returns this part of the report.
pub(super) fn run(settings: &Settings) -> anyhow::Result<Section> {
    let mut rows = Vec::new();
    for kept in &settings.kept {
        rows.push(measure(settings, *kept)?);
    }
    let ratios = rows.iter().map(|row| (row.kept, &row.rounds));
    Ok(Section {
        text: report(settings, &rows)?,
        line: Some(line("kept results", ratios)?),
    })
}

fn measure(settings: &Settings, kept: u64) -> anyhow::Result<Row> {
    eprintln!("{kept} jobs are done and kept");
    let folder = tempfile::tempdir_in(&settings.dir)?;
    let ids = folder.path().join("ids");
    let begun = now();
    Orders::run(folder.path(), kept, 0, 0, Some(&ids))?;
    let mut filled = Filled::done(folder, kept);
    let (span, bytes) = (begun.elapsed(), filled.bytes()?);
    let rounds = rounds(settings, &mut filled)?;
    eprintln!("they are forgotten");
    let watch = |seconds: u32, over: Option<&str>| {
        let mut options = vec![
            format!("--seconds={seconds}"),
            format!("--ids={}", ids.display()),
        ];
        options.extend(over.map(str::to_owned));
        Figures::of("purge", filled.folder(), &options)
    };
    let quiet = watch(QUIET_SECONDS.min(settings.purge_seconds), None)?;
    let purge = watch(settings.purge_seconds, Some("--over"))?;
    ensure!(purge.number("gone")? > 0.0, "nothing was forgotten");
    Ok(Row {
        kept,
        filled: span,
        bytes,
        rounds,
        quiet,
        purge,
    })
}

fn report(settings: &Settings, rows: &[Row]) -> anyhow::Result<String> {
    let mut text = format!(
        "## Results that are kept\n\n{} no-op jobs live through in bulk, in a store in which so many \
         are done already; {} rounds in turn with an empty store, medians (lowest to highest).\n\n\
         | kept | file MB | filled s | opened ms | MiB beyond empty | {LIFE_HEADS} |\n\
         |{} --- |\n",
        grouped(settings.life_jobs),
        settings.rounds,
        " --- |".repeat(11),
    );
    let empty: Vec<Figures> = rows
        .iter()
        .flat_map(|row| row.rounds.empty.clone())
        .collect();
    writeln!(
        text,
        "| 0 | – | – | {:.0} | – | {} |",
        spread(&empty, "opened_ms")?.median,
        life_cells(&empty, "1")?,
    )?;
    for row in rows {
        writeln!(
            text,
            "| {} | {:.0} | {:.1} | {:.0} | {:.1} | {} |",
            grouped(row.kept),
            float(row.bytes) / 1e6,
            row.filled.as_secs_f64(),
            spread(&row.rounds.full, "opened_ms")?.median,
            row.rounds.memory()? / f64::from(1 << 20),
            life_cells(&row.rounds.full, &format!("{:.3}", row.rounds.ratio()?))?,
        )?;
    }
    writeln!(
        text,
        "\nTarget: CPU time ≤ {RATIO_MAX} × empty.\n\n\
         Single submits, one due every 5 ms and counted from then (the timer's grain of 1 ms \
         included), while nothing is forgotten and while all of it is, its retention being over:\n\n\
         | kept | meanwhile | submits | p50 ms | p99 ms | max ms | forgotten | in s | fdatasync p99 ms \
         | max ms |\n|{} --- |",
        " --- |".repeat(9),
    )?;
    for row in rows {
        purge_row(&mut text, row.kept, "nothing", &row.quiet)?;
        purge_row(&mut text, row.kept, "purge", &row.purge)?;
    }
    writeln!(
        text,
        "\nTarget: no submit is held up for more than {STALL_MS_MAX} ms."
    )?;
    Ok(text)
}

fn purge_row(text: &mut String, kept: u64, name: &str, figures: &Figures) -> anyhow::Result<()> {
    let ms = |name| anyhow::Ok(figures.number(name)? / 1e3);
    writeln!(
        text,
        "| {} | {name} | {:.0} | {:.2} | {:.2} | {:.2} | {:.0} % | {:.1} | {:.2} | {:.2} |",
        grouped(kept),
        figures.number("submits")?,
        ms("p50_us")?,
        ms("p99_us")?,
        ms("max_us")?,
        figures.number("gone")? * 100.0,
        figures.number("seconds")?,
        ms("disk_p99_us")?,
        ms("disk_max_us")?,
    )?;
    Ok(())
}
