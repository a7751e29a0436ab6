//! An account of one prefix, for `banctl why`: what was seen of it, what was decided and why, who bans it, and what the
//! next offence would lead to. It changes nothing.

use std::collections::HashSet;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::evidence::Decided;
use super::shelf::Trace;
use super::{JailState, Pipeline, past};
use crate::filters::Evidence;
use crate::ledger::{Ban, Ended};
use crate::policy::allowlist::{Allowed, Why};
use crate::policy::escalation::Past;
use crate::policy::{self, Case, Decision, Refused};
use crate::text::plural;
use crate::time::{Timestamp, Until, format_duration};
use crate::windows::Spec;

/// Most rows of one kind in an account: of a network there may be very many.
const ROWS: usize = 100;

/// What is known of a prefix, the latest last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) prefix: IpNet,
    /// Whose bans it stands under, wholly or in part.
    pub(crate) bans: Vec<Ban>,
    /// Why nobody can ban it now, if so: a sentence.
    pub(crate) allowed: Option<String>,
    pub(crate) decisions: Vec<Verdict>,
    /// The lines that led to the latest decisions, then the latest lines.
    pub(crate) lines: Vec<Line>,
    /// Bans that have ended.
    pub(crate) history: Vec<Ended>,
    /// What each jail would do now; those that know the prefix come first.
    pub(crate) jails: Vec<Outlook>,
}

/// A decision on an offence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) time: Timestamp,
    pub(crate) jail: Arc<str>,
    /// Hits that were counted, the first of them at that time.
    pub(crate) hits: u32,
    /// What these were: `hit`, or what had to differ, `user`, `port`, `source`.
    pub(crate) unit: String,
    pub(crate) first: Timestamp,
    pub(crate) banned: bool,
    /// Of a ban.
    pub(crate) until: Option<Until>,
    pub(crate) count: Option<u32>,
    /// Why there was no ban: a sentence.
    pub(crate) reason: Option<String>,
    /// How often it was so in a row, and when last.
    pub(crate) times: u32,
    pub(crate) last: Timestamp,
}

/// The beginning of a line. Attacker's text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) time: Timestamp,
    pub(crate) jail: Arc<str>,
    #[serde(rename = "line")]
    pub(crate) text: String,
}

/// What a jail would do at the next offence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outlook {
    pub(crate) jail: Arc<str>,
    /// By what it counts and bans this address.
    pub(crate) prefix: IpNet,
    /// `5 hits within 10m`.
    pub(crate) window: String,
    /// Whether it has a ban of it, or has decided something on it.
    pub(crate) concerned: bool,
    pub(crate) would_ban: bool,
    /// How long, and which ban it would be.
    pub(crate) length: Option<String>,
    pub(crate) count: Option<u32>,
    /// Why it would not.
    pub(crate) reason: Option<String>,
}

impl Pipeline {
    pub(crate) fn account(&self, prefix: IpNet, now: Timestamp) -> Account {
        let mut bans = self.ledger.bans_covering(prefix.addr());
        bans.retain(|ban| ban.prefix.contains(&prefix));
        let known: Vec<IpNet> = bans.iter().map(|ban| ban.prefix).collect();
        bans.extend(self.ledger.bans_within(prefix).into_iter().filter(|ban| !known.contains(&ban.prefix)).take(ROWS));
        let mut decisions: Vec<Verdict> =
            self.dossiers.cases(prefix).flat_map(|case| &case.decided).map(Verdict::of).collect();
        decisions.sort_by_key(|verdict| verdict.time);
        let ended = self.ledger.ended().filter(|ended| policy::prefix::overlap(ended.ban.prefix, prefix));
        let mut history: Vec<Ended> = ended.take(ROWS).cloned().collect();
        history.reverse();
        let concerned = |state: &JailState| {
            bans.iter().any(|ban| ban.jail == state.name) || decisions.iter().any(|of| of.jail == state.name)
        };
        let mut jails: Vec<Outlook> =
            self.jails.iter().map(|state| self.outlook(state, prefix, concerned(state), now)).collect();
        jails.sort_by_key(|outlook| !outlook.concerned);
        Account {
            prefix,
            allowed: self.allowed(prefix, now),
            lines: self.lines(prefix),
            decisions: last(decisions),
            bans,
            history,
            jails,
        }
    }

    /// What led to the latest decisions, and what came last; each line once.
    fn lines(&self, prefix: IpNet) -> Vec<Line> {
        let led = self.dossiers.cases(prefix).flat_map(|case| case.lines.iter().cloned());
        // Two lines with the same text are two lines; one that is kept in both places is one.
        let mut known = HashSet::new();
        let fresh = |trace: &Trace| known.insert(trace.number);
        let mut lines: Vec<Line> =
            led.chain(self.dossiers.lines(prefix)).filter(fresh).map(|trace| Line::of(&trace)).collect();
        lines.sort_by_key(|line| line.time);
        last(lines)
    }

