//! What attempts come to together, counted from outside: how many run at once, how many start
//! within any time.
//!
//! Exact, from instants in milliseconds; nothing is sampled.

/// An attempt as it is known afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// When it began, in Unix milliseconds.
    pub from_ms: i64,
    /// When it had ended.
    pub to_ms: i64,
}

/// A limit of starts: in any time t no more than `limit` × (1 + t / `period_ms`).
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Starts at once, and in each period.
    pub limit: u32,
    /// The period.
    pub period_ms: u32,
}

/// Two starts with more of them in between, both included, than the rate allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    /// The first of them.
    pub from_ms: i64,
    /// The last.
    pub to_ms: i64,
    /// How many there are.
    pub starts: usize,
}

impl Rate {
    /// Returns the two starts that break the rate most, of all pairs there are; none if it holds.
    ///
    /// Starts `i` to `j` are within it if j - i + 1 ≤ limit × (1 + (tj - ti) / period), that is, if
    /// (j × period - limit × tj) - (i × period - limit × ti) ≤ (limit - 1) × period. So it is
    /// enough to compare each start with the one before it whose term is least.
    pub fn excess(self, starts_ms: &[i64]) -> Option<Excess> {
        let (limit, period) = (i128::from(self.limit), i128::from(self.period_ms));
        let mut sorted = starts_ms.to_vec();
        sorted.sort_unstable();
        let first_ms = *sorted.first()?;
        let mut least = (0, 0_i128);
        let mut worst = ((limit - 1) * period, None);
        let mut expected = 0_i128;
        for (index, at_ms) in sorted.iter().enumerate() {
            let term = expected - limit * i128::from(at_ms - first_ms);
            expected += period;
            if term < least.1 {
                least = (index, term);
            }
            if term - least.1 > worst.0 {
                let excess = Excess {
                    from_ms: sorted[least.0],
                    to_ms: *at_ms,
                    starts: index - least.0 + 1,
                };
                worst = (term - least.1, Some(excess));
            }
        }
        worst.1
    }
}

/// Returns how many ran at once at most. One that ends in the millisecond in which another begins
/// made room for it.
pub fn most_at_once(ran: &[Ran]) -> usize {
    let begins = ran.iter().map(|ran| (ran.from_ms, true));
    let ends = ran.iter().map(|ran| (ran.to_ms.max(ran.from_ms), false));
    let mut events: Vec<_> = begins.chain(ends).collect();
    // Of one millisecond the ends come first; those of attempts that took no time come to nothing.
    events.sort_unstable();
    let (mut running, mut most) = (0_i64, 0);
    for (_, is_begin) in events {
        running += if is_begin { 1 } else { -1 };
        most = most.max(running);
    }
    usize::try_from(most).unwrap_or_default()
}

/// Returns how many ran between two instants on average, in thousandths.
pub fn at_once_on_average(ran: &[Ran], from_ms: i64, to_ms: i64) -> i64 {
    let within = |ran: &Ran| (ran.to_ms.min(to_ms) - ran.from_ms.max(from_ms)).max(0);
    ran.iter().map(within).sum::<i64>() * 1_000 / (to_ms - from_ms).max(1)
}

/// Returns how many of the starts lie between two instants, the second not included.
pub fn starts_between(starts_ms: &[i64], from_ms: i64, to_ms: i64) -> usize {
    let within = |at: &&i64| (from_ms..to_ms).contains(at);
    starts_ms.iter().filter(within).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        limit: 5,
        period_ms: 100,
    };

    /// Looks at all pairs.
    fn is_over(rate: Rate, starts_ms: &[i64]) -> bool {
        let mut sorted = starts_ms.to_vec();
        sorted.sort_unstable();
        let (limit, period) = (i64::from(rate.limit), i64::from(rate.period_ms));
        (0..sorted.len()).any(|i| {
            (i..sorted.len()).any(|j| {
                let count = i64::try_from(j - i + 1).unwrap();
                count * period > limit * (period + sorted[j] - sorted[i])
            })
        })
    }

    #[test]
    fn starts_that_are_as_fast_as_they_may_be_are_within_the_rate() {
        // Five at once, then one every 20 ms; and after a time without any five at once again.
        let mut starts = vec![0; 5];
        starts.extend((1..=10).map(|number| number * 20));
        starts.extend([300; 5]);
        assert_eq!(RATE.excess(&starts), None);
    }

    #[test]
    fn a_start_a_millisecond_too_early_is_seen() {
        let mut starts = vec![0; 5];
        starts.extend((1..=10).map(|number| number * 20));
        starts[14] -= 1;
        let excess = Excess {
            from_ms: 0,
            to_ms: 199,
            starts: 15,
        };
        assert_eq!(RATE.excess(&starts), Some(excess));
        assert!(RATE.excess(&[7; 6]).is_some());
        assert_eq!(RATE.excess(&[]), None);
    }

    /// A rate that forgets what was started before is broken by the second burst.
    #[test]
    fn a_burst_after_a_restart_that_forgot_is_seen() {
        let starts = [0, 0, 0, 0, 0, 20, 40, 45, 45, 45, 45, 45];
        let excess = RATE.excess(&starts).unwrap();
        assert_eq!((excess.to_ms, excess.starts), (45, 12));
    }

    #[test]
    fn one_sweep_sees_what_all_pairs_show() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut over = 0;
        for _ in 0..3_000 {
            let count = random.usize(0..25);
            let span = random.i64(1..600);
            let starts: Vec<_> = (0..count).map(|_| random.i64(0..span)).collect();
            let excess = RATE.excess(&starts);
            assert_eq!(excess.is_some(), is_over(RATE, &starts), "{starts:?}");
            if let Some(Excess {
                from_ms,
                to_ms,
                starts: count,
            }) = excess
            {
                over += 1;
                // What it names does break the rate.
                let named = starts_between(&starts, from_ms, to_ms + 1);
                assert!(named >= count, "{starts:?}");
                assert!(
                    i64::try_from(count).unwrap() * 100 > 5 * (100 + to_ms - from_ms),
                    "{starts:?}"
                );
            }
        }
        assert!((500..2_500).contains(&over), "{over} of 3,000");
    }

    #[test]
    fn those_at_once_are_counted() {
        let ran = [(0, 10), (5, 15), (10, 20), (12, 12)];
        let ran = ran.map(|(from_ms, to_ms)| Ran { from_ms, to_ms });
        assert_eq!(most_at_once(&ran), 2);
        assert_eq!(at_once_on_average(&ran, 0, 20), 1_500);
        assert_eq!(at_once_on_average(&ran, 5, 15), 2_000);
        let one_more = Ran {
            from_ms: 6,
            to_ms: 9,
        };
        assert_eq!(most_at_once(&[&ran[..], &[one_more]].concat()), 3);
        assert_eq!(most_at_once(&[]), 0);
    }

    #[test]
    fn starts_are_counted_up_to_an_instant() {
        assert_eq!(starts_between(&[1, 2, 3, 3, 4], 2, 4), 3);
    }
}
