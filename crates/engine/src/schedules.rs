//! Schedules: submissions that are made again and again, at the times of a cron expression.
//!
//! Beside the path: a firing is a submit like any other, by the timer of a node (`schedules/timer.rs`).
//! A schedule is a document of the store, with what is known of its firings, or stands in the
//! configuration and has only the latter in the store. Whoever fires says so in that document first,
//! by a compare-and-swap, and submits under an idempotency key made of the schedule's name and the
//! time: so no restart and no other node makes a second job of it. When it fires is decided in
//! [`anteroom_core`].

use crate::engine::{Engine, Shared};
use crate::store::{Document, DocumentChange, DocumentPut, StoreError};
use crate::submit::{Submission, SubmitError};
use anteroom_core::limits::SCHEDULE_CHANGE_TRIES_MAX;
use anteroom_core::{Cron, JobId, Name, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;

mod check;
mod document;
mod firing;
mod table;
mod timer;

use check::{check_expected, too_large, too_many};
use document::{Kept, kind};
use table::Table;
pub(crate) use timer::run;

/// What is submitted, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// When it fires.
    pub cron: Cron,
    /// What each firing submits. Its `idempotency` and `start_before` are not used, and it starts at
    /// once or after a wait.
    pub submission: Submission,
    /// Whether it does not fire.
    pub paused: bool,
    /// What becomes of firings that nobody was there for.
    pub catch_up: CatchUp,
}

/// What becomes of firings that came due while no engine ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// They are left out.
    #[default]
    None,
    /// The last of them is made up for, once.
    Last,
}

impl CatchUp {
    /// Returns its word: `none`, `last`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Last => "last",
        }
    }

    /// Returns what `word` stands for.
    pub fn named(word: &str) -> Option<Self> {
        let all = [Self::None, Self::Last];
        all.into_iter().find(|it| it.as_str() == word)
    }
}

/// Where a schedule is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefinedIn {
    /// In [`Options`](crate::Options): it cannot be changed while the engine runs.
    Configuration,
    /// In the store.
    Store,
}

/// A schedule as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduled {
    /// Its name.
    pub name: Name,
    /// What it is.
    pub schedule: Arc<Schedule>,
    /// Where it is defined.
    pub defined_in: DefinedIn,
    /// Changes with every change of what it is, and with no firing; 0: of one in the configuration.
    pub revision: u64,
    /// When it fires next; none: while it is paused.
    pub next_at: Option<Timestamp>,
    /// The time of the last firing that was submitted.
    pub last_at: Option<Timestamp>,
    /// The job that it gave.
    pub last_job: Option<JobId>,
    /// The last firing that was given up, if it is later than that.
    pub last_failure: Option<(Timestamp, String)>,
}

/// What a change of a schedule asks of what was there before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    #[default]
    Anything,
    /// That there is none of the name.
    Nothing,
    /// That it has this revision.
    Revision(u64),
}

/// Why a schedule was not put or removed. Nothing changed, unless the store says it does not know.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// There is no such schedule, or the name is kept for the server.
    #[error("there is no schedule {name}")]
    Unknown {
        /// The name.
        name: Name,
    },
    /// It stands in the configuration.
    #[error("schedule {name} is defined in the configuration, and is changed there")]
    Configured {
        /// The name.
        name: Name,
    },
    /// It is not as it was expected.
    #[error("schedule {name} has revision {revision}")]
    VersionDiffers {
        /// The name.
        name: Name,
        /// The revision that it has; 0: it is not there.
        revision: u64,
    },
    /// There are as many as may be.
    #[error("there are {limit} schedules, which is the limit; {name} is not one of them")]
    TooMany {
        /// The name.
        name: Name,
        /// How many there may be.
        limit: usize,
    },
    /// The inputs of all of them would be too large together.
    #[error("the inputs of all schedules would be {bytes} bytes; the limit is {limit}")]
    TooLargeTogether {
        /// How large they would be.
        bytes: usize,
        /// How large they may be.
        limit: usize,
    },
    /// What it submits would not be taken.
    #[error(transparent)]
    Submission(SubmitError),
    /// The store could not do it. Worth a retry where the store's error is.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the engine knows of schedules.
#[derive(Debug)]
pub(crate) struct Schedules {
    configured: BTreeMap<Name, Arc<Schedule>>,
    table: Table,
    /// Held while one is put, so that no two of them are the last that may be.
    changing: Mutex<()>,
}

impl Schedules {
    pub(crate) fn new(configured: &BTreeMap<Name, Schedule>) -> Self {
        let each = configured.iter();
        Self {
            configured: each
                .map(|(name, schedule)| (name.clone(), Arc::new(schedule.clone())))
                .collect(),
            table: Table::default(),
            changing: Mutex::default(),
        }
    }

    /// Returns what a document says, if it is that of a schedule which is there.
    fn of_document(&self, document: &Document) -> Option<(DefinedIn, Arc<Schedule>, Kept)> {
        let kept = Kept::read(document)?;
        if let Some(schedule) = self.configured.get(&document.name) {
            return Some((DefinedIn::Configuration, schedule.clone(), kept));
        }
        let schedule = kept.schedule.clone()?;
        Some((DefinedIn::Store, schedule, kept))
    }
}

