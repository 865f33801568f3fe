//! The members of an envelope, each read by its type: a submission, or what is wrong with it.

use super::super::body;
use super::super::limits::OPTION_BYTES_MAX;
use super::super::problem::Kind;
use super::super::submit::{ahead, span};
use super::mistakes::{self, Mistakes, Place};
use super::{Bounds, InputMember, Keep, Members};
use anteroom::core::limits::{
    AHEAD_MAX, MAX_ATTEMPTS_MAX, PRIORITY_MAX, RETAIN_MAX, TAG_VALUE_BYTES_MAX, TAGS_MAX,
    TIMEOUT_MAX, TIMEOUT_MIN,
};
use anteroom::core::{Idempotency, IdempotencyKey, Label, Name, Payload, Priority};
use anteroom::{CallbackUrl, StartAt, Submission};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A member of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Task,
    Input,
    InputBase64,
    ContentType,
    Queue,
    Group,
    Priority,
    Delay,
    RunAt,
    MaxAttempts,
    Timeout,
    StartBefore,
    UniqueKey,
    Retain,
    CallbackUrl,
    Tags,
    IdempotencyKey,
}

impl Member {
    /// All of them, in the order of their declaration.
    pub(super) const ALL: [Self; 17] = [
        Self::Task,
        Self::Input,
        Self::InputBase64,
        Self::ContentType,
        Self::Queue,
        Self::Group,
        Self::Priority,
        Self::Delay,
        Self::RunAt,
        Self::MaxAttempts,
        Self::Timeout,
        Self::StartBefore,
        Self::UniqueKey,
        Self::Retain,
        Self::CallbackUrl,
        Self::Tags,
        Self::IdempotencyKey,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Input => "input",
            Self::InputBase64 => "input_base64",
            Self::ContentType => "content_type",
            Self::Queue => "queue",
            Self::Group => "group",
            Self::Priority => "priority",
            Self::Delay => "delay",
            Self::RunAt => "run_at",
            Self::MaxAttempts => "max_attempts",
            Self::Timeout => "timeout",
            Self::StartBefore => "start_before",
            Self::UniqueKey => "unique_key",
            Self::Retain => "retain",
            Self::CallbackUrl => "callback_url",
            Self::Tags => "tags",
            Self::IdempotencyKey => "idempotency_key",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|member| member.name() == name)
    }
}

/// What stands there is wrong, which is noted.
struct Noted;

/// Reads the members of one envelope.
pub(super) struct Read<'m> {
    bounds: &'m Bounds,
    mistakes: &'m mut Mistakes,
    place: Place,
}

impl<'m> Read<'m> {
    /// Returns a reader of the envelope that is the whole body, or an element of its array.
    pub(super) fn new(
        bounds: &'m Bounds,
        mistakes: &'m mut Mistakes,
        element: Option<usize>,
    ) -> Self {
        Self {
            bounds,
            mistakes,
            place: Place::envelope(element),
        }
    }

