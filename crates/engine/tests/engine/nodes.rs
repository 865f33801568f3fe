//! Several nodes on one `PostgreSQL` database.

use crate::harness::{submission, task, text};
use anteroom::clock::{Clock, ManualClock};
use anteroom::core::{
    Event, Fingerprint, Idempotency, IdempotencyKey, JobId, Label, Lease, Name, Payload, Priority,
    QueueSettings, Rejected, Spec, State, Status, Timestamp,
};
use anteroom::run::{Outcome, function};
use anteroom::store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
use anteroom::store::{
    Change, Claimed, Inserted, NewJob, OverdueReason, QueueChange, Refused, Store, StoreError, Want,
};
use anteroom::{Engine, Options, Task, TaskRunner, Until};
use anteroom_pgtest::{Cluster, Shutdown, TestDatabase};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const STARTED_AT: Timestamp = Timestamp::from_millis(1_800_000_000_000);

pub(crate) fn database() -> TestDatabase<'static> {
    anteroom_pgtest::shared().database()
}

pub(crate) fn options() -> PostgresOptions {
    let mut options = PostgresOptions::default();
    options.allow_fsync_off = true;
    options
}

/// Opens the store of a node, which goes by the clock of the database.
async fn node(database: &TestDatabase<'_>) -> Arc<dyn Store> {
    let url = PostgresUrl::new(&database.url()).unwrap();
    Arc::new(PostgresStore::open(url, options()).await.unwrap())
}

/// Opens the stores of two nodes, whose time the test moves.
async fn two_nodes(database: &TestDatabase<'_>) -> (PostgresStore, PostgresStore, ManualClock) {
    let (clock, hand) = Clock::manual(STARTED_AT);
    let open = async || {
        let url = PostgresUrl::new(&database.url()).unwrap();
        let store = PostgresStore::open_by(clock.clone(), url, options()).await;
        store.unwrap()
    };
    (open().await, open().await, hand)
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn job(number: u16) -> NewJob {
    let input = text("input");
    NewJob {
        spec: Arc::new(Spec {
            id: JobId::from_parts(STARTED_AT.as_millis().unsigned_abs(), number, 7),
            task: name("work"),
            queue: name("queue"),
            group: None,
            priority: Priority::default(),
            created_at: STARTED_AT,
            timeout: Duration::from_mins(5),
            retain: Duration::from_hours(1),
            unique_key: None,
            callback_url: None,
            tags: BTreeMap::new(),
            input: input.info(),
        }),
        status: Status::submitted(STARTED_AT, None, 5),
        input,
        idempotency: None,
    }
}

pub(crate) fn want(limit: usize) -> Want {
    Want {
        tasks: vec![name("work")],
        queues: None,
        limit,
        lease: Lease::Node,
        lease_for: Duration::from_secs(30),
        wait: Duration::ZERO,
    }
}

pub(crate) fn success(claimed: &Claimed) -> Change {
    let claim = claimed.job.status.claim;
    Change {
        result: Some(Payload::clone(&claimed.input)),
        ..Change::new(claimed.job.spec.id, Event::Succeeded { claim })
    }
}

/// What a node last says of being alive may still be on its way when it leaves. It arrived later, and
/// the others, a move of the store among them, took the node for alive for as long as that holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_left_does_not_come_back() {
    let database = database();
    for round in 0..100 {
        node(&database).await.close().await;
        let nodes = database.sql("SELECT count(*) FROM anteroom.node");
        assert_eq!(nodes, "0", "round {round}");
    }
}

/// Whoever waits at one node for a job that another one runs is told of its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_hears_of_an_end_on_another_node() {
    let database = database();
    let here = Task::new("work", TaskRunner::Pull).unwrap();
    let here = Engine::start(node(&database).await, vec![here], Options::default()).await;
    let there = task(
        "work",
        function::bytes(|it| async move { Outcome::Succeeded(it.input) }),
    );
    let there = Engine::start(node(&database).await, vec![there], Options::default()).await;
    let (here, there) = (here.unwrap(), there.unwrap());
    let id = here.submit(submission("hello")).await.unwrap().job.spec.id;
    let ended = here.wait(id, Until::Done, PATIENCE).await.unwrap();
    let job = ended.here().unwrap();
    assert_eq!(job.status.state, State::Succeeded);
    for engine in [here, there] {
        engine.stop(Duration::ZERO).await;
        engine.close().await;
    }
}

