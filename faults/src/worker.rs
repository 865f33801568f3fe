//! A worker that pulls: leases jobs over HTTP, and now and then misbehaves on purpose.
//!
//! It writes down every attempt that it begins and ends, and what became of each success. What it
//! does wrong on purpose it writes down as a fault of that attempt alone, before it does it, so that
//! the rules hold for all others.

use crate::client::{Answer, Client, Whereabouts, digest};
use crate::history::{Ended, Event, FaultKind, now_us};
use crate::pause;
use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// For how long jobs are leased: longer than a machine under load stands still.
pub const LEASE: Duration = Duration::from_micros(LEASE_US);
const LEASE_US: u64 = 3_000_000;
/// Jobs of one call at the most.
const LEASES_MAX: usize = 16;
/// Attempts that a worker has lying about on purpose.
const LEFT_MAX: usize = 32;

/// What a worker does with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conduct {
    /// Gives the result.
    Complete,
    /// Gives it, and then again, as if the answer had been lost.
    Repeat,
    /// Holds the lease for longer before.
    Extend,
    /// Says that it failed.
    Fail,
    /// Hands it back.
    Release,
    /// Gives the result when its lease is over.
    Late,
    /// Never says anything.
    Vanish,
}

impl Conduct {
    fn draw(random: &mut fastrand::Rng, left: usize) -> Self {
        match random.u32(0..200) {
            0..8 => Self::Repeat,
            8..16 => Self::Extend,
            16..20 => Self::Fail,
            20..24 => Self::Release,
            24..26 if left < LEFT_MAX => Self::Late,
            26..27 if left < LEFT_MAX => Self::Vanish,
            _ => Self::Complete,
        }
    }

    /// Tells whether another attempt may begin while this one goes on.
    const fn leaves_it(self) -> bool {
        matches!(self, Self::Late | Self::Vanish)
    }
}

#[derive(Debug, Deserialize)]
struct Leases {
    leases: Vec<Lease>,
}

#[derive(Clone, Debug, Deserialize)]
struct Lease {
    #[serde(rename = "lease")]
    token: String,
    claim: u64,
    job: LeasedJob,
    #[serde(default)]
    input_base64: String,
}

#[derive(Clone, Debug, Deserialize)]
struct LeasedJob {
    id: String,
    attempt: u32,
}

/// An attempt at work.
#[derive(Clone, Debug)]
struct Attempt {
    lease: Lease,
    conduct: Conduct,
    /// What it runs on.
    node: String,
    /// When its lease may be over, by the worker's own clock.
    over_us: u64,
    /// Its result, the digest of its input.
    result: String,
}

/// A worker.
#[derive(Debug)]
pub struct Worker {
    client: Client,
    /// What its attempts run on.
    node: String,
    random: fastrand::Rng,
    /// Attempts that are late on purpose.
    left: JoinSet<anyhow::Result<()>>,
}

impl Worker {
    /// Returns a worker whose attempts run on `node`.
    pub fn new(client: Client, node: String, seed: u64) -> Self {
        Self {
            client,
            node,
            random: fastrand::Rng::with_seed(seed),
            left: JoinSet::new(),
        }
    }

    /// Works until it is dropped.
    ///
    /// # Errors
    ///
    /// When the server gives an answer that it may not give.
    pub async fn work(mut self) -> anyhow::Result<()> {
        loop {
            while let Some(ended) = self.left.try_join_next() {
                ended.context("a late attempt panicked")??;
            }
            let over_us = now_us().1 + LEASE_US;
            let leases = match self.lease().await {
                Ok(leases) => leases,
                // It is down: the client waits for the next.
                Err(_down) => {
                    pause(Duration::from_millis(20)).await;
                    continue;
                }
            };
            let mut settles = Vec::new();
            for lease in leases {
                // It was held up for so long that another worker may have the job.
                if now_us().1 >= over_us {
                    continue;
                }
                let attempt = self.begin(lease, over_us)?;
                if attempt.conduct.leaves_it() {
                    let client = self.client.clone();
                    self.left.spawn(async move { attempt.leave(&client).await });
                } else if attempt.conduct == Conduct::Complete && self.random.bool() {
                    attempt.end(&self.client, Ended::Succeeded)?;
                    settles.push(attempt);
                } else {
                    attempt.finish(&self.client).await?;
                }
            }
            settle_all(&self.client, &settles).await?;
        }
    }

