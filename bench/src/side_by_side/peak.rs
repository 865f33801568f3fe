//! How much memory processes hold: their proportional shares (PSS), so that pages that several map count
//! once.

use crate::cpu;
use anyhow::Context;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks: seldom enough to cost little, often enough to see a peak of seconds.
const PAUSE: Duration = Duration::from_millis(400);

/// Looks at the memory of processes and all that they started, on a thread of its own.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: Sender<()>,
    thread: JoinHandle<u64>,
}

impl Watch {
    /// Begins.
    pub(crate) fn start(pids: Vec<u32>) -> Self {
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let mut peak = 0;
            loop {
                // A process that is gone holds nothing.
                let each = pids.iter().map(|pid| of_tree(*pid).unwrap_or_default());
                peak = peak.max(each.sum());
                if stopped.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout) {
                    return peak;
                }
            }
        });
        Self { stop, thread }
    }

    /// Ends, and returns the most KiB that were held at a time.
    pub(crate) fn finish(self) -> u64 {
        drop(self.stop);
        match self.thread.join() {
            Ok(peak) => peak,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Returns the KiB that a process and all that it started hold.
fn of_tree(pid: u32) -> anyhow::Result<u64> {
    let family = cpu::tree(pid)?;
    // One that has ended meanwhile holds nothing.
    let each = family.iter().filter_map(|(pid, _)| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
        pss(&text.ok()?).ok()
    });
    Ok(each.sum())
}

fn pss(rollup: &str) -> anyhow::Result<u64> {
    let mut lines = rollup.lines();
    let line = lines.find_map(|line| line.strip_prefix("Pss:"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.context("no Pss in smaps_rollup")?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_read() {
        let text =
            "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss: 900 kB\nPss:                 812 kB\n";
        assert_eq!(pss(text).unwrap(), 812);
        assert!(pss("Rss: 1 kB").is_err());
    }

    #[test]
    fn this_process_holds_something() {
        let watch = Watch::start(vec![std::process::id(), u32::MAX]);
        assert!(watch.finish() > 100);
    }
}
