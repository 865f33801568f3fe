//! `anteroom store verify`: looks for damage.

use super::{VerifyArgs, cannot_print, close, open, runtime};
use crate::cli::Stopped;
use crate::cli::plain;
use crate::config::Environment;
use anteroom::moving::verify;
use serde_json::json;
use std::io::Write;
use std::process::ExitCode;

/// Looks at all that a store holds, and prints what that is.
pub(super) fn run(args: VerifyArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
    let which = args.which;
    let url = which.url(environment)?;
    let mut tell = |damage: &str| eprintln!("damage: {}", plain::lines(damage));
    let verified = runtime()?.block_on(async {
        let archive = open(&url).await?;
        let verified = verify(&*archive, &mut tell).await;
        let verified = verified
            .map_err(|error| Stopped::Failure(format!("cannot verify {url} to its end: {error}")));
        close(&url, &*archive, verified).await
    })?;
    let damages = verified.damages;
    let done = match damages {
        0 => format!("{url}: well"),
        _ => format!("{url}: damaged"),
    };
    let view = json!({"store": url.to_string(), "damages": damages});
    let report = which.report(&done, &view, &verified.content);
    std::io::stdout()
        .write_all(report.as_bytes())
        .map_err(cannot_print)?;
    match damages {
        0 => Ok(ExitCode::SUCCESS),
        1 => Err(Stopped::Failure(format!("{url} has 1 damage"))),
        _ => Err(Stopped::Failure(format!("{url} has {damages} damages"))),
    }
}
