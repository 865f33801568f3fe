//! How histories are read.
//!
//! A job whose life went straight on has no rows of its own here: where it stands tells its states.
//! What is written down is read in the statement that reads the job, so that no later report is
//! told before an earlier state.

use super::fault::Fault;
use super::read::found;
use super::rows::{AFTER_STANDING, JOB, STANDING, damaged, get, signed, stored, uuid};
use super::session::Session;
use crate::store::{Found, History};
use anteroom_core::history::{came_due, merge, straight};
use anteroom_core::{
    EventId, EventPart, Happened, JobEvent, JobId, LogStream, Progress, Report, ShownState,
    StateEvent, Timestamp,
};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// The states that are written down of a job from a version on, and the oldest that is. Up to two
/// of them may be told already, since they have that version.
const OF_STATES: &str = "CROSS JOIN LATERAL ( \
    SELECT array_agg(ordinal) AS ordinals, array_agg(version) AS versions, \
        array_agg(reports) AS reports, array_agg(part) AS parts, array_agg(state) AS states, \
        array_agg(attempt) AS attempts FROM ( \
        SELECT ordinal, version, reports, part, state, attempt FROM state \
        WHERE state.id = job.id AND standing.states > 0 AND version >= $2 \
        ORDER BY state.id, ordinal LIMIT $4::bigint + 2 \
    ) AS state \
    ) AS entered";
const STATES: &str = "(SELECT min(ordinal) FROM state WHERE state.id = job.id \
    AND standing.states > 0), entered.ordinals, entered.versions, entered.reports, \
    entered.parts, entered.states, entered.attempts";
const STATES_AT: usize = AFTER_STANDING;

/// The reports that are written down of a job after so many.
const OF_REPORTS: &str = "CROSS JOIN LATERAL ( \
    SELECT array_agg(ordinal) AS ordinals, array_agg(version) AS versions, \
        array_agg(attempt) AS attempts, array_agg(stream) AS streams, \
        array_agg(fraction) AS fractions, array_agg(text) AS texts FROM ( \
        SELECT ordinal, version, attempt, stream, fraction, text FROM report \
        WHERE report.id = job.id AND standing.reports > $3 AND ordinal > $3 \
        ORDER BY report.id, ordinal LIMIT $4 \
    ) AS report \
    ) AS said";
const REPORTS: &str = "said.ordinals, said.versions, said.attempts, said.streams, \
    said.fractions, said.texts";
const REPORTS_AT: usize = STATES_AT + 7;

/// Returns a job and up to `limit` of its events after `after`, oldest first.
pub(super) async fn events(
    session: &Session,
    id: JobId,
    after: EventId,
    limit: usize,
    now: Timestamp,
) -> Result<Found<History>, Fault> {
    let sql = format!(
        "SELECT {JOB}, {STANDING}, {STATES}, {REPORTS} \
         FROM job JOIN standing ON standing.id = job.id {OF_STATES} {OF_REPORTS} \
         WHERE job.id = $1"
    );
    let one_more = i64::from(i32::try_from(limit).unwrap_or(i32::MAX)) + 1;
    let (id_value, version, reports) = (uuid(id), signed(after.version), signed(after.reports));
    let values: [&(dyn ToSql + Sync); 4] = [&id_value, &version, &reports, &one_more];
    let row = session.query_opt(&sql, &values).await?;
    found(session, id, row, |row| history(row, after, limit, now)).await
}

/// Reads a part of a history.
fn history(row: &Row, after: EventId, limit: usize, now: Timestamp) -> Result<History, Fault> {
    let job = stored(row)?;
    let (states_missing, mut states) = if job.told.states == 0 {
        let said = job.told.reports;
        (0, straight(job.spec.created_at, &job.status, said, now))
    } else {
        written_states(row, STATES_AT, after)?
    };
    let passage = states
        .last()
        .and_then(|last| came_due(*last, &job.status, now));
    states.extend(passage);
    let reports = written_reports(row, REPORTS_AT)?;
    let mut events = merge(after, states, reports, limit.saturating_add(1));
    let is_all = events.len() <= limit;
    events.truncate(limit);
    Ok(History {
        job: job.into_job(Vec::new()),
        events,
        states_missing,
        is_all,
    })
}

