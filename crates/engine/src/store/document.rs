//! Small documents: what is kept beside jobs, such as definitions that are changed while the server
//! runs, each under a kind and a name.

use anteroom_core::Name;
use anteroom_core::limits::{DOCUMENT_BYTES_MAX, DOCUMENTS_MAX};
use bytes::Bytes;

/// A document, as a store keeps it. What it says is nothing that a store knows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its name among those of its kind.
    pub name: Name,
    /// Rises with every change of any document of the store: no version is ever there twice, also
    /// when a document was removed and written anew.
    pub version: u64,
    /// What it says.
    pub value: Bytes,
}

/// What is to become of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentChange {
    /// What sort of document it is.
    pub kind: Name,
    /// Its name among those of its kind.
    pub name: Name,
    /// What it is to say; none: it is removed.
    pub value: Option<Bytes>,
    /// Refuse it unless this is the version that is kept; 0: unless there is none.
    pub if_version: Option<u64>,
}

/// What became of a [`DocumentChange`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentPut {
    /// It is as it was to be; with its version, if there is one now.
    Done(Option<u64>),
    /// Another version is kept than the change was made for, this one; nothing changed.
    VersionDiffers(Option<u64>),
    /// It is larger than [it may be](DOCUMENT_BYTES_MAX); nothing changed.
    TooLarge,
    /// There are [as many of its kind](DOCUMENTS_MAX) as may be; nothing changed.
    TooMany,
}

/// Tells why a change is refused, if it is: of a document that has `kept` as its version, if it is
/// there, and of whose kind there are `all`.
pub(super) fn refusal(
    change: &DocumentChange,
    kept: Option<u64>,
    all: impl FnOnce() -> usize,
) -> Option<DocumentPut> {
    let is_other = |wanted| wanted != kept.unwrap_or(0);
    if change.if_version.is_some_and(is_other) {
        return Some(DocumentPut::VersionDiffers(kept));
    }
    let bytes = change.value.as_ref()?.len();
    if bytes > DOCUMENT_BYTES_MAX {
        return Some(DocumentPut::TooLarge);
    }
    (kept.is_none() && all() >= DOCUMENTS_MAX).then_some(DocumentPut::TooMany)
}
