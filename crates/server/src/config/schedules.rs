//! Reads `[schedules.NAME]`.

use super::reader::{A_DURATION, A_STRING, Reader, Value};
use super::{Config, TaskConfig, value};
use anteroom::core::limits::{
    AHEAD_MAX, DEFAULT_QUEUE, MAX_ATTEMPTS_MAX, PRIORITY_MAX, RETAIN_MAX, SCHEDULE_INPUT_BYTES_MAX,
    SCHEDULES_MAX, TAG_VALUE_BYTES_MAX, TAGS_MAX, TIMEOUT_MAX, TIMEOUT_MIN,
};
use anteroom::core::{Cron, Label, Name, Payload, Priority, Zone};
use anteroom::{CallbackUrl, CatchUp, Schedule, StartAt, Submission};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;
use toml::de::DeTable;

/// The keys of a schedule.
const SCHEDULE_KEYS: &str = "task, cron, timezone, input, input_base64, content_type, queue, group, \
                             priority, delay, max_attempts, timeout, retain, unique_key, \
                             callback_url, tags, paused, catch_up";

/// What is read of a schedule before it is known to be one.
struct Parts {
    task: Option<Name>,
    cron: Option<String>,
    zone: Option<Zone>,
    input: Option<Vec<u8>>,
    content_type: Option<String>,
    paused: bool,
    catch_up: CatchUp,
    submission: Submission,
}

