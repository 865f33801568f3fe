//! What can go wrong: at the opening of the store, and after it.
//!
//! [`Fault`] is the one place that tells an error that passes (a full disk) from one after which
//! nothing may be acknowledged any more (a failed fsync, damage).

use rusqlite::ffi;
use std::io;
use std::path::{Path, PathBuf};

/// Why a store was not opened. Nothing was changed or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another store of this one, has it open.
    #[error("{} is in use by another process", .path.display())]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// The folder that it should lie in is not there.
    #[error(
        "{} cannot be made: there is no folder {}; make it, or name another place",
        .path.display(), .folder.display()
    )]
    NoFolder {
        /// The database.
        path: PathBuf,
        /// What is not there.
        folder: PathBuf,
    },
    /// It is a link, and what that leads to is not there.
    #[error(
        "{} is a link to {}, which is not there; bring that back, \
         or remove the link to begin with an empty store",
        .path.display(), .target.display()
    )]
    LinkToNothing {
        /// The link.
        path: PathBuf,
        /// What it leads to.
        target: PathBuf,
    },
    /// Its log is there without it.
    #[error(
        "{path} is missing but its log {path}-wal is there and may hold jobs; \
         bring {path} back, or move the log away to begin with an empty store",
        path = .path.display()
    )]
    LogWithoutDatabase {
        /// The database.
        path: PathBuf,
    },
    /// It is not there, and was not to be made.
    #[error("there is no {}; name the database of a store", .path.display())]
    Missing {
        /// What is not there.
        path: PathBuf,
    },
    /// It is in the middle of an import.
    #[error(
        "{} is in the middle of an import that was begun and not completed; \
         run `anteroom store import` again with the same file, or remove it",
        .path.display()
    )]
    HalfImported {
        /// The database.
        path: PathBuf,
    },
    /// It is a file of no bytes, which this store never makes.
    #[error(
        "{} is empty, so that whatever it held is lost; \
         bring it back, or remove the file to begin with an empty store",
        .path.display()
    )]
    Empty {
        /// The database.
        path: PathBuf,
    },
    /// It is no database.
    #[error("{} is no SQLite database; name another file", .path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// It is the database of something else.
    #[error(
        "{} is the database of another program (its application id is {application_id}); \
         name another file",
        .path.display()
    )]
    Foreign {
        /// The database.
        path: PathBuf,
        /// What it says it belongs to.
        application_id: u32,
    },
    /// A newer version of this program wrote it.
    #[error(
        "{} has schema version {version}, and this program knows versions up to {known}; \
         use a newer program",
        .path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// What it has.
        version: u32,
        /// The newest that is known.
        known: u32,
    },
    /// Its content is damaged.
    #[error("{} is damaged: {detail}; bring back a copy of it", .path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The native library has a bug that loses commits.
    #[error("{} needs SQLite {needed} or later; the program has {found}", .path.display())]
    OldLibrary {
        /// The database.
        path: PathBuf,
        /// What there is.
        found: &'static str,
        /// What there should be.
        needed: &'static str,
    },
    /// The file system refused something.
    #[error("{} cannot be {doing}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried: "locked", "read".
        doing: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The database refused something.
    #[error("{} cannot be opened: {detail}", .path.display())]
    Refused {
        /// The database.
        path: PathBuf,
        /// What it said.
        detail: String,
    },
}

impl OpenError {
    pub(super) fn file(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            path,
            doing,
            source,
        }
    }

    pub(super) fn sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let path = path.to_owned();
        let detail = error.to_string();
        match error.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => Self::Damaged { path, detail },
            // A table or column that should be there is not, or holds something else.
            Some(rusqlite::ErrorCode::Unknown) | None => Self::Damaged { path, detail },
            Some(_) => Self::Refused { path, detail },
        }
    }
}

/// What went wrong in an open store, before it is put into the words of the trait.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fault {
    /// It passes: what was begun was rolled back, and the store goes on.
    Passing(String),
    /// Nothing may be acknowledged after it.
    Final(String),
    /// It came from a commit that may be on the disk all the same; else it is what it holds.
    Unknown(Box<Self>),
}

impl Fault {
    /// Returns what a failed `COMMIT` stands for.
    ///
    /// The library writes the end of a commit before it syncs the log and before it notes it in
    /// the log's index. Where one of those fails, what was written may be replayed when the
    /// database is opened again. Only a write without room, and a lock that was not got, come
    /// before that end.
    pub(super) fn of_commit(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let is_undone = matches!(
            error.sqlite_error_code(),
            Some(Code::DiskFull | Code::DatabaseBusy | Code::DatabaseLocked)
        );
        let fault = Self::from(error);
        if is_undone {
            return fault;
        }
        Self::Unknown(Box::new(fault))
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let text = error.to_string();
        let Some(&ffi::Error {
            code,
            extended_code,
        }) = error.sqlite_error()
        else {
            // A row that does not hold what it should.
            return Self::Final(text);
        };
        match code {
            Code::DiskFull | Code::OutOfMemory | Code::CannotOpen | Code::TooBig => {
                Self::Passing(text)
            }
            Code::DatabaseBusy | Code::DatabaseLocked | Code::FileLockingProtocolFailed => {
                Self::Passing(text)
            }
            // The index of the log could not grow, which is what a full disk looks like there.
            // It is no part of what is durable.
            Code::SystemIoFailure
                if matches!(
                    extended_code,
                    ffi::SQLITE_IOERR_NOMEM
                        | ffi::SQLITE_IOERR_SHMSIZE
                        | ffi::SQLITE_IOERR_SHMOPEN
                        | ffi::SQLITE_IOERR_SHMMAP
                ) =>
            {
                Self::Passing(text)
            }
            // A failed fsync or write, damage, or a statement that the store should not have
            // made. What the disk holds is no longer known.
            _ => Self::Final(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_is_taken_for_passing() {
        for (code, passes) in [
            (ffi::SQLITE_FULL, true),
            (ffi::SQLITE_BUSY, true),
            (ffi::SQLITE_NOMEM, true),
            (ffi::SQLITE_IOERR_SHMSIZE, true),
            (ffi::SQLITE_IOERR_FSYNC, false),
            (ffi::SQLITE_IOERR_WRITE, false),
            (ffi::SQLITE_IOERR_READ, false),
            (ffi::SQLITE_IOERR_DIR_FSYNC, false),
            (ffi::SQLITE_CORRUPT, false),
            (ffi::SQLITE_NOTADB, false),
            (ffi::SQLITE_READONLY_DBMOVED, false),
            (ffi::SQLITE_CONSTRAINT_PRIMARYKEY, false),
        ] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let fault = Fault::from(error);
            assert_eq!(matches!(fault, Fault::Passing(_)), passes, "{code}");
        }
    }

    #[test]
    fn only_what_a_commit_could_not_write_is_known_to_be_undone() {
        for (code, is_known) in [
            (ffi::SQLITE_FULL, true),
            (ffi::SQLITE_BUSY, true),
            (ffi::SQLITE_NOMEM, false),
            (ffi::SQLITE_IOERR_SHMSIZE, false),
            (ffi::SQLITE_IOERR_FSYNC, false),
            (ffi::SQLITE_IOERR_WRITE, false),
        ] {
            let error = || rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let (fault, of_commit) = (Fault::from(error()), Fault::of_commit(error()));
            let expected = if is_known {
                fault
            } else {
                Fault::Unknown(Box::new(fault))
            };
            assert_eq!(of_commit, expected, "{code}");
        }
    }
}
