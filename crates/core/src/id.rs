//! The two numbers that name things: a job's id and a claim's number.

use std::fmt;
use std::str::FromStr;
use uuid::{Builder, Uuid};

/// The id of a job: a `UUIDv7`, written in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Uuid);

impl JobId {
    /// Returns the id with these 16 bytes, whatever they are.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Returns the 16 bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Builds a `UUIDv7` from its parts: the Unix time in `millis` (48 bits), a `counter`
    /// (12 bits) that orders ids within a millisecond, and `random` bits (62 are used).
    pub fn from_parts(millis: u64, counter: u16, random: u64) -> Self {
        let mut tail = [0; 10];
        tail[..2].copy_from_slice(&counter.to_be_bytes());
        tail[2..].copy_from_slice(&random.to_be_bytes());
        Self(Builder::from_unix_timestamp_millis(millis, &tail).into_uuid())
    }

    /// Writes the id into `buffer` and returns it as text. Cheaper than formatting it.
    pub fn encode<'b>(&self, buffer: &'b mut [u8; 36]) -> &'b str {
        self.0.as_hyphenated().encode_lower(buffer)
    }

    /// Returns the time and the counter as one 60-bit integer that rises with submission.
    ///
    /// It is a hint for where the job lies in a store, never its identity.
    pub fn order_key(&self) -> i64 {
        let bytes = self.as_bytes();
        let millis = bytes[..6]
            .iter()
            .fold(0, |key, byte| (key << 8) | i64::from(*byte));
        (millis << 12) | (i64::from(bytes[6] & 0x0f) << 8) | i64::from(bytes[7])
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0.as_hyphenated(), f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a job id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job id is 36 characters, hexadecimal digits in lower case and four hyphens")]
pub struct MalformedId;

impl FromStr for JobId {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<Self, MalformedId> {
        let canonical = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        if !canonical {
            return Err(MalformedId);
        }
        Uuid::parse_str(text).map(Self).map_err(|_| MalformedId)
    }
}

/// The number of a claim: the fence.
///
/// Every start of every job draws a number that is greater than any drawn before, over nodes,
/// crashes and restarts: a counter of the store's openings in the upper bits, a counter of claims
/// in the lower 40. A worker names the number it was given, and is refused once the job was
/// claimed anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimNumber(u64);

impl ClaimNumber {
    /// What a job has that was never claimed. No claim draws it.
    pub const NONE: Self = Self(0);

    /// Returns the claim with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number before the first claim of a store's `opening` (counted from 1).
    pub const fn first_of_opening(opening: u64) -> Self {
        Self(opening << 40)
    }

    /// Returns the opening that the claim was drawn in.
    pub const fn opening(self) -> u64 {
        self.0 >> 40
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for ClaimNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_keeps_its_order() {
        let first = JobId::from_parts(1_700_000_000_000, 7, 42);
        let second = JobId::from_parts(1_700_000_000_000, 8, 1);
        let third = JobId::from_parts(1_700_000_000_001, 0, 0);
        assert!(first < second && second < third);
        assert!(first.order_key() < second.order_key());
        assert!(second.order_key() < third.order_key());
        assert_eq!(first.order_key(), (1_700_000_000_000 << 12) | 7);
        assert_eq!(first.to_string().parse(), Ok(first));
        assert_eq!(first.encode(&mut [0; 36]), first.to_string());
        assert_eq!(&first.to_string()[14..15], "7", "version of {first}");
    }

    #[test]
    fn other_spellings_are_no_ids() {
        let id = JobId::from_parts(1_700_000_000_000, 7, u64::MAX).to_string();
        for text in [
            "",
            "1",
            "not-a-uuid",
            &id.to_uppercase(),
            &format!("{{{id}}}"),
            &id.replace('-', ""),
            &format!("{id}0"),
            &id.replacen('-', "_", 1),
        ] {
            assert_eq!(text.parse::<JobId>(), Err(MalformedId), "{text}");
        }
    }

    #[test]
    fn a_later_opening_claims_above_every_earlier_one() {
        let last_of_first = ClaimNumber::new((2 << 40) - 1);
        assert!(ClaimNumber::first_of_opening(1) < last_of_first);
        assert!(last_of_first < ClaimNumber::first_of_opening(2));
        assert!(ClaimNumber::NONE < ClaimNumber::first_of_opening(1));
        assert_eq!(last_of_first.opening(), 1);
    }
}
