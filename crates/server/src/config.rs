//! What the operator decides: read from flags, the environment and `anteroom.toml`.
//!
//! Flags win over `ANTEROOM_*` variables, those over the file, the file over the defaults. All
//! mistakes are told at once, each with its place. Nothing else in the program reads the
//! environment or the file.

use anteroom::core::limits::{
    CONCURRENCY_EXEC_DEFAULT, CONCURRENCY_PUSH_DEFAULT, DEFAULT_QUEUE, INPUT_BYTES_MAX_DEFAULT,
    KILL_GRACE_DEFAULT, MAX_ATTEMPTS_DEFAULT, RESULT_BYTES_MAX_DEFAULT, RETAIN_DEFAULT, RETAIN_MAX,
    SHUTDOWN_GRACE_DEFAULT, TIMEOUT_DEFAULT,
};
use anteroom::core::{Name, NameError, QueueSettings, RetryPolicy};
use anteroom::run::targets::Network;
#[cfg(feature = "postgres")]
use anteroom::store::postgres::PostgresUrl;
use anteroom::webhook::Secret;
use anteroom::{Schedule, Validate};
use anteroom_server::http::Token;
use anteroom_server::http::limits::{BUFFERED_BYTES_MAX_DEFAULT, BULK_BYTES_MAX_DEFAULT};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

mod environment;
mod exec;
mod file;
mod queues;
mod reader;
mod schedules;
mod tokens;
mod value;
mod webhooks;

pub(crate) use environment::Environment;
pub(crate) use exec::ExecConfig;
pub(crate) use value::duration;

/// The file that is read from the current folder where none is named.
pub(crate) const FILE_DEFAULT: &str = "anteroom.toml";
/// Where clients look for the server when they are not told.
pub(crate) const SERVER_DEFAULT: &str = "http://127.0.0.1:8080";

/// The longest grace of a stopping server or attempt: beyond it, a supervisor has long killed it.
const SHUTDOWN_GRACE_MAX: Duration = Duration::from_hours(24);
/// Bytes of one body: stores keep it in one row, and memory holds it whole.
const PAYLOAD_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Everything that the operator decides.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// The address to listen on; port 0 picks a free one. Default `127.0.0.1:8080`.
    pub(crate) listen: SocketAddr,
    /// Whether to listen beyond loopback without tokens, where anybody may then do anything.
    pub(crate) insecure: bool,
    /// Where jobs are kept. Default `sqlite:anteroom.db`.
    pub(crate) store: StoreUrl,
    /// How long running attempts may go on once the server was told to stop. Default 30 s.
    pub(crate) shutdown_grace: Duration,
    /// Bytes of an input. Default 1 MiB.
    pub(crate) max_input: usize,
    /// Bytes of a result. Default 16 MiB.
    pub(crate) max_result: usize,
    /// Bytes of all bodies together that the store does not have yet. Default 256 MiB.
    pub(crate) max_buffered: usize,
    /// Bytes of a body of envelopes. Default 64 MiB.
    pub(crate) max_bulk: usize,
    /// How long a finished job and its result are kept. Default 24 h.
    pub(crate) retain: Duration,
    /// Origins of browsers' pages that may call the server. Default none.
    pub(crate) allowed_origins: Vec<String>,
    /// Who may call the server; none: everybody who reaches it.
    pub(crate) tokens: Vec<Token>,
    /// What signs pushes and callbacks; none: nothing does.
    pub(crate) webhook_secrets: Vec<Secret>,
    /// Networks that callbacks may go to besides the public internet.
    pub(crate) callback_networks: Vec<Network>,
    /// Whether queues that nothing names are refused instead of made. Default false.
    pub(crate) strict_queues: bool,
    /// What holds for queues until something else is set, by name.
    pub(crate) queues: BTreeMap<Name, QueueSettings>,
    /// The tasks, by name.
    pub(crate) tasks: BTreeMap<Name, TaskConfig>,
    /// What is submitted again and again, by name.
    pub(crate) schedules: BTreeMap<Name, Schedule>,
    /// Which log lines are written: a level, or `target=level` pairs. Default `info`.
    pub(crate) log: tracing_subscriber::filter::Targets,
    /// How log lines are written.
    pub(crate) log_format: LogFormat,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            insecure: false,
            store: StoreUrl::Sqlite("anteroom.db".into()),
            shutdown_grace: SHUTDOWN_GRACE_DEFAULT,
            max_input: INPUT_BYTES_MAX_DEFAULT,
            max_result: RESULT_BYTES_MAX_DEFAULT,
            max_buffered: BUFFERED_BYTES_MAX_DEFAULT,
            max_bulk: BULK_BYTES_MAX_DEFAULT,
            retain: RETAIN_DEFAULT,
            allowed_origins: Vec::new(),
            tokens: Vec::new(),
            webhook_secrets: Vec::new(),
            callback_networks: Vec::new(),
            strict_queues: false,
            queues: BTreeMap::new(),
            tasks: BTreeMap::new(),
            schedules: BTreeMap::new(),
            log: value::log_filter_default(),
            log_format: LogFormat::Text,
        }
    }
}

