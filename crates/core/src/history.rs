//! What happened to a job, as a list of events that only grows at its end.
//!
//! A job whose life goes straight on (submitted, begun once, ended) has no event of its own in a
//! store: [`straight`] tells its states from where it stands. Only once a change would overwrite
//! what is told that way ([`stays_straight`] says so) is it written down, together with every
//! state from then on. What attempts say is written down where it is said.

use crate::{Report, ShownState, State, Status, Timestamp};
use std::fmt;
use std::str::FromStr;

/// The place of an event in the history of its job: later ones are greater, for ever.
///
/// It also counts what attempts had said by then, so that two places tell how much is missing
/// between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The version of the job that the event brought about, or came about under.
    pub version: u64,
    /// How many reports there were of the job, this one included.
    pub reports: u64,
    /// What comes first among the events of one version.
    pub part: EventPart,
}

/// What sort of event a place is of, in the order in which they come about under one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventPart {
    /// Something that an attempt said.
    Report,
    /// A state that the job entered.
    State,
    /// The passage from scheduled to ready, which is no change and raises no version.
    Due,
}

/// A text that is no place in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no id that an event had")]
pub struct MalformedEventId;

impl EventId {
    /// Before everything that happens to a job.
    pub const START: Self = Self {
        version: 0,
        reports: 0,
        part: EventPart::Report,
    };

    /// Returns how many reports are missing between an event at `earlier` and one here.
    pub const fn missing_since(self, earlier: Self) -> u64 {
        let counted = match self.part {
            EventPart::Report => 1,
            EventPart::State | EventPart::Due => 0,
        };
        self.reports
            .saturating_sub(earlier.reports)
            .saturating_sub(counted)
    }

    /// Returns the place of the last report that may be missing right before this event.
    #[must_use]
    pub const fn before(self) -> Self {
        let counted = match self.part {
            EventPart::Report => 1,
            EventPart::State | EventPart::Due => 0,
        };
        Self {
            reports: self.reports.saturating_sub(counted),
            part: EventPart::Report,
            ..self
        }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.part.number();
        write!(f, "{}.{}.{part}", self.version, self.reports)
    }
}

impl FromStr for EventId {
    type Err = MalformedEventId;

    fn from_str(text: &str) -> Result<Self, MalformedEventId> {
        let mut numbers = text.splitn(3, '.').map(|part| part.parse().ok());
        let mut next = || numbers.next().flatten().ok_or(MalformedEventId);
        let id = Self {
            version: next()?,
            reports: next()?,
            part: EventPart::from_number(next()?).ok_or(MalformedEventId)?,
        };
        // One place has one id: no plus, no leading zeros.
        if id.to_string() == text {
            Ok(id)
        } else {
            Err(MalformedEventId)
        }
    }
}

impl EventPart {
    /// Returns the number that stands for it, on the wire and in a store.
    pub const fn number(self) -> u64 {
        match self {
            Self::Report => 0,
            Self::State => 1,
            Self::Due => 2,
        }
    }

    /// Returns what a number stands for.
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Report),
            1 => Some(Self::State),
            2 => Some(Self::Due),
            _ => None,
        }
    }
}

/// A state that a job entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateEvent {
    /// Its place.
    pub id: EventId,
    /// The state.
    pub state: ShownState,
    /// The attempts begun by then, hand-backs taken off.
    pub attempt: u32,
}

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEvent {
    /// Its place.
    pub id: EventId,
    /// What it was.
    pub happened: Happened,
}

/// What happened to a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Happened {
    /// It entered a state.
    Entered {
        /// The state.
        state: ShownState,
        /// The attempts begun by then, hand-backs taken off.
        attempt: u32,
    },
    /// An attempt said something.
    Reported {
        /// The number of the attempt.
        attempt: u32,
        /// What it said.
        report: Report,
    },
}

impl From<StateEvent> for JobEvent {
    fn from(event: StateEvent) -> Self {
        let StateEvent { id, state, attempt } = event;
        Self {
            id,
            happened: Happened::Entered { state, attempt },
        }
    }
}

/// Returns the state that a job was submitted in.
pub fn submitted(created_at: Timestamp, status: &Status) -> StateEvent {
    let state = if status.run_at > created_at {
        ShownState::Scheduled
    } else {
        ShownState::Ready
    };
    StateEvent {
        id: EventId {
            version: 1,
            reports: 0,
            part: EventPart::State,
        },
        state,
        attempt: 0,
    }
}

/// Returns the passage to ready of a job that stands at `status`, where the last that is written
/// of it says that it is scheduled.
pub fn came_due(last: StateEvent, status: &Status, now: Timestamp) -> Option<StateEvent> {
    let is_due = last.state == ShownState::Scheduled
        && status.state == State::Waiting
        && status.run_at <= now;
    is_due.then_some(due(last))
}

/// Returns the state that a change made a job enter, if it is another than before.
pub fn entered(
    before: &Status,
    after: &Status,
    reports: u64,
    now: Timestamp,
) -> Option<StateEvent> {
    let state = after.shown(now);
    // A job that waits anew for the same length enters no other state, and yet begins to wait.
    let is_other = before.state != after.state
        || before.shown(now) != state
        || before.attempt != after.attempt;
    is_other.then_some(StateEvent {
        id: EventId {
            version: after.version,
            reports,
            part: EventPart::State,
        },
        state,
        attempt: after.attempt,
    })
}