    async fn lease(&mut self) -> anyhow::Result<Vec<Lease>> {
        let max = self.random.usize(1..=LEASES_MAX);
        let body = json!({"max": max, "lease": format!("{}s", LEASE.as_secs())});
        let headers = [("content-type", "application/json"), ("prefer", "wait=1")];
        let body = Bytes::from(body.to_string());
        let answer = self.client.call(Method::POST, "/v1/leases", &headers, body);
        let answer = answer.await?;
        match answer.status {
            200 => {
                let leases: Leases = serde_json::from_slice(&answer.body)?;
                ensure!(leases.leases.len() <= max, "more leases than asked for");
                Ok(leases.leases)
            }
            204 => Ok(Vec::new()),
            status => bail!(
                "a call for leases is answered {status} {}",
                answer.problem()
            ),
        }
    }

    fn begin(&mut self, lease: Lease, over_us: u64) -> anyhow::Result<Attempt> {
        let conduct = Conduct::draw(&mut self.random, self.left.len());
        let input = BASE64_STANDARD.decode(&lease.input_base64)?;
        let body = digest(&input);
        let node = if conduct.leaves_it() {
            format!("{}/{}", self.node, lease.claim)
        } else {
            self.node.clone()
        };
        self.client.write(Event::Start {
            id: lease.job.id.clone(),
            attempt: lease.job.attempt,
            claim: lease.claim,
            node: node.clone(),
            body: body.clone(),
        })?;
        let attempt = Attempt {
            lease,
            conduct,
            node,
            over_us,
            result: body,
        };
        if conduct.leaves_it() {
            attempt.is_late(&self.client)?;
        }
        Ok(attempt)
    }
}

impl Attempt {
    /// Does what the worker means to do, its lease good.
    async fn finish(&self, client: &Client) -> anyhow::Result<()> {
        match self.conduct {
            Conduct::Fail => {
                self.end(client, Ended::Failed)?;
                let body = json!({"error": "on purpose", "retry_after": "0s"});
                self.say(client, "fail", &body.to_string()).await.map(drop)
            }
            Conduct::Release => {
                self.end(client, Ended::Stopped)?;
                self.say(client, "release", "").await.map(drop)
            }
            Conduct::Extend => {
                let body = json!({"lease": "5s", "progress": {"fraction": 0.5}});
                self.say(client, "extend", &body.to_string()).await?;
                self.complete(client).await.map(drop)
            }
            Conduct::Repeat => {
                if !self.complete(client).await? {
                    return Ok(());
                }
                let again = self.say(client, "complete", &self.result).await?;
                ensure!(again.status == 200, "the same again is {}", again.status);
                let other = self.say(client, "complete", "another result").await?;
                ensure!(other.status == 409, "another result is {}", other.status);
                let release = self.say(client, "release", "").await?;
                ensure!(release.status == 409, "a release is {}", release.status);
                Ok(())
            }
            Conduct::Complete | Conduct::Late | Conduct::Vanish => {
                self.complete(client).await.map(drop)
            }
        }
    }

    /// Lets the lease run out, and settles it then or never.
    async fn leave(self, client: &Client) -> anyhow::Result<()> {
        if self.conduct == Conduct::Vanish {
            return Ok(());
        }
        let more = Duration::from_millis(fastrand::u64(0..2_000));
        pause(LEASE + more).await;
        self.complete(client).await.map(drop)
    }

    /// Gives the result, and tells whether it was taken.
    async fn complete(&self, client: &Client) -> anyhow::Result<bool> {
        self.end(client, Ended::Succeeded)?;
        let saying = self.say(client, "complete", &self.result);
        let answer = in_time_or_late(client, std::slice::from_ref(self), saying).await?;
        let accepted = answer.status == 200;
        self.settled(client, accepted)?;
        Ok(accepted)
    }

    /// Writes down that another attempt may have begun by now.
    fn is_late(&self, client: &Client) -> anyhow::Result<()> {
        let (kind, node) = (FaultKind::Pause, Some(self.node.clone()));
        client.write(Event::Fault { kind, node })
    }

