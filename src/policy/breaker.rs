//! The breaker: what all bans that logs make may amount to. Beyond it something is wrong - a filter, a clock, an attack
//! that is made of us - and what can be forged or would be wide waits until it is over.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;

use crate::time::Timestamp;
use crate::windows::bucket::{Bucket, Level};

/// The limits. All but the last open the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// New bans a minute on average, as many at once.
    pub(crate) per_minute: u32,
    /// Bans that stand at the same time.
    pub(crate) bans: usize,
    /// Addresses that these cover, as [`covered`] counts them.
    pub(crate) addresses: u64,
    /// Beyond so many bans at a time not even proven evidence makes a new one. None is ever ended to make room.
    pub(crate) most: usize,
}

/// What stands at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) bans: usize,
    /// Those of them that rest on forgeable evidence.
    pub(crate) forgeable: usize,
    /// That logs have banned, as [`covered`] counts.
    pub(crate) addresses: u64,
}

/// Which limit was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overrun {
    PerMinute(u32),
    Bans(usize),
    Addresses(u64),
}

/// How the breaker has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Opened(Overrun),
    Closed,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    limits: Limits,
    bucket: Bucket,
    level: Level,
    /// Bans came faster than they may, and half a minute's worth has not passed since.
    fast: bool,
    open: Option<Overrun>,
    /// How often it has opened since the start.
    opened: u64,
    /// How many offences were ignored because it was open.
    waiting: u64,
}

/// How far the bucket fills again before bans count as slow, in nanoseconds.
const CALM: u64 = 30_000_000_000;

impl Breaker {
    pub(crate) fn new(limits: Limits) -> Breaker {
        let interval = Duration::from_secs(60) / limits.per_minute.max(1);
        let (bucket, level) = (Bucket::new(interval, limits.per_minute), Level::default());
        Breaker { limits, bucket, level, fast: false, open: None, opened: 0, waiting: 0 }
    }

    /// Another one in the same state, to ask what would be.
    pub(crate) fn copy(&self) -> Breaker {
        self.with(self.limits)
    }

    /// New limits after a reload.
    pub(crate) fn change(&mut self, limits: Limits) {
        *self = self.with(limits);
    }

    fn with(&self, limits: Limits) -> Breaker {
        let Breaker { level, fast, open, opened, waiting, .. } = *self;
        Breaker { level, fast, open, opened, waiting, ..Breaker::new(limits) }
    }

    /// Why it is open, if it is.
    pub(crate) fn open(&self) -> Option<Overrun> {
        self.open
    }

    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Whether not one more ban fits in.
    pub(super) fn full(&self, standing: Standing) -> Option<usize> {
        (standing.bans >= self.limits.most).then_some(self.limits.most)
    }

    /// Whether a ban of this prefix would still leave it closed.
    pub(crate) fn has_room(&self, prefix: IpNet, standing: Standing) -> bool {
        self.open.is_none() && standing.addresses.saturating_add(covered(prefix)) <= self.limits.addresses
    }

    /// Counts a ban.
    pub(super) fn note(&mut self, now: Timestamp) {
        self.fast |= !self.bucket.take(&mut self.level, now);
    }

    /// Counts an offence that has no ban because of it.
    pub(super) fn note_waiting(&mut self) {
        self.waiting += 1;
    }

    /// Opens or closes it, if that is due.
    pub(crate) fn look(&mut self, standing: Standing, now: Timestamp) -> Option<Turn> {
        self.fast &= self.level.until_full(now) > CALM;
        let overrun = self.overrun(standing);
        let before = std::mem::replace(&mut self.open, overrun);
        match (before, overrun) {
            (None, Some(overrun)) => {
                self.opened += 1;
                Some(Turn::Opened(overrun))
            }
            (Some(_), None) => Some(Turn::Closed),
            _ => None,
        }
    }

    fn overrun(&self, standing: Standing) -> Option<Overrun> {
        let Limits { per_minute, bans, addresses, most: _ } = self.limits;
        match () {
            () if standing.bans >= bans => Some(Overrun::Bans(bans)),
            () if standing.addresses > addresses => Some(Overrun::Addresses(addresses)),
            () if self.fast => Some(Overrun::PerMinute(per_minute)),
            () => None,
        }
    }
}

