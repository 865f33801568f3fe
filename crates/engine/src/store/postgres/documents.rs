//! How documents are read and written.
//!
//! Whoever writes some holds the row of `document_version` for that long: what is compared stays as
//! it is until the commit, over all nodes.

use super::fault::Fault;
use super::rows::{bytes, get, name, signed, unsigned};
use super::session::Session;
use crate::store::document::refusal;
use crate::store::{Document, DocumentChange, DocumentPut};
use anteroom_core::Name;
use std::collections::{BTreeSet, HashMap};
use tokio_postgres::Row;

/// Returns a document.
pub(super) async fn document(
    session: &Session,
    kind: &Name,
    name: &Name,
) -> Result<Option<Document>, Fault> {
    let sql = "SELECT name, version, value FROM document WHERE kind = $1 AND name = $2";
    let row = session.query_opt(sql, &[&&**kind, &&**name]).await?;
    row.as_ref().map(read).transpose()
}

/// Returns all documents of a kind, by name.
pub(super) async fn documents(session: &Session, kind: &Name) -> Result<Vec<Document>, Fault> {
    let sql = "SELECT name, version, value FROM document WHERE kind = $1 ORDER BY name";
    let rows = session.query(sql, &[&&**kind]).await?;
    rows.iter().map(read).collect()
}

/// Reads `name, version, value`.
pub(super) fn read(row: &Row) -> Result<Document, Fault> {
    Ok(Document {
        name: name(row, 0)?,
        version: unsigned(row, 1)?,
        value: bytes(row, 2)?,
    })
}

/// Writes or removes documents, each on its own, in this order, in one transaction.
///
/// Needs the session for itself, and must not be dropped while it runs: it would leave the
/// transaction open.
pub(super) async fn put_documents(
    session: &Session,
    changes: &[DocumentChange],
) -> Result<Vec<DocumentPut>, Fault> {
    session.begin().await?;
    let put = put_in_transaction(session, changes).await;
    session.end(put).await
}

async fn put_in_transaction(
    session: &Session,
    changes: &[DocumentChange],
) -> Result<Vec<DocumentPut>, Fault> {
    let lock = "SELECT number FROM document_version WHERE one = 1 FOR UPDATE";
    let rows = session.query(lock, &[]).await?;
    let row = rows
        .first()
        .ok_or_else(|| Fault::Damaged("the row of document_version is missing".to_owned()))?;
    let last_version = unsigned(row, 0)?;
    let mut kept = Kept::read(session, changes, last_version).await?;
    let put = changes.iter().map(|change| kept.put(change)).collect();
    kept.write(session, last_version).await?;
    Ok(put)
}

type Key<'a> = (&'a Name, &'a Name);

/// What is kept of the documents that are to be changed, as the changes leave it.
struct Kept<'a> {
    versions: HashMap<Key<'a>, u64>,
    /// How many there are of each kind; not counted where none of the documents is new.
    of_kind: HashMap<&'a str, usize>,
    last_version: u64,
    /// The changed ones with what they say now; none: they are removed.
    changed: HashMap<Key<'a>, Option<&'a [u8]>>,
}

impl<'a> Kept<'a> {
    async fn read(
        session: &Session,
        changes: &'a [DocumentChange],
        last_version: u64,
    ) -> Result<Self, Fault> {
        let kinds: Vec<&str> = changes.iter().map(|change| &*change.kind).collect();
        let names: Vec<&str> = changes.iter().map(|change| &*change.name).collect();
        let sql = "SELECT document.version \
             FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (kind, name, place) \
             LEFT JOIN document ON document.kind = asked.kind AND document.name = asked.name \
             ORDER BY asked.place";
        let rows = session.query(sql, &[&kinds, &names]).await?;
        let mut versions = HashMap::new();
        for (change, row) in changes.iter().zip(&rows) {
            if get::<Option<i64>>(row, 0)?.is_some() {
                versions.insert((&change.kind, &change.name), unsigned(row, 0)?);
            }
        }
        let is_new = |change: &DocumentChange| {
            change.value.is_some() && !versions.contains_key(&(&change.kind, &change.name))
        };
        let of_kind = if changes.iter().any(is_new) {
            count(session, &kinds).await?
        } else {
            HashMap::new()
        };
        Ok(Self {
            versions,
            of_kind,
            last_version,
            changed: HashMap::new(),
        })
    }