impl Reader<'_> {
    /// Reads the schedules of a document whose tasks were read.
    pub(super) fn schedules(&mut self, value: &Value<'_>, tasks: Option<&DeTable<'_>>) {
        let Some(schedules) = self.table("schedules", value) else {
            return;
        };
        if schedules.len() > SCHEDULES_MAX {
            let count = schedules.len();
            let message = format!("there are {count} schedules; the limit is {SCHEDULES_MAX}");
            self.wrong(&value.span(), message);
        }
        for (key, value) in schedules {
            let text = key.get_ref().as_ref();
            let name = match value::name(text) {
                Ok(name) => name,
                Err(refusal) => {
                    self.wrong(&key.span(), format!("schedule {refusal}"));
                    continue;
                }
            };
            let Some(table) = self.table(&format!("schedules.{name}"), value) else {
                continue;
            };
            if let Some(schedule) = self.schedule(&name, &key.span(), table, tasks) {
                self.draft.config.schedules.insert(name, schedule);
            }
        }
    }

    /// Reads a schedule; none if something is wrong with it, which is noted.
    fn schedule(
        &mut self,
        name: &Name,
        at: &Range<usize>,
        table: &DeTable<'_>,
        tasks: Option<&DeTable<'_>>,
    ) -> Option<Schedule> {
        let mistakes_before = self.draft.mistakes.len();
        let mut parts = Parts {
            task: None,
            cron: None,
            zone: Some(Zone::utc()),
            input: None,
            content_type: None,
            paused: false,
            catch_up: CatchUp::None,
            submission: Submission::new(name.clone(), nothing()),
        };
        for (key, value) in table {
            let text = key.get_ref().as_ref();
            if !self.schedule_key(text, value, &mut parts) {
                self.unknown(text, &key.span(), SCHEDULE_KEYS);
            }
        }
        for (key, example) in [("task", "\"wordcount\""), ("cron", "\"0 3 * * *\"")] {
            if !table.contains_key(key) {
                let message = format!("schedule {name} has no {key}; expected {key} = {example}");
                self.wrong(at, message);
            }
        }
        if let (Some(_), Some(value)) = (table.get("input"), table.get("input_base64")) {
            let message = format!("schedule {name} has both input and input_base64; expected one");
            self.wrong(&value.span(), message);
        }
        if let (Some(task), Some(value)) = (&parts.task, table.get("task"))
            && !tasks.is_some_and(|tasks| tasks.contains_key(&**task))
        {
            self.wrong(&value.span(), format!("there is no task {task}"));
        }
        let cron = match (&parts.cron, parts.zone.take(), table.get("cron")) {
            (Some(text), Some(zone), Some(value)) => Cron::new(text, zone)
                .map_err(|error| self.wrong(&value.span(), format!("cron {error}")))
                .ok(),
            _ => None,
        };
        self.check_input(&mut parts, table, at);
        if self.draft.mistakes.len() > mistakes_before {
            return None;
        }
        Some(Schedule {
            cron: cron?,
            submission: Submission {
                task: parts.task?,
                ..parts.submission
            },
            paused: parts.paused,
            catch_up: parts.catch_up,
        })
    }

    /// Reads one key; false if a schedule has none of the name.
    fn schedule_key(&mut self, key: &str, value: &Value<'_>, parts: &mut Parts) -> bool {
        let submission = &mut parts.submission;
        match key {
            "task" => self.put(&mut parts.task, key, value, |it| value::name(it).map(Some)),
            "cron" => parts.cron = self.text(key, value, A_STRING).map(str::to_owned),
            "timezone" => {
                // Of one that is wrong nothing more is said.
                parts.zone = None;
                self.put(&mut parts.zone, key, value, said(Zone::new));
            }
            "input" => {
                let text = self.text(key, value, "a string, with JSON as one too");
                parts.input = text.map(|text| text.as_bytes().to_vec());
            }
            "input_base64" => {
                let decode = |text: &str| BASE64_STANDARD.decode(text);
                self.put(&mut parts.input, key, value, said(decode));
            }
            "content_type" => self.put(&mut parts.content_type, key, value, |it| {
                value::media_type(it).map(Some)
            }),
            "queue" => {
                self.put(&mut submission.queue, key, value, |it| {
                    value::name(it).map(Some)
                });
            }
            "group" => self.put(&mut submission.group, key, value, said(Label::new)),
            "unique_key" => self.put(&mut submission.unique_key, key, value, said(Label::new)),
            "callback_url" => {
                self.put(
                    &mut submission.callback_url,
                    key,
                    value,
                    said(CallbackUrl::new),
                );
            }
            "priority" => {
                let number = self.whole(key, value, 0..=u64::from(PRIORITY_MAX));
                let number = number.and_then(|it| i64::try_from(it).ok());
                submission.priority = number.and_then(|it| Priority::new(it).ok());
            }
            "max_attempts" => {
                let number = self.whole(key, value, 1..=u64::from(MAX_ATTEMPTS_MAX));
                submission.max_attempts = number.and_then(|it| u32::try_from(it).ok());
            }
            "delay" => {
                let delay = self.some_span(key, value, Duration::ZERO..=AHEAD_MAX);
                submission.start = delay.map(StartAt::In);
            }
            "timeout" => {
                submission.timeout = self.some_span(key, value, TIMEOUT_MIN..=TIMEOUT_MAX);
            }
            "retain" => {
                submission.retain = self.some_span(key, value, Duration::ZERO..=RETAIN_MAX);
            }
            "tags" => submission.tags = self.tags(value),
            "paused" => parts.paused = self.truth(key, value).unwrap_or_default(),
            "catch_up" => self.put(&mut parts.catch_up, key, value, |text| {
                let named = CatchUp::named(text);
                named.ok_or_else(|| format!("is {text:?}; expected \"none\" or \"last\""))
            }),
            _ => return false,
        }
        true
    }

    fn some_span(
        &mut self,
        key: &str,
        value: &Value<'_>,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.text(key, value, A_DURATION)?;
        let mut span = None;
        self.put(&mut span, key, value, |text| {
            value::duration_in(text, range.clone()).map(Some)
        });
        span
    }

    fn tags(&mut self, value: &Value<'_>) -> BTreeMap<Name, String> {
        let mut tags = BTreeMap::new();
        let Some(table) = self.table("tags", value) else {
            return tags;
        };
        if table.len() > TAGS_MAX {
            let message = format!("tags are {}; the limit is {TAGS_MAX}", table.len());
            self.wrong(&value.span(), message);
        }
        for (key, value) in table {
            let text = key.get_ref().as_ref();
            let name = match value::name(text) {
                Ok(name) => name,
                Err(refusal) => {
                    self.wrong(&key.span(), format!("tag {refusal}"));
                    continue;
                }
            };
            let mut tag = String::new();
            self.put(&mut tag, &format!("tags.{name}"), value, |text| {
                let bytes = text.len();
                if bytes > TAG_VALUE_BYTES_MAX {
                    return Err(format!(
                        "is {bytes} bytes; the limit is {TAG_VALUE_BYTES_MAX}"
                    ));
                }
                Ok(text.to_owned())
            });
            tags.insert(name, tag);
        }
        tags
    }

    /// Puts the input together, and checks it as the task would.
    fn check_input(&mut self, parts: &mut Parts, table: &DeTable<'_>, at: &Range<usize>) {
        let given = ["input", "input_base64"].into_iter();
        let mut given = given.filter_map(|key| Some((key, table.get(key)?.span())));
        let (key, place) = given.next().unwrap_or(("input", at.clone()));
        let bytes = parts.input.take().unwrap_or_default();
        if bytes.len() > SCHEDULE_INPUT_BYTES_MAX {
            let is = bytes.len();
            let message = format!("{key} is {is} bytes; the limit is {SCHEDULE_INPUT_BYTES_MAX}");
            self.wrong(&place, message);
        }
        let tasks = &self.draft.config.tasks;
        let task = parts
            .task
            .as_ref()
            .and_then(|task| tasks.get(task))
            .cloned();
        let content_type = parts.content_type.take();
        let content_type = content_type.unwrap_or_else(|| default_type(key, task.as_ref()));
        if value::is_json(&content_type)
            && let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes)
        {
            self.wrong(
                &place,
                format!("{key} is {content_type} and no JSON: {error}"),
            );
        } else if let Some(TaskConfig {
            content_type: takes,
            schema,
            ..
        }) = task
        {
            let essence = |text: &str| text.split(';').next().unwrap_or(text).trim().to_lowercase();
            let schema_takes = schema.is_some().then(|| "application/json".to_owned());
            if let Some(takes) = takes.or(schema_takes)
                && essence(&takes) != essence(&content_type)
            {
                let message = format!("content_type is {content_type:?}; the task takes {takes:?}");
                let place = table.get("content_type").map_or(place, toml::Spanned::span);
                self.wrong(&place, message);
            } else if let Some(schema) = schema {
                for wrong in schema.validator.check(&bytes) {
                    let message = format!("{key}{}: {}", wrong.pointer, wrong.detail);
                    self.wrong(&place, message);
                }
            }
        }
        parts.submission.input = Payload {
            content_type: content_type.into(),
            bytes: bytes.into(),
        };
    }
}

