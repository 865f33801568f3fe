//! Reads what a task of `exec` says of its program.

use super::reader::{A_DURATION, Reader, Value};
use super::value;
use anteroom::core::limits::TIMEOUT_MAX;
use anteroom::run::exec::{ARGUMENT_BYTES_MAX, Limits, User};
use nix::unistd::{Gid, Group, Uid, geteuid};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeTable;

/// The keys of a task that are for `exec` alone.
pub(super) const EXEC_KEYS: [&str; 7] = [
    "result_content_type",
    "env",
    "env_inherit",
    "current_dir",
    "limits",
    "user",
    "new_privileges",
];
/// The keys of a task's `limits`.
const LIMIT_KEYS: &str = "cpu, memory, open_files, processes, file_size, core_dump";
/// What the variables begin with that the server gives a program itself.
const OWN_VARIABLES: &str = "ANTEROOM_";
/// Another that it gives it.
const TRACE_VARIABLE: &str = "TRACEPARENT";
/// The least processor time: the kernel counts it in seconds.
const CPU_MIN: Duration = Duration::from_secs(1);
/// The least bytes of address space: with less, hardly a program gets as far as its beginning.
const MEMORY_BYTES_MIN: usize = 16 << 20;
/// The least descriptors: room for those that every program has, and for what it loads itself from.
const OPEN_FILES_MIN: u64 = 16;
/// More descriptors than a process has anywhere.
const OPEN_FILES_MAX: u64 = 1 << 30;
/// More processes than Linux ever has at once.
const PROCESSES_MAX: u64 = 1 << 22;

/// A program that this machine starts for each attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExecConfig {
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// The media type of what it writes. Default `application/octet-stream`.
    pub(crate) result_content_type: String,
    /// What its environment has besides the job's own variables.
    pub(crate) env: BTreeMap<String, String>,
    /// Which of the server's own variables it gets too, besides `PATH`.
    pub(crate) env_inherit: Vec<String>,
    /// Where it starts. Default: in the folder of the file.
    pub(crate) current_dir: PathBuf,
    /// What it may use.
    pub(crate) limits: Limits,
    /// As whom it runs; none: as the server.
    pub(crate) user: Option<User>,
    /// Whether it may become more than it is. Default false.
    pub(crate) new_privileges: bool,
}

impl ExecConfig {
    /// Returns a program that starts in `current_dir`, with the defaults.
    pub(crate) fn new(command: Vec<String>, current_dir: PathBuf) -> Self {
        Self {
            command,
            result_content_type: "application/octet-stream".to_owned(),
            env: BTreeMap::new(),
            env_inherit: Vec::new(),
            current_dir,
            limits: Limits::default(),
            user: None,
            new_privileges: false,
        }
    }
}

