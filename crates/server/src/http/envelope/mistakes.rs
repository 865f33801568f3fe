//! What is wrong with envelopes, and where: as much of it as is told.

use super::super::limits::{MISTAKES_MAX, NAME_SHOWN_BYTES_MAX};
use super::super::problem::{FieldError, Kind, Problem, point_to};
use http::StatusCode;

/// A place in a body: a pointer by RFC 6901, as the fragment of a URI.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    element: Option<usize>,
    members: String,
}

impl Place {
    /// All of the body.
    pub(crate) const fn whole() -> Self {
        Self::envelope(None)
    }

    /// An element of an array.
    pub(crate) const fn element(index: usize) -> Self {
        Self::envelope(Some(index))
    }

    /// An element of an array, or all of the body.
    pub(crate) const fn envelope(element: Option<usize>) -> Self {
        Self {
            element,
            members: String::new(),
        }
    }

    /// A member of it.
    pub(crate) fn of(&self, member: &str) -> Self {
        let mut place = self.clone();
        point_to(&mut place.members, member);
        place
    }

    /// What a fragment of a URI points at within it.
    fn within(&self, fragment: &str) -> Self {
        let mut place = self.clone();
        place
            .members
            .push_str(fragment.strip_prefix('#').unwrap_or(fragment));
        place
    }

    fn pointer(&self) -> String {
        match self.element {
            Some(index) => format!("#/{index}{}", self.members),
            None => format!("#{}", self.members),
        }
    }
}

/// Writes a JSON pointer by RFC 6901 as the fragment of a URI.
pub(crate) fn fragment(pointer: &str) -> String {
    let parts = pointer.split('/').skip(1);
    // Each part is escaped already, and is escaped again where it is put together.
    let place = parts.fold(Place::whole(), |place, part| {
        place.of(&part.replace("~1", "/").replace("~0", "~"))
    });
    place.pointer()
}

