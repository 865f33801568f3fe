//! A connection that is made again when it breaks.

use super::database::Database;
use super::fault::Fault;
use super::session::Session;
use crate::clock::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

/// After a failure the next attempt is made this much later, twice as much after each further one.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// One connection, which is made when it is first asked for, and again after it broke.
#[derive(Debug)]
pub(super) struct Link {
    database: Arc<Database>,
    role: &'static str,
    /// Attempts that were begun.
    attempts: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    session: Option<Arc<Session>>,
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    attempt: u64,
    ended_at: Instant,
    /// How long it is until the next attempt.
    pause: Duration,
    fault: Fault,
}

impl Link {
    /// Returns a link that is not connected yet; `role` is shown in the server's list of
    /// connections.
    pub(super) fn new(database: Arc<Database>, role: &'static str) -> Self {
        Self {
            database,
            role,
            attempts: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// Returns what is told of every notification of the database.
    pub(super) fn heard(&self) -> &Notify {
        self.database.heard()
    }

    /// Returns the live connection, or makes one now.
    ///
    /// There is one attempt at a time. Whoever comes while it is under way waits for it and gets what
    /// came of it; whoever comes after one that failed waits for the next.
    pub(super) async fn session(&self) -> Result<Arc<Session>, Fault> {
        let begun = self.attempts.load(Ordering::Relaxed);
        let mut state = self.state.lock().await;
        if let Some(session) = &state.session
            && !session.is_closed()
        {
            return Ok(session.clone());
        }
        state.session = None;
        let mut pause = PAUSE_MIN;
        if let Some(failure) = &state.failure {
            // It was made while this call waited.
            if failure.attempt > begun {
                return Err(failure.fault.clone());
            }
            let left = failure.pause.saturating_sub(failure.ended_at.elapsed());
            pause = (failure.pause * 2).min(PAUSE_MAX);
            Clock::system().sleep(left).await;
        }
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        match self.database.connect(self.role).await {
            Ok(session) => {
                let session = Arc::new(session);
                *state = State {
                    session: Some(session.clone()),
                    failure: None,
                };
                Ok(session)
            }
            Err(fault) => {
                state.failure = Some(Failure {
                    attempt,
                    ended_at: Instant::now(),
                    pause,
                    fault: fault.clone(),
                });
                Err(fault)
            }
        }
    }
}
