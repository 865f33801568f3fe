//! What an engine says of itself to those who submit to its store without it.

use anteroom_core::Name;
use std::collections::BTreeMap;
use std::time::Duration;

/// What holds for submits: what [`Engine::submit`](crate::Engine::submit) goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The tasks that this node takes jobs of.
    pub tasks: Vec<PublishedTask>,
    /// The queues that its configuration or a task names, and how many jobs may wait in each by its
    /// configuration; none: any number.
    pub queues: BTreeMap<Name, Option<u64>>,
    /// Whether jobs may wait in those only.
    pub strict_queues: bool,
}

/// What holds for submits of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedTask {
    /// Its name.
    pub name: Name,
    /// The queue of its jobs that name none.
    pub queue: Name,
    /// How many attempts a job gets that does not say.
    pub max_attempts: u32,
    /// How long an attempt may run of a job that does not say.
    pub timeout: Duration,
    /// How long a finished job is kept that does not say.
    pub retain: Duration,
    /// The largest input, in bytes.
    pub input_bytes_max: usize,
    /// The media type of its inputs; none: any.
    pub content_type: Option<String>,
    /// Whether its inputs are checked by more than their media type.
    pub has_schema: bool,
}