impl Engine {
    /// Returns all schedules, by name.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn schedules(&self) -> Result<Vec<Scheduled>, StoreError> {
        let shared = &self.shared;
        let documents = shared.store.documents(&kind()).await?;
        let kept: BTreeMap<&Name, &Document> = documents.iter().map(|it| (&it.name, it)).collect();
        let configured = shared.schedules.configured.keys();
        let mut names: Vec<&Name> = kept.keys().copied().chain(configured).collect();
        names.sort();
        names.dedup();
        let shown = |name: &Name| shared.scheduled(name, kept.get(name).copied());
        Ok(names.into_iter().filter_map(shown).collect())
    }

    /// Returns a schedule; none if there is none of this name.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn schedule(&self, name: &Name) -> Result<Option<Scheduled>, StoreError> {
        let document = self.shared.store.document(&kind(), name).await?;
        Ok(self.shared.scheduled(name, document.as_ref()))
    }

    /// Puts a schedule in the place of the one of its name, or as a new one, and returns it with
    /// whether it is new. It holds from then on: firings that came due before are its predecessor's,
    /// unless that one had the same times.
    ///
    /// # Errors
    ///
    /// [`ScheduleError`].
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have put the schedule.
    pub async fn put_schedule(
        &self,
        name: &Name,
        schedule: Schedule,
        expected: Expected,
    ) -> Result<(Scheduled, bool), ScheduleError> {
        let shared = &self.shared;
        shared.check_changeable(name)?;
        shared.check_schedule(&schedule).await?;
        let schedule = Arc::new(schedule);
        let _changing = shared.schedules.changing.lock().await;
        for _ in 0..SCHEDULE_CHANGE_TRIES_MAX {
            let documents = shared.store.documents(&kind()).await?;
            let document = documents.iter().find(|it| it.name == *name);
            let before = document.and_then(Kept::read);
            let before = before.filter(|kept| kept.schedule.is_some());
            check_expected(name, expected, before.as_ref())?;
            shared.check_room(name, &schedule, &documents)?;
            let kept = Kept::put(schedule.clone(), before.as_ref(), shared.clock.now());
            let change = DocumentChange {
                kind: kind(),
                name: name.clone(),
                value: Some(kept.write()),
                if_version: Some(document.map_or(0, |it| it.version)),
            };
            match shared.put_document(change).await? {
                DocumentPut::Done(version) => {
                    let version = version.unwrap_or_default();
                    shared.note(name, version, schedule.clone(), kept.clone());
                    let now = shared.clock.now();
                    let shown = Scheduled::of(name, DefinedIn::Store, schedule, &kept, now);
                    return Ok((shown, before.is_none()));
                }
                // It fired meanwhile, or another node changed it.
                DocumentPut::VersionDiffers(_) => {}
                DocumentPut::TooLarge => {
                    return Err(too_large(&schedule.submission));
                }
                DocumentPut::TooMany => return Err(too_many(name)),
            }
        }
        Err(again_and_again(name).into())
    }

    /// Removes a schedule. Its jobs stay.
    ///
    /// # Errors
    ///
    /// [`ScheduleError`].
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have removed it.
    pub async fn delete_schedule(
        &self,
        name: &Name,
        expected: Expected,
    ) -> Result<(), ScheduleError> {
        let shared = &self.shared;
        shared.check_changeable(name)?;
        for _ in 0..SCHEDULE_CHANGE_TRIES_MAX {
            let document = shared.store.document(&kind(), name).await?;
            let before = document.as_ref().and_then(Kept::read);
            let before = before.filter(|kept| kept.schedule.is_some());
            check_expected(name, expected, before.as_ref())?;
            let (Some(document), Some(_)) = (document, before) else {
                return Err(ScheduleError::Unknown { name: name.clone() });
            };
            let change = DocumentChange {
                kind: kind(),
                name: name.clone(),
                value: None,
                if_version: Some(document.version),
            };
            if let DocumentPut::Done(_) = shared.put_document(change).await? {
                shared.schedules.table.forget(name);
                return Ok(());
            }
        }
        Err(again_and_again(name).into())
    }
}

fn again_and_again(name: &Name) -> StoreError {
    let reason = format!("schedule {name} is changed by others again and again");
    StoreError::Unavailable { reason }
}

impl Scheduled {
    fn of(
        name: &Name,
        defined_in: DefinedIn,
        schedule: Arc<Schedule>,
        kept: &Kept,
        now: Timestamp,
    ) -> Self {
        let next_at = schedule.cron.next_after(now.max(kept.handled_at));
        let next_at = next_at.filter(|_| !schedule.paused);
        Self {
            name: name.clone(),
            defined_in,
            revision: match defined_in {
                DefinedIn::Store => kept.revision,
                DefinedIn::Configuration => 0,
            },
            next_at,
            last_at: kept.last_at,
            last_job: kept.last_job,
            last_failure: kept.last_failure.clone(),
            schedule,
        }
    }
}

impl Shared {
    /// Returns a schedule as it stands, if there is one of the name.
    fn scheduled(&self, name: &Name, document: Option<&Document>) -> Option<Scheduled> {
        let now = self.clock.now();
        let (defined_in, schedule, kept) = if let Some(document) = document {
            self.schedules.of_document(document)?
        } else {
            let schedule = self.schedules.configured.get(name)?.clone();
            let kept = Kept::configured(&schedule, now);
            (DefinedIn::Configuration, schedule, kept)
        };
        Some(Scheduled::of(name, defined_in, schedule, &kept, now))
    }

    /// Has the timer go by what was put.
    fn note(&self, name: &Name, version: u64, schedule: Arc<Schedule>, kept: Kept) {
        let entry = firing::Entry::new(version, schedule, kept);
        self.schedules.table.note(name, entry, self.clock.now());
    }

    async fn put_document(&self, change: DocumentChange) -> Result<DocumentPut, StoreError> {
        let mut put = self.store.put_documents(vec![change]).await?;
        put.pop().ok_or_else(|| StoreError::Failed {
            reason: "the store gave no answer for a document".to_owned(),
        })
    }
}
