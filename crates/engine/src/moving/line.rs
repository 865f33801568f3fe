//! The lines of a file: what each says, in JSON, and nothing about their order.
//!
//! A line is one object with one member, whose name says what it is. What has its default is left
//! out, so that there is one way to write a record: two stores with the same records have the same
//! lines. `docs/store-file.md` describes all of them.

use super::wire;
use crate::store::archive::{Counters, Record, RecordKind};
use anteroom_core::ClaimNumber;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the format.
pub(super) const VERSION: u64 = 1;

/// A line as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// The first one.
    AnteroomStore(Head),
    Document(wire::Document),
    Queue(wire::Queue),
    Pace(wire::Pace),
    Job(Box<wire::Job>),
    Submit(wire::Submit),
    Gone(wire::Gone),
    /// The last one.
    End(Tail),
}

/// What the first line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) version: u64,
    /// An id of the export: what its import is known by.
    pub(super) export: String,
    /// When it was made, for people.
    pub(super) exported_at: String,
    /// The version of the program that made it, for people.
    pub(super) program: String,
    /// No greater claim was ever drawn.
    pub(super) claim: u64,
    /// No greater version was ever given to a document.
    pub(super) document_version: u64,
}

impl Head {
    pub(super) fn counters(&self) -> Counters {
        Counters {
            claim: ClaimNumber::new(self.claim),
            document_version: self.document_version,
        }
    }
}

/// What the last line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tail {
    /// How many records there are of each kind.
    pub(super) counts: BTreeMap<String, u64>,
    /// The digest of the records: that of the store.
    pub(super) digest: String,
    /// The digest of all lines before this one.
    pub(super) sha256: String,
}

/// The first line of any version.
#[derive(Deserialize)]
struct AnyHead {
    anteroom_store: AnyVersion,
}

#[derive(Deserialize)]
struct AnyVersion {
    version: u64,
}

impl Line {
    /// Reads the first line.
    pub(super) fn head(text: &str) -> Result<Head, String> {
        let Ok(AnyHead { anteroom_store }) = serde_json::from_str(text) else {
            return Err("it is no export of a store".to_owned());
        };
        let version = anteroom_store.version;
        if version != VERSION {
            return Err(format!(
                "it has version {version} of the format, and this program knows version {VERSION}"
            ));
        }
        match Self::read(text)? {
            Self::AnteroomStore(head) => Ok(head),
            _ => Err("it is no export of a store".to_owned()),
        }
    }

    /// Reads a line, the first one apart.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| {
            // Each document is one line, and which one is said by whoever reads it.
            let text = error.to_string();
            text.replacen(" at line 1 column", " at column", 1)
        })
    }

    /// Returns the record that it is; none: it is the first or last line.
    pub(super) fn record(self) -> Result<Option<Record>, String> {
        Ok(Some(match self {
            Self::Document(it) => it.record()?,
            Self::Queue(it) => it.record()?,
            Self::Pace(it) => it.record()?,
            Self::Job(it) => it.record()?,
            Self::Submit(it) => it.record()?,
            Self::Gone(it) => it.record()?,
            Self::AnteroomStore(_) | Self::End(_) => return Ok(None),
        }))
    }

    /// Returns the line of a record.
    pub(super) fn of(record: &Record) -> Self {
        match record {
            Record::Document(it) => Self::Document(it.into()),
            Record::Queue(it) => Self::Queue(it.into()),
            Record::Pace(it) => Self::Pace(it.into()),
            Record::Job(it) => Self::Job(Box::new((&**it).into())),
            Record::Submit(it) => Self::Submit(it.into()),
            Record::Gone(it) => Self::Gone(it.into()),
        }
    }

    /// Returns its text, with the end of the line.
    pub(super) fn text(&self) -> String {
        let mut text = serde_json::to_string(self)
            .expect("its maps have texts as keys, and nothing in it fails to be written");
        text.push('\n');
        text
    }
}

/// Returns the counts of kinds as the last line has them.
pub(super) fn counts(counts: &BTreeMap<RecordKind, u64>) -> BTreeMap<String, u64> {
    let count = |kind: RecordKind| counts.get(&kind).copied().unwrap_or_default();
    let each = RecordKind::ALL.into_iter();
    each.map(|kind| (kind.as_str().to_owned(), count(kind)))
        .collect()
}
