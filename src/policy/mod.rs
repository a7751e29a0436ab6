//! Offences in, decisions out: ban for how long, or ignore and why. Pure: history, protected addresses and `now` are
//! arguments. It never writes anything.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;

use crate::filters::Evidence;
use crate::time::{Length, Timestamp, Until};

pub(crate) mod allowlist;
pub(crate) mod budget;
pub(crate) mod escalation;
pub(crate) mod prefix;
pub(crate) mod protected;
mod sessions;

use allowlist::{Allowed, Allowlist};
use budget::{Budget, Exceeded};
use escalation::Past;

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

/// One offence, with all that is known of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case<'a> {
    pub(crate) prefix: IpNet,
    pub(crate) evidence: Evidence,
    pub(crate) spec: &'a BanSpec,
    /// Bans of this prefix by this jail so far, with the one that is `standing`.
    pub(crate) past: Past,
    /// Until when this jail has banned this prefix, if the ledger has such a ban. It may be over.
    pub(crate) standing: Option<Until>,
    /// Log time of the hit that was one too many.
    pub(crate) at: Timestamp,
    pub(crate) now: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// From the time of the offence until then. `count`: which ban of this prefix by this jail it is, from 1.
    Ban {
        until: Until,
        count: u32,
    },
    Ignore(Reason),
}

/// Why an offence has no ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Refused(Refused),
    /// It happened while the prefix was banned until then.
    AlreadyBanned(Until),
    OverBudget(Exceeded),
    /// The log was read late: the ban would have ended before now. It counts in the history as the `count`-th.
    AlreadyOver {
        until: Until,
        count: u32,
    },
}

/// Why a prefix may not be banned, wherever the wish comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Allowed(Allowed),
    TooWide(IpNet),
}

/// Decides on one offence. `forgeable` is how many bans from forgeable evidence stand, in all jails.
pub(crate) fn decide(case: &Case<'_>, allowlist: &Allowlist, budget: &mut Budget, forgeable: usize) -> Decision {
    match weigh(case, allowlist, budget, forgeable) {
        Ok((until, count)) => Decision::Ban { until, count },
        Err(reason) => Decision::Ignore(reason),
    }
}

/// Asked of every ban, whether a log, a person or a list wants it.
pub(crate) fn guard(prefix: IpNet, allowlist: &Allowlist, now: Timestamp) -> Result<(), Refused> {
    if let Some(allowed) = allowlist.refuses(prefix, now) {
        Err(Refused::Allowed(allowed))
    } else if prefix::is_too_wide(prefix) {
        Err(Refused::TooWide(prefix))
    } else {
        Ok(())
    }
}

fn weigh(
    case: &Case<'_>,
    allowlist: &Allowlist,
    budget: &mut Budget,
    forgeable: usize,
) -> Result<(Until, u32), Reason> {
    guard(case.prefix, allowlist, case.now).map_err(Reason::Refused)?;
    let last_end = case.standing.max(case.past.last_end.map(Until::At));
    if let Some(until) = last_end.filter(|until| !until.is_over(case.at)) {
        return Err(Reason::AlreadyBanned(until));
    }
    let (until, count) = sentence(case, last_end, budget.longest);
    if until.is_over(case.now) {
        return Err(Reason::AlreadyOver { until, count });
    }
    if case.evidence == Evidence::Forgeable {
        budget.take(forgeable, case.now).map_err(Reason::OverBudget)?;
    }
    Ok((until, count))
}

/// The end of the ban and its number. Forgeable evidence never makes it longer than the first one, nor than `longest`.
fn sentence(case: &Case<'_>, last_end: Option<Until>, longest: Duration) -> (Until, u32) {
    let last_end = last_end.and_then(|until| match until {
        Until::At(end) => Some(end),
        Until::Forever => None,
    });
    let (mut length, count) = escalation::length(case.spec, Past { last_end, ..case.past }, case.at);
    if case.evidence == Evidence::Forgeable {
        length = length.min(case.spec.time).min(Length::For(longest));
    }
    (length.from(case.at), count)
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Refused(refused) => refused.fmt(f),
            Reason::AlreadyBanned(Until::Forever) => f.write_str("it is already banned for ever"),
            Reason::AlreadyBanned(until) => write!(f, "it is already banned until {until}"),
            Reason::OverBudget(exceeded) => exceeded.fmt(f),
            Reason::AlreadyOver { until, .. } => write!(f, "the log was read late, and the ban was over at {until}"),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Allowed(allowed) => allowed.fmt(f),
            Refused::TooWide(prefix) => write!(f, "{prefix} is too much of the Internet; ban narrower prefixes"),
        }
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests;
