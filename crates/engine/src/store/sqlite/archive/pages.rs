//! The records of the database in the order of their keys, a page at a time.
//!
//! Jobs lie in the order of their keys in the database, which is that of their ids but for those whose
//! keys were taken: they lie a little behind. So a page of jobs is looked at with some more, and put
//! in the order of ids.

use super::job::job;
use super::{in_words, name};
use crate::store::archive::{
    Damage, Entry, IMPORT_KIND, KeptDocument, KeptGone, KeptPace, KeptSubmit, PAGE_BYTES_MAX,
    PAGE_RECORDS_MAX, Record, RecordKey, RecordKind,
};
use crate::store::sqlite::documents::document;
use crate::store::sqlite::fault::Fault;
use crate::store::sqlite::queues::read_queues;
use crate::store::sqlite::rows::{PROBED_KEYS, damaged, id};
use anteroom_core::{Fingerprint, Idempotency, IdempotencyKey, JobId, Pace, Timestamp};
use rusqlite::{Connection, Params, Result, Row, params};
use std::sync::Arc;

/// Rows of a page and the ones to be read beside it: as many may lie before it, and behind.
const ROWS_READ: usize = PAGE_RECORDS_MAX + 2 * 64;
const _: () = assert!(PROBED_KEYS == 64);

pub(super) fn page(
    db: &Connection,
    kind: RecordKind,
    after: Option<&RecordKey>,
) -> std::result::Result<Vec<Entry>, Fault> {
    match kind {
        RecordKind::Document => documents(db, after),
        RecordKind::Queue => queues(db, after),
        RecordKind::Pace => paces(db, after),
        RecordKind::Job => jobs(db, after),
        RecordKind::Submit => submits(db, after),
        RecordKind::Gone => gone(db, after),
    }
}

fn documents(db: &Connection, after: Option<&RecordKey>) -> std::result::Result<Vec<Entry>, Fault> {
    let (kind, name_after) = match after {
        Some(RecordKey::Document(kind, name)) => (&**kind, &**name),
        _ => ("", ""),
    };
    let sql = "SELECT name, version, value, kind FROM document \
               WHERE kind <> ?1 AND (kind, name) > (?2, ?3) ORDER BY kind, name LIMIT ?4";
    page_of(
        db,
        sql,
        params![IMPORT_KIND, kind, name_after, limit()],
        |row| {
            Ok(Record::Document(KeptDocument {
                kind: name(row, 3)?,
                document: document(row)?,
            }))
        },
    )
}

/// There are few, so that one page has them all.
fn queues(db: &Connection, after: Option<&RecordKey>) -> std::result::Result<Vec<Entry>, Fault> {
    let mut queues = read_queues(db)?;
    queues.sort_by(|one, next| one.name.cmp(&next.name));
    let queues = queues.into_iter().map(Record::Queue);
    let later = queues.filter(|record| after.is_none_or(|after| record.key() > *after));
    Ok(later.take(PAGE_RECORDS_MAX).map(Ok).collect())
}

fn paces(db: &Connection, after: Option<&RecordKey>) -> std::result::Result<Vec<Entry>, Fault> {
    let after = match after {
        Some(RecordKey::Pace(queue)) => &**queue,
        _ => "",
    };
    let sql = "SELECT queue, nanos FROM pace WHERE queue > ?1 AND nanos <> 0 \
               ORDER BY queue LIMIT ?2";
    page_of(db, sql, params![after, limit()], |row| {
        Ok(Record::Pace(KeptPace {
            queue: name(row, 0)?,
            pace: Pace::from_nanos(row.get(1)?),
        }))
    })
}

