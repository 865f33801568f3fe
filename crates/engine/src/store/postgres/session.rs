//! One connection, and the statements that were prepared on it.
//!
//! What a statement needs to be set (where the tables are, what a commit waits for) is set once for
//! a connection of our own. Behind a pooler the next transaction may go over another connection of
//! the pooler's, so there it is sent at the beginning of each, and a statement that stands alone is
//! put into a transaction of its own: all in the same round trip.

use super::fault::Fault;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};

const BEGIN: &str = "BEGIN";
const COMMIT: &str = "COMMIT";

/// The values of a statement.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A connection. What is asked for at once goes out at once, and is answered in its order.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    /// What opens a transaction.
    begin: String,
    /// Whether each transaction has to be told the settings.
    is_pooled: bool,
    /// Whether what is sent next is within a transaction that was opened here.
    is_within: AtomicBool,
    /// Held while what belongs together is sent.
    sending: Mutex<()>,
    /// Each is prepared when it is first asked for.
    statements: Mutex<HashMap<String, Statement>>,
    /// The database that it is of: there the plans of what is prepared are looked at.
    #[cfg(test)]
    database: String,
}

impl Session {
    /// Returns a connection whose settings are made.
    pub(super) fn new(client: Client) -> Self {
        Self::with(client, BEGIN.to_owned(), false)
    }

    /// Returns a connection through a pooler, whose transactions begin with `settings`: statements
    /// of the form `SET LOCAL`.
    pub(super) fn pooled(client: Client, settings: &str) -> Self {
        Self::with(client, format!("{BEGIN}; {settings}"), true)
    }

    fn with(client: Client, begin: String, is_pooled: bool) -> Self {
        Self {
            client,
            begin,
            is_pooled,
            is_within: AtomicBool::new(false),
            sending: Mutex::default(),
            statements: Mutex::default(),
            #[cfg(test)]
            database: String::new(),
        }
    }

    /// Says which database it is of.
    #[cfg(test)]
    pub(super) fn of(self, database: &str) -> Self {
        let database = database.to_owned();
        Self { database, ..self }
    }

    /// Tells whether it has broken.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Tells whether it goes through a pooler.
    pub(super) const fn is_pooled(&self) -> bool {
        self.is_pooled
    }

    /// Returns the rows of a statement.
    pub(super) async fn query(&self, sql: &str, values: Values<'_>) -> Result<Vec<Row>, Error> {
        let statement = self.prepared(sql).await?;
        self.with_settings(Box::pin(self.client.query(&statement, values)))
            .await
    }

    /// Returns the row of a statement that gives one at most.
    pub(super) async fn query_opt(
        &self,
        sql: &str,
        values: Values<'_>,
    ) -> Result<Option<Row>, Error> {
        let statement = self.prepared(sql).await?;
        self.with_settings(Box::pin(self.client.query_opt(&statement, values)))
            .await
    }

    /// Returns how many rows a statement changed.
    pub(super) async fn execute(&self, sql: &str, values: Values<'_>) -> Result<u64, Error> {
        let statement = self.prepared(sql).await?;
        self.with_settings(Box::pin(self.client.execute(&statement, values)))
            .await
    }

    /// Opens a transaction. It ends with a [`run`](Self::run) of `COMMIT` or `ROLLBACK`.
    pub(super) async fn begin(&self) -> Result<(), Error> {
        self.run(BEGIN).await
    }

    /// Runs statements that take no values and whose rows nobody wants.
    ///
    /// `BEGIN` opens a transaction; a text that ends with `COMMIT` or `ROLLBACK` ends it.
    pub(super) async fn run(&self, sql: &str) -> Result<(), Error> {
        if sql == BEGIN {
            self.is_within.store(true, Ordering::Relaxed);
            return self.client.batch_execute(&self.begin).await;
        }
        // Read before it is sent; from here to there is nothing to wait for.
        if !self.is_within.load(Ordering::Relaxed) {
            let alone = Box::pin(self.client.batch_execute(sql));
            return self.with_settings(alone).await;
        }
        if sql.ends_with(COMMIT) || sql.ends_with("ROLLBACK") {
            self.is_within.store(false, Ordering::Relaxed);
        }
        self.client.batch_execute(sql).await
    }

    /// Ends the transaction in which something was done: commits it if that went well, and takes it
    /// back otherwise. Must not be dropped while it runs, nor what came before it since `BEGIN`.
    pub(super) async fn end<T>(&self, done: Result<T, Fault>) -> Result<T, Fault> {
        match done {
            Ok(done) => {
                let committed = self.run("COMMIT").await;
                committed.map_err(|error| Fault::of_commit(&error))?;
                Ok(done)
            }
            Err(fault) => {
                // Where even this fails the connection is broken, and the transaction with it.
                let _as_good = self.run("ROLLBACK").await;
                Err(fault)
            }
        }
    }

    pub(super) async fn prepared(&self, sql: &str) -> Result<Statement, Error> {
        let known = self.lock().get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        #[cfg(test)]
        super::plans::gather(&self.database, sql);
        let prepared = Box::pin(self.client.prepare(sql));
        let statement = self.with_settings(prepared).await?;
        self.lock().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Sends one thing, with the settings that it needs.
    async fn with_settings<T>(
        &self,
        // On the heap, or every future around it would be as large.
        asked: Pin<Box<impl Future<Output = Result<T, Error>>>>,
    ) -> Result<T, Error> {
        if !self.is_pooled || self.is_within.load(Ordering::Relaxed) {
            return asked.await;
        }
        let all = async {
            tokio::join!(
                self.client.batch_execute(&self.begin),
                asked,
                // After a failure it rolls back.
                self.client.batch_execute(COMMIT),
            )
        };
        let mut all = pin!(all);
        // Each is sent when it is first polled. Others of this connection come before or after.
        let sent = poll_fn(|cx| {
            let _sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
            Poll::Ready(all.as_mut().poll(cx))
        });
        let (begun, answer, committed) = match sent.await {
            Poll::Ready(done) => done,
            Poll::Pending => all.await,
        };
        begun?;
        let answer = answer?;
        committed?;
        Ok(answer)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Statement>> {
        // What was inserted into it is whole whatever panicked.
        self.statements
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