/// Tells whether [`straight`] tells as much after a change as was known before it.
pub const fn stays_straight(before: &Status, after: &Status) -> bool {
    match (before.state, after.state) {
        (State::Waiting, State::Waiting) => false,
        (State::Waiting, _) => before.version == 1,
        (State::Running, State::Waiting) => false,
        (State::Running, _) => true,
        (State::Succeeded | State::Failed | State::Cancelled, _) => false,
    }
}

/// Returns the states that a job entered of which none is written down, from where it stands now
/// and from how many reports there are of it.
pub fn straight(
    created_at: Timestamp,
    status: &Status,
    reports: u64,
    now: Timestamp,
) -> Vec<StateEvent> {
    let first = submitted(created_at, status);
    let mut told = Vec::with_capacity(4);
    told.push(first);
    // What began was due, whatever the clock says now.
    let seen_until = status.finished_at.unwrap_or(now);
    let was_due = status.started_at.is_some() || status.run_at <= seen_until;
    if first.state == ShownState::Scheduled && was_due {
        told.push(due(first));
    }
    if status.started_at.is_some() {
        told.push(StateEvent {
            id: EventId {
                version: 2,
                reports: 0,
                part: EventPart::State,
            },
            state: ShownState::Running,
            attempt: 1,
        });
    }
    if status.state.is_final() {
        told.push(StateEvent {
            id: EventId {
                version: status.version,
                reports,
                part: EventPart::State,
            },
            state: status.shown(now),
            attempt: status.attempt,
        });
    }
    told
}

/// Returns up to `limit` events after `after`, oldest first, out of states and reports that each
/// are in order.
pub fn merge(
    after: EventId,
    states: impl IntoIterator<Item = StateEvent>,
    reports: impl IntoIterator<Item = JobEvent>,
    limit: usize,
) -> Vec<JobEvent> {
    let mut states = states.into_iter().map(JobEvent::from).peekable();
    let mut reports = reports.into_iter().peekable();
    std::iter::from_fn(|| match (states.peek(), reports.peek()) {
        (Some(state), Some(report)) if state.id < report.id => states.next(),
        (_, Some(_)) => reports.next(),
        (_, None) => states.next(),
    })
    .filter(|event| event.id > after)
    .take(limit)
    .collect()
}

const fn due(scheduled: StateEvent) -> StateEvent {
    StateEvent {
        id: EventId {
            part: EventPart::Due,
            ..scheduled.id
        },
        state: ShownState::Ready,
        attempt: scheduled.attempt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogStream, Report};

    fn id(version: u64, reports: u64, part: EventPart) -> EventId {
        EventId {
            version,
            reports,
            part,
        }
    }

    #[test]
    fn an_id_reads_back_and_nothing_else_does() {
        for id in [
            EventId::START,
            id(1, 0, EventPart::State),
            id(1, 0, EventPart::Due),
            id(u64::MAX, u64::MAX, EventPart::Report),
        ] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in [
            "",
            "1",
            "1.0",
            "1.0.3",
            "1.0.1.",
            "1.0.1.1",
            "01.0.1",
            "+1.0.1",
            "1..1",
            "-1.0.1",
            " 1.0.1",
            "a.b.c",
            "18446744073709551616.0.0",
        ] {
            assert_eq!(text.parse::<EventId>(), Err(MalformedEventId), "{text:?}");
        }
    }

    #[test]
    fn two_places_tell_what_is_missing_between_them() {
        use EventPart::{Report, State};
        for (earlier, later, missing) in [
            (EventId::START, id(1, 0, State), 0),
            (id(2, 0, State), id(3, 1, Report), 0),
            (id(2, 0, State), id(3, 5, Report), 4),
            (id(3, 5, Report), id(3, 6, Report), 0),
            (id(3, 5, Report), id(4, 5, State), 0),
            (id(3, 5, Report), id(4, 9, State), 4),
        ] {
            assert_eq!(later.missing_since(earlier), missing, "{earlier} {later}");
            let before = later.before();
            assert!(before < later, "{before} {later}");
            assert_eq!(later.missing_since(before), 0, "{before} {later}");
            assert!(missing == 0 || earlier < before, "{earlier} {before}");
        }
    }

    #[test]
    fn states_and_reports_are_told_in_the_order_of_their_places() {
        let state = |version, reports, state| StateEvent {
            id: id(version, reports, EventPart::State),
            state,
            attempt: 1,
        };
        let said = |version, reports| JobEvent {
            id: id(version, reports, EventPart::Report),
            happened: Happened::Reported {
                attempt: 1,
                report: Report::log(LogStream::Log, "x"),
            },
        };
        let states = [
            state(1, 0, ShownState::Ready),
            state(2, 0, ShownState::Running),
            state(4, 3, ShownState::Succeeded),
        ];
        let reports = [said(3, 1), said(3, 2), said(4, 3)];
        let ids = |after, limit| -> Vec<String> {
            let events = merge(after, states, reports.clone(), limit);
            events.iter().map(|event| event.id.to_string()).collect()
        };
        let all = ["1.0.1", "2.0.1", "3.1.0", "3.2.0", "4.3.0", "4.3.1"];
        assert_eq!(ids(EventId::START, 9), all);
        assert_eq!(ids(id(3, 1, EventPart::Report), 2), all[3..5]);
        assert!(ids(id(4, 3, EventPart::State), 9).is_empty());
    }
}
