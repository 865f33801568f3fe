//! Queues: which there are, what holds for each, and how that is changed.
//!
//! A queue is *named* by the configuration, by a task, or by being `default`; every other one is
//! made on first use, and kept by the store from then on. Pauses and limits are applied by the store,
//! where jobs are inserted and claimed; what they are is decided in [`anteroom_core`].

use crate::engine::{Engine, Options, Shared};
use crate::rates::{Meters, Rates};
use crate::store::{
    Counts, Found, Inserted, KeptQueue, NewJob, QueueChange, QueueSet, Store, StoreError,
};
use crate::submit::SubmitError;
use crate::task::Task;
use anteroom_core::limits::{DEFAULT_QUEUE, QUEUE_CHANGE_TRIES_MAX, QUEUES_MADE_MAX};
use anteroom_core::{
    Job, JobId, Name, Patch, QueueDefaults, QueuePatch, QueueRule, QueueSettingError,
    QueueSettings, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{PoisonError, RwLock};
use tokio::sync::{Mutex, MutexGuard};

/// A queue as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// Its name.
    pub name: Name,
    /// What holds for it.
    pub rule: QueueRule,
    /// Rises with every change of what was set for it; 0: nothing ever was.
    pub version: u64,
    /// Jobs whose `run_at` lies ahead.
    pub scheduled: u64,
    /// Jobs that may start.
    pub ready: u64,
    /// Jobs that run.
    pub running: u64,
    /// The earliest `run_at` of its ready jobs; none if it has none.
    pub oldest_ready: Option<Timestamp>,
    /// What happened to its jobs in the last minute, on this node.
    pub rates: Rates,
}

/// Why a queue was not changed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// There is no such queue, and it is not to be made.
    #[error("there is no queue {queue}")]
    Unknown {
        /// The name.
        queue: Name,
    },
    /// It would have to be made, and as many were made as may.
    #[error(
        "{limit} queues were made on first use, which is the limit; {queue} is not one of them"
    )]
    TooMany {
        /// The name.
        queue: Name,
        /// How many there may be.
        limit: usize,
    },
    /// What was set for it has another version than the change was made for.
    #[error("queue {queue} has version {version} of its settings")]
    VersionDiffers {
        /// The name.
        queue: Name,
        /// The version that it has; 0: nothing was set.
        version: u64,
    },
    /// What it is to be set to is out of range.
    #[error("of queue {queue}, {error}")]
    OutOfRange {
        /// The name.
        queue: Name,
        /// What is wrong.
        error: QueueSettingError,
    },
    /// The store could not do it. Worth a retry where the store's error is.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the engine knows of queues.
#[derive(Debug)]
pub(crate) struct Queues {
    /// Those that the configuration or a task names, and `default`.
    named: BTreeSet<Name>,
    is_strict: bool,
    /// Those that were made on first use, as far as this node knows.
    made: RwLock<HashSet<Name>>,
    /// What holds where nothing was set. Held while a queue is made or changed.
    defaults: Mutex<QueueDefaults>,
    pub(crate) meters: Meters,
}

