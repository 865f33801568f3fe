use super::*;

fn cron(text: &str, zone: &str) -> Cron {
    Cron::new(text, Zone::new(zone).unwrap()).unwrap_or_else(|error| panic!("{text} {error}"))
}

fn at(text: &str) -> Timestamp {
    let instant: Instant = text.parse().unwrap();
    Timestamp::from_millis(instant.as_millisecond())
}

/// The firings after an instant, as local times with their offset.
fn firings(text: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let cron = cron(text, zone);
    let next = |before: &Timestamp| cron.next_after(*before);
    let firings = std::iter::successors(Some(at(after)), next)
        .skip(1)
        .take(count);
    let local = |firing: Timestamp| {
        let instant = Instant::from_millisecond(firing.as_millis()).unwrap();
        let zoned = instant.to_zoned(cron.zone().rules.clone());
        zoned.strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
    };
    firings.map(local).collect()
}

#[test]
fn expressions_are_read() {
    for (text, expected) in [
        ("0 3 * * *", "2026-11-29 03:00:00 +00:00"),
        ("30 0 3 * * *", "2026-11-29 03:00:30 +00:00"),
        ("*/15 * * * *", "2026-11-28 12:15:00 +00:00"),
        ("*/10 * * * * *", "2026-11-28 12:00:10 +00:00"),
        ("0 0 1 jan *", "2027-01-01 00:00:00 +00:00"),
        ("0 0 * * mon-FRI", "2026-11-30 00:00:00 +00:00"),
        ("0 0 * * fri-sun", "2026-11-29 00:00:00 +00:00"),
        ("0 0 * * sun-sun", "2026-11-29 00:00:00 +00:00"),
        ("0 0 * * 7", "2026-11-29 00:00:00 +00:00"),
        ("0 0 * * 0", "2026-11-29 00:00:00 +00:00"),
        ("0 0 ? * 2", "2026-12-01 00:00:00 +00:00"),
        ("0 0 L * *", "2026-11-30 00:00:00 +00:00"),
        ("0 0 LW * ?", "2026-11-30 00:00:00 +00:00"),
        ("0 0 13W 12 *", "2026-12-14 00:00:00 +00:00"),
        ("0 0 * * 5L", "2026-12-25 00:00:00 +00:00"),
        ("0 0 * * fri#2", "2026-12-11 00:00:00 +00:00"),
        ("0 0 * * fri#L", "2026-12-25 00:00:00 +00:00"),
        ("0 0 13 * 1", "2026-11-30 00:00:00 +00:00"),
        ("0 0 13 * +5", "2027-08-13 00:00:00 +00:00"),
        ("5-10/2,40 13,14 * * *", "2026-11-28 13:05:00 +00:00"),
        ("\t0  3 * * * ", "2026-11-29 03:00:00 +00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00:00 +00:00"),
        ("0 0 29 2 +1", "2044-02-29 00:00:00 +00:00"),
        ("0 0 31 2 1", "2027-02-01 00:00:00 +00:00"),
    ] {
        let found = firings(text, "UTC", "2026-11-28T12:00:00Z", 1);
        assert_eq!(found, [expected], "{text}");
        assert_eq!(cron(text, "UTC").text(), text);
    }
}

