//! The URL of a database: where it is, who asks, and how the way there is protected.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, SslMode};

/// How long a connection may take to be made to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is asked after this long whether it is alive, and then so often.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TRIES: u32 = 3;
/// How long what was sent may go without a sign that it came.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// What may stand after the `?`.
const PARAMETERS: &[&str] = &[
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// The URL of a database: `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=...`.
///
/// Several hosts with ports of their own are separated by commas and asked in turn; a socket of
/// this machine is named by its folder, as in `postgres:///jobs?host=/run/postgresql`. Neither
/// `Debug` nor `Display` shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    pub(super) config: Config,
    pub(super) protection: Protection,
    pub(super) roots: Roots,
}

/// How the way to the database is protected (`sslmode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// Not at all.
    Disable,
    /// By TLS where the server has it, with anybody.
    Prefer,
    /// By TLS, with anybody.
    Require,
    /// By TLS, with whoever has a certificate that the authorities signed.
    VerifyCa,
    /// As before, and it has to be that of the host.
    VerifyFull,
}

/// Whose signatures under certificates count (`sslrootcert`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Roots {
    /// The machine's; where it has none, those of browsers.
    System,
    /// Those in this file, in PEM.
    File(PathBuf),
}

/// A text that is no URL of a database, and why. It repeats nothing that may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresUrlError {
    /// It begins otherwise.
    #[error("begins with neither postgres:// nor postgresql://")]
    Scheme,
    /// It names no host.
    #[error("names no host; expected postgres://USER@HOST/DATABASE")]
    NoHost,
    /// It names no database.
    #[error("names no database; expected postgres://USER@HOST/DATABASE")]
    NoDatabase,
    /// A parameter is none of ours.
    #[error("has the parameter {name}, which is not known; there are {}", PARAMETERS.join(", "))]
    Parameter {
        /// Its name.
        name: String,
    },
    /// What stands after the `?` is no parameter.
    #[error(
        "has something after the ? that is not NAME=VALUE; \
         a ? or a # of a user or password has to be percent-encoded (%3F, %23)"
    )]
    NoParameter,
    /// A value of `sslmode` that is not known.
    #[error("has an sslmode that is none of disable, prefer, require, verify-ca, verify-full")]
    SslMode,
    /// An authority is named, and nothing is to be verified.
    #[error("has an sslrootcert, which sslmode={mode} never looks at; use verify-full")]
    UnusedRoots {
        /// The value of `sslmode`.
        mode: &'static str,
    },
    /// Another part of it cannot be read.
    #[error(
        "cannot be read: {detail}; in a user or password, percent-encode what is no letter or digit"
    )]
    Unreadable {
        /// Which.
        detail: String,
    },
}

impl PostgresUrl {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// [`PostgresUrlError`].
    pub fn new(text: &str) -> Result<Self, PostgresUrlError> {
        let is_ours = text.starts_with("postgres://") || text.starts_with("postgresql://");
        if !is_ours {
            return Err(PostgresUrlError::Scheme);
        }
        let (address, parameters) = text.split_once('?').unwrap_or((text, ""));
        let (mut mode, mut roots, mut others) = (None, None, Vec::new());
        for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
            let (name, value) = parameter
                .split_once('=')
                .ok_or(PostgresUrlError::NoParameter)?;
            match name {
                "sslmode" => mode = Some(value),
                "sslrootcert" if value == "system" => roots = Some(Roots::System),
                "sslrootcert" => roots = Some(Roots::File(decoded(value)?)),
                _ if PARAMETERS.contains(&name) => others.push(parameter),
                _ if name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => {
                    let name = name.to_owned();
                    return Err(PostgresUrlError::Parameter { name });
                }
                _ => return Err(PostgresUrlError::NoParameter),
            }
        }
        let protection = protection(mode, roots.is_some())?;
        let config = Config::from_str(&format!("{address}?{}", others.join("&")));
        let mut config = config.map_err(|error| PostgresUrlError::Unreadable {
            // Of what this parser says only the cause names what is wrong; it repeats no values.
            detail: std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), ToString::to_string),
        })?;
        complete(&mut config, protection)?;
        Ok(Self {
            config,
            protection,
            roots: roots.unwrap_or(Roots::System),
        })
    }

    /// Tells whether it has a password.
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// Returns it with this password.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        self.config.password(password);
        self
    }

    /// Returns the hosts and ports.
    pub(super) fn address(&self) -> String {
        let ports = self.config.get_ports();
        let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        let hosts = self.config.get_hosts().iter().enumerate();
        let addresses: Vec<String> = hosts
            .map(|(at, host)| match host {
                Host::Tcp(name) if name.contains(':') => format!("[{name}]:{}", port(at)),
                Host::Tcp(name) => format!("{name}:{}", port(at)),
                Host::Unix(folder) => format!("{}/.s.PGSQL.{}", folder.display(), port(at)),
            })
            .collect();
        addresses.join(",")
    }

    /// Returns the name of the database.
    pub(super) fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_default()
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.config.get_user().unwrap_or_default();
        let secret = if self.has_password() { ":***" } else { "" };
        let at = if user.is_empty() && secret.is_empty() {
            ""
        } else {
            "@"
        };
        let (address, database) = (self.address(), self.database());
        write!(f, "postgres://{user}{secret}{at}{address}/{database}")
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresUrl")
            .field(&self.to_string())
            .finish()
    }
}

