//! Step 6 of a job's path: telling those who wait for it.
//!
//! A waiter is an entry in a map, not a poll of the store. It subscribes before it looks at the
//! job, so that a change in between wakes it.

use crate::engine::{Shared, Until};
use anteroom_core::{Job, JobId, Payload, ShownState, Timestamp};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// So many that waiters of different jobs seldom meet at a lock.
const SHARDS: usize = 16;

type Shard = HashMap<JobId, watch::Sender<Notice>>;

/// The latest that is known of a job.
#[derive(Clone, Debug, Default)]
enum Notice {
    /// Nothing new.
    #[default]
    None,
    /// How it stands.
    Job(Arc<Told>),
    /// It was deleted.
    Gone,
}

/// What is told of a job.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// The job.
    pub(crate) job: Job,
    /// Its result, where this process has just stored it: whoever waits need not read it again.
    pub(crate) result: Option<Payload>,
}

impl Notice {
    /// Replies of two commits may overtake each other on their way here.
    fn is_older_than(&self, job: &Job) -> bool {
        match self {
            Self::None => true,
            Self::Job(latest) => latest.job.status.version < job.status.version,
            Self::Gone => false,
        }
    }
}

/// Who waits for which job.
#[derive(Debug, Default)]
pub(crate) struct Notices([Mutex<Shard>; SHARDS]);

impl Notices {
    /// Begins to watch a job.
    pub(crate) fn subscribe(self: &Arc<Self>, id: JobId) -> Watch {
        let mut shard = self.shard(id);
        let sender = shard
            .entry(id)
            .or_insert_with(|| watch::Sender::new(Notice::None));
        let changes = Some(sender.subscribe());
        drop(shard);
        Watch {
            notices: self.clone(),
            id,
            changes,
        }
    }

    /// Tells those who watch a job how it stands now, with the result that it was just given.
    pub(crate) fn changed(&self, job: &Job, result: Option<&Payload>) {
        let shard = self.shard(job.spec.id);
        if let Some(sender) = shard.get(&job.spec.id) {
            sender.send_if_modified(|latest| {
                let is_new = latest.is_older_than(job);
                if is_new {
                    *latest = Notice::Job(Arc::new(Told {
                        job: job.clone(),
                        result: result.cloned(),
                    }));
                }
                is_new
            });
        }
    }

    /// Tells those who watch a job that it was deleted.
    pub(crate) fn gone(&self, id: JobId) {
        if let Some(sender) = self.shard(id).get(&id) {
            sender.send_replace(Notice::Gone);
        }
    }

    /// Returns the jobs that are watched.
    pub(crate) fn watched_jobs(&self) -> HashSet<JobId> {
        let of_shard = |shard: &Mutex<Shard>| -> Vec<JobId> {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.keys().copied().collect()
        };
        self.0.iter().flat_map(of_shard).collect()
    }

    /// Returns how many jobs are watched.
    #[cfg(test)]
    pub(crate) fn watched(&self) -> usize {
        let lock = |shard: &Mutex<Shard>| shard.lock().map_or(0, |shard| shard.len());
        self.0.iter().map(lock).sum()
    }

