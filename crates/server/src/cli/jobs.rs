//! `anteroom submit`, `job`, `cancel` and `retry`: clients of a running server.

use super::client::{Call, Client, body, content_type, idempotency_key, query};
use super::show::{self, Job};
use super::wait::{Interrupt, Wait, wait_for};
use super::{ChangeArgs, JobArgs, Stopped, SubmitArgs, cannot_start, plain};
use crate::config::Environment;
use anteroom::core::JobId;
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

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
    let is_json = args.client.json;
    block_on(async {
        let send = async {
            let answer = client.call(call).await?;
            let is_replayed = answer.headers().contains_key("idempotency-replayed");
            Ok((Answer::read(body(answer).await?)?, is_replayed))
        };
        let Some(span) = args.wait else {
            let (answer, is_replayed) = send.await?;
            answer.show(is_json)?;
            say_whose(is_json, is_replayed, answer.job.duplicate)?;
            return Ok(ExitCode::SUCCESS);
        };
        // Submitted without a wait, so that the id is known while it is waited for.
        let mut interrupt = Interrupt::new()?;
        let wait = Wait::new(span);
        let unknown = || "it is unknown whether the job was handed in".to_owned();
        let (answer, is_replayed) = interrupt.or(send, unknown).await?;
        let (id, is_duplicate) = (answer.job.id.clone(), answer.job.duplicate);
        let answer = wait_for(&client, &id, Some(answer), wait, &mut interrupt).await?;
        answer.show(is_json)?;
        say_whose(is_json, is_replayed, is_duplicate)?;
        exit_code_of_waiting(&answer.job, span)
    })
}

/// Shows a job or its result, and waits for it if asked to.
pub(super) fn job(args: &JobArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
    let client = Client::new(&args.client, environment)?;
    let id = args.id.to_string();
    block_on(async {
        let answer = match args.wait {
            Some(span) => {
                let mut interrupt = Interrupt::new()?;
                wait_for(&client, &id, None, Wait::new(span), &mut interrupt).await?
            }
            None => get(&client, &id).await?,
        };
        if args.result && answer.job.state == "succeeded" {
            return print_result(&client, args.id).await;
        }
        if args.result {
            let state = plain::line(&answer.job.state);
            let message = format!("job {id} has no result: it is {state}");
            return Err(if answer.job.done {
                Stopped::Failure(message)
            } else {
                Stopped::NotDone(message)
            });
        }
        answer.show(args.client.json)?;
        match args.wait {
            Some(span) => exit_code_of_waiting(&answer.job, span),
            None => Ok(exit_code(&answer.job)),
        }
    })
}

