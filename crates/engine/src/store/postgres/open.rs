//! What is looked at before anything is acknowledged: whether the database can be reached, keeps
//! what it commits, and has our tables. Each refusal says what to do.

use super::database::{Database, Unreached};
use super::fault::{Fault, words};
use super::schema::{MIGRATIONS, Migrated, Refusal, bring_forward};
use super::session::Session;
use super::url::PostgresUrl;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tracing::{info, warn};

/// The oldest server that is asked, as it numbers itself.
const VERSION_MIN: i32 = 140_000;
/// How long a statement may wait for a connection of the pooler's while another is held.
const POOLER_PATIENCE: Duration = Duration::from_secs(2);
/// How often a pooler is asked for a statement that was prepared over another connection.
const POOLER_TRIES: u32 = 5;

/// What may be allowed to a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// Takes a server that runs without `fsync`, which loses what it acknowledged when the power
    /// fails. For tests that are not about that. Default false.
    pub allow_fsync_off: bool,
}

/// Why a database was not opened. Nothing was acknowledged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The authorities that the URL names cannot be read.
    #[error("{detail}")]
    Authorities {
        /// Which, and why.
        detail: String,
    },
    /// There is no connection to be had. Worth another try.
    #[error("{detail}; is the server running, and is this where it listens?")]
    Unreachable {
        /// Where, and what was said.
        detail: String,
    },
    /// It does not let the user in.
    #[error(
        "PostgreSQL at {address} does not let user {user:?} in: {detail}; \
         check the user and the password of the URL, and pg_hba.conf"
    )]
    Login {
        /// Where.
        address: String,
        /// Who.
        user: String,
        /// What it said.
        detail: String,
    },
    /// There is no such database.
    #[error(
        "there is no database {database:?} at {address}; \
         name another one, or make it: CREATE DATABASE \"{database}\""
    )]
    NoDatabase {
        /// Where.
        address: String,
        /// Its name.
        database: String,
    },
    /// The user may not do what has to be done.
    #[error("{detail}")]
    NoRight {
        /// What, and which right to grant.
        detail: String,
    },
    /// The server is too old.
    #[error("PostgreSQL at {address} is version {found}; the oldest that can be used is 14")]
    TooOld {
        /// Where.
        address: String,
        /// What it says that it is.
        found: String,
    },
    /// Nothing is safe there.
    #[error(
        "PostgreSQL at {address} runs with fsync = off, so that a power cut loses jobs and may \
         destroy the database; set fsync = on"
    )]
    FsyncOff {
        /// Where.
        address: String,
    },
    /// Nothing can be written there.
    #[error("PostgreSQL at {address} cannot be written to: {why}; name the primary")]
    ReadOnly {
        /// Where.
        address: String,
        /// What it says.
        why: &'static str,
    },
    /// Texts are not kept as they are.
    #[error(
        "the database {database:?} at {address} has the encoding {found}; \
         make one with ENCODING 'UTF8'"
    )]
    Encoding {
        /// Where.
        address: String,
        /// Its name.
        database: String,
        /// Its encoding.
        found: String,
    },
    /// A commit would be acknowledged before it is on the disk.
    #[error(
        "PostgreSQL at {address} does not take synchronous_commit = on but stays at {found}; \
         a pooler or an extension may be in the way"
    )]
    CommitsLate {
        /// Where.
        address: String,
        /// What it stays at.
        found: String,
    },
    /// What stands in between forgets prepared statements.
    #[error(
        "what answers at {address} is a connection pooler that does not keep prepared statements: \
         {detail}; with PgBouncer take version 1.21 or later and set max_prepared_statements \
         (to 200, say), or name the server itself"
    )]
    Pooler {
        /// Where.
        address: String,
        /// What was said.
        detail: String,
    },
    /// Something else is kept under our name.
    #[error(
        "the schema anteroom of the database {database:?} at {address} is not ours; \
         name another database"
    )]
    Foreign {
        /// Where.
        address: String,
        /// The database.
        database: String,
    },
    /// It was made by a newer version.
    #[error(
        "the schema anteroom at {address} has version {found}, made by a newer anteroom; \
         this one knows versions up to {known}: start the newer one"
    )]
    Newer {
        /// Where.
        address: String,
        /// Its version.
        found: u32,
        /// The newest version that is known here.
        known: u32,
    },
    /// It was not made by a release of ours.
    #[error(
        "version {version} of the schema anteroom at {address} was made by other statements than \
         this anteroom has for it; start the one that made it, or name another database"
    )]
    Altered {
        /// Where.
        address: String,
        /// The version.
        version: u32,
    },
    /// There is no store of ours.
    #[error(
        "there is no store in the database {database:?} at {address}; \
         name another one, or import into it"
    )]
    NoStore {
        /// Where.
        address: String,
        /// The database.
        database: String,
    },
    /// It is in the middle of an import.
    #[error(
        "the store at {address} is in the middle of an import that was begun and not completed; \
         run `anteroom store import` again with the same file, or remove it: \
         DROP SCHEMA anteroom CASCADE"
    )]
    HalfImported {
        /// Where.
        address: String,
    },
    /// Servers work on it. Worth another try once they have stopped.
    #[error(
        "the store at {address} is in use (running servers: {servers}); stop them first: \
         one that was killed is taken for gone after 20 s"
    )]
    InUse {
        /// Where.
        address: String,
        /// How many.
        servers: u64,
    },
    /// It failed while it was being opened. Worth another try.
    #[error("PostgreSQL at {address} failed while it was opened: {detail}")]
    Broken {
        /// Where.
        address: String,
        /// What it said.
        detail: String,
    },
}

