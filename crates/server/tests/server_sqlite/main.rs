//! The HTTP contract on real sockets, over the `SQLite` store: the same tests as `tests/server`.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are outside of test functions, where clippy allows it"
)]

include!("../server/modules.rs");

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
