//! Times and durations, as they are written on the wire.

use anteroom::core::Timestamp;
use jiff::fmt::friendly::{Designator, Spacing, SpanPrinter};
use jiff::fmt::temporal::DateTimePrinter;
use jiff::{Span, SpanRelativeTo};
use serde::{Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// Reads a duration: friendly (`1h30m`) or ISO 8601 (`PT1H30M`). A day is 24 hours.
///
/// # Errors
///
/// What is wrong, to follow the name of the place.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let malformed = |why: String| {
        format!("is {text:?}, which is no duration such as 30s, 1h30m or PT30S: {why}")
    };
    if let Some(sign) = text
        .chars()
        .find(|character| matches!(character, ':' | '+'))
    {
        return Err(malformed(format!("{sign:?} has no place in one")));
    }
    let span: Span = text
        .parse()
        .map_err(|error: jiff::Error| malformed(error.to_string()))?;
    let signed = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|error| malformed(error.to_string()))?;
    Duration::try_from(signed).map_err(|_| format!("is {text:?}; it is never negative"))
}

/// Reads an instant by RFC 3339, with any offset. There are no leap seconds.
///
/// # Errors
///
/// What is wrong, to follow the name of the place.
pub(crate) fn instant(text: &str) -> Result<Timestamp, String> {
    let malformed = || format!("is {text:?}, which is no time such as 2026-11-22T12:00:00Z");
    let plain = rfc_3339(text).ok_or_else(malformed)?;
    match plain.parse::<jiff::Timestamp>() {
        Ok(instant) => Ok(Timestamp::from_millis(instant.as_millisecond())),
        Err(error) => Err(format!("{}: {error}", malformed())),
    }
}

/// Returns an instant in a form that any reader takes, if it has that of RFC 3339: the reader
/// itself is more generous. That there is such a day is left to it.
fn rfc_3339(text: &str) -> Option<String> {
    const NANOSECOND_DIGITS: usize = 9;
    let (local, rest) = text.split_at_checked("2026-11-22T12:00:00".len())?;
    if !is_like(local, "0000-00-00T00:00:00")
        || &local[11..13] > "23"
        || &local[14..16] > "59"
        || &local[17..19] > "59"
    {
        return None;
    }
    let (fraction, offset) = match rest.strip_prefix('.') {
        Some(after) => {
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 {
                return None;
            }
            (&after[..digits.min(NANOSECOND_DIGITS)], &after[digits..])
        }
        None => ("0", rest),
    };
    let (sign, hours_and_minutes) = match offset.split_at_checked(1)? {
        ("Z" | "z", "") => ("+", "00:00"),
        // The plus of an offset that was not percent-encoded has become a space.
        ("+" | " ", after) => ("+", after),
        ("-", after) => ("-", after),
        (_, _) => return None,
    };
    let is_offset = is_like(hours_and_minutes, "00:00")
        && &hours_and_minutes[..2] <= "23"
        && &hours_and_minutes[3..] <= "59";
    is_offset.then(|| format!("{local}.{fraction}{sign}{hours_and_minutes}"))
}

/// Tells whether there is a digit for every 0 of `form`, and else the same in either case.
fn is_like(text: &str, form: &str) -> bool {
    text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(|(byte, wanted)| {
            if wanted == b'0' {
                byte.is_ascii_digit()
            } else {
                byte.eq_ignore_ascii_case(&wanted)
            }
        })
}

/// An instant to be written: RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instant(pub(crate) Timestamp);

impl Instant {
    /// Returns it in one piece: escaping many small ones costs more than printing.
    pub(crate) fn text(self) -> String {
        const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
        let millis = self.0.as_millis();
        let instant = jiff::Timestamp::from_millisecond(millis).unwrap_or(if millis < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        });
        PRINTER.timestamp_to_string(&instant)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// A duration to be written in the friendly form: `1h30m`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Friendly(pub(crate) Duration);

impl Friendly {
    pub(crate) fn text(self) -> String {
        const PRINTER: SpanPrinter = SpanPrinter::new()
            .designator(Designator::Compact)
            .spacing(Spacing::None);
        PRINTER.unsigned_duration_to_string(&self.0)
    }
}

impl fmt::Display for Friendly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// How long ago something was: `3.2s`, from a minute on in whole seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Age(pub(crate) Duration);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, tenths) = (self.0.as_secs(), self.0.subsec_millis() / 100);
        match (seconds, tenths) {
            (60.., _) | (_, 0) => Friendly(Duration::from_secs(seconds)).fmt(f),
            (_, _) => write!(f, "{seconds}.{tenths}s"),
        }
    }
}

/// In how long something is expected: `87ms`, `3.2s`, from a minute on in whole seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Eta(pub(crate) Duration);

