//! The ready jobs of one priority of a queue: whose turn it is among their groups, and how many are
//! ahead of another.
//!
//! The flow of a group has its jobs at the turns `turn`, `turn + 1`, … up to its end. So before a
//! turn T lie, of all flows, T less their turns, for those that begin before it, less T less their
//! ends, for those that end before it: two sums over ordered sets, whatever the number of groups.

use super::lanes::{FlowId, Turn};
use super::ranked::{Key, Ranked};
use crate::{Priority, Timestamp};
use std::collections::BTreeSet;

/// A turn, and the flow that has it.
pub(super) type FlowTurn = (u64, FlowId);

impl Key for FlowTurn {
    fn weight(self) -> u64 {
        self.0
    }
}

/// Flows that were left out and are looked at one by one for a position: as many as may be ahead of
/// one that is told exactly.
const LEFT_OUT_WALKED_MAX: u64 = crate::limits::POSITION_EXACT_MAX;

/// The jobs before a turn and at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) before: u64,
    pub(super) at: u64,
    /// Not so where too many flows were left out to look at each.
    pub(super) is_certain: bool,
}

#[derive(Debug)]
pub(super) struct Class {
    pub(super) ready: u64,
    /// The turn that its latest start took.
    turn: u64,
    /// The turn after the last that any of its flows took.
    top: u64,
    /// Where its queue's mark would be after its next start.
    pub(super) mark: u64,
    /// How far a start moves the mark.
    cost: u64,
    /// Its flows with ready jobs, by the turns of their first ones and of those after their last.
    begins: Ranked<FlowTurn>,
    ends: Ranked<FlowTurn>,
    /// Its flows without any job whose turn is still to come.
    idle: BTreeSet<FlowTurn>,
    /// The last of its ready jobs by `run_at` and key, or one that was.
    latest: Turn,
}

impl Class {
    pub(super) fn new(priority: Priority) -> Self {
        Self {
            ready: 0,
            turn: 0,
            top: 0,
            mark: 0,
            cost: 1 << priority.get(),
            begins: Ranked::new(),
            ends: Ranked::new(),
            idle: BTreeSet::new(),
            latest: (Timestamp::MIN, i64::MIN),
        }
    }

    /// Returns the turn of the first job of a flow whose next one is `turn`.
    pub(super) fn turn_for(&self, turn: u64) -> u64 {
        turn.max(self.turn)
    }

    /// Notes a ready job more. `mark` is where its queue's is.
    pub(super) fn add(&mut self, job: Turn, mark: u64) {
        if self.ready == 0 {
            self.mark = self.mark.max(mark + self.cost);
        }
        self.ready += 1;
        self.latest = self.latest.max(job);
    }

    /// Notes a ready job fewer.
    pub(super) fn subtract(&mut self) {
        self.ready -= 1;
        if self.ready == 0 {
            // Nobody waits, so that nobody has waited longer.
            self.turn = self.top;
            self.latest = (Timestamp::MIN, i64::MIN);
        }
    }

    /// Moves a flow: the turn of its first job and how many are ready.
    pub(super) fn move_flow(&mut self, flow: FlowId, from: (u64, u64), to: (u64, u64)) {
        let ends = |(turn, ready)| (ready > 0).then_some((turn + ready, flow));
        let begins = |(turn, ready)| (ready > 0).then_some((turn, flow));
        replace(&mut self.begins, begins(from), begins(to));
        replace(&mut self.ends, ends(from), ends(to));
        if to.1 > 0 {
            self.idle.remove(&(from.0, flow));
        }
    }

    /// Lets a job start from a flow whose turn it is, and returns the turn of the flow's next one
    /// and where the queue's mark, which is at `mark`, moves to.
    pub(super) fn start(&mut self, turn: u64, mark: u64) -> (u64, u64) {
        self.turn = self.turn.max(turn);
        let next = self.turn + 1;
        self.top = self.top.max(next);
        let moved = mark.max(self.mark);
        self.mark = moved + self.cost;
        (next, moved)
    }

