//! Hits in, offences out: how the hits of one source add up, with the meaning of iptables' `recent` and `limit`.
//! Counts by log time, in bounded memory. It never knows why an address is counted, nor what follows from it.

use std::time::Duration;

use ipnet::IpNet;

use crate::time::Timestamp;

pub(crate) mod bucket;
mod limit;
mod recent;
mod stamps;
mod table;

/// How hits add up to an offence.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Spec {
    /// The `hitcount`-th hit within `seconds` (inclusive) is the offence.
    Recent { hitcount: u32, seconds: Duration, check: Check },
    /// One hit per `interval` on average, `burst` at once; the hit that finds no credit is the offence.
    Limit { interval: Duration, burst: u32 },
}

/// Which rule stands behind `--set`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// `--rcheck`: a hit is stamped once.
    Rcheck,
    /// `--update`: a hit that is an offence is stamped a second time, so the source stays over for longer.
    Update,
}

/// A window overflowed for one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offence {
    /// How many hits made it. `recent` counts no further than its `hitcount`; `limit` counts those that found credit
    /// since the bucket was last full, and this one.
    pub(crate) hits: u32,
    /// The oldest of them, to the millisecond.
    pub(crate) first: Timestamp,
}

/// The window of one jail: all the sources it follows.
pub(crate) struct Window(Kind);

enum Kind {
    Recent(recent::Recent),
    Limit(limit::Limit),
}

impl Window {
    /// Follows `capacity` sources at most; at the bound the least suspicious one makes room for a new one.
    pub(crate) fn new(spec: &Spec, capacity: usize) -> Window {
        Window(match *spec {
            Spec::Recent { hitcount, seconds, check } => {
                Kind::Recent(recent::Recent::new(hitcount, seconds, check, capacity))
            }
            Spec::Limit { interval, burst } => Kind::Limit(limit::Limit::new(interval, burst, capacity)),
        })
    }

    /// Counts `repeat` hits of a source at a log time. Whether the last of them is an offence.
    pub(crate) fn hit(&mut self, source: IpNet, time: Timestamp, repeat: u32) -> Option<Offence> {
        match &mut self.0 {
            Kind::Recent(recent) => recent.hit(source, time, repeat),
            Kind::Limit(limit) => limit.hit(source, time, repeat),
        }
    }

    /// Everything that was counted against the sources within this prefix is forgotten: it was unbanned.
    pub(crate) fn forget(&mut self, prefix: IpNet) {
        match &mut self.0 {
            Kind::Recent(recent) => recent.forget(prefix),
            Kind::Limit(limit) => limit.forget(prefix),
        }
    }

    /// The wall clock may have been set back since the last call: forgets what was counted at times that are later than
    /// `now` by more than a second. Without it, such stamps would outshine the hits to come until the clock has caught up.
    pub(crate) fn rewind(&mut self, now: Timestamp) {
        let latest = now + Duration::from_secs(1);
        match &mut self.0 {
            Kind::Recent(recent) => recent.rewind(latest),
            Kind::Limit(limit) => limit.rewind(latest),
        }
    }

    /// How many sources are in the table.
    pub(crate) fn tracked(&self) -> usize {
        match &self.0 {
            Kind::Recent(recent) => recent.tracked(),
            Kind::Limit(limit) => limit.tracked(),
        }
    }

    /// How many sources had to make room for others.
    pub(crate) fn evicted(&self) -> u64 {
        match &self.0 {
            Kind::Recent(recent) => recent.evicted(),
            Kind::Limit(limit) => limit.evicted(),
        }
    }
}

#[cfg(test)]
mod kernel_tests;
