//! A client that writes down all it asks and is told.

use crate::history::{Event, Read, Recorder, Seen, Submit, now_us};
use crate::pause;
use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How long an answer may take, waiting apart.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long a client waits for a server that is down.
const UP_MAX: Duration = Duration::from_mins(2);

/// Returns the SHA-256 of `bytes` in hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap_or_default();
            text
        })
}

/// Where the server is; none while it is down.
pub type Whereabouts = watch::Receiver<Option<String>>;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The fields of its head.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// Returns the value of a field; empty where there is none.
    pub fn field(&self, name: &str) -> &str {
        let value = self.headers.get(name).map(HeaderValue::to_str);
        value.and_then(Result::ok).unwrap_or_default()
    }

    /// Reads the job that the answer has.
    ///
    /// # Errors
    ///
    /// When it has none.
    pub fn job(&self) -> anyhow::Result<JobAnswer> {
        serde_json::from_slice(&self.body).with_context(|| {
            let text = String::from_utf8_lossy(&self.body);
            format!("{} has no job: {text:.200}", self.status)
        })
    }

    /// Returns the last part of the problem's type; empty where there is no problem.
    pub fn problem(&self) -> String {
        #[derive(Deserialize)]
        struct Problem {
            r#type: String,
        }
        serde_json::from_slice::<Problem>(&self.body)
            .ok()
            .and_then(|problem| problem.r#type.rsplit('/').next().map(str::to_owned))
            .unwrap_or_default()
    }
}

/// What the campaigns look at in a job.
#[derive(Clone, Debug, Deserialize)]
pub struct JobAnswer {
    /// Its id.
    pub id: String,
    /// Its state, in the word of the wire.
    pub state: String,
    /// Its attempts so far.
    pub attempt: u32,
    /// The input and result of a job that a submit did not make: `unique_key`.
    #[serde(default)]
    pub duplicate: bool,
}

/// A job to submit.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The task.
    pub task: &'static str,
    /// The input.
    pub body: Bytes,
    /// The only right result.
    pub expected: Option<String>,
    /// Options, as in the query of the URL.
    pub options: String,
    /// How long it is kept, where `options` says so.
    pub retain: Option<Duration>,
}

/// What became of a submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// The job with this id is stored.
    Acked(String),
    /// It was refused with this status and problem.
    Refused(u16, String),
    /// It is unknown; the status and problem if there was an answer.
    Unknown(Option<(u16, String)>),
}

/// A client. Cheap to clone: clones are the same party.
#[derive(Clone, Debug)]
pub struct Client {
    http: Http<HttpConnector, Full<Bytes>>,
    recorder: Arc<Recorder>,
    calls: Arc<AtomicU64>,
    server: Whereabouts,
}

