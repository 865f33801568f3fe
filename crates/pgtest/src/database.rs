//! One database, for one test.

use crate::binaries::attempt;
use crate::cluster::Cluster;
use std::sync::atomic::{AtomicU64, Ordering};

/// A database that is dropped soon after this value.
#[derive(Debug)]
pub struct TestDatabase<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl<'a> TestDatabase<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        // Those of a process that was killed stay in a server that is not ours: never the same.
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("anteroom_test_{}_{number}", std::process::id());
        cluster.sql("postgres", &format!("DROP DATABASE IF EXISTS {name}"));
        cluster.sql("postgres", &format!("CREATE DATABASE {name}"));
        Self { cluster, name }
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its URL.
    pub fn url(&self) -> String {
        self.cluster.url(&self.name)
    }

    /// Returns what `psql` prints, values separated by `|`.
    ///
    /// # Panics
    ///
    /// With what the server says, where it refuses.
    pub fn sql(&self, sql: &str) -> String {
        self.cluster.sql(&self.name, sql)
    }

    /// Ends all connections to it, and returns how many there were.
    ///
    /// # Panics
    ///
    /// If the server refuses.
    pub fn terminate_backends(&self) -> usize {
        self.cluster.terminate_backends(&self.name)
    }
}

impl Drop for TestDatabase<'_> {
    /// Never waits: the server drops nothing before all who are logging in have done so, and one of
    /// them may be a future of this very thread, which it lets wait for a minute.
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        let mut psql = self.cluster.psql("postgres", &sql);
        // The server may be stopped; one of our own goes with all that is in it.
        std::thread::spawn(move || attempt(&mut psql));
    }
}
