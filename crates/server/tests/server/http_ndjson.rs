//! Handing jobs in as a stream: a line in, a line out.

use crate::harness::{Server, Wanted, within};
use crate::trouble::Trouble;
use anteroom::Options;
use anteroom_server::http::{RouterOptions, router};
use axum::body::Body;
use futures_util::stream::unfold;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;

/// A request under way, whose answer is read while it is sent.
struct Talk {
    socket: TcpStream,
    rest: Vec<u8>,
    head: Option<String>,
    /// What has come of the answer's lines.
    lines: Vec<u8>,
    is_over: bool,
}

impl Talk {
    /// Sends a head.
    async fn begin(server: &Server, fields: &str) -> Self {
        let mut socket = within(TcpStream::connect(server.address)).await.unwrap();
        let head = format!(
            "POST /v1/jobs HTTP/1.1\r\nhost: {}\r\ncontent-type: application/x-ndjson\r\n{fields}\r\n",
            server.address
        );
        within(socket.write_all(head.as_bytes())).await.unwrap();
        Self {
            socket,
            rest: Vec::new(),
            head: None,
            lines: Vec::new(),
            is_over: false,
        }
    }

    /// Sends the head of a body without a length.
    async fn open(server: &Server) -> Self {
        Self::begin(server, "transfer-encoding: chunked\r\n").await
    }

    /// Sends a whole body, and ends it.
    async fn of(server: &Server, body: &[u8]) -> Self {
        let mut talk = Self::begin(server, &format!("content-length: {}\r\n", body.len())).await;
        let (mut reader, mut writer) = talk.socket.into_split();
        let body = body.to_vec();
        // Read while it is sent, as clients do.
        let sent = async move { writer.write_all(&body).await.map(|()| writer) };
        let read = async {
            let mut answer = Vec::new();
            let mut buffer = vec![0; 65_536];
            while !answer.ends_with(b"0\r\n\r\n") {
                let count = reader.read(&mut buffer).await.unwrap();
                if count == 0 {
                    break;
                }
                answer.extend_from_slice(&buffer[..count]);
            }
            answer
        };
        let (writer, rest) = within(async { tokio::join!(sent, read) }).await;
        talk.socket = reader.reunite(writer.unwrap()).unwrap();
        talk.rest = rest;
        talk
    }

    /// Sends a piece of the body.
    async fn say(&mut self, text: &str) {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        within(self.socket.write_all(chunk.as_bytes()))
            .await
            .unwrap();
    }

    /// Ends the body.
    async fn end(&mut self) {
        within(self.socket.write_all(b"0\r\n\r\n")).await.unwrap();
    }

    /// Reads on; false at the end of the connection.
    async fn more(&mut self) -> bool {
        let mut buffer = vec![0; 65_536];
        let count = within(self.socket.read(&mut buffer)).await.unwrap_or(0);
        self.rest.extend_from_slice(&buffer[..count]);
        count > 0
    }

    /// Takes what comes up to an end.
    async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.rest.windows(end.len()).position(|it| it == end) {
                return self.rest.drain(..at + end.len()).collect();
            }
            let rest = String::from_utf8_lossy(&self.rest).into_owned();
            assert!(self.more().await, "closed too early: {rest:?}");
        }
    }

    /// Returns the head of the answer.
    async fn head(&mut self) -> String {
        if self.head.is_none() {
            let head = String::from_utf8(self.until(b"\r\n\r\n").await).unwrap();
            self.head = Some(head.to_ascii_lowercase());
        }
        self.head.clone().unwrap()
    }

    /// Returns the next line of the answer; none at its end.
    async fn line(&mut self) -> Option<Value> {
        let head = self.head().await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        loop {
            if let Some(at) = self.lines.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.lines.drain(..=at).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            if self.is_over {
                assert!(self.lines.is_empty(), "a line without an end");
                return None;
            }
            let size = String::from_utf8(self.until(b"\r\n").await).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            while self.rest.len() < size + 2 {
                assert!(self.more().await, "closed within a chunk");
            }
            self.lines.extend(self.rest.drain(..size));
            self.rest.drain(..2);
            self.is_over = size == 0;
        }
    }

    async fn all(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Some(line) = self.line().await {
            all.push(line);
        }
        all
    }
}

/// Checks that a line tells of a job, and returns its id.
fn id(line: &Value) -> String {
    assert_eq!(line.as_object().unwrap().len(), 3, "{line}");
    assert!(line["state"].is_string(), "{line}");
    assert_eq!(line["duplicate"], false, "{line}");
    line["id"].as_str().unwrap().to_owned()
}

