//! How much of a limited source passes: `10/second`, and a burst.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// So many packets of a source pass in each unit of time, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Limit {
    pub(crate) packets: u32,
    pub(crate) per: Unit,
    pub(crate) burst: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Second,
    Minute,
    Hour,
    Day,
}

impl Unit {
    pub(crate) const ALL: [Unit; 4] = [Unit::Second, Unit::Minute, Unit::Hour, Unit::Day];

    pub(crate) fn seconds(self) -> u32 {
        match self {
            Unit::Second => 1,
            Unit::Minute => 60,
            Unit::Hour => 3600,
            Unit::Day => 86_400,
        }
    }

    /// As iptables and nftables both write it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Unit::Second => "second",
            Unit::Minute => "minute",
            Unit::Hour => "hour",
            Unit::Day => "day",
        }
    }
}

/// A longer time to have the whole burst again is more than `xt_hashlimit` can count.
pub(crate) const LONGEST_REFILL: Duration = Duration::from_secs(86_400);

impl Limit {
    /// `10/second`
    pub(crate) fn rate(&self) -> String {
        format!("{}/{}", self.packets, self.per.word())
    }

    /// How long it takes a silent source to have its whole burst again.
    pub(crate) fn refill(&self) -> Duration {
        Duration::from_secs(self.per.seconds().into()) * self.burst / self.packets.max(1)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (burst {})", self.rate(), self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_burst_is_back_when_the_rate_has_filled_it() {
        let limit = Limit { packets: 30, per: Unit::Minute, burst: 5 };
        assert_eq!(limit.refill(), Duration::from_secs(10));
        assert_eq!(limit.to_string(), "30/minute (burst 5)");
    }
}