    /// Writes down the end of the attempt: before anybody is told of it.
    fn end(&self, client: &Client, outcome: Ended) -> anyhow::Result<()> {
        if now_us().1 >= self.over_us {
            self.is_late(client)?;
        }
        let has_result = outcome == Ended::Succeeded;
        client.write(Event::End {
            id: self.lease.job.id.clone(),
            attempt: self.lease.job.attempt,
            claim: self.lease.claim,
            outcome,
            result: has_result.then(|| digest(self.result.as_bytes())),
        })
    }

    fn settled(&self, client: &Client, accepted: bool) -> anyhow::Result<()> {
        client.write(Event::Settle {
            id: self.lease.job.id.clone(),
            claim: self.lease.claim,
            succeeded: true,
            accepted,
        })
    }

    /// Says something until there is an answer: the server may be down, and the same again does no
    /// harm.
    async fn say(&self, client: &Client, call: &str, body: &str) -> anyhow::Result<Answer> {
        let path = format!("/v1/leases/{}/{call}", self.lease.token);
        let kind = match call {
            "complete" => "text/plain",
            _ => "application/json",
        };
        let answer = said(client, &path, kind, body).await?;
        match answer.status {
            200 | 204 | 409 => Ok(answer),
            status => bail!("{call} is answered {status} {}", answer.problem()),
        }
    }
}

/// Settles many at once.
async fn settle_all(client: &Client, attempts: &[Attempt]) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Results {
        results: Vec<Settled>,
    }
    #[derive(Deserialize)]
    struct Settled {
        status: u16,
    }
    if attempts.is_empty() {
        return Ok(());
    }
    let settle = |attempt: &Attempt| {
        json!({
            "lease": attempt.lease.token, "action": "complete", "content_type": "text/plain",
            "result_base64": BASE64_STANDARD.encode(&attempt.result),
        })
    };
    let body: Vec<_> = attempts.iter().map(settle).collect();
    let body = json!(body).to_string();
    let saying = said(client, "/v1/leases/settle", "application/json", &body);
    let answer = in_time_or_late(client, attempts, saying).await?;
    ensure!(
        answer.status == 200,
        "settles are answered {}",
        answer.status
    );
    let results: Results = serde_json::from_slice(&answer.body)?;
    ensure!(results.results.len() == attempts.len(), "other results");
    for (attempt, settled) in attempts.iter().zip(results.results) {
        let is_known = [200, 409].contains(&settled.status);
        ensure!(is_known, "a settle is answered {}", settled.status);
        attempt.settled(client, settled.status == 200)?;
    }
    Ok(())
}

/// Waits for an answer, and writes down when leases may be over before it comes: from then on other
/// attempts of the jobs may begin.
async fn in_time_or_late(
    client: &Client,
    attempts: &[Attempt],
    saying: impl Future<Output = anyhow::Result<Answer>>,
) -> anyhow::Result<Answer> {
    let mut saying = pin!(saying);
    let over_us = attempts.iter().map(|attempt| attempt.over_us).min();
    let left_us = over_us.unwrap_or_default().saturating_sub(now_us().1);
    tokio::select! {
        answer = &mut saying => return answer,
        () = pause(Duration::from_micros(left_us)) => {}
    }
    for attempt in attempts {
        attempt.is_late(client)?;
    }
    saying.await
}

async fn said(client: &Client, path: &str, kind: &str, body: &str) -> anyhow::Result<Answer> {
    let headers = [("content-type", kind)];
    let headers = if body.is_empty() {
        &[][..]
    } else {
        &headers[..]
    };
    let ask = async || {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let answer = client.call(Method::POST, path, headers, body).await?;
        ensure!(answer.status < 500, "it is answered {}", answer.status);
        Ok(answer)
    };
    client.until_answered(ask).await
}

/// Follows a file that says where the server is: what it said last, and what has to be waited for
/// meanwhile.
pub fn follow(file: PathBuf) -> (Whereabouts, impl Future<Output = Infallible>) {
    let sender = watch::Sender::new(None);
    let receiver = sender.subscribe();
    let following = async move {
        loop {
            let address = std::fs::read_to_string(&file).ok();
            let address = address.filter(|address| !address.is_empty());
            sender.send_if_modified(|known| {
                let is_other = *known != address;
                known.clone_from(&address);
                is_other
            });
            pause(Duration::from_millis(20)).await;
        }
    };
    (receiver, following)
}
