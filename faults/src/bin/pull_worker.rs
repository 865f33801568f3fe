//! A worker process of the campaign `pull`: works until it is killed.

use anteroom_faults::client::Client;
use anteroom_faults::history::{Recorder, now_us};
use anteroom_faults::worker::{Worker, follow};
use clap::Parser;
use std::path::PathBuf;

/// Leases jobs, and writes a history.
#[derive(Debug, Parser)]
struct Arguments {
    /// The file that says where the server is.
    #[arg(long)]
    server: PathBuf,
    /// Where its history goes, at the end.
    #[arg(long)]
    history: PathBuf,
    /// What all its choices come from.
    #[arg(long)]
    seed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let process = std::process::id();
    let party = format!("worker-{process}-{}", now_us().1);
    let recorder = Recorder::open(&arguments.history, party)?;
    let (whereabouts, following) = follow(arguments.server);
    let worker = Worker::new(
        Client::new(recorder, whereabouts),
        anteroom_faults::campaign::node(i32::try_from(process)?),
        arguments.seed,
    );
    tokio::select! {
        ended = worker.work() => ended,
        never = following => match never {},
    }
}
