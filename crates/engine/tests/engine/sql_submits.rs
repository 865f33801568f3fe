//! Submits by SQL, in the transaction of whoever submits: `anteroom.submit`.

mod asked;
mod commits;
mod keys;
mod rights;
mod rows;

use crate::harness::task;
use anteroom::core::{JobId, Name, QueueSettings};
use anteroom::run::{Outcome, function};
use anteroom::store::Store;
use anteroom::store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
use anteroom::{Engine, Options, Task, TaskRunner};
use anteroom_pgtest::TestDatabase;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::error::DbError;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn database() -> TestDatabase<'static> {
    anteroom_pgtest::shared().database()
}

async fn store(database: &TestDatabase<'_>) -> Arc<dyn Store> {
    let mut options = PostgresOptions::default();
    options.allow_fsync_off = true;
    let url = PostgresUrl::new(&database.url()).unwrap();
    Arc::new(PostgresStore::open(url, options).await.unwrap())
}

/// A task that nobody runs.
fn left(task: &str) -> Task {
    Task::new(task, TaskRunner::Pull).unwrap()
}

/// A task that gives back what it is given.
fn echo(name: &str) -> Task {
    task(
        name,
        function::bytes(|attempt| async move { Outcome::Succeeded(attempt.input) }),
    )
}

/// Returns what makes a queue `deep` in which so many jobs may wait.
fn with_depth(max_depth: u64) -> Options {
    let deep = QueueSettings {
        max_depth: Some(max_depth),
        ..QueueSettings::default()
    };
    Options {
        queues: [(name("deep"), deep)].into(),
        ..Options::default()
    }
}

async fn engine(database: &TestDatabase<'_>, tasks: Vec<Task>, options: Options) -> Engine {
    let store = store(database).await;
    Engine::start(store, tasks, options).await.unwrap()
}

/// An engine whose task `work` nobody runs.
async fn idle(database: &TestDatabase<'_>) -> Engine {
    engine(database, vec![left("work")], Options::default()).await
}

async fn stop(engine: Engine) {
    engine.stop(Duration::ZERO).await;
    engine.close().await;
}

/// A connection of an application's.
struct Session {
    client: Client,
    _driver: JoinSet<()>,
}

impl Session {
    async fn new(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let _ended = connection.await;
        });
        Self {
            client,
            _driver: driver,
        }
    }

    async fn of(database: &TestDatabase<'_>) -> Self {
        Self::new(&database.url()).await
    }

    /// Returns the first value of the last row; empty where there is none.
    async fn try_sql(&self, sql: &str) -> Result<String, DbError> {
        let answer = self.client.simple_query(sql).await;
        let answer = answer.map_err(|error| error.as_db_error().unwrap().clone())?;
        let rows = answer.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        });
        Ok(rows.unwrap_or_default())
    }

    async fn sql(&self, sql: &str) -> String {
        let done = self.try_sql(sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// Submits a job of `work`.
    async fn submit(&self, input: &str, options: &str) -> JobId {
        let sql = format!("SELECT anteroom.submit('work', '{input}'::json, '{options}')");
        self.sql(&sql).await.parse().unwrap()
    }

    /// Returns why a statement is refused: the state, the problem and the sentence.
    async fn refusal(&self, sql: &str) -> (String, String, String) {
        match self.try_sql(sql).await {
            Ok(done) => panic!("{sql}: {done}"),
            Err(error) => {
                let problem = error.constraint().unwrap_or_default().to_owned();
                (
                    error.code().code().to_owned(),
                    problem,
                    error.message().to_owned(),
                )
            }
        }
    }
}
