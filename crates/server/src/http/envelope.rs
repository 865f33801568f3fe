//! Envelopes: submits written as JSON, one or many in a body, or one on a line of a stream.
//!
//! [`parse`] makes submissions of bytes, or says everything that is wrong with them and where. It
//! is pure: no I/O, no clock, and nothing here knows which tasks there are. An `input` is never
//! rebuilt: it is kept as the exact bytes of its JSON value.

use super::body::{self, NotJson};
use anteroom::Submission;
use anteroom::core::Timestamp;
use anteroom::core::limits::SUBMIT_JOBS_MAX;
use bytes::Bytes;
use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;

mod members;
mod mistakes;

pub use mistakes::{Mistake, Mistakes};

pub(crate) use mistakes::{Place, cut, fragment};

use members::{Member, Read};

/// What envelopes are read by.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// The time that what lies ahead lies ahead of.
    pub now: Timestamp,
    /// Bytes of an input.
    pub input_bytes_max: usize,
    /// Whose idempotency keys are meant.
    pub key_scope: Arc<str>,
}

/// What a body asks for: one submission, or as many as its array holds.
#[derive(Clone, Debug)]
pub struct Envelopes {
    /// The submissions, in their order, with where each of their inputs stands.
    pub submissions: Vec<(Submission, InputMember)>,
    /// The body is an array, whatever it holds.
    pub is_array: bool,
}

/// Which member an input was given by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputMember {
    /// `input`.
    Json,
    /// `input_base64`, or none.
    Base64,
}

impl InputMember {
    /// Returns the member's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "input",
            Self::Base64 => "input_base64",
        }
    }
}

/// Why a body is not taken.
#[derive(Debug)]
pub enum Refused {
    /// It is not JSON, or nested too deep.
    Malformed(NotJson),
    /// It is JSON, and these are wrong with it.
    Wrong(Mistakes),
}

/// Where the bytes of inputs are put.
pub(crate) trait Keep {
    /// Keeps a part of what was parsed.
    fn part(&mut self, text: &str) -> Bytes;
    /// Keeps what was decoded from a part of it.
    fn decoded(&mut self, bytes: Vec<u8>) -> Bytes;
}

/// Copies inputs, so that none keeps what it came in alive.
#[derive(Clone, Copy, Debug)]
struct Copies;

impl Keep for Copies {
    fn part(&mut self, text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn decoded(&mut self, bytes: Vec<u8>) -> Bytes {
        bytes.into()
    }
}

/// Reads an envelope, or an array of 1 to 10,000 of them.
///
/// # Errors
///
/// [`Refused`], with everything that is wrong, up to a bound.
pub fn parse(bytes: &[u8], bounds: &Bounds) -> Result<Envelopes, Refused> {
    read(bytes, bounds, &mut Copies)
}

/// Reads as [`parse`] does, and has inputs kept by `keep`.
pub(crate) fn read(
    bytes: &[u8],
    bounds: &Bounds,
    keep: &mut dyn Keep,
) -> Result<Envelopes, Refused> {
    let text = body::utf8(bytes).map_err(Refused::Malformed)?;
    let mut mistakes = Mistakes::default();
    let found = match Whole::of(text, &mut mistakes) {
        Ok(found) => found,
        Err(error) => without_numbers(text, &mut mistakes)
            .ok_or_else(|| Refused::Malformed(NotJson::from(error)))?,
    };
    body::check_depth(bytes).map_err(Refused::Malformed)?;
    let mut submissions = Vec::new();
    let is_array = matches!(found, Whole::Many { .. });
    match found {
        Whole::One(members) => {
            let read = Read::new(bounds, &mut mistakes, None);
            submissions.extend(read.submission(&members, keep));
        }
        Whole::Many { members, count } => {
            if !(1..=SUBMIT_JOBS_MAX).contains(&count) {
                let detail = format!("holds {count} jobs; it takes 1 to {SUBMIT_JOBS_MAX}");
                mistakes.add(&Place::whole(), detail);
            }
            submissions.reserve_exact(members.len());
            for (index, members) in members.iter().enumerate() {
                if mistakes.is_full() {
                    break;
                }
                let read = Read::new(bounds, &mut mistakes, Some(index));
                let read = |members| read.submission(members, keep);
                submissions.extend(members.as_ref().and_then(read));
            }
        }
        Whole::Neither => {}
    }
    if mistakes.is_empty() {
        Ok(Envelopes {
            submissions,
            is_array,
        })
    } else {
        Err(Refused::Wrong(mistakes))
    }
}

/// Reads those members of something else that an envelope has too, by their names, and notes what is
/// wrong with them.
pub(crate) fn read_submission(
    given: &[(&str, &RawValue)],
    bounds: &Bounds,
    mistakes: &mut Mistakes,
) -> Option<(Submission, InputMember)> {
    let mut members: Members<'_> = [None; Member::ALL.len()];
    for (name, value) in given {
        if let Some(member) = Member::named(name) {
            members[member as usize] = Some(value);
        }
    }
    Read::new(bounds, mistakes, None).submission(&members, &mut Copies)
}

/// Values by member; none where it does not stand there.
type Members<'a> = [Option<&'a RawValue>; Member::ALL.len()];

