//! Cancelling, retrying and deleting all jobs that match a filter, a bounded part at a time.
//!
//! A match is a job that the filter names and that the action can still change: what was dealt
//! with matches no more, so that whoever repeats a call goes on where it stopped, and comes to an
//! end. To that belongs that no call stops before it has changed something, however long it has to
//! look for it or however many it is refused.
//!
//! A job that is retried may fail again, and would match again. [`Retries`] therefore remembers
//! when a retry began that was cut short: those that repeat it leave alone what began or ended
//! since.

use crate::engine::{Engine, Shared};
use crate::store::{Change, Deleted, Filter, Page, Refused, StoreError};
use anteroom_core::limits::{
    BULK_JOBS_MAX, BULK_MATCHES_MAX, BULK_RETRIES_KEPT, BULK_RETRIES_MAX, BULK_TIME_MAX,
    BULK_TRIES_MAX, COMMIT_BYTES_MAX,
};
use anteroom_core::{Event, Job, ShownState, Timestamp};
use futures_util::future::join_all;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is done with all jobs that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkAction {
    /// As [`Engine::cancel`], of those that are unfinished and were not told to stop yet.
    Cancel,
    /// As [`Engine::retry`], of those that failed, were cancelled, or are scheduled.
    Retry,
    /// As [`Engine::delete`], of those that are finished.
    Delete,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bulk {
    /// Jobs that the filter names and that the action could change when they were looked at.
    pub matched: usize,
    /// Those of them that it changed. Others were quicker with the rest.
    pub changed: usize,
    /// Whether it stopped before it had looked at all jobs: repeat it.
    pub more: bool,
}

impl BulkAction {
    /// Returns the states that it can change a job from.
    const fn states(self) -> &'static [ShownState] {
        match self {
            Self::Cancel => &[
                ShownState::Scheduled,
                ShownState::Ready,
                ShownState::Running,
            ],
            Self::Retry => &[
                ShownState::Scheduled,
                ShownState::Failed,
                ShownState::Cancelled,
            ],
            Self::Delete => &[
                ShownState::Succeeded,
                ShownState::Failed,
                ShownState::Cancelled,
            ],
        }
    }

    /// Returns `filter` for those jobs alone that it can change; none where there are none.
    fn narrow(self, filter: &Filter) -> Option<Filter> {
        let is_named =
            |state: &&ShownState| filter.states.is_empty() || filter.states.contains(state);
        let states: Vec<_> = self.states().iter().filter(is_named).copied().collect();
        (!states.is_empty()).then(|| Filter {
            states,
            ..filter.clone()
        })
    }

    /// Tells whether it can change a job that stands in one of its states.
    fn can_change(self, job: &Job, since: Timestamp) -> bool {
        let status = &job.status;
        let is_later = |instant: Option<Timestamp>| instant.is_some_and(|at| at > since);
        match self {
            Self::Cancel => !status.cancel_requested,
            Self::Retry => !is_later(status.started_at) && !is_later(status.finished_at),
            Self::Delete => true,
        }
    }
}

impl Engine {
    /// Cancels, retries or deletes jobs that match `filter`, newest first.
    ///
    /// It stops after [`BULK_MATCHES_MAX`] matches or [`BULK_TIME_MAX`], once it has changed
    /// something; until then it goes on to the last job there is. Others write in between.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: some of the jobs may have been changed. It can be repeated.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have changed some of the jobs.
    pub async fn bulk(&self, action: BulkAction, filter: &Filter) -> Result<Bulk, StoreError> {
        let Some(filter) = action.narrow(filter) else {
            return Ok(Bulk::default());
        };
        let shared = &self.shared;
        let began = shared.clock.now();
        let mut run = Run {
            engine: self,
            action,
            since: match action {
                BulkAction::Retry => shared.retries.begun(&filter, began),
                BulkAction::Cancel | BulkAction::Delete => began,
            },
            filter,
            began,
            bulk: Bulk::default(),
        };
        let done = run.run().await;
        if action == BulkAction::Retry {
            let now = shared.clock.now();
            // After an error it is repeated as well.
            let is_cut_short = done.is_err() || run.bulk.more;
            shared
                .retries
                .ended(run.filter, run.since, now, is_cut_short);
        }
        done.map(|()| run.bulk)
    }
}