/// However many nodes look for jobs, each job is run by one of them.
#[tokio::test(flavor = "multi_thread")]
async fn each_job_is_run_once_by_one_of_many_nodes() {
    const JOBS: usize = 300;
    let database = database();
    let runs: Arc<Mutex<HashMap<JobId, u32>>> = Arc::default();
    let mut engines = Vec::new();
    for _ in 0..3 {
        let runs = runs.clone();
        let run = function::bytes(move |attempt| {
            *runs.lock().unwrap().entry(attempt.job.id).or_default() += 1;
            async move { Outcome::Succeeded(attempt.input) }
        });
        let engine = Engine::start(
            node(&database).await,
            vec![task("work", run)],
            Options::default(),
        );
        engines.push(engine.await.unwrap());
    }
    let mut clients = JoinSet::new();
    for at in 0..JOBS {
        let engine = engines[at % 3].clone();
        clients.spawn(async move {
            let id = engine.submit(submission("x")).await.unwrap().job.spec.id;
            let ended = engine.wait(id, Until::Done, PATIENCE).await.unwrap();
            ended.here().unwrap().status
        });
    }
    for status in clients.join_all().await {
        assert_eq!((status.state, status.attempt), (State::Succeeded, 1));
    }
    let counts: Vec<u32> = runs.lock().unwrap().values().copied().collect();
    assert_eq!(counts, vec![1; JOBS]);
    for engine in engines {
        engine.stop(Duration::ZERO).await;
        engine.close().await;
    }
}

/// What a node ran that says no more that it is alive is rescued by another, and what it says later
/// changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_node_ran_is_rescued_and_its_late_settle_refused() {
    let database = database();
    let (dying, other, hand) = two_nodes(&database).await;
    dying.insert(vec![job(1)]).await.unwrap();
    let late = dying.claim(want(1)).await.unwrap().remove(0);
    let claim = late.job.status.claim;
    hand.advance(Duration::from_secs(15));
    assert_eq!(other.overdue(9).await.unwrap(), [], "it is alive");
    hand.advance(Duration::from_secs(6));
    let overdue = other.overdue(9).await.unwrap();
    assert_eq!(overdue.len(), 1);
    assert_eq!(overdue[0].reason, OverdueReason::Process(claim));
    let retry_in = Duration::ZERO;
    let crashed = Event::WorkerCrashed { claim, retry_in };
    let rescued = other
        .apply(vec![Change::new(late.job.spec.id, crashed)])
        .await;
    assert!(rescued.unwrap()[0].is_ok());
    let again = other.claim(want(1)).await.unwrap().remove(0);
    assert!(again.job.status.claim > claim, "the fence rises over nodes");
    let applied = dying.apply(vec![success(&late)]).await.unwrap();
    let is_lost = matches!(applied[0], Err(Refused::Rejected(Rejected::LeaseLost, _)));
    assert!(is_lost, "{applied:?}");
    assert!(other.apply(vec![success(&again)]).await.unwrap()[0].is_ok());
}

/// No more of a queue run than may, however many nodes ask at once; and each end lets the next start,
/// on whichever node.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_holds_over_all_nodes() {
    const JOBS: u16 = 40;
    let database = database();
    let (one, other, _hand) = two_nodes(&database).await;
    let nodes = [Arc::new(one), Arc::new(other)];
    let settings = QueueSettings {
        max_concurrency: Some(3),
        ..QueueSettings::default()
    };
    let change = QueueChange {
        name: name("queue"),
        settings,
        if_version: None,
    };
    nodes[0].set_queues(vec![change]).await.unwrap();
    nodes[1].insert((0..JOBS).map(job).collect()).await.unwrap();
    let mut ended = 0;
    while ended < JOBS {
        let mut claims = JoinSet::new();
        for at in 0..8 {
            let node = nodes[at % 2].clone();
            claims.spawn(async move { node.claim(want(2)).await.unwrap() });
        }
        let claimed: Vec<Claimed> = claims.join_all().await.into_iter().flatten().collect();
        assert!((1..=3).contains(&claimed.len()), "{} run", claimed.len());
        for (at, one) in claimed.iter().enumerate() {
            let applied = nodes[at % 2].apply(vec![success(one)]).await.unwrap();
            assert!(applied[0].is_ok());
            ended += 1;
        }
    }
}

/// A client that heard nothing from one node asks another with the same key, while the first one is
/// still at it. The second to commit had looked before the first one did: it took the key over, and
/// there were two jobs for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_two_nodes_are_given_at_once_gives_one_job() {
    let keyed = |key: u16, job: NewJob| {
        let by = Idempotency {
            scope: "".into(),
            key: IdempotencyKey::new(&format!("key-{key}")).unwrap(),
        };
        NewJob {
            idempotency: Some((by, Fingerprint([7; 32]))),
            ..job
        }
    };
    two_nodes_give_one_job_for_a_key("submit", keyed).await;
}

