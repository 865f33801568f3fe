//! Attempts of a job that ran at the same time, by the clock of the machine that all nodes share.

use crate::history::{Event, FaultKind, Line};
use anyhow::Context;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

/// Attempts of a node that went on while a later one of their job had begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overlaps {
    /// How many.
    pub count: u64,
    /// For how long at the most, from the beginning of the later one, in microseconds.
    pub longest_us: u64,
}

/// From when to when an attempt ran.
#[derive(Debug)]
struct Ran {
    node: String,
    from_us: u64,
    to_us: Option<u64>,
}

/// Counts the overlaps in histories, by the node of the attempt that went on. One whose node was killed
/// ended with it.
///
/// # Errors
///
/// When a file cannot be read.
pub fn overlaps(files: &[PathBuf]) -> anyhow::Result<BTreeMap<String, Overlaps>> {
    let mut lines = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file);
        let text = text.with_context(|| format!("read {}", file.display()))?;
        for line in text.lines() {
            lines.push(serde_json::from_str(line)?);
        }
    }
    Ok(count(&lines))
}

fn count(lines: &[Line]) -> BTreeMap<String, Overlaps> {
    let mut jobs: HashMap<&str, BTreeMap<u64, Ran>> = HashMap::new();
    let mut dead: HashMap<&str, u64> = HashMap::new();
    for line in lines {
        if let Event::Start {
            id, claim, node, ..
        } = &line.event
        {
            let ran = Ran {
                node: node.clone(),
                from_us: line.mono_us,
                to_us: None,
            };
            jobs.entry(id).or_default().insert(*claim, ran);
        }
    }
    for line in lines {
        match &line.event {
            Event::End { id, claim, .. } => {
                let ran = jobs.get_mut(&**id).and_then(|ran| ran.get_mut(claim));
                if let Some(ran) = ran {
                    ran.to_us = Some(line.mono_us);
                }
            }
            Event::Fault {
                kind: FaultKind::Kill | FaultKind::Cut | FaultKind::Stop,
                node: Some(node),
            } => {
                dead.insert(node, line.mono_us);
            }
            _ => {}
        }
    }
    let mut overlaps: BTreeMap<String, Overlaps> = BTreeMap::new();
    for ran in jobs.values() {
        for (claim, earlier) in ran {
            let died_us = dead.get(&*earlier.node).copied();
            let to_us = earlier.to_us.or(died_us).unwrap_or(u64::MAX);
            let later = ran.range(claim + 1..).map(|(_, later)| later.from_us).min();
            // A later claim whose attempt began earlier: this one began when it had lost its lease.
            let since_us = later.map(|later_us| later_us.max(earlier.from_us));
            if let Some(since_us) = since_us
                && since_us < to_us
            {
                let of_node = overlaps.entry(earlier.node.clone()).or_default();
                of_node.count += 1;
                of_node.longest_us = of_node.longest_us.max(to_us - since_us);
            }
        }
    }
    overlaps
}

impl std::fmt::Display for Overlaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let longest = Duration::from_micros(self.longest_us);
        write!(
            f,
            "{} attempts went on beside a later one of their job, for {longest:.1?} at the most",
            self.count
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(mono_us: u64, event: Event) -> Line {
        Line {
            party: "server".to_owned(),
            seq: 1,
            wall_us: mono_us,
            mono_us,
            event,
        }
    }

    fn start(at_us: u64, claim: u64, node: &str) -> Line {
        let event = Event::Start {
            id: "job".to_owned(),
            attempt: 1,
            claim,
            node: node.to_owned(),
            body: String::new(),
        };
        line(at_us, event)
    }

    fn end(at_us: u64, claim: u64) -> Line {
        let event = Event::End {
            id: "job".to_owned(),
            attempt: 1,
            claim,
            outcome: crate::history::Ended::Succeeded,
            result: None,
        };
        line(at_us, event)
    }

    #[test]
    fn only_what_runs_at_the_same_time_overlaps() {
        let kill = line(
            15,
            Event::Fault {
                kind: FaultKind::Kill,
                node: Some("one".to_owned()),
            },
        );
        let one = |lines: [Line; 3]| lines.to_vec();
        let mut cases = vec![
            (
                one([start(1, 1, "one"), end(9, 1), start(9, 2, "two")]),
                (0, 0),
            ),
            (
                one([start(1, 1, "one"), start(9, 2, "two"), end(12, 1)]),
                (1, 3),
            ),
            (
                one([start(1, 1, "one"), start(9, 2, "two"), kill.clone()]),
                (1, 6),
            ),
            (one([start(1, 1, "one"), start(16, 2, "two"), kill]), (0, 0)),
            (
                one([start(9, 1, "one"), start(1, 2, "two"), end(20, 1)]),
                (1, 11),
            ),
        ];
        for (lines, (count_of, longest_us)) in &mut cases {
            lines.push(end(19, 2));
            let expected = Overlaps {
                count: *count_of,
                longest_us: *longest_us,
            };
            let found = count(lines).get("one").copied().unwrap_or_default();
            assert_eq!(found, expected, "{lines:?}");
        }
    }
}