/// One call under way.
struct Run<'a> {
    engine: &'a Engine,
    action: BulkAction,
    filter: Filter,
    /// When this call began, or of a retry the first of those that it goes on with.
    since: Timestamp,
    began: Timestamp,
    bulk: Bulk,
}

impl Run<'_> {
    async fn run(&mut self) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = Page {
                size: BULK_JOBS_MAX,
                after,
            };
            let listing = self.shared().store.list(&self.filter, page).await?;
            let mut jobs = listing.jobs;
            jobs.retain(|job| self.action.can_change(job, self.since));
            while !jobs.is_empty() {
                let room = self.room();
                if room == 0 {
                    self.bulk.more = true;
                    return Ok(());
                }
                let batch = self.batch(&mut jobs, room);
                self.change(batch).await?;
                // Submits go in between.
                tokio::task::yield_now().await;
            }
            match listing.next {
                None => return Ok(()),
                Some(_) if self.room() == 0 => {
                    self.bulk.more = true;
                    return Ok(());
                }
                next => after = next,
            }
            tokio::task::yield_now().await;
        }
    }

    fn shared(&self) -> &Shared {
        &self.engine.shared
    }

    /// Returns how many matches more the call may take.
    fn room(&self) -> usize {
        if self.bulk.changed == 0 {
            return BULK_JOBS_MAX;
        }
        if self.shared().clock.now().since(self.began) >= BULK_TIME_MAX {
            return 0;
        }
        BULK_MATCHES_MAX.saturating_sub(self.bulk.matched)
    }

    /// Takes what is changed in one commit.
    fn batch(&self, jobs: &mut Vec<Job>, room: usize) -> Vec<Job> {
        let mut bytes = 0_usize;
        let fits = |job: &Job| {
            // Each page of a payload that is deleted has to be gone to.
            let result = job.result.as_ref().map_or(0, |result| result.bytes);
            let is_within = bytes < COMMIT_BYTES_MAX || self.action != BulkAction::Delete;
            bytes = bytes.saturating_add(job.spec.input.bytes + result);
            is_within
        };
        let count = jobs.iter().map(fits).take_while(|fits| *fits).count();
        jobs.drain(..count.min(room)).collect()
    }

    /// Changes jobs that match. One that has changed since it was looked at is looked at again.
    async fn change(&mut self, jobs: Vec<Job>) -> Result<(), StoreError> {
        self.bulk.matched += jobs.len();
        let mut jobs = jobs;
        for _ in 0..BULK_TRIES_MAX {
            let changed_meanwhile = match self.action {
                BulkAction::Cancel => self.apply(jobs, &Event::CancelRequested).await?,
                BulkAction::Retry => self.apply(jobs, &Event::RetryRequested).await?,
                BulkAction::Delete => self.delete(jobs).await?,
            };
            let now = self.shared().clock.now();
            jobs = changed_meanwhile;
            jobs.retain(|job| {
                self.filter.matches(&job.spec, &job.status, now)
                    && self.action.can_change(job, self.since)
            });
            if jobs.is_empty() {
                return Ok(());
            }
        }
        // They changed again and again, and match all the same.
        self.bulk.more = true;
        Ok(())
    }

    /// Lets an event happen to jobs as they were seen, and returns those that are others now.
    async fn apply(&mut self, jobs: Vec<Job>, event: &Event) -> Result<Vec<Job>, StoreError> {
        let changes = jobs.iter().map(|job| Change {
            if_version: Some(job.status.version),
            ..Change::new(job.spec.id, event.clone())
        });
        let applied = self.shared().apply(changes.collect()).await?;
        let mut differing = Vec::new();
        for applied in applied {
            match applied {
                Ok(job) => {
                    self.bulk.changed += 1;
                    self.engine.tell_to_stop(&job);
                }
                Err(Refused::VersionDiffers(job)) => differing.push(*job),
                // Somebody else was quicker, or there is a reason of its own against it.
                Err(
                    Refused::Rejected(..)
                    | Refused::Repeated(_)
                    | Refused::UniqueKeyTaken { .. }
                    | Refused::Gone
                    | Refused::Unknown,
                ) => {}
            }
        }
        Ok(differing)
    }

    /// Deletes jobs as they were seen, and returns those that are others now.
    async fn delete(&mut self, jobs: Vec<Job>) -> Result<Vec<Job>, StoreError> {
        let engine = self.engine;
        let deletions = jobs.iter().map(|job| {
            let (id, version) = (job.spec.id, job.status.version);
            engine.delete(id, Some(version))
        });
        let mut differing = Vec::new();
        for deleted in join_all(deletions).await {
            match deleted? {
                Deleted::Done => self.bulk.changed += 1,
                Deleted::VersionDiffers(job) => differing.push(*job),
                Deleted::NotFinal(_) | Deleted::Gone | Deleted::Unknown => {}
            }
        }
        Ok(differing)
    }
}

