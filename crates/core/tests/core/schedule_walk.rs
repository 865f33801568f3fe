//! When schedules fire, against a walk that looks at every minute of thirty years and knows nothing
//! of how the next one is found.
//!
//! The walk takes from the zones nothing but the offset at an instant, and reads its expressions by
//! itself. All of them are looked at in one pass through the minutes. Every firing near a change of the
//! clock is compared, and of the others some; with `ANTEROOM_WALK=whole` (as `./check soak` has it)
//! many more, in more zones.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use anteroom_core::{Cron, Timestamp, Zone};
use jiff::civil::date;
use jiff::tz::TimeZoneDatabase;

/// Half an hour's change; changes at midnight; a whole day left out; none at all but a strange offset.
const ZONES: [&str; 6] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Pacific/Apia",
    "Asia/Kathmandu",
];
const MORE_ZONES: [&str; 9] = [
    "Africa/Casablanca",
    "America/Caracas",
    "America/Santiago",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Gaza",
    "Asia/Pyongyang",
    "Europe/Istanbul",
    "Pacific/Chatham",
];
const EXPRESSIONS: [&str; 22] = [
    // Fixed.
    "0 0 * * *",
    "30 2 * * *",
    "0 3 * * *",
    "59 1 * * *",
    "0,15,30,45 0,1,2,3 * * *",
    "0-59 2 * * *",
    "0 0-23 * * *",
    "15 2 * * 0",
    "45 1 1,15 * 0",
    "30 0 29 2 *",
    "0 12 30 12 *",
    "5 0 31 1,3,5-8,10,12 *",
    // With a wildcard or a step in the minute or the hour.
    "* * * * *",
    "*/7 * * * *",
    "0 * * * *",
    "30 * * * *",
    "30 */2 * * *",
    "*/20 2 * * *",
    "0 1-5/2 * * *",
    "10-40/15 0-3 * * 6,0",
    "*/30 * 1 */3 *",
    "0 0,*/6 * * 1-5",
];
const DAY: i64 = 24 * 60;
/// The minutes on either side of a change in which every firing is compared.
const NEAR: i64 = 3 * 60;

/// Sets of numbers, as bits.
struct Expression {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    both_days: bool,
    is_by_elapsed_time: bool,
    cron: Cron,
}

impl Expression {
    fn new(text: &str, zone: &str) -> Self {
        let fields: Vec<&str> = text.split(' ').collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            panic!("{text}");
        };
        Self {
            minutes: bits(minute, 0, 59),
            hours: bits(hour, 0, 23),
            days: bits(day, 1, 31),
            months: bits(month, 1, 12),
            weekdays: bits(weekday, 0, 6),
            both_days: day == "*" || weekday == "*",
            is_by_elapsed_time: [minute, hour].iter().any(|it| it.contains(['*', '/'])),
            cron: Cron::new(text, Zone::new(zone).unwrap()).unwrap(),
        }
    }

    fn has_day(&self, day: i64) -> bool {
        let civil = date(1970, 1, 1)
            .checked_add(jiff::Span::new().days(day))
            .unwrap();
        let has = |set: u64, number: i8| set >> number & 1 == 1;
        let of_month = has(self.days, civil.day());
        let of_week = has(self.weekdays, civil.weekday().to_sunday_zero_offset());
        let either = if self.both_days {
            of_month && of_week
        } else {
            of_month || of_week
        };
        either && has(self.months, civil.month())
    }

    fn has_minute(&self, minute_of_day: i64) -> bool {
        self.hours >> (minute_of_day / 60) & 1 == 1 && self.minutes >> (minute_of_day % 60) & 1 == 1
    }
}

/// Reads numbers, lists, ranges, steps and wildcards.
fn bits(field: &str, least: u32, most: u32) -> u64 {
    let mut bits = 0;
    for part in field.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let (begin, end) = match range.split_once('-') {
            Some((begin, end)) => (begin.parse().unwrap(), end.parse().unwrap()),
            None if range == "*" => (least, most),
            None => (range.parse().unwrap(), range.parse().unwrap()),
        };
        for number in (begin..=end).step_by(step.parse().unwrap()) {
            bits |= 1 << number;
        }
    }
    bits
}

/// From which minute on which offset in minutes holds.
fn offsets(zone: &str, begin: i64, end: i64) -> Vec<(i64, i64)> {
    let rules = TimeZoneDatabase::bundled().get(zone).unwrap();
    let offset_at = |minute: i64| {
        let instant = jiff::Timestamp::from_second(minute * 60).unwrap();
        let seconds = rules.to_offset(instant).seconds();
        assert_eq!(seconds % 60, 0, "{zone}");
        i64::from(seconds / 60)
    };
    let mut found = vec![(begin, offset_at(begin))];
    let mut minute = begin;
    while minute < end {
        let next = minute + 6 * 60;
        let held = found.last().unwrap().1;
        if offset_at(next) == held {
            minute = next;
            continue;
        }
        minute = (minute..=next).find(|at| offset_at(*at) != held).unwrap();
        found.push((minute, offset_at(minute)));
    }
    found
}

/// A set of expressions, as bits.
type Which = u32;

