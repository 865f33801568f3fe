//! The records of the database in the order of their keys, a page at a time.

use super::job::jobs;
use crate::store::archive::{
    Entry, IMPORT_KIND, KeptDocument, KeptGone, KeptPace, KeptSubmit, PAGE_BYTES_MAX,
    PAGE_RECORDS_MAX, Record, RecordKey, RecordKind,
};
use crate::store::postgres::documents::read as document;
use crate::store::postgres::fault::Fault;
use crate::store::postgres::queues::queues_alone;
use crate::store::postgres::rows::{fingerprint, get, id, instant, name, uuid};
use crate::store::postgres::session::{Session, Values};
use anteroom_core::limits::DOCUMENT_BYTES_MAX;
use anteroom_core::{Idempotency, IdempotencyKey, Pace};
use std::sync::Arc;
use tokio_postgres::Row;
use uuid::Uuid;

/// Documents that are read at once: as many as cannot be too much, however large they are.
const DOCUMENTS_READ: i64 = 4;
const _: () = assert!(4 * DOCUMENT_BYTES_MAX <= PAGE_BYTES_MAX);

pub(super) async fn page(
    session: &Session,
    kind: RecordKind,
    after: Option<&RecordKey>,
) -> Result<Vec<Entry>, Fault> {
    match kind {
        RecordKind::Document => documents(session, after).await,
        RecordKind::Queue => queues(session, after).await,
        RecordKind::Pace => paces(session, after).await,
        RecordKind::Job => match after {
            Some(RecordKey::Job(id)) => jobs(session, Some(*id)).await,
            _ => jobs(session, None).await,
        },
        RecordKind::Submit => submits(session, after).await,
        RecordKind::Gone => gone(session, after).await,
    }
}

async fn documents(session: &Session, after: Option<&RecordKey>) -> Result<Vec<Entry>, Fault> {
    let (kind, name_after) = match after {
        Some(RecordKey::Document(kind, name)) => (&**kind, &**name),
        _ => ("", ""),
    };
    let sql = "SELECT name, version, value, kind FROM document \
         WHERE kind <> $1 AND (kind, name) > ($2, $3) ORDER BY kind, name LIMIT $4";
    let values: Values<'_> = &[&IMPORT_KIND, &kind, &name_after, &DOCUMENTS_READ];
    page_of(session, sql, values, |row| {
        Ok(Record::Document(KeptDocument {
            kind: name(row, 3)?,
            document: document(row)?,
        }))
    })
    .await
}

/// There are few, so that one page has them all.
async fn queues(session: &Session, after: Option<&RecordKey>) -> Result<Vec<Entry>, Fault> {
    let queues = queues_alone(session).await?;
    let queues = queues.into_iter().map(Record::Queue);
    let later = queues.filter(|record| after.is_none_or(|after| record.key() > *after));
    Ok(later.take(PAGE_RECORDS_MAX).map(Ok).collect())
}

async fn paces(session: &Session, after: Option<&RecordKey>) -> Result<Vec<Entry>, Fault> {
    let after = match after {
        Some(RecordKey::Pace(queue)) => &**queue,
        _ => "",
    };
    let sql = "SELECT queue, pace FROM limited WHERE queue > $1 AND pace <> 0 \
         ORDER BY queue LIMIT $2";
    page_of(session, sql, &[&after, &limit()], |row| {
        Ok(Record::Pace(KeptPace {
            queue: name(row, 0)?,
            pace: Pace::from_nanos(get(row, 1)?),
        }))
    })
    .await
}

async fn submits(session: &Session, after: Option<&RecordKey>) -> Result<Vec<Entry>, Fault> {
    let after = match after {
        Some(RecordKey::Submit(scope, task, key)) => (&**scope, &**task, &**key),
        _ => ("", "", ""),
    };
    let (scope, task, key) = after;
    let sql = "SELECT scope, task, key, fingerprint, id, duplicate, at FROM submit \
         WHERE (scope, task, key) > ($1, $2, $3) ORDER BY scope, task, key LIMIT $4";
    page_of(session, sql, &[&scope, &task, &key, &limit()], |row| {
        let key = IdempotencyKey::new(get(row, 2)?);
        let what = |error| Fault::Damaged(format!("a row is damaged: an idempotency key {error}"));
        Ok(Record::Submit(KeptSubmit {
            idempotency: Idempotency {
                scope: Arc::from(get::<&str>(row, 0)?),
                key: key.map_err(what)?,
            },
            task: name(row, 1)?,
            fingerprint: fingerprint(row, 3)?,
            id: id(row, 4)?,
            duplicate: get(row, 5)?,
            at: instant(row, 6)?,
        }))
    })
    .await
}

async fn gone(session: &Session, after: Option<&RecordKey>) -> Result<Vec<Entry>, Fault> {
    let (from, after) = match after {
        Some(RecordKey::Gone(id)) => (">", uuid(*id)),
        _ => (">=", Uuid::nil()),
    };
    let sql = format!("SELECT id, at FROM gone WHERE id {from} $1 ORDER BY id LIMIT $2");
    page_of(session, &sql, &[&after, &limit()], |row| {
        Ok(Record::Gone(KeptGone {
            id: id(row, 0)?,
            at: instant(row, 1)?,
        }))
    })
    .await
}

pub(super) fn limit() -> i64 {
    i64::try_from(PAGE_RECORDS_MAX).unwrap_or(i64::MAX)
}

/// Reads a page of records that each are one row.
async fn page_of(
    session: &Session,
    sql: &str,
    values: Values<'_>,
    read: impl Fn(&Row) -> Result<Record, Fault>,
) -> Result<Vec<Entry>, Fault> {
    let rows = session.query(sql, values).await?;
    let mut page = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for row in &rows {
        let record = read(row)?;
        bytes += record.bytes();
        page.push(Ok(record));
        if bytes >= PAGE_BYTES_MAX {
            break;
        }
    }
    Ok(page)
}
