//! Records as lines have them: small ones here, jobs in [`job`].
//!
//! Instants are milliseconds since the Unix epoch and spans milliseconds, exactly as stores keep
//! them; bytes are base64, digests hexadecimal.

mod job;

pub(super) use job::Job;

use crate::store::archive::{IMPORT_KIND, KeptDocument, KeptGone, KeptPace, KeptSubmit, Record};
use crate::store::{Document as StoredDocument, KeptQueue};
use anteroom_core as core;
use anteroom_core::{
    Fingerprint, Idempotency, IdempotencyKey, JobId, Name, QueueSettings, RateLimit, Timestamp,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt::{Display, Write as _};
use std::time::Duration;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    kind: String,
    name: String,
    version: u64,
    base64: String,
}

impl From<&KeptDocument> for Document {
    fn from(KeptDocument { kind, document }: &KeptDocument) -> Self {
        Self {
            kind: kind.to_string(),
            name: document.name.to_string(),
            version: document.version,
            base64: BASE64_STANDARD.encode(&document.value),
        }
    }
}

impl Document {
    pub(super) fn record(self) -> Result<Record, String> {
        if self.kind == IMPORT_KIND {
            return Err(format!("kind: documents of {IMPORT_KIND} are not moved"));
        }
        Ok(Record::Document(KeptDocument {
            kind: name("kind", &self.kind)?,
            document: StoredDocument {
                name: name("name", &self.name)?,
                version: self.version,
                value: bytes("base64", &self.base64)?,
            },
        }))
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Queue {
    name: String,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_depth: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_concurrency: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_concurrency: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rate {
    limit: u32,
    period_ms: u64,
}

impl From<&KeptQueue> for Queue {
    fn from(kept: &KeptQueue) -> Self {
        let settings = kept.settings;
        Self {
            name: kept.name.to_string(),
            version: kept.version,
            paused: settings.paused,
            max_depth: settings.max_depth,
            max_concurrency: settings.max_concurrency,
            rate_limit: settings.rate_limit.map(|rate| Rate {
                limit: rate.limit,
                period_ms: millis(rate.period),
            }),
            group_concurrency: settings.group_concurrency,
        }
    }
}

impl Queue {
    pub(super) fn record(self) -> Result<Record, String> {
        let settings = QueueSettings {
            paused: self.paused,
            max_depth: self.max_depth,
            max_concurrency: self.max_concurrency,
            rate_limit: self.rate_limit.map(|rate| RateLimit {
                limit: rate.limit,
                period: Duration::from_millis(rate.period_ms),
            }),
            group_concurrency: self.group_concurrency,
        };
        settings.check().map_err(|error| error.to_string())?;
        Ok(Record::Queue(KeptQueue {
            name: name("name", &self.name)?,
            version: self.version,
            settings,
        }))
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pace {
    queue: String,
    nanos: i64,
}

impl From<&KeptPace> for Pace {
    fn from(kept: &KeptPace) -> Self {
        Self {
            queue: kept.queue.to_string(),
            nanos: kept.pace.as_nanos(),
        }
    }
}

impl Pace {
    pub(super) fn record(self) -> Result<Record, String> {
        Ok(Record::Pace(KeptPace {
            queue: name("queue", &self.queue)?,
            pace: core::Pace::from_nanos(self.nanos),
        }))
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Submit {
    scope: String,
    task: String,
    key: String,
    fingerprint: String,
    id: String,
    #[serde(default, skip_serializing_if = "is_false")]
    duplicate: bool,
    at: i64,
}

impl From<&KeptSubmit> for Submit {
    fn from(kept: &KeptSubmit) -> Self {
        Self {
            scope: kept.idempotency.scope.to_string(),
            task: kept.task.to_string(),
            key: kept.idempotency.key.to_string(),
            fingerprint: hex(&kept.fingerprint.0),
            id: kept.id.to_string(),
            duplicate: kept.duplicate,
            at: kept.at.as_millis(),
        }
    }
}

impl Submit {
    pub(super) fn record(self) -> Result<Record, String> {
        Ok(Record::Submit(KeptSubmit {
            idempotency: Idempotency {
                scope: self.scope.into(),
                key: IdempotencyKey::new(&self.key).map_err(in_member("key"))?,
            },
            task: name("task", &self.task)?,
            fingerprint: fingerprint("fingerprint", &self.fingerprint)?,
            id: id("id", &self.id)?,
            duplicate: self.duplicate,
            at: Timestamp::from_millis(self.at),
        }))
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gone {
    id: String,
    at: i64,
}

impl From<&KeptGone> for Gone {
    fn from(kept: &KeptGone) -> Self {
        Self {
            id: kept.id.to_string(),
            at: kept.at.as_millis(),
        }
    }
}

impl Gone {
    pub(super) fn record(self) -> Result<Record, String> {
        Ok(Record::Gone(KeptGone {
            id: id("id", &self.id)?,
            at: Timestamp::from_millis(self.at),
        }))
    }
}

/// Returns what says in which member something is wrong.
fn in_member<E: Display>(member: &str) -> impl FnOnce(E) -> String {
    move |error| format!("{member}: {error}")
}

fn name(member: &str, text: &str) -> Result<Name, String> {
    Name::new(text).map_err(in_member(member))
}

fn id(member: &str, text: &str) -> Result<JobId, String> {
    text.parse().map_err(in_member(member))
}

fn bytes(member: &str, text: &str) -> Result<Bytes, String> {
    let bytes = BASE64_STANDARD.decode(text);
    bytes.map(Bytes::from).map_err(in_member(member))
}

fn fingerprint(member: &str, text: &str) -> Result<Fingerprint, String> {
    let digit = |at: usize| text.get(at..at + 2).filter(|pair| !pair.contains('+'));
    let mut digest = [0; 32];
    let wrong = || format!("{member}: a digest is 64 hexadecimal digits");
    if text.len() != 64 {
        return Err(wrong());
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        let pair = digit(2 * at).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(Fingerprint(digest))
}

/// Writes bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "that is how it is called"
)]
const fn is_false(fact: &bool) -> bool {
    !*fact
}
