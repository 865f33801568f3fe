//! Reads `[queues.NAME]`.

use super::reader::{Reader, Value};
use super::value;
use anteroom::core::QueueSettings;
use anteroom::core::limits::QUEUE_DEPTH_MAX;
use toml::de::DeTable;

/// The keys of a queue.
const QUEUE_KEYS: &str = "max_depth";

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
                key_text @ ("max_concurrency" | "rate_limit" | "group_concurrency") => {
                    let message = format!("{key_text} of a queue is not supported by this version");
                    self.wrong(&key.span(), message);
                }
                other => self.unknown(other, &key.span(), QUEUE_KEYS),
            }
        }
        settings
    }
}