impl Reader<'_> {
    pub(super) fn exec(&mut self, exec: &Value<'_>, table: &DeTable<'_>) -> ExecConfig {
        let command = self.texts("exec", exec, argument);
        let list = exec.get_ref().as_array();
        let is_empty_list = list.is_some_and(|list| list.is_empty());
        if is_empty_list || command.first().is_some_and(String::is_empty) {
            self.wrong(
                &exec.span(),
                "exec names no program; expected [\"program\", \"argument\", …]",
            );
        }
        let mut config = ExecConfig::new(command, self.folder.into());
        for (key, value) in table {
            match key.get_ref().as_ref() {
                key @ "result_content_type" => {
                    self.put(
                        &mut config.result_content_type,
                        key,
                        value,
                        value::media_type,
                    );
                }
                "env" => config.env = self.env(value),
                key @ "env_inherit" => config.env_inherit = self.texts(key, value, variable_name),
                key @ "current_dir" => {
                    let folder = self.folder;
                    let path = |text: &str| Ok(folder.join(argument(text)?));
                    self.put(&mut config.current_dir, key, value, path);
                }
                "limits" => config.limits = self.limits(value),
                key @ "user" => {
                    let is_root = geteuid().is_root();
                    let parse = |text: &str| user(text, is_root).map(Some);
                    self.put(&mut config.user, key, value, parse);
                }
                key @ "new_privileges" => {
                    config.new_privileges = self.truth(key, value).unwrap_or_default();
                }
                _ => {}
            }
        }
        self.processes_of_root(&config, table);
        config
    }

    /// Refuses a limit that would not hold.
    fn processes_of_root(&mut self, config: &ExecConfig, table: &DeTable<'_>) {
        let uid = config.user.map(|user| Uid::from_raw(user.uid));
        // A user that is wrong is told of as such.
        let is_root =
            uid.unwrap_or_else(geteuid).is_root() && (uid.is_some() || !table.contains_key("user"));
        if is_root
            && config.limits.processes.is_some()
            && let Some(limits) = table.get("limits")
        {
            self.wrong(
                &limits.span(),
                "limits.processes does not hold for root, as whom the program would run; expected \
                 user = \"NAME\" beside it",
            );
        }
    }

    fn env(&mut self, value: &Value<'_>) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        let Some(table) = self.table("env", value) else {
            return env;
        };
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            if let Err(refusal) = variable_name(name) {
                self.wrong(&key.span(), format!("env {refusal}"));
            } else {
                let mut content = String::new();
                let most = ARGUMENT_BYTES_MAX.saturating_sub(name.len() + "=".len());
                let parse = |text: &str| no_longer_than(most, text);
                self.put(&mut content, &format!("env.{name}"), value, parse);
                env.insert(name.to_owned(), content);
            }
        }
        env
    }

    fn limits(&mut self, value: &Value<'_>) -> Limits {
        let mut limits = Limits::default();
        let Some(table) = self.table("limits", value) else {
            return limits;
        };
        for (key, value) in table {
            let name = format!("limits.{}", key.get_ref());
            match key.get_ref().as_ref() {
                "cpu" => {
                    if let Some(text) = self.text(&name, value, A_DURATION) {
                        match value::duration_in(text, CPU_MIN..=TIMEOUT_MAX) {
                            Ok(span) => limits.cpu = Some(span),
                            Err(refusal) => self.wrong(&value.span(), format!("{name} {refusal}")),
                        }
                    }
                }
                "memory" => {
                    limits.memory = self.bytes(&name, value, MEMORY_BYTES_MIN..=usize::MAX);
                }
                "file_size" => limits.file_size = self.bytes(&name, value, 0..=usize::MAX),
                "core_dump" => {
                    let bytes = self.bytes(&name, value, 0..=usize::MAX);
                    limits.core_dump = bytes.unwrap_or_default();
                }
                "open_files" => {
                    limits.open_files = self.whole(&name, value, OPEN_FILES_MIN..=OPEN_FILES_MAX);
                }
                "processes" => limits.processes = self.whole(&name, value, 1..=PROCESSES_MAX),
                other => self.unknown(other, &key.span(), LIMIT_KEYS),
            }
        }
        limits
    }

    fn bytes(&mut self, key: &str, value: &Value<'_>, range: RangeInclusive<usize>) -> Option<u64> {
        let text = self.size(key, value)?;
        match value::bytes(&text, range) {
            Ok(bytes) => Some(bytes as u64),
            Err(refusal) => {
                self.wrong(&value.span(), format!("{key} {refusal}"));
                None
            }
        }
    }
}

/// Returns the user that `text` names, by names or numbers, if the server may become him.
fn user(text: &str, is_root: bool) -> Result<User, String> {
    let expected = "expected \"NAME\", \"NAME:GROUP\" or \"UID:GID\"";
    let unknown =
        |what: &str| format!("is {text:?}, {what} this machine does not know; {expected}");
    let failed = |error| format!("is {text:?}, which cannot be looked up: {error}");
    let (name, group) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (text, None),
    };
    let number = id(name);
    let known = match number {
        Some(uid) => nix::unistd::User::from_uid(Uid::from_raw(uid)),
        None => nix::unistd::User::from_name(name),
    };
    let known = known.map_err(failed)?;
    let uid = number.or(known.as_ref().map(|user| user.uid.as_raw()));
    let uid = uid.ok_or_else(|| unknown("a user whom"))?;
    let gid = match group {
        Some(group) => match id(group) {
            Some(gid) => Some(Gid::from_raw(gid)),
            None => Group::from_name(group).map_err(failed)?.map(|it| it.gid),
        }
        .ok_or_else(|| unknown("with a group that"))?,
        None => known.ok_or_else(|| unknown("a user whose group"))?.gid,
    };
    if is_root {
        let gid = gid.as_raw();
        Ok(User { uid, gid })
    } else {
        Err(format!(
            "is {text:?}, but only a server that is started by root can run programs as another user"
        ))
    }
}

/// Reads the number of a user or group; the greatest stands for none.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

/// Refuses what cannot be handed to a program.
fn argument(text: &str) -> Result<String, String> {
    no_longer_than(ARGUMENT_BYTES_MAX, text)
}

