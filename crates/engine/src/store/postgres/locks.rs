//! The statements that lock jobs in the tables that they lie in, and those that read what was
//! submitted.

use super::among::among;
use super::rows::{JOB, STANDING};
use std::sync::LazyLock;

/// Returns the columns of [`STANDING`] of a table, with what it has no column for.
fn standing(of: &str, absent: &[(&str, &str)]) -> String {
    let column = |column: &str| {
        let name = column.trim().trim_start_matches("standing.");
        match absent.iter().find(|(absent, _)| *absent == name) {
            Some((_, value)) => (*value).to_owned(),
            None => format!("{of}.{name}"),
        }
    };
    STANDING
        .split(',')
        .map(column)
        .collect::<Vec<_>>()
        .join(", ")
}

const NOT_DONE: [(&str, &str); 3] = [
    ("finished_at", "NULL::bigint"),
    ("result_content_type", "NULL::text"),
    ("result_bytes", "NULL::integer"),
];

/// What is locked of a job is told of by a row that begins with its id and where it stands, and
/// by its row of [`SPECS`]. Two statements and no join: so each looks into no more partitions than
/// there are days that the jobs were submitted on.
pub(super) const STANDING_AT: usize = 1;

/// Locks jobs that run.
pub(super) static LOCK_RUNNING: LazyLock<String> = LazyLock::new(|| {
    let [finished, content_type, bytes] = NOT_DONE;
    let absent = [("state", "1::smallint"), finished, content_type, bytes];
    format!(
        "SELECT running.id, {}, running.node, running.lease_ms FROM running \
         WHERE running.id = ANY ($1) ORDER BY running.id FOR UPDATE",
        standing("running", &absent)
    )
});

/// Locks jobs that wait.
pub(super) static LOCK_WAITING: LazyLock<String> =
    LazyLock::new(|| format!("{} ORDER BY waiting.id FOR UPDATE", *TAKE));

/// Reads jobs that wait and are locked.
pub(super) static TAKE: LazyLock<String> = LazyLock::new(|| {
    let [finished, content_type, bytes] = NOT_DONE;
    let absent = [
        ("state", "0::smallint"),
        ("cancel_requested", "false"),
        finished,
        content_type,
        bytes,
    ];
    format!(
        "SELECT waiting.id, {} FROM waiting WHERE waiting.id = ANY ($1)",
        standing("waiting", &absent)
    )
});

/// Locks jobs that ended.
pub(super) static LOCK_DONE: LazyLock<String> = LazyLock::new(|| {
    let absent = [("result_bytes", "octet_length(done.result)")];
    format!(
        "SELECT done.id, {} FROM done WHERE {} ORDER BY done.id FOR UPDATE",
        standing("done", &absent),
        among("done.id")
    )
});

/// Reads where jobs stand, whatever that is.
pub(super) static STAND: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT standing.id, {STANDING} FROM standing WHERE {}",
        among("standing.id")
    )
});

/// Reads what was submitted.
pub(super) static SPECS: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {JOB} FROM job WHERE {}", among("job.id")));

/// Reads what was submitted, inputs as well.
pub(super) static SPECS_WITH_INPUTS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {JOB}, job.content_type, job.input FROM job WHERE {}",
        among("job.id")
    )
});

pub(super) static THERE: LazyLock<String> =
    LazyLock::new(|| format!("SELECT id FROM job WHERE {}", among("id")));
