//! A server on a real socket over the store of this binary, and a client that sends exactly what it is
//! told to.

use crate::trouble::Trouble;
use anteroom::clock::{Clock, ManualClock};
use anteroom::core::limits::REPORTS_KEPT_MAX;
use anteroom::core::{JobId, Payload, RetryPolicy, ShownState, Timestamp};
use anteroom::run::{Attempt, Outcome, function};
use anteroom::store::{Filter, Page};
use anteroom::{Engine, Options, Task, TaskRunner, Until};
use anteroom_server::http::serve::{ServeLimits, serve};
use anteroom_server::http::{RouterOptions, router};
use anteroom_server::schema::JsonSchema;
use axum::Router;
use serde_json::Value;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What the task `checked` takes.
pub(crate) const SCHEMA: &str = r#"{
    "type": "object", "required": ["a"], "additionalProperties": false,
    "properties": {"a": {"type": "array", "items": {"type": "integer"}}, "b/c": {"maxLength": 3}}
}"#;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something, under the timeout of all tests.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("this comes in time")
}

/// Holds back jobs of the task `hold` until it is opened.
#[derive(Clone)]
pub(crate) struct Gate {
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    fn new() -> Self {
        Self {
            arrived: Arc::new(Semaphore::new(0)),
            open: Arc::new(Semaphore::new(0)),
        }
    }

    /// Waits until an attempt stands before it. A job is shown as running a moment earlier: as soon
    /// as its claim is committed.
    pub(crate) async fn arrived(&self) {
        within(self.arrived.acquire()).await.unwrap().forget();
    }

    /// Lets one job through.
    pub(crate) fn open(&self) {
        self.open.add_permits(1);
    }

    async fn pass(&self) {
        self.arrived.add_permits(1);
        self.open.acquire().await.unwrap().forget();
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) engine: Engine,
    pub(crate) address: SocketAddr,
    pub(crate) gate: Gate,
    /// Set where the server goes by a clock that is set by hand.
    pub(crate) hand: Option<ManualClock>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinSet<()>,
    /// Where the store has its files, if it has any.
    _kept: crate::store::Kept,
}

/// What a test wants of its server.
pub(crate) struct Wanted {
    pub(crate) options: Options,
    pub(crate) router: RouterOptions,
    pub(crate) limits: ServeLimits,
    pub(crate) by_hand: bool,
    /// What befalls its store.
    pub(crate) trouble: Trouble,
    /// Puts the router where the test wants it.
    pub(crate) around: fn(Router) -> Router,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            options: Options::default(),
            router: RouterOptions::default(),
            limits: ServeLimits::default(),
            by_hand: false,
            trouble: Trouble::default(),
            around: |router| router,
        }
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::wanted(Wanted::default()).await
    }

    /// Starts a server whose time stands still until the test moves it.
    pub(crate) async fn by_hand() -> Self {
        Self::wanted(Wanted {
            by_hand: true,
            ..Wanted::default()
        })
        .await
    }

    pub(crate) async fn wanted(wanted: Wanted) -> Self {
        let (clock, hand) = if wanted.by_hand {
            let (clock, hand) = Clock::manual(Timestamp::from_millis(1_763_812_800_000));
            (clock, Some(hand))
        } else {
            (Clock::system(), None)
        };
        let gate = Gate::new();
        let (store, kept) = crate::store::open(clock).await;
        let store = wanted.trouble.of(store);
        let engine = Engine::start(store, tasks(&gate), wanted.options)
            .await
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = (wanted.around)(router(engine.clone(), &wanted.router));
        let (stop, stopped) = oneshot::channel();
        let limits = ServeLimits {
            metrics: wanted.router.metrics.clone(),
            ..wanted.limits
        };
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, routes, limits, stopped));
        Self {
            engine,
            address,
            gate,
            hand,
            stop: Some(stop),
            serving,
            _kept: kept,
        }
    }

    /// Tells the accept loop to stop.
    pub(crate) fn stop_listening(&mut self) {
        let _sent = self.stop.take().map(|stop| stop.send(()));
    }

    /// Waits until the accept loop has returned.
    pub(crate) async fn ended(&mut self) {
        within(self.serving.join_next()).await.unwrap().unwrap();
    }

    pub(crate) async fn connect(&self) -> Connection {
        let socket = within(TcpStream::connect(self.address)).await.unwrap();
        Connection {
            socket,
            host: self.address.to_string(),
            rest: Vec::new(),
        }
    }

    /// Sends one request on a connection of its own.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.connect().await.send(method, path, headers, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers, b"").await
    }

    pub(crate) async fn post(&self, path: &str) -> Answer {
        self.send("POST", path, &[], b"").await
    }

    /// Submits a job of a task, with options, and returns its id.
    pub(crate) async fn submit(&self, task: &str, options: &str) -> String {
        let path = format!("/v1/tasks/{task}/jobs{options}");
        let answer = self.send("POST", &path, &[], b"input").await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Submits a job and waits for its end.
    pub(crate) async fn done(&self, task: &str, options: &str) -> String {
        let id = self.submit(task, options).await;
        let answer = self
            .get_with(&format!("/v1/jobs/{id}"), &[("prefer", "wait=60")])
            .await;
        assert_eq!(answer.json()["done"], true, "{answer:?}");
        id
    }

    /// Returns how many jobs there are, a thousand at most.
    pub(crate) async fn count(&self) -> usize {
        let page = Page {
            size: 1_000,
            after: None,
        };
        let store = self.engine.store();
        let listing = store.list(&Filter::default(), page).await;
        listing.unwrap().jobs.len()
    }

    /// Waits until there is a job, and returns its id.
    pub(crate) async fn first_job(&self) -> String {
        within(async {
            loop {
                let page = Page {
                    size: 1,
                    after: None,
                };
                let listing = self
                    .engine
                    .store()
                    .list(&Filter::default(), page)
                    .await
                    .unwrap();
                match listing.jobs.first() {
                    Some(job) => break job.spec.id.to_string(),
                    None => tokio::task::yield_now().await,
                }
            }
        })
        .await
    }

    /// Waits until a job is in a state.
    pub(crate) async fn reach(&self, id: &str, state: ShownState) {
        let id: JobId = id.parse().unwrap();
        within(async {
            let mut job = self.engine.store().get(id).await.unwrap().here().unwrap();
            loop {
                let shown = job.status.shown(self.engine.clock().now());
                if shown == state {
                    return;
                }
                let until = Until::Changed {
                    version: job.status.version,
                    shown,
                };
                let found = self.engine.wait(id, until, PATIENCE).await.unwrap();
                job = found.here().unwrap();
            }
        })
        .await;
    }
}

