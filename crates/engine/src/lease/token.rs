//! Tokens that stand for leases: what they name can be read by us alone, and made by nobody else.
//!
//! A token has all that is needed to speak for a lease, under a code that only nodes of the same
//! store can make: the job, the claim that is the fence, and when the attempt times out. Nothing is
//! kept of it, so that it outlives restarts and any node takes it. The code covers the holder's
//! name too: under another it is none.

use crate::store::{Document, DocumentChange, DocumentPut, Store, StoreError};
use anteroom_core::{ClaimNumber, Job, JobId, Name, Timestamp};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// What the code begins with, so that none of another kind is ever the same.
const DOMAIN: &[u8] = b"anteroom lease 1";
/// Bytes of the code: 128 bits cannot be guessed, and make tokens of 64 characters.
const CODE_BYTES: usize = 16;
/// Bytes of what it is about: a job's id, a claim and an instant.
const NAMED_BYTES: usize = 32;

/// What a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) id: JobId,
    pub(super) claim: ClaimNumber,
    /// When the attempt times out.
    pub(super) times_out_at: Timestamp,
}

/// Returns what a token for the lease of a running job names.
pub(super) fn token_of(job: &Job) -> Token {
    let status = &job.status;
    let began_at = status.started_at.unwrap_or(status.run_at);
    Token {
        id: job.spec.id,
        claim: status.claim,
        times_out_at: began_at.after(job.spec.timeout),
    }
}

/// What codes are made with. The store keeps it, for all nodes and over restarts.
pub(crate) struct LeaseKey([u8; 32]);

impl fmt::Debug for LeaseKey {
    /// Leaves the key out: it is nobody's business, and no log's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeaseKey")
    }
}

impl LeaseKey {
    /// Returns the key that `store` keeps, which it is given if it has none.
    pub(crate) async fn of(store: &dyn Store) -> Result<Self, StoreError> {
        let failed = |reason: &str| StoreError::Failed {
            reason: reason.to_owned(),
        };
        let name = |text| Name::new(text).map_err(|_| failed("a document's name is none"));
        let (kind, name) = (name("anteroom.lease")?, name("key")?);
        if let Some(kept) = store.document(&kind, &name).await? {
            return Self::read(&kept);
        }
        let key: [u8; 32] = rand::random();
        let change = DocumentChange {
            kind: kind.clone(),
            name: name.clone(),
            value: Some(Bytes::copy_from_slice(&key)),
            if_version: Some(0),
        };
        match store.put_documents(vec![change]).await?.pop() {
            Some(DocumentPut::Done(_)) => Ok(Self(key)),
            // Another node was first.
            _ => match store.document(&kind, &name).await? {
                Some(kept) => Self::read(&kept),
                None => Err(failed("the key of leases could not be kept")),
            },
        }
    }

    fn read(kept: &Document) -> Result<Self, StoreError> {
        let key = kept.value.as_ref().try_into();
        key.map(Self).map_err(|_| StoreError::Failed {
            reason: format!("the key of leases is {} bytes, not 32", kept.value.len()),
        })
    }

    /// Makes a token for its holder.
    pub(super) fn seal(&self, token: &Token, holder: &str) -> String {
        let mut bytes = [0; NAMED_BYTES + CODE_BYTES];
        let (named, code) = bytes.split_at_mut(NAMED_BYTES);
        named[..16].copy_from_slice(token.id.as_bytes());
        named[16..24].copy_from_slice(&token.claim.get().to_be_bytes());
        named[24..].copy_from_slice(&token.times_out_at.as_millis().to_be_bytes());
        let whole = self.code(named, holder).finalize().into_bytes();
        code.copy_from_slice(&whole[..CODE_BYTES]);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token that was made for this holder; none: it is no such token.
    pub(super) fn open(&self, text: &str, holder: &str) -> Option<Token> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let bytes: [u8; NAMED_BYTES + CODE_BYTES] = bytes.try_into().ok()?;
        let (named, code) = bytes.split_at(NAMED_BYTES);
        // In a time that says nothing about the right one.
        self.code(named, holder).verify_truncated_left(code).ok()?;
        let number = |at: usize| <[u8; 8]>::try_from(named.get(at..at + 8)?).ok();
        Some(Token {
            id: JobId::from_bytes(named[..16].try_into().ok()?),
            claim: ClaimNumber::new(u64::from_be_bytes(number(16)?)),
            times_out_at: Timestamp::from_millis(i64::from_be_bytes(number(24)?)),
        })
    }

    fn code(&self, named: &[u8], holder: &str) -> Hmac<Sha256> {
        let mut code = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0)
            .expect("a key of this kind may have any length");
        code.update(DOMAIN);
        code.update(named);
        // Last, so that where it begins is known.
        code.update(holder.as_bytes());
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: Token = Token {
        id: JobId::from_bytes([7; 16]),
        claim: ClaimNumber::new(1 << 40),
        times_out_at: Timestamp::from_millis(1_795_348_800_000),
    };

    #[test]
    fn a_token_reads_back_for_its_holder_alone() {
        let key = LeaseKey([1; 32]);
        for holder in ["", "worker"] {
            let sealed = key.seal(&TOKEN, holder);
            assert_eq!(sealed.len(), 64);
            assert_eq!(key.open(&sealed, holder), Some(TOKEN));
            for other in ["", "worker", "worker2", "Worker"] {
                assert_eq!(
                    key.open(&sealed, other).is_some(),
                    other == holder,
                    "{other}"
                );
            }
            assert_eq!(LeaseKey([2; 32]).open(&sealed, holder), None);
        }
    }

    #[test]
    fn no_part_of_a_token_can_be_altered() {
        let key = LeaseKey([1; 32]);
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(key.seal(&TOKEN, "")).unwrap();
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut altered = sealed.clone();
                altered[at] ^= 1 << bit;
                let text = BASE64_URL_SAFE_NO_PAD.encode(altered);
                assert_eq!(key.open(&text, ""), None, "bit {bit} of byte {at}");
            }
        }
        for text in ["", "x", "é", &"A".repeat(64), &"A".repeat(10_000)] {
            assert_eq!(key.open(text, ""), None, "{text:.9}");
        }
    }
}
