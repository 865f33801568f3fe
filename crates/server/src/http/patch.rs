//! Changing a job that waits: `PATCH /v1/jobs/{id}`.
//!
//! The body is a merge patch by RFC 7396: a member that is left out stays, and null stands for
//! what a submit that leaves it out would have. Tags are replaced as a whole.

use super::App;
use super::body;
use super::call::Call;
use super::control::{expected_version, refusal};
use super::limits::AMENDMENT_BYTES_MAX;
use super::members::{Members, no, read_object};
use super::prefer::Prefer;
use super::problem::{FieldError, Kind, Problem};
use super::read::{Answer, here, unknown};
use super::submit::ahead;
use anteroom::core::limits::{DEFAULT_QUEUE, TAG_VALUE_BYTES_MAX, TAGS_MAX};
use anteroom::core::{Amendment, Job, JobId, Name, Priority, Timestamp};
use anteroom::store::Found;
use anteroom::{AmendError, QueueError, SubmitError};
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::collections::BTreeMap;

/// Says which types a patch may have, by RFC 5789.
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const PATCH_TYPES: &str = "application/merge-patch+json, application/json";
/// The members that a job takes.
const MEMBERS: &str = "run_at, priority, queue and tags";

/// `PATCH /v1/jobs/{id}`: 200 + job; it waits by what it is told from then on.
pub(crate) async fn patch(app: App, call: Call) -> Result<Response, Problem> {
    let id = call.job_id(&app).await?;
    call.no_query()?;
    let Call {
        mount, parts, body, ..
    } = call;
    check_type(&parts.headers, "a job")?;
    let (bytes, room) = body::receive(body, AMENDMENT_BYTES_MAX, &app.buffered).await?;
    body::check_json(&bytes)?;
    let Asked {
        mut amendment,
        queue_of_task,
    } = read(&bytes, app.engine.clock().now())?;
    drop((bytes, room));
    if let Some(queue) = amendment.queue.as_ref().filter(|queue| queue.is_reserved()) {
        return Err(reserved(queue));
    }
    check_owner(&app, id).await?;
    let if_version = expected_version(&app, &parts.headers, id).await?;
    if queue_of_task {
        amendment.queue = Some(queue_of(&app, id).await?);
    }
    match app.engine.amend(id, amendment, if_version).await {
        Ok(Ok(job)) => {
            let answer = Answer::new(mount, Prefer::default());
            Ok(answer.changed(&app, StatusCode::OK, &job).await)
        }
        Ok(Err(refused)) => Err(refusal(&app, id, refused)),
        Err(AmendError::QueueReserved { queue }) => Err(reserved(&queue)),
        Err(AmendError::OutOfRange { option, detail }) => {
            Err(Problem::members(vec![FieldError::of(&[option], detail)]))
        }
        Err(AmendError::Queue(QueueError::Unknown { queue })) => {
            Err(SubmitError::UnknownQueue { queue }.into())
        }
        Err(AmendError::Queue(error)) => Err(error.into()),
        Err(AmendError::Store(error)) => Err(error.into()),
        Err(_) => Err(Problem::new(Kind::InternalError, "the job was not changed")),
    }
}

/// Refuses a job of the server's own: where and when it waits is nobody's to say.
async fn check_owner(app: &App, id: JobId) -> Result<(), Problem> {
    match app.engine.store().get(id).await? {
        Found::Here(job) if job.spec.task.is_reserved() => Err(unknown(id)),
        // What is not there is refused by the change itself.
        Found::Here(_) | Found::Gone | Found::Unknown => Ok(()),
    }
}

/// Checks that a change of `what` is of a type that holds one.
///
/// # Errors
///
/// 415 with the types that are taken.
pub(crate) fn check_type(headers: &HeaderMap, what: &str) -> Result<(), Problem> {
    let types = HeaderValue::from_static(PATCH_TYPES);
    let content_type = body::content_type(headers)
        .map_err(|problem| problem.with_header(ACCEPT_PATCH, types.clone()))?;
    let essence = body::essence(content_type);
    if body::is_json(essence) || essence.eq_ignore_ascii_case("application/merge-patch+json") {
        return Ok(());
    }
    let detail = format!("{what} is changed by {PATCH_TYPES}, not {content_type}");
    Err(Problem::new(Kind::UnsupportedMediaType, detail).with_header(ACCEPT_PATCH, types))
}

