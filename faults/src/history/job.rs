//! What a history has said of one job so far, and the rules about one job.

use super::check::{Faults, read_of_cancel};
use super::{Bounds, Ended, Event, Read, Report, Rule, Seen, Submit};

/// How long before the start of another attempt one may have been paused that begins after it.
const LATE_US_MAX: u64 = 10_000_000;

/// A submit with its times.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) submit: Submit,
    pub(super) at_us: u64,
    pub(super) at_wall_us: u64,
}

/// What the rules about a job need besides the job.
pub(super) struct Context<'a> {
    pub(super) bounds: &'a Bounds,
    pub(super) faults: &'a Faults,
    pub(super) report: &'a mut Report,
    pub(super) place: &'a str,
    pub(super) now_us: u64,
    pub(super) now_wall_us: u64,
    pub(super) id: &'a str,
}

impl Context<'_> {
    fn broken(&mut self, rule: Rule, what: &str) {
        let what = format!("{} {what}", self.id);
        self.report.add(rule, self.place, what);
    }
}

#[derive(Debug, Default)]
pub(super) struct Job {
    asked: Option<Asked>,
    /// When it was first acknowledged.
    acked_us: Option<u64>,
    /// The inputs that its attempts were given: more than one where one was cut.
    bodies: Vec<Given>,
    first_start: Option<FirstStart>,
    last_claim: u64,
    /// When the attempt under it began.
    last_start_us: u64,
    open: Vec<Open>,
    ended: Vec<EndedAttempt>,
    /// The claim whose success a server accepted.
    accepted: Option<u64>,
    last: Option<Last>,
    gone_us: Option<u64>,
    running: Option<Running>,
    seen_waiting: bool,
    cancel_sent_us: Option<u64>,
    cancelled_us: Option<u64>,
    retried: bool,
}

/// An input that was given to one attempt or more.
#[derive(Debug)]
struct Given {
    body: String,
    /// The last attempt that it was given to.
    claim: u64,
    node: String,
    since_us: u64,
}

#[derive(Debug)]
struct FirstStart {
    at_us: u64,
    at_wall_us: u64,
}

#[derive(Debug)]
struct Open {
    attempt: u32,
    claim: u64,
    node: String,
    since_us: u64,
}

#[derive(Debug)]
struct EndedAttempt {
    /// Where it ran; none where its start is unknown.
    node: Option<String>,
    attempt: u32,
    claim: u64,
    outcome: Ended,
    result: Option<String>,
    at_us: u64,
}

/// The final state that the job was last read in.
#[derive(Debug)]
struct Last {
    state: Seen,
    result: Option<String>,
    /// When the first such answer was there.
    known_us: u64,
}

/// The job was read as running.
#[derive(Debug)]
struct Running {
    attempt: Option<u32>,
    known_us: u64,
}

impl Job {
    pub(super) const fn is_acked(&self) -> bool {
        self.acked_us.is_some()
    }

    /// Tells whether the job's own submit had this key.
    pub(super) fn was_submitted_with(&self, key: Option<&str>) -> bool {
        let own = self
            .asked
            .as_ref()
            .and_then(|asked| asked.submit.key.as_deref());
        key.is_some() && own == key
    }

    /// Tells whether anything was seen of the job but that it is not there.
    pub(super) const fn is_there(&self) -> bool {
        self.first_start.is_some()
            || self.last.is_some()
            || self.running.is_some()
            || self.seen_waiting
    }

    /// Returns the digest of the input that the last attempt was given.
    pub(super) fn body(&self) -> Option<&str> {
        self.bodies.last().map(|given| &*given.body)
    }

    /// Takes the acknowledgement of a submit.
    pub(super) fn acked(&mut self, asked: Asked, duplicate: bool, context: &mut Context<'_>) {
        if self.acked_us.is_none() {
            self.acked_us = Some(context.now_us);
            context.report.acked += 1;
        }
        // The job is that of the first submit; a duplicate has its options from another one.
        if self.asked.is_some() || duplicate {
            return;
        }
        self.asked = Some(asked);
        self.check_first_start(context);
    }

