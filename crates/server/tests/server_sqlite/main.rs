//! The HTTP contract on real sockets, over the `SQLite` store: the same tests as `tests/server`.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are outside of test functions, where clippy allows it"
)]

#[path = "../server/browsers.rs"]
mod browsers;
#[path = "../server/exposition.rs"]
mod exposition;
#[path = "../server/harness.rs"]
mod harness;
#[path = "../server/http_access.rs"]
mod http_access;
#[path = "../server/http_bulk.rs"]
mod http_bulk;
#[path = "../server/http_callbacks.rs"]
mod http_callbacks;
#[path = "../server/http_connections.rs"]
mod http_connections;
#[path = "../server/http_control.rs"]
mod http_control;
#[path = "../server/http_envelopes.rs"]
mod http_envelopes;
#[path = "../server/http_errors.rs"]
mod http_errors;
#[path = "../server/http_events.rs"]
mod http_events;
#[path = "../server/http_keys.rs"]
mod http_keys;
#[path = "../server/http_leases.rs"]
mod http_leases;
#[path = "../server/http_ndjson.rs"]
mod http_ndjson;
#[path = "../server/http_patch.rs"]
mod http_patch;
#[path = "../server/http_queues.rs"]
mod http_queues;
#[path = "../server/http_read.rs"]
mod http_read;
#[path = "../server/http_schedules.rs"]
mod http_schedules;
#[path = "../server/http_schema.rs"]
mod http_schema;
#[path = "../server/http_submit.rs"]
mod http_submit;
#[path = "../server/http_waiting.rs"]
mod http_waiting;
#[path = "../server/metrics.rs"]
mod metrics;
#[path = "../server/mount.rs"]
mod mount;
#[path = "../server/openapi.rs"]
mod openapi;
#[path = "../server/smuggling.rs"]
mod smuggling;
#[path = "../server/trouble.rs"]
mod trouble;

mod store {
    use anteroom::clock::Clock;
    use anteroom::store::Store;
    use anteroom::store::sqlite::SqliteStore;
    use std::sync::Arc;
    use tempfile::TempDir;

    /// Whether it counts its commits.
    pub(crate) const COMMITS: bool = true;

    /// What goes with the test: the folder of its store.
    pub(crate) type Kept = TempDir;

    /// Opens a store of a test's own.
    #[expect(clippy::unused_async, reason = "others wait for theirs")]
    pub(crate) async fn open(clock: Clock) -> (Arc<dyn Store>, Kept) {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("anteroom.db"), clock).unwrap();
        (Arc::new(store), folder)
    }
}
