//! Tells the work that it belongs to a trace, in the words of the W3C's Trace Context.
//!
//! There is no trace of the submit to go on with: a job is a trace of its own. All of its attempts
//! belong to it, each under a parent of its own. Nothing is recorded here.

use anteroom_core::JobId;
use std::fmt::Write as _;

/// Returns the `traceparent` of an attempt that begins now.
///
/// The id of the trace is the job's, without its hyphens, so that one finds the other. It is
/// flagged as sampled: whoever is asked to record it decides that no further by this server.
pub(crate) fn traceparent(job: JobId) -> String {
    // Zero is no parent.
    let parent = rand::random::<u64>().max(1);
    let mut text = String::with_capacity(55);
    text.push_str("00-");
    for byte in job.as_bytes() {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    let _ = write!(text, "-{parent:016x}-01");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_of_a_job_belong_to_its_trace_under_parents_of_their_own() {
        let job = JobId::from_parts(1_700_000_000_000, 7, 42);
        let [first, second] = [traceparent(job), traceparent(job)];
        for text in [&first, &second] {
            let parts: Vec<&str> = text.split('-').collect();
            let [version, trace, parent, flags] = parts[..] else {
                panic!("{text}");
            };
            assert_eq!((version, flags), ("00", "01"));
            assert_eq!(trace, job.to_string().replace('-', ""));
            let is_lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            assert!(
                parent.len() == 16 && parent.bytes().all(is_lower_hex),
                "{text}"
            );
            assert_ne!(parent, "0000000000000000");
        }
        assert_ne!(first, second);
    }
}
