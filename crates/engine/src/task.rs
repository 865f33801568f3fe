//! A task: a named kind of work, with what holds for all of its jobs.

use crate::run::Runner;
use crate::validate::Validate;
use anteroom_core::limits::{
    CONCURRENCY_FUNCTION_DEFAULT, DEFAULT_QUEUE, KILL_GRACE_DEFAULT, MAX_ATTEMPTS_DEFAULT,
    TIMEOUT_DEFAULT,
};
use anteroom_core::{Name, NameError, RetryPolicy};
use std::sync::Arc;
use std::time::Duration;

/// A named kind of work.
#[derive(Clone, Debug)]
pub struct Task {
    /// What jobs name it by.
    pub name: Name,
    /// Who runs its jobs.
    pub runner: TaskRunner,
    /// The queue of its jobs that name none. Default `default`.
    pub queue: Name,
    /// How long an attempt may run, where the job does not say. Default 5 m.
    pub timeout: Duration,
    /// How many attempts a job gets, where it does not say. Default 5.
    pub max_attempts: u32,
    /// How long a failed job waits for its next attempt.
    pub retry: RetryPolicy,
    /// Attempts at once on this node. Default 256.
    pub concurrency: usize,
    /// How long an attempt that was told to stop may take. Default 5 s.
    pub kill_grace: Duration,
    /// The media type of its inputs (parameters apart); none: any, or any that is JSON where there
    /// is a validator.
    pub content_type: Option<String>,
    /// Who checks its inputs, which are JSON then; none: nobody.
    pub validator: Option<Arc<dyn Validate>>,
}

/// Who runs a task's jobs.
#[derive(Clone, Debug)]
pub enum TaskRunner {
    /// This process.
    Here(Arc<dyn Runner>),
    /// Workers that pull.
    Pull,
}

impl TaskRunner {
    /// Tells whether workers run them.
    pub const fn is_pull(&self) -> bool {
        matches!(self, Self::Pull)
    }

    /// Returns the word for it: `function`, `exec`, `push`, `pull`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Here(runner) => runner.kind(),
            Self::Pull => "pull",
        }
    }
}

impl Task {
    /// Returns a task with the defaults.
    ///
    /// # Errors
    ///
    /// [`NameError`] when `name` is none.
    pub fn new(name: &str, runner: TaskRunner) -> Result<Self, NameError> {
        Ok(Self {
            name: Name::new(name)?,
            runner,
            queue: Name::new(DEFAULT_QUEUE)?,
            timeout: TIMEOUT_DEFAULT,
            max_attempts: MAX_ATTEMPTS_DEFAULT,
            retry: RetryPolicy::default(),
            concurrency: CONCURRENCY_FUNCTION_DEFAULT,
            kill_grace: KILL_GRACE_DEFAULT,
            content_type: None,
            validator: None,
        })
    }
}
