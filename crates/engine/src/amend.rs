//! What its owner changes of a job that waits: checked here, decided by the lifecycle.

use crate::engine::Engine;
use crate::queues::QueueError;
use crate::store::{Applied, Change, StoreError};
use anteroom_core::limits::{AHEAD_MAX, TAG_VALUE_BYTES_MAX, TAGS_MAX};
use anteroom_core::{Amendment, Event, JobId, Name, Timestamp};

/// Why an amendment was not made. Nothing changed, unless the store says it does not know.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AmendError {
    /// The queue is kept for the server.
    #[error("the queue name {queue} begins with what the server keeps for itself")]
    QueueReserved {
        /// The name.
        queue: Name,
    },
    /// A part is out of its range.
    #[error("{option} {detail}")]
    OutOfRange {
        /// The part, as it is written on the wire.
        option: &'static str,
        /// What it is and what it may be.
        detail: String,
    },
    /// The queue is not there, and is not to be made.
    #[error(transparent)]
    Queue(QueueError),
    /// The store could not keep it. Worth a retry where the store's error is.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<QueueError> for AmendError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Store(error) => Self::Store(error),
            error => Self::Queue(error),
        }
    }
}

impl Engine {
    /// Changes what a waiting job was submitted with. With `if_version` only if that is the
    /// version it has. A queue that was not used yet is made, as for a submit.
    ///
    /// # Errors
    ///
    /// [`AmendError`].
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have changed the job.
    pub async fn amend(
        &self,
        id: JobId,
        amendment: Amendment,
        if_version: Option<u64>,
    ) -> Result<Applied, AmendError> {
        check(&amendment, self.shared.clock.now())?;
        if let Some(queue) = &amendment.queue {
            self.shared.make_queue_for(id, queue).await?;
        }
        let amendment = Box::new(amendment);
        let change = Change {
            if_version,
            ..Change::new(id, Event::Amended { amendment })
        };
        Ok(self.shared.apply_one(change).await?)
    }
}

fn check(amendment: &Amendment, now: Timestamp) -> Result<(), AmendError> {
    if let Some(queue) = amendment.queue.as_ref().filter(|queue| queue.is_reserved()) {
        let queue = queue.clone();
        return Err(AmendError::QueueReserved { queue });
    }
    let refuse = |option, detail| Err(AmendError::OutOfRange { option, detail });
    if amendment
        .run_at
        .is_some_and(|instant| instant.since(now) > AHEAD_MAX)
    {
        return refuse("run_at", "lies more than a year ahead".to_owned());
    }
    let Some(tags) = &amendment.tags else {
        return Ok(());
    };
    if tags.len() > TAGS_MAX {
        let detail = format!("are {}; the limit is {TAGS_MAX}", tags.len());
        return refuse("tags", detail);
    }
    if let Some((name, value)) = tags
        .iter()
        .find(|(_, value)| value.len() > TAG_VALUE_BYTES_MAX)
    {
        let bytes = value.len();
        let detail = format!(
            "have a value of {bytes} bytes under {name}; the limit is {TAG_VALUE_BYTES_MAX}"
        );
        return refuse("tags", detail);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_amendment_is_held_to_the_bounds_of_a_submit() {
        let now = Timestamp::from_millis(1_000_000);
        let with_run_at = |run_at| Amendment {
            run_at: Some(run_at),
            ..Amendment::default()
        };
        let in_queue = |queue| Amendment {
            queue: Name::new(queue).ok(),
            ..Amendment::default()
        };
        let with_tags = |count: usize, bytes: usize| {
            let tag = |n: usize| (Name::new(&n.to_string()).unwrap(), "x".repeat(bytes));
            Amendment {
                tags: Some((0..count).map(tag).collect()),
                ..Amendment::default()
            }
        };
        let too_late = now.after(AHEAD_MAX + Duration::from_millis(1));
        for (amendment, fits) in [
            (Amendment::default(), true),
            (with_run_at(now.after(AHEAD_MAX)), true),
            (with_run_at(too_late), false),
            (with_run_at(Timestamp::MIN), true),
            (in_queue("q"), true),
            (in_queue("anteroom.q"), false),
            (with_tags(TAGS_MAX, TAG_VALUE_BYTES_MAX), true),
            (with_tags(TAGS_MAX + 1, 1), false),
            (with_tags(1, TAG_VALUE_BYTES_MAX + 1), false),
        ] {
            assert_eq!(check(&amendment, now).is_ok(), fits, "{amendment:?}");
        }
    }
}