/// Returns what only the whole can show to be wrong with schedules.
pub(super) fn mistakes_of_the_whole(config: &Config) -> Vec<String> {
    let mut mistakes = Vec::new();
    let of_tasks = config.tasks.values().map(|task| &task.queue);
    let named: BTreeSet<&str> = (of_tasks.chain(config.queues.keys()))
        .map(|queue| &**queue)
        .chain([DEFAULT_QUEUE])
        .collect();
    for (name, schedule) in &config.schedules {
        let Submission { input, queue, .. } = &schedule.submission;
        let (bytes, limit) = (input.bytes.len(), config.max_input);
        if bytes > limit {
            mistakes.push(format!(
                "schedule {name} has an input of {bytes} bytes; the limit is max_input, {limit} bytes"
            ));
        }
        if let Some(queue) = queue
            && config.strict_queues
            && !named.contains(&**queue)
        {
            mistakes.push(format!(
                "schedule {name} names the queue {queue}, which is none, and strict_queues is set"
            ));
        }
    }
    mistakes
}

fn nothing() -> Payload {
    Payload {
        content_type: "".into(),
        bytes: Vec::new().into(),
    }
}

/// Returns the type of an input that names none: what its task takes, or as what it was written.
fn default_type(key: &str, task: Option<&TaskConfig>) -> String {
    match task {
        Some(TaskConfig {
            content_type: Some(takes),
            ..
        }) => takes.clone(),
        Some(TaskConfig {
            schema: Some(_), ..
        }) => "application/json".to_owned(),
        _ if key == "input" => "text/plain; charset=utf-8".to_owned(),
        _ => "application/octet-stream".to_owned(),
    }
}

