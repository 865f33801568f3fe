//! apalis on `SQLite`: one connection, in WAL mode, that syncs each commit.

use crate::apalis_queue::{
    Apalis, Backend, CONCURRENCY, FETCHED_MAX, Input, POLL, QUEUE, Runs, noop,
};
use apalis::prelude::*;
use apalis_sqlite::{Config, SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteStorage};
use sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use std::path::Path;
use std::time::Duration;

/// Where jobs are.
#[derive(Clone, Debug)]
pub(crate) struct Sqlite(SqlitePool);

/// Starts a worker on a file in a folder.
pub(crate) async fn start(folder: &str) -> anyhow::Result<Apalis<Sqlite>> {
    let options = SqliteConnectOptions::new()
        .filename(Path::new(folder).join("apalis.db"))
        .create_if_missing(true)
        .busy_timeout(Duration::from_secs(60))
        .journal_mode(SqliteJournalMode::Wal);
    // The setup asks for less on the connection that it is given: that one is not used further.
    let setup = SqlitePool::connect_with(options.clone()).await?;
    SqliteStorage::setup(&setup).await?;
    setup.close().await;
    let options = options.synchronous(SqliteSynchronous::Full);
    let pool = SqlitePoolOptions::new().max_connections(1);
    let pool = pool.connect_with(options).await?;
    let runs = Runs::default();
    let backend = storage(&pool).poll_with_strategy(Strategy::new().interval(POLL));
    let worker = WorkerBuilder::new("bench")
        .backend(backend)
        .data(runs.clone())
        .concurrency(CONCURRENCY)
        .build(noop);
    tokio::spawn(worker.run());
    Ok(Apalis::new(Sqlite(pool), runs, "1.0.0"))
}

fn storage(pool: &SqlitePool) -> SqliteStorage<Input> {
    let config = Config::default().queue(QUEUE).batch_size(FETCHED_MAX);
    SqliteStorage::new(pool).with_config(config)
}

impl Backend for Sqlite {
    async fn push(&mut self, jobs: usize) -> anyhow::Result<()> {
        let mut storage = storage(&self.0);
        if jobs == 1 {
            storage.push(Input(crate::input())).await?;
        } else {
            let inputs = vec![Input(crate::input()); jobs];
            storage.push_bulk(inputs).await?;
        }
        Ok(())
    }

    async fn count(&self) -> anyhow::Result<(u64, u64)> {
        let counted = sqlx::query_as(
            "SELECT coalesce(sum(status = 'Done'), 0), coalesce(sum(status <> 'Done'), 0) FROM Jobs",
        );
        let (done, left): (i64, i64) = counted.fetch_one(&self.0).await?;
        Ok((done.try_into()?, left.try_into()?))
    }

    async fn vacuum(&self) -> anyhow::Result<()> {
        let vacuum = sqlx::query("DELETE FROM Jobs WHERE status = 'Done'");
        vacuum.execute(&self.0).await?;
        Ok(())
    }
}
