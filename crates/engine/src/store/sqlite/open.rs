//! Opens the database: refuses what is none of ours or damaged, makes it where there is nothing,
//! brings it forward, and rebuilds the order of the waiting jobs.
//!
//! A new database is made under another name, and only renamed once it is whole and on the disk,
//! so that a crash leaves either none or a good one. Never is one made where there was one.

use super::fault::OpenError;
use super::lock::{Lock, beside};
use super::order::{Order, Running};
use super::queues::{read_paces, read_queues};
use super::rows::{LIVE_JOB, instant, label, live_job, name, number, priority, state};
use super::schema::{APPLICATION_ID, MIGRATIONS, bring_forward, version};
use super::statements::Statements;
use super::writer::Beginning;
use crate::store::archive::IMPORT_KIND;
use anteroom_core::limits::LEASE_GRACE_MAX;
use anteroom_core::order::{LaneId, Waiting};
use anteroom_core::{ClaimNumber, Lease, Priority, State, Timestamp};
use rusqlite::config::DbConfig;
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Result as SqlResult, Row, Transaction, params,
};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The first version without the bug that loses commits when the log begins anew, as its number
/// and as text.
const LIBRARY_MIN: (i32, &str) = (3_051_003, "3.51.3");

/// What each `SQLite` file begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Where its header holds the application id.
const APPLICATION_ID_AT: usize = 68;
const HEADER_BYTES: usize = 100;

/// Opens the database at `path`, or makes it, and locks it.
pub(super) fn open(path: &Path, now: Timestamp) -> Result<Beginning, OpenError> {
    let (mut db, lock) = enter(path, Missing::Make)?;
    let damaged = |error| OpenError::sqlite(path, &error);
    if import_mark(&db).map_err(damaged)?.is_some() {
        let path = path.to_owned();
        return Err(OpenError::HalfImported { path });
    }
    let (order, last_claim) = begin_opening(&mut db, now).map_err(damaged)?;
    let gone: i64 = db
        .query_row("SELECT count(*) FROM gone", [], |row| row.get(0))
        .map_err(damaged)?;
    Ok(Beginning {
        db,
        lock,
        order,
        last_claim,
        gone: gone.unsigned_abs(),
    })
}

/// What to do where there is no database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Make an empty one.
    Make,
    /// Refuse.
    Refuse,
}

/// Opens the connection that writes to the database at `path`, brought forward to the present
/// schema, and locks it. Nothing else is changed.
pub(super) fn enter(path: &Path, missing: Missing) -> Result<(Connection, Lock), OpenError> {
    check_library(path)?;
    let folder = folder(path)?;
    let path = &followed(path)?;
    // Before there is a lock file beside nothing.
    if missing == Missing::Refuse {
        check_there(path)?;
    }
    let lock = Lock::take(path)?;
    match fs::metadata(path) {
        Ok(_) => check_header(path)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            check_no_log(path)?;
            create(path, &folder)?;
        }
        Err(error) => return Err(OpenError::file(path, "read")(error)),
    }
    let mut db = connect(path).map_err(|error| OpenError::sqlite(path, &error))?;
    check_version(path, &db)?;
    let damaged = |error| OpenError::sqlite(path, &error);
    bring_forward(&mut db, MIGRATIONS).map_err(damaged)?;
    Statements::prepare(&db).map_err(damaged)?;
    Ok((db, lock))
}

/// Opens a connection that reads the database at `path`, whoever has it open.
pub(super) fn look_into(path: &Path) -> Result<Connection, OpenError> {
    check_library(path)?;
    folder(path)?;
    let path = &followed(path)?;
    check_there(path)?;
    check_header(path)?;
    let db = connect_reader(path)?;
    check_version(path, &db)?;
    Ok(db)
}

fn check_there(path: &Path) -> Result<(), OpenError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            check_no_log(path)?;
            let path = path.to_owned();
            Err(OpenError::Missing { path })
        }
        // Whatever else is wrong with it is told by whoever reads it.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Returns the mark of an import that was begun and not ended.
pub(super) fn import_mark(db: &Connection) -> SqlResult<Option<String>> {
    let sql = "SELECT CAST(value AS TEXT) FROM document WHERE kind = ?1";
    db.query_row(sql, [IMPORT_KIND], |row| row.get(0))
        .optional()
}

/// Opens a connection for one reader.
pub(super) fn connect_reader(path: &Path) -> Result<Connection, OpenError> {
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        db.pragma_update(None, "query_only", true)?;
        db.pragma_update(None, "cache_size", -16_384)?;
        configure(&db)?;
        Ok(db)
    };
    open().map_err(|error| OpenError::sqlite(path, &error))
}

fn check_library(path: &Path) -> Result<(), OpenError> {
    let (number, needed) = LIBRARY_MIN;
    if rusqlite::version_number() >= number {
        return Ok(());
    }
    Err(OpenError::OldLibrary {
        path: path.to_owned(),
        found: rusqlite::version(),
        needed,
    })
}

