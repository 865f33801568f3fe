//! All that the memory store keeps, as records.
//!
//! It is read and written as it is, open or not: there is no other way to come to it. What it does
//! not keep as others do (how long a lease is) is told by what it keeps.

use super::super::StoreError;
use super::super::archive::{
    Archive, Counters, Entry, IMPORT_KIND, KeptDocument, KeptGone, KeptJob, KeptPace,
    PAGE_RECORDS_MAX, Record, RecordKey, RecordKind,
};
use super::MemoryStore;
use super::jobs::{Entry as Job, Jobs};
use super::told::Told;
use anteroom_core::{Pace, State, Timestamp};
use async_trait::async_trait;

#[async_trait]
impl Archive for MemoryStore {
    async fn counters(&self) -> Result<Counters, StoreError> {
        self.with(|jobs| Counters {
            claim: jobs.last_claim,
            document_version: jobs.documents.last_version,
        })
    }

    async fn page(
        &self,
        kind: RecordKind,
        after: Option<&RecordKey>,
    ) -> Result<Vec<Entry>, StoreError> {
        let now = self.clock.now();
        let mut records = self.with(|jobs| jobs.records(kind, now))?;
        records.retain(|record| after.is_none_or(|after| record.key() > *after));
        records.sort_by_key(Record::key);
        records.truncate(PAGE_RECORDS_MAX);
        Ok(records.into_iter().map(Ok).collect())
    }

    async fn importing(&self) -> Result<Option<String>, StoreError> {
        self.with(|jobs| jobs.importing.clone())
    }

    async fn begin_import(&self, mark: &str, counters: Counters) -> Result<(), StoreError> {
        self.with(|jobs| {
            jobs.importing = Some(mark.to_owned());
            jobs.last_claim = jobs.last_claim.max(counters.claim);
            let version = jobs.documents.last_version;
            jobs.documents.last_version = version.max(counters.document_version);
        })
    }

    async fn put(&self, records: Vec<Record>) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.with(|jobs| {
            for record in records {
                jobs.put(record, now);
            }
        })?;
        self.changed.notify_waiters();
        Ok(())
    }

    async fn end_import(&self) -> Result<(), StoreError> {
        self.with(|jobs| jobs.importing = None)
    }

    /// Finds nothing: whatever there is follows from the records.
    async fn check(&self) -> Result<Vec<String>, StoreError> {
        self.with(|_| Vec::new())
    }

    /// Leaves the store as it is: its content is gone once that is closed.
    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Jobs {
    /// Returns all records of a kind, in no order.
    fn records(&self, kind: RecordKind, now: Timestamp) -> Vec<Record> {
        match kind {
            RecordKind::Document => {
                let each = self.documents.each();
                let records = each.map(|(kind, document)| KeptDocument {
                    kind: kind.clone(),
                    document: document.clone(),
                });
                let records = records.filter(|kept| *kept.kind != *IMPORT_KIND);
                records.map(Record::Document).collect()
            }
            RecordKind::Queue => self.queues.all().into_iter().map(Record::Queue).collect(),
            RecordKind::Pace => {
                let paces = self.paces.iter();
                let paces = paces.filter(|(_, pace)| **pace != Pace::default());
                let records = paces.map(|(queue, pace)| KeptPace {
                    queue: queue.clone(),
                    pace: *pace,
                });
                records.map(Record::Pace).collect()
            }
            RecordKind::Job => {
                let records = self.entries.values().map(|entry| entry.record(now));
                records.map(|job| Record::Job(Box::new(job))).collect()
            }
            RecordKind::Submit => self.submits.kept().map(Record::Submit).collect(),
            RecordKind::Gone => {
                let gone = self.gone.since.iter();
                let records = gone.map(|(at, id)| KeptGone { id: *id, at: *at });
                records.map(Record::Gone).collect()
            }
        }
    }

    fn put(&mut self, record: Record, now: Timestamp) {
        match record {
            Record::Document(kept) => self.documents.keep(kept.kind, kept.document),
            Record::Queue(kept) => {
                let (name, settings) = (kept.name.clone(), kept.settings);
                self.queues.keep(kept);
                self.order.set_queue(&name, Some(settings));
            }
            Record::Pace(kept) => {
                self.order.set_pace(&kept.queue, kept.pace);
                self.paces.insert(kept.queue, kept.pace);
            }
            Record::Job(kept) => {
                let key = self.free_key(kept.job.spec.id.order_key());
                self.enter_entry(Job::of(*kept, key, now));
            }
            Record::Submit(kept) => self.submits.keep(kept),
            Record::Gone(kept) => self.gone.remember(kept.id, kept.at),
        }
    }
}

impl Job {
    fn record(&self, now: Timestamp) -> KeptJob {
        let status = &self.job.status;
        let began_at = status.started_at.unwrap_or(status.run_at);
        let length = status.lease_expires_at.since(began_at);
        KeptJob {
            told: self.told.kept(&self.job, now),
            job: self.job.clone(),
            input: self.input.clone(),
            result: self.result.clone(),
            lease_for: (status.state == State::Running).then_some(length),
            settled: self.settled,
        }
    }

    fn of(kept: KeptJob, key: i64, now: Timestamp) -> Self {
        Self {
            told: Told::of_kept(&kept.told, &kept.job, now),
            job: kept.job,
            input: kept.input,
            result: kept.result,
            settled: kept.settled,
            key,
        }
    }
}