/// Cancels a job.
pub(super) fn cancel(args: &ChangeArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
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
fn say_whose(is_json: bool, is_replayed: bool, is_duplicate: bool) -> Result<(), Stopped> {
    let line = match (is_replayed, is_duplicate) {
        _ if is_json => return Ok(()),
        (true, _) => "It was submitted before under this idempotency key.",
        (false, true) => "It was there before: it has this unique key.",
        (false, false) => return Ok(()),
    };
    writeln!(std::io::stdout(), "{line}").map_err(cannot_print)
}

/// Makes a job ready again.
pub(super) fn retry(args: &ChangeArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
    let client = Client::new(&args.client, environment)?;
    block_on(async {
        let call = Call::new(Method::POST, format!("/v1/jobs/{}/retry", args.id));
        let answer = client.call(call).await?;
        Answer::read(body(answer).await?)?.show(args.client.json)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Does what a client command does, on a runtime of its own.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Stopped>>) -> Result<T, Stopped> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(cannot_start)?;
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
    add("callback_url", args.callback_url.clone());
    for (name, value) in &args.tags {
        add(&format!("tag.{name}"), Some(value.clone()));
    }
    format!("/v1/tasks/{}/jobs{}", args.task, query(&options))
}

fn read_input(input: Option<String>) -> Result<Bytes, Stopped> {
    let Some(input) = input else {
        return Ok(Bytes::new());
    };
    let failed = |what: &str, error| Stopped::Refused(format!("cannot read {what}: {error}"));
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

async fn get(client: &Client, id: &str) -> Result<Answer, Stopped> {
    let call = Call::new(Method::GET, format!("/v1/jobs/{id}?include=waiting"));
    Answer::read(body(client.call(call).await?).await?)
}

/// Writes the result to standard output: as it arrives, however large it is; but to a terminal as
/// text that it can do no harm with.
async fn print_result(client: &Client, id: JobId) -> Result<ExitCode, Stopped> {
    let call = Call::new(Method::GET, format!("/v1/jobs/{id}/result"));
    let answer = client.call(call).await?;
    let mut output = std::io::stdout().lock();
    if output.is_terminal() {
        let result = body(answer).await?;
        let text = String::from_utf8_lossy(&result);
        let text = plain::lines(&text);
        let end = if text.ends_with('\n') { "" } else { "\n" };
        write!(output, "{text}{end}").map_err(cannot_print)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        let broke_off = |error| Stopped::Trouble(format!("the result broke off: {error}"));
        let frame = frame.map_err(broke_off)?;
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
    if error.kind() == ErrorKind::BrokenPipe {
        return Stopped::ReaderGone;
    }
    Stopped::Trouble(format!("cannot write to standard output: {error}"))
}

/// A job as the server gave it.
pub(super) struct Answer {
    raw: Bytes,
    pub(super) job: Job,
}

impl Answer {
    pub(super) fn read(raw: Bytes) -> Result<Self, Stopped> {
        match serde_json::from_slice(&raw) {
            Ok(job) => Ok(Self { raw, job }),
            Err(error) => {
                let message = format!("the server's answer is no job: {error}");
                Err(Stopped::Trouble(message))
            }
        }
    }

    fn show(&self, as_json: bool) -> Result<(), Stopped> {
        let mut output = std::io::stdout().lock();
        let written = if as_json && output.is_terminal() {
            let text = String::from_utf8_lossy(&self.raw);
            writeln!(output, "{}", plain::json(&text))
        } else if as_json {
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
    let (id, state) = (plain::line(&job.id), plain::line(&job.state));
    let message = format!("job {id} is still {state} after {wait:?}");
    Err(Stopped::NotDone(message))
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser;

    fn submit_args(words: &[&str]) -> SubmitArgs {
        let words = ["anteroom", "submit", "a"].iter().chain(words);
        match Cli::try_parse_from(words).unwrap().command {
            Some(Command::Submit(args)) => *args,
            other => panic!("{other:?} is no submit"),
        }
    }

    #[test]
    fn options_reach_the_server_as_they_were_given() {
        let args = submit_args(&[
            "--run-at",
            "2030-01-31T12:00:00+01:00",
            "--start-before",
            "2030-02-01T12:00:00Z",
            "--unique-key",
            "order 7",
            "--callback-url",
            "https://a.example/hook?x=1",
        ]);
        let expected = "/v1/tasks/a/jobs?run_at=2030-01-31T12%3A00%3A00%2B01%3A00\
                        &start_before=2030-02-01T12%3A00%3A00Z&unique_key=order%207\
                        &callback_url=https%3A%2F%2Fa.example%2Fhook%3Fx%3D1";
        assert_eq!(submit_path(&args), expected);
    }

    #[test]
    fn an_idempotency_key_is_quoted() {
        for (key, expected) in [("abc-1", "\"abc-1\""), ("a\"b\\c", "\"a\\\"b\\\\c\"")] {
            let args = submit_args(&["--idempotency-key", key]);
            let (_, field) = idempotency_key(&args.idempotency_key.unwrap()).unwrap();
            assert_eq!(field, expected);
        }
        for key in ["", "a\nb", &"x".repeat(256)] {
            let words = ["anteroom", "submit", "a", "--idempotency-key", key];
            assert!(Cli::try_parse_from(words).is_err(), "{key:?}");
        }
    }
}
