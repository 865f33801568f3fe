//! Signatures of what is sent to others, by [Standard Webhooks](https://www.standardwebhooks.com).
//!
//! What is signed is `id.timestamp.body` by HMAC-SHA-256, written `v1,` and base64. With several
//! secrets there is a signature for each, so that a receiver may go from one to the next without
//! missing anything. It keeps no time: whoever sends says when.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What a written secret begins with.
pub const SECRET_PREFIX: &str = "whsec_";
/// Bytes of a secret: what Standard Webhooks asks for.
pub const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Secrets at once: a header has to hold a signature for each.
pub const SECRETS_MAX: usize = 10;

/// What signatures begin with that are made by HMAC-SHA-256.
const VERSION: &str = "v1,";
/// Secrets are written with and without padding.
const SECRET_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A secret that sender and receiver share. Its `Debug` does not tell it. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

/// A text that is no secret. It is not repeated: it may be nearly one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// It does not begin as secrets do.
    #[error("does not begin with \"{SECRET_PREFIX}\"")]
    Prefix,
    /// What follows is not base64.
    #[error("is not base64 after \"{SECRET_PREFIX}\"")]
    NotBase64,
    /// It is too short to be safe, or longer than receivers take.
    #[error(
        "is {bytes} bytes; a secret is {} to {} bytes before base64",
        SECRET_BYTES.start(),
        SECRET_BYTES.end()
    )]
    Length {
        /// How many bytes it has.
        bytes: usize,
    },
}

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let written = text
            .strip_prefix(SECRET_PREFIX)
            .ok_or(SecretError::Prefix)?;
        let bytes = SECRET_BASE64
            .decode(written)
            .map_err(|_| SecretError::NotBase64)?;
        if SECRET_BYTES.contains(&bytes.len()) {
            Ok(Self(bytes.into()))
        } else {
            Err(SecretError::Length { bytes: bytes.len() })
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Secret {
    fn code(&self, id: &str, timestamp: i64, body: &[u8]) -> Hmac<Sha256> {
        let mut code = Hmac::<Sha256>::new_from_slice(&self.0)
            .expect("HMAC takes keys of any length, and secrets are 24 to 64 bytes");
        code.update(format!("{id}.{timestamp}.").as_bytes());
        code.update(body);
        code
    }
}

/// Returns the value of `webhook-signature`: a signature for each secret; none without secrets.
///
/// `timestamp` is in seconds since 1970, as `webhook-timestamp` says it.
pub fn sign(secrets: &[Secret], id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
    let signatures = secrets.iter().map(|secret| {
        let code = secret.code(id, timestamp, body).finalize().into_bytes();
        format!("{VERSION}{}", STANDARD.encode(code))
    });
    let list = signatures.collect::<Vec<_>>().join(" ");
    (!list.is_empty()).then_some(list)
}

/// Tells whether one of the signatures of `header` was made with one of the secrets.
///
/// For receivers. They should also refuse what is older than some minutes, and remember ids so
/// that the same is not done twice. Takes the same time for any wrong signature.
///
/// # Example
///
/// ```
/// use anteroom::webhook::{Secret, sign, verify};
///
/// let secrets: Vec<Secret> = vec!["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap()];
/// let header = sign(&secrets, "msg_1", 1_614_265_330, b"{}").unwrap();
/// assert!(verify(&secrets, "msg_1", 1_614_265_330, b"{}", &header));
/// assert!(!verify(&secrets, "msg_1", 1_614_265_330, b"{ }", &header));
/// ```
pub fn verify(secrets: &[Secret], id: &str, timestamp: i64, body: &[u8], header: &str) -> bool {
    let signatures: Vec<Vec<u8>> = header
        .split(' ')
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix(VERSION)?).ok())
        .collect();
    secrets.iter().any(|secret| {
        let code = secret.code(id, timestamp, body);
        let fits = |signature: &Vec<u8>| code.clone().verify_slice(signature).is_ok();
        signatures.iter().any(fits)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn secret(text: &str) -> Secret {
        text.parse().unwrap()
    }

    #[test]
    fn the_vectors_of_the_specification_hold() {
        for (text, id, timestamp, body, expected) in [
            (
                ONE,
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                OTHER,
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                1_649_367_553,
                r#"{"email":"test@example.com","username":"test_user"}"#,
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
        ] {
            let secrets = [secret(text)];
            let signed = sign(&secrets, id, timestamp, body.as_bytes());
            assert_eq!(signed.as_deref(), Some(expected));
            assert!(verify(&secrets, id, timestamp, body.as_bytes(), expected));
        }
    }

    #[test]
    fn while_secrets_rotate_either_of_them_verifies() {
        let both = [secret(ONE), secret(OTHER)];
        let header = sign(&both, "id", 7, b"body").unwrap();
        assert_eq!(header.split(' ').count(), 2, "{header}");
        for one in &both {
            assert!(verify(std::slice::from_ref(one), "id", 7, b"body", &header));
        }
        assert_eq!(sign(&[], "id", 7, b"body"), None);
    }

    #[test]
    fn whatever_was_changed_does_not_verify() {
        let secrets = [secret(ONE)];
        let header = sign(&secrets, "id", 7, b"body").unwrap();
        let other = [secret(OTHER)];
        for (secrets, id, timestamp, body, header) in [
            (&other[..], "id", 7, "body", &*header),
            (&secrets[..], "id2", 7, "body", &*header),
            (&secrets[..], "id", 8, "body", &*header),
            (&secrets[..], "id", 7, "bodY", &*header),
            (&secrets[..], "id", 7, "body", ""),
            (&secrets[..], "id", 7, "body", "v1,"),
            (&secrets[..], "id", 7, "body", "v1,AAAA v2,AAAA nonsense"),
            (
                &secrets[..],
                "id",
                7,
                "body",
                &header.replace("v1,", "v1a,"),
            ),
        ] {
            let verified = verify(secrets, id, timestamp, body.as_bytes(), header);
            assert!(!verified, "{id} {timestamp} {body} {header}");
        }
    }

    #[test]
    fn a_secret_is_24_to_64_bytes_and_never_shown() {
        let of = |bytes: usize| format!("{SECRET_PREFIX}{}", STANDARD.encode(vec![7; bytes]));
        for (text, refusal) in [
            (of(24), None),
            (of(64), None),
            (of(25).trim_end_matches('=').to_owned(), None),
            (of(23), Some("is 23 bytes; a secret is 24 to 64 bytes")),
            (of(65), Some("is 65 bytes")),
            (of(24).replace("whsec_", ""), Some("does not begin with")),
            (
                "whsec_not-base64-but-long-enough".into(),
                Some("is not base64"),
            ),
            (String::new(), Some("does not begin with")),
        ] {
            let parsed = text.parse::<Secret>();
            let refused = parsed.as_ref().err().map(ToString::to_string);
            let begins = refused
                .as_deref()
                .zip(refusal)
                .is_none_or(|(a, b)| a.starts_with(b));
            assert!(
                refused.is_some() == refusal.is_some() && begins,
                "{refused:?}"
            );
            if let Some(refused) = refused {
                assert!(!refused.contains("not-base64-but"), "{refused}");
            }
        }
        let shown = format!("{:?}", secret(ONE));
        assert!(
            !shown.contains("MfKQ") && !shown.contains("49, 242"),
            "{shown}"
        );
    }
}
