//! What the memory store does about idempotency keys and unique keys.

use super::super::archive::KeptSubmit;
use super::super::{Inserted, NewJob, PlaceOf, StoreError};
use super::jobs::{Entry, Jobs};
use anteroom_core::limits::IDEMPOTENCY_KEPT;
use anteroom_core::{Fingerprint, Idempotency, JobId, Label, Name, Timestamp};
use std::collections::{HashMap, HashSet, VecDeque};

/// An idempotency key, of a task.
type Key = (Name, Idempotency);
/// A unique key, of a task.
pub(super) type UniqueKey = (Name, Label);

/// What an idempotency key remembers.
#[derive(Clone, Copy, Debug)]
struct Remembered {
    fingerprint: Fingerprint,
    id: JobId,
    duplicate: bool,
    at: Timestamp,
}

/// The submits that are remembered.
#[derive(Debug, Default)]
pub(super) struct Submits {
    by_key: HashMap<Key, Remembered>,
    oldest_first: VecDeque<(Timestamp, Key)>,
}

impl Submits {
    fn get(&self, key: &Key, now: Timestamp) -> Option<Remembered> {
        let is_young = |it: &&Remembered| it.at > now.before(IDEMPOTENCY_KEPT);
        self.by_key.get(key).filter(is_young).copied()
    }

    pub(super) fn contains(&self, task: &Name, by: &Idempotency, now: Timestamp) -> bool {
        self.get(&(task.clone(), by.clone()), now).is_some()
    }

    fn remember(&mut self, key: Key, what: Remembered) {
        self.oldest_first.push_back((what.at, key.clone()));
        self.by_key.insert(key, what);
    }

    /// Returns all that is remembered, in no order.
    pub(super) fn kept(&self) -> impl Iterator<Item = KeptSubmit> {
        let each = self.by_key.iter();
        each.map(|((task, idempotency), what)| KeptSubmit {
            idempotency: idempotency.clone(),
            task: task.clone(),
            fingerprint: what.fingerprint,
            id: what.id,
            duplicate: what.duplicate,
            at: what.at,
        })
    }

    /// Remembers a submit as it was remembered elsewhere.
    pub(super) fn keep(&mut self, kept: KeptSubmit) {
        let what = Remembered {
            fingerprint: kept.fingerprint,
            id: kept.id,
            duplicate: kept.duplicate,
            at: kept.at,
        };
        let key = (kept.task, kept.idempotency);
        let place = self.oldest_first.partition_point(|(at, _)| *at <= kept.at);
        self.oldest_first.insert(place, (kept.at, key.clone()));
        self.by_key.insert(key, what);
    }

    pub(super) fn forget_old(&mut self, now: Timestamp) {
        let until = now.before(IDEMPOTENCY_KEPT);
        while let Some((at, key)) = self.oldest_first.pop_front_if(|(at, _)| *at <= until) {
            // It can have been used anew since.
            if self.by_key.get(&key).is_some_and(|it| it.at == at) {
                self.by_key.remove(&key);
            }
        }
    }
}

/// What is to become of a job to be inserted.
#[derive(Clone, Copy)]
enum Plan {
    Store,
    Duplicate(JobId),
    Replay { id: JobId, duplicate: bool },
}

/// What the jobs before one in the same insert are going to change.
#[derive(Default)]
struct Ahead {
    ids: HashSet<JobId>,
    unique: HashMap<UniqueKey, JobId>,
    submits: Submits,
}

impl Jobs {
    /// Inserts jobs, all or none.
    pub(super) fn insert(
        &mut self,
        jobs: Vec<NewJob>,
        now: Timestamp,
    ) -> Result<Vec<Inserted>, StoreError> {
        self.set_now(now);
        let mut ahead = Ahead::default();
        let mut plans = Vec::with_capacity(jobs.len());
        for (index, job) in jobs.iter().enumerate() {
            plans.push(self.plan(index, job, &mut ahead, now)?);
        }
        let new = jobs.iter().zip(&plans);
        let new = new.filter(|(_, plan)| matches!(plan, Plan::Store));
        let new: Vec<&NewJob> = new.map(|(job, _)| job).collect();
        if let Some(late) = new.iter().find(|job| job.status.is_too_late(now)) {
            return Err(StoreError::TooLate { id: late.spec.id });
        }
        self.check_depths(new.into_iter())?;
        let is_alone = jobs.len() == 1;
        let each = jobs.into_iter().zip(plans);
        let inserted = each.map(|(job, plan)| self.carry_out(job, plan, is_alone, now));
        let inserted = inserted.collect();
        self.order.tidy();
        Ok(inserted)
    }

