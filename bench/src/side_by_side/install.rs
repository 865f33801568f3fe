//! Installs what others' programs need, into a folder of its own: nothing of it is put elsewhere but
//! what Debian packages are asked for.

use super::peer::{Beside, Facts, Program};
use crate::clock::now;
use crate::contender::Contender;
use anyhow::{Context, bail, ensure};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long one installation may take.
const INSTALL_MAX: Duration = Duration::from_mins(30);
/// What is copied to where Node.js finds packages.
const SCRIPTS: [&str; 6] = [
    "package.json",
    "orders.mjs",
    "bullmq.mjs",
    "graphile-worker.mjs",
    "pg-boss.mjs",
    "restate.mjs",
];

/// What can be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Node,
    Python,
    Rust,
    Debian {
        program: &'static str,
        package: &'static str,
    },
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("packages for Node.js"),
            Self::Python => f.write_str("packages for Python"),
            Self::Rust => f.write_str("crates"),
            Self::Debian { program, .. } => f.write_str(program),
        }
    }
}

/// Where programs are, and which could not be had.
#[derive(Debug)]
pub(crate) struct Programs {
    /// The programs of others' queues, as they are kept.
    sources: PathBuf,
    /// Where what they need is installed.
    installed: PathBuf,
    tried: BTreeMap<Need, Option<String>>,
}

impl Programs {
    /// Installs nothing yet.
    pub(crate) fn new(sources: &Path, installed: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(installed)?;
        Ok(Self {
            sources: sources.canonicalize().context("the folder of programs")?,
            installed: installed.canonicalize()?,
            tried: BTreeMap::new(),
        })
    }

    /// Installs what one needs, and says why it cannot be had; none where it can.
    pub(crate) fn missing(&mut self, facts: &Facts) -> Option<String> {
        let needs = needs(facts);
        let missing = needs.into_iter().filter_map(|need| {
            if let Some(tried) = self.tried.get(&need) {
                return tried.clone();
            }
            eprintln!("looking for {need}");
            let why = self.install(need).err().map(|error| format!("{error:#}"));
            self.tried.insert(need, why.clone());
            why
        });
        missing.reduce(|first, _| first)
    }

    /// Starts a contender at its place.
    pub(crate) fn start(&self, facts: &Facts, place: &str) -> anyhow::Result<Contender> {
        let command = match facts.program {
            Program::Node(script) => self.node(script),
            Program::Python(script) => self.python(script)?,
            Program::Rust(who) => {
                let mut command = Command::new(self.rust());
                command.arg(who);
                command
            }
            Program::Http(site) => {
                let mut command = Command::new(std::env::current_exe()?);
                let site = clap::ValueEnum::to_possible_value(&site);
                let site = site.context("each site has a word")?;
                command.args(["side-by-side-client", site.get_name()]);
                command
            }
            Program::Beanstalkd => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("side-by-side-beanstalkd");
                command
            }
        };
        Contender::start(facts.name, command, place)
    }

    /// Returns a command that runs a script for Node.js.
    pub(crate) fn node(&self, script: &str) -> Command {
        let folder = self.installed.join("node");
        let mut command = Command::new(folder.join("node_modules/node/bin/node"));
        command.arg(script).current_dir(folder);
        command.env("NODE_ENV", "production");
        command.env("RESTATE_LOGGING", "ERROR");
        command
    }

    /// Returns a command that runs a script for Python.
    pub(crate) fn python(&self, script: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(self.installed.join("python/bin/python"));
        command.arg(self.sources.join(script));
        // None of what it compiles is left beside the sources.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        ensure!(
            self.sources.join(script).is_file(),
            "there is no program {script}"
        );
        Ok(command)
    }

    /// Returns the program that is Restate's server.
    pub(crate) fn restate(&self) -> PathBuf {
        let machine = format!("{}-{}", std::env::consts::OS, node_architecture());
        let packages = self.installed.join("node/node_modules/@restatedev");
        packages.join(format!("restate-server-{machine}/bin/restate-server"))
    }

    fn rust(&self) -> PathBuf {
        self.installed.join("rust/release/anteroom-bench-peers")
    }

    /// Returns the version of a package for Node.js.
    pub(crate) fn version_in_node(&self, package: &str) -> anyhow::Result<String> {
        let folder = self.installed.join("node/node_modules").join(package);
        let text = std::fs::read_to_string(folder.join("package.json"))?;
        let value: serde_json::Value = serde_json::from_str(&text)?;
        let version = value["version"].as_str();
        Ok(version.context("a package without a version")?.to_owned())
    }

    /// Returns the version of a package for Python.
    pub(crate) fn version_in_python(&self, package: &str) -> anyhow::Result<String> {
        let asked = format!("import importlib.metadata as m; print(m.version('{package}'))");
        let mut command = Command::new(self.installed.join("python/bin/python"));
        let output = command.args(["-c", &asked]).output()?;
        ensure!(output.status.success(), "{package} has no version");
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn install(&self, need: Need) -> anyhow::Result<()> {
        match need {
            Need::Node => self.install_node(),
            Need::Python => self.install_python(),
            Need::Rust => self.install_rust(),
            Need::Debian { program, package } => install_debian(program, package),
        }
    }

    fn install_node(&self) -> anyhow::Result<()> {
        let folder = self.installed.join("node");
        std::fs::create_dir_all(&folder)?;
        let list = std::fs::read(self.sources.join("package.json"))?;
        let stamp = folder.join("installed.json");
        let is_there = std::fs::read(&stamp).is_ok_and(|there| there == list);
        for script in SCRIPTS {
            let copied = std::fs::copy(self.sources.join(script), folder.join(script));
            copied.with_context(|| format!("cannot copy {script}"))?;
        }
        if is_there {
            return Ok(());
        }
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error"]);
        finish(npm.current_dir(&folder), "npm install")?;
        Ok(std::fs::write(stamp, list)?)
    }

    fn install_python(&self) -> anyhow::Result<()> {
        let folder = self.installed.join("python");
        let list = std::fs::read(self.sources.join("requirements.txt"))?;
        let stamp = folder.join("installed.txt");
        if std::fs::read(&stamp).is_ok_and(|there| there == list) {
            return Ok(());
        }
        let mut venv = Command::new("python3");
        finish(venv.args(["-m", "venv"]).arg(&folder), "python3 -m venv")?;
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "-r"]);
        pip.arg(self.sources.join("requirements.txt"));
        finish(&mut pip, "pip install")?;
        Ok(std::fs::write(stamp, list)?)
    }

    fn install_rust(&self) -> anyhow::Result<()> {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--locked", "--quiet"]);
        cargo.arg("--manifest-path");
        cargo.arg(self.sources.join("rust/Cargo.toml"));
        cargo.arg("--target-dir").arg(self.installed.join("rust"));
        finish(&mut cargo, "cargo build")
    }
}

