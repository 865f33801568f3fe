//! Why a waiting job has not started, in words that a person can act on.

use crate::clock::{about, rfc3339};
use crate::forecast::Served;
use anteroom_core::{Job, Place, RateLimit, Timestamp};

/// Reasons that are told: a person acts on the first ones.
const REASONS_MAX: usize = 5;
/// Bytes of an error that are told: all of it is among the errors of the job.
const ERROR_BYTES_MAX: usize = 200;

/// How a waiting job stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing<'a> {
    pub(crate) job: &'a Job,
    pub(crate) place: &'a Place,
    /// Who runs its task.
    pub(crate) served: Served,
    pub(crate) is_draining: bool,
    pub(crate) now: Timestamp,
}

/// Returns why it has not started: what has to be done by somebody first, then what it waits for by
/// itself; at least one, and at most [`REASONS_MAX`].
pub(crate) fn reasons(standing: &Standing<'_>) -> Vec<String> {
    let mut reasons = Vec::with_capacity(2);
    reasons.extend(too_early(standing));
    held_back(standing, &mut reasons);
    // One that is not due waits for nothing else yet.
    if standing.job.status.run_at <= standing.now {
        limited(standing, &mut reasons);
        reasons.extend(behind(standing.place));
    }
    if reasons.is_empty() {
        reasons.push("it starts at once".to_owned());
    }
    reasons.truncate(REASONS_MAX);
    reasons
}

/// Its `run_at` lies ahead, and why.
fn too_early(standing: &Standing<'_>) -> Option<String> {
    let Standing { job, now, .. } = standing;
    let status = &job.status;
    if status.run_at <= *now {
        return None;
    }
    let at = rfc3339(status.run_at);
    let last = job.errors.last();
    let failed = last.filter(|error| status.attempt > 0 && error.attempt == status.attempt);
    Some(match failed {
        Some(error) => {
            let (next, most) = (status.attempt + 1, status.max_attempts);
            let (kind, said) = (error.failure.kind, cut(&error.failure.message));
            format!("waiting for attempt {next} of {most} at {at}, after {kind}: {said}")
        }
        None if status.hand_backs > 0 => {
            format!("handed back by a worker that was too busy; run_at is ahead: {at}")
        }
        None => format!("run_at is ahead: {at}"),
    })
}

/// What somebody has to do something about.
fn held_back(standing: &Standing<'_>, reasons: &mut Vec<String>) {
    let (spec, place) = (&standing.job.spec, standing.place);
    let (task, queue) = (&spec.task, &spec.queue);
    if standing.is_draining {
        reasons.push("the server is draining: it starts no jobs until it is started again".into());
    }
    if place.rule.paused {
        reasons.push(format!("queue {queue} is paused; resume it to go on"));
    }
    match standing.served {
        Served::Pulled {
            is_asked: false, ..
        } => {
            let reason = format!("no worker has asked for task {task} in the last minute");
            reasons.push(reason);
        }
        Served::Nowhere => reasons.push(format!("this server has no task {task} any more")),
        Served::Pulled { .. } | Served::Here(_) => {}
    }
}

