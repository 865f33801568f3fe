//! A `PostgreSQL` server of their own for tests: started from the binaries of this machine, listening
//! on loopback and on a socket, gone when the process is, however it ends.
//!
//! ```no_run
//! let cluster = anteroom_pgtest::shared();
//! let database = cluster.database();
//! assert_eq!(database.sql("SELECT 1"), "1");
//! ```
//!
//! [`shared`] gives all tests of a process one server, and each its own database. A test that
//! restarts the server or sets it up otherwise starts one for itself: [`Cluster::start`].
//! `DATABASE_URL` names a running server to use in place of the shared one; its user has to be
//! allowed to make databases.

mod binaries;
mod cluster;
mod database;
mod pooler;

pub use binaries::{NotThere, binaries};
pub use cluster::{Cluster, Shutdown, shared};
pub use database::TestDatabase;
pub use pooler::{Pooler, Statements, shared_pooler};
