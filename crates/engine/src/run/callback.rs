//! Tells whoever asked for it that a job has ended: runs the jobs of the task `anteroom.callback`.
//!
//! Such a job's input is the event, already written, and its `callback_url` says where it goes. A
//! client chose that, so it goes only where [`Targets`](crate::run::targets::Targets) allow. How
//! often it is tried is said by the job's `max_attempts`, how long an answer may take by its
//! timeout, and when it is tried again by its task, unless the receiver asks for later.

use crate::callback;
use crate::clock::Clock;
use crate::run::answer::Answer;
use crate::run::client::Client;
use crate::run::targets::parse;
use crate::run::{Attempt, Outcome, RetryHint, Runner, delivery};
use crate::webhook::Secret;
use anteroom_core::{Jitter, Payload};
use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use std::sync::Arc;
use std::time::Duration;

/// Sends the event that is a job's input to the job's `callback_url`.
#[derive(Debug)]
pub struct CallbackRunner {
    secrets: Arc<[Secret]>,
    client: Client,
    clock: Clock,
}

impl CallbackRunner {
    /// Returns a runner that sends by `client`, which should reach what clients may choose and
    /// nothing else, and signs with `secrets`, if there are any.
    pub fn new(client: Client, secrets: Vec<Secret>) -> Self {
        Self {
            secrets: secrets.into(),
            client,
            clock: Clock::system(),
        }
    }

    async fn call_back(&self, attempt: &Attempt) -> Outcome {
        let again = |message: String, asked: Option<Duration>| Outcome::Failed {
            message,
            retry: again_after(attempt.number, asked),
        };
        let Some(url) = &attempt.job.callback_url else {
            return Outcome::failed_for_good("the job has no callback_url");
        };
        let url = match parse(url) {
            Ok(url) => url,
            Err(refused) => return Outcome::failed_for_good(format!("callback_url {refused}")),
        };
        let request = delivery::request(attempt, &url, &self.secrets, self.clock.now()).await;
        let request = match request {
            Ok(request) => request,
            Err(refusal) => return Outcome::failed_for_good(refusal),
        };
        let answer: Answer = match self.client.send(request).await {
            Ok(response) => response.into(),
            Err(unanswered) => return again(unanswered.to_string(), None),
        };
        // Its head says it all; waiting for more could make a timeout of it.
        if answer.status.is_success() {
            return Outcome::Succeeded(Payload {
                content_type: "application/octet-stream".into(),
                bytes: Bytes::new(),
            });
        }
        if answer.status == StatusCode::GONE {
            return Outcome::failed_for_good("the service answered 410 Gone: it wants no more");
        }
        let asked = answer.retry_after(self.clock.now());
        again(answer.describe().await, asked)
    }
}

/// Returns when a callback is sent again after its attempt with this number: as the waits of
/// callbacks say, or when it was asked for if that is later.
fn again_after(attempt: u32, asked: Option<Duration>) -> RetryHint {
    let planned = callback::retry(attempt).delay(attempt, Jitter::NONE);
    match asked {
        Some(asked) if asked > planned => RetryHint::After(asked),
        Some(_) | None => RetryHint::ByPolicy,
    }
}

#[async_trait]
impl Runner for CallbackRunner {
    fn kind(&self) -> &'static str {
        "push"
    }

    /// Sends the event, and waits for the head of the answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection.
    async fn run(&self, attempt: Attempt) -> Outcome {
        tokio::select! {
            biased;
            outcome = self.call_back(&attempt) => outcome,
            () = attempt.stop.requested() => Outcome::failed("stopped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_is_asked_for_counts_where_it_is_the_longer_one() {
        let (secs, mins) = (Duration::from_secs, Duration::from_mins);
        for (attempt, asked, expected) in [
            (1, None, RetryHint::ByPolicy),
            (1, Some(secs(2)), RetryHint::ByPolicy),
            (1, Some(mins(2)), RetryHint::After(mins(2))),
            (2, Some(mins(2)), RetryHint::ByPolicy),
            (9, Some(mins(2)), RetryHint::ByPolicy),
        ] {
            assert_eq!(again_after(attempt, asked), expected, "{attempt} {asked:?}");
        }
    }
}