/// The limits that are reached.
fn limited(standing: &Standing<'_>, reasons: &mut Vec<String>) {
    let (spec, place) = (&standing.job.spec, standing.place);
    let (queue, rule) = (&spec.queue, &place.rule);
    let full = |limit: Option<u64>, running: u64| limit.filter(|most| running >= *most);
    if let Some(most) = full(rule.max_concurrency, place.running) {
        let running = place.running;
        reasons.push(format!(
            "concurrency limit of queue {queue} ({running}/{most})"
        ));
    }
    if let (Some(group), Some(most)) = (
        &spec.group,
        full(rule.group_concurrency, place.group_running),
    ) {
        let running = place.group_running;
        reasons.push(format!(
            "concurrency limit of group {group} in queue {queue} ({running}/{most})"
        ));
    }
    let next = place.next_start_at.filter(|next| *next > standing.now);
    if let (Some(RateLimit { limit, period }), Some(next)) = (rule.rate_limit, next) {
        let (period, wait) = (about(period), about(next.since(standing.now)));
        reasons.push(format!(
            "rate limit of queue {queue} ({limit} per {period}): the next start is in {wait}"
        ));
    }
    if let Served::Here(slots) = standing.served
        && slots.free == 0
    {
        let (task, all) = (&spec.task, slots.all);
        reasons.push(match all {
            1 => format!("the only slot of task {task} on this node is busy"),
            _ => format!("all {all} slots of task {task} on this node are busy"),
        });
    }
    if let Served::Pulled {
        asking: 0,
        is_asked: true,
    } = standing.served
    {
        let task = &spec.task;
        reasons.push(format!("no worker is waiting for task {task} just now"));
    }
}

/// What is ahead of it.
fn behind(place: &Place) -> Option<String> {
    let position = place.position?;
    match position.ahead {
        0 => None,
        1 => Some("1 job is ahead of it".to_owned()),
        ahead if position.is_exact => Some(format!("{ahead} jobs are ahead of it")),
        ahead => Some(format!("about {ahead} jobs are ahead of it")),
    }
}

