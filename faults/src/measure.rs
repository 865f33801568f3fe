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

/// CPU time up to now, in ticks: of the machine's cores while they were busy and in all, and of
/// some processes.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    busy: u64,
    all: u64,
    ours: u64,
}

impl Cpu {
    /// Reads what the machine and `processes` have used.
    ///
    /// # Errors
    ///
    /// When one of them is gone.
    pub fn read(processes: &[Pid]) -> anyhow::Result<Self> {
        let machine = std::fs::read_to_string("/proc/stat").context("read /proc/stat")?;
        let line = machine.lines().next().unwrap_or_default();
        // The last two, guests, are counted in the first two already.
        let fields = line.split_whitespace().skip(1).take(8).map(str::parse);
        let fields: Vec<u64> = fields.collect::<Result<_, _>>()?;
        let idle = fields.iter().skip(3).take(2).sum::<u64>();
        let all = fields.iter().sum::<u64>();
        let mut ours = 0;
        for process in processes {
            let path = format!("/proc/{process}/stat");
            let stat = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
            ours += process_ticks(&stat).with_context(|| format!("{path} is not as expected"))?;
        }
        Ok(Self {
            busy: all - idle,
            all,
            ours,
        })
    }

    /// Returns the share of all cores that others than the processes used since `before`, in
    /// percent.
    pub fn others_percent_since(self, before: Self) -> u64 {
        let others = (self.busy - before.busy).saturating_sub(self.ours - before.ours);
        others * 100 / (self.all - before.all).max(1)
    }
}

/// User and system time: fields 14 and 15, counted behind the name, which may hold anything.
fn process_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let [user, system] = [fields.next()?, fields.next()?].map(str::parse::<u64>);
    Some(user.ok()? + system.ok()?)
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
    fn a_process_with_an_odd_name_is_read() {
        let stat = "7 (a) b ( c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0";
        assert_eq!(process_ticks(stat), Some(200));
        assert_eq!(process_ticks("7 (a"), None);
    }

    #[test]
    fn what_others_used_is_told_from_ours() {
        let [before, after] = [(100, 300, 40), (190, 400, 70)];
        let cpu = |(busy, all, ours)| Cpu { busy, all, ours };
        assert_eq!(cpu(after).others_percent_since(cpu(before)), 60);
        assert!(Cpu::read(&[Pid::this()]).is_ok());
    }

    #[test]
    fn this_process_has_memory() {
        let own = resident_bytes(Pid::this()).unwrap();
        assert!((100_000..100_000_000_000).contains(&own), "{own} bytes");
    }
}
