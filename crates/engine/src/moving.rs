//! Moves all that a store keeps: into a file, out of it into another store, and compares the two.
//!
//! A store that can be moved has an [`Archive`]: pages of records to read, batches to write. Here is
//! the rest, the same for every store: [`export`] writes the records as lines of a file, [`import`]
//! writes those lines into another store, and [`verify`] looks at every record of a store. All three
//! give the [`Content`]: counts and a digest, which are equal where two stores keep the same.
//!
//! Design facts: memory is bounded by a page of records, however large the store. A file tells by its
//! last line that it is whole and unaltered. An import writes batches in the order of the file, so
//! that what an interrupted one wrote is the beginning of the file: the next one compares as far as
//! that goes, and goes on. Until an import has ended nobody else can open the store.
//!
//! Readers and writers block, so that these are for a thread of their own.

mod content;
mod error;
mod export;
mod file;
mod import;
mod inspect;
mod line;
mod records;
#[cfg(test)]
mod tests;
mod verify;
mod wire;

pub use content::Content;
pub use error::MoveError;
pub use export::{About, export};
pub use file::examine;
pub use import::{Imported, import};
pub use verify::{Verified, verify};

#[cfg(doc)]
use crate::store::archive::Archive;