fn tasks(gate: &Gate) -> Vec<Task> {
    let here = |runner| TaskRunner::Here(runner);
    let echo = function::bytes(|attempt: Attempt| async move { Outcome::Succeeded(attempt.input) });
    let fail = function::bytes(|_| async { Outcome::failed_for_good("broken beyond repair") });
    let again = function::bytes(|_| async { Outcome::failed("not this time") });
    let gate = gate.clone();
    let passing = gate.clone();
    let talk = function::bytes(move |attempt: Attempt| {
        let gate = passing.clone();
        async move {
            attempt.progress(0.25, "begun");
            attempt.log("one");
            gate.pass().await;
            attempt.log("two\nthree");
            attempt.progress(1.0, "");
            Outcome::Succeeded(attempt.input)
        }
    });
    let flood = function::bytes(|attempt: Attempt| async move {
        for n in 0..REPORTS_KEPT_MAX + 5 {
            attempt.log(n.to_string());
        }
        Outcome::failed_for_good("said too much")
    });
    let hold = function::bytes(move |attempt: Attempt| {
        let gate = gate.clone();
        async move {
            gate.pass().await;
            Outcome::Succeeded(attempt.input)
        }
    });
    let odd = function::bytes(|_| async {
        Outcome::Succeeded(Payload {
            content_type: "text/html\r\nset-cookie: a=b".into(),
            bytes: "<script>".into(),
        })
    });
    let mut typed = Task::new("typed", here(echo.clone())).unwrap();
    typed.content_type = Some("text/plain".to_owned());
    let mut checked = Task::new("checked", here(echo.clone())).unwrap();
    checked.validator = Some(Arc::new(JsonSchema::new(SCHEMA).unwrap()));
    let mut again = Task::new("again", here(again)).unwrap();
    again.retry = RetryPolicy {
        initial: Duration::from_hours(1),
        ..RetryPolicy::default()
    };
    vec![
        Task::new("echo", here(echo)).unwrap(),
        Task::new("fail", here(fail)).unwrap(),
        Task::new("flood", here(flood)).unwrap(),
        Task::new("hold", here(hold)).unwrap(),
        Task::new("odd", here(odd)).unwrap(),
        Task::new("pulled", TaskRunner::Pull).unwrap(),
        Task::new("talk", here(talk)).unwrap(),
        again,
        checked,
        typed,
    ]
}

/// A connection to the server, byte for byte.
pub(crate) struct Connection {
    socket: TcpStream,
    host: String,
    /// What came after the last answer.
    rest: Vec<u8>,
}

