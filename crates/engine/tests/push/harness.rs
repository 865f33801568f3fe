//! Attempts to deliver, and services that answer exactly what they are told to.

use anteroom::core::{ClaimNumber, JobId, Name, Payload, PayloadInfo, Priority, Spec, Timestamp};
use anteroom::run::client::Client;
use anteroom::run::push::{Push, PushRunner};
use anteroom::run::targets::Targets;
use anteroom::run::{Attempt, Outcome, RetryHint, Runner, Stop};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// No test takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(crate) async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it should not take that long")
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Request {
    /// Returns a header that is there once at most.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(other, _)| other == name);
        let value = found.next().map(|(_, value)| &**value);
        assert!(found.next().is_none(), "{name} is there twice: {self:?}");
        value
    }

    /// Reads one request; none at the end of the connection.
    pub(crate) async fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let headers: Vec<_> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut request = Self {
            line,
            headers,
            body: Bytes::new(),
        };
        let length = request.header("content-length").unwrap_or("0");
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await.ok()?;
        request.body = body.into();
        Some(request)
    }
}

/// A service on a socket of its own.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    requests: mpsc::UnboundedReceiver<(usize, Request)>,
    _serving: JoinSet<()>,
}

impl Service {
    /// Answers each request with these bytes, one after the other; the last one for ever.
    pub(crate) async fn answering(answers: &[&str]) -> Self {
        let answers: Arc<[Bytes]> = answers
            .iter()
            .map(|answer| Bytes::copy_from_slice(answer.as_bytes()))
            .collect();
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        Self::doing(move |mut stream, told, connection| {
            let (answers, count) = (answers.clone(), count.clone());
            async move {
                while let Some(request) = Request::read(&mut stream).await {
                    let _listens = told.send((connection, request));
                    let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    let answer = answers[number.min(answers.len() - 1)].clone();
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    /// Does with each connection what `function` does.
    pub(crate) async fn doing<F, Fut>(function: F) -> Self
    where
        F: Fn(TcpStream, mpsc::UnboundedSender<(usize, Request)>, usize) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, requests) = mpsc::unbounded_channel();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(function(stream, told.clone(), number));
            }
        });
        Self {
            address,
            requests,
            _serving: serving,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/run?a=b", self.address)
    }

    /// Returns the next request, and the number of its connection.
    pub(crate) async fn next(&mut self) -> (usize, Request) {
        patiently(self.requests.recv()).await.unwrap()
    }

    /// Tells whether nothing came that was not taken yet.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.requests.try_recv().is_err()
    }
}

/// Writes an answer.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

pub(crate) fn ok(body: &str) -> String {
    answer("200 OK", "content-type: text/plain\r\n", body)
}

pub(crate) fn attempt(input: &str, stop: &Stop) -> Attempt {
    attempt_of(input, stop, 2, None)
}

pub(crate) fn attempt_of(
    input: &str,
    stop: &Stop,
    number: u32,
    callback_url: Option<&str>,
) -> Attempt {
    let input = Payload {
        content_type: "text/plain; charset=utf-8".into(),
        bytes: input.to_owned().into(),
    };
    let spec = Spec {
        id: JobId::from_parts(1_700_000_000_000, 7, 42),
        task: Name::new("wordcount").unwrap(),
        queue: Name::new("default").unwrap(),
        group: None,
        priority: Priority::default(),
        created_at: Timestamp::from_millis(1_700_000_000_000),
        timeout: Duration::from_mins(5),
        retain: Duration::from_hours(1),
        unique_key: None,
        callback_url: callback_url.map(Into::into),
        tags: BTreeMap::new(),
        input: PayloadInfo {
            content_type: input.content_type.clone(),
            bytes: input.bytes.len(),
        },
    };
    let deadline = Timestamp::from_millis(1_795_348_800_007);
    let claim = ClaimNumber::new(99);
    Attempt::new(
        Arc::new(spec),
        input,
        number,
        5,
        claim,
        deadline,
        stop.clone(),
    )
}

pub(crate) fn pusher(url: impl Into<String>) -> PushRunner {
    pusher_by(&Client::new(Targets::anywhere()), url)
}

pub(crate) fn pusher_by(client: &Client, url: impl Into<String>) -> PushRunner {
    PushRunner::new(Push {
        url: url.into(),
        result_bytes_max: 1_000,
        client: client.clone(),
        ..Push::default()
    })
    .unwrap()
}

/// Runs one attempt to its end.
pub(crate) async fn run(runner: &dyn Runner, input: &str) -> Outcome {
    patiently(runner.run(attempt(input, &Stop::default()))).await
}

/// Pushes to a service that gives one answer.
pub(crate) async fn push_to(answer: &str) -> Outcome {
    let service = Service::answering(&[answer]).await;
    run(&pusher(service.url()), "in").await
}

pub(crate) fn succeeded(outcome: Outcome) -> (String, String) {
    match outcome {
        Outcome::Succeeded(payload) => (
            payload.content_type.to_string(),
            String::from_utf8(payload.bytes.to_vec()).unwrap(),
        ),
        other @ (Outcome::Failed { .. } | Outcome::Busy { .. }) => panic!("{other:?}"),
    }
}

pub(crate) fn failed(outcome: Outcome) -> (String, RetryHint) {
    match outcome {
        Outcome::Failed { message, retry } => (message, retry),
        other @ (Outcome::Succeeded(_) | Outcome::Busy { .. }) => panic!("{other:?}"),
    }
}