    /// Takes an event that names the job.
    pub(super) fn take(&mut self, event: &Event, context: &mut Context<'_>) {
        match event {
            Event::Get(read) => {
                context.report.reads += 1;
                self.read(read, context);
            }
            Event::CancelRequest { .. } => self.cancel_sent_us = Some(context.now_us),
            Event::CancelReply { status, state, .. } => {
                self.cancel_reply(*status, *state, context);
            }
            Event::RetryRequest { .. } => self.retry_requested(),
            Event::Start {
                attempt,
                claim,
                node,
                body,
                ..
            } => self.start(*attempt, *claim, node, body, context),
            Event::End {
                attempt,
                claim,
                outcome,
                result,
                ..
            } => self.end(*attempt, *claim, *outcome, result.as_deref(), context),
            Event::Settle {
                claim,
                succeeded,
                accepted: true,
                ..
            } => self.settled(*claim, *succeeded, context),
            Event::Settle { .. }
            | Event::Submit(_)
            | Event::Ack { .. }
            | Event::Refused { .. }
            | Event::Unknown { .. }
            | Event::Fault { .. }
            | Event::Overload { .. } => {}
        }
    }

    fn start(
        &mut self,
        attempt: u32,
        claim: u64,
        node: &str,
        body: &str,
        context: &mut Context<'_>,
    ) {
        context.report.starts += 1;
        if self.first_start.is_some() {
            context.report.restarts += 1;
        }
        // One that was paused between its claim and its start does not know that it is late.
        let is_late = context.faults.paused(node, self.last_start_us, LATE_US_MAX);
        if claim <= self.last_claim && !is_late {
            let what = format!("starts under claim {claim} after {}", self.last_claim);
            context.broken(Rule::Fenced, &what);
        }
        if let Some(at) = self.cancelled_us
            && context.now_us > at + context.bounds.cancel_grace_us
        {
            let late_ms = (context.now_us - at) / 1_000;
            let what = format!("starts {late_ms} ms after its cancel was answered");
            context.broken(Rule::Cancelled, &what);
        }
        self.check_done_before_start(claim, context);
        self.check_alone(claim, context);
        self.bodies.retain(|given| given.body != body);
        self.bodies.push(Given {
            body: body.to_owned(),
            claim,
            node: node.to_owned(),
            since_us: context.now_us,
        });
        if claim > self.last_claim {
            self.last_claim = claim;
            self.last_start_us = context.now_us;
        }
        self.open.push(Open {
            attempt,
            claim,
            node: node.to_owned(),
            since_us: context.now_us,
        });
        if self.first_start.is_none() {
            self.first_start = Some(FirstStart {
                at_us: context.now_us,
                at_wall_us: context.now_wall_us,
            });
            self.check_first_start(context);
        }
    }

    /// A job that is known to be done does not start again.
    fn check_done_before_start(&self, claim: u64, context: &mut Context<'_>) {
        let Some(last) = &self.last else { return };
        // A cancelled one has its own rule, with a grace.
        if last.state != Seen::Cancelled && claim > self.last_claim {
            let what = format!("starts although it was read as {:?}", last.state);
            context.broken(Rule::Constant, &what);
        }
    }

    /// An attempt runs alone unless a fault left the other one behind, and none runs after a
    /// success unless a fault may have lost it.
    fn check_alone(&mut self, claim: u64, context: &mut Context<'_>) {
        let (faults, grace_us) = (context.faults, context.bounds.left_behind_us);
        let unexplained = self
            .open
            .iter()
            .find(|open| !faults.left_behind(&open.node, open.since_us, grace_us));
        if let Some(open) = unexplained {
            let what = format!(
                "starts under claim {claim} while claim {} runs on {}, and nothing was hurt",
                open.claim, open.node
            );
            context.broken(Rule::Alone, &what);
        }
        let success = self
            .ended
            .iter()
            .rfind(|end| end.outcome == Ended::Succeeded);
        let may_be_lost = |success: &EndedAttempt| {
            let left_behind = |node: &String| faults.left_behind(node, success.at_us, grace_us);
            faults.any_since(success.at_us) || success.node.as_ref().is_some_and(left_behind)
        };
        if let Some(success) = success
            && !may_be_lost(success)
        {
            let what = format!(
                "starts under claim {claim} after its success under claim {}, and nothing was hurt",
                success.claim
            );
            context.broken(Rule::Alone, &what);
        }
    }