fn needs(facts: &Facts) -> Vec<Need> {
    let debian = |program, package| Need::Debian { program, package };
    let mut needs = match facts.program {
        Program::Node(_) => vec![Need::Node],
        Program::Python(_) => vec![Need::Python],
        Program::Rust(_) => vec![Need::Rust],
        Program::Http(_) | Program::Beanstalkd => Vec::new(),
    };
    needs.extend(match facts.beside {
        Beside::Aiohttp => Some(Need::Python),
        Beside::Restate => Some(Need::Node),
        Beside::Redis(_) => Some(debian("redis-server", "redis-server")),
        Beside::Beanstalkd => Some(debian("beanstalkd", "beanstalkd")),
        Beside::Postgres | Beside::AnteroomPostgres => Some(debian("postgres", "postgresql")),
        Beside::Bare | Beside::Anteroom(_) | Beside::Folder => None,
    });
    needs
}

/// Installs a Debian package where its program is missing and this is root; else says what to do.
fn install_debian(program: &str, package: &str) -> anyhow::Result<()> {
    let is_there = || {
        if program == "postgres" {
            return anteroom_pgtest::binaries().is_ok();
        }
        Command::new(program)
            .arg(if program == "beanstalkd" {
                "-v"
            } else {
                "--version"
            })
            .output()
            .is_ok()
    };
    if is_there() {
        return Ok(());
    }
    let root = Command::new("id").arg("-u").output();
    if root.is_ok_and(|said| said.stdout == b"0\n") {
        let mut apt = Command::new("apt-get");
        apt.args(["install", "-y", "-qq", "--no-install-recommends", package]);
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        finish(&mut apt, "apt-get install")?;
    }
    ensure!(
        is_there(),
        "{program} is not installed: install the Debian package {package}"
    );
    Ok(())
}

/// Runs a command to its end, with what it says on standard error.
fn finish(command: &mut Command, name: &str) -> anyhow::Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.spawn();
    let mut child = child.with_context(|| format!("cannot run {name}"))?;
    let begun = now();
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "{name} ended with {status}");
            return Ok(());
        }
        if begun.elapsed() > INSTALL_MAX {
            child.kill()?;
            child.wait()?;
            bail!("{name} took more than {INSTALL_MAX:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns what packages for Node.js call this machine's processors.
fn node_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    }
}
