//! The tables, and how a database of an older version is brought forward.
//!
//! Nodes of two versions work on one database while they are replaced one by one. So a migration
//! may only add what the version before it does not miss and is not hurt by (a table, a column with
//! a default, an index); what nobody uses any more is removed by a migration of the version after
//! the last one that did. A migration that was published is never changed.

use super::database::SCHEMA;
use super::fault::Fault;
use super::session::Session;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Held by whoever looks at the version or changes it: "Anteroom".
const LOCK: i64 = 0x416e_7465_726f_6f6d;

/// What makes one version of the schema out of the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Migration {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

/// All of them, from version 1.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0001",
        sql: include_str!("migrations/0001.sql"),
    },
    Migration {
        name: "0002",
        sql: concat!(
            include_str!("migrations/0002_tables.sql"),
            include_str!("migrations/0002_options.sql"),
            include_str!("migrations/0002_commit.sql"),
            include_str!("migrations/0002_submit.sql"),
        ),
    },
];

/// From which version to which a database was brought. 0: there was nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The version that was found.
    pub from: u32,
    /// The version that it has now.
    pub to: u32,
}

/// Why a database was not brought forward. Nothing was changed by the step that failed.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The schema is there and holds something else.
    Foreign,
    /// It was made by a newer version of us.
    Newer { version: u32 },
    /// A migration that was made there is not the one that we know by its number.
    Altered { version: u32 },
    /// The user may not make the schema, or tables in it.
    NoRight { what: String },
    /// What came in between.
    Fault(Fault),
}

impl<T: Into<Fault>> From<T> for Refusal {
    fn from(fault: T) -> Self {
        Self::Fault(fault.into())
    }
}

/// What the database says of its schema.
struct Found {
    version: u32,
    is_schema_there: bool,
    is_list_there: bool,
}

/// Brings the schema to the version of the last of `migrations`, each in a transaction of its own.
///
/// Any number of nodes may do so at once: one after the other looks and does what is left.
pub(super) async fn bring_forward(
    session: &Session,
    migrations: &[Migration],
) -> Result<Migrated, Refusal> {
    let mut from = None;
    loop {
        session.begin().await?;
        let step = step(session, migrations).await;
        let end = if step.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = session.run(end).await;
        let (found, reached) = step?;
        ended?;
        let from = *from.get_or_insert(found);
        if reached as usize >= migrations.len() {
            return Ok(Migrated { from, to: reached });
        }
    }
}

/// Makes the next migration, if one is left, and returns the version before and after.
async fn step(session: &Session, migrations: &[Migration]) -> Result<(u32, u32), Refusal> {
    // A migration takes as long as it takes, and so does waiting for somebody else's.
    session.run("SET LOCAL statement_timeout = 0").await?;
    session
        .query("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    let found = look(session, migrations).await?;
    let version = found.version;
    let Some(migration) = migrations.get(version as usize) else {
        return Ok((version, version));
    };
    make_room(session, &found).await?;
    session.run(migration.sql).await?;
    let next = version + 1;
    session
        .execute(
            "INSERT INTO anteroom.migration (version, name, checksum) VALUES ($1, $2, $3)",
            &[&i64::from(next), &migration.name, &checksum(migration.sql)],
        )
        .await?;
    Ok((version, next))
}

/// Returns what is there, if it is ours and not newer.
async fn look(session: &Session, migrations: &[Migration]) -> Result<Found, Refusal> {
    let sql = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'anteroom'), \
        count(*) > 0, \
        count(*) FILTER (WHERE relname = 'migration' AND EXISTS (SELECT FROM pg_attribute \
            WHERE attrelid = pg_class.oid AND attname = 'checksum')) > 0, \
        coalesce(bool_and(has_schema_privilege(relnamespace, 'USAGE')), true), \
        coalesce(bool_and(has_table_privilege(oid, 'SELECT')) \
            FILTER (WHERE relname = 'migration'), true), \
        current_user::text \
        FROM pg_class \
        WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'anteroom')";
    let rows = session.query(sql, &[]).await?;
    let is = |at| rows.first().is_some_and(|row| row.get(at));
    let (is_schema_there, holds_something, is_list_there) = (is(0), is(1), is(2));
    if !is(3) || !is(4) {
        let user: String = rows.first().map_or(String::new(), |row| row.get(5));
        let what = format!(
            "user {user} may not read the schema anteroom; GRANT USAGE ON SCHEMA {SCHEMA} TO {user}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {SCHEMA} TO {user}; \
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA {SCHEMA} TO {user}"
        );
        return Err(Refusal::NoRight { what });
    }
    let mut found = Found {
        version: 0,
        is_schema_there,
        is_list_there,
    };
    if !is_list_there {
        return if holds_something {
            Err(Refusal::Foreign)
        } else {
            Ok(found)
        };
    }
    let sql = "SELECT version, checksum FROM anteroom.migration ORDER BY version";
    for (at, row) in session.query(sql, &[]).await?.iter().enumerate() {
        let number: i64 = row.try_get(0)?;
        let version = u32::try_from(number).map_err(|_| Refusal::Foreign)?;
        let Some(known) = migrations.get(at) else {
            found.version = version;
            continue;
        };
        if version as usize != at + 1 || row.try_get::<_, String>(1)? != checksum(known.sql) {
            return Err(Refusal::Altered { version });
        }
        found.version = version;
    }
    if found.version as usize > migrations.len() {
        let version = found.version;
        return Err(Refusal::Newer { version });
    }
    Ok(found)
}

/// Makes the schema and the list of its migrations where they are not there yet.
async fn make_room(session: &Session, found: &Found) -> Result<(), Refusal> {
    let sql = "SELECT has_database_privilege(current_database(), 'CREATE'), \
        coalesce(has_schema_privilege(to_regnamespace('anteroom')::oid, 'CREATE'), false), \
        current_user::text, current_database()::text";
    let rows = session.query(sql, &[]).await?;
    let may = |at| rows.first().is_some_and(|row| row.get(at));
    let name = |at| rows.first().map_or(String::new(), |row| row.get(at));
    if !found.is_schema_there {
        if !may(0) {
            let what = format!(
                "user {user} may not make the schema anteroom in the database {database}; \
                 grant CREATE on the database, or make the schema for the user: \
                 CREATE SCHEMA {SCHEMA} AUTHORIZATION {user}",
                user = name(2),
                database = name(3),
            );
            return Err(Refusal::NoRight { what });
        }
        session.run("CREATE SCHEMA anteroom").await?;
    } else if !may(1) {
        let what = format!(
            "user {user} may not make tables in the schema anteroom; \
             start once as a user who may, or: GRANT CREATE, USAGE ON SCHEMA {SCHEMA} TO {user}",
            user = name(2),
        );
        return Err(Refusal::NoRight { what });
    }
    if !found.is_list_there {
        session
            .run(
                "CREATE TABLE anteroom.migration (version bigint PRIMARY KEY, name text NOT NULL, \
                 checksum text NOT NULL, at timestamptz NOT NULL DEFAULT now())",
            )
            .await?;
    }
    Ok(())
}

/// Returns the SHA-256 of a migration, in hexadecimal digits.
fn checksum(sql: &str) -> String {
    let digest = Sha256::digest(sql.as_bytes());
    digest.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
