//! What is measured beside the histories: the memory of a process, and how long answers took.

use crate::pause;
use anyhow::Context;
use nix::unistd::Pid;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Returns the memory that a process has resident, in bytes.
///
/// # Errors
///
/// When it is gone.
pub fn resident_bytes(process: Pid) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kibibytes = kibibytes.with_context(|| format!("{path} is not as expected"))?;
    Ok(kibibytes.trim().parse::<u64>()? * 1024)
}

/// Looks at the memory of a process now and then.
#[derive(Debug)]
pub struct MemoryWatch {
    stop: CancellationToken,
    watching: JoinSet<anyhow::Result<u64>>,
}

impl MemoryWatch {
    /// Begins.
    pub fn start(process: Pid) -> Self {
        let stop = CancellationToken::new();
        let mut watching = JoinSet::new();
        let stopped = stop.clone();
        watching.spawn(async move {
            let mut most = 0;
            while !stopped.is_cancelled() {
                most = resident_bytes(process)?.max(most);
                pause(Duration::from_millis(50)).await;
            }
            Ok(most)
        });
        Self { stop, watching }
    }

    /// Ends, and returns the most bytes that it had resident.
    ///
    /// # Errors
    ///
    /// When the process was gone meanwhile.
    pub async fn finish(mut self) -> anyhow::Result<u64> {
        self.stop.cancel();
        let most = self.watching.join_next().await;
        most.context("nobody looked at the memory")??
    }
}

/// Sorts spans in microseconds, and says what they are.
pub fn spread(spans_us: &mut [u64]) -> String {
    spans_us.sort_unstable();
    let [p50, p99, max] = [50, 99, 100].map(|percent| at_percent(spans_us, percent));
    let ms = |micros| Duration::from_micros(micros);
    format!(
        "p50 {:.1?}, p99 {:.1?}, max {:.1?}",
        ms(p50),
        ms(p99),
        ms(max)
    )
}

/// Returns the value that so many percent of the sorted values do not exceed.
pub fn at_percent(sorted: &[u64], percent: usize) -> u64 {
    let index = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!(at_percent(&values, 50), 100);
        assert_eq!(at_percent(&values, 99), 198);
        assert_eq!(at_percent(&values, 100), 200);
        assert_eq!(at_percent(&[7], 50), 7);
        assert_eq!(at_percent(&[], 99), 0);
    }

    #[test]
    fn this_process_has_memory() {
        let own = resident_bytes(Pid::this()).unwrap();
        assert!((100_000..100_000_000_000).contains(&own), "{own} bytes");
    }
}
