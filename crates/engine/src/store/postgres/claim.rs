//! What the database offers to those who ask for jobs, and who of them gets which.

use super::among::{among, sorted};
use super::fault::Fault;
use super::operation::Parked;
use super::rows::{get, id, instant, label, name, optional_instant, priority, unsigned};
use super::session::{Session, Values};
use super::transact::Decisions;
use super::window::{Lane, Offer, RunningCounts, Since};
use crate::store::{Claimed, Want};
use anteroom_core::limits::COMMIT_OPERATIONS_MAX;
use anteroom_core::{
    ClaimNumber, Event, JobId, Name, Pace, Payload, Reports, Timestamp, transition,
};
use futures_util::try_join;
use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

/// Jobs of a group that are offered at least, where there are so many.
const OF_GROUP_MIN: i64 = 8;

/// Which lanes have rows: a walk from one to the next over the index.
const LANES: &str = "WITH RECURSIVE lane AS ( \
    (SELECT queue, task, priority FROM waiting ORDER BY queue, task, priority LIMIT 1) \
    UNION ALL \
    SELECT following.* FROM lane CROSS JOIN LATERAL ( \
        SELECT queue, task, priority FROM waiting \
        WHERE (queue, task, priority) > (lane.queue, lane.task, lane.priority) \
        ORDER BY queue, task, priority LIMIT 1) AS following \
    ) SELECT queue, task, priority FROM lane";

/// Which lanes have rows, beside the change of queues' settings.
static LOOK: LazyLock<String> = LazyLock::new(|| {
    let walk = LANES.trim_end_matches("SELECT queue, task, priority FROM lane");
    format!(
        "{walk} SELECT lane.queue, lane.task, lane.priority, queue_change.number \
         FROM queue_change LEFT JOIN lane ON true"
    )
});

/// The first ready jobs of lanes that have no group, locked.
const OFFER_UNGROUPED: &str = "SELECT wanted.at, offered.id, offered.run_at, offered.deadline, \
        offered.version \
    FROM unnest($1::text[], $2::text[], $3::smallint[], $6::bigint[], $7::uuid[]) \
        WITH ORDINALITY AS wanted (queue, task, priority, since, since_id, at) \
    CROSS JOIN LATERAL ( \
        SELECT id, run_at, deadline, version FROM waiting \
        WHERE queue = wanted.queue AND task = wanted.task AND priority = wanted.priority \
            AND \"group\" = '' AND (run_at, id) >= (wanted.since, wanted.since_id) AND run_at <= $4 AND (deadline IS NULL OR deadline >= $4) \
        ORDER BY run_at, id LIMIT $5 FOR UPDATE SKIP LOCKED) AS offered";

/// The first ready jobs of the groups of lanes, from the group after one on, locked.
const OFFER_GROUPED: &str = "SELECT wanted.at, offered.id, offered.run_at, offered.deadline, \
        offered.version, groups.\"group\", groups.most \
    FROM unnest($1::text[], $2::text[], $3::smallint[], $6::text[]) \
        WITH ORDINALITY AS wanted (queue, task, priority, after, at) \
    CROSS JOIN LATERAL ( \
        WITH RECURSIVE of_lane AS ( \
            (SELECT \"group\" FROM waiting \
                WHERE queue = wanted.queue AND task = wanted.task \
                    AND priority = wanted.priority AND \"group\" > wanted.after \
                ORDER BY \"group\" LIMIT 1) \
            UNION ALL \
            SELECT following.\"group\" FROM of_lane CROSS JOIN LATERAL ( \
                SELECT \"group\" FROM waiting \
                WHERE queue = wanted.queue AND task = wanted.task \
                    AND priority = wanted.priority AND \"group\" > of_lane.\"group\" \
                ORDER BY \"group\" LIMIT 1) AS following \
        ) \
        SELECT \"group\", greatest($7, $5 / count(*) OVER () + 1) AS most \
        FROM (SELECT \"group\" FROM of_lane LIMIT $5) AS bounded \
    ) AS groups \
    CROSS JOIN LATERAL ( \
        SELECT id, run_at, deadline, version FROM waiting \
        WHERE queue = wanted.queue AND task = wanted.task AND priority = wanted.priority \
            AND \"group\" = groups.\"group\" AND run_at <= $4 \
            AND (deadline IS NULL OR deadline >= $4) \
        ORDER BY run_at, id LIMIT groups.most FOR UPDATE SKIP LOCKED) AS offered";

