//! Workers that pull: leases of jobs, and what their holders say.
//!
//! What a body says is read in `leases/asked.rs`; many settles at once are in `leases/settle.rs`.
//! The token of a lease stands in the path of the calls about it, so that no log shows that part.

mod asked;
mod settle;

pub(crate) use settle::settle;

use super::App;
use super::access::Scope;
use super::body;
use super::call::Call;
use super::json;
use super::prefer::Prefer;
use super::problem::{Kind, Problem};
use super::read::Answer;
use super::represent::{Extent, JOB_BYTES, JobView, shown_result};
use super::submit::unknown_task;
use super::value::Instant;
use anteroom::core::{Job, Name, Payload, Timestamp};
use anteroom::{LeaseError, LeaseRefused, LeaseRequest, Leased, Settlement};
use asked::{Extension, Failure, LeaseAsked};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;
use serde::Serialize;
use std::borrow::Cow;
use tracing::debug;

/// Bytes of a lease with its job, about; its input comes on top.
const LEASE_BYTES: usize = JOB_BYTES + 400;

/// `POST /v1/leases`: 200 with what was leased; 204 where there is nothing.
pub(crate) async fn lease(app: App, call: Call) -> Result<Response, Problem> {
    call.no_query()?;
    let prefer = Prefer::of(call.headers());
    let access = call.access().clone();
    let Call {
        mount, parts, body, ..
    } = call;
    let (bytes, _room) = asked::receive(&app, &parts.headers, body).await?;
    let LeaseAsked {
        tasks,
        queues,
        max,
        lease_for,
        worker,
    } = asked::lease(&bytes)?;
    drop(bytes);
    if let Some(queue) = queues.iter().flatten().find(|queue| queue.is_reserved()) {
        let detail = format!("{queue} begins with what the server keeps for itself");
        return Err(Problem::new(Kind::UnknownQueue, detail));
    }
    let tasks = match tasks {
        Some(tasks) => {
            for task in &tasks {
                access.check_task(task, Scope::Work)?;
                if task.is_reserved() {
                    return Err(unknown_task(task));
                }
            }
            tasks
        }
        None => pulled(&app, |task| access.covers(task)),
    };
    let request = LeaseRequest {
        holder: access.token_name().to_owned(),
        tasks,
        queues,
        max,
        lease_for,
        wait: prefer.wait().unwrap_or_default(),
    };
    // What comes after a wait says that it was waited for.
    let leased = app.engine.lease(request).await.map_err(Problem::from);
    let leased = leased.map_err(|problem| match problem.status() {
        StatusCode::SERVICE_UNAVAILABLE => problem.preferring(prefer),
        _ => problem,
    })?;
    debug!(worker = worker.as_deref(), "leased {} jobs", leased.len());
    let mut response = if leased.is_empty() {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    } else {
        let now = app.engine.clock().now();
        let mut answer = Vec::with_capacity(LEASE_BYTES * leased.len());
        json::object(&mut answer, |members| {
            members.list("leases", &leased, |bytes, leased| {
                write_lease(bytes, leased, now, mount.prefix());
            });
        });
        super::pages::json_text(answer)
    };
    prefer.tell(response.headers_mut());
    Ok(response)
}

/// Returns the tasks that are left to workers, of those that the caller may work on.
fn pulled(app: &App, covers: impl Fn(&str) -> bool) -> Vec<Name> {
    let pulled = app.engine.tasks().filter(|task| task.runner.is_pull());
    pulled
        .map(|task| task.name.clone())
        .filter(|name| covers(name))
        .collect()
}

/// `POST /v1/leases/{lease}/complete`: 200 + job; the body is its result.
pub(crate) async fn complete(app: App, call: Call) -> Result<Response, Problem> {
    call.no_query()?;
    let said = Said::of(&call);
    let content_type = body::content_type(call.headers())?.into();
    let limit = app.engine.options().result_bytes_max;
    let answer = Answer::new(call.mount, Prefer::default());
    let (bytes, room) = body::receive(call.body, limit, &app.buffered).await?;
    let result = Payload {
        content_type,
        bytes,
    };
    let settled = said.apply(&app, Settlement::Complete(result)).await;
    room.release();
    Ok(answer.changed(&app, StatusCode::OK, &settled?).await)
}

/// `POST /v1/leases/{lease}/fail`: 200 + job, which waits for its next attempt or has failed.
pub(crate) async fn fail(app: App, call: Call) -> Result<Response, Problem> {
    call.no_query()?;
    let said = Said::of(&call);
    let answer = Answer::new(call.mount, Prefer::default());
    let (bytes, room) = asked::receive(&app, &call.parts.headers, call.body).await?;
    let Failure { message, retry } = asked::failure(&bytes)?;
    let failed = said.apply(&app, Settlement::Fail { message, retry });
    let job = failed.await;
    room.release();
    Ok(answer.changed(&app, StatusCode::OK, &job?).await)
}

