//! The documents of the memory store.

use super::super::document::refusal;
use super::super::{Document, DocumentChange, DocumentPut};
use anteroom_core::Name;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Documents {
    kinds: BTreeMap<Name, BTreeMap<Name, Document>>,
    pub(super) last_version: u64,
}

impl Documents {
    pub(super) fn one(&self, kind: &Name, name: &Name) -> Option<Document> {
        self.kinds.get(kind)?.get(name).cloned()
    }

    pub(super) fn all(&self, kind: &Name) -> Vec<Document> {
        let of_kind = self.kinds.get(kind).into_iter();
        of_kind.flat_map(BTreeMap::values).cloned().collect()
    }

    /// Returns each, with its kind.
    pub(super) fn each(&self) -> impl Iterator<Item = (&Name, &Document)> {
        let kinds = self.kinds.iter();
        kinds.flat_map(|(kind, of_kind)| of_kind.values().map(move |document| (kind, document)))
    }

    /// Keeps a document as it is, with its version.
    pub(super) fn keep(&mut self, kind: Name, document: Document) {
        let of_kind = self.kinds.entry(kind).or_default();
        of_kind.insert(document.name.clone(), document);
    }

    pub(super) fn put(&mut self, change: DocumentChange) -> DocumentPut {
        let of_kind = self.kinds.entry(change.kind.clone()).or_default();
        let kept = of_kind.get(&change.name).map(|kept| kept.version);
        if let Some(refused) = refusal(&change, kept, || of_kind.len()) {
            return refused;
        }
        let DocumentChange { name, value, .. } = change;
        let Some(value) = value else {
            of_kind.remove(&name);
            return DocumentPut::Done(None);
        };
        self.last_version += 1;
        let version = self.last_version;
        let document = Document {
            name: name.clone(),
            version,
            value,
        };
        of_kind.insert(name, document);
        DocumentPut::Done(Some(version))
    }
}
