//! All that the database keeps, as records: the store without its writer, its order and its readers.
//!
//! It has the database for itself, by the same lock, and does one thing after the other on one
//! connection. What it reads it leaves as it is; what it writes is a transaction for each batch.

mod check;
mod job;
mod pages;
mod put;

use super::fault::{Fault, OpenError};
use super::lock::Lock;
use super::open::{Missing, enter, import_mark};
use super::rows::{name, signed};
use crate::store::StoreError;
use crate::store::archive::{Archive, Counters, Entry, IMPORT_KIND, Record, RecordKey, RecordKind};
use anteroom_core::ClaimNumber;
use async_trait::async_trait;
use rusqlite::{Connection, TransactionBehavior, params};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::task::spawn_blocking;

/// Pages of the log from which on an import has it merged: as many as a few batches make.
const LOG_PAGES_MERGED: i64 = 8_000;

/// The content of an `SQLite` store that no server has open.
#[derive(Debug)]
pub struct SqliteArchive {
    path: PathBuf,
    /// None once it is closed.
    opened: Arc<Mutex<Option<Opened>>>,
}

#[derive(Debug)]
struct Opened {
    db: Connection,
    _lock: Lock,
}

impl SqliteArchive {
    /// Opens the content of the database at `path`, which has to be there.
    ///
    /// A database of an older version is brought forward, as by a server that opens it; else
    /// nothing is changed by that.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which names the file and what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::enter(path.as_ref(), Missing::Refuse)
    }

    /// Opens the content of the database at `path`, or makes an empty one where there is nothing.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which names the file and what to do.
    pub fn open_or_make(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::enter(path.as_ref(), Missing::Make)
    }

    fn enter(path: &Path, missing: Missing) -> Result<Self, OpenError> {
        let (db, lock) = enter(path, missing)?;
        db.pragma_update_and_check(None, "wal_autocheckpoint", LOG_PAGES_MERGED, |_| Ok(()))
            .map_err(|error| OpenError::sqlite(path, &error))?;
        let opened = Opened { db, _lock: lock };
        Ok(Self {
            path: path.to_owned(),
            opened: Arc::new(Mutex::new(Some(opened))),
        })
    }

    /// Does something with the database, on a thread that may wait for the disk.
    async fn with<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let opened = self.opened.clone();
        let done = spawn_blocking(move || {
            let Ok(mut opened) = opened.lock() else {
                return Err(Fault::Final("a step panicked".to_owned()));
            };
            match &mut *opened {
                Some(opened) => step(&mut opened.db).map(Some),
                None => Ok(None),
            }
        });
        let path = self.path.display();
        let error = |reason| StoreError::Failed {
            reason: format!("{path}: {reason}"),
        };
        match done.await {
            Ok(Ok(Some(done))) => Ok(done),
            Ok(Ok(None)) => Err(StoreError::Closed),
            Ok(Err(Fault::Passing(reason))) => Err(StoreError::Unavailable {
                reason: format!("{path}: {reason}"),
            }),
            Ok(Err(Fault::Final(reason))) => Err(error(reason)),
            Ok(Err(Fault::Unknown(fault))) => Err(StoreError::Unknown {
                reason: format!("{path}: {fault:?}"),
            }),
            Err(panicked) => Err(error(panicked.to_string())),
        }
    }
}

#[async_trait]
impl Archive for SqliteArchive {
    async fn counters(&self) -> Result<Counters, StoreError> {
        self.with(|db| Ok(counters(db)?)).await
    }

    async fn page(
        &self,
        kind: RecordKind,
        after: Option<&RecordKey>,
    ) -> Result<Vec<Entry>, StoreError> {
        let after = after.cloned();
        self.with(move |db| pages::page(db, kind, after.as_ref()))
            .await
    }

    async fn importing(&self) -> Result<Option<String>, StoreError> {
        self.with(|db| Ok(import_mark(db)?)).await
    }

    async fn begin_import(&self, mark: &str, counters: Counters) -> Result<(), StoreError> {
        let mark = mark.to_owned();
        self.with(move |db| begin_import(db, &mark, counters)).await
    }

    async fn put(&self, records: Vec<Record>) -> Result<(), StoreError> {
        self.with(move |db| put::put(db, &records)).await
    }

    async fn end_import(&self) -> Result<(), StoreError> {
        self.with(|db| {
            db.execute("DELETE FROM document WHERE kind = ?1", [IMPORT_KIND])
                .map_err(Fault::of_commit)?;
            Ok(())
        })
        .await
    }

    async fn check(&self) -> Result<Vec<String>, StoreError> {
        self.with(|db| check::check(db)).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.with(|db| Ok(db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?))
            .await?;
        if let Ok(mut opened) = self.opened.lock() {
            // The connection merges what is left, which is nothing, and removes the log.
            if let Some(Opened { db, .. }) = &*opened {
                let merge = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
                // Refused, the log stays, empty as it is.
                let _stays = db.set_db_config(merge, false).is_err();
            }
            *opened = None;
        }
        Ok(())
    }
}

fn counters(db: &Connection) -> rusqlite::Result<Counters> {
    let opening: i64 = db.query_row("SELECT number FROM opening", [], |row| row.get(0))?;
    let version: i64 = db.query_row("SELECT number FROM document_version", [], |row| row.get(0))?;
    let next = ClaimNumber::first_of_opening(opening.unsigned_abs() + 1);
    Ok(Counters {
        claim: ClaimNumber::new(next.get() - 1),
        document_version: version.unsigned_abs(),
    })
}

fn begin_import(db: &mut Connection, mark: &str, counters: Counters) -> Result<(), Fault> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // The one that is opened next draws greater ones.
    let opening = signed(ClaimNumber::opening(counters.claim));
    transaction.execute("UPDATE opening SET number = max(number, ?1)", [opening])?;
    let version = signed(counters.document_version);
    transaction.execute(
        "UPDATE document_version SET number = max(number, ?1)",
        [version],
    )?;
    transaction.execute(
        "INSERT INTO document (kind, name, version, value) VALUES (?1, 'mark', 0, ?2)",
        params![IMPORT_KIND, mark.as_bytes()],
    )?;
    transaction.commit().map_err(Fault::of_commit)
}

/// Returns what is wrong with a row, in its own words.
fn in_words(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::FromSqlConversionFailure(_, _, why) => why.to_string(),
        error => error.to_string(),
    }
}
