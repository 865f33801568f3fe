//! Many settles at once: `POST /v1/leases/settle`, each on its own, in one commit.

use super::super::App;
use super::super::body;
use super::super::call::{Call, Mount};
use super::super::limits::SETTLES_MAX;
use super::super::members::{Wrong, no, read_object};
use super::super::problem::{FieldError, Kind, Problem};
use super::super::submit_many::off_thread;
use super::HeldView;
use super::asked::{Extending, Failing, lease_for};
use anteroom::core::{Job, Payload};
use anteroom::{LeaseRefused, Settlement};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

const TAKES: &str = "lease, action, result, result_base64, content_type, error, retry, \
                     retry_after, extend_by, progress and log";
const ACTIONS: &str = "complete, fail, extend or release";

/// `POST /v1/leases/settle`: 200 with what became of each, in their order.
pub(crate) async fn settle(app: App, call: Call) -> Result<Response, Problem> {
    call.no_query()?;
    let holder = call.access().token_name().to_owned();
    let content_type = body::content_type(call.headers())?;
    if !body::is_json(content_type) {
        let detail = format!("settles come as application/json, not as {content_type}");
        return Err(Problem::new(Kind::UnsupportedMediaType, detail));
    }
    let (bytes, room) = body::receive(call.body, app.max_bulk, &app.buffered).await?;
    // As much again, for what is kept of it.
    app.buffered.reserve(&room, bytes.len())?;
    let size = bytes.len();
    let read = off_thread(size, async move { read(&bytes) }).await?;
    let mut results: Vec<Settled> = Vec::with_capacity(read.len());
    let mut settlements = Vec::new();
    for Read { lease, said } in read {
        let outcome = match said {
            Ok(settlement) => {
                let is_extended = matches!(settlement, Settlement::Extend { .. });
                settlements.push((lease.clone().unwrap_or_default(), settlement));
                Outcome::Asked { is_extended }
            }
            Err(problem) => Outcome::Wrong(problem),
        };
        results.push(Settled { lease, outcome });
    }
    let settled = app.engine.settle_leases(&holder, settlements).await;
    room.release();
    let mut settled = settled?.into_iter();
    let results = results.into_iter().map(|one| {
        let settled = match one.outcome {
            Outcome::Asked { is_extended } => settled
                .next()
                .unwrap_or(Err(LeaseRefused::Lost))
                .map(|job| (job, is_extended))
                .map_err(Problem::from),
            Outcome::Wrong(problem) => Err(problem),
        };
        ResultView::of(one.lease, settled, &call.mount)
    });
    Ok(super::super::pages::json(&ResultsView {
        results: results.collect(),
    }))
}

/// What one of the settles became.
struct Settled {
    lease: Option<String>,
    outcome: Outcome,
}

enum Outcome {
    /// It is asked for; the engine has the answer.
    Asked { is_extended: bool },
    /// It was not asked for.
    Wrong(Problem),
}

/// One of the settles, as it was read.
struct Read {
    /// The token, if it has one.
    lease: Option<String>,
    said: Result<Settlement, Problem>,
}

#[derive(Serialize)]
struct ResultsView {
    results: Vec<ResultView>,
}

#[derive(Serialize)]
struct ResultView {
    lease: Option<String>,
    status: u16,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    held: Option<HeldView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Box<RawValue>>,
}

impl ResultView {
    fn of(lease: Option<String>, settled: Result<(Job, bool), Problem>, mount: &Mount) -> Self {
        match settled {
            Ok((job, is_extended)) => Self {
                lease,
                status: 200,
                held: is_extended.then(|| HeldView::of(&job)),
                problem: None,
            },
            Err(problem) => {
                let (status, _headers, body) = problem.to_parts(mount.prefix(), mount.path());
                let text = String::from_utf8(body).ok();
                Self {
                    lease,
                    status: status.as_u16(),
                    held: None,
                    problem: text.and_then(|text| RawValue::from_string(text).ok()),
                }
            }
        }
    }
}

/// Reads an array of settles. What is wrong with one of them does not concern the others.
fn read(bytes: &[u8]) -> Result<Vec<Read>, Problem> {
    body::check_json(bytes)?;
    let whole = |detail: String| Problem::members(vec![FieldError::of(&[], detail)]);
    let Ok(list) = serde_json::from_slice::<Vec<&RawValue>>(bytes) else {
        return Err(whole("is no array of settles".to_owned()));
    };
    if list.len() > SETTLES_MAX {
        let settles = list.len();
        return Err(whole(format!(
            "has {settles} settles; the limit is {SETTLES_MAX}"
        )));
    }
    let one = |(index, item): (usize, &RawValue)| read_one(item.get(), &index.to_string());
    Ok(list.into_iter().enumerate().map(one).collect())
}

/// The members of a settle, being read.
#[derive(Default)]
struct Members {
    lease: Option<String>,
    action: Option<String>,
    result: Option<Bytes>,
    result_base64: Option<Bytes>,
    content_type: Option<String>,
    failing: Failing,
    extending: Extending,
}

fn read_one(item: &str, index: &str) -> Read {
    let mut members = Members::default();
    let mut wrong = read_object(
        item.as_bytes(),
        &[index],
        TAKES,
        |name, value, at, wrong| members.read(name, value, at, wrong),
    );
    let lease = members.lease.clone();
    let said = match members.settlement() {
        Ok(settlement) if wrong.is_empty() => Ok(settlement),
        Ok(_) => Err(Problem::members(wrong)),
        Err((member, detail)) => {
            // What is wrong by itself is told of once.
            if wrong.is_empty() {
                wrong.push(FieldError::of(&[index, member], detail));
            }
            Err(Problem::members(wrong))
        }
    };
    Read { lease, said }
}

