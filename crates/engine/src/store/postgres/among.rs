//! Which jobs a statement is about, said so that the database looks only where they can lie.
//!
//! `job` and `done` are partitioned by id. By `id = ANY ($1)` alone the server would look for each id
//! in each partition; by its bounds it finds, when the statement begins, those few that can have any.

use super::rows::uuid;
use anteroom_core::JobId;
use uuid::Uuid;

/// Returns the term that a column has one of the ids of `$1`, which are [`sorted`].
pub(super) fn among(column: &str) -> String {
    let ids = "($1::uuid[])";
    format!(
        "{column} = ANY ($1) AND {column} >= {ids}[1] AND {column} <= {ids}[cardinality($1::uuid[])]"
    )
}

/// Returns ids as [`among`] wants them: each once, in their order.
pub(super) fn sorted<'a>(ids: impl IntoIterator<Item = &'a JobId>) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = ids.into_iter().map(|id| uuid(*id)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_id_are_the_bounds() {
        let id = |n: u8| JobId::from_bytes([n; 16]);
        let ids = sorted(&[id(9), id(1), id(200), id(1)]);
        assert_eq!(ids, [1_u8, 9, 200].map(|n| Uuid::from_bytes([n; 16])));
        assert!(sorted(&[]).is_empty());
        assert_eq!(
            among("job.id"),
            "job.id = ANY ($1) AND job.id >= ($1::uuid[])[1] \
             AND job.id <= ($1::uuid[])[cardinality($1::uuid[])]"
        );
    }
}
