//! Writes what a file holds into a store.

use super::MoveError;
use super::content::{Content, Tally};
use super::file::File;
use super::records::Records;
use crate::store::archive::{Archive, Entry, PAGE_BYTES_MAX, PAGE_RECORDS_MAX, Record, key_of};
use std::io::BufRead;

/// What an import came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// What the store holds now: the same as the file.
    pub content: Content,
    /// Records that it wrote. The others were there already.
    pub added: u64,
}

/// Writes what a file holds into a store that is empty, and returns once that is durable and was
/// compared with the file.
///
/// An import that was interrupted goes on where it stopped when it is run again with the same file.
/// Into a store that holds anything else nothing is written: where it holds exactly what the file has
/// that is well, else an error.
///
/// # Errors
///
/// [`MoveError`]. Where an import was begun and failed, the store can be opened for nothing else
/// until it is completed.
pub async fn import(
    archive: &dyn Archive,
    input: &mut (dyn BufRead + Send),
) -> Result<Imported, MoveError> {
    let mut file = File::begin(input)?;
    let begun = archive.importing().await?;
    let mark = file.head.export.clone();
    if let Some(begun) = &begun
        && *begun != mark
    {
        let begun = begun.clone();
        return Err(MoveError::AnotherImport { begun });
    }
    let mut there = There::of(archive).await?;
    let mut is_ours = begun.is_some();
    if !is_ours && there.next.is_none() {
        archive.begin_import(&mark, file.head.counters()).await?;
        is_ours = true;
    }
    let mut batch = Batch::default();
    while let Some(record) = file.next()? {
        if there.has(&record, file.number, is_ours).await? {
            continue;
        }
        if batch.is_full_with(&record) {
            batch.write(archive).await?;
        }
        batch.records.push(record);
    }
    // The rest is not written where the file turns out to be altered.
    let content = file.end()?;
    batch.write(archive).await?;
    if let Some(entry) = there.next {
        return Err(MoveError::Stranger {
            key: key_of(&entry),
        });
    }
    compare(archive, &content).await?;
    if is_ours {
        archive.end_import().await?;
    }
    Ok(Imported {
        content,
        added: batch.written,
    })
}

/// What the store held before, read along with the file.
struct There<'a> {
    records: Records<'a>,
    next: Option<Entry>,
}

impl<'a> There<'a> {
    async fn of(archive: &'a dyn Archive) -> Result<Self, MoveError> {
        let mut records = Records::of(archive);
        let next = records.next().await?;
        Ok(Self { records, next })
    }

    /// Tells whether the store has a record of the file; false: it is to be written.
    async fn has(
        &mut self,
        record: &Record,
        number: u64,
        is_ours: bool,
    ) -> Result<bool, MoveError> {
        let wanted = record.key();
        let Some(entry) = &self.next else {
            return if is_ours {
                Ok(false)
            } else {
                let key = wanted;
                Err(MoveError::NotEmpty { number, key })
            };
        };
        let found = key_of(entry);
        if found == wanted {
            if !matches!(entry, Ok(there) if there == record) {
                let key = wanted;
                return Err(MoveError::Differs { number, key });
            }
            self.next = self.records.next().await?;
            return Ok(true);
        }
        if !is_ours {
            let key = wanted;
            return Err(MoveError::NotEmpty { number, key });
        }
        // Whatever an import wrote before is the beginning of its file.
        Err(MoveError::Stranger { key: found })
    }
}

/// Records that are to be written in one commit.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    bytes: usize,
    /// Records that were written.
    written: u64,
}

impl Batch {
    /// Tells whether it is to be written before a further record joins it, and counts that.
    fn is_full_with(&mut self, record: &Record) -> bool {
        self.bytes = self.bytes.saturating_add(record.bytes());
        let is_full = self.records.len() >= PAGE_RECORDS_MAX || self.bytes > PAGE_BYTES_MAX;
        if is_full {
            self.bytes = record.bytes();
        }
        is_full
    }

    async fn write(&mut self, archive: &dyn Archive) -> Result<(), MoveError> {
        if self.records.is_empty() {
            return Ok(());
        }
        let records = std::mem::take(&mut self.records);
        let count = records.len() as u64;
        archive.put(records).await?;
        self.written += count;
        Ok(())
    }
}

/// Reads back what the store holds, which is to be what the file has.
async fn compare(archive: &dyn Archive, content: &Content) -> Result<(), MoveError> {
    let mut tally = Tally::default();
    let mut records = Records::of(archive);
    while records.next_sound(&mut tally).await?.is_some() {}
    let found = tally.content();
    if found == *content {
        return Ok(());
    }
    Err(MoveError::NotTheSame {
        found: found.digest,
        expected: content.digest.clone(),
    })
}
