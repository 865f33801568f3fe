//! Checks single values: texts into durations, sizes, addresses, with what was expected if not.
//!
//! A refusal reads after the key: `timeout` + `is 10ms; the least is 100ms`.

use super::{LogFormat, StoreUrl};
use anteroom::core::Name;
use anteroom::core::limits::CONTENT_TYPE_BYTES_MAX;
use anteroom::run::push::{Push, PushRunner};
use jiff::{SignedDuration, Span, SpanRelativeTo};
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// Returns the duration that `text` spells in the friendly form (`1h30m`) or as ISO 8601.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a duration such as \"30s\", \"1h30m\" or \"PT30S\"";
    let wrong = || format!("is {text:?}; {expected}");
    // Clock times and signs are read below too, but are no duration that the contract knows.
    if text.contains([':', '+']) {
        return Err(wrong());
    }
    let span: Span = text.parse().map_err(|_| wrong())?;
    let days = SpanRelativeTo::days_are_24_hours();
    let signed = span.to_duration(days).map_err(|_| wrong())?;
    Duration::try_from(signed).map_err(|_| format!("is {text:?}; a duration is never negative"))
}

/// Returns the duration that `text` spells, if it lies in `range`.
pub(super) fn duration_in(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    in_range(duration(text)?, &text, range, |limit| {
        SignedDuration::try_from(*limit).map_or_else(|_| "for ever".into(), |it| format!("{it:#}"))
    })
}

/// Returns how many bytes `text` spells (`1MiB`, `64 kB`, `4096`), if they lie in `range`.
pub(super) fn bytes(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let wrong = || format!("is {text:?}; expected a size such as \"1MiB\", \"64KiB\" or 4096");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(wrong()),
    };
    let bytes = usize::try_from(number.saturating_mul(unit)).unwrap_or(usize::MAX);
    in_range(bytes, &text, range, |limit| show_bytes(*limit))
}

/// Writes a size with the largest unit that divides it.
pub(super) fn show_bytes(bytes: usize) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let fitting = units
        .iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match fitting {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None if bytes == 1 => "1 byte".into(),
        None => format!("{bytes} bytes"),
    }
}

/// Returns `value` if it lies in `range`; it is called `text` in the refusal.
pub(super) fn in_range<T: PartialOrd>(
    value: T,
    text: &dyn fmt::Display,
    range: RangeInclusive<T>,
    show: impl Fn(&T) -> String,
) -> Result<T, String> {
    let (least, most) = range.into_inner();
    if value < least {
        Err(format!("is {text}; the least is {}", show(&least)))
    } else if value > most {
        Err(format!("is {text}; the most is {}", show(&most)))
    } else {
        Ok(value)
    }
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("is {text:?}; expected an IP address and a port such as \"127.0.0.1:8080\"")
    })
}

/// Returns the store that `text` names; a relative path in it is relative to `folder`.
pub(super) fn store(text: &str, folder: &Path) -> Result<StoreUrl, String> {
    let expected =
        "expected \"sqlite:PATH\", \"postgres://USER:PASSWORD@HOST/DATABASE\" or \"memory:\"";
    match text.split_once(':') {
        Some(("memory", "")) => Ok(StoreUrl::Memory),
        Some(("sqlite", "")) => Err(format!("is {text:?}, without a path; {expected}")),
        Some(("sqlite", path)) => Ok(StoreUrl::Sqlite(folder.join(path))),
        Some(("postgres" | "postgresql", _)) => postgres(text),
        // What nobody knows the meaning of may hold a password.
        Some((scheme, rest)) if rest.contains('@') => {
            Err(format!("has the scheme {scheme:?}; {expected}"))
        }
        _ => Err(format!("is {text:?}; {expected}")),
    }
}

#[cfg(feature = "postgres")]
fn postgres(text: &str) -> Result<StoreUrl, String> {
    // Its refusals repeat nothing that may hold a password.
    let url = anteroom::store::postgres::PostgresUrl::new(text);
    url.map(|url| StoreUrl::Postgres(Box::new(url)))
        .map_err(|error| error.to_string())
}

#[cfg(not(feature = "postgres"))]
fn postgres(_text: &str) -> Result<StoreUrl, String> {
    Err("is on PostgreSQL, and this anteroom was built without it (feature postgres)".to_owned())
}

pub(super) fn truth(text: &str) -> Result<bool, String> {
    text.parse()
        .map_err(|_| format!("is {text:?}; expected true or false"))
}

/// Returns an origin as browsers send it: scheme, host and port, nothing after them.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let wrong = || format!("is {text:?}; expected an origin such as \"https://app.example.com\"");
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .ok_or_else(wrong)?;
    let authority: http::uri::Authority = host.parse().map_err(|_| wrong())?;
    let is_plain =
        !authority.as_str().contains('@') && !host.bytes().any(|b| b.is_ascii_uppercase());
    if is_plain {
        Ok(text.into())
    } else {
        Err(wrong())
    }
}

/// Returns the URL of a service to push to.
pub(super) fn push_url(text: &str) -> Result<String, String> {
    let push = Push {
        url: text.into(),
        ..Push::default()
    };
    match PushRunner::new(push) {
        Ok(_) => Ok(text.into()),
        Err(refused) => Err(refused.to_string()),
    }
}

