//! Reads `anteroom.toml`, and says of each mistake in it where it stands and what was expected.
//!
//! Goes through the parsed document by hand: derived code stops at the first mistake, and knows
//! no word for a key of the contract that this version does not have yet.

use super::exec::EXEC_KEYS;
use super::reader::{A_DURATION, A_STRING, Reader, Value};
use super::value;
use super::{ConfigError, Draft, RunnerConfig, SHUTDOWN_GRACE_MAX, SchemaFile, TaskConfig};
use anteroom::core::RetryPolicy;
use anteroom::core::limits::{CONCURRENCY_MAX, MAX_ATTEMPTS_MAX, TIMEOUT_MAX, TIMEOUT_MIN};
use std::ops::Range;
use std::path::Path;
#[cfg(feature = "schema")]
use std::sync::Arc;
use std::time::Duration;
use toml::de::DeTable;

/// The keys of the file, as a mistake lists them.
const KEYS: &str = "listen, store, insecure, shutdown_grace, max_input, max_result, max_buffered, \
                    max_bulk, retain, allowed_origins, strict_queues, tokens, webhooks, callbacks, \
                    queues, tasks, schedules";
/// The keys of a token.
pub(super) const TOKEN_KEYS: &str = "name, sha256, scopes, tasks, rate_limit";
/// The keys of a task.
const TASK_KEYS: &str = "exec, push, pull, queue, timeout, kill_grace, max_attempts, backoff, \
                         concurrency, content_type, schema, result_content_type, env, env_inherit, \
                         current_dir, limits, user, new_privileges";
/// Those of them that say who runs it.
const RUNNER_KEYS: [&str; 3] = ["exec", "push", "pull"];
/// The keys of a task's `backoff`.
const BACKOFF_KEYS: &str = "initial, factor, max, jitter";
/// The longest wait between two attempts.
const BACKOFF_MAX: Duration = Duration::from_hours(168);

/// Reads the file at `path`, relative to `folder`, into the draft.
///
/// # Errors
///
/// [`ConfigError::Unreadable`]. What is wrong in the file is noted in the draft.
pub(super) fn read(path: &Path, folder: &Path, draft: &mut Draft) -> Result<(), ConfigError> {
    let whole_path = folder.join(path);
    let bytes = std::fs::read(&whole_path).map_err(|source| ConfigError::Unreadable {
        path: path.into(),
        source,
    })?;
    let chunk = bytes.utf8_chunks().next();
    let (text, invalid) = chunk.map_or(("", &[][..]), |it| (it.valid(), it.invalid()));
    let mut reader = Reader {
        path,
        text,
        folder: whole_path.parent().unwrap_or(folder),
        draft,
    };
    if let Some(byte) = invalid.first() {
        let end = text.len()..text.len();
        reader.wrong(&end, format!("the byte 0x{byte:02x} is not UTF-8"));
        return Ok(());
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let mistakes_before = reader.draft.mistakes.len();
        reader.document(document.get_ref());
        // The document is sorted by key; people read it from the top.
        reader.draft.mistakes[mistakes_before..].sort_by_key(|mistake| mistake.place.line());
        return Ok(());
    }
    for error in errors {
        let span = error.span().unwrap_or_default();
        reader.wrong(&span, error.message());
    }
    Ok(())
}

