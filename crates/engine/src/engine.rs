//! The engine: what an embedder starts, calls and stops; and the list of the loops it runs.

use crate::asking::Asking;
use crate::bulk::Retries;
use crate::callback::{self, Callbacks};
use crate::clock::Clock;
use crate::feed::Feed;
use crate::forecast::Forecast;
use crate::lease::LeaseKey;
use crate::maintain::{self, Rest};
use crate::metrics::{Metrics, TaskMetrics};
use crate::notify::{Notices, Told};
use crate::queues::Queues;
use crate::report::{Outbox, write_reports};
use crate::run::StopReason;
use crate::running::Running;
use crate::schedules::{Schedule, ScheduleError, Schedules};
use crate::shutdown::Phases;
use crate::store::{Applied, Change, Deleted, Found, Store, StoreError};
use crate::submit::IdSource;
use crate::task::{Task, TaskRunner};
use crate::{dispatch, elsewhere, schedules};
use anteroom_core::limits::{
    INPUT_BYTES_MAX_DEFAULT, LEASE_DEFAULT, LEASE_MAX, LEASE_MIN, RESULT_BYTES_MAX_DEFAULT,
    RETAIN_DEFAULT,
};
use anteroom_core::{
    Event, Job, JobId, Lease, Name, Payload, QueueSettingError, QueueSettings, ServiceTimes,
    ShownState, State,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// What holds for all jobs of an engine.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a finished job is kept that does not say. Default 24 h.
    pub retain: Duration,
    /// How long an attempt that this node runs holds its lease between two extensions.
    /// Default 30 s.
    pub lease: Duration,
    /// The largest input, in bytes. Default 1 MiB.
    pub input_bytes_max: usize,
    /// The largest result, in bytes. Default 16 MiB.
    pub result_bytes_max: usize,
    /// What holds for queues where nothing was set while the engine ran. Default: nothing.
    pub queues: BTreeMap<Name, QueueSettings>,
    /// Whether to refuse queues that are neither among `queues`, nor a task's own, nor `default`.
    /// Default false: they are made on first use, up to 1,000.
    pub strict_queues: bool,
    /// Whether to begin with every queue paused, those that come later too, each until it is
    /// resumed. Default false.
    pub hold: bool,
    /// Who sends callbacks. Default: nobody, and submits with a `callback_url` are refused.
    pub callbacks: Option<Callbacks>,
    /// Schedules that nobody changes while the engine runs. Default: none.
    pub schedules: BTreeMap<Name, Schedule>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retain: RETAIN_DEFAULT,
            lease: LEASE_DEFAULT,
            input_bytes_max: INPUT_BYTES_MAX_DEFAULT,
            result_bytes_max: RESULT_BYTES_MAX_DEFAULT,
            queues: BTreeMap::new(),
            strict_queues: false,
            hold: false,
            callbacks: None,
            schedules: BTreeMap::new(),
        }
    }
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Two tasks have the same name.
    #[error("two tasks are named {name}")]
    TaskTwice {
        /// The name.
        name: Name,
    },
    /// A task has a name that the server keeps for itself.
    #[error("the task name {name} begins with what the server keeps for itself")]
    TaskReserved {
        /// The name.
        name: Name,
    },
    /// A task has no slot to run in.
    #[error("the concurrency of task {name} is {concurrency}; it is from 1 to {limit}")]
    Concurrency {
        /// The task.
        name: Name,
        /// What was asked for.
        concurrency: usize,
        /// The most there can be.
        limit: usize,
    },
    /// The lease of its attempts is out of range.
    #[error("the lease is {lease:?}; it is from {LEASE_MIN:?} to {LEASE_MAX:?}")]
    Lease {
        /// What was asked for.
        lease: Duration,
    },
    /// What is to hold for a queue is out of range.
    #[error("of queue {queue}, {error}")]
    Queue {
        /// The queue.
        queue: Name,
        /// What is wrong.
        error: QueueSettingError,
    },
    /// A schedule could not fire.
    #[error("schedule {name} cannot fire: {error}")]
    Schedule {
        /// Its name.
        name: Name,
        /// Why not.
        error: Box<ScheduleError>,
    },
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes jobs, has them run, and tells what became of them. Cheap to clone.
///
/// Loops that it runs until it is shut down: a dispatcher for each task that this process runs
/// (`dispatch.rs`), the lease keeper and the upkeep (`maintain.rs`), the writer of what attempts say
/// (`report.rs`), the timer of schedules (`schedules.rs`), and every attempt.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
}

