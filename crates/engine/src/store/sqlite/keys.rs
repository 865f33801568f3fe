//! Idempotency keys and unique keys: what the writer does about jobs that have one.
//!
//! Both lie in tables of their own, written in the transaction of what they are about. A job that
//! has neither costs no statement here.

use super::events::Told;
use super::fault::Fault;
use super::operation::Undo;
use super::rows::{PROBED_KEYS, Stored, id};
use super::writer::Writer;
use crate::store::{Found, Inserted, NewJob, Refused, StoreError};
use anteroom_core::limits::IDEMPOTENCY_KEPT;
use anteroom_core::{Fingerprint, Idempotency, Job, JobId, Label, Name, Next, Spec, Timestamp};
use rusqlite::{Connection, OptionalExtension, Result as SqlResult, Statement, params};

/// Tells whether a submit is remembered that is younger than an instant.
pub(super) const REMEMBERS: &str =
    "SELECT 1 FROM submit WHERE scope = ?1 AND task = ?2 AND key = ?3 AND at > ?4";

/// The statements about keys.
#[derive(Debug)]
pub(super) struct KeyStatements<'c> {
    remember: Statement<'c>,
    remembered: Statement<'c>,
    forget: Statement<'c>,
    oldest: Statement<'c>,
    forget_until: Statement<'c>,
    hold: Statement<'c>,
    release: Statement<'c>,
    holder: Statement<'c>,
}

impl<'c> KeyStatements<'c> {
    pub(super) fn prepare(db: &'c Connection) -> SqlResult<Self> {
        Ok(Self {
            remember: db.prepare(
                "INSERT INTO submit (scope, task, key, fingerprint, id, duplicate, at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?,
            remembered: db.prepare(
                "SELECT number, fingerprint, id, duplicate, at FROM submit \
                 WHERE scope = ?1 AND task = ?2 AND key = ?3",
            )?,
            forget: db.prepare("DELETE FROM submit WHERE number = ?1")?,
            oldest: db.prepare("SELECT at FROM submit ORDER BY number LIMIT 1")?,
            forget_until: db.prepare(
                "DELETE FROM submit WHERE at <= ?1 AND number IN \
                 (SELECT number FROM submit ORDER BY number LIMIT ?2)",
            )?,
            hold: db.prepare("INSERT INTO unique_key VALUES (?1, ?2, ?3)")?,
            release: db.prepare("DELETE FROM unique_key WHERE task = ?1 AND key = ?2")?,
            holder: db.prepare("SELECT id FROM unique_key WHERE task = ?1 AND key = ?2")?,
        })
    }
}

/// What an idempotency key remembers.
struct Remembered {
    fingerprint: Vec<u8>,
    id: JobId,
    duplicate: bool,
}

impl Writer<'_> {
    /// Inserts a job that has a key, unless there is one already that it stands for.
    pub(super) fn insert_keyed(
        &mut self,
        index: usize,
        mut job: NewJob,
        is_alone: bool,
        undo: &mut Vec<Undo>,
    ) -> Result<Result<Inserted, StoreError>, Fault> {
        let idempotency = job.idempotency.take();
        let task = job.spec.task.clone();
        if let Some((by, fingerprint)) = &idempotency
            && let Some(known) = self.remembered(&task, by)?
        {
            return self.replay(index, &known, *fingerprint);
        }
        let holder = match &job.spec.unique_key {
            Some(key) => self.holder(&task, key)?,
            None => None,
        };
        let (id, inserted) = if let Some(holder) = holder {
            let job = Box::new(self.held_by(holder)?);
            (holder, Inserted::Duplicate(job))
        } else {
            let (id, key) = (job.spec.id, job.spec.unique_key.clone());
            let seq = match self.insert_job(job)? {
                Ok(seq) => seq,
                Err(refusal) => return Ok(Err(refusal)),
            };
            undo.push(Undo::Job(seq));
            if let Some(key) = key {
                self.hold(&task, &key, id)?;
                undo.push(Undo::Hold(Box::new((task.clone(), key))));
            }
            let place = is_alone.then(|| self.place_of_fresh(seq)).flatten();
            (id, Inserted::New(place))
        };
        if let Some((by, fingerprint)) = idempotency {
            let number = self.remember_submit(&task, &by, fingerprint, id, holder.is_some())?;
            undo.push(Undo::Submit(number));
        }
        Ok(Ok(inserted))
    }

    /// Answers what the key remembers, if it was used for the same.
    fn replay(
        &mut self,
        index: usize,
        known: &Remembered,
        fingerprint: Fingerprint,
    ) -> Result<Result<Inserted, StoreError>, Fault> {
        if known.fingerprint != fingerprint.0 {
            return Ok(Err(StoreError::KeyReused { index }));
        }
        let Remembered { id, duplicate, .. } = *known;
        let Found::Here(job) = self.look(id)? else {
            return Ok(Err(StoreError::KeyGone { index, id }));
        };
        let job = Box::new(self.whole(job)?);
        Ok(Ok(Inserted::Replayed { job, duplicate }))
    }

