//! Who used the cores: processes by `/proc/PID/stat`, the machine by `/proc/stat`.

use anyhow::{Context, ensure};
use std::collections::HashMap;
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

/// Returns the CPU time of a process and of all that it started, those that have ended included.
pub(crate) fn of_tree(pid: u32) -> anyhow::Result<Duration> {
    Ok(tree(pid)?.into_iter().map(|(_, time)| time).sum())
}

/// Returns a process and all that it started, each with its CPU time and that of children waited for.
pub(crate) fn tree(pid: u32) -> anyhow::Result<Vec<(u32, Duration)>> {
    let mut times = HashMap::new();
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(each) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process that has ended meanwhile is counted by the one that waited for it.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{each}/stat")) else {
            continue;
        };
        let (parent, time) =
            family_ticks(&stat).with_context(|| format!("/proc/{each}/stat is not as expected"))?;
        times.insert(each, time);
        children.entry(parent).or_default().push(each);
    }
    ensure!(times.contains_key(&pid), "there is no process {pid}");
    let mut family = Vec::new();
    let mut left = vec![pid];
    while let Some(each) = left.pop() {
        family.extend(times.get(&each).map(|time| (each, *time)));
        left.extend(children.remove(&each).unwrap_or_default());
    }
    Ok(family)
}

/// Returns the time that all cores were busy, and all time.
pub(crate) fn of_machine() -> anyhow::Result<(Duration, Duration)> {
    machine_time(&read("/proc/stat")?).context("/proc/stat is not as expected")
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

/// The parent, and user and system time with that of children waited for: fields 4 and 14 to 17.
fn family_ticks(stat: &str) -> Option<(u32, Duration)> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(1);
    let parent = fields.next()?.parse().ok()?;
    let times = fields.skip(9).take(4).map(str::parse::<u64>);
    let times = times.collect::<Result<Vec<_>, _>>().ok()?;
    (times.len() == 4).then(|| (parent, ticks(times.iter().sum())))
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
    fn children_waited_for_count_in_a_family() {
        let stat = "7 (a) b ( c) S 3 7 7 0 -1 4194560 1 2 3 4 150 50 25 75 20 0 1 0";
        assert_eq!(family_ticks(stat), Some((3, Duration::from_secs(3))));
        assert_eq!(family_ticks("7 (a) S 3 7 7"), None);
    }

    #[test]
    fn a_child_that_has_ended_is_in_its_familys_time() {
        let pid = std::process::id();
        let before = of_tree(pid).unwrap();
        let count = "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done";
        let status = std::process::Command::new("sh")
            .args(["-c", count])
            .status();
        assert!(status.unwrap().success());
        assert!(of_tree(pid).unwrap() > before);
        assert!(of_tree(u32::MAX).is_err());
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
