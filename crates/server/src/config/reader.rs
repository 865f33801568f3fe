//! Takes values of one type each out of a parsed document, and notes what is wrong with them.

use super::{Draft, Place, value};
use std::borrow::Cow;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is expected of most values.
pub(super) const A_STRING: &str = "a string";
/// What is expected of a span of time.
pub(super) const A_DURATION: &str = "a duration such as \"30s\"";

/// The keys of a rate.
const RATE_KEYS: &str = "limit, period";

/// A value with its place.
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// Turns values into settings, and mistakes into lines with a place.
pub(super) struct Reader<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
    /// What relative paths in the file are relative to.
    pub(super) folder: &'a Path,
    pub(super) draft: &'a mut Draft,
}

/// Values of one type each; a wrong one is noted and gives none.
impl Reader<'_> {
    pub(super) fn text<'v>(
        &mut self,
        key: &str,
        value: &'v Value<'_>,
        expected: &str,
    ) -> Option<&'v str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(key, value, expected);
        }
        text
    }

    /// Returns how a size is written: as a string, or as a plain number of bytes.
    pub(super) fn size<'v>(&mut self, key: &str, value: &'v Value<'_>) -> Option<Cow<'v, str>> {
        match value.get_ref() {
            DeValue::String(text) => Some(text.as_ref().into()),
            DeValue::Integer(number) => Some(number.to_string().into()),
            _ => {
                self.wrong_type(key, value, "a size such as \"1MiB\" or 4096");
                None
            }
        }
    }

    /// Sets `setting` to the span that the text means, if it lies in `range`.
    pub(super) fn put_span(
        &mut self,
        setting: &mut Duration,
        key: &str,
        value: &Value<'_>,
        range: RangeInclusive<Duration>,
    ) {
        if self.text(key, value, A_DURATION).is_some() {
            self.put(setting, key, value, |text| {
                value::duration_in(text, range.clone())
            });
        }
    }

    /// Sets `setting` to what the text means.
    pub(super) fn put<T>(
        &mut self,
        setting: &mut T,
        key: &str,
        value: &Value<'_>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) {
        let Some(text) = self.text(key, value, A_STRING) else {
            return;
        };
        match parse(text) {
            Ok(parsed) => *setting = parsed,
            Err(refusal) => self.wrong(&value.span(), format!("{key} {refusal}")),
        }
    }

    pub(super) fn texts(
        &mut self,
        key: &str,
        value: &Value<'_>,
        parse: impl Fn(&str) -> Result<String, String>,
    ) -> Vec<String> {
        let Some(list) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "a list of strings");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for (index, element) in list.iter().enumerate() {
            let mut text = String::new();
            self.put(&mut text, &format!("{key}[{index}]"), element, &parse);
            texts.push(text);
        }
        texts
    }

    pub(super) fn truth(&mut self, key: &str, value: &Value<'_>) -> Option<bool> {
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            self.wrong_type(key, value, "true or false");
        }
        truth
    }

    pub(super) fn whole(
        &mut self,
        key: &str,
        value: &Value<'_>,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let DeValue::Integer(written) = value.get_ref() else {
            let (least, most) = range.into_inner();
            let expected = format!("a whole number from {least} to {most}");
            self.wrong_type(key, value, &expected);
            return None;
        };
        let range = i128::from(*range.start())..=i128::from(*range.end());
        let number = i128::from_str_radix(written.as_str(), written.radix()).unwrap_or(i128::MAX);
        match value::in_range(number, written, range, ToString::to_string) {
            Ok(number) => u64::try_from(number).ok(),
            Err(refusal) => {
                self.wrong(&value.span(), format!("{key} {refusal}"));
                None
            }
        }
    }

    /// Reads so many in a period. Something that is missing or wrong is noted and gives none.
    pub(super) fn rate(
        &mut self,
        key: &str,
        value: &Value<'_>,
        (limits, periods): (RangeInclusive<u32>, RangeInclusive<Duration>),
        example: &str,
    ) -> Option<(u32, Duration)> {
        let table = self.table(key, value)?;
        let limits = u64::from(*limits.start())..=u64::from(*limits.end());
        let (mut limit, mut period) = (None, None);
        for (part, value) in table {
            match part.get_ref().as_ref() {
                "limit" => limit = self.whole(&format!("{key}.limit"), value, limits.clone()),
                "period" => {
                    let key = format!("{key}.period");
                    if self.text(&key, value, A_DURATION).is_none() {
                        continue;
                    }
                    self.put(&mut period, &key, value, |text| {
                        let period = value::duration_in(text, periods.clone())?;
                        if !anteroom::core::RateLimit::is_whole_millis(period) {
                            return Err(format!(
                                "is {text}; expected a whole number of milliseconds"
                            ));
                        }
                        Ok(Some(period))
                    });
                }
                other => self.unknown(other, &part.span(), RATE_KEYS),
            }
        }
        if !(table.contains_key("limit") && table.contains_key("period")) {
            let message = format!("{key} is not whole; expected {example}");
            self.wrong(&value.span(), message);
        }
        Some((u32::try_from(limit?).ok()?, period?))
    }

    pub(super) fn number(
        &mut self,
        key: &str,
        value: &Value<'_>,
        (least, most): (f64, f64),
    ) -> Option<f64> {
        let written = match value.get_ref() {
            DeValue::Integer(written) => written.to_string(),
            DeValue::Float(written) => written.to_string(),
            _ => {
                self.wrong_type(key, value, &format!("a number from {least} to {most}"));
                return None;
            }
        };
        // Not a number compares as within any range.
        let number = written.parse().ok().filter(|number: &f64| !number.is_nan());
        let checked = number
            .ok_or_else(|| format!("is {written}; expected a number from {least} to {most}"))
            .and_then(|number| {
                value::in_range(number, &written, least..=most, ToString::to_string)
            });
        match checked {
            Ok(number) => Some(number),
            Err(refusal) => {
                self.wrong(&value.span(), format!("{key} {refusal}"));
                None
            }
        }
    }

    pub(super) fn table<'v, 'i>(
        &mut self,
        key: &str,
        value: &'v Value<'i>,
    ) -> Option<&'v DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(key, value, "a table");
        }
        table
    }

    pub(super) fn wrong_type(&mut self, key: &str, value: &Value<'_>, expected: &str) {
        let (span, found) = (value.span(), value.get_ref().type_str());
        let article = if found.starts_with(['a', 'i']) {
            "an"
        } else {
            "a"
        };
        self.wrong(
            &span,
            format!("{key} is {article} {found}; expected {expected}"),
        );
    }

    pub(super) fn unknown(&mut self, key: &str, at: &Range<usize>, expected: &str) {
        self.wrong(
            at,
            format!("unknown key {key:?}; expected one of {expected}"),
        );
    }

    pub(super) fn wrong(&mut self, at: &Range<usize>, message: impl Into<String>) {
        let place = self.place(at);
        self.draft.wrong(place, message);
    }

    /// Returns the line and the column, counted in characters, where a span begins.
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        let before = &self.text[..self.text.floor_char_boundary(span.start)];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Place::File {
            path: self.path.into(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}
