//! The `ANTEROOM_*` variables, read once.

use super::{Draft, Place, StoreUrl, value};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// What all variables of ours begin with.
const PREFIX: &str = "ANTEROOM_";

/// The variables of the process, by name.
///
/// Names that are not UTF-8 are left out: nothing can ask for them.
#[derive(Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// Reads the process's own environment.
    pub(crate) fn of_process() -> Self {
        Self::new(std::env::vars_os())
    }

    fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let named = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self(named.collect())
    }

    /// Returns the names and values of those of `names` that are set to UTF-8, for a program.
    pub(crate) fn inherited<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Vec<(String, String)> {
        let value = |name: &str| Some((name.to_owned(), self.0.get(name)?.to_str()?.to_owned()));
        names.into_iter().filter_map(value).collect()
    }

    /// Returns the file that `ANTEROOM_CONFIG` names.
    pub(super) fn config_file(&self) -> Option<PathBuf> {
        self.0.get("ANTEROOM_CONFIG").map(PathBuf::from)
    }

    /// Returns the server that `ANTEROOM_SERVER` names, for client commands.
    pub(crate) fn server(&self) -> Option<String> {
        let value = self.0.get("ANTEROOM_SERVER")?;
        Some(value.to_string_lossy().into_owned())
    }

    /// Returns the token that `ANTEROOM_TOKEN` holds, for client commands.
    pub(crate) fn token(&self) -> Option<&OsStr> {
        self.0.get("ANTEROOM_TOKEN").map(OsString::as_os_str)
    }

    /// Adds the password of `PGPASSWORD` to the URL of a database that has none.
    pub(super) fn add_password(&self, store: &mut StoreUrl) {
        match store {
            StoreUrl::Memory | StoreUrl::Sqlite(_) => {}
            #[cfg(feature = "postgres")]
            StoreUrl::Postgres(url) => {
                let password = self.0.get("PGPASSWORD").and_then(|value| value.to_str());
                if let Some(password) = password.filter(|_| !url.has_password()) {
                    **url = (**url).clone().with_password(password);
                }
            }
        }
    }

    /// Puts what the variables say into the draft, and returns warnings of those that say nothing.
    pub(super) fn apply(&self, folder: &Path, draft: &mut Draft) -> Vec<String> {
        let mut warnings = Vec::new();
        for (variable, value) in &self.0 {
            let Some(name) = variable.strip_prefix(PREFIX) else {
                continue;
            };
            let place = Place::Variable(variable.clone());
            let Some(text) = value.to_str() else {
                draft.wrong(place, "is not UTF-8");
                continue;
            };
            if !apply_one(name, text, folder, &place, draft) {
                warnings.push(format!("{place} is set, but nothing reads it"));
            }
        }
        warnings
    }
}

/// Puts what one variable says into the draft; false if there is no such setting.
fn apply_one(name: &str, text: &str, folder: &Path, place: &Place, draft: &mut Draft) -> bool {
    let key = name.to_ascii_lowercase();
    match name {
        "CONFIG" | "SERVER" | "TOKEN" => {}
        "LISTEN" => draft.listen(value::listen(text), place.clone()),
        "STORE" => draft.take(value::store(text, folder), place, &key, |config, it| {
            config.store = it;
        }),
        "INSECURE" => draft.take(value::truth(text), place, &key, |config, it| {
            config.insecure = it;
        }),
        "STRICT_QUEUES" => draft.take(value::truth(text), place, &key, |config, it| {
            config.strict_queues = it;
        }),
        "ALLOWED_ORIGINS" => {
            let texts = text
                .split(',')
                .map(str::trim)
                .filter(|text| !text.is_empty());
            let origins = texts.map(value::origin).collect();
            draft.take(origins, place, &key, |config, it| {
                config.allowed_origins = it;
            });
        }
        "LOG" => draft.take(value::log_filter(text), place, &key, |config, it| {
            config.log = it;
        }),
        "LOG_FORMAT" => draft.take(value::log_format(text), place, &key, |config, it| {
            config.log_format = it;
        }),
        _ => return draft.measure(&key, text, place),
    }
    true
}

impl fmt::Debug for Environment {
    /// Leaves the values out: some are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self::new(variables.map(|(name, value)| (name.into(), value.into())))
    }
}