pub(super) fn folder(path: &Path) -> Result<PathBuf, OpenError> {
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    if folder.is_dir() {
        return Ok(folder.to_owned());
    }
    Err(OpenError::NoFolder {
        path: path.to_owned(),
        folder: folder.to_owned(),
    })
}

/// Follows a link: its two names must not have two locks. One that leads nowhere is refused: what
/// it leads to may only be away, as a disk that is not mounted is.
fn followed(path: &Path) -> Result<PathBuf, OpenError> {
    match path.symlink_metadata() {
        Ok(found) if found.is_symlink() => match path.canonicalize() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(OpenError::LinkToNothing {
                    path: path.to_owned(),
                    target: fs::read_link(path).map_err(OpenError::file(path, "read"))?,
                })
            }
            followed => followed.map_err(OpenError::file(path, "followed")),
        },
        Ok(_) | Err(_) => Ok(path.to_owned()),
    }
}

fn check_header(path: &Path) -> Result<(), OpenError> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    File::open(path)
        .and_then(|file| file.take(HEADER_BYTES as u64).read_to_end(&mut header))
        .map_err(OpenError::file(path, "read"))?;
    let path = path.to_owned();
    if header.is_empty() {
        return Err(OpenError::Empty { path });
    }
    if !header.starts_with(MAGIC) {
        return Err(OpenError::NotADatabase { path });
    }
    let Some(id) = header.get(APPLICATION_ID_AT..APPLICATION_ID_AT + 4) else {
        let detail = format!("it ends after {} bytes", header.len());
        return Err(OpenError::Damaged { path, detail });
    };
    let application_id = id.iter().fold(0, |id, byte| (id << 8) | u32::from(*byte));
    if application_id != APPLICATION_ID {
        return Err(OpenError::Foreign {
            path,
            application_id,
        });
    }
    Ok(())
}

fn check_version(path: &Path, db: &Connection) -> Result<(), OpenError> {
    let version = version(db).map_err(|error| OpenError::sqlite(path, &error))?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let path = path.to_owned();
    if version > known {
        return Err(OpenError::Newer {
            path,
            version,
            known,
        });
    }
    if version == 0 {
        let detail = "it has no schema version".to_owned();
        return Err(OpenError::Damaged { path, detail });
    }
    Ok(())
}

/// A log without its database may hold jobs; an empty one does not.
fn check_no_log(path: &Path) -> Result<(), OpenError> {
    match fs::metadata(beside(path, "-wal")) {
        Ok(log) if log.len() > 0 => Err(OpenError::LogWithoutDatabase {
            path: path.to_owned(),
        }),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Makes an empty database. The lock is held, so that nobody else does.
fn create(path: &Path, folder: &Path) -> Result<(), OpenError> {
    let unfinished = beside(path, "-new");
    // What a crash left of an earlier try.
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let left = beside(&unfinished, suffix);
        match fs::remove_file(&left) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(OpenError::file(&left, "removed")(error)),
        }
    }
    // Made here, so that what the file system refuses is said in its own words.
    File::create_new(&unfinished).map_err(OpenError::file(&unfinished, "made"))?;
    let fill = || {
        let mut db = Connection::open(&unfinished)?;
        db.pragma_update(None, "page_size", 4_096)?;
        db.pragma_update(None, "application_id", APPLICATION_ID)?;
        bring_forward(&mut db, MIGRATIONS)?;
        db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        db.close().map_err(|(_, error)| error)
    };
    fill().map_err(|error| OpenError::Refused {
        path: unfinished.clone(),
        detail: error.to_string(),
    })?;
    File::open(&unfinished)
        .and_then(|file| file.sync_all())
        .map_err(OpenError::file(&unfinished, "written to the disk"))?;
    fs::rename(&unfinished, path).map_err(OpenError::file(path, "made"))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(OpenError::file(folder, "written to the disk"))
}

/// Opens the connection of the writer.
fn connect(path: &Path) -> SqlResult<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    configure(&db)?;
    db.pragma_update_and_check(None, "journal_mode", "wal", |row| {
        match row.get_ref(0)?.as_str()? {
            "wal" => Ok(()),
            _ => Err(rusqlite::Error::InvalidQuery),
        }
    })?;
    db.pragma_update(None, "synchronous", "full")?;
    // The writer does it itself, to learn of errors.
    db.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    // Room for what a commit of very many small jobs touches, and no more: where a tree was balanced,
    // the library goes through the whole cache at the commit. What a greater one changes goes to
    // the log before its end.
    db.pragma_update(None, "cache_size", -4_096)?;
    db.pragma_update(None, "foreign_keys", false)?;
    db.pragma_update(None, "temp_store", "memory")?;
    Ok(db)
}