    /// Makes a submission of the members; what is wrong with them is noted.
    pub(super) fn submission(
        mut self,
        members: &Members<'_>,
        keep: &mut dyn Keep,
    ) -> Option<(Submission, InputMember)> {
        let task = self.task(members);
        let (input, input_member) = self.input(members, keep);
        let now = self.bounds.now;
        let (queue, group) = (self.queue(members), self.label(members, Member::Group));
        let priority = self.whole_number(members, Member::Priority, 0..=i64::from(PRIORITY_MAX));
        let start = self.start(members);
        let attempts = 1..=i64::from(MAX_ATTEMPTS_MAX);
        let max_attempts = self.whole_number(members, Member::MaxAttempts, attempts);
        let timeout = self.span(members, Member::Timeout, TIMEOUT_MIN..=TIMEOUT_MAX);
        // That it has passed is for the engine to say: of a replay it is none the worse.
        let start_before = self.value(members, Member::StartBefore, |text| ahead(text, now));
        let retain = self.span(members, Member::Retain, Duration::ZERO..=RETAIN_MAX);
        let tags = self.tags(members);
        let unique_key = self.label(members, Member::UniqueKey);
        let key = self.value(members, Member::IdempotencyKey, IdempotencyKey::new);
        let scope = &self.bounds.key_scope;
        let idempotency = key.map(|key| Idempotency {
            scope: scope.clone(),
            key,
        });
        let callback_url = self.value(members, Member::CallbackUrl, CallbackUrl::new);
        let submission = Submission {
            queue,
            group,
            priority: priority.and_then(|number| Priority::new(number).ok()),
            start,
            max_attempts: max_attempts.and_then(|number| u32::try_from(number).ok()),
            timeout,
            start_before,
            retain,
            unique_key,
            callback_url,
            tags,
            idempotency,
            ..Submission::new(task?, input?)
        };
        Some((submission, input_member))
    }

    fn wrong(&mut self, member: Member, detail: impl Into<String>) {
        self.mistakes.add(&self.place.of(member.name()), detail);
    }