impl Queues {
    pub(crate) fn new<'a>(options: &Options, tasks: impl Iterator<Item = &'a Task>) -> Self {
        let named = tasks.map(|task| task.queue.clone());
        let named = named.chain(options.queues.keys().cloned());
        Self {
            named: named.chain(Name::new(DEFAULT_QUEUE).ok()).collect(),
            is_strict: options.strict_queues,
            made: RwLock::default(),
            defaults: Mutex::new(QueueDefaults {
                of: options.queues.clone(),
                hold: options.hold,
                released: BTreeSet::new(),
            }),
            meters: Meters::default(),
        }
    }

    /// Tells the store what holds, before anything is claimed, and makes the queues whose jobs a
    /// store brings along that kept no queues yet.
    pub(crate) async fn begin(&self, store: &dyn Store) -> Result<(), StoreError> {
        let defaults = self.defaults.lock().await;
        store.configure_queues(defaults.clone()).await?;
        self.look(store).await?;
        let counts = store.counts().await?;
        let found: BTreeSet<Name> = counts
            .into_iter()
            .map(|counts| counts.queue)
            .filter(|queue| !self.is_known(queue))
            .collect();
        // Those that cannot be kept are there all the same, for as long as they have jobs.
        self.make(store, found).await.map(drop)
    }

    /// Tells whether jobs may wait in a queue of this name, as far as no bound is in the way.
    pub(crate) fn takes(&self, queue: &Name) -> bool {
        !self.is_strict || self.named.contains(queue)
    }

    /// Returns the queues that are named, each with how many jobs may wait in it by the configuration.
    pub(crate) fn named(&self, options: &Options) -> BTreeMap<Name, Option<u64>> {
        let configured = |name| options.queues.get(name).and_then(|queue| queue.max_depth);
        let named = self.named.iter();
        named.map(|name| (name.clone(), configured(name))).collect()
    }

    /// Tells whether jobs may wait in a queue of this name as it is.
    fn is_at_hand(&self, queue: &Name) -> bool {
        (self.takes(queue) || queue.is_reserved()) && self.is_known(queue)
    }

    /// Tells whether a queue need not be made.
    fn is_known(&self, queue: &Name) -> bool {
        self.named.contains(queue)
            || queue.is_reserved()
            || (self.made.read())
                .unwrap_or_else(PoisonError::into_inner)
                .contains(queue)
    }

    /// Learns which queues were made, here or by others.
    async fn look(&self, store: &dyn Store) -> Result<Vec<KeptQueue>, StoreError> {
        let kept = store.queues().await?;
        let made = kept.iter().map(|kept| &kept.name);
        let made = made.filter(|name| !self.named.contains(*name)).cloned();
        *self.made.write().unwrap_or_else(PoisonError::into_inner) = made.collect();
        Ok(kept)
    }

    fn made(&self) -> usize {
        let made = self.made.read();
        made.unwrap_or_else(PoisonError::into_inner).len()
    }

    fn note_made(&self, queues: impl IntoIterator<Item = Name>) {
        let made = self.made.write();
        made.unwrap_or_else(PoisonError::into_inner).extend(queues);
    }

    /// Makes queues, all in one commit, and returns those that the store has no room for.
    async fn make(
        &self,
        store: &dyn Store,
        queues: BTreeSet<Name>,
    ) -> Result<Vec<Name>, StoreError> {
        if queues.is_empty() {
            return Ok(Vec::new());
        }
        let change = |name: &Name| QueueChange {
            name: name.clone(),
            settings: QueueSettings::default(),
            // Another node may have been first: then there is nothing to do.
            if_version: Some(0),
        };
        let set = store
            .set_queues(queues.iter().map(change).collect())
            .await?;
        let each = queues.into_iter().zip(set);
        let (left, made): (Vec<_>, Vec<_>) = each.partition(|(_, set)| *set == QueueSet::TooMany);
        self.note_made(made.into_iter().map(|(name, _)| name));
        Ok(left.into_iter().map(|(name, _)| name).collect())
    }

    /// Makes those queues of jobs to be inserted or moved that are not there yet: all or none.
    async fn make_for<'a>(
        &self,
        store: &dyn Store,
        mut queues: impl Iterator<Item = &'a Name> + Clone,
    ) -> Result<(), QueueError> {
        let wanted = queues.clone();
        let unknown = || {
            let wanted = wanted.clone();
            wanted.filter(|queue| !self.is_known(queue)).cloned()
        };
        if self.is_strict
            && let Some(queue) =
                queues.find(|queue| !self.named.contains(*queue) && !queue.is_reserved())
        {
            let queue = queue.clone();
            return Err(QueueError::Unknown { queue });
        }
        if unknown().next().is_none() {
            return Ok(());
        }
        // One at a time, so that no two of them make the last one that may be made.
        let _making = self.defaults.lock().await;
        self.look(store).await?;
        let queues: BTreeSet<Name> = unknown().collect();
        let room = QUEUES_MADE_MAX.saturating_sub(self.made());
        if let Some(queue) = queues.iter().nth(room) {
            return Err(too_many(queue));
        }
        let left = self.make(store, queues).await?;
        left.first().map_or(Ok(()), |queue| Err(too_many(queue)))
    }
}