/// When the next job comes due whose `run_at` lay ahead.
const NEXT_DUE: &str = "SELECT run_at FROM waiting WHERE is_scheduled AND run_at > $1 \
    ORDER BY run_at LIMIT 1";

const HOLD_LIMITED: &str = "SELECT queue, pace FROM limited WHERE queue = ANY ($1) \
    ORDER BY queue FOR UPDATE";
const MAKE_LIMITED: &str = "INSERT INTO limited (queue, pace) SELECT *, 0 FROM unnest($1::text[]) \
    ON CONFLICT DO NOTHING";
const COUNT_RUNNING: &str = "SELECT queue, task, priority, \"group\", count(*) FROM running \
    WHERE queue = ANY ($1) GROUP BY queue, task, priority, \"group\"";
const COUNT_WAITING: &str = "SELECT wanted.queue, counted.waiting \
    FROM unnest($1::text[]) AS wanted (queue) CROSS JOIN LATERAL ( \
        SELECT count(*) AS waiting FROM waiting WHERE queue = wanted.queue) AS counted";

/// As many as the sequence is raised by.
const CLAIMS_DRAWN: i64 = 10_000;

static INPUTS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT id, content_type, input FROM job WHERE {}",
        among("id")
    )
});
const DRAW_CLAIMS: &str = "SELECT nextval('claim')";

/// Returns the lanes that have jobs.
pub(super) async fn lanes(session: &Session) -> Result<BTreeSet<Lane>, Fault> {
    let rows = session.query(LANES, &[]).await?;
    rows.iter().map(lane).collect()
}

/// Returns the change of queues' settings and the lanes that have jobs, by one statement.
pub(super) async fn look(session: &Session) -> Result<(i64, BTreeSet<Lane>), Fault> {
    let (mut number, mut lanes) = (0, BTreeSet::new());
    for row in &session.query(&LOOK, &[]).await? {
        number = get(row, 3)?;
        if get::<Option<&str>>(row, 0)?.is_some() {
            lanes.insert(lane(row)?);
        }
    }
    Ok((number, lanes))
}

/// Reads `queue, task, priority`.
fn lane(row: &tokio_postgres::Row) -> Result<Lane, Fault> {
    Ok(Lane {
        queue: name(row, 0)?,
        task: name(row, 1)?,
        priority: priority(row, 2)?,
    })
}

/// Returns when the next job comes due.
pub(super) async fn next_due(
    session: &Session,
    now: Timestamp,
) -> Result<Option<Timestamp>, Fault> {
    let row = session.query_opt(NEXT_DUE, &[&now.as_millis()]).await?;
    row.map(|row| instant(&row, 0)).transpose()
}

/// Holds the rows of queues with limits until the transaction ends, and returns how far their rates
/// have come.
pub(super) async fn hold_limited(
    session: &Session,
    queues: &[Name],
) -> Result<Vec<(Name, Pace)>, Fault> {
    let mut names: Vec<&str> = queues.iter().map(|name| &**name).collect();
    names.sort_unstable();
    let mut rows = session.query(HOLD_LIMITED, &[&names]).await?;
    if rows.len() < names.len() {
        session.execute(MAKE_LIMITED, &[&names]).await?;
        rows = session.query(HOLD_LIMITED, &[&names]).await?;
    }
    let pace = |row: &tokio_postgres::Row| Ok((name(row, 0)?, Pace::from_nanos(get(row, 1)?)));
    rows.iter().map(pace).collect()
}

/// Returns how many jobs run of some queues. Their rows are held.
pub(super) async fn count_running(
    session: &Session,
    queues: &[Name],
) -> Result<RunningCounts, Fault> {
    let names: Vec<&str> = queues.iter().map(|name| &**name).collect();
    let rows = session.query(COUNT_RUNNING, &[&names]).await?;
    let count = |row: &tokio_postgres::Row| {
        let count: i64 = get(row, 4)?;
        Ok(((lane(row)?, label(row, 3)?), count.unsigned_abs()))
    };
    rows.iter().map(count).collect()
}

/// Returns how many jobs wait in some queues. Their rows are held.
pub(super) async fn count_waiting(
    session: &Session,
    queues: &[Name],
) -> Result<HashMap<Name, u64>, Fault> {
    let names: Vec<&str> = queues.iter().map(|name| &**name).collect();
    let rows = session.query(COUNT_WAITING, &[&names]).await?;
    let count = |row: &tokio_postgres::Row| {
        let count: i64 = get(row, 1)?;
        Ok((name(row, 0)?, count.unsigned_abs()))
    };
    rows.iter().map(count).collect()
}

