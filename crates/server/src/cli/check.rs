//! `anteroom check`: says whether the server would start with this configuration.

use super::{CheckArgs, Stopped, load};
use crate::config::{Environment, FILE_DEFAULT, Flags, Loaded};
use std::process::ExitCode;

/// Checks the configuration and prints what it found, in a line.
pub(super) fn run(args: CheckArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
    let flags = Flags {
        config: args.config,
        ..Flags::default()
    };
    let loaded = load(&flags, environment)?;
    println!("{}", describe(&loaded));
    Ok(ExitCode::SUCCESS)
}

fn describe(Loaded { config, file, .. }: &Loaded) -> String {
    let file = match file {
        Some(path) => path.display().to_string(),
        None => format!("no {FILE_DEFAULT} here, so the defaults"),
    };
    let names: Vec<&str> = config.tasks.keys().map(|name| &**name).collect();
    let tasks = match names.as_slice() {
        [] => "no task".to_owned(),
        [name] => format!("1 task ({name})"),
        names => format!("{} tasks ({})", names.len(), names.join(", ")),
    };
    let (listen, store) = (config.listen, &config.store);
    format!("{file}: well; {tasks}, store {store}, listening on {listen}")
}