/// Makes a reader of texts into one whose refusals are texts too.
fn said<T, E: std::fmt::Display>(
    read: impl Fn(&str) -> Result<T, E>,
) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |text| read(text).map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::tests::load_text;
    use super::*;

    const TASKS: &str = "[tasks.count]\nexec = [\"wc\"]\ncontent_type = \"text/plain\"\n\
                         [tasks.any]\npull = true\n";

    fn schedule(lines: &str) -> Schedule {
        let text = format!("{TASKS}[schedules.s]\n{lines}");
        let loaded = load_text(&text).unwrap_or_else(|error| panic!("{lines}: {error}"));
        loaded.config.schedules[&Name::new("s").unwrap()].clone()
    }

    #[test]
    fn every_key_is_read() {
        let read = schedule(
            r#"
            task = "any"
            cron = "*/5 * * * *"
            timezone = "Europe/Berlin"
            input_base64 = "YSBiIGM="
            content_type = "text/csv"
            queue = "q"
            group = "g"
            priority = 2
            delay = "90s"
            max_attempts = 3
            timeout = "1m"
            retain = "2h"
            unique_key = "u"
            callback_url = "http://a/"
            tags = { who = "ann" }
            paused = true
            catch_up = "last"
            "#,
        );
        let input = Payload {
            content_type: "text/csv".into(),
            bytes: "a b c".into(),
        };
        let name = |text| Name::new(text).unwrap();
        let expected = Schedule {
            cron: Cron::new("*/5 * * * *", Zone::new("Europe/Berlin").unwrap()).unwrap(),
            submission: Submission {
                queue: Some(name("q")),
                group: Label::new("g").ok(),
                priority: Priority::new(2).ok(),
                start: Some(StartAt::In(Duration::from_secs(90))),
                max_attempts: Some(3),
                timeout: Some(Duration::from_mins(1)),
                retain: Some(Duration::from_hours(2)),
                unique_key: Label::new("u").ok(),
                callback_url: CallbackUrl::new("http://a/").ok(),
                tags: BTreeMap::from([(name("who"), "ann".to_owned())]),
                ..Submission::new(name("any"), input)
            },
            paused: true,
            catch_up: CatchUp::Last,
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn an_input_is_of_the_type_that_its_task_takes() {
        for (lines, expected) in [
            ("task = \"count\"\ninput = \"a b c\"", "text/plain"),
            (
                "task = \"any\"\ninput = \"a b c\"",
                "text/plain; charset=utf-8",
            ),
            (
                "task = \"any\"\ninput_base64 = \"YQ==\"",
                "application/octet-stream",
            ),
            (
                "task = \"any\"\ninput = \"[1]\"\ncontent_type = \"application/json\"",
                "application/json",
            ),
        ] {
            let read = schedule(&format!("cron = \"0 3 * * *\"\n{lines}"));
            assert_eq!(&*read.submission.input.content_type, expected, "{lines}");
        }
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (lines, expected) in [
            (
                "task = \"any\"",
                "6:12: schedule s has no cron; expected cron = \"0 3 * * *\"",
            ),
            (
                "cron = \"0 3 * * *\"",
                "6:12: schedule s has no task; expected task = \"wordcount\"",
            ),
            (
                "cron = \"0 3 * * *\"\ntask = \"nobody\"",
                "8:8: there is no task nobody",
            ),
            (
                "task = \"any\"\ncron = \"61 * * * *\"",
                "8:8: cron has \"61\" as its minute: 61 is not from",
            ),
            (
                "task = \"any\"\ncron = \"0 0 31 2 *\"",
                "8:8: cron never fires",
            ),
            (
                "task = \"any\"\ncron = 3",
                "8:8: cron is an integer; expected a string",
            ),
            (
                "task = \"any\"\ncron = \"* * * * *\"\ntimezone = \"Mars\"",
                "9:12: timezone is \"Mars\", which is no",
            ),
            (
                "task = \"any\"\ncron = \"* * * * *\"\ninput = \"a\"\ninput_base64 = \"YQ==\"",
                "10:16: schedule s has both input and input_base64; expected one",
            ),
            (
                "task = \"any\"\ncron = \"* * * * *\"\ninput = { a = 1 }",
                "9:9: input is a table; expected a string",
            ),
            (
                "task = \"any\"\ncron = \"* * * * *\"\ninput_base64 = \"?\"",
                "9:16: input_base64 ",
            ),
            (
                "task = \"any\"\ncron = \"* * * * *\"\ninput = \"{\"\ncontent_type = \"application/json\"",
                "9:9: input is application/json and no JSON: ",
            ),
            (
                "task = \"count\"\ncron = \"* * * * *\"\ncontent_type = \"text/csv\"",
                "9:16: content_type is \"text/csv\"; the task takes \"text/plain\"",
            ),
            (
                "task = \"any\"\ncron = \"* * * * *\"\npriority = 10",
                "9:12: priority is 10; ",
            ),
            (
                "task = \"any\"\ncron = \"* * * * *\"\ncatch_up = \"all\"",
                "9:12: catch_up is \"all\"; expected",
            ),
            (
                "task = \"any\"\ncron = \"* * * * *\"\ntags = { A = \"\" }",
                "9:10: tag ",
            ),
            (
                "task = \"any\"\ncron = \"* * * * *\"\nqueue = \"anteroom.q\"",
                "9:9: queue ",
            ),
            (
                "task = \"any\"\ncron = \"* * * * *\"\nrun_at = \"2027-01-01T00:00:00Z\"",
                "9:1: unknown key \"run_at\"; expected one of task, cron, timezone",
            ),
        ] {
            let text = format!("{TASKS}[schedules.s]\n{lines}");
            let error = load_text(&text).unwrap_err().to_string();
            let expected = format!("anteroom.toml:{expected}");
            assert!(error.contains(&expected), "{lines}\n{error}");
            assert_eq!(error.lines().count(), 1, "{lines}\n{error}");
        }
        let reserved = format!("{TASKS}[schedules.\"anteroom.s\"]\n");
        let error = load_text(&reserved).unwrap_err().to_string();
        assert!(
            error.contains("6:12: schedule \"anteroom.s\" begins"),
            "{error}"
        );
    }

    #[test]
    fn what_the_whole_does_not_take_is_told() {
        let one = "[schedules.s]\ntask = \"any\"\ncron = \"* * * * *\"\n";
        for (text, expected) in [
            (
                format!("max_input = 2\n{TASKS}{one}input = \"abc\""),
                "schedule s has an input of 3 bytes; the limit is max_input, 2 bytes",
            ),
            (
                format!("strict_queues = true\n{TASKS}{one}queue = \"q\""),
                "schedule s names the queue q, which is none, and strict_queues is set",
            ),
        ] {
            let error = load_text(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}\n{error}");
        }
    }
}
