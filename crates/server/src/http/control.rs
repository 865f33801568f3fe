//! Ending a job from outside, and beginning it again: cancel, retry, delete.

use super::App;
use super::call::Call;
use super::conditional;
use super::prefer::Prefer;
use super::problem::{Kind, Problem};
use super::read::{Answer, expired, here, unknown};
use anteroom::core::{Job, JobId, Rejected};
use anteroom::store::{Deleted, Refused};
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// `POST /v1/jobs/{id}/cancel`: 200 when that is final, 202 when an attempt is told to stop.
pub(crate) async fn cancel(app: App, call: Call) -> Result<Response, Problem> {
    let id = call.job_id(&app).await?;
    call.no_query()?;
    let if_version = expected_version(&app, call.headers(), id).await?;
    let job = match app.engine.cancel(id, if_version).await? {
        Ok(job) => job,
        // It ended, or is about to, without our doing: what was asked for is so already.
        Err(Refused::Rejected(
            Rejected::AlreadyFinal | Rejected::AlreadySucceeded | Rejected::AlreadyRequested,
            job,
        )) => *job,
        Err(refused) => return Err(refusal(&app, id, refused)),
    };
    let status = if job.status.state.is_final() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let answer = Answer::new(call.mount, Prefer::default());
    Ok(answer.job(&app, status, &job).await)
}

/// `POST /v1/jobs/{id}/retry`: 202; the job is ready, its attempts start over.
pub(crate) async fn retry(app: App, call: Call) -> Result<Response, Problem> {
    let id = call.job_id(&app).await?;
    call.no_query()?;
    let if_version = expected_version(&app, call.headers(), id).await?;
    match app.engine.retry(id, if_version).await? {
        Ok(job) => {
            let answer = Answer::new(call.mount, Prefer::default());
            Ok(answer.job(&app, StatusCode::ACCEPTED, &job).await)
        }
        Err(refused) => Err(refusal(&app, id, refused)),
    }
}

/// `DELETE /v1/jobs/{id}`: 204; the job is gone with its input and result.
pub(crate) async fn delete(app: App, call: Call) -> Result<Response, Problem> {
    let id = call.job_id(&app).await?;
    call.no_query()?;
    let if_version = expected_version(&app, call.headers(), id).await?;
    match app.engine.delete(id, if_version).await? {
        Deleted::Done => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        Deleted::Unknown => Err(unknown(id)),
        Deleted::Gone => Err(expired(id)),
        Deleted::NotFinal(job) => {
            let state = job.status.shown(app.engine.clock().now());
            let detail = format!("job {id} is {state}; cancel it first");
            Err(Problem::new(Kind::NotFinal, detail).with_job(id, None))
        }
        Deleted::VersionDiffers(job) => Err(version_differs(&app, &job)),
    }
}

/// Returns the version that `If-Match` stands for, so that it holds until the change is made; none
/// where any will do.
pub(crate) async fn expected_version(
    app: &App,
    headers: &HeaderMap,
    id: JobId,
) -> Result<Option<u64>, Problem> {
    if !headers.contains_key(header::IF_MATCH) || conditional::takes_any(headers) {
        return Ok(None);
    }
    let job: Job = here(id, app.engine.store().get(id).await)?;
    let tag = conditional::tag_of(&job, app.engine.clock().now());
    if conditional::is_as_expected(headers, &tag) {
        Ok(Some(job.status.version))
    } else {
        Err(version_differs(app, &job))
    }
}

/// Returns the problem that a job is not what a client has seen, with what it is.
fn version_differs(app: &App, job: &Job) -> Problem {
    let id = job.spec.id;
    let detail = format!("job {id} has changed since it was read; read it again");
    let tag = conditional::tag_of(job, app.engine.clock().now());
    Problem::new(Kind::VersionDiffers, detail).with_header(
        header::ETAG,
        HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\"")),
    )
}

/// Returns the problem that a job was not changed.
pub(crate) fn refusal(app: &App, id: JobId, refused: Refused) -> Problem {
    let (rejected, job) = match refused {
        Refused::Unknown => return unknown(id),
        Refused::Gone => return expired(id),
        Refused::VersionDiffers(job) => return version_differs(app, &job),
        Refused::UniqueKeyTaken { holder } => {
            let detail =
                format!("job {holder}, which is unfinished, has the unique key of job {id}");
            return Problem::new(Kind::UniqueKeyTaken, detail).with_job(holder, None);
        }
        Refused::Rejected(rejected, job) => (rejected, job),
        // Said of leases alone.
        Refused::Repeated(job) => (Rejected::LeaseLost, job),
    };
    let state = job.status.shown(app.engine.clock().now());
    let (kind, detail) = match rejected {
        Rejected::AlreadySucceeded => {
            let detail = format!("job {id} has its result; submit the work again instead");
            (Kind::AlreadySucceeded, detail)
        }
        Rejected::NotWaiting => {
            let detail = format!("job {id} is {state}; only a job that waits can be changed");
            (Kind::NotWaiting, detail)
        }
        _ => (Kind::NothingToRetry, format!("job {id}: {rejected}")),
    };
    Problem::new(kind, detail).with_job(job.spec.id, None)
}
