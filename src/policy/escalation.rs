//! How long the next ban is: each one `factor` times longer than the one before, until quiet makes up for it.

use std::time::Duration;

use crate::policy::BanSpec;
use crate::time::{Length, Timestamp};

/// What the ledger knows of earlier bans of a prefix, by any jail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// How many there were, one that stands included.
    pub(crate) bans: u32,
    /// When the last of them really ended, by itself or by an unban. `None` when there was none, or none has ended.
    pub(crate) last_end: Option<Timestamp>,
}

/// Length of the ban for an offence at this time, and which ban of this prefix it is, from 1.
pub(crate) fn length(spec: &BanSpec, past: Past, at: Timestamp) -> (Length, u32) {
    let bans = remembered(spec, past, at);
    (grown(spec, bans).min(spec.max), bans.saturating_add(1))
}

/// Length of a ban where good log-ins come from too: one step shorter than a first ban, but a second at least; a day
/// where even the first ban is for ever.
pub(crate) fn merciful(spec: &BanSpec) -> Length {
    Length::For(match spec.time {
        Length::For(time) => (time / spec.factor.max(1)).max(Duration::from_secs(1)),
        Length::Forever => Duration::from_secs(86_400),
    })
}

/// A length made longer by up to `spec.jitter` percent, so that nobody can wait for the very end of a ban. `dice` is
/// any number; equal ones give equal lengths. Never beyond `spec.max`.
pub(crate) fn jittered(spec: &BanSpec, length: Length, dice: u64) -> Length {
    match length {
        Length::For(time) => {
            let part = u128::from(spec.jitter) * u128::from(dice) / 100;
            let more = (time.as_micros().saturating_mul(part)) >> 64;
            let micros = u64::try_from(time.as_micros().saturating_add(more)).unwrap_or(u64::MAX);
            Length::For(Duration::from_micros(micros)).min(spec.max)
        }
        Length::Forever => length,
    }
}

/// The bans that still count: none after `forget`, and one fewer for each `decay` of quiet since the last one ended.
fn remembered(spec: &BanSpec, past: Past, at: Timestamp) -> u32 {
    // Where none has ended, those that stand are at most one per jail and not yet to be held against anybody.
    let Some(end) = past.last_end else { return 0 };
    let quiet = at.since(end);
    if end <= at && matches!(spec.forget, Length::For(forget) if quiet >= forget) {
        return 0;
    }
    let decayed = match spec.decay {
        Length::For(decay) => quiet.as_micros() / decay.as_micros().max(1),
        Length::Forever => 0,
    };
    past.bans.saturating_sub(u32::try_from(decayed).unwrap_or(u32::MAX))
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
        let (max, forget) = (length(max), length(forget));
        BanSpec { time: length(time), factor, max, forget, decay: Length::Forever, jitter: 0, mercy: true }
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

    #[test]
    fn each_period_of_quiet_takes_one_ban_off_the_count() {
        let spec = BanSpec { decay: "7d".parse().unwrap(), ..spec("10m", 4, "30d", "90d") };
        let week = 7 * 86_400;
        let after = |seconds: i64| length(&spec, past(3, 1000), Timestamp::from_secs(1000 + seconds));
        assert_eq!(after(week - 1).1, 4);
        assert_eq!(after(week), ("2h40m".parse().unwrap(), 3));
        assert_eq!(after(3 * week).1, 1);
        assert_eq!(after(9 * week).1, 1, "no count is below the first");
        assert_eq!(after(-500).1, 4, "a clock that was set back takes nothing off");
    }

    #[test]
    fn jitter_makes_bans_longer_by_at_most_its_share_and_never_longer_than_the_longest() {
        let spec = BanSpec { jitter: 50, ..spec("10m", 4, "14m", "90d") };
        let jittered = |dice| jittered(&spec, spec.time, dice);
        assert_eq!(jittered(0), "10m".parse().unwrap());
        assert_eq!(jittered(u64::MAX / 2), Length::For(Duration::from_micros(749_999_999)));
        assert_eq!(jittered(u64::MAX), "14m".parse().unwrap());
        assert_eq!(super::jittered(&BanSpec { jitter: 0, ..spec }, spec.time, u64::MAX), spec.time);
        assert_eq!(super::jittered(&spec, Length::Forever, u64::MAX), Length::Forever);
    }

    #[test]
    fn mercy_is_one_step_below_the_first_ban() {
        assert_eq!(merciful(&spec("10m", 4, "30d", "90d")), "2m30s".parse().unwrap());
        assert_eq!(merciful(&spec("1s", 1000, "30d", "90d")), "1s".parse().unwrap());
        assert_eq!(merciful(&spec("forever", 4, "forever", "90d")), "1d".parse().unwrap());
    }
}
