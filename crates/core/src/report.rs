//! What an attempt says while it runs: how far it has come, and lines of a log.

use crate::limits::REPORT_BYTES_MAX;
use std::fmt;

/// Something that an attempt says while it runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// How far it has come.
    Progress(Progress),
    /// A line of its log.
    Log {
        /// Where the line came from.
        stream: LogStream,
        /// The line, without its end, at most [`REPORT_BYTES_MAX`] bytes.
        line: String,
    },
}

impl Report {
    /// Returns a line of a log, cut to what is kept.
    pub fn log(stream: LogStream, line: impl Into<String>) -> Self {
        let line = cut(line.into());
        Self::Log { stream, line }
    }

    /// Returns the bytes that count towards what is kept.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Progress(progress) => progress.message().map_or(0, str::len),
            Self::Log { line, .. } => line.len(),
        }
    }
}

/// How far an attempt has come: a part of the whole, words, or both.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    fraction: Option<f64>,
    message: Option<String>,
}

impl Progress {
    /// Returns a progress, or none where nothing is said: `fraction` is brought within 0 to 1, and
    /// what is no number is left out; `message` is cut to what is kept.
    pub fn new(fraction: Option<f64>, message: Option<String>) -> Option<Self> {
        let fraction = fraction
            .filter(|fraction| !fraction.is_nan())
            // Adding zero makes one zero of the two.
            .map(|fraction| fraction.clamp(0.0, 1.0) + 0.0);
        let message = message.filter(|message| !message.is_empty()).map(cut);
        (fraction.is_some() || message.is_some()).then_some(Self { fraction, message })
    }

    /// Returns the part that is done, from 0 to 1.
    pub const fn fraction(&self) -> Option<f64> {
        self.fraction
    }

    /// Returns the words.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

/// Where a line of a log came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// The work itself called it a line of its log.
    Log,
    /// A program wrote it to its standard error.
    Stderr,
}

impl LogStream {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Log, Self::Stderr];

    /// Returns the word on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Stderr => "stderr",
        }
    }

    /// Returns the stream with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.as_str() == word)
    }
}

impl fmt::Display for LogStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an attempt said since it was last written down.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reports {
    /// How many came before `list` that are not told, as there were too many at once.
    pub skipped: u64,
    /// What it said, oldest first.
    pub list: Vec<Report>,
}

impl Reports {
    /// Tells whether there is nothing to write down.
    pub const fn is_empty(&self) -> bool {
        self.skipped == 0 && self.list.is_empty()
    }

    /// Returns how many it said.
    pub const fn count(&self) -> u64 {
        self.skipped.saturating_add(self.list.len() as u64)
    }

    /// Returns the bytes of what is told.
    pub fn bytes(&self) -> usize {
        self.list.iter().map(Report::bytes).sum()
    }

    /// Returns the latest progress in it.
    pub fn progress(&self) -> Option<&Progress> {
        self.list.iter().rev().find_map(|report| match report {
            Report::Progress(progress) => Some(progress),
            Report::Log { .. } => None,
        })
    }
}

fn cut(mut text: String) -> String {
    if text.len() > REPORT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(REPORT_BYTES_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_is_a_part_of_the_whole() {
        for (given, kept) in [
            (0.25, Some(0.25)),
            (-3.0, Some(0.0)),
            (-0.0, Some(0.0)),
            (7.0, Some(1.0)),
            (f64::INFINITY, Some(1.0)),
            (f64::NAN, None),
        ] {
            let progress = Progress::new(Some(given), None);
            let fraction = progress.and_then(|progress| progress.fraction());
            assert_eq!(
                fraction.map(f64::to_bits),
                kept.map(f64::to_bits),
                "{given}"
            );
        }
        assert_eq!(Progress::new(None, Some(String::new())), None);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let line = format!("a{}", "\u{e4}".repeat(REPORT_BYTES_MAX));
        let report = Report::log(LogStream::Log, line.clone());
        assert_eq!(report.bytes(), REPORT_BYTES_MAX - 1);
        let progress = Progress::new(None, Some(line));
        let message = progress.as_ref().and_then(Progress::message);
        assert_eq!(message.map(str::len), Some(REPORT_BYTES_MAX - 1));
    }

    #[test]
    fn every_stream_has_a_word_of_its_own() {
        for stream in LogStream::ALL {
            assert_eq!(LogStream::from_word(stream.as_str()), Some(stream));
        }
        assert_eq!(LogStream::from_word("nope"), None);
    }
}
