//! Runs a Rust function for each job.
//!
//! A typed handler is erased once, here; behind [`Runner`] nothing is generic.

use crate::run::{Attempt, Outcome, Runner};
use anteroom_core::Payload;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Returns a runner of an async function from bytes to an outcome.
///
/// When the attempt is told to stop, the function's future is dropped where it waits.
pub fn bytes<F, Fut>(function: F) -> Arc<dyn Runner>
where
    F: Fn(Attempt) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    Arc::new(FunctionRunner(Box::new(move |attempt| {
        function(attempt).boxed()
    })))
}

/// Returns a runner of an async function from JSON to JSON.
///
/// An input that is not what the function takes fails the job for good; an error of the
/// function fails the attempt, and is shown. When the attempt is told to stop, the function's
/// future is dropped where it waits.
pub fn json<I, O, E, F, Fut>(function: F) -> Arc<dyn Runner>
where
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
    E: fmt::Display + Send + 'static,
    F: Fn(I, Attempt) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, E>> + Send + 'static,
{
    bytes(
        move |attempt| match serde_json::from_slice(&attempt.input.bytes) {
            Ok(input) => function(input, attempt).map(json_outcome).left_future(),
            Err(error) => {
                let refused = Outcome::failed_for_good(format!("the input does not fit: {error}"));
                std::future::ready(refused).right_future()
            }
        },
    )
}

fn json_outcome<O: Serialize, E: fmt::Display>(ended: Result<O, E>) -> Outcome {
    match ended.map(|output| serde_json::to_vec(&output)) {
        Ok(Ok(json)) => Outcome::Succeeded(Payload {
            content_type: "application/json".into(),
            bytes: Bytes::from(json),
        }),
        Ok(Err(error)) => Outcome::failed_for_good(format!("the result is not JSON: {error}")),
        Err(error) => Outcome::failed(error.to_string()),
    }
}

/// Returns a runner of a function that blocks or computes for long, on a thread of its own.
///
/// A thread cannot be stopped from outside: such a function should ask
/// [`stop.reason()`](crate::run::Stop::reason) now and then. One that does not is left behind
/// when its time is over, and keeps its slot until it returns.
pub fn blocking<F>(function: F) -> Arc<dyn Runner>
where
    F: Fn(Attempt) -> Outcome + Send + Sync + 'static,
{
    Arc::new(BlockingRunner(Arc::new(function)))
}

type AsyncFunction = dyn Fn(Attempt) -> BoxFuture<'static, Outcome> + Send + Sync;
type BlockingFunction = dyn Fn(Attempt) -> Outcome + Send + Sync;

struct FunctionRunner(Box<AsyncFunction>);

#[async_trait]
impl Runner for FunctionRunner {
    fn kind(&self) -> &'static str {
        "function"
    }

    async fn run(&self, attempt: Attempt) -> Outcome {
        let stop = attempt.stop.clone();
        tokio::select! {
            biased;
            outcome = (self.0)(attempt) => outcome,
            () = stop.requested() => Outcome::failed("stopped"),
        }
    }
}

impl fmt::Debug for FunctionRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FunctionRunner")
    }
}

struct BlockingRunner(Arc<BlockingFunction>);

#[async_trait]
impl Runner for BlockingRunner {
    fn kind(&self) -> &'static str {
        "function"
    }

    async fn run(&self, attempt: Attempt) -> Outcome {
        let function = self.0.clone();
        let (ended, end) = oneshot::channel();
        let thread = std::thread::Builder::new().name(format!("anteroom-{}", attempt.job.task));
        let started = thread.spawn(move || {
            // The slot is given back when the thread ends, however long that takes.
            let slot = attempt.slot.clone();
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| function(attempt)));
            // Nobody listens any more when the attempt was given up.
            let _given_up = ended.send(outcome);
            drop(slot);
        });
        if let Err(error) = started {
            return Outcome::failed(format!("no thread could be started: {error}"));
        }
        match end.await {
            Ok(Ok(outcome)) => outcome,
            // Caught like the panic of an async function, where the attempt is watched over.
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => Outcome::failed("the thread ended without an outcome"),
        }
    }
}

impl fmt::Debug for BlockingRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlockingRunner")
    }
}
