//! `anteroom openapi`: prints the document that the server serves as `/openapi.json`.

use super::Stopped;
use anteroom_server::http::openapi;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// Prints it, in lines. A reader that has seen enough is no failure.
pub(super) fn run() -> Result<ExitCode, Stopped> {
    match std::io::stdout().write_all(openapi::pretty().as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Stopped::Failure(format!("cannot print: {error}")))
        }
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}
