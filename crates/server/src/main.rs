//! The binary `anteroom`: the server, and a client of it for the command line.

use std::process::ExitCode;

mod cli;
mod config;
mod logging;

// A submit allocates some dozens of small pieces on one thread and frees some of them on another,
// which costs the system's allocator a fifth of what it takes. The binary's alone: the library
// leaves the choice to whoever embeds it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Ends here where the server has started this binary to start a program.
    anteroom::run::exec::launcher::run_if_asked();
    cli::run()
}
