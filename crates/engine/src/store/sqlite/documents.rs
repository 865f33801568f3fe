//! How documents are read and written.

use super::fault::Fault;
use super::rows::{damaged, name};
use super::writer::Writer;
use crate::store::document::refusal;
use crate::store::{Document, DocumentChange, DocumentPut};
use anteroom_core::Name;
use bytes::Bytes;
use rusqlite::{OptionalExtension, Row, params};

pub(super) const DOCUMENT: &str =
    "SELECT name, version, value FROM document WHERE kind = ?1 AND name = ?2";
pub(super) const DOCUMENTS: &str =
    "SELECT name, version, value FROM document WHERE kind = ?1 ORDER BY name";

impl Writer<'_> {
    pub(super) fn put_document(&mut self, change: &DocumentChange) -> Result<DocumentPut, Fault> {
        let key = (&*change.kind, &*change.name);
        let kept = self
            .sql
            .document_version
            .query_row(key, |row| version(row, 0));
        let kept = kept.optional()?;
        // Looked at for a new one only.
        let all = match (kept, &change.value) {
            (None, Some(_)) => self.documents_of(&change.kind)?,
            _ => 0,
        };
        if let Some(refused) = refusal(change, kept, || all) {
            return Ok(refused);
        }
        self.begin()?;
        let Some(value) = &change.value else {
            self.sql.delete_document.execute(key)?;
            return Ok(DocumentPut::Done(None));
        };
        let version = self
            .sql
            .next_document_version
            .query_row([], |row| version(row, 0))?;
        let signed = super::rows::signed(version);
        self.sql
            .put_document
            .execute(params![key.0, key.1, signed, &**value])?;
        Ok(DocumentPut::Done(Some(version)))
    }

    fn documents_of(&mut self, kind: &Name) -> Result<usize, Fault> {
        let count: i64 = self
            .sql
            .count_documents
            .query_row([&**kind], |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }
}

/// Reads [`DOCUMENT`] or [`DOCUMENTS`].
pub(super) fn document(row: &Row<'_>) -> rusqlite::Result<Document> {
    Ok(Document {
        name: name(row, 0)?,
        version: version(row, 1)?,
        value: Bytes::from(row.get::<_, Vec<u8>>(2)?),
    })
}

fn version(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(at)?;
    u64::try_from(number).map_err(|error| damaged(at, error))
}
