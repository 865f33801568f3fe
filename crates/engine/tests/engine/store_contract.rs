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
