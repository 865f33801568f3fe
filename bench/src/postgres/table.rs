//! Everything in rounds, and the report of it: medians with their spread, and the share of what
//! hand-written SQL does, taken within a round.

use super::alone::{self, Idle, STUCK_JOBS};
use super::cluster::Server;
use super::contender::{Programs, Who};
use super::parts::{Figures, Part};
use super::{ProgramSettings, backlog};
use crate::order::Order;
use crate::report::{NONE, line, spread};
use crate::{machine, within};
use clap::Args;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// What is measured, and for how long.
#[derive(Clone, Debug, Args)]
pub(crate) struct Settings {
    /// Who; by itself everybody who is installed.
    #[arg(long, value_delimiter = ',')]
    who: Vec<Who>,
    /// Rounds of lives; each figure is the median of them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Rounds of submits.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100))]
    submit_rounds: u32,
    /// Rounds beside a backlog and a transaction that is held, and of the rescue.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=100))]
    long_rounds: u32,
    /// Jobs of a life or of submits in bulk, up to 10,000,000.
    #[arg(long, default_value_t = 100_000, value_parser = within::<10_000_000>)]
    jobs: usize,
    /// Jobs of one submit, up to 10,000.
    #[arg(long, default_value_t = 500, value_parser = within::<10_000>)]
    batch: usize,
    /// Jobs submitted one by one, up to 1,000,000.
    #[arg(long, default_value_t = 4_000, value_parser = within::<1_000_000>)]
    single_jobs: usize,
    /// Connections that submit them, up to 200.
    #[arg(long, default_value_t = 16, value_parser = within::<200>)]
    connections: usize,
    /// Jobs that wait already, up to 20,000,000.
    #[arg(long, default_value_t = 500_000, value_parser = backlog)]
    backlog: u64,
    /// Ends a life after so many seconds, whatever is done by then.
    #[arg(long, default_value_t = 20.0, value_parser = crate::seconds)]
    seconds: f64,
    /// Seconds that a node idles.
    #[arg(long, default_value_t = 20.0, value_parser = crate::seconds)]
    idle_seconds: f64,
    #[command(flatten)]
    programs: ProgramSettings,
}

/// One part, whoever does it, round by round.
struct Section {
    title: String,
    part: Part,
    rounds: u32,
    figures: BTreeMap<Who, Vec<(u32, Figures)>>,
}

/// A report, and what went wrong.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Markdown.
    pub(crate) text: String,
    /// Who failed, and at what.
    pub(crate) failures: Vec<String>,
}

/// Measures everything.
///
/// # Errors
///
/// When the server cannot be started. What fails of a contender is in the report.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<Report> {
    let programs = settings.programs.programs();
    let mut report = Report::default();
    let (who, missing) = present(settings, &programs);
    let server = Server::start()?;
    let mut sections = sections(settings)?;
    let machine = machine::describe(server.folder());
    let rounds = settings.rounds.max(settings.submit_rounds);
    let rounds = rounds.max(settings.long_rounds);
    for round in 0..rounds {
        for section in &mut sections {
            if round < section.rounds {
                section.take_turns(round, &server, &programs, &who, &mut report.failures);
            }
        }
    }
    let idle = idles(settings, &server, &programs, &who, &mut report.failures);
    let rescues = rescues(settings, &server, &programs, &mut report.failures);
    let text = &mut report.text;
    // Writing to a string does not fail.
    let _never = write!(
        text,
        "{machine}\n\n{}; fdatasync of 4 KiB {} ms, the median before each part; {}\n\n",
        server.describe(),
        spread(&disks(&sections), 2),
        versions(&sections),
    );
    let _never = writeln!(text, "`{}`", machine::command());
    for why in missing {
        let _never = writeln!(text, "\nNot measured: {why}.");
    }
    for section in &sections {
        section.write(text, &who);
    }
    write_idles(text, &idle);
    if !rescues.is_empty() {
        let _never = writeln!(
            text,
            "\nRescue: a node is killed with {STUCK_JOBS} jobs; until another one has done them: \
             {} s.",
            spread(&rescues, 1)
        );
    }
    for failure in &report.failures {
        let _never = writeln!(text, "\nFailed: {failure}.");
    }
    Ok(report)
}