pub(super) fn media_type(text: &str) -> Result<String, String> {
    let wrong = || format!("is {text:?}; expected a media type such as \"text/plain\"");
    if text.len() > CONTENT_TYPE_BYTES_MAX {
        let bytes = text.len();
        return Err(format!(
            "is {bytes} bytes; the limit is {CONTENT_TYPE_BYTES_MAX}"
        ));
    }
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    let (kind, subtype) = essence.split_once('/').ok_or_else(wrong)?;
    let is_token = |part: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+%'*`|~".contains(&b);
        !part.is_empty() && part.bytes().all(fits)
    };
    let is_printable = text
        .bytes()
        .all(|b| b == b'\t' || (b' '..=b'~').contains(&b));
    if is_token(kind) && is_token(subtype) && is_printable {
        Ok(text.into())
    } else {
        Err(wrong())
    }
}

/// Tells whether a media type is JSON, or something written in it.
pub(super) fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// Returns the name of a task or queue that is not kept for the server's own use.
pub(super) fn name(text: &str) -> Result<Name, String> {
    let name = Name::new(text).map_err(|error| format!("{text:?} {error}"))?;
    if name.is_reserved() {
        return Err(format!(
            "{text:?} begins with \"anteroom.\", which is kept for the server's own use"
        ));
    }
    Ok(name)
}

pub(super) fn log_filter(text: &str) -> Result<Targets, String> {
    text.parse().map_err(|_| {
        format!("is {text:?}; expected a level such as \"info\", or \"target=level,…\"")
    })
}

pub(super) fn log_filter_default() -> Targets {
    Targets::new().with_default(LevelFilter::INFO)
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("is {text:?}; expected \"text\" or \"json\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_friendly_or_iso_8601() {
        let cases = [
            ("30s", Some(30_000)),
            ("100ms", Some(100)),
            ("1h30m", Some(5_400_000)),
            ("1h 30m", Some(5_400_000)),
            ("PT30S", Some(30_000)),
            ("7d", Some(604_800_000)),
            ("P7D", Some(604_800_000)),
            ("1w", Some(604_800_000)),
            ("0s", Some(0)),
            ("", None),
            ("30", None),
            ("soon", None),
            ("-1s", None),
            ("1s ago", None),
            ("1 month", None),
            ("1:30:00", None),
            ("+30s", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(duration(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        let cases = [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("1KiB", Some(1024)),
            ("64 kib", Some(65_536)),
            ("1MB", Some(1_000_000)),
            ("16MiB", Some(16_777_216)),
            ("1GiB", Some(1_073_741_824)),
            ("", None),
            ("MiB", None),
            ("1.5MiB", None),
            ("-1", None),
            ("1 bit", None),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text, 0..=usize::MAX).ok(), expected, "{text}");
        }
        let refusal = bytes("99999999999999999999GiB", 1..=10);
        assert!(refusal.is_err(), "{refusal:?}");
        assert_eq!(
            bytes("2MiB", 1..=1 << 20),
            Err("is 2MiB; the most is 1MiB".into())
        );
    }

    #[test]
    fn a_value_out_of_range_is_told_its_limit() {
        let range = Duration::from_millis(100)..=Duration::from_hours(1);
        let short = duration_in("10ms", range.clone());
        assert_eq!(short, Err("is 10ms; the least is 100ms".into()));
        let long = duration_in("2h", range);
        assert_eq!(long, Err("is 2h; the most is 1h".into()));
    }

    #[test]
    fn a_store_is_named_by_a_url() {
        let folder = Path::new("/etc/anteroom");
        let sqlite = |path: &str| Ok(StoreUrl::Sqlite(path.into()));
        assert_eq!(store("memory:", folder), Ok(StoreUrl::Memory));
        assert_eq!(
            store("sqlite:jobs.db", folder),
            sqlite("/etc/anteroom/jobs.db")
        );
        assert_eq!(store("sqlite:/var/jobs.db", folder), sqlite("/var/jobs.db"));
        for bad in [
            "",
            "jobs.db",
            "sqlite:",
            "memory:x",
            "redis:x",
            "mysql://u:secret@h/d",
            "postgres:u:secret@h/d",
            "postgres://u:secret@h",
            "postgres://u:secret@h/d?pool=7",
        ] {
            let refusal = store(bad, folder).unwrap_err();
            assert!(!refusal.contains("secret"), "{refusal}");
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_store_on_postgresql_is_shown_without_its_password() {
        let text = "postgresql://u:secret@db.example:6432/jobs?sslmode=verify-full";
        let url = store(text, Path::new("/")).unwrap();
        assert_eq!(url.to_string(), "postgres://u:***@db.example:6432/jobs");
        assert!(!format!("{url:?}").contains("secret"));
    }

    #[test]
    fn origins_and_media_types_are_checked() {
        for good in ["http://localhost:3000", "https://app.example.com"] {
            assert_eq!(origin(good).as_deref(), Ok(good));
        }
        for bad in [
            "*",
            "null",
            "https://a/",
            "https://A",
            "ftp://a",
            "https://",
            "https://a@b",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
        for good in [
            "text/plain",
            "application/json; charset=utf-8",
            "image/svg+xml",
        ] {
            assert!(media_type(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "text",
            "text/",
            "/plain",
            "te xt/plain",
            "text/plain\n",
            "text/plain;\u{e4}",
        ] {
            assert!(media_type(bad).is_err(), "{bad}");
        }
    }
}