    /// Reads a member that is a text; one that is null is not given.
    fn text<'a>(&mut self, members: &Members<'a>, member: Member) -> Option<Cow<'a, str>> {
        let value = given(members, member)?;
        let Some(text) = string(value) else {
            self.wrong(member, format!("is {}; it is a string", kind_of(value)));
            return None;
        };
        if text.len() > OPTION_BYTES_MAX {
            let bytes = text.len();
            let detail = format!("is {bytes} bytes; the limit is {OPTION_BYTES_MAX}");
            self.wrong(member, detail);
            return None;
        }
        Some(text)
    }

    /// Reads a member that is a text with a meaning.
    fn value<T, E: fmt::Display>(
        &mut self,
        members: &Members<'_>,
        member: Member,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(members, member)?;
        let value = read(&text);
        value
            .map_err(|error| self.wrong(member, error.to_string()))
            .ok()
    }

    fn whole_number(
        &mut self,
        members: &Members<'_>,
        member: Member,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        let value = given(members, member)?;
        match value.get().parse() {
            Ok(number) if range.contains(&number) => return Some(number),
            Ok(_) | Err(_) => {}
        }
        let (least, most) = (range.start(), range.end());
        let is = match kind_of(value) {
            "a number" => mistakes::cut(value.get()),
            other => other.to_owned(),
        };
        let detail = format!("is {is}; it is a whole number from {least} to {most}");
        self.wrong(member, detail);
        None
    }

    fn span(
        &mut self,
        members: &Members<'_>,
        member: Member,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.value(members, member, |text| span(text, range))
    }

    fn label(&mut self, members: &Members<'_>, member: Member) -> Option<Label> {
        self.value(members, member, Label::new)
    }

    fn task(&mut self, members: &Members<'_>) -> Option<Name> {
        if given(members, Member::Task).is_none() {
            self.wrong(Member::Task, "is missing; it names the task");
            return None;
        }
        let text = self.text(members, Member::Task)?;
        match Name::new(&text) {
            Ok(name) => Some(name),
            Err(error) => {
                let place = self.place.of(Member::Task.name());
                let detail = format!("names no task: the name {error}");
                self.mistakes.add_kind(Kind::UnknownTask, &place, detail);
                None
            }
        }
    }

    fn queue(&mut self, members: &Members<'_>) -> Option<Name> {
        let queue = self.value(members, Member::Queue, Name::new)?;
        if queue.is_reserved() {
            let place = self.place.of(Member::Queue.name());
            let detail = format!("{queue} begins with what the server keeps for itself");
            self.mistakes.add_kind(Kind::UnknownQueue, &place, detail);
            return None;
        }
        Some(queue)
    }

    fn start(&mut self, members: &Members<'_>) -> Option<StartAt> {
        let now = self.bounds.now;
        let delay = self.span(members, Member::Delay, Duration::ZERO..=AHEAD_MAX);
        let run_at = self.value(members, Member::RunAt, |text| ahead(text, now));
        let is_given = |member| given(members, member).is_some();
        if is_given(Member::Delay) && is_given(Member::RunAt) {
            for (member, other) in [(Member::Delay, "run_at"), (Member::RunAt, "delay")] {
                let detail = format!("and {other} exclude each other; give one of them");
                self.wrong(member, detail);
            }
        }
        delay.map(StartAt::In).or(run_at.map(StartAt::At))
    }

    fn tags(&mut self, members: &Members<'_>) -> BTreeMap<Name, String> {
        let Some(value) = given(members, Member::Tags) else {
            return BTreeMap::new();
        };
        let Ok(given) = serde_json::from_str::<Tags<'_>>(value.get()) else {
            let detail = format!(
                "is {}; it is an object of strings, such as {{\"user\": \"ann\"}}",
                kind_of(value)
            );
            self.wrong(Member::Tags, detail);
            return BTreeMap::new();
        };
        if given.count > TAGS_MAX {
            let detail = format!("are {}; the limit is {TAGS_MAX}", given.count);
            self.wrong(Member::Tags, detail);
        }
        let mut tags = BTreeMap::new();
        for (name, value) in given.pairs {
            if let Err(detail) = add_tag(&mut tags, &name, value) {
                let place = self.place.of(Member::Tags.name()).of(&mistakes::cut(&name));
                self.mistakes.add(&place, detail);
            }
        }
        tags
    }

    /// Reads the input, by whichever of its two members, with its content type.
    fn input(
        &mut self,
        members: &Members<'_>,
        keep: &mut dyn Keep,
    ) -> (Option<Payload>, InputMember) {
        let content_type = self.content_type(members);
        // A null is an input: the one that consists of it.
        let input = members[Member::Input as usize];
        let encoded = given(members, Member::InputBase64);
        match (input, encoded) {
            (Some(_), Some(_)) => {
                for (member, other) in [
                    (Member::Input, "input_base64"),
                    (Member::InputBase64, "input"),
                ] {
                    let detail = format!("and {other} exclude each other; give one of them");
                    self.wrong(member, detail);
                }
                (None, InputMember::Json)
            }
            (Some(value), None) => {
                let payload = self.json_input(value, content_type, keep);
                (payload, InputMember::Json)
            }
            (None, _) => {
                let payload = self.encoded_input(members, content_type, keep);
                (payload, InputMember::Base64)
            }
        }
    }

    /// Reads the content type, if one is given.
    fn content_type<'a>(&mut self, members: &Members<'a>) -> Result<Option<Cow<'a, str>>, Noted> {
        let member = Member::ContentType;
        if given(members, member).is_none() {
            return Ok(None);
        }
        let text = self.text(members, member).ok_or(Noted)?;
        if let Err(detail) = body::check_media_type(&text) {
            self.wrong(member, detail);
            return Err(Noted);
        }
        Ok(Some(text))
    }

    fn json_input(
        &mut self,
        value: &RawValue,
        content_type: Result<Option<Cow<'_, str>>, Noted>,
        keep: &mut dyn Keep,
    ) -> Option<Payload> {
        const JSON: &str = "application/json";
        self.check_size(Member::Input, value.get().len())?;
        let content_type = match content_type.ok()? {
            None => JSON.into(),
            Some(given) if body::is_json(&given) => given.as_ref().into(),
            Some(given) => {
                let detail = format!(
                    "is {given}, but input is kept as {JSON}; leave it out, or give the bytes as \
                     input_base64"
                );
                self.wrong(Member::ContentType, detail);
                return None;
            }
        };
        let bytes = keep.part(value.get());
        Some(Payload {
            content_type,
            bytes,
        })
    }

    fn encoded_input(
        &mut self,
        members: &Members<'_>,
        content_type: Result<Option<Cow<'_, str>>, Noted>,
        keep: &mut dyn Keep,
    ) -> Option<Payload> {
        let member = Member::InputBase64;
        let bytes = match given(members, member) {
            None => Bytes::new(),
            Some(value) => {
                let Some(text) = string(value) else {
                    self.wrong(member, format!("is {}; it is a string", kind_of(value)));
                    return None;
                };
                let least = (text.len() / 4 * 3).saturating_sub(2);
                self.check_size(member, least)?;
                match BASE64_STANDARD.decode(text.as_bytes()) {
                    Ok(bytes) => keep.decoded(bytes),
                    Err(error) => {
                        let detail = format!("is no base64 by RFC 4648, section 4: {error}");
                        self.wrong(member, detail);
                        return None;
                    }
                }
            }
        };
        let content_type = content_type.ok()?.unwrap_or(Cow::Borrowed(body::UNNAMED));
        if body::is_json(&content_type)
            && let Err(error) = body::check_json(&bytes)
        {
            let detail = format!("is not JSON once it is decoded: {}", error.detail());
            self.wrong(member, detail);
            return None;
        }
        Some(Payload {
            content_type: content_type.as_ref().into(),
            bytes,
        })
    }

    fn check_size(&mut self, member: Member, bytes: usize) -> Option<()> {
        let limit = self.bounds.input_bytes_max;
        if bytes <= limit {
            return Some(());
        }
        let place = self.place.of(member.name());
        let detail = format!("is {bytes} bytes or more; the limit is {limit}");
        self.mistakes
            .add_kind(Kind::PayloadTooLarge, &place, detail);
        None
    }
}

