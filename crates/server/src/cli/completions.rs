//! `anteroom completions`: what a shell needs to complete the command line.

use super::jobs::cannot_print;
use super::{Cli, CompletionsArgs, Stopped};
use clap::CommandFactory;
use std::io::Write;
use std::process::ExitCode;

/// Prints the completions of a shell.
pub(super) fn run(args: &CompletionsArgs) -> Result<ExitCode, Stopped> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "anteroom", &mut script);
    std::io::stdout().write_all(&script).map_err(cannot_print)?;
    Ok(ExitCode::SUCCESS)
}
