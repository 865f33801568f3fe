//! What is particular to this store; what it shares with every store is in the contract suite.

#[cfg(feature = "metrics")]
mod counting;
mod faults;
mod keys;
mod moving;
mod opening;
mod queues;
mod returning;
mod surviving;

use super::SqliteStore;
use super::operation::Operation;
use super::schema::{APPLICATION_ID, MIGRATIONS};
use crate::clock::Clock;
use crate::store::{Change, Claimed, Counts, Inserted, NewJob, Store, StoreError, Want};
use anteroom_core::{Event, Job, JobId, Lease, Name, Payload, Priority, Spec, Status, Timestamp};
use bytes::Bytes;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A folder with a database in it, which is opened as often as a test likes.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn path(&self) -> PathBuf {
        self.file("jobs.db")
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(self.path(), Clock::system()).unwrap()
    }

    /// Returns a folder with a database as the first version left it, with a job that waits.
    fn of_the_first_version() -> Self {
        let place = Self::new();
        let db = Connection::open(place.path()).unwrap();
        db.execute_batch(MIGRATIONS[0]).unwrap();
        let marks = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1");
        db.execute_batch(&marks).unwrap();
        let seq = id(1).order_key();
        let job = "INSERT INTO job VALUES (?1, ?2, 't', 'q', NULL, 5, 0, 3, 5000, NULL, 3600000, \
                   NULL, NULL, NULL, 'text/plain', x'696e707574')";
        db.execute(job, (seq, id(1).as_bytes().as_slice())).unwrap();
        let live = "INSERT INTO live VALUES (?1, 't', 'q', 5, NULL, 0, 1, 0, 0, 0, 0, NULL, NULL, \
                    0, 0, 0, NULL)";
        db.execute(live, [seq]).unwrap();
        place
    }

    /// Returns a copy of the files as a crash at this moment would leave them.
    fn crashed(&self) -> Self {
        let copy = Self::new();
        for name in ["jobs.db", "jobs.db-wal"] {
            std::fs::copy(self.file(name), copy.file(name)).unwrap();
        }
        copy
    }
}

fn id(number: u16) -> JobId {
    JobId::from_parts(1_800_000_000_000, number, 7)
}

fn job_with(id: JobId, input: &'static [u8]) -> NewJob {
    let input = Payload {
        content_type: "text/plain".into(),
        bytes: Bytes::from_static(input),
    };
    NewJob {
        spec: Arc::new(Spec {
            id,
            task: Name::new("t").unwrap(),
            queue: Name::new("q").unwrap(),
            group: None,
            priority: Priority::default(),
            created_at: Timestamp::from_millis(0),
            timeout: Duration::from_secs(5),
            retain: Duration::from_hours(1),
            unique_key: None,
            callback_url: None,
            tags: BTreeMap::new(),
            input: input.info(),
        }),
        status: Status::submitted(Timestamp::from_millis(0), None, 3),
        input,
        idempotency: None,
    }
}

fn job(number: u16) -> NewJob {
    job_with(id(number), b"input")
}

fn want(limit: usize) -> Want {
    Want {
        tasks: vec![Name::new("t").unwrap()],
        queues: None,
        limit,
        lease: Lease::Node,
        lease_for: Duration::from_secs(30),
        wait: Duration::ZERO,
    }
}

/// Waits for what must not take long, whatever else the machine does.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), future)
        .await
        .unwrap()
}

async fn found(store: &SqliteStore, id: JobId) -> Option<Job> {
    soon(store.get(id)).await.unwrap().here()
}

async fn succeed(store: &SqliteStore, claimed: &Claimed) -> Result<Job, StoreError> {
    let claim = claimed.job.status.claim;
    let change = Change {
        result: Some(claimed.input.clone()),
        ..Change::new(claimed.job.spec.id, Event::Succeeded { claim })
    };
    let mut applied = soon(store.apply(vec![change])).await?;
    Ok(applied.pop().unwrap().unwrap())
}

/// Returns how many jobs are scheduled, ready and running.
async fn tally(store: &SqliteStore) -> [u64; 3] {
    let counts = soon(store.counts()).await.unwrap();
    let sum = |of: fn(&Counts) -> u64| counts.iter().map(of).sum();
    [
        sum(|counts| counts.scheduled),
        sum(|counts| counts.ready),
        sum(|counts| counts.running),
    ]
}

/// Does something with the connection of the writer, between two transactions.
async fn meddle(store: &SqliteStore, how: fn(&Connection)) {
    let (done, is_done) = oneshot::channel();
    store.shared.send(Operation::Meddle(how, done)).unwrap();
    soon(is_done).await.unwrap();
}
