//! What Anteroom is asked over HTTP, whoever asks: submits, reads of results, counts.

use crate::bare::{Answers, Canned};
use crate::life::take;
use crate::server::{self, NOOP, PULL};
use crate::wire::{Answer, Connection};
use anyhow::{Context, ensure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::task::JoinSet;

/// Bytes of an input, where nobody asks for others.
pub(crate) const INPUT_BYTES: usize = 200;
/// The counter of what is done.
const FINISHED: &str = "anteroom_jobs_finished_total{";
/// What makes a submit wait for its result.
pub(crate) const WAIT: &str = "Prefer: wait=10\r\n";
/// What follows the path of a job in the read of its result.
pub(crate) const READ: &str = "/result HTTP/1.1\r\nHost: 127.0.0.1\r\nPrefer: wait=10\r\n\r\n";

/// Asks Anteroom what it answers, so that the bare handler can answer the same.
pub(crate) async fn learn(address: SocketAddr, input_bytes: usize) -> anyhow::Result<Answers> {
    let mut connection = Connection::open(address).await?;
    let request = submit_one(PULL, input_bytes, "");
    let submit = connection.exchange(&request).await?;
    submit.expect(202)?;
    let submit = Canned::of(&submit)?;
    let request = submit_one(NOOP, input_bytes, WAIT);
    let wait = connection.exchange(&request).await?;
    check_succeeded(&wait)?;
    let path = wait.field("location").map(str::to_owned).or_else(|| {
        let job: serde_json::Value = serde_json::from_slice(wait.body).ok()?;
        Some(format!("/v1/jobs/{}", job["id"].as_str()?))
    });
    let wait = Canned::of(&wait)?;
    let path = path.context("an answer with neither Location nor id")?;
    let request = format!("GET {path}{READ}");
    let result = connection.exchange(request.as_bytes()).await?;
    result.expect(200)?;
    ensure!(result.body == server::RESULT, "the result is another");
    let result = Canned::of(&result)?;
    Ok(Answers {
        submit,
        wait,
        result,
    })
}

/// Returns a submit of one job, with more fields of its head.
pub(crate) fn submit_one(task: &str, input_bytes: usize, fields: &str) -> Vec<u8> {
    let input = server::input(input_bytes);
    let (bytes, kind) = (input.bytes.len(), input.content_type);
    let head = format!(
        "POST /v1/tasks/{task}/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n\
         Content-Type: {kind}\r\nContent-Length: {bytes}\r\n{fields}\r\n"
    );
    [head.as_bytes(), &input.bytes].concat()
}

/// Submits until all are acknowledged, on so many connections.
pub(crate) async fn submit(
    address: SocketAddr,
    jobs: u64,
    batch: u64,
    connections: usize,
) -> anyhow::Result<()> {
    let left = Arc::new(AtomicU64::new(jobs));
    let mut running = JoinSet::new();
    for _ in 0..connections {
        let mut connection = Connection::open(address).await?;
        let left = left.clone();
        running.spawn(async move {
            let whole = request(usize::try_from(batch)?);
            loop {
                let count = take(&left, batch)?;
                if count == 0 {
                    return anyhow::Ok(());
                }
                let rest;
                let bytes = if u64::try_from(count)? == batch {
                    &whole
                } else {
                    rest = request(count);
                    &rest
                };
                connection.exchange(bytes).await?.expect(202)?;
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

/// Returns a submit of so many jobs: of one by its task's address, of several as an array.
fn request(count: usize) -> Vec<u8> {
    if count == 1 {
        return submit_one(NOOP, INPUT_BYTES, "");
    }
    let input = server::input(INPUT_BYTES).bytes;
    let input = String::from_utf8_lossy(&input);
    let one = format!(r#"{{"task":"{NOOP}","input":{input}}}"#);
    let body = format!("[{}]", vec![one; count].join(","));
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head, body].concat().into_bytes()
}

/// Returns how many jobs the server has finished since it was started.
pub(crate) async fn finished(connection: &mut Connection) -> anyhow::Result<u64> {
    let asked = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    let answer = connection.exchange(asked).await?;
    answer.expect(200)?;
    finished_of(&String::from_utf8_lossy(answer.body)).context("what /metrics answers")
}

/// Adds up what is finished, in whatever state.
fn finished_of(metrics: &str) -> anyhow::Result<u64> {
    let mut sum = 0;
    let lines = metrics.lines().filter(|line| line.starts_with(FINISHED));
    let mut found = lines.peekable();
    ensure!(found.peek().is_some(), "no line begins with {FINISHED}");
    for line in found {
        let value = line.rsplit(' ').next().unwrap_or_default();
        sum += value.parse::<u64>().with_context(|| line.to_owned())?;
    }
    Ok(sum)
}

/// Refuses an answer that is not a job that succeeded.
pub(crate) fn check_succeeded(answer: &Answer<'_>) -> anyhow::Result<()> {
    answer.expect(200)?;
    let job: serde_json::Value = serde_json::from_slice(answer.body)?;
    ensure!(
        job["state"] == "succeeded",
        "the job did not succeed: {job}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finished_jobs_are_added_up() {
        let text = "# TYPE x counter\nanteroom_jobs_finished_total{task=\"a\",state=\"failed\"} 2\n\
                    anteroom_jobs_finished_total{task=\"a\",state=\"succeeded\"} 40\nother 7\n";
        assert_eq!(finished_of(text).unwrap(), 42);
        assert!(finished_of("other 7\n").is_err());
    }

    #[test]
    fn a_request_says_how_long_it_is() {
        for count in [1, 2, 500] {
            let request = String::from_utf8(request(count)).unwrap();
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert!(
                head.contains(&format!("Content-Length: {}", body.len())),
                "{head}"
            );
            let value: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(value.as_array().map_or(1, Vec::len), count);
        }
    }
}
