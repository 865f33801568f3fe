//! Step 1 of a job's path in two: many submissions are checked each on its own, and stored together.
//!
//! [`Engine::submit_all`] does both and stops at the first refusal. Whoever wants to tell of all
//! refusals, or to leave out what is refused, admits each and submits those that were admitted.

use crate::engine::Engine;
use crate::store::NewJob;
use crate::submit::{Submission, SubmitError, Submitted};
use anteroom_core::Name;
use anteroom_core::limits::SUBMIT_JOBS_MAX;

/// A submission that was checked and has its id. Dropped, it never was.
#[derive(Clone, Debug)]
pub struct Admitted(NewJob);

impl Admitted {
    /// Returns the queue that the job will wait in.
    pub fn queue(&self) -> &Name {
        &self.0.spec.queue
    }
}

impl Engine {
    /// Checks a submission and makes the job that it asks for, without storing it.
    ///
    /// # Errors
    ///
    /// [`SubmitError`], as far as it concerns this one submission.
    pub async fn admit(&self, submission: Submission) -> Result<Admitted, SubmitError> {
        self.shared.admit(submission).await.map(Admitted)
    }

    /// Checks that an admitted job that is to be submitted alone may still start by its
    /// `start_before`, as [`Engine::submit`] does. Many at once are not checked: what they mean for
    /// each other is not known.
    ///
    /// # Errors
    ///
    /// [`SubmitError::StartsTooLate`], or the store's.
    pub async fn check_in_time(&self, admitted: &Admitted) -> Result<(), SubmitError> {
        self.shared.check_in_time(&admitted.0).await
    }

    /// Submits what was admitted, all or none, in one commit, and returns what became of each, in
    /// their order.
    ///
    /// # Errors
    ///
    /// [`SubmitError`]: none was submitted.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have submitted the jobs, all or none of them.
    pub async fn submit_admitted(
        &self,
        admitted: Vec<Admitted>,
    ) -> Result<Vec<Submitted>, SubmitError> {
        let count = admitted.len();
        if count > SUBMIT_JOBS_MAX {
            return Err(SubmitError::TooMany {
                jobs: count,
                limit: SUBMIT_JOBS_MAX,
            });
        }
        let new = admitted.into_iter().map(|Admitted(new)| new).collect();
        self.shared.insert_all(new).await
    }
}
