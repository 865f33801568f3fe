//! All records of a store, one after the other, a page at a time.

use super::content::Tally;
use super::line::Line;
use super::{MoveError, inspect};
use crate::store::StoreError;
use crate::store::archive::{Archive, Damage, Entry, RecordKey, RecordKind, key_of};
use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Records<'a> {
    archive: &'a dyn Archive,
    /// The kinds that are still to be read, the present one first.
    kinds: VecDeque<RecordKind>,
    /// The last that was read of the present kind.
    after: Option<RecordKey>,
    page: VecDeque<Entry>,
}

impl<'a> Records<'a> {
    pub(super) fn of(archive: &'a dyn Archive) -> Self {
        Self {
            archive,
            kinds: RecordKind::ALL.into(),
            after: None,
            page: VecDeque::new(),
        }
    }

    /// Returns the next record; none: there are no more.
    pub(super) async fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        while self.page.is_empty()
            && let Some(kind) = self.kinds.front()
        {
            let page = self.archive.page(*kind, self.after.as_ref()).await?;
            if page.is_empty() {
                self.kinds.pop_front();
                self.after = None;
            }
            self.page = page.into();
        }
        let next = self.page.pop_front();
        if let Some(entry) = &next {
            let key = key_of(entry);
            // Or it would go round for ever.
            if self.after.as_ref().is_some_and(|after| *after >= key) {
                let reason = format!("{key} was read out of its order");
                return Err(StoreError::Failed { reason });
            }
            self.after = Some(key);
        }
        Ok(next)
    }

    /// Returns the next record with its line, and adds it up; none: there are no more.
    ///
    /// # Errors
    ///
    /// [`MoveError::Damaged`] also where there is a record that cannot be as it is.
    pub(super) async fn next_sound(
        &mut self,
        tally: &mut Tally,
    ) -> Result<Option<String>, MoveError> {
        let Some(entry) = self.next().await? else {
            return Ok(None);
        };
        let record = entry.map_err(MoveError::Damaged)?;
        if let Some(what) = inspect::faults(&record).into_iter().next() {
            let key = record.key();
            return Err(MoveError::Damaged(Damage { key, what }));
        }
        let line = Line::of(&record).text();
        tally.add(&record, line.as_bytes());
        Ok(Some(line))
    }
}
