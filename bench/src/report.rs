//! The report: Markdown tables of medians over the rounds, with the spread beside them.

use crate::Settings;
use crate::rounds::{Figures, Part, Row};
use crate::server::Kind;
use hdrhistogram::Histogram;
use std::fmt::{Display, Write};

/// What a table shows where nothing was measured.
pub(crate) const NONE: &str = "–";

/// Two parts of the same round, one divided by the other.
struct Ratio {
    name: &'static str,
    of: Part,
    to: Part,
    target: f64,
}

/// What is compared, and what it should reach.
const RATIOS: [Ratio; 3] = [
    Ratio {
        name: "submit : bare submit",
        of: Part::Submit,
        to: Part::BareSubmit,
        target: 0.75,
    },
    Ratio {
        name: "submit and wait (1 request) : bare pair (2 requests)",
        of: Part::Wait,
        to: Part::BarePair,
        target: 0.6,
    },
    Ratio {
        name: "submit, then read (2 requests) : bare pair (2 requests)",
        of: Part::Pair,
        to: Part::BarePair,
        target: 0.6,
    },
];

/// Jobs a second that the full life in bulk should reach.
const LIFE_TARGET: f64 = 50_000.0;
/// What the latency of an idle server may add to two appends to the disk, in milliseconds.
const LATENCY_MARGIN_MS: f64 = 0.5;
/// What its 99th percentile may be, in milliseconds.
const LATENCY_P99_MS: f64 = 10.0;

/// Writes the report.
pub(crate) fn markdown(settings: &Settings, machine: &str, rows: &[Row]) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _never = write!(
        text,
        "{machine}\n\n{} rounds, median (lowest to highest); {}\n\n",
        settings.rounds,
        described(settings)
    );
    let columns = [
        "measured",
        "jobs/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "server CPU s per 1,000",
        "client CPU s per 1,000",
        "other programs' CPU %",
        "fdatasync quiet p50 / p99 ms",
        "fdatasync meanwhile p50 / p99 ms",
    ];
    line(&mut text, &columns.map(str::to_owned));
    line(&mut text, &columns.map(|_| "---".to_owned()));
    for row in rows {
        line(&mut text, &cells(row));
    }
    let checks = checks(settings, rows);
    if !checks.is_empty() {
        text.push('\n');
        line(
            &mut text,
            &["against the targets", "measured", "target"].map(str::to_owned),
        );
        line(&mut text, &["---"; 3].map(str::to_owned));
        for check in checks {
            line(&mut text, &check);
        }
    }
    for row in rows {
        let never_begun: u64 = row.rounds.iter().map(|figures| figures.never_begun).sum();
        if never_begun > 0 {
            let name = name(row.part);
            let _never = write!(
                text,
                "\n{name}: {never_begun} requests were due and never begun: \
                 the rate is more than the server can do.\n"
            );
        }
    }
    text
}

fn described(settings: &Settings) -> String {
    let pace = settings.rate.map_or_else(
        || "closed loop".to_owned(),
        |rate| format!("open loop, {rate} requests/s"),
    );
    format!(
        "store {}; inputs of {} bytes; {pace} on {} connections from {} thread(s), {} s after {} s \
         of warm-up; life: {} jobs, {} a submit, {} submits at once, {} functions at once; \
         latency: {} requests",
        settings.store.word(),
        settings.input_bytes,
        settings.connections,
        settings.threads,
        settings.seconds,
        settings.warm_up,
        settings.jobs,
        settings.batch,
        settings.submitters,
        settings.concurrency,
        settings.requests,
    )
}

/// What a part is called, bare or not.
const fn name(part: Part) -> &'static str {
    match part {
        Part::BareSubmit => "bare submit",
        Part::Submit => "submit",
        Part::BareWait => "bare submit and wait (1 request)",
        Part::Wait => "submit and wait (1 request)",
        Part::BarePair => "bare pair (2 requests)",
        Part::Pair => "submit, then read (2 requests)",
        Part::Life => "full life in bulk, in process",
        Part::Latency => "submit and wait, 1 connection, idle",
    }
}

fn cells(row: &Row) -> [String; 10] {
    let rounds = &row.rounds;
    let of = |figure: fn(&Figures) -> Option<f64>| -> Vec<f64> {
        rounds.iter().filter_map(figure).collect()
    };
    let highest = rounds.iter().filter_map(|figures| {
        let latency = figures.latency.as_ref()?;
        Some(millis(latency.max()))
    });
    [
        name(row.part).to_owned(),
        spread(&of(|figures| Some(figures.rate)), 0),
        spread(&latencies(rounds, 0.5), 2),
        spread(&latencies(rounds, 0.99), 2),
        highest
            .max_by(f64::total_cmp)
            .map_or_else(|| NONE.to_owned(), |max| format!("{max:.1}")),
        spread(&of(|figures| figures.server_cpu), 4),
        spread(&of(|figures| figures.client_cpu), 4),
        spread(
            &of(|figures| figures.elsewhere.map(|share| share * 100.0)),
            0,
        ),
        disk(&all(rounds, |figures| Some(&figures.disk_quiet))),
        disk(&all(rounds, |figures| figures.disk_loaded.as_ref())),
    ]
}