fn is_problem(line: &Value, status: u16, slug: &str) {
    assert_eq!(line["type"], format!("/problems/{slug}"), "{line}");
    assert_eq!(line["status"], status, "{line}");
    assert_eq!(line["instance"], "/v1/jobs", "{line}");
    for member in ["title", "detail"] {
        assert!(line[member].is_string(), "{line}");
    }
}

#[tokio::test]
async fn each_line_is_answered_in_its_place_and_the_rest_goes_in() {
    let server = Server::start().await;
    let body = b"{\"task\":\"pulled\",\"input\":1}\n\
        {\"task\":\"nope\"}\n\
        \n  \t\r\n\
        {\"task\":\"pulled\",\"input\": {\"a\" : 2} }\r\n\
        {\"task\":\n\
        {\"task\":\"pulled\",\"priority\":\"1\",\"x\":0}\n\
        [{\"task\":\"pulled\"}]\n\
        {\"task\":\"\xff\"}\n\
        {\"task\":\"typed\",\"input\":1}\n\
        {\"task\":\"pulled\",\"input_base64\":\"YWJj\",\"content_type\":\"text/plain\"}";
    let mut talk = Talk::of(&server, body).await;
    let head = talk.head().await;
    assert!(
        head.contains("\r\ncontent-type: application/x-ndjson\r\n"),
        "{head}"
    );
    assert!(head.contains("\r\ncache-control: no-store\r\n"), "{head}");
    let lines = talk.all().await;
    assert_eq!(lines.len(), 9, "{lines:?}");
    is_problem(&lines[1], 422, "unknown-task");
    assert_eq!(lines[1]["errors"][0]["pointer"], "#/task");
    is_problem(&lines[3], 400, "malformed-json");
    assert_eq!(
        (&lines[3]["line"], &lines[3]["column"]),
        (&json!(6), &json!(8))
    );
    assert!(
        lines[3]["detail"]
            .as_str()
            .unwrap()
            .ends_with("at line 6 column 8")
    );
    is_problem(&lines[4], 422, "invalid-body");
    assert_eq!(lines[4]["errors"].as_array().unwrap().len(), 2);
    is_problem(&lines[5], 422, "invalid-body");
    is_problem(&lines[6], 400, "malformed-json");
    assert_eq!(lines[6]["line"], 9);
    is_problem(&lines[7], 422, "unsupported-media-type");
    for (index, input) in [(0, "1"), (2, "{\"a\" : 2}"), (8, "abc")] {
        let raw = server
            .get(&format!("/v1/jobs/{}/input", id(&lines[index])))
            .await;
        assert_eq!(raw.text(), input);
    }
    assert_eq!(server.count().await, 3);
}

/// Whoever sends a line and waits for its answer before the next gets it.
#[tokio::test]
async fn a_line_is_answered_as_soon_as_nothing_more_is_at_hand() {
    let server = Server::start().await;
    let mut talk = Talk::open(&server).await;
    for number in 0..5 {
        talk.say(&format!("{{\"task\":\"echo\",\"input\":{number}}}\n{{\"ta"))
            .await;
        let id = id(&talk.line().await.unwrap());
        let prefer = [("prefer", "wait=60")];
        let job = server.get_with(&format!("/v1/jobs/{id}"), &prefer).await;
        assert_eq!(
            job.json()["result"]["json"],
            number,
            "durable, and run, by then"
        );
        talk.say("sk\":\"echo\"}").await;
        talk.say("\n").await;
        self::id(&talk.line().await.unwrap());
    }
    talk.end().await;
    assert_eq!(talk.line().await, None);
}

#[tokio::test]
async fn a_connection_goes_on_after_a_stream() {
    let server = Server::start().await;
    let mut talk = Talk::open(&server).await;
    talk.say("{\"task\":\"echo\"}").await;
    talk.end().await;
    assert_eq!(talk.all().await.len(), 1);
    let request = format!("GET /livez HTTP/1.1\r\nhost: {}\r\n\r\n", server.address);
    within(talk.socket.write_all(request.as_bytes()))
        .await
        .unwrap();
    let head = String::from_utf8(talk.until(b"\r\n\r\n").await).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}

#[tokio::test]
async fn a_stream_without_lines_is_200_without_lines() {
    let server = Server::start().await;
    for body in ["", "\n\n", "  "] {
        let mut talk = Talk::of(&server, body.as_bytes()).await;
        assert_eq!(talk.all().await, Vec::<Value>::new(), "{body:?}");
    }
}

