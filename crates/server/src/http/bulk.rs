//! Cancelling, retrying and deleting all jobs that match the filters of a list.

use super::App;
use super::access::Access;
use super::call::Call;
use super::list;
use super::problem::{Kind, Problem};
use super::query::Query;
use anteroom::store::Filter;
use anteroom::{Bulk, BulkAction};
use axum::response::Response;
use serde::Serialize;

/// `POST /v1/jobs/cancel`: cancels the unfinished jobs that match.
pub(crate) async fn cancel(app: App, call: Call) -> Result<Response, Problem> {
    all(&app, call.query(), call.access(), BulkAction::Cancel).await
}

/// `POST /v1/jobs/retry`: retries the failed, cancelled and scheduled jobs that match.
pub(crate) async fn retry(app: App, call: Call) -> Result<Response, Problem> {
    all(&app, call.query(), call.access(), BulkAction::Retry).await
}

/// `DELETE /v1/jobs`: deletes the finished jobs that match.
pub(crate) async fn delete(app: App, call: Call) -> Result<Response, Problem> {
    all(&app, call.query(), call.access(), BulkAction::Delete).await
}

async fn all(
    app: &App,
    mut query: Query,
    access: &Access,
    action: BulkAction,
) -> Result<Response, Problem> {
    let filter = list::filter(&mut query, access);
    query.finish()?;
    // What the token allows is no filter of the client's.
    let nothing = Filter {
        tasks_allowed: filter.tasks_allowed.clone(),
        ..Filter::default()
    };
    if filter == nothing {
        let detail = "there is no filter; give at least one of task, queue, group, state, \
                      tag.NAME, created_after and created_before";
        return Err(Problem::new(Kind::InvalidParameter, detail));
    }
    let bulk = app.engine.bulk(action, &filter).await?;
    Ok(answer(bulk))
}

#[derive(Serialize)]
struct BulkView {
    matched: usize,
    changed: usize,
    more: bool,
}

fn answer(bulk: Bulk) -> Response {
    let Bulk {
        matched,
        changed,
        more,
    } = bulk;
    let view = BulkView {
        matched,
        changed,
        more,
    };
    super::pages::json(&view)
}
