//! `anteroom serve`: not wired up yet.

use super::{ServeArgs, Stopped, load};
use crate::config::{Environment, Flags};
use crate::logging;
use std::process::ExitCode;

pub(super) fn run(args: ServeArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
    let flags = Flags {
        config: args.config,
        listen: args.listen,
        store: args.store,
        insecure: args.insecure,
    };
    let loaded = load(&flags, environment)?;
    logging::start(loaded.config.log, loaded.config.log_format)
        .map_err(|error| Stopped::Failure(error.to_string()))?;
    let _path = environment.inherited(["PATH"]);
    Err(Stopped::Failure("this build cannot serve yet".into()))
}
