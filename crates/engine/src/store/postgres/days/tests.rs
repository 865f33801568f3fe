//! What is made and dropped, on a real server.

use super::super::open::{PostgresOptions, open};
use super::super::rows::uuid;
use super::super::url::PostgresUrl;
use super::*;
use anteroom_core::JobId;
use anteroom_pgtest::{TestDatabase, shared};

#[test]
fn a_day_is_a_range_of_ids_and_its_partition_is_called_by_its_date() {
    let [job, done] = TABLES;
    for (millis, day, name) in [
        (0, 0, "job_19700101"),
        (86_399_999, 0, "job_19700101"),
        (1_795_910_399_999, 20_785, "job_20261128"),
        (1_795_910_400_000, 20_786, "job_20261129"),
        (1_709_164_800_000, 19_782, "job_20240229"),
    ] {
        let found = Day::of(Timestamp::from_millis(millis));
        assert_eq!(found, Day(day), "{millis}");
        assert_eq!(found.partition(job).as_deref(), Some(name));
        assert_eq!(Day::of_partition(name, job), Some(found), "{name}");
        assert_eq!(Day::of_partition(name, done), None, "{name}");
        let id = |random| uuid(JobId::from_parts(millis.unsigned_abs(), 0, random));
        let next = Day(day + 1);
        assert!(id(0) >= found.first_id().unwrap(), "{name}");
        assert!(id(u64::MAX) < next.first_id().unwrap(), "{name}");
    }
    for name in ["job_rest", "job_2026112", "job_20261301", "jobs_20261128"] {
        assert_eq!(Day::of_partition(name, job), None, "{name}");
    }
    for day in [Day(-1), Day(i64::MAX), Day(1 << 40)] {
        assert_eq!(day.first_id(), None, "{day:?}");
    }
    assert_eq!(Day(i64::MAX).partition(job), None);
}

const NOW: Timestamp = Timestamp::from_millis(1_795_910_400_000); // 29 November 2026

async fn session(database: &TestDatabase<'_>) -> Session {
    let options = PostgresOptions {
        allow_fsync_off: true,
    };
    let url = PostgresUrl::new(&database.url()).unwrap();
    let (reached, _) = open(url, options).await.unwrap();
    reached.connect("test").await.unwrap()
}

fn dates(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn the_next_days_are_made_once() {
    let database = shared().database();
    let session = session(&database).await;
    let first = tend(&session, NOW).await.unwrap();
    let expected: Vec<String> = ["job", "done"]
        .iter()
        .flat_map(|table| [1129, 1130, 1201, 1202].map(|day| format!("{table}_2026{day:04}")))
        .collect();
    assert_eq!(first.made, expected);
    assert_eq!(tend(&session, NOW).await.unwrap(), Tended::default());
    let tomorrow = NOW.after(Duration::from_hours(25));
    let next = tend(&session, tomorrow).await.unwrap();
    assert_eq!(dates(&next.made), ["job_20261203", "done_20261203"]);
    assert_eq!((next.dropped.len(), next.hindrances.len()), (0, 0));
}

/// Whoever reads, a long list say, is waited for so long that nobody behind it is hurt.
#[tokio::test]
async fn who_is_in_the_way_is_not_waited_for() {
    let database = shared().database();
    let (ours, theirs) = (session(&database).await, session(&database).await);
    theirs.begin().await.unwrap();
    theirs
        .query("SELECT id FROM job LIMIT 1", &[])
        .await
        .unwrap();
    let tended = tend(&ours, NOW).await.unwrap();
    let made = tended.made.iter().all(|name| name.starts_with("done_"));
    assert!(made && tended.made.len() == 4, "{tended:?}");
    assert_eq!(tended.hindrances, ["job, its next days: others are at it"]);
    theirs.run("ROLLBACK").await.unwrap();
    assert_eq!(tend(&ours, NOW).await.unwrap().made.len(), 4);

    // A day is not dropped while somebody reads it, and is after that.
    let later = NOW.after(Duration::from_hours(24 * 6));
    theirs.begin().await.unwrap();
    theirs
        .query("SELECT id FROM done LIMIT 1", &[])
        .await
        .unwrap();
    let tended = tend(&ours, later).await.unwrap();
    assert_eq!(tended.dropped.len(), 4, "of job: {tended:?}");
    assert_eq!(tended.hindrances.len(), 5, "{tended:?}");
    theirs.run("ROLLBACK").await.unwrap();
    let tended = tend(&ours, later).await.unwrap();
    assert_eq!(tended.dropped.len(), 4, "of done: {tended:?}");
    assert_eq!(tended.made.len(), 4, "{tended:?}");
    assert!(tended.hindrances.is_empty(), "{tended:?}");
}

#[tokio::test]
async fn a_connection_that_breaks_in_between_is_a_fault() {
    let database = shared().database();
    let session = session(&database).await;
    database.terminate_backends();
    assert!(tend(&session, NOW).await.is_err());
}

#[tokio::test]
async fn what_was_told_is_not_told_again() {
    let mut told = Vec::new();
    let hindered = |words: &[&str]| {
        Ok(Tended {
            hindrances: words.iter().map(ToString::to_string).collect(),
            ..Tended::default()
        })
    };
    for words in [&["a", "b"][..], &["b"], &[]] {
        tell(&hindered(words), &mut told);
        assert_eq!(told, words);
    }
}