/// Where jobs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreUrl {
    /// In memory: gone with the process.
    Memory,
    /// In an `SQLite` database in this file.
    Sqlite(PathBuf),
    /// In a `PostgreSQL` database, for many nodes. Shown without its password.
    #[cfg(feature = "postgres")]
    Postgres(Box<PostgresUrl>),
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A task of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TaskConfig {
    /// Who runs it.
    pub(crate) runner: RunnerConfig,
    /// The queue of its jobs that name none. Default `default`.
    pub(crate) queue: Name,
    /// How long an attempt may run. Default 5 m.
    pub(crate) timeout: Duration,
    /// How long an attempt that was told to stop may take. Default 5 s.
    pub(crate) kill_grace: Duration,
    /// How many attempts a job gets. Default 5.
    pub(crate) max_attempts: u32,
    /// How long a failed job waits for its next attempt.
    pub(crate) backoff: RetryPolicy,
    /// Attempts at once on this node. Default 16, or 64 where it is pushed.
    pub(crate) concurrency: usize,
    /// The media type of its inputs; none: any, or JSON where there is a schema.
    pub(crate) content_type: Option<String>,
    /// What its inputs are checked by; none: nothing.
    pub(crate) schema: Option<SchemaFile>,
}

/// A JSON Schema of the file's folder, read and understood.
#[derive(Clone, Debug)]
pub(crate) struct SchemaFile {
    /// Where it was.
    path: PathBuf,
    /// Who checks by it.
    pub(crate) validator: Arc<dyn Validate>,
}

impl PartialEq for SchemaFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && self.validator.schema() == other.validator.schema()
    }
}

impl TaskConfig {
    /// Returns a task with the defaults.
    pub(crate) fn new(runner: RunnerConfig) -> Result<Self, NameError> {
        let concurrency = match &runner {
            RunnerConfig::Push { .. } => CONCURRENCY_PUSH_DEFAULT,
            RunnerConfig::Exec { .. } | RunnerConfig::Pull => CONCURRENCY_EXEC_DEFAULT,
        };
        Ok(Self {
            runner,
            queue: Name::new(DEFAULT_QUEUE)?,
            timeout: TIMEOUT_DEFAULT,
            kill_grace: KILL_GRACE_DEFAULT,
            max_attempts: MAX_ATTEMPTS_DEFAULT,
            backoff: RetryPolicy::default(),
            concurrency,
            content_type: None,
            schema: None,
        })
    }
}

/// Who runs a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RunnerConfig {
    /// A program that this machine starts for each attempt.
    Exec(Box<ExecConfig>),
    /// A service that each attempt is pushed to.
    Push {
        /// Where it is.
        url: String,
    },
    /// Workers that pull.
    Pull,
}

/// What the command line says about the configuration; none: it does not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// The file.
    pub(crate) config: Option<PathBuf>,
    /// As in the file.
    pub(crate) listen: Option<String>,
    /// As in the file.
    pub(crate) store: Option<String>,
    /// As in the file.
    pub(crate) insecure: bool,
}

/// A configuration that holds together, with what else is worth knowing.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The configuration.
    pub(crate) config: Config,
    /// The file that it came from; none: there is none.
    pub(crate) file: Option<PathBuf>,
    /// What looks like a mistake but does no harm.
    pub(crate) warnings: Vec<String>,
}

/// Reads the configuration from flags, `environment` and file. Relative paths that do not stand
/// in the file are relative to `folder`.
///
/// # Errors
///
/// [`ConfigError`] with every mistake there is.
pub(crate) fn load(
    flags: &Flags,
    environment: &Environment,
    folder: &Path,
) -> Result<Loaded, ConfigError> {
    let mut draft = Draft::default();
    let named = flags.config.clone().or_else(|| environment.config_file());
    let file = find_file(named, folder)?;
    if let Some(path) = &file {
        file::read(path, folder, &mut draft)?;
    }
    let mut warnings = environment.apply(folder, &mut draft);
    apply_flags(flags, folder, &mut draft);
    warnings.append(&mut draft.warnings);
    let mut config = draft.finish()?;
    environment.add_password(&mut config.store);
    warnings.extend(tokens::of_no_task(&config));
    Ok(Loaded {
        config,
        file,
        warnings,
    })
}

/// Returns the path of the file as the person knows it: as named, else the default if it is there.
fn find_file(named: Option<PathBuf>, folder: &Path) -> Result<Option<PathBuf>, ConfigError> {
    if named.is_some() {
        return Ok(named);
    }
    let path = PathBuf::from(FILE_DEFAULT);
    match folder.join(&path).try_exists() {
        Ok(is_there) => Ok(is_there.then_some(path)),
        Err(source) => Err(ConfigError::Unreadable { path, source }),
    }
}

fn apply_flags(flags: &Flags, folder: &Path, draft: &mut Draft) {
    if let Some(text) = &flags.listen {
        let place = Place::Flag("--listen");
        draft.listen(value::listen(text), place);
    }
    if let Some(text) = &flags.store {
        let place = Place::Flag("--store");
        let store = value::store(text, folder);
        draft.take(store, &place, "store", |config, store| config.store = store);
    }
    draft.config.insecure |= flags.insecure;
}

