//! Reads `[webhooks]` and `[callbacks]`: what signs what is sent to others, and where it may go.
//!
//! What stands where a secret should is never repeated in a mistake: it may nearly be one.

use super::reader::{A_STRING, Reader, Value};
use anteroom::run::targets::{Network, NetworkError};
use anteroom::webhook::{SECRETS_MAX, Secret, SecretError};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The keys of `[webhooks]`.
const WEBHOOKS_KEYS: &str = "secrets, secrets_file";
/// The keys of `[callbacks]`.
const CALLBACKS_KEYS: &str = "allow";
/// Bytes of a file of secrets: it has a few lines.
const SECRETS_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Networks that callbacks may be allowed: each connection goes through all of them.
const NETWORKS_MAX: usize = 1_000;

impl Reader<'_> {
    pub(super) fn webhooks(&mut self, value: &Value<'_>) {
        let Some(table) = self.table("webhooks", value) else {
            return;
        };
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "secrets" => self.secrets(value),
                "secrets_file" => self.secrets_file(value),
                other => self.unknown(other, &key.span(), WEBHOOKS_KEYS),
            }
        }
        if table.contains_key("secrets")
            && let Some(file) = table.get("secrets_file")
        {
            let message = "webhooks has both secrets and secrets_file; expected one of them";
            self.wrong(&file.span(), message);
        }
    }

    fn secrets(&mut self, value: &Value<'_>) {
        let Some(list) = value.get_ref().as_array() else {
            self.wrong_type("secrets", value, "a list of strings");
            return;
        };
        for (index, element) in list.iter().enumerate() {
            let key = format!("secrets[{index}]");
            if let Some(text) = self.text(&key, element, A_STRING) {
                self.secret(&key, element, text.parse());
            }
        }
    }

    /// Reads a secret a line from the file that a path names, relative to this one.
    fn secrets_file(&mut self, value: &Value<'_>) {
        let Some(path) = self.text("secrets_file", value, "the path of a file") else {
            return;
        };
        let path = self.folder.join(path);
        let shown = path.display();
        let (text, is_open_to_all) = match read(&path) {
            Ok(read) => read,
            Err(error) => {
                let message = format!("secrets_file cannot be read from {shown}: {error}");
                self.wrong(&value.span(), message);
                return;
            }
        };
        if is_open_to_all {
            let place = self.place(&value.span());
            self.draft.warnings.push(format!(
                "{place}: everybody on this machine can read the secrets in {shown}; `chmod o-r` \
                 keeps them"
            ));
        }
        let lines = text.lines().map(str::trim).enumerate();
        let mut count = 0;
        for (index, line) in lines.filter(|(_, line)| !line.is_empty()) {
            let key = format!("secrets_file {shown} line {}", index + 1);
            self.secret(&key, value, line.parse());
            count += 1;
        }
        if count == 0 {
            let message = format!("secrets_file {shown} has no secret in it; expected one a line");
            self.wrong(&value.span(), message);
        }
    }

    fn secret(&mut self, key: &str, value: &Value<'_>, parsed: Result<Secret, SecretError>) {
        let message = match parsed {
            Ok(_) if self.draft.config.webhook_secrets.len() == SECRETS_MAX => {
                format!("{key} is one too many; the most is {SECRETS_MAX}")
            }
            Ok(secret) => {
                self.draft.config.webhook_secrets.push(secret);
                return;
            }
            Err(refusal) => {
                format!("{key} {refusal}; expected \"whsec_…\": 24 to 64 random bytes in base64")
            }
        };
        self.wrong(&value.span(), message);
    }

    pub(super) fn callbacks(&mut self, value: &Value<'_>) {
        let Some(table) = self.table("callbacks", value) else {
            return;
        };
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "allow" => self.allowed_networks(value),
                other => self.unknown(other, &key.span(), CALLBACKS_KEYS),
            }
        }
    }

    fn allowed_networks(&mut self, value: &Value<'_>) {
        let texts = self.texts("allow", value, |text| {
            let network = text.parse::<Network>();
            let refused = |refusal: NetworkError| format!("is {text:?}, which {refusal}");
            network.map(|it| it.to_string()).map_err(refused)
        });
        if texts.len() > NETWORKS_MAX {
            let message = format!(
                "allow is a list of {}; the most is {NETWORKS_MAX}",
                texts.len()
            );
            self.wrong(&value.span(), message);
        }
        let networks = texts.iter().filter_map(|text| text.parse().ok());
        self.draft.config.callback_networks = networks.collect();
    }
}

