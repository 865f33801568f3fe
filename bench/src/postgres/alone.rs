//! What is measured of a node alone: what it asks of the database while it idles, and how soon its jobs
//! are rescued when it is killed.

use super::cluster::Server;
use super::contender::{Programs, Who};
use super::parts::Watched;
use crate::clock::{now, sleep_until};
use crate::contender::ORDER_MAX;
use crate::order::Order;
use anyhow::Context;
use std::time::Duration;

/// How long a node idles before that is measured: what it does at its start is over.
const SETTLE: Duration = Duration::from_secs(5);
/// How long the other node has been there before one is killed: a newcomer is careful.
const BESIDE: Duration = Duration::from_secs(12);
/// Jobs that a node is killed with.
pub(crate) const STUCK_JOBS: u64 = 100;

/// What an idle node costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Idle {
    /// Statements a second, where they can be counted.
    pub(crate) statements: Option<f64>,
    /// Milliseconds of the database's CPU time a second.
    pub(crate) database_ms: f64,
    /// Milliseconds of its own CPU time a second.
    pub(crate) own_ms: f64,
}

/// Has a node wait for jobs for a while.
///
/// # Errors
///
/// When it fails.
pub(crate) fn idle(
    server: &Server,
    programs: &Programs,
    who: Who,
    span: Duration,
) -> anyhow::Result<Idle> {
    let database = server.database(server.counts())?;
    let mut contender = programs.start(who, &database.url())?;
    contender.prepare(Order::Idle)?;
    sleep_until(now() + SETTLE);
    if server.counts() {
        database.forget_statements();
    }
    let (begun, before) = (now(), Watched::read(server, contender.pid())?);
    sleep_until(begun + span);
    let used = Watched::read(server, contender.pid())?.since(&before);
    let seconds = begun.elapsed().as_secs_f64();
    let statements = if server.counts() {
        let counted = u32::try_from(database.statements()?);
        let counted = counted.context("statements of an idle node")?;
        Some(f64::from(counted) / seconds)
    } else {
        None
    };
    contender.end()?;
    Ok(Idle {
        statements,
        database_ms: used.database.as_secs_f64() * 1_000.0 / seconds,
        own_ms: used.own.as_secs_f64() * 1_000.0 / seconds,
    })
}

/// Kills a node that runs [`STUCK_JOBS`], beside another, and returns how long it takes until that one
/// has done them all.
///
/// # Errors
///
/// When it does not do them.
pub(crate) fn rescue(server: &Server, programs: &Programs) -> anyhow::Result<Duration> {
    let database = server.database(false)?;
    let start = || programs.start(Who::Embedded, &database.url());
    let (mut stuck, mut other) = (start()?, start()?);
    let jobs = STUCK_JOBS;
    stuck.prepare(Order::Submit { jobs, batch: jobs })?;
    stuck.prepare(Order::Stick { jobs })?;
    other.prepare(Order::Idle)?;
    sleep_until(now() + BESIDE);
    let begun = now();
    stuck.kill()?;
    other.order(Order::Drain { jobs })?;
    other.done(ORDER_MAX)?;
    let span = begun.elapsed();
    other.well()?;
    other.end()?;
    Ok(span)
}