    /// Tells whether a flow without jobs may be forgotten, and remembers it if not.
    pub(super) fn may_forget(&mut self, flow: FlowId, turn: u64) -> bool {
        let is_past = turn <= self.turn;
        if is_past {
            self.idle.remove(&(turn, flow));
        } else {
            self.idle.insert((turn, flow));
        }
        is_past
    }

    /// Takes out a flow that was remembered for a turn which has come.
    pub(super) fn next_passed(&mut self) -> Option<FlowId> {
        let (turn, _) = *self.idle.first()?;
        let passed = (turn <= self.turn).then(|| self.idle.pop_first());
        passed.flatten().map(|(_, flow)| flow)
    }

    // --- who is ahead ---

    /// Returns the turn that the job at `rank` of a flow has, whose first one has the turn `first`.
    ///
    /// A flow that was left out while others had their turns, since its group is full or nobody asks for
    /// its task, still goes first when it is let in again. Its later jobs go on from there, and make
    /// up for nothing.
    pub(super) fn turn_at(&self, first: u64, rank: u64) -> u64 {
        if rank == 0 {
            first
        } else {
            self.turn_for(first) + rank
        }
    }

    /// Returns which job of such a flow has `turn`, if any may, by its rank.
    pub(super) fn rank_at(&self, first: u64, turn: u64) -> Option<u64> {
        if turn == first {
            return Some(0);
        }
        let rank = turn.checked_sub(self.turn_for(first))?;
        (rank > 0).then_some(rank)
    }

    /// Returns how many jobs lie at turns before `turn`, and how many at it. `ready` says how many a
    /// flow has.
    pub(super) fn before(&self, turn: u64, ready: impl Fn(FlowId) -> u64) -> Counted {
        let first = (turn, FlowId::MIN);
        let (begun, ended) = (self.begins.before(first), self.ends.before(first));
        let before = (turn * begun.count - begun.weight) - (turn * ended.count - ended.weight);
        let after = (turn + 1, FlowId::MIN);
        let at = self.begins.before(after).count - self.ends.before(after).count;
        let mut sum = Counted {
            before,
            at,
            is_certain: true,
        };
        let mut walked = 0;
        self.begins.walk((0, FlowId::MIN), |(first, flow)| {
            if first >= self.turn {
                return false;
            }
            walked += 1;
            sum.is_certain = walked <= LEFT_OUT_WALKED_MAX;
            if sum.is_certain {
                self.correct(&mut sum, turn, first, ready(flow));
            }
            sum.is_certain
        });
        sum
    }

    /// Counts a flow that was left out as it is served: its first job, and the others from now on.
    fn correct(&self, sum: &mut Counted, turn: u64, first: u64, ready: u64) {
        let counted = turn.saturating_sub(first).min(ready);
        let later = turn.saturating_sub(self.turn + 1).min(ready - 1);
        sum.before = sum.before - counted + u64::from(turn > first) + later;
        let was_at = (first..first + ready).contains(&turn);
        let is_at = self.rank_at(first, turn).is_some_and(|rank| rank < ready);
        sum.at = sum.at - u64::from(was_at) + u64::from(is_at);
    }

    /// Tells whether a job is after all others of its turn, whichever they are.
    pub(super) fn is_last(&self, job: Turn) -> bool {
        job >= self.latest
    }

    /// Shows the flows that have had their turn before `turn`, until `look` has seen enough.
    pub(super) fn walk_before(&self, turn: u64, mut look: impl FnMut(FlowId)) {
        self.begins.walk((0, FlowId::MIN), |(begins, flow)| {
            let is_before = begins < turn;
            if is_before {
                look(flow);
            }
            is_before
        });
    }
}

fn replace(set: &mut Ranked<FlowTurn>, from: Option<FlowTurn>, to: Option<FlowTurn>) {
    if from == to {
        return;
    }
    if let Some(from) = from {
        set.remove(from);
    }
    if let Some(to) = to {
        set.insert(to);
    }
}
