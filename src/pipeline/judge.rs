//! What follows an offence: everything that is known is laid before the policy, and its decision is carried out.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::event::{Event, Kind, Shown};
use super::evidence::Decided;
use super::{JailState, Outcome, Pipeline, past};
use crate::config::Jail;
use crate::filters::{Evidence, Hit};
use crate::ledger::{Ban, Scope, Stage};
use crate::policy::breaker::Turn;
use crate::policy::escalation::Past;
use crate::policy::ground::{Ground, Witness};
use crate::policy::prefix::narrowed;
use crate::policy::{self, BanSpec, Case, Decision, Reason};
use crate::text::plural;
use crate::time::{Timestamp, Until, format_duration};
use crate::windows::{Offence, Tally};

/// How long a hit that cannot be forged confirms those that can.
const CONFIRMS_FOR: Duration = Duration::from_secs(3600);
/// How long a good log-in speaks for its address.
const LOGIN_FOR: Duration = Duration::from_secs(86_400);

/// An offence, and in which jail.
pub(super) struct Charge<'a> {
    /// The jail's index.
    pub(super) jail: usize,
    /// The hit that was one too many.
    pub(super) hit: &'a Hit,
    /// The prefix that was counted.
    pub(super) counted: IpNet,
    pub(super) offence: &'a Offence,
    /// The prefix of banned neighbours because of whom fewer hits were enough.
    pub(super) neighbours: Option<IpNet>,
}

impl Charge<'_> {
    /// `5 hits in 42s`
    fn hits(&self) -> String {
        let hits = plural(self.offence.count.into(), self.offence.unit);
        match self.hit.time.since(self.offence.first) {
            span if span.as_secs() == 0 => hits + " at once",
            span => hits + " in " + &format_duration(span),
        }
    }

    fn grounds(&self, case: &Case<'_>) -> Vec<Ground> {
        let corroborated = case.witness.filter(|_| case.weight() > case.evidence).map(Ground::Corroborated);
        let neighbours = self.neighbours.map(Ground::Neighbours);
        let mercy = case.login.map(|_| Ground::Mercy);
        corroborated.into_iter().chain(neighbours).chain(mercy).collect()
    }
}

impl Pipeline {
    /// Somebody was let in from this address at that time. Bans of it are merciful for a day.
    pub(crate) fn on_login(&mut self, address: IpAddr, time: Timestamp) {
        self.logins.note(address, time);
    }

    /// The kernel has seen this address complete a handshake. Standing bans of it that rest on forgeable evidence become
    /// what they would have been, had that been known before.
    pub(crate) fn on_handshake(&mut self, address: IpAddr, now: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        let doubted = self.ledger.bans_covering(address).into_iter().filter(|ban| ban.evidence == Evidence::Forgeable);
        for ban in doubted.collect::<Vec<_>>() {
            let Some(at) = self.jails.iter().position(|state| state.name == ban.jail) else { continue };
            let jail = self.jails[at].jail.clone();
            let case = Case {
                evidence: Evidence::Forgeable,
                witness: Some(Witness::Handshake),
                login: self.login(&jail, ban.prefix, now),
                standing: None,
                ..self.case(at, ban.prefix, &jail.ban, ban.since, now)
            };
            if case.weight() == Evidence::Forgeable {
                continue;
            }
            let standing = self.ledger.standing();
            let decision = policy::decide(&case, &self.allowlist, &mut self.bounds, standing);
            if let Decision::Ban { until, count } = decision {
                let reason = reason(ban.reason.to_string(), &[Ground::Corroborated(Witness::Handshake)]).into();
                let ban = Ban { until, count, reason, evidence: Evidence::Proven, ..ban };
                outcome.events.push(Event::of_ban(now, Kind::Confirmed, &ban));
                outcome.changes.extend(self.ledger.ban(ban));
            }
        }
        outcome
    }

    pub(super) fn on_offence(&mut self, charge: &Charge<'_>, now: Timestamp, outcome: &mut Outcome) {
        let hit = charge.hit;
        let witness = self.witness(hit);
        if witness.is_some() {
            self.logins.settle();
        }
        let proven = hit.evidence == Evidence::Proven
            || witness.is_some() && {
                let login = self.login(&self.jails[charge.jail].jail, charge.counted, hit.time);
                policy::weight(hit.evidence, witness, login) == Evidence::Proven
            };
        let prefix = if proven { charge.counted } else { narrowed(charge.counted, hit.address) };
        let prefix = self.spared(prefix, hit.address, now);
        if let Some(until) = self.still_banned(charge.jail, prefix, hit.time, now) {
            // Nearly all offences of a flood: nothing else that is known of the prefix matters, nor need it be told.
            let JailState { name, counts, .. } = &mut self.jails[charge.jail];
            counts.ignored += 1;
            self.dossiers.banned_already(prefix, until, name, charge.offence, hit.time);
        } else {
            self.logins.settle();
            let jail = self.jails[charge.jail].jail.clone();
            let login = self.login(&jail, charge.counted, hit.time);
            let plain = self.case(charge.jail, prefix, &jail.ban, hit.time, now);
            self.judge(charge, &Case { evidence: hit.evidence, witness, login, ..plain }, now, outcome);
        }
        self.look_at_breaker(now, outcome);
    }

