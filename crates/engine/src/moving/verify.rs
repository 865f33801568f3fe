//! Looks at every record of a store.

use super::content::{Content, Tally};
use super::line::Line;
use super::records::Records;
use super::{MoveError, inspect};
use crate::store::archive::{Archive, Damage};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What the store holds; none of what cannot be read is counted.
    pub content: Content,
    /// How many damages there are.
    pub damages: u64,
}

/// Looks at every record of a store, and at what holds between them. Tells of each damage that it
/// finds as it finds it.
///
/// # Errors
///
/// [`MoveError`]: it could not be looked at to the end.
pub async fn verify(
    archive: &dyn Archive,
    tell: &mut (dyn FnMut(&str) + Send),
) -> Result<Verified, MoveError> {
    let mut damages = 0;
    let mut tell = |damage: &str| {
        damages += 1;
        tell(damage);
    };
    if archive.importing().await?.is_some() {
        tell(&MoveError::HalfImported.to_string());
    }
    for damage in archive.check().await? {
        tell(&damage);
    }
    let mut tally = Tally::default();
    let mut records = Records::of(archive);
    while let Some(entry) = records.next().await? {
        let record = match entry {
            Ok(record) => record,
            Err(damage) => {
                tell(&damage.to_string());
                continue;
            }
        };
        for what in inspect::faults(&record) {
            let key = record.key();
            tell(&Damage { key, what }.to_string());
        }
        tally.add(&record, Line::of(&record).text().as_bytes());
    }
    Ok(Verified {
        content: tally.content(),
        damages,
    })
}
