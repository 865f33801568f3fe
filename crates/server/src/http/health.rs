//! Whether the server lives, and whether it takes jobs.

use super::App;
use super::call::Call;
use super::limits::{READY_TIMEOUT, RETRY_AFTER_OVERLOAD};
use super::problem::{Kind, Problem};
use anteroom::Phase;
use anteroom::core::JobId;
use axum::response::Response;
use futures_util::FutureExt;
use serde::Serialize;
use tokio::time::timeout;

#[derive(Serialize)]
struct HealthView {
    status: &'static str,
}

/// `GET /livez`: the process answers.
pub(crate) async fn livez(_app: App, call: Call) -> Result<Response, Problem> {
    call.no_query()?;
    Ok(super::pages::json(&HealthView { status: "live" }))
}

/// `GET /readyz`: the server takes jobs, or says why not.
pub(crate) async fn readyz(app: App, call: Call) -> Result<Response, Problem> {
    call.no_query()?;
    let mut reasons = Vec::new();
    let phase = app.engine.phase();
    if phase != Phase::Running {
        reasons.push("the server is shutting down".to_owned());
    }
    if let Some(reason) = store_reason(&app).await {
        reasons.push(reason);
    }
    if reasons.is_empty() {
        return Ok(super::pages::json(&HealthView { status: "ready" }));
    }
    let kind = if phase == Phase::Running {
        Kind::StoreUnavailable
    } else {
        Kind::Draining
    };
    let problem = Problem::new(kind, reasons.join("; ")).with_reasons(reasons);
    Err(problem.with_retry_after(RETRY_AFTER_OVERLOAD))
}

/// Returns why the store cannot be used; none if it can.
async fn store_reason(app: &App) -> Option<String> {
    if app.engine.failed().now_or_never().is_some() {
        return Some("the store has failed for good".to_owned());
    }
    // No job has this id: any store finds that out at once.
    let look = app.engine.store().get(JobId::from_bytes([0; 16]));
    match timeout(READY_TIMEOUT, look).await {
        Ok(Ok(_)) => None,
        Ok(Err(_)) => Some("the store cannot be read".to_owned()),
        Err(_) => Some("the store does not answer in time".to_owned()),
    }
}
