//! What a change of a queue says. Everything wrong with one is told at once.

use super::super::body;
use super::super::members::{Wrong, no, read_object};
use super::super::problem::Problem;
use super::super::submit::span;
use anteroom::core::limits::{
    QUEUE_CONCURRENCY_MAX, QUEUE_DEPTH_MAX, RATE_LIMIT_MAX, RATE_PERIOD_MAX, RATE_PERIOD_MIN,
};
use anteroom::core::{Patch, QueuePatch, RateLimit};
use std::time::Duration;

/// The members that a queue takes.
const MEMBERS: &str = "paused, max_depth, max_concurrency, rate_limit and group_concurrency";

/// Reads a change, and says everything that is wrong with it.
pub(super) fn patch(bytes: &[u8]) -> Result<QueuePatch, Problem> {
    body::check_json(bytes)?;
    let mut patch = QueuePatch::default();
    let wrong = read_object(bytes, &[], MEMBERS, |name, value, at, wrong| {
        Some(match name {
            "paused" => truth(value).map(|it| patch.paused = it),
            "max_depth" => whole(value, QUEUE_DEPTH_MAX).map(|it| patch.max_depth = it),
            "max_concurrency" => concurrency(value).map(|it| patch.max_concurrency = it),
            "group_concurrency" => concurrency(value).map(|it| patch.group_concurrency = it),
            "rate_limit" => rate_limit(value, at, wrong).map(|it| patch.rate_limit = it),
            _ => return None,
        })
    });
    if wrong.is_empty() {
        Ok(patch)
    } else {
        Err(Problem::members(wrong))
    }
}

/// What null stands for, and what else does.
fn reset_or<T>(value: Option<T>) -> Patch<T> {
    value.map_or(Patch::Reset, Patch::Set)
}

fn truth(value: &str) -> Result<Patch<bool>, String> {
    serde_json::from_str(value)
        .map(reset_or)
        .map_err(|_| no("boolean, nor null", value))
}

fn whole(value: &str, most: u64) -> Result<Patch<u64>, String> {
    match serde_json::from_str::<Option<u64>>(value) {
        Ok(number) if number.is_none_or(|number| (1..=most).contains(&number)) => {
            Ok(reset_or(number))
        }
        Ok(_) | Err(_) => {
            let what = format!("whole number from 1 to {most}, nor null");
            Err(no(&what, value))
        }
    }
}

/// Reads how many jobs may run at once. None at all would be a pause that nobody sees.
fn concurrency(value: &str) -> Result<Patch<u64>, String> {
    whole(value, QUEUE_CONCURRENCY_MAX).map_err(|refusal| match value {
        "0" => format!("{refusal}; to start no jobs, set paused"),
        _ => refusal,
    })
}

/// Reads a rate; both of its members, or what is missing would be made up.
fn rate_limit(value: &str, at: &[&str], wrong: &mut Wrong) -> Result<Patch<RateLimit>, String> {
    if value == "null" {
        return Ok(Patch::Reset);
    }
    let (mut limit, mut period) = (None, None);
    let (mut has_limit, mut has_period) = (false, false);
    let takes = "limit and period";
    let found = read_object(value.as_bytes(), at, takes, |name, value, _at, _wrong| {
        Some(match name {
            "limit" => {
                has_limit = true;
                starts(value).map(|it| limit = Some(it))
            }
            "period" => {
                has_period = true;
                self::period(value).map(|it| period = Some(it))
            }
            _ => return None,
        })
    });
    let is_object = value.starts_with('{');
    wrong.extend(found);
    if is_object && !(has_limit && has_period) {
        return Err("is not whole; it is {\"limit\": 100, \"period\": \"1s\"} or null".to_owned());
    }
    let rate = limit.zip(period);
    // Where there is none, what is wrong was told.
    Ok(rate.map_or(Patch::Keep, |(limit, period)| {
        Patch::Set(RateLimit { limit, period })
    }))
}

fn starts(value: &str) -> Result<u32, String> {
    match serde_json::from_str(value) {
        Ok(limit) if (1..=RATE_LIMIT_MAX).contains(&limit) => Ok(limit),
        Ok(_) | Err(_) => {
            let what = format!("whole number from 1 to {RATE_LIMIT_MAX}");
            Err(no(&what, value))
        }
    }
}

