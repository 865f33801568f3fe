//! What a `PUT` of a schedule asks for: a submit, and when it is made.

use super::super::App;
use super::super::body;
use super::super::envelope::{self, Bounds, InputMember, Mistakes, Place};
use super::super::limits::{MISTAKES_MAX, SETTINGS_BYTES_MAX};
use super::super::members::{Members, no};
use super::super::problem::Problem;
use anteroom::core::limits::SCHEDULE_INPUT_BYTES_MAX;
use anteroom::core::{Cron, Zone};
use anteroom::{CatchUp, Schedule};
use serde_json::value::RawValue;

/// The members that a schedule takes.
const TAKES: &str = "task, cron, timezone, input, input_base64, content_type, queue, group, \
                     priority, delay, max_attempts, timeout, retain, unique_key, callback_url, tags, \
                     paused, catch_up";

/// Members of an envelope that say something of a single submit.
const OF_ONE_SUBMIT: [(&str, &str); 3] = [
    (
        "run_at",
        "has no place in a schedule: cron says when; delay starts each job later",
    ),
    (
        "start_before",
        "has no place in a schedule: it is one instant, and a schedule has many",
    ),
    (
        "idempotency_key",
        "has no place in a schedule: each firing has its own, of its name and time",
    ),
];

fn input_bytes_max(app: &App) -> usize {
    let limit = app.engine.options().input_bytes_max;
    limit.min(SCHEDULE_INPUT_BYTES_MAX)
}

/// Returns how many bytes a body may have: an input in base64, and all the rest.
pub(super) fn bytes_max(app: &App) -> usize {
    input_bytes_max(app).div_ceil(3) * 4 + SETTINGS_BYTES_MAX
}

/// Reads a body, and says everything that is wrong with it.
pub(super) fn read(app: &App, bytes: &[u8]) -> Result<(Schedule, InputMember), Problem> {
    body::check_json(bytes)?;
    let bounds = Bounds {
        now: app.engine.clock().now(),
        input_bytes_max: input_bytes_max(app),
        key_scope: "".into(),
    };
    let mut mistakes = Mistakes::default();
    let schedule = read_members(bytes, &bounds, &mut mistakes);
    match schedule {
        Some(schedule) if mistakes.is_empty() => Ok(schedule),
        Some(_) | None => Err(mistakes.into_problem(false)),
    }
}

fn read_members(
    bytes: &[u8],
    bounds: &Bounds,
    mistakes: &mut Mistakes,
) -> Option<(Schedule, InputMember)> {
    let whole = Place::whole();
    let Ok(members) = serde_json::from_slice::<Members>(bytes) else {
        mistakes.add(&whole, "is no object with a task and a cron expression");
        return None;
    };
    let (mut cron, mut zone) = (None, Some(Zone::utc()));
    let (mut paused, mut catch_up) = (false, CatchUp::None);
    let mut of_envelope: Vec<(&str, &RawValue)> = Vec::new();
    for (name, value) in members.each().take(MISTAKES_MAX + TAKES.len()) {
        let read = value.and_then(|value| {
            match name {
                "cron" => cron = given(value, text)?,
                "timezone" => {
                    // What is no zone is told of here, and not again with the expression.
                    zone = None;
                    let name = given(value, text)?.unwrap_or_else(|| "UTC".to_owned());
                    zone = Some(Zone::new(&name).map_err(|error| error.to_string())?);
                }
                "paused" => paused = given(value, truth)?.unwrap_or_default(),
                "catch_up" => catch_up = given(value, word)?.unwrap_or_default(),
                _ => {
                    let misplaced = OF_ONE_SUBMIT.iter().find(|(member, _)| *member == name);
                    if let Some((_, why)) = misplaced {
                        // Null is as if it were not there, as in an envelope.
                        return given(value, |_| Err((*why).to_owned())).map(|_: Option<()>| ());
                    }
                    if !TAKES.split(", ").any(|known| known == name) {
                        return Err(format!("is unknown; a schedule takes {TAKES}"));
                    }
                    of_envelope.extend(serde_json::from_str(value).ok().map(|it| (name, it)));
                }
            }
            Ok(())
        });
        if let Err(detail) = read {
            mistakes.add(&whole.of(&envelope::cut(name)), detail);
        }
    }
    let cron = read_cron(cron, zone, mistakes);
    let submission = envelope::read_submission(&of_envelope, bounds, mistakes);
    let ((submission, input), cron) = submission.zip(cron)?;
    let schedule = Schedule {
        cron,
        submission,
        paused,
        catch_up,
    };
    Some((schedule, input))
}

fn read_cron(text: Option<String>, zone: Option<Zone>, mistakes: &mut Mistakes) -> Option<Cron> {
    let place = Place::whole().of("cron");
    let Some(text) = text else {
        if !mistakes.has(&place) {
            mistakes.add(&place, "is missing; it says when, such as \"0 3 * * *\"");
        }
        return None;
    };
    let is_known = zone.is_some();
    match Cron::new(&text, zone.unwrap_or_else(Zone::utc)) {
        Ok(cron) => Some(cron).filter(|_| is_known),
        Err(error) => {
            mistakes.add(&place, error.to_string());
            None
        }
    }
}

/// Reads a value that is not null.
fn given<T>(
    value: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if value == "null" {
        return Ok(None);
    }
    read(value).map(Some)
}