#[tokio::test]
async fn a_line_that_is_too_long_is_answered_in_its_place() {
    let server = Server::wanted(Wanted {
        options: Options {
            input_bytes_max: 1_000,
            ..Options::default()
        },
        router: RouterOptions {
            max_buffered: 500_000,
            ..RouterOptions::default()
        },
        ..Wanted::default()
    })
    .await;
    let line = |bytes: usize| {
        format!(
            "{{\"task\":\"pulled\",\"input\":\"{}\"}}\n",
            "x".repeat(bytes)
        )
    };
    let mut body = line(10);
    // More than all bodies may take up together: it is not kept.
    body.push_str(&line(3_000_000));
    body.push_str(&line(998));
    body.push_str(&line(999));
    body.push_str(&line(70_000));
    body.push_str(&line(10));
    let mut talk = Talk::of(&server, body.as_bytes()).await;
    let lines = talk.all().await;
    assert_eq!(lines.len(), 6, "{lines:?}");
    for index in [0, 2, 5] {
        id(&lines[index]);
    }
    is_problem(&lines[1], 413, "payload-too-large");
    is_problem(&lines[3], 413, "payload-too-large");
    assert_eq!(lines[3]["errors"][0]["pointer"], "#/input");
    is_problem(&lines[4], 413, "payload-too-large");
}

#[tokio::test]
async fn a_long_stream_goes_in_whole_and_in_order() {
    let server = Server::wanted(Wanted {
        router: RouterOptions {
            // Far less than the stream.
            max_buffered: 300_000,
            ..RouterOptions::default()
        },
        ..Wanted::default()
    })
    .await;
    let mut body = String::new();
    for number in 0..20_000 {
        writeln!(
            body,
            "{{\"task\":\"pulled\",\"input\":{number},\"group\":\"{number}\"}}"
        )
        .unwrap();
        if number % 1_000 == 7 {
            body.push_str("nonsense\n");
        }
    }
    let mut talk = Talk::of(&server, body.as_bytes()).await;
    let lines = talk.all().await;
    assert_eq!(lines.len(), 20_020);
    let (good, bad): (Vec<&Value>, Vec<&Value>) =
        lines.iter().partition(|line| line["id"].is_string());
    assert_eq!(bad.len(), 20);
    is_problem(lines.get(8).unwrap(), 400, "malformed-json");
    let ids: Vec<String> = good.into_iter().map(id).collect();
    assert!(ids.is_sorted());
    for number in [0, 7, 8, 9_999, 19_999] {
        let raw = server.get(&format!("/v1/jobs/{}/input", ids[number])).await;
        assert_eq!(raw.text(), number.to_string());
    }
}

/// An outage in the middle of a stream concerns the lines that it meets, and no others.
#[tokio::test]
async fn lines_that_the_store_does_not_take_are_answered_so_and_the_stream_goes_on() {
    let trouble = Trouble::default();
    let server = Server::wanted(Wanted {
        trouble: trouble.clone(),
        ..Wanted::default()
    })
    .await;
    let mut talk = Talk::open(&server).await;
    let two = "{\"task\":\"pulled\"}\n{\"task\":\"pulled\"}\n";
    for is_down in [false, true, false] {
        trouble.fail_inserts(is_down);
        talk.say(two).await;
        for _ in 0..2 {
            let line = talk.line().await.unwrap();
            if is_down {
                is_problem(&line, 503, "store-unavailable");
            } else {
                id(&line);
            }
        }
    }
    talk.end().await;
    assert_eq!(talk.line().await, None);
    assert_eq!(server.count().await, 4);
}

#[tokio::test]
async fn a_server_that_drains_ends_a_stream_with_a_word() {
    let server = Server::start().await;
    let mut talk = Talk::open(&server).await;
    talk.say("{\"task\":\"pulled\"}\n").await;
    id(&talk.line().await.unwrap());
    server.engine.drain();
    is_problem(&talk.line().await.unwrap(), 503, "draining");
    assert_eq!(talk.line().await, None, "although the client has not ended");
    let headers = [("content-type", "application/x-ndjson")];
    let body = b"{\"task\":\"pulled\"}\n";
    let answer = server.send("POST", "/v1/jobs", &headers, body).await;
    answer.is_problem(503, "draining");
    assert_eq!(server.count().await, 1);
}

