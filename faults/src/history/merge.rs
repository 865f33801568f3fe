//! Reads the files of a history as one stream, in the order of their times.

use super::Line;
use anyhow::{Context, bail};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

/// The lines of several files, earliest first.
///
/// Holds one line of each file at a time. The lines of a file have to be in order by themselves.
pub struct Merged {
    sources: Vec<Source>,
    /// The time of each source's next line.
    next: BinaryHeap<Reverse<(u64, usize)>>,
}

struct Source {
    name: String,
    reader: Box<dyn BufRead>,
    number: usize,
    head: Option<Line>,
}

/// A line with where it was found.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The line.
    pub line: Line,
    /// `FILE:LINE`.
    pub place: String,
}

impl Merged {
    /// Opens `files`.
    ///
    /// # Errors
    ///
    /// When one cannot be opened, or its first line is none of a history.
    pub fn open(files: &[PathBuf]) -> anyhow::Result<Self> {
        let mut readers: Vec<(String, Box<dyn BufRead>)> = Vec::new();
        for path in files {
            let name = path.display().to_string();
            let file = File::open(path).with_context(|| format!("open {name}"))?;
            readers.push((name, Box::new(BufReader::new(file))));
        }
        Self::from_readers(readers)
    }

    /// Reads from readers with a name each.
    ///
    /// # Errors
    ///
    /// When the first line of one is none of a history.
    pub fn from_readers(readers: Vec<(String, Box<dyn BufRead>)>) -> anyhow::Result<Self> {
        let mut merged = Self {
            sources: Vec::new(),
            next: BinaryHeap::new(),
        };
        for (name, reader) in readers {
            merged.sources.push(Source {
                name,
                reader,
                number: 0,
                head: None,
            });
            merged.advance(merged.sources.len() - 1)?;
        }
        Ok(merged)
    }

    /// Returns the next line; none at the end of all files.
    ///
    /// # Errors
    ///
    /// When a line is none of a history, or earlier than the one before it in its file.
    pub fn next_line(&mut self) -> anyhow::Result<Option<Placed>> {
        let Some(Reverse((time, index))) = self.next.pop() else {
            return Ok(None);
        };
        let source = &mut self.sources[index];
        let Some(line) = source.head.take() else {
            bail!("{}: no line where there was one", source.name);
        };
        let place = format!("{}:{}", source.name, source.number);
        self.advance(index)?;
        let source = &self.sources[index];
        if let Some(head) = &source.head
            && head.mono_us < time
        {
            bail!(
                "{}:{}: is {} us earlier than the line before it",
                source.name,
                source.number,
                time - head.mono_us
            );
        }
        Ok(Some(Placed { line, place }))
    }

    fn advance(&mut self, index: usize) -> anyhow::Result<()> {
        let source = &mut self.sources[index];
        let mut text = String::new();
        source.number += 1;
        let bytes = source
            .reader
            .read_line(&mut text)
            .with_context(|| format!("read {}:{}", source.name, source.number))?;
        if bytes == 0 {
            return Ok(());
        }
        let line: Line = serde_json::from_str(&text)
            .with_context(|| format!("{}:{}: no line of a history", source.name, source.number))?;
        self.next.push(Reverse((line.mono_us, index)));
        source.head = Some(line);
        Ok(())
    }
}

impl fmt::Debug for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.sources.iter().map(|source| &source.name).collect();
        f.debug_struct("Merged")
            .field("sources", &names)
            .finish_non_exhaustive()
    }
}
