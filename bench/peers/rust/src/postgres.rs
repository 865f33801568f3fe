//! apalis on `PostgreSQL`.

use crate::apalis_queue::{
    Apalis, Backend, CONCURRENCY, FETCHED_MAX, Input, POLL, QUEUE, Runs, noop,
};
use apalis::prelude::*;
use apalis_postgres::{Config, PgPool, PostgresStorage};

/// Where jobs are.
#[derive(Clone, Debug)]
pub(crate) struct Postgres(PgPool);

/// Starts a worker on an empty database.
pub(crate) async fn start(url: &str) -> anyhow::Result<Apalis<Postgres>> {
    let pool = PgPool::connect(url).await?;
    PostgresStorage::setup(&pool).await?;
    let runs = Runs::default();
    let backend = storage(&pool).poll_with_strategy(Strategy::new().interval(POLL));
    let worker = WorkerBuilder::new("bench")
        .backend(backend)
        .data(runs.clone())
        .concurrency(CONCURRENCY)
        .build(noop);
    tokio::spawn(worker.run());
    Ok(Apalis::new(Postgres(pool), runs, "1.0.0"))
}

fn storage(pool: &PgPool) -> PostgresStorage<Input> {
    let config = Config::default().queue(QUEUE).batch_size(FETCHED_MAX);
    PostgresStorage::new(pool).with_config(config)
}

impl Backend for Postgres {
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
            "SELECT count(*) FILTER (WHERE status = 'Done'), count(*) FILTER (WHERE status <> 'Done') \
             FROM apalis.jobs",
        );
        let (done, left): (i64, i64) = counted.fetch_one(&self.0).await?;
        Ok((done.try_into()?, left.try_into()?))
    }

    async fn vacuum(&self) -> anyhow::Result<()> {
        let vacuum = sqlx::query("DELETE FROM apalis.jobs WHERE status = 'Done'");
        vacuum.execute(&self.0).await?;
        Ok(())
    }
}
