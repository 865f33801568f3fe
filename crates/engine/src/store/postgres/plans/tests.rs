//! The statements of the contract, each at no rows, at a thousand and at a million.

use super::gathered;
use super::plan::{offences, partitions};
use crate::clock::Clock;
use crate::contract::{self, StoreUnderTest};
use crate::store::Store;
use crate::store::postgres::open::{PostgresOptions, open};
use crate::store::postgres::session::Session;
use crate::store::postgres::{PostgresStore, PostgresUrl};
use anteroom_pgtest::{Cluster, TestDatabase};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::sync::{Arc, Mutex};
use std::thread;

/// What reads more than an index finds for it, of which table, and may.
const ALLOWED: &[(&str, &str, &str)] = &[
    (
        "count(*) FILTER (WHERE run_at > $1)",
        "",
        "counts all, and is seldom asked: `counts`",
    ),
    (
        "SELECT overdue.id",
        "running",
        "all that run are looked at: as many as are run at once",
    ),
    (
        "UPDATE running SET lease_expires_at = greatest",
        "running",
        "once, when a node joins",
    ),
    ("DELETE FROM node", "running", "once, when a node joins"),
    (
        "SELECT EXISTS (SELECT FROM",
        "",
        "one row of the rest: `days`",
    ),
];
/// What looks into more partitions than the jobs lie in that it is about, and may.
const SPREAD: &[(&str, &str)] = &[
    (
        "ORDER BY",
        "lists, and what is over: the first of each partition",
    ),
    (
        "SELECT EXISTS (SELECT FROM done WHERE expires_at",
        "whether anything is over",
    ),
    ("UPDATE job", "few jobs are changed by their owners"),
    ("SELECT overdue.id", "for few jobs, one after the other"),
];
/// So many cases are run at a time, each over a database of its own.
const CASES_AT_ONCE: usize = 6;
/// Days that have partitions.
const DAYS: u32 = 40;

fn options() -> PostgresOptions {
    PostgresOptions {
        allow_fsync_off: true,
    }
}

#[derive(Debug)]
struct Subject(TestDatabase<'static>);

#[async_trait]
impl StoreUnderTest for Subject {
    async fn open(&self, clock: Clock) -> Arc<dyn Store> {
        let url = PostgresUrl::new(&self.0.url()).unwrap();
        let store = PostgresStore::open_by(clock, url, options()).await;
        Arc::new(store.unwrap())
    }

    fn keeps_every_turn(&self) -> bool {
        false
    }

    fn is_durable(&self) -> bool {
        true
    }
}

/// Runs cases that use all of the store, and returns what was prepared meanwhile.
fn statements() -> BTreeSet<String> {
    let mut cases: Vec<Box<dyn FnOnce() -> BTreeSet<String> + Send>> = Vec::new();
    macro_rules! gather {
        ($($theme:ident::$case:ident,)*) => {
            $(
                cases.push(Box::new(|| {
                    let database = anteroom_pgtest::shared().database();
                    let name = database.name().to_owned();
                    contract::run(Subject(database), contract::$theme::$case);
                    gathered(&name)
                }));
            )*
        };
    }
    gather! {
        insert::inputs_are_kept_byte_for_byte,
        insert::an_insert_with_a_taken_id_stores_nothing,
        insert::an_unknown_id_is_unknown,
        claim::a_job_past_its_deadline_is_not_claimed,
        turns::jobs_of_a_group_keep_their_order,
        turns::a_waiting_job_can_be_told_its_place,
        turns::a_place_tells_what_holds_a_job_back,
        limits::no_more_of_a_queue_run_than_may,
        limits::no_more_of_a_group_run_than_may,
        limits::no_more_start_than_a_rate_lets,
        waiting::a_waiting_claim_gets_a_job_that_comes_due,
        leases::a_settle_said_again_is_told_from_a_late_one,
        settle::every_event_does_what_the_lifecycle_says,
        settle::results_are_kept_byte_for_byte,
        settle::a_retry_starts_over_and_keeps_the_errors,
        settle::the_latest_errors_are_kept_newest_last,
        amend::an_amendment_changes_what_it_names,
        callbacks::every_end_makes_one_callback,
        overdue::leases_that_ran_out_are_overdue,
        forget::only_a_finished_job_can_be_deleted,
        forget::jobs_are_forgotten_once_their_retention_is_over,
        history::every_state_is_told_of_a_life_that_is_not_straight,
        history::the_latest_reports_are_kept,
        history::the_oldest_of_very_many_states_are_told_as_missing,
        history::a_history_goes_with_its_job,
        list::a_list_shows_what_its_filter_names,
        list::a_list_is_newest_first_and_has_the_last_error_of_what_failed,
        list::counts_follow_the_jobs,
        queues::limits_are_kept_and_survive_a_reopen,
        queues::a_full_queue_takes_no_more_jobs,
        documents::documents_are_kept_byte_for_byte,
        keys::a_key_gives_its_job_again,
        keys::a_key_is_remembered_for_a_day,
        keys::a_unique_key_has_one_unfinished_job,
    }
    let cases = Mutex::new(cases);
    let next = || cases.lock().unwrap().pop();
    let run = || {
        iter::from_fn(next)
            .flat_map(|case| case())
            .collect::<Vec<_>>()
    };
    let mut statements: BTreeSet<String> = thread::scope(|scope| {
        let threads: Vec<_> = (0..CASES_AT_ONCE).map(|_| scope.spawn(run)).collect();
        let all = threads.into_iter().map(|thread| thread.join().unwrap());
        all.flatten().collect()
    });
    // What is asked about the server itself, and about the partition of one day.
    statements.retain(|sql| !sql.contains("pg_") && !sql.contains("AS left_over"));
    statements
}

/// Returns the value that a statement is explained with.
fn value(kind: &str, sql: &str, is_first: bool) -> &'static str {
    match kind {
        "_uuid" => "'{019c82a5-5be8-7000-8000-000000000000}'",
        // A list goes from one id down to another.
        "uuid" if !is_first => "'00000000-0000-0000-0000-000000000000'",
        "uuid" if sql.contains("id < $1") => "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        "uuid" => "'019c82a5-5be8-7000-8000-000000000000'",
        _ => "NULL",
    }
}

