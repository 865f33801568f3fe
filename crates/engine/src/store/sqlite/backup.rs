//! Copies a database into a new file while a server may be writing to it.
//!
//! The copy is what had been committed at one instant. It is made by a reader: the writer goes on
//! meanwhile, and only the log cannot begin anew until the copy is made. What is written goes to the disk
//! all along: at the end it would be so much at once that the writer's commits had to wait for it.

use super::fault::OpenError;
use super::lock::beside;
use super::open::{folder, look_into};
use rusqlite::Connection;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How often what is written of a copy is taken to the disk: as much as a disk writes in that time is
/// all that others wait for.
const SYNC_INTERVAL: Duration = Duration::from_millis(50);

/// Why no copy was made. There is none then, nor a part of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// What is to be copied cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is something where the copy is to be.
    #[error("there is {} already; name another file", .path.display())]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// The database refused something.
    #[error("{} cannot be copied: {detail}", .path.display())]
    Refused {
        /// What was to be copied.
        path: PathBuf,
        /// What it said.
        detail: String,
    },
    /// The file system refused something.
    #[error("{} cannot be written: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Copies the database at `from` into the new file `to`, and returns its bytes once it is on the disk.
///
/// The copy holds all that was acknowledged before the call, and is a store of its own. What was
/// deleted takes no room in it. `from` may be open to a server.
///
/// # Errors
///
/// [`BackupError`]. No file that was there before is changed.
pub fn backup(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<u64, BackupError> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let folder = folder(to)?;
    if fs::symlink_metadata(to).is_ok() {
        let path = to.to_owned();
        return Err(BackupError::Exists { path });
    }
    let db = look_into(from)?;
    let unfinished = Unfinished::beside(to)?;
    let written = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::File { path, source }
    };
    let file = File::open(&unfinished.0).map_err(written(&unfinished.0))?;
    let (ended, is_ended) = channel::<()>();
    thread::scope(|scope| {
        let file = &file;
        scope.spawn(move || sync_along(file, &is_ended));
        let copied = copy(&db, &unfinished.0);
        drop(ended);
        copied
    })
    .map_err(|error| {
        let path = from.to_owned();
        let detail = error.to_string();
        BackupError::Refused { path, detail }
    })?;
    let bytes = file
        .sync_all()
        .and_then(|()| file.metadata())
        .map_err(written(&unfinished.0))?
        .len();
    // Whoever else makes the file meanwhile keeps it.
    File::create_new(to).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists {
            path: to.to_owned(),
        },
        _ => written(to)(source),
    })?;
    fs::rename(&unfinished.0, to).map_err(|source| {
        // It is empty, and our own. What failed is told, not that it stays.
        let _stays = fs::remove_file(to).is_err();
        written(to)(source)
    })?;
    File::open(&folder)
        .and_then(|folder| folder.sync_all())
        .map_err(written(&folder))?;
    Ok(bytes)
}

fn copy(db: &Connection, to: &Path) -> rusqlite::Result<()> {
    // Names are bytes to the system and text to the library.
    let Some(name) = to.to_str() else {
        return Err(rusqlite::Error::InvalidPath(to.to_owned()));
    };
    db.pragma_update(None, "query_only", false)?;
    db.execute("VACUUM INTO ?1", [name])?;
    Ok(())
}

/// Takes what is written of a file to the disk, again and again until it is all written.
fn sync_along(file: &File, is_ended: &Receiver<()>) {
    while is_ended.recv_timeout(SYNC_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        // Where it fails, so does the last one, which counts.
        let _failed = file.sync_data().is_err();
    }
}

/// A copy that is being made, and goes away where it is not completed.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(to: &Path) -> Result<Self, BackupError> {
        let path = beside(to, &format!("-new-{}", std::process::id()));
        match File::create_new(&path) {
            Ok(_) => Ok(Self(path)),
            Err(source) => Err(BackupError::File { path, source }),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is gone where the copy was completed.
        let _gone = fs::remove_file(&self.0).is_err();
        let _none = fs::remove_file(beside(&self.0, "-journal")).is_err();
    }
}