/// The members of what stands at the top, their values not looked at yet.
enum Whole<'a> {
    One(Box<Members<'a>>),
    Many {
        /// No more than a submit may hold; none for what is no object, which is noted.
        members: Vec<Option<Members<'a>>>,
        count: usize,
    },
    /// What is no object and no array, which is noted.
    Neither,
}

impl<'a> Whole<'a> {
    fn of(text: &'a str, mistakes: &mut Mistakes) -> serde_json::Result<Self> {
        let mut parser = serde_json::Deserializer::from_str(text);
        let is_array = text
            .trim_start_matches([' ', '\t', '\r', '\n'])
            .starts_with('[');
        let whole = if is_array {
            parser.deserialize_seq(Array(mistakes))?
        } else {
            let place = Place::whole();
            let one = Element { mistakes, place };
            one.deserialize(&mut parser)?
                .map_or(Self::Neither, |members| Self::One(Box::new(members)))
        };
        parser.end()?;
        Ok(whole)
    }
}

/// Reads what is JSON and cannot be read otherwise: where an envelope should stand there is a number
/// beyond those that are reckoned with, which is noted. None: it is no JSON.
fn without_numbers<'a>(text: &'a str, mistakes: &mut Mistakes) -> Option<Whole<'a>> {
    body::check_json(text.as_bytes()).ok()?;
    *mistakes = Mistakes::default();
    let elements: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
    let is_number = |value: &&RawValue| {
        value
            .get()
            .starts_with(|c: char| c == '-' || c.is_ascii_digit())
    };
    let numbers = (0..).zip(&elements).filter(|(_, value)| is_number(value));
    let mut places: Vec<Place> = numbers.map(|(index, _)| Place::element(index)).collect();
    if places.is_empty() {
        places.push(Place::whole());
    }
    for place in places {
        mistakes.add(&place, "is a number; a job is an object with its task");
    }
    Some(Whole::Neither)
}

/// Reads an array of envelopes.
struct Array<'m>(&'m mut Mistakes);

impl<'de> Visitor<'de> for Array<'_> {
    type Value = Whole<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Whole<'de>, A::Error> {
        let mut members = Vec::new();
        let mut count = 0;
        while count < SUBMIT_JOBS_MAX {
            let element = Element {
                mistakes: &mut *self.0,
                place: Place::element(count),
            };
            let Some(element) = array.next_element_seed(element)? else {
                return Ok(Whole::Many { members, count });
            };
            members.push(element);
            count += 1;
        }
        // What goes beyond is only counted, so that the refusal can say how much there is.
        while array.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Whole::Many { members, count })
    }
}

/// Reads one envelope; none where something else stands there, which is noted.
struct Element<'m> {
    mistakes: &'m mut Mistakes,
    place: Place,
}

impl Element<'_> {
    fn other<T>(self, what: &str) -> Option<T> {
        let detail = format!("is {what}; a job is an object with its task");
        self.mistakes.add(&self.place, detail);
        None
    }
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = Option<Members<'de>>;

    fn deserialize<D: serde::Deserializer<'de>>(self, parser: D) -> Result<Self::Value, D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = Option<Members<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut members: Members<'de> = [None; Member::ALL.len()];
        while let Some(key) = object.next_key::<Key>()? {
            let value = object.next_value::<&'de RawValue>()?;
            match key {
                Key::Known(member) => {
                    if members[member as usize].replace(value).is_some() {
                        let place = self.place.of(member.name());
                        self.mistakes.add(&place, "is given twice; give it once");
                    }
                }
                Key::Unknown(name) => {
                    let all = Member::ALL.map(Member::name).join(", ");
                    let detail = format!("is unknown; a job takes {all}");
                    self.mistakes.add(&self.place.of(&name), detail);
                }
            }
        }
        Ok(Some(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self.other("an array"))
    }

    fn visit_borrowed_str<E: Error>(self, _: &'de str) -> Result<Self::Value, E> {
        Ok(self.other("a string"))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(self.other("a string"))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(self.other("a boolean"))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(self.other("a number"))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(self.other("a number"))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(self.other("a number"))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(self.other("null"))
    }
}

/// The name of a member.
enum Key {
    Known(Member),
    /// Cut where it is too long to be told.
    Unknown(String),
}

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(parser: D) -> Result<Self, D::Error> {
        parser.deserialize_identifier(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Key, E> {
        Ok(match Member::named(name) {
            Some(member) => Key::Known(member),
            None => Key::Unknown(mistakes::cut(name)),
        })
    }
}

#[cfg(test)]
mod tests;
