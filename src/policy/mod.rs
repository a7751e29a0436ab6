//! Offences in, decisions out: ban for how long, or ignore and why. Pure: history, protected addresses and `now` are
//! arguments. It never writes anything.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;

use crate::filters::Evidence;
use crate::time::{Length, Timestamp, Until};

pub(crate) mod allowlist;
pub(crate) mod breaker;
pub(crate) mod budget;
pub(crate) mod escalation;
pub(crate) mod grant;
pub(crate) mod ground;
pub(crate) mod prefix;
pub(crate) mod protected;
pub(crate) mod recall;
pub(crate) mod sessions;
pub(crate) mod widen;

use allowlist::{Allowed, Allowlist};
use breaker::{Breaker, Overrun, Standing};
use budget::{Budget, Exceeded};
use escalation::Past;
use ground::Witness;

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
    /// Each such time of quiet after the last ban takes one off the count.
    pub(crate) decay: Length,
    /// Bans are longer by up to this, in percent.
    pub(crate) jitter: u8,
    /// Whether bans of addresses that good log-ins come from are shorter and of the jail's ports only.
    pub(crate) mercy: bool,
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
    /// What else speaks against the address: it makes forgeable evidence as good as proven.
    pub(crate) witness: Option<Witness>,
    /// When somebody last logged in from there, if that counts for this jail.
    pub(crate) login: Option<Timestamp>,
    pub(crate) spec: &'a BanSpec,
    /// Bans of this prefix by all jails so far, with those that stand.
    pub(crate) past: Past,
    /// Until when this jail has banned this prefix, if the ledger has such a ban. It may be over.
    pub(crate) standing: Option<Until>,
    /// Whether this jail limits it, which is no ban to wait for the end of.
    pub(crate) limited: bool,
    /// Log time of the hit that was one too many.
    pub(crate) at: Timestamp,
    pub(crate) now: Timestamp,
    /// Any number: what the jitter makes of it.
    pub(crate) dice: u64,
}

impl Case<'_> {
    pub(crate) fn weight(&self) -> Evidence {
        weight(self.evidence, self.witness, self.login)
    }
}

/// How good evidence is, all in all. Where good log-ins come from, a witness against one of those who share the address
/// says nothing about the rest, and the address is worth forging.
pub(crate) fn weight(evidence: Evidence, witness: Option<Witness>, login: Option<Timestamp>) -> Evidence {
    match witness {
        Some(_) if login.is_none() => Evidence::Proven,
        _ => evidence,
    }
}

/// What makes forgeable evidence as good as proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Corroborate {
    /// A hit that cannot be forged, of the same customer, in any jail, within the hour before.
    pub(crate) hits: bool,
    /// A connection that the kernel has seen come about. It does not show that the same one sent the other packets.
    pub(crate) handshakes: bool,
}

/// What all bans together may amount to, and how far that is used up.
#[derive(Debug)]
pub(crate) struct Bounds {
    pub(crate) budget: Budget,
    pub(crate) breaker: Breaker,
}

impl Bounds {
    /// Others in the same state: to ask what would be costs nothing of these.
    pub(crate) fn copy(&self) -> Bounds {
        Bounds { budget: self.budget.copy(), breaker: self.breaker.copy() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// From the time of the offence until then. `count`: which ban of this prefix it is, from 1.
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
    /// The evidence may be forged, and the breaker is open.
    Waiting(Overrun),
    /// There are as many bans as there may be at all.
    Full(usize),
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

/// Decides on one offence, while so much stands already.
pub(crate) fn decide(case: &Case<'_>, allowlist: &Allowlist, bounds: &mut Bounds, standing: Standing) -> Decision {
    match weigh(case, allowlist, bounds, standing) {
        Ok((until, count)) => Decision::Ban { until, count },
        Err(reason) => Decision::Ignore(reason),
    }
}

/// Asked of every ban, whether a log, a person or a list wants it.
pub(crate) fn guard(prefix: IpNet, allowlist: &Allowlist, now: Timestamp) -> Result<(), Refused> {
    if let Some(allowed) = allowlist.refuses(prefix, now) {
        Err(Refused::Allowed(allowed))
    } else if prefix::is_wider(prefix, allowlist.widest()) {
        Err(Refused::TooWide(prefix))
    } else {
        Ok(())
    }
}

fn weigh(
    case: &Case<'_>,
    allowlist: &Allowlist,
    bounds: &mut Bounds,
    standing: Standing,
) -> Result<(Until, u32), Reason> {
    guard(case.prefix, allowlist, case.now).map_err(Reason::Refused)?;
    // An end that is still to come is of a time when the clock was wrong.
    let past_end = case.past.last_end.filter(|end| *end <= case.now);
    let last_end = case.standing.max(past_end.map(Until::At));
    if let Some(until) = last_end.filter(|until| !until.is_over(case.at)) {
        return Err(Reason::AlreadyBanned(until));
    }
    let (until, count) = sentence(case, last_end, bounds.budget.longest);
    if until.is_over(case.now) {
        return Err(Reason::AlreadyOver { until, count });
    }
    if let Some(most) = bounds.breaker.full(standing) {
        return Err(Reason::Full(most));
    }
    if case.weight() == Evidence::Forgeable {
        if let Some(overrun) = bounds.breaker.open() {
            bounds.breaker.note_waiting();
            return Err(Reason::Waiting(overrun));
        }
        bounds.budget.take(standing.forgeable, case.now).map_err(Reason::OverBudget)?;
    }
    bounds.breaker.note(case.now);
    Ok((until, count))
}

/// The end of the ban and its number. Neither forgeable evidence nor that against an address with good log-ins makes it
/// longer than the first one; the former not than `longest` either.
fn sentence(case: &Case<'_>, last_end: Option<Until>, longest: Duration) -> (Until, u32) {
    let last_end = last_end.and_then(|until| match until {
        Until::At(end) => Some(end),
        Until::Forever => None,
    });
    let (mut length, count) = escalation::length(case.spec, Past { last_end, ..case.past }, case.at);
    let forgeable = case.weight() == Evidence::Forgeable;
    if forgeable {
        length = length.min(case.spec.time);
    }
    if case.login.is_some() {
        length = length.min(escalation::merciful(case.spec));
    }
    length = escalation::jittered(case.spec, length, case.dice);
    if forgeable {
        length = length.min(Length::For(longest));
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
            Reason::Waiting(overrun) => write!(f, "its evidence can be forged, and {overrun}"),
            Reason::Full(most) => write!(f, "there are {most} bans, and no more at a time are allowed"),
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
