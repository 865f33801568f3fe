//! How nodes tell each other that jobs wait: a hint that saves a look, and never the way that jobs are
//! found.
//!
//! Whoever waits for jobs looks for them now and then. Where notifications come through it looks less
//! often, and at once when it hears one. A node tells the others only of what nobody here takes, on a
//! connection that no submit waits for: a notification is sent under a lock that all of the database's
//! commits with one share.

use super::fault::Fault;
use super::link::Link;
use super::session::Session;
use super::shared::Shared;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The channel that is also told of jobs that were submitted by SQL.
const LISTEN: &str = "LISTEN anteroom";
/// A hint that is lost in a crash costs a look: its commit waits for no disk.
const TELL: &str =
    "SELECT set_config('synchronous_commit', 'off', true), pg_notify('anteroom', '')";
/// How long it is between two notifications of a node at least.
const TELL_INTERVAL: Duration = Duration::from_millis(50);

/// The connection that notifications come over.
#[derive(Debug, Default)]
pub(super) struct Listening {
    session: Weak<Session>,
}

impl Listening {
    /// Listens on a connection, if it is a new one, and returns whether notifications come through:
    /// a pooler gives the connection to others meanwhile.
    pub(super) async fn over(&mut self, session: &Arc<Session>) -> Result<bool, Fault> {
        if session.is_pooled() {
            return Ok(false);
        }
        if !std::ptr::eq(self.session.as_ptr(), Arc::as_ptr(session)) {
            session.run(LISTEN).await?;
            self.session = Arc::downgrade(session);
        }
        Ok(true)
    }
}

/// Tells the other nodes of jobs that nobody takes here, as often as there are some.
#[expect(
    clippy::disallowed_methods,
    reason = "how often others are told is no matter of the database's clock"
)]
pub(super) async fn tell_others(shared: Arc<Shared>, link: Arc<Link>) {
    loop {
        shared.untold.notified().await;
        let told = async {
            let session = link.session().await?;
            session.query_opt(TELL, &[]).await?;
            Ok::<_, Fault>(())
        };
        if let Err(fault) = told.await {
            let error = fault.into_error();
            tracing::debug!(%error, "the other nodes were not told of jobs: {error}");
        }
        tokio::time::sleep(TELL_INTERVAL).await;
    }
}