/// Returns the beginning of what an attempt said, on one line.
fn cut(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default().trim_end();
    let end = line.floor_char_boundary(ERROR_BYTES_MAX);
    if end < message.trim_end().len() {
        format!("{}…", &line[..end])
    } else {
        line.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_core::{
        AttemptError, Failure, FailureKind, JobId, Label, Name, PayloadInfo, Position, Priority,
        QueueRule, Slots, Spec, Status,
    };
    use std::sync::Arc;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const FREE: Served = Served::Here(Slots { all: 4, free: 4 });
    const BUSY: Served = Served::Here(Slots { all: 4, free: 0 });
    const AWAY: Served = Served::Pulled {
        asking: 0,
        is_asked: false,
    };

    fn job() -> Job {
        let spec = Spec {
            id: JobId::from_parts(1, 1, 1),
            task: Name::new("wordcount").unwrap(),
            queue: Name::new("default").unwrap(),
            group: Label::new("acme").ok(),
            priority: Priority::default(),
            created_at: NOW,
            timeout: Duration::from_secs(1),
            retain: Duration::from_secs(1),
            unique_key: None,
            callback_url: None,
            tags: std::collections::BTreeMap::new(),
            input: PayloadInfo {
                content_type: "".into(),
                bytes: 0,
            },
        };
        Job {
            spec: Arc::new(spec),
            status: Status::submitted(NOW, None, 5),
            errors: Vec::new(),
            result: None,
            progress: None,
        }
    }

    fn ahead(ahead: u64, is_exact: bool) -> Place {
        Place {
            position: Some(Position { ahead, is_exact }),
            ..Place::default()
        }
    }

    fn of(job: &Job, place: &Place, served: Served) -> Vec<String> {
        reasons(&Standing {
            job,
            place,
            served,
            is_draining: false,
            now: NOW,
        })
    }

    #[test]
    fn a_ready_job_says_what_holds_it_back() {
        let rule = |change: &dyn Fn(&mut Place)| {
            let mut place = ahead(0, true);
            change(&mut place);
            place
        };
        let rate = RateLimit {
            limit: 100,
            period: Duration::from_secs(1),
        };
        let cases: [(Place, Served, &[&str]); 11] = [
            (ahead(0, true), FREE, &["it starts at once"]),
            (ahead(1, true), FREE, &["1 job is ahead of it"]),
            (
                ahead(12, true),
                BUSY,
                &[
                    "all 4 slots of task wordcount on this node are busy",
                    "12 jobs are ahead of it",
                ],
            ),
            (
                ahead(5_000, false),
                FREE,
                &["about 5000 jobs are ahead of it"],
            ),
            (
                ahead(0, true),
                Served::Here(Slots { all: 1, free: 0 }),
                &["the only slot of task wordcount on this node is busy"],
            ),
            (
                ahead(0, true),
                AWAY,
                &["no worker has asked for task wordcount in the last minute"],
            ),
            (
                ahead(0, true),
                Served::Pulled {
                    asking: 0,
                    is_asked: true,
                },
                &["no worker is waiting for task wordcount just now"],
            ),
            (
                ahead(0, true),
                Served::Nowhere,
                &["this server has no task wordcount any more"],
            ),
            (
                rule(&|it| {
                    it.rule.max_concurrency = Some(4);
                    it.running = 4;
                }),
                FREE,
                &["concurrency limit of queue default (4/4)"],
            ),
            (
                rule(&|it| {
                    it.rule.group_concurrency = Some(2);
                    it.group_running = 2;
                    it.rule.rate_limit = Some(rate);
                    it.next_start_at = Some(NOW.after(Duration::from_millis(300)));
                }),
                FREE,
                &[
                    "concurrency limit of group acme in queue default (2/2)",
                    "rate limit of queue default (100 per 1s): the next start is in 300ms",
                ],
            ),
            (
                rule(&|it| {
                    it.rule.paused = true;
                    it.rule.rate_limit = Some(rate);
                    it.next_start_at = Some(NOW);
                }),
                FREE,
                &["queue default is paused; resume it to go on"],
            ),
        ];
        for (place, served, expected) in cases {
            assert_eq!(of(&job(), &place, served), expected, "{place:?}");
        }
    }

    #[test]
    fn a_scheduled_job_says_until_when_and_why() {
        let place = Place::default();
        let mut later = job();
        later.status.run_at = NOW.after(Duration::from_secs(1));
        let expected = ["run_at is ahead: 2027-01-15T08:00:01.000Z"];
        assert_eq!(of(&later, &place, BUSY), expected);
        let mut handed_back = later.clone();
        handed_back.status.hand_backs = 1;
        let said = of(&handed_back, &place, BUSY);
        assert!(said[0].starts_with("handed back by a worker"), "{said:?}");
        let mut failed = later.clone();
        failed.status.attempt = 1;
        for (message, shown) in [
            ("no route", "no route".to_owned()),
            ("two\nlines", "two…".to_owned()),
            (&"x".repeat(300), format!("{}…", "x".repeat(200))),
        ] {
            failed.errors = vec![AttemptError {
                attempt: 1,
                at: NOW,
                failure: Failure::new(FailureKind::Error, message),
            }];
            let expected = format!(
                "waiting for attempt 2 of 5 at 2027-01-15T08:00:01.000Z, after error: {shown}"
            );
            assert_eq!(of(&failed, &place, BUSY), [expected]);
        }
        // It is retried by a person: the error is none of this attempt's.
        failed.status.attempt = 0;
        assert_eq!(of(&failed, &place, BUSY), expected);
        let paused = Place {
            rule: QueueRule {
                paused: true,
                ..QueueRule::default()
            },
            ..Place::default()
        };
        let said = of(&later, &paused, AWAY);
        assert_eq!(said.len(), 3, "{said:?}");
    }

    #[test]
    fn there_is_a_handful_of_reasons_at_most() {
        let place = Place {
            rule: QueueRule {
                paused: true,
                max_concurrency: Some(0),
                group_concurrency: Some(0),
                rate_limit: Some(RateLimit {
                    limit: 1,
                    period: Duration::from_secs(1),
                }),
                ..QueueRule::default()
            },
            next_start_at: Some(Timestamp::MAX),
            ..ahead(9, true)
        };
        let said = reasons(&Standing {
            job: &job(),
            place: &place,
            served: BUSY,
            is_draining: true,
            now: NOW,
        });
        assert_eq!(said.len(), REASONS_MAX, "{said:?}");
        assert!(said[0].starts_with("the server is draining"), "{said:?}");
    }
}
