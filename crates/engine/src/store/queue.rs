//! What a store keeps of a queue, and how that is changed.

use anteroom_core::{Name, QueueSettings};

/// What was set for a queue, as a store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptQueue {
    /// The queue.
    pub name: Name,
    /// Rises with every change, from 1.
    pub version: u64,
    /// What was set.
    pub settings: QueueSettings,
}

/// What is to be set for a queue, in the place of all that was set before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueChange {
    /// The queue.
    pub name: Name,
    /// What is to hold.
    pub settings: QueueSettings,
    /// Refuse it unless this is the version that is kept; 0: unless none is.
    pub if_version: Option<u64>,
}

/// What became of a [`QueueChange`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueSet {
    /// It holds.
    Done(KeptQueue),
    /// Another version is kept than the change was made for, this one; nothing changed.
    VersionDiffers(Option<KeptQueue>),
    /// Settings of [as many queues](anteroom_core::limits::QUEUES_KEPT_MAX) are kept as may be, and
    /// not of this one; nothing changed.
    TooMany,
}

/// Decides about a change: the version that it makes, or why it is refused.
pub(super) fn next_version(
    kept: Option<&KeptQueue>,
    all: usize,
    change: &QueueChange,
) -> Result<u64, QueueSet> {
    let version = kept.map_or(0, |kept| kept.version);
    if change.if_version.is_some_and(|wanted| wanted != version) {
        return Err(QueueSet::VersionDiffers(kept.cloned()));
    }
    if kept.is_none() && all >= anteroom_core::limits::QUEUES_KEPT_MAX {
        return Err(QueueSet::TooMany);
    }
    Ok(version + 1)
}
