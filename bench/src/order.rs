//! What a contender is told to do, and what it says: lines on its standard input and output, so that
//! programs in other languages can be contenders.
//!
//! It is told first where to work (the URL of an empty database, the address of a server, a folder), and
//! says `ready VERSION` once it can be used. Then it is told one order after the other, says
//! `done JOBS SECONDS` as soon as it is done, and `well` once it has looked whether all is there. After
//! an order about latency four numbers follow, in milliseconds: p50 and p99 of a submit, and of the
//! time from a submit to its result. It ends with its standard input.

use anyhow::{Context, bail, ensure};
use std::fmt;
use std::time::Duration;

/// Submits at once of an order that has many in each.
pub(crate) const SUBMITTERS: usize = 4;

/// What a contender is told to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Order {
    /// Submits jobs in batches; nobody runs them.
    Submit {
        /// In all.
        jobs: u64,
        /// Of one submit.
        batch: u64,
    },
    /// Submits jobs one by one; nobody runs them.
    Single {
        /// In all.
        jobs: u64,
        /// Submits at once.
        connections: u64,
    },
    /// Submits jobs in batches, and runs as many.
    Life {
        /// In all.
        jobs: u64,
        /// Of one submit.
        batch: u64,
        /// Ends after so many seconds, whatever is done by then.
        seconds: f64,
        /// Whether jobs are left over that others submitted before.
        is_backlog: bool,
    },
    /// Submits jobs one by one, and runs as many, until each has its result.
    Each {
        /// In all.
        jobs: u64,
        /// Jobs at once.
        connections: u64,
    },
    /// Submits a job and waits for its result, one job after the other, and times both.
    Latency {
        /// In all.
        jobs: u64,
    },
    /// Waits for jobs, and gets none: done once it waits.
    Idle,
    /// Runs jobs that never end: done once so many have begun.
    Stick {
        /// How many there are.
        jobs: u64,
    },
    /// Goes on to run jobs, while it idles: done once so many are.
    Drain {
        /// How many there are.
        jobs: u64,
    },
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Done {
    /// Jobs.
    pub(crate) jobs: u64,
    /// The time that it took.
    pub(crate) span: Duration,
    /// What was timed, if that was the order.
    pub(crate) latency: Option<Latency>,
}

/// How long a job takes when nothing else is going on, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Latency {
    /// Median and 99th percentile of a submit.
    pub(crate) submit: [f64; 2],
    /// Those from a submit to its result.
    pub(crate) result: [f64; 2],
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submit { jobs, batch } => write!(f, "submit {jobs} {batch}"),
            Self::Single { jobs, connections } => write!(f, "single {jobs} {connections}"),
            Self::Life {
                jobs,
                batch,
                seconds,
                is_backlog,
            } => {
                let backlog = if *is_backlog { "backlog" } else { "empty" };
                write!(f, "life {jobs} {batch} {seconds} {backlog}")
            }
            Self::Each { jobs, connections } => write!(f, "each {jobs} {connections}"),
            Self::Latency { jobs } => write!(f, "latency {jobs}"),
            Self::Idle => f.write_str("idle"),
            Self::Stick { jobs } => write!(f, "stick {jobs}"),
            Self::Drain { jobs } => write!(f, "drain {jobs}"),
        }
    }
}

impl Order {
    /// Reads a line.
    pub(crate) fn parse(line: &str) -> anyhow::Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let order = match words[..] {
            ["submit", jobs, batch] => Self::Submit {
                jobs: jobs.parse()?,
                batch: batch.parse()?,
            },
            ["single", jobs, connections] => Self::Single {
                jobs: jobs.parse()?,
                connections: connections.parse()?,
            },
            ["life", jobs, batch, seconds, left @ ("backlog" | "empty")] => Self::Life {
                jobs: jobs.parse()?,
                batch: batch.parse()?,
                seconds: seconds.parse()?,
                is_backlog: left == "backlog",
            },
            ["each", jobs, connections] => Self::Each {
                jobs: jobs.parse()?,
                connections: connections.parse()?,
            },
            ["latency", jobs] => Self::Latency {
                jobs: jobs.parse()?,
            },
            ["idle"] => Self::Idle,
            ["stick", jobs] => Self::Stick {
                jobs: jobs.parse()?,
            },
            ["drain", jobs] => Self::Drain {
                jobs: jobs.parse()?,
            },
            _ => bail!("{line:?} is no order"),
        };
        Ok(order)
    }
}

impl Done {
    /// So many jobs in this time.
    pub(crate) const fn new(jobs: u64, span: Duration) -> Self {
        Self {
            jobs,
            span,
            latency: None,
        }
    }

    /// Says so.
    pub(crate) fn say(self) {
        println!("{self}");
    }

    /// Reads what was said.
    pub(crate) fn parse(line: &str) -> anyhow::Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["done", jobs, seconds, ref timed @ ..] = words[..] else {
            bail!("a contender said {line:?}, not what it has done");
        };
        let seconds: f64 = seconds.parse()?;
        ensure!(
            seconds > 0.0 && seconds < 86_400.0,
            "{seconds} s are no time of an order"
        );
        let timed = timed.iter().map(|word| word.parse());
        let timed = timed.collect::<Result<Vec<f64>, _>>()?;
        let latency = match timed[..] {
            [] => None,
            [p50, p99, result_p50, result_p99] => Some(Latency {
                submit: [p50, p99],
                result: [result_p50, result_p99],
            }),
            _ => bail!("a contender said {line:?}: two quantiles of two times are expected"),
        };
        Ok(Self {
            jobs: jobs.parse().context("jobs that were done")?,
            span: Duration::from_secs_f64(seconds),
            latency,
        })
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "done {} {}", self.jobs, self.span.as_secs_f64())?;
        if let Some(Latency { submit, result }) = self.latency {
            for time in submit.iter().chain(&result) {
                write!(f, " {time:.4}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let (jobs, batch) = (7, 3);
        for order in [
            Order::Submit { jobs, batch },
            Order::Single {
                jobs,
                connections: 16,
            },
            Order::Life {
                jobs,
                batch,
                seconds: 1.5,
                is_backlog: true,
            },
            Order::Life {
                jobs,
                batch,
                seconds: 2.0,
                is_backlog: false,
            },
            Order::Each {
                jobs,
                connections: 256,
            },
            Order::Latency { jobs },
            Order::Idle,
            Order::Stick { jobs },
            Order::Drain { jobs },
        ] {
            assert_eq!(Order::parse(&order.to_string()).unwrap(), order);
        }
        for line in ["", "rest", "submit 1", "life 1 2 3 full", "single x 1"] {
            assert!(Order::parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn only_plausible_answers_are_taken() {
        let done = Done::parse("done 12 0.5").unwrap();
        assert_eq!((done.jobs, done.span), (12, Duration::from_millis(500)));
        for line in [
            "well",
            "done 1",
            "done 1 0",
            "done 1 NaN",
            "done 1 -1",
            "done 1 1 2",
        ] {
            assert!(Done::parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn what_was_timed_is_read_as_it_was_said() {
        let timed = Done {
            latency: Some(Latency {
                submit: [0.25, 1.5],
                result: [0.5, 20.0],
            }),
            ..Done::new(7, Duration::from_millis(1_500))
        };
        assert_eq!(Done::parse(&timed.to_string()).unwrap(), timed);
    }
}
