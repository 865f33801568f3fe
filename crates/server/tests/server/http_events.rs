//! Streams of events: of one job, and of all.

use crate::harness::*;
use anteroom::core::limits::REPORTS_KEPT_MAX;
use anteroom::core::{JobId, ShownState};
use anteroom_server::http::serve::ServeLimits;
use serde_json::{Value, json};
use std::time::Duration;

/// A stream that a client reads.
struct Stream {
    connection: Connection,
    /// What came and was not read yet.
    text: String,
}

/// An event of a stream.
#[derive(Clone, Debug, PartialEq)]
struct Event {
    id: String,
    name: String,
    data: Value,
}

impl Stream {
    async fn open(server: &Server, path: &str, last: Option<&str>) -> Self {
        let mut connection = server.connect().await;
        let headers: Vec<_> = last.map(|id| ("last-event-id", id)).into_iter().collect();
        let answer = connection.send("GET", path, &headers, b"").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        for (name, value) in [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-store"),
            ("x-accel-buffering", "no"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{answer:?}");
        }
        let mut stream = Self {
            connection,
            text: String::new(),
        };
        assert_eq!(stream.block().await.as_deref(), Some("retry: 2000"));
        stream
    }

    async fn of_job(server: &Server, id: &str, last: Option<&str>) -> Self {
        Self::open(server, &format!("/v1/jobs/{id}/events"), last).await
    }

    /// Reads up to the next empty line; none: that was the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, _)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text.drain(..block.len() + 2);
                return Some(block);
            }
            let chunk = self.connection.chunk().await?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// Reads the next event, comments left out.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            if block.starts_with(':') {
                continue;
            }
            let lines: Vec<_> = block.split('\n').collect();
            let [id, name, data] = lines[..] else {
                panic!("no event: {block:?}");
            };
            let field = |line: &str, name: &str| line.strip_prefix(name).unwrap().to_owned();
            return Some(Event {
                id: field(id, "id: "),
                name: field(name, "event: "),
                data: serde_json::from_str(&field(data, "data: ")).unwrap(),
            });
        }
    }

    /// Reads all that comes, to the end.
    async fn rest(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

fn state(id: &str, state: &str, attempt: u32) -> (String, Value) {
    let data = json!({"id": id, "state": state, "attempt": attempt});
    ("state".to_owned(), data)
}

fn line(line: &str) -> (String, Value) {
    let data = json!({"attempt": 1, "stream": "log", "line": line});
    ("log".to_owned(), data)
}

fn progress(fraction: f64, message: Option<&str>) -> (String, Value) {
    let data = json!({"fraction": fraction, "message": message});
    ("progress".to_owned(), data)
}

fn plain(events: &[Event]) -> Vec<(String, Value)> {
    events
        .iter()
        .map(|event| (event.name.clone(), event.data.clone()))
        .collect()
}

#[tokio::test]
async fn a_stream_tells_of_a_job_from_its_beginning_to_its_end() {
    let server = Server::start().await;
    let id = server.submit("talk", "").await;
    let mut stream = Stream::of_job(&server, &id, None).await;
    let mut events = Vec::new();
    while events.len() < 4 {
        events.push(stream.next().await.unwrap());
    }
    server.gate.open();
    events.extend(stream.rest().await);
    let expected = [
        state(&id, "ready", 0),
        state(&id, "running", 1),
        progress(0.25, Some("begun")),
        line("one"),
        line("two"),
        line("three"),
        progress(1.0, None),
        state(&id, "succeeded", 1),
    ];
    assert_eq!(plain(&events), expected);
    for event in &events {
        let same = events.iter().filter(|other| other.id == event.id);
        assert_eq!(same.count(), 1, "an id is an event's own: {events:?}");
    }
}

#[tokio::test]
async fn a_client_that_comes_back_goes_on_where_it_was() {
    let server = Server::start().await;
    let id = server.submit("talk", "").await;
    let mut stream = Stream::of_job(&server, &id, None).await;
    for _ in 0..3 {
        stream.next().await.unwrap();
    }
    let last = stream.next().await.unwrap();
    assert_eq!(last.name, "log");
    drop(stream);
    let stream = Stream::of_job(&server, &id, Some(&last.id)).await;
    server.gate.open();
    let rest = stream.rest().await;
    let expected = [
        line("two"),
        line("three"),
        progress(1.0, None),
        state(&id, "succeeded", 1),
    ];
    assert_eq!(plain(&rest), expected);
    // An empty id is what a client sends that has none.
    let all = Stream::of_job(&server, &id, Some("")).await.rest().await;
    assert_eq!(all.len(), 8);
    assert_eq!(all[4..], rest);
    for (at, event) in all.iter().enumerate().take(7) {
        let again = Stream::of_job(&server, &id, Some(&event.id)).await;
        assert_eq!(again.rest().await, all[at + 1..]);
    }
}

#[tokio::test]
async fn nobody_comes_back_after_the_final_event() {
    let server = Server::start().await;
    for task in ["echo", "fail"] {
        let id = server.done(task, "").await;
        let events = Stream::of_job(&server, &id, None).await.rest().await;
        assert_eq!(events.len(), 3, "{events:?}");
        let last = events[2].id.as_str();
        let path = format!("/v1/jobs/{id}/events");
        let answer = server.get_with(&path, &[("last-event-id", last)]).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    // Unless something happens after it.
    let id = server.done("fail", "").await;
    let events = Stream::of_job(&server, &id, None).await.rest().await;
    server.post(&format!("/v1/jobs/{id}/retry")).await;
    let again = Stream::of_job(&server, &id, Some(&events[2].id)).await;
    let expected = [
        state(&id, "ready", 0),
        state(&id, "running", 1),
        state(&id, "failed", 1),
    ];
    assert_eq!(plain(&again.rest().await), expected);
    let all = Stream::of_job(&server, &id, None).await.rest().await;
    assert_eq!(all[..3], events, "what happened stays");
    assert_eq!(all.len(), 6);
}

#[tokio::test]
async fn a_cancel_is_an_event() {
    let server = Server::start().await;
    let id = server.submit("hold", "").await;
    server.gate.arrived().await;
    let stream = Stream::of_job(&server, &id, None).await;
    let answer = server.post(&format!("/v1/jobs/{id}/cancel")).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let expected = [
        state(&id, "ready", 0),
        state(&id, "running", 1),
        state(&id, "cancelled", 1),
    ];
    assert_eq!(plain(&stream.rest().await), expected);
}

#[tokio::test]
async fn a_job_that_comes_due_is_told_as_ready() {
    let server = Server::by_hand().await;
    let id = server.submit("pulled", "?delay=10s").await;
    let mut stream = Stream::of_job(&server, &id, None).await;
    let scheduled = stream.next().await.unwrap();
    let expected = state(&id, "scheduled", 0);
    assert_eq!(plain(std::slice::from_ref(&scheduled)), [expected]);
    server
        .hand
        .as_ref()
        .unwrap()
        .advance(Duration::from_secs(10));
    let ready = stream.next().await.unwrap();
    let expected = state(&id, "ready", 0);
    assert_eq!(plain(std::slice::from_ref(&ready)), [expected]);
    assert_ne!(ready.id, scheduled.id);
    // The same passage, and the same id, for whoever comes later.
    let mut again = Stream::of_job(&server, &id, Some(&scheduled.id)).await;
    assert_eq!(again.next().await, Some(ready));
}

#[tokio::test]
async fn a_silent_stream_says_every_15_s_that_it_is_there() {
    let server = Server::by_hand().await;
    let id = server.submit("pulled", "").await;
    let mut of_job = Stream::of_job(&server, &id, None).await;
    let mut of_all = Stream::open(&server, "/v1/events", None).await;
    of_job.next().await.unwrap();
    for _ in 0..3 {
        server
            .hand
            .as_ref()
            .unwrap()
            .advance(Duration::from_secs(15));
        for stream in [&mut of_job, &mut of_all] {
            let comment = stream.block().await.unwrap();
            assert!(comment.starts_with(':'), "{comment:?}");
        }
    }
}

#[tokio::test]
async fn a_silent_stream_is_no_idle_connection() {
    let server = Server::wanted(Wanted {
        limits: ServeLimits {
            idle_timeout: Duration::from_secs(3),
            ..ServeLimits::default()
        },
        ..Wanted::default()
    })
    .await;
    let id = server.submit("pulled", "").await;
    let mut stream = Stream::of_job(&server, &id, None).await;
    stream.next().await.unwrap();
    // Cut for being idle after the stream has been silent for longer.
    let mut idle = server.connect().await;
    idle.send("GET", "/livez", &[], b"").await;
    idle.closed().await;
    let job: JobId = id.parse().unwrap();
    server.engine.cancel(job, None).await.unwrap().unwrap();
    let expected = [state(&id, "cancelled", 0)];
    assert_eq!(plain(&stream.rest().await), expected);
}

#[tokio::test]
async fn what_is_kept_no_longer_is_told_as_dropped() {
    let server = Server::start().await;
    let id = server.done("flood", "").await;
    let events = Stream::of_job(&server, &id, None).await.rest().await;
    assert_eq!(events.len(), REPORTS_KEPT_MAX + 4);
    let expected = [("dropped".to_owned(), json!({"count": 5})), line("5")];
    assert_eq!(plain(&events[2..4]), expected);
    let last = (REPORTS_KEPT_MAX + 4).to_string();
    let end = [line(&last), state(&id, "failed", 1)];
    assert_eq!(plain(&events[REPORTS_KEPT_MAX + 2..]), end);
    let again = Stream::of_job(&server, &id, Some(&events[2].id)).await;
    assert_eq!(again.rest().await, events[3..], "it is told once");
}

/// A history is read while it is written: nothing may be told before what came earlier.
#[tokio::test]
async fn nothing_is_missed_however_fast_a_job_changes() {
    let server = Server::start().await;
    let id = server.submit("pulled", "").await;
    let stream = Stream::of_job(&server, &id, None).await;
    let job: JobId = id.parse().unwrap();
    for _ in 0..150 {
        server.engine.cancel(job, None).await.unwrap().unwrap();
        server.engine.retry(job, None).await.unwrap().unwrap();
    }
    server.engine.cancel(job, None).await.unwrap().unwrap();
    // Wherever it ends, as a cancelled job does, it goes on from there.
    let mut seen = stream.rest().await;
    while seen.len() < 302 {
        let last = seen.last().unwrap().id.clone();
        seen.extend(Stream::of_job(&server, &id, Some(&last)).await.rest().await);
    }
    let expected = (0..302).map(|n| state(&id, ["ready", "cancelled"][n % 2], 0));
    assert_eq!(plain(&seen), expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn the_job_shows_its_progress_and_is_another_version_by_it() {
    let server = Server::start().await;
    let id = server.submit("talk", "").await;
    let path = format!("/v1/jobs/{id}");
    let mut stream = Stream::of_job(&server, &id, None).await;
    stream.next().await.unwrap();
    let running = stream.next().await.unwrap();
    assert_eq!(running.data["state"], "running");
    while stream.next().await.unwrap().name != "log" {}
    let answer = server.get(&path).await;
    let begun = json!({"fraction": 0.25, "message": "begun"});
    assert_eq!(answer.json()["progress"], begun);
    let tag = answer.header("etag").unwrap().to_owned();
    let listed = server.get("/v1/jobs").await.json();
    assert_eq!(listed["jobs"][0]["progress"], begun);
    server.gate.open();
    stream.rest().await;
    let answer = server.get_with(&path, &[("if-none-match", &tag)]).await;
    assert_eq!(answer.status, 200);
    let done = json!({"fraction": 1.0, "message": null});
    assert_eq!(answer.json()["progress"], done);
    let silent = server.done("echo", "").await;
    let silent = server.get(&format!("/v1/jobs/{silent}")).await;
    assert_eq!(silent.json()["progress"], Value::Null);
}

/// A reader that waits for a change of the job hears of progress too.
#[tokio::test]
async fn progress_ends_a_long_poll() {
    let server = Server::start().await;
    let id = server.submit("talk", "").await;
    let path = format!("/v1/jobs/{id}");
    within(async {
        let mut tag = String::new();
        loop {
            let headers = [("prefer", "wait=60"), ("if-none-match", tag.as_str())];
            let answer = server.get_with(&path, &headers).await;
            if answer.json()["progress"] != Value::Null {
                return;
            }
            tag = answer.header("etag").unwrap().to_owned();
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_for_a_stream_is_named() {
    let server = Server::start().await;
    let id = server.done("echo", "").await;
    let path = format!("/v1/jobs/{id}/events");
    for path in [path.as_str(), "/v1/events"] {
        let headers = [("last-event-id", "yesterday")];
        let problem = server.get_with(path, &headers).await;
        let problem = problem.is_problem(400, "malformed-request");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("Last-Event-ID"), "{detail}");
        let answer = server.get(&format!("{path}?sort=up")).await;
        answer.is_about_parameter("sort");
        let answer = server.post(path).await;
        answer.is_problem(405, "method-not-allowed");
    }
    for parameter in ["task", "queue"] {
        let answer = server.get(&format!("/v1/events?{parameter}=A")).await;
        answer.is_about_parameter(parameter);
    }
    let nobody = "/v1/jobs/019aaa2e-7c00-7000-8000-3f0c5a1b2c3d/events";
    server.get(nobody).await.is_problem(404, "unknown-job");
    let none = "/v1/jobs/none/events";
    server.get(none).await.is_problem(404, "unknown-job");
    server
        .send("DELETE", &format!("/v1/jobs/{id}"), &[], b"")
        .await;
    server.get(&path).await.is_problem(410, "job-expired");
}

#[tokio::test]
async fn the_head_of_a_stream_can_be_asked_for() {
    let server = Server::start().await;
    let id = server.submit("pulled", "").await;
    for path in [format!("/v1/jobs/{id}/events"), "/v1/events".to_owned()] {
        let mut connection = server.connect().await;
        let answer = connection.send("HEAD", &path, &[], b"").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        // Nothing comes after it, so that the connection can go on.
        let answer = connection.send("GET", "/livez", &[], b"").await;
        assert_eq!(answer.status, 200);
    }
}

/// Reads up to a job's end, the beginnings of jobs left out: they are told of by whoever brought
/// them about, and may overtake each other.
async fn told(stream: &mut Stream, last: &Value, last_state: &str) -> Vec<(String, Value)> {
    let mut told = Vec::new();
    loop {
        let event = stream.next().await.unwrap();
        let is_last = event.data["id"] == *last && event.data["state"] == last_state;
        let is_beginning = ["ready", "running"]
            .iter()
            .any(|it| event.data["state"] == **it);
        if !is_beginning {
            told.extend(plain(&[event]));
        }
        if is_last {
            return told;
        }
    }
}

#[tokio::test]
async fn the_stream_of_all_jobs_tells_of_those_that_are_asked_for() {
    let server = Server::start().await;
    let mut all = Stream::open(&server, "/v1/events", None).await;
    let mut of_task = Stream::open(&server, "/v1/events?task=fail", None).await;
    let mut slow_stream = Stream::open(&server, "/v1/events?queue=slow&task=talk", None).await;
    let echo = server.done("echo", "").await;
    let fail = server.done("fail", "").await;
    let talk = server.submit("talk", "?queue=slow").await;
    server.gate.open();
    server.reach(&talk, ShownState::Succeeded).await;
    let named = |(name, mut data): (String, Value)| {
        data["id"] = Value::from(talk.as_str());
        (name, data)
    };
    let of_echo = [state(&echo, "succeeded", 1)];
    let of_fail = [state(&fail, "failed", 1)];
    let of_slow = [
        named(progress(0.25, Some("begun"))),
        named(line("one")),
        named(line("two")),
        named(line("three")),
        named(progress(1.0, None)),
        state(&talk, "succeeded", 1),
    ];
    let last = Value::from(talk.as_str());
    let expected = [&of_echo[..], &of_fail[..], &of_slow[..]].concat();
    assert_eq!(told(&mut all, &last, "succeeded").await, expected);
    assert_eq!(told(&mut slow_stream, &last, "succeeded").await, of_slow);
    let last = Value::from(fail.as_str());
    assert_eq!(told(&mut of_task, &last, "failed").await, of_fail);
}

#[tokio::test]
async fn a_client_of_all_jobs_comes_back_or_is_told_that_it_missed_something() {
    let server = Server::by_hand().await;
    let mut stream = Stream::open(&server, "/v1/events", None).await;
    let first = server.submit("pulled", "").await;
    let event = stream.next().await.unwrap();
    assert_eq!(
        plain(std::slice::from_ref(&event)),
        [state(&first, "ready", 0)]
    );
    drop(stream);
    let second = server.submit("pulled", "").await;
    let mut stream = Stream::open(&server, "/v1/events", Some(&event.id)).await;
    let next = stream.next().await.unwrap();
    assert_eq!(plain(&[next]), [state(&second, "ready", 0)]);
    // As after a restart, or from another node.
    let mut stream = Stream::open(&server, "/v1/events", Some("1.7")).await;
    let dropped = stream.next().await.unwrap();
    assert_eq!(dropped.name, "dropped");
    assert_eq!(dropped.data, json!({"count": null}));
    let third = server.submit("pulled", "").await;
    let next = stream.next().await.unwrap();
    assert_eq!(plain(&[next]), [state(&third, "ready", 0)]);
}

#[tokio::test]
async fn streams_are_served_while_draining_and_end_with_the_engine() {
    let mut server = Server::start().await;
    let id = server.submit("talk", "").await;
    let waiting = server.submit("pulled", "").await;
    server.gate.arrived().await;
    server.engine.drain();
    let mut stream = Stream::of_job(&server, &waiting, None).await;
    assert_eq!(stream.next().await.unwrap().data["state"], "ready");
    let mut running = Stream::of_job(&server, &id, None).await;
    let mut all = Stream::open(&server, "/v1/events", None).await;
    while running.next().await.unwrap().name != "log" {}
    server.gate.open();
    within(server.engine.stop(Duration::from_secs(30))).await;
    let rest = running.rest().await;
    assert_eq!(rest.last().unwrap().data["state"], "succeeded");
    assert_eq!(stream.next().await, None, "it waits for nothing any more");
    while let Some(event) = all.next().await {
        assert_ne!(event.name, "dropped", "{event:?}");
    }
    server.stop_listening();
    server.ended().await;
    let job = server
        .engine
        .store()
        .get(id.parse::<JobId>().unwrap())
        .await;
    assert!(job.unwrap().here().is_some());
}
