//! Where jobs stand that wait.

use super::claim;
use super::fault::Fault;
use super::operation::Operation;
use super::rows::{
    JOB, STANDING, get, id, instant, label, name, optional_instant, priority, stored, unsigned,
    uuid,
};
use super::session::Session;
use super::transact::Answer;
use super::window::{Lane, Offer};
use super::writer::{Done, Writer};
use crate::store::{Inserted, PlaceOf};
use anteroom_core::limits::POSITION_EXACT_MAX;
use anteroom_core::order::Asked;
use anteroom_core::{JobId, Label, Name, Pace, Place, Position, Priority, Spec, State, Timestamp};
use std::collections::{BTreeSet, HashSet};

/// The first ready jobs of a queue.
const READY: &str = "SELECT task, priority, id, run_at, deadline, \"group\", version FROM waiting \
    WHERE queue = $1 AND run_at <= $2 AND (deadline IS NULL OR deadline >= $2) \
    ORDER BY queue, task, priority, \"group\", run_at, id LIMIT $3";
/// How far a queue's rate has come.
const PACE: &str = "SELECT pace FROM limited WHERE queue = $1";

/// Places that are read after a transaction. Each of them is asked of the database.
const PLACES_READ_MAX: usize = 4;

/// Tells whether two jobs, both of them ready, wait in one line.
fn are_alike(one: &Spec, other: &Spec) -> bool {
    one.task == other.task
        && one.queue == other.queue
        && one.group == other.group
        && one.priority == other.priority
}

fn asked(spec: &Spec) -> Asked<'_> {
    Asked {
        task: &spec.task,
        queue: &spec.queue,
        group: spec.group.as_ref(),
        priority: spec.priority,
    }
}

/// A job whose place is asked for.
struct Standing {
    /// None: there is no such job yet.
    id: Option<JobId>,
    task: Name,
    queue: Name,
    group: Option<Label>,
    priority: Priority,
    is_ready: bool,
}

impl Writer {
    /// Adds where each job stands that was inserted alone. In a transaction with many of those, most
    /// are told it by the first of their kind.
    pub(super) async fn add_places(&mut self, operations: &[Operation], done: &mut Done) {
        let claimed = done.claimed.iter().flatten();
        let claimed: HashSet<JobId> = claimed.map(|one| one.job.spec.id).collect();
        let now = self.shared.clock.now();
        let mut known: Vec<(&Spec, Place)> = Vec::new();
        for (operation, answer) in operations.iter().zip(&mut done.answers) {
            let Operation::Insert(_, jobs, _) = operation else {
                continue;
            };
            let ([job], Answer::Inserted(Ok(inserted))) = (&**jobs, answer) else {
                continue;
            };
            let [Inserted::New(told)] = &mut **inserted else {
                continue;
            };
            let spec = &job.spec;
            if claimed.contains(&spec.id) {
                // Asked as it came, when nobody was ahead of it.
                *told = Some(Box::new(self.window.place_of_new(asked(spec))));
                continue;
            }
            let is_ready = job.status.run_at <= now;
            let mut ready = known
                .iter_mut()
                .filter(|(_, place)| place.position.is_some());
            let alike = ready.find(|(other, _)| is_ready && are_alike(spec, other));
            if let Some((_, place)) = alike {
                if let Some(position) = &mut place.position {
                    position.ahead += 1;
                    position.is_exact = false;
                }
                place.starts_before += 1;
                *told = Some(Box::new(place.clone()));
            } else if known.len() < PLACES_READ_MAX
                && let Ok(Some(place)) = self.place(&PlaceOf::Job(spec.id)).await
            {
                known.push((spec, place.clone()));
                *told = Some(Box::new(place));
            }
        }
    }