/// What to do where our tables are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Make,
    Refuse,
}

/// Opens a database: checks it, and brings its schema forward.
pub(super) async fn open(
    url: PostgresUrl,
    options: PostgresOptions,
) -> Result<(Arc<Database>, Migrated), OpenError> {
    enter(url, options, Missing::Make).await
}

/// Opens a database as [`open`] does, and makes tables in an empty one only if it may.
pub(super) async fn enter(
    url: PostgresUrl,
    options: PostgresOptions,
    missing: Missing,
) -> Result<(Arc<Database>, Migrated), OpenError> {
    let database = Database::new(url).map_err(|detail| OpenError::Authorities { detail })?;
    let reached = database.reach("open").await;
    let session = reached.map_err(|error| unreached(&database, &error))?;
    let broken = |fault: Fault| broken(&database, fault);
    check_server(&session, &database, options).await?;
    if session.is_pooled() {
        check_pooler(&session, &database).await?;
    }
    if missing == Missing::Refuse && is_empty(&session).await.map_err(broken)? {
        return Err(OpenError::NoStore {
            address: database.url().address(),
            database: database.url().database().to_owned(),
        });
    }
    let migrated = bring_forward(&session, MIGRATIONS).await;
    let migrated = migrated.map_err(|refusal| refused(&database, refusal))?;
    if let Some(detail) = missing_rights(&session).await.map_err(broken)? {
        return Err(OpenError::NoRight { detail });
    }
    let Migrated { from, to } = migrated;
    if from < to {
        let address = database.url().address();
        info!(
            from,
            to, "brought the schema at {address} from version {from} to {to}"
        );
    }
    Ok((Arc::new(database), migrated))
}

/// Says why there is no connection.
fn unreached(database: &Database, error: &Unreached) -> OpenError {
    let url = database.url();
    let address = url.address();
    let login = |detail| OpenError::Login {
        address: url.address(),
        user: url.config.get_user().unwrap_or_default().to_owned(),
        detail,
    };
    if let Unreached::Said(said) = error {
        let lacks_password = || !url.has_password() && words(said).contains("password missing");
        match said.code() {
            Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
                return login(words(said));
            }
            Some(&SqlState::INVALID_CATALOG_NAME) => {
                let database = url.database().to_owned();
                return OpenError::NoDatabase { address, database };
            }
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                let (said, database) = (words(said), url.database());
                let detail = format!("{said}; grant CONNECT on the database {database:?}");
                return OpenError::NoRight { detail };
            }
            None if lacks_password() => return login("it asks for a password".to_owned()),
            _ => {}
        }
    }
    let detail = database.unreached(error);
    OpenError::Unreachable { detail }
}

pub(super) fn broken(database: &Database, fault: Fault) -> OpenError {
    let (Fault::Passing(detail)
    | Fault::Conflict(detail)
    | Fault::Unknown(detail)
    | Fault::Damaged(detail)) = fault;
    let address = database.url().address();
    OpenError::Broken { address, detail }
}

fn refused(database: &Database, refusal: Refusal) -> OpenError {
    let address = database.url().address();
    match refusal {
        Refusal::Foreign => OpenError::Foreign {
            address,
            database: database.url().database().to_owned(),
        },
        Refusal::Newer { version: found } => OpenError::Newer {
            address,
            found,
            known: u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX),
        },
        Refusal::Altered { version } => OpenError::Altered { address, version },
        Refusal::NoRight { what: detail } => OpenError::NoRight { detail },
        Refusal::Fault(fault) => broken(database, fault),
    }
}

