//! The machine that figures were taken on, in a line: without it they say nothing.

use std::fs::read_to_string;
use std::path::Path;

/// Describes cores, kernel, the file system of `folder`, and what else runs.
pub(crate) fn describe(folder: &Path) -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let cpu = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = read_to_string("/proc/loadavg").unwrap_or_default();
    let mounts = read_to_string("/proc/self/mounts").unwrap_or_default();
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.into());
    format!(
        "{cores} cores ({}), Linux {}, {}, load average {} before the first round, {} build",
        model(&cpu).unwrap_or("unknown"),
        kernel.trim(),
        file_system(&mounts, &folder).unwrap_or_else(|| "unknown file system".to_owned()),
        load.split(' ').next().unwrap_or("unknown"),
        if cfg!(debug_assertions) {
            "DEBUG"
        } else {
            "release"
        },
    )
}

/// Returns the command, without the folder that its program is in.
pub(crate) fn command() -> String {
    let mut words = std::env::args().skip(1).collect::<Vec<_>>();
    words.insert(0, "anteroom-bench".to_owned());
    words.join(" ")
}

fn model(cpu: &str) -> Option<&str> {
    let line = cpu.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(": ").map(|(_, model)| model)
}

/// The type and options of the mount that the folder is on: the longest that it lies under.
fn file_system(mounts: &str, folder: &Path) -> Option<String> {
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((Path::new(fields.next()?), fields.next()?, fields.next()?))
    });
    let under = fields.filter(|(point, ..)| folder.starts_with(point));
    // Of several on one point the last is seen.
    let (_, kind, options) = under.max_by_key(|(point, ..)| point.components().count())?;
    Some(format!("{kind} ({options})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw,nosuid 0 0\n";
        let of = |path| file_system(mounts, Path::new(path)).unwrap();
        assert_eq!(of("/tmp/x"), "tmpfs (rw,nosuid)");
        assert_eq!(of("/tmpx"), "ext4 (rw)");
        assert!(describe(Path::new(".")).contains("cores ("));
    }
}