    fn put(&mut self, change: &'a DocumentChange) -> DocumentPut {
        let key = (&change.kind, &change.name);
        let kept = self.versions.get(&key).copied();
        let of_kind = self.of_kind.entry(&change.kind).or_default();
        if let Some(refused) = refusal(change, kept, || *of_kind) {
            return refused;
        }
        self.changed.insert(key, change.value.as_deref());
        if change.value.is_none() {
            if self.versions.remove(&key).is_some() {
                *of_kind = of_kind.saturating_sub(1);
            }
            return DocumentPut::Done(None);
        }
        self.last_version += 1;
        if self.versions.insert(key, self.last_version).is_none() {
            *of_kind += 1;
        }
        DocumentPut::Done(Some(self.last_version))
    }

    /// Writes what was changed.
    async fn write(&self, session: &Session, last_version: u64) -> Result<(), Fault> {
        let (mut removed, mut written) = (Columns::default(), Columns::default());
        for ((kind, name), value) in &self.changed {
            let columns = match value {
                Some(_) => &mut written,
                None => &mut removed,
            };
            columns.kinds.push(kind);
            columns.names.push(name);
            let version = self.versions.get(&(*kind, *name)).copied();
            columns.versions.push(signed(version.unwrap_or_default()));
            columns.values.push(value.unwrap_or_default());
        }
        if !removed.kinds.is_empty() {
            let sql = "DELETE FROM document USING unnest($1::text[], $2::text[]) AS removed (kind, name) \
                 WHERE document.kind = removed.kind AND document.name = removed.name";
            session
                .execute(sql, &[&removed.kinds, &removed.names])
                .await?;
        }
        if !written.kinds.is_empty() {
            let sql = "INSERT INTO document (kind, name, version, value) \
                 SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[]) \
                 ON CONFLICT (kind, name) \
                 DO UPDATE SET version = excluded.version, value = excluded.value";
            let Columns {
                kinds,
                names,
                versions,
                values,
            } = &written;
            session
                .execute(sql, &[kinds, names, versions, values])
                .await?;
        }
        if self.last_version > last_version {
            let sql = "UPDATE document_version SET number = $1 WHERE one = 1";
            session.execute(sql, &[&signed(self.last_version)]).await?;
        }
        Ok(())
    }
}

/// Documents, column by column.
#[derive(Default)]
struct Columns<'a> {
    kinds: Vec<&'a str>,
    names: Vec<&'a str>,
    versions: Vec<i64>,
    values: Vec<&'a [u8]>,
}

/// Returns how many documents there are of some kinds, of those that have any.
async fn count<'a>(session: &Session, kinds: &[&'a str]) -> Result<HashMap<&'a str, usize>, Fault> {
    let kinds: BTreeSet<&str> = kinds.iter().copied().collect();
    let kinds: Vec<&str> = kinds.into_iter().collect();
    let sql = "SELECT (SELECT count(*) FROM document WHERE document.kind = asked.kind) \
         FROM unnest($1::text[]) WITH ORDINALITY AS asked (kind, place) ORDER BY asked.place";
    let rows = session.query(sql, &[&kinds]).await?;
    let mut counts = HashMap::new();
    for (kind, row) in kinds.into_iter().zip(&rows) {
        counts.insert(
            kind,
            usize::try_from(unsigned(row, 0)?).unwrap_or(usize::MAX),
        );
    }
    Ok(counts)
}
