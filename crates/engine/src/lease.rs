//! Workers that pull: each is a dispatcher somewhere else, under the same fence.
//!
//! A lease is a claim that belongs to no node: any node of the store may extend or settle it. Who
//! holds one shows its [token](token), and what it says is applied as for an attempt of the node's
//! own. A settle whose answer was lost may be sent again: the store knows what ended the latest
//! attempt.

mod token;

use crate::asking::Asks;
use crate::attempt::retry;
use crate::engine::{Engine, Shared};
use crate::metrics::AttemptEnd;
use crate::run::RetryHint;
use crate::settle::end_of;
use crate::shutdown::Phase;
use crate::store::{Applied, Change, Found, Refused, StoreError, Want};
use anteroom_core::limits::{CLAIM_JOBS_MAX, LEASE_MAX, LEASE_MIN};
use anteroom_core::{
    Event, Failure, FailureKind, Fingerprint, HandBack, Job, Lease, Name, Payload, Report, Reports,
};
use sha2::{Digest, Sha256};
use std::fmt;
use std::time::Duration;
pub(crate) use token::LeaseKey;
use token::{Token, token_of};
use tracing::debug;

/// Bytes of a result whose digest is made by the thread that received it.
const DIGESTED_INLINE_BYTES_MAX: usize = 256 * 1024;

/// What a worker asks for.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    /// Who asks: only under the same name can the leases be extended and settled. Empty where
    /// callers have no names.
    pub holder: String,
    /// Of these tasks, all of which are left to workers.
    pub tasks: Vec<Name>,
    /// In these queues; none: in any.
    pub queues: Option<Vec<Name>>,
    /// At most this many, from 1 to 1,000.
    pub max: usize,
    /// For how long, from 1 s to 1 h; no longer than an attempt may run.
    pub lease_for: Duration,
    /// How long to wait for the first.
    pub wait: Duration,
}

/// A job under a lease, its attempt begun.
#[derive(Clone)]
pub struct Leased {
    /// The token that stands for the lease. It is a secret of its holder's.
    pub lease: String,
    /// The job, running.
    pub job: Job,
    /// What the task is given.
    pub input: Payload,
}

impl fmt::Debug for Leased {
    /// Leaves the token out: it is no log's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leased")
            .field("job", &self.job)
            .finish_non_exhaustive()
    }
}

/// Why nothing was leased.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// A task is run by the server itself, or there is no such task.
    #[error("{task} is no task that is left to workers")]
    NotPulled {
        /// The task.
        task: Name,
    },
    /// A part is out of its range.
    #[error("{option} {detail}")]
    OutOfRange {
        /// The part, as it is written on the wire.
        option: &'static str,
        /// What it is and what it may be.
        detail: String,
    },
    /// The engine is shutting down.
    #[error("the server is shutting down")]
    Draining,
    /// The store could not claim. Worth a retry where the store's error is.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the holder of a lease says.
#[derive(Clone, Debug)]
pub enum Settlement {
    /// The attempt has a result.
    Complete(Payload),
    /// It has none.
    Fail {
        /// Why.
        message: String,
        /// Whether another attempt may help.
        retry: RetryHint,
    },
    /// It goes on.
    Extend {
        /// For how long from now on, from 1 s to 1 h; no longer than the attempt may run.
        lease_for: Duration,
        /// What it says beside.
        reports: Vec<Report>,
    },
    /// It is handed back undone.
    Release,
}

/// Why what the holder of a lease said changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseRefused {
    /// The lease is none that it can speak for.
    #[error(
        "the lease ran out, was settled otherwise, belongs to an earlier attempt or another token, \
         or is none of this server's"
    )]
    Lost,
    /// The result is too large. The lease is still held.
    #[error("the result is {bytes} bytes; the limit is {limit}")]
    ResultTooLarge {
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
}

