//! A place in the network of its own for one node, whose way to the database can be cut.
//!
//! Two cables lead into it: over one the node is asked by its clients, over the other it asks its
//! database. Pulling the second one leaves connections open that nothing comes through.

use crate::storage::run;
use anyhow::Context;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU8, Ordering};

/// A network namespace. Removed, with its cables, when dropped.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
    number: u8,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// When this machine has none, or lets only others make them.
    pub(crate) fn make() -> anyhow::Result<Self> {
        static MADE: AtomicU8 = AtomicU8::new(0);
        // Several campaigns may run beside each other: each draws where its cables lie.
        let drawn = u8::try_from(std::process::id() % 100).unwrap_or_default();
        let number = drawn + 100 * (MADE.fetch_add(1, Ordering::Relaxed) % 2);
        let namespace = Self {
            name: format!("anteroom-{}-{number}", std::process::id()),
            number,
        };
        run("ip", &["netns", "add", &namespace.name]).context("make a network namespace")?;
        for cable in [Cable::Clients, Cable::Database] {
            namespace.lay(cable)?;
        }
        namespace.inside(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    fn lay(&self, cable: Cable) -> anyhow::Result<()> {
        let (here, there) = (self.end(cable), format!("{}n", self.end(cable)));
        let own = format!("{}/30", self.address(cable, 1));
        let other = format!("{}/30", self.address(cable, 2));
        run(
            "ip",
            &[
                "link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &self.name,
            ],
        )?;
        run("ip", &["addr", "add", &own, "dev", &here])?;
        run("ip", &["link", "set", &here, "up"])?;
        self.inside(&["addr", "add", &other, "dev", &there])?;
        self.inside(&["link", "set", &there, "up"])
    }

    /// Returns where a node listens for its clients.
    pub(crate) fn node(&self) -> IpAddr {
        self.address(Cable::Clients, 2)
    }

    /// Returns where the database is to be found.
    pub(crate) fn database(&self) -> IpAddr {
        self.address(Cable::Database, 1)
    }

    /// Returns the words before a program that is to run in it.
    pub(crate) fn wrapper(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name]
            .map(str::to_owned)
            .to_vec()
    }

    /// Pulls the cable to the database, or puts it back.
    ///
    /// # Errors
    ///
    /// When the machine does not let us.
    pub(crate) fn reach_database(&self, reaches: bool) -> anyhow::Result<()> {
        let how = if reaches { "up" } else { "down" };
        run("ip", &["link", "set", &self.end(Cable::Database), how])
    }

    fn end(&self, cable: Cable) -> String {
        match cable {
            Cable::Clients => format!("anc{}", self.number),
            Cable::Database => format!("and{}", self.number),
        }
    }

    fn address(&self, cable: Cable, end: u8) -> IpAddr {
        let net = match cable {
            Cable::Clients => 231,
            Cable::Database => 232,
        };
        IpAddr::V4(Ipv4Addr::new(10, net, self.number, end))
    }

    fn inside(&self, words: &[&str]) -> anyhow::Result<()> {
        let words = [&["-n", &self.name], words].concat();
        run("ip", &words)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The ends inside go with it, and their other ends with them.
        let _left_behind = run("ip", &["netns", "del", &self.name]);
    }
}

#[derive(Clone, Copy, Debug)]
enum Cable {
    Clients,
    Database,
}