/// Returns who can be measured, and why others cannot.
fn present(settings: &Settings, programs: &Programs) -> (Vec<Who>, Vec<String>) {
    let asked = match &settings.who[..] {
        [] => &Who::ALL[..],
        some => some,
    };
    let mut who = Vec::new();
    let mut missing = Vec::new();
    for each in asked {
        match programs.missing(*each) {
            None => who.push(*each),
            Some(why) => missing.push(format!("{}: {why}", each.name())),
        }
    }
    (who, missing)
}

fn sections(settings: &Settings) -> anyhow::Result<Vec<Section>> {
    let (jobs, batch) = (
        u64::try_from(settings.jobs)?,
        u64::try_from(settings.batch)?,
    );
    let life = |is_backlog| Order::Life {
        jobs,
        batch,
        seconds: settings.seconds,
        is_backlog,
    };
    let single = Order::Single {
        jobs: u64::try_from(settings.single_jobs)?,
        connections: u64::try_from(settings.connections)?,
    };
    let (rounds, submits) = (settings.rounds, settings.submit_rounds);
    let long = settings.long_rounds;
    let section = |title: String, rounds, order, backlog, is_held| Section {
        title,
        part: Part {
            order,
            backlog,
            is_held,
        },
        rounds,
        figures: BTreeMap::new(),
    };
    let bulk = Order::Submit { jobs, batch };
    let one_by_one = format!("Submits one by one, {} connections", settings.connections);
    let backlog = settings.backlog;
    let mut sections = vec![
        section(
            "Full life in bulk".to_owned(),
            rounds,
            life(false),
            0,
            false,
        ),
        section("Submits in bulk".to_owned(), submits, bulk, 0, false),
        section(one_by_one, submits, single, 0, false),
    ];
    let held = "Full life in bulk, while a transaction is kept open".to_owned();
    sections.push(section(held, long, life(true), 0, true));
    if backlog > 0 {
        let title = format!("Full life in bulk, {backlog} jobs waiting before");
        sections.push(section(title, long, life(true), backlog, false));
    }
    Ok(sections)
}

impl Section {
    /// Has everybody do it once, in the opposite order every other round.
    fn take_turns(
        &mut self,
        round: u32,
        server: &Server,
        programs: &Programs,
        who: &[Who],
        failures: &mut Vec<String>,
    ) {
        let mut order = who.to_vec();
        if round % 2 == 1 {
            order.reverse();
        }
        for who in order {
            let what = format!("{}, {}, round {}", self.title, who.name(), round + 1);
            match self.part.measure(server, programs, who, None) {
                Ok(figures) => {
                    eprintln!("{what}: {:.0} jobs/s", figures.rate());
                    self.figures.entry(who).or_default().push((round, figures));
                }
                Err(error) => {
                    eprintln!("{what}: {error:#}");
                    failures.push(format!("{what}: {error:#}"));
                }
            }
        }
    }

    fn write(&self, text: &mut String, who: &[Who]) {
        if self.rounds == 0 {
            return;
        }
        // Writing to a string does not fail.
        let _never = writeln!(text, "\n### {}\n", self.title);
        let _never = writeln!(text, "{} rounds: {}.\n", self.rounds, self.part.order);
        let columns = [
            "who",
            "jobs/s",
            "share of the raw SQL loop",
            "database CPU µs/job",
            "own CPU µs/job",
            "WAL B/job",
            "jobs done",
            "other programs' CPU %",
        ];
        line(text, &columns.map(str::to_owned));
        line(text, &columns.map(|_| "---".to_owned()));
        for who in who {
            line(text, &self.cells(*who));
        }
    }

