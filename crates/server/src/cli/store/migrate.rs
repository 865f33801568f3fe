//! `anteroom store migrate`: brings the schema of a store forward, and says from where to where.

use super::{CONFIG_HELP, Stopped, load};
use crate::config::{Environment, Flags, StoreUrl};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Which store to bring forward.
#[derive(Args, Debug)]
pub(super) struct MigrateArgs {
    #[arg(long, value_name = "FILE", help = CONFIG_HELP)]
    config: Option<PathBuf>,
    /// The store [default: that of the configuration, else sqlite:anteroom.db]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

/// Brings it forward and prints from which version to which.
pub(super) fn run(args: MigrateArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
    let flags = Flags {
        config: args.config,
        store: args.store,
        ..Flags::default()
    };
    match load(&flags, environment)?.config.store {
        url @ StoreUrl::Memory => Err(Stopped::Refused(format!(
            "the store {url} is gone with its server; name another with --store"
        ))),
        url @ StoreUrl::Sqlite(_) => {
            println!("{url}: a server brings it forward when it opens it; nothing to do");
            Ok(ExitCode::SUCCESS)
        }
        #[cfg(feature = "postgres")]
        StoreUrl::Postgres(url) => postgres(&url),
    }
}

#[cfg(feature = "postgres")]
fn postgres(url: &anteroom::store::postgres::PostgresUrl) -> Result<ExitCode, Stopped> {
    use anteroom::store::postgres::{PostgresOptions, migrate};
    let failed = |why: String| Stopped::Failure(format!("cannot bring {url} forward: {why}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let migrated = runtime.block_on(migrate(url.clone(), PostgresOptions::default()));
    let migrated = migrated.map_err(|error| failed(error.to_string()))?;
    let (from, to) = (migrated.from, migrated.to);
    match (from, to) {
        (0, _) => println!("{url}: made, version {to}"),
        _ if from == to => println!("{url}: is at version {to} already"),
        _ => println!("{url}: brought forward from version {from} to {to}"),
    }
    Ok(ExitCode::SUCCESS)
}
