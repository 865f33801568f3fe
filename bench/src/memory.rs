//! What memory a process holds, by `/proc/PID/status`.

use anyhow::Context;

/// Returns the bytes of a process that are in memory.
pub(crate) fn resident(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    kibibytes(&status, "VmRSS:")
        .map(|kibibytes| kibibytes * 1024)
        .with_context(|| format!("{path} is not as expected"))
}

/// Reads a line such as `VmRSS:     5120 kB`.
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// Returns how many files and sockets this process may have open at once; the processes that it
/// starts have the same limit. None where there is none.
pub(crate) fn open_files_max() -> anyhow::Result<Option<usize>> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let line = line.context("/proc/self/limits is not as expected")?;
    Ok(line
        .split_whitespace()
        .next()
        .and_then(|soft| soft.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_status_is_read() {
        let status = "Name:\ta b\nVmHWM:\t   20 kB\nVmRSS:\t    12 kB\nThreads:\t1\n";
        assert_eq!(kibibytes(status, "VmRSS:"), Some(12));
        assert_eq!(kibibytes(status, "VmSwap:"), None);
    }

    #[test]
    fn what_is_touched_is_resident() {
        let pid = std::process::id();
        let before = resident(pid).unwrap();
        let touched = vec![7_u8; 64 << 20];
        let after = resident(pid).unwrap();
        assert!(after >= before + (32 << 20), "{before} bytes, then {after}");
        drop(touched);
        assert!(open_files_max().unwrap().is_none_or(|files| files > 0));
    }
}