struct Walk {
    zone: &'static str,
    all: Vec<Expression>,
    /// Which have a minute of the day.
    by_minute: Vec<Which>,
    by_elapsed_time: Which,
    /// Since when each has not fired.
    last: Vec<i64>,
    /// How often the clock was changed, and when at last.
    changes: usize,
    changed_at: i64,
    is_whole: bool,
    compared: usize,
}

impl Walk {
    fn new(zone: &'static str, begin: i64, is_whole: bool) -> Self {
        let all: Vec<Expression> = EXPRESSIONS
            .iter()
            .map(|text| Expression::new(text, zone))
            .collect();
        let which = |has: &dyn Fn(&Expression) -> bool| -> Which {
            let each = all.iter().enumerate();
            each.map(|(index, it)| Which::from(has(it)) << index).sum()
        };
        Self {
            zone,
            by_minute: (0..DAY)
                .map(|minute| which(&|it| it.has_minute(minute)))
                .collect(),
            by_elapsed_time: which(&|it| it.is_by_elapsed_time),
            last: vec![begin - 1; all.len()],
            all,
            changes: 0,
            changed_at: i64::MIN / 2,
            is_whole,
            compared: 0,
        }
    }

    fn of_day(&self, day: i64) -> Which {
        let each = self.all.iter().enumerate();
        each.map(|(index, it)| Which::from(it.has_day(day)) << index)
            .sum()
    }

    /// Looks at every minute up to `end`.
    fn run(&mut self, begin: i64, end: i64) {
        let offsets = offsets(self.zone, begin, end);
        self.changes = offsets.len() - 1;
        // The latest local time that was seen: what is not later comes for the second time.
        let mut seen = i64::MIN;
        for (index, (from, offset)) in offsets.iter().enumerate() {
            let until = offsets.get(index + 1).map_or(end, |(next, _)| *next);
            let mut made_up = 0;
            if index > 0 {
                self.changed_at = *from;
                for local in seen + 1..from + offset {
                    let of_day = self.of_day(local.div_euclid(DAY));
                    made_up |= of_day & self.by_minute[minute_of(local)] & !self.by_elapsed_time;
                }
            }
            let (mut day, mut of_day) = (i64::MIN, 0);
            for minute in *from..until {
                let local = minute + offset;
                if local.div_euclid(DAY) != day {
                    day = local.div_euclid(DAY);
                    of_day = self.of_day(day);
                }
                let mut fire = of_day & self.by_minute[minute_of(local)];
                if local <= seen {
                    fire &= self.by_elapsed_time;
                }
                fire |= std::mem::take(&mut made_up);
                seen = seen.max(local);
                while fire != 0 {
                    let which = fire.trailing_zeros();
                    let is_near = minute - self.changed_at < NEAR || until - minute < NEAR;
                    self.fires(which as usize, minute, is_near);
                    fire &= fire - 1;
                }
            }
        }
    }

    fn fires(&mut self, which: usize, minute: i64, is_near: bool) {
        let last = std::mem::replace(&mut self.last[which], minute);
        let is_dense = minute - last < DAY / 2;
        let is_near = is_near || last < self.changed_at;
        let one_in = match (is_dense, self.is_whole) {
            (true, false) => 1_999,
            (true, true) => 29,
            (false, false) => 29,
            (false, true) => 1,
        };
        let draw = minute.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.cast_signed()) >> 40;
        if !is_near && draw % one_in != 0 {
            return;
        }
        self.compared += 1;
        let cron = &self.all[which].cron;
        let millis = |minute: i64| minute * 60_000;
        // From the firing before, from within the time between, and from just before.
        let within = millis(last) + millis(minute - last) / 3 + 1;
        for from in [millis(last), within, millis(minute) - 1] {
            let found = cron.next_after(Timestamp::from_millis(from));
            let expected = Some(Timestamp::from_millis(millis(minute)));
            assert_eq!(
                found,
                expected,
                "{} in {}, asked from {from}: expected {}",
                cron.text(),
                self.zone,
                jiff::Timestamp::from_second(minute * 60).unwrap()
            );
        }
    }
}

fn minute_of(local: i64) -> usize {
    usize::try_from(local.rem_euclid(DAY)).unwrap()
}

#[test]
fn the_next_firing_is_the_one_that_a_walk_through_the_minutes_finds() {
    let is_whole = std::env::var_os("ANTEROOM_WALK").is_some_and(|it| it == "whole");
    let minute_at = |year: i16| {
        let begin = date(year, 1, 1).in_tz("UTC").unwrap();
        begin.timestamp().as_second() / 60
    };
    // The day that Samoa left out, and the years to come.
    let (begin, end) = (minute_at(2010), minute_at(2040));
    let zones = ZONES
        .iter()
        .chain(is_whole.then_some(&MORE_ZONES).into_iter().flatten());
    let workers: Vec<_> = zones
        .map(|zone| {
            std::thread::spawn(move || {
                let mut walk = Walk::new(zone, begin, is_whole);
                walk.run(begin, end);
                (*zone, walk)
            })
        })
        .collect();
    for worker in workers {
        let (zone, walk) = worker.join().unwrap();
        let changes = walk.changes;
        println!(
            "{zone}: {changes} changes, {} firings compared",
            walk.compared
        );
        assert!(walk.compared > 5_000, "{zone}: {}", walk.compared);
        for (expression, last) in walk.all.iter().zip(&walk.last) {
            assert!(*last > end - 8 * 366 * DAY, "{}", expression.cron.text());
        }
    }
}
