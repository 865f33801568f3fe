//! The HTTP contract on real sockets, over the memory store: about one test for each sentence.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are outside of test functions, where clippy allows it"
)]

mod browsers;
mod exposition;
mod harness;
mod http_access;
mod http_bulk;
mod http_callbacks;
mod http_connections;
mod http_control;
mod http_envelopes;
mod http_errors;
mod http_events;
mod http_keys;
mod http_leases;
mod http_ndjson;
mod http_patch;
mod http_queues;
mod http_read;
mod http_schedules;
mod http_schema;
mod http_submit;
mod http_waiting;
mod metrics;
mod mount;
mod openapi;
mod smuggling;
mod trouble;

mod store {
    use anteroom::clock::Clock;
    use anteroom::store::Store;
    use anteroom::store::memory::MemoryStore;
    use std::sync::Arc;

    /// Whether it counts its commits.
    pub(crate) const COMMITS: bool = false;

    /// What goes with the test.
    pub(crate) type Kept = ();

    /// Opens a store of a test's own.
    #[expect(clippy::unused_async, reason = "others wait for theirs")]
    pub(crate) async fn open(clock: Clock) -> (Arc<dyn Store>, Kept) {
        (Arc::new(MemoryStore::new(clock)), ())
    }
}
