//! The bounds of HTTP, with their units and reasons. Those of jobs are in
//! [`anteroom::core::limits`].

use std::time::Duration;

/// The longest that a client may wait in one request: below the idle timeout of common proxies.
pub const WAIT_MAX: Duration = Duration::from_mins(1);
/// How long `…/call` waits where the client does not say.
pub const CALL_WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// The longest advice in `Retry-After` that is made by a forecast: somebody may hurry it.
pub const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);
/// When to come back to a server that is shutting down: another one is up by then.
pub const RETRY_AFTER_DRAINING: Duration = Duration::from_secs(5);
/// When to come back to a queue that is full, where it cannot be told when there is room: it is paused,
/// or none of its jobs has ended yet.
pub const RETRY_AFTER_QUEUE_FULL: Duration = Duration::from_secs(5);
/// When to come back after an overload or a store's failure.
pub const RETRY_AFTER_OVERLOAD: Duration = Duration::from_secs(1);

/// How often a stream of events says that it is still there: below the idle time of proxies.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// How soon a browser comes back to a stream that broke.
pub const RECONNECT_AFTER: Duration = Duration::from_secs(2);
/// Bytes from which on no more events are put into one piece of a stream.
pub const STREAM_PIECE_BYTES: usize = 32 * 1024;

/// Bytes of a path with its query: what RFC 9110 asks for, and no more.
pub const URI_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a request's head: line and fields.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Fields of a request's head.
pub const HEAD_FIELDS_MAX: usize = 100;
/// Bytes of the line before a chunk of a body: its size, and extensions that nobody uses.
pub const CHUNK_LINE_BYTES_MAX: usize = 1024;
/// Bytes of a change to a job: room for all its tags, each character escaped.
pub const AMENDMENT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of what the holder of a lease says beside a result: a few kilobytes and lines of a log.
pub const EXTENSION_BYTES_MAX: usize = 1024 * 1024;
/// Tasks, and queues, that a call for leases may name: each is looked up for each claim.
pub const LEASE_NAMES_MAX: usize = 1_000;
/// Settles in one call: as many as there are leases in one.
pub const SETTLES_MAX: usize = 1_000;
/// Bytes of all bodies together that are being received or that the store does not have yet.
pub const BUFFERED_BYTES_MAX_DEFAULT: usize = 256 * 1024 * 1024;
/// Bytes of a body of envelopes.
pub const BULK_BYTES_MAX_DEFAULT: usize = 64 * 1024 * 1024;
/// Mistakes of a body that are told: a person mends no more at a time.
pub const MISTAKES_MAX: usize = 20;
/// Bytes of an unknown name that are told.
pub const NAME_SHOWN_BYTES_MAX: usize = 64;
/// Bytes of an option in an envelope: no more than a query can hold.
pub const OPTION_BYTES_MAX: usize = URI_BYTES_MAX;
/// Bytes of envelopes that are read at once by the thread that received them: a millisecond's
/// work. More goes to a thread of its own, so that others are served meanwhile.
pub const PARSED_INLINE_BYTES_MAX: usize = 128 * 1024;
/// Lines of a stream that are committed together at the most.
pub const STREAM_CHUNK_LINES_MAX: usize = 1_000;
/// Bytes of lines of a stream from which on they are committed.
pub const STREAM_CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that a line of a stream may have beside its input, which base64 makes a third longer.
pub const STREAM_LINE_EXTRA_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a body that changes settings: it has a handful of members.
pub const SETTINGS_BYTES_MAX: usize = 64 * 1024;
/// Bytes up to which a body is copied out of the buffer of its connection.
pub const BODY_COPIED_MAX: usize = 4 * 1024;
/// How long the next piece of a body may take.
pub const BODY_PIECE_MAX: Duration = Duration::from_mins(1);
/// Bytes a second that a body comes with at the least, after its first minute.
pub const BODY_RATE_MIN: usize = 8 * 1024;

/// Tokens of a server: every request has its own compared with all of them.
pub const TOKENS_MAX: usize = 1_000;
/// Digests of one token: the old and the new while it is replaced, and some to spare.
pub const TOKEN_DIGESTS_MAX: usize = 10;

/// Connections at once; more wait in the system's backlog.
pub const CONNECTIONS_MAX_DEFAULT: usize = 10_000;
/// From the first byte of a request's head to its last.
pub const HEAD_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// How long a connection may be silent between requests: above a proxy's own idle time.
pub const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(75);
/// How long a client may take none of its answer.
pub const WRITE_TIMEOUT_DEFAULT: Duration = Duration::from_mins(1);
/// How long requests under way may take once the server stops listening.
pub const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// How long the rest of a refused body is read, so that the client gets to read the answer.
pub const LINGER: Duration = Duration::from_secs(2);
/// The wait after a failed `accept`, such as for want of descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Routes whose requests are counted apart: more than there are.
pub const COUNTED_ROUTES_MAX: usize = 128;
/// Queues whose jobs are counted apart in a scrape: those of the tasks, and as many as clients may
/// make.
pub const COUNTED_QUEUES_MAX: usize = 2_000;
/// How long the store may take to show that it is there.
pub const READY_TIMEOUT: Duration = Duration::from_secs(2);