fn jobs(db: &Connection, after: Option<&RecordKey>) -> std::result::Result<Vec<Entry>, Fault> {
    let after = match after {
        Some(RecordKey::Job(id)) => Some(*id),
        _ => None,
    };
    let from = after.map_or(i64::MIN, |id| id.order_key());
    let mut statement =
        db.prepare_cached("SELECT seq, id FROM job WHERE seq >= ?1 ORDER BY seq LIMIT ?2")?;
    let rows = i64::try_from(ROWS_READ).unwrap_or(i64::MAX);
    let read = |row: &Row<'_>| Ok((id(row, 1)?, row.get::<_, i64>(0)?));
    let found = statement.query_map(params![from, rows], read)?;
    let mut found = found.collect::<Result<Vec<(JobId, i64)>>>()?;
    let is_all = found.len() < ROWS_READ;
    let last_row = found.last().map_or(i64::MAX, |(_, seq)| *seq);
    for (id, seq) in &found {
        let hint = id.order_key();
        if !(hint..hint + PROBED_KEYS).contains(seq) {
            let reason = format!("job {id} lies at key {seq}, where nobody looks for it");
            return Err(Fault::Final(reason));
        }
    }
    found.retain(|(id, _)| after.is_none_or(|after| *id > after));
    // What was not read lies further on, and has no lesser id than these.
    found.retain(|(id, _)| is_all || id.order_key() <= last_row - PROBED_KEYS);
    found.sort_unstable();
    let mut page = Vec::new();
    let mut bytes = 0;
    for (id, seq) in found.into_iter().take(PAGE_RECORDS_MAX) {
        let record = match job(db, seq) {
            Ok(record) => Ok(Record::Job(Box::new(record))),
            Err(error) if error.sqlite_error().is_some() => return Err(error.into()),
            Err(error) => Err(Damage {
                key: RecordKey::Job(id),
                what: format!("it cannot be read: {}", in_words(&error)),
            }),
        };
        bytes += record.as_ref().map_or(0, Record::bytes);
        page.push(record);
        if bytes >= PAGE_BYTES_MAX {
            break;
        }
    }
    Ok(page)
}

fn submits(db: &Connection, after: Option<&RecordKey>) -> std::result::Result<Vec<Entry>, Fault> {
    let after = match after {
        Some(RecordKey::Submit(scope, task, key)) => Some((&**scope, &**task, &**key)),
        _ => None,
    };
    let (scope, task, key) = after.unwrap_or_default();
    let sql = "SELECT scope, task, key, fingerprint, id, duplicate, at FROM submit \
               WHERE (scope, task, key) > (?1, ?2, ?3) ORDER BY scope, task, key LIMIT ?4";
    page_of(db, sql, params![scope, task, key, limit()], |row| {
        let key = IdempotencyKey::new(row.get_ref(2)?.as_str()?);
        let fingerprint = row.get_ref(3)?.as_blob()?.try_into();
        Ok(Record::Submit(KeptSubmit {
            idempotency: Idempotency {
                scope: Arc::from(row.get_ref(0)?.as_str()?),
                key: key.map_err(|error| damaged(2, format!("an idempotency key {error}")))?,
            },
            task: name(row, 1)?,
            fingerprint: Fingerprint(
                fingerprint.map_err(|_| damaged(3, "a fingerprint has 32 bytes"))?,
            ),
            id: id(row, 4)?,
            duplicate: row.get(5)?,
            at: Timestamp::from_millis(row.get(6)?),
        }))
    })
}

fn gone(db: &Connection, after: Option<&RecordKey>) -> std::result::Result<Vec<Entry>, Fault> {
    let after = match after {
        Some(RecordKey::Gone(id)) => id.as_bytes().as_slice(),
        _ => &[],
    };
    let sql = "SELECT id, at FROM gone WHERE id > ?1 ORDER BY id LIMIT ?2";
    page_of(db, sql, params![after, limit()], |row| {
        Ok(Record::Gone(KeptGone {
            id: id(row, 0)?,
            at: Timestamp::from_millis(row.get(1)?),
        }))
    })
}

fn limit() -> i64 {
    i64::try_from(PAGE_RECORDS_MAX).unwrap_or(i64::MAX)
}

/// Reads a page of records that each are one row.
fn page_of(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> Result<Record>,
) -> std::result::Result<Vec<Entry>, Fault> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut page = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let record = read(row)?;
        bytes += record.bytes();
        page.push(Ok(record));
        if bytes >= PAGE_BYTES_MAX {
            break;
        }
    }
    Ok(page)
}
