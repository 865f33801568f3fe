//! Pushes each job to a service over HTTP: the input is the request, the result is the answer.
//!
//! The connection is the heartbeat: an answer may take hours, as long as the job's timeout is not
//! over and the connection is there. It does not decide whether there is another attempt.

use crate::clock::Clock;
use crate::run::answer::{Answer, Unread};
use crate::run::client::Client;
use crate::run::targets::{TargetRefused, Targets, parse};
use crate::run::{Attempt, Outcome, RetryHint, Runner, delivery};
use crate::webhook::Secret;
use anteroom_core::Payload;
use anteroom_core::limits::RESULT_BYTES_MAX_DEFAULT;
use async_trait::async_trait;
use http::{StatusCode, Uri};
use std::sync::Arc;

/// Where to push, and how.
#[derive(Clone, Debug)]
pub struct Push {
    /// Where to: `http://` or `https://`.
    pub url: String,
    /// What signs it; none: nothing does.
    pub secrets: Vec<Secret>,
    /// How many bytes an answer may have. Default 16 MiB.
    pub result_bytes_max: usize,
    /// Who sends it. Default: a client of its own that connects anywhere.
    pub client: Client,
}

impl Default for Push {
    fn default() -> Self {
        Self {
            url: String::new(),
            secrets: Vec::new(),
            result_bytes_max: RESULT_BYTES_MAX_DEFAULT,
            client: Client::new(Targets::anywhere()),
        }
    }
}

/// Pushes each job to a service.
#[derive(Debug)]
pub struct PushRunner {
    url: Uri,
    secrets: Arc<[Secret]>,
    result_bytes_max: usize,
    client: Client,
    clock: Clock,
}

impl PushRunner {
    /// Checks `push`.
    ///
    /// Whether the service is there is found out by pushing to it: it may come later.
    ///
    /// # Errors
    ///
    /// [`TargetRefused`] says what is wrong with its URL.
    pub fn new(push: Push) -> Result<Self, TargetRefused> {
        Ok(Self {
            url: parse(&push.url)?,
            secrets: push.secrets.into(),
            result_bytes_max: push.result_bytes_max,
            client: push.client,
            clock: Clock::system(),
        })
    }

    async fn push(&self, attempt: &Attempt) -> Outcome {
        let request = delivery::request(attempt, &self.url, &self.secrets, self.clock.now()).await;
        let request = match request {
            Ok(request) => request,
            Err(refusal) => return Outcome::failed_for_good(refusal),
        };
        match self.client.send(request).await {
            Ok(response) => self.judge(response.into()).await,
            Err(unanswered) => Outcome::failed(unanswered.to_string()),
        }
    }

    async fn judge(&self, answer: Answer) -> Outcome {
        let status = answer.status;
        if status.is_success() {
            return self.result(answer).await;
        }
        let retry_after = answer.retry_after(self.clock.now());
        let is_passing = status.is_server_error()
            || matches!(
                status,
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
            );
        let is_busy = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        let retry = match retry_after {
            Some(delay) if is_busy => return Outcome::Busy { delay },
            Some(delay) if is_passing => RetryHint::After(delay),
            None if is_passing => RetryHint::ByPolicy,
            Some(_) | None => RetryHint::Never,
        };
        let message = answer.describe().await;
        Outcome::Failed { message, retry }
    }

    async fn result(&self, answer: Answer) -> Outcome {
        if let Some(encoding) = answer.encoding() {
            return Outcome::failed_for_good(format!(
                "the service answered in the content encoding {encoding:?}, though it was asked \
                 for none"
            ));
        }
        let content_type = answer.content_type();
        match answer.read(self.result_bytes_max).await {
            Ok(bytes) => Outcome::Succeeded(Payload {
                content_type,
                bytes,
            }),
            Err(error @ Unread::TooLong { .. }) => Outcome::failed_for_good(error.to_string()),
            Err(error @ Unread::Broken(_)) => Outcome::failed(error.to_string()),
        }
    }
}

#[async_trait]
impl Runner for PushRunner {
    fn kind(&self) -> &'static str {
        "push"
    }

    /// Pushes the job, and waits for the answer.
    ///
    /// Once `attempt.stop` is requested the connection is dropped: that is how the service hears
    /// of it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection.
    async fn run(&self, attempt: Attempt) -> Outcome {
        tokio::select! {
            biased;
            outcome = self.push(&attempt) => outcome,
            () = attempt.stop.requested() => Outcome::failed("stopped"),
        }
    }
}
