//! The command line: what may be asked for, and the exit code of each answer.
//!
//! 0 is well; 1 a job that failed or was cancelled, or a server that ended by a failure; 2 wrong
//! usage, configuration or request; 3 trouble with the server; 4 a job that is not done yet. A
//! program can tell them apart, and only 3 and 4 are worth another try.

use crate::config::{self, Environment, Flags};
use anteroom::core::limits::PAGE_SIZE_MAX;
use anteroom::core::{IdempotencyKey, JobId, Label, Name};
use anteroom_server::http::Scope;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

mod check;
mod client;
mod completions;
mod jobs;
mod list;
mod openapi;
mod plain;
mod progress;
mod queues;
mod serve;
mod show;
mod store;
mod table;
mod token;
mod wait;

/// The states that a job is shown in, for the shells' completions too.
const STATES: [&str; 6] = [
    "scheduled",
    "ready",
    "running",
    "succeeded",
    "failed",
    "cancelled",
];
const CONFIG_HELP: &str = "The configuration [default: anteroom.toml, if it is there]";
const SERVER_HELP: &str = "The server [env: ANTEROOM_SERVER] [default: http://127.0.0.1:8080]";
const TOKEN_HELP: &str = "A file with the token [env: ANTEROOM_TOKEN has the token itself]";
const ENVIRONMENT_HELP: &str = "\
Flags win over environment variables, and those over the file: ANTEROOM_CONFIG, and \
ANTEROOM_LISTEN, ANTEROOM_STORE, ANTEROOM_RETAIN and so on for the keys of the file. ANTEROOM_LOG \
says which log lines are written (info, or target=level,...), ANTEROOM_LOG_FORMAT=json how.";

/// The waiting room between a web API and its slow work.
///
/// Without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "anteroom", version, args_conflicts_with_subcommands = true)]
#[command(after_help = ENVIRONMENT_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until SIGINT or SIGTERM; a second one stops at once.
    Serve(ServeArgs),
    /// Checks the configuration and does nothing else.
    Check(CheckArgs),
    /// Hands in a job.
    Submit(Box<SubmitArgs>),
    /// Shows a job.
    Job(JobArgs),
    /// Lists jobs, newest first.
    Jobs(Box<JobsArgs>),
    /// Cancels a job, or tells it to stop if it is running.
    Cancel(ChangeArgs),
    /// Shows all queues.
    Queues(QueuesArgs),
    /// Has a queue start no more jobs until it is resumed; what runs goes on.
    Pause(QueueArgs),
    /// Has a paused queue start jobs again.
    Resume(QueueArgs),
    /// Makes a token, and the lines of the configuration that make a server know it.
    Token(TokenArgs),
    /// Makes a failed or cancelled job run again, and a scheduled one now.
    Retry(ChangeArgs),
    /// Verifies, copies, moves a store, or brings it forward.
    Store(store::StoreArgs),
    /// Prints what a shell needs to complete this command line.
    Completions(CompletionsArgs),
    /// Prints the OpenAPI 3.1 document of the HTTP API.
    Openapi,
}

/// How to serve.
#[derive(Args, Debug)]
struct ServeArgs {
    #[arg(long, value_name = "FILE", help = CONFIG_HELP)]
    config: Option<PathBuf>,
    /// The address to listen on; port 0 picks a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where jobs are kept: sqlite:PATH, postgres://... or memory: [default: sqlite:anteroom.db]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Listens beyond loopback without tokens: anybody there may then do anything
    #[arg(long)]
    insecure: bool,
    /// Starts with every queue paused, each until it is resumed
    #[arg(long)]
    hold: bool,
}

/// What to check.
#[derive(Args, Debug)]
struct CheckArgs {
    #[arg(long, value_name = "FILE", help = CONFIG_HELP)]
    config: Option<PathBuf>,
}

/// Which server to ask, and how to show the answer.
#[derive(Args, Debug)]
struct ClientArgs {
    #[arg(long, value_name = "URL", help = SERVER_HELP)]
    server: Option<String>,
    #[arg(long, value_name = "FILE", help = TOKEN_HELP)]
    token_file: Option<PathBuf>,
    /// Prints what the server answers, as it is
    #[arg(long)]
    json: bool,
}