#[test]
fn what_is_wrong_is_named_with_its_field() {
    for (text, expected) in [
        (
            "",
            "has 0 fields; it has 5 (minute, hour, day of month, month, day of week), or 6 with \
              the second first",
        ),
        ("@daily", "has 1 fields"),
        ("* * * *", "has 4 fields"),
        ("0 0 1 1 * 2026 *", "has 7 fields"),
        (
            "60 * * * *",
            "has \"60\" as its minute: 60 is not from 0 to 59",
        ),
        (
            "60 * * * * *",
            "has \"60\" as its second: 60 is not from 0 to 59",
        ),
        (
            "0 24 * * *",
            "has \"24\" as its hour: 24 is not from 0 to 23",
        ),
        (
            "0 0 0 * *",
            "has \"0\" as its day of month: 0 is not from 1 to 31",
        ),
        (
            "0 0 * 13 *",
            "has \"13\" as its month: 13 is not from 1 to 12",
        ),
        (
            "0 0 * * 8",
            "has \"8\" as its day of week: 8 is not from 0 to 7",
        ),
        (
            "0 0 * * jan",
            "has \"jan\" as its day of week: \"jan\" is no number from 0 to 7, or \
                         from SUN to SAT",
        ),
        ("0 0 jan * *", "day of month: \"jan\" is no number"),
        ("mon 0 * * *", "minute: \"mon\" is no number from 0 to 59"),
        ("-1 * * * *", "minute: \"\" is no number"),
        ("+1 * * * *", "minute: \"+1\" is no number"),
        (", * * * *", "minute: an element is empty"),
        ("1,,2 * * * *", "minute: an element is empty"),
        ("*/0 * * * *", "minute: 0 is not from 1 to 60"),
        ("*/61 * * * *", "minute: 61 is not from 1 to 60"),
        ("* */25 * * *", "hour: 25 is not from 1 to 24"),
        (
            "5/10 * * * *",
            "minute: a step is written as */10 or 1-5/10",
        ),
        ("/10 * * * *", "minute: a step is written as"),
        ("*/1/2 * * * *", "minute: \"1/2\" is no number"),
        (
            "* 22-2 * * *",
            "hour: the range 22-2 runs backwards; write 22-23,0-2",
        ),
        ("0 0 * * 1#6", "day of week: 6 is not from 1 to 5"),
        ("0 0 * * L", "day of week: \"\" is no number"),
        ("0 0 W * *", "day of month: \"\" is no number"),
        ("L * * * *", "minute: \"L\" is no number"),
        ("? * * * *", "minute: \"?\" is no number"),
        ("0 0 \u{e4} * *", "day of month: \"\u{e4}\" is no number"),
        (
            "99999999999999999999 * * * *",
            "minute: 99999999999999999999 is not from 0 to 59",
        ),
        (
            "0 0 31 2 *",
            "never fires: there is no day with the day of month \"31\", the month \
                        \"2\" and the day of week \"*\"",
        ),
        ("0 0 30,31 feb *", "never fires"),
        ("0 0 31 4,6,9,11 *", "never fires"),
        ("*/5 0 0 31 2 *", "never fires"),
        ("0 0 1 * +mon#5", "never fires"),
        (&"1,".repeat(200), "is 400 bytes; the limit is 255"),
    ] {
        let error = Cron::new(text, Zone::utc()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn zones_are_those_of_the_database() {
    for (text, expected) in [
        ("Europe/Berlin", Some("Europe/Berlin")),
        ("europe/berlin", Some("Europe/Berlin")),
        ("UTC", Some("UTC")),
        ("Asia/Kathmandu", Some("Asia/Kathmandu")),
        ("Etc/GMT+5", Some("Etc/GMT+5")),
        ("", None),
        ("Berlin", None),
        ("Mars/Olympus", None),
        ("+01:00", None),
        ("Etc/Unknown", None),
        ("CET-1CEST,M3.5.0,M10.5.0/3", None),
        ("../../etc/passwd", None),
        (&"x".repeat(10_000), None),
    ] {
        let zone = Zone::new(text).ok();
        assert_eq!(zone.as_ref().map(Zone::name), expected, "{text}");
    }
    let error = Zone::new("Mars/Olympus").unwrap_err().to_string();
    let expected = "is \"Mars/Olympus\", which is no time zone of the IANA database such as";
    assert!(error.starts_with(expected), "{error}");
}

const BERLIN: &str = "Europe/Berlin";
const LORD_HOWE: &str = "Australia/Lord_Howe";

/// An expression, its zone, an instant, and by hand what comes after it.
type Case<'a> = (&'a str, &'a str, &'a str, &'a [&'a str]);

fn check(cases: &[Case<'_>]) {
    for (text, zone, after, expected) in cases {
        let found = firings(text, zone, after, expected.len());
        assert_eq!(found, *expected, "{text} in {zone}");
    }
}

/// The gap of 2026-03-29: from 02:00 straight to 03:00.
#[test]
fn a_time_that_does_not_exist_fires_right_after_the_gap() {
    check(&[
        (
            "30 2 * * *",
            BERLIN,
            "2026-03-28T12:00:00Z",
            &["2026-03-29 03:00:00 +02:00", "2026-03-30 02:30:00 +02:00"],
        ),
        (
            "0,30 2,3 * * *",
            BERLIN,
            "2026-03-28T12:00:00Z",
            &[
                "2026-03-29 03:00:00 +02:00",
                "2026-03-29 03:30:00 +02:00",
                "2026-03-30 02:00:00 +02:00",
            ],
        ),
        (
            "*/10 59 2 29 3 *",
            BERLIN,
            "2026-03-28T12:00:00Z",
            &["2026-03-29 03:00:00 +02:00", "2027-03-29 02:59:00 +02:00"],
        ),
        (
            "*/30 * * * *",
            BERLIN,
            "2026-03-29T00:15:00Z",
            &[
                "2026-03-29 01:30:00 +01:00",
                "2026-03-29 03:00:00 +02:00",
                "2026-03-29 03:30:00 +02:00",
            ],
        ),
        (
            "30 * * * *",
            BERLIN,
            "2026-03-29T00:15:00Z",
            &["2026-03-29 01:30:00 +01:00", "2026-03-29 03:30:00 +02:00"],
        ),
        (
            "*/20 2 * * *",
            BERLIN,
            "2026-03-28T12:00:00Z",
            &["2026-03-30 02:00:00 +02:00"],
        ),
    ]);
}

/// The overlap of 2026-10-25: 02:00 to 03:00 comes twice.
#[test]
fn a_time_that_exists_twice_fires_the_first_time() {
    check(&[
        (
            "30 2 * * *",
            BERLIN,
            "2026-10-24T12:00:00Z",
            &["2026-10-25 02:30:00 +02:00", "2026-10-26 02:30:00 +01:00"],
        ),
        (
            "30 2 * * *",
            BERLIN,
            "2026-10-25T01:10:00Z",
            &["2026-10-26 02:30:00 +01:00"],
        ),
        (
            "0,30 2,3 * * *",
            BERLIN,
            "2026-10-25T00:15:00Z",
            &[
                "2026-10-25 02:30:00 +02:00",
                "2026-10-25 03:00:00 +01:00",
                "2026-10-25 03:30:00 +01:00",
            ],
        ),
        (
            "0-59 0-59 2 * * *",
            BERLIN,
            "2026-10-25T00:59:59Z",
            &["2026-10-26 02:00:00 +01:00"],
        ),
        (
            "*/30 * * * *",
            BERLIN,
            "2026-10-25T00:15:00Z",
            &[
                "2026-10-25 02:30:00 +02:00",
                "2026-10-25 02:00:00 +01:00",
                "2026-10-25 02:30:00 +01:00",
                "2026-10-25 03:00:00 +01:00",
            ],
        ),
        (
            "0 */2 * * *",
            BERLIN,
            "2026-10-24T23:00:00Z",
            &[
                "2026-10-25 02:00:00 +02:00",
                "2026-10-25 02:00:00 +01:00",
                "2026-10-25 04:00:00 +01:00",
            ],
        ),
    ]);
}

/// Half an hour; at midnight, so that the day begins at 01:00; a whole day that was not.
#[test]
fn strange_changes_follow_the_same_rules() {
    check(&[
        (
            "15 2 * * *",
            LORD_HOWE,
            "2026-10-03T00:00:00Z",
            &["2026-10-04 02:30:00 +11:00", "2026-10-05 02:15:00 +11:00"],
        ),
        (
            "45 1 * * *",
            LORD_HOWE,
            "2026-04-04T00:00:00Z",
            &["2026-04-05 01:45:00 +11:00", "2026-04-06 01:45:00 +10:30"],
        ),
        (
            "*/15 1,2 * * *",
            LORD_HOWE,
            "2026-04-04T14:15:00Z",
            &[
                "2026-04-05 01:30:00 +11:00",
                "2026-04-05 01:45:00 +11:00",
                "2026-04-05 01:30:00 +10:30",
                "2026-04-05 01:45:00 +10:30",
                "2026-04-05 02:00:00 +10:30",
            ],
        ),
        (
            "0 0 4 11 *",
            "America/Sao_Paulo",
            "2018-11-01T00:00:00Z",
            &["2018-11-04 01:00:00 -02:00", "2019-11-04 00:00:00 -03:00"],
        ),
        (
            "0 12 * * *",
            "Pacific/Apia",
            "2011-12-29T00:00:00Z",
            &[
                "2011-12-29 12:00:00 -10:00",
                "2011-12-31 00:00:00 +14:00",
                "2011-12-31 12:00:00 +14:00",
            ],
        ),
    ]);
}

#[test]
fn a_firing_is_never_the_instant_it_is_asked_from() {
    let daily = cron("0 3 * * *", "UTC");
    let (first, second) = (at("2026-11-28T03:00:00Z"), at("2026-11-29T03:00:00Z"));
    assert_eq!(
        daily.next_after(at("2026-11-28T02:59:59.999Z")),
        Some(first)
    );
    assert_eq!(daily.next_after(first), Some(second));
    assert_eq!(
        daily.next_after(at("2026-11-28T03:00:00.001Z")),
        Some(second)
    );
}

#[test]
fn beyond_the_ends_of_time_nothing_fires() {
    let daily = cron("0 3 * * *", "Europe/Berlin");
    for instant in [
        Timestamp::MAX,
        Timestamp::MIN,
        Timestamp::from_millis(i64::MAX / 2),
    ] {
        assert_eq!(daily.next_after(instant), None, "{instant:?}");
    }
    assert_eq!(daily.last_within(Timestamp::MIN, Timestamp::MAX), None);
}

#[test]
fn the_last_firing_is_found_however_many_there_were() {
    for (text, after, until, expected) in [
        (
            "* * * * * *",
            "2000-01-01T00:00:00Z",
            "2026-11-28T12:00:00.500Z",
            Some("2026-11-28T12:00:00Z"),
        ),
        (
            "0 3 * * *",
            "2026-11-01T00:00:00Z",
            "2026-11-28T12:00:00Z",
            Some("2026-11-28T03:00:00Z"),
        ),
        (
            "0 3 * * *",
            "2026-11-01T00:00:00Z",
            "2026-11-28T03:00:00Z",
            Some("2026-11-28T03:00:00Z"),
        ),
        (
            "0 3 * * *",
            "2026-11-28T03:00:00Z",
            "2026-11-29T02:59:59.999Z",
            None,
        ),
        (
            "0 0 29 2 *",
            "2000-03-01T00:00:00Z",
            "2027-01-01T00:00:00Z",
            Some("2024-02-29T00:00:00Z"),
        ),
        (
            "0 3 * * *",
            "2026-11-28T03:00:00Z",
            "2026-11-27T00:00:00Z",
            None,
        ),
    ] {
        let last = cron(text, "UTC").last_within(at(after), at(until));
        assert_eq!(last, expected.map(at), "{text} {after} {until}");
    }
}

/// Made at random of what expressions are made of, always the same ones.
#[test]
fn whatever_is_taken_fires_and_goes_on() {
    const PIECES: [&str; 24] = [
        "*", "0", "1", "5", "7", "12", "23", "29", "31", "59", "60", "JAN", "feb", "SUN", "fri",
        "L", "W", "#2", "#", "/", "-", ",", "?", "+",
    ];
    let mut state = 7_u64;
    let mut draw = |most: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % most
    };
    let mut taken = 0;
    for _ in 0..5_000 {
        let fields = 5 + draw(2);
        let field = |draw: &mut dyn FnMut(usize) -> usize| {
            if draw(3) > 0 {
                return ["*", "*/7", "1-5", "3"][draw(4)].to_owned();
            }
            let count = [1, 1, 1, 2, 3][draw(5)];
            (0..count)
                .map(|_| PIECES[draw(PIECES.len())])
                .collect::<String>()
        };
        let text: Vec<String> = (0..fields).map(|_| field(&mut draw)).collect();
        let text = text.join(" ");
        let zone = Zone::new(["UTC", BERLIN, LORD_HOWE][draw(3)]).unwrap();
        let Ok(cron) = Cron::new(&text, zone) else {
            continue;
        };
        taken += 1;
        let mut last = at("2026-03-28T12:00:00Z");
        for _ in 0..3 {
            let next = cron
                .next_after(last)
                .unwrap_or_else(|| panic!("{text} ends"));
            assert!(next > last, "{text}");
            assert_eq!(cron.last_within(last, next), Some(next), "{text}");
            last = next;
        }
    }
    assert!(taken > 100, "{taken}");
}
