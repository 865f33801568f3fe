//! `anteroom store backup`: copies a store while a server may have it open.

use super::{BackupArgs, cannot_print, keeps_nothing, whole};
use crate::cli::Stopped;
use crate::config::{Environment, StoreUrl};
use anteroom::store::sqlite::backup;
use serde_json::json;
use std::io::Write;
use std::process::ExitCode;

/// Makes a copy of a store.
pub(super) fn run(args: BackupArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
    let BackupArgs { path, which } = args;
    let url = which.url(environment)?;
    let bytes = match &url {
        StoreUrl::Sqlite(from) => backup(from, &path).map_err(|error| {
            let error = whole(&error);
            Stopped::Failure(format!("cannot copy {url} to {}: {error}", path.display()))
        })?,
        StoreUrl::Memory => return Err(keeps_nothing(&url)),
        #[cfg(feature = "postgres")]
        StoreUrl::Postgres(_) => return Err(has_its_own(&url)),
    };
    let copy = format!("sqlite:{}", path.display());
    let report = if which.json {
        let view = json!({"store": url.to_string(), "copy": copy, "bytes": bytes});
        format!("{view:#}\n")
    } else {
        format!("{copy}: a copy of {url}, {bytes} bytes\n")
    };
    std::io::stdout()
        .write_all(report.as_bytes())
        .map_err(cannot_print)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(feature = "postgres")]
fn has_its_own(url: &StoreUrl) -> Stopped {
    Stopped::Refused(format!(
        "{url} is on PostgreSQL, which has backups of its own: take pg_dump, or pg_basebackup with \
         an archive of the log; `anteroom store export` writes what the store holds into a file"
    ))
}
