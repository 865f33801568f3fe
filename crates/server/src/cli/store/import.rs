//! `anteroom store import`: writes all that a file has into a store.

use super::{ImportArgs, cannot_print, close, is_about_file, open_or_make, runtime};
use crate::cli::Stopped;
use crate::config::{Environment, StoreUrl};
use anteroom::moving::{Imported, MoveError, examine, import};
use anteroom::store::archive::Archive;
use serde_json::json;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::path::Path;
use std::process::ExitCode;

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Writes what a file has into a store.
pub(super) fn run(args: ImportArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
    let ImportArgs { input, which } = args;
    let url = which.url(environment)?;
    let (name, mut reader) = if input.as_os_str() == "-" {
        let stdin = BufReader::with_capacity(BUFFER_BYTES, io::stdin());
        ("standard input".to_owned(), Box::new(stdin) as Box<Reader>)
    } else {
        (input.display().to_string(), looked_at(&input)?)
    };
    let imported = runtime()?.block_on(async {
        let archive = open_or_make(&url).await?;
        let imported = import(&*archive, &mut reader).await;
        let imported = match imported {
            Ok(imported) => Ok(imported),
            Err(error) => Err(cannot_import(&url, &name, &*archive, &error).await),
        };
        close(&url, &*archive, imported).await
    })?;
    let Imported { content, added } = imported;
    let there = content.total() - added;
    let done = format!("{url}: all that {name} has; {added} records written, {there} were there");
    let view = json!({
        "store": url.to_string(), "input": name, "written": added, "there": there,
    });
    let report = which.report(&done, &view, &content);
    io::stdout()
        .write_all(report.as_bytes())
        .map_err(cannot_print)?;
    Ok(ExitCode::SUCCESS)
}

type Reader = dyn BufRead + Send;

/// Opens a file and reads it once to its end, so that one that is not whole changes nothing.
fn looked_at(path: &Path) -> Result<Box<Reader>, Stopped> {
    let name = path.display();
    let cannot_read = |error: io::Error| Stopped::Failure(format!("cannot read {name}: {error}"));
    let file = File::open(path).map_err(cannot_read)?;
    let is_file = file.metadata().map_err(cannot_read)?.is_file();
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
    // What is no file, such as a pipe, can be read once.
    if is_file {
        examine(&mut reader)
            .map_err(|error| Stopped::Failure(format!("{name}: {error}; nothing was changed")))?;
        reader.rewind().map_err(cannot_read)?;
    }
    Ok(Box::new(reader))
}

async fn cannot_import(
    url: &StoreUrl,
    name: &str,
    archive: &dyn Archive,
    error: &MoveError,
) -> Stopped {
    let mut text = if is_about_file(error) {
        format!("{name}: {error}")
    } else {
        format!("cannot import {name} into {url}: {error}")
    };
    // Where even that cannot be told, the error says why.
    let is_begun = matches!(archive.importing().await, Ok(Some(_)));
    if is_begun && !matches!(error, MoveError::AnotherImport { .. }) {
        text.push_str(
            "; the import was begun and is not complete: run it again with the whole file, \
             or remove the store",
        );
    }
    Stopped::Failure(text)
}