    /// Until when this jail drops all of this prefix, if that is neither over now nor was at the time of a hit.
    fn still_banned(&self, jail: usize, prefix: IpNet, at: Timestamp, now: Timestamp) -> Option<Until> {
        let (scope, until) = self.ledger.claim(&prefix, &self.jails[jail].name)?;
        let drops = scope.stage() == Stage::Drop && !until.is_over(at.max(now));
        let stands = drops && policy::guard(prefix, &self.allowlist, now).is_ok();
        stands.then_some(until)
    }

    /// Has the policy decide, and does as it says.
    fn judge(&mut self, charge: &Charge<'_>, case: &Case<'_>, now: Timestamp, outcome: &mut Outcome) {
        let (hit, prefix) = (charge.hit, case.prefix);
        let decision = policy::decide(case, &self.allowlist, &mut self.bounds, self.ledger.standing());
        self.note_decision(charge, prefix, &decision);
        match decision {
            Decision::Ban { until, count } => {
                let ban = self.sentenced(charge, case, until, count);
                if ban.evidence == Evidence::Forgeable {
                    outcome.doubted.push(hit.address);
                }
                if ban.scope.stage() == Stage::Limit {
                    // The next stage takes a whole offence again, not the next hit of this one.
                    self.jails[charge.jail].window.forget(charge.counted);
                }
                self.carry_out(charge.jail, ban, now, outcome);
                if hit.evidence == Evidence::Proven {
                    self.offenders.note(prefix, hit.time);
                    self.widen(charge, prefix, now, outcome);
                }
            }
            Decision::Ignore(why) => {
                if let Reason::AlreadyOver { until, count } = why {
                    let ban = self.sentenced(charge, case, until, count);
                    self.ledger.note_over(ban);
                }
                self.ignore(charge.jail, prefix, &why, now, outcome);
            }
        }
    }

    fn ignore(&mut self, jail: usize, prefix: IpNet, why: &Reason, now: Timestamp, outcome: &mut Outcome) {
        self.jails[jail].counts.ignored += 1;
        self.tell_ignored(jail, prefix, why, now, outcome);
    }

    /// Keeps a decision for whoever asks why.
    fn note_decision(&mut self, charge: &Charge<'_>, prefix: IpNet, decision: &Decision) {
        let name = &self.jails[charge.jail].name;
        self.dossiers.decided(prefix, charge.counted, Decided::of(charge.offence, charge.hit.time, name, decision));
    }

    /// The ban that was decided on.
    fn sentenced(&self, charge: &Charge<'_>, case: &Case<'_>, until: Until, count: u32) -> Ban {
        Ban {
            prefix: case.prefix,
            jail: self.jails[charge.jail].name.clone(),
            scope: self.staged(charge.jail, case, count),
            since: case.at,
            until,
            reason: reason(charge.hits(), &charge.grounds(case)).into(),
            count,
            evidence: case.weight(),
        }
    }

