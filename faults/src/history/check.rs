//! Holds a history to the rules in one pass, O(n log n) in its lines.
//!
//! What it keeps in memory is a small record of each job; the lines themselves go by.

use super::job::{Asked, Context, Job};
use super::merge::{Merged, Placed};
use super::{Bounds, Event, FaultKind, Read, Report, Rule, Seen, Submit};
use std::collections::HashMap;
use std::path::PathBuf;

/// Checks the history in `files`.
///
/// # Errors
///
/// When a file cannot be read or holds something else.
pub fn check_files(files: &[PathBuf], bounds: &Bounds) -> anyhow::Result<Report> {
    check(&mut Merged::open(files)?, bounds)
}

/// Checks a history.
///
/// # Errors
///
/// When it cannot be read.
pub fn check(lines: &mut Merged, bounds: &Bounds) -> anyhow::Result<Report> {
    let mut checker = Checker::new(bounds.clone());
    while let Some(placed) = lines.next_line()? {
        checker.take(&placed);
    }
    Ok(checker.finish())
}

/// Takes the lines of a history in the order of their times.
#[derive(Debug)]
pub struct Checker {
    bounds: Bounds,
    report: Report,
    /// The last sequence number of each party.
    parties: HashMap<String, u64>,
    /// Submits by party and call.
    calls: HashMap<(String, u64), Call>,
    /// The id acknowledged for a task's idempotency key.
    keys: HashMap<(String, String), String>,
    jobs: HashMap<String, Job>,
    faults: Faults,
    overload: Option<Overload>,
    last_us: u64,
}

#[derive(Debug)]
struct Call {
    asked: Asked,
    answer: Option<Answer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Acked,
    Refused,
    Unknown,
}

#[derive(Debug)]
struct Overload {
    since_us: u64,
    acks: u64,
    place: String,
}

/// When something was hurt last.
#[derive(Debug, Default)]
pub(super) struct Faults {
    any_us: Option<u64>,
    /// Of those that leave attempts behind: by node; none: all nodes.
    left_behind: HashMap<Option<String>, u64>,
    /// Of pauses, and of partitions, which answers come late through: by node; none: all nodes.
    paused: HashMap<Option<String>, u64>,
}

impl Faults {
    fn add(&mut self, kind: FaultKind, node: Option<&str>, now_us: u64) {
        self.any_us = Some(now_us);
        if kind.explains_overlap() {
            self.left_behind.insert(node.map(str::to_owned), now_us);
        }
        if matches!(kind, FaultKind::Pause | FaultKind::Partition) {
            self.paused.insert(node.map(str::to_owned), now_us);
        }
    }

    /// Tells whether anything was hurt since `since_us`.
    pub(super) fn any_since(&self, since_us: u64) -> bool {
        self.any_us.is_some_and(|at| at >= since_us)
    }

    /// Tells whether what ran on `node` since `since_us` may have been left behind, by a fault
    /// then or later, or up to `grace_us` before.
    pub(super) fn left_behind(&self, node: &str, since_us: u64, grace_us: u64) -> bool {
        is_hurt(&self.left_behind, node, since_us, grace_us)
    }

    /// Tells whether `node` may have stood still, or been cut off, since `since_us` or up to
    /// `grace_us` before, so that it does not know what became of what it was told.
    pub(super) fn paused(&self, node: &str, since_us: u64, grace_us: u64) -> bool {
        is_hurt(&self.paused, node, since_us, grace_us)
    }
}

fn is_hurt(
    hurt_us: &HashMap<Option<String>, u64>,
    node: &str,
    since_us: u64,
    grace_us: u64,
) -> bool {
    [None, Some(node.to_owned())]
        .iter()
        .filter_map(|key| hurt_us.get(key))
        .any(|at| at + grace_us >= since_us)
}

