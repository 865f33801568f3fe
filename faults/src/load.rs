//! Clients that submit and read all the time, also while the server is being hurt.

use crate::client::{Ask, Client, Submitted, digest};
use crate::history::{Seen, now_us};
use crate::pause;
use anyhow::{Context, bail};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What kinds of jobs there are, and how often.
#[derive(Clone, Debug)]
pub struct Mix {
    /// Tasks with the ending that their results have after the digest's digits, and their shares.
    pub tasks: Vec<(&'static str, &'static str, u32)>,
    /// Of a hundred jobs, so many are kept for `retain_short` only.
    pub short_of_100: u32,
    /// How long those are kept.
    pub retain_short: Duration,
    /// The largest body.
    pub body_bytes_max: usize,
}

impl Mix {
    /// Returns jobs that `sha256sum` runs; a tenth is kept for `retain_short` only.
    pub fn exec(retain_short: Duration) -> Self {
        Self {
            tasks: vec![("digest", "  -\n", 1)],
            short_of_100: 10,
            retain_short,
            body_bytes_max: 2_000,
        }
    }

    /// Returns jobs that a function runs, some by a program; a tenth is kept for `retain_short`
    /// only.
    pub fn functions(retain_short: Duration) -> Self {
        Self {
            tasks: vec![("digest", "", 19), ("digest-exec", "  -\n", 1)],
            ..Self::exec(retain_short)
        }
    }

    /// Lets all jobs be kept.
    #[must_use]
    pub fn all_kept(mut self) -> Self {
        self.short_of_100 = 0;
        self
    }

    /// Draws a job.
    pub fn ask(&self, random: &mut fastrand::Rng) -> Ask {
        let total: u32 = self.tasks.iter().map(|(_, _, share)| share).sum();
        let mut draw = random.u32(0..total.max(1));
        let mut chosen = &self.tasks[0];
        for task in &self.tasks {
            chosen = task;
            if draw < task.2 {
                break;
            }
            draw -= task.2;
        }
        let length = random.usize(0..=self.body_bytes_max);
        let body: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
            .take(length)
            .collect();
        let expected = digest(format!("{}{}", digest(&body), chosen.1).as_bytes());
        let retain = (random.u32(0..100) < self.short_of_100).then_some(self.retain_short);
        Ask {
            task: chosen.0,
            body: Bytes::from(body),
            expected: Some(expected),
            options: retain
                .map(|retain| format!("retain={}ms", retain.as_millis()))
                .unwrap_or_default(),
            retain,
        }
    }
}

/// A job that was acknowledged.
#[derive(Clone, Debug)]
pub struct Acked {
    /// Its id.
    pub id: String,
    /// The digest of its only right result.
    pub expected: Option<String>,
    /// It may be gone by now.
    pub is_short: bool,
}

/// Submits a job that the server has to take.
///
/// # Errors
///
/// When it does not.
pub async fn submit_one(client: &Client, ask: &Ask) -> anyhow::Result<Acked> {
    match client.submit(ask).await? {
        Submitted::Acked(id) => Ok(Acked {
            id,
            expected: ask.expected.clone(),
            is_short: ask.retain.is_some(),
        }),
        other => bail!("a submit is answered {other:?}"),
    }
}

/// Load on a server: runs until it is stopped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<anyhow::Result<()>>,
}

#[derive(Debug)]
struct Shared {
    mix: Mix,
    acked: Mutex<Vec<Acked>>,
    /// Acknowledgements that may still be asked for.
    budget: Semaphore,
    /// Those that were ever granted.
    granted: AtomicUsize,
    /// A submit was acknowledged.
    news: Notify,
    stop: CancellationToken,
    answers: Mutex<BTreeMap<String, u64>>,
}

