//! Reads `[[tokens]]`: who may call the server.
//!
//! What stands where a digest should is never repeated in a mistake: it may be the token itself.

use super::file::TOKEN_KEYS;
use super::reader::{A_STRING, Reader, Value};
use super::{Config, value};
use anteroom::core::Name;
use anteroom_server::http::limits::{TOKEN_DIGESTS_MAX, TOKENS_MAX};
use anteroom_server::http::{RateLimit, Scope, Token};
use std::num::NonZeroU32;
use std::ops::Range;
use std::time::Duration;
use toml::de::DeTable;

/// The highest rate that can be told from none.
const RATE_LIMIT_MAX: u32 = 1_000_000_000;
/// The periods of a rate: whole windows are told to clients in seconds.
const RATE_PERIODS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_hours(24);

impl Reader<'_> {
    pub(super) fn tokens(&mut self, value: &Value<'_>) {
        let Some(list) = value.get_ref().as_array() else {
            self.wrong_type("tokens", value, "tables [[tokens]]");
            return;
        };
        if list.len() > TOKENS_MAX {
            let count = list.len();
            let message = format!("tokens are {count}; the most is {TOKENS_MAX}");
            self.wrong(&value.span(), message);
            return;
        }
        for element in list {
            if let Some(table) = self.table("tokens", element)
                && let Some(token) = self.token(&element.span(), table)
            {
                self.draft.config.tokens.push(token);
            }
        }
    }

    /// Reads a token; none if something is missing or was wrong, which is noted.
    fn token(&mut self, at: &Range<usize>, table: &DeTable<'_>) -> Option<Token> {
        let (mut name, mut rate_limit, mut tasks) = (None, None, None);
        let (mut sha256, mut scopes) = (Vec::new(), Vec::new());
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "name" => name = self.token_name(value),
                "sha256" => sha256 = self.digests(value),
                "scopes" => scopes = self.scopes(value),
                "tasks" => tasks = self.covered_tasks(value),
                "rate_limit" => rate_limit = self.submit_rate(value),
                other => self.unknown(other, &key.span(), TOKEN_KEYS),
            }
        }
        for (key, example) in [
            ("name", "name = \"web\""),
            ("sha256", "sha256 = \"…\", which `anteroom token` prints"),
            ("scopes", "scopes = [\"submit\", \"read\"]"),
        ] {
            if !table.contains_key(key) {
                self.wrong(at, format!("a token has no {key}; expected {example}"));
            }
        }
        let is_whole = !sha256.is_empty() && !scopes.is_empty();
        name.filter(|_| is_whole).map(|name| Token {
            name,
            sha256,
            scopes,
            tasks,
            rate_limit,
        })
    }

    fn token_name(&mut self, value: &Value<'_>) -> Option<Name> {
        let mut name = None;
        self.put(&mut name, "the name", value, |text| {
            value::name(text).map(Some)
        });
        let others = &self.draft.config.tokens;
        if let Some(taken) = name.take_if(|name| others.iter().any(|other| other.name == *name)) {
            self.wrong(&value.span(), format!("two tokens are named {taken}"));
        }
        name
    }

    fn digests(&mut self, value: &Value<'_>) -> Vec<[u8; 32]> {
        let mut digests = Vec::new();
        let Some(list) = value.get_ref().as_array() else {
            let expected = "a string of 64 hexadecimal digits, or a list of them";
            if self.text("sha256", value, expected).is_some() {
                self.digest("sha256", value, &mut digests);
            }
            return digests;
        };
        if !(1..=TOKEN_DIGESTS_MAX).contains(&list.len()) {
            let count = list.len();
            let message =
                format!("sha256 is a list of {count}; expected 1 to {TOKEN_DIGESTS_MAX} of them");
            self.wrong(&value.span(), message);
        }
        for (index, element) in list.iter().enumerate() {
            let key = format!("sha256[{index}]");
            if self.text(&key, element, A_STRING).is_some() {
                self.digest(&key, element, &mut digests);
            }
        }
        digests
    }

    fn digest(&mut self, key: &str, value: &Value<'_>, digests: &mut Vec<[u8; 32]>) {
        let text = value.get_ref().as_str().unwrap_or_default();
        let Some(digest) = from_hex(text) else {
            let message = format!(
                "{key} is not 64 hexadecimal digits; `anteroom token` prints it beside the token, \
                 which does not belong here itself"
            );
            self.wrong(&value.span(), message);
            return;
        };
        let others = &self.draft.config.tokens;
        let is_taken = others.iter().any(|other| other.sha256.contains(&digest));
        if is_taken || digests.contains(&digest) {
            self.wrong(&value.span(), format!("{key} is given for a second time"));
            return;
        }
        digests.push(digest);
    }

    fn scopes(&mut self, value: &Value<'_>) -> Vec<Scope> {
        let all = Scope::ALL.map(Scope::as_str).join(", ");
        let words = self.texts("scopes", value, |text| match Scope::from_word(text) {
            Some(_) => Ok(text.to_owned()),
            None => Err(format!("is {text:?}; expected one of {all}")),
        });
        if value
            .get_ref()
            .as_array()
            .is_some_and(|list| list.is_empty())
        {
            let message = format!("scopes is empty; expected at least one of {all}");
            self.wrong(&value.span(), message);
        }
        let mut scopes = Vec::new();
        for scope in words.iter().filter_map(|word| Scope::from_word(word)) {
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        scopes
    }

    fn covered_tasks(&mut self, value: &Value<'_>) -> Option<Vec<Name>> {
        let texts = self.texts("tasks", value, |text| {
            value::name(text).map(|name| name.to_string())
        });
        let list = value.get_ref().as_array()?;
        if list.is_empty() {
            let message = "tasks is empty; leave it out if the token is for all of them";
            self.wrong(&value.span(), message);
        }
        Some(
            texts
                .iter()
                .filter_map(|text| Name::new(text).ok())
                .collect(),
        )
    }

    fn submit_rate(&mut self, value: &Value<'_>) -> Option<RateLimit> {
        let example = "{ limit = 600, period = \"1m\" }";
        let (limit, period) = self.rate(
            "rate_limit",
            value,
            (1..=RATE_LIMIT_MAX, RATE_PERIODS),
            example,
        )?;
        Some(RateLimit {
            limit: NonZeroU32::new(limit)?,
            period,
        })
    }
}