fn text(value: &str) -> Result<String, String> {
    serde_json::from_str(value).map_err(|_| no("string", value))
}

fn truth(value: &str) -> Result<bool, String> {
    serde_json::from_str(value).map_err(|_| no("true or false", value))
}

fn word(value: &str) -> Result<CatchUp, String> {
    let word = text(value).unwrap_or_default();
    CatchUp::named(&word).ok_or_else(|| no("\"none\" or \"last\"", value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom::StartAt;
    use anteroom::core::Timestamp;
    use std::time::Duration;

    fn read_text(body: &str) -> Result<(Schedule, InputMember), Vec<(String, String)>> {
        let bounds = Bounds {
            now: Timestamp::from_millis(1_763_812_800_000),
            input_bytes_max: 100,
            key_scope: "".into(),
        };
        let mut mistakes = Mistakes::default();
        let read = read_members(body.as_bytes(), &bounds, &mut mistakes);
        let told = mistakes.kept().iter();
        let told: Vec<_> = told
            .map(|it| (it.pointer.clone(), it.detail.clone()))
            .collect();
        read.filter(|_| told.is_empty()).ok_or(told)
    }

    #[test]
    fn a_schedule_is_a_submit_with_its_times() {
        let body = r#"{"task": "t", "cron": "0 3 * * *", "timezone": "europe/berlin",
            "input": {"a": [1.50, null]}, "queue": "q", "group": "g", "priority": 0,
            "delay": "90s", "max_attempts": 2, "timeout": "1m", "retain": "1h",
            "unique_key": "u", "callback_url": "http://a/", "tags": {"who": "ann"},
            "paused": true, "catch_up": "last"}"#;
        let (schedule, input) = read_text(body).unwrap();
        assert_eq!(input, InputMember::Json);
        assert_eq!(schedule.cron.text(), "0 3 * * *");
        assert_eq!(schedule.cron.zone().name(), "Europe/Berlin");
        assert!(schedule.paused && schedule.catch_up == CatchUp::Last);
        let submission = &schedule.submission;
        assert_eq!(&submission.input.bytes[..], br#"{"a": [1.50, null]}"#);
        assert_eq!(submission.start, Some(StartAt::In(Duration::from_secs(90))));
        assert_eq!(submission.tags.len(), 1);
        let nothing = r#"{"task": "t", "cron": "* * * * *", "timezone": null, "run_at": null,
            "paused": null, "catch_up": null, "input_base64": null, "tags": null}"#;
        let (schedule, input) = read_text(nothing).unwrap();
        assert_eq!(input, InputMember::Base64);
        assert_eq!(schedule.cron.zone().name(), "UTC");
        assert!(!schedule.paused && schedule.catch_up == CatchUp::None);
        assert!(schedule.submission.input.bytes.is_empty());
    }

    #[test]
    fn everything_wrong_is_pointed_at_at_once() {
        for (body, expected) in [
            ("[]", &[("#", "is no object")][..]),
            ("{}", &[("#/cron", "is missing"), ("#/task", "is missing")]),
            (
                r#"{"task": "t", "cron": "61 * * * *", "timezone": "Mars"}"#,
                &[
                    ("#/timezone", "is \"Mars\", which is no time zone"),
                    ("#/cron", "has \"61\" as its minute: 61 is not from 0 to 59"),
                ],
            ),
            (
                r#"{"task": "t", "cron": 5, "timezone": 5, "paused": "yes", "catch_up": "all"}"#,
                &[
                    ("#/cron", "is 5, which is no string"),
                    ("#/timezone", "is 5, which is no string"),
                    ("#/paused", "is \"yes\", which is no true or false"),
                    ("#/catch_up", "is \"all\", which is no \"none\" or \"last\""),
                ],
            ),
            (
                r#"{"task": "t", "cron": "0 0 31 2 *"}"#,
                &[("#/cron", "never fires: there is no day with")],
            ),
            (
                r#"{"task": "t", "cron": "* * * * *", "run_at": "2026-11-22T12:00:00Z",
                    "start_before": 1, "idempotency_key": "k", "next_at": null}"#,
                &[
                    ("#/run_at", "has no place in a schedule"),
                    ("#/start_before", "has no place in a schedule"),
                    ("#/idempotency_key", "has no place in a schedule"),
                    ("#/next_at", "is unknown; a schedule takes task, cron"),
                ],
            ),
            (
                r#"{"task": "t", "cron": "* * * * *", "input": 1, "input_base64": "",
                    "priority": 10, "tags": {"A": ""}, "cron": "* * * * *"}"#,
                &[
                    ("#/cron", "is given twice"),
                    ("#/input", "and input_base64 exclude each other"),
                    ("#/input_base64", "and input exclude each other"),
                    ("#/priority", "is 10; it is a whole number"),
                    ("#/tags/A", "names no tag"),
                ],
            ),
        ] {
            let told = read_text(body).unwrap_err();
            assert_eq!(told.len(), expected.len(), "{body}: {told:?}");
            for ((pointer, detail), (expected, begin)) in told.iter().zip(expected) {
                assert_eq!(pointer, expected, "{body}");
                assert!(detail.starts_with(begin), "{body}: {detail}");
            }
        }
    }
}
