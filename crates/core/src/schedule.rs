//! When a schedule fires: a cron expression in a time zone, and the next instant that it means.
//!
//! The library reads expressions and finds local times that match; it is never told of a zone. What
//! clock changes make of a local time is decided here, by the contract's three rules, from which the
//! library's own differ (it skips lists and ranges in a gap and fires them twice in an overlap, and
//! gives up in gaps of more than two hours):
//!
//! - a fixed time that does not exist fires at the first instant after the gap;
//! - one that exists twice fires once, the first time;
//! - with a wildcard or a step in the hour or the minute it fires at every instant whose local time
//!   matches, no more and no fewer: time goes by as it does, and the clock is only read.
//!
//! The rules of zones come with the program, so that all nodes of one version agree on every firing,
//! and a machine needs none of its own.

use crate::limits::CRON_BYTES_MAX;
use crate::time::Timestamp;
use croner::Cron as Pattern;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::{DateTime, date};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp as Instant};
use std::fmt;
use std::sync::{Arc, LazyLock};

mod field;

use field::FIELDS;

/// The zones that come with the program.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// How long it takes until the calendar is the same again, its weekdays too.
const CALENDAR_YEARS: i16 = 400;

/// A text that names no time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is {shown:?}, which is no time zone of the IANA database such as Europe/Berlin or UTC")]
pub struct UnknownZone {
    shown: String,
}

/// A time zone of the IANA database. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone {
    name: Arc<str>,
    rules: TimeZone,
}

impl Zone {
    /// Returns the zone of this name, in whatever case.
    ///
    /// # Errors
    ///
    /// [`UnknownZone`].
    pub fn new(name: &str) -> Result<Self, UnknownZone> {
        let unknown = || UnknownZone {
            shown: cut(name).to_owned(),
        };
        // One of the names stands for nothing known.
        if name.len() > CRON_BYTES_MAX || name.eq_ignore_ascii_case("Etc/Unknown") {
            return Err(unknown());
        }
        let rules = ZONES.get(name).map_err(|_| unknown())?;
        Ok(Self {
            name: rules.iana_name().unwrap_or(name).into(),
            rules,
        })
    }

    /// Returns the zone of a schedule that names none.
    pub fn utc() -> Self {
        Self {
            name: "UTC".into(),
            rules: TimeZone::UTC,
        }
    }

    /// Returns its name, as the database writes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the first change of its clock after an instant.
    fn change_after(&self, instant: Instant) -> Option<Instant> {
        let mut changes = self.rules.following(instant);
        changes.next().map(|change| change.timestamp())
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Zone").field(&self.name).finish()
    }
}

/// A text that is no cron expression, and why. Reads after the name of its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CronError {
    /// It has too many bytes.
    #[error("is {bytes} bytes; the limit is {CRON_BYTES_MAX}")]
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// It has too few or too many fields.
    #[error(
        "has {fields} fields; it has 5 (minute, hour, day of month, month, day of week), or 6 with \
         the second first"
    )]
    Fields {
        /// How many it has.
        fields: usize,
    },
    /// One of its fields is wrong.
    #[error("has {text:?} as its {field}: {detail}")]
    Field {
        /// Which.
        field: &'static str,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        detail: String,
    },
    /// No day is ever the one that it asks for.
    #[error(
        "never fires: there is no day with the day of month {day:?}, the month {month:?} and the \
         day of week {weekday:?}"
    )]
    Never {
        /// Its day of month.
        day: String,
        /// Its month.
        month: String,
        /// Its day of week.
        weekday: String,
    },
}

/// A cron expression in a time zone. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cron {
    text: Arc<str>,
    zone: Zone,
    pattern: Arc<Pattern>,
    /// It has a wildcard or a step in the hour or the minute.
    is_by_elapsed_time: bool,
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.zone == other.zone
    }
}

impl Eq for Cron {}

impl Cron {
    /// Reads an expression: five fields, or six with the second first.
    ///
    /// Besides numbers, names of months and weekdays, lists, ranges and steps there are `L` (the last
    /// day), `LW` (the last weekday, Monday to Friday), `15W` (the weekday nearest to the 15th), `5L`
    /// (the last Friday) and `5#2` (the second one). Where both day fields are restricted a day of
    /// either fires; a `+` before the day of week asks for both.
    ///
    /// # Errors
    ///
    /// [`CronError`], also when it would never fire.
    pub fn new(text: &str, zone: Zone) -> Result<Self, CronError> {
        if text.len() > CRON_BYTES_MAX {
            return Err(CronError::TooLong { bytes: text.len() });
        }
        let given: Vec<&str> = text.split_ascii_whitespace().collect();
        if !(5..=6).contains(&given.len()) {
            let fields = given.len();
            return Err(CronError::Fields { fields });
        }
        // Of five, none is the second.
        let fields = &FIELDS[FIELDS.len() - given.len()..];
        let plain = fields.iter().zip(&given);
        let plain: Result<Vec<String>, CronError> =
            plain.map(|(field, text)| field.plain(text)).collect();
        let from_minute = &given[given.len() - 5..];
        let pattern = parse(&plain?.join(" "), from_minute)?;
        Ok(Self {
            text: text.into(),
            zone,
            pattern: Arc::new(pattern),
            is_by_elapsed_time: from_minute[..2].iter().any(|it| it.contains(['*', '/'])),
        })
    }

