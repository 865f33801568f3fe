//! Keeps a second process away from the database.

use super::fault::OpenError;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// How often and how long to wait for the lock of a process that was killed: a child that it was
/// just starting has its descriptors until it becomes another program.
const LOCK_TRIES: u32 = 100;
const LOCK_WAIT: Duration = Duration::from_millis(10);

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
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_WAIT),
                Err(TryLockError::Error(source)) => {
                    return Err(OpenError::file(&beside, "locked")(source));
                }
            }
        }
        Err(OpenError::InUse {
            path: path.to_owned(),
        })
    }
}

/// Returns the file whose name is that of `path` with `suffix` after it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