/// What to submit.
#[derive(Args, Debug)]
struct SubmitArgs {
    /// The kind of work
    task: Name,
    /// What the task is given: a text, @FILE, or - for standard input [default: nothing]
    #[arg(long, value_name = "TEXT|@FILE|-", allow_hyphen_values = true)]
    input: Option<String>,
    /// The media type of the input [default: text/plain for a text, else application/octet-stream]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Waits until the job is done; if it is not by then, the exit code is 4
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
    /// The line that it waits in
    #[arg(long)]
    queue: Option<Name>,
    /// Whose turn it takes within the queue
    #[arg(long)]
    group: Option<String>,
    /// From 0, most urgent, to 9
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// Starts it that much later
    #[arg(long, value_name = "DURATION", value_parser = duration_text, conflicts_with = "run_at")]
    delay: Option<String>,
    /// Starts it no earlier than this, as 2030-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    run_at: Option<String>,
    /// Fails it if it has not begun by then
    #[arg(long, value_name = "TIME")]
    start_before: Option<String>,
    /// Attempts that it gets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    max_attempts: Option<u32>,
    /// How long an attempt may run
    #[arg(long, value_name = "DURATION", value_parser = duration_text)]
    timeout: Option<String>,
    /// Who is told of its end, by a POST
    #[arg(long, value_name = "URL")]
    callback_url: Option<String>,
    /// How long it is kept after its end
    #[arg(long, value_name = "DURATION", value_parser = duration_text)]
    retain: Option<String>,
    /// Makes no job while an unfinished one of the task has the same: that one is shown
    #[arg(long, value_name = "KEY")]
    unique_key: Option<Label>,
    /// Makes no second job if the same was submitted under it within 24 hours
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<IdempotencyKey>,
    /// A label of your own; may be given again
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = tag)]
    tags: Vec<(Name, String)>,
    #[command(flatten)]
    client: ClientArgs,
}

/// Which job to show.
#[derive(Args, Debug)]
struct JobArgs {
    /// The job
    id: JobId,
    /// Waits until it is done; if it is not by then, the exit code is 4
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
    /// Prints its result, and nothing else
    #[arg(long, conflicts_with = "json")]
    result: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Which jobs to list.
#[derive(Args, Debug)]
struct JobsArgs {
    /// Of this task
    #[arg(long)]
    task: Option<Name>,
    /// In this queue
    #[arg(long)]
    queue: Option<Name>,
    /// Of this group
    #[arg(long)]
    group: Option<String>,
    /// In this state, or one of several: scheduled, ready, running, succeeded, failed, cancelled
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', value_parser = STATES)]
    states: Vec<String>,
    /// With this tag; may be given again
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = tag)]
    tags: Vec<(Name, String)>,
    /// Submitted later than this, as 2030-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    created_after: Option<String>,
    /// Submitted earlier than this
    #[arg(long, value_name = "TIME")]
    created_before: Option<String>,
    /// At most so many, over as many pages as it takes [default: 50, or one page]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    limit: Option<usize>,
    /// Jobs of a page, 1 to 1000
    #[arg(long, value_name = "N", value_parser = page_size)]
    page_size: Option<usize>,
    /// Goes on where an earlier list ended, with the same filters
    #[arg(long, value_name = "TOKEN")]
    page_token: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

/// Which job to change.
#[derive(Args, Debug)]
struct ChangeArgs {
    /// The job
    id: JobId,
    #[command(flatten)]
    client: ClientArgs,
}

/// Which token to make.
#[derive(Args, Debug)]
struct TokenArgs {
    /// What the configuration calls it
    #[arg(default_value = "web")]
    name: Name,
    /// What it covers: submit, read, work or admin; may be given again
    #[arg(long = "scope", value_name = "SCOPE", value_parser = scope, value_delimiter = ',')]
    #[arg(default_values = ["submit", "read"])]
    scopes: Vec<Scope>,
    /// The task whose jobs it is for; may be given again [default: all tasks]
    #[arg(long = "task", value_name = "TASK")]
    tasks: Vec<Name>,
    /// Prints it as JSON
    #[arg(long)]
    json: bool,
}

/// How to show the queues.
#[derive(Args, Debug)]
struct QueuesArgs {
    #[command(flatten)]
    client: ClientArgs,
}

/// Which queue to pause or resume.
#[derive(Args, Debug)]
struct QueueArgs {
    /// The queue
    queue: Name,
    #[command(flatten)]
    client: ClientArgs,
}

/// Which shell to help.
#[derive(Args, Debug)]
struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

/// Why a command did not do what it was asked for: what to tell the person, and the exit code.
#[derive(Debug)]
enum Stopped {
    /// The usage or the configuration is wrong. Told as it is.
    Usage(String),
    /// What was asked for is refused, here or by the server: the same again will not do.
    Refused(String),
    /// Something failed; of a client command: the job.
    Failure(String),
    /// The server cannot be reached or is in trouble: the same again may do.
    Trouble(String),
    /// The job is not done yet.
    NotDone(String),
    /// Ctrl-C came while it waited.
    Interrupted(String),
    /// Nobody reads what is printed any more.
    ReaderGone,
}

impl Stopped {
    fn code(&self) -> u8 {
        match self {
            Self::Failure(_) => 1,
            Self::Usage(_) | Self::Refused(_) => 2,
            Self::Trouble(_) => 3,
            Self::NotDone(_) => 4,
            // What shells show for the signals that end others.
            Self::Interrupted(_) => 130,
            Self::ReaderGone => 141,
        }
    }