    fn remembered(&mut self, task: &Name, by: &Idempotency) -> Result<Option<Remembered>, Fault> {
        let sql = &mut self.sql.by_key;
        let found = sql
            .remembered
            .query_row(params![&*by.scope, &**task, &*by.key], |row| {
                let known = Remembered {
                    fingerprint: row.get(1)?,
                    id: id(row, 2)?,
                    duplicate: row.get(3)?,
                };
                Ok((row.get::<_, i64>(0)?, known, row.get::<_, i64>(4)?))
            })
            .optional()?;
        match found {
            Some((number, _, at)) if at <= remembered_since(self.now) => {
                sql.forget.execute([number])?;
                Ok(None)
            }
            found => Ok(found.map(|(_, known, _)| known)),
        }
    }

    fn remember_submit(
        &mut self,
        task: &Name,
        by: &Idempotency,
        fingerprint: Fingerprint,
        id: JobId,
        duplicate: bool,
    ) -> SqlResult<i64> {
        self.sql.by_key.remember.insert(params![
            &*by.scope,
            &**task,
            &*by.key,
            fingerprint.0.as_slice(),
            id.as_bytes().as_slice(),
            duplicate,
            self.now.as_millis(),
        ])
    }

    /// Undoes an insert of which a part is refused.
    pub(super) fn undo_all(&mut self, parts: Vec<Undo>) -> Result<(), Fault> {
        parts.into_iter().rev().try_for_each(|part| self.undo(part))
    }

    /// Undoes a part of an insert of which another part is refused.
    fn undo(&mut self, undo: Undo) -> Result<(), Fault> {
        match undo {
            Undo::Job(seq) => self.take_back(seq),
            Undo::Hold(held) => self.release(&held.0, &held.1),
            Undo::Submit(number) => {
                self.sql.by_key.forget.execute([number])?;
                Ok(())
            }
        }
    }

    /// Forgets some of the submits that were remembered for long enough, in the order of their
    /// commits: where the clock was set back, those behind a later one wait for it.
    pub(super) fn trim_submits(&mut self, limit: i64) -> Result<(), Fault> {
        let until = remembered_since(self.now);
        let read = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        let oldest = self.sql.by_key.oldest.query_row([], read).optional()?;
        if oldest.is_some_and(|at| at <= until) {
            self.begin()?;
            self.sql.by_key.forget_until.execute([until, limit])?;
        }
        Ok(())
    }

    /// Lets a job that ended hold its unique key no more.
    pub(super) fn release_key(&mut self, spec: &Spec) -> Result<(), Fault> {
        match &spec.unique_key {
            Some(key) => self.release(&spec.task, key),
            None => Ok(()),
        }
    }

    /// Lets a job that is unfinished again hold its unique key.
    pub(super) fn hold_key(&mut self, spec: &Spec) -> Result<(), Fault> {
        match &spec.unique_key {
            Some(key) => self.hold(&spec.task, key, spec.id),
            None => Ok(()),
        }
    }

    /// Returns why a job cannot be unfinished again: another has its unique key.
    pub(super) fn unique_key_taken(
        &mut self,
        job: &Stored,
        next: &Next,
    ) -> Result<Option<Refused>, Fault> {
        let Some(key) = &job.spec.unique_key else {
            return Ok(None);
        };
        if !job.status.state.is_final() || next.status.state.is_final() {
            return Ok(None);
        }
        let holder = self.holder(&job.spec.task, key)?;
        Ok(holder.map(|holder| Refused::UniqueKeyTaken { holder }))
    }

    fn holder(&mut self, task: &Name, key: &Label) -> Result<Option<JobId>, Fault> {
        let names = params![&**task, &**key];
        let holder = self.sql.by_key.holder.query_row(names, |row| id(row, 0));
        Ok(holder.optional()?)
    }

    /// Returns the job that has a unique key.
    fn held_by(&mut self, holder: JobId) -> Result<Job, Fault> {
        match self.look(holder)? {
            Found::Here(job) if !job.status.state.is_final() => self.whole(job),
            Found::Here(_) | Found::Gone | Found::Unknown => {
                let reason = format!("job {holder} has a unique key and is not unfinished");
                Err(Fault::Final(reason))
            }
        }
    }

    fn hold(&mut self, task: &Name, key: &Label, id: JobId) -> Result<(), Fault> {
        let row = params![&**task, &**key, id.as_bytes().as_slice()];
        self.sql.by_key.hold.execute(row)?;
        Ok(())
    }

    fn release(&mut self, task: &Name, key: &Label) -> Result<(), Fault> {
        self.sql.by_key.release.execute(params![&**task, &**key])?;
        Ok(())
    }

    /// Finds a job and leaves it as it is: also one of this very insert, which may be undone.
    fn look(&mut self, wanted: JobId) -> Result<Found<Stored>, Fault> {
        let hint = wanted.order_key();
        let fresh = (hint..hint.saturating_add(PROBED_KEYS)).find_map(|seq| {
            let job = self.fresh.get(&seq)?;
            (job.spec.id == wanted).then(|| Stored {
                seq,
                spec: job.spec.clone(),
                status: job.status,
                errors: 0,
                result: None,
                told: Told::default(),
            })
        });
        match fresh {
            Some(job) => Ok(Found::Here(job)),
            None => self.find(wanted),
        }
    }
}

/// Returns the instant after which a submit was made that is still remembered.
pub(super) fn remembered_since(now: Timestamp) -> i64 {
    now.before(IDEMPOTENCY_KEPT).as_millis()
}