impl Checker {
    /// Returns a checker that has seen nothing.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            report: Report::default(),
            parties: HashMap::new(),
            calls: HashMap::new(),
            keys: HashMap::new(),
            jobs: HashMap::new(),
            faults: Faults::default(),
            overload: None,
            last_us: 0,
        }
    }

    /// Takes the next line.
    pub fn take(&mut self, placed: &Placed) {
        let Placed { line, place } = placed;
        self.report.lines += 1;
        self.last_us = line.mono_us;
        let last = self.parties.entry(line.party.clone()).or_default();
        if line.seq != *last + 1 {
            let what = format!("{} wrote line {} after {last}", line.party, line.seq);
            self.report.add(Rule::Ordered, place, what);
        }
        *last = line.seq;

        let (now_us, party) = (line.mono_us, &line.party);
        match &line.event {
            Event::Submit(submit) => self.submit(placed, submit),
            Event::Ack {
                call,
                id,
                duplicate,
            } => self.ack(placed, *call, id, *duplicate),
            Event::Refused { call, .. } => {
                self.report.refused += 1;
                self.answer(party, *call, Answer::Refused, place);
            }
            Event::Unknown { call } => {
                self.report.unknown += 1;
                self.answer(party, *call, Answer::Unknown, place);
            }
            Event::Fault { kind, node } => {
                self.report.faults += 1;
                self.faults.add(*kind, node.as_deref(), now_us);
            }
            Event::Overload { on } => self.overload(*on, now_us, place),
            Event::Get(_)
            | Event::CancelRequest { .. }
            | Event::CancelReply { .. }
            | Event::RetryRequest { .. }
            | Event::Start { .. }
            | Event::End { .. }
            | Event::Settle { .. } => self.job_event(placed),
        }
    }

    /// Returns what came of it.
    pub fn finish(mut self) -> Report {
        self.overload(false, self.last_us, "end");
        self.unknown_submits();
        let Self {
            bounds,
            mut report,
            faults,
            jobs,
            last_us,
            ..
        } = self;
        // In the order of ids, so that the same history gives the same report.
        let mut jobs: Vec<_> = jobs.into_iter().collect();
        jobs.sort_by(|a, b| a.0.cmp(&b.0));
        for (id, job) in &jobs {
            let mut context = Context {
                bounds: &bounds,
                faults: &faults,
                report: &mut report,
                place: "end",
                now_us: last_us,
                now_wall_us: 0,
                id,
            };
            job.at_end(&mut context);
        }
        report
    }

    fn submit(&mut self, placed: &Placed, submit: &Submit) {
        let line = &placed.line;
        let asked = Asked {
            submit: submit.clone(),
            at_us: line.mono_us,
            at_wall_us: line.wall_us,
        };
        let call = Call {
            asked,
            answer: None,
        };
        let key = (line.party.clone(), submit.call);
        if self.calls.insert(key, call).is_some() {
            let what = format!("{} submits call {} twice", line.party, submit.call);
            self.report.add(Rule::Ordered, &placed.place, what);
        }
    }

    /// Notes the answer to a call and returns what it was the answer to.
    fn answer(&mut self, party: &str, call: u64, answer: Answer, place: &str) -> Option<Asked> {
        match self.calls.get_mut(&(party.to_owned(), call)) {
            Some(found) if found.answer.is_none() => {
                found.answer = Some(answer);
                Some(found.asked.clone())
            }
            Some(_) => {
                let what = format!("{party} has a second answer to call {call}");
                self.report.add(Rule::Ordered, place, what);
                None
            }
            None => {
                let what = format!("{party} has an answer to call {call}, which it never made");
                self.report.add(Rule::Ordered, place, what);
                None
            }
        }
    }

    fn ack(&mut self, placed: &Placed, call: u64, id: &str, duplicate: bool) {
        let Placed { line, place } = placed;
        if let Some(overload) = &mut self.overload {
            overload.acks += 1;
        }
        let Some(asked) = self.answer(&line.party, call, Answer::Acked, place) else {
            return;
        };
        let key = asked.submit.key.clone();
        if let Some(key) = &key {
            let scope = (asked.submit.task.clone(), key.clone());
            let first = self.keys.entry(scope).or_insert_with(|| id.to_owned());
            if first != id {
                let what = format!("key {key:?} was acknowledged with {first}, now with {id}");
                self.report.add(Rule::OneId, place, what);
            }
        }
        let job = self.jobs.entry(id.to_owned()).or_default();
        if job.is_acked() && !duplicate && !job.was_submitted_with(key.as_deref()) {
            let what = format!("{id} is acknowledged for two submits");
            self.report.add(Rule::OneId, place, what);
        }
        let mut context = Context {
            bounds: &self.bounds,
            faults: &self.faults,
            report: &mut self.report,
            place,
            now_us: line.mono_us,
            now_wall_us: line.wall_us,
            id,
        };
        job.acked(asked, duplicate, &mut context);
    }

    fn job_event(&mut self, placed: &Placed) {
        let Placed { line, place } = placed;
        let id = match &line.event {
            Event::Get(read) => &read.id,
            Event::CancelRequest { id }
            | Event::CancelReply { id, .. }
            | Event::RetryRequest { id }
            | Event::Start { id, .. }
            | Event::End { id, .. }
            | Event::Settle { id, .. } => id,
            Event::Submit(_)
            | Event::Ack { .. }
            | Event::Refused { .. }
            | Event::Unknown { .. }
            | Event::Fault { .. }
            | Event::Overload { .. } => return,
        };
        let job = self.jobs.entry(id.clone()).or_default();
        let mut context = Context {
            bounds: &self.bounds,
            faults: &self.faults,
            report: &mut self.report,
            place,
            now_us: line.mono_us,
            now_wall_us: line.wall_us,
            id,
        };
        job.take(&line.event, &mut context);
    }

    fn overload(&mut self, on: bool, now_us: u64, place: &str) {
        if let Some(ended) = self.overload.take()
            && let Some(capacity) = self.bounds.capacity_per_s
        {
            let span_us = now_us.saturating_sub(ended.since_us);
            let may = capacity.saturating_mul(span_us) / 1_000_000 + self.bounds.capacity_burst;
            if ended.acks > may {
                let what = format!(
                    "{} acknowledged in {} ms of overload since {}; at most {may} are bearable",
                    ended.acks,
                    span_us / 1_000,
                    ended.place
                );
                self.report.add(Rule::Bounded, place, what);
            }
        }
        if on {
            self.overload = Some(Overload {
                since_us: now_us,
                acks: 0,
                place: place.to_owned(),
            });
        }
    }

    /// Finds a submit for each job that appeared without an acknowledgement.
    fn unknown_submits(&mut self) {
        // How many jobs of a body may have appeared: one for each unknown submit without a key,
        // one for each key that was never acknowledged.
        let mut may: HashMap<&str, u64> = HashMap::new();
        let mut keys_counted = std::collections::HashSet::new();
        for call in self.calls.values() {
            let submit = &call.asked.submit;
            if !matches!(call.answer, None | Some(Answer::Unknown)) {
                continue;
            }
            if let Some(key) = &submit.key {
                let scope = (submit.task.clone(), key.clone());
                if self.keys.contains_key(&scope) || !keys_counted.insert(scope) {
                    continue;
                }
            }
            *may.entry(&submit.body).or_default() += 1;
        }
        let mut appeared: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, job)| !job.is_acked() && job.is_there())
            .map(|(id, job)| (id, job.body()))
            .collect();
        // Those whose body is known come first: the others take what is left.
        appeared.sort_unstable_by_key(|(id, body)| (body.is_none(), *id));
        for (id, body) in appeared {
            self.report.appeared += 1;
            // Of a job that was only read nothing is known but that somebody submitted it.
            let left = match body {
                Some(body) => may.get_mut(body),
                None => may.values_mut().find(|left| **left > 0),
            };
            match left {
                Some(left) if *left > 0 => *left -= 1,
                _ => {
                    let what = format!("{id} appeared, and no unknown submit is left for it");
                    self.report.add(Rule::AtMostOnce, "end", what);
                }
            }
        }
    }
}

/// Returns the read that an answer to a cancel amounts to.
pub(super) fn read_of_cancel(id: &str, sent_us: u64, state: Seen) -> Read {
    Read {
        id: id.to_owned(),
        sent_us,
        state,
        attempt: None,
        result: None,
    }
}
