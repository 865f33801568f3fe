//! Where pushes and callbacks may go.
//!
//! A URL that a client gave could name any machine that this one reaches: a database, a cloud's
//! metadata. So what counts is where a connection really goes: [`Targets`] resolves the name,
//! checks every address, and the connector connects to those addresses and to no other. Whatever a
//! name, a number or a redirect pretends to be, it has to get through here. It never connects
//! itself.

mod networks;

use crate::callback::CheckTarget;
use anteroom_core::limits::TARGET_URL_BYTES_MAX;
use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Uri;
use ipnet::IpNet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long a submit waits for a name to be resolved. The connector has the last word anyway.
const CHECK_MAX: Duration = Duration::from_secs(1);
/// Names that a resolver looks up at once: each takes a thread for as long as its servers like.
const LOOKUPS_MAX: usize = 32;

/// Which targets are allowed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Targets(Arc<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    reach: Reach,
    resolver: Resolver,
}

#[derive(Clone, Debug)]
enum Reach {
    Anywhere,
    Public { allow: Vec<IpNet>, loopback: bool },
}

impl Targets {
    /// Allows every target: for those that the operator chose.
    pub fn anywhere() -> Self {
        Self::new(Reach::Anywhere)
    }

    /// Allows targets on the public internet, those in the networks `allow`, and, if `loopback`,
    /// this machine by its loopback addresses: for those that clients choose.
    pub fn public(allow: impl IntoIterator<Item = Network>, loopback: bool) -> Self {
        let allow = allow.into_iter().map(|network| network.0).collect();
        Self::new(Reach::Public { allow, loopback })
    }

    fn new(reach: Reach) -> Self {
        let resolver = Resolver::system();
        Self(Arc::new(Rule { reach, resolver }))
    }

    /// Has names looked up by `resolver` instead of the system.
    #[must_use]
    pub fn resolved_by(self, resolver: Resolver) -> Self {
        let reach = self.0.reach.clone();
        Self(Arc::new(Rule { reach, resolver }))
    }

    /// Tells whether something may be sent to `url`, as far as that is known now.
    ///
    /// A name that cannot be resolved within a second is taken: it may be there later, and each
    /// connection is checked again.
    ///
    /// # Errors
    ///
    /// [`TargetRefused`], in words that are fit for whoever gave the URL.
    pub async fn check(&self, url: &str) -> Result<(), TargetRefused> {
        let uri = parse(url)?;
        let (host, port) = place(&uri).ok_or(TargetRefused::NoHost)?;
        let looked_up = tokio::time::timeout(CHECK_MAX, self.addresses(host, port)).await;
        match looked_up {
            Ok(Err(Unreachable::Refused(refused))) => Err(refused),
            Ok(Ok(_) | Err(Unreachable::Unresolved { .. })) | Err(_) => Ok(()),
        }
    }

    /// Returns the addresses of a host, all of them allowed.
    pub(crate) async fn addresses(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Unreachable> {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = if let Ok(address) = literal.parse() {
            vec![SocketAddr::new(address, port)]
        } else {
            let found = self.0.resolver.resolve(host, port).await;
            found.map_err(|source| Unreachable::Unresolved {
                host: host.to_owned(),
                source,
            })?
        };
        if addresses.iter().all(|address| self.allows(address.ip())) {
            Ok(addresses)
        } else {
            let host = host.to_owned();
            Err(Unreachable::Refused(TargetRefused::Address { host }))
        }
    }

    fn allows(&self, address: IpAddr) -> bool {
        match &self.0.reach {
            Reach::Anywhere => true,
            Reach::Public { allow, loopback } => {
                networks::is_public(address)
                    || (*loopback && address.to_canonical().is_loopback())
                    || networks::has(allow, address)
            }
        }
    }
}

/// Why nothing may be sent to a URL. Reads after the name of what holds it. None is worth a retry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetRefused {
    /// It is too long.
    #[error("is {bytes} bytes; the limit is {TARGET_URL_BYTES_MAX}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// It is no URL.
    #[error("is no URL; expected one such as \"https://app.example.com/hook\"")]
    Malformed,
    /// It is of another protocol.
    #[error("does not begin with http:// or https://")]
    Scheme,
    /// It names no host, or no port that there is.
    #[error("names no host with a port that there is")]
    NoHost,
    /// It has a user's name in it, or a password, which would be kept and shown with the job.
    #[error("has a user name or password before the host, which is not supported")]
    UserInfo,
    /// It has a fragment, which is never sent.
    #[error("has a fragment (#), which would not be sent")]
    Fragment,
    /// It is not on the public internet. The address is not told: it may be a secret.
    #[error(
        "names {host}, which is at a private, loopback, link-local or otherwise reserved address \
         that is not allowed here"
    )]
    Address {
        /// The host, as it was given.
        host: String,
    },
}

#[async_trait]
impl CheckTarget for Targets {
    async fn check(&self, url: &str) -> Result<(), String> {
        Self::check(self, url).await.map_err(|it| it.to_string())
    }
}

/// Why a host has no addresses to connect to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    #[error("the URL {0}")]
    Refused(TargetRefused),
    #[error("cannot resolve {host}: {source}")]
    Unresolved { host: String, source: io::Error },
}