/// Returns the plan that a session of the store's makes for a statement, line by line.
async fn plan(session: &Session, sql: &str) -> Vec<String> {
    let kinds = session.prepared(sql).await.unwrap();
    let mut is_first = true;
    let mut values = Vec::new();
    for kind in kinds.params() {
        values.push(value(kind.name(), sql, is_first));
        is_first &= kind.name() != "uuid";
    }
    let values = match values.join(", ") {
        none if none.is_empty() => none,
        some => format!("({some})"),
    };
    session
        .run(&format!("PREPARE asked AS {sql}"))
        .await
        .unwrap();
    let explained = format!("EXPLAIN (COSTS OFF) EXECUTE asked{values}");
    // Not the one that was made when it was last explained.
    let explained = format!("{explained} /* {} */", fastrand::u64(..));
    let rows = session.query(&explained, &[]).await.unwrap();
    session.run("DEALLOCATE asked").await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Returns what is wrong with the plans of statements.
async fn wrong(session: &Session, statements: &BTreeSet<String>) -> Vec<String> {
    let may = |list: &[(&str, &str)], sql: &str| list.iter().any(|(part, _)| sql.contains(part));
    let mut wrong = Vec::new();
    for sql in statements {
        let plan = plan(session, sql).await;
        let lines: Vec<&str> = plan.iter().map(String::as_str).collect();
        let mut said = Vec::new();
        let is_allowed = |offence: &String| {
            let mut allowed = ALLOWED.iter();
            allowed.any(|(part, table, _)| sql.contains(part) && offence.contains(table))
        };
        said.extend(
            offences(&lines)
                .into_iter()
                .filter(|offence| !is_allowed(offence)),
        );
        for table in ["job", "done"] {
            let count = partitions(&lines, table);
            if count > 1 && !may(SPREAD, sql) {
                said.push(format!("it looks into {count} partitions of {table}"));
            }
        }
        if !said.is_empty() {
            // One partition is like another.
            let lines = lines.iter().filter(|line| !line.contains("_day"));
            let lines: Vec<&str> = lines.copied().collect();
            let (said, lines) = (said.join("\n"), lines.join("\n"));
            wrong.push(format!("{sql}\n{said}\n{lines}\n"));
        }
    }
    wrong
}

/// Fills the tables: `$ROWS` jobs over the days that have partitions, half of them ended.
const FILL: &str = "
    CREATE TEMP TABLE made AS SELECT n, (lpad(to_hex(1770000000000 + n * (86400000::bigint * 39 / $ROWS)), 12, '0')
        || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid AS id FROM generate_series(1, $ROWS) AS n;
    INSERT INTO anteroom.job SELECT id, 't' || n % 9, 'q' || n % 7, NULL, n % 10, n, 5, 1, NULL, 1, NULL, NULL,
        NULL, 'a/b', '' FROM made;
    INSERT INTO anteroom.done SELECT id, 2, 3, n, 1, n, 0, NULL, n, 0, 0, 0, 0, NULL, NULL, false, n, n, 'a/b', ''
        FROM made WHERE n % 2 = 0;
    INSERT INTO anteroom.waiting SELECT id, 't' || n % 9, 'q' || n % 7, CASE WHEN n % 3 = 0 THEN 'g' || n % 90 ELSE '' END,
        n % 10, n % 4 = 1, CASE WHEN n % 20 = 1 THEN n END, 1, n, 0, 0, 0, NULL, NULL, 0, 0, 0, 0, NULL, NULL
        FROM made WHERE n % 2 = 1 AND n % 10 <> 9;
    INSERT INTO anteroom.running SELECT id, 't' || n % 9, 'q' || n % 7, '', n % 10, 1, 1, n, 1, n, 0, n, 1, n, false,
        0, 0, 0, 0, NULL, NULL FROM made WHERE n % 10 = 9;
    INSERT INTO anteroom.error SELECT id, 0, 1, n, 'error', '' FROM made WHERE n % 20 = 0;
    INSERT INTO anteroom.report SELECT id, 1, 1, 1, NULL, 0.5, NULL, 0 FROM made WHERE n % 20 = 0;
    INSERT INTO anteroom.state SELECT id, 0, 1, 0, 1, 1, 0 FROM made WHERE n % 20 = 0;
    INSERT INTO anteroom.settled SELECT id, 1, '' FROM made WHERE n % 20 = 0;
    INSERT INTO anteroom.gone SELECT gen_random_uuid(), n FROM made WHERE n % 20 = 0;
    INSERT INTO anteroom.submit SELECT 's', 't', n, '', id, false, n FROM made WHERE n % 20 = 0;
    INSERT INTO anteroom.unique_key SELECT 't', n, id FROM made WHERE n % 20 = 1;
    DROP TABLE made";
const EMPTY: &str = "TRUNCATE anteroom.job, anteroom.done, anteroom.waiting, anteroom.running, anteroom.error, \
    anteroom.report, anteroom.state, anteroom.settled, anteroom.gone, anteroom.submit, anteroom.unique_key";

/// Makes the partitions of the days that are filled.
fn make_days(database: &TestDatabase<'_>) {
    for day in 0..u64::from(DAYS) {
        let first = |day: u64| {
            format!(
                "{:012x}-0000-0000-000000000000",
                (20_486 + day) * 86_400_000
            )
        };
        let [first, end] =
            [first(day), first(day + 1)].map(|id| format!("{}-{}", &id[..8], &id[8..]));
        for table in ["job", "done"] {
            database.sql(&format!(
                "CREATE TABLE anteroom.{table}_day{day} PARTITION OF anteroom.{table} \
                 FOR VALUES FROM ('{first}') TO ('{end}')"
            ));
        }
    }
}

/// A plan is made once for each connection, and kept until its tables are looked at again. It has to be
/// right whatever they were like when it was made, also where nobody had looked at them. Those that were
/// known to be empty then are left out: the planner takes every way through nothing for as good.
#[test]
fn every_statement_goes_by_an_index_however_many_rows_there_are() {
    let statements = statements();
    let verbs = ["SELECT", "WITH", "INSERT", "UPDATE", "DELETE"];
    let of = |verb: &&str| {
        statements
            .iter()
            .filter(|sql| sql.starts_with(verb))
            .count()
    };
    let counts: BTreeMap<_, _> = verbs.iter().map(|verb| (*verb, of(verb))).collect();
    assert!(counts.values().sum::<usize>() >= 80, "{counts:?}");
    assert!(counts.values().all(|count| *count > 0), "{counts:?}");
    let allowed = ALLOWED.iter().map(|(part, ..)| part);
    for part in allowed.chain(SPREAD.iter().map(|(part, _)| part)) {
        let is_used = statements.iter().any(|sql| sql.contains(part));
        assert!(is_used, "nothing says {part:?} any more");
    }

    let settings = [
        "fsync = off",
        "autovacuum = off",
        "wal_level = minimal",
        "max_wal_senders = 0",
        "max_wal_size = 4GB",
    ];
    let cluster = Cluster::start(&settings).unwrap();
    let database = cluster.database();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let url = PostgresUrl::new(&database.url()).unwrap();
        let (reached, _) = open(url, options()).await.unwrap();
        make_days(&database);
        let session = reached.connect("plans").await.unwrap();
        let fill = |rows: &str| FILL.replace("$ROWS", rows);
        let look = || "VACUUM ANALYZE".to_owned();
        for (what, steps) in [
            ("empty, never looked at", vec![]),
            ("a thousand rows, never looked at", vec![fill("1000")]),
            ("a thousand rows", vec![look()]),
            (
                "a million rows",
                vec![EMPTY.to_owned(), fill("1000000"), look()],
            ),
        ] {
            for sql in steps {
                database.sql(&sql);
            }
            let wrong = wrong(&session, &statements).await;
            assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
        }
        // It would be noticed.
        for index in [
            "waiting_order",
            "waiting_scheduled",
            "waiting_deadline",
            "running_queue",
            "done_expires_at",
            "gone_at",
            "submit_at",
        ] {
            session.begin().await.unwrap();
            session.run(&format!("DROP INDEX {index}")).await.unwrap();
            let wrong = wrong(&session, &statements).await;
            session.run("ROLLBACK").await.unwrap();
            assert!(!wrong.is_empty(), "nothing goes by {index}");
        }
    });
}
