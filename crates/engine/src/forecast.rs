//! What a job waits for, and for how long: the parts of the answer that only a node knows.
//!
//! It remembers how long attempts took lately, by task and by queue, and who runs a task. What that
//! makes of a job's start is decided in [`anteroom_core`]; the words for it are in `reasons.rs`.
//! Nothing here asks the store but [`Engine::waiting`], a refusal of a full queue, and a submit that has
//! a deadline for its start.

use crate::engine::{Engine, Registered, Shared};
use crate::metrics::AttemptEnd;
use crate::reasons::{Standing, reasons};
use crate::shutdown::Phase;
use crate::store::{NewJob, PlaceOf, StoreError};
use crate::submit::SubmitError;
use anteroom_core::{
    Job, Name, Outlook, Place, Position, Priority, ServiceTimes, Slots, Spec, State, Timestamp,
};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long it counts that a worker has asked for jobs of a task.
pub(crate) const ASKED_LATELY: Duration = Duration::from_mins(1);
/// How long what was seen of a full queue is good for: refusals come by the thousand.
const ROOM_KEPT: Duration = Duration::from_secs(1);

/// What a job waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What is ahead of it; none while its `run_at` lies ahead.
    pub position: Option<Position>,
    /// In how long it starts, about; none where that cannot be told.
    pub starts_in: Option<Duration>,
    /// In how long it is done, about, if its first attempt does; none where that cannot be told.
    pub done_in: Option<Duration>,
    /// Why it has not started, most important first: at least one, and a handful at most.
    pub reasons: Vec<String>,
}

/// What is remembered of how long jobs take. There are as many entries as there are queues.
#[derive(Debug, Default)]
pub(crate) struct Forecast {
    queues: Mutex<HashMap<Name, ServiceTimes>>,
    /// Full queues, as they were seen last.
    full: Mutex<HashMap<Name, (Timestamp, Place)>>,
}

impl Forecast {
    /// Returns how long jobs of a queue took lately.
    fn of(&self, queue: &Name) -> ServiceTimes {
        lock(&self.queues).get(queue).copied().unwrap_or_default()
    }
}

/// Who runs the jobs of a task, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// This node.
    Here(Slots),
    /// Workers: for so many jobs of its queue some are waiting.
    Pulled {
        /// How many.
        asking: u64,
        /// Somebody has asked within the last minute.
        is_asked: bool,
    },
    /// Nobody: the task is none of this node's any more.
    Nowhere,
}

impl Served {
    fn slots(self, place: &Place) -> Slots {
        match self {
            Self::Here(slots) => slots,
            // Who asked lately, and has nothing to do, asks again, and would have taken what waits.
            Self::Pulled {
                asking: 0,
                is_asked: true,
            } => Slots {
                all: 1,
                free: u64::from(place.task_running + place.task_before() == 0),
            },
            Self::Pulled { asking, .. } => Slots {
                all: asking,
                free: asking,
            },
            Self::Nowhere => Slots::default(),
        }
    }
}

impl Registered {
    /// Returns who runs its jobs in a queue.
    fn served(&self, queue: &Name, now: Timestamp) -> Served {
        if self.task.runner.is_pull() {
            let (asking, asked_at) = self.asking.of(queue);
            return Served::Pulled {
                asking,
                is_asked: asking > 0 || asked_at.is_some_and(|at| now.since(at) < ASKED_LATELY),
            };
        }
        let all = self.task.concurrency;
        Served::Here(Slots {
            all: all as u64,
            free: self.free_slots() as u64,
        })
    }
}

impl Shared {
    /// Notes how long an attempt took that had a slot for all of that time.
    pub(crate) fn took(&self, job: &Spec, end: AttemptEnd, span: Duration) {
        // One that was handed back, or lost, says nothing of how long the work takes.
        if matches!(
            end,
            AttemptEnd::HandedBack | AttemptEnd::Lost | AttemptEnd::Unsettled
        ) {
            return;
        }
        if let Some(registered) = self.registered(&job.task) {
            lock(&registered.service).add(span);
        }
        let mut queues = lock(&self.forecast.queues);
        match queues.get_mut(&job.queue) {
            Some(service) => service.add(span),
            None => queues.entry(job.queue.clone()).or_default().add(span),
        }
    }

    /// Returns how long jobs of a task took lately; none where none has ended.
    fn mean(&self, task: &Name) -> Option<Duration> {
        let registered = self.registered(task)?;
        let service = *lock(&registered.service);
        service.mean()
    }

    fn served(&self, task: &Name, queue: &Name, now: Timestamp) -> Served {
        let registered = self.registered(task);
        registered.map_or(Served::Nowhere, |registered| registered.served(queue, now))
    }