impl Engine {
    /// Returns all queues, by name: those that the configuration or a task names, `default`, and those
    /// that were made on first use. Those that the server keeps for itself are left out.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn queues(&self) -> Result<Vec<Queue>, StoreError> {
        let view = View::of(&self.shared).await?;
        let named = self.shared.queues.named.iter();
        let kept = view.kept.keys();
        let with_jobs = view.counts.keys();
        let all: BTreeSet<&Name> = named.chain(kept).chain(with_jobs).collect();
        let shown = all.into_iter().filter(|name| !name.is_reserved());
        Ok(shown.map(|name| view.queue(&self.shared, name)).collect())
    }

    /// Returns a queue; none if there is none of this name.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn queue(&self, name: &Name) -> Result<Option<Queue>, StoreError> {
        if name.is_reserved() {
            return Ok(None);
        }
        let view = View::of(&self.shared).await?;
        let exists = self.shared.queues.named.contains(name)
            || view.kept.contains_key(name)
            || view.counts.contains_key(name);
        Ok(exists.then(|| view.queue(&self.shared, name)))
    }

    /// Pauses a queue: it takes jobs and starts none of them; what runs goes on. Holds until it is
    /// resumed, over restarts too. A queue that was not used yet is made.
    ///
    /// # Errors
    ///
    /// [`QueueError`].
    pub async fn pause(&self, name: &Name) -> Result<Queue, QueueError> {
        let patch = QueuePatch {
            paused: Patch::Set(true),
            ..QueuePatch::default()
        };
        self.set_queue(name, patch, None).await
    }

    /// Resumes a queue: what is ready starts at once.
    ///
    /// # Errors
    ///
    /// [`QueueError`].
    pub async fn resume(&self, name: &Name) -> Result<Queue, QueueError> {
        let patch = QueuePatch {
            paused: Patch::Set(false),
            ..QueuePatch::default()
        };
        self.set_queue(name, patch, None).await
    }

    /// Changes what holds for a queue, and returns it as it stands then. With `if_version` only if
    /// that is the version of its settings. A queue that was not used yet is made.
    ///
    /// # Errors
    ///
    /// [`QueueError`]: nothing changed, unless the store says that it does not know.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have changed the queue.
    pub async fn set_queue(
        &self,
        name: &Name,
        patch: QueuePatch,
        if_version: Option<u64>,
    ) -> Result<Queue, QueueError> {
        let shared = &self.shared;
        let mut defaults = shared.queues.defaults.lock().await;
        for _ in 0..QUEUE_CHANGE_TRIES_MAX {
            let kept = shared.queues.look(&*shared.store).await?;
            let kept = kept.into_iter().find(|kept| kept.name == *name);
            let change = shared
                .queues
                .change(name, patch, if_version, kept.as_ref())?;
            let set = match change {
                None => None,
                Some(change) => shared.store.set_queues(vec![change]).await?.pop(),
            };
            match set {
                None | Some(QueueSet::Done(_)) => {
                    if !shared.queues.named.contains(name) {
                        shared.queues.note_made([name.clone()]);
                    }
                    if patch.paused == Patch::Set(false) {
                        release(shared, &mut defaults, name).await?;
                    }
                    drop(defaults);
                    return Ok(View::of(shared).await?.queue(shared, name));
                }
                // Another node changed it meanwhile.
                Some(QueueSet::VersionDiffers(_)) => {}
                Some(QueueSet::TooMany) => return Err(too_many(name)),
            }
        }
        let reason = format!("queue {name} is changed by others again and again");
        Err(StoreError::Unavailable { reason }.into())
    }
}