    /// Returns the expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the zone.
    pub const fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Returns the first instant after `after` at which it fires; none where time ends before.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        // Whole seconds: what lies within one does not count.
        let seconds = after.as_millis().div_euclid(1_000);
        let after = Instant::from_second(seconds).ok()?;
        let next = if self.is_by_elapsed_time {
            self.next_by_elapsed_time(after)
        } else {
            self.next_fixed(after)
        };
        Some(Timestamp::from_millis(next?.as_millisecond()))
    }

    /// Returns the last instant at which it fires that is later than `after` and not later than
    /// `until`, however many there are.
    pub fn last_within(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let fires_by = |from: i64| {
            let next = self.next_after(Timestamp::from_millis(from));
            next.filter(|next| *next <= until)
        };
        let mut last = fires_by(after.as_millis())?;
        // It fires after what lies below and not after what lies above; halved until they meet.
        let mut above = until.as_millis();
        while above - last.as_millis() > 1 {
            let middle = last.as_millis() + (above - last.as_millis()) / 2;
            match fires_by(middle) {
                Some(later) => last = later,
                None => above = middle,
            }
        }
        Some(last)
    }

    /// Every instant whose local time matches.
    fn next_by_elapsed_time(&self, after: Instant) -> Option<Instant> {
        let mut from = after.checked_add(SignedDuration::from_secs(1)).ok()?;
        loop {
            let offset = self.zone.rules.to_offset(from);
            let local = self.matching(offset.to_datetime(from), true)?;
            let instant = offset.to_timestamp(local).ok()?;
            match self.zone.change_after(from) {
                // The clock is changed before: from there on it shows something else.
                Some(change) if change <= instant => from = change,
                Some(_) | None => return Some(instant),
            }
        }
    }

    /// Every local time that matches, each at one instant. Later local times are never earlier
    /// instants, so that the first that is later than `after` is the next.
    fn next_fixed(&self, after: Instant) -> Option<Instant> {
        let mut local = self.zone.rules.to_datetime(after);
        loop {
            local = self.matching(local, false)?;
            let ambiguous = self.zone.rules.to_ambiguous_timestamp(local);
            let instant = match ambiguous.offset() {
                AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok()?,
                // By the offset after the gap it is an instant before the gap.
                AmbiguousOffset::Gap { after: offset, .. } => {
                    let before_gap = offset.to_timestamp(local).ok()?;
                    self.zone.change_after(before_gap)?
                }
                AmbiguousOffset::Fold { before: offset, .. } => {
                    let first = offset.to_timestamp(local).ok()?;
                    if first <= after {
                        // Its first time is over, and so is that of all local times which come twice.
                        let end = offset.to_datetime(self.zone.change_after(first)?);
                        local = end.checked_sub(SignedDuration::from_secs(1)).ok()?;
                        continue;
                    }
                    first
                }
            };
            if instant > after {
                return Some(instant);
            }
        }
    }

    /// Returns the first local time from `from` on that matches, itself included if `inclusive`.
    fn matching(&self, from: DateTime, inclusive: bool) -> Option<DateTime> {
        self.pattern.find_next_occurrence(&from, inclusive).ok()
    }
}

/// Has the library read an expression, and sees that there is a day for it.
fn parse(plain: &str, from_minute: &[&str]) -> Result<Pattern, CronError> {
    let parser = CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Optional)
        .build();
    let whole = |detail: String| CronError::Field {
        field: "fields",
        text: cut(plain).to_owned(),
        detail,
    };
    let pattern = parser
        .parse(plain)
        .map_err(|error| whole(error.to_string()))?;
    let begin = date(2000, 1, 1).at(0, 0, 0, 0);
    // From its end on all days were there before. The year keeps the library from looking on.
    let years = format!("{plain} {}-{}", begin.year(), begin.year() + CALENDAR_YEARS);
    let years = match plain.split(' ').count() {
        5 => format!("0 {years}"),
        _ => years,
    };
    let bounded = parser
        .parse(&years)
        .map_err(|error| whole(error.to_string()))?;
    if bounded.find_next_occurrence(&begin, true).is_err() {
        return Err(CronError::Never {
            day: from_minute[2].to_owned(),
            month: from_minute[3].to_owned(),
            weekday: from_minute[4].to_owned(),
        });
    }
    Ok(pattern)
}

/// Cuts a text that is too long to be told.
fn cut(text: &str) -> &str {
    const SHOWN_BYTES_MAX: usize = 64;
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}

#[cfg(test)]
mod tests;
