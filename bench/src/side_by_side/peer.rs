//! Who is measured side by side: what each promises, how it is set up, and what it is asked.

use super::over_http::Site;
use crate::server::Kind;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Peer {
    /// A bare axum handler.
    Bare,
    /// Anteroom in memory.
    Memory,
    /// Anteroom on `SQLite`.
    Sqlite,
    /// Anteroom on `PostgreSQL`.
    Postgres,
    /// aiohttp with an `asyncio.Queue`.
    Aiohttp,
    /// `BullMQ` on Redis, which syncs each write.
    BullmqAlways,
    /// `BullMQ` on Redis, which syncs once a second.
    BullmqEverysec,
    /// arq on Redis, which syncs each write.
    ArqAlways,
    /// arq on Redis, which syncs once a second.
    ArqEverysec,
    /// graphile-worker.
    Graphile,
    /// pg-boss.
    Boss,
    /// apalis on `SQLite`.
    ApalisSqlite,
    /// apalis on `PostgreSQL`.
    ApalisPostgres,
    /// rustqueue.
    Rustqueue,
    /// beanstalkd.
    Beanstalkd,
    /// Restate.
    Restate,
}

/// What is lost with the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Nothing that was acknowledged.
    Synced,
    /// What was acknowledged of late.
    Late,
    /// Everything.
    None,
}

/// What runs beside the contender, and belongs to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    /// The bare handler.
    Bare,
    /// Anteroom's server on a store in a folder.
    Anteroom(Kind),
    /// Anteroom's server, and `PostgreSQL`.
    AnteroomPostgres,
    /// The server in Python.
    Aiohttp,
    /// Redis with this `appendfsync`.
    Redis(&'static str),
    /// `PostgreSQL`.
    Postgres,
    /// beanstalkd.
    Beanstalkd,
    /// Restate's server and a service on Node.js.
    Restate,
    /// Nothing: it works in a folder.
    Folder,
}

/// Which program the contender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// This one, as a client over HTTP.
    Http(Site),
    /// This one, as a client of beanstalkd.
    Beanstalkd,
    /// A script for Node.js.
    Node(&'static str),
    /// A script for Python.
    Python(&'static str),
    /// The program in Rust with others' crates, and who it is.
    Rust(&'static str),
}

/// What there is to know of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// What it is called.
    pub(crate) name: &'static str,
    /// What is lost with the machine.
    pub(crate) durability: Durability,
    /// By which setting.
    pub(crate) setting: &'static str,
    /// Whether the result of a job can be asked for later.
    pub(crate) keeps_results: bool,
    /// What runs beside it.
    pub(crate) beside: Beside,
    /// Which program it is.
    pub(crate) program: Program,
    /// Jobs at once where there is one a call.
    pub(crate) connections: u64,
    /// Jobs of one call in bulk; none where there is no such call.
    pub(crate) batch: Option<u64>,
    /// What its figures mean.
    pub(crate) note: &'static str,
}

impl Peer {
    /// Returns what there is to know.
    pub(crate) fn facts(self) -> &'static Facts {
        let found = FACTS.iter().find(|(peer, _)| *peer == self);
        let (_, facts) = found.expect("there is a line for each, as a test knows");
        facts
    }

    /// Tells whether it is Anteroom.
    pub(crate) const fn is_anteroom(self) -> bool {
        matches!(self, Self::Memory | Self::Sqlite | Self::Postgres)
    }
}

const ANTEROOM: Facts = Facts {
    name: "Anteroom, SQLite",
    durability: Durability::Synced,
    setting: "each acknowledged write is synced (WAL, synchronous=FULL, group commit)",
    keeps_results: true,
    beside: Beside::Anteroom(Kind::Sqlite),
    program: Program::Http(Site::Anteroom),
    connections: 256,
    batch: Some(1_000),
    note: "over HTTP: one job is a POST and the GET of its result, which waits for it, on 256 connections; \
           in bulk arrays of 1,000 to `POST /v1/jobs` on 4 connections; 256 no-ops at once (2,000 on \
           PostgreSQL)",
};

const BULLMQ: Facts = Facts {
    name: "BullMQ, Redis always",
    durability: Durability::Synced,
    setting: "Redis, appendonly with appendfsync always",
    keeps_results: true,
    beside: Beside::Redis("always"),
    program: Program::Node("bullmq.mjs"),
    connections: 64,
    batch: Some(500),
    note: "Queue.add with 64 under way, Queue.addBulk with 500 jobs, one Worker with concurrency 100 in the \
           same process; a result is waited for through QueueEvents",
};

const ARQ: Facts = Facts {
    name: "arq, Redis always",
    durability: Durability::Synced,
    setting: "Redis, appendonly with appendfsync always",
    keeps_results: true,
    beside: Beside::Redis("always"),
    program: Program::Python("arq_redis.py"),
    connections: 64,
    batch: None,
    note: "64 enqueue_job under way, one worker process with max_jobs 200; it polls every 10 ms (500 by \
           itself), and a result is looked for every millisecond (every 500 by itself)",
};

const POSTGRES: &str = "PostgreSQL, fsync and synchronous_commit on";

