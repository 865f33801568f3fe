//! Days of a `PostgreSQL` database: where jobs lie, and what becomes of them when a day is dropped.

use crate::nodes::{STARTED_AT, database, job, name, options, success, want};
use anteroom::clock::{Clock, ManualClock};
use anteroom::core::{Event, JobId, State};
use anteroom::store::postgres::{PostgresStore, PostgresUrl};
use anteroom::store::{Change, Found, NewJob, Store};
use anteroom_pgtest::TestDatabase;
use futures_util::future::join_all;
use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);
/// The day of [`STARTED_AT`].
const TODAY: &str = "20270115";

async fn node_of(url: &str, clock: &Clock) -> PostgresStore {
    let url = PostgresUrl::new(url).unwrap();
    let store = PostgresStore::open_by(clock.clone(), url, options()).await;
    store.unwrap()
}

async fn node(database: &TestDatabase<'_>) -> (PostgresStore, Clock, ManualClock) {
    let (clock, hand) = Clock::manual(STARTED_AT);
    (node_of(&database.url(), &clock).await, clock, hand)
}

/// Has days looked after: each node does so when it is opened.
async fn tend(database: &TestDatabase<'_>, clock: &Clock) {
    node_of(&database.url(), clock).await.close().await;
}

/// Returns the partitions of a table, but the one for the rest.
fn days(database: &TestDatabase<'_>, table: &str) -> Vec<String> {
    let sql = format!(
        "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class JOIN pg_inherits \
         ON inhrelid = oid WHERE inhparent = 'anteroom.{table}'::regclass \
         AND relname <> '{table}_rest'"
    );
    let names = database.sql(&sql);
    let date = |name: &str| name.trim_start_matches(&format!("{table}_")).to_owned();
    names.split_whitespace().map(date).collect()
}

/// Returns the partition that a job's row of a table lies in.
fn lies_in(database: &TestDatabase<'_>, table: &str, id: JobId) -> String {
    database.sql(&format!(
        "SELECT tableoid::regclass FROM anteroom.{table} WHERE id = '{id}'"
    ))
}

async fn insert(store: &PostgresStore, jobs: Vec<NewJob>) -> Vec<JobId> {
    let ids = jobs.iter().map(|job| job.spec.id).collect();
    store.insert(jobs).await.unwrap();
    ids
}

#[tokio::test]
async fn a_job_lies_in_the_partition_of_the_day_of_its_submit() {
    let database = database();
    let (store, _, hand) = node(&database).await;
    let expected = [TODAY, "20270116", "20270117", "20270118"];
    assert_eq!(days(&database, "job"), expected);
    assert_eq!(days(&database, "done"), expected);
    let id = insert(&store, vec![job(1)]).await[0];
    assert_eq!(lies_in(&database, "job", id), "job_20270115");
    hand.advance(DAY);
    let claimed = store.claim(want(1)).await.unwrap();
    store.apply(vec![success(&claimed[0])]).await.unwrap();
    // Its result lies where the job does, whenever it ended.
    assert_eq!(lies_in(&database, "done", id), "done_20270115");
    store.close().await;
}

/// Of a day that is dropped all is as it was: what is kept is kept, what waits will run, and what is
/// gone is known to be gone.
#[tokio::test]
async fn a_day_is_dropped_once_few_of_its_jobs_are_left_and_they_stay_what_they_were() {
    let database = database();
    let (store, clock, hand) = node(&database).await;
    let retained = |number, days| {
        let mut job = job(number);
        job.spec_mut().retain = DAY * days;
        job
    };
    let ended = insert(&store, vec![retained(1, 1), retained(2, 60)]).await;
    for claimed in store.claim(want(2)).await.unwrap() {
        store.apply(vec![success(&claimed)]).await.unwrap();
    }
    let mut scheduled = job(3);
    scheduled.status.run_at = STARTED_AT.after(DAY * 20);
    let scheduled = insert(&store, vec![scheduled]).await[0];

    hand.advance(DAY);
    tend(&database, &clock).await;
    assert!(
        days(&database, "job").contains(&TODAY.to_owned()),
        "yesterday stays"
    );
    hand.advance(DAY);
    assert_eq!(store.prune(100).await.unwrap(), 1);
    tend(&database, &clock).await;
    for table in ["job", "done"] {
        let expected = ["20270116", "20270117", "20270118", "20270119", "20270120"];
        assert_eq!(days(&database, table), expected, "{table}");
    }
    assert_eq!(store.get(ended[0]).await.unwrap(), Found::Gone);
    let Found::Here((kept, result)) = store.result(ended[1]).await.unwrap() else {
        panic!("it is retained");
    };
    assert_eq!(kept.status.state, State::Succeeded);
    assert_eq!(result, Some(job(2).input));
    assert_eq!(lies_in(&database, "job", scheduled), "job_rest");
    assert_eq!(lies_in(&database, "done", ended[1]), "done_rest");

    hand.advance(DAY * 18);
    let claimed = store.claim(want(10)).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].job.spec.id, scheduled);
    store.apply(vec![success(&claimed[0])]).await.unwrap();
    let retried = Change::new(ended[1], Event::RetryRequested);
    let refused = store.apply(vec![retried]).await.unwrap();
    assert!(refused[0].is_err(), "it has succeeded");
    hand.advance(DAY * 60);
    assert_eq!(store.prune(100).await.unwrap(), 2);
    assert_eq!(store.get(scheduled).await.unwrap(), Found::Gone);
    let left = "SELECT (SELECT count(*) FROM anteroom.job), (SELECT count(*) FROM anteroom.done)";
    assert_eq!(database.sql(left), "0|0");
    store.close().await;
}

