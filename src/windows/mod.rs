//! Hits in, offences out: how the hits of one source add up, with the meaning of iptables' `recent` and `limit`.
//! Counts by log time, in bounded memory. It never knows why an address is counted, nor what follows from it.

use std::time::Duration;

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