/// Returns a member's value, unless it is null or not there.
fn given<'a>(members: &Members<'a>, member: Member) -> Option<&'a RawValue> {
    members[member as usize].filter(|value| value.get() != "null")
}

fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    // Borrowed if nothing in it is escaped.
    match serde_json::from_str::<&str>(value.get()) {
        Ok(text) => Some(text.into()),
        Err(_) => serde_json::from_str::<String>(value.get())
            .ok()
            .map(Cow::Owned),
    }
}

/// Says of what type a value is.
fn kind_of(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

fn add_tag(tags: &mut BTreeMap<Name, String>, name: &str, value: &RawValue) -> Result<(), String> {
    let name = Name::new(name).map_err(|error| format!("names no tag: the name {error}"))?;
    if name.is_reserved() {
        return Err("begins with what the server keeps for itself".to_owned());
    }
    let text = string(value).ok_or_else(|| format!("is {}; it is a string", kind_of(value)))?;
    if text.len() > TAG_VALUE_BYTES_MAX {
        let bytes = text.len();
        return Err(format!(
            "is {bytes} bytes; the limit is {TAG_VALUE_BYTES_MAX}"
        ));
    }
    match tags.insert(name, text.into_owned()) {
        None => Ok(()),
        Some(_) => Err("is given twice; give it once".to_owned()),
    }
}

/// Tags as they are written; no more of them are kept than is needed to see that they are too many.
struct Tags<'a> {
    pairs: Vec<(Cow<'a, str>, &'a RawValue)>,
    count: usize,
}

impl<'de> serde::Deserialize<'de> for Tags<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(parser: D) -> Result<Self, D::Error> {
        parser.deserialize_map(TagsVisitor)
    }
}

struct TagsVisitor;

impl<'de> Visitor<'de> for TagsVisitor {
    type Value = Tags<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Tags<'de>, A::Error> {
        let mut tags = Tags {
            pairs: Vec::new(),
            count: 0,
        };
        while let Some((name, value)) = object.next_entry::<Cow<'de, str>, &'de RawValue>()? {
            if tags.count < TAGS_MAX {
                tags.pairs.push((name, value));
            }
            tags.count += 1;
        }
        Ok(tags)
    }
}