/// Warns of tokens for tasks that there are none of: they may be still to come.
pub(super) fn of_no_task(config: &Config) -> impl Iterator<Item = String> {
    config.tokens.iter().flat_map(|token| {
        let tasks = token.tasks.iter().flatten();
        let missing = tasks.filter(|task| !config.tasks.contains_key(*task));
        missing.map(|task| format!("token {} is for task {task}, which is none", token.name))
    })
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::super::tests::load_text;
    use super::*;

    const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn every_key_of_a_token_is_read() {
        let (old, new) = ("AB".repeat(32), "0c".repeat(32));
        let text = format!(
            r#"
            [tasks.wordcount]
            pull = true
            [[tokens]]
            name = "web"
            sha256 = ["{old}", "{new}"]
            scopes = ["submit", "read", "submit"]
            tasks = ["wordcount"]
            rate_limit = {{ limit = 600, period = "1m" }}
            [[tokens]]
            scopes = ["work", "admin"]
            sha256 = "{DIGEST}"
            name = "all"
            "#
        );
        let tokens = load_text(&text).unwrap().config.tokens;
        let web = Token {
            name: name("web"),
            sha256: vec![[0xab; 32], [0x0c; 32]],
            scopes: vec![Scope::Submit, Scope::Read],
            tasks: Some(vec![name("wordcount")]),
            rate_limit: Some(RateLimit {
                limit: NonZeroU32::new(600).unwrap(),
                period: Duration::from_mins(1),
            }),
        };
        assert_eq!(tokens[0], web);
        assert_eq!(tokens[1].name, name("all"));
        assert_eq!(tokens[1].scopes, [Scope::Work, Scope::Admin]);
        assert_eq!(tokens[1].sha256[0][..2], [0x9f, 0x86]);
        assert_eq!((&tokens[1].tasks, tokens[1].rate_limit), (&None, None));
        assert_eq!(tokens.len(), 2);
    }

    /// Returns the lines of a token that is well.
    fn whole() -> String {
        format!("sha256 = \"{DIGEST}\"\nscopes = [\"read\"]\nname = \"a\"\n")
    }

    fn told(cases: &[(String, &str)]) {
        for (text, expected) in cases {
            let error = load_text(&format!("[[tokens]]\n{text}"));
            let error = error.unwrap_err().to_string();
            let expected = format!("anteroom.toml:{expected}");
            assert!(
                error.starts_with(&expected),
                "{text}\ngave     {error}\nexpected {expected}"
            );
            assert_eq!(error.lines().count(), 1, "{text}\ngave {error}");
            assert!(!error.contains("the-token-itself"), "{error}");
        }
    }

    #[test]
    fn a_token_is_told_apart_by_name_and_digest() {
        let whole = whole();
        let other = whole.replace(DIGEST, &"1".repeat(64));
        told(&[
            (
                whole.replace("\"a\"", "\"A\""),
                "4:8: the name \"A\" has 'A' at byte 0; a name is ",
            ),
            (
                whole.replace("\"a\"", "\"anteroom.a\""),
                "4:8: the name \"anteroom.a\" begins ",
            ),
            (
                whole.replace("name = \"a\"\n", ""),
                "1:1: a token has no name; expected name = ",
            ),
            (
                "scopes = [\"read\"]\nname = \"a\"".into(),
                "1:1: a token has no sha256; expected ",
            ),
            (
                format!("sha256 = \"{DIGEST}\"\nname = \"a\""),
                "1:1: a token has no scopes; ",
            ),
            (
                whole.replace(DIGEST, "ar_the-token-itself"),
                "2:10: sha256 is not 64 hexadecimal ",
            ),
            (
                whole.replace(DIGEST, &DIGEST.replace('9', "g")),
                "2:10: sha256 is not 64 ",
            ),
            (
                whole.replace(DIGEST, &DIGEST.replace("9f", "ä")),
                "2:10: sha256 is not 64 ",
            ),
            (
                whole.replace(&format!("\"{DIGEST}\""), "3"),
                "2:10: sha256 is an integer; ",
            ),
            (
                whole.replace(&format!("\"{DIGEST}\""), "[]"),
                "2:10: sha256 is a list of 0; ",
            ),
            (
                whole.replace(&format!("\"{DIGEST}\""), "[\"x\"]"),
                "2:11: sha256[0] is not 64 ",
            ),
            (
                format!("{whole}[[tokens]]\n{other}"),
                "8:8: two tokens are named a",
            ),
            (
                format!("{whole}[[tokens]]\n{}", whole.replace("\"a\"", "\"b\"")),
                "6:10: sha256 is given for a second time",
            ),
        ]);
    }

    #[test]
    fn what_a_token_covers_is_checked() {
        let whole = whole();
        told(&[
            (
                whole.replace("\"read\"", "\"read\", \"write\""),
                "3:19: scopes[1] is \"write\"; expected one of submit, read, work, admin",
            ),
            (
                whole.replace("[\"read\"]", "\"read\""),
                "3:10: scopes is a string; expected a list ",
            ),
            (
                whole.replace("[\"read\"]", "[]"),
                "3:10: scopes is empty; expected at least one of ",
            ),
            (
                format!("{whole}tasks = []"),
                "5:9: tasks is empty; leave it out ",
            ),
            (
                format!("{whole}tasks = [\"A\"]"),
                "5:10: tasks[0] \"A\" has 'A' at byte 0; ",
            ),
            (
                format!("{whole}rate_limit = 3"),
                "5:14: rate_limit is an integer; expected a table",
            ),
            (
                format!("{whole}rate_limit = {{ limit = 3 }}"),
                "5:14: rate_limit is not whole; expected ",
            ),
            (
                format!("{whole}rate_limit = {{ limit = 0, period = \"1s\" }}"),
                "5:24: rate_limit.limit is 0; the least is 1",
            ),
            (
                format!("{whole}rate_limit = {{ limit = 1, period = \"1ms\" }}"),
                "5:36: rate_limit.period is 1ms; the least is 1s",
            ),
            (
                format!("{whole}rate_limit = {{ limit = 1, period = \"1s\", per = 3 }}"),
                "5:42: unknown key \"per\"; expected one of limit, period",
            ),
            (
                format!("{whole}scope = 3"),
                "5:1: unknown key \"scope\"; expected one of name, sha256, ",
            ),
        ]);
    }

    #[test]
    fn there_is_an_end_to_tokens() {
        let tokens = |count: usize| {
            let token = |number: usize| {
                format!(
                    "[[tokens]]\nname = \"t{number}\"\nsha256 = \"{number:064x}\"\nscopes = [\"read\"]\n"
                )
            };
            (0..count).map(token).collect::<String>()
        };
        assert!(load_text(&tokens(TOKENS_MAX)).is_ok());
        let error = load_text(&tokens(TOKENS_MAX + 1)).unwrap_err().to_string();
        assert!(
            error.contains("tokens are 1001; the most is 1000"),
            "{error}"
        );
    }

    #[test]
    fn a_token_for_a_task_that_is_not_there_is_warned_of() {
        let text = format!(
            "[[tokens]]\nname = \"a\"\nsha256 = \"{DIGEST}\"\nscopes = [\"read\"]\ntasks = [\"x\"]"
        );
        let warnings = load_text(&text).unwrap().warnings;
        assert_eq!(warnings, ["token a is for task x, which is none"]);
    }
}
