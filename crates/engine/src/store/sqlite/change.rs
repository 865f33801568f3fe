//! How the writer changes the database, and what it keeps in memory beside it.
//!
//! What becomes of a job is what [`transition`] says; here it is written down.

use super::events::Told;
use super::fault::Fault;
use super::operation::{Pruned, Undo};
use super::order::{RanOut, Running};
use super::rows::{
    AFTER_LIVE_JOB, PROBED_KEYS, Stored, attempt_error, id, live_job, name, payload, settled,
    stored,
};
use super::writer::{Fresh, Room, Writer};
use crate::callback::{another_id, callback_of};
use crate::store::{
    Applied, Change, Claimed, Counts, Deleted, Found, Inserted, NewJob, Overdue, OverdueReason,
    PlaceOf, Refused, StoreError, Want,
};
use anteroom_core::limits::{ERRORS_MAX, GONE_JOBS_MAX, GONE_KEPT, REPORTS_KEPT_BYTES_MAX};
use anteroom_core::order::{Asked, LaneId, Waiting};
use anteroom_core::{
    Amendment, ClaimNumber, Event, Fingerprint, Job, JobId, Next, Payload, Place, Reports, Spec,
    State, Status, Timestamp, transition,
};
use rusqlite::{ErrorCode, OptionalExtension, params};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Ids that are tried for a callback, of a millisecond each: a commit that ends more jobs than there
/// are keys in so many is none.
const CALLBACK_IDS_TRIED: usize = 16;