impl Load {
    /// Starts a submitter for each client of `submitters`, and a reader for each of `readers`.
    /// Nothing is submitted until there is a budget.
    pub fn start(mix: Mix, submitters: Vec<Client>, readers: Vec<Client>, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            mix,
            acked: Mutex::default(),
            budget: Semaphore::new(0),
            granted: AtomicUsize::new(0),
            news: Notify::new(),
            stop: CancellationToken::new(),
            answers: Mutex::default(),
        });
        let mut clients = JoinSet::new();
        let mut random = fastrand::Rng::with_seed(seed);
        for client in submitters {
            clients.spawn(submit(client, shared.clone(), random.fork()));
        }
        for client in readers {
            clients.spawn(read(client, shared.clone(), random.fork()));
        }
        Self { shared, clients }
    }

    /// Lets so many more submits be acknowledged.
    pub fn add_budget(&self, acks: usize) {
        self.shared.granted.fetch_add(acks, Ordering::Relaxed);
        self.shared.budget.add_permits(acks);
    }

    /// Waits until so many submits were acknowledged, or as many as there is a budget for.
    ///
    /// # Errors
    ///
    /// When it takes longer than `limit`.
    pub async fn reach(&self, acks: usize, limit: Duration) -> anyhow::Result<()> {
        let acks = acks.min(self.shared.granted.load(Ordering::Relaxed));
        let limit_us = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        let from_us = now_us().1;
        while self.acked_count() < acks {
            if now_us().1 - from_us > limit_us {
                let (acked, answers) = (self.acked_count(), self.answers());
                bail!("{acked} of {acks} acknowledged in {limit:?}; other answers: {answers:?}");
            }
            self.news().await;
        }
        Ok(())
    }

    /// Returns how many submits were acknowledged.
    pub fn acked_count(&self) -> usize {
        self.shared.acked().len()
    }

    /// Returns how often each unusual answer was given to submits.
    pub fn answers(&self) -> BTreeMap<String, u64> {
        let answers = &self.shared.answers;
        answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Lets another submit be acknowledged, and waits until one is.
    ///
    /// # Errors
    ///
    /// When it takes longer than `limit`.
    pub async fn another(&self, limit: Duration) -> anyhow::Result<()> {
        let acked = self.acked_count();
        self.add_budget(1);
        self.reach(acked + 1, limit).await
    }

    /// Waits until a submit is acknowledged, and not for long.
    async fn news(&self) {
        let news = self.shared.news.notified();
        // An acknowledgement just before this is found by looking again.
        let _none = tokio::time::timeout(Duration::from_millis(2), news).await;
    }

    /// Stops all clients and returns what was acknowledged.
    ///
    /// # Errors
    ///
    /// When a client was given an answer that no server may give.
    pub async fn stop(mut self) -> anyhow::Result<Vec<Acked>> {
        self.shared.stop.cancel();
        while let Some(ended) = self.clients.join_next().await {
            ended.context("a client panicked")??;
        }
        let acked = std::mem::take(&mut *self.shared.acked());
        Ok(acked)
    }
}

impl Shared {
    fn acked(&self) -> std::sync::MutexGuard<'_, Vec<Acked>> {
        self.acked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, answer: String) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry(answer).or_default() += 1;
    }
}

async fn submit(
    client: Client,
    shared: Arc<Shared>,
    mut random: fastrand::Rng,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            permit = shared.budget.acquire() => permit.context("the budget was closed")?.forget(),
            () = shared.stop.cancelled() => return Ok(()),
        }
        // A budget is for one acknowledgement, however many submits that takes.
        loop {
            let ask = shared.mix.ask(&mut random);
            let submitted = tokio::select! {
                submitted = client.submit(&ask) => submitted?,
                () = shared.stop.cancelled() => return Ok(()),
            };
            match submitted {
                Submitted::Acked(id) => {
                    shared.acked().push(Acked {
                        id,
                        expected: ask.expected,
                        is_short: ask.retain.is_some(),
                    });
                    shared.news.notify_waiters();
                    break;
                }
                Submitted::Refused(status, problem) => {
                    shared.note(format!("{status} {problem}"));
                }
                Submitted::Unknown(Some((status, problem))) => {
                    shared.note(format!("{status} {problem}"));
                }
                Submitted::Unknown(None) => {}
            }
            pause(Duration::from_millis(random.u64(1..20))).await;
        }
    }
}

/// Reads jobs at random: those that were acknowledged just now more often.
async fn read(
    client: Client,
    shared: Arc<Shared>,
    mut random: fastrand::Rng,
) -> anyhow::Result<()> {
    while !shared.stop.is_cancelled() {
        let id = {
            let acked = shared.acked();
            let recent = acked.len().saturating_sub(200);
            let from = if random.bool() { recent } else { 0 };
            (!acked.is_empty()).then(|| acked[random.usize(from..acked.len())].id.clone())
        };
        if let Some(id) = id {
            // A server that is down gives no answer; a wrong answer is for the checker to find.
            let seen = tokio::select! {
                seen = client.job(&id, None) => seen.ok(),
                () = shared.stop.cancelled() => return Ok(()),
            };
            if let Some((Seen::Succeeded, _)) = seen {
                let _down = client.result(&id).await;
            }
        }
        pause(Duration::from_millis(2)).await;
    }
    Ok(())
}
