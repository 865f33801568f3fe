//! `anteroom store export`: writes all that a store holds into a file.

use super::{ExportArgs, cannot_print, close, is_about_file, open, runtime};
use crate::cli::Stopped;
use crate::config::{Environment, StoreUrl};
use anteroom::clock::Clock;
use anteroom::moving::{About, Content, MoveError, export};
use anteroom::store::archive::Archive;
use serde_json::json;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bytes that are written at once.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Writes what a store holds.
pub(super) fn run(args: ExportArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
    let ExportArgs { output, which } = args;
    let url = which.url(environment)?;
    let runtime = runtime()?;
    let archive = runtime.block_on(open(&url))?;
    let to = if output.as_os_str() == "-" {
        None
    } else {
        Some(Target::make(output)?)
    };
    let content = runtime.block_on(async {
        let content = match &to {
            None => to_stdout(&url, &*archive).await,
            Some(target) => to_file(&url, &*archive, target).await,
        };
        close(&url, &*archive, content).await
    })?;
    let name = to
        .as_ref()
        .map_or("-".into(), |to| to.path.display().to_string());
    let done = format!("{name}: all that {url} holds");
    let view = json!({"store": url.to_string(), "output": name});
    let report = which.report(&done, &view, &content);
    let Some(target) = to else {
        // Standard output has the records.
        eprint!("{report}");
        return Ok(ExitCode::SUCCESS);
    };
    target.keep();
    io::stdout()
        .write_all(report.as_bytes())
        .map_err(cannot_print)?;
    Ok(ExitCode::SUCCESS)
}

async fn to_stdout(url: &StoreUrl, archive: &dyn Archive) -> Result<Content, Stopped> {
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, io::stdout());
    let about = About::made_at(Clock::system().now());
    let exported = export(archive, &about, &mut output).await;
    exported.map_err(|error| match error {
        MoveError::Write(error) => cannot_print(error),
        error => cannot_export(url, &error),
    })
}

async fn to_file(
    url: &StoreUrl,
    archive: &dyn Archive,
    target: &Target,
) -> Result<Content, Stopped> {
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, &target.file);
    let about = About::made_at(Clock::system().now());
    let exported = export(archive, &about, &mut output).await;
    drop(output);
    let cannot_write = |error: io::Error| target.failure(&error);
    let content = exported.map_err(|error| match error {
        MoveError::Write(error) => cannot_write(error),
        error => cannot_export(url, &error),
    })?;
    target.file.sync_all().map_err(cannot_write)?;
    File::open(target.folder())
        .and_then(|folder| folder.sync_all())
        .map_err(cannot_write)?;
    Ok(content)
}

fn cannot_export(url: &StoreUrl, error: &MoveError) -> Stopped {
    debug_assert!(!is_about_file(error), "{error}");
    Stopped::Failure(format!("cannot export {url}: {error}"))
}

/// The file that is written: it goes away again where it is not completed.
struct Target {
    path: PathBuf,
    file: File,
    is_kept: bool,
}

impl Target {
    fn make(path: PathBuf) -> Result<Self, Stopped> {
        match File::create_new(&path) {
            Ok(file) => Ok(Self {
                path,
                file,
                is_kept: false,
            }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let path = path.display();
                Err(Stopped::Failure(format!(
                    "there is {path} already; name another file"
                )))
            }
            Err(error) => {
                let path = path.display();
                Err(Stopped::Failure(format!("cannot make {path}: {error}")))
            }
        }
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            Some(_) | None => Path::new("."),
        }
    }

    fn failure(&self, error: &io::Error) -> Stopped {
        Stopped::Failure(format!("cannot write {}: {error}", self.path.display()))
    }

    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.is_kept {
            // What failed is told; a part of an export tells by itself that it is one.
            let _stays = fs::remove_file(&self.path).is_err();
        }
    }
}
