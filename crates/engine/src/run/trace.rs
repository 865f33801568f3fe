//! The trace that an attempt belongs to, by W3C Trace Context.

use anteroom_core::JobId;
use std::fmt::Write as _;

/// Returns a `traceparent`: the job is the trace, and this attempt a new span of it.
pub(crate) fn traceparent(job: JobId) -> String {
    let mut header = "00-".to_owned();
    for byte in job.as_bytes() {
        // Writing to a string does not fail.
        let _ = write!(header, "{byte:02x}");
    }
    // A span of zeros would be none.
    let span = rand::random::<u64>().max(1);
    let _ = write!(header, "-{span:016x}-01");
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_a_trace_and_each_attempt_a_span() {
        let job = JobId::from_parts(1_700_000_000_000, 7, 42);
        let (one, two) = (traceparent(job), traceparent(job));
        let trace = job.to_string().replace('-', "");
        for header in [&one, &two] {
            let parts: Vec<_> = header.split('-').collect();
            assert_eq!(parts[..2], ["00", &trace], "{header}");
            assert_eq!((parts[2].len(), parts[3]), (16, "01"), "{header}");
        }
        assert_ne!(one, two);
    }
}
