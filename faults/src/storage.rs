//! A small disk of its own in an image file, so that its power can be cut and it can be filled.
//!
//! The image lies in memory (tmpfs), ext4 on a loop device in between: the file holds what the
//! file system has sent to the "disk", and nothing of what waits in the page cache. A copy of it
//! is what a machine would find after its power was cut.

use crate::pause;
use anyhow::{Context, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Where images lie: memory, so that nothing else is written to a real disk meanwhile.
const MEMORY: &str = "/dev/shm";

/// A mounted image. Unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: TempDir,
    image: PathBuf,
    mounted: bool,
    cuts: u32,
}

impl Disk {
    /// Makes an image of that size with an empty file system and mounts it.
    ///
    /// # Errors
    ///
    /// When loop devices or mounts cannot be used here.
    pub(crate) fn make(mebibytes: u64) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("anteroom-disk-")
            .tempdir_in(MEMORY)
            .with_context(|| format!("make a folder in {MEMORY}"))?;
        let image = folder.path().join("disk-0.img");
        fs::File::create(&image)?.set_len(mebibytes << 20)?;
        fs::create_dir(folder.path().join("mounted"))?;
        // Writes that the file system puts off are put off longer than a campaign takes.
        run(
            "mkfs.ext4",
            &["-q", "-F", "-E", "lazy_itable_init=0", &text(&image)],
        )?;
        let mut disk = Self {
            folder,
            image,
            mounted: false,
            cuts: 0,
        };
        disk.mount()?;
        Ok(disk)
    }

    /// Returns where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// Has the file system send to the disk all that it has.
    pub(crate) fn sync(&self) -> anyhow::Result<()> {
        run("sync", &["-f", &text(&self.path())])
    }

    /// Copies what the disk has now. Nothing may be using the disk but stopped processes.
    pub(crate) fn copy(&mut self) -> anyhow::Result<PathBuf> {
        self.cuts += 1;
        let name = format!("disk-{}.img", self.cuts);
        let copy = self.folder.path().join(name);
        fs::copy(&self.image, &copy).context("copy the image")?;
        Ok(copy)
    }

    /// Takes the copy for the disk: what was not on it is lost. Nobody may use the disk.
    pub(crate) async fn go_on_with(&mut self, copy: PathBuf) -> anyhow::Result<()> {
        self.unmount().await?;
        fs::remove_file(&self.image)?;
        self.image = copy;
        self.mount()
    }

    fn mount(&mut self) -> anyhow::Result<()> {
        let (image, path) = (text(&self.image), text(&self.path()));
        run("mount", &["-o", "loop,commit=60", &image, &path])?;
        self.mounted = true;
        Ok(())
    }

    async fn unmount(&mut self) -> anyhow::Result<()> {
        // What a killed process has open is closed a moment later.
        let mut tries = 0;
        while let Err(error) = run("umount", &[&text(&self.path())]) {
            tries += 1;
            if tries == 100 {
                return Err(error);
            }
            pause(Duration::from_millis(50)).await;
        }
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted
            && let Err(error) = run("umount", &["--lazy", &text(&self.path())])
        {
            eprintln!("{error:#}");
        }
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Runs a program of the system.
pub(crate) fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{program} {}: {}: {}",
            arguments.join(" "),
            output.status,
            said.trim()
        );
    }
    Ok(())
}
