//! Why a store was not moved.

use crate::store::StoreError;
use crate::store::archive::{Damage, RecordKey};
use std::io;

/// Why a store was not moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record of the store cannot be read, or cannot be as it is.
    #[error("the store is damaged: {0}")]
    Damaged(Damage),
    /// The store is in the middle of an import.
    #[error(
        "an import into the store was begun and not completed; run it again, with the same file"
    )]
    HalfImported,
    /// The file could not be read.
    #[error("it cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The file could not be written.
    #[error("it cannot be written: {0}")]
    Write(#[source] io::Error),
    /// A line says what it cannot say.
    #[error("line {number}: {what}")]
    Line {
        /// Which line, from 1.
        number: u64,
        /// What is wrong.
        what: String,
    },
    /// The file ends before its last line.
    #[error("it is cut short: it ends after line {lines}, before the line that ends it")]
    Cut {
        /// Complete lines that it has.
        lines: u64,
    },
    /// What the last line says of those before it is not so.
    #[error("it was altered: {what}")]
    Altered {
        /// What is not so.
        what: String,
    },
    /// The import of another file into the store was begun and not completed.
    #[error(
        "the import of another export ({begun}) into the store was begun and not completed; \
         complete that, or import into a new store"
    )]
    AnotherImport {
        /// The id of that export.
        begun: String,
    },
    /// The store holds something else under the same key.
    #[error("{key} of line {number} is in the store already, and differs; import into a new store")]
    Differs {
        /// The line.
        number: u64,
        /// What is there.
        key: RecordKey,
    },
    /// The store held something before, but not what the file has.
    #[error(
        "the store is not empty, and {key} of line {number} is not in it; \
         nothing was changed: import into a new store"
    )]
    NotEmpty {
        /// The line.
        number: u64,
        /// What is not there.
        key: RecordKey,
    },
    /// The store holds something that the file does not have.
    #[error("the store holds {key}, which the file does not have; import into a new store")]
    Stranger {
        /// What is there.
        key: RecordKey,
    },
    /// After all was written the store does not hold what the file has.
    #[error(
        "the store does not hold what the file has: its digest is {found}, and that of the file \
         {expected}; do not use it"
    )]
    NotTheSame {
        /// That of the store.
        found: String,
        /// That of the file.
        expected: String,
    },
}
