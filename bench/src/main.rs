//! Measures what Anteroom does in a second, beside a bare handler, in one run.
//!
//! `README.md` beside it says what each figure means. One file for each thing: the rounds
//! ([`rounds`]), the [`list`]s, what comes [`due`], what [`groups`] cost ([`held`] until they are
//! measured), a [`position`] in line, others' queues beside ours on `PostgreSQL` ([`postgres`]) and wherever they
//! are ([`side_by_side`]), the load
//! and its client ([`load`], [`wire`]), what is under test ([`server`], [`bare`], [`life`], each HTTP
//! server in a [`process`] of its own), what is watched meanwhile ([`cpu`], [`memory`], [`disk`]), the [`report`]. Contenders of other makes are processes, too ([`contender`]), and
//! are told [`order`]s, which those in Rust [`follow`].

mod bare;
mod calls;
mod clock;
mod contender;
mod cpu;
mod disk;
mod due;
mod follow;
mod groups;
mod growth;
mod held;
mod life;
mod list;
mod load;
mod machine;
mod memory;
mod order;
mod position;
mod postgres;
mod process;
mod report;
mod requests;
mod rounds;
mod server;
mod side_by_side;
mod wire;

use clap::{Args, Parser, Subcommand};
use rounds::Part;
use server::Kind;
use std::path::PathBuf;

/// What the binary `anteroom` allocates with. The bare handler has it, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures what Anteroom does in a second, beside a bare handler, in one run.
///
/// A Markdown table goes to standard output, what is being done to standard error.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Anteroom and others' job queues side by side, in rounds.
    Table(side_by_side::Settings),
    /// Submits and lives beside the bare handler, in rounds.
    Ceiling(Settings),
    /// Durable submits, one a request, beside the bare handler.
    Submit(Settings),
    /// The full life of no-op jobs: in bulk in process, and over HTTP beside the bare handler.
    Life(Settings),
    /// The full life of no-op jobs in bulk in process, alone.
    Bulk(Settings),
    /// From a submit to its result, on one connection to an idle server.
    Latency(Settings),
    /// Pages of a list, filter by filter, and bulk calls, over many kept jobs.
    List(list::Settings),
    /// Many jobs that come due in the same instant.
    Due(due::Settings),
    /// What groups cost, and how soon small ones are through beside a large one.
    Groups(groups::Settings),
    /// What a job costs as there is more and more of one thing.
    Growth(growth::Settings),
    /// What it takes to tell a job's place in line.
    Position(position::Settings),
    /// On `PostgreSQL`, beside other queues there and beside hand-written SQL.
    #[command(subcommand)]
    Postgres(postgres::Command),
    /// Is who is measured on `PostgreSQL`.
    #[command(hide = true)]
    PostgresContender {
        #[arg(value_enum)]
        who: postgres::Who,
        #[arg(long)]
        concurrency: usize,
    },
    /// Is the Anteroom process on `PostgreSQL`.
    #[command(hide = true)]
    PostgresServe {
        #[arg(long)]
        concurrency: usize,
    },
    /// Is a part of `growth`.
    #[command(hide = true, subcommand)]
    GrowthPart(growth::Part),
    /// Is the client of a server that is measured side by side.
    #[command(hide = true)]
    SideBySideClient {
        #[arg(value_enum)]
        site: side_by_side::Site,
    },
    /// Is the client of beanstalkd.
    #[command(hide = true)]
    SideBySideBeanstalkd,
    /// Is a part of `groups`.
    #[command(hide = true)]
    GroupsPart(groups::Part),
    /// Is the bare process under test.
    #[command(hide = true)]
    ServeBare,
    /// Is the Anteroom process under test.
    #[command(hide = true)]
    Serve {
        #[arg(long, value_enum)]
        store: Kind,
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        concurrency: usize,
        /// Else as many as the server takes by itself.
        #[arg(long)]
        connections: Option<usize>,
    },
}

