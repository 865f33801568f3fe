//! Reads `[queues.NAME]`.

use super::reader::{Reader, Value};
use super::value;
use anteroom::core::limits::{
    QUEUE_CONCURRENCY_MAX, QUEUE_DEPTH_MAX, RATE_LIMIT_MAX, RATE_PERIOD_MAX, RATE_PERIOD_MIN,
};
use anteroom::core::{QueueSettings, RateLimit};
use toml::de::{DeTable, DeValue};

/// The keys of a queue.
const QUEUE_KEYS: &str = "max_concurrency, max_depth, rate_limit, group_concurrency";

impl Reader<'_> {
    pub(super) fn queues(&mut self, value: &Value<'_>) {
        let Some(queues) = self.table("queues", value) else {
            return;
        };
        for (key, value) in queues {
            let text = key.get_ref().as_ref();
            let name = match value::name(text) {
                Ok(name) => name,
                Err(refusal) => {
                    self.wrong(&key.span(), format!("queue {refusal}"));
                    continue;
                }
            };
            if let Some(table) = self.table(&format!("queues.{name}"), value) {
                let settings = self.queue(table);
                self.draft.config.queues.insert(name, settings);
            }
        }
    }

    fn queue(&mut self, table: &DeTable<'_>) -> QueueSettings {
        let mut settings = QueueSettings::default();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "max_depth" => {
                    settings.max_depth = self.whole("max_depth", value, 1..=QUEUE_DEPTH_MAX);
                }
                "max_concurrency" => {
                    settings.max_concurrency = self.concurrency("max_concurrency", value);
                }
                "group_concurrency" => {
                    settings.group_concurrency = self.concurrency("group_concurrency", value);
                }
                "rate_limit" => settings.rate_limit = self.start_rate(value),
                other => self.unknown(other, &key.span(), QUEUE_KEYS),
            }
        }
        settings
    }

    /// Reads how many jobs may run at once. None at all would be a pause that nobody sees.
    fn concurrency(&mut self, key: &str, value: &Value<'_>) -> Option<u64> {
        if is_zero(value) {
            let message = format!(
                "{key} is 0; the least is 1. To start no jobs, pause the queue: `anteroom pause`"
            );
            self.wrong(&value.span(), message);
            return None;
        }
        self.whole(key, value, 1..=QUEUE_CONCURRENCY_MAX)
    }

    fn start_rate(&mut self, value: &Value<'_>) -> Option<RateLimit> {
        let key = "rate_limit";
        let example = "{ limit = 100, period = \"1s\" }";
        let ranges = (1..=RATE_LIMIT_MAX, RATE_PERIOD_MIN..=RATE_PERIOD_MAX);
        let (limit, period) = self.rate(key, value, ranges, example)?;
        Some(RateLimit { limit, period })
    }
}

fn is_zero(value: &Value<'_>) -> bool {
    let DeValue::Integer(written) = value.get_ref() else {
        return false;
    };
    i128::from_str_radix(written.as_str(), written.radix()) == Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::load_text;

    /// Loads a queue with these lines, which must be refused with each beginning.
    fn told(cases: &[(&str, &str)]) {
        for (lines, expected) in cases {
            let error = load_text(&format!("[queues.q]\n{lines}"));
            let error = error.unwrap_err().to_string();
            let expected = format!("anteroom.toml:{expected}");
            assert!(
                error.starts_with(&expected),
                "{lines}\ngave     {error}\nexpected {expected}"
            );
            assert_eq!(error.lines().count(), 1, "{lines}\ngave {error}");
        }
    }

    #[test]
    fn a_mistake_in_a_count_is_told_with_its_place_and_the_bounds() {
        told(&[
            ("max_depth = 0", "2:13: max_depth is 0; the least is 1"),
            (
                "max_depth = 1000000001",
                "2:13: max_depth is 1000000001; the most is 1000000000",
            ),
            (
                "max_concurrency = 0",
                "2:19: max_concurrency is 0; the least is 1. To start no jobs, pause the queue",
            ),
            (
                "max_concurrency = -1",
                "2:19: max_concurrency is -1; the least is 1",
            ),
            (
                "max_concurrency = 1_000_001",
                "2:19: max_concurrency is 1000001; the most is 1000000",
            ),
            (
                "max_concurrency = \"8\"",
                "2:19: max_concurrency is a string; expected a whole number from 1 to 1000000",
            ),
            (
                "group_concurrency = 0x0",
                "2:21: group_concurrency is 0; the least is 1. To start no jobs, pause the queue",
            ),
            (
                "group_concurrency = 1.5",
                "2:21: group_concurrency is a float; expected a whole number from 1 to 1000000",
            ),
            (
                "paused = true",
                "2:1: unknown key \"paused\"; expected one of max_concurrency, max_depth, ",
            ),
        ]);
    }

    #[test]
    fn a_mistake_in_a_rate_is_told_with_its_place_and_the_bounds() {
        told(&[
            (
                "rate_limit = 100",
                "2:14: rate_limit is an integer; expected a table",
            ),
            (
                "rate_limit = { limit = 100 }",
                "2:14: rate_limit is not whole; expected { limit = 100, period = \"1s\" }",
            ),
            (
                "rate_limit = { limit = 0, period = \"1s\" }",
                "2:24: rate_limit.limit is 0; the least is 1",
            ),
            (
                "rate_limit = { limit = 1000001, period = \"1s\" }",
                "2:24: rate_limit.limit is 1000001; the most is 1000000",
            ),
            (
                "rate_limit = { limit = 1, period = 1 }",
                "2:36: rate_limit.period is an integer; expected a duration such as \"30s\"",
            ),
            (
                "rate_limit = { limit = 1, period = \"0s\" }",
                "2:36: rate_limit.period is 0s; the least is 1ms",
            ),
            (
                "rate_limit = { limit = 1, period = \"32d\" }",
                "2:36: rate_limit.period is 32d; the most is 744h",
            ),
            (
                "rate_limit = { limit = 1, period = \"1.5ms\" }",
                "2:36: rate_limit.period is 1.5ms; expected a whole number of milliseconds",
            ),
            (
                "rate_limit = { limit = 1, period = \"1s\", burst = 3 }",
                "2:42: unknown key \"burst\"; expected one of limit, period",
            ),
        ]);
    }

    #[test]
    fn limits_may_be_the_least_and_the_greatest() {
        for lines in [
            "max_depth = 1\nmax_concurrency = 1\ngroup_concurrency = 1",
            "max_concurrency = 1_000_000\ngroup_concurrency = 0xF4240",
            "rate_limit = { limit = 1, period = \"1ms\" }",
            "rate_limit = { limit = 1_000_000, period = \"P31D\" }",
            "rate_limit = { period = \"1h 30m\", limit = 7 }",
            "rate_limit.limit = 7\nrate_limit.period = \"0.5s\"",
        ] {
            let loaded = load_text(&format!("[queues.q]\n{lines}"));
            let queues = loaded.map(|loaded| loaded.config.queues.len());
            assert_eq!(queues.ok(), Some(1), "{lines}");
        }
    }
}
