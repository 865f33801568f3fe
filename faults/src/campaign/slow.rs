//! Thousands of sockets that send next to nothing: others are served as before, and the slow ones
//! are shown out.

use super::{Common, DIGEST_TASK, Ground, Kind};
use crate::client::{Client, Submitted};
use crate::history::now_us;
use crate::load::{Acked, Mix};
use crate::pause;
use anyhow::{Context, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A slow socket sends a byte of its head this often.
const BYTE_EVERY: Duration = Duration::from_millis(500);
/// By then a head that is still not whole has to be shown out.
const SHOWN_OUT_MAX: Duration = Duration::from_secs(20);
/// What the p99 may be beside slow sockets: this many times that without, and a little, for
/// machines whose p99 is below the noise. Medians of the rounds.
const SLOWER_MAX: u64 = 2;
const SLOWER_MAX_US: u64 = 10_000;

/// Opens slow sockets beside a normal client.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How many.
    #[arg(long, default_value_t = 2_000)]
    sockets: u64,
    /// Submits of the normal client in each round, without and beside them.
    #[arg(long, default_value_t = 500)]
    submits: usize,
    /// Rounds, each without and then beside slow sockets.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Runs the campaign.
///
/// # Errors
///
/// When others are held up, or slow sockets are kept, or the server cannot be run.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let sockets = arguments.sockets;
    // The server inherits the limit.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let needed = sockets + 500;
    if hard < needed {
        println!("slow: COULD NOT RUN: {hard} descriptors may be open here; {needed} are needed");
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(needed), hard)?;
    let ground = Ground::make("slow", &arguments.common)?;
    let database = ground.path().join("anteroom.db");
    let launch = ground.launch(Kind::Anteroom, &database, DIGEST_TASK)?;
    let mut server = launch.start().await?;
    ground.up(&server);
    let client = ground.client("client")?;
    let mut random = fastrand::Rng::with_seed(ground.draw(0..u64::MAX));
    let mut acked = Vec::new();
    // The first ones are slower by themselves.
    submit(&client, 50, &mut random, &mut acked).await?;
    let (mut without, mut beside) = (Vec::new(), Vec::new());
    let mut longest_us = 0;
    for _ in 0..arguments.rounds.max(1) {
        without.push(submit(&client, arguments.submits, &mut random, &mut acked).await?);
        let address = server.address().trim_start_matches("http://");
        let mut slow = open_slow(address, sockets).await?;
        beside.push(submit(&client, arguments.submits, &mut random, &mut acked).await?);
        while let Some(ended) = slow.join_next().await {
            longest_us = longest_us.max(ended??);
        }
    }
    if !server.is_running()? {
        bail!("the server ended: {}", server.last_words());
    }
    let tally = ground.drain(&client, &acked).await?;
    ground.stop(server).await?;
    let rounds: Vec<String> = without
        .iter()
        .zip(&beside)
        .map(|(without, beside)| format!("{without} -> {beside}"))
        .collect();
    let (without_us, beside_us) = (median(&mut without), median(&mut beside));
    let line = format!(
        "slow: {sockets} sockets of two bytes a second, all shown out within {} ms; p99 of a \
         submit {without_us} us without and {beside_us} us beside them, medians of {} rounds ({})",
        longest_us / 1_000,
        rounds.len(),
        rounds.join(", "),
    );
    ground.conclude(&line, tally, false)?;
    if beside_us > without_us * SLOWER_MAX + SLOWER_MAX_US {
        bail!("slow sockets hold others up");
    }
    Ok(())
}

fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Opens slow sockets, each of which goes on until it is shown out.
async fn open_slow(address: &str, sockets: u64) -> anyhow::Result<JoinSet<anyhow::Result<u64>>> {
    let mut slow = JoinSet::new();
    for _ in 0..sockets {
        let socket = TcpStream::connect(address)
            .await
            .context("open a slow socket")?;
        slow.spawn(be_slow(socket));
    }
    Ok(slow)
}

/// Submits one after another and returns the p99, in microseconds.
async fn submit(
    client: &Client,
    count: usize,
    random: &mut fastrand::Rng,
    acked: &mut Vec<Acked>,
) -> anyhow::Result<u64> {
    let mix = Mix::exec(Duration::ZERO).all_kept();
    let mut took = Vec::new();
    for _ in 0..count {
        let ask = mix.ask(random);
        let from_us = now_us().1;
        match client.submit(&ask).await? {
            Submitted::Acked(id) => acked.push(Acked {
                id,
                expected: ask.expected,
                is_short: false,
            }),
            other => bail!("a submit is answered {other:?}"),
        }
        took.push(now_us().1 - from_us);
        // The programs of the jobs before have a processor to themselves.
        pause(Duration::from_millis(4)).await;
    }
    took.sort_unstable();
    Ok(took[took.len() * 99 / 100])
}

/// Sends a head byte by byte until it is shown out, and returns how long that took.
async fn be_slow(mut socket: TcpStream) -> anyhow::Result<u64> {
    let from_us = now_us().1;
    let limit_us = u64::try_from(SHOWN_OUT_MAX.as_micros())?;
    socket
        .write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\nx-slow: ")
        .await?;
    let (mut reader, mut writer) = socket.split();
    let shown_out = async {
        // Whatever it answers, the connection ends.
        let mut answer = Vec::new();
        let _cut_off = reader.read_to_end(&mut answer).await;
    };
    let sending = async {
        while writer.write_all(b"a").await.is_ok() {
            pause(BYTE_EVERY).await;
            if now_us().1 - from_us > limit_us {
                return false;
            }
        }
        true
    };
    tokio::select! {
        () = shown_out => {}
        is_out = sending => if !is_out {
            bail!("a slow socket was still open after {SHOWN_OUT_MAX:?}");
        },
    }
    Ok(now_us().1 - from_us)
}
