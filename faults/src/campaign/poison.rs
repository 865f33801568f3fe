//! Jobs that kill what runs them: a function kills its whole server, a program kills itself.
//!
//! The server is started again each time, as whoever supervises it does, and others work beside.

use super::{Common, DIGEST_TASK, Ground, Kind, node};
use crate::client::{Ask, Client};
use crate::history::{Event, FaultKind, Line, Seen, now_us};
use crate::listing::{Listed, list};
use crate::load::{Acked, Load, Mix, submit_one};
use crate::server::{Launch, Server};
use anyhow::{Context, ensure};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How long the load may take to be answered again.
const ANSWER_MAX: Duration = Duration::from_mins(1);
/// Few, and never done: what is measured is what becomes of them, not how many there can be.
const SUBMITTERS: usize = 4;
const READERS: usize = 1;
/// More than they come to.
const BUDGET: usize = 10_000_000;
/// The ways in which a function kills its server: inputs of the task `poison`.
const FUNCTION_WAYS: [&str; 3] = ["abort", "exit", "kill"];
/// The tasks whose programs kill themselves, each in a way of its own, and a part of what is said
/// of it.
const PROGRAM_WAYS: [(&str, &str); 4] = [
    ("kill-itself", "killed by signal 9"),
    ("abort-itself", "killed by signal 6"),
    ("kill-group", "killed by signal 9"),
    ("kill-parent", "the launcher ended"),
];

const PROGRAMS: &str = r#"
[tasks.kill-itself]
exec = ["sh", "-c", "kill -KILL $$"]
backoff = { initial = "20ms", factor = 1.0, max = "20ms", jitter = 0.0 }

[tasks.abort-itself]
exec = ["sh", "-c", "kill -ABRT $$"]
backoff = { initial = "20ms", factor = 1.0, max = "20ms", jitter = 0.0 }

[tasks.kill-group]
exec = ["sh", "-c", "sleep 60 & kill -KILL 0"]
backoff = { initial = "20ms", factor = 1.0, max = "20ms", jitter = 0.0 }

[tasks.kill-parent]
exec = ["sh", "-c", "kill -KILL $PPID; sleep 60"]
backoff = { initial = "20ms", factor = 1.0, max = "20ms", jitter = 0.0 }
"#;

/// Submits jobs that kill what runs them.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Rounds, each of as many poisonous jobs as are poisonous at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Poisonous jobs at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    together: u32,
    /// The `max_attempts` of each, so many times it kills.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    attempts: u32,
    /// Poisonous jobs of each task whose program kills itself.
    #[arg(long, default_value_t = 2)]
    programs: u32,
}

/// Runs the campaign with functions, then with programs.
///
/// # Errors
///
/// When the promise was broken, or the servers cannot be run.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let functions = functions(arguments).await;
    functions.and(programs(arguments).await)
}

async fn functions(arguments: &Arguments) -> anyhow::Result<()> {
    let ground = Ground::make("poison", &arguments.common)?;
    let launch = ground.launch(Kind::Digest, &ground.path().join("anteroom.db"), "")?;
    let load = ground.load(
        Mix::functions(Duration::ZERO).all_kept(),
        SUBMITTERS,
        READERS,
    )?;
    load.add_budget(BUDGET);
    let client = ground.client("poisoner")?;
    let mut server = launch.start().await?;
    ground.up(&server);
    let mut poison = Vec::new();
    let mut crashes = 0;
    for _ in 0..arguments.rounds {
        load.another(ANSWER_MAX).await?;
        poison.extend(poison_server(&client, arguments, poison.len()).await?);
        for _ in 0..arguments.together * arguments.attempts {
            server = restart(&ground, &launch, server).await?;
            crashes += 1;
        }
        ground.up(&server);
        load.another(ANSWER_MAX).await?;
    }
    finish(arguments, &ground, &launch, load, server, &poison, crashes).await
}