/// What is measured, and for how long.
#[derive(Clone, Debug, Args)]
struct Settings {
    /// The folder whose disk is under test; each part has a folder in it that is gone afterwards.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// The store under test.
    #[arg(long, value_enum, default_value = "sqlite")]
    store: Kind,
    /// Rounds; each figure is the median of them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds that a load is measured, up to 600.
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Seconds that a load goes on before that, up to 600.
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    warm_up: f64,
    /// Connections at once, up to 10,000.
    #[arg(long, default_value_t = 256, value_parser = within::<10_000>)]
    connections: usize,
    /// Threads of the load generator, up to 64.
    #[arg(long, default_value_t = 1, value_parser = within::<64>)]
    threads: usize,
    /// Requests a second, sent whether or not answers come (open loop); else as fast as they come.
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// Bytes of an input, 2 to 1,000,000.
    #[arg(long, default_value_t = 200, value_parser = within::<1_000_000>)]
    input_bytes: usize,
    /// Jobs of the life in bulk, up to 10,000,000.
    #[arg(long, default_value_t = 200_000, value_parser = within::<10_000_000>)]
    jobs: usize,
    /// Jobs of one submit of it, up to 10,000.
    #[arg(long, default_value_t = 1_000, value_parser = within::<10_000>)]
    batch: usize,
    /// Submits of it at once, up to 1,000.
    #[arg(long, default_value_t = 4, value_parser = within::<1_000>)]
    submitters: usize,
    /// No-op functions at once, up to 10,000.
    #[arg(long, default_value_t = 256, value_parser = within::<10_000>)]
    concurrency: usize,
    /// Requests of the latency on one connection, up to 100,000.
    #[arg(long, default_value_t = 1_000, value_parser = within::<100_000>)]
    requests: usize,
}

fn within<const MAX: usize>(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=MAX).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(format!("is not a whole number from 1 to {MAX}")),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=600.0).contains(&seconds) => Ok(seconds),
        Ok(_) | Err(_) => Err("is not a number of seconds from 0 to 600".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.1..=1_000_000.0).contains(&rate) => Ok(rate),
        Ok(_) | Err(_) => Err("is not a rate from 0.1 to 1,000,000 a second".to_owned()),
    }
}

#[cfg(test)]
impl Default for Settings {
    fn default() -> Self {
        let cli = Cli::parse_from(["anteroom-bench", "ceiling"]);
        match cli.command {
            Command::Ceiling(settings) => settings,
            other => panic!("{other:?}"),
        }
    }
}

fn main() -> anyhow::Result<()> {
    let (settings, parts) = match Cli::parse().command {
        Command::ServeBare => return under_test(bare::answer()),
        Command::Serve {
            store,
            dir,
            concurrency,
            connections,
        } => return under_test(server::answer(store, &dir, concurrency, connections)),
        Command::List(settings) => {
            print!("{}", list::run(&settings)?);
            return Ok(());
        }
        Command::Due(settings) => {
            print!("{}", due::run(&settings)?);
            return Ok(());
        }
        Command::Groups(settings) => {
            print!("{}", groups::run(&settings)?);
            return Ok(());
        }
        Command::Growth(settings) => {
            print!("{}", growth::run(&settings)?);
            return Ok(());
        }
        Command::Position(settings) => {
            print!("{}", position::run(&settings)?);
            return Ok(());
        }
        Command::Postgres(command) => return postgres::run(&command),
        Command::PostgresContender { who, concurrency } => {
            return under_test(postgres::contend(who, concurrency));
        }
        Command::PostgresServe { concurrency } => {
            return under_test(postgres::serve(concurrency));
        }
        Command::GrowthPart(part) => return under_test(growth::part(part)),
        Command::Table(settings) => {
            print!("{}", side_by_side::run(&settings)?);
            return Ok(());
        }
        Command::SideBySideClient { site } => return a_client(side_by_side::client(site)),
        Command::SideBySideBeanstalkd => return a_client(side_by_side::beanstalkd()),
        Command::GroupsPart(part) => return under_test(groups::part(part)),
        Command::Ceiling(settings) => (settings, &Part::ALL[..]),
        Command::Submit(settings) => (settings, &[Part::BareSubmit, Part::Submit][..]),
        Command::Life(settings) => (settings, &Part::ALL[2..7]),
        Command::Bulk(settings) => (settings, &[Part::Life][..]),
        Command::Latency(settings) => (settings, &[Part::Latency][..]),
    };
    let machine = machine::describe(&settings.dir);
    let rows = rounds::run(&settings, parts)?;
    print!("{}", report::markdown(&settings, &machine, &rows));
    Ok(())
}

/// Runs a server on as many threads as there are cores.
fn under_test(server: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(server)
}

/// Runs a client on one thread: it shares the cores with what it measures.
fn a_client(client: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(client)
}