/// Lets a queue go that is held since the start.
async fn release(
    shared: &Shared,
    defaults: &mut MutexGuard<'_, QueueDefaults>,
    name: &Name,
) -> Result<(), StoreError> {
    if !defaults.hold || defaults.released.contains(name) {
        return Ok(());
    }
    let mut after = defaults.clone();
    after.released.insert(name.clone());
    shared.store.configure_queues(after.clone()).await?;
    **defaults = after;
    Ok(())
}

fn too_many(queue: &Name) -> QueueError {
    QueueError::TooMany {
        queue: queue.clone(),
        limit: QUEUES_MADE_MAX,
    }
}

impl Queues {
    /// Returns what has to be set for a queue to be changed; none: nothing.
    fn change(
        &self,
        name: &Name,
        patch: QueuePatch,
        if_version: Option<u64>,
        kept: Option<&KeptQueue>,
    ) -> Result<Option<QueueChange>, QueueError> {
        let queue = || name.clone();
        let is_named = self.named.contains(name);
        if name.is_reserved() || (self.is_strict && !is_named && kept.is_none()) {
            return Err(QueueError::Unknown { queue: queue() });
        }
        let version = kept.map_or(0, |kept| kept.version);
        if if_version.is_some_and(|wanted| wanted != version) {
            let queue = queue();
            return Err(QueueError::VersionDiffers { queue, version });
        }
        if kept.is_none() && !is_named && self.made() >= QUEUES_MADE_MAX {
            return Err(too_many(name));
        }
        let before = kept.map(|kept| kept.settings).unwrap_or_default();
        let settings = before.patched(patch);
        if let Err(error) = settings.check() {
            let queue = queue();
            return Err(QueueError::OutOfRange { queue, error });
        }
        let is_there = is_named || kept.is_some();
        Ok((settings != before || !is_there).then(|| QueueChange {
            name: queue(),
            settings,
            if_version: Some(version),
        }))
    }
}

impl Shared {
    /// Inserts checked jobs whose callbacks may go where they go, makes their queues where they are
    /// used first, and counts those that are new. `jobs` are the same, as they will stand.
    pub(crate) async fn insert(
        &self,
        new: Vec<NewJob>,
        jobs: &[Job],
    ) -> Result<Vec<Inserted>, SubmitError> {
        self.check_targets(&new).await?;
        self.make_queues_for(&new).await?;
        let inserted = match self.store.insert(new).await {
            Ok(inserted) => inserted,
            Err(error) => return Err(Box::pin(self.refused(error, jobs)).await),
        };
        self.rest.end();
        for (job, inserted) in jobs.iter().zip(&inserted) {
            if matches!(inserted, Inserted::New(_)) {
                let spec = &job.spec;
                self.queues.meters.submitted(&spec.queue, spec.created_at);
            }
        }
        Ok(inserted)
    }
}

impl Shared {
    /// Says of an insert that was refused for a full queue when there is room.
    async fn refused(&self, error: StoreError, jobs: &[Job]) -> SubmitError {
        let mut error = SubmitError::from(error);
        if let SubmitError::QueueFull {
            queue,
            waiting,
            limit,
            room_in,
        } = &mut error
        {
            let its = || jobs.iter().filter(|job| job.spec.queue == *queue);
            let more = (*waiting + its().count() as u64).saturating_sub(*limit);
            if let Some(job) = its().next() {
                *room_in = self.room_in(&job.spec.task, queue, more).await;
            }
        }
        error
    }

    /// Makes the queues of jobs to be inserted where they are used first.
    async fn make_queues_for(&self, jobs: &[NewJob]) -> Result<(), SubmitError> {
        let queues = jobs.iter().map(|job| &job.spec.queue);
        if queues.clone().all(|queue| self.queues.is_at_hand(queue)) {
            return Ok(());
        }
        // In a box: most queues are there, and need no room for it.
        Box::pin(self.make_missing_queues_for(jobs)).await
    }

