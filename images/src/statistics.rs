//! Minimum, median, 99th percentile, maximum.

use std::time::Duration;

/// Of a set of round-trip times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The shortest.
    pub minimum: Duration,
    /// The middle one (the lower middle one of an even number).
    pub median: Duration,
    /// The one that 99 % do not exceed.
    pub percentile_99: Duration,
    /// The longest.
    pub maximum: Duration,
}

impl Summary {
    /// `None` of nothing.
    pub fn of(times: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut sorted: Vec<Duration> = times.into_iter().collect();
        sorted.sort_unstable();
        // Nearest rank: the smallest value that at least `percent` of the values do not exceed.
        let rank = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1];
        Some(Self {
            minimum: *sorted.first()?,
            median: rank(50),
            percentile_99: rank(99),
            maximum: *sorted.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_the_sorted_values() {
        let summary = Summary::of((1..=200).rev().map(Duration::from_micros)).unwrap();
        assert_eq!(summary.minimum.as_micros(), 1);
        assert_eq!(summary.median.as_micros(), 100);
        assert_eq!(summary.percentile_99.as_micros(), 198);
        assert_eq!(summary.maximum.as_micros(), 200);
    }

    #[test]
    fn one_value_is_all_of_them_and_nothing_is_none() {
        let one = Duration::from_micros(7);
        let all = Summary { minimum: one, median: one, percentile_99: one, maximum: one };
        assert_eq!(Summary::of([one]), Some(all));
        assert_eq!(Summary::of([]), None);
    }
}
