//! The HTTP contract on real sockets, over the `PostgreSQL` store: the same tests as `tests/server`.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are outside of test functions, where clippy allows it"
)]

include!("../server/modules.rs");

mod store {
    use anteroom::clock::Clock;
    use anteroom::store::Store;
    use anteroom::store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
    use anteroom_pgtest::TestDatabase;
    use std::sync::Arc;

    /// Whether it counts its commits.
    pub(crate) const COMMITS: bool = true;

    /// What goes with the test: its database.
    pub(crate) type Kept = TestDatabase<'static>;

    /// Opens a store of a test's own.
    pub(crate) async fn open(clock: Clock) -> (Arc<dyn Store>, Kept) {
        let database = anteroom_pgtest::shared().database();
        let url = PostgresUrl::new(&database.url()).unwrap();
        let mut options = PostgresOptions::default();
        options.allow_fsync_off = true;
        let store = PostgresStore::open_by(clock, url, options).await.unwrap();
        (Arc::new(store), database)
    }
}