impl Engine {
    /// Leases jobs to a worker, which is a dispatcher of its own. Where there is none it waits for
    /// one, at most `request.wait`, and then returns none.
    ///
    /// # Errors
    ///
    /// [`LeaseError`]: nothing was leased.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: jobs leased to a call that was dropped are handed back and cost no attempt.
    pub async fn lease(&self, request: LeaseRequest) -> Result<Vec<Leased>, LeaseError> {
        let shared = &self.shared;
        check(shared, &request)?;
        if shared.phases.now() != Phase::Running {
            return Err(LeaseError::Draining);
        }
        let want = Want {
            tasks: request.tasks,
            queues: request.queues,
            limit: request.max,
            lease: Lease::Pulled,
            lease_for: request.lease_for,
            wait: request.wait,
        };
        let asking = shared.asks(&want);
        let claimed = tokio::select! {
            claimed = shared.store.claim(want) => claimed?,
            () = shared.phases.draining() => return Err(LeaseError::Draining),
        };
        drop(asking);
        let Some(key) = &shared.lease_key else {
            return Ok(Vec::new());
        };
        let mut leased = Vec::with_capacity(claimed.len());
        for claimed in claimed {
            shared.began(&claimed.job);
            let (id, task) = (claimed.job.spec.id, &claimed.job.spec.task);
            debug!(job.id = %id, %task, "leased job {id}");
            leased.push(Leased {
                lease: key.seal(&token_of(&claimed.job), &request.holder),
                job: claimed.job,
                input: claimed.input,
            });
        }
        Ok(leased)
    }

    /// Lets holders of leases say something, each on its own, in this order, and returns each job as
    /// it stands then. What ended an attempt before is answered as the first time.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing changed, unless it is [`StoreError::Unknown`]: then say it again.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have changed the jobs.
    pub async fn settle_leases(
        &self,
        holder: &str,
        settlements: Vec<(String, Settlement)>,
    ) -> Result<Vec<Result<Job, LeaseRefused>>, StoreError> {
        let shared = &self.shared;
        let mut changes = Vec::with_capacity(settlements.len());
        // How many changes each of them is, or why it is none.
        let mut counts = Vec::with_capacity(settlements.len());
        for (lease, settlement) in settlements {
            let before = changes.len();
            let key = shared.lease_key.as_ref();
            let refused = match key.and_then(|key| key.open(&lease, holder)) {
                Some(token) => shared.say(token, settlement, &mut changes).await?,
                None => Some(LeaseRefused::Lost),
            };
            counts.push(refused.map_or(Ok(changes.len() - before), Err));
        }
        let events: Vec<Event> = changes.iter().map(|change| change.event.clone()).collect();
        let count = |applied: &[Applied]| {
            for (event, applied) in events.iter().zip(applied) {
                shared.count(event, applied);
            }
        };
        let mut applied = shared.apply_and(changes, count).await?.into_iter();
        let answers = counts.into_iter().map(|count| {
            let last = applied.by_ref().take(count?).last();
            match last {
                Some(Ok(job)) => Ok(job),
                Some(Err(Refused::Repeated(job))) => Ok(*job),
                Some(Err(_)) | None => Err(LeaseRefused::Lost),
            }
        });
        Ok(answers.collect())
    }
}

impl Shared {
    /// Counts who asks for jobs, for as long as the guards live.
    fn asks(&self, want: &Want) -> Vec<Asks> {
        let asked = want.tasks.iter().filter_map(|task| self.tasks.get(task));
        asked
            .map(|task| {
                task.asking
                    .begin(want.limit, want.queues.clone(), &self.clock)
            })
            .collect()
    }