impl Reader<'_> {
    fn document(&mut self, document: &DeTable<'_>) {
        let mut schedules = None;
        for (key, value) in document {
            let (place, key_span) = (self.place(&value.span()), key.span());
            match key.get_ref().as_ref() {
                "listen" => {
                    if let Some(text) = self.text("listen", value, A_STRING) {
                        self.draft.listen(value::listen(text), place);
                    }
                }
                "store" => {
                    if let Some(text) = self.text("store", value, A_STRING) {
                        let store = value::store(text, self.folder);
                        self.draft
                            .take(store, &place, "store", |config, it| config.store = it);
                    }
                }
                "insecure" => {
                    if let Some(insecure) = self.truth("insecure", value) {
                        self.draft.config.insecure = insecure;
                    }
                }
                "strict_queues" => {
                    if let Some(strict) = self.truth("strict_queues", value) {
                        self.draft.config.strict_queues = strict;
                    }
                }
                "allowed_origins" => self.allowed_origins(value),
                "tokens" => self.tokens(value),
                "webhooks" => self.webhooks(value),
                "callbacks" => self.callbacks(value),
                "queues" => self.queues(value),
                "tasks" => self.tasks(value),
                key @ ("shutdown_grace" | "retain") => {
                    if let Some(text) = self.text(key, value, A_DURATION) {
                        self.draft.measure(key, text, &place);
                    }
                }
                key @ ("max_input" | "max_result" | "max_buffered" | "max_bulk") => {
                    if let Some(text) = self.size(key, value) {
                        self.draft.measure(key, &text, &place);
                    }
                }
                // They name tasks.
                "schedules" => schedules = Some(value),
                other => self.unknown(other, &key_span, KEYS),
            }
        }
        if let Some(value) = schedules {
            let tasks = document.get("tasks").map(toml::Spanned::get_ref);
            self.schedules(value, tasks.and_then(|tasks| tasks.as_table()));
        }
    }

    fn allowed_origins(&mut self, value: &Value<'_>) {
        let origins = self.texts("allowed_origins", value, value::origin);
        self.draft.config.allowed_origins = origins;
    }

    fn tasks(&mut self, value: &Value<'_>) {
        let Some(tasks) = self.table("tasks", value) else {
            return;
        };
        for (key, value) in tasks {
            let text = key.get_ref().as_ref();
            let name = match value::name(text) {
                Ok(name) => name,
                Err(refusal) => {
                    self.wrong(&key.span(), format!("task {refusal}"));
                    continue;
                }
            };
            let Some(table) = self.table(&format!("tasks.{name}"), value) else {
                continue;
            };
            if let Some(task) = self.task(&name, &key.span(), table) {
                self.draft.config.tasks.insert(name, task);
            }
        }
    }

    /// Reads a task; none if it has no runner or the wrong ones, which is noted.
    fn task(&mut self, name: &str, at: &Range<usize>, table: &DeTable<'_>) -> Option<TaskConfig> {
        let runner = self.runner(name, at, table)?;
        // The default queue's name is one, so this does not end a task that has a runner.
        let mut task = TaskConfig::new(runner).ok()?;
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "exec" | "push" | "pull" => {}
                key if EXEC_KEYS.contains(&key) => {}
                "queue" => self.put(&mut task.queue, "queue", value, value::name),
                "timeout" => {
                    let range = TIMEOUT_MIN..=TIMEOUT_MAX;
                    self.put_span(&mut task.timeout, "timeout", value, range);
                }
                "kill_grace" => {
                    let range = Duration::ZERO..=SHUTDOWN_GRACE_MAX;
                    self.put_span(&mut task.kill_grace, "kill_grace", value, range);
                }
                "content_type" => {
                    let parse = |text: &str| value::media_type(text).map(Some);
                    self.put(&mut task.content_type, "content_type", value, parse);
                }
                "schema" => task.schema = self.schema(value),
                "max_attempts" => {
                    let range = 1..=u64::from(MAX_ATTEMPTS_MAX);
                    let number = self.whole("max_attempts", value, range);
                    if let Some(number) = number.and_then(|it| u32::try_from(it).ok()) {
                        task.max_attempts = number;
                    }
                }
                "concurrency" => {
                    let range = 1..=CONCURRENCY_MAX as u64;
                    let number = self.whole("concurrency", value, range);
                    if let Some(number) = number.and_then(|it| usize::try_from(it).ok()) {
                        task.concurrency = number;
                    }
                }
                "backoff" => task.backoff = self.backoff(value),
                other => self.unknown(other, &key.span(), TASK_KEYS),
            }
        }
        if let (Some(_), Some(content_type)) = (&task.schema, &task.content_type)
            && !value::is_json(content_type)
            && let Some(value) = table.get("content_type")
        {
            let message = format!(
                "content_type is {content_type:?}, but inputs with a schema are JSON; expected \
                 \"application/json\", or leave it out"
            );
            self.wrong(&value.span(), message);
        }
        Some(task)
    }

    /// Reads the JSON Schema that a path names, relative to the file.
    #[cfg(feature = "schema")]
    fn schema(&mut self, value: &Value<'_>) -> Option<SchemaFile> {
        use anteroom_server::schema::{JsonSchema, SCHEMA_BYTES_MAX};
        use std::io::Read;

        let path = self
            .folder
            .join(self.text("schema", value, "the path of a JSON Schema")?);
        let mut text = String::new();
        // A byte more than a schema may have is enough to refuse it.
        let limit = u64::try_from(SCHEMA_BYTES_MAX).unwrap_or(u64::MAX);
        let read = std::fs::File::open(&path)
            .and_then(|file| file.take(limit.saturating_add(1)).read_to_string(&mut text));
        if let Err(error) = read {
            let message = format!("schema cannot be read from {}: {error}", path.display());
            self.wrong(&value.span(), message);
            return None;
        }
        match JsonSchema::new(&text) {
            Ok(schema) => Some(SchemaFile {
                path,
                validator: Arc::new(schema),
            }),
            Err(refusal) => {
                let message = format!("schema {} {refusal}", path.display());
                self.wrong(&value.span(), message);
                None
            }
        }
    }

    #[cfg(not(feature = "schema"))]
    fn schema(&mut self, value: &Value<'_>) -> Option<SchemaFile> {
        let message = "schema is not supported by this build, which was made without it";
        self.wrong(&value.span(), message);
        None
    }

    /// Reads who runs a task; none if nobody or several do, which is noted.
    fn runner(
        &mut self,
        name: &str,
        at: &Range<usize>,
        table: &DeTable<'_>,
    ) -> Option<RunnerConfig> {
        let mut named = RUNNER_KEYS
            .iter()
            .filter_map(|key| table.get(*key).map(|value| (*key, value)));
        let runner = match (named.next(), named.next()) {
            (Some((key, value)), None) => self.runner_of(key, value, name, table),
            (Some((first, value)), Some((second, _))) => {
                let message =
                    format!("task {name} has both {first} and {second}; expected one of them");
                self.wrong(&value.span(), message);
                return None;
            }
            (None, _) => {
                let message = format!(
                    "task {name} has nobody to run it; expected exec = [\"program\", …], push = \
                     \"http://…\" or pull = true"
                );
                self.wrong(at, message);
                None
            }
        };
        if runner.is_none() {
            // Nobody reads the rest then.
            for (key, _) in table {
                let text = key.get_ref().as_ref();
                if !TASK_KEYS.split(", ").any(|known| known == text) {
                    self.unknown(text, &key.span(), TASK_KEYS);
                }
            }
        }
        runner
    }

    fn runner_of(
        &mut self,
        key: &str,
        value: &Value<'_>,
        name: &str,
        table: &DeTable<'_>,
    ) -> Option<RunnerConfig> {
        let (runner, whose) = match key {
            "exec" => return Some(RunnerConfig::Exec(Box::new(self.exec(value, table)))),
            "push" => {
                let mut url = String::new();
                self.text("push", value, "the URL of a service")?;
                self.put(&mut url, "push", value, value::push_url);
                (RunnerConfig::Push { url }, "task {name} is pushed")
            }
            _ => {
                if !self.truth("pull", value)? {
                    let message = "pull is false; set it to true or leave it out";
                    self.wrong(&value.span(), message);
                }
                (RunnerConfig::Pull, "workers pull task {name}")
            }
        };
        for key in EXEC_KEYS {
            if let Some(value) = table.get(key) {
                let whose = whose.replace("{name}", name);
                self.wrong(&value.span(), format!("{key} is for exec, but {whose}"));
            }
        }
        Some(runner)
    }

    fn backoff(&mut self, value: &Value<'_>) -> RetryPolicy {
        let mut policy = RetryPolicy::default();
        let Some(table) = self.table("backoff", value) else {
            return policy;
        };
        let wait = Duration::ZERO..=BACKOFF_MAX;
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "initial" => {
                    self.put_span(&mut policy.initial, "backoff.initial", value, wait.clone());
                }
                "max" => self.put_span(&mut policy.max, "backoff.max", value, wait.clone()),
                "factor" => {
                    if let Some(factor) = self.number("backoff.factor", value, (1.0, 100.0)) {
                        policy.factor = factor;
                    }
                }
                "jitter" => {
                    if let Some(jitter) = self.number("backoff.jitter", value, (0.0, 1.0)) {
                        policy.jitter = jitter;
                    }
                }
                other => self.unknown(other, &key.span(), BACKOFF_KEYS),
            }
        }
        policy
    }
}
