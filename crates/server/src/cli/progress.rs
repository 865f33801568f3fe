//! A line on the terminal that says how a job is getting on, drawn anew in its place.
//!
//! It is for people: where standard error is no terminal there is none.

use super::plain;
use super::show::{Job, Progress, Waiting};
use super::table::cut;
use anteroom::clock::Clock;
use std::io::{IsTerminal, Write, stderr};
use std::pin::pin;
use std::time::Duration;
use terminal_size::terminal_size_of;
use tokio::time::Instant;
use unicode_width::UnicodeWidthStr;

/// Columns of a terminal that does not say how wide it is.
const WIDTH_DEFAULT: usize = 80;
/// How often the line is drawn for the time in it.
const TICK: Duration = Duration::from_secs(1);

/// The line. It is gone when it is dropped.
#[derive(Debug)]
pub(super) struct Line {
    is_shown: bool,
    began_at: Instant,
    /// What is said of the job, without the time.
    text: String,
    /// Columns that are written on.
    drawn: usize,
}

impl Line {
    /// Returns a line that is shown where standard error is a terminal.
    pub(super) fn new() -> Self {
        Self {
            is_shown: stderr().is_terminal(),
            began_at: Instant::now(),
            text: String::new(),
            drawn: 0,
        }
    }

    pub(super) const fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// Shows how the job stands.
    pub(super) fn show(&mut self, job: &Job) {
        self.say(describe(job));
    }

    /// Shows this.
    pub(super) fn say(&mut self, text: String) {
        self.text = text;
        self.draw();
    }

    /// Does something, and draws the line meanwhile, since time goes on.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if !self.is_shown {
            return work.await;
        }
        let clock = Clock::system();
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = clock.sleep(TICK) => self.draw(),
            }
        }
    }

    fn draw(&mut self) {
        if !self.is_shown {
            return;
        }
        let width = width_of(&stderr()).unwrap_or(WIDTH_DEFAULT);
        let elapsed = elapsed(self.began_at.elapsed());
        let text = format!("{}, {elapsed}", self.text);
        // A line that fills the last column wraps on some terminals.
        self.write(&cut(&text, width.saturating_sub(1)));
    }

    /// Writes over what is there, without sequences that a plain terminal might not know.
    fn write(&mut self, text: &str) {
        let columns = text.width();
        let rest = " ".repeat(self.drawn.saturating_sub(columns));
        let back = if rest.is_empty() {
            String::new()
        } else {
            format!("{rest}\r{text}")
        };
        let mut terminal = stderr().lock();
        // A terminal that is gone has nobody before it.
        let _unseen = write!(terminal, "\r{text}{back}").and_then(|()| terminal.flush());
        self.drawn = columns;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.drawn > 0 {
            self.write("");
        }
    }
}

/// Returns how many columns the terminal has; none if it is none.
pub(super) fn width_of(terminal: &impl std::os::fd::AsFd) -> Option<usize> {
    terminal_size_of(terminal).map(|(width, _)| usize::from(width.0))
}

fn describe(job: &Job) -> String {
    let mut parts = vec![plain::line(&job.state).into_owned()];
    if job.cancel_requested && !job.done {
        parts.push("told to stop".to_owned());
    }
    if job.attempt > 0 {
        parts.push(format!("attempt {} of {}", job.attempt, job.max_attempts));
    }
    parts.extend(job.waiting.as_ref().and_then(Waiting::position_text));
    parts.extend(job.progress.as_ref().and_then(Progress::text));
    parts.join(", ")
}

/// Returns a span in whole seconds.
fn elapsed(span: Duration) -> String {
    let seconds = span.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_is_known() {
        let mut job = serde_json::json!({
            "id": "019", "task": "t", "queue": "default", "group": null, "state": "ready",
            "done": false, "attempt": 0, "max_attempts": 5, "created_at": "C",
        });
        let line = |job: &serde_json::Value| {
            describe(&serde_json::from_value::<Job>(job.clone()).unwrap())
        };
        assert_eq!(line(&job), "ready");
        job["waiting"] = serde_json::json!({"position": 12, "exact": true, "reasons": []});
        assert_eq!(line(&job), "ready, position 12");
        job["waiting"] = serde_json::json!({"position": 1200, "exact": false, "reasons": []});
        assert_eq!(line(&job), "ready, position about 1200");
        job["waiting"] = serde_json::Value::Null;
        job["state"] = "running".into();
        job["attempt"] = 2.into();
        job["progress"] = serde_json::json!({"fraction": 0.456, "message": "half\u{1b}[2Jway"});
        assert_eq!(
            line(&job),
            "running, attempt 2 of 5, 45 % half\\u{1b}[2Jway"
        );
        job["cancel_requested"] = true.into();
        job["progress"] = serde_json::json!({"fraction": null, "message": null});
        assert_eq!(line(&job), "running, told to stop, attempt 2 of 5");
    }

    #[test]
    fn spans_are_whole_seconds() {
        for (seconds, expected) in [(0, "0 s"), (61, "1 min 01 s"), (3_725, "1 h 02 min")] {
            assert_eq!(elapsed(Duration::from_secs(seconds)), expected);
        }
    }
}