/// Locks the first ready jobs of some lanes, up to about `limit` of each.
pub(super) async fn offers(
    session: &Session,
    lanes: &[Lane],
    since: &[Since],
    limit: usize,
    now: Timestamp,
) -> Result<Vec<Offer>, Fault> {
    let queues: Vec<&str> = lanes.iter().map(|lane| &*lane.queue).collect();
    let tasks: Vec<&str> = lanes.iter().map(|lane| &*lane.task).collect();
    let priorities: Vec<i16> = lanes
        .iter()
        .map(|lane| lane.priority.get().into())
        .collect();
    let instants: Vec<i64> = since.iter().map(|since| since.0.as_millis()).collect();
    let ids: Vec<uuid::Uuid> = since
        .iter()
        .map(|since| super::rows::uuid(since.1))
        .collect();
    let after: Vec<&str> = vec![""; lanes.len()];
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let now = now.as_millis();
    let plain: Values<'_> = &[&queues, &tasks, &priorities, &now, &most, &instants, &ids];
    let by_group: Values<'_> = &[
        &queues,
        &tasks,
        &priorities,
        &now,
        &most,
        &after,
        &OF_GROUP_MIN,
    ];
    let (ungrouped, grouped) = try_join!(
        session.query(OFFER_UNGROUPED, plain),
        session.query(OFFER_GROUPED, by_group),
    )?;
    let lane = |row: &tokio_postgres::Row| -> Result<Lane, Fault> {
        let at: i64 = get(row, 0)?;
        let at = usize::try_from(at - 1).unwrap_or(usize::MAX);
        let lane = lanes.get(at).cloned();
        lane.ok_or_else(|| super::rows::damaged(row, 0, "there is no such lane"))
    };
    let mut offers = Vec::with_capacity(ungrouped.len() + grouped.len());
    let mut counts: HashMap<(Lane, Option<anteroom_core::Label>), i64> = HashMap::new();
    let rows = ungrouped.iter().map(|row| (row, false));
    for (row, is_grouped) in rows.chain(grouped.iter().map(|row| (row, true))) {
        let lane = lane(row)?;
        let group = if is_grouped { label(row, 5)? } else { None };
        let of_group = if is_grouped { get(row, 6)? } else { most };
        let count = counts.entry((lane.clone(), group.clone())).or_default();
        *count += 1;
        offers.push(Offer {
            id: id(row, 1)?,
            lane,
            group,
            run_at: instant(row, 2)?,
            deadline: optional_instant(row, 3)?,
            version: unsigned(row, 4)?,
            is_cut: *count >= of_group,
        });
    }
    // Where two queues have had no turn yet, the one begins that had jobs first.
    offers.sort_by_key(|offer| (offer.run_at, offer.id));
    Ok(offers)
}

/// Claim numbers that this node may give out.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    next: i64,
    end: i64,
}

impl Numbers {
    /// Draws so many numbers at least, greater than any that was ever given out before this was
    /// called.
    pub(super) async fn draw_above(
        &mut self,
        session: &Session,
        count: usize,
        above: ClaimNumber,
    ) -> Result<(), Fault> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let above = super::rows::signed(above.get());
        // A number of this node's that is below what another gave out since would be no fence.
        while self.next <= above || self.end - self.next < count {
            let row = session.query(DRAW_CLAIMS, &[]).await?;
            let first: i64 = match row.first() {
                Some(row) => get(row, 0)?,
                None => return Err(Fault::Passing("no claim number was drawn".to_owned())),
            };
            // What is left of the numbers before is below this and not to be used after it.
            self.next = first;
            self.end = first + CLAIMS_DRAWN;
            if count > CLAIMS_DRAWN {
                return Err(Fault::Passing(format!(
                    "{count} claims at once are too many"
                )));
            }
        }
        Ok(())
    }

    fn take(&mut self) -> ClaimNumber {
        let number = ClaimNumber::new(self.next.unsigned_abs());
        self.next += 1;
        number
    }
}

/// Tells how many jobs all of some claims ask for, up to what one transaction takes.
pub(super) fn asked<'a>(parked: impl Iterator<Item = &'a Parked>) -> usize {
    let asked: usize = parked.map(|parked| parked.want.limit).sum();
    asked.min(COMMIT_OPERATIONS_MAX)
}