const FACTS: [(Peer, Facts); 16] = [
    (
        Peer::Bare,
        Facts {
            name: "bare axum handler",
            durability: Durability::None,
            setting: "keeps nothing and queues nothing: the ceiling",
            keeps_results: false,
            beside: Beside::Bare,
            program: Program::Http(Site::Bare),
            batch: None,
            note: "answers a POST and a GET at once with the very answers of Anteroom, on 256 connections",
            ..ANTEROOM
        },
    ),
    (
        Peer::Memory,
        Facts {
            name: "Anteroom, memory",
            durability: Durability::None,
            setting: "in memory",
            beside: Beside::Anteroom(Kind::Memory),
            ..ANTEROOM
        },
    ),
    (Peer::Sqlite, ANTEROOM),
    (
        Peer::Postgres,
        Facts {
            name: "Anteroom, PostgreSQL",
            setting: POSTGRES,
            beside: Beside::AnteroomPostgres,
            ..ANTEROOM
        },
    ),
    (
        Peer::Aiohttp,
        Facts {
            name: "aiohttp + asyncio.Queue",
            durability: Durability::None,
            setting: "in memory",
            keeps_results: true,
            beside: Beside::Aiohttp,
            program: Program::Http(Site::Aiohttp),
            connections: 64,
            batch: None,
            note: "the small pattern as it is known: POST puts into an asyncio.Queue and answers 202, 4 workers \
                   put results into a dict, GET by id; 64 connections, one process as the pattern is",
        },
    ),
    (Peer::BullmqAlways, BULLMQ),
    (
        Peer::BullmqEverysec,
        Facts {
            name: "BullMQ, Redis everysec",
            durability: Durability::Late,
            setting: "Redis, appendonly with appendfsync everysec",
            beside: Beside::Redis("everysec"),
            ..BULLMQ
        },
    ),
    (Peer::ArqAlways, ARQ),
    (
        Peer::ArqEverysec,
        Facts {
            name: "arq, Redis everysec",
            durability: Durability::Late,
            setting: "Redis, appendonly with appendfsync everysec",
            beside: Beside::Redis("everysec"),
            ..ARQ
        },
    ),
    (
        Peer::Graphile,
        Facts {
            name: "graphile-worker",
            durability: Durability::Synced,
            setting: POSTGRES,
            keeps_results: false,
            beside: Beside::Postgres,
            program: Program::Node("graphile-worker.mjs"),
            connections: 32,
            batch: Some(500),
            note: "addJob with 32 under way, addJobs with 500, 24 jobs at once, localQueue 500, completions in \
                   batches, as its page on performance has it; a job that is done is deleted, and a \
                   latency ends where its handler runs",
        },
    ),
    (
        Peer::Boss,
        Facts {
            name: "pg-boss",
            durability: Durability::Synced,
            setting: POSTGRES,
            keeps_results: true,
            beside: Beside::Postgres,
            program: Program::Node("pg-boss.mjs"),
            connections: 16,
            batch: Some(500),
            note: "send with 16 under way, insert with 500; 4 loops fetch and complete up to 500 at once and \
                   poll every 3 ms, faster than its own workers; a batch shares one result, and a latency \
                   ends where the job is completed",
        },
    ),
    (
        Peer::ApalisSqlite,
        Facts {
            name: "apalis, SQLite",
            durability: Durability::Synced,
            setting: "WAL, synchronous=FULL, set here: by itself it asks for OFF on one of its connections",
            keeps_results: true,
            beside: Beside::Folder,
            program: Program::Rust("apalis-sqlite"),
            connections: 64,
            batch: Some(500),
            note: "push with 64 under way, push_bulk with 500; a worker fetches up to 500, 64 jobs at once, poll \
                   every 10 ms; jobs that are done are removed before each part, as they slow it down",
        },
    ),
    (
        Peer::ApalisPostgres,
        Facts {
            name: "apalis, PostgreSQL",
            durability: Durability::Synced,
            setting: POSTGRES,
            keeps_results: true,
            beside: Beside::Postgres,
            program: Program::Rust("apalis-postgres"),
            connections: 64,
            batch: Some(500),
            note: "as on SQLite; jobs that are done are removed before each part here, too",
        },
    ),
    (
        Peer::Rustqueue,
        Facts {
            name: "rustqueue",
            durability: Durability::Synced,
            setting: "redb, each write committed with Durability::Immediate",
            keeps_results: true,
            beside: Beside::Folder,
            program: Program::Rust("rustqueue"),
            connections: 128,
            batch: Some(500),
            note: "the library in one process, BufferedRedbStorage with its defaults, which gathers single writes \
                   for up to 10 ms and answers when they are committed; push with 64 under way and 64 loops \
                   that pull and acknowledge one by one; push_batch with 500 and loops that do as many",
        },
    ),
    (
        Peer::Beanstalkd,
        Facts {
            name: "beanstalkd",
            durability: Durability::Synced,
            setting: "binlog with -f0: each write is synced",
            keeps_results: false,
            beside: Beside::Beanstalkd,
            program: Program::Beanstalkd,
            connections: 32,
            batch: Some(100),
            note: "16 producers and 16 consumers, a command at a time; it has no bulk call, so in bulk 2 and 2 \
                   send 100 commands at once; it keeps no results, and for the latency a result is put \
                   into another tube",
        },
    ),
    (
        Peer::Restate,
        Facts {
            name: "Restate",
            durability: Durability::Synced,
            setting: "one node, replicated log, synced (its defaults)",
            keeps_results: true,
            beside: Beside::Restate,
            program: Program::Http(Site::Restate),
            connections: 256,
            batch: None,
            note: "a no-op service on Node.js; one job is a POST to `/send` and a GET of `/attach`, on 256 \
                   connections",
        },
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn there_is_a_line_for_each() {
        for peer in Peer::value_variants() {
            let facts = peer.facts();
            assert!(!facts.note.is_empty() && facts.connections > 0, "{peer:?}");
        }
        assert_eq!(Peer::value_variants().len(), FACTS.len());
    }
}