impl Connection {
    /// Writes bytes as they are.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        within(self.socket.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Writes bytes as they are, if the server still takes them.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> bool {
        within(self.socket.write_all(bytes)).await.is_ok()
    }

    /// Writes a request. `Host` and `Content-Length` are set unless they are given.
    pub(crate) async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        let given = |wanted: &str| headers.iter().any(|(name, _)| *name == wanted);
        if !given("host") {
            write!(head, "host: {}\r\n", self.host).unwrap();
        }
        if !given("content-length") && !given("transfer-encoding") && !body.is_empty() {
            write!(head, "content-length: {}\r\n", body.len()).unwrap();
        }
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head.push_str("\r\n");
        self.write([head.as_bytes(), body].concat()).await;
    }

    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.request(method, path, headers, body).await;
        self.answer(method == "HEAD").await
    }

    /// Reads one answer.
    pub(crate) async fn answer(&mut self, is_head: bool) -> Answer {
        within(async {
            let end = loop {
                let found = self
                    .rest
                    .windows(4)
                    .position(|window| window == b"\r\n\r\n");
                match found {
                    Some(at) => break at,
                    None => assert!(
                        self.more().await,
                        "closed before an answer: {:?}",
                        self.rest
                    ),
                }
            };
            let head = String::from_utf8(self.rest.drain(..end + 4).collect()).unwrap();
            let mut lines = head.trim_end().split("\r\n");
            let status = lines.next().unwrap()[9..12].parse().unwrap();
            let headers: Vec<(String, String)> = lines
                .map(|line| line.split_once(": ").or(line.split_once(':')).unwrap())
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let mut answer = Answer {
                status,
                headers,
                body: Vec::new(),
            };
            let length = answer
                .header("content-length")
                .map_or(0, |text| text.parse().unwrap());
            let length: usize = if is_head || status == 304 { 0 } else { length };
            while self.rest.len() < length {
                assert!(self.more().await, "closed within a body of {length}");
            }
            answer.body = self.rest.drain(..length).collect();
            answer
        })
        .await
    }

    /// Reads the next chunk of an answer that comes in chunks; none: that was the last.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        within(async {
            let end = loop {
                match self.rest.windows(2).position(|window| window == b"\r\n") {
                    Some(at) => break at,
                    None => assert!(self.more().await, "closed within a chunk"),
                }
            };
            let size = std::str::from_utf8(&self.rest[..end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            let whole = end + 2 + size + 2;
            while self.rest.len() < whole {
                assert!(self.more().await, "closed within a chunk of {size}");
            }
            let chunk: Vec<u8> = self.rest.drain(..whole).collect();
            (size > 0).then(|| chunk[end + 2..end + 2 + size].to_vec())
        })
        .await
    }

    async fn more(&mut self) -> bool {
        let mut buffer = vec![0; 65_536];
        let read = self.socket.read(&mut buffer).await.unwrap_or(0);
        self.rest.extend_from_slice(&buffer[..read]);
        read > 0
    }

    /// Waits for the server to close the connection, and returns what it said before.
    pub(crate) async fn closed(&mut self) -> Vec<u8> {
        within(async { while self.more().await {} }).await;
        std::mem::take(&mut self.rest)
    }
}

/// What a server said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Returns a header that is there at most once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(given, _)| given == name);
        let first = found.next();
        assert!(found.next().is_none(), "{name} twice: {self:?}");
        first.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that this is a problem of a kind, whole and by its RFC.
    pub(crate) fn is_problem(&self, status: u16, slug: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["type"], format!("/problems/{slug}"), "{self:?}");
        assert_eq!(problem["status"], status, "{self:?}");
        for member in ["title", "detail", "instance"] {
            assert!(
                problem[member]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{self:?}"
            );
        }
        problem
    }

    /// Checks that this is what is answered to malformed bytes, and the last on its connection.
    pub(crate) fn is_malformed(&self, sent: &[&str]) {
        assert_eq!(self.status, 400, "{sent:?}: {self:?}");
        assert_eq!(
            self.json()["type"],
            "/problems/malformed-request",
            "{sent:?}"
        );
        assert_eq!(self.header("connection"), Some("close"), "{sent:?}");
    }

    /// Checks that this is a problem with one parameter of the query.
    pub(crate) fn is_about_parameter(&self, parameter: &str) {
        let problem = self.is_problem(400, "invalid-parameter");
        let errors = problem["errors"].as_array().unwrap();
        let named = errors.iter().any(|error| {
            error["parameter"] == parameter
                && error["detail"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty())
        });
        assert!(named, "{parameter} in {problem}");
    }

    /// Checks `Retry-After`: whole seconds, at least one.
    pub(crate) fn says_retry_after(&self) -> u64 {
        let text = self
            .header("retry-after")
            .unwrap_or_else(|| panic!("no Retry-After: {self:?}"));
        let seconds = text.parse().unwrap();
        assert!(seconds >= 1, "{self:?}");
        seconds
    }
}
