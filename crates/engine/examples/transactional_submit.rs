//! An order, and the job that sends its receipt, in one transaction: both or neither.
//!
//! The application writes with any driver. The job goes in by `anteroom.submit`, a function of the
//! database, and any node that shares the database runs it once the transaction commits.
//!
//! Run it with `cargo run -p anteroom --features postgres --example transactional_submit -- \
//! postgres://USER:PASSWORD@HOST/DATABASE`.

use anteroom::core::JobId;
use anteroom::run::{Outcome, function};
use anteroom::store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
use anteroom::{Engine, Options, Task, TaskRunner, Until};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

/// How often an order is tried whose commit is refused because somebody else was quicker.
const TRIES: usize = 5;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: transactional_submit postgres://USER:PASSWORD@HOST/DATABASE";
    let url = std::env::args().nth(1).ok_or(usage)?;

    // A node. In earnest it is a process of its own, or several of them.
    let send = function::bytes(|attempt| async move { Outcome::Succeeded(attempt.input) });
    let task = Task::new("receipt", TaskRunner::Here(send))?;
    let store = PostgresStore::open(PostgresUrl::new(&url)?, PostgresOptions::default()).await?;
    let engine = Engine::start(Arc::new(store), vec![task], Options::default()).await?;

    // The application, with a connection and a table of its own.
    let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let table = "CREATE TABLE IF NOT EXISTS orders (id integer PRIMARY KEY)";
    client.batch_execute(table).await?;

    let ordered = place(&mut client, 1).await?;
    let job: JobId = ordered.parse()?;
    let ended = engine
        .wait(job, Until::Done, Duration::from_mins(1))
        .await?;
    let ended = ended.here().ok_or("the job is gone")?;
    let state = ended.status.shown(engine.clock().now());
    println!("order 1: its receipt has {state}");

    // The same order again: the insert fails, and so there is no second receipt.
    if let Err(error) = place(&mut client, 1).await {
        let jobs = "SELECT count(*) FROM anteroom.job WHERE task = 'receipt'";
        let jobs: i64 = client.query_one(jobs, &[]).await?.get(0);
        let why = error.as_db_error().map_or("", |said| said.message());
        println!("order 1 again: {why}; jobs: {jobs}");
    }
    engine.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

/// Writes an order and submits its job, and returns the job's id.
async fn place(client: &mut Client, order: i32) -> Result<String, tokio_postgres::Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        match try_to_place(client, order).await {
            // A server was given the same by somebody else while the transaction was open.
            Err(error)
                if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) && tries < TRIES => {}
            done => return done,
        }
    }
}

async fn try_to_place(client: &mut Client, order: i32) -> Result<String, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    // The job first, to show that its order does not matter.
    let submit = "SELECT anteroom.submit('receipt', $1::text::json, $2::text::jsonb)::text";
    let input = format!(r#"{{"order": {order}}}"#);
    let options = r#"{"priority": 2, "tags": {"of": "orders"}}"#;
    let job = transaction.query_one(submit, &[&input, &options]).await?;
    let insert = "INSERT INTO orders (id) VALUES ($1)";
    transaction.execute(insert, &[&order]).await?;
    // A transaction that is dropped before this is rolled back.
    transaction.commit().await?;
    Ok(job.get(0))
}
