//! What stands for words in the columns of a database, the same in each of those that keep jobs.

use anteroom_core::{Lease, Name, ShownState, State};
use std::collections::BTreeMap;
use std::time::Duration;

/// Returns the number that stands for a state.
pub(super) const fn state_number(state: State) -> i16 {
    match state {
        State::Waiting => 0,
        State::Running => 1,
        State::Succeeded => 2,
        State::Failed => 3,
        State::Cancelled => 4,
    }
}

/// Returns the state that a number stands for, or that there is none.
pub(super) fn state_of(number: i64) -> Result<State, String> {
    match number {
        0 => Ok(State::Waiting),
        1 => Ok(State::Running),
        2 => Ok(State::Succeeded),
        3 => Ok(State::Failed),
        4 => Ok(State::Cancelled),
        other => Err(format!("there is no state {other}")),
    }
}

/// Returns the number that stands for the holder of a lease.
pub(super) const fn lease_number(lease: Lease) -> i16 {
    match lease {
        Lease::Node => 0,
        Lease::Pulled => 1,
    }
}

/// Returns the holder of a lease that a number stands for, or that there is none.
pub(super) fn lease_of(number: i64) -> Result<Lease, String> {
    match number {
        0 => Ok(Lease::Node),
        1 => Ok(Lease::Pulled),
        other => Err(format!("there is no lease {other}")),
    }
}

/// Returns the number that stands for a shown state: its place in a job's life.
pub(super) const fn shown_number(state: ShownState) -> i16 {
    match state {
        ShownState::Scheduled => 0,
        ShownState::Ready => 1,
        ShownState::Running => 2,
        ShownState::Succeeded => 3,
        ShownState::Failed => 4,
        ShownState::Cancelled => 5,
    }
}

/// Returns a count as a column holds it. None of ours come near the end of the range.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Returns a span as a column holds it.
pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Returns tags as a column holds them; none for none.
pub(super) fn tags_text(tags: &BTreeMap<Name, String>) -> Option<String> {
    if tags.is_empty() {
        return None;
    }
    let object: serde_json::Map<String, serde_json::Value> = tags
        .iter()
        .map(|(name, value)| (name.to_string(), value.clone().into()))
        .collect();
    Some(serde_json::Value::Object(object).to_string())
}

/// Reads what [`tags_text`] wrote.
pub(super) fn parse_tags(text: &str) -> Result<BTreeMap<Name, String>, String> {
    let object: BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|error| error.to_string())?;
    let named = |(name, value): (String, String)| match Name::new(&name) {
        Ok(name) => Ok((name, value)),
        Err(error) => Err(error.to_string()),
    };
    object.into_iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_reads_back_from_its_number() {
        for (place, state) in (0..).zip(ShownState::ALL) {
            assert_eq!(shown_number(state), place, "{state}");
            let stored = state.stored();
            assert_eq!(state_of(state_number(stored).into()), Ok(stored));
        }
        for lease in [Lease::Node, Lease::Pulled] {
            assert_eq!(lease_of(lease_number(lease).into()), Ok(lease));
        }
        assert!(state_of(5).is_err() && lease_of(2).is_err());
    }

    #[test]
    fn tags_read_back() {
        let tags = BTreeMap::from([
            (Name::new("a.b").unwrap(), "x \"y\"\n\u{1F980}".to_owned()),
            (Name::new("z").unwrap(), String::new()),
        ]);
        let text = tags_text(&tags).unwrap();
        assert_eq!(parse_tags(&text).unwrap(), tags);
        assert_eq!(tags_text(&BTreeMap::new()), None);
        assert!(parse_tags("[]").is_err());
    }
}
