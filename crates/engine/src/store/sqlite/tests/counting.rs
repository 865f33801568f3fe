//! What the store counts of itself.

use super::faults::{LARGE, fill, make_room};
use super::*;
use crate::metrics::Metrics;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// Returns the value of a sample that is a whole number.
fn value(store: &SqliteStore, sample: &str) -> usize {
    let mut registry = Registry::default();
    Metrics::new(std::iter::empty(), store.metrics()).register(&mut registry);
    let mut page = String::new();
    encode(&mut page, &registry).unwrap();
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("no {sample} in {page}"));
    line.trim_end_matches(".0").parse().unwrap()
}

#[tokio::test]
async fn what_was_committed_is_counted_and_what_was_not_is_an_error() {
    let place = Place::new();
    let store = place.open();
    let is = |expected: [usize; 4], after: &str| {
        let names = [
            "anteroom_store_commit_operations_count",
            "anteroom_store_commit_operations_sum",
            "anteroom_store_commit_size_bytes_sum",
            "anteroom_store_errors_total{kind=\"unavailable\"}",
        ];
        let found = names.map(|name| value(&store, name));
        assert_eq!(found, expected, "{after}");
    };
    let input = job(1).input.bytes.len();
    is([0; 4], "nothing");
    store.insert(vec![job(1), job(2)]).await.unwrap();
    is([1, 2, 2 * input, 0], "an insert");
    tally(&store).await;
    is([1, 2, 2 * input, 0], "a look");
    let claimed = store.claim(want(2)).await.unwrap();
    is([2, 4, 2 * input, 0], "a claim");
    meddle(&store, fill).await;
    let large = || vec![job(3), job_with(id(4), LARGE)];
    store.insert(large()).await.unwrap_err();
    is([2, 4, 2 * input, 1], "a full disk");
    meddle(&store, make_room).await;
    store.insert(large()).await.unwrap();
    let bytes = 3 * input + LARGE.len();
    is([3, 6, bytes, 1], "room");
    let done = succeed(&store, &claimed[0]).await.unwrap();
    let bytes = bytes + done.result.unwrap().bytes;
    is([4, 7, bytes, 1], "a settle");
    for name in ["commit", "transaction"] {
        let name = format!("anteroom_store_{name}_duration_seconds_count");
        assert_eq!(value(&store, &name), 4);
    }
    store.close().await;
}