/// What is refused before a line is read has a status of its own.
#[tokio::test]
async fn a_stream_with_parameters_is_refused() {
    let server = Server::start().await;
    let headers = [("content-type", "application/x-ndjson")];
    let answer = server
        .send(
            "POST",
            "/v1/jobs?queue=a",
            &headers,
            b"{\"task\":\"pulled\"}\n",
        )
        .await;
    answer.is_about_parameter("queue");
    assert_eq!(server.count().await, 0);
}

/// A client that does not take its answers stops its own stream: nothing piles up in the server.
#[tokio::test]
async fn nothing_is_read_that_would_be_answered_before_earlier_answers_are_taken() {
    let server = Server::start().await;
    let pulled = Arc::new(AtomicUsize::new(0));
    let counter = pulled.clone();
    let line = "{\"task\":\"pulled\"}\n".repeat(1_000);
    let endless = unfold((), move |()| {
        counter.fetch_add(1, Ordering::SeqCst);
        let line = line.clone();
        async move { Some((Ok::<_, Infallible>(line), ())) }
    });
    let request = Request::post("/v1/jobs")
        .header("content-type", "application/x-ndjson")
        .body(Body::from_stream(endless))
        .unwrap();
    let routes = router(server.engine.clone(), &RouterOptions::default());
    let response = within(routes.oneshot(request)).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    for answers in 1..=3 {
        within(body.frame()).await.unwrap().unwrap();
        let pieces = pulled.load(Ordering::SeqCst);
        assert!(
            pieces <= answers + 1,
            "{pieces} pieces for {answers} answers"
        );
    }
    let jobs = server.engine.store().counts().await.unwrap();
    let ready: u64 = jobs.iter().map(|counts| counts.ready).sum();
    assert!(ready <= 4_000, "{ready}");
}

/// A line that the store refuses takes none of its chunk with it.
#[tokio::test]
async fn a_refusal_of_the_store_concerns_its_line_only() {
    let server = Server::start().await;
    let json = [("content-type", "application/json")];
    let limit = br#"{"max_depth": 2}"#;
    let answer = server.send("PATCH", "/v1/queues/q", &json, limit).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let lines = [
        r#"{"task":"pulled","queue":"q"}"#,
        r#"{"task":"pulled","idempotency_key":"k","input":1}"#,
        r#"{"task":"pulled","idempotency_key":"k","input":1}"#,
        r#"{"task":"pulled","idempotency_key":"k","input":2}"#,
        r#"{"task":"pulled","queue":"q","unique_key":"u"}"#,
        r#"{"task":"pulled","queue":"q","unique_key":"u"}"#,
        r#"{"task":"pulled","queue":"q"}"#,
        r#"{"task":"pulled"}"#,
    ];
    let mut talk = Talk::of(&server, lines.join("\n").as_bytes()).await;
    let told = talk.all().await;
    assert_eq!(told.len(), lines.len(), "{told:?}");
    for index in [0, 1, 2, 4, 7] {
        id(&told[index]);
    }
    assert_eq!(told[1]["id"], told[2]["id"]);
    is_problem(&told[3], 422, "idempotency-key-reused");
    assert_eq!(told[3]["errors"][0]["pointer"], "#/idempotency_key");
    assert_eq!(told[5]["duplicate"], true, "{}", told[5]);
    assert_eq!(told[5]["id"], told[4]["id"]);
    is_problem(&told[6], 429, "queue-full");
    assert_eq!(server.count().await, 4);
}

#[tokio::test]
async fn one_key_for_a_stream_is_400() {
    let server = Server::start().await;
    let headers = [
        ("content-type", "application/x-ndjson"),
        ("idempotency-key", "k"),
    ];
    let body = b"{\"task\":\"pulled\"}\n";
    let answer = server.send("POST", "/v1/jobs", &headers, body).await;
    answer.is_about_parameter("Idempotency-Key");
    assert_eq!(server.count().await, 0);
}

/// Nobody hears of what came after a cut, and nothing of it was stored.
#[tokio::test]
async fn a_line_without_its_end_is_taken_only_where_the_body_ends() {
    let server = Server::start().await;
    let mut talk = Talk::open(&server).await;
    talk.say("{\"task\":\"pulled\"}\n{\"task\":\"pulled\"}")
        .await;
    id(&talk.line().await.unwrap());
    drop(talk);
    let mut talk = Talk::of(&server, b"{\"task\":\"pulled\"}").await;
    id(&talk.line().await.unwrap());
    assert_eq!(server.count().await, 2);
}
