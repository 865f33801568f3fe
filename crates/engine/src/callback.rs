//! Callbacks: who asked to be told of a job's end is told by a job of its own.
//!
//! Beside the path: a store that brings a job with a `callback_url` to its end stores what
//! [`callback_of`] gives in the same commit, so that no crash between the two loses or doubles it.
//! From then on it is a job as any other (task and queue [`CALLBACK_TASK`]), which an engine with
//! [`Callbacks`] dispatches. Its target is looked at before the submit is taken, here, and again
//! by whoever sends it: names lead elsewhere by then. Nothing here sends anything.

use crate::attempt::jitter;
use crate::engine::{Registered, Shared};
use crate::run::Runner;
use crate::store::NewJob;
use crate::submit::SubmitError;
use crate::task::{Task, TaskRunner};
use anteroom_core::limits::{
    CALLBACK_ATTEMPTS_MAX, CALLBACK_CHECK_TIMEOUT, CALLBACK_CHECKS_AT_ONCE_MAX, CALLBACK_TASK,
    CALLBACK_TIMEOUT, CALLBACKS_AT_ONCE_MAX, KILL_GRACE_DEFAULT,
};
use anteroom_core::{Name, RetryPolicy};
use async_trait::async_trait;
use futures_util::stream::{StreamExt, iter};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

mod job;
mod url;

pub use job::{another_id, callback_of};
pub use url::{CallbackUrl, CallbackUrlError};

/// The waits after the first and after later attempts, before their spread.
const RETRY_DELAYS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    Duration::from_hours(24),
];

/// Who sends callbacks, and who says where they may go.
#[derive(Clone, Debug)]
pub struct Callbacks {
    /// Delivers them: the input of its jobs is what to send, and their `callback_url` where to.
    pub runner: Arc<dyn Runner>,
    /// Is asked about each target before a submit that names it is taken.
    pub targets: Arc<dyn CheckTarget>,
}

/// Says which targets callbacks may go to.
#[async_trait]
pub trait CheckTarget: fmt::Debug + Send + Sync + 'static {
    /// Tells whether callbacks may go to a URL now.
    ///
    /// # Errors
    ///
    /// Why they may not, to be read after the URL.
    async fn check(&self, url: &str) -> Result<(), String>;
}

pub(crate) fn task_name() -> Name {
    Name::new(CALLBACK_TASK).expect("what the task is named by is a name")
}

/// Returns the task of callbacks, for an engine that sends them.
pub(crate) fn task(callbacks: &Callbacks) -> Task {
    Task {
        name: task_name(),
        runner: TaskRunner::Here(callbacks.runner.clone()),
        queue: task_name(),
        timeout: CALLBACK_TIMEOUT,
        max_attempts: CALLBACK_ATTEMPTS_MAX,
        retry: retry(1),
        concurrency: CALLBACKS_AT_ONCE_MAX,
        kill_grace: KILL_GRACE_DEFAULT,
        content_type: None,
        validator: None,
    }
}

impl Registered {
    /// Returns what says how long a job of this task waits after its attempt number `attempt`.
    pub(crate) fn retry(&self, attempt: u32) -> RetryPolicy {
        if self.task.name.is_reserved() {
            retry(attempt)
        } else {
            self.task.retry
        }
    }
}

/// Returns a policy whose wait is that after attempt number `attempt` of a callback.
pub(crate) fn retry(attempt: u32) -> RetryPolicy {
    let at = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    let wait = RETRY_DELAYS[at.min(RETRY_DELAYS.len() - 1)];
    RetryPolicy {
        initial: wait,
        factor: 1.0,
        max: wait,
        ..RetryPolicy::default()
    }
}

/// Returns each target once, with the first job that names it.
fn targets_of(jobs: &[NewJob]) -> Vec<(usize, Arc<str>)> {
    let mut seen = HashSet::new();
    let named = jobs.iter().enumerate();
    named
        .filter_map(|(index, job)| Some((index, job.spec.callback_url.clone()?)))
        .filter(|(_, url)| seen.insert(url.clone()))
        .collect()
}

impl Shared {
    /// Returns a task that this node has, that of callbacks included.
    pub(crate) fn registered(&self, task: &Name) -> Option<&Arc<Registered>> {
        let callbacks = self.callbacks.as_ref();
        let named = self.tasks.get(task);
        named.or_else(|| callbacks.filter(|it| it.task.name == *task))
    }

    /// Returns how long a job waits whose attempt number `attempt` was lost.
    pub(crate) fn retry_in(&self, task: &Name, attempt: u32) -> Duration {
        self.retry_policy(task, attempt).delay(attempt, jitter())
    }

    /// Returns what says how long a job of a task waits after its attempt number `attempt`, also where
    /// the task is none of this node's any more.
    pub(crate) fn retry_policy(&self, task: &Name, attempt: u32) -> RetryPolicy {
        match self.registered(task) {
            Some(registered) => registered.retry(attempt),
            None if **task == *CALLBACK_TASK => retry(attempt),
            None => RetryPolicy::default(),
        }
    }

    /// Refuses jobs to be inserted if one of them calls back where callbacks may not go. Each target
    /// is looked at once, however many jobs name it, and for so long only: what was not looked at by then
    /// is taken, since whoever sends looks again.
    pub(crate) async fn check_targets(&self, jobs: &[NewJob]) -> Result<(), SubmitError> {
        match targets_of(jobs) {
            targets if targets.is_empty() => Ok(()),
            // In a box: most jobs have none, and need no room for it.
            targets => Box::pin(self.look_at(targets, jobs)).await,
        }
    }

    async fn look_at(
        &self,
        targets: Vec<(usize, Arc<str>)>,
        jobs: &[NewJob],
    ) -> Result<(), SubmitError> {
        let looks = targets.into_iter().map(|(index, url)| async move {
            let looked = self.check_target(&url).await;
            looked.err().map(|reason| (index, url, reason))
        });
        let looked: Vec<_> = iter(looks)
            .buffered(CALLBACK_CHECKS_AT_ONCE_MAX)
            .take_until(self.clock.sleep(CALLBACK_CHECK_TIMEOUT))
            .collect()
            .await;
        for (index, url, reason) in looked.into_iter().flatten() {
            // The same again gives its job, wherever the name of its target leads by now.
            if self.is_replay(&jobs[index]).await? {
                continue;
            }
            return Err(SubmitError::CallbackRefused { index, url, reason });
        }
        Ok(())
    }

    async fn check_target(&self, url: &str) -> Result<(), String> {
        let Some(callbacks) = &self.options.callbacks else {
            return Err("no callbacks are sent here".to_owned());
        };
        callbacks.targets.check(url).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_core::Jitter;

    #[test]
    fn the_waits_are_those_of_the_contract() {
        let waits = [
            5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400, 86_400,
        ];
        for (attempt, seconds) in (1..).zip(waits) {
            let wait = retry(attempt).delay(attempt, Jitter::NONE);
            assert_eq!(wait, Duration::from_secs(seconds), "attempt {attempt}");
        }
        assert!(retry(1).delay(1, Jitter::new(1.0)) > Duration::from_secs(5));
        assert_eq!(RETRY_DELAYS.len() + 1, CALLBACK_ATTEMPTS_MAX as usize);
    }
}