    /// Returns where a job stands; none if it does not wait.
    pub(super) async fn place(&mut self, of: &PlaceOf) -> Result<Option<Place>, Fault> {
        let session = self.link.session().await?;
        let now = self.shared.clock.now();
        let Some(standing) = find(&session, of, now).await? else {
            return Ok(None);
        };
        self.read_rules(&session).await?;
        self.window.set_now(now);
        let queue = &standing.queue;
        let most = i64::try_from(POSITION_EXACT_MAX).unwrap_or(i64::MAX) + 1;
        let rows = session
            .query(READY, &[&&**queue, &now.as_millis(), &most])
            .await?;
        let offers: Vec<Offer> = rows
            .iter()
            .map(|row| ready(row, queue))
            .collect::<Result<_, _>>()?;
        let is_all = (rows.len() as u64) <= POSITION_EXACT_MAX;
        let mut lanes: BTreeSet<Lane> = self.window.lanes_of(queue).cloned().collect();
        lanes.extend(offers.iter().map(|offer| offer.lane.clone()));
        let lanes: Vec<Lane> = lanes.into_iter().collect();
        self.window.offered(&lanes, &offers);
        if let Some(row) = session.query_opt(PACE, &[&&**queue]).await? {
            let reached = Pace::from_nanos(get(&row, 0)?);
            self.window.set_pace(queue, reached);
        }
        let mut place = self.place_in_order(&standing);
        if is_all {
            let of_task = offers
                .iter()
                .filter(|offer| offer.lane.task == standing.task);
            place.ready = offers.len() as u64;
            place.task_ready = of_task.count() as u64;
        } else {
            let counts = self.shared.counting.counts(&session, now).await?;
            let of_queue = || counts.iter().filter(|of| of.queue == *queue);
            let of_task = of_queue().filter(|of| of.task == standing.task);
            place.ready = of_queue().map(|of| of.ready).sum();
            place.task_ready = of_task.map(|of| of.ready).sum();
        }
        count_running(&session, &standing, &mut place).await?;
        if !is_all && let Some(position) = &mut place.position {
            *position = Position {
                ahead: place.ready.saturating_sub(u64::from(standing.id.is_some())),
                is_exact: false,
            };
            place.starts_before = position.ahead;
        }
        Ok(Some(place))
    }

    fn place_in_order(&self, standing: &Standing) -> Place {
        let known = standing.id.and_then(|id| self.window.place_of(id));
        let Some(place) = known else {
            let place = self.window.place_of_new(Asked {
                task: &standing.task,
                queue: &standing.queue,
                group: standing.group.as_ref(),
                priority: standing.priority,
            });
            if standing.is_ready {
                return place;
            }
            return Place {
                position: None,
                starts_before: 0,
                ..place
            };
        };
        place
    }
}

/// Puts in how many jobs run, over all nodes.
async fn count_running(
    session: &Session,
    standing: &Standing,
    place: &mut Place,
) -> Result<(), Fault> {
    let queue = &standing.queue;
    (place.running, place.task_running, place.group_running) = (0, 0, 0);
    let running = claim::count_running(session, std::slice::from_ref(queue)).await?;
    for ((lane, group), count) in running {
        place.running += count;
        if lane.task == standing.task {
            place.task_running += count;
        }
        if group.is_some() && group == standing.group {
            place.group_running += count;
        }
    }
    Ok(())
}

/// Finds what is asked about; none if it does not wait.
async fn find(session: &Session, of: &PlaceOf, now: Timestamp) -> Result<Option<Standing>, Fault> {
    let job = match of {
        PlaceOf::New {
            task,
            queue,
            group,
            priority,
        } => {
            return Ok(Some(Standing {
                id: None,
                task: task.clone(),
                queue: queue.clone(),
                group: group.clone(),
                priority: *priority,
                is_ready: true,
            }));
        }
        PlaceOf::Job(id) => *id,
    };
    let sql = format!(
        "SELECT {JOB}, {STANDING} FROM job JOIN standing ON standing.id = job.id WHERE job.id = $1"
    );
    let Some(row) = session.query_opt(&sql, &[&uuid(job)]).await? else {
        return Ok(None);
    };
    let job = stored(&row)?;
    let (spec, status) = (job.spec, job.status);
    let is_ready = status.run_at <= now && !status.is_too_late(now);
    Ok((status.state == State::Waiting).then(|| Standing {
        id: Some(spec.id),
        task: spec.task.clone(),
        queue: spec.queue.clone(),
        group: spec.group.clone(),
        priority: spec.priority,
        is_ready,
    }))
}

fn ready(row: &tokio_postgres::Row, queue: &Name) -> Result<Offer, Fault> {
    Ok(Offer {
        id: id(row, 2)?,
        lane: Lane {
            queue: queue.clone(),
            task: name(row, 0)?,
            priority: priority(row, 1)?,
        },
        group: label(row, 5)?,
        run_at: instant(row, 3)?,
        deadline: optional_instant(row, 4)?,
        version: unsigned(row, 6)?,
        is_cut: false,
    })
}