/// Tells whether a claim wants jobs of a lane.
pub(super) fn wants(want: &Want, lane: &Lane) -> bool {
    let queues = want.queues.as_ref();
    want.tasks.contains(&lane.task) && queues.is_none_or(|queues| queues.contains(&lane.queue))
}

impl Decisions<'_> {
    /// Tells whether anybody waits for jobs of a lane.
    pub(super) fn is_wanted(&self, lane: &Lane) -> bool {
        self.wanted.iter().any(|want| wants(want, lane))
    }

    /// Returns the jobs that a claim gets, as far as there are any.
    pub(super) fn choose(&mut self, want: &Want, most: usize) -> Vec<JobId> {
        let sources = self.window.sources(&want.tasks, want.queues.as_deref());
        let next = std::iter::from_fn(|| self.window.start_next(&sources));
        next.take(want.limit.min(most)).collect()
    }

    /// Begins the attempts of jobs that were chosen, and returns them with their inputs.
    pub(super) async fn begin(
        &mut self,
        session: &Session,
        numbers: &mut Numbers,
        node: i64,
        chosen: &[(usize, Vec<JobId>)],
        wants: &[&Want],
    ) -> Result<Vec<Vec<Claimed>>, Fault> {
        let all: Vec<JobId> = chosen.iter().flat_map(|(_, ids)| ids).copied().collect();
        if all.is_empty() {
            return Ok(vec![Vec::new(); chosen.len()]);
        }
        let mut inputs = self.read_chosen(session, &all).await?;
        let claims = all.iter().filter_map(|id| self.batch.jobs.get(id));
        let greatest = claims.map(|job| job.status.claim).max();
        numbers
            .draw_above(session, all.len(), greatest.unwrap_or(ClaimNumber::NONE))
            .await?;
        let mut claimed = Vec::with_capacity(chosen.len());
        for (at, ids) in chosen {
            let mut of_one = Vec::with_capacity(ids.len());
            for id in ids {
                let input = inputs.remove(id);
                of_one.push(self.begin_one(*id, wants[*at], numbers.take(), node, input)?);
            }
            claimed.push(of_one);
        }
        Ok(claimed)
    }

    /// Reads the jobs that were chosen and are not known yet, and the inputs.
    async fn read_chosen(
        &mut self,
        session: &Session,
        all: &[JobId],
    ) -> Result<HashMap<JobId, Payload>, Fault> {
        let mut inputs = HashMap::new();
        for mut job in self.known.take_waiting(all, &self.offered) {
            inputs.extend(job.input.take().map(|input| (job.spec.id, input)));
            self.batch.jobs.insert(job.spec.id, job);
        }
        let is_known = |id: &&JobId| self.batch.jobs.contains_key(id);
        let (known, unknown): (Vec<JobId>, Vec<JobId>) = all.iter().partition(is_known);
        let has_none =
            |id: &&JobId| self.batch.jobs[*id].input.is_none() && !inputs.contains_key(*id);
        let without = sorted(known.iter().filter(has_none));
        if !unknown.is_empty() {
            inputs.extend(self.batch.take(session, &unknown).await?);
        }
        if !without.is_empty() {
            for row in &session.query(&INPUTS, &[&without]).await? {
                inputs.insert(id(row, 0)?, super::rows::payload(row, 1)?);
            }
        }
        Ok(inputs)
    }

    fn begin_one(
        &mut self,
        id: JobId,
        want: &Want,
        claim: ClaimNumber,
        node: i64,
        input: Option<Payload>,
    ) -> Result<Claimed, Fault> {
        let now = self.now;
        let differs =
            |why: &str| Fault::Conflict(format!("job {id} differs from its offer: {why}"));
        let Some(job) = self.batch.jobs.get_mut(&id) else {
            return Err(differs("it is not there"));
        };
        let held_until = want.held_until(&job.spec, now);
        let event = Event::Claimed {
            claim,
            lease: want.lease,
            lease_expires_at: held_until,
        };
        let next = transition(&job.status, &event, now);
        let next = next.map_err(|rejected| differs(&rejected.to_string()))?;
        super::change::record(job, &next.status, &Reports::default(), now);
        job.status = next.status;
        job.lease_ms = super::rows::millis(held_until.since(now));
        job.node = (want.lease == anteroom_core::Lease::Node).then_some(node);
        job.is_changed = true;
        let input = input.or_else(|| job.input.clone());
        let input = input.ok_or_else(|| differs("it has no input"))?;
        Ok(Claimed {
            job: job.job(),
            input,
        })
    }
}
