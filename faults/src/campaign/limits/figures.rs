//! What attempts came to together, and whether that is within the limits and reaches them.

use super::attempts::Attempts;
use super::{CONCURRENCY, GROUP_CONCURRENCY, Part, RATE, REACHED_PERCENT_MIN};
use crate::flow::{Excess, Ran, at_once_on_average, most_at_once, starts_between};
use anyhow::{Context, bail, ensure};
use std::collections::BTreeMap;

/// What came of the limits.
#[derive(Debug)]
pub(super) struct Figures {
    /// At once at most, and in each part on average, in thousandths.
    narrow: (usize, Vec<i64>),
    /// The same of each group.
    shared: BTreeMap<String, (usize, Vec<i64>)>,
    /// What breaks the rate most; starts of each part.
    paced: (Option<Excess>, Vec<usize>),
    /// Starts of a part, if the rate were reached.
    paced_expected: usize,
}

impl Figures {
    /// Counts them.
    ///
    /// # Errors
    ///
    /// When there is no part.
    pub(super) fn of(attempts: &Attempts, parts: &[Part]) -> anyhow::Result<Self> {
        let at_once = |ran: &[Ran]| {
            let each = parts.iter();
            let average = each.map(|part| at_once_on_average(ran, part.from_ms, part.to_ms));
            (most_at_once(ran), average.collect::<Vec<_>>())
        };
        let starts: Vec<i64> = attempts.paced.iter().map(|ran| ran.from_ms).collect();
        let each = parts.iter();
        let of_part = each.map(|part| starts_between(&starts, part.from_ms, part.to_ms));
        let part = parts.first().context("no part")?;
        let span_ms = part.to_ms - part.from_ms;
        let expected = span_ms * i64::from(RATE.limit) / i64::from(RATE.period_ms);
        let groups = attempts.shared.iter();
        Ok(Self {
            narrow: at_once(&attempts.narrow),
            shared: groups
                .map(|(group, ran)| (group.clone(), at_once(ran)))
                .collect(),
            paced: (RATE.excess(&starts), of_part.collect()),
            paced_expected: usize::try_from(expected)?,
        })
    }

    /// Says what was not reached.
    ///
    /// # Errors
    ///
    /// When a limit was exceeded.
    pub(super) fn check(&self) -> anyhow::Result<Option<String>> {
        let (most, _) = self.narrow;
        ensure!(most <= CONCURRENCY, "{most} of narrow ran at once");
        for (group, (most, _)) in &self.shared {
            ensure!(
                *most <= GROUP_CONCURRENCY,
                "{most} of group {group} ran at once"
            );
        }
        if let Some(excess) = self.paced.0 {
            bail!("starts exceed the rate: {excess:?}");
        }
        let is_short = |average: &i64, limit: usize| {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            average * 100 < limit * 1_000 * REACHED_PERCENT_MIN
        };
        let narrow = self.narrow.1.iter();
        if narrow.clone().any(|average| is_short(average, CONCURRENCY)) {
            return Ok(Some("max_concurrency was not reached".to_owned()));
        }
        let mut shared = self.shared.values().flat_map(|(_, averages)| averages);
        if shared.any(|average| is_short(average, GROUP_CONCURRENCY)) {
            return Ok(Some("group_concurrency was not reached".to_owned()));
        }
        let starts_min = self.paced_expected * usize::try_from(REACHED_PERCENT_MIN)? / 100;
        if self.paced.1.iter().any(|starts| *starts < starts_min) {
            return Ok(Some("rate_limit was not reached".to_owned()));
        }
        Ok(None)
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (most, averages) = &self.narrow;
        write!(
            f,
            "max_concurrency {CONCURRENCY}: {most} at once at most, {} on average",
            thousandths(averages)
        )?;
        for (group, (most, averages)) in &self.shared {
            write!(
                f,
                "; group_concurrency {GROUP_CONCURRENCY}, group {group}: {most} and {}",
                thousandths(averages)
            )?;
        }
        let (excess, starts) = &self.paced;
        let starts: Vec<_> = starts.iter().map(usize::to_string).collect();
        write!(
            f,
            "; rate_limit {} in {} ms: {} starts in the parts, {} would be all; {}",
            RATE.limit,
            RATE.period_ms,
            starts.join(" and "),
            self.paced_expected,
            match excess {
                None => "never more in any time than it allows".to_owned(),
                Some(excess) => format!("EXCEEDED by {excess:?}"),
            }
        )
    }
}

/// Writes averages of the parts.
fn thousandths(averages: &[i64]) -> String {
    let each = averages.iter();
    let texts: Vec<_> = each
        .map(|average| format!("{}.{:02}", average / 1_000, average % 1_000 / 10))
        .collect();
    texts.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(most: usize, average: i64, starts: usize) -> Figures {
        Figures {
            narrow: (most, vec![4_000, average]),
            shared: BTreeMap::from([("a".to_owned(), (2, vec![1_950]))]),
            paced: (None, vec![starts]),
            paced_expected: 500,
        }
    }

    #[test]
    fn what_is_exceeded_and_what_is_not_reached_is_told_apart() {
        assert_eq!(figures(4, 3_800, 475).check().unwrap(), None);
        assert!(figures(5, 3_800, 475).check().is_err());
        assert!(figures(4, 3_799, 475).check().unwrap().is_some());
        assert!(figures(4, 3_800, 474).check().unwrap().is_some());
        let group = |most, average| Figures {
            shared: BTreeMap::from([("a".to_owned(), (most, vec![average]))]),
            ..figures(4, 3_800, 475)
        };
        assert!(group(3, 1_950).check().is_err());
        assert!(group(2, 1_899).check().unwrap().is_some());
    }
}
