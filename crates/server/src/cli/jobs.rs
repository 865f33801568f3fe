//! `anteroom submit`, `job` and `cancel`: clients of a running server.

use super::client::{Call, Client, body, content_type, encode, idempotency_key};
use super::show::{self, Job};
use super::{CancelArgs, JobArgs, Stopped, SubmitArgs};
use crate::config::Environment;
use anteroom::clock::Clock;
use anteroom::core::JobId;
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::Instant;

/// The longest that a server waits within one call.
const WAIT_OF_A_CALL_MAX: Duration = Duration::from_mins(1);
/// How long to leave a server alone that answered before the wait was over.
const PAUSE: Duration = Duration::from_secs(1);

/// Hands in a job, and waits for it if asked to.
pub(super) fn submit(args: SubmitArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
    let client = Client::new(&args.client, environment)?;
    let mut call = Call::new(Method::POST, submit_path(&args));
    let is_text = matches!(&args.input, Some(input) if input != "-" && !input.starts_with('@'));
    let media_type = match &args.content_type {
        Some(media_type) => media_type,
        None if is_text => "text/plain; charset=utf-8",
        None => "application/octet-stream",
    };
    call.headers.push(content_type(media_type)?);
    if let Some(key) = &args.idempotency_key {
        call.headers.push(idempotency_key(key)?);
    }
    call.body = read_input(args.input)?;
    block_on(async {
        let wait = Wait::new(args.wait);
        let answer = client.call(call.waiting(wait.of_a_call())).await?;
        let is_replayed = answer.headers().contains_key("idempotency-replayed");
        let mut job = Answer::read(body(answer).await?)?;
        let is_duplicate = job.job.duplicate;
        if args.wait.is_some() && !job.job.done {
            let id = job.job.id.clone();
            job = wait_for(&client, &id, &wait).await?;
        }
        job.show(args.client.json)?;
        if !args.client.json {
            say_whose(is_replayed, is_duplicate)?;
        }
        match args.wait {
            Some(wait) => exit_code_of_waiting(&job.job, wait),
            None => Ok(ExitCode::SUCCESS),
        }
    })
}

/// Shows a job or its result, and waits for it if asked to.
pub(super) fn job(args: &JobArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
    let client = Client::new(&args.client, environment)?;
    let id = args.id.to_string();
    block_on(async {
        let wait = Wait::new(args.wait);
        let answer = match args.wait {
            Some(_) => wait_for(&client, &id, &wait).await?,
            None => get(&client, &id, None).await?,
        };
        if args.result && answer.job.state == "succeeded" {
            return print_result(&client, args.id).await;
        }
        if args.result {
            let state = &answer.job.state;
            return Err(Stopped::Failure(format!(
                "job {id} has no result: it is {state}"
            )));
        }
        answer.show(args.client.json)?;
        match args.wait {
            Some(wait) => exit_code_of_waiting(&answer.job, wait),
            None => Ok(exit_code(&answer.job)),
        }
    })
}

/// Cancels a job.
pub(super) fn cancel(args: &CancelArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
    let client = Client::new(&args.client, environment)?;
    block_on(async {
        let call = Call::new(Method::POST, format!("/v1/jobs/{}/cancel", args.id));
        let answer = client.call(call).await?;
        let is_told = answer.status() == StatusCode::ACCEPTED;
        let answer = Answer::read(body(answer).await?)?;
        answer.show(args.client.json)?;
        if is_told && !args.client.json {
            println!("It is running, and was told to stop.");
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Tells that a submit made no job.
fn say_whose(is_replayed: bool, is_duplicate: bool) -> Result<(), Stopped> {
    let line = match (is_replayed, is_duplicate) {
        (true, _) => "It was submitted before under this idempotency key.",
        (false, true) => "It was there before: it has this unique key.",
        (false, false) => return Ok(()),
    };
    writeln!(std::io::stdout(), "{line}").map_err(cannot_print)
}

pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Stopped>>) -> Result<T, Stopped> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Stopped::Failure(format!("cannot start: {error}")))?;
    runtime.block_on(work)
}

/// Returns path and query of a submit with its options.
fn submit_path(args: &SubmitArgs) -> String {
    let mut options: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        options.extend(value.map(|value| (name.to_owned(), value)));
    };
    add("queue", args.queue.as_ref().map(ToString::to_string));
    add("group", args.group.clone());
    add("priority", args.priority.map(|it| it.to_string()));
    add("delay", args.delay.clone());
    add("run_at", args.run_at.clone());
    add("start_before", args.start_before.clone());
    add("max_attempts", args.max_attempts.map(|it| it.to_string()));
    add("timeout", args.timeout.clone());
    add("retain", args.retain.clone());
    add(
        "unique_key",
        args.unique_key.as_ref().map(ToString::to_string),
    );
    for (name, value) in &args.tags {
        add(&format!("tag.{name}"), Some(value.clone()));
    }
    let query: Vec<String> = options
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("/v1/tasks/{}/jobs{mark}{}", args.task, query.join("&"))
}