/// Hands in poisonous jobs while their queue is paused, so that every submit is answered, and lets
/// them go.
async fn poison_server(
    client: &Client,
    arguments: &Arguments,
    already: usize,
) -> anyhow::Result<Vec<String>> {
    let mut ids = Vec::new();
    client.change_queue("poison", r#"{"paused": true}"#).await?;
    for number in already..already + usize::try_from(arguments.together)? {
        let way = FUNCTION_WAYS[number % FUNCTION_WAYS.len()];
        let ask = Ask {
            task: "poison",
            body: Bytes::from(format!("{way} {number}")),
            expected: None,
            options: format!("queue=poison&max_attempts={}", arguments.attempts),
            retain: None,
        };
        ids.push(submit_one(client, &ask).await?.id);
    }
    // The server may be dead before it has answered; whether it took it is seen by its death.
    let _answer = client.change_queue("poison", r#"{"paused": false}"#).await;
    Ok(ids)
}

/// Waits for the server's death and starts it again. It may die once more before it listens: then
/// it is returned dead, for the next time.
async fn restart(ground: &Ground, launch: &Launch, mut dead: Server) -> anyhow::Result<Server> {
    let status = dead.ended().await?;
    ensure!(!status.success(), "the server ended with {status}");
    ground.down();
    ground.hurt(FaultKind::Kill, &dead)?;
    let (server, ended) = launch.spawn()?.listening_or_ended().await?;
    if ended.is_none() {
        ground.up(&server);
    }
    Ok(server)
}

/// Reads everything, before and after a clean restart, and concludes.
async fn finish(
    arguments: &Arguments,
    ground: &Ground,
    launch: &Launch,
    load: Load,
    mut server: Server,
    poison: &[String],
    crashes: u32,
) -> anyhow::Result<()> {
    let acked = load.stop().await?;
    let client = ground.client("verifier")?;
    let mut tally = ground.drain(&client, &acked).await?;
    ensure!(server.is_running()?, "it died once more than it was killed");
    ground.stop(server).await?;
    let server = launch.start().await?;
    ground.up(&server);
    if tally.is_right() {
        tally = ground.drain(&client, &acked).await?;
    }
    let listed = list(&client, "").await?;
    check_poison(&client, &listed, poison, "crash", arguments.attempts).await?;
    ground.stop(server).await?;
    check_starts(ground, poison, arguments.attempts)?;
    let (charged, most) = charged(&listed, poison);
    ensure!(charged > 0, "no crash found another job at work");
    let line = format!(
        "poison: {} jobs that kill their server, {} at once, in {} ways: each failed as `crash` \
         after {} starts; {crashes} crashes and restarts; {charged} other jobs were running \
         beside one and began again, none more than {most} times",
        poison.len(),
        arguments.together,
        FUNCTION_WAYS.len().min(poison.len()),
        arguments.attempts,
    );
    ground.conclude(&line, tally, true)
}

/// Returns how many jobs beside the poisonous ones were begun more than once, and the most attempts
/// of one of them.
fn charged(listed: &[Listed], poison: &[String]) -> (usize, u32) {
    let poison: HashSet<&str> = poison.iter().map(String::as_str).collect();
    let again = listed
        .iter()
        .filter(|job| job.attempt > 1 && !poison.contains(&*job.id));
    let attempts = again.map(|job| job.attempt);
    (attempts.clone().count(), attempts.max().unwrap_or(1))
}

/// Checks that every poisonous job has failed in this way, after just so many attempts.
async fn check_poison(
    client: &Client,
    listed: &[Listed],
    poison: &[String],
    kind: &str,
    attempts: u32,
) -> anyhow::Result<()> {
    let listed: HashMap<&str, &Listed> = listed.iter().map(|job| (&*job.id, job)).collect();
    for id in poison {
        let read = client.job(id, None).await?;
        ensure!(
            read == (Seen::Failed, attempts),
            "{id} is read as {read:?}, not as failed after {attempts} attempts"
        );
        let job = listed
            .get(&**id)
            .with_context(|| format!("{id} is not listed"))?;
        let error = job.error.as_ref().context("a failure without its error")?;
        ensure!(
            error.kind == kind,
            "{id} failed as {:?}: {}",
            error.kind,
            error.message
        );
    }
    Ok(())
}

/// Checks that the handlers saw just so many starts of every poisonous job.
fn check_starts(ground: &Ground, poison: &[String], attempts: u32) -> anyhow::Result<()> {
    let mut starts: HashMap<String, u32> = poison.iter().map(|id| (id.clone(), 0)).collect();
    let history = ground.path().join("handlers.jsonl");
    for line in std::fs::read_to_string(history)?.lines() {
        if let Event::Start { id, .. } = serde_json::from_str::<Line>(line)?.event
            && let Some(count) = starts.get_mut(&id)
        {
            *count += 1;
        }
    }
    for (id, count) in starts {
        ensure!(
            count == attempts,
            "{id} was started {count} times; max_attempts is {attempts}"
        );
    }
    Ok(())
}

/// Programs that kill themselves, their group and their parent: the server stays.
async fn programs(arguments: &Arguments) -> anyhow::Result<()> {
    let ground = Ground::make("poison-exec", &arguments.common)?;
    let configured = format!("{DIGEST_TASK}{PROGRAMS}");
    let database = ground.path().join("anteroom.db");
    let launch = ground.launch(Kind::Anteroom, &database, &configured)?;
    let load = ground.load(Mix::exec(Duration::ZERO).all_kept(), SUBMITTERS, READERS)?;
    load.add_budget(BUDGET);
    let client = ground.client("poisoner")?;
    let mut server = launch.start().await?;
    ground.up(&server);
    let from_us = now_us().1;
    let mut poison = Vec::new();
    for _ in 0..arguments.programs {
        for (task, says) in PROGRAM_WAYS {
            let ask = Ask {
                task,
                body: Bytes::new(),
                expected: None,
                options: format!("max_attempts={}", arguments.attempts),
                retain: None,
            };
            let id = submit_one(&client, &ask).await?.id;
            poison.push((id, says));
        }
    }
    for (id, _) in &poison {
        let ended = client.job(id, Some(Duration::from_secs(30))).await?;
        ensure!(ended.0.is_final(), "{id} is {ended:?}");
    }
    let took_ms = (now_us().1 - from_us) / 1_000;
    let acked: Vec<Acked> = load.stop().await?;
    let tally = ground.drain(&client, &acked).await?;
    ensure!(
        server.is_running()?,
        "the server ended: {}",
        server.last_words()
    );
    let listed = list(&client, "").await?;
    let ids: Vec<_> = poison.iter().map(|(id, _)| id.clone()).collect();
    check_poison(&client, &listed, &ids, "error", arguments.attempts).await?;
    check_messages(&listed, &poison)?;
    let (charged, _) = charged(&listed, &ids);
    ensure!(charged == 0, "{charged} other jobs were begun again");
    let own = node(server.pid().as_raw());
    ground.stop(server).await?;
    let line = format!(
        "poison (exec): {} jobs whose programs kill themselves, their group or their parent: each \
         failed as `error` after {} attempts, all within {took_ms} ms; {own} served all the while, \
         and no other job was begun again",
        poison.len(),
        arguments.attempts,
    );
    ground.conclude(&line, tally, false)
}

/// Checks that every failure says what happened.
fn check_messages(listed: &[Listed], poison: &[(String, &str)]) -> anyhow::Result<()> {
    for (id, says) in poison {
        let job = listed.iter().find(|job| job.id == *id);
        let error = job.and_then(|job| job.error.as_ref());
        let message = &error.context("a failure without its error")?.message;
        ensure!(
            message.contains(says),
            "{id} failed by {message:?}, not {says:?}"
        );
    }
    Ok(())
}
