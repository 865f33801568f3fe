//! Every store of ours keeps the store contract.

use anteroom::clock::Clock;
use anteroom::contract::StoreUnderTest;
use anteroom::store::Store;
use anteroom::store::archive::Archive;
use anteroom::store::memory::MemoryStore;
#[cfg(feature = "postgres")]
use anteroom::store::postgres::{PostgresArchive, PostgresOptions, PostgresStore, PostgresUrl};
use async_trait::async_trait;
use std::sync::{Arc, OnceLock};

/// Made when it is first asked for.
#[derive(Debug, Default)]
struct Memory(OnceLock<Arc<MemoryStore>>);

impl Memory {
    fn made(&self, clock: Clock) -> Arc<MemoryStore> {
        let made = self.0.get_or_init(|| Arc::new(MemoryStore::new(clock)));
        made.clone()
    }
}

#[async_trait]
impl StoreUnderTest for Memory {
    async fn open(&self, clock: Clock) -> Arc<dyn Store> {
        self.made(clock)
    }

    async fn archive(&self, clock: Clock) -> Option<Arc<dyn Archive>> {
        Some(self.made(clock))
    }

    fn another(&self) -> Option<Box<dyn StoreUnderTest>> {
        Some(Box::new(Self::default()))
    }
}

mod memory {
    anteroom::store_contract!(super::Memory::default());
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

    async fn archive(&self, _clock: Clock) -> Option<Arc<dyn Archive>> {
        use anteroom::store::sqlite::SqliteArchive;
        let archive = SqliteArchive::open_or_make(self.0.path().join("jobs.db"));
        Some(Arc::new(archive.expect("the folder is the case's own")))
    }

    fn another(&self) -> Option<Box<dyn StoreUnderTest>> {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        Some(Box::new(Self(folder)))
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    anteroom::store_contract!(super::Sqlite(tempfile::tempdir().unwrap()));
}

/// A database of its own, in a cluster that the tests share, and the pooler before it.
#[cfg(feature = "postgres")]
#[derive(Debug)]
struct Postgres(
    anteroom_pgtest::TestDatabase<'static>,
    Option<&'static anteroom_pgtest::Pooler>,
);

#[cfg(feature = "postgres")]
impl Postgres {
    fn new(pooler: Option<&'static anteroom_pgtest::Pooler>) -> Self {
        Self(anteroom_pgtest::shared().database(), pooler)
    }

    fn way(&self) -> (PostgresUrl, PostgresOptions) {
        let Self(database, pooler) = self;
        let url = pooler.map_or_else(|| database.url(), |pooler| pooler.url(database.name()));
        let url = PostgresUrl::new(&url).expect("the tests' own is one");
        let mut options = PostgresOptions::default();
        options.allow_fsync_off = true;
        (url, options)
    }
}

#[cfg(feature = "postgres")]
#[async_trait]
impl StoreUnderTest for Postgres {
    async fn open(&self, clock: Clock) -> Arc<dyn Store> {
        let (url, options) = self.way();
        let store = PostgresStore::open_by(clock, url, options).await;
        Arc::new(store.expect("the database is the case's own"))
    }

    fn keeps_every_turn(&self) -> bool {
        false
    }

    fn is_durable(&self) -> bool {
        true
    }

    async fn archive(&self, _clock: Clock) -> Option<Arc<dyn Archive>> {
        let (url, options) = self.way();
        let archive = PostgresArchive::open_or_make(url, options).await;
        Some(Arc::new(archive.expect("the database is the case's own")))
    }

    fn another(&self) -> Option<Box<dyn StoreUnderTest>> {
        Some(Box::new(Self::new(self.1)))
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    anteroom::store_contract!(super::Postgres::new(None));
}

/// Behind a pooler whose five connections serve each transaction in turn.
#[cfg(feature = "postgres")]
mod pooled_postgres {
    anteroom::store_contract!(match anteroom_pgtest::shared_pooler() {
        Ok(pooler) => super::Postgres::new(Some(pooler)),
        Err(why) => return eprintln!("NOT RUN: {why}"),
    });
}