/// A configuration being put together.
#[derive(Debug)]
struct Draft {
    config: Config,
    /// Where `listen` stands, for a mistake that shows only in the end.
    listen_at: Place,
    mistakes: Vec<Mistake>,
    /// What looks like a mistake but does no harm.
    warnings: Vec<String>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            config: Config::default(),
            listen_at: Place::Whole,
            mistakes: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

impl Draft {
    /// Notes that what stands at `place` is wrong.
    fn wrong(&mut self, place: Place, message: impl Into<String>) {
        self.mistakes.push(Mistake {
            place,
            message: message.into(),
        });
    }

    /// Puts a checked value where it belongs, or notes what is wrong with it. `key` is put before
    /// a refusal such as "is 10ms; the least is 100ms".
    fn take<T>(
        &mut self,
        checked: Result<T, String>,
        place: &Place,
        key: &str,
        put: impl FnOnce(&mut Config, T),
    ) {
        match checked {
            Ok(value) => put(&mut self.config, value),
            Err(refusal) => self.wrong(place.clone(), format!("{key} {refusal}")),
        }
    }

    fn listen(&mut self, checked: Result<SocketAddr, String>, place: Place) {
        self.take(checked, &place, "listen", |config, listen| {
            config.listen = listen;
        });
        self.listen_at = place;
    }

    /// Puts a size or a span where it belongs; false if `key` is neither.
    fn measure(&mut self, key: &str, text: &str, place: &Place) -> bool {
        let span = |most| value::duration_in(text, Duration::ZERO..=most);
        let size = |most| value::bytes(text, 1..=most);
        match key {
            "shutdown_grace" => self.take(span(SHUTDOWN_GRACE_MAX), place, key, |config, it| {
                config.shutdown_grace = it;
            }),
            "retain" => self.take(span(RETAIN_MAX), place, key, |config, it| {
                config.retain = it;
            }),
            "max_input" => self.take(size(PAYLOAD_BYTES_MAX), place, key, |config, it| {
                config.max_input = it;
            }),
            "max_result" => self.take(size(PAYLOAD_BYTES_MAX), place, key, |config, it| {
                config.max_result = it;
            }),
            "max_buffered" => self.take(size(usize::MAX), place, key, |config, it| {
                config.max_buffered = it;
            }),
            "max_bulk" => self.take(size(PAYLOAD_BYTES_MAX), place, key, |config, it| {
                config.max_bulk = it;
            }),
            _ => return false,
        }
        true
    }

    /// Checks what only the whole can show, and returns it if nothing is wrong anywhere.
    fn finish(mut self) -> Result<Config, ConfigError> {
        let (input, buffered) = (self.config.max_input, self.config.max_buffered);
        if buffered < input {
            let message = format!(
                "max_buffered is {}; the least is max_input, {}, or an input of that size is \
                 never received",
                value::show_bytes(buffered),
                value::show_bytes(input)
            );
            self.wrong(Place::Whole, message);
        }
        for mistake in schedules::mistakes_of_the_whole(&self.config) {
            self.wrong(Place::Whole, mistake);
        }
        let listen = self.config.listen;
        let is_guarded = self.config.insecure || !self.config.tokens.is_empty();
        if !listen.ip().to_canonical().is_loopback() && !is_guarded && self.mistakes.is_empty() {
            let place = self.listen_at.clone();
            self.wrong(
                place,
                format!(
                    "listen is {listen}, where others reach the server, and there are no tokens \
                     to tell them apart; add [[tokens]] (`anteroom token` makes one), or set \
                     insecure = true (--insecure) if something else keeps strangers out"
                ),
            );
        }
        if self.mistakes.is_empty() {
            Ok(self.config)
        } else {
            Err(ConfigError::Wrong(Mistakes(self.mistakes)))
        }
    }
}

/// Why there is no configuration. Not worth a retry: somebody has to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Something in it, or in a flag or variable, is wrong.
    #[error("{0}")]
    Wrong(Mistakes),
}

/// Everything that is wrong, a line each.
#[derive(Debug)]
pub(crate) struct Mistakes(Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{}: {}", mistake.place, mistake.message)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Mistake {
    place: Place,
    message: String,
}

/// Where a setting stands.
#[derive(Clone, Debug)]
enum Place {
    /// Nowhere: it shows only in the whole.
    Whole,
    /// In the file; line and column count from 1.
    File {
        path: PathBuf,
        line: usize,
        column: usize,
    },
    /// In this environment variable.
    Variable(String),
    /// In this flag.
    Flag(&'static str),
}

impl Place {
    /// Returns the line in the file, or 0.
    const fn line(&self) -> usize {
        match self {
            Self::File { line, .. } => *line,
            Self::Whole | Self::Variable(_) | Self::Flag(_) => 0,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("configuration"),
            Self::File { path, line, column } => {
                write!(f, "{}:{line}:{column}", path.display())
            }
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests;
