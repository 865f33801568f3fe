//! What a submit asks for, as a digest: what tells the same again from something else.
//!
//! It covers the input's bytes, the media type and the options as they were parsed: `delay=60s` is
//! `delay=1m`, and their order does not matter. Not covered are the task and whose key it is, which
//! are a part of what the key is looked up by. Digests are kept over restarts and upgrades: an
//! option that is not given adds nothing, so that one that a later version knows changes no digest
//! of a submit without it.

use crate::callback::CallbackUrl;
use crate::submit::{StartAt, Submission};
use anteroom_core::{Fingerprint, Payload};
use sha2::{Digest, Sha256};

/// What the digest begins with, so that no other digest of ours is ever the same.
const DOMAIN: &[u8] = b"anteroom submit 1";

impl Submission {
    /// Returns the digest of what it asks for.
    pub fn fingerprint(&self) -> Fingerprint {
        // Each of them named: a new option has to be thought of.
        let Self {
            task: _,
            input: Payload {
                content_type,
                bytes,
            },
            queue,
            group,
            priority,
            start,
            max_attempts,
            timeout,
            start_before,
            retain,
            unique_key,
            callback_url,
            tags,
            idempotency: _,
        } = self;
        let mut fields = Fields(Sha256::new());
        fields.add("", DOMAIN);
        fields.add("input", bytes);
        fields.add("content_type", media_type(content_type).as_bytes());
        fields.add_some("queue", queue.as_deref());
        fields.add_some("group", group.as_deref());
        fields.add_some("priority", priority.map(|priority| [priority.get()]));
        match start {
            None => {}
            Some(StartAt::In(delay)) => fields.add("delay", &delay.as_nanos().to_be_bytes()),
            Some(StartAt::At(at)) => fields.add("run_at", &at.as_millis().to_be_bytes()),
        }
        fields.add_some("max_attempts", max_attempts.map(u32::to_be_bytes));
        fields.add_some("timeout", timeout.map(|span| span.as_nanos().to_be_bytes()));
        fields.add_some(
            "start_before",
            start_before.map(|at| at.as_millis().to_be_bytes()),
        );
        fields.add_some("retain", retain.map(|span| span.as_nanos().to_be_bytes()));
        fields.add_some("unique_key", unique_key.as_deref());
        fields.add_some(
            "callback_url",
            callback_url.as_ref().map(CallbackUrl::as_str),
        );
        for (name, value) in tags {
            // No option has a full stop in its name.
            fields.add(&format!("tag.{name}"), value.as_bytes());
        }
        Fingerprint(fields.0.finalize().into())
    }
}

/// Named values in a row, each after its length, so that no two rows are the same bytes.
struct Fields(Sha256);

impl Fields {
    fn add(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), value] {
            self.0.update((part.len() as u64).to_be_bytes());
            self.0.update(part);
        }
    }

    fn add_some(&mut self, name: &str, value: Option<impl AsRef<[u8]>>) {
        if let Some(value) = value {
            self.add(name, value.as_ref());
        }
    }
}

/// Type and subtype are the same in either case; parameters are taken as they are.
fn media_type(text: &str) -> String {
    match text.split_once(';') {
        None => text.trim().to_ascii_lowercase(),
        Some((essence, parameters)) => {
            let essence = essence.trim().to_ascii_lowercase();
            format!("{essence};{}", parameters.trim())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_core::{Idempotency, IdempotencyKey, Label, Name, Priority, Timestamp};
    use std::time::Duration;

    fn submission() -> Submission {
        let input = Payload {
            content_type: "text/plain".into(),
            bytes: "hello".into(),
        };
        Submission::new(Name::new("task").unwrap(), input)
    }

    fn altered(alter: impl FnOnce(&mut Submission)) -> Submission {
        let mut submission = submission();
        alter(&mut submission);
        submission
    }

    #[test]
    fn whatever_is_asked_for_tells_submits_apart() {
        let name = |text| Name::new(text).ok();
        let label = |text| Label::new(text).ok();
        let second = Duration::from_secs(1);
        let instant = Timestamp::from_millis(1_000);
        let tagged = |name: &str, value: &str| {
            let tag = (Name::new(name).unwrap(), value.to_owned());
            altered(|it| it.tags.extend([tag]))
        };
        let all = [
            submission(),
            altered(|it| it.input.bytes = "hell".into()),
            altered(|it| it.input.content_type = "text/html".into()),
            altered(|it| it.input.content_type = "text/plain;charset=utf-8".into()),
            altered(|it| it.queue = name("a")),
            altered(|it| it.queue = name("b")),
            altered(|it| it.group = label("a")),
            altered(|it| it.unique_key = label("a")),
            altered(|it| it.callback_url = CallbackUrl::new("http://a/").ok()),
            altered(|it| it.callback_url = CallbackUrl::new("http://a").ok()),
            altered(|it| it.priority = Some(Priority::default())),
            altered(|it| it.priority = Priority::new(1).ok()),
            altered(|it| it.start = Some(StartAt::In(second))),
            altered(|it| it.start = Some(StartAt::At(instant))),
            altered(|it| it.start_before = Some(instant)),
            altered(|it| it.max_attempts = Some(1)),
            altered(|it| it.timeout = Some(second)),
            altered(|it| it.retain = Some(second)),
            tagged("a", "b"),
            tagged("a", ""),
            tagged("ab", ""),
            tagged("queue", "a"),
        ];
        for (n, one) in all.iter().enumerate() {
            for (m, other) in all.iter().enumerate() {
                let same = one.fingerprint() == other.fingerprint();
                assert_eq!(same, n == m, "{one:?}\n{other:?}");
            }
        }
    }

    #[test]
    fn what_is_no_part_of_what_is_asked_for_does_not_count() {
        let key = IdempotencyKey::new("key").unwrap();
        let scope = "web".into();
        for same in [
            altered(|it| it.idempotency = Some(Idempotency { scope, key })),
            altered(|it| it.task = Name::new("other").unwrap()),
            altered(|it| it.input.content_type = "Text/Plain ".into()),
        ] {
            assert_eq!(same.fingerprint(), submission().fingerprint(), "{same:?}");
        }
    }

    /// A digest of another version that differed would refuse a replay after an upgrade.
    #[test]
    fn a_digest_stays_what_it_is() {
        let Fingerprint(digest) = altered(|it| {
            it.queue = Name::new("q").ok();
            it.start = Some(StartAt::In(Duration::from_mins(1)));
        })
        .fingerprint();
        let hex = digest.map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(
            hex,
            "1b7840da1f8a55b71f051401fec62a1cabeb6c88375b4ad2f476956966c951f0"
        );
    }
}