fn period(value: &str) -> Result<Duration, String> {
    let text = serde_json::from_str::<String>(value);
    let text = text.map_err(|_| no("duration such as \"1s\"", value))?;
    let period = span(&text, RATE_PERIOD_MIN..=RATE_PERIOD_MAX)?;
    if RateLimit::is_whole_millis(period) {
        Ok(period)
    } else {
        Err(format!("is {text}; it is a whole number of milliseconds"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read_member_by_member() {
        let nothing = QueuePatch::default();
        let rate = |limit, millis| {
            Patch::Set(RateLimit {
                limit,
                period: Duration::from_millis(millis),
            })
        };
        for (text, expected) in [
            ("{}", nothing),
            (
                r#"{"paused": null, "max_depth": 7, "max_concurrency": 8}"#,
                QueuePatch {
                    paused: Patch::Reset,
                    max_depth: Patch::Set(7),
                    max_concurrency: Patch::Set(8),
                    ..nothing
                },
            ),
            (
                r#"{"paused": true, "rate_limit": {"period": "PT0.5S", "limit": 3}}"#,
                QueuePatch {
                    paused: Patch::Set(true),
                    rate_limit: rate(3, 500),
                    ..nothing
                },
            ),
            (
                r#"{"max_depth": null, "rate_limit": null, "max_concurrency": null}"#,
                QueuePatch {
                    max_depth: Patch::Reset,
                    rate_limit: Patch::Reset,
                    max_concurrency: Patch::Reset,
                    ..nothing
                },
            ),
            (
                r#"{"group_concurrency": 1000000, "rate_limit": {"limit": 1, "period": "31d"}}"#,
                QueuePatch {
                    group_concurrency: Patch::Set(1_000_000),
                    rate_limit: rate(1, 31 * 86_400_000),
                    ..nothing
                },
            ),
        ] {
            assert_eq!(patch(text.as_bytes()).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_limit_is_pointed_at_with_its_bounds() {
        for (text, expected) in [
            (
                r#"{"max_concurrency": 0}"#,
                &[
                    "#/max_concurrency is 0, which is no whole number from 1 to 1000000, nor null; \
                   to start no jobs, set paused",
                ][..],
            ),
            (
                r#"{"group_concurrency": 1000001}"#,
                &["#/group_concurrency is 1000001, which is no whole number from 1 to 1000000"],
            ),
            (r#"{"rate_limit": 5}"#, &["#/rate_limit is no object; "]),
            (r#"{"rate_limit": []}"#, &["#/rate_limit is no object; "]),
            (
                r#"{"rate_limit": {}}"#,
                &["#/rate_limit is not whole; it is {"],
            ),
            (
                r#"{"rate_limit": {"limit": 5}}"#,
                &["#/rate_limit is not whole; it is {"],
            ),
            (
                r#"{"rate_limit": {"limit": 0, "period": "1.5ms", "burst": 1}}"#,
                &[
                    "#/rate_limit/limit is 0, which is no whole number from 1 to 1000000",
                    "#/rate_limit/period is 1.5ms; it is a whole number of milliseconds",
                    "#/rate_limit/burst is unknown; there may be limit and period",
                ],
            ),
            (
                r#"{"rate_limit": {"limit": null, "period": 1}}"#,
                &[
                    "#/rate_limit/limit is null, ",
                    "#/rate_limit/period is 1, which is no duration",
                ],
            ),
            (
                r#"{"rate_limit": {"limit": 1000001, "period": "999us"}}"#,
                &[
                    "#/rate_limit/limit is 1000001, ",
                    "#/rate_limit/period is 999us; it is from 1ms to 744h",
                ],
            ),
            (
                r#"{"rate_limit": {"limit": 1, "period": "32d"}}"#,
                &["#/rate_limit/period is 32d; it is from 1ms to 744h"],
            ),
            (
                r#"{"rate_limit": {"limit": 1, "period": "1s", "limit": 2}}"#,
                &["#/rate_limit/limit is given twice"],
            ),
        ] {
            let problem = patch(text.as_bytes()).unwrap_err();
            let errors = problem.errors().iter();
            let found: Vec<_> = errors
                .map(|error| format!("{} {}", error.pointer, error.detail))
                .collect();
            let is_expected = found.len() == expected.len()
                && found
                    .iter()
                    .zip(expected)
                    .all(|(found, start)| found.starts_with(start));
            assert!(is_expected, "{text}: {found:#?}");
        }
    }
}
