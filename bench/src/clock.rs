//! What time it is, for measuring how long something takes.

use std::time::{Duration, Instant};

/// Returns the time.
#[expect(
    clippy::disallowed_methods,
    reason = "this program measures time; nothing that it decides hangs on it"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Blocks the thread until `instant`.
pub(crate) fn sleep_until(instant: Instant) {
    std::thread::sleep(instant.saturating_duration_since(now()));
}

/// Waits so long, without blocking the thread.
#[expect(
    clippy::disallowed_methods,
    reason = "this program measures time; nothing that it decides hangs on it"
)]
pub(crate) async fn pause(span: Duration) {
    tokio::time::sleep(span).await;
}

/// Returns whole microseconds.
pub(crate) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
