//! The curve over groups: what a job costs, from its claim to its stored end, and how long its place in
//! line takes to tell.

use super::chart::Line;
use super::{RATIO_MAX, SLOTS, Section, Settings, Spread};
use crate::groups::{Figures, part_of};
use crate::report::grouped;
use std::fmt::Write;

/// Of the jobs that wait so many are run and measured, in percent.
const PERCENT: u64 = 50;

/// Measures, and returns this part of the report.
pub(super) fn run(settings: &Settings) -> anyhow::Result<Section> {
    // Without groups first: what the others are compared with, round by round.
    let mut rows: Vec<(u32, Vec<Figures>)> = vec![(0, Vec::new())];
    rows.extend(settings.groups.iter().map(|groups| (*groups, Vec::new())));
    let measured = u64::from(settings.group_jobs) * PERCENT / 100;
    for round in 0..settings.short_rounds {
        let mut order: Vec<_> = rows.iter_mut().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (groups, figures) in order {
            eprintln!(
                "round {} of {}: {groups} groups",
                round + 1,
                settings.short_rounds
            );
            figures.push(part_of(
                &settings.dir,
                settings.group_jobs,
                *groups,
                measured,
            )?);
        }
    }
    let without = rows.first().map_or(&[][..], |(_, figures)| figures);
    let grown = rows.iter().skip(1);
    let grown = grown.map(|(groups, figures)| (f64::from(*groups), ratio(figures, without).median));
    // Without a group is no place on a scale that has one group at its beginning.
    let points = grown.collect();
    Ok(Section {
        text: report(settings, &rows)?,
        line: Some(Line {
            name: "groups",
            points,
        }),
    })
}

/// Returns the CPU time of a job in groups, of that without, round by round.
fn ratio(with: &[Figures], without: &[Figures]) -> Spread {
    let pairs = with.iter().zip(without);
    Spread::of(pairs.map(|(with, without)| with.run_us / without.run_us))
}

fn report(settings: &Settings, rows: &[(u32, Vec<Figures>)]) -> anyhow::Result<String> {
    let mut text = format!(
        "## Groups\n\n{} jobs wait in as many groups; {PERCENT} % of them are run, {SLOTS} at once; {} \
         rounds in turn, medians (lowest to highest). CPU time of a job is from its claim to its stored \
         end. Places in line within the process, before the first job starts.\n\n\
         | groups | CPU µs a job | : without | CPU µs a submit | jobs/s | place of the first job µs | of \
         the middle one | of the last | other programs' CPU |\n|{} --- |\n",
        grouped(u64::from(settings.group_jobs)),
        settings.short_rounds,
        " --- |".repeat(8),
    );
    let without = rows.first().map_or(&[][..], |(_, figures)| figures);
    for (groups, figures) in rows {
        let of = |value: fn(&Figures) -> f64| Spread::of(figures.iter().map(value));
        let ratio = ratio(figures, without);
        writeln!(
            text,
            "| {} | {:.2} | {ratio:.3} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} % |",
            grouped(u64::from(*groups)),
            of(|figures| figures.run_us),
            of(|figures| figures.submit_us).median,
            of(|figures| figures.rate).median,
            of(|figures| figures.place_us[0]).median,
            of(|figures| figures.place_us[1]).median,
            of(|figures| figures.place_us[2]).median,
            of(|figures| figures.elsewhere).median * 100.0,
        )?;
    }
    writeln!(text, "\nTarget: CPU time ≤ {RATIO_MAX} × without groups.")?;
    Ok(text)
}