impl Writer<'_> {
    /// Inserts jobs, all or none. The inner error says why it will not take one of them.
    pub(super) fn insert(
        &mut self,
        jobs: Vec<NewJob>,
    ) -> Result<Result<Vec<Inserted>, StoreError>, Fault> {
        self.begin()?;
        let mut inserted = Vec::with_capacity(jobs.len());
        let mut undo = Vec::with_capacity(jobs.len());
        let is_alone = jobs.len() == 1;
        let mut more = self.order.has_depths().then(BTreeMap::new);
        for (index, job) in jobs.into_iter().enumerate() {
            let queue = more.as_ref().map(|_| job.spec.queue.clone());
            let has_key = job.idempotency.is_some() || job.spec.unique_key.is_some();
            let outcome = if has_key {
                self.insert_keyed(index, job, is_alone, &mut undo)?
            } else {
                self.insert_job(job)?.map(|seq| {
                    undo.push(Undo::Job(seq));
                    Inserted::New(is_alone.then(|| self.place_of_fresh(seq)).flatten())
                })
            };
            match outcome {
                Ok(one) => {
                    if let (Inserted::New(_), Some(more), Some(queue)) = (&one, &mut more, queue) {
                        *more.entry(queue).or_default() += 1;
                    }
                    inserted.push(one);
                }
                Err(refusal) => return self.undo_all(undo).map(|()| Err(refusal)),
            }
        }
        match more.and_then(|more| self.order.full_queue(&more)) {
            Some(refusal) => self.undo_all(undo).map(|()| Err(refusal)),
            None => Ok(Ok(inserted)),
        }
    }

    /// Returns where a job stands that this batch inserted.
    pub(super) fn place_of_fresh(&mut self, seq: i64) -> Option<Box<Place>> {
        let (spec, status) = (
            self.fresh.get(&seq)?.spec.clone(),
            self.fresh.get(&seq)?.status,
        );
        let job = waiting(self, seq, &spec, &status);
        Some(Box::new(self.order.place_of(job)))
    }

    pub(super) fn insert_job(&mut self, job: NewJob) -> Result<Result<i64, StoreError>, Fault> {
        let NewJob {
            spec,
            status,
            input,
            idempotency: _,
        } = job;
        if status.is_too_late(self.now) {
            return Ok(Err(StoreError::TooLate { id: spec.id }));
        }
        let mut seq = spec.id.order_key();
        let first_try = self.sql.insert_job(seq, &spec, &status, &input.bytes);
        match first_try {
            Ok(()) => {}
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                seq = match self.free_key(spec.id)? {
                    Ok(free) => free,
                    Err(refusal) => return Ok(Err(refusal)),
                };
                self.sql.insert_job(seq, &spec, &status, &input.bytes)?;
            }
            Err(error) => return Err(error.into()),
        }
        let job = waiting(self, seq, &spec, &status);
        self.order.place(job);
        let fresh = Fresh {
            spec,
            status,
            input,
        };
        self.fresh.insert(seq, fresh);
        Ok(Ok(seq))
    }

    /// Returns the next key that is free where a job's own is taken, or why it gets none.
    fn free_key(&mut self, wanted: JobId) -> Result<Result<i64, StoreError>, Fault> {
        let hint = wanted.order_key();
        let mut rows = self.sql.keys.query([hint])?;
        let mut free = hint;
        while let Some(row) = rows.next()? {
            if id(row, 1)? == wanted {
                return Ok(Err(StoreError::Exists { id: wanted }));
            }
            if row.get::<_, i64>(0)? == free {
                free += 1;
            }
        }
        if free - hint >= PROBED_KEYS {
            let reason = format!("all keys for the id {wanted} are taken: take a new one");
            return Ok(Err(StoreError::Unavailable { reason }));
        }
        Ok(Ok(free))
    }

    /// Undoes the insert of a job of this batch.
    pub(super) fn take_back(&mut self, seq: i64) -> Result<(), Fault> {
        if let Some(job) = self.fresh.remove(&seq) {
            let job = waiting(self, seq, &job.spec, &job.status);
            self.order.displace(job);
        }
        self.sql.delete_job.execute([seq])?;
        Ok(())
    }

    /// Writes where a job stands that this batch inserted.
    pub(super) fn write_fresh(&mut self, seq: i64, job: &Fresh) -> Result<(), Fault> {
        Ok(self
            .sql
            .insert_live(seq, &job.spec, &job.status, 0, self.now)?)
    }

    /// Claims what is ready, within the room that is left.
    pub(super) fn claim(&mut self, want: &Want, room: &mut Room) -> Result<Vec<Claimed>, Fault> {
        let sources = self.order.sources(&want.tasks, want.queues.as_deref());
        let mut claimed = Vec::new();
        while claimed.len() < want.limit && room.is_left() {
            let Some((seq, lane)) = self.order.next(&sources) else {
                break;
            };
            let job = self.claim_job(seq, lane, want)?;
            *room = room.less(1, job.input.bytes.len());
            claimed.push(job);
        }
        Ok(claimed)
    }

    fn claim_job(&mut self, seq: i64, lane: LaneId, want: &Want) -> Result<Claimed, Fault> {
        self.begin()?;
        let fresh = self.fresh.remove(&seq);
        let is_fresh = fresh.is_some();
        let (job, input) = match fresh {
            Some(job) => {
                let input = job.input.clone();
                (fresh_stored(seq, job), input)
            }
            None => self.sql.take.query_row([seq], |row| {
                Ok((live_job(row)?, payload(row, AFTER_LIVE_JOB)?))
            })?,
        };
        let claim = self.last_claim.next();
        let event = Event::Claimed {
            claim,
            lease: want.lease,
            lease_expires_at: want.held_until(&job.spec, self.now),
        };
        let next = transition(&job.status, &event, self.now).map_err(|rejected| {
            // It was in the order of those that may be claimed.
            Fault::Final(format!(
                "job {} differs from its memory: {rejected}",
                job.spec.id
            ))
        })?;
        self.last_claim = claim;
        let from = Waiting::new(seq, lane, &job.status);
        let status = next.status;
        if is_fresh {
            self.sql.insert_live(seq, &job.spec, &status, 0, self.now)?;
        } else {
            self.sql.update_live(seq, &status, job.errors, self.now)?;
        }
        let told = self.record(&job, &status, &Reports::default())?;
        if told != job.told {
            self.sql.events.set(seq, &told, false)?;
        }
        let running = Running {
            spec: job.spec.clone(),
            status,
            lane,
            errors: job.errors,
            told: told.clone(),
        };
        self.order.start(from, running);
        let job = self.whole(Stored {
            status,
            told,
            ..job
        })?;
        Ok(Claimed { job, input })
    }

    /// Lets an event happen to its job.
    pub(super) fn change(&mut self, change: &Change) -> Result<Applied, Fault> {
        let job = match self.find(change.id)? {
            Found::Here(job) => job,
            Found::Gone => return Ok(Err(Refused::Gone)),
            Found::Unknown => return Ok(Err(Refused::Unknown)),
        };
        if change
            .if_version
            .is_some_and(|version| version != job.status.version)
        {
            return Ok(Err(Refused::VersionDiffers(Box::new(self.whole(job)?))));
        }
        match transition(&job.status, &change.event, self.now) {
            Ok(next) => {
                if let Some(refused) = self.unique_key_taken(&job, &next)? {
                    return Ok(Err(refused));
                }
                let job = match &change.event {
                    Event::Amended { amendment } => self.amend(job, &next.status, amendment)?,
                    _ => self.write(job, next, change)?,
                };
                Ok(Ok(job))
            }
            Err(rejected) => {
                let kept = self.settled(&job, change)?;
                let is_repeated = change.repeats(&job.status, kept);
                let job = Box::new(self.whole(job)?);
                Ok(Err(if is_repeated {
                    Refused::Repeated(job)
                } else {
                    Refused::Rejected(rejected, job)
                }))
            }
        }
    }

    /// Returns what is kept of what ended an attempt of a job, if that may be what `change` says.
    fn settled(
        &mut self,
        job: &Stored,
        change: &Change,
    ) -> Result<Option<(ClaimNumber, Fingerprint)>, Fault> {
        if change.settled().is_none() {
            return Ok(None);
        }
        let kept = self.sql.settled.query_row([job.seq], settled);
        Ok(kept.optional()?)
    }

    /// Writes what became of a job.
    fn write(&mut self, job: Stored, next: Next, change: &Change) -> Result<Job, Fault> {
        self.begin()?;
        let told = self.record(&job, &next.status, &change.reports)?;
        let (seq, before) = (job.seq, job.status);
        let after = next.status;
        let mut errors = job.errors;
        if let Some(error) = next.error {
            self.sql.insert_error(seq, errors, &error)?;
            errors += 1;
            let kept = u32::try_from(ERRORS_MAX).unwrap_or(u32::MAX);
            if let Some(first) = errors.checked_sub(kept)
                && first > 0
            {
                self.sql.trim_errors(seq, first)?;
            }
        }
        let result = change.result.as_ref();
        let result = result.filter(|_| after.state == State::Succeeded);
        match (before.state.is_final(), after.state.is_final()) {
            (false, false) => {
                self.sql.update_live(seq, &after, errors, self.now)?;
            }
            (false, true) => {
                self.sql.delete_live.execute([seq])?;
                self.release_key(&job.spec)?;
                self.write_done(&job.spec, seq, &after, errors, result)?;
            }
            (true, false) => {
                self.sql.delete_done.execute([seq])?;
                self.sql
                    .insert_live(seq, &job.spec, &after, errors, self.now)?;
                self.hold_key(&job.spec)?;
            }
            (true, true) => {
                self.sql.delete_done.execute([seq])?;
                self.write_done(&job.spec, seq, &after, errors, result)?;
            }
        }
        let is_moved = before.state.is_final() || after.state.is_final();
        if let Some((claim, said)) = change.settled() {
            self.sql.put_settled(seq, claim, said)?;
        }
        if told != job.told || (is_moved && told != Told::default()) {
            self.sql.events.set(seq, &told, after.state.is_final())?;
        }
        if before.start_before != after.start_before {
            let start_before = after.start_before.map(Timestamp::as_millis);
            self.sql.set_start_before(seq, start_before)?;
        }
        self.remember(&job, &after, errors, &told);
        self.insert_callback(&job.spec, &before, &after)?;
        self.whole(Stored {
            status: after,
            errors,
            told,
            result: result.map(Payload::info),
            ..job
        })
    }

    /// Inserts the job that tells of an end, if somebody asked to be told of it.
    fn insert_callback(
        &mut self,
        spec: &Spec,
        before: &Status,
        after: &Status,
    ) -> Result<(), Fault> {
        let Some(mut callback) = callback_of(spec, before, after) else {
            return Ok(());
        };
        for _ in 0..CALLBACK_IDS_TRIED {
            match self.insert_job(callback.clone())? {
                Ok(_) => return Ok(()),
                Err(_taken) => callback.spec_mut().id = another_id(callback.spec.id),
            }
        }
        let id = spec.id;
        Err(Fault::Passing(format!(
            "no id is free for the callback of job {id}"
        )))
    }

    /// Writes what its owner changed of a waiting job, and moves it to where it waits then.
    fn amend(&mut self, job: Stored, after: &Status, amendment: &Amendment) -> Result<Job, Fault> {
        let (seq, before) = (job.seq, job.status);
        if amendment.is_empty() {
            return self.whole(job);
        }
        self.begin()?;
        let told = self.record(&job, after, &Reports::default())?;
        let mut spec = Spec::clone(&job.spec);
        amendment.amend(&mut spec);
        self.sql.update_live(seq, after, job.errors, self.now)?;
        if told != job.told {
            self.sql.events.set(seq, &told, false)?;
        }
        if amendment.changes_spec() {
            self.sql.amend(seq, &spec)?;
        }
        let from = waiting(self, seq, &job.spec, &before);
        let to = waiting(self, seq, &spec, after);
        // One that stays where it is keeps its turn.
        if from != to {
            self.order.displace(from);
            self.order.place(to);
        }
        self.whole(Stored {
            spec: Arc::new(spec),
            status: *after,
            told,
            ..job
        })
    }

    fn write_done(
        &mut self,
        spec: &Spec,
        seq: i64,
        status: &Status,
        errors: u32,
        result: Option<&Payload>,
    ) -> Result<(), Fault> {
        let end = status.finished_at.unwrap_or(self.now);
        let expires_at = end.after(spec.retain);
        Ok(self
            .sql
            .insert_done(seq, status, errors, expires_at, result)?)
    }

    /// Moves a job in memory as it moved in the database.
    fn remember(&mut self, job: &Stored, after: &Status, errors: u32, told: &Told) {
        let (seq, before) = (job.seq, &job.status);
        match (before.state, after.state) {
            (State::Running, State::Running) => {
                return self.order.change(seq, *after, errors, told.clone());
            }
            (State::Running, _) => self.order.end(seq),
            (State::Waiting, _) => {
                let job = waiting(self, seq, &job.spec, before);
                self.order.displace(job);
            }
            (State::Succeeded | State::Failed | State::Cancelled, _) => {}
        }
        match after.state {
            State::Waiting => {
                let job = waiting(self, seq, &job.spec, after);
                self.order.place(job);
            }
            State::Running => {
                let spec = job.spec.clone();
                let lane = self.order.lane(&spec);
                let running = Running {
                    spec,
                    status: *after,
                    lane,
                    errors,
                    told: told.clone(),
                };
                self.order.begin(seq, running);
            }
            State::Succeeded | State::Failed | State::Cancelled => {}
        }
    }

    /// Returns the jobs that something ran out for.
    pub(super) fn overdue(&mut self, limit: usize) -> Result<Vec<Overdue>, Fault> {
        let mut overdue = Vec::new();
        for ran_out in self.order.ran_out(limit) {
            let job = match ran_out {
                RanOut::Claim(seq) => self.order.running(seq).map(|job| self.claim_ran_out(job)),
                RanOut::Deadline(seq) => Some(self.deadline_passed(seq)?),
            };
            overdue.extend(job);
        }
        Ok(overdue)
    }

    fn claim_ran_out(&self, job: &Running) -> Overdue {
        let reason = if self.order.is_orphan(&job.status) {
            OverdueReason::Process(job.status.claim)
        } else {
            OverdueReason::of_lease(&job.spec, &job.status)
        };
        Overdue {
            id: job.spec.id,
            task: job.spec.task.clone(),
            attempt: job.status.attempt,
            reason,
        }
    }

    fn deadline_passed(&mut self, seq: i64) -> Result<Overdue, Fault> {
        let read = |row: &rusqlite::Row<'_>| Ok((name(row, 0)?, id(row, 1)?));
        let (task, id) = self.sql.task_and_id.query_row([seq], read)?;
        Ok(Overdue {
            id,
            task,
            // It never began.
            attempt: 0,
            reason: OverdueReason::Deadline,
        })
    }

    /// Returns where a waiting job stands.
    pub(super) fn place(&mut self, of: &PlaceOf) -> Result<Option<Place>, Fault> {
        Ok(match of {
            PlaceOf::Job(id) => match self.find(*id)? {
                Found::Here(job) if job.status.state == State::Waiting => {
                    let job = waiting(self, job.seq, &job.spec, &job.status);
                    Some(self.order.place_of(job))
                }
                Found::Here(_) | Found::Gone | Found::Unknown => None,
            },
            PlaceOf::New {
                task,
                queue,
                group,
                priority,
            } => Some(self.order.place_of_new(Asked {
                task,
                queue,
                group: group.as_ref(),
                priority: *priority,
            })),
        })
    }

    /// Counts the unfinished jobs.
    pub(super) fn counts(&self) -> Vec<Counts> {
        let mut oldest = self.order.oldest_ready();
        let tally = self.order.tally().into_iter();
        tally
            .map(|(key, [scheduled, ready, running])| {
                let oldest_ready = oldest.remove(&key);
                let (task, queue) = key;
                Counts {
                    task,
                    queue,
                    scheduled,
                    ready,
                    running,
                    oldest_ready,
                }
            })
            .collect()
    }

    /// Forgets finished jobs whose retention is over, and ids and idempotency keys remembered for
    /// long enough.
    pub(super) fn prune(&mut self, limit: usize) -> Result<Pruned, Fault> {
        let rows = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut room = Room {
            jobs: limit,
            ..Room::FULL
        };
        let mut expired = Vec::new();
        let mut found = self
            .sql
            .expired
            .query(params![self.now.as_millis(), rows])?;
        while room.is_left()
            && let Some(row) = found.next()?
        {
            let has_events = row.get::<_, i64>(3)? > 0 || row.get::<_, i64>(4)? > 0;
            expired.push((row.get(0)?, id(row, 1)?, has_events));
            let bytes: i64 = row.get(2)?;
            let events = if has_events {
                REPORTS_KEPT_BYTES_MAX
            } else {
                0
            };
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            room = room.less(1, bytes.saturating_add(events));
        }
        drop(found);
        for &(seq, id, has_events) in &expired {
            self.forget(seq, id, has_events)?;
        }
        self.trim_gone(rows)?;
        self.trim_submits(rows)?;
        Ok(Pruned {
            jobs: expired.len(),
            is_cut_short: room.jobs > 0 && !room.is_left(),
        })
    }

    fn trim_gone(&mut self, limit: i64) -> Result<(), Fault> {
        if self.gone == 0 {
            return Ok(());
        }
        self.begin()?;
        let until = self.now.before(GONE_KEPT).as_millis();
        let forgotten = self.sql.forget_gone_until.execute([until, limit])?;
        self.gone -= forgotten as u64;
        let excess = self.gone.saturating_sub(GONE_JOBS_MAX as u64);
        if excess > 0 {
            let excess = i64::try_from(excess).unwrap_or(i64::MAX).min(limit);
            self.gone -= self.sql.forget_oldest_gone.execute([excess])? as u64;
        }
        Ok(())
    }

    /// Deletes a finished job.
    pub(super) fn delete(&mut self, id: JobId, if_version: Option<u64>) -> Result<Deleted, Fault> {
        let job = match self.find(id)? {
            Found::Here(job) => job,
            Found::Gone => return Ok(Deleted::Gone),
            Found::Unknown => return Ok(Deleted::Unknown),
        };
        if if_version.is_some_and(|version| version != job.status.version) {
            return Ok(Deleted::VersionDiffers(Box::new(self.whole(job)?)));
        }
        if !job.status.state.is_final() {
            return Ok(Deleted::NotFinal(Box::new(self.whole(job)?)));
        }
        self.forget(job.seq, id, job.told.has_rows())?;
        Ok(Deleted::Done)
    }

    /// Deletes all there is of a finished job, and remembers its id.
    fn forget(&mut self, seq: i64, id: JobId, has_events: bool) -> Result<(), Fault> {
        self.begin()?;
        if has_events {
            self.sql.events.delete(seq)?;
        }
        self.sql.delete_done.execute([seq])?;
        self.sql.delete_errors.execute([seq])?;
        self.sql.delete_settled.execute([seq])?;
        self.sql.delete_job.execute([seq])?;
        self.gone += self.sql.insert_gone(id.as_bytes(), self.now)? as u64;
        Ok(())
    }

    /// Finds a job: in memory if it is running where its id hints at, else in the database, which
    /// says the same.
    pub(super) fn find(&mut self, id: JobId) -> Result<Found<Stored>, Fault> {
        let hint = id.order_key();
        match self.order.running(hint) {
            Some(job) if job.spec.id == id => Ok(Found::Here(running_stored(hint, job))),
            Some(_) | None => self.find_stored(id),
        }
    }

    fn find_stored(&mut self, wanted: JobId) -> Result<Found<Stored>, Fault> {
        let hint = wanted.order_key();
        self.settle_fresh(wanted)?;
        let bytes = wanted.as_bytes().as_slice();
        let found = self
            .sql
            .find
            .query_row(params![hint, bytes], stored)
            .optional()?;
        if let Some(job) = found {
            return Ok(Found::Here(job));
        }
        if self.sql.is_gone.exists([bytes])? {
            return Ok(Found::Gone);
        }
        Ok(Found::Unknown)
    }

    /// Writes where a job stands before something else happens to it in the batch it came with.
    fn settle_fresh(&mut self, wanted: JobId) -> Result<(), Fault> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        let hint = wanted.order_key();
        let is_wanted = |seq: &i64| self.fresh.get(seq).is_some_and(|job| job.spec.id == wanted);
        if let Some(seq) = (hint..hint.saturating_add(PROBED_KEYS)).find(is_wanted)
            && let Some(job) = self.fresh.remove(&seq)
        {
            self.write_fresh(seq, &job)?;
        }
        Ok(())
    }

    /// Adds what the attempts of a job said.
    pub(super) fn whole(&mut self, job: Stored) -> Result<Job, Fault> {
        if job.errors == 0 {
            return Ok(job.into_job(Vec::new()));
        }
        let errors = self.sql.errors.query_map([job.seq], attempt_error)?;
        let errors = errors.collect::<Result<Vec<_>, _>>()?;
        Ok(job.into_job(errors))
    }
}

fn waiting(writer: &mut Writer<'_>, seq: i64, spec: &Spec, status: &Status) -> Waiting {
    Waiting::new(seq, writer.order.lane(spec), status)
}

fn fresh_stored(seq: i64, job: Fresh) -> Stored {
    Stored {
        seq,
        spec: job.spec,
        status: job.status,
        errors: 0,
        result: None,
        told: Told::default(),
    }
}

fn running_stored(seq: i64, job: &Running) -> Stored {
    Stored {
        seq,
        spec: job.spec.clone(),
        status: job.status,
        errors: job.errors,
        result: None,
        told: job.told.clone(),
    }
}
