//! What can go wrong while the store is open, in the words of the trait.

use crate::store::StoreError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// What went wrong. Nothing was done, unless it is [`Fault::Unknown`].
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// It passes: the database cannot be reached, or says that it is in trouble.
    Passing(String),
    /// Two transactions were in each other's way: the same again may go well at once.
    Conflict(String),
    /// Whether the transaction was committed is not known.
    Unknown(String),
    /// A row says what none of ours says.
    Damaged(String),
}

impl Fault {
    /// The fault of an answer to a commit: a connection that broke says nothing of what became of it.
    pub(super) fn of_commit(error: &Error) -> Self {
        let ended = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN];
        match error.code() {
            // A server that is being stopped may say so after it has committed.
            Some(code) if !ended.contains(code) => Self::from(error),
            Some(_) | None => Self::Unknown(words(error)),
        }
    }

    /// Puts it into the words of the trait.
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Passing(reason) | Self::Conflict(reason) | Self::Damaged(reason) => {
                StoreError::Unavailable { reason }
            }
            Self::Unknown(reason) => StoreError::Unknown { reason },
        }
    }
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        let conflicts = [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::UNIQUE_VIOLATION,
        ];
        match error.code() {
            Some(code) if conflicts.contains(code) => Self::Conflict(words(error)),
            _ => Self::Passing(words(error)),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

/// What `PostgreSQL` says of an error, or what lies below it.
pub(super) fn words(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("PostgreSQL says: {}", said.message());
    }
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(below) = source {
        words = format!("{words}: {below}");
        source = below.source();
    }
    words
}