    fn cells(&self, who: Who) -> [String; 8] {
        let rounds = self.figures.get(&who).map_or(&[][..], Vec::as_slice);
        let of = |figure: fn(&Figures) -> f64, digits| {
            let values: Vec<f64> = rounds.iter().map(|(_, figures)| figure(figures)).collect();
            spread(&values, digits)
        };
        let raw = self.figures.get(&Who::Raw).map_or(&[][..], Vec::as_slice);
        let shares = rounds.iter().filter_map(|(round, figures)| {
            let (_, raw) = raw.iter().find(|(of, _)| of == round)?;
            Some(figures.rate() / raw.rate())
        });
        let jobs = rounds.iter().map(|(_, figures)| figures.jobs);
        let (least, most) = (jobs.clone().min(), jobs.max());
        let jobs = match (least, most) {
            (Some(least), Some(most)) if least < most => format!("{least} to {most}"),
            (Some(least), _) => least.to_string(),
            (None, _) => NONE.to_owned(),
        };
        [
            who.name().to_owned(),
            of(Figures::rate, 0),
            spread(&shares.collect::<Vec<_>>(), 2),
            of(Figures::database_us, 1),
            of(Figures::own_us, 1),
            of(Figures::wal_bytes, 0),
            jobs,
            of(|figures| figures.elsewhere * 100.0, 0),
        ]
    }
}

fn idles(
    settings: &Settings,
    server: &Server,
    programs: &Programs,
    who: &[Who],
    failures: &mut Vec<String>,
) -> Vec<(Who, Idle)> {
    let mut idles = Vec::new();
    let span = Duration::from_secs_f64(settings.idle_seconds);
    // A loop of one's own polls as often as it is written to.
    let each = who.iter().filter(|who| **who != Who::Raw);
    for who in each.filter(|_| !span.is_zero()) {
        eprintln!("idle, {}", who.name());
        match alone::idle(server, programs, *who, span) {
            Ok(idle) => idles.push((*who, idle)),
            Err(error) => failures.push(format!("idle, {}: {error:#}", who.name())),
        }
    }
    idles
}

fn rescues(
    settings: &Settings,
    server: &Server,
    programs: &Programs,
    failures: &mut Vec<String>,
) -> Vec<f64> {
    let mut rescues = Vec::new();
    for round in 0..settings.long_rounds {
        eprintln!("rescue, round {}", round + 1);
        match alone::rescue(server, programs) {
            Ok(span) => rescues.push(span.as_secs_f64()),
            Err(error) => failures.push(format!("rescue, round {}: {error:#}", round + 1)),
        }
    }
    rescues
}

fn write_idles(text: &mut String, idles: &[(Who, Idle)]) {
    if idles.is_empty() {
        return;
    }
    text.push_str("\n### An idle node\n\n");
    let columns = ["who", "statements/s", "database CPU ms/s", "own CPU ms/s"];
    line(text, &columns.map(str::to_owned));
    line(text, &columns.map(|_| "---".to_owned()));
    for (who, idle) in idles {
        let statements = idle.statements.map(|count| format!("{count:.1}"));
        let cells = [
            who.name().to_owned(),
            statements.unwrap_or_else(|| NONE.to_owned()),
            format!("{:.1}", idle.database_ms),
            format!("{:.1}", idle.own_ms),
        ];
        line(text, &cells);
    }
}

fn all(sections: &[Section]) -> impl Iterator<Item = (Who, &Figures)> {
    let each = sections.iter().flat_map(|section| &section.figures);
    each.flat_map(|(who, rounds)| rounds.iter().map(move |(_, figures)| (*who, figures)))
}

fn disks(sections: &[Section]) -> Vec<f64> {
    all(sections)
        .map(|(_, figures)| figures.fdatasync_ms())
        .collect()
}

fn versions(sections: &[Section]) -> String {
    let versions: BTreeMap<Who, &str> = all(sections)
        .filter(|(_, figures)| !figures.version.is_empty())
        .map(|(who, figures)| (who, figures.version.as_str()))
        .collect();
    let each = versions.iter();
    let each: Vec<_> = each
        .map(|(who, version)| format!("{} {version}", who.name()))
        .collect();
    each.join(", ")
}
