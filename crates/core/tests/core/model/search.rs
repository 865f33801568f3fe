//! Goes through every world of the model, nearest first, so that a fault comes with the shortest
//! way to it.

use super::{Action, Decide, World};
use anteroom_core::{Lease, State, Status};
use std::collections::HashMap;
use std::fmt;

/// A rule that does not hold, and the shortest way to where it breaks.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) rule: &'static str,
    pub(super) path: Vec<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, by: {}", self.rule, self.path.join("; "))
    }
}

/// Every world that can come about, and how.
struct Search {
    worlds: Vec<World>,
    /// The world that each was first met from, and by what.
    origins: Vec<Option<(usize, Action)>>,
    /// Every step between two worlds.
    steps: Vec<(usize, Action, usize)>,
}

/// Goes through all worlds, nearest first, and returns how many worlds and steps there are.
pub(super) fn explore(leases: [Lease; 2], decide: Decide) -> Result<(usize, usize), Fault> {
    let start = World::new();
    let mut numbers = HashMap::from([(start, 0)]);
    let mut search = Search {
        worlds: vec![start],
        origins: vec![None],
        steps: Vec::new(),
    };
    let mut here = 0;
    while let Some(world) = search.worlds.get(here).copied() {
        for action in world.actions() {
            let next = world
                .after(action, leases, decide)
                .map_err(|rule| search.fault(rule, here, Some(action)))?;
            let Some(next) = next else { continue };
            let there = *numbers.entry(next).or_insert(search.worlds.len());
            if there == search.worlds.len() {
                search.worlds.push(next);
                search.origins.push(Some((here, action)));
            }
            search.steps.push((here, action, there));
        }
        here += 1;
    }
    search.check_ends_stay_reachable()?;
    Ok((search.worlds.len(), search.steps.len()))
}

impl Search {
    fn fault(&self, rule: &'static str, mut here: usize, last: Option<Action>) -> Fault {
        let mut path: Vec<String> = last.iter().map(ToString::to_string).collect();
        while let Some((from, action)) = self.origins[here] {
            path.push(action.to_string());
            here = from;
        }
        path.reverse();
        Fault { rule, path }
    }

    fn check_ends_stay_reachable(&self) -> Result<(), Fault> {
        let by_workers =
            |action| !matches!(action, Action::Cancel | Action::Retry | Action::Amend(_));
        self.check_reachable(
            "no end can be reached without a person",
            |status| status.state.is_final(),
            by_workers,
        )?;
        self.check_reachable(
            "success can no longer be reached",
            |status| status.state == State::Succeeded,
            |_| true,
        )
    }

    /// Checks that from every world one of the `goal`s can be reached by steps that `count`.
    fn check_reachable(
        &self,
        rule: &'static str,
        goal: impl Fn(&Status) -> bool,
        counts: impl Fn(Action) -> bool,
    ) -> Result<(), Fault> {
        let mut origins = vec![Vec::new(); self.worlds.len()];
        for (from, action, to) in &self.steps {
            if counts(*action) {
                origins[*to].push(*from);
            }
        }
        let mut reaches: Vec<bool> = self.worlds.iter().map(|w| goal(&w.status)).collect();
        let mut next_up: Vec<usize> = (0..reaches.len()).filter(|n| reaches[*n]).collect();
        while let Some(to) = next_up.pop() {
            for from in &origins[to] {
                if !std::mem::replace(&mut reaches[*from], true) {
                    next_up.push(*from);
                }
            }
        }
        match reaches.iter().position(|reached| !reached) {
            None => Ok(()),
            Some(stuck) => Err(self.fault(rule, stuck, None)),
        }
    }
}
