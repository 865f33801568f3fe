//! The binary `anteroom`: the server, and a client of it for the command line.

use std::process::ExitCode;

mod cli;
mod config;
mod logging;

fn main() -> ExitCode {
    cli::run()
}
