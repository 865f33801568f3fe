//! All records of a store, one after the other, a page at a time.

use crate::store::StoreError;
use crate::store::archive::{Archive, Entry, RecordKey, RecordKind};
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
            let key = match entry {
                Ok(record) => record.key(),
                Err(damage) => damage.key.clone(),
            };
            // Or it would go round for ever.
            if self.after.as_ref().is_some_and(|after| *after >= key) {
                let reason = format!("{key} was read out of its order");
                return Err(StoreError::Failed { reason });
            }
            self.after = Some(key);
        }
        Ok(next)
    }
}
