//! Tells whoever asked for it that a job has ended: runs the jobs of the task `anteroom.callback`.
//!
//! Such a job's input is the event, already written, and its `callback_url` says where it goes. A
//! client chose that, so it goes only where [`Targets`](crate::run::targets::Targets) allow. How
//! often it is tried is said by the job's `max_attempts`, how long an answer may take by its
//! timeout; when it is tried again is said here.

use crate::clock::Clock;
use crate::run::answer::Answer;
use crate::run::client::Client;
use crate::run::targets::parse;
use crate::run::{Attempt, Outcome, RetryHint, Runner, delivery};
use crate::webhook::Secret;
use anteroom_core::Payload;
use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use std::sync::Arc;
use std::time::Duration;

/// How long a callback waits after each attempt that failed, as Standard Webhooks proposes.
pub const SCHEDULE: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    Duration::from_hours(24),
];
/// How many attempts that makes.
pub const ATTEMPTS: u32 = 10;
/// How long an answer may take.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// How much longer a wait may be than the schedule says, so that what failed together does not
/// come back together.
const JITTER: f64 = 0.1;

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
            retry: RetryHint::After(delay(attempt.number, rand::random(), asked)),
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
        if answer.status.is_success() {
            answer.drain().await;
            return Outcome::Succeeded(Payload {
                content_type: "application/octet-stream".into(),
                bytes: Bytes::new(),
            });
        }
        if answer.status == StatusCode::GONE {
            let told = answer.describe().await;
            return Outcome::failed_for_good(format!("gone: stops, since {told}"));
        }
        let asked = answer.retry_after(self.clock.now());
        again(answer.describe().await, asked)
    }
}

/// Returns how long a callback waits after its attempt with this number: what the schedule says,
/// longer by a part of the jitter from 0 to 1, or what was asked for if that is longer.
fn delay(attempt: u32, part: f64, asked: Option<Duration>) -> Duration {
    let place = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    let planned = SCHEDULE[place.min(SCHEDULE.len() - 1)];
    planned
        .mul_f64(1.0 + JITTER * part)
        .max(asked.unwrap_or_default())
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
    fn callbacks_wait_as_the_schedule_says_or_longer() {
        let (secs, mins) = (Duration::from_secs, Duration::from_mins);
        let hours = Duration::from_hours;
        for (attempt, part, asked, expected) in [
            (1, 0.0, None, secs(5)),
            (1, 1.0, None, Duration::from_millis(5_500)),
            (1, 0.0, Some(secs(2)), secs(5)),
            (1, 0.0, Some(mins(2)), mins(2)),
            (2, 0.0, None, mins(5)),
            (3, 0.0, None, mins(30)),
            (4, 0.0, None, hours(2)),
            (8, 0.0, None, hours(20)),
            (9, 0.0, None, hours(24)),
            (u32::MAX, 0.0, None, hours(24)),
            (0, 0.0, None, secs(5)),
        ] {
            assert_eq!(
                delay(attempt, part, asked),
                expected,
                "{attempt} {part} {asked:?}"
            );
        }
        assert_eq!(usize::try_from(ATTEMPTS), Ok(SCHEDULE.len() + 1));
    }
}