    fn end(
        &mut self,
        attempt: u32,
        claim: u64,
        outcome: Ended,
        result: Option<&str>,
        context: &mut Context<'_>,
    ) {
        let mut node = None;
        match self.open.iter().position(|open| open.claim == claim) {
            Some(index) => {
                let open = self.open.swap_remove(index);
                if open.attempt != attempt {
                    let what = format!("ends attempt {attempt}, begun as {}", open.attempt);
                    context.broken(Rule::Produced, &what);
                }
                node = Some(open.node);
            }
            None if self.ended.iter().any(|end| end.claim == claim) => {
                let what = format!("ends its attempt under claim {claim} twice");
                context.broken(Rule::Fenced, &what);
                return;
            }
            None => {
                let what = format!("ends an attempt under claim {claim} that never started");
                context.broken(Rule::Produced, &what);
            }
        }
        self.ended.push(EndedAttempt {
            node,
            attempt,
            claim,
            outcome,
            result: result.map(str::to_owned),
            at_us: context.now_us,
        });
    }

    fn settled(&mut self, claim: u64, succeeded: bool, context: &mut Context<'_>) {
        if claim < self.last_claim {
            let what = format!("is settled under claim {claim} after {}", self.last_claim);
            context.broken(Rule::Fenced, &what);
        }
        if !succeeded {
            return;
        }
        if let Some(first) = self.accepted {
            let what = format!("succeeds under claim {claim} after claim {first}");
            context.broken(Rule::Fenced, &what);
        }
        let produced = self
            .ended
            .iter()
            .any(|end| end.claim == claim && end.outcome == Ended::Succeeded);
        if context.bounds.handlers && !produced {
            let what = format!("succeeds under claim {claim}, which reached no result");
            context.broken(Rule::Produced, &what);
        }
        self.accepted = Some(claim);
    }

    fn read(&mut self, read: &Read, context: &mut Context<'_>) {
        match read.state {
            Seen::Missing => {
                if self.acked_us.is_some_and(|at| at <= read.sent_us) {
                    context.broken(Rule::Kept, "was acknowledged and is missing");
                }
            }
            Seen::Gone => self.read_gone(context),
            Seen::Succeeded | Seen::Failed | Seen::Cancelled => self.read_final(read, context),
            Seen::Scheduled | Seen::Ready | Seen::Running => self.read_on_its_way(read, context),
        }
    }

    fn read_gone(&mut self, context: &mut Context<'_>) {
        let kept_until = self.asked.as_ref().and_then(|asked| {
            let retain_us = asked.submit.retain_us?;
            // Kept from its end, which was stored after the handler wrote it down: to the
            // millisecond that times are given in.
            let ended_us = self.ended.last().map_or(0, |end| end.at_us - 1_000);
            Some(asked.at_us.max(ended_us) + retain_us)
        });
        if self.is_acked() && kept_until.is_none_or(|until| context.now_us < until) {
            context.broken(Rule::Kept, "is gone before its retention is over");
        }
        let has_end = !self.ended.is_empty() || self.cancelled_us.is_some();
        if context.bounds.handlers && !has_end {
            context.broken(Rule::Kept, "is gone and never came to an end");
        }
        self.gone_us.get_or_insert(context.now_us);
    }