    fn outlook<'a>(
        &self,
        task: &Name,
        queue: &Name,
        place: &'a Place,
        run_at: Timestamp,
    ) -> Outlook<'a> {
        let now = self.clock.now();
        let of_queue = self.forecast.of(queue);
        let of_task = self.registered(task);
        let of_task = of_task.map(|registered| *lock(&registered.service));
        // Only where the queue has a limit are those of other tasks in the way.
        let (first, second) = match place.rule.max_concurrency {
            Some(_) => (of_queue, of_task.unwrap_or_default()),
            None => (of_task.unwrap_or_default(), of_queue),
        };
        let service = first.mean().map_or(second, |_| first);
        Outlook {
            place,
            run_at,
            now,
            slots: self.served(task, queue, now).slots(place),
            service,
        }
    }

    /// Refuses a job of which it is known that it cannot start by its `start_before`. Only one that has
    /// one, and no keys: whether those give a job that is there already is for the store to say.
    pub(crate) async fn check_in_time(&self, new: &NewJob) -> Result<(), SubmitError> {
        let NewJob { spec, status, .. } = new;
        match status.start_before.filter(|_| spec.unique_key.is_none()) {
            // What its submitter rules out, with a `run_at` beyond it, is no matter of how busy we are.
            // In a box: most jobs have no deadline, and need no room for it.
            Some(deadline) if status.run_at <= deadline => {
                Box::pin(self.check_before(deadline, new)).await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Refuses a job that would not start by `deadline`.
    async fn check_before(&self, deadline: Timestamp, new: &NewJob) -> Result<(), SubmitError> {
        let NewJob { spec, status, .. } = new;
        let of = PlaceOf::New {
            task: spec.task.clone(),
            queue: spec.queue.clone(),
            group: spec.group.clone(),
            priority: spec.priority,
        };
        let Some(place) = self.store.place(of).await? else {
            return Ok(());
        };
        let outlook = self.outlook(&spec.task, &spec.queue, &place, status.run_at);
        let served = self.served(&spec.task, &spec.queue, outlook.now);
        // How many workers are between two of their calls is not known, where none has left a job.
        if matches!(served, Served::Pulled { asking: 0, .. }) && place.task_before() == 0 {
            return Ok(());
        }
        if !outlook.misses(deadline) || self.is_replay(new).await? {
            return Ok(());
        }
        let starts_in = outlook.starts_in().unwrap_or_default();
        let spare = deadline.since(outlook.now);
        Err(SubmitError::StartsTooLate {
            before: place.starts_before,
            starts_in,
            spare,
        })
    }

    /// Says of a submit that was refused for a full queue when there is room for it. `more` jobs of
    /// `task` were to go in; none where that cannot be told.
    pub(crate) async fn room_in(&self, task: &Name, queue: &Name, more: u64) -> Option<Duration> {
        let now = self.clock.now();
        let seen = lock(&self.forecast.full).get(queue).cloned();
        let place = match seen {
            Some((at, place)) if at <= now && now.since(at) < ROOM_KEPT => place,
            Some(_) | None => {
                let of = PlaceOf::New {
                    task: task.clone(),
                    queue: queue.clone(),
                    group: None,
                    priority: Priority::default(),
                };
                let place = self.store.place(of).await.ok()??;
                let mut full = lock(&self.forecast.full);
                full.insert(queue.clone(), (now, place.clone()));
                place
            }
        };
        // There is room once the last of those that have to go has started.
        let last = Place {
            starts_before: more.saturating_sub(1),
            task_ready: place.task_ready.min(more.saturating_sub(1)),
            ..place
        };
        if last.ready < more {
            return None;
        }
        self.outlook(task, queue, &last, now).starts_in()
    }
}

impl Engine {
    /// Returns what a waiting job waits for, if it still waits.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn waiting(&self, job: &Job) -> Result<Option<Waiting>, StoreError> {
        if job.status.state != State::Waiting {
            return Ok(None);
        }
        let place = self.shared.store.place(PlaceOf::Job(job.spec.id)).await?;
        Ok(place.map(|place| self.waiting_at(job, &place)))
    }

    /// Returns what a job waits for that stands at `place`. Asks nobody.
    pub fn waiting_at(&self, job: &Job, place: &Place) -> Waiting {
        let shared = &self.shared;
        let Spec { task, queue, .. } = &*job.spec;
        let is_draining = shared.phases.now() != Phase::Running;
        let outlook = shared.outlook(task, queue, place, job.status.run_at);
        // Who starts it then, and when, is not for this node to say.
        let starts_in = outlook.starts_in().filter(|_| !is_draining);
        let standing = Standing {
            job,
            place,
            served: shared.served(task, queue, outlook.now),
            is_draining,
            now: outlook.now,
        };
        let mean = shared.mean(task).or_else(|| outlook.service.mean());
        Waiting {
            position: place.position,
            starts_in,
            done_in: starts_in
                .zip(mean)
                .map(|(wait, mean)| wait.saturating_add(mean)),
            reasons: reasons(&standing),
        }
    }

    /// Returns in how long a job is done at the soonest, by how long those of its task take; none where
    /// that cannot be told. Asks nobody: what is ahead of one that waits is not known.
    pub fn done_in(&self, job: &Job) -> Option<Duration> {
        let now = self.shared.clock.now();
        let mean = self.shared.mean(&job.spec.task)?;
        match job.status.state {
            State::Waiting => Some(job.status.run_at.since(now).saturating_add(mean)),
            State::Running => {
                let began_at = job.status.started_at.unwrap_or(now);
                Some(mean.saturating_sub(now.since(began_at)))
            }
            State::Succeeded | State::Failed | State::Cancelled => None,
        }
    }
}

/// What is kept behind these locks is whole whatever panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
