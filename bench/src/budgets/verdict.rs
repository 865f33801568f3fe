//! Says what grew, and whether the commit gives a reason for it.
//!
//! A reason is a line of its own in the commit's message: `Instructions: claim +5 %, since claims
//! write down their rate`. It names the count and how much that grew; what grew by more than it
//! names has no reason. The message of a merge is all of those that it brings: what they name for
//! a count adds up.

use std::fmt::Write;

/// From how much on a count grew too much, in percent.
const GROWTH_PERCENT: f64 = 3.0;
/// How much more it may have grown than the reason says, in points: it is written in whole percent,
/// and the next compiler counts a little otherwise.
const REASON_SLACK: f64 = 1.0;
/// What a line with a reason begins with.
const MARK: &str = "Instructions:";

/// What a step costs a job, in instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    /// Which step.
    pub(crate) name: &'static str,
    /// Before the change; none where that was not counted.
    pub(crate) before: Option<u64>,
    /// With the change.
    pub(crate) after: u64,
}

impl Count {
    /// Returns how much it grew, in percent.
    fn growth(self) -> Option<f64> {
        let before = exact(self.before?);
        Some((exact(self.after) - before) / before * 100.0)
    }
}

/// Numbers of instructions are far below 2^53, from which on they would be rounded.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn exact(count: u64) -> f64 {
    count as f64
}

/// What a message says of counts.
#[derive(Debug, Default)]
pub(crate) struct Reasons {
    /// Counts and how much they are said to grow, in percent.
    given: Vec<(String, f64)>,
    /// Lines that begin like a reason and are none.
    unclear: Vec<String>,
}

impl Reasons {
    /// Reads them from a message.
    pub(crate) fn read(message: &str) -> Self {
        let mut reasons = Self::default();
        for line in message.lines() {
            let Some(said) = line.strip_prefix(MARK) else {
                continue;
            };
            match reason(said) {
                Some(given) => reasons.given.push(given),
                None => reasons.unclear.push(line.to_owned()),
            }
        }
        reasons
    }

    /// Returns how much they say that a count grew, in percent; none if there is none for it.
    fn of(&self, name: &str) -> Option<f64> {
        let given = self.given.iter().filter(|(known, _)| known == name);
        let factors = given.map(|(_, percent)| 1.0 + percent / 100.0);
        let factor = factors.reduce(|all, factor| all * factor)?;
        Some((factor - 1.0) * 100.0)
    }
}

/// Reads `claim +5 %, since ...`.
fn reason(said: &str) -> Option<(String, f64)> {
    let (growth, why) = said.split_once(',')?;
    let why = why.trim().strip_prefix("since ")?;
    let (name, percent) = growth.trim().split_once(" +")?;
    let percent: f64 = percent.strip_suffix('%')?.trim().parse().ok()?;
    let is_one = !why.trim().is_empty() && percent.is_finite() && percent >= 0.0;
    is_one.then(|| (name.to_owned(), percent))
}

/// Returns a table of the counts, and whether one of them grew too much without a reason.
pub(crate) fn report(counts: &[Count], reasons: &Reasons) -> (String, bool) {
    let mut text = format!(
        "{:<8} {:>12} {:>12} {:>9}\n",
        "a job's", "before", "after", "growth"
    );
    let mut grew = false;
    for count in counts {
        let (name, after) = (count.name, count.after);
        // Writing to a string does not fail.
        let _never = match (count.before, count.growth()) {
            (Some(before), Some(growth)) => {
                let verdict = judge(name, growth, reasons);
                grew |= verdict.is_err();
                let (Ok(note) | Err(note)) = verdict;
                writeln!(
                    text,
                    "{name:<8} {before:>12} {after:>12} {growth:>+8.2}% {note}"
                )
            }
            _ => writeln!(text, "{name:<8} {:>12} {after:>12}", "not there"),
        };
    }
    if grew {
        let _never = writeln!(
            text,
            "\nA count grew by {GROWTH_PERCENT} % or more. Where that is worth it, the message of the \
             commit says why,\nin a line of its own for each count, as CONTRIBUTING.md shows:\n\
             {MARK} claim +5 %, since claims write down their rate"
        );
        for line in &reasons.unclear {
            let _never = writeln!(text, "This line is not of that form: {line}");
        }
    }
    (text, grew)
}

/// Returns what there is to say of a growth, as an error if it is too much.
fn judge(name: &str, growth: f64, reasons: &Reasons) -> Result<String, String> {
    if growth < GROWTH_PERCENT {
        return Ok(String::new());
    }
    match reasons.of(name) {
        Some(said) if growth < said + REASON_SLACK => {
            Ok(format!("the commit says why: +{said:.1} %"))
        }
        Some(said) => Err(format!("GREW, by more than the commit says: +{said:.1} %")),
        None => Err("GREW".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells whether counts that grew by so much, in thousandths, fail under this message.
    fn fails(claim: u64, submit: u64, message: &str) -> bool {
        let count = |name, growth| Count {
            name,
            before: Some(100_000),
            after: 100_000 + growth * 100,
        };
        let counts = [count("claim", claim), count("submit", submit)];
        report(&counts, &Reasons::read(message)).1
    }

    #[test]
    fn what_grew_by_three_percent_fails_without_a_reason() {
        for (claim, submit, expected) in [
            (0, 0, false),
            (29, 29, false),
            (30, 0, true),
            (31, 0, true),
            (0, 31, true),
        ] {
            let said = "store: do more\n\nIt is worth it.\n";
            assert_eq!(fails(claim, submit, said), expected, "{claim} {submit}");
        }
    }

    #[test]
    fn a_reason_is_for_the_count_and_the_growth_that_it_names() {
        for (message, expected) in [
            ("Instructions: claim +5 %, since it does more", false),
            ("Instructions: claim +4.6%, since it does more", false),
            ("Instructions: claim +50 %, since it does more", false),
            ("Instructions: claim +4 %, since it does more", true),
            ("Instructions: submit +5 %, since it does more", true),
            ("Instructions: claim +5 %, since ", true),
            ("Instructions: claim +5 %", true),
            ("Instructions: claim 5 %, since it does more", true),
            ("Instructions: claim +NaN %, since it does more", true),
            ("Instructions: claim, since it does more", true),
            ("  Instructions: claim +5 %, since it does more", true),
            ("It says Instructions: claim +5 %, since so", true),
        ] {
            let message = format!("claim: do more\n\nBody.\n\n{message}\n");
            assert_eq!(fails(51, 0, &message), expected, "{message}");
        }
    }

    #[test]
    fn reasons_of_several_commits_add_up() {
        let one = "Instructions: claim +5 %, since it does more";
        assert!(fails(101, 0, one));
        assert!(!fails(
            101,
            0,
            &format!("{one}\n\nanother: commit\n\n{one}")
        ));
        let other = "Instructions: submit +10 %, since it does, too";
        assert!(!fails(50, 99, &format!("{one}\n{other}")));
    }

    #[test]
    fn a_line_that_is_no_reason_is_shown() {
        let counts = [Count {
            name: "claim",
            before: Some(1_000),
            after: 1_100,
        }];
        let (text, grew) = report(&counts, &Reasons::read("Instructions: claim is dearer now"));
        assert!(grew);
        assert!(
            text.contains("not of that form: Instructions: claim is dearer"),
            "{text}"
        );
        assert!(text.contains("+10.00% GREW"), "{text}");
    }

    #[test]
    fn what_was_not_there_before_has_not_grown() {
        let counts = [Count {
            name: "claim",
            before: None,
            after: 1_100,
        }];
        assert!(!report(&counts, &Reasons::default()).1);
    }
}