/// `POST /v1/leases/{lease}/extend`: 200 with until when it is held, and whether to stop.
pub(crate) async fn extend(app: App, call: Call) -> Result<Response, Problem> {
    call.no_query()?;
    let said = Said::of(&call);
    let (bytes, room) = asked::receive(&app, &call.parts.headers, call.body).await?;
    let Extension { lease_for, reports } = asked::extension(&bytes)?;
    let extended = said.apply(&app, Settlement::Extend { lease_for, reports });
    let job = extended.await;
    room.release();
    Ok(super::pages::json(&HeldView::of(&job?)))
}

/// `POST /v1/leases/{lease}/release`: 204; the job is handed back, which costs no attempt.
pub(crate) async fn release(app: App, call: Call) -> Result<Response, Problem> {
    call.no_query()?;
    Said::of(&call).apply(&app, Settlement::Release).await?;
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Who says something, of which lease.
struct Said {
    holder: String,
    lease: String,
}

impl Said {
    fn of(call: &Call) -> Self {
        Self {
            holder: call.access().token_name().to_owned(),
            lease: call.segment(2).into_owned(),
        }
    }

    async fn apply(self, app: &App, settlement: Settlement) -> Result<Job, Problem> {
        let said = vec![(self.lease, settlement)];
        let settled = app.engine.settle_leases(&self.holder, said).await?.pop();
        let settled = settled.unwrap_or(Err(LeaseRefused::Lost));
        settled.map_err(Problem::from)
    }
}

impl From<LeaseError> for Problem {
    fn from(error: LeaseError) -> Self {
        let detail = error.to_string();
        match error {
            LeaseError::NotPulled { .. } => Self::new(Kind::NotAPullTask, detail),
            LeaseError::OutOfRange { .. } => Self::new(Kind::InvalidBody, detail),
            LeaseError::Draining => Self::draining_leases(),
            LeaseError::Store(error) => error.into(),
            _ => Self::new(Kind::InternalError, "nothing was leased"),
        }
    }
}

impl From<LeaseRefused> for Problem {
    fn from(refused: LeaseRefused) -> Self {
        let detail = refused.to_string();
        match refused {
            LeaseRefused::Lost => Self::new(Kind::LeaseLost, detail),
            LeaseRefused::ResultTooLarge { .. } => Self::new(Kind::PayloadTooLarge, detail),
            _ => Self::new(Kind::InternalError, "nothing was changed"),
        }
    }
}

/// Appends a lease with its job and input.
fn write_lease(bytes: &mut Vec<u8>, leased: &Leased, now: Timestamp, prefix: &str) {
    let Leased { lease, job, input } = leased;
    let is_json = body::is_json(&input.content_type);
    let json = is_json.then(|| shown_result(input)).flatten();
    let view = JobView::of(job, now, prefix);
    json::object(bytes, |members| {
        members.text("lease", lease);
        members.value("claim", &job.status.claim.get());
        members.text("expires_at", &Instant(job.status.lease_expires_at).text());
        members.written("job", |bytes| view.write(bytes, Extent::Full));
        match json {
            Some(json) => members.json("input", json),
            None => members.text("input_base64", &BASE64_STANDARD.encode(&input.bytes)),
        }
        members.text("content_type", &input.content_type);
    });
}

/// How a lease stands that was extended.
#[derive(Serialize)]
struct HeldView {
    expires_at: Instant,
    cancel_requested: bool,
}

impl HeldView {
    fn of(job: &Job) -> Self {
        Self {
            expires_at: Instant(job.status.lease_expires_at),
            cancel_requested: job.status.cancel_requested,
        }
    }
}

/// Returns a path as it may be logged: without the token of a lease.
pub(crate) fn without_token(path: &str) -> Cow<'_, str> {
    const BEFORE: &str = "/v1/leases/";
    let Some((before, rest)) = path.split_once(BEFORE) else {
        return path.into();
    };
    match rest.split_once('/') {
        Some((_token, call)) => format!("{before}{BEFORE}…/{call}").into(),
        None if rest == "settle" => path.into(),
        None => format!("{before}{BEFORE}…").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_path_has_no_token() {
        for (path, logged) in [
            ("/v1/leases", "/v1/leases"),
            ("/v1/leases/settle", "/v1/leases/settle"),
            ("/v1/leases/secret/complete", "/v1/leases/…/complete"),
            ("/q/v1/leases/secret/extend", "/q/v1/leases/…/extend"),
            ("/v1/leases/secret", "/v1/leases/…"),
            ("/v1/jobs/1", "/v1/jobs/1"),
        ] {
            assert_eq!(without_token(path), logged);
        }
    }
}