impl Members {
    fn read(
        &mut self,
        name: &str,
        value: &str,
        at: &[&str],
        wrong: &mut Wrong,
    ) -> Option<Result<(), String>> {
        let text = || serde_json::from_str::<String>(value).map_err(|_| no("string", value));
        Some(match name {
            "lease" => text().map(|it| self.lease = Some(it)),
            "action" => text().map(|it| self.action = Some(it)),
            "result" => {
                self.result = Some(Bytes::copy_from_slice(value.as_bytes()));
                Ok(())
            }
            "result_base64" => text().and_then(|text| {
                let decoded = BASE64_STANDARD.decode(text);
                let malformed = |error| format!("is no base64 by RFC 4648, section 4: {error}");
                decoded
                    .map(|it| self.result_base64 = Some(it.into()))
                    .map_err(malformed)
            }),
            "content_type" => text().and_then(|text| {
                body::check_media_type(&text)?;
                self.content_type = Some(text);
                Ok(())
            }),
            "extend_by" => lease_for(value).map(|it| self.extending.lease_for = Some(it)),
            "progress" | "log" => return self.extending.read(name, value, at, wrong),
            _ => return self.failing.read(name, value),
        })
    }

    /// Returns what it says, or the member that is wrong beside the others, and why.
    fn settlement(self) -> Result<Settlement, (&'static str, String)> {
        if self.lease.is_none() {
            return Err((
                "lease",
                "is missing; it is the token of the lease".to_owned(),
            ));
        }
        let Some(action) = self.action.as_deref() else {
            return Err(("action", format!("is missing; it is {ACTIONS}")));
        };
        let is_result =
            self.result.is_some() || self.result_base64.is_some() || self.content_type.is_some();
        let others = [
            ("complete", "result", is_result),
            ("fail", "error", self.failing.is_given()),
            ("extend", "extend_by", self.extending.is_given()),
        ];
        if !["complete", "fail", "extend", "release"].contains(&action) {
            return Err(("action", format!("is {action:?}; it is {ACTIONS}")));
        }
        for (of, member, is_given) in others {
            if is_given && of != action {
                return Err((
                    member,
                    format!("and its like are for {of}, not for {action}"),
                ));
            }
        }
        match action {
            "complete" => self.result().map(Settlement::Complete),
            "fail" => {
                let failed = self.failing.finish();
                let failed = failed.map_err(|(member, detail)| (member, detail.to_owned()))?;
                Ok(Settlement::Fail {
                    message: failed.message,
                    retry: failed.retry,
                })
            }
            "extend" => {
                let extension = self.extending.finish();
                Ok(Settlement::Extend {
                    lease_for: extension.lease_for,
                    reports: extension.reports,
                })
            }
            _ => Ok(Settlement::Release),
        }
    }

    /// Returns the result; none given is an empty one.
    fn result(self) -> Result<Payload, (&'static str, String)> {
        let given = self.content_type;
        match (self.result, self.result_base64) {
            (Some(_), Some(_)) => {
                let detail = "and result exclude each other; give one of them";
                Err(("result_base64", detail.to_owned()))
            }
            (Some(bytes), None) => match given {
                Some(given) if !body::is_json(&given) => {
                    let detail = format!(
                        "is {given}, but result is kept as application/json; leave it out, or \
                         give the bytes as result_base64"
                    );
                    Err(("content_type", detail))
                }
                given => Ok(Payload {
                    content_type: given.as_deref().unwrap_or("application/json").into(),
                    bytes,
                }),
            },
            (None, bytes) => Ok(Payload {
                content_type: given.as_deref().unwrap_or(body::UNNAMED).into(),
                bytes: bytes.unwrap_or_default(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(item: &str) -> Option<String> {
        let problem = read_one(item, "3").said.err()?;
        problem.errors().first().map(|error| error.pointer.clone())
    }

    #[test]
    fn each_settle_is_read_by_itself() {
        for (item, expected) in [
            (r#"{"lease": "x", "action": "release"}"#, None),
            (r#"{"lease": "x", "action": "complete"}"#, None),
            (
                r#"{"lease": "x", "action": "complete", "result": null}"#,
                None,
            ),
            (
                r#"{"lease": "x", "action": "extend", "extend_by": "5s"}"#,
                None,
            ),
            (r#"{"lease": "x", "action": "fail", "error": ""}"#, None),
            ("5", Some("#/3")),
            ("{}", Some("#/3/lease")),
            (r#"{"lease": "x"}"#, Some("#/3/action")),
            (r#"{"lease": 1, "action": "release"}"#, Some("#/3/lease")),
            (r#"{"lease": "x", "action": "finish"}"#, Some("#/3/action")),
            (r#"{"lease": "x", "action": "fail"}"#, Some("#/3/error")),
            (
                r#"{"lease": "x", "action": "release", "result": 1}"#,
                Some("#/3/result"),
            ),
            (
                r#"{"lease": "x", "action": "complete", "result": 1, "result_base64": ""}"#,
                Some("#/3/result_base64"),
            ),
            (
                r#"{"lease": "x", "action": "complete", "result": 1, "content_type": "text/plain"}"#,
                Some("#/3/content_type"),
            ),
            (
                r#"{"lease": "x", "action": "complete", "result_base64": "?"}"#,
                Some("#/3/result_base64"),
            ),
            (
                r#"{"lease": "x", "action": "extend", "progress": {"fraction": 2}}"#,
                Some("#/3/progress/fraction"),
            ),
            (
                r#"{"lease": "x", "action": "extend", "by": 1}"#,
                Some("#/3/by"),
            ),
        ] {
            assert_eq!(pointer(item).as_deref(), expected, "{item}");
        }
    }
}