/// So it was with unique keys: there were two unfinished jobs that had one.
#[tokio::test(flavor = "multi_thread")]
async fn a_unique_key_that_two_nodes_are_given_at_once_gives_one_job() {
    let keyed = |key: u16, mut job: NewJob| {
        job.spec_mut().unique_key = Some(Label::new(&format!("key-{key}")).unwrap());
        job
    };
    two_nodes_give_one_job_for_a_key("unique_key", keyed).await;
}

async fn two_nodes_give_one_job_for_a_key(table: &str, keyed: impl Fn(u16, NewJob) -> NewJob) {
    const KEYS: u16 = 10;
    let database = database();
    let (one, other, _hand) = two_nodes(&database).await;
    // Both look at the key before either holds the queue, whose depth they are to count.
    let settings = QueueSettings {
        max_depth: Some(1_000),
        ..QueueSettings::default()
    };
    let change = QueueChange {
        name: name("queue"),
        settings,
        if_version: None,
    };
    one.set_queues(vec![change]).await.unwrap();
    for key in 0..KEYS {
        let (first, second) = (keyed(key, job(2 * key)), keyed(key, job(2 * key + 1)));
        let own = [first.spec.id, second.spec.id];
        let (first, second) = tokio::join!(one.insert(vec![first]), other.insert(vec![second]));
        let given = [first, second].map(|inserted| inserted.unwrap().remove(0));
        let ids: Vec<JobId> = given.into_iter().zip(own).map(id_of).collect();
        assert_eq!(ids[0], ids[1], "key {key}");
    }
    let counts = database.sql(&format!(
        "SELECT (SELECT count(*) FROM anteroom.job), count(*) FROM anteroom.{table}"
    ));
    assert_eq!(counts, format!("{KEYS}|{KEYS}"));
}

/// Returns the job that a submit was given: its own, or the one that its key remembers.
fn id_of((inserted, own): (Inserted, JobId)) -> JobId {
    match inserted {
        Inserted::New(_) => own,
        Inserted::Duplicate(job) | Inserted::Replayed { job, .. } => job.spec.id,
    }
}

/// A database that is restarted at once, without a word, is reached again by itself: what was
/// acknowledged is there, and what was not is refused as worth a retry.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_goes_on_after_its_database_was_restarted() {
    let cluster = Cluster::start(&[]).unwrap();
    let database = cluster.database();
    let url = PostgresUrl::new(&database.url()).unwrap();
    let store = PostgresStore::open(url, PostgresOptions::default()).await;
    let store = Arc::new(store.unwrap());
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let mut submitting = JoinSet::new();
        submitting.spawn({
            let store = store.clone();
            async move {
                let mut acknowledged = Vec::new();
                for number in round * 100..(round + 1) * 100 {
                    match store.insert(vec![job(number)]).await {
                        Ok(_) => acknowledged.push(job(number).spec.id),
                        Err(error) => assert!(error.is_retryable(), "{error}"),
                    }
                }
                acknowledged
            }
        });
        tokio::task::block_in_place(|| cluster.restart(Shutdown::Immediate));
        acknowledged.extend(submitting.join_all().await.into_iter().flatten());
        let first_after = job(10_000 + round);
        let goes_on = async {
            loop {
                match store.insert(vec![first_after.clone()]).await {
                    // Or it was not known, and had been stored.
                    Ok(_) | Err(StoreError::Exists { .. }) => return,
                    Err(error) => assert!(error.is_retryable(), "{error}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, goes_on).await.unwrap();
        acknowledged.push(first_after.spec.id);
    }
    for id in acknowledged {
        assert!(
            store.get(id).await.unwrap().here().is_some(),
            "{id} is lost"
        );
    }
}

/// A database on the same machine is reached over its socket, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_reached_over_a_socket_of_the_machine() {
    let cluster = Cluster::start(&[]).unwrap();
    let database = cluster.database();
    let url = PostgresUrl::new(&cluster.socket_url(database.name())).unwrap();
    let store = PostgresStore::open(url, PostgresOptions::default()).await;
    assert!(store.unwrap().insert(vec![job(1)]).await.is_ok());
}

/// Stands between a store and its database. Once it is told to, it lets the next commit of something
/// through, and cuts the connection instead of passing the answer on.
struct Cutter {
    port: u16,
    is_armed: Arc<AtomicBool>,
    _serving: JoinSet<()>,
}

impl Cutter {
    async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let is_armed = Arc::new(AtomicBool::new(false));
        let armed = is_armed.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                connections.spawn(pass(client, server, armed.clone()));
            }
        });
        Self {
            port: own,
            is_armed,
            _serving: serving,
        }
    }
}

