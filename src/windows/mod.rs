//! Hits in, offences out: how the hits of one source add up, with the meaning of iptables' `recent` and `limit`.
//! Counts by log time, in bounded memory. It never knows why an address is counted, nor what follows from it.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::filters::{Evidence, Hit, User};
use crate::keyed::Keys;
use crate::time::Timestamp;

pub(crate) mod bucket; // tokens
mod crowd; // many sources, one user
mod key; // what a slot is found by
mod limit; // rate and burst
mod marks; // what is kept of one source
mod nets; // many prefixes at once
mod recent; // so many within so long
mod table; // all sources
mod ticks; // time in 32 bits

pub(crate) use nets::Nets;

/// How hits add up to an offence.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Spec {
    /// The `hitcount`-th hit within `seconds` (inclusive) is the offence.
    Recent { hitcount: u32, seconds: Duration, check: Check },
    /// The same, of hits that differ: the offence is the hit with the `hitcount`-th user, port or source.
    Distinct { hitcount: u32, seconds: Duration, of: Distinct },
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

/// What has to differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distinct {
    /// The users that one source tries. A hit without one does not count.
    Users,
    /// The ports that one source sends packets to. A hit without one does not count.
    Ports,
    /// The sources that try one user. Only proven hits count, and no source from which that user has logged in.
    Sources,
}

impl Distinct {
    /// One of them, in a word.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Distinct::Users => "user",
            Distinct::Ports => "port",
            Distinct::Sources => "source",
        }
    }
}

/// A window overflowed for one source, or for all that tried one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offence {
    /// How many hits made it, or users, ports, sources. `recent` counts no further than its `hitcount`; `limit` counts
    /// those that found credit since the bucket was last full, and this one.
    pub(crate) count: u32,
    /// What was counted, as [`Window::unit`].
    pub(crate) unit: &'static str,
    /// The oldest of them, to the millisecond.
    pub(crate) first: Timestamp,
    /// The sources that took part beside that of the hit.
    pub(crate) others: Vec<IpAddr>,
}

/// What is counted against one source at some time, offence or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    /// How many hits, and the oldest of them; as for an [`Offence`].
    pub(crate) hits: u32,
    pub(crate) first: Timestamp,
    /// The latest hit, however long ago.
    pub(crate) last: Timestamp,
}

impl Spec {
    /// How many hits at once are an offence.
    pub(crate) fn hits(&self) -> u32 {
        match self {
            Spec::Recent { hitcount, .. } | Spec::Distinct { hitcount, .. } => *hitcount,
            Spec::Limit { burst, .. } => burst.saturating_add(1),
        }
    }
}

/// The window of one jail: all the sources it follows.
pub(crate) struct Window {
    kind: Kind,
    tags: Tags,
}

/// Makes tags of hits. Keyed by chance, so that nobody can choose two users with the same tag.
struct Tags(Keys);

enum Kind {
    Recent(recent::Recent, Option<Distinct>),
    Limit(limit::Limit),
    Crowd(crowd::Crowd),
}

impl Window {
    /// Follows `capacity` sources at most; at the bound the least suspicious one makes room for a new one.
    pub(crate) fn new(spec: &Spec, capacity: usize) -> Window {
        use recent::{Counting, Recent};
        let kind = match *spec {
            Spec::Recent { hitcount, seconds, check } => {
                Kind::Recent(Recent::new(hitcount, seconds, Counting::Hits(check), capacity), None)
            }
            Spec::Distinct { hitcount, seconds, of: Distinct::Sources } => {
                Kind::Crowd(crowd::Crowd::new(hitcount, seconds, capacity))
            }
            Spec::Distinct { hitcount, seconds, of } => {
                Kind::Recent(Recent::new(hitcount, seconds, Counting::Tags, capacity), Some(of))
            }
            Spec::Limit { interval, burst } => Kind::Limit(limit::Limit::new(interval, burst, capacity)),
        };
        Window { kind, tags: Tags(Keys::by_chance()) }
    }

    /// As long as it is empty: by this number rather than by chance it is decided what lies where, and so who makes room
    /// for whom. The same number and the same hits, the same offences.
    pub(crate) fn keyed(mut self, seed: u64) -> Window {
        self.tags = Tags(Keys::of(seed));
        match &mut self.kind {
            Kind::Recent(recent, _) => recent.set_keys(Keys::of(seed)),
            Kind::Limit(limit) => limit.set_keys(Keys::of(seed)),
            Kind::Crowd(crowd) => crowd.set_keys(seed),
        }
        self
    }

    /// The memory in which the next hit of this source is counted; see [`table::Table::around`].
    pub(crate) fn around(&self, source: IpNet, evidence: Evidence) -> &[u32] {
        match &self.kind {
            Kind::Crowd(_) => &[],
            Kind::Recent(..) | Kind::Limit(_) => self.table().around(source, evidence),
        }
    }

