//! Listing jobs: `GET /v1/jobs`, a page at a time.

use super::App;
use super::access::Access;
use super::call::Call;
use super::json;
use super::problem::Problem;
use super::query::Query;
use super::represent::{Extent, JOB_BYTES, JobView};
use super::value;
use anteroom::core::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};
use anteroom::core::{Label, Name, ShownState};
use anteroom::store::{Cursor, Filter, Page};
use axum::response::Response;

/// `GET /v1/jobs`: jobs that match the filters, newest first.
pub(crate) async fn list(app: App, call: Call) -> Result<Response, Problem> {
    let (filter, page) = read_filter(call.query(), call.access())?;
    let listing = app.engine.store().list(&filter, page).await?;
    let now = app.engine.clock().now();
    let prefix = call.mount.prefix();
    let mut page = Vec::with_capacity(JOB_BYTES * listing.jobs.len() + 100);
    json::object(&mut page, |members| {
        members.list("jobs", &listing.jobs, |bytes, job| {
            JobView::of(job, now, prefix).write(bytes, Extent::Listed);
        });
        members.maybe_text("next_page_token", listing.next.map(token).as_deref());
    });
    Ok(super::pages::json_text(page))
}

fn read_filter(mut query: Query, access: &Access) -> Result<(Filter, Page), Problem> {
    let filter = filter(&mut query, access);
    let size = query.value("page_size", page_size);
    let after = query.value("page_token", cursor);
    query.finish()?;
    let size = size.unwrap_or(PAGE_SIZE_DEFAULT);
    Ok((filter, Page { size, after }))
}

/// Reads the filters. What is wrong with them is said when the query is finished.
pub(crate) fn filter(query: &mut Query, access: &Access) -> Filter {
    let task = query.value("task", Name::new);
    let queue = query.value("queue", Name::new);
    let group = query.value("group", Label::new);
    let states = read_states(query);
    let tags = query.tags();
    let created_after = query.value("created_after", value::instant);
    let created_before = query.value("created_before", value::instant);
    // What is the server's own is left out unless it is asked for by its name, by those who may.
    let is_hidden = task.as_ref().is_some_and(|task| !access.sees(task));
    let tasks_allowed = if is_hidden {
        Some(Vec::new())
    } else {
        access.tasks().map(<[Name]>::to_vec)
    };
    Filter {
        tasks_allowed,
        task,
        queue,
        group,
        states,
        tags,
        created_after,
        created_before,
    }
}

fn read_states(query: &mut Query) -> Vec<ShownState> {
    let mut states = Vec::new();
    for text in query.texts("state") {
        for word in text.split(',').map(str::trim) {
            match ShownState::from_word(word) {
                Some(state) if states.contains(&state) => {}
                Some(state) => states.push(state),
                None => {
                    let all = ShownState::ALL.map(ShownState::as_str).join(", ");
                    query.wrong("state", format!("is {word:?}; the states are {all}"));
                }
            }
        }
    }
    states
}

fn page_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if (1..=PAGE_SIZE_MAX).contains(&size) => Ok(size),
        Ok(_) | Err(_) => Err(format!(
            "is {text:?}; it is a whole number from 1 to {PAGE_SIZE_MAX}"
        )),
    }
}

/// Digits of a token: those of its place, fewer where it is a small one, and those of its check.
const TOKEN_CHARS_MIN: usize = 16 + CHECK_CHARS;
const TOKEN_CHARS_MAX: usize = 32 + CHECK_CHARS;
const CHECK_CHARS: usize = 4;

/// Writes a place in the list, with a check that tells it from a mistake.
fn token(cursor: Cursor) -> String {
    format!("{:016x}{:04x}", cursor.0, check(cursor))
}

/// Reads a place in the list back.
fn cursor(text: &str) -> Result<Cursor, String> {
    let malformed = || format!("is {text:?}, which is no token that a page gave");
    let is_long = |length| (TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&length);
    let well_formed = is_long(text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !well_formed {
        return Err(malformed());
    }
    let (number, _) = text.split_at(text.len() - CHECK_CHARS);
    let cursor = Cursor(u128::from_str_radix(number, 16).map_err(|_| malformed())?);
    if token(cursor) == text {
        Ok(cursor)
    } else {
        Err(malformed())
    }
}

/// A small sum of a place: against typing errors, not against attackers.
fn check(cursor: Cursor) -> u16 {
    let half = |number: u128| u64::try_from(number & u128::from(u64::MAX)).unwrap_or_default();
    let (upper, lower) = (half(cursor.0 >> 64), half(cursor.0));
    // Odd numbers: each digit has its part in the upper bits.
    let mixed =
        lower.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ upper.wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    u16::try_from(mixed >> 48).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_nothing_else_does() {
        let whole_id = 0x0193_7000_0000_7000_8000_0000_0000_0001;
        let places = [0, 1, 1 << 63, u64::MAX.into(), 1 << 64, whole_id, u128::MAX];
        for place in places {
            let text = token(Cursor(place));
            assert_eq!(cursor(&text), Ok(Cursor(place)), "{text}");
            assert!(cursor(&text.to_uppercase()).is_err() || text == text.to_uppercase());
        }
        for good in [token(Cursor(42)), token(Cursor(whole_id))] {
            let (first, second) = good.split_at(1);
            for bad in [
                "",
                "42",
                "garbage",
                second,
                &format!("2{second}"),
                &format!("0{good}"),
                &format!("{first}1{}", &second[1..]),
                &good[..good.len() - 1],
                &format!("{good}0"),
                "ääääääääää",
            ] {
                assert!(cursor(bad).is_err(), "{bad}");
            }
        }
    }

    /// A client may go on with what an earlier server gave it.
    #[test]
    fn the_token_of_a_small_place_is_what_it_always_was() {
        assert_eq!(token(Cursor(6_963_200_000_000_000)), "0018bcfe56800000ce81");
    }
}