/// Sets what holds for all connections.
fn configure(db: &Connection) -> SqlResult<()> {
    // Whether the log is merged at the end is up to the writer: not after a failure.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Or a statement with a range is prepared anew for each value bound to it.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Raises the number of openings and finds where every unfinished job stands.
fn begin_opening(db: &mut Connection, now: Timestamp) -> SqlResult<(Order, ClaimNumber)> {
    let transaction = db.transaction()?;
    let opening: i64 = transaction.query_row(
        "UPDATE opening SET number = number + 1 RETURNING number",
        [],
        |row| row.get(0),
    )?;
    let opened_at = ClaimNumber::first_of_opening(opening.unsigned_abs());
    let mut order = Order::new(opened_at, now);
    for queue in read_queues(&transaction)? {
        order.set_queue(queue);
    }
    let running = place_waiting(&transaction, &mut order)?;
    for seq in running {
        begin_running(&transaction, &mut order, seq, now)?;
    }
    // After the jobs: which queue had some first is what decides between those of one turn.
    for (queue, pace) in read_paces(&transaction)? {
        order.set_pace(&queue, pace);
    }
    transaction.commit()?;
    order.keep();
    Ok((order, opened_at))
}

/// Places the waiting jobs, and returns the keys of the running ones.
fn place_waiting(transaction: &Transaction<'_>, order: &mut Order) -> SqlResult<Vec<i64>> {
    let mut running = Vec::new();
    let mut lanes = Lanes::default();
    let mut statement = transaction.prepare(
        "SELECT seq, task, queue, priority, state, run_at, started_at, start_before, \"group\" \
         FROM live ORDER BY seq",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        if state(row, 4)? == State::Running {
            running.push(seq);
            continue;
        }
        let deadline = match number(row, 6)? {
            Some(_) => None,
            None => number(row, 7)?.map(Timestamp::from_millis),
        };
        let lane = lanes.of(row, order)?;
        order.place(Waiting {
            seq,
            lane,
            run_at: instant(row, 5)?,
            deadline,
        });
        order.keep_placed();
    }
    Ok(running)
}

/// Finds a lane by its names as they stand in the row: there are fewer than rows.
#[derive(Default)]
struct Lanes {
    known: HashMap<Vec<u8>, LaneId>,
    key: Vec<u8>,
}

impl Lanes {
    fn of(&mut self, row: &Row<'_>, order: &mut Order) -> SqlResult<LaneId> {
        let priority: Priority = priority(row, 3)?;
        self.key.clear();
        self.key.extend(row.get_ref(1)?.as_bytes()?);
        self.key.push(0);
        self.key.extend(row.get_ref(2)?.as_bytes()?);
        self.key.push(priority.get());
        let group = row.get_ref(8)?.as_bytes_or_null()?;
        self.key.extend(group.unwrap_or_default());
        if let Some(lane) = self.known.get(&self.key) {
            return Ok(*lane);
        }
        let group = label(row, 8)?;
        let lane = order.lane_of(&name(row, 1)?, &name(row, 2)?, group.as_ref(), priority);
        self.known.insert(self.key.clone(), lane);
        Ok(lane)
    }
}

/// Takes over a running job. A lease of a worker that pulls is honoured for its own length, at
/// most a minute, from now on: the worker could not extend it while nobody listened.
fn begin_running(
    transaction: &Transaction<'_>,
    order: &mut Order,
    seq: i64,
    now: Timestamp,
) -> SqlResult<()> {
    let sql = format!(
        "SELECT {LIVE_JOB}, live.lease_ms FROM live JOIN job ON job.seq = live.seq \
         WHERE live.seq = ?1"
    );
    let mut find = transaction.prepare_cached(&sql)?;
    let (mut job, lease_ms) = find.query_row([seq], |row| {
        Ok((live_job(row)?, number(row, super::rows::AFTER_LIVE_JOB)?))
    })?;
    if job.status.lease == Lease::Pulled {
        let length = std::time::Duration::from_millis(lease_ms.unwrap_or(0).unsigned_abs());
        let grace = now.after(length.min(LEASE_GRACE_MAX));
        job.status.lease_expires_at = job.status.lease_expires_at.max(grace);
        transaction
            .prepare_cached("UPDATE live SET lease_expires_at = ?2 WHERE seq = ?1")?
            .execute(params![seq, job.status.lease_expires_at.as_millis()])?;
    }
    let lane = order.lane(&job.spec);
    let running = Running {
        spec: job.spec,
        status: job.status,
        lane,
        errors: job.errors,
        told: job.told,
    };
    order.begin(seq, running);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::statements::find_sql;
    use rusqlite::StatementStatus;

    /// A read cost several times what it had to: each parsed and planned its statement anew.
    #[test]
    fn a_statement_from_the_cache_is_not_planned_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.db");
        let writer = open(&path, Timestamp::from_millis(0)).unwrap().db;
        let reader = connect_reader(&path).unwrap();
        for db in [&writer, &reader] {
            for seq in 0..5 {
                let mut find = db.prepare_cached(&find_sql("")).unwrap();
                assert!(!find.exists(params![seq, [0_u8; 16]]).unwrap());
                assert_eq!(find.get_status(StatementStatus::RePrepare), 0, "{seq}");
            }
        }
    }
}
