//! All that the database keeps, as records: the store without its writer and its nodes.
//!
//! What is read is seen as it was at one instant, in one transaction from the first look to the
//! last or to the next batch that is written: servers may go on meanwhile. An import is for a
//! database that no server works on, and each of its batches is a transaction.

mod check;
mod job;
mod pages;
mod put;

use super::database::Database;
use super::fault::Fault;
use super::open::{Missing, OpenError, PostgresOptions, broken, enter};
use super::rows::{get, instant, signed, unsigned};
use super::session::Session;
use super::url::PostgresUrl;
use crate::store::StoreError;
use crate::store::archive::{Archive, Counters, Entry, IMPORT_KIND, Record, RecordKey, RecordKind};
use anteroom_core::{ClaimNumber, Timestamp};
use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Looks from here on see the database as it is now. Whoever takes the pages may be slow (a pipe);
/// who takes none for an hour is gone, and keeps no dead rows in the way of others. The tables are locked
/// before that instant: a day that was dropped after it would be missing, and its rows with it.
const BEGIN_READING: &str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
    SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = '1h'; \
    LOCK TABLE job, done IN ACCESS SHARE MODE";
/// How many servers have said lately that they are alive, and what time it is.
const LIVING: &str = "SELECT count(*) FILTER (WHERE expires_at > clock.now), max(clock.now) \
    FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now) AS clock \
    LEFT JOIN node ON true";
const MARK: &str = "SELECT value FROM document WHERE kind = $1";

/// The content of a `PostgreSQL` store.
#[derive(Debug)]
pub struct PostgresArchive {
    address: String,
    /// None once it is closed.
    opened: Mutex<Option<Opened>>,
}

#[derive(Debug)]
struct Opened {
    session: Session,
    /// Jobs that were due by then are written as ready, and others as scheduled.
    begun_at: Timestamp,
    /// Whether it is within the transaction that it reads in.
    is_reading: bool,
}

impl PostgresArchive {
    /// Opens the content of a store that is there, to be read. Servers may work on it meanwhile: it
    /// is seen as it was at one instant, and what they do later is not.
    ///
    /// A database of an older version is brought forward, as by a server that opens it; else
    /// nothing is changed by that.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which says what to do.
    pub async fn open(url: PostgresUrl, options: PostgresOptions) -> Result<Self, OpenError> {
        let (database, _migrated) = enter(url, options, Missing::Refuse).await?;
        Self::begin(&database).await.map(|(archive, _)| archive)
    }

    /// Opens the content of a store that no server works on, to be written, or makes an empty one where
    /// there is none.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which says what to do.
    pub async fn open_or_make(
        url: PostgresUrl,
        options: PostgresOptions,
    ) -> Result<Self, OpenError> {
        let (database, _migrated) = enter(url, options, Missing::Make).await?;
        let (archive, servers) = Self::begin(&database).await?;
        if servers > 0 {
            let address = archive.address;
            return Err(OpenError::InUse { address, servers });
        }
        Ok(archive)
    }

    /// Connects, and returns how many servers work on the store as well.
    async fn begin(database: &Arc<Database>) -> Result<(Self, u64), OpenError> {
        let connected = async {
            let session = database.connect("archive").await?;
            let (servers, now) = living(&session).await?;
            Ok((session, servers, now))
        };
        let connected: Result<_, Fault> = connected.await;
        let (session, servers, begun_at) = connected.map_err(|fault| broken(database, fault))?;
        let archive = Self {
            address: database.url().address(),
            opened: Mutex::new(Some(Opened {
                session,
                begun_at,
                is_reading: false,
            })),
        };
        Ok((archive, servers))
    }

    /// Looks at the database as it was when the first look since the last batch was taken.
    async fn read<T>(
        &self,
        look: impl AsyncFnOnce(&Session) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.with(async |opened| {
            if !opened.is_reading {
                opened.session.begin().await?;
                opened.is_reading = true;
                opened.session.run(BEGIN_READING).await?;
            }
            look(&opened.session).await
        })
        .await
    }

    /// Changes the database in one transaction, which `step` leaves to be committed.
    async fn write<T>(
        &self,
        step: impl AsyncFnOnce(&Session) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.with(async |opened| {
            opened.end_reading().await?;
            opened.session.begin().await?;
            let done = step(&opened.session).await;
            opened.session.end(done).await
        })
        .await
    }

    async fn with<T>(
        &self,
        step: impl AsyncFnOnce(&mut Opened) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let mut opened = self.opened.lock().await;
        let Some(opened) = &mut *opened else {
            return Err(StoreError::Closed);
        };
        let done = step(opened).await;
        if done.is_err() {
            // What failed has spoilt the transaction. Where even this fails the connection is broken.
            let _as_good = opened.end_reading().await;
        }
        done.map_err(|fault| self.error(fault))
    }