/// Returns the states of [`STATES`], and how many before them are missing.
fn written_states(row: &Row, at: usize, after: EventId) -> Result<(u64, Vec<StateEvent>), Fault> {
    let Some(ordinals) = get::<Option<Vec<i64>>>(row, at + 1)? else {
        return Ok((0, Vec::new()));
    };
    let versions: Vec<i64> = get(row, at + 2)?;
    let reports: Vec<i64> = get(row, at + 3)?;
    let parts: Vec<i16> = get(row, at + 4)?;
    let shown: Vec<i16> = get(row, at + 5)?;
    let attempts: Vec<i32> = get(row, at + 6)?;
    let numbers = versions.into_iter().zip(reports);
    let mut states = Vec::with_capacity(ordinals.len());
    for (((version, reports), (part, state)), attempt) in
        numbers.zip(parts.into_iter().zip(shown)).zip(attempts)
    {
        let part = EventPart::from_number(u64::from(part.unsigned_abs()));
        let state = ShownState::ALL.get(usize::from(state.unsigned_abs()));
        let (Some(part), Some(state)) = (part, state) else {
            return Err(damaged(row, at + 4, "there is no such event"));
        };
        states.push(StateEvent {
            id: EventId {
                version: version.unsigned_abs(),
                reports: reports.unsigned_abs(),
                part,
            },
            state: *state,
            attempt: attempt.unsigned_abs(),
        });
    }
    let first = ordinals.first().copied();
    let is_oldest = get::<Option<i64>>(row, at)? == first;
    let is_missing = is_oldest && states.first().is_some_and(|first| first.id > after);
    let missing = first.filter(|_| is_missing).unwrap_or_default();
    Ok((missing.unsigned_abs(), states))
}

/// Returns the reports of [`REPORTS`].
fn written_reports(row: &Row, at: usize) -> Result<Vec<JobEvent>, Fault> {
    let Some(ordinals) = get::<Option<Vec<i64>>>(row, at)? else {
        return Ok(Vec::new());
    };
    let versions: Vec<i64> = get(row, at + 1)?;
    let attempts: Vec<i32> = get(row, at + 2)?;
    let streams: Vec<Option<&str>> = get(row, at + 3)?;
    let fractions: Vec<Option<f64>> = get(row, at + 4)?;
    let texts: Vec<Option<&[u8]>> = get(row, at + 5)?;
    let numbers = ordinals.into_iter().zip(versions).zip(attempts);
    let said = streams.into_iter().zip(fractions).zip(texts);
    let mut reports = Vec::new();
    for (((ordinal, version), attempt), ((stream, fraction), text)) in numbers.zip(said) {
        let text = text.map(std::str::from_utf8).transpose();
        let text = text.map_err(|why| damaged(row, at + 5, why))?;
        let report = report(stream, fraction, text).map_err(|why| damaged(row, at + 3, why))?;
        reports.push(JobEvent {
            id: EventId {
                version: version.unsigned_abs(),
                reports: ordinal.unsigned_abs(),
                part: EventPart::Report,
            },
            happened: Happened::Reported {
                attempt: attempt.unsigned_abs(),
                report,
            },
        });
    }
    Ok(reports)
}

/// Returns what an attempt said: a line where it has a stream, else a progress.
pub(super) fn report(
    stream: Option<&str>,
    fraction: Option<f64>,
    text: Option<&str>,
) -> Result<Report, String> {
    let Some(word) = stream else {
        let progress = Progress::new(fraction, text.map(str::to_owned));
        let progress = progress.ok_or_else(|| "a progress says nothing".to_owned())?;
        return Ok(Report::Progress(progress));
    };
    let stream =
        LogStream::from_word(word).ok_or_else(|| format!("there is no stream {word:?}"))?;
    let line = text.ok_or_else(|| "a line has no text".to_owned())?;
    Ok(Report::log(stream, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_line_where_it_has_a_stream_and_a_progress_else() {
        let line = Report::log(LogStream::Log, "a\0b");
        assert_eq!(
            report(Some(LogStream::Log.as_str()), None, Some("a\0b")),
            Ok(line)
        );
        let progress = Progress::new(Some(0.5), None).map(Report::Progress);
        assert_eq!(report(None, Some(0.5), None).ok(), progress);
        for (stream, text) in [
            (Some("smoke"), Some("a")),
            (Some(LogStream::Log.as_str()), None),
            (None, None),
        ] {
            assert!(report(stream, None, text).is_err(), "{stream:?} {text:?}");
        }
    }
}
