//! The job that tells of another's end: made by the store that writes the end, of nothing but that.

use super::task_name;
use crate::clock::rfc3339;
use crate::store::NewJob;
use anteroom_core::limits::{CALLBACK_ATTEMPTS_MAX, CALLBACK_TIMEOUT, RETAIN_DEFAULT};
use anteroom_core::{JobId, Payload, Priority, Spec, State, Status, Timestamp};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the digest that ids are made of begins with, so that no other digest of ours is the same.
const DOMAIN: &[u8] = b"anteroom callback 1";

/// Returns the job that tells of a job's end, if a change from `before` to `after` is one that
/// somebody asked to be told of.
///
/// A store that writes such a change stores that job in the same commit, in no case without it and
/// in no case twice. It is the same whoever asks: its id is made of the job's and of the version
/// that the job ends with. Where that id is taken, [`another_id`] gives the next one to try.
pub fn callback_of(spec: &Spec, before: &Status, after: &Status) -> Option<NewJob> {
    let url = spec.callback_url.as_ref()?;
    let is_end = !before.state.is_final() && after.state.is_final();
    // Nobody is told of the end of what tells of ends.
    if !is_end || spec.task.is_reserved() {
        return None;
    }
    let ended_at = after.finished_at?;
    let task = task_name();
    let input = Payload {
        content_type: "application/json".into(),
        bytes: event(spec, after.state, ended_at).into(),
    };
    let callback = Spec {
        id: id_of(spec.id, after.version, ended_at),
        queue: task.clone(),
        task,
        group: None,
        priority: Priority::default(),
        created_at: ended_at,
        timeout: CALLBACK_TIMEOUT,
        retain: RETAIN_DEFAULT,
        unique_key: None,
        callback_url: Some(url.clone()),
        tags: BTreeMap::new(),
        input: input.info(),
    };
    Some(NewJob {
        spec: Arc::new(callback),
        status: Status::submitted(ended_at, None, CALLBACK_ATTEMPTS_MAX),
        input,
        idempotency: None,
    })
}

/// Returns the id to try for a callback where `id` is taken: a millisecond later.
pub fn another_id(id: JobId) -> JobId {
    let key = id.order_key().unsigned_abs();
    let mut random = [0; 8];
    random.copy_from_slice(&id.as_bytes()[8..]);
    let counter = u16::try_from(key & 0xfff).unwrap_or_default();
    JobId::from_parts((key >> 12) + 1, counter, u64::from_be_bytes(random))
}

fn id_of(job: JobId, version: u64, ended_at: Timestamp) -> JobId {
    let mut digest = Sha256::new_with_prefix(DOMAIN);
    digest.update(job.as_bytes());
    digest.update(version.to_be_bytes());
    let digest: [u8; 32] = digest.finalize().into();
    let counter = u16::from_be_bytes([digest[0] & 0x0f, digest[1]]);
    let random = digest[2..10].iter();
    let random = random.fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    JobId::from_parts(ended_at.as_millis().max(0).unsigned_abs(), counter, random)
}

/// What a callback says: an event by Standard Webhooks.
#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Ended<'a>,
}

#[derive(Serialize)]
struct Ended<'a> {
    id: String,
    task: &'a str,
    state: &'static str,
    tags: BTreeMap<&'a str, &'a str>,
    links: Links,
}

/// Where the job is found, from the root of the API.
#[derive(Serialize)]
struct Links {
    #[serde(rename = "self")]
    itself: String,
    result: String,
    input: String,
    events: String,
    cancel: String,
}

