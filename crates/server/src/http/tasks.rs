//! What there is to submit to: `GET /v1/tasks`.

use super::App;
use super::call::Call;
use super::problem::Problem;
use super::submit::unknown_task;
use super::value::Friendly;
use anteroom::store::Counts;
use anteroom::{Task, Validate};
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
struct TasksView<'a> {
    tasks: Vec<TaskView<'a>>,
}

#[derive(Serialize)]
struct TaskView<'a> {
    name: &'a str,
    runner: &'static str,
    queue: &'a str,
    timeout: Friendly,
    max_attempts: u32,
    backoff: BackoffView,
    concurrency: usize,
    content_type: Option<&'a str>,
    schema: Option<&'a RawValue>,
    counts: CountsView,
    links: LinksView,
}

#[derive(Serialize)]
struct BackoffView {
    initial: Friendly,
    factor: f64,
    max: Friendly,
    jitter: f64,
}

/// Unfinished jobs of the task, in all queues.
#[derive(Default, Serialize)]
struct CountsView {
    scheduled: u64,
    ready: u64,
    running: u64,
}

#[derive(Serialize)]
struct LinksView {
    #[serde(rename = "self")]
    itself: String,
    jobs: String,
    call: String,
}

/// `GET /v1/tasks`: all of them, in the order of their names.
pub(crate) async fn all(app: App, call: Call) -> Result<Response, Problem> {
    call.no_query()?;
    let counts = app.engine.store().counts().await?;
    let view = |task| TaskView::of(task, &counts, call.mount.prefix());
    let covered = |task: &&Task| call.access().covers(&task.name);
    let tasks = app.engine.tasks().filter(covered).map(view).collect();
    Ok(super::pages::json(&TasksView { tasks }))
}

/// `GET /v1/tasks/{task}`: one of them.
pub(crate) async fn one(app: App, call: Call) -> Result<Response, Problem> {
    call.no_query()?;
    let name = call.segment(2);
    let task = app.engine.task(&name);
    let Some(task) = task.filter(|task| call.access().covers(&task.name)) else {
        return Err(unknown_task(&name));
    };
    let counts = app.engine.store().counts().await?;
    let view = TaskView::of(task, &counts, call.mount.prefix());
    Ok(super::pages::json(&view))
}

impl<'a> TaskView<'a> {
    fn of(task: &'a Task, counts: &[Counts], prefix: &str) -> Self {
        let itself = format!("{prefix}/v1/tasks/{}", task.name);
        Self {
            name: &task.name,
            runner: task.runner.kind(),
            queue: &task.queue,
            timeout: Friendly(task.timeout),
            max_attempts: task.max_attempts,
            backoff: BackoffView {
                initial: Friendly(task.retry.initial),
                factor: task.retry.factor,
                max: Friendly(task.retry.max),
                jitter: task.retry.jitter,
            },
            concurrency: task.concurrency,
            content_type: task.content_type.as_deref(),
            schema: task.validator.as_deref().and_then(schema),
            counts: CountsView::of(task, counts),
            links: LinksView {
                jobs: format!("{itself}/jobs"),
                call: format!("{itself}/call"),
                itself,
            },
        }
    }
}

fn schema(validator: &dyn Validate) -> Option<&RawValue> {
    serde_json::from_str(validator.schema()?).ok()
}

impl CountsView {
    fn of(task: &Task, counts: &[Counts]) -> Self {
        let of_task = counts.iter().filter(|counts| counts.task == task.name);
        of_task.fold(Self::default(), |sum, counts| Self {
            scheduled: sum.scheduled + counts.scheduled,
            ready: sum.ready + counts.ready,
            running: sum.running + counts.running,
        })
    }
}
