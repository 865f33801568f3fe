//! Where the programs of `PostgreSQL` are, and as whom they run.

use nix::unistd::{Uid, User};
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Why there is no server to test with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotThere(pub String);

impl fmt::Display for NotThere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the folder that has `initdb`, `postgres` and `pg_ctl`: what `pg_config` says, a folder of
/// `PATH`, or the newest of those that Debian makes.
///
/// # Errors
///
/// [`NotThere`] says what to install.
pub fn binaries() -> Result<PathBuf, NotThere> {
    let mut places = Vec::new();
    let asked = Command::new("pg_config").arg("--bindir").output();
    if let Ok(said) = asked {
        places.push(String::from_utf8_lossy(&said.stdout).trim().into());
    }
    let path = variable("PATH").unwrap_or_default();
    places.extend(std::env::split_paths(&path));
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    places.extend(versions.into_iter().rev().map(|(_, path)| path));
    let is_whole = |place: &PathBuf| {
        let programs = ["initdb", "postgres", "pg_ctl", "psql"];
        programs.iter().all(|program| place.join(program).is_file())
    };
    places.into_iter().find(is_whole).ok_or_else(|| {
        NotThere(
            "PostgreSQL is not installed: install the Debian package postgresql, \
             or name a running server by DATABASE_URL"
                .to_owned(),
        )
    })
}

/// Returns the user that servers run as; none: this one. They refuse to run as root.
pub(crate) fn user() -> Result<Option<User>, NotThere> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let found = ["postgres", "nobody"]
        .iter()
        .find_map(|name| User::from_name(name).ok().flatten());
    let missing = || NotThere("there is neither a user postgres nor a user nobody".to_owned());
    found.map(Some).ok_or_else(missing)
}

/// Returns a command that runs as that user, in a folder of its own.
pub(crate) fn command(program: &Path, user: Option<&User>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env("LC_ALL", "C");
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

/// Returns what a command printed, or panics with what it complained of.
pub(crate) fn done(command: &mut Command) -> String {
    match attempt(command) {
        Ok(said) => said,
        Err(why) => panic!("{why}"),
    }
}

pub(crate) fn attempt(command: &mut Command) -> Result<String, String> {
    let output: Output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok(said);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {said}{complaint}"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "there is no configuration of tests but the environment"
)]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