impl Client {
    /// Returns a client that writes to `recorder` and finds its server in `server`.
    pub fn new(recorder: Recorder, server: Whereabouts) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        // A submit that may have reached the server is not sent again behind our back.
        let http = Http::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .build(connector);
        Self {
            http,
            recorder: Arc::new(recorder),
            calls: Arc::default(),
            server,
        }
    }

    /// Returns the same party, asking the server that is told by `server`.
    #[must_use]
    pub fn at(&self, server: Whereabouts) -> Self {
        Self {
            server,
            ..self.clone()
        }
    }

    /// Writes down what the party does besides asking.
    ///
    /// # Errors
    ///
    /// When the history cannot be written.
    pub fn write(&self, event: Event) -> anyhow::Result<()> {
        self.recorder.write(event)
    }

    /// Waits until the server is up and returns its base URL.
    ///
    /// # Errors
    ///
    /// When it does not come up in time.
    pub async fn up(&self) -> anyhow::Result<String> {
        let mut server = self.server.clone();
        let found = tokio::time::timeout(UP_MAX, server.wait_for(Option::is_some)).await;
        match found {
            Ok(Ok(address)) => Ok(address.clone().unwrap_or_default()),
            Ok(Err(_)) => bail!("nobody starts the server any more"),
            Err(_) => bail!("the server was down for {UP_MAX:?}"),
        }
    }

    /// Sends a request to the server that is up and returns its answer.
    ///
    /// # Errors
    ///
    /// When there is no whole answer in time.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let uri = format!("{}{path}", self.up().await?);
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).context("build a request")?;
        let answer = async {
            let response = self.http.request(request).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body,
            })
        };
        tokio::time::timeout(ANSWER_MAX, answer)
            .await
            .context("no answer in time")?
    }

    /// Submits a job.
    ///
    /// # Errors
    ///
    /// When the answer is none that a server may give, or the history cannot be written.
    pub async fn submit(&self, ask: &Ask) -> anyhow::Result<Submitted> {
        self.up().await?;
        let call = self.note_asked(ask, None)?;
        let path = format!("/v1/tasks/{}/jobs?{}", ask.task, ask.options);
        let answer = self.call(Method::POST, &path, &[], ask.body.clone()).await;
        let submitted = match answer {
            Err(_cut) => Submitted::Unknown(None),
            Ok(answer) => match answer.status {
                200 | 202 => {
                    let job = answer.job()?;
                    self.recorder.write(Event::Ack {
                        call,
                        id: job.id.clone(),
                        duplicate: job.duplicate,
                    })?;
                    return Ok(Submitted::Acked(job.id));
                }
                500.. => Submitted::Unknown(Some((answer.status, answer.problem()))),
                status => Submitted::Refused(status, answer.problem()),
            },
        };
        self.note_answered(call, &submitted)?;
        Ok(submitted)
    }

    /// Writes down a submit that was sent in another way than by [`submit`](Self::submit), and
    /// what became of it, once that is known.
    ///
    /// # Errors
    ///
    /// When the history cannot be written.
    pub fn note_submitted(&self, ask: &Ask, submitted: &Submitted) -> anyhow::Result<()> {
        let call = self.note_asked(ask, None)?;
        self.note_answered(call, submitted)
    }

    /// Writes down that a submit is about to be sent, and returns its number.
    pub(crate) fn note_asked(&self, ask: &Ask, key: Option<&str>) -> anyhow::Result<u64> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        self.recorder.write(Event::Submit(Submit {
            call,
            task: ask.task.to_owned(),
            body: digest(&ask.body),
            expected: ask.expected.clone(),
            key: key.map(str::to_owned),
            retain_us: ask
                .retain
                .map(|retain| u64::try_from(retain.as_micros()).unwrap_or(u64::MAX)),
            ..Submit::default()
        }))?;
        Ok(call)
    }

    /// Writes down what became of the submit of this number.
    pub(crate) fn note_answered(&self, call: u64, submitted: &Submitted) -> anyhow::Result<()> {
        self.recorder.write(match submitted {
            Submitted::Acked(id) => Event::Ack {
                call,
                id: id.clone(),
                duplicate: false,
            },
            Submitted::Refused(status, _) => Event::Refused {
                call,
                status: *status,
            },
            Submitted::Unknown(_) => Event::Unknown { call },
        })
    }

    /// Changes what holds for a queue: `settings` is a JSON object.
    ///
    /// # Errors
    ///
    /// When the server does not say that it has.
    pub async fn change_queue(&self, queue: &str, settings: &str) -> anyhow::Result<()> {
        let headers = [("content-type", "application/json")];
        let body = Bytes::copy_from_slice(settings.as_bytes());
        let path = format!("/v1/queues/{queue}");
        let answer = self.call(Method::PATCH, &path, &headers, body).await?;
        if answer.status != 200 {
            let (status, problem) = (answer.status, answer.problem());
            bail!("{settings} for queue {queue} is answered {status} {problem}");
        }
        Ok(())
    }

    /// Asks where a job stands; waits up to `wait` for its end.
    ///
    /// # Errors
    ///
    /// When there is no answer, or none that a server may give.
    pub async fn job(&self, id: &str, wait: Option<Duration>) -> anyhow::Result<(Seen, u32)> {
        let prefer = wait.map(|wait| format!("wait={}", wait.as_secs()));
        let headers: Vec<_> = prefer.iter().map(|value| ("prefer", &**value)).collect();
        let sent_us = now_us().1;
        let path = format!("/v1/jobs/{id}");
        let answer = self
            .call(Method::GET, &path, &headers, Bytes::new())
            .await?;
        let (state, attempt) = match answer.status {
            200 => {
                let job = answer.job()?;
                let state = Seen::from_word(&job.state)
                    .with_context(|| format!("{id} has the state {:?}", job.state))?;
                (state, Some(job.attempt))
            }
            404 => (Seen::Missing, None),
            410 => (Seen::Gone, None),
            status => bail!("GET {path} is answered {status} {}", answer.problem()),
        };
        self.recorder.write(Event::Get(Read {
            id: id.to_owned(),
            sent_us,
            state,
            attempt,
            result: None,
        }))?;
        Ok((state, attempt.unwrap_or_default()))
    }

    /// Asks for a job's result and returns its digest if it has one.
    ///
    /// # Errors
    ///
    /// When there is no answer, or none that a server may give.
    pub async fn result(&self, id: &str) -> anyhow::Result<(Seen, Option<String>)> {
        let sent_us = now_us().1;
        let path = format!("/v1/jobs/{id}/result");
        let answer = self.call(Method::GET, &path, &[], Bytes::new()).await?;
        let (state, attempt, result) = match answer.status {
            200 => (Seen::Succeeded, None, Some(digest(&answer.body))),
            202 => {
                let job = answer.job()?;
                let state = Seen::from_word(&job.state)
                    .with_context(|| format!("{id} has the state {:?}", job.state))?;
                (state, Some(job.attempt), None)
            }
            404 => (Seen::Missing, None, None),
            409 if answer.problem() == "job-cancelled" => (Seen::Cancelled, None, None),
            409 => (Seen::Failed, None, None),
            410 => (Seen::Gone, None, None),
            status => bail!("GET {path} is answered {status} {}", answer.problem()),
        };
        self.recorder.write(Event::Get(Read {
            id: id.to_owned(),
            sent_us,
            state,
            attempt,
            result: result.clone(),
        }))?;
        Ok((state, result))
    }

    /// Asks until there is an answer, at most for as long as a server may be down.
    ///
    /// # Errors
    ///
    /// The last one, when there was none.
    pub async fn until_answered<T, F>(&self, ask: impl Fn() -> F) -> anyhow::Result<T>
    where
        F: Future<Output = anyhow::Result<T>>,
    {
        let mut tries = 0;
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) if tries == 200 => return Err(error),
                Err(_) => tries += 1,
            }
            pause(Duration::from_millis(50)).await;
        }
    }
}