fn event(spec: &Spec, state: State, ended_at: Timestamp) -> Vec<u8> {
    let (kind, state) = match state {
        State::Succeeded => ("job.succeeded", "succeeded"),
        State::Failed => ("job.failed", "failed"),
        // The others are no ends.
        State::Cancelled | State::Waiting | State::Running => ("job.cancelled", "cancelled"),
    };
    let itself = format!("/v1/jobs/{}", spec.id);
    let tags = spec.tags.iter();
    let event = Event {
        r#type: kind,
        timestamp: rfc3339(ended_at),
        data: Ended {
            id: spec.id.to_string(),
            task: &spec.task,
            state,
            tags: tags.map(|(name, value)| (&**name, &**value)).collect(),
            links: Links {
                result: format!("{itself}/result"),
                input: format!("{itself}/input"),
                events: format!("{itself}/events"),
                cancel: format!("{itself}/cancel"),
                itself,
            },
        },
    };
    serde_json::to_vec(&event).expect("texts under names that are texts are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_core::{Event as JobEvent, Name, transition};

    const ENDED_AT: Timestamp = Timestamp::from_millis(1_763_812_800_052);

    fn spec(task: &str, url: Option<&str>) -> Spec {
        let input = Payload {
            content_type: "text/plain".into(),
            bytes: "a".into(),
        };
        Spec {
            id: JobId::from_parts(1_763_812_800_000, 1, 7),
            task: Name::new(task).unwrap(),
            queue: Name::new("default").unwrap(),
            group: None,
            priority: Priority::default(),
            created_at: Timestamp::from_millis(1_763_812_800_000),
            timeout: CALLBACK_TIMEOUT,
            retain: RETAIN_DEFAULT,
            unique_key: None,
            callback_url: url.map(Into::into),
            tags: BTreeMap::from([(Name::new("who").unwrap(), "\"ann\"".to_owned())]),
            input: input.info(),
        }
    }

    fn waiting() -> Status {
        Status::submitted(Timestamp::from_millis(1_763_812_800_000), None, 5)
    }

    fn cancelled(status: &Status) -> Status {
        let next = transition(status, &JobEvent::CancelRequested, ENDED_AT);
        next.unwrap().status
    }

    #[test]
    fn an_event_says_what_ended_and_how() {
        let spec = spec("t", Some("http://a/"));
        let job = callback_of(&spec, &waiting(), &cancelled(&waiting())).unwrap();
        let text = String::from_utf8(job.input.bytes.to_vec()).unwrap();
        let itself = format!("/v1/jobs/{}", spec.id);
        let expected = format!(
            "{{\"type\":\"job.cancelled\",\"timestamp\":\"2025-11-22T12:00:00.052Z\",\"data\":{{\
             \"id\":\"{}\",\"task\":\"t\",\"state\":\"cancelled\",\
             \"tags\":{{\"who\":\"\\\"ann\\\"\"}},\"links\":{{\"self\":\"{itself}\",\
             \"result\":\"{itself}/result\",\"input\":\"{itself}/input\",\
             \"events\":\"{itself}/events\",\"cancel\":\"{itself}/cancel\"}}}}}}",
            spec.id
        );
        assert_eq!(text, expected);
        assert_eq!(&*job.input.content_type, "application/json");
        assert_eq!(job.spec.input, job.input.info());
        assert_eq!(job.spec.callback_url, spec.callback_url);
        assert_eq!(
            (&*job.spec.task, &*job.spec.queue),
            ("anteroom.callback", "anteroom.callback")
        );
        assert_eq!(
            (job.spec.created_at, job.status.run_at),
            (ENDED_AT, ENDED_AT)
        );
    }

    #[test]
    fn only_an_end_that_somebody_asks_about_makes_one() {
        let (before, after) = (waiting(), cancelled(&waiting()));
        let retried = transition(&after, &JobEvent::RetryRequested, ENDED_AT)
            .unwrap()
            .status;
        let url = Some("http://a/");
        for (task, url, before, after, expected) in [
            ("t", url, before, after, true),
            ("t", None, before, after, false),
            ("t", url, before, before, false),
            ("t", url, after, retried, false),
            ("t", url, after, after, false),
            ("anteroom.callback", url, before, after, false),
        ] {
            let made = callback_of(&spec(task, url), &before, &after);
            assert_eq!(
                made.is_some(),
                expected,
                "{task} {url:?} {before:?} {after:?}"
            );
        }
    }

    #[test]
    fn each_end_has_an_id_of_its_own_and_always_the_same() {
        let spec = spec("t", Some("http://a/"));
        let first = cancelled(&waiting());
        let retried = transition(&first, &JobEvent::RetryRequested, ENDED_AT)
            .unwrap()
            .status;
        let second = cancelled(&retried);
        let id =
            |before: &Status, after: &Status| callback_of(&spec, before, after).unwrap().spec.id;
        assert_eq!(id(&waiting(), &first), id(&waiting(), &first));
        assert_ne!(
            id(&waiting(), &first),
            id(&retried, &second),
            "at the same instant"
        );
        let other = Spec {
            id: JobId::from_parts(1_763_812_800_000, 1, 8),
            ..spec.clone()
        };
        assert_ne!(
            callback_of(&other, &waiting(), &first).unwrap().spec.id,
            id(&waiting(), &first)
        );
        assert_eq!(
            id(&waiting(), &first).order_key() >> 12,
            ENDED_AT.as_millis()
        );
    }

    #[test]
    fn another_id_is_the_same_a_millisecond_later() {
        let id = JobId::from_parts(1_763_812_800_052, 0xfff, 42);
        assert_eq!(
            another_id(id),
            JobId::from_parts(1_763_812_800_053, 0xfff, 42)
        );
    }
}