    /// Counts a hit of a source, the prefix that its address is counted by. Whether it is an offence.
    pub(crate) fn hit(&mut self, source: IpNet, hit: &Hit) -> Option<Offence> {
        let (key, count) = (key::Key::of(source, hit.evidence), hit.count().max(1));
        let unit = self.unit();
        let ((count, first), others) = match &mut self.kind {
            Kind::Recent(recent, of) => (recent.hit(key, hit.time, count, self.tags.of(hit, *of)?)?, Vec::new()),
            Kind::Limit(limit) => (limit.hit(key, hit.time, count)?, Vec::new()),
            Kind::Crowd(_) if hit.evidence != Evidence::Proven => return None,
            Kind::Crowd(crowd) => {
                let (count, first, others) = crowd.hit(hit.user.as_deref()?, source, hit.address, hit.time)?;
                ((count, first), others)
            }
        };
        Some(Offence { count, unit, first, others })
    }

    /// What it counts: one word for people, in the singular.
    pub(crate) fn unit(&self) -> &'static str {
        match &self.kind {
            Kind::Recent(_, None) | Kind::Limit(_) => "hit",
            Kind::Recent(_, Some(of)) => of.unit(),
            Kind::Crowd(_) => Distinct::Sources.unit(),
        }
    }

    /// The user of this hit has logged in from its address: what he failed there before is forgiven, and nothing else.
    /// A `limit` has no memory of single hits, so there is nothing to forgive.
    pub(crate) fn forgive(&mut self, source: IpNet, hit: &Hit) {
        let Some(user) = hit.user.as_ref().filter(|_| hit.evidence == Evidence::Proven) else { return };
        match &mut self.kind {
            Kind::Recent(_, Some(Distinct::Ports)) | Kind::Limit(_) => {}
            Kind::Recent(recent, of) => {
                recent.forgive(&key::Key::of(source, hit.evidence), hit.time, || self.tags.of(hit, *of));
            }
            Kind::Crowd(crowd) => crowd.forgive(user, source, hit.time),
        }
    }

    /// What is counted against a source at this time for proven evidence, without counting anything. `None` for one that
    /// it does not follow, and where it follows users.
    pub(crate) fn tally(&self, source: IpNet, time: Timestamp) -> Option<Tally> {
        let key = key::Key::of(source, Evidence::Proven);
        match &self.kind {
            Kind::Recent(recent, _) => recent.tally(&key, time),
            Kind::Limit(limit) => limit.tally(&key, time),
            Kind::Crowd(_) => None,
        }
    }

    /// Everything that was counted against the sources within this prefix is forgotten: it was unbanned.
    pub(crate) fn forget(&mut self, prefix: IpNet) {
        match &mut self.kind {
            Kind::Recent(recent, _) => recent.forget(prefix),
            Kind::Limit(limit) => limit.forget(prefix),
            Kind::Crowd(crowd) => crowd.forget(prefix),
        }
    }

    /// The same of many prefixes, in one go: where it has to look at all sources, then once.
    pub(crate) fn forget_all(&mut self, prefixes: &Nets) {
        match &mut self.kind {
            Kind::Recent(recent, _) => recent.forget_all(prefixes),
            Kind::Limit(limit) => limit.forget_all(prefixes),
            Kind::Crowd(crowd) => crowd.forget_all(prefixes),
        }
    }

    /// The wall clock may have been set back since the last call: forgets what was counted at times that are later than
    /// `now` by more than a second. Without it, such stamps would outshine the hits to come until the clock has caught up.
    pub(crate) fn rewind(&mut self, now: Timestamp) {
        let latest = now + Duration::from_secs(1);
        match &mut self.kind {
            Kind::Recent(recent, _) => recent.rewind(latest),
            Kind::Limit(limit) => limit.rewind(latest),
            Kind::Crowd(crowd) => crowd.rewind(latest),
        }
    }

    /// How many sources are in the table; users, where those are what is followed.
    pub(crate) fn tracked(&self) -> usize {
        self.table().len()
    }

    /// How many of them had to make room for others, or found none.
    pub(crate) fn evicted(&self) -> u64 {
        self.table().evicted()
    }

    fn table(&self) -> &table::Table {
        match &self.kind {
            Kind::Recent(recent, _) => recent.table(),
            Kind::Limit(limit) => limit.table(),
            Kind::Crowd(crowd) => crowd.table(),
        }
    }
}

impl Tags {
    /// What tells a hit from others of its source, in 16 bits; `None` when that is what counts and it has nothing. A
    /// good log-in forgives the hits with its tag. Of a million attackers with an account, the tags of some 15 would be
    /// those of another user whom they try from the same address, and none of them can know it.
    fn of(&self, hit: &Hit, of: Option<Distinct>) -> Option<u16> {
        /// Of hits without a user. No user's tag is this.
        const NOBODY: u16 = 0;
        let short = |hash: u64| u16::try_from(hash % 0xffff).map_or(NOBODY, |tag| tag + 1);
        match of {
            None => {
                let tag = |user: &User| short(self.0.hash_one((user.as_bytes(), key::bits_of(hit.address))));
                Some(hit.user.as_ref().map_or(NOBODY, tag))
            }
            Some(Distinct::Ports) => hit.port,
            Some(_) => hit.user.as_ref().map(|user| short(self.0.hash_one(user.as_bytes()))),
        }
    }
}

#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod tests;
