//! The report in Markdown: what everybody came to, how often Anteroom does it meanwhile, what each of the
//! figures means, and who could not be measured.

use super::Outcome;
use super::peer::{Beside, Durability, Facts, Peer};
use super::turn::{Figures, Rate};
use crate::postgres;
use crate::report::{NONE, line, median, spread};
use clap::ValueEnum;
use std::fmt::Write;

/// The columns of the first table.
const COLUMNS: [&str; 13] = [
    "who",
    "durability",
    "keeps results",
    "jobs/s, one a call",
    "jobs/s, in bulk",
    "submit p50 ms",
    "submit p99 ms",
    "to result p50 ms",
    "to result p99 ms",
    "CPU s per 1,000 jobs, one a call",
    "CPU s per 1,000 jobs, in bulk",
    "peak memory MiB",
    "other programs' CPU %",
];

/// Which of two rates.
type Pick = fn(&Figures) -> Option<Rate>;

const SINGLE: Pick = |figures| Some(figures.single);
const BULK: Pick = |figures| figures.bulk;

/// Writes the report.
pub(super) fn markdown(outcome: &Outcome) -> String {
    let mut text = String::from("# Job queues side by side\n\n");
    let all = outcome.figures.values().flatten();
    let disk: Vec<f64> = all.map(|(_, figures)| figures.fdatasync).collect();
    // Writing to a string does not fail.
    let _never = write!(
        text,
        "{}; fdatasync of 4 KiB on the quiet disk {} ms, the median before each turn.\n\n\
         `{}`\n\nRounds: {}; median (lowest to highest). Each figure is a full life: from a submit until \
         the job was run and that is recorded. Server, database, workers and client share the machine; \
         CPU time and memory (PSS) are those of all of them. Latencies are those of one connection with \
         nothing else going on.\n\n",
        outcome.machine,
        spread(&disk, 2),
        outcome.command,
        outcome.rounds,
    );
    line(&mut text, &COLUMNS.map(str::to_owned));
    line(&mut text, &COLUMNS.map(|_| "---".to_owned()));
    for peer in Peer::value_variants() {
        if let Some(rounds) = outcome.figures.get(peer) {
            line(&mut text, &cells(peer.facts(), rounds));
        } else if let Some((_, why)) = outcome.failures.iter().find(|(one, _)| one == peer) {
            line(&mut text, &not_measured(peer.facts(), why));
        }
    }
    write_ratios(&mut text, outcome);
    write_notes(&mut text, outcome);
    text
}

/// Says in a word what is lost with the machine.
pub(super) const fn durability(facts: &Facts) -> &'static str {
    match facts.durability {
        Durability::Synced => "each write synced",
        Durability::Late => "synced once a second: the last second can be lost",
        Durability::None => "none: in memory",
    }
}