/// What the steps of a job's path share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
    pub(crate) options: Options,
    pub(crate) tasks: BTreeMap<Name, Arc<Registered>>,
    /// The task of callbacks, if this node sends them: it is none of `tasks`, so that nobody
    /// submits to it.
    pub(crate) callbacks: Option<Arc<Registered>>,
    pub(crate) queues: Queues,
    pub(crate) schedules: Schedules,
    pub(crate) ids: IdSource,
    /// Where there are tasks that are left to workers.
    pub(crate) lease_key: Option<LeaseKey>,
    pub(crate) notices: Arc<Notices>,
    pub(crate) feed: Feed,
    pub(crate) forecast: Forecast,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) running: Arc<Running>,
    pub(crate) rest: Rest,
    pub(crate) retries: Retries,
    pub(crate) metrics: Metrics,
    pub(crate) phases: Phases,
    /// Owns the attempts.
    pub(crate) attempts: TaskTracker,
    /// Owns the dispatchers.
    pub(crate) dispatchers: TaskTracker,
    /// Owns the other loops.
    pub(crate) loops: TaskTracker,
}

/// A task, its slots on this node, and what is counted and remembered of it.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) task: Task,
    pub(crate) slots: Arc<Semaphore>,
    /// Slots that its dispatcher has in hand while its claim waits for jobs.
    pub(crate) offered: AtomicUsize,
    /// Workers that wait for its jobs.
    pub(crate) asking: Asking,
    /// How long its attempts took lately.
    pub(crate) service: Mutex<ServiceTimes>,
    pub(crate) metrics: Arc<TaskMetrics>,
}

impl Registered {
    /// Returns how many of its slots no attempt has.
    pub(crate) fn free_slots(&self) -> usize {
        let free = self.slots.available_permits() + self.offered.load(Ordering::Relaxed);
        // The two are not looked at at once.
        free.min(self.task.concurrency)
    }

    fn new(task: Task) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(task.concurrency)),
            offered: AtomicUsize::new(0),
            asking: Asking::default(),
            service: Mutex::default(),
            metrics: Arc::new(TaskMetrics::new(task.runner.is_pull())),
            task,
        }
    }
}

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The end of the job.
    Done,
    /// A change from what it has seen: the version and the state that were shown.
    Changed {
        /// The version it has seen.
        version: u64,
        /// The state it has seen.
        shown: ShownState,
    },
}

impl Engine {
    /// Starts an engine: rescues what a dead process left running, then dispatches.
    ///
    /// # Errors
    ///
    /// [`StartError`]: nothing was started.
    pub async fn start(
        store: Arc<dyn Store>,
        tasks: Vec<Task>,
        options: Options,
    ) -> Result<Self, StartError> {
        let lease = options.lease;
        if !(LEASE_MIN..=LEASE_MAX).contains(&lease) {
            return Err(StartError::Lease { lease });
        }
        for (queue, settings) in &options.queues {
            let queue = queue.clone();
            (settings.check()).map_err(|error| StartError::Queue { queue, error })?;
        }
        let tasks = register(tasks)?;
        let is_pulled = |registered: &Arc<Registered>| registered.task.runner.is_pull();
        let lease_key = if tasks.values().any(is_pulled) {
            Some(LeaseKey::of(&*store).await?)
        } else {
            None
        };
        let callbacks = options.callbacks.as_ref().map(callback::task);
        let callbacks = callbacks.map(|task| Arc::new(Registered::new(task)));
        let counted = tasks.iter().map(|(name, task)| (name, &task.metrics));
        let shared = Arc::new(Shared {
            clock: store.clock(),
            queues: Queues::new(&options, tasks.values().map(|registered| &registered.task)),
            schedules: Schedules::new(&options.schedules),
            options,
            metrics: Metrics::new(counted, store.metrics()),
            tasks,
            callbacks,
            ids: IdSource::after(newest_key(&*store).await?, store.is_shared()),
            lease_key,
            notices: Arc::default(),
            feed: Feed::default(),
            forecast: Forecast::default(),
            outbox: Arc::default(),
            running: Arc::default(),
            rest: Rest::default(),
            retries: Retries::default(),
            phases: Phases::default(),
            attempts: TaskTracker::new(),
            dispatchers: TaskTracker::new(),
            loops: TaskTracker::new(),
            store,
        });
        shared.queues.begin(&*shared.store).await?;
        shared.store.publish(shared.published()).await?;
        shared.begin_schedules().await?;
        maintain::rescue(&shared).await?;
        for registered in shared.tasks.values().chain(&shared.callbacks) {
            if let TaskRunner::Here(runner) = &registered.task.runner {
                let dispatcher =
                    dispatch::dispatch(shared.clone(), registered.clone(), runner.clone());
                shared.dispatchers.spawn(dispatcher);
            }
        }
        shared.loops.spawn(maintain::maintain(shared.clone()));
        shared.loops.spawn(write_reports(shared.clone()));
        shared.loops.spawn(schedules::run(shared.clone()));
        if shared.store.is_shared() {
            let following = elsewhere::follow_other_nodes(shared.clone());
            shared.loops.spawn(following);
        }
        maintain::start_keeper(&shared);
        Ok(Self { shared })
    }

