//! Who used the cores: processes by `/proc/PID/stat`, the machine by `/proc/stat`.

use anyhow::Context;
use std::time::Duration;

/// Clock ticks a second in `/proc`: fixed in Linux's interface to programs.
const TICKS: u32 = 100;

/// CPU time of a process and of the machine, up to now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    process: Duration,
    this: Duration,
    busy: Duration,
    all: Duration,
}

/// CPU time within a span.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Used {
    /// By the process asked for.
    pub(crate) process: Duration,
    /// By this program.
    pub(crate) this: Duration,
    /// By anything else, as a share of all cores.
    pub(crate) elsewhere: f64,
}

impl Usage {
    /// Reads what process `pid` and the machine have used.
    pub(crate) fn read(pid: u32) -> anyhow::Result<Self> {
        let machine = read("/proc/stat")?;
        let (busy, all) = machine_time(&machine).context("/proc/stat is not as expected")?;
        Ok(Self {
            process: process_time(&format!("/proc/{pid}/stat"))?,
            this: process_time("/proc/self/stat")?,
            busy,
            all,
        })
    }

    /// Returns what was used since `before`; `apart` tells that the process is not this one.
    pub(crate) fn since(self, before: Self, apart: bool) -> Used {
        let process = self.process.saturating_sub(before.process);
        let this = self.this.saturating_sub(before.this);
        let ours = if apart { process + this } else { this };
        let elsewhere = self.busy.saturating_sub(before.busy).saturating_sub(ours);
        let all = self.all.saturating_sub(before.all);
        Used {
            process,
            this,
            elsewhere: elsewhere.as_secs_f64() / all.as_secs_f64().max(f64::MIN_POSITIVE),
        }
    }
}

fn read(path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

fn process_time(path: &str) -> anyhow::Result<Duration> {
    process_ticks(&read(path)?).with_context(|| format!("{path} is not as expected"))
}

/// User and system time: fields 14 and 15, counted behind the name, which may hold anything.
fn process_ticks(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(ticks(u64::from(user) + u64::from(system)))
}

/// Busy time and all time of all cores.
fn machine_time(stat: &str) -> Option<(Duration, Duration)> {
    let fields: Vec<u64> = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .map(|field| field.parse().unwrap_or_default())
        // The last two, guests, are counted in the first two already.
        .take(8)
        .collect();
    let all: u64 = fields.iter().sum();
    let idle = fields.get(3)? + fields.get(4)?;
    Some((ticks(all - idle), ticks(all)))
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(1_000 / u64::from(TICKS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_an_odd_name_is_read() {
        let stat = "7 (a) b ( c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0";
        assert_eq!(process_ticks(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn idle_time_is_not_busy() {
        let stat = "cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 1 1 1\n";
        let expected = (Duration::from_secs(2), Duration::from_secs(10));
        assert_eq!(machine_time(stat), Some(expected));
    }

    #[test]
    fn work_shows_as_time_of_this_process() {
        let pid = std::process::id();
        let before = Usage::read(pid).unwrap();
        let begun = crate::clock::now();
        while begun.elapsed() < Duration::from_secs(5) {
            std::hint::black_box(vec![1_u8; 4096]);
            let used = Usage::read(pid).unwrap().since(before, false);
            if used.this >= Duration::from_millis(20) {
                assert!((0.0..=1.0).contains(&used.elsewhere), "{used:?}");
                return;
            }
        }
        panic!("5 s of work do not show");
    }
}