fn reserved(queue: &Name) -> Problem {
    let detail = format!("{queue} begins with what the server keeps for itself");
    Problem::new(Kind::UnknownQueue, detail)
}

/// Returns the queue that a job of the same task waits in where its submit names none.
async fn queue_of(app: &App, id: JobId) -> Result<Name, Problem> {
    let job: Job = here(id, app.engine.store().get(id).await)?;
    match app.engine.task(&job.spec.task) {
        Some(task) => Ok(task.queue.clone()),
        // Of a task that is no longer there.
        None => Name::new(DEFAULT_QUEUE)
            .map_err(|error| Problem::new(Kind::InternalError, error.to_string())),
    }
}

/// What a patch asks for.
#[derive(Debug, Default)]
struct Asked {
    amendment: Amendment,
    /// Its `queue` is null.
    queue_of_task: bool,
}

/// Reads a patch, and says everything that is wrong with it.
fn read(bytes: &[u8], now: Timestamp) -> Result<Asked, Problem> {
    let mut asked = Asked::default();
    let wrong = read_object(bytes, &[], MEMBERS, |name, value, _at, wrong| {
        Some(match name {
            "run_at" => run_at(value, now).map(|it| asked.amendment.run_at = Some(it)),
            "priority" => priority(value).map(|it| asked.amendment.priority = Some(it)),
            "queue" => queue(value).map(|it| {
                asked.queue_of_task = it.is_none();
                asked.amendment.queue = it;
            }),
            "tags" => tags(value, wrong).map(|it| asked.amendment.tags = Some(it)),
            _ => return None,
        })
    });
    if wrong.is_empty() {
        Ok(asked)
    } else {
        Err(Problem::members(wrong))
    }
}

fn run_at(value: &str, now: Timestamp) -> Result<Timestamp, String> {
    match serde_json::from_str::<Option<String>>(value) {
        Ok(None) => Ok(now),
        Ok(Some(text)) => ahead(&text, now),
        Err(_) => Err(no("time such as \"2026-11-22T12:00:00Z\"", value)),
    }
}

fn priority(value: &str) -> Result<Priority, String> {
    match serde_json::from_str::<Option<i64>>(value) {
        Ok(None) => Ok(Priority::default()),
        Ok(Some(number)) => {
            Priority::new(number).map_err(|_| format!("is {number}; it is from 0 to 9"))
        }
        Err(_) => Err(no("whole number from 0 to 9", value)),
    }
}

/// Reads the name of a queue; none: that of the task.
fn queue(value: &str) -> Result<Option<Name>, String> {
    match serde_json::from_str::<Option<String>>(value) {
        Ok(None) => Ok(None),
        Ok(Some(text)) => match Name::new(&text) {
            Ok(name) => Ok(Some(name)),
            Err(error) => Err(error.to_string()),
        },
        Err(_) => Err(no("name", value)),
    }
}

/// Reads all tags. What is wrong with one of them goes to `errors`.
fn tags(value: &str, errors: &mut Vec<FieldError>) -> Result<BTreeMap<Name, String>, String> {
    let members = match serde_json::from_str::<Option<Members>>(value) {
        Ok(None) => return Ok(BTreeMap::new()),
        Ok(Some(members)) => members,
        Err(_) => return Err(no("object of strings", value)),
    };
    if members.len() > TAGS_MAX {
        return Err(format!("are {}; the limit is {TAGS_MAX}", members.len()));
    }
    let mut tags = BTreeMap::new();
    for (text, value) in members.each() {
        match value.and_then(|value| tag(text, value)) {
            Ok((name, value)) => drop(tags.insert(name, value)),
            Err(detail) => errors.push(FieldError::of(&["tags", text], detail)),
        }
    }
    Ok(tags)
}

