//! How long the disk takes to make something durable: 4 KiB appended, then `fdatasync`.
//!
//! A durable figure says little without it: the same disk takes 0.2 ms when it is quiet and 4 ms
//! when other work keeps the cores busy.

use crate::clock::{micros, now};
use anyhow::Context;
use hdrhistogram::Histogram;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is appended each time.
const BLOCK: [u8; 4096] = [0x5a; 4096];
/// Between two appends beside a load: seldom enough to be no load itself.
const PAUSE: Duration = Duration::from_millis(25);

/// Returns an empty histogram of microseconds, up to a minute.
pub(crate) fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 3)
        .expect("1 to 60,000,000 with 3 digits are bounds that it takes");
    // What takes longer still is counted, not an error.
    histogram.auto(true);
    histogram
}

/// Appends `count` blocks to a file in `folder`, one after the other, and times each.
pub(crate) fn quiet(folder: &Path, count: usize) -> anyhow::Result<Histogram<u64>> {
    let mut file = Appended::create(folder)?;
    let mut times = histogram();
    for _ in 0..count {
        times.record(file.append()?)?;
    }
    Ok(times)
}

/// Appends blocks now and then, on a thread of its own, for as long as a load lasts.
#[derive(Debug)]
pub(crate) struct Beside {
    stop: Sender<()>,
    thread: JoinHandle<anyhow::Result<Histogram<u64>>>,
}

impl Beside {
    /// Begins, in a file in `folder`.
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Self> {
        let mut file = Appended::create(folder)?;
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let mut times = histogram();
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                times.record(file.append()?)?;
            }
            Ok(times)
        });
        Ok(Self { stop, thread })
    }

    /// Ends, and returns the times.
    pub(crate) fn finish(self) -> anyhow::Result<Histogram<u64>> {
        drop(self.stop);
        match self.thread.join() {
            Ok(times) => times,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// A file that is gone again when it is dropped.
#[derive(Debug)]
struct Appended(File);

impl Appended {
    fn create(folder: &Path) -> anyhow::Result<Self> {
        let file = tempfile::tempfile_in(folder);
        let file = file.with_context(|| format!("no file can be made in {}", folder.display()))?;
        Ok(Self(file))
    }

    /// Returns the microseconds that it took.
    fn append(&mut self) -> std::io::Result<u64> {
        let begun = now();
        self.0.write_all(&BLOCK)?;
        self.0.sync_data()?;
        Ok(micros(begun.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_append_is_timed() {
        let folder = tempfile::tempdir().unwrap();
        let times = quiet(folder.path(), 20).unwrap();
        assert_eq!(times.len(), 20);
        assert!(times.max() < 60_000_000, "{} µs", times.max());
        let beside = Beside::start(folder.path()).unwrap();
        assert!(beside.finish().is_ok());
        assert!(quiet(&folder.path().join("none"), 1).is_err());
    }
}