/// Checks what a URL is made of.
///
/// # Errors
///
/// [`TargetRefused`], but none of its address.
pub(crate) fn parse(url: &str) -> Result<Uri, TargetRefused> {
    if url.len() > TARGET_URL_BYTES_MAX {
        return Err(TargetRefused::TooLong { bytes: url.len() });
    }
    if url.contains('#') {
        return Err(TargetRefused::Fragment);
    }
    let uri: Uri = url.parse().map_err(|_| TargetRefused::Malformed)?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(TargetRefused::Scheme);
    }
    if uri.authority().is_some_and(|it| it.as_str().contains('@')) {
        return Err(TargetRefused::UserInfo);
    }
    place(&uri).ok_or(TargetRefused::NoHost)?;
    Ok(uri)
}

/// Returns host and port of a URL.
pub(crate) fn place(uri: &Uri) -> Option<(&str, u16)> {
    let authority = uri.authority()?;
    let host = Some(authority.host()).filter(|host| !host.is_empty())?;
    // A port that is no number is none to the parser.
    let has_colon = authority.as_str().len() > host.len();
    let port = match authority.port_u16() {
        Some(port) => port,
        None if has_colon => return None,
        None if uri.scheme_str() == Some("https") => 443,
        None => 80,
    };
    (port != 0).then_some((host, port))
}

/// A network whose addresses are allowed, such as `10.0.0.0/8`; a plain address is one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// A text that is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no network such as \"10.0.0.0/8\" or \"fd00::/8\"")]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        let net = text.parse().or_else(|_| address());
        net.map(Self).map_err(|_| NetworkError)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

type Lookup = dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// Finds the addresses of a name. Cheap to clone.
#[derive(Clone)]
pub struct Resolver(Arc<Lookup>);

impl Resolver {
    /// Returns a resolver of one's own: from a name and a port to addresses.
    pub fn new<F, Fut>(lookup: F) -> Self
    where
        F: Fn(String, u16) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        Self(Arc::new(move |host, port| lookup(host, port).boxed()))
    }

    /// Returns the system's, with a bound on how many names it looks up at once.
    fn system() -> Self {
        let places = Arc::new(Semaphore::new(LOOKUPS_MAX));
        Self::new(move |host, port| {
            let places = places.clone();
            async move {
                let place = places.acquire_owned().await.map_err(io::Error::other)?;
                let looking = tokio::task::spawn_blocking(move || {
                    // Its place is taken until the thread is free again, whoever still waits.
                    let _place = place;
                    let found = (host, port).to_socket_addrs()?;
                    Ok(found.collect())
                });
                looking.await.map_err(io::Error::other)?
            }
        })
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found = (self.0)(host.to_owned(), port).await?;
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
        }
        Ok(found)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_is_made_of_is_checked() {
        let long = format!("http://a/{}", "x".repeat(TARGET_URL_BYTES_MAX));
        for (url, refused) in [
            ("http://a", None),
            ("https://a.example:8443/x?y=1", None),
            ("HTTP://a/", None),
            ("http://[::1]:80/", None),
            (&*long, Some(TargetRefused::TooLong { bytes: long.len() })),
            ("", Some(TargetRefused::Malformed)),
            ("http://", Some(TargetRefused::Malformed)),
            ("http://a b/", Some(TargetRefused::Malformed)),
            ("http://a\r\nb/", Some(TargetRefused::Malformed)),
            ("http://ä/", Some(TargetRefused::Malformed)),
            ("/hook", Some(TargetRefused::Scheme)),
            ("a.example", Some(TargetRefused::Scheme)),
            ("ftp://a/", Some(TargetRefused::Scheme)),
            ("http://user@a/", Some(TargetRefused::UserInfo)),
            ("http://user:secret@a/", Some(TargetRefused::UserInfo)),
            ("http://good@127.0.0.1/", Some(TargetRefused::UserInfo)),
            ("http://a/#b", Some(TargetRefused::Fragment)),
            ("http://:80/", Some(TargetRefused::NoHost)),
            ("http://a:0/", Some(TargetRefused::NoHost)),
            ("http://a:99999/", Some(TargetRefused::NoHost)),
        ] {
            let parsed = parse(url).err();
            let fits = parsed == refused
                || (parsed == Some(TargetRefused::Malformed) && refused.is_some());
            assert!(fits, "{url} gave {parsed:?}, expected {refused:?}");
            let shown = parsed.map(|it| it.to_string()).unwrap_or_default();
            assert!(!shown.contains("secret"), "{shown}");
        }
    }

    #[test]
    fn a_network_has_a_prefix_or_is_one_address() {
        for (text, expected) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("10.1.2.3", Some("10.1.2.3/32")),
            ("fd00::/8", Some("fd00::/8")),
            ("::1", Some("::1/128")),
            ("10.0.0.0/33", None),
            ("private", None),
            ("", None),
        ] {
            let network = text.parse::<Network>().map(|it| it.to_string());
            assert_eq!(network.ok().as_deref(), expected, "{text}");
        }
    }
}
