//! The timer: waits for the next firing of any schedule, and submits it.
//!
//! In three steps, each for many firings at once: that one is begun is written down, by a
//! compare-and-swap that one node wins; it is submitted, under a key that gives one job however often
//! that is done; that it was is written down. Whatever comes between two of them, the next look at the
//! document goes on from there.

use super::document::{Kept, kind};
use super::firing::{Due, Entry};
use super::{ScheduleError, Schedules};
use crate::clock::rfc3339;
use crate::engine::{Engine, Shared, StartError};
use crate::shutdown::Phase;
use crate::store::{Document, DocumentChange, DocumentPut, StoreError};
use crate::submit::{Submission, SubmitError, Submitted};
use anteroom_core::limits::{FIRINGS_AT_ONCE_MAX, FIRINGS_PASS_MAX, SCHEDULES_LOOK_INTERVAL};
use anteroom_core::{Idempotency, IdempotencyKey, JobId, Name, Timestamp};
use futures_util::stream::{StreamExt, iter};
use std::collections::BTreeMap;
use std::sync::Arc;
use tracing::{error, info, warn};

/// Whose keys those of firings are: no token can have the name.
const KEY_SCOPE: &str = "anteroom.schedule";

impl Shared {
    /// Checks the schedules of the configuration, and learns how far all of them have come.
    pub(crate) async fn begin_schedules(&self) -> Result<(), StartError> {
        for (name, schedule) in &self.schedules.configured {
            let checked = if name.is_reserved() {
                Err(ScheduleError::Unknown { name: name.clone() })
            } else {
                self.check_schedule(schedule).await
            };
            checked.map_err(|error| StartError::Schedule {
                name: name.clone(),
                error: Box::new(error),
            })?;
        }
        let now = self.clock.now();
        let documents = self.store.documents(&kind()).await?;
        let orphans = self.schedules.orphans(&documents);
        let mut entries = BTreeMap::new();
        let mut changes = orphans;
        for (name, schedule) in &self.schedules.configured {
            let document = documents.iter().find(|document| document.name == *name);
            let kept = document.and_then(Kept::read);
            if !kept.is_some_and(|kept| kept.schedule.is_none() && kept.is_about(schedule)) {
                // So that what is missed from now on is known.
                let kept = Kept::configured(schedule, now);
                let version = document.map_or(0, |document| document.version);
                changes.push(change(name, Some(&kept), version));
            }
        }
        if !changes.is_empty() {
            // What another node changed meanwhile is as well.
            self.store.put_documents(changes).await?;
        }
        for document in self.store.documents(&kind()).await? {
            if let Some(mut entry) = self.schedules.entry(&document) {
                entry.begin(now);
                entries.insert(document.name, entry);
            }
        }
        self.schedules.table.begin(entries);
        Ok(())
    }
}

impl Schedules {
    fn entry(&self, document: &Document) -> Option<Entry> {
        let (_, schedule, kept) = self.of_document(document)?;
        Some(Entry::new(document.version, schedule, kept))
    }

    /// Returns the removal of what is kept of schedules that stand in the configuration no more.
    fn orphans(&self, documents: &[Document]) -> Vec<DocumentChange> {
        let is_orphan = |document: &&Document| {
            !self.configured.contains_key(&document.name)
                && Kept::read(document).is_some_and(|kept| kept.schedule.is_none())
        };
        let orphans = documents.iter().filter(is_orphan);
        orphans
            .map(|document| change(&document.name, None, document.version))
            .collect()
    }
}

fn change(name: &Name, kept: Option<&Kept>, version: u64) -> DocumentChange {
    DocumentChange {
        kind: kind(),
        name: name.clone(),
        value: kept.map(Kept::write),
        if_version: Some(version),
    }
}