    /// Returns what to tell the person.
    fn message(&self) -> Option<String> {
        match self {
            Self::Usage(message) | Self::Interrupted(message) => Some(message.clone()),
            Self::Refused(message)
            | Self::Failure(message)
            | Self::Trouble(message)
            | Self::NotDone(message) => Some(format!("error: {message}")),
            Self::ReaderGone => None,
        }
    }
}

/// Does what the command line asks for.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let environment = Environment::of_process();
    let done = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::run(args, &environment),
        Command::Check(args) => check::run(args, &environment),
        Command::Submit(args) => jobs::submit(*args, &environment),
        Command::Job(args) => jobs::job(&args, &environment),
        Command::Jobs(args) => list::jobs(&args, &environment),
        Command::Cancel(args) => jobs::cancel(&args, &environment),
        Command::Queues(args) => queues::queues(&args, &environment),
        Command::Pause(args) => queues::pause(&args, &environment),
        Command::Resume(args) => queues::resume(&args, &environment),
        Command::Token(args) => token::run(&args),
        Command::Retry(args) => jobs::retry(&args, &environment),
        Command::Store(args) => store::run(args, &environment),
        Command::Completions(args) => completions::run(&args),
        Command::Openapi => openapi::run(),
    };
    done.unwrap_or_else(|stopped| {
        if let Some(message) = stopped.message() {
            // Much of it is a server's: its lines stay, what a terminal would obey does not.
            eprintln!("{}", plain::lines(&message));
        }
        ExitCode::from(stopped.code())
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "`map_err` hands over the error"
)]
fn cannot_start(error: std::io::Error) -> Stopped {
    Stopped::Trouble(format!("cannot start: {error}"))
}

/// Reads the configuration, and warns of what looks odd in it.
fn load(flags: &Flags, environment: &Environment) -> Result<config::Loaded, Stopped> {
    let folder = std::env::current_dir()
        .map_err(|error| Stopped::Failure(format!("there is no current folder: {error}")))?;
    let loaded = config::load(flags, environment, &folder)
        .map_err(|error| Stopped::Usage(error.to_string()))?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(loaded)
}

fn duration(text: &str) -> Result<Duration, String> {
    config::duration(text)
}

/// Checks a duration that the server is going to read itself.
fn duration_text(text: &str) -> Result<String, String> {
    config::duration(text).map(|_| text.to_owned())
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::from_word(text).ok_or_else(|| {
        format!(
            "expected one of {}",
            Scope::ALL.map(Scope::as_str).join(", ")
        )
    })
}

fn tag(text: &str) -> Result<(Name, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let name = Name::new(name).map_err(|error| format!("the name {error}"))?;
    Ok((name, value.to_owned()))
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        Ok(_) | Err(_) => Err("expected a whole number, 1 or more".to_owned()),
    }
}

fn page_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if (1..=PAGE_SIZE_MAX).contains(&size) => Ok(size),
        Ok(_) | Err(_) => Err(format!("expected a whole number from 1 to {PAGE_SIZE_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom::core::ShownState;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn states_are_those_that_are_shown() {
        assert_eq!(STATES, ShownState::ALL.map(ShownState::as_str));
    }

    #[test]
    fn serving_is_the_default() {
        let cli = Cli::try_parse_from(["anteroom", "--listen", "127.0.0.1:0"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.listen.as_deref(), Some("127.0.0.1:0"));
    }

    #[test]
    fn wrong_usage_is_refused() {
        let cases: &[&[&str]] = &[
            &["nonsense"],
            &["submit"],
            &["submit", "No Name"],
            &["submit", "a", "--priority", "10"],
            &["submit", "a", "--delay", "soon"],
            &[
                "submit",
                "a",
                "--delay",
                "1s",
                "--run-at",
                "2030-01-01T00:00:00Z",
            ],
            &["submit", "a", "--tag", "x"],
            &["submit", "a", "--unique-key", ""],
            &["submit", "a", "--idempotency-key", "a\nb"],
            &["job", "7"],
            &[
                "job",
                "019abc00-0000-7000-8000-000000000000",
                "--result",
                "--json",
            ],
            &["pause"],
            &["resume", "No Queue"],
            &["queues", "default"],
            &["jobs", "--state", "sleeping"],
            &["jobs", "--limit", "0"],
            &["jobs", "--page-size", "1001"],
            &["jobs", "--tag", "x"],
            &["retry"],
            &["store"],
            &["store", "backup"],
            &["store", "export", "a-file"],
            &["completions", "cobol"],
            &["store", "migrate", "a-file"],
        ];
        for case in cases {
            let words = std::iter::once("anteroom").chain(case.iter().copied());
            assert!(Cli::try_parse_from(words).is_err(), "{case:?}");
        }
    }
}
