//! How the database goes about our statements, whatever the number of rows and whatever it knows of
//! it: by an index, to few rows or to the first ones. One that reads a whole table does no harm
//! until there are many jobs, and then stops everything.
//!
//! The statements are those that the store prepares while cases of its contract run over it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{LazyLock, Mutex, PoisonError};

mod plan;
#[cfg(feature = "contract")]
mod tests;

/// What was prepared, by database.
static GATHERED: LazyLock<Mutex<BTreeMap<String, BTreeSet<String>>>> =
    LazyLock::new(Mutex::default);

/// Notes a statement of a database.
pub(super) fn gather(database: &str, sql: &str) {
    let mut gathered = GATHERED.lock().unwrap_or_else(PoisonError::into_inner);
    let of_database = gathered.entry(database.to_owned()).or_default();
    of_database.insert(sql.to_owned());
}

/// Returns the statements that were prepared for a database.
#[cfg(feature = "contract")]
fn gathered(database: &str) -> BTreeSet<String> {
    let gathered = GATHERED.lock().unwrap_or_else(PoisonError::into_inner);
    gathered.get(database).cloned().unwrap_or_default()
}