/// Fires until the engine drains.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut look_at = shared.clock.now().after(SCHEDULES_LOOK_INTERVAL);
    let mut was_well = true;
    loop {
        let table = &shared.schedules.table;
        let wake_at = table.wake_at().map_or(look_at, |at| at.min(look_at));
        tokio::select! {
            () = shared.phases.draining() => return,
            () = shared.clock.sleep_until(wake_at) => {}
            () = table.changed() => {}
        }
        let now = shared.clock.now();
        // A clock that was set back must not put it off.
        let is_time = look_at <= now || look_at.since(now) > SCHEDULES_LOOK_INTERVAL;
        let passed = async {
            if is_time {
                look(&shared).await?;
            }
            pass(&shared).await
        };
        let passed = passed.await;
        if is_time {
            look_at = shared.clock.now().after(SCHEDULES_LOOK_INTERVAL);
        }
        match &passed {
            Err(StoreError::Closed) => return,
            Err(failed @ StoreError::Failed { .. }) => {
                error!(error = %failed, "no schedule fires any more: {failed}");
                return;
            }
            Err(error) if was_well => warn!(%error, "schedules have to wait: {error}"),
            Ok(()) | Err(_) => {}
        }
        was_well = passed.is_ok();
    }
}

/// Learns what other nodes changed.
async fn look(shared: &Shared) -> Result<(), StoreError> {
    let table = &shared.schedules.table;
    let mark = table.mark();
    let documents = shared.store.documents(&kind()).await?;
    let now = shared.clock.now();
    let entries = documents.iter().filter_map(|document| {
        // What is not new need not be read again.
        let known = table.known(&document.name, document.version);
        let entry = known.or_else(|| shared.schedules.entry(document))?;
        Some((document.name.clone(), entry))
    });
    let mut entries: BTreeMap<Name, Entry> = entries.collect();
    for (name, schedule) in &shared.schedules.configured {
        // A node without it in its configuration has taken it for left over.
        entries.entry(name.clone()).or_insert_with(|| {
            let kept = table.kept(name);
            let kept = kept.unwrap_or_else(|| Kept::configured(schedule, now));
            Entry::new(0, schedule.clone(), kept)
        });
    }
    // Where something was changed here meanwhile, the next look does.
    let _taken = table.replace(mark, entries, now);
    Ok(())
}

/// A firing to be submitted.
struct Firing {
    name: Name,
    at: Timestamp,
    entry: Entry,
}

/// What became of one.
enum Fired {
    Done(Option<JobId>),
    /// It will never be taken.
    Refused(SubmitError),
    /// It may be taken later.
    Later(SubmitError),
}

/// Deals with all firings that are due.
async fn pass(shared: &Arc<Shared>) -> Result<(), StoreError> {
    while shared.phases.now() == Phase::Running {
        let now = shared.clock.now();
        let due = shared.schedules.table.due(now, FIRINGS_PASS_MAX);
        if due.is_empty() {
            return Ok(());
        }
        let firings = begin(shared, due, now).await?;
        let each = firings.into_iter().map(|firing| async {
            let fired = submit(shared, &firing).await;
            (firing, fired)
        });
        let fired: Vec<(Firing, Fired)> = iter(each)
            .buffer_unordered(FIRINGS_AT_ONCE_MAX)
            .collect()
            .await;
        end(shared, fired).await?;
    }
    Ok(())
}

/// Writes down that firings are begun, and returns those that this node is to submit.
async fn begin(
    shared: &Shared,
    due: Vec<(Name, Entry)>,
    now: Timestamp,
) -> Result<Vec<Firing>, StoreError> {
    let table = &shared.schedules.table;
    let mut firings = Vec::new();
    let mut begun = Vec::new();
    for (name, entry) in due {
        match entry.due(now) {
            Due::Nothing => table.update(&name, entry.version, |entry| entry.wake(now)),
            Due::LeaveOut(at) => {
                warn!(schedule = %name, "schedule {name} leaves out {}: too late", rfc3339(at));
                table.update(&name, entry.version, |entry| {
                    entry.left_out = entry.left_out.max(at);
                    entry.kept = entry.ended(at);
                    entry.wake(now);
                });
            }
            Due::Submit(at) => {
                table.update(&name, entry.version, |entry| entry.try_now(at));
                let kept = entry.begun_by(at, now);
                let firing = Firing { name, at, entry };
                match kept {
                    Some(kept) => begun.push((firing, kept)),
                    None => firings.push(firing),
                }
            }
        }
    }
    let written = write(shared, begun, now).await?;
    firings.extend(written.into_iter().flatten());
    Ok(firings)
}

