//! How long the next ban is: each one `factor` times longer than the one before, until it is forgotten.

use std::time::Duration;

use crate::policy::BanSpec;
use crate::time::{Length, Timestamp};

/// What the ledger knows of earlier bans of a prefix by a jail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// How many there were, one that stands included.
    pub(crate) bans: u32,
    /// When the last of them really ended, by itself or by an unban. `None` when there was none, or none has ended.
    pub(crate) last_end: Option<Timestamp>,
}

/// Length of the ban for an offence at this time, and which ban of this prefix it is, from 1.
pub(crate) fn length(spec: &BanSpec, past: Past, at: Timestamp) -> (Length, u32) {
    let bans = if is_forgotten(spec, past, at) { 0 } else { past.bans };
    (grown(spec, bans).min(spec.max), bans.saturating_add(1))
}

/// Whether the address stayed quiet for long enough after its last ban.
fn is_forgotten(spec: &BanSpec, past: Past, at: Timestamp) -> bool {
    match (spec.forget, past.last_end) {
        (Length::For(quiet), Some(end)) => end <= at && at.since(end) >= quiet,
        (Length::Forever, Some(_)) => false,
        (_, None) => true,
    }
}

fn grown(spec: &BanSpec, bans: u32) -> Length {
    match spec.time {
        Length::For(time) => {
            let times = u128::from(spec.factor.max(1)).saturating_pow(bans);
            let micros = u64::try_from(time.as_micros().saturating_mul(times)).unwrap_or(u64::MAX);
            Length::For(Duration::from_micros(micros))
        }
        Length::Forever => Length::Forever,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(time: &str, factor: u32, max: &str, forget: &str) -> BanSpec {
        let length = |text: &str| text.parse().unwrap();
        BanSpec { time: length(time), factor, max: length(max), forget: length(forget) }
    }

    fn past(bans: u32, last_end: i64) -> Past {
        Past { bans, last_end: Some(Timestamp::from_secs(last_end)) }
    }

    fn lengths(spec: &BanSpec, count: u32) -> Vec<String> {
        (0..count).map(|bans| length(spec, past(bans, 0), Timestamp::EPOCH).0.to_string()).collect()
    }

    #[test]
    fn each_ban_is_longer_by_the_factor_up_to_the_longest() {
        let spec = spec("10m", 4, "30d", "90d");
        assert_eq!(
            lengths(&spec, 9),
            ["10m", "40m", "2h40m", "10h40m", "1d18h40m", "7d2h40m", "28d10h40m", "30d", "30d"]
        );
        assert_eq!(length(&spec, past(3, 0), Timestamp::EPOCH).1, 4);
    }

    #[test]
    fn a_factor_of_one_or_zero_keeps_the_length() {
        assert_eq!(lengths(&spec("10m", 1, "30d", "90d"), 3), ["10m", "10m", "10m"]);
        assert_eq!(lengths(&spec("10m", 0, "30d", "90d"), 3), ["10m", "10m", "10m"]);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let spec = spec("100w", u32::MAX, "forever", "forever");
        let (longest, count) = length(&spec, past(u32::MAX, 0), Timestamp::EPOCH);
        assert_eq!((longest, count), (Length::For(Duration::from_micros(u64::MAX)), u32::MAX));
        assert!(
            longest.from(Timestamp::from_secs(1))
                > length(&spec, past(0, 0), Timestamp::EPOCH).0.from(Timestamp::EPOCH)
        );
    }

    #[test]
    fn no_ban_is_longer_than_the_longest_not_even_for_ever() {
        assert_eq!(lengths(&spec("forever", 4, "forever", "90d"), 2), ["forever", "forever"]);
        assert_eq!(lengths(&spec("forever", 4, "30d", "90d"), 1), ["30d"]);
        assert_eq!(lengths(&spec("10m", 4, "5m", "90d"), 1), ["5m"]);
    }

    #[test]
    fn an_address_that_stayed_quiet_starts_anew() {
        let spec = spec("10m", 4, "30d", "1d");
        let after = |seconds: i64| length(&spec, past(3, 1000), Timestamp::from_secs(1000 + seconds));
        assert_eq!(after(86_399), ("10h40m".parse().unwrap(), 4));
        assert_eq!(after(86_400), ("10m".parse().unwrap(), 1));
        assert_eq!(after(-500), ("10h40m".parse().unwrap(), 4));
    }

    #[test]
    fn what_is_never_forgotten_still_counts_after_a_century() {
        let spec = spec("10m", 4, "30d", "forever");
        assert_eq!(length(&spec, past(1, 0), Timestamp::from_secs(3_200_000_000)).1, 2);
        assert_eq!(length(&spec, Past::default(), Timestamp::EPOCH), ("10m".parse().unwrap(), 1));
    }
}
