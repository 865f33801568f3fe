//! Writes records into the database, as if it had always had them.

use crate::store::archive::{KeptDocument, KeptGone, KeptJob, KeptPace, KeptSubmit, Record};
use crate::store::numbers::shown_number;
use crate::store::sqlite::events::Told;
use crate::store::sqlite::fault::Fault;
use crate::store::sqlite::queues::put_queue;
use crate::store::sqlite::rows::{PROBED_KEYS, signed};
use crate::store::sqlite::statements::Statements;
use anteroom_core::{Happened, JobEvent, JobId, Report, Timestamp};
use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};
use std::time::Duration;

/// Bits of a submit's number below its instant: numbers go by the instants, and many submits may have
/// the same.
const SUBMIT_BITS: u32 = 20;

/// Writes records in one transaction.
pub(super) fn put(db: &mut Connection, records: &[Record]) -> Result<(), Fault> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut put = Put {
            db: &transaction,
            sql: Statements::prepare(&transaction)?,
        };
        for record in records {
            put.record(record)?;
        }
    }
    transaction.commit().map_err(Fault::of_commit)
}

struct Put<'c> {
    db: &'c Connection,
    sql: Statements<'c>,
}

impl Put<'_> {
    fn record(&mut self, record: &Record) -> Result<(), Fault> {
        match record {
            Record::Document(it) => self.document(it),
            Record::Queue(it) => Ok(put_queue(&mut self.sql, it)?),
            Record::Pace(it) => self.pace(it),
            Record::Job(it) => self.job(it),
            Record::Submit(it) => self.submit(it),
            Record::Gone(it) => self.gone(it),
        }
    }

    fn document(&mut self, kept: &KeptDocument) -> Result<(), Fault> {
        let (kind, document) = (&*kept.kind, &kept.document);
        let version = signed(document.version);
        self.sql
            .put_document
            .execute(params![kind, &*document.name, version, &*document.value])?;
        Ok(())
    }

    fn pace(&mut self, kept: &KeptPace) -> Result<(), Fault> {
        let row = params![&*kept.queue, kept.pace.as_nanos()];
        self.sql.put_pace.execute(row)?;
        Ok(())
    }

    fn gone(&mut self, kept: &KeptGone) -> Result<(), Fault> {
        self.sql.insert_gone(kept.id.as_bytes(), kept.at)?;
        Ok(())
    }

    /// Gives it a number by its instant, as numbers are forgotten in their order.
    fn submit(&mut self, kept: &KeptSubmit) -> Result<(), Fault> {
        let at = kept.at.as_millis();
        let first = at.clamp(0, i64::MAX >> (SUBMIT_BITS + 1)) << SUBMIT_BITS;
        let last = first | ((1 << SUBMIT_BITS) - 1);
        self.db
            .prepare_cached(
                "INSERT INTO submit (number, scope, task, key, fingerprint, id, duplicate, at) \
                 VALUES ((SELECT ifnull(max(number) + 1, ?1) FROM submit \
                 WHERE number BETWEEN ?1 AND ?2), ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                first,
                last,
                &*kept.idempotency.scope,
                &*kept.task,
                &*kept.idempotency.key,
                kept.fingerprint.0.as_slice(),
                kept.id.as_bytes().as_slice(),
                kept.duplicate,
                at,
            ])?;
        Ok(())
    }

    fn job(&mut self, kept: &KeptJob) -> Result<(), Fault> {
        let spec = &*kept.job.spec;
        let status = &kept.job.status;
        let is_final = status.state.is_final();
        let seq = self.insert_job(kept)?;
        let errors = u32::try_from(kept.job.errors.len()).unwrap_or(u32::MAX);
        if is_final {
            let end = status.finished_at.unwrap_or(Timestamp::MIN);
            let result = kept.result.as_ref();
            self.sql
                .insert_done(seq, status, errors, end.after(spec.retain), result)?;
        } else {
            // As when the lease was taken, so that its length is the same.
            let length = kept.lease_for.unwrap_or(Duration::ZERO);
            let taken_at = status.lease_expires_at.before(length);
            self.sql.insert_live(seq, spec, status, errors, taken_at)?;
            self.hold_key(kept)?;
        }
        for (ordinal, error) in (0..errors).zip(&kept.job.errors) {
            self.sql.insert_error(seq, ordinal, error)?;
        }
        if let Some((claim, said)) = kept.settled {
            self.sql.put_settled(seq, claim, said)?;
        }
        self.history(seq, kept)
    }

    /// Inserts what was submitted at the first key that is free for its id, and returns that.
    fn insert_job(&mut self, kept: &KeptJob) -> Result<i64, Fault> {
        let (spec, status) = (&*kept.job.spec, &kept.job.status);
        let hint = spec.id.order_key();
        for seq in hint..hint.saturating_add(PROBED_KEYS) {
            match self.sql.insert_job(seq, spec, status, &kept.input.bytes) {
                Ok(()) => return Ok(seq),
                Err(error) if is_taken(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(no_room(spec.id))
    }

    fn hold_key(&mut self, kept: &KeptJob) -> Result<(), Fault> {
        let spec = &*kept.job.spec;
        let Some(key) = &spec.unique_key else {
            return Ok(());
        };
        let mut hold = self
            .db
            .prepare_cached("INSERT INTO unique_key VALUES (?1, ?2, ?3)")?;
        let id = spec.id.as_bytes().as_slice();
        match hold.execute(params![&*spec.task, &**key, id]) {
            Ok(_) => Ok(()),
            Err(error) if is_taken(&error) => {
                let id = spec.id;
                let reason = format!("job {id}: another unfinished job has its unique key");
                Err(Fault::Final(reason))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn history(&mut self, seq: i64, kept: &KeptJob) -> Result<(), Fault> {
        let history = &kept.told;
        let told = Told {
            reports: history.reports_made,
            states: history.states_dropped + history.states.len() as u64,
            progress: kept.job.progress.clone(),
        };
        if told == Told::default() {
            return Ok(());
        }
        let is_final = kept.job.status.state.is_final();
        self.sql.events.set(seq, &told, is_final)?;
        let mut bytes = 0;
        for event in &history.reports {
            bytes += self.report(seq, event, bytes)?;
        }
        let mut insert = self
            .db
            .prepare_cached("INSERT INTO state VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
        for (ordinal, state) in (history.states_dropped..).zip(&history.states) {
            insert.execute(params![
                seq,
                signed(ordinal),
                signed(state.id.version),
                signed(state.id.reports),
                signed(state.id.part.number()),
                shown_number(state.state),
                state.attempt,
            ])?;
        }
        Ok(())
    }

    /// Writes a report of which all before it have so many bytes, and returns its own.
    fn report(&mut self, seq: i64, event: &JobEvent, before: u64) -> Result<u64, Fault> {
        let Happened::Reported { attempt, report } = &event.happened else {
            return Ok(0);
        };
        let (stream, fraction, text) = match report {
            Report::Progress(progress) => (None, progress.fraction(), progress.message()),
            Report::Log { stream, line } => (Some(stream.as_str()), None, Some(&**line)),
        };
        let own = report.bytes() as u64;
        self.db
            .prepare_cached("INSERT INTO report VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
            .execute(params![
                seq,
                signed(event.id.reports),
                signed(event.id.version),
                attempt,
                stream,
                fraction,
                text,
                signed(before + own),
            ])?;
        Ok(own)
    }
}

fn is_taken(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

fn no_room(id: JobId) -> Fault {
    Fault::Final(format!("all keys for the id {id} are taken"))
}
