//! Makes connections to the database, and sets on each what our statements rely on.

use super::fault::{Fault, words};
use super::pooler::named_process;
use super::session::Session;
use super::tls::Tls;
use super::url::PostgresUrl;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, Error, SimpleQueryMessage};
use tokio_util::task::TaskTracker;

/// The schema that all of it lies in.
pub(super) const SCHEMA: &str = "anteroom";
/// How long a connection may take until it can be used.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Commits that are no less durable than `on` says.
pub(super) const DURABLE: [&str; 2] = ["on", "remote_apply"];

/// A database, and how it is reached.
#[derive(Debug)]
pub(super) struct Database {
    url: PostgresUrl,
    tls: Tls,
    /// Owns what drives the connections. Each ends when its session is dropped.
    connections: TaskTracker,
    /// Told of every notification that comes over one of them.
    heard: Arc<Notify>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Unreached {
    /// It took too long.
    Slow,
    /// What the client or the server said.
    Said(Error),
}

impl Database {
    /// Returns the database of a URL, without asking it; or the sentence that says what is wrong
    /// with the authorities of the URL.
    pub(super) fn new(url: PostgresUrl) -> Result<Self, String> {
        Ok(Self {
            tls: Tls::new(&url)?,
            url,
            connections: TaskTracker::new(),
            heard: Arc::default(),
        })
    }

    /// Returns what is told of every notification.
    pub(super) fn heard(&self) -> &Notify {
        &self.heard
    }

    pub(super) const fn url(&self) -> &PostgresUrl {
        &self.url
    }

    /// Connects. `role` says in the list of the server's connections what this one is for.
    pub(super) async fn connect(&self, role: &str) -> Result<Session, Fault> {
        let reached = self.reach(role).await;
        reached.map_err(|error| Fault::Passing(self.unreached(&error)))
    }

    /// Returns the sentence that says that there is no connection, and why.
    pub(super) fn unreached(&self, error: &Unreached) -> String {
        let address = self.url.address();
        let why = match error {
            Unreached::Slow => format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
            Unreached::Said(error) => words(error),
        };
        format!("PostgreSQL at {address} cannot be reached: {why}")
    }

    pub(super) async fn reach(&self, role: &str) -> Result<Session, Unreached> {
        let reached = timeout(CONNECT_TIMEOUT, self.session(role)).await;
        reached
            .map_err(|_elapsed| Unreached::Slow)?
            .map_err(Unreached::Said)
    }

    async fn session(&self, role: &str) -> Result<Session, Error> {
        let mut config = self.url.config.clone();
        config.application_name(format!("anteroom {role}"));
        let (client, mut connection) = config.connect(self.tls.clone()).await?;
        let heard = self.heard.clone();
        self.connections.spawn(async move {
            // Where it breaks, whoever waits for an answer is told as well.
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if matches!(message, AsyncMessage::Notification(_)) {
                    heard.notify_one();
                }
            }
        });
        let (process, commits) = standing(&client).await?;
        let is_pooled = named_process(&client).await != Some(process);
        let session = if is_pooled {
            Session::pooled(client, &settings("SET LOCAL", &commits))
        } else {
            client.batch_execute(&settings("SET", &commits)).await?;
            Session::new(client)
        };
        #[cfg(test)]
        let session = session.of(self.url.database());
        Ok(session)
    }
}

/// Returns the process that answers, and what its commits wait for.
async fn standing(client: &Client) -> Result<(i32, String), Error> {
    let sql = "SELECT pg_backend_pid(), current_setting('synchronous_commit')";
    let answer = client.simple_query(sql).await?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let cell = |at| row.and_then(|row| row.get(at)).unwrap_or_default();
    // A process that cannot be read is taken for one of a pooler.
    Ok((cell(0).parse().unwrap_or(-1), cell(1).to_owned()))
}

/// Returns what our statements rely on.
fn settings(set: &str, commits: &str) -> String {
    let commits = if DURABLE.contains(&commits) {
        commits
    } else {
        "on"
    };
    // Every statement has an index to go by. Of tables that are small, or were never analysed,
    // the planner would rather read all rows, the dead ones too.
    let all = [
        ("search_path", "anteroom, pg_temp"),
        ("synchronous_commit", commits),
        ("enable_seqscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("enable_bitmapscan", "off"),
        // Every statement has an index to go along, and the same plan whatever its values: planned
        // once, and never compiled, which takes far longer than what it would save.
        ("plan_cache_mode", "force_generic_plan"),
        ("jit", "off"),
        ("max_parallel_workers_per_gather", "0"),
        ("timezone", "'UTC'"),
        // A statement that takes longer is stuck, and holds up all that waits behind it.
        ("statement_timeout", "'30s'"),
        // A node that stands still in a transaction lets go of its rows.
        ("idle_in_transaction_session_timeout", "'15s'"),
    ];
    let each = all.map(|(name, value)| format!("{set} {name} = {value}"));
    each.join("; ")
}