async fn pass(mut client: TcpStream, mut server: TcpStream, is_armed: Arc<AtomicBool>) {
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(bytes @ 1..) = read else { return };
                // It goes out with what it commits; after a look for jobs that found none it is alone.
                let is_commit = bytes > 7 * b"Q\0\0\0\x0bCOMMIT\0".len()
                    && asked[..bytes].windows(7).any(|seven| seven == b"COMMIT\0");
                server.write_all(&asked[..bytes]).await.unwrap();
                if is_commit && is_armed.swap(false, Ordering::SeqCst) {
                    // Answered means done: the last answers end with that of the commit.
                    let mut said = Vec::new();
                    while !said.windows(7).any(|seven| seven == b"COMMIT\0") {
                        let Ok(bytes @ 1..) = server.read(&mut answered).await else { return };
                        said.extend_from_slice(&answered[..bytes]);
                    }
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(bytes @ 1..) = read else { return };
                if client.write_all(&answered[..bytes]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Where the connection breaks between a commit and its answer, nobody is told that nothing was done:
/// it is not known, and it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_an_answer_is_not_known() {
    let cluster = Cluster::start(&[]).unwrap();
    let database = cluster.database();
    let cutter = Cutter::before(cluster.port()).await;
    let (direct, through) = (cluster.port().to_string(), cutter.port.to_string());
    let url = PostgresUrl::new(&database.url().replace(&direct, &through)).unwrap();
    let store = PostgresStore::open(url, PostgresOptions::default())
        .await
        .unwrap();
    store.insert(vec![job(1)]).await.unwrap();
    cutter.is_armed.store(true, Ordering::SeqCst);
    let inserted = store.insert(vec![job(2)]).await;
    assert!(
        matches!(inserted, Err(StoreError::Unknown { .. })),
        "{inserted:?}"
    );
    let found = store.get(job(2).spec.id).await.unwrap();
    assert!(found.here().is_some(), "it was committed");
}

/// What was claimed by a commit whose answer never came runs nowhere, and nobody knows it: the node
/// hands it back once it can ask the database, and it costs the jobs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn claims_of_a_commit_without_an_answer_are_handed_back() {
    let cluster = Cluster::start(&["fsync = off"]).unwrap();
    let database = cluster.database();
    let cutter = Cutter::before(cluster.port()).await;
    let (direct, through) = (cluster.port().to_string(), cutter.port.to_string());
    let (clock, _hand) = Clock::manual(STARTED_AT);
    let open = async |url: String| {
        let url = PostgresUrl::new(&url).unwrap();
        let store = PostgresStore::open_by(clock.clone(), url, options()).await;
        store.unwrap()
    };
    let store = open(database.url().replace(&direct, &through)).await;
    let beside = open(database.url()).await;
    // Of two jobs that wait, and of one that is inserted as running since somebody waits for it.
    for (jobs, waits) in [(vec![job(1), job(2)], false), (vec![job(3)], true)] {
        let ids: Vec<JobId> = jobs.iter().map(|job| job.spec.id).collect();
        let claimed = if waits {
            let parked = Want {
                wait: PATIENCE,
                ..want(1)
            };
            let inserted_while_armed = async {
                // Once this one is answered the claim before it has looked for jobs and waits.
                let mut other = job(9);
                other.spec_mut().task = name("other");
                store.insert(vec![other]).await.unwrap();
                cutter.is_armed.store(true, Ordering::SeqCst);
                store.insert(jobs).await
            };
            let (claimed, inserted) = tokio::join!(store.claim(parked), inserted_while_armed);
            let is_unknown = matches!(inserted, Err(StoreError::Unknown { .. }));
            assert!(is_unknown, "{inserted:?}");
            claimed
        } else {
            store.insert(jobs).await.unwrap();
            cutter.is_armed.store(true, Ordering::SeqCst);
            store.claim(want(2)).await
        };
        assert!(
            matches!(claimed, Err(StoreError::Unknown { .. })),
            "{claimed:?}"
        );
        // This node is alive, so that nobody rescues what it seems to run.
        let mut again = Vec::new();
        let handed_back = async {
            while again.len() < ids.len() {
                let want = Want {
                    wait: PATIENCE,
                    ..want(ids.len() - again.len())
                };
                again.extend(beside.claim(want).await.unwrap());
            }
        };
        tokio::time::timeout(PATIENCE, handed_back).await.unwrap();
        for claimed in &again {
            assert!(ids.contains(&claimed.job.spec.id));
            let status = &claimed.job.status;
            assert_eq!(status.attempt, 1, "an attempt that nobody began is none");
            let applied = beside.apply(vec![success(claimed)]).await.unwrap();
            assert!(applied[0].is_ok());
        }
    }
}