fn no_longer_than(most: usize, text: &str) -> Result<String, String> {
    if let Some(at) = text.find('\0') {
        return Err(format!(
            "has a NUL at byte {at}; a program cannot be given one"
        ));
    }
    if text.len() > most {
        let bytes = text.len();
        return Err(format!("is {bytes} bytes; a program can be given {most}"));
    }
    Ok(text.into())
}

fn variable_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(['=', '\0']) {
        return Err(format!("{text:?} is not the name of a variable"));
    }
    if text.starts_with(OWN_VARIABLES) {
        return Err(format!(
            "{text:?} begins with {OWN_VARIABLES:?}, which is kept for what the server says itself"
        ));
    }
    if text == TRACE_VARIABLE {
        return Err(format!("{text:?} is kept for what the server says itself"));
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::super::tests::load_text;
    use super::*;
    use crate::config::RunnerConfig;
    use anteroom::core::Name;

    /// Reads a task with these lines, and returns its program.
    fn load(lines: &str) -> Result<ExecConfig, String> {
        let text = format!("[tasks.a]\nexec = [\"a\"]\n{lines}");
        let loaded = load_text(&text).map_err(|error| error.to_string())?;
        let task = &loaded.config.tasks[&Name::new("a").unwrap()];
        let RunnerConfig::Exec(exec) = &task.runner else {
            panic!("{:?}", task.runner);
        };
        Ok((**exec).clone())
    }

    #[test]
    fn limits_are_read() {
        let limits = "limits = { cpu = \"1m\", memory = \"1GiB\", open_files = 256, \
                      file_size = 0, core_dump = \"1MiB\" }";
        let expected = Limits {
            cpu: Some(Duration::from_mins(1)),
            memory: Some(1 << 30),
            open_files: Some(256),
            processes: None,
            file_size: Some(0),
            core_dump: 1 << 20,
        };
        assert_eq!(load(limits).unwrap().limits, expected);
        assert_eq!(load("limits = {}").unwrap().limits, Limits::default());
    }

    #[test]
    fn a_limit_of_processes_needs_a_user_that_it_holds_for() {
        let limit = "limits = { processes = 64 }";
        if geteuid().is_root() {
            for user in ["", "user = \"root\"\n", "user = \"0:7\"\n"] {
                let error = load(&format!("{user}{limit}")).unwrap_err();
                assert!(
                    error.contains("limits.processes does not hold for root"),
                    "{error}"
                );
            }
            let error = load(&format!("user = \"no-such-user\"\n{limit}")).unwrap_err();
            assert_eq!(error.lines().count(), 1, "{error}");
            let exec = load(&format!("user = \"65534:7\"\n{limit}")).unwrap();
            assert_eq!(exec.limits.processes, Some(64));
        } else {
            assert_eq!(load(limit).unwrap().limits.processes, Some(64));
        }
    }

    #[test]
    fn a_user_is_named_or_numbered() {
        for (text, expected) in [
            ("root", Ok((0, 0))),
            ("root:7", Ok((0, 7))),
            ("0", Ok((0, 0))),
            ("7:root", Ok((7, 0))),
            ("3999999999:7", Ok((3_999_999_999, 7))),
            (
                "3999999999",
                Err("a user whose group this machine does not know"),
            ),
            (
                "no-such-user",
                Err("a user whom this machine does not know"),
            ),
            (
                "root:no-such-group",
                Err("with a group that this machine does not know"),
            ),
            ("", Err("a user whom this machine does not know")),
            (":7", Err("a user whom this machine does not know")),
            ("7:", Err("with a group that this machine does not know")),
            // These would stay who they are.
            (
                "4294967295:7",
                Err("a user whom this machine does not know"),
            ),
            (
                "7:4294967295",
                Err("with a group that this machine does not know"),
            ),
            ("-1:7", Err("a user whom this machine does not know")),
        ] {
            match (user(text, true), expected) {
                (Ok(user), expected) => assert_eq!(Ok((user.uid, user.gid)), expected, "{text}"),
                (Err(refusal), Err(part)) => assert!(refusal.contains(part), "{refusal}"),
                (Err(refusal), Ok(_)) => panic!("{text} {refusal}"),
            }
        }
        let refusal = user("root", false).unwrap_err();
        let expected = "is \"root\", but only a server that is started by root can run programs";
        assert!(refusal.starts_with(expected), "{refusal}");
    }
}
