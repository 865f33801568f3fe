//! `anteroom queues`, `pause` and `resume`: what waits where, and what holds it.

use super::client::{Call, Client, body, content_type};
use super::jobs::{block_on, cannot_print};
use super::{QueueArgs, QueuesArgs, Stopped};
use crate::config::Environment;
use anteroom::core::Name;
use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fmt::{self, Write as _};
use std::io::Write;
use std::process::ExitCode;

/// What is shown of a queue. The server may say more.
#[derive(Debug, Deserialize)]
struct Queue {
    name: String,
    paused: bool,
    depth: Depth,
    oldest_ready_age: Option<String>,
    limits: Limits,
}

/// What holds for it; none: no limit.
#[derive(Debug, Default, Deserialize)]
struct Limits {
    max_concurrency: Option<u64>,
    rate_limit: Option<Rate>,
    max_depth: Option<u64>,
    group_concurrency: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Rate {
    limit: u64,
    period: String,
}

#[derive(Debug, Deserialize)]
struct Depth {
    scheduled: u64,
    ready: u64,
    running: u64,
}

#[derive(Debug, Deserialize)]
struct Queues {
    queues: Vec<Queue>,
}

/// Shows all queues.
pub(super) fn queues(args: &QueuesArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
    let client = Client::new(&args.client, environment)?;
    block_on(async {
        let answer = client.call(Call::new(Method::GET, "/v1/queues")).await?;
        let raw = body(answer).await?;
        let Queues { queues } = read(&raw)?;
        print(args.client.json, &raw, &table(&queues))
    })
}

/// Pauses a queue.
pub(super) fn pause(args: &QueueArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
    set_paused(args, environment, true)
}

/// Resumes a queue.
pub(super) fn resume(args: &QueueArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
    set_paused(args, environment, false)
}

fn set_paused(
    args: &QueueArgs,
    environment: &Environment,
    paused: bool,
) -> Result<ExitCode, Stopped> {
    let client = Client::new(&args.client, environment)?;
    let mut call = Call::new(Method::PATCH, path(&args.queue));
    call.headers.push(content_type("application/json")?);
    call.body = Bytes::from(format!("{{\"paused\": {paused}}}"));
    block_on(async {
        let raw = body(client.call(call).await?).await?;
        let queue: Queue = read(&raw)?;
        print(args.client.json, &raw, &describe(&queue))
    })
}

fn path(queue: &Name) -> String {
    format!("/v1/queues/{queue}")
}

fn read<T: DeserializeOwned>(raw: &Bytes) -> Result<T, Stopped> {
    serde_json::from_slice(raw)
        .map_err(|error| Stopped::Trouble(format!("the server's answer is no queue: {error}")))
}

fn print(as_json: bool, raw: &Bytes, text: &str) -> Result<ExitCode, Stopped> {
    let mut output = std::io::stdout().lock();
    let written = if as_json {
        output.write_all(raw).and_then(|()| writeln!(output))
    } else {
        write!(output, "{text}")
    };
    written.map_err(cannot_print)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns a line that says what a queue does now.
fn describe(queue: &Queue) -> String {
    let (name, Depth { ready, running, .. }) = (&queue.name, &queue.depth);
    if queue.paused {
        format!(
            "queue {name} is paused: {ready} jobs are ready and wait, {running} running go on\n"
        )
    } else {
        format!("queue {name} is not paused: {ready} jobs are ready, {running} are running\n")
    }
}

/// Returns a line for each queue, under a head.
fn table(queues: &[Queue]) -> String {
    let names = queues.iter().map(|queue| queue.name.len());
    let width = names.chain(["QUEUE".len()]).max().unwrap_or_default();
    let mut text = String::new();
    let mut line = |name: &str, rest: [&str; 6]| {
        let [state, scheduled, ready, running, oldest, limits] = rest;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{name:<width$}  {state:<6}  {scheduled:>9}  {ready:>9}  {running:>9}  {oldest:>9}  \
             {limits}"
        );
    };
    let head = ["STATE", "SCHEDULED", "READY", "RUNNING", "OLDEST", "LIMITS"];
    line("QUEUE", head);
    for queue in queues {
        let state = if queue.paused { "paused" } else { "open" };
        let oldest = queue.oldest_ready_age.as_deref().unwrap_or("-");
        let depth = &queue.depth;
        let numbers = [depth.scheduled, depth.ready, depth.running].map(|n| n.to_string());
        let [scheduled, ready, running] = numbers.each_ref().map(String::as_str);
        let limits = queue.limits.to_string();
        line(
            &queue.name,
            [state, scheduled, ready, running, oldest, &limits],
        );
    }
    text
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = [
            self.max_concurrency.map(|most| format!("{most} running")),
            (self.rate_limit.as_ref())
                .map(|Rate { limit, period }| format!("{limit} started in {period}")),
            (self.group_concurrency).map(|most| format!("{most} running of a group")),
            self.max_depth.map(|most| format!("{most} waiting")),
        ];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        match limits.as_slice() {
            [] => f.write_str("-"),
            limits => f.write_str(&limits.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_shown_in_columns() {
        let queue = |name: &str, paused, ready, oldest: Option<&str>| Queue {
            name: name.to_owned(),
            paused,
            depth: Depth {
                scheduled: 0,
                ready,
                running: 1,
            },
            oldest_ready_age: oldest.map(str::to_owned),
            limits: Limits::default(),
        };
        let mut queues = [
            queue("default", false, 0, None),
            queue("mails", false, 0, None),
            queue("thumbnails", true, 1_234_567, Some("1h2m5s")),
        ];
        queues[1].limits.max_concurrency = Some(1);
        queues[2].limits = Limits {
            max_concurrency: Some(8),
            rate_limit: Some(Rate {
                limit: 100,
                period: "1s".to_owned(),
            }),
            max_depth: Some(1_000_000),
            group_concurrency: Some(2),
        };
        let rows = [
            "QUEUE       STATE   SCHEDULED      READY    RUNNING     OLDEST  LIMITS",
            "default     open            0          0          1          -  -",
            "mails       open            0          0          1          -  1 running",
            "thumbnails  paused          0    1234567          1     1h2m5s  8 running, \
             100 started in 1s, 2 running of a group, 1000000 waiting",
        ];
        let text = table(&queues);
        assert_eq!(text.lines().collect::<Vec<_>>(), rows);
    }
}
