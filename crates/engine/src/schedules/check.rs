//! What a schedule has to be, to be put.

use super::document::Kept;
use super::{Expected, Schedule, ScheduleError};
use crate::engine::Shared;
use crate::store::Document;
use crate::submit::{Submission, SubmitError};
use anteroom_core::Name;
use anteroom_core::limits::{SCHEDULE_INPUT_BYTES_MAX, SCHEDULES_BYTES_MAX, SCHEDULES_MAX};
use std::sync::Arc;

impl Shared {
    /// Refuses to change what cannot be changed.
    pub(super) fn check_changeable(&self, name: &Name) -> Result<(), ScheduleError> {
        let owned = || name.clone();
        if name.is_reserved() {
            return Err(ScheduleError::Unknown { name: owned() });
        }
        if self.schedules.configured.contains_key(name) {
            return Err(ScheduleError::Configured { name: owned() });
        }
        Ok(())
    }

    /// Checks what a schedule submits as if it were submitted now.
    pub(super) async fn check_schedule(&self, schedule: &Schedule) -> Result<(), ScheduleError> {
        let submission = &schedule.submission;
        if submission.input.bytes.len() > SCHEDULE_INPUT_BYTES_MAX {
            return Err(too_large(submission));
        }
        let check = async {
            let new = self.admit(submission.clone()).await?;
            self.check_queue(&new.spec.queue)?;
            self.check_targets(&[new]).await
        };
        check.await.map_err(|error| match error {
            SubmitError::Store(error) => ScheduleError::Store(error),
            error => ScheduleError::Submission(error),
        })
    }

    fn check_queue(&self, queue: &Name) -> Result<(), SubmitError> {
        if self.queues.takes(queue) {
            return Ok(());
        }
        let queue = queue.clone();
        Err(SubmitError::UnknownQueue { queue })
    }

    /// Refuses one that would be too many, or too large with the others.
    pub(super) fn check_room(
        &self,
        name: &Name,
        schedule: &Schedule,
        documents: &[Document],
    ) -> Result<(), ScheduleError> {
        let kept = documents.iter().filter(|it| it.name != *name);
        let kept: Vec<Arc<Schedule>> = kept
            .filter_map(|document| Some(self.schedules.of_document(document)?.1))
            .collect();
        if kept.len() >= SCHEDULES_MAX {
            return Err(too_many(name));
        }
        let bytes = |schedule: &Schedule| schedule.submission.input.bytes.len();
        let together = kept.iter().map(|it| bytes(it)).sum::<usize>() + bytes(schedule);
        if together > SCHEDULES_BYTES_MAX {
            return Err(ScheduleError::TooLargeTogether {
                bytes: together,
                limit: SCHEDULES_BYTES_MAX,
            });
        }
        Ok(())
    }
}

pub(super) fn check_expected(
    name: &Name,
    expected: Expected,
    before: Option<&Kept>,
) -> Result<(), ScheduleError> {
    let revision = before.map_or(0, |kept| kept.revision);
    let is_met = match expected {
        Expected::Anything => true,
        Expected::Nothing => before.is_none(),
        Expected::Revision(wanted) => before.is_some() && wanted == revision,
    };
    if is_met {
        return Ok(());
    }
    let name = name.clone();
    Err(ScheduleError::VersionDiffers { name, revision })
}

pub(super) fn too_many(name: &Name) -> ScheduleError {
    ScheduleError::TooMany {
        name: name.clone(),
        limit: SCHEDULES_MAX,
    }
}

pub(super) fn too_large(submission: &Submission) -> ScheduleError {
    ScheduleError::Submission(SubmitError::InputTooLarge {
        bytes: submission.input.bytes.len(),
        limit: SCHEDULE_INPUT_BYTES_MAX,
    })
}