    /// Returns what holds for all jobs.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// Returns the store, to read from.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// Returns the clock that everything goes by.
    pub fn clock(&self) -> Clock {
        self.shared.clock.clone()
    }

    /// Returns what it has counted since it was started.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Returns the tasks, in the order of their names.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.shared
            .tasks
            .values()
            .map(|registered| &registered.task)
    }

    /// Returns the task with this name.
    pub fn task(&self, name: &str) -> Option<&Task> {
        self.shared
            .tasks
            .get(name)
            .map(|registered| &registered.task)
    }

    /// Waits for a job, at most `wait`, and returns it as it stands then.
    ///
    /// It subscribes first and looks then, so that no change is missed; while it waits nothing
    /// asks the store. The wait ends early when the engine has stopped.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn wait(
        &self,
        id: JobId,
        until: Until,
        wait: Duration,
    ) -> Result<Found<Job>, StoreError> {
        let watch = self.shared.notices.subscribe(id);
        let job = match self.shared.store.get(id).await? {
            Found::Here(job) => job,
            other => return Ok(other),
        };
        let was_final = job.status.state.is_final();
        let job = watch.until(job, until, wait, &self.shared).await.job;
        // A job that had ended before can have been deleted or forgotten meanwhile.
        if was_final {
            self.shared.store.get(id).await
        } else {
            Ok(Found::Here(job))
        }
    }

    /// Waits for a job to be done, at most `wait`, and returns it with its result, if it has one.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn wait_for_result(
        &self,
        id: JobId,
        wait: Duration,
    ) -> Result<Found<(Job, Option<Payload>)>, StoreError> {
        let watch = self.shared.notices.subscribe(id);
        // The end of one that runs here is told of: there is no need to look first.
        if wait.is_zero() || !self.shared.running.runs(id) {
            let found = self.shared.store.result(id).await?;
            let is_awaited = |job: &Job| !job.status.state.is_final() && !wait.is_zero();
            if !matches!(&found, Found::Here((job, None)) if is_awaited(job)) {
                return Ok(found);
            }
        }
        match watch.end(wait, &self.shared).await {
            Some(Told {
                job,
                result: Some(result),
            }) => Ok(Found::Here((job, Some(result)))),
            // It has none, it was deleted, another node stored its result, or the wait is over.
            Some(_) | None => self.shared.store.result(id).await,
        }
    }

    /// Cancels a job: at once if it waits; a running attempt is told to stop, and keeps the
    /// result that it still reaches.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it was not cancelled, unless it is [`StoreError::Unknown`].
    pub async fn cancel(&self, id: JobId, if_version: Option<u64>) -> Result<Applied, StoreError> {
        let applied = self.change(id, Event::CancelRequested, if_version).await?;
        if let Ok(job) = &applied {
            self.tell_to_stop(job);
        }
        Ok(applied)
    }

    /// Tells the attempt of a job that was just cancelled to stop, if there is one on this node.
    pub(crate) fn tell_to_stop(&self, job: &Job) {
        let Job { spec, status, .. } = job;
        if status.state == State::Running && status.lease == Lease::Node {
            let running = &self.shared.running;
            running.stop(spec.id, status.claim, StopReason::Cancelled);
        }
    }

    /// Makes a failed, cancelled or scheduled job ready, its attempts starting over.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it was not changed, unless it is [`StoreError::Unknown`].
    pub async fn retry(&self, id: JobId, if_version: Option<u64>) -> Result<Applied, StoreError> {
        self.change(id, Event::RetryRequested, if_version).await
    }

    /// Deletes a finished job with its input and result.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it was not deleted, unless it is [`StoreError::Unknown`].
    pub async fn delete(&self, id: JobId, if_version: Option<u64>) -> Result<Deleted, StoreError> {
        let deleted = self.shared.store.delete(id, if_version).await?;
        if deleted == Deleted::Done {
            self.shared.notices.gone(id);
        }
        Ok(deleted)
    }

    /// Waits until the store has failed for good, and returns why: the process should end, and
    /// not with success.
    pub async fn failed(&self) -> StoreError {
        self.shared.store.failed().await
    }

    async fn change(
        &self,
        id: JobId,
        event: Event,
        if_version: Option<u64>,
    ) -> Result<Applied, StoreError> {
        let change = Change {
            if_version,
            ..Change::new(id, event)
        };
        self.shared.apply_one(change).await
    }
}