    fn error(&self, fault: Fault) -> StoreError {
        let named = |reason| format!("PostgreSQL at {}: {reason}", self.address);
        match fault {
            Fault::Passing(reason) | Fault::Conflict(reason) => StoreError::Unavailable {
                reason: named(reason),
            },
            Fault::Unknown(reason) => StoreError::Unknown {
                reason: named(reason),
            },
            Fault::Damaged(reason) => StoreError::Failed {
                reason: named(reason),
            },
        }
    }
}

impl Opened {
    async fn end_reading(&mut self) -> Result<(), Fault> {
        if self.is_reading {
            self.is_reading = false;
            self.session.run("ROLLBACK").await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Archive for PostgresArchive {
    async fn counters(&self) -> Result<Counters, StoreError> {
        self.read(counters).await
    }

    async fn page(
        &self,
        kind: RecordKind,
        after: Option<&RecordKey>,
    ) -> Result<Vec<Entry>, StoreError> {
        self.read(async |session| pages::page(session, kind, after).await)
            .await
    }

    async fn importing(&self) -> Result<Option<String>, StoreError> {
        self.read(import_mark).await
    }

    async fn begin_import(&self, mark: &str, counters: Counters) -> Result<(), StoreError> {
        self.write(async |session| begin_import(session, mark, counters).await)
            .await
    }

    async fn put(&self, records: Vec<Record>) -> Result<(), StoreError> {
        self.with(async |opened| {
            opened.end_reading().await?;
            put::put(&opened.session, records, opened.begun_at).await
        })
        .await
    }

    async fn end_import(&self) -> Result<(), StoreError> {
        self.write(async |session| {
            let sql = "DELETE FROM document WHERE kind = $1";
            session.execute(sql, &[&IMPORT_KIND]).await?;
            Ok(())
        })
        .await
    }

    async fn check(&self) -> Result<Vec<String>, StoreError> {
        self.read(check::check).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        // What was written is on the disk since its commit.
        if let Some(mut opened) = self.opened.lock().await.take() {
            let ended = opened.end_reading().await;
            return ended.map_err(|fault| self.error(fault));
        }
        Ok(())
    }
}

/// Returns the mark of an import that was begun and not ended.
pub(super) async fn import_mark(session: &Session) -> Result<Option<String>, Fault> {
    let row = session.query_opt(MARK, &[&IMPORT_KIND]).await?;
    row.map(|row| super::rows::text(&row, 0)).transpose()
}

/// Waits for an import that is about to begin, if there is one, and keeps others from it until the
/// transaction ends: so that either it sees this node, or this node its mark.
pub(super) async fn hold_off_imports(session: &Session) -> Result<(), Fault> {
    let sql = "SELECT number FROM document_version WHERE one = 1 FOR SHARE";
    session.query_opt(sql, &[]).await?;
    Ok(())
}

/// Returns how many servers live, and what time it is.
async fn living(session: &Session) -> Result<(u64, Timestamp), Fault> {
    let row = session.query_opt(LIVING, &[]).await?;
    let row = row.ok_or_else(|| Fault::Passing("the database tells no time".to_owned()))?;
    Ok((unsigned(&row, 0)?, instant(&row, 1)?))
}

/// Claims are drawn by the stretch, the last of which may be used up.
async fn counters(session: &Session) -> Result<Counters, Fault> {
    let sql = "SELECT coalesce(last_value + increment_by, start_value) - 1, \
        (SELECT number FROM document_version WHERE one = 1) \
        FROM pg_sequences WHERE schemaname = 'anteroom' AND sequencename = 'claim'";
    let row = session.query_opt(sql, &[]).await?;
    let row = row.ok_or_else(|| Fault::Damaged("the sequence claim is missing".to_owned()))?;
    if get::<Option<i64>>(&row, 1)?.is_none() {
        let missing = "the row of document_version is missing";
        return Err(Fault::Damaged(missing.to_owned()));
    }
    Ok(Counters {
        claim: ClaimNumber::new(unsigned(&row, 0)?),
        document_version: unsigned(&row, 1)?,
    })
}

async fn begin_import(session: &Session, mark: &str, counters: Counters) -> Result<(), Fault> {
    // Whoever joins the servers waits for this row: see `hold_off_imports`.
    let sql = "UPDATE document_version SET number = greatest(number, $1) WHERE one = 1";
    let version = signed(counters.document_version);
    session.execute(sql, &[&version]).await?;
    let (servers, _now) = living(session).await?;
    if servers > 0 {
        let reason = format!("the store is in use (running servers: {servers}); stop them first");
        return Err(Fault::Passing(reason));
    }
    // The next stretch begins beyond it.
    let sql = "SELECT setval('claim', greatest(last_value, $1)) FROM claim";
    session
        .query_opt(sql, &[&signed(counters.claim.get())])
        .await?;
    let sql = "INSERT INTO document (kind, name, version, value) VALUES ($1, 'mark', 0, $2)";
    session
        .execute(sql, &[&IMPORT_KIND, &mark.as_bytes()])
        .await?;
    Ok(())
}