    /// What is known of a prefix in a jail, as the plainest case: proven, without witness or log-in.
    pub(super) fn case<'a>(
        &self,
        jail: usize,
        prefix: IpNet,
        spec: &'a BanSpec,
        at: Timestamp,
        now: Timestamp,
    ) -> Case<'a> {
        let name = &self.jails[jail].name;
        let standing = self.ledger.bans_of(&prefix).into_iter().find(|ban| ban.jail == *name);
        let past = past(&self.ledger, &prefix, now);
        // Who offends while limited has the same ban again, one stage further.
        let limited = standing.as_ref().filter(|ban| ban.scope.stage() == Stage::Limit);
        let again = limited.map_or(0, |ban| u32::from(ban.evidence == Evidence::Proven));
        Case {
            prefix,
            evidence: Evidence::Proven,
            witness: None,
            login: None,
            spec,
            past: Past { bans: past.bans.saturating_sub(again), ..past },
            standing: standing.as_ref().filter(|_| limited.is_none()).map(|ban| ban.until),
            limited: limited.is_some(),
            at,
            now,
            dice: if spec.jitter == 0 { 0 } else { hash(&(self.seed, prefix, name, at)) },
        }
    }

    fn carry_out(&mut self, jail: usize, ban: Ban, now: Timestamp, outcome: &mut Outcome) {
        self.jails[jail].counts.bans += 1;
        outcome.events.push(Event::of_new(now, &ban));
        outcome.changes.extend(self.ledger.ban(ban));
    }

    /// What else speaks against the sender of a hit that may be forged: within the hour before, a jail has counted a hit
    /// of the same customer that cannot be.
    fn witness(&self, hit: &Hit) -> Option<Witness> {
        if hit.evidence == Evidence::Proven {
            return None;
        }
        let confirms = |state: &JailState| {
            let counted = state.jail.prefix.prefix_of(hit.address);
            let same_customer = narrowed(counted, hit.address) == counted;
            let lately = |tally: Tally| tally.last + CONFIRMS_FOR >= hit.time;
            same_customer && state.window.tally(counted, hit.time).is_some_and(lately)
        };
        let mut proving = self.jails.iter().filter(|state| state.service.proven);
        (self.corroborate.hits && proving.any(confirms)).then_some(Witness::Hit)
    }

    /// When somebody last logged in from within this prefix, if that is not too long ago and means anything to the jail.
    pub(super) fn login(&self, jail: &Jail, prefix: IpNet, now: Timestamp) -> Option<Timestamp> {
        if !jail.ban.mercy {
            return None;
        }
        self.logins.latest_within(prefix).filter(|at| *at >= now - LOGIN_FOR)
    }

    /// What a ban of this jail drops: with mercy the ports of its service only.
    fn scope(&self, jail: usize, mercy: bool) -> Scope {
        let state = &self.jails[jail];
        let scope = &state.jail.scope;
        if mercy && scope.ports.is_empty() {
            return scope.with(|extent| extent.ports.clone_from(&state.service.scope.ports));
        }
        scope.clone()
    }

    /// The same at the stage that it has come to: who is banned for the first time may only be limited.
    fn staged(&self, jail: usize, case: &Case<'_>, count: u32) -> Scope {
        let scope = self.scope(jail, case.login.is_some());
        match self.jails[jail].jail.stages.gentle() {
            Some(limit) if count == 1 && !case.limited => scope.with(|extent| extent.limit = Some(limit)),
            _ => scope,
        }
    }

    /// Whether this hit was counted when its source was limited. After a restart, windows are filled with hits again.
    pub(super) fn was_limited_for(&self, jail: usize, counted: IpNet, hit: &Hit) -> bool {
        let state = &self.jails[jail];
        let limited = |ban: &Ban| ban.jail == state.name && ban.scope.stage() == Stage::Limit && hit.time <= ban.since;
        state.jail.stages.gentle && self.ledger.bans_within(counted).iter().any(limited)
    }

    /// The prefix of banned neighbours, where for their sake the hits of this one so far are an offence.
    pub(super) fn among_banned(&self, jail: usize, hit: &Hit, counted: IpNet) -> Option<(Offence, IpNet)> {
        let state = &self.jails[jail];
        let enough = state.jail.widen.lowered(state.jail.window.hits())?;
        if hit.evidence == Evidence::Forgeable {
            return None;
        }
        let neighbourhood = state.jail.widen.neighbourhood(counted)?;
        let tally = state.window.tally(counted, hit.time).filter(|tally| tally.hits >= enough)?;
        let banned = self.ledger.has_proven_ban_beside(counted, neighbourhood);
        let (count, unit) = (tally.hits, state.window.unit());
        banned.then_some((Offence { count, unit, first: tally.first, others: Vec::new() }, neighbourhood))
    }

    /// Bans the widest prefix around the latest offender in which enough neighbours have offended. Their own bans stay:
    /// they hold again for what is left of them once the wide one is lifted.
    fn widen(&mut self, charge: &Charge<'_>, offender: IpNet, now: Timestamp, outcome: &mut Outcome) {
        let (jail, at) = (self.jails[charge.jail].jail.clone(), charge.hit.time);
        for wide in jail.widen.wide(offender, &self.offenders, at) {
            let standing = self.ledger.standing();
            if self.login(&jail, wide.prefix, at).is_some() || !self.bounds.breaker.has_room(wide.prefix, standing) {
                continue;
            }
            let case = self.case(charge.jail, wide.prefix, &jail.ban, at, now);
            let decision = policy::decide(&case, &self.allowlist, &mut self.bounds, standing);
            self.note_decision(charge, wide.prefix, &decision);
            let name = self.jails[charge.jail].name.clone();
            let Decision::Ban { until, count } = decision else { continue };
            let ban = Ban {
                prefix: wide.prefix,
                jail: name,
                scope: jail.scope.clone(),
                since: at,
                until,
                reason: reason(format!("{} from {}", charge.hits(), Shown(offender)), &[Ground::Widened(wide)]).into(),
                count,
                evidence: Evidence::Proven,
            };
            outcome.events.push(Event::of_ban(now, Kind::Widened, &ban));
            return self.carry_out(charge.jail, ban, now, outcome);
        }
    }

    /// Tells when the breaker has opened or closed.
    pub(super) fn look_at_breaker(&mut self, now: Timestamp, outcome: &mut Outcome) {
        let Some(turn) = self.bounds.breaker.look(self.ledger.standing(), now) else { return };
        let kind = match turn {
            Turn::Opened(_) => Kind::BreakerOpened,
            Turn::Closed => Kind::BreakerClosed,
        };
        outcome.events.push(Event::new(now, kind, turn.to_string()));
    }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

fn reason(hits: String, grounds: &[Ground]) -> String {
    grounds.iter().fold(hits, |text, ground| format!("{text}; {ground}"))
}
