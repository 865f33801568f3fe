//! Inserts, decided in memory: what is new, what stands for a job that is there already, and what is
//! refused.

use super::batch::Touched;
use super::change::Keys;
use super::transact::{Decisions, Remembered};
use crate::callback::another_id;
use crate::store::{Inserted, NewJob, StoreError};
use anteroom_core::{Fingerprint, Idempotency, JobId, Name};
use std::collections::BTreeMap;

/// Ids that are tried for a callback.
const CALLBACK_IDS_TRIED: usize = 16;

/// A submit that is to be remembered by its key.
#[derive(Clone, Debug)]
pub(super) struct NewSubmit {
    pub(super) task: Name,
    pub(super) by: Idempotency,
    pub(super) remembered: Remembered,
}

impl Decisions<'_> {
    /// Inserts jobs, all or none.
    pub(super) fn insert(&mut self, jobs: &[NewJob]) -> Result<Vec<Inserted>, StoreError> {
        let mut inserted = Vec::with_capacity(jobs.len());
        let mut done = Vec::new();
        let mut more: BTreeMap<Name, u64> = BTreeMap::new();
        for (index, job) in jobs.iter().enumerate() {
            match self.insert_one(index, job, &mut done) {
                Ok(one) => {
                    if matches!(one, Inserted::New(_)) {
                        *more.entry(job.spec.queue.clone()).or_default() += 1;
                    }
                    inserted.push(one);
                }
                Err(refusal) => {
                    self.undo(done);
                    return Err(refusal);
                }
            }
        }
        if let Some(refusal) = self.full_queue(&more) {
            self.undo(done);
            return Err(refusal);
        }
        for (queue, more) in more {
            if let Some(depth) = self.depths.get_mut(&queue) {
                *depth += more;
            }
        }
        for part in done {
            if let Undo::Job(id) = part {
                self.waits(id);
            }
        }
        Ok(inserted)
    }

    fn insert_one(
        &mut self,
        index: usize,
        job: &NewJob,
        done: &mut Vec<Undo>,
    ) -> Result<Inserted, StoreError> {
        let task = &job.spec.task;
        if let Some((by, fingerprint)) = &job.idempotency
            && let Some(known) = self.remembered(task, by)
        {
            return self.replay(index, &known, *fingerprint);
        }
        let holder = self.keys.holder_of(&job.spec);
        let holder = holder.and_then(|id| Some((id, self.batch.jobs.get(&id)?.job())));
        let (id, inserted) = if let Some((id, job)) = holder {
            (id, Inserted::Duplicate(Box::new(job)))
        } else {
            let id = job.spec.id;
            self.check_new(job)?;
            if let Some(key) = Keys::key(&job.spec) {
                let before = self.keys.held.insert(key.clone(), Some(id));
                done.push(Undo::Hold(key, before.into_iter().collect()));
            }
            let spec = job.spec.clone();
            let touched = Touched::fresh(spec, job.status, job.input.clone());
            self.batch.jobs.insert(id, touched);
            done.push(Undo::Job(id));
            (id, Inserted::New(None))
        };
        if let Some((by, fingerprint)) = &job.idempotency {
            let remembered = Remembered {
                fingerprint: *fingerprint,
                id,
                duplicate: matches!(inserted, Inserted::Duplicate(_)),
            };
            self.submits.push(NewSubmit {
                task: task.clone(),
                by: by.clone(),
                remembered,
            });
            done.push(Undo::Submit);
        }
        Ok(inserted)
    }

    fn check_new(&self, job: &NewJob) -> Result<(), StoreError> {
        let id = job.spec.id;
        if job.status.is_too_late(self.now) {
            return Err(StoreError::TooLate { id });
        }
        if self.batch.jobs.contains_key(&id) || self.taken.contains(&id) {
            return Err(StoreError::Exists { id });
        }
        Ok(())
    }

    /// Answers what a key remembers, if it was used for the same.
    fn replay(
        &self,
        index: usize,
        known: &Remembered,
        fingerprint: Fingerprint,
    ) -> Result<Inserted, StoreError> {
        if known.fingerprint != fingerprint {
            return Err(StoreError::KeyReused { index });
        }
        let Remembered { id, duplicate, .. } = *known;
        match self.batch.jobs.get(&id) {
            Some(job) => Ok(Inserted::Replayed {
                job: Box::new(job.job()),
                duplicate,
            }),
            None => Err(StoreError::KeyGone { index, id }),
        }
    }

    fn remembered(&self, task: &Name, by: &Idempotency) -> Option<Remembered> {
        let fresh = self.submits.iter().rev();
        let mut fresh = fresh.filter(|submit| submit.task == *task && submit.by == *by);
        match fresh.next() {
            Some(submit) => Some(submit.remembered),
            None => self.remembered.get(&(task.clone(), by.clone())).copied(),
        }
    }

    /// Returns why so many more jobs of each queue are not to be inserted: more would wait in one
    /// than may.
    fn full_queue(&self, more: &BTreeMap<Name, u64>) -> Option<StoreError> {
        more.iter().find_map(|(queue, more)| {
            let limit = self.window.rule(queue).max_depth?;
            let waiting = *self.depths.get(queue)?;
            (waiting + more > limit).then(|| StoreError::QueueFull {
                queue: queue.clone(),
                waiting,
                limit,
            })
        })
    }

    fn undo(&mut self, parts: Vec<Undo>) {
        for part in parts.into_iter().rev() {
            match part {
                Undo::Job(id) => drop(self.batch.jobs.remove(&id)),
                Undo::Hold(key, before) => {
                    self.keys.held.remove(&key);
                    self.keys
                        .held
                        .extend(before.into_iter().map(|before| (key.clone(), before)));
                }
                Undo::Submit => drop(self.submits.pop()),
            }
        }
    }

    /// Inserts the job that tells of an end.
    pub(super) fn insert_callback(&mut self, mut callback: NewJob) {
        for _ in 0..CALLBACK_IDS_TRIED {
            let id = callback.spec.id;
            if !self.batch.jobs.contains_key(&id) && !self.taken.contains(&id) {
                let spec = callback.spec;
                let touched = Touched::fresh(spec, callback.status, callback.input);
                self.batch.jobs.insert(id, touched);
                self.callbacks.push(id);
                self.waits(id);
                return;
            }
            callback.spec_mut().id = another_id(id);
        }
    }

    /// Lets a job wait that may be claimed in this very transaction.
    pub(super) fn waits(&mut self, id: JobId) {
        let Some(job) = self.batch.jobs.get(&id) else {
            return;
        };
        let Some(offer) = job.offer(self.now) else {
            return;
        };
        if self.is_wanted(&offer.lane) {
            self.window.place(&offer);
        }
    }
}

/// A part of an insert of which another part is refused.
enum Undo {
    Job(JobId),
    /// The key, and who had it by what was decided before; none where nothing was.
    Hold((String, String), Vec<Option<JobId>>),
    Submit,
}
