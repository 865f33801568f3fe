//! `anteroom token`: makes a token, and the lines that make a server know it.

use super::{Stopped, TokenArgs};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// What tokens begin with, so that a leaked one is found by those who look for such.
const PREFIX: &str = "ar_";
/// The letters of base64 that need no escape in a URL or header.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Prints a new token on the first line, and what belongs into the configuration after it.
pub(super) fn run(args: &TokenArgs) -> Result<ExitCode, Stopped> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| Stopped::Trouble(format!("the system gives no randomness: {error}")))?;
    let token = format!("{PREFIX}{}", url_safe(&secret));
    let text = if args.json {
        in_json(args, &token)
    } else {
        format!(
            "{token}\n\n# The first line is the token: it goes to who calls the server, and is kept \
             nowhere else.\n# These belong into anteroom.toml:\n{}",
            in_toml(args, &token)
        )
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Stopped::Trouble(format!("cannot print: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

fn in_toml(args: &TokenArgs, token: &str) -> String {
    let mut toml = format!(
        "[[tokens]]\nname = \"{}\"\nsha256 = \"{}\"\nscopes = {}\n",
        args.name,
        digest(token),
        // A list of plain words is written alike in both.
        serde_json::json!(scopes(args)),
    );
    if !args.tasks.is_empty() {
        // Writing to a string does not fail.
        let _ = writeln!(toml, "tasks = {}", serde_json::json!(tasks(args)));
    }
    toml
}

fn in_json(args: &TokenArgs, token: &str) -> String {
    let mut view = serde_json::json!({
        "token": token,
        "name": &*args.name,
        "sha256": digest(token),
        "scopes": scopes(args),
        "toml": in_toml(args, token),
    });
    if !args.tasks.is_empty() {
        view["tasks"] = serde_json::json!(tasks(args));
    }
    format!("{view:#}\n")
}

fn scopes(args: &TokenArgs) -> Vec<&'static str> {
    let mut words: Vec<&str> = Vec::new();
    for scope in &args.scopes {
        if !words.contains(&scope.as_str()) {
            words.push(scope.as_str());
        }
    }
    words
}

fn tasks(args: &TokenArgs) -> Vec<&str> {
    args.tasks.iter().map(|task| &**task).collect()
}

fn digest(token: &str) -> String {
    Sha256::digest(token)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// Writes bytes as base64 for URLs, without padding.
fn url_safe(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let at = |index| u32::from(group.get(index).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..=group.len() {
            let letter = bits >> (18 - 6 * place) & 63;
            text.push(char::from(LETTERS[letter as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_the_rfc_says() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"foobar", "Zm9vYmFy"),
            (&[0xfb, 0xff, 0xfe], "-__-"),
        ] {
            assert_eq!(url_safe(bytes), expected, "{bytes:?}");
        }
    }
}
