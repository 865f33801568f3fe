//! Writes all that a store keeps into a file.

use super::MoveError;
use super::content::{Content, Tally};
use super::line::{Head, Line, Tail, VERSION, counts};
use super::records::Records;
use super::wire::hex;
use crate::clock::rfc3339;
use crate::store::archive::Archive;
use anteroom_core::{JobId, Timestamp};
use sha2::{Digest, Sha256};
use std::io::Write;

/// What the file says of the export itself.
#[derive(Clone, Debug)]
pub struct About {
    /// An id of its own: what its import is known by.
    pub id: JobId,
    /// When it is made.
    pub at: Timestamp,
}

impl About {
    /// Returns what to say of an export that is made at `at`.
    pub fn made_at(at: Timestamp) -> Self {
        let millis = at.as_millis().max(0).unsigned_abs();
        let counter = rand::random::<u16>() & 0xfff;
        Self {
            id: JobId::from_parts(millis, counter, rand::random()),
            at,
        }
    }
}

/// Writes all that a store keeps, and returns what that is.
///
/// # Errors
///
/// [`MoveError`]: what was written has no last line, and is no export. Nothing of a damaged store is
/// left out: that is an error.
pub async fn export(
    archive: &dyn Archive,
    about: &About,
    output: &mut (dyn Write + Send),
) -> Result<Content, MoveError> {
    if archive.importing().await?.is_some() {
        return Err(MoveError::HalfImported);
    }
    let counters = archive.counters().await?;
    let head = Line::AnteroomStore(Head {
        version: VERSION,
        export: about.id.to_string(),
        exported_at: rfc3339(about.at),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        claim: counters.claim.get(),
        document_version: counters.document_version,
    });
    let mut sha256 = Sha256::new();
    let mut tally = Tally::default();
    let mut write = |line: &str| {
        sha256.update(line);
        output.write_all(line.as_bytes()).map_err(MoveError::Write)
    };
    write(&head.text())?;
    let mut records = Records::of(archive);
    while let Some(line) = records.next_sound(&mut tally).await? {
        write(&line)?;
    }
    let content = tally.content();
    let tail = Line::End(Tail {
        counts: counts(&content.counts),
        digest: content.digest.clone(),
        sha256: hex(&sha256.finalize()),
    });
    output
        .write_all(tail.text().as_bytes())
        .and_then(|()| output.flush())
        .map_err(MoveError::Write)?;
    Ok(content)
}