    async fn make_missing_queues_for(&self, jobs: &[NewJob]) -> Result<(), SubmitError> {
        let queues = jobs.iter().map(|job| &job.spec.queue);
        let refused = match self.queues.make_for(&*self.store, queues).await {
            Ok(()) => return Ok(()),
            Err(QueueError::Store(error)) => return Err(error.into()),
            Err(refused) => refused,
        };
        // The same again gives its job, whichever queues are taken by now: nothing is inserted.
        let mut fresh = Vec::new();
        for job in jobs {
            if !self.is_replay(job).await? {
                fresh.push(&job.spec.queue);
            }
        }
        if fresh.len() == jobs.len() {
            return Err(refused.into());
        }
        let fresh = fresh.into_iter();
        Ok(self.queues.make_for(&*self.store, fresh).await?)
    }

    /// Tells whether a job to be inserted is asked for again: then it is not.
    pub(crate) async fn is_replay(&self, job: &NewJob) -> Result<bool, StoreError> {
        match &job.idempotency {
            Some((by, _)) => self.store.remembers(&job.spec.task, by).await,
            None => Ok(false),
        }
    }

    /// Makes the queue that a job is to be moved to, if there is the job.
    pub(crate) async fn make_queue_for(&self, id: JobId, queue: &Name) -> Result<(), QueueError> {
        // One that is there and was always taken costs no look at the job.
        if self.queues.named.contains(queue) {
            return Ok(());
        }
        match self.store.get(id).await? {
            Found::Here(_) => {
                let queues = std::iter::once(queue);
                self.queues.make_for(&*self.store, queues).await
            }
            // Nothing will be moved.
            Found::Gone | Found::Unknown => Ok(()),
        }
    }
}

impl From<QueueError> for SubmitError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Unknown { queue } => Self::UnknownQueue { queue },
            QueueError::TooMany { queue, limit } => Self::TooManyQueues { queue, limit },
            QueueError::Store(error) => error.into(),
            // Nobody asks for a version, nor sets anything, where queues are made for jobs.
            QueueError::VersionDiffers { queue, .. } | QueueError::OutOfRange { queue, .. } => {
                Self::UnknownQueue { queue }
            }
        }
    }
}

/// What the store says of all queues.
struct View {
    defaults: QueueDefaults,
    kept: BTreeMap<Name, KeptQueue>,
    /// By queue.
    counts: BTreeMap<Name, Vec<Counts>>,
    now: Timestamp,
}

impl View {
    async fn of(shared: &Shared) -> Result<Self, StoreError> {
        let defaults = shared.queues.defaults.lock().await.clone();
        let kept = shared.store.queues().await?.into_iter();
        let mut counts: BTreeMap<Name, Vec<Counts>> = BTreeMap::new();
        for of in shared.store.counts().await? {
            counts.entry(of.queue.clone()).or_default().push(of);
        }
        Ok(Self {
            defaults,
            kept: kept.map(|kept| (kept.name.clone(), kept)).collect(),
            counts,
            now: shared.clock.now(),
        })
    }

    fn queue(&self, shared: &Shared, name: &Name) -> Queue {
        let kept = self.kept.get(name);
        let own = kept.map(|kept| kept.settings).unwrap_or_default();
        let mut queue = Queue {
            name: name.clone(),
            rule: self.defaults.rule(name, own),
            version: kept.map_or(0, |kept| kept.version),
            scheduled: 0,
            ready: 0,
            running: 0,
            oldest_ready: None,
            rates: shared.queues.meters.of(name, self.now),
        };
        for of in self.counts.get(name).into_iter().flatten() {
            queue.scheduled += of.scheduled;
            queue.ready += of.ready;
            queue.running += of.running;
            let oldest = queue.oldest_ready.into_iter().chain(of.oldest_ready);
            queue.oldest_ready = oldest.min();
        }
        queue
    }
}