fn protection(mode: Option<&str>, has_roots: bool) -> Result<Protection, PostgresUrlError> {
    match (mode.unwrap_or("prefer"), has_roots) {
        ("disable", true) => Err(PostgresUrlError::UnusedRoots { mode: "disable" }),
        ("prefer", true) => Err(PostgresUrlError::UnusedRoots { mode: "prefer" }),
        ("disable", false) => Ok(Protection::Disable),
        ("prefer", false) => Ok(Protection::Prefer),
        ("require", false) => Ok(Protection::Require),
        // As other clients read it.
        ("require" | "verify-ca", _) => Ok(Protection::VerifyCa),
        ("verify-full", _) => Ok(Protection::VerifyFull),
        _ => Err(PostgresUrlError::SslMode),
    }
}

/// Checks what has to be there and sets what was left out.
fn complete(config: &mut Config, protection: Protection) -> Result<(), PostgresUrlError> {
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(PostgresUrlError::NoHost);
    }
    if config.get_dbname().is_none_or(str::is_empty) {
        return Err(PostgresUrlError::NoDatabase);
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(UNACKNOWLEDGED_MAX);
    }
    if config.get_keepalives_interval().is_none() {
        config
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_TRIES);
    }
    let is_remote = |host: &Host| matches!(host, Host::Tcp(_));
    let is_local = !config.get_hosts().iter().any(is_remote) && config.get_hostaddrs().is_empty();
    config.ssl_mode(match protection {
        // There is no TLS over a socket of the machine, and no need of it.
        _ if is_local => SslMode::Disable,
        Protection::Disable => SslMode::Disable,
        Protection::Prefer => SslMode::Prefer,
        Protection::Require | Protection::VerifyCa | Protection::VerifyFull => SslMode::Require,
    });
    config.channel_binding(ChannelBinding::Disable);
    Ok(())
}

/// Undoes the percent-encoding of a path.
fn decoded(value: &str) -> Result<PathBuf, PostgresUrlError> {
    let wrong = || PostgresUrlError::Unreadable {
        detail: "sslrootcert is wrongly percent-encoded".into(),
    };
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next(), rest.next()].map(|digit| digit.map(char::from));
        let [Some(high), Some(low)] =
            digits.map(|digit| digit.and_then(|digit| digit.to_digit(16)))
        else {
            return Err(wrong());
        };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| wrong())?);
    }
    String::from_utf8(bytes)
        .map(Into::into)
        .map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (text, shown) in [
            ("postgres://u:secret@h/d", "postgres://u:***@h:5432/d"),
            ("postgresql://u@h:6432/d", "postgres://u@h:6432/d"),
            ("postgres://h/d", "postgres://h:5432/d"),
            (
                "postgres://u:secret@a:1,b:2/d",
                "postgres://u:***@a:1,b:2/d",
            ),
            ("postgres://u@[::1]:5/d", "postgres://u@[::1]:5/d"),
            (
                "postgres:///d?host=/run/postgresql&user=u&password=secret",
                "postgres://u:***@/run/postgresql/.s.PGSQL.5432/d",
            ),
        ] {
            let url = PostgresUrl::new(text).unwrap();
            assert_eq!(url.to_string(), shown, "{text}");
            assert!(!format!("{url:?}").contains("secret"), "{url:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_without_a_password() {
        for (text, part) in [
            ("mysql://u:secret@h/d", "neither postgres:// nor"),
            ("postgres://", "names no host"),
            ("postgres:///d", "names no host"),
            ("postgres://u:secret@h", "names no database"),
            ("postgres://u:secret@h/", "names no database"),
            ("postgres://u:secret@h/d?pool=5", "the parameter pool"),
            ("postgres://u:sec?ret@h/d", "percent-encoded"),
            ("postgres://u:sec?secret=@h/d", "the parameter secret"),
            ("postgres://u:secret@h/d?sslmode=on", "sslmode"),
            ("postgres://u:secret@h/d?sslrootcert=/ca", "use verify-full"),
            ("postgres://u:secret@h:port/d", "cannot be read"),
            ("postgres://u:secret@h/d?port=x", "cannot be read"),
            (
                "postgres://u:secret@h/d?sslmode=require&sslrootcert=%zz",
                "percent-encoded",
            ),
        ] {
            let refusal = PostgresUrl::new(text).unwrap_err().to_string();
            assert!(refusal.contains(part), "{text}: {refusal}");
            assert!(
                part.contains("secret") || !refusal.contains("secret"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn sslmode_says_how_the_way_is_protected() {
        for (mode, expected, ssl_mode) in [
            ("", Protection::Prefer, SslMode::Prefer),
            ("sslmode=disable", Protection::Disable, SslMode::Disable),
            ("sslmode=require", Protection::Require, SslMode::Require),
            (
                "sslmode=verify-full",
                Protection::VerifyFull,
                SslMode::Require,
            ),
            (
                "sslmode=require&sslrootcert=/ca.pem",
                Protection::VerifyCa,
                SslMode::Require,
            ),
        ] {
            let url = PostgresUrl::new(&format!("postgres://h/d?{mode}")).unwrap();
            assert_eq!(
                (url.protection, url.config.get_ssl_mode()),
                (expected, ssl_mode),
                "{mode}"
            );
        }
        let local = PostgresUrl::new("postgres:///d?host=/run&sslmode=require").unwrap();
        assert_eq!(local.config.get_ssl_mode(), SslMode::Disable);
    }

    #[test]
    fn a_file_of_authorities_may_have_any_name() {
        let url = "postgres://h/d?sslmode=verify-full&sslrootcert=/etc/our%20ca.pem";
        let url = PostgresUrl::new(url).unwrap();
        assert_eq!(url.roots, Roots::File("/etc/our ca.pem".into()));
    }
}
