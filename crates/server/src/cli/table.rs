//! A table for people: aligned, and on a terminal no wider than that is.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Between two columns.
const GAP: usize = 2;
/// What stands for what was cut off.
const CUT: char = '…';

/// A column, with a cell for each row.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) header: &'static str,
    pub(super) cells: Vec<String>,
    /// Columns that it may be cut to; none: it is never cut.
    pub(super) least: Option<usize>,
    /// The greatest is left out first where there is no room; 0 never is.
    pub(super) rank: u8,
}

impl Column {
    fn natural(&self) -> usize {
        let widths = self.cells.iter().map(|cell| cell.width());
        widths.chain([self.header.len()]).max().unwrap_or(0)
    }

    fn least(&self) -> usize {
        let natural = self.natural();
        self.least.map_or(natural, |least| least.min(natural))
    }
}

/// Writes the columns side by side, within `width` if there is one.
pub(super) fn render(mut columns: Vec<Column>, width: Option<usize>) -> String {
    let width = width.unwrap_or(usize::MAX);
    let sum = |widths: &mut dyn Iterator<Item = usize>| -> usize {
        let (count, sum) = widths.fold((0, 0), |(count, sum), width| (count + 1, sum + width));
        sum + GAP * usize::saturating_sub(count, 1)
    };
    while sum(&mut columns.iter().map(Column::least)) > width {
        let ranks = columns.iter().map(|column| column.rank).enumerate();
        match ranks.max_by_key(|(_, rank)| *rank) {
            Some((at, rank)) if rank > 0 => drop(columns.remove(at)),
            _ => break,
        }
    }
    let mut widths: Vec<usize> = columns.iter().map(Column::natural).collect();
    while sum(&mut widths.iter().copied()) > width {
        let can_shrink = |at: &usize| widths[*at] > columns[*at].least();
        let widest = (0..columns.len())
            .filter(can_shrink)
            .max_by_key(|at| widths[*at]);
        let Some(at) = widest else { break };
        widths[at] -= 1;
    }
    let rows = columns.first().map_or(0, |column| column.cells.len());
    let mut text = String::new();
    write_row(&mut text, columns.iter().map(|it| it.header), &widths);
    for row in 0..rows {
        write_row(&mut text, columns.iter().map(|it| &*it.cells[row]), &widths);
    }
    text
}

fn write_row<'a>(text: &mut String, cells: impl Iterator<Item = &'a str>, widths: &[usize]) {
    let mut padding = 0;
    for (cell, width) in cells.zip(widths) {
        let cell = cut(cell, *width);
        if !cell.is_empty() {
            text.extend(std::iter::repeat_n(' ', padding));
            padding = 0;
        }
        text.push_str(&cell);
        padding += width.saturating_sub(cell.width()) + GAP;
    }
    text.push('\n');
}

/// Returns as much of a text as fits into `width` columns.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut taken = 1;
    for character in text.chars() {
        taken += character.width().unwrap_or(0);
        if taken > width {
            break;
        }
        short.push(character);
    }
    if width > 0 {
        short.push(CUT);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Column> {
        let column = |header, cells: [&str; 2], least, rank| Column {
            header,
            cells: cells.map(str::to_owned).to_vec(),
            least,
            rank,
        };
        vec![
            column("ID", ["abcdef", "b"], None, 0),
            column("TASK", ["a-long-name", "x"], Some(4), 1),
            column("TAGS", ["", "colour=red"], Some(6), 2),
        ]
    }

    #[test]
    fn it_takes_the_room_that_there_is() {
        for (width, expected) in [
            (
                None,
                "ID      TASK         TAGS\nabcdef  a-long-name\nb       x            colour=red\n",
            ),
            (
                Some(31),
                "ID      TASK         TAGS\nabcdef  a-long-name\nb       x            colour=red\n",
            ),
            (
                Some(24),
                "ID      TASK     TAGS\nabcdef  a-long…\nb       x        colour…\n",
            ),
            (
                Some(20),
                "ID      TASK  TAGS\nabcdef  a-l…\nb       x     colou…\n",
            ),
            (Some(19), "ID      TASK\nabcdef  a-long-name\nb       x\n"),
            (Some(12), "ID      TASK\nabcdef  a-l…\nb       x\n"),
            (Some(5), "ID\nabcdef\nb\n"),
        ] {
            let table = render(columns(), width);
            assert_eq!(table, expected, "{width:?}");
            let widest = table.lines().map(UnicodeWidthStr::width).max().unwrap();
            assert!(widest <= width.unwrap_or(99).max(6), "{width:?}: {table}");
        }
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("abc", 1), "…");
        assert_eq!(cut("abc", 0), "");
    }
}
