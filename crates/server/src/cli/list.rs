//! `anteroom jobs`: lists jobs, newest first.

use super::client::{Call, Client, body, query};
use super::jobs::{block_on, cannot_print};
use super::progress::width_of;
use super::show::Job;
use super::table::{Column, render};
use super::{JobsArgs, Stopped, plain};
use crate::config::Environment;
use anteroom::clock::Clock;
use anteroom::core::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};
use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::io::{IsTerminal, Write, stdout};
use std::process::ExitCode;

/// What names and labels may be cut to on a narrow terminal. Ids never are: people copy them.
const TEXT_COLUMNS_LEAST: usize = 8;

/// A page as the server gives it.
#[derive(Debug, Deserialize, Serialize)]
struct Page {
    jobs: Vec<Box<RawValue>>,
    next_page_token: Option<String>,
}

/// Lists jobs.
pub(super) fn jobs(args: &JobsArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
    let client = Client::new(&args.client, environment)?;
    block_on(async {
        let (raw, page) = fetch(&client, args).await?;
        let mut output = stdout().lock();
        let terminal = output.is_terminal();
        if args.client.json {
            let text = String::from_utf8_lossy(&raw);
            let text = if terminal { plain::json(&text) } else { text };
            writeln!(output, "{text}").map_err(cannot_print)?;
            return Ok(ExitCode::SUCCESS);
        }
        let jobs = page.jobs.iter().map(|job| serde_json::from_str(job.get()));
        let jobs: Vec<Job> = jobs
            .collect::<Result<_, _>>()
            .map_err(|error| no_list(&error))?;
        let width = if terminal { width_of(&output) } else { None };
        let table = render(columns(&jobs, terminal), width);
        write!(output, "{table}").map_err(cannot_print)?;
        drop(output);
        if let Some(token) = page.next_page_token {
            let token = plain::line(&token);
            eprintln!("There are more: --page-token {token} goes on from here.");
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn no_list(error: &serde_json::Error) -> Stopped {
    Stopped::Trouble(format!("the server's answer is no list of jobs: {error}"))
}

/// Asks for pages until there are as many jobs as were asked for, or no more. Returns what to print
/// as JSON as well: the server's own document where there was one page.
async fn fetch(client: &Client, args: &JobsArgs) -> Result<(Bytes, Page), Stopped> {
    let names_page = args.page_size.is_some() || args.page_token.is_some();
    let is_one_page = names_page && args.limit.is_none();
    let limit = args.limit.unwrap_or(PAGE_SIZE_DEFAULT);
    let page_max = args.page_size.unwrap_or(PAGE_SIZE_MAX);
    let mut token = args.page_token.clone();
    let mut all: Option<Page> = None;
    loop {
        let have = all.as_ref().map_or(0, |page| page.jobs.len());
        let size = if is_one_page {
            args.page_size
        } else {
            Some((limit - have).min(page_max))
        };
        let call = Call::new(Method::GET, list_path(args, size, token.as_deref()));
        let raw = body(client.call(call).await?).await?;
        let page: Page = serde_json::from_slice(&raw).map_err(|error| no_list(&error))?;
        token.clone_from(&page.next_page_token);
        let is_first = all.is_none();
        let sum = match all.take() {
            None => page,
            Some(mut sum) => {
                sum.jobs.extend(page.jobs);
                sum.next_page_token = page.next_page_token;
                sum
            }
        };
        if is_one_page || token.is_none() || sum.jobs.len() >= limit {
            let raw = if is_first {
                raw
            } else {
                // Writing to memory does not fail, and every key is a string.
                serde_json::to_vec(&sum).unwrap_or_default().into()
            };
            return Ok((raw, sum));
        }
        all = Some(sum);
    }
}

fn list_path(args: &JobsArgs, size: Option<usize>, token: Option<&str>) -> String {
    let mut options: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        options.extend(value.map(|value| (name.to_owned(), value)));
    };
    add("task", args.task.as_ref().map(ToString::to_string));
    add("queue", args.queue.as_ref().map(ToString::to_string));
    add("group", args.group.clone());
    for state in &args.states {
        add("state", Some(state.clone()));
    }
    for (name, value) in &args.tags {
        add(&format!("tag.{name}"), Some(value.clone()));
    }
    add("created_after", args.created_after.clone());
    add("created_before", args.created_before.clone());
    add("page_size", size.map(|size| size.to_string()));
    add("page_token", token.map(ToOwned::to_owned));
    format!("/v1/jobs{}", query(&options))
}

/// Returns the columns of a list: for a person how long ago a job came, for a program when.
fn columns(jobs: &[Job], is_for_person: bool) -> Vec<Column> {
    let now = Clock::system().now().as_millis();
    let column = |header, least, rank, cell: &dyn Fn(&Job) -> String| Column {
        header,
        cells: jobs
            .iter()
            .map(|job| plain::line(&cell(job)).into_owned())
            .collect(),
        least,
        rank,
    };
    let created: (&str, &dyn Fn(&Job) -> String) = if is_for_person {
        ("AGE", &|job| age(&job.created_at, now))
    } else {
        ("CREATED", &|job| job.created_at.clone())
    };
    let mut columns = vec![
        column("ID", None, 0, &|job| job.id.clone()),
        column("STATE", None, 1, &|job| job.state.clone()),
        column("TASK", Some(TEXT_COLUMNS_LEAST), 2, &|job| job.task.clone()),
        column("QUEUE", Some(TEXT_COLUMNS_LEAST), 5, &|job| {
            job.queue.clone()
        }),
        column("ATTEMPT", None, 4, &|job| {
            format!("{}/{}", job.attempt, job.max_attempts)
        }),
        column(created.0, None, 3, created.1),
    ];
    if jobs.iter().any(|job| !labels(job).is_empty()) {
        columns.push(column("LABELS", Some(TEXT_COLUMNS_LEAST), 6, &labels));
    }
    columns
}

/// Returns group and tags in a line.
fn labels(job: &Job) -> String {
    let group = job.group.iter().map(|group| format!("group={group}"));
    let tags = job
        .tags
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    group.chain(tags).collect::<Vec<_>>().join(" ")
}

/// Returns how long ago an instant was, in its greatest unit.
fn age(instant: &str, now_millis: i64) -> String {
    let Ok(instant) = instant.parse::<jiff::Timestamp>() else {
        return instant.to_owned();
    };
    // Clocks of two machines differ: what lies ahead came just now.
    let seconds = (now_millis - instant.as_millisecond()).max(0) / 1_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser;

    #[test]
    fn every_filter_reaches_the_server() {
        let words = "anteroom jobs --task t --queue q --group a&b --state ready,failed --state running \
                     --tag k=v=w --tag l= --created-after 2030-01-31T12:00:00+01:00 \
                     --created-before 2030-02-01T12:00:00Z --page-size 7 --page-token abc";
        let cli = Cli::try_parse_from(words.split_whitespace()).unwrap();
        let Some(Command::Jobs(args)) = cli.command else {
            panic!("{cli:?} is no list");
        };
        let expected = "/v1/jobs?task=t&queue=q&group=a%26b&state=ready&state=failed&state=running\
                        &tag.k=v%3Dw&tag.l=&created_after=2030-01-31T12%3A00%3A00%2B01%3A00\
                        &created_before=2030-02-01T12%3A00%3A00Z&page_size=7&page_token=abc";
        let path = list_path(&args, args.page_size, args.page_token.as_deref());
        assert_eq!(path, expected);
    }

    #[test]
    fn an_age_is_in_its_greatest_unit() {
        let instant = "2026-11-22T12:00:00.000Z";
        let created = instant.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        for (later, expected) in [
            (-5_000, "0s"),
            (59_999, "59s"),
            (60_000, "1m"),
            (7_200_000, "2h"),
            (259_200_000, "3d"),
        ] {
            assert_eq!(age(instant, created + later), expected);
        }
        assert_eq!(age("soon", 0), "soon");
    }
}