    /// Turns what the holder of a lease says into changes, or tells why it is none.
    async fn say(
        &self,
        token: Token,
        settlement: Settlement,
        changes: &mut Vec<Change>,
    ) -> Result<Option<LeaseRefused>, StoreError> {
        let Token { id, claim, .. } = token;
        let (settlement, settle) = settlement.said().await;
        let change = |event| Change {
            settle,
            ..Change::new(id, event)
        };
        match settlement {
            Settlement::Complete(result) => {
                let (bytes, limit) = (result.bytes.len(), self.options.result_bytes_max);
                if bytes > limit {
                    return Ok(Some(LeaseRefused::ResultTooLarge { bytes, limit }));
                }
                changes.push(Change {
                    result: Some(result),
                    ..change(Event::Succeeded { claim })
                });
            }
            Settlement::Fail { message, retry } => {
                let Found::Here(job) = self.store.get(id).await? else {
                    return Ok(Some(LeaseRefused::Lost));
                };
                let attempt = job.status.attempt;
                let policy = self.retry_policy(&job.spec.task, attempt);
                changes.push(change(Event::Failed {
                    claim,
                    failure: Failure::new(FailureKind::Error, message),
                    retry: self::retry(retry, &policy, attempt),
                }));
            }
            Settlement::Extend { lease_for, reports } => {
                let until = self.clock.now().after(lease_for).min(token.times_out_at);
                changes.push(change(Event::Extended {
                    claim,
                    lease_expires_at: until,
                }));
                if !reports.is_empty() {
                    changes.push(Change {
                        reports: Reports {
                            skipped: 0,
                            list: reports,
                        },
                        ..change(Event::Reported { claim })
                    });
                }
            }
            Settlement::Release => changes.push(change(Event::Released {
                claim,
                hand_back: HandBack::Busy,
                delay: Duration::ZERO,
            })),
        }
        Ok(None)
    }

    /// Counts what became of an attempt, if this is its end and not one that is said again.
    fn count(&self, event: &Event, applied: &Applied) {
        let is_end = !matches!(event, Event::Extended { .. } | Event::Reported { .. });
        let (job, end) = match applied {
            Ok(job) => (job, end_of(event, job.status.state)),
            Err(Refused::Rejected(_, job)) => (&**job, AttemptEnd::Lost),
            Err(_) => return,
        };
        if is_end {
            let began_at = job.status.started_at.unwrap_or(job.status.run_at);
            let took = self.clock.now().since(began_at);
            self.took(&job.spec, end, took);
            self.metrics.of(&job.spec.task).ended(end, took);
        }
    }
}

fn check(shared: &Shared, request: &LeaseRequest) -> Result<(), LeaseError> {
    for task in &request.tasks {
        let registered = shared.tasks.get(task);
        let is_pulled = registered.is_some_and(|known| known.task.runner.is_pull());
        if !is_pulled {
            return Err(LeaseError::NotPulled { task: task.clone() });
        }
    }
    if !(1..=CLAIM_JOBS_MAX).contains(&request.max) {
        let detail = format!("is {}; it is from 1 to {CLAIM_JOBS_MAX}", request.max);
        return Err(LeaseError::OutOfRange {
            option: "max",
            detail,
        });
    }
    if !(LEASE_MIN..=LEASE_MAX).contains(&request.lease_for) {
        let detail = format!(
            "is {:?}; it is from {LEASE_MIN:?} to {LEASE_MAX:?}",
            request.lease_for
        );
        return Err(LeaseError::OutOfRange {
            option: "lease",
            detail,
        });
    }
    Ok(())
}

impl Settlement {
    /// Returns what it says, as a digest, where it ends the attempt. A large result is gone over by a
    /// thread of its own.
    async fn said(self) -> (Self, Option<Fingerprint>) {
        let is_large = matches!(&self, Self::Complete(result) if result.bytes.len() > DIGESTED_INLINE_BYTES_MAX);
        if !is_large {
            let digest = self.digest();
            return (self, digest);
        }
        let digesting = tokio::task::spawn_blocking(move || {
            let digest = self.digest();
            (self, digest)
        });
        match digesting.await {
            Ok(said) => said,
            // It does not panic; a runtime that shuts down polls nobody who could see it cancelled.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn digest(&self) -> Option<Fingerprint> {
        let mut digest = Sha256::new();
        let mut add = |part: &[u8]| {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        };
        match self {
            Self::Complete(result) => {
                add(b"complete");
                add(result.content_type.as_bytes());
                add(&result.bytes);
            }
            Self::Fail { message, retry } => {
                add(b"fail");
                add(message.as_bytes());
                match retry {
                    RetryHint::ByPolicy => add(b"by policy"),
                    RetryHint::After(delay) => add(&delay.as_nanos().to_be_bytes()),
                    RetryHint::Never => add(b"never"),
                }
            }
            Self::Extend { .. } => return None,
            Self::Release => add(b"release"),
        }
        Some(Fingerprint(digest.finalize().into()))
    }
}