#[tokio::test]
async fn a_day_with_many_jobs_left_stays_until_they_are_gone() {
    let database = database();
    let (store, clock, hand) = node(&database).await;
    let ids = insert(&store, (0..1001).map(job).collect()).await;
    hand.advance(DAY * 5);
    tend(&database, &clock).await;
    assert_eq!(days(&database, "job")[0], TODAY);
    let is_dropped = !days(&database, "done").contains(&TODAY.to_owned());
    assert!(is_dropped, "none of them has ended");
    let cancel = |id: &JobId| Change::new(*id, Event::CancelRequested);
    let cancelled = store.apply(ids.iter().map(cancel).collect()).await.unwrap();
    assert!(cancelled.iter().all(Result::is_ok));
    hand.advance(Duration::from_hours(1));
    assert_eq!(store.prune(2000).await.unwrap(), 1001);
    tend(&database, &clock).await;
    assert!(!days(&database, "job").contains(&TODAY.to_owned()));
    assert_eq!(store.get(ids[0]).await.unwrap(), Found::Gone);
    store.close().await;
}

/// Where nobody made a day its jobs lie in the rest, and it is too late to make it.
#[tokio::test]
async fn a_day_of_which_there_are_jobs_already_is_left_out() {
    let database = database();
    let (store, clock, hand) = node(&database).await;
    database.sql("DROP TABLE anteroom.job_20270117, anteroom.job_20270118");
    hand.advance(DAY * 2);
    let mut late = job(1);
    let millis = clock.now().as_millis().unsigned_abs();
    late.spec_mut().id = JobId::from_parts(millis, 0, 1);
    let id = insert(&store, vec![late]).await[0];
    assert_eq!(lies_in(&database, "job", id), "job_rest");
    tend(&database, &clock).await;
    let expected = ["20270116", "20270118", "20270119", "20270120"];
    assert_eq!(days(&database, "job"), expected);
    let claimed = store.claim(want(1)).await.unwrap();
    assert_eq!(claimed[0].job.spec.id, id);
    store.close().await;
}

/// Ids that were made elsewhere, long ago, lie in no day.
#[tokio::test]
async fn jobs_of_any_id_have_their_place() {
    let database = database();
    let (store, ..) = node(&database).await;
    let with_id = |byte: u8| {
        let mut job = job(1);
        job.spec_mut().id = JobId::from_bytes([byte; 16]);
        job
    };
    let ids = insert(&store, [0, 1, 0x80, 0xff].map(with_id).into()).await;
    for id in &ids {
        assert_eq!(lies_in(&database, "job", *id), "job_rest");
    }
    let claimed = store.claim(want(10)).await.unwrap();
    assert_eq!(claimed.len(), ids.len());
    let ends = store.apply(claimed.iter().map(success).collect()).await;
    assert!(ends.unwrap().iter().all(Result::is_ok));
    let versions = store.versions(&ids).await.unwrap();
    assert_eq!(versions.len(), ids.len());
    store.close().await;
}

#[tokio::test]
async fn a_user_who_may_not_make_days_serves_without() {
    let database = database();
    let (store, clock, hand) = node(&database).await;
    let role = format!("{}_role", database.name());
    database.sql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'secret'; GRANT USAGE ON SCHEMA anteroom TO {role}; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON anteroom.migration TO {role}"
    ));
    let parents = "SELECT string_agg(relname, ', anteroom.') FROM pg_class \
        WHERE relnamespace = 'anteroom'::regnamespace AND relkind IN ('r', 'p', 'v') \
        AND NOT relispartition";
    let parents = database.sql(parents);
    database.sql(&format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON anteroom.{parents} TO {role}; \
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA anteroom TO {role}"
    ));
    store.close().await;
    hand.advance(DAY * 10);
    let url = database.url();
    let url = url.replace("anteroom:pgtest-secret", &format!("{role}:secret"));
    let theirs = node_of(&url, &clock).await;
    let mut late = job(1);
    let millis = clock.now().as_millis().unsigned_abs();
    late.spec_mut().id = JobId::from_parts(millis, 0, 1);
    let id = insert(&theirs, vec![late]).await[0];
    assert_eq!(lies_in(&database, "job", id), "job_rest");
    let claimed = theirs.claim(want(1)).await.unwrap();
    let ended = theirs.apply(vec![success(&claimed[0])]).await.unwrap();
    assert_eq!(ended[0].as_ref().unwrap().status.state, State::Succeeded);
    assert_eq!(claimed[0].job.spec.task, name("work"));
    theirs.close().await;
    database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_nodes_that_begin_at_once_make_each_day_once() {
    let database = database();
    let (clock, _hand) = Clock::manual(STARTED_AT);
    let (url, numbers) = (database.url(), 0..8);
    let nodes = join_all(numbers.map(|_| node_of(&url, &clock))).await;
    tend(&database, &clock).await;
    for table in ["job", "done"] {
        let expected = [TODAY, "20270116", "20270117", "20270118"];
        assert_eq!(days(&database, table), expected, "{table}");
    }
    let all = nodes.iter().zip(0..);
    let ids = join_all(all.map(|(node, number)| insert(node, vec![job(number)]))).await;
    for id in ids.concat() {
        assert_eq!(lies_in(&database, "job", id), "job_20270115");
    }
    join_all(nodes.iter().map(Store::close)).await;
}
