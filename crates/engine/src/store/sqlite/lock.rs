//! Keeps a second process away from the database.

use super::fault::OpenError;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// A lock that is held as long as this lives, and let go of by the system if the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the database at `path`: a file beside it, which stays.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let beside = beside(path, "-lock");
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&beside)
            .map_err(OpenError::file(&beside, "opened"))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(OpenError::file(&beside, "locked")(source)),
        }
    }
}

/// Returns the file whose name is that of `path` with `suffix` after it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
