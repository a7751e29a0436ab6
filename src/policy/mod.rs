//! Offences in, decisions out: ban for how long, or ignore and why. Pure: history, protected addresses and `now` are
//! arguments. It never writes anything.

use crate::time::Length;

/// How long bans are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BanSpec {
    /// The first ban.
    pub(crate) time: Length,
    /// Each further ban is this many times longer.
    pub(crate) factor: u32,
    /// No ban is longer.
    pub(crate) max: Length,
    /// An address that stayed quiet this long after its last ban starts anew.
    pub(crate) forget: Length,
}

/// Lengths of the prefixes by which addresses are counted and banned, in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrefixLengths {
    pub(crate) ipv4: u8,
    pub(crate) ipv6: u8,
}