fn read_input(input: Option<String>) -> Result<Bytes, Stopped> {
    let Some(input) = input else {
        return Ok(Bytes::new());
    };
    let failed = |what: &str, error| Stopped::Failure(format!("cannot read {what}: {error}"));
    if input == "-" {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut bytes);
        read.map_err(|error| failed("standard input", error))?;
        return Ok(bytes.into());
    }
    match input.strip_prefix('@') {
        Some(path) => match std::fs::read(path) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) => Err(failed(path, error)),
        },
        None => Ok(input.into()),
    }
}

/// A wait that may take several calls.
struct Wait {
    deadline: Option<Instant>,
}

impl Wait {
    fn new(wait: Option<Duration>) -> Self {
        let deadline = wait.and_then(|wait| Instant::now().checked_add(wait));
        Self { deadline }
    }

    /// Returns how much of it the next call takes; none once it is over.
    fn of_a_call(&self) -> Option<Duration> {
        let left = self.deadline?.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then(|| left.min(WAIT_OF_A_CALL_MAX))
    }
}

/// Asks for the job until it is done or the wait is over, and returns it as it is then.
async fn wait_for(client: &Client, id: &str, wait: &Wait) -> Result<Answer, Stopped> {
    loop {
        let asked = wait.of_a_call();
        let asked_at = Instant::now();
        let answer = get(client, id, asked).await?;
        let Some(asked) = asked.filter(|_| !answer.job.done) else {
            return Ok(answer);
        };
        if asked_at.elapsed() < asked {
            Clock::system().sleep(PAUSE.min(asked)).await;
        }
    }
}

async fn get(client: &Client, id: &str, wait: Option<Duration>) -> Result<Answer, Stopped> {
    let call = Call::new(Method::GET, format!("/v1/jobs/{id}"));
    let answer = client.call(call.waiting(wait)).await?;
    Answer::read(body(answer).await?)
}

/// Writes the result to standard output as it arrives, however large it is.
async fn print_result(client: &Client, id: JobId) -> Result<ExitCode, Stopped> {
    let call = Call::new(Method::GET, format!("/v1/jobs/{id}/result"));
    let mut body = client.call(call).await?.into_body();
    let mut output = std::io::stdout().lock();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Stopped::Failure(format!("the result broke off: {error}")))?;
        if let Some(bytes) = frame.data_ref() {
            output.write_all(bytes).map_err(cannot_print)?;
        }
    }
    output.flush().map_err(cannot_print)?;
    Ok(ExitCode::SUCCESS)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "`map_err` hands over the error"
)]
pub(super) fn cannot_print(error: std::io::Error) -> Stopped {
    Stopped::Failure(format!("cannot write to standard output: {error}"))
}

/// A job as the server gave it.
struct Answer {
    raw: Bytes,
    job: Job,
}

impl Answer {
    fn read(raw: Bytes) -> Result<Self, Stopped> {
        match serde_json::from_slice(&raw) {
            Ok(job) => Ok(Self { raw, job }),
            Err(error) => {
                let message = format!("the server's answer is no job: {error}");
                Err(Stopped::Failure(message))
            }
        }
    }

    fn show(&self, as_json: bool) -> Result<(), Stopped> {
        let mut output = std::io::stdout().lock();
        let written = if as_json {
            output.write_all(&self.raw).and_then(|()| writeln!(output))
        } else {
            write!(output, "{}", show::describe(&self.job))
        };
        written.map_err(cannot_print)
    }
}

/// A job that is over without a result is a failure.
fn exit_code(job: &Job) -> ExitCode {
    ExitCode::from(u8::from(job.done && job.state != "succeeded"))
}

fn exit_code_of_waiting(job: &Job, wait: Duration) -> Result<ExitCode, Stopped> {
    if job.done {
        return Ok(exit_code(job));
    }
    let (id, state) = (&job.id, &job.state);
    Err(Stopped::Failure(format!(
        "job {id} is still {state} after {wait:?}"
    )))
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser;

    #[test]
    fn instants_reach_the_server_as_they_were_given() {
        let words = [
            "anteroom",
            "submit",
            "a",
            "--run-at",
            "2030-01-31T12:00:00+01:00",
            "--start-before",
            "2030-02-01T12:00:00Z",
        ];
        let cli = Cli::try_parse_from(words).unwrap();
        let Some(Command::Submit(args)) = cli.command else {
            panic!("{cli:?} is no submit");
        };
        let expected = "/v1/tasks/a/jobs?run_at=2030-01-31T12%3A00%3A00%2B01%3A00\
                        &start_before=2030-02-01T12%3A00%3A00Z";
        assert_eq!(submit_path(&args), expected);
    }
}