    fn read_final(&mut self, read: &Read, context: &mut Context<'_>) {
        if self.gone_us.is_some_and(|at| at < read.sent_us) {
            context.broken(Rule::Constant, "is back after it was gone");
        }
        if read.state == Seen::Succeeded {
            self.check_produced(read, context);
        }
        let Some(last) = &mut self.last else {
            self.last = Some(Last {
                state: read.state,
                result: read.result.clone(),
                known_us: context.now_us,
            });
            return;
        };
        if last.state != read.state {
            let what = format!("is {:?} and was {:?}", read.state, last.state);
            context.broken(Rule::Constant, &what);
        }
        match (&last.result, &read.result) {
            (Some(before), Some(now)) if before != now => {
                let what = format!("has the result {now}, and had {before}");
                context.broken(Rule::Constant, &what);
            }
            (None, Some(now)) => last.result = Some(now.clone()),
            (Some(_) | None, None | Some(_)) => {}
        }
    }

    /// A result is the right one, and an attempt of that number reached it.
    fn check_produced(&self, read: &Read, context: &mut Context<'_>) {
        let expected = self
            .asked
            .as_ref()
            .and_then(|asked| asked.submit.expected.as_ref());
        if let (Some(expected), Some(result)) = (expected, &read.result)
            && expected != result
        {
            let what = format!("has the result {result}; right is {expected}");
            context.broken(Rule::Produced, &what);
            return;
        }
        let produced = self.ended.iter().any(|end| {
            end.outcome == Ended::Succeeded
                && read.attempt.is_none_or(|attempt| attempt == end.attempt)
                && read
                    .result
                    .as_ref()
                    .is_none_or(|result| Some(result) == end.result.as_ref())
        });
        if context.bounds.handlers && !produced {
            let what = format!(
                "has a result of attempt {:?}, which no such attempt reached",
                read.attempt
            );
            context.broken(Rule::Produced, &what);
        }
    }

    fn read_on_its_way(&mut self, read: &Read, context: &mut Context<'_>) {
        if let Some(last) = &self.last
            && last.known_us < read.sent_us
        {
            let what = format!("is {:?} after it was {:?}", read.state, last.state);
            context.broken(Rule::Constant, &what);
        }
        if self.gone_us.is_some_and(|at| at < read.sent_us) {
            context.broken(Rule::Constant, "is back after it was gone");
        }
        let started_before = self.open.last().filter(|open| {
            open.since_us < read.sent_us && read.attempt.is_some_and(|seen| seen < open.attempt)
        });
        if let Some(open) = started_before
            && !self.may_wait_again(context.faults)
        {
            let what = format!(
                "is {:?} with attempt {:?} after attempt {} began",
                read.state, read.attempt, open.attempt
            );
            context.broken(Rule::Constant, &what);
        }
        if read.state == Seen::Running {
            let later = self
                .running
                .as_ref()
                .is_none_or(|running| running.attempt < read.attempt);
            if later {
                self.running = Some(Running {
                    attempt: read.attempt,
                    known_us: context.now_us,
                });
            }
            return;
        }
        self.seen_waiting = true;
        let Some(running) = &self.running else { return };
        let went_back = running.known_us < read.sent_us && running.attempt == read.attempt;
        if context.bounds.handlers && went_back && !self.may_wait_again(context.faults) {
            let what = format!("is {:?} after it was running, unexplained", read.state);
            context.broken(Rule::Constant, &what);
        }
    }

    /// Tells whether the attempt last started may have ended without a result.
    fn may_wait_again(&self, faults: &Faults) -> bool {
        let submitted_us = self.asked.as_ref().map(|asked| asked.at_us);
        let open_us = self.open.last().map(|open| open.since_us);
        let failed = self
            .ended
            .last()
            .is_some_and(|end| end.outcome != Ended::Succeeded && self.open.is_empty());
        failed || faults.any_since(open_us.or(submitted_us).unwrap_or_default())
    }