    // Nothing in here panics while it holds the lock, so a poisoned one is still good.
    fn shard(&self, id: JobId) -> MutexGuard<'_, Shard> {
        let random = usize::from(id.as_bytes()[15]);
        self.0[random % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscription to the changes of a job. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Watch {
    notices: Arc<Notices>,
    id: JobId,
    changes: Option<watch::Receiver<Notice>>,
}

impl Watch {
    /// Waits until the job has changed since it was subscribed to or last waited for.
    pub(crate) async fn changed(&mut self) {
        if let Some(changes) = self.changes.as_mut()
            && changes.changed().await.is_ok()
        {
            return;
        }
        // Its sender is gone, which cannot be as long as this is here.
        std::future::pending::<()>().await;
    }

    /// Returns how the job ended, as soon as that is told of; none if the wait is over before, the engine
    /// has stopped, or the job was deleted.
    pub(crate) async fn end(mut self, wait: Duration, shared: &Shared) -> Option<Told> {
        let changes = self.changes.as_mut()?;
        let _waiting = shared.metrics.waits();
        let mut over = std::pin::pin!(shared.clock.sleep(wait));
        let mut stopped = std::pin::pin!(shared.phases.stopped());
        loop {
            // What is there already may have been told to somebody else.
            match changes.borrow_and_update().clone() {
                Notice::Job(latest) if latest.job.status.state.is_final() => {
                    return Some(Arc::unwrap_or_clone(latest));
                }
                Notice::Gone => return None,
                Notice::Job(_) | Notice::None => {}
            }
            tokio::select! {
                heard = changes.changed() => heard.ok()?,
                () = &mut over => return None,
                () = &mut stopped => return None,
            }
        }
    }

    /// Returns `job` as soon as it is what the client waits for or gone, or as it stands when the
    /// wait is over or the engine has stopped.
    pub(crate) async fn until(
        mut self,
        job: Job,
        until: Until,
        wait: Duration,
        shared: &Shared,
    ) -> Told {
        let mut told = Told { job, result: None };
        if until.is_met(&told.job, shared.clock.now()) {
            return told;
        }
        let Some(changes) = self.changes.as_mut() else {
            return told;
        };
        let _waiting = shared.metrics.waits();
        let mut over = std::pin::pin!(shared.clock.sleep(wait));
        let mut stopped = std::pin::pin!(shared.phases.stopped());
        while !until.is_met(&told.job, shared.clock.now()) {
            tokio::select! {
                heard = changes.changed() => {
                    let version = told.job.status.version;
                    match changes.borrow_and_update().clone() {
                        Notice::Job(latest) if latest.job.status.version > version => {
                            told = Arc::unwrap_or_clone(latest);
                        }
                        Notice::Gone => return told,
                        Notice::Job(_) | Notice::None => {}
                    }
                    if heard.is_err() {
                        return told;
                    }
                }
                () = comes_due(&told.job, until, shared) => {}
                () = &mut over => return told,
                () = &mut stopped => return told,
            }
        }
        told
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut shard = self.notices.shard(self.id);
        // Dropped under the lock, so that of two last watchers one sees the other gone.
        drop(self.changes.take());
        if shard
            .get(&self.id)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            shard.remove(&self.id);
        }
    }
}

impl Until {
    fn is_met(self, job: &Job, now: Timestamp) -> bool {
        match self {
            Self::Done => job.status.state.is_final(),
            Self::Changed { version, shown } => {
                job.status.version != version || job.status.shown(now) != shown
            }
        }
    }
}

/// Waits for the passage from scheduled to ready, where that is waited for.
async fn comes_due(job: &Job, until: Until, shared: &Shared) {
    let is_scheduled = job.status.shown(shared.clock.now()) == ShownState::Scheduled;
    match until {
        Until::Changed { .. } if is_scheduled => shared.clock.sleep_until(job.status.run_at).await,
        Until::Changed { .. } | Until::Done => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::run::{Outcome, function};
    use crate::store::memory::MemoryStore;
    use crate::{Engine, Options, Submission, Task, TaskRunner};
    use anteroom_core::Name;
    use tokio::sync::Semaphore;

    #[test]
    fn a_job_that_nobody_watches_any_more_takes_no_room() {
        let notices = Arc::<Notices>::default();
        let ids = [JobId::from_bytes([1; 16]), JobId::from_bytes([2; 16])];
        let watches: Vec<Watch> = ids
            .iter()
            .cycle()
            .take(100)
            .map(|id| notices.subscribe(*id))
            .collect();
        assert_eq!(notices.watched(), 2);
        drop(watches);
        assert_eq!(notices.watched(), 0);
    }

    /// One who found the attempt still running, and began to watch after its end was told of, waited in
    /// vain.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_is_told_of_an_end_finds_that_nothing_runs() {
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        let runner = function::bytes(move |_| {
            let held = held.clone();
            async move {
                held.acquire().await.expect("it is not closed").forget();
                Outcome::failed_for_good("no")
            }
        });
        let name = Name::new("work").unwrap();
        let task = Task::new("work", TaskRunner::Here(runner)).unwrap();
        let store = Arc::new(MemoryStore::new(Clock::system()));
        let engine = Engine::start(store, vec![task], Options::default());
        let engine = engine.await.unwrap();
        for _ in 0..200 {
            let input = Payload {
                content_type: "text/plain".into(),
                bytes: "".into(),
            };
            let submission = Submission::new(name.clone(), input);
            let watched = engine.submit_and_watch(submission).await.unwrap();
            let (id, shared) = (watched.submitted.job.spec.id, engine.shared.clone());
            while !shared.running.runs(id) {
                tokio::task::yield_now().await;
            }
            let mut watch = shared.notices.subscribe(id);
            let looking = tokio::task::spawn_blocking(move || {
                let changes = watch.changes.as_mut().unwrap();
                loop {
                    match &*changes.borrow_and_update() {
                        Notice::Job(told) if told.job.status.state.is_final() => break,
                        _ => std::hint::spin_loop(),
                    }
                }
                shared.running.runs(id)
            });
            gate.add_permits(1);
            assert!(!looking.await.unwrap());
        }
    }
}
