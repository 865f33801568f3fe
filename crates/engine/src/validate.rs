//! What a task asks of its inputs beyond their content type.
//!
//! The engine knows no schema language: a task brings somebody who checks ([`Validate`]). Inputs
//! that take long to check are checked on a thread where nobody waits for it.

use crate::engine::Shared;
use crate::store::NewJob;
use crate::submit::SubmitError;
use anteroom_core::limits::VALIDATED_INLINE_BYTES_MAX;
use std::fmt;
use std::panic::resume_unwind;
use tokio::task::spawn_blocking;

/// Checks the inputs of a task, which are JSON by their content type.
///
/// The time that it takes has to be bounded by the length of the input, which is a stranger's.
pub trait Validate: fmt::Debug + Send + Sync + 'static {
    /// Returns what is wrong with an input, in as few as help to mend it; none if it is well.
    fn check(&self, input: &[u8]) -> Vec<Invalid>;

    /// Returns the JSON Schema that it goes by, as JSON, if it goes by one.
    fn schema(&self) -> Option<&str>;
}

/// One thing that is wrong with an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Where: a JSON pointer by RFC 6901; empty for all of the input.
    pub pointer: String,
    /// What, to be read after the place.
    pub detail: String,
}

impl Shared {
    /// Checks a job's input against what its task asks for.
    pub(crate) async fn validate(&self, new: &NewJob) -> Result<(), SubmitError> {
        let registered = self.tasks.get(&new.spec.task);
        let validator = registered.and_then(|registered| registered.task.validator.clone());
        let Some(validator) = validator else {
            return Ok(());
        };
        let input = new.input.bytes.clone();
        let errors = if input.len() <= VALIDATED_INLINE_BYTES_MAX {
            validator.check(&input)
        } else {
            match spawn_blocking(move || validator.check(&input)).await {
                Ok(errors) => errors,
                // It panicked, and so does whoever asked.
                Err(error) => resume_unwind(error.into_panic()),
            }
        };
        if errors.is_empty() {
            return Ok(());
        }
        Err(SubmitError::InvalidInput {
            task: new.spec.task.clone(),
            errors,
        })
    }
}