/// Retries that were cut short, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Retries(Mutex<VecDeque<CutShort>>);

#[derive(Debug)]
struct CutShort {
    filter: Filter,
    /// When the first of its calls began.
    began: Timestamp,
    /// When the last of them ended.
    ended: Timestamp,
}

impl Retries {
    /// Returns when a retry began that `filter` is repeated for: `now` where it is none.
    fn begun(&self, filter: &Filter, now: Timestamp) -> Timestamp {
        let mut known = self.lock();
        known.retain(|retry| now.since(retry.ended) < BULK_RETRIES_KEPT);
        let same = known.iter().find(|retry| retry.filter == *filter);
        same.map_or(now, |retry| retry.began)
    }

    fn ended(&self, filter: Filter, began: Timestamp, ended: Timestamp, is_cut_short: bool) {
        let mut known = self.lock();
        known.retain(|retry| retry.filter != filter);
        if !is_cut_short {
            return;
        }
        if known.len() >= BULK_RETRIES_MAX {
            known.pop_front();
        }
        known.push_back(CutShort {
            filter,
            began,
            ended,
        });
    }

    // Nothing in here panics while it holds the lock, so a poisoned one is still good.
    fn lock(&self) -> MutexGuard<'_, VecDeque<CutShort>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_core::Name;
    use std::time::Duration;

    fn of_task(task: &str) -> Filter {
        Filter {
            task: Name::new(task).ok(),
            ..Filter::default()
        }
    }

    #[test]
    fn a_retry_that_was_cut_short_is_remembered_for_a_while() {
        let retries = Retries::default();
        let first = Timestamp::from_millis(1_000_000);
        let second = first.after(Duration::from_secs(9));
        assert_eq!(retries.begun(&of_task("a"), first), first);
        retries.ended(of_task("a"), first, second, true);
        assert_eq!(retries.begun(&of_task("b"), second), second, "another");
        assert_eq!(retries.begun(&of_task("a"), second), first);
        let late = second.after(BULK_RETRIES_KEPT);
        assert_eq!(retries.begun(&of_task("a"), late), late);
        retries.ended(of_task("a"), first, second, true);
        retries.ended(of_task("a"), first, second, false);
        assert_eq!(retries.begun(&of_task("a"), second), second, "it ended");
    }

    #[test]
    fn only_so_many_retries_are_remembered() {
        let retries = Retries::default();
        let now = Timestamp::from_millis(1_000_000);
        let later = now.after(Duration::from_secs(1));
        for n in 0..=BULK_RETRIES_MAX {
            retries.ended(of_task(&n.to_string()), now, now, true);
        }
        assert_eq!(retries.begun(&of_task("0"), later), later);
        assert_eq!(retries.begun(&of_task("1"), later), now);
    }

    #[test]
    fn an_action_looks_only_for_what_it_can_change() {
        let of = |states: &[ShownState]| Filter {
            states: states.to_vec(),
            ..Filter::default()
        };
        let narrowed = |action: BulkAction, states: &[ShownState]| {
            let filter = action.narrow(&of(states));
            filter.map(|filter| filter.states)
        };
        for action in [BulkAction::Cancel, BulkAction::Retry, BulkAction::Delete] {
            assert_eq!(narrowed(action, &[]), Some(action.states().to_vec()));
            let all = narrowed(action, &ShownState::ALL);
            assert_eq!(all, Some(action.states().to_vec()));
        }
        let cases = [
            (BulkAction::Cancel, ShownState::Failed),
            (BulkAction::Retry, ShownState::Succeeded),
            (BulkAction::Delete, ShownState::Ready),
        ];
        for (action, state) in cases {
            assert_eq!(narrowed(action, &[state]), None, "{action:?}");
            let other = action.states()[1];
            assert_eq!(narrowed(action, &[state, other]), Some(vec![other]));
        }
    }
}