/// One line for each target that can be checked with what was measured.
fn checks(settings: &Settings, rows: &[Row]) -> Vec<[String; 3]> {
    let rounds = |part| {
        let mut found = rows.iter().filter(|row| row.part == part);
        found.next().map(|row| &row.rounds)
    };
    let mut checks = Vec::new();
    if settings.rate.is_none() {
        for ratio in RATIOS {
            if let (Some(of), Some(to)) = (rounds(ratio.of), rounds(ratio.to)) {
                let both = || of.iter().zip(to);
                let by_rate = both().map(|(of, to)| of.rate / to.rate);
                let by_cpu = both().filter_map(|(of, to)| Some(to.cpu()? / of.cpu()?));
                let measured = spread(&by_rate.collect::<Vec<_>>(), 2);
                let target = format!("≥ {}", ratio.target);
                checks.push([ratio.name.to_owned(), measured, target]);
                let title = format!("{}, if CPU time were all", ratio.name);
                let measured = spread(&by_cpu.collect::<Vec<_>>(), 2);
                checks.push([title, measured, NONE.to_owned()]);
            }
        }
    }
    if let Some(life) = rounds(Part::Life) {
        let rates: Vec<f64> = life.iter().map(|figures| figures.rate).collect();
        let target = format!("≥ {LIFE_TARGET}");
        checks.push([
            format!("{}, jobs/s", name(Part::Life)),
            spread(&rates, 0),
            target,
        ]);
    }
    if let (Some(idle), Kind::Sqlite) = (rounds(Part::Latency), settings.store) {
        let above = idle.iter().filter_map(|figures| {
            let p50 = figures.latency.as_ref()?.value_at_quantile(0.5);
            let disk = figures.disk_quiet.value_at_quantile(0.5);
            Some(millis(p50) - 2.0 * millis(disk))
        });
        let title = name(Part::Latency);
        checks.push([
            format!("{title}, p50 above 2 fdatasync, ms"),
            spread(&above.collect::<Vec<_>>(), 2),
            format!("≤ {LATENCY_MARGIN_MS}"),
        ]);
        checks.push([
            format!("{title}, p99 ms"),
            spread(&latencies(idle, 0.99), 2),
            format!("≤ {LATENCY_P99_MS}"),
        ]);
    }
    checks
}

fn latencies(rounds: &[Figures], quantile: f64) -> Vec<f64> {
    let each = rounds.iter().filter_map(|figures| {
        let latency = figures.latency.as_ref()?;
        Some(millis(latency.value_at_quantile(quantile)))
    });
    each.collect()
}

/// Puts the appends of all rounds together: a round alone has few.
fn all(rounds: &[Figures], times: fn(&Figures) -> Option<&Histogram<u64>>) -> Histogram<u64> {
    let mut sum = crate::disk::histogram();
    for part in rounds.iter().filter_map(times) {
        // The sum grows to whatever it is given.
        let _never = sum.add(part);
    }
    sum
}

fn disk(times: &Histogram<u64>) -> String {
    if times.is_empty() {
        return NONE.to_owned();
    }
    let at = |quantile| millis(times.value_at_quantile(quantile));
    format!("{:.2} / {:.2}", at(0.5), at(0.99))
}

/// Writes the median, and the range where there is more than one value.
pub(crate) fn spread(values: &[f64], digits: usize) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted[..] {
        [] => NONE.to_owned(),
        [only] => format!("{only:.digits$}"),
        [lowest, .., highest] => {
            let median = median(&sorted);
            format!("{median:.digits$} ({lowest:.digits$} to {highest:.digits$})")
        }
    }
}

/// Returns the median of what is sorted and not empty.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53 µs, which are centuries"
)]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

/// Writes a line of a table.
pub(crate) fn line(text: &mut String, cells: &[String]) {
    text.push_str("| ");
    text.push_str(&cells.join(" | "));
    text.push_str(" |\n");
}

/// Writes a whole number, or one printed as such, as people read it: `10,000,000`.
pub(crate) fn grouped(number: impl Display) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_come_with_their_spread() {
        for (values, expected) in [
            (&[][..], NONE),
            (&[2.0][..], "2.0"),
            (&[3.0, 1.0, 2.0][..], "2.0 (1.0 to 3.0)"),
            (&[4.0, 1.0, 2.0, 3.0][..], "2.5 (1.0 to 4.0)"),
        ] {
            assert_eq!(spread(values, 1), expected, "{values:?}");
        }
    }

    fn row(part: Part, rates: &[f64]) -> Row {
        let mut latency = crate::disk::histogram();
        latency.record(1_500).unwrap();
        let figures = |rate: &f64| Figures {
            rate: *rate,
            latency: Some(latency.clone()),
            server_cpu: Some(0.0),
            client_cpu: Some(1.0 / rate),
            elsewhere: Some(0.25),
            never_begun: 0,
            disk_quiet: latency.clone(),
            disk_loaded: None,
        };
        Row {
            part,
            rounds: rates.iter().map(figures).collect(),
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let settings = Settings::default();
        let rows = [
            row(Part::BareSubmit, &[100.0, 50.0]),
            row(Part::Submit, &[80.0, 30.0]),
            row(Part::Latency, &[10.0, 10.0]),
        ];
        let text = markdown(&settings, "a machine", &rows);
        assert!(text.starts_with("a machine\n"), "{text}");
        assert!(text.contains("| submit : bare submit | 0.70 (0.60 to 0.80) | ≥ 0.75 |"));
        assert!(
            text.contains("| -1.50 (-1.50 to -1.50) | ≤ 0.5 |"),
            "{text}"
        );
        let widths: Vec<usize> = text
            .lines()
            .filter(|line| line.starts_with("| "))
            .map(|line| line.matches(" |").count())
            .collect();
        assert_eq!(widths, [10, 10, 10, 10, 10, 3, 3, 3, 3, 3, 3], "{text}");
    }
}
