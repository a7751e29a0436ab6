//! Bans that another program has made, taken over with their ends. In: what that program knows. Out: bans of ours for
//! those that stand, and a past for all of them, so that whoever comes back is banned for longer. Twice is once.

use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::event::{Event, Kind, Shown};
use super::{Outcome, Pipeline, Refusal};
use crate::filters::Evidence;
use crate::ledger::{Ban, MANUAL, Scope};
use crate::policy;
use crate::text::plural;
use crate::time::{Timestamp, Until};

/// The latest ban of a prefix by another program. It may be over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Former {
    pub(crate) prefix: IpNet,
    /// The jail there; the ban is that of our jail of the same name, and without one as if made by a person.
    pub(crate) jail: String,
    pub(crate) since: Timestamp,
    pub(crate) until: Until,
    /// Which ban of this prefix it is, from 1.
    pub(crate) count: u32,
}

/// What became of them.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    bans: u32,
    /// Bans that stood for as long already.
    stood: u32,
    /// Prefixes of which more former bans are known now.
    pasts: u32,
    pub(crate) refused: Vec<Refusal>,
}

impl Taken {
    /// A sentence for a person.
    pub(crate) fn summary(&self) -> String {
        let (bans, pasts) = (plural(self.bans.into(), "ban"), plural(self.pasts.into(), "address"));
        let stood = if self.stood == 0 { String::new() } else { format!("; {} stood already", self.stood) };
        format!("took over {bans} and the history of {pasts}{stood}")
    }
}

impl Pipeline {
    pub(crate) fn take_over(&mut self, former: Vec<Former>, from: &str, now: Timestamp) -> (Outcome, Taken) {
        let (mut outcome, mut taken) = (Outcome::default(), Taken::default());
        for ban in former {
            if let Err(why) = policy::guard(ban.prefix, &self.allowlist, now) {
                if !ban.until.is_over(now) {
                    taken.refused.push(format!("{} is left out: {why}", Shown(ban.prefix)));
                }
                continue;
            }
            let jail = self.jails.iter().find(|state| state.jail.name == ban.jail).map(|state| Arc::clone(&state.jail));
            let counted = match &jail {
                Some(jail) if ban.prefix.prefix_len() == ban.prefix.max_prefix_len() => {
                    jail.prefix.prefix_of(ban.prefix.addr())
                }
                _ => ban.prefix,
            };
            // Of a ban that stands, those before it are the past.
            let (bans, last_end) = match ban.until {
                Until::At(end) if end <= now => (ban.count, end),
                _ => (ban.count.saturating_sub(1), ban.since),
            };
            taken.pasts += u32::from(self.ledger.bring_past(counted, bans, last_end, now));
            if ban.until.is_over(now) {
                continue;
            }
            let (owner, scope) = match &jail {
                Some(jail) => (jail.name.as_str(), jail.scope.clone()),
                None => (MANUAL, Scope::default()),
            };
            let standing = self.ledger.bans_of(&ban.prefix).into_iter().find(|standing| &*standing.jail == owner);
            if standing.is_some_and(|standing| standing.until >= ban.until) {
                taken.stood += 1;
                continue;
            }
            taken.bans += 1;
            let ban = Ban {
                prefix: ban.prefix,
                jail: owner.into(),
                scope,
                since: ban.since.min(now),
                until: ban.until,
                reason: format!("taken over from jail {} of {from}", ban.jail).into(),
                count: ban.count,
                evidence: Evidence::Proven,
            };
            outcome.events.push(Event::of_ban(now, Kind::Banned, &ban));
            outcome.changes.extend(self.ledger.ban(ban));
        }
        (outcome, taken)
    }
}