/// Looks at how the server is set.
async fn check_server(
    session: &Session,
    database: &Database,
    options: PostgresOptions,
) -> Result<(), OpenError> {
    let sql = "SELECT current_setting('server_version_num')::integer, \
        current_setting('server_version'), current_setting('fsync'), \
        current_setting('full_page_writes'), current_setting('synchronous_commit'), \
        current_setting('transaction_read_only'), pg_is_in_recovery(), \
        current_setting('server_encoding')";
    let rows = session.query(sql, &[]).await;
    let rows = rows.map_err(|error| broken(database, error.into()))?;
    let Some(row) = rows.first() else {
        let fault = Fault::Passing("it says nothing of itself".to_owned());
        return Err(broken(database, fault));
    };
    let address = database.url().address();
    let text = |at| row.get::<_, String>(at);
    if row.get::<_, i32>(0) < VERSION_MIN {
        let found = text(1);
        return Err(OpenError::TooOld { address, found });
    }
    if row.get(6) {
        let why = "it is a standby";
        return Err(OpenError::ReadOnly { address, why });
    }
    if text(5) == "on" {
        let why = "default_transaction_read_only is on";
        return Err(OpenError::ReadOnly { address, why });
    }
    if text(7) != "UTF8" {
        return Err(OpenError::Encoding {
            address,
            database: database.url().database().to_owned(),
            found: text(7),
        });
    }
    if text(2) != "on" {
        if !options.allow_fsync_off {
            return Err(OpenError::FsyncOff { address });
        }
        warn!("PostgreSQL at {address} runs with fsync = off: a power cut loses jobs");
    }
    // There are file systems that never write half a page, and whoever has one may know it.
    if text(3) != "on" {
        warn!(
            "PostgreSQL at {address} runs with full_page_writes = off: unless its file system \
             never leaves a page half written, a power cut may destroy the database"
        );
    }
    if !super::database::DURABLE.contains(&&*text(4)) {
        let found = text(4);
        return Err(OpenError::CommitsLate { address, found });
    }
    Ok(())
}

/// Has a statement, once prepared, run over another connection of the pooler's.
async fn check_pooler(session: &Session, database: &Database) -> Result<(), OpenError> {
    let other = database.reach("open").await;
    let other = other.map_err(|error| unreached(database, &error))?;
    let address = database.url().address();
    for attempt in 0..POOLER_TRIES {
        // One of its own for each, and prepared by one of the two only.
        let sql = format!("SELECT {attempt}::integer + $1::integer");
        let tried = async {
            session.query(&sql, &[&1_i32]).await?;
            // A pooler gives what was used last: it is held here.
            other.begin().await?;
            let again = timeout(POOLER_PATIENCE, session.query(&sql, &[&1_i32])).await;
            other.run("ROLLBACK").await?;
            // It may have but one connection: then there is none to confuse.
            again.unwrap_or(Ok(Vec::new()))
        };
        if let Err(error) = tried.await {
            let detail = words(&error);
            return Err(OpenError::Pooler { address, detail });
        }
    }
    Ok(())
}

/// Tells whether there is nothing under our name.
async fn is_empty(session: &Session) -> Result<bool, Fault> {
    let sql = "SELECT NOT EXISTS (SELECT FROM pg_class \
        WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'anteroom'))";
    let row = session.query_opt(sql, &[]).await?;
    Ok(row.is_some_and(|row| row.get(0)))
}

/// Says what the user may not do with our tables.
async fn missing_rights(session: &Session) -> Result<Option<String>, Fault> {
    let sql = "SELECT current_user::text, string_agg(relname, ', ' ORDER BY relname) \
        FROM pg_class WHERE relnamespace = to_regnamespace('anteroom') AND CASE relkind \
            WHEN 'S' THEN NOT has_sequence_privilege(oid, 'USAGE') \
            WHEN 'v' THEN NOT has_table_privilege(oid, 'SELECT') \
            WHEN 'r' THEN relname <> 'migration' AND NOT relispartition \
                AND NOT (has_table_privilege(oid, 'SELECT') \
                AND has_table_privilege(oid, 'INSERT') AND has_table_privilege(oid, 'UPDATE') \
                AND has_table_privilege(oid, 'DELETE')) \
            WHEN 'p' THEN NOT (has_table_privilege(oid, 'SELECT') \
                AND has_table_privilege(oid, 'INSERT') AND has_table_privilege(oid, 'UPDATE') \
                AND has_table_privilege(oid, 'DELETE')) \
            ELSE false END";
    let rows = session.query(sql, &[]).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let user: String = row.try_get(0)?;
    let tables: Option<String> = row.try_get(1)?;
    Ok(tables.map(|tables| {
        format!(
            "user {user} may not read and write all of the schema anteroom ({tables}); \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA anteroom TO {user}; \
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA anteroom TO {user}"
        )
    }))
}