/// Reads a file of secrets, and whether everybody may.
fn read(path: &Path) -> io::Result<(String, bool)> {
    use std::os::unix::fs::PermissionsExt as _;

    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut text = String::new();
    let read = file
        .take(SECRETS_FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > SECRETS_FILE_BYTES_MAX {
        let message = format!("it is longer than {SECRETS_FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok((text, mode & 0o004 != 0))
}

#[cfg(test)]
mod tests {
    use super::super::tests::load_text;
    use super::super::{Environment, Flags, load};
    use std::os::unix::fs::PermissionsExt as _;

    const ONE: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    #[test]
    fn secrets_and_networks_are_read() {
        let text = format!(
            "[webhooks]\nsecrets = [\"{ONE}\", \"{OTHER}\"]\n\
             [callbacks]\nallow = [\"10.0.0.0/8\", \"::1\"]\n"
        );
        let config = load_text(&text).unwrap().config;
        assert_eq!(
            config.webhook_secrets,
            [ONE.parse().unwrap(), OTHER.parse().unwrap()]
        );
        assert_eq!(
            config.callback_networks,
            ["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()]
        );
        assert!(!format!("{config:?}").contains("MfKQ"), "{config:?}");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_without_the_secret() {
        for (text, expected) in [
            (
                "webhooks = 3",
                "1:12: webhooks is an integer; expected a table",
            ),
            (
                "[webhooks]\nsecret = 3",
                "2:1: unknown key \"secret\"; expected one of secrets, ",
            ),
            (
                "[webhooks]\nsecrets = \"x\"",
                "2:11: secrets is a string; expected a list",
            ),
            (
                "[webhooks]\nsecrets = [3]",
                "2:12: secrets[0] is an integer; expected a string",
            ),
            (
                "[webhooks]\nsecrets = [\"nearly-a-secret\"]",
                "2:12: secrets[0] does not begin with \"whsec_\"; expected \"whsec_…\"",
            ),
            (
                "[webhooks]\nsecrets = [\"whsec_nearly-a-secret\"]",
                "2:12: secrets[0] is not base64",
            ),
            (
                "[webhooks]\nsecrets = [\"whsec_AAAA\"]",
                "2:12: secrets[0] is 3 bytes; a secret is 24 ",
            ),
            (
                "[webhooks]\nsecrets_file = \"none\"",
                "2:16: secrets_file cannot be read from ",
            ),
            (
                "[callbacks]\nallow = [\"x\"]",
                "2:10: allow[0] is \"x\", which is no network such ",
            ),
            (
                "[callbacks]\nallow = \"10.0.0.0/8\"",
                "2:9: allow is a string; expected a list",
            ),
            (
                "[callbacks]\ndeny = []",
                "2:1: unknown key \"deny\"; expected one of allow",
            ),
        ] {
            let error = load_text(text).unwrap_err().to_string();
            let expected = format!("anteroom.toml:{expected}");
            assert!(
                error.starts_with(&expected),
                "{text}\ngave     {error}\nexpected {expected}"
            );
            assert!(!error.contains("nearly-a-secret"), "{error}");
        }
        let many = format!(
            "[webhooks]\nsecrets = [{}]",
            format!("\"{ONE}\",").repeat(11)
        );
        let error = load_text(&many).unwrap_err().to_string();
        assert!(
            error.contains("secrets[10] is one too many; the most is 10"),
            "{error}"
        );
        assert!(!error.contains("MfKQ"), "{error}");
    }

    #[test]
    fn a_file_of_secrets_has_one_a_line_and_should_not_be_open_to_all() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = folder.path().join("secrets");
        let text = "[webhooks]\nsecrets_file = \"secrets\"\n";
        std::fs::write(folder.path().join("anteroom.toml"), text).unwrap();
        let load = || load(&Flags::default(), &Environment::default(), folder.path());
        let mode = |mode| {
            std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(mode)).unwrap();
        };

        std::fs::write(&secrets, format!("{ONE}\n\n  {OTHER}\n")).unwrap();
        mode(0o640);
        let loaded = load().unwrap();
        assert_eq!(loaded.config.webhook_secrets.len(), 2);
        assert_eq!(loaded.warnings, [""; 0]);

        mode(0o644);
        let warnings = load().unwrap().warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let expected = "anteroom.toml:2:16: everybody on this machine can read the secrets in ";
        assert!(warnings[0].starts_with(expected), "{warnings:?}");

        for (content, expected) in [
            (
                format!("{ONE}\nnearly-a-secret\n"),
                "line 2 does not begin with",
            ),
            ("\n".to_owned(), "has no secret in it"),
            ("x".repeat(70_000), "it is longer than 65536 bytes"),
        ] {
            std::fs::write(&secrets, content).unwrap();
            let error = load().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("nearly-a-secret"), "{error}");
        }
    }
}
