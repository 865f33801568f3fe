//! The chart: jobs a second of everybody, one a call and in bulk, labelled with what is lost with the
//! machine. SVG that is readable on light and on dark pages.

use super::Outcome;
use super::peer::Peer;
use super::table::durability;
use super::turn::{Figures, Rate};
use crate::report::{grouped, median};
use std::fmt::Write;

/// Sizes in pixels.
const WIDTH: f64 = 960.0;
const LABELS: f64 = 310.0;
/// Room behind the longest bar for its number.
const NUMBERS: f64 = 70.0;
const BAR: f64 = 13.0;
const ROW: f64 = 42.0;
const TOP: f64 = 84.0;

const STYLE: &str = "
  svg { font-family: system-ui, sans-serif; font-size: 13px; }
  .page { fill: #ffffff; } .text { fill: #1f2328; } .quiet { fill: #59636e; font-size: 11px; }
  .title { font-size: 17px; font-weight: 600; } .ours { font-weight: 600; }
  .single { fill: #2f6fdb; } .bulk { fill: #d9730d; } .lost { opacity: 0.45; }
  .line { stroke: #d1d9e0; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; } .text { fill: #e6edf3; } .quiet { fill: #9198a1; }
    .single { fill: #6ea8fe; } .bulk { fill: #f2a65a; } .line { stroke: #3d444d; }
  }
";

/// Draws it.
pub(super) fn svg(outcome: &Outcome) -> String {
    let rows: Vec<Row> = outcome.figures.iter().map(Row::of).collect();
    let rates = rows
        .iter()
        .flat_map(|row| [row.single, row.bulk.unwrap_or(0.0)]);
    let most = rates.fold(1.0, f64::max);
    let per_job = (WIDTH - LABELS - NUMBERS) / most;
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    let height = TOP + ROW * f64::from(count) + 16.0;
    let mut text = String::new();
    // Writing to a string does not fail, here and below.
    let _never = write!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" \
         width=\"{WIDTH:.0}\" height=\"{height:.0}\" role=\"img\" \
         aria-label=\"Jobs a second of job queues, one a call and in bulk\">\n\
         <style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"100%\" height=\"100%\" rx=\"6\"/>\n"
    );
    heading(&mut text, outcome);
    let mut top = TOP;
    for row in &rows {
        row.draw(&mut text, top, per_job);
        top += ROW;
    }
    let _never = write!(
        text,
        "<line class=\"line\" x1=\"{LABELS}\" y1=\"{TOP}\" x2=\"{LABELS}\" y2=\"{top}\"/>\n</svg>\n"
    );
    text
}

fn heading(text: &mut String, outcome: &Outcome) {
    let _never = write!(
        text,
        "<text class=\"text title\" x=\"16\" y=\"28\">Jobs a second, full life: submit, run, record</text>\n\
         <text class=\"quiet\" x=\"16\" y=\"48\">median of rounds ({}); client, server, database and workers on \
         one machine: {}</text>\n\
         <rect class=\"single\" x=\"16\" y=\"58\" width=\"{BAR}\" height=\"{BAR}\"/>\
         <text class=\"text\" x=\"34\" y=\"69\">one a call</text>\n\
         <rect class=\"bulk\" x=\"112\" y=\"58\" width=\"{BAR}\" height=\"{BAR}\"/>\
         <text class=\"text\" x=\"130\" y=\"69\">in bulk</text>\n\
         <text class=\"quiet\" x=\"196\" y=\"69\">pale: what was acknowledged can be lost</text>\n",
        outcome.rounds,
        escaped(&machine(&outcome.machine)),
    );
}

/// Cores and kernel: what there is room for.
fn machine(described: &str) -> String {
    let parts: Vec<&str> = described.split(", ").take(2).collect();
    parts.join(", ")
}

/// One of them.
struct Row {
    peer: Peer,
    single: f64,
    bulk: Option<f64>,
}

impl Row {
    fn of((peer, rounds): (&Peer, &Vec<(u32, Figures)>)) -> Self {
        let middle = |rates: Vec<f64>| {
            let mut sorted = rates;
            sorted.sort_by(f64::total_cmp);
            (!sorted.is_empty()).then(|| median(&sorted))
        };
        let singles = rounds.iter().map(|(_, figures)| figures.single.rate());
        let bulks = rounds.iter().filter_map(|(_, figures)| figures.bulk);
        Self {
            peer: *peer,
            single: middle(singles.collect()).unwrap_or_default(),
            bulk: middle(bulks.map(|rate: Rate| rate.rate()).collect()),
        }
    }

    fn draw(&self, text: &mut String, top: f64, per_job: f64) {
        let facts = self.peer.facts();
        let ours = if self.peer.is_anteroom() { " ours" } else { "" };
        let _never = write!(
            text,
            "<text class=\"text{ours}\" x=\"16\" y=\"{:.0}\">{}</text>\n\
             <text class=\"quiet\" x=\"16\" y=\"{:.0}\">{}</text>\n",
            top + 15.0,
            escaped(facts.name),
            top + 29.0,
            escaped(durability(facts)),
        );
        let pale = if facts.durability == super::peer::Durability::Synced {
            ""
        } else {
            " lost"
        };
        self.bar(text, "single", pale, top + 4.0, per_job);
        self.bar(text, "bulk", pale, top + 6.0 + BAR, per_job);
    }

    fn bar(&self, text: &mut String, kind: &str, pale: &str, top: f64, per_job: f64) {
        let rate = if kind == "bulk" {
            self.bulk
        } else {
            Some(self.single)
        };
        let width = rate.unwrap_or_default() * per_job;
        let number = rate.map_or_else(
            || "no bulk call".to_owned(),
            |rate| grouped(format_args!("{rate:.0}")),
        );
        if rate.is_some() {
            let _never = writeln!(
                text,
                "<rect class=\"{kind}{pale}\" x=\"{LABELS}\" y=\"{top:.0}\" width=\"{:.1}\" height=\"{BAR}\"/>",
                width.max(1.0)
            );
        }
        let class = if rate.is_some() { "text" } else { "quiet" };
        let _never = writeln!(
            text,
            "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.0}\">{number}</text>",
            LABELS + width + 6.0,
            top + 11.0
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::side_by_side::table::tests::outcome;

    #[test]
    fn everybody_who_was_measured_has_bars() {
        let text = svg(&outcome());
        assert_eq!(text.matches("<rect class=\"single").count(), 3 + 1);
        // One of them has no bulk call; the legend has both.
        assert_eq!(text.matches("<rect class=\"bulk").count(), 2 + 1);
        assert_eq!(text.matches(">no bulk call<").count(), 1);
        assert!(text.contains(">Anteroom, SQLite<"), "{text}");
        assert!(text.contains("prefers-color-scheme: dark"));
        assert_eq!(
            text.matches("<text").count(),
            text.matches("</text>").count()
        );
    }

    #[test]
    fn thousands_are_kept_apart() {
        for (number, expected) in [
            (7.4, "7"),
            (999.0, "999"),
            (1_000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(grouped(format_args!("{number:.0}")), expected);
        }
        assert_eq!(escaped("a < b & c"), "a &lt; b &amp; c");
    }
}