    fn plan(
        &self,
        index: usize,
        job: &NewJob,
        ahead: &mut Ahead,
        now: Timestamp,
    ) -> Result<Plan, StoreError> {
        let key = key(job);
        if let Some((key, fingerprint)) = &key {
            let before = ahead.submits.get(key, now);
            if let Some(known) = before.or_else(|| self.submits.get(key, now)) {
                if known.fingerprint != *fingerprint {
                    return Err(StoreError::KeyReused { index });
                }
                let Remembered { id, duplicate, .. } = known;
                if !self.entries.contains_key(&id) && !ahead.ids.contains(&id) {
                    return Err(StoreError::KeyGone { index, id });
                }
                return Ok(Plan::Replay { id, duplicate });
            }
        }
        let unique = unique_key(job);
        let holder = unique.as_ref().and_then(|unique| {
            let holder = ahead.unique.get(unique).or_else(|| self.unique.get(unique));
            holder.copied()
        });
        let id = job.spec.id;
        if holder.is_none() && (self.entries.contains_key(&id) || !ahead.ids.insert(id)) {
            return Err(StoreError::Exists { id });
        }
        if let Some((key, fingerprint)) = key {
            let what = remembered(fingerprint, id, holder, now);
            ahead.submits.remember(key, what);
        }
        if let Some(holder) = holder {
            return Ok(Plan::Duplicate(holder));
        }
        ahead.unique.extend(unique.map(|unique| (unique, id)));
        Ok(Plan::Store)
    }

    fn carry_out(&mut self, job: NewJob, plan: Plan, is_alone: bool, now: Timestamp) -> Inserted {
        let (id, holder) = match plan {
            Plan::Replay { id, duplicate } => {
                let job = Box::new(self.entries[&id].job.clone());
                return Inserted::Replayed { job, duplicate };
            }
            Plan::Duplicate(holder) => (holder, Some(holder)),
            Plan::Store => (job.spec.id, None),
        };
        if let Some((key, fingerprint)) = key(&job) {
            let what = remembered(fingerprint, id, holder, now);
            self.submits.remember(key, what);
        }
        if let Some(holder) = holder {
            return Inserted::Duplicate(Box::new(self.entries[&holder].job.clone()));
        }
        self.store(job);
        let place = is_alone.then(|| self.place(&PlaceOf::Job(id)));
        Inserted::New(place.flatten().map(Box::new))
    }
}

impl Entry {
    /// Returns the unique key that the job holds: its own while it is unfinished.
    pub(super) fn held_key(&self) -> Option<UniqueKey> {
        let is_final = self.job.status.state.is_final();
        self.unique_key().filter(|_| !is_final)
    }

    pub(super) fn unique_key(&self) -> Option<UniqueKey> {
        let spec = &self.job.spec;
        spec.unique_key.clone().map(|key| (spec.task.clone(), key))
    }
}

fn remembered(
    fingerprint: Fingerprint,
    id: JobId,
    holder: Option<JobId>,
    at: Timestamp,
) -> Remembered {
    Remembered {
        fingerprint,
        id: holder.unwrap_or(id),
        duplicate: holder.is_some(),
        at,
    }
}

fn key(job: &NewJob) -> Option<(Key, Fingerprint)> {
    let (idempotency, fingerprint) = job.idempotency.clone()?;
    Some(((job.spec.task.clone(), idempotency), fingerprint))
}

fn unique_key(job: &NewJob) -> Option<UniqueKey> {
    let key = job.spec.unique_key.clone()?;
    Some((job.spec.task.clone(), key))
}
