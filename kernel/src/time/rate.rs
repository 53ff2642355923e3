//! Converting counts of one clock into another's by a multiplication and a shift.

/// A ratio of two rates, as a fixed-point number with 32 fractional bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    multiplier: u64,
}

const FRACTION_BITS: u32 = 32;

impl Rate {
    /// The rate at which `to` units pass while `from` units do. With `from` = 0, one to one.
    #[must_use]
    pub fn new(from: u64, to: u64) -> Self {
        let ratio = (u128::from(to) << FRACTION_BITS).checked_div(u128::from(from));
        Self {
            multiplier: ratio.map_or(1 << FRACTION_BITS, |ratio| u64::try_from(ratio).unwrap_or(u64::MAX)),
        }
    }

    /// As many `to` units as `count` units of `from` take; the largest number if that is too many.
    #[must_use]
    pub fn convert(self, count: u64) -> u64 {
        let product = u128::from(count) * u128::from(self.multiplier);
        u64::try_from(product >> FRACTION_BITS).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rate_of_nothing_changes_nothing() {
        assert_eq!(Rate::new(0, 5).convert(77), 77);
    }

    proptest! {
        /// 32 fractional bits keep a day of nanoseconds to within a part in a million for clocks of 1 MHz to 5 GHz.
        #[test]
        fn conversion_is_precise_to_a_millionth(
            hertz in 1_000_000u64..5_000_000_000, seconds in 1u64..86_400,
        ) {
            let nanoseconds = Rate::new(hertz, 1_000_000_000).convert(hertz * seconds);
            let exact = seconds * 1_000_000_000;
            prop_assert!(nanoseconds.abs_diff(exact) <= exact / 1_000_000 + 1, "{} for {}", nanoseconds, exact);
        }

        #[test]
        fn conversion_never_runs_backwards(from: u64, to: u64, count: u64, more in 0u64..1000) {
            let rate = Rate::new(from, to);
            prop_assert!(rate.convert(count) <= rate.convert(count.saturating_add(more)));
        }
    }
}
