//! A strict reader of what `GET /metrics` says, in both formats.

use std::collections::BTreeMap;

type Labels = BTreeMap<String, String>;

/// Which of the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Prometheus,
    OpenMetrics,
}

/// A metric with all its series, under the name by which Prometheus stores it.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    help: String,
    pub(crate) samples: Vec<Sample>,
}

#[derive(Debug)]
pub(crate) struct Sample {
    name: String,
    pub(crate) labels: Labels,
    value: f64,
}

/// All there is in a scrape.
#[derive(Debug)]
pub(crate) struct Scrape(pub(crate) BTreeMap<String, Family>);

impl Scrape {
    /// Reads a page, and fails on whatever the format does not allow.
    pub(crate) fn read(page: &str, format: Format) -> Self {
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let body = match format {
            Format::Prometheus => page,
            Format::OpenMetrics => page.strip_suffix("# EOF\n").expect("it ends with its end"),
        };
        assert!(body.ends_with('\n'), "the last line ends");
        let mut current = String::new();
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help has a text");
                assert!(is_name(name), "{line}");
                assert!(!help.trim().is_empty() && !help.contains('\\'), "{line}");
                name.clone_into(&mut current);
                let family = Family {
                    help: help.to_owned(),
                    ..Family::default()
                };
                let before = families.insert(current.clone(), family);
                assert!(before.is_none(), "twice: {line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type has a word");
                assert_eq!(name, current, "{line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                let family = families.get_mut(name).unwrap();
                assert!(
                    family.kind.is_empty() && family.samples.is_empty(),
                    "{line}"
                );
                kind.clone_into(&mut family.kind);
            } else if let Some(rest) = line.strip_prefix("# UNIT ") {
                assert_eq!(format, Format::OpenMetrics, "{line}");
                let (name, unit) = rest.split_once(' ').expect("a unit has a word");
                assert_eq!(name, current, "{line}");
                assert!(name.ends_with(&format!("_{unit}")), "{line}");
            } else {
                let sample = sample(line);
                let family = families.get_mut(&current).expect("a sample has a family");
                family.admits(&current, &sample, format);
                family.samples.push(sample);
            }
        }
        for (name, family) in &families {
            assert!(!family.kind.is_empty() && !family.help.is_empty(), "{name}");
            if family.kind == "histogram" {
                family.is_histogram(name);
            }
        }
        let stored = families.into_iter().map(|(name, family)| {
            let is_short = format == Format::OpenMetrics && family.kind == "counter";
            (if is_short { name + "_total" } else { name }, family)
        });
        Self(stored.collect())
    }

    /// Returns the value of a series, by the name of its sample and all of its labels.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let labels: Labels = labels.collect();
        let samples = self.0.values().flat_map(|family| &family.samples);
        let mut samples = samples.filter(|sample| sample.name == name && sample.labels == labels);
        samples.next().map(|sample| sample.value)
    }

    /// Checks the value of a series, a whole number.
    pub(crate) fn counts(&self, name: &str, labels: &[(&str, &str)], expected: u32) {
        let value = self.value(name, labels);
        assert_eq!(
            value,
            Some(f64::from(expected)),
            "{name} {labels:?} in {self:#?}"
        );
    }
}

impl Family {
    /// Checks that a sample belongs here, and is not there yet.
    fn admits(&self, name: &str, sample: &Sample, format: Format) {
        let suffix = sample
            .name
            .strip_prefix(name)
            .expect("it is of this family");
        let suffixes: &[&str] = match (&*self.kind, format) {
            ("counter", Format::OpenMetrics) => &["_total"],
            ("counter", Format::Prometheus) => &[""],
            ("histogram", _) => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        assert!(
            suffixes.contains(&suffix),
            "{sample:?} of {name}, a {}",
            self.kind
        );
        assert_eq!(
            suffix == "_bucket",
            sample.labels.contains_key("le"),
            "{sample:?}"
        );
        if self.kind == "counter" {
            assert!(
                name.ends_with("_total") == (format == Format::Prometheus),
                "{name}"
            );
            assert!(sample.value >= 0.0, "{sample:?}");
        }
        let is_same = |it: &&Sample| it.name == sample.name && it.labels == sample.labels;
        let before = self.samples.iter().find(is_same);
        assert!(before.is_none(), "twice: {sample:?}");
    }

    /// Checks that each series of a histogram adds up.
    fn is_histogram(&self, name: &str) {
        let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        let rest = |sample: &Sample| -> Labels {
            let labels = sample.labels.clone().into_iter();
            labels.filter(|(name, _)| name != "le").collect()
        };
        for sample in &self.samples {
            let series = buckets.entry(rest(sample)).or_default();
            if let Some(bound) = sample.labels.get("le") {
                series.push((number(bound), sample.value));
            }
        }
        for (labels, buckets) in buckets {
            let rises = |pair: &[(f64, f64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
            assert!(
                buckets.windows(2).all(rises),
                "{name} {labels:?}: {buckets:?}"
            );
            let (bound, all) = *buckets.last().expect("a histogram has buckets");
            assert!(bound.is_infinite(), "{name} {labels:?}");
            let of = |suffix: &str| {
                let wanted = format!("{name}{suffix}");
                let mut samples = self.samples.iter();
                samples
                    .find(|it| it.name == wanted && rest(it) == labels)
                    .map(|it| it.value)
            };
            assert_eq!(of("_count"), Some(all), "{name} {labels:?}");
            assert!(
                of("_sum").is_some_and(|sum| sum >= 0.0),
                "{name} {labels:?}"
            );
        }
    }
}

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    !text.is_empty() && text.bytes().all(fits) && !text.as_bytes()[0].is_ascii_digit()
}

fn number(text: &str) -> f64 {
    if text == "+Inf" {
        return f64::INFINITY;
    }
    let value: f64 = text.parse().expect("it is a number");
    assert!(value.is_finite(), "{text}");
    value
}

/// Reads `name{label="value",…} number`.
fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).expect("a sample has a value");
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").expect("a label has a value");
            assert!(is_name(label), "{line}");
            let (value, after) = quoted(after);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            if let Some(after) = after.strip_prefix(',') {
                rest = after;
                continue;
            }
            rest = after.strip_prefix('}').expect("the labels end");
            break;
        }
    }
    let value = rest.strip_prefix(' ').expect("a space before the value");
    Sample {
        name: name.to_owned(),
        labels,
        value: number(value),
    }
}

/// Reads to the closing quote, and returns what comes after it as well.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => match characters.next().expect("something is escaped").1 {
                'n' => value.push('\n'),
                escaped @ ('\\' | '"') => value.push(escaped),
                other => panic!("\\{other} is no escape"),
            },
            other => value.push(other),
        }
    }
    panic!("no end of {text:?}");
}