/// How much of the Internet a prefix is: its addresses in IPv4, its networks of 64 bits in IPv6, at least 1.
pub(crate) fn covered(prefix: IpNet) -> u64 {
    let bits = match prefix {
        IpNet::V4(net) => 32 - net.prefix_len(),
        IpNet::V6(net) => 64_u8.saturating_sub(net.prefix_len()),
    };
    1_u64.checked_shl(bits.into()).unwrap_or(u64::MAX)
}

/// For a sentence that ends with it.
impl fmt::Display for Overrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Overrun::PerMinute(bans) => write!(f, "there are more than {bans} bans a minute"),
            Overrun::Bans(bans) => write!(f, "there are {bans} bans"),
            Overrun::Addresses(addresses) => write!(f, "bans cover more than {addresses} addresses"),
        }
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Turn::Opened(overrun) => write!(
                f,
                "the breaker is open, as {overrun}; until it closes, forgeable evidence bans nobody and no ban widens; \
                 see `banctl list`, and raise [breaker] if they are right"
            ),
            Turn::Closed => f.write_str("the breaker is closed again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { per_minute: 60, bans: 1000, addresses: 5000, most: 2000 };
    const CALM_WORLD: Standing = Standing { bans: 0, forgeable: 0, addresses: 0 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_795_224_600 + seconds)
    }

    #[test]
    fn bans_that_come_too_fast_open_it_and_half_a_calm_minute_closes_it() {
        let mut breaker = Breaker::new(LIMITS);
        for _ in 0..60 {
            breaker.note(at(0));
        }
        assert_eq!(breaker.look(CALM_WORLD, at(0)), None);
        breaker.note(at(0));
        assert_eq!(breaker.look(CALM_WORLD, at(0)), Some(Turn::Opened(Overrun::PerMinute(60))));
        assert_eq!(breaker.look(CALM_WORLD, at(29)), None, "it opens once");
        assert_eq!((breaker.open(), breaker.opened()), (Some(Overrun::PerMinute(60)), 1));
        assert_eq!(breaker.look(CALM_WORLD, at(31)), Some(Turn::Closed));
        assert_eq!(breaker.open(), None);
    }

    #[test]
    fn too_many_bans_or_too_much_space_open_it_for_as_long_as_they_stand() {
        let mut breaker = Breaker::new(LIMITS);
        for (standing, overrun) in [
            (Standing { bans: 1000, ..CALM_WORLD }, Overrun::Bans(1000)),
            (Standing { addresses: 5001, ..CALM_WORLD }, Overrun::Addresses(5000)),
        ] {
            assert_eq!(breaker.look(standing, at(0)), Some(Turn::Opened(overrun)));
            assert_eq!(breaker.look(standing, at(7200)), None);
            assert_eq!(breaker.look(CALM_WORLD, at(7200)), Some(Turn::Closed));
        }
    }

    #[test]
    fn space_is_counted_in_addresses_and_in_networks_of_64_bits() {
        for (prefix, expected) in [
            ("192.0.2.9/32", 1),
            ("192.0.2.0/24", 256),
            ("0.0.0.0/0", 1 << 32),
            ("2001:db8::/128", 1),
            ("2001:db8::/64", 1),
            ("2001:db8::/48", 65_536),
            ("::/0", u64::MAX),
        ] {
            assert_eq!(covered(prefix.parse().unwrap()), expected, "{prefix}");
        }
    }

    #[test]
    fn no_ban_that_would_open_it_is_widened() {
        let breaker = Breaker::new(LIMITS);
        let wide: IpNet = "192.0.2.0/24".parse().unwrap();
        assert!(breaker.has_room(wide, Standing { addresses: 4744, ..CALM_WORLD }));
        assert!(!breaker.has_room(wide, Standing { addresses: 4745, ..CALM_WORLD }));
    }

    #[test]
    fn a_reload_does_not_close_it() {
        let mut breaker = Breaker::new(LIMITS);
        let standing = Standing { bans: 1000, ..CALM_WORLD };
        breaker.look(standing, at(0));
        breaker.change(LIMITS);
        assert_eq!(breaker.open(), Some(Overrun::Bans(1000)));
        breaker.change(Limits { bans: 1001, ..LIMITS });
        assert_eq!(breaker.look(standing, at(0)), Some(Turn::Closed));
    }
}