fn cells(facts: &Facts, rounds: &[(u32, Figures)]) -> [String; 13] {
    let of = |value: fn(&Figures) -> f64, digits| {
        let values: Vec<f64> = rounds.iter().map(|(_, figures)| value(figures)).collect();
        spread(&values, digits)
    };
    let bulk = |value: fn(&Rate) -> f64, digits| {
        let bulks = rounds.iter().filter_map(|(_, figures)| figures.bulk);
        let values: Vec<f64> = bulks.map(|rate| value(&rate)).collect();
        if values.is_empty() {
            NONE.to_owned()
        } else {
            spread(&values, digits)
        }
    };
    let kept = if facts.keeps_results { "yes" } else { "no" };
    [
        facts.name.to_owned(),
        durability(facts).to_owned(),
        kept.to_owned(),
        of(|figures| figures.single.rate(), 0),
        bulk(Rate::rate, 0),
        of(|figures| figures.latency.submit[0], 2),
        of(|figures| figures.latency.submit[1], 2),
        of(|figures| figures.latency.result[0], 2),
        of(|figures| figures.latency.result[1], 2),
        of(|figures| figures.single.cpu_seconds(), 3),
        bulk(Rate::cpu_seconds, 3),
        of(mebibytes, 0),
        of(elsewhere, 0),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 KiB")]
fn mebibytes(figures: &Figures) -> f64 {
    figures.memory as f64 / 1_024.0
}

/// The worse of the two rates.
fn elsewhere(figures: &Figures) -> f64 {
    let bulk = figures.bulk.map_or(0.0, |rate| rate.elsewhere);
    figures.single.elsewhere.max(bulk) * 100.0
}

fn not_measured(facts: &Facts, why: &str) -> [String; 13] {
    let mut cells = COLUMNS.map(|_| NONE.to_owned());
    facts.name.clone_into(&mut cells[0]);
    durability(facts).clone_into(&mut cells[1]);
    cells[2] = format!("not measured: {}", one_line(why));
    cells
}

/// A cell may hold neither the end of a line nor of a cell.
fn one_line(text: &str) -> String {
    text.replace('|', "/")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn write_ratios(text: &mut String, outcome: &Outcome) {
    let ours = [Peer::Sqlite, Peer::Postgres];
    let ours = ours
        .into_iter()
        .filter(|peer| outcome.figures.contains_key(peer));
    let ours: Vec<Peer> = ours.collect();
    let others = outcome.figures.keys().filter(|peer| !peer.is_anteroom());
    let others: Vec<Peer> = others.copied().collect();
    if ours.is_empty() || others.is_empty() {
        return;
    }
    text.push_str(
        "\n## How many times as many jobs Anteroom does\n\nTaken within each round; \
         what is more durable or does more is not made up for.",
    );
    for (whose, among) in [
        ("sync each write", is_synced as fn(&Facts) -> bool),
        ("are on PostgreSQL", is_on_postgres),
    ] {
        for (how, pick) in [("one a call", SINGLE), ("in bulk", BULK)] {
            if let Some((name, rate)) = fastest(outcome, among, pick) {
                let _never = write!(
                    text,
                    " The fastest of the others that {whose}, {how}: {name}, {rate:.0} jobs/s."
                );
            }
        }
    }
    text.push_str("\n\n");
    let mut columns = vec!["beside".to_owned()];
    for peer in &ours {
        let name = peer.facts().name;
        columns.extend([format!("{name}, one a call"), format!("{name}, in bulk")]);
    }
    line(text, &columns);
    line(text, &vec!["---".to_owned(); columns.len()]);
    for other in others {
        let mut cells = vec![other.facts().name.to_owned()];
        for peer in &ours {
            for pick in [SINGLE, BULK] {
                let ratios = ratios(outcome, *peer, other, pick);
                cells.push(spread(&ratios, 2));
            }
        }
        line(text, &cells);
    }
}

fn is_synced(facts: &Facts) -> bool {
    facts.durability == Durability::Synced
}

fn is_on_postgres(facts: &Facts) -> bool {
    facts.beside == Beside::Postgres
}

/// Returns the name and the median rate of the fastest that is not Anteroom.
fn fastest(
    outcome: &Outcome,
    among: fn(&Facts) -> bool,
    pick: Pick,
) -> Option<(&'static str, f64)> {
    let others = outcome
        .figures
        .iter()
        .filter(|(peer, _)| !peer.is_anteroom());
    let others = others.filter(|(peer, _)| among(peer.facts()));
    let rates = others.filter_map(|(peer, rounds)| {
        let rates = rounds.iter().filter_map(|(_, figures)| pick(figures));
        let mut rates: Vec<f64> = rates.map(|rate| rate.rate()).collect();
        rates.sort_by(f64::total_cmp);
        (!rates.is_empty()).then(|| (peer.facts().name, median(&rates)))
    });
    rates.max_by(|(_, one), (_, other)| one.total_cmp(other))
}

fn ratios(outcome: &Outcome, ours: Peer, other: Peer, pick: Pick) -> Vec<f64> {
    let of = |peer| outcome.figures.get(&peer).into_iter().flatten();
    let pairs = of(ours).filter_map(|(round, figures)| {
        let (_, beside) = of(other).find(|(theirs, _)| theirs == round)?;
        Some(pick(figures)?.rate() / pick(beside)?.rate())
    });
    pairs.collect()
}

fn write_notes(text: &mut String, outcome: &Outcome) {
    text.push_str("\n## What each of them is\n\n");
    for (peer, rounds) in &outcome.figures {
        let facts = peer.facts();
        let Some((_, first)) = rounds.first() else {
            continue;
        };
        let sizes = [Some(first.single), first.bulk];
        let sizes = sizes.iter().flatten();
        let sizes: Vec<_> = sizes.map(|rate| rate.done.jobs.to_string()).collect();
        let name = format!("{} ({})", facts.name, first.version);
        let name = name.trim_end_matches(" ()");
        // Writing to a string does not fail.
        let _never = writeln!(
            text,
            "- **{name}**: {}. How: {}. {} jobs a round.",
            facts.setting,
            facts.note,
            sizes.join(" and ")
        );
    }
    let _never = write!(
        text,
        "\nInputs are 200 bytes of JSON, results 100. PostgreSQL is set up alike for everybody: {}. Where a \
         client runs its workers in its own process, that is said; none is given more than one.\n",
        postgres::settings()
    );
    if !outcome.failures.is_empty() {
        text.push_str("\n## Not measured\n\n");
    }
    for (peer, why) in &outcome.failures {
        let _never = writeln!(text, "- {}: {}.", peer.facts().name, one_line(why));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::order::{Done, Latency};
    use std::collections::BTreeMap;
    use std::time::Duration;

    /// What everybody came to in two rounds but arq, which could not be had.
    pub(in super::super) fn outcome() -> Outcome {
        let rate = |jobs| Rate {
            done: Done::new(jobs, Duration::from_secs(2)),
            cpu: Duration::from_secs(1),
            elsewhere: 0.03,
        };
        let figures = |bulk: Option<u64>, jobs| Figures {
            version: "1.2.3".to_owned(),
            single: rate(jobs),
            bulk: bulk.map(rate),
            latency: Latency {
                submit: [0.25, 1.5],
                result: [0.5, 2.0],
            },
            memory: 2_048,
            fdatasync: 0.2,
        };
        let mut all = BTreeMap::new();
        for (peer, bulk, jobs) in [
            (Peer::Sqlite, Some(100_000), 40_000),
            (Peer::Beanstalkd, Some(5_000), 4_000),
            (Peer::Aiohttp, None, 10_000),
        ] {
            let rounds = [(0, figures(bulk, jobs)), (1, figures(bulk, jobs * 2))];
            all.insert(peer, rounds.to_vec());
        }
        Outcome {
            figures: all,
            failures: vec![(Peer::ArqAlways, "pip\nended | with 1".to_owned())],
            machine: "2 cores (a model)".to_owned(),
            command: "anteroom-bench table".to_owned(),
            rounds: 2,
        }
    }

    fn row<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        let found = text
            .lines()
            .find(|line| line.starts_with(&format!("| {name} |")));
        let line = found.unwrap_or_else(|| panic!("no row {name} in {text}"));
        line.trim_matches(['|', ' ']).split(" | ").collect()
    }

    #[test]
    fn everybody_has_a_row_of_as_many_cells() {
        let text = markdown(&outcome());
        let sqlite = row(&text, "Anteroom, SQLite");
        assert_eq!(sqlite.len(), COLUMNS.len());
        assert_eq!(sqlite[3], "30000 (20000 to 40000)");
        assert_eq!(sqlite[4], "50000 (50000 to 50000)");
        assert_eq!(row(&text, "aiohttp + asyncio.Queue")[4], NONE);
        let arq = row(&text, "arq, Redis always");
        assert_eq!(arq.len(), COLUMNS.len());
        assert_eq!(arq[2], "not measured: pip ended / with 1");
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let text = markdown(&outcome());
        let ratios = text.split("## How many times").nth(1).unwrap();
        let ratios = row(ratios, "beanstalkd");
        assert_eq!(ratios[1], "10.00 (10.00 to 10.00)");
        assert_eq!(ratios[2], "20.00 (20.00 to 20.00)");
        let fastest = "others that sync each write, in bulk: beanstalkd, 2500 jobs/s.";
        assert!(text.contains(fastest), "{text}");
    }
}