    /// Why nobody can ban this prefix, if so, and what was said of it.
    fn allowed(&self, prefix: IpNet, now: Timestamp) -> Option<String> {
        let refused = policy::guard(prefix, &self.allowlist, now).err()?;
        let Refused::Allowed(Allowed { network, why: Why::Granted(_) }) = refused else {
            return Some(refused.to_string());
        };
        let said = self.ledger.grants().find(|(granted, _)| **granted == network).map(|(_, grant)| grant.to_string());
        Some(format!("{refused}{}", said.unwrap_or_default()))
    }

    fn outlook(&self, state: &JailState, prefix: IpNet, concerned: bool, now: Timestamp) -> Outlook {
        let counted = state.jail.prefix.prefix_of(prefix.addr());
        let banned = self.spared(counted, prefix.addr(), now);
        let (length, count, reason) = match self.next_ban(state, banned, now) {
            Ok((length, count)) => (Some(length), Some(count), None),
            Err(reason) => (None, None, Some(reason)),
        };
        let (jail, window, would_ban) = (Arc::clone(&state.name), window(&state.jail.window), reason.is_none());
        Outlook { jail, prefix: banned, window, concerned, would_ban, length, count, reason }
    }

    /// How long the next ban by this jail would be, were there an offence once the one that stands is over; and which
    /// one it would be.
    fn next_ban(&self, state: &JailState, prefix: IpNet, now: Timestamp) -> Result<(String, u32), String> {
        let standing = self.ledger.bans_of(&prefix).into_iter().find(|ban| ban.jail == state.name);
        let before = past(&self.ledger, &prefix, now);
        let (at, last_end) = match standing.as_ref().map(|ban| ban.until) {
            Some(Until::Forever) => return Err("it is banned for ever".to_owned()),
            Some(Until::At(end)) if end > now => (end, Some(end)),
            Some(Until::At(_)) | None => (now, before.last_end),
        };
        let evidence = standing.map_or(Evidence::Proven, |ban| ban.evidence);
        let past = Past { last_end, ..before };
        let jail = self.jails.iter().position(|other| other.name == state.name).unwrap_or_default();
        let login = self.login(&state.jail, prefix, now);
        let plain = self.case(jail, prefix, &state.jail.ban, at, at);
        let case = Case { evidence, login, past, standing: None, ..plain };
        match policy::decide(&case, &self.allowlist, &mut self.bounds.copy(), self.ledger.standing()) {
            Decision::Ban { until, count } => {
                let length = until.remaining(at).map_or_else(|| "forever".to_owned(), format_duration);
                Ok((length, count))
            }
            Decision::Ignore(reason) => Err(reason.to_string()),
        }
    }
}

impl Verdict {
    fn of(decided: &Decided) -> Verdict {
        let (until, count, reason) = match &decided.decision {
            Decision::Ban { until, count } => (Some(*until), Some(*count), None),
            Decision::Ignore(reason) => (None, None, Some(reason.to_string())),
        };
        Verdict {
            time: decided.time,
            jail: Arc::clone(&decided.jail),
            hits: decided.hits,
            unit: decided.unit.to_owned(),
            first: decided.first,
            banned: reason.is_none(),
            until,
            count,
            reason,
            times: decided.again.saturating_add(1),
            last: decided.last,
        }
    }
}

impl Line {
    fn of(trace: &Trace) -> Line {
        let text = String::from_utf8_lossy(&trace.line).into_owned();
        Line { time: trace.time, jail: Arc::clone(&trace.jail), text }
    }
}

/// The last of many.
fn last<T>(mut rows: Vec<T>) -> Vec<T> {
    rows.drain(..rows.len().saturating_sub(ROWS));
    rows
}

/// What makes an offence.
fn window(spec: &Spec) -> String {
    match spec {
        Spec::Recent { hitcount, seconds, .. } => {
            format!("{} within {}", plural((*hitcount).into(), "hit"), format_duration(*seconds))
        }
        Spec::Distinct { hitcount, seconds, of } => {
            format!("{} within {}", plural((*hitcount).into(), of.unit()), format_duration(*seconds))
        }
        Spec::Limit { interval, burst } => {
            format!("more than one hit per {} after {}", fine(*interval), plural((*burst).into(), "hit"))
        }
    }
}

/// Rates above one a second have intervals below it.
fn fine(interval: std::time::Duration) -> String {
    if interval.subsec_millis() == 0 { format_duration(interval) } else { format!("{} ms", interval.as_millis()) }
}