/// Cuts a name that is too long to be told.
pub(crate) fn cut(name: &str) -> String {
    if name.len() <= NAME_SHOWN_BYTES_MAX {
        return name.to_owned();
    }
    let end = name.floor_char_boundary(NAME_SHOWN_BYTES_MAX);
    format!("{}\u{2026}", &name[..end])
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Mistake {
    /// The sort of problem that it is by itself.
    pub kind: Kind,
    /// Where: `#/2/task`.
    pub pointer: String,
    /// What: reads after the place.
    pub detail: String,
}

/// Everything that is wrong, of which no more than a bound is kept.
#[derive(Clone, Debug, Default)]
pub struct Mistakes {
    kept: Vec<Mistake>,
    left_out: usize,
}

impl Mistakes {
    /// Returns those that are kept, in the order in which they were found.
    pub fn kept(&self) -> &[Mistake] {
        &self.kept
    }

    /// Tells whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Tells whether something is wrong at a place.
    pub(crate) fn has(&self, place: &Place) -> bool {
        let pointer = place.pointer();
        self.kept.iter().any(|mistake| mistake.pointer == pointer)
    }

    /// Tells whether there is no use in looking further.
    pub(crate) fn is_full(&self) -> bool {
        self.kept.len() >= MISTAKES_MAX
    }

    pub(crate) fn add(&mut self, place: &Place, detail: impl Into<String>) {
        self.add_kind(Kind::InvalidBody, place, detail);
    }

    pub(crate) fn add_kind(&mut self, kind: Kind, place: &Place, detail: impl Into<String>) {
        if self.is_full() {
            self.left_out += 1;
            return;
        }
        self.kept.push(Mistake {
            kind,
            pointer: place.pointer(),
            detail: detail.into(),
        });
    }

    /// Adds what a refusal that concerns one envelope means for it.
    pub(crate) fn add_refusal(&mut self, refusal: &Problem, place: &Place, input_member: &str) {
        let kind = refusal.kind();
        // By their slugs, which are the words of the contract.
        let member = match kind.slug() {
            "invalid-parameter" => {
                for error in refusal.errors() {
                    self.add(&place.of(&error.parameter), error.detail.as_str());
                }
                return;
            }
            "invalid-input" => {
                let input = place.of(input_member);
                for error in refusal.errors() {
                    self.add_kind(kind, &input.within(&error.pointer), error.detail.as_str());
                }
                return;
            }
            "unknown-task" => "task",
            "unknown-queue" | "too-many-queues" => "queue",
            "unsupported-media-type" => "content_type",
            "payload-too-large" => input_member,
            "idempotency-key-reused" | "job-expired" => "idempotency_key",
            "callback-refused" | "not-supported" => "callback_url",
            _ => {
                self.add_kind(kind, place, refusal.detail());
                return;
            }
        };
        self.add_kind(kind, &place.of(member), refusal.detail());
    }

    /// Returns the problem that they are: of their own kind where all are of one.
    ///
    /// Of an array it is always 422, however many of its jobs are well: none was stored. One
    /// envelope on its own can be answered as the same submit to its task would be.
    pub(crate) fn into_problem(self, is_array: bool) -> Problem {
        let kind = match self.kept.first() {
            Some(first) if self.kept.iter().all(|mistake| mistake.kind == first.kind) => first.kind,
            Some(_) | None => Kind::InvalidBody,
        };
        let mut said: Vec<String> = self
            .kept
            .iter()
            .map(|mistake| format!("{} {}", mistake.pointer, mistake.detail))
            .collect();
        if self.left_out > 0 {
            said.push(format!("and more, of which {MISTAKES_MAX} are told"));
        }
        let errors = self.kept.into_iter().map(|mistake| {
            let Mistake {
                pointer, detail, ..
            } = mistake;
            FieldError::at(pointer, detail)
        });
        let problem = Problem::new(kind, said.join("; ")).with_errors(errors.collect());
        match kind {
            Kind::PayloadTooLarge | Kind::JobExpired | Kind::NotSupported if !is_array => problem,
            _ => problem.with_status(StatusCode::UNPROCESSABLE_ENTITY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_a_fragment_by_its_rfcs() {
        for (member, pointer) in [
            ("task", "#/2/task"),
            ("a/b~c", "#/2/a~1b~0c"),
            ("a b%", "#/2/a%20b%25"),
            ("\u{e4}\"", "#/2/%C3%A4%22"),
            ("", "#/2/"),
        ] {
            assert_eq!(Place::element(2).of(member).pointer(), pointer);
        }
        assert_eq!(Place::whole().pointer(), "#");
        for (pointer, expected) in [
            ("", "#"),
            ("/a~1b~0c/0", "#/a~1b~0c/0"),
            ("/a b", "#/a%20b"),
        ] {
            assert_eq!(fragment(pointer), expected);
        }
        let input = Place::whole().of("input");
        assert_eq!(input.within("#/a~1b/0").pointer(), "#/input/a~1b/0");
        assert_eq!(input.within("#").pointer(), "#/input");
    }

    #[test]
    fn no_more_is_kept_than_is_told() {
        let mut mistakes = Mistakes::default();
        for index in 0..100 {
            mistakes.add(&Place::element(index), "is wrong");
        }
        assert_eq!(mistakes.kept().len(), MISTAKES_MAX);
        let problem = mistakes.into_problem(true);
        assert_eq!(problem.errors().len(), MISTAKES_MAX);
        assert!(problem.detail().ends_with("and more, of which 20 are told"));
    }

    #[test]
    fn mistakes_of_one_kind_are_a_problem_of_that_kind() {
        let of = |kinds: &[Kind], is_array| {
            let mut mistakes = Mistakes::default();
            for kind in kinds {
                mistakes.add_kind(*kind, &Place::whole(), "is wrong");
            }
            let problem = mistakes.into_problem(is_array);
            (problem.kind(), problem.status().as_u16())
        };
        let (task, large) = (Kind::UnknownTask, Kind::PayloadTooLarge);
        assert_eq!(of(&[task, task], true), (task, 422));
        assert_eq!(of(&[task], false), (task, 422));
        assert_eq!(of(&[task, large], false), (Kind::InvalidBody, 422));
        assert_eq!(of(&[large], false), (large, 413));
        assert_eq!(of(&[large], true), (large, 422));
    }
}