impl Shared {
    /// Lets one event happen, and tells who waits for the job.
    pub(crate) async fn apply_one(&self, change: Change) -> Result<Applied, StoreError> {
        let mut applied = self.apply(vec![change]).await?;
        applied.pop().ok_or_else(|| StoreError::Failed {
            reason: "the store gave no answer for a change".to_owned(),
        })
    }

    /// Lets events happen, and tells who waits for the jobs. Of no events the store is not told.
    pub(crate) async fn apply(&self, changes: Vec<Change>) -> Result<Vec<Applied>, StoreError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        self.apply_and(changes, |_| {}).await
    }

    /// Lets events happen, does something with what came of them, and only then tells who waits for
    /// the jobs.
    pub(crate) async fn apply_and(
        &self,
        changes: Vec<Change>,
        before_told: impl FnOnce(&[Applied]),
    ) -> Result<Vec<Applied>, StoreError> {
        let heard = self.feed.hear(&changes);
        let results: Vec<_> = changes.iter().map(|change| change.result.clone()).collect();
        let applied = self.store.apply(changes).await?;
        self.rest.end();
        before_told(&applied);
        // Before anybody can do what comes next for them.
        if let Some(heard) = heard {
            self.feed.tell_changes(heard, &applied, self.clock.now());
        }
        for (applied, result) in applied.iter().zip(results) {
            if let Ok(job) = applied {
                self.changed(job, result);
            }
        }
        Ok(applied)
    }

    /// Tells of an attempt that has begun by a claim.
    pub(crate) fn began(&self, job: &Job) {
        self.queues.meters.started(job);
        self.feed.tell(job, self.clock.now());
        self.metrics.of(&job.spec.task).started(job);
        self.notices.changed(job, None);
    }

    /// Counts an end, and tells who waits for the job: in this order, so that who is told of an end
    /// finds it counted.
    pub(crate) fn changed(&self, job: &Job, result: Option<Payload>) {
        self.metrics.of(&job.spec.task).finished(job.status.state);
        self.queues.meters.changed(job);
        // One that came beside a cancel is not kept.
        let result = result.filter(|_| job.result.is_some());
        self.notices.changed(job, result.as_ref());
    }
}

fn register(tasks: Vec<Task>) -> Result<BTreeMap<Name, Arc<Registered>>, StartError> {
    use anteroom_core::limits::CONCURRENCY_MAX;

    let mut registered = BTreeMap::new();
    for task in tasks {
        let (name, concurrency) = (task.name.clone(), task.concurrency);
        if name.is_reserved() {
            return Err(StartError::TaskReserved { name });
        }
        if !(1..=CONCURRENCY_MAX).contains(&concurrency) {
            return Err(StartError::Concurrency {
                name,
                concurrency,
                limit: CONCURRENCY_MAX,
            });
        }
        let new = Arc::new(Registered::new(task));
        if registered.insert(name.clone(), new).is_some() {
            return Err(StartError::TaskTwice { name });
        }
    }
    Ok(registered)
}

/// The order key of the newest job, those that a list does not show by itself included, above which
/// new ids begin.
async fn newest_key(store: &dyn Store) -> Result<i64, StoreError> {
    use crate::store::{Filter, Page};

    let callbacks = Filter {
        task: Some(callback::task_name()),
        ..Filter::default()
    };
    let mut newest = 0;
    for filter in [Filter::default(), callbacks] {
        let page = Page {
            size: 1,
            after: None,
        };
        let listing = store.list(&filter, page).await?;
        let keys = listing.jobs.iter().map(|job| job.spec.id.order_key());
        newest = keys.fold(newest, i64::max);
    }
    Ok(newest)
}
