//! Every store of ours keeps the store contract.

use anteroom::clock::Clock;
use anteroom::contract::StoreUnderTest;
use anteroom::store::Store;
use anteroom::store::memory::MemoryStore;
use async_trait::async_trait;
use std::sync::Arc;

#[derive(Debug)]
struct Memory;

#[async_trait]
impl StoreUnderTest for Memory {
    async fn open(&self, clock: Clock) -> Arc<dyn Store> {
        Arc::new(MemoryStore::new(clock))
    }
}

mod memory {
    anteroom::store_contract!(super::Memory);
}

/// A database in a folder of its own.
#[cfg(feature = "sqlite")]
#[derive(Debug)]
struct Sqlite(tempfile::TempDir);

#[cfg(feature = "sqlite")]
#[async_trait]
impl StoreUnderTest for Sqlite {
    async fn open(&self, clock: Clock) -> Arc<dyn Store> {
        use anteroom::store::sqlite::SqliteStore;
        let store = SqliteStore::open(self.0.path().join("jobs.db"), clock);
        Arc::new(store.expect("the folder is the case's own"))
    }

    fn is_durable(&self) -> bool {
        true
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    anteroom::store_contract!(super::Sqlite(tempfile::tempdir().unwrap()));
}
