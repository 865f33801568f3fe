//! Log lines, to standard error.

use crate::config::LogFormat;
use std::io::{IsTerminal, stderr};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Begins to write the log lines that `filter` lets through, coloured on a terminal only.
///
/// # Errors
///
/// [`TryInitError`] if the process writes them already.
pub(crate) fn start(filter: Targets, format: LogFormat) -> Result<(), TryInitError> {
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init()
}