/// Writes down what is kept of schedules, and returns their firings, in their order; none of those that
/// another node changed meanwhile.
async fn write(
    shared: &Shared,
    changes: Vec<(Firing, Kept)>,
    now: Timestamp,
) -> Result<Vec<Option<Firing>>, StoreError> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let table = &shared.schedules.table;
    let documents = changes
        .iter()
        .map(|(firing, kept)| change(&firing.name, Some(kept), firing.entry.version));
    let put = match shared.store.put_documents(documents.collect()).await {
        Ok(put) => put,
        Err(error) => {
            for (Firing { name, at, entry }, _) in &changes {
                table.update(name, entry.version, |entry| entry.put_off(*at, now));
            }
            return Err(error);
        }
    };
    let mut written = Vec::new();
    let mut is_behind = false;
    for ((mut firing, kept), put) in changes.into_iter().zip(put) {
        let DocumentPut::Done(Some(version)) = put else {
            is_behind = true;
            let Firing { name, entry, .. } = &firing;
            table.update(name, entry.version, |entry| entry.give_way(now));
            written.push(None);
            continue;
        };
        let before = firing.entry.version;
        firing.entry.version = version;
        firing.entry.kept = kept.clone();
        table.update(&firing.name, before, |entry| {
            entry.version = version;
            entry.kept = kept;
            entry.wake(now);
        });
        written.push(Some(firing));
    }
    if is_behind {
        look(shared).await?;
    }
    Ok(written)
}

/// Submits a firing, under its key.
async fn submit(shared: &Arc<Shared>, firing: &Firing) -> Fired {
    let Firing { name, at, entry } = firing;
    let key = IdempotencyKey::new(&format!("{name} {}", rfc3339(*at)));
    let submission = Submission {
        idempotency: key.ok().map(|key| Idempotency {
            scope: KEY_SCOPE.into(),
            key,
        }),
        start_before: None,
        ..entry.schedule.submission.clone()
    };
    let engine = Engine {
        shared: shared.clone(),
    };
    match engine.submit(submission).await {
        Ok(Submitted { job, .. }) => Fired::Done(Some(job.spec.id)),
        Err(SubmitError::Gone { id, .. }) => Fired::Done(Some(id)),
        // It was submitted, before the schedule was changed.
        Err(SubmitError::IdempotencyKeyReused { .. }) => Fired::Done(None),
        Err(
            error @ (SubmitError::Store(_) | SubmitError::QueueFull { .. } | SubmitError::Draining),
        ) => Fired::Later(error),
        Err(error) => Fired::Refused(error),
    }
}

/// Writes down what became of firings.
async fn end(shared: &Shared, fired: Vec<(Firing, Fired)>) -> Result<(), StoreError> {
    let now = shared.clock.now();
    let mut ended = Vec::new();
    for (firing, fired) in fired {
        let Firing { name, at, entry } = &firing;
        let time = rfc3339(*at);
        let mut kept = entry.ended(*at);
        match fired {
            Fired::Done(id) => {
                let job = id.map_or_else(|| "a job".to_owned(), |id| format!("job {id}"));
                info!(schedule = %name, "schedule {name} fired for {time}: {job}");
                kept.last_at = Some(*at);
                kept.last_job = id;
                kept.last_failure = None;
            }
            Fired::Refused(error) => {
                error!(schedule = %name, %error, "schedule {name} did not fire for {time}: {error}");
                kept.last_failure = Some((*at, error.to_string()));
            }
            Fired::Later(error) => {
                if entry.is_first_try(*at) && !matches!(error, SubmitError::Draining) {
                    warn!(
                        schedule = %name, %error,
                        "schedule {name} cannot fire for {time}, and tries again: {error}"
                    );
                }
                let table = &shared.schedules.table;
                table.update(name, entry.version, |entry| entry.put_off(*at, now));
                continue;
            }
        }
        ended.push((firing, kept));
    }
    write(shared, ended, now).await.map(drop)
}
