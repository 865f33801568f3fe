//! Makes text of a server's harmless for a terminal.
//!
//! Messages and tags are other people's: what moves the cursor, colours, rings or turns the
//! direction of writing is shown as an escape instead of being obeyed.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns a text without any control character, newlines included.
pub(super) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_harmful)
}

/// Returns a text whose only control characters are newlines and tabs.
pub(super) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |it| is_harmful(it) && !matches!(it, '\n' | '\t'))
}

/// Returns the same JSON, with what is harmful in its strings written as JSON escapes.
pub(super) fn json(text: &str) -> Cow<'_, str> {
    // Below U+007F JSON has none but white space: its strings escape them by themselves.
    let is_harmful = |it: char| is_harmful(it) && it > '~';
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if is_harmful(character) {
            // Writing to a string does not fail.
            let _ = write!(safe, "\\u{:04x}", u32::from(character));
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

fn escaped(text: &str, is_harmful: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if is_harmful(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// Controls, and what breaks lines or turns the direction of writing.
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        for (text, expected) in [
            ("plain, ünï ☃", "plain, ünï ☃"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("a\r\u{7}b", "a\\r\\u{7}b"),
            ("\u{9b}31m \u{7f}", "\\u{9b}31m \\u{7f}"),
            ("abc\u{202e}fed", "abc\\u{202e}fed"),
            ("two\nlines\t.", "two\\nlines\\t."),
        ] {
            assert_eq!(line(text), expected, "{text:?}");
        }
        assert_eq!(lines("two\nlines\t\u{1b}c"), "two\nlines\t\\u{1b}c");
    }

    #[test]
    fn json_stays_the_same_json() {
        let text = "{\"a\":\n\"\u{9b}x\u{7f}\u{202e} ☃\"}";
        let safe = json(text);
        assert_eq!(safe, "{\"a\":\n\"\\u009bx\\u007f\\u202e ☃\"}");
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(parse(&safe), parse(text));
    }
}