impl Serialize for Eta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&anteroom::clock::about(self.0))
    }
}

impl Serialize for Age {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl Serialize for Friendly {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_friendly_or_iso() {
        for (text, expected) in [
            ("30s", Some(30_000)),
            ("1h30m", Some(5_400_000)),
            ("1h 30m", Some(5_400_000)),
            ("100ms", Some(100)),
            ("1.5s", Some(1_500)),
            ("7d", Some(604_800_000)),
            ("2w", Some(1_209_600_000)),
            ("PT30S", Some(30_000)),
            ("PT1H30M", Some(5_400_000)),
            ("P1D", Some(86_400_000)),
            ("0s", Some(0)),
            ("", None),
            ("30", None),
            ("-5s", None),
            ("-PT5S", None),
            ("5s ago", None),
            ("1mo", None),
            ("P1Y", None),
            ("soon", None),
            ("99999999999999999999s", None),
            ("1:30:00", None),
            ("1h 00:30:00", None),
            ("+30s", None),
            ("+PT30S", None),
        ] {
            let millis = duration(text).ok().map(|span| span.as_millis());
            assert_eq!(millis, expected, "{text}");
        }
    }

    #[test]
    fn durations_are_written_short() {
        for (millis, expected) in [
            (30_000, "30s"),
            (5_400_000, "1h30m"),
            (100, "100ms"),
            (1_500, "1s500ms"),
            (604_800_000, "168h"),
            (0, "0s"),
        ] {
            assert_eq!(
                Friendly(Duration::from_millis(millis)).to_string(),
                expected
            );
        }
    }

    #[test]
    fn ages_are_written_in_tenths_and_read_back() {
        for (millis, expected) in [
            (0, "0s"),
            (99, "0s"),
            (3_249, "3.2s"),
            (59_900, "59.9s"),
            (60_900, "1m"),
            (3_725_000, "1h2m5s"),
        ] {
            let age = Age(Duration::from_millis(millis)).to_string();
            assert_eq!(age, expected);
            assert!(duration(&age).is_ok(), "{age}");
        }
    }

    #[test]
    fn instants_have_any_offset_coming_in_and_none_going_out() {
        for (text, expected) in [
            ("2026-11-22T12:00:00Z", "2026-11-22T12:00:00.000Z"),
            ("2026-11-22T12:00:00.1234Z", "2026-11-22T12:00:00.123Z"),
            ("2026-11-22T13:00:00+01:00", "2026-11-22T12:00:00.000Z"),
            ("2026-11-22T13:00:00 01:00", "2026-11-22T12:00:00.000Z"),
            ("2026-11-22t07:00:00.5-05:00", "2026-11-22T12:00:00.500Z"),
            ("2026-11-22t12:00:00z", "2026-11-22T12:00:00.000Z"),
            ("2026-11-22T12:00:00-00:00", "2026-11-22T12:00:00.000Z"),
            ("2026-11-23T11:59:00+23:59", "2026-11-22T12:00:00.000Z"),
            (
                "2026-11-22T12:00:00.123456789012Z",
                "2026-11-22T12:00:00.123Z",
            ),
        ] {
            assert_eq!(
                Instant(instant(text).unwrap()).to_string(),
                expected,
                "{text}"
            );
        }
        let last = Instant(Timestamp::MAX).to_string();
        assert!(last.starts_with("9999-12-"), "{last}");
    }

    /// The reader below takes all of ISO 8601 and more, and makes a leap second earlier.
    #[test]
    fn what_is_not_rfc_3339_is_no_instant() {
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T12:00:00",
            "1763812800",
            "now",
            "2026-11-22T12:00Z",
            "2026-11-22 12:00:00Z",
            "20261122T120000Z",
            "2026-11-22T12:00:00,5Z",
            "2026-11-22T12:00:00.Z",
            "2026-11-22T12:00:60Z",
            "2026-12-31T23:59:60Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T12:60:00Z",
            "2026-02-30T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-11-22T12:00:00+01",
            "2026-11-22T12:00:00+0100",
            "2026-11-22T12:00:00+24:00",
            "2026-11-22T12:00:00+01:60",
            "2026-11-22T12:00:00+01:00:00",
            "2026-11-22T12:00:00Z[UTC]",
            "2026-11-22T12:00:00+00:00[Europe/Berlin]",
            "+002026-11-22T12:00:00Z",
            "-002026-11-22T12:00:00Z",
            "-026-11-22T12:00:00Z",
            " 2026-11-22T12:00:00Z",
            "2026-11-22T12:00:00Z ",
            "2026-11-22T12:00:0\u{e4}Z",
        ] {
            assert!(instant(text).is_err(), "{text}");
        }
    }
}