fn tag(name: &str, value: &str) -> Result<(Name, String), String> {
    let name = Name::new(name).map_err(|error| format!("names no tag: the name {error}"))?;
    if name.is_reserved() {
        return Err("begins with what the server keeps for itself".to_owned());
    }
    match serde_json::from_str::<String>(value) {
        Ok(value) if value.len() > TAG_VALUE_BYTES_MAX => Err(format!(
            "is {} bytes; the limit is {TAG_VALUE_BYTES_MAX}",
            value.len()
        )),
        Ok(value) => Ok((name, value)),
        Err(_) if value == "null" => {
            Err("is null; tags are replaced as a whole: leave out what is to go".to_owned())
        }
        Err(_) => Err(no("string", value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_763_812_800_000);

    fn pointers(body: &str) -> Vec<String> {
        let problem = read(body.as_bytes(), NOW).unwrap_err();
        let errors = problem.errors().iter();
        errors.map(|error| error.pointer.clone()).collect()
    }

    #[test]
    fn null_stands_for_what_a_submit_without_it_has() {
        let all = r#"{"run_at": null, "priority": null, "queue": null, "tags": null}"#;
        let asked = read(all.as_bytes(), NOW).unwrap();
        let expected = Amendment {
            run_at: Some(NOW),
            priority: Some(Priority::default()),
            queue: None,
            tags: Some(BTreeMap::new()),
        };
        assert_eq!(asked.amendment, expected);
        assert!(asked.queue_of_task);
        let nothing = read(b"{}", NOW).unwrap();
        assert!(nothing.amendment.is_empty() && !nothing.queue_of_task);
    }

    #[test]
    fn everything_wrong_is_pointed_at_at_once() {
        let deep = format!("{{\"queue\": {}1{}}}", "[".repeat(126), "]".repeat(126));
        let long = "x".repeat(256);
        let too_long = format!("{{\"tags\": {{\"a\": {long:?}}}}}");
        let many: Vec<String> = (0..33).map(|n| format!("\"t{n}\": \"\"")).collect();
        let too_many = format!("{{\"tags\": {{{}}}}}", many.join(","));
        for (body, expected) in [
            ("[]", &["#"][..]),
            ("null", &["#"]),
            ("\"run_at\"", &["#"]),
            (r#"{"priority": 10}"#, &["#/priority"]),
            (r#"{"priority": -1}"#, &["#/priority"]),
            (r#"{"priority": 5.5}"#, &["#/priority"]),
            (r#"{"priority": "5"}"#, &["#/priority"]),
            (r#"{"priority": 99999999999999999999}"#, &["#/priority"]),
            (
                r#"{"queue": "No", "run_at": "now"}"#,
                &["#/queue", "#/run_at"],
            ),
            (r#"{"queue": "", "run_at": 5}"#, &["#/queue", "#/run_at"]),
            (r#"{"run_at": "2027-11-22T12:00:00Z"}"#, &["#/run_at"]),
            (
                r#"{"state": "ready", "a/b~c d": 1}"#,
                &["#/state", "#/a~1b~0c%20d"],
            ),
            (r#"{"priority": 1, "priority": 1}"#, &["#/priority"]),
            (r#"{"tags": []}"#, &["#/tags"]),
            (r#"{"tags": {"A": "", "b": 1}}"#, &["#/tags/A", "#/tags/b"]),
            (
                r#"{"tags": {"b": null, "anteroom.x": ""}}"#,
                &["#/tags/b", "#/tags/anteroom.x"],
            ),
            (r#"{"tags": {"b": "1", "b": "2"}}"#, &["#/tags/b"]),
            (&too_long, &["#/tags/a"]),
            (&too_many, &["#/tags"]),
            (&deep, &["#/queue"]),
        ] {
            assert_eq!(pointers(body), expected, "{body}");
        }
    }
}