    fn cancel_reply(&mut self, status: u16, state: Seen, context: &mut Context<'_>) {
        let Some(sent_us) = self.cancel_sent_us.take() else {
            context.broken(Rule::Ordered, "has an answer to a cancel that nobody sent");
            return;
        };
        if status == 200 && state.is_final() {
            // Found final, it may have succeeded as well: that is a read like any other.
            self.read(&read_of_cancel(context.id, sent_us, state), context);
            if state == Seen::Cancelled {
                self.cancelled_us.get_or_insert(context.now_us);
            }
        } else if status == 200 {
            let what = format!("is answered as cancelled, and is {state:?}");
            context.broken(Rule::Constant, &what);
        }
    }

    /// A retry may begin as soon as it was asked for. A success stays.
    fn retry_requested(&mut self) {
        self.retried = true;
        self.running = None;
        self.cancelled_us = None;
        if self
            .last
            .as_ref()
            .is_some_and(|last| last.state != Seen::Succeeded)
        {
            self.last = None;
        }
    }

    /// The rules about the first start, once both it and the submit are known.
    fn check_first_start(&self, context: &mut Context<'_>) {
        let (Some(asked), Some(start)) = (&self.asked, &self.first_start) else {
            return;
        };
        if let Some(run_at_us) = asked.submit.run_at_us
            && start.at_wall_us < run_at_us
            && !self.retried
        {
            let early_ms = (run_at_us - start.at_wall_us) / 1_000;
            context.broken(Rule::NeverEarly, &format!("starts {early_ms} ms too early"));
        }
        let wait_us = start.at_us.saturating_sub(due_us(asked));
        check_wait(&asked.submit, wait_us, context);
    }

    /// An attempt is given what was submitted, unless its server died meanwhile: then it may be
    /// given the beginning of it, and nothing comes of it.
    fn check_inputs(&self, context: &mut Context<'_>) {
        let submitted = self.asked.as_ref().map(|asked| &asked.submit.body);
        let Some(right) = submitted.or(self.bodies.last().map(|given| &given.body)) else {
            return;
        };
        let grace_us = context.bounds.left_behind_us;
        for given in self.bodies.iter().filter(|given| given.body != *right) {
            if context
                .faults
                .left_behind(&given.node, given.since_us, grace_us)
            {
                context.report.cut_inputs += 1;
            } else {
                let what = format!("is given another input under claim {}", given.claim);
                context.broken(Rule::Produced, &what);
            }
        }
    }

    /// The rules about what never happened.
    pub(super) fn at_end(&self, context: &mut Context<'_>) {
        self.check_inputs(context);
        if !self.is_acked() {
            return;
        }
        let is_done = self.last.is_some() || self.gone_us.is_some();
        if context.bounds.drained && !is_done {
            context.broken(Rule::Kept, "was acknowledged and not read in a final state");
        }
        let Some(asked) = &self.asked else { return };
        let never_began = self.first_start.is_none() && !is_done;
        if context.bounds.handlers && never_began {
            let wait_us = context.now_us.saturating_sub(due_us(asked));
            check_wait(&asked.submit, wait_us, context);
        }
    }
}

/// Returns the monotonic time from which a job may start.
fn due_us(asked: &Asked) -> u64 {
    let ahead_us = asked
        .submit
        .run_at_us
        .map_or(0, |run_at_us| run_at_us.saturating_sub(asked.at_wall_us));
    asked.at_us + ahead_us
}

fn check_wait(submit: &Submit, wait_us: u64, context: &mut Context<'_>) {
    let priority = submit.priority.unwrap_or(5);
    let group = submit.group.clone().unwrap_or_default();
    let longest = context
        .report
        .longest_wait_us
        .entry((priority, group))
        .or_default();
    *longest = (*longest).max(wait_us);
    let bound_us = context
        .bounds
        .wait_us_max
        .get(&priority)
        .copied()
        .or(context.bounds.wait_us_max_default);
    if let Some(bound_us) = bound_us
        && wait_us > bound_us
    {
        let what = format!(
            "of priority {priority} waits {} ms; the bound is {} ms",
            wait_us / 1_000,
            bound_us / 1_000
        );
        context.broken(Rule::NoStarvation, &what);
    }
}
