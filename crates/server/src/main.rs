//! The binary `anteroom`: the server, and a client of it for the command line.

use std::process::ExitCode;

mod cli;
mod config;
mod logging;

// The system's allocator led the profile of submits. Only the binary chooses another: the library
// leaves the choice to whoever embeds it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Ends here where the server has started this binary to start a program.
    anteroom::run::exec::launcher::run_if_asked();
    cli::run()
}
