//! The launcher: what stands between the server and a program, in a process of its own.
//!
//! What a program needs set before it begins (its process group, its death signal, its
//! descriptors) could be set between fork and exec, but only by unsafe code. So a binary of ours
//! is started first, does it by safe calls, and then becomes the program. It does so in two
//! stages, each a run of the same binary:
//!
//! - `supervise` stays for as long as the attempt. It holds one end of a socket whose other end
//!   only the server has: when that closes, be it that the attempt was dropped or that the server
//!   was killed, it kills everything of the attempt. It is the subreaper of all that the program
//!   starts, so that nothing gets away by a session of its own.
//! - `begin` sets what the program may use and as whom it runs, makes it die with its supervisor, and
//!   executes it.
//!
//! A binary offers this by calling [`run_if_asked`] first thing in its `main`.

use super::confine::Confinement;
use super::report::{Report, Step};
use super::{Exec, supervisor};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, close, getppid};
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

/// The first argument of a binary that is to be the launcher.
const WORD: &str = "__anteroom-exec";
const SUPERVISE: &str = "supervise";
const BEGIN: &str = "begin";

/// The running binary, also after its file was replaced or removed by an upgrade.
pub(super) const SELF: &str = "/proc/self/exe";

/// The exit status of a launcher that could not do its work.
pub(super) const EXIT_UNFIT: i32 = 125;

/// Names the binary that starts programs.
///
/// It must call [`run_if_asked`] first thing in its `main`. The server names itself; who embeds
/// the engine does the same, or names the binary `anteroom-launcher` that comes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    program: PathBuf,
}

impl Launcher {
    /// Returns the running binary as the launcher.
    ///
    /// It is this very file, whatever has become of its path since.
    pub fn this_binary() -> Self {
        Self::at(SELF)
    }

    /// Returns the binary at `program` as the launcher.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
        }
    }

    /// Returns the path of the binary.
    pub fn program(&self) -> &Path {
        &self.program
    }
}

/// Returns the arguments that make a launcher supervise a run of `exec`'s program.
pub(super) fn supervise(exec: &Exec) -> Vec<OsString> {
    let directory = exec.current_dir.clone().unwrap_or_default();
    let head = [
        WORD.into(),
        SUPERVISE.into(),
        Confinement::of(exec).to_argument(),
        directory.into_os_string(),
    ];
    let argv = exec.argv.iter().map(OsString::from);
    head.into_iter().chain(argv).collect()
}

/// Returns the arguments that make this binary become `argv`'s program, once it has been started
/// by the supervisor with the process id `supervisor`.
///
/// It writes to `refusal` why it could not.
pub(super) fn begin(
    supervisor: Pid,
    refusal: RawFd,
    confinement: &Confinement,
    directory: &OsStr,
    argv: &[OsString],
) -> Vec<OsString> {
    let head = [
        WORD.into(),
        BEGIN.into(),
        supervisor.to_string().into(),
        refusal.to_string().into(),
        confinement.to_argument(),
        directory.to_owned(),
    ];
    head.into_iter().chain(argv.iter().cloned()).collect()
}

/// Does the launcher's work and never returns, if this process was started as the launcher.
///
/// Otherwise it does nothing. Call it first thing in `main`, before anything starts a thread,
/// opens a file or reads arguments.
pub fn run_if_asked() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|word| word != WORD) {
        return;
    }
    let arguments: Vec<OsString> = arguments.collect();
    let done = match arguments.as_slice() {
        [stage, confinement, directory, argv @ ..] if stage == SUPERVISE && !argv.is_empty() => {
            Confinement::of_argument(confinement)
                .and_then(|confinement| supervisor::supervise(&confinement, directory, argv))
        }
        [
            stage,
            supervisor,
            refusal,
            confinement,
            directory,
            argv @ ..,
        ] if stage == BEGIN && !argv.is_empty() => Confinement::of_argument(confinement)
            .and_then(|it| become_program(supervisor, refusal, &it, directory, argv)),
        _ => Err(io::Error::from(io::ErrorKind::InvalidInput)),
    };
    if let Err(error) = done {
        // Standard error is the attempt's: the server adds its end to the message.
        let _unheard = writeln!(io::stderr(), "{WORD} is not for people: {error}");
        process::exit(EXIT_UNFIT);
    }
    process::exit(0);
}

fn become_program(
    supervisor: &OsStr,
    refusal: &OsStr,
    confinement: &Confinement,
    directory: &OsStr,
    argv: &[OsString],
) -> io::Result<()> {
    let supervisor = Pid::from_raw(number(supervisor)?);
    let mut refusal = reopen(number(refusal)?)?;
    let (step, error) = execute(supervisor, confinement, directory, argv);
    let errno = error.raw_os_error().unwrap_or(0);
    writeln!(refusal, "{}", Report::Refused { step, errno })?;
    process::exit(EXIT_UNFIT);
}

/// Returns only if it fails, with the step at which it did.
fn execute(
    supervisor: Pid,
    confinement: &Confinement,
    directory: &OsStr,
    argv: &[OsString],
) -> (Step, io::Error) {
    if let Err(refused) = prepare(supervisor, confinement, directory) {
        return refused;
    }
    let mut program = Command::new(&argv[0]);
    program.args(&argv[1..]);
    // From here on there may be no memory to be had.
    if let Err(error) = confinement.bound_memory() {
        return (Step::Limits, error);
    }
    // The standard library gives SIGPIPE its default back; signals that the server was started to
    // ignore stay ignored.
    (Step::Program, program.exec())
}

fn prepare(
    supervisor: Pid,
    confinement: &Confinement,
    directory: &OsStr,
) -> Result<(), (Step, io::Error)> {
    let unfit = |error: Errno| (Step::Launcher, error.into());
    confinement.enter()?;
    // Follows the thread that started this process: the supervisor's only one. Not before: a change
    // of the user clears it.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(unfit)?;
    if getppid() != supervisor {
        // It died before that was set, and nobody would tell.
        process::exit(EXIT_UNFIT);
    }
    SigSet::empty().thread_set_mask().map_err(unfit)?;
    if directory.is_empty() {
        return Ok(());
    }
    // As the program's user: a directory that he may not enter is not entered for him.
    std::env::set_current_dir(directory).map_err(|error| (Step::Directory, error))
}

/// Takes an inherited pipe end over, for writing: the file that is returned closes on exec.
fn reopen(descriptor: RawFd) -> io::Result<File> {
    let path = format!("/proc/self/fd/{descriptor}");
    let file = OpenOptions::new().write(true).open(path)?;
    close(descriptor)?;
    Ok(file)
}

fn number(text: &OsStr) -> io::Result<i32> {
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
