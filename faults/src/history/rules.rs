//! The rules that a history is held to, and what came of it.

use std::collections::BTreeMap;
use std::fmt;

/// A rule. Its letter is that of the plan for reliability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// (a) Every acknowledged job has a final result once all is drained, and is never missing.
    Kept,
    /// (b) A job has one final state between two retries, a succeeded one never changes, and
    /// reads never go back.
    Constant,
    /// (c) Every result was produced by an attempt that was started under that number, and is the
    /// right one.
    Produced,
    /// (d) The starts of a job have strictly rising claim numbers; one end an attempt, one
    /// accepted success a job.
    Fenced,
    /// (e) No attempt starts later than a cancel's 200 and a second.
    Cancelled,
    /// (f) One id for an idempotency key, and one submit for an id.
    OneId,
    /// (g) No attempt starts before its time.
    NeverEarly,
    /// (h) Attempts of a job overlap only where a fault explains it.
    Alone,
    /// (i) No job waits longer than its bound.
    NoStarvation,
    /// (j) No more is acknowledged during overload than the server can take.
    Bounded,
    /// (u) A submit whose fate is unknown appears once or not at all; a refused one, not at all.
    AtMostOnce,
    /// (o) Each party's lines are all there and in order, and every answer has its question.
    Ordered,
}

impl Rule {
    /// Returns the rule's letter.
    pub const fn letter(self) -> char {
        match self {
            Self::Kept => 'a',
            Self::Constant => 'b',
            Self::Produced => 'c',
            Self::Fenced => 'd',
            Self::Cancelled => 'e',
            Self::OneId => 'f',
            Self::NeverEarly => 'g',
            Self::Alone => 'h',
            Self::NoStarvation => 'i',
            Self::Bounded => 'j',
            Self::AtMostOnce => 'u',
            Self::Ordered => 'o',
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({})", self.letter())
    }
}

/// What the rules take from outside.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// The history goes on until everything acknowledged was read in its final state.
    pub drained: bool,
    /// All attempts were written down by their handlers; otherwise nothing is known of attempts,
    /// and the rules about them hold for those that were.
    pub handlers: bool,
    /// How long after a cancel's 200 an attempt may still start.
    pub cancel_grace_us: u64,
    /// How long after its node was killed an attempt may still be seen to begin: a program that a
    /// dead server started needs a moment to be killed as well.
    pub left_behind_us: u64,
    /// The longest wait from submit or `run_at` to the first start, by priority; none: no bound.
    pub wait_us_max: BTreeMap<u8, u64>,
    /// The longest such wait of the priorities that `wait_us_max` does not name.
    pub wait_us_max_default: Option<u64>,
    /// Acknowledgements a second during overload; none: no bound.
    pub capacity_per_s: Option<u64>,
    /// How many more may come at once.
    pub capacity_burst: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            drained: true,
            handlers: true,
            cancel_grace_us: 1_000_000,
            left_behind_us: 2_000_000,
            wait_us_max: BTreeMap::new(),
            wait_us_max_default: None,
            capacity_per_s: None,
            capacity_burst: 0,
        }
    }
}

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// `FILE:LINE` of the event that shows it, or `end` for what is missing in the end.
    pub place: String,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.rule, self.place, self.what)
    }
}

/// Violations kept with their text; beyond that they are counted.
const VIOLATIONS_KEPT_MAX: usize = 12;

/// What came of a check.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Lines read.
    pub lines: u64,
    /// Jobs acknowledged.
    pub acked: u64,
    /// Submits whose fate is unknown to their client.
    pub unknown: u64,
    /// Jobs of such submits that were seen all the same.
    pub appeared: u64,
    /// Submits refused.
    pub refused: u64,
    /// Answers that said where a job stands.
    pub reads: u64,
    /// Attempts started.
    pub starts: u64,
    /// Of these, second and later ones of their job.
    pub restarts: u64,
    /// Attempts that were given another input than was submitted, and were left behind: the
    /// server died while it handed the input over. They change nothing.
    pub cut_inputs: u64,
    /// Faults injected.
    pub faults: u64,
    /// The longest wait for a first start, by priority and group.
    pub longest_wait_us: BTreeMap<(u8, String), u64>,
    /// How often each rule was broken.
    pub broken: BTreeMap<Rule, u64>,
    /// The first violations.
    pub violations: Vec<Violation>,
}

impl Report {
    /// Tells whether every rule was kept.
    pub fn is_clean(&self) -> bool {
        self.broken.is_empty()
    }

    /// Returns how often a rule was broken.
    pub fn count(&self, rule: Rule) -> u64 {
        self.broken.get(&rule).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, rule: Rule, place: &str, what: String) {
        *self.broken.entry(rule).or_default() += 1;
        if self.violations.len() < VIOLATIONS_KEPT_MAX {
            self.violations.push(Violation {
                rule,
                place: place.to_owned(),
                what,
            });
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} lines, {} acknowledged, {} unknown ({} appeared), {} refused, {} reads, \
             {} starts ({} repeated, {} with a cut input), {} faults, ",
            self.lines,
            self.acked,
            self.unknown,
            self.appeared,
            self.refused,
            self.reads,
            self.starts,
            self.restarts,
            self.cut_inputs,
            self.faults
        )?;
        if self.is_clean() {
            return write!(f, "no rule broken");
        }
        write!(f, "broken:")?;
        for (rule, count) in &self.broken {
            write!(f, " {rule}×{count}")?;
        }
        for violation in &self.violations {
            write!(f, "\n  {violation}")?;
        }
        Ok(())
    }
}
