//! The fields of a cron expression: what may stand in each, and what is wrong where something else
//! does.
//!
//! The library takes more than it says (a month's name for a weekday, an empty list that never ends),
//! and its errors name no field. So each is checked here first, and handed on in plain numbers.

use super::{CronError, cut};
use std::ops::RangeInclusive;

/// A field of an expression.
#[derive(Debug)]
pub(super) struct Field {
    name: &'static str,
    least: u8,
    most: u8,
    /// Words for numbers, from `first_word` on.
    words: &'static [&'static str],
    first_word: u8,
    days: Days,
}

/// What a field says of days besides numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Days {
    None,
    OfMonth,
    OfWeek,
}

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// All of them, in their order; without the first there are five.
pub(super) const FIELDS: [Field; 6] = [
    Field::of_numbers("second", 0, 59),
    Field::of_numbers("minute", 0, 59),
    Field::of_numbers("hour", 0, 23),
    Field {
        days: Days::OfMonth,
        ..Field::of_numbers("day of month", 1, 31)
    },
    Field {
        words: &MONTHS,
        first_word: 1,
        ..Field::of_numbers("month", 1, 12)
    },
    Field {
        words: &WEEKDAYS,
        days: Days::OfWeek,
        ..Field::of_numbers("day of week", 0, 7)
    },
];

impl Field {
    const fn of_numbers(name: &'static str, least: u8, most: u8) -> Self {
        Self {
            name,
            least,
            most,
            words: &[],
            first_word: 0,
            days: Days::None,
        }
    }

    /// Returns what stands in the field in plain numbers.
    ///
    /// # Errors
    ///
    /// [`CronError::Field`].
    pub(super) fn plain(&self, text: &str) -> Result<String, CronError> {
        let wrong = |detail| CronError::Field {
            field: self.name,
            text: cut(text).to_owned(),
            detail,
        };
        let (sign, list) = match text.strip_prefix('+') {
            Some(list) if self.days == Days::OfWeek => ("+", list),
            Some(_) | None => ("", text),
        };
        if list == "?" && self.days != Days::None {
            return Ok(format!("{sign}*"));
        }
        let parts: Result<Vec<String>, String> =
            list.split(',').map(|part| self.part(part)).collect();
        Ok(format!("{sign}{}", parts.map_err(wrong)?.join(",")))
    }

    /// Reads an element of a list.
    fn part(&self, part: &str) -> Result<String, String> {
        if part.is_empty() {
            return Err("an element is empty".to_owned());
        }
        if let Some((base, step)) = part.split_once('/') {
            let range = match base {
                "*" => base.to_owned(),
                _ if base.contains('-') => self.range(base)?,
                _ => return Err(format!("a step is written as */{step} or 1-5/{step}")),
            };
            let step = self.number(step, 1..=self.most - self.least + 1)?;
            return Ok(format!("{range}/{step}"));
        }
        if part == "*" {
            return Ok(part.to_owned());
        }
        if let Some(special) = self.special(part) {
            return special;
        }
        if part.contains('-') {
            return self.range(part);
        }
        Ok(self.value(part)?.to_string())
    }

    /// Reads what only a field of days has; none where it is nothing of the like.
    fn special(&self, part: &str) -> Option<Result<String, String>> {
        let upper = part.to_ascii_uppercase();
        match self.days {
            Days::None => None,
            Days::OfMonth => match upper.strip_suffix('W') {
                _ if upper == "L" || upper == "LW" => Some(Ok(upper)),
                Some(day) => Some(self.value(day).map(|day| format!("{day}W"))),
                None => None,
            },
            Days::OfWeek => match upper.split_once('#') {
                Some((day, "L")) => Some(self.value(day).map(|day| format!("{day}L"))),
                Some((day, nth)) => Some(self.nth(day, nth)),
                None => {
                    let day = upper.strip_suffix('L')?;
                    Some(self.value(day).map(|day| format!("{day}L")))
                }
            },
        }
    }

    fn nth(&self, day: &str, nth: &str) -> Result<String, String> {
        let (day, nth) = (self.value(day)?, self.number(nth, 1..=5)?);
        Ok(format!("{day}#{nth}"))
    }

    fn range(&self, text: &str) -> Result<String, String> {
        let (begin, end) = text.split_once('-').unwrap_or((text, text));
        let (begin, mut end) = (self.value(begin)?, self.value(end)?);
        // As the end of a range, Sunday is the last day of the week.
        if self.days == Days::OfWeek && end == 0 && begin > 0 {
            end = self.most;
        }
        if begin > end {
            let Self { least, most, .. } = self;
            return Err(format!(
                "the range {text} runs backwards; write {begin}-{most},{least}-{end}"
            ));
        }
        Ok(format!("{begin}-{end}"))
    }

    fn value(&self, text: &str) -> Result<u8, String> {
        let mut words = (self.first_word..).zip(self.words);
        match words.find(|(_, word)| word.eq_ignore_ascii_case(text)) {
            Some((number, _)) => Ok(number),
            None => self.number(text, self.least..=self.most),
        }
    }

    fn number(&self, text: &str, range: RangeInclusive<u8>) -> Result<u8, String> {
        let (least, most) = (range.start(), range.end());
        let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if is_digits && range.contains(&number) => Ok(number),
            _ if is_digits => Err(format!("{} is not from {least} to {most}", cut(text))),
            _ => {
                let or_word = match self.words {
                    [one, .., end] => format!(", or from {one} to {end}"),
                    _ => String::new(),
                };
                let text = cut(text);
                Err(format!(
                    "{text:?} is no number from {least} to {most}{or_word}"
                ))
            }
        }
    }
}
