//! The synchronous heart: hit → window → policy → ledger → changes.
//!
//! In: hits with the source they came from, and what a person asked for. Out: changes for the firewall and events.
//! No clock, no thread, no socket: the daemon and `banctl replay` run the very same code.

pub(crate) mod account;
pub(crate) mod event;
mod evidence;
mod grants;
pub(crate) mod import;
mod judge;
#[cfg(feature = "bench")]
pub(crate) mod measure;
mod pardons;
pub(crate) mod positions;
mod shelf;
pub(crate) mod takeover;
pub(crate) mod wiring;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::{Config, Jail};
use crate::filters::{Effect, Evidence, Hit};
use crate::keyed::{self, Keys, Net};
use crate::ledger::{Ban, Change, How, Ledger, MANUAL, Scope};
use crate::policy::allowlist::Allowlist;
use crate::policy::breaker::Breaker;
use crate::policy::budget::Budget;
use crate::policy::escalation::Past;
use crate::policy::grant::Grant;
use crate::policy::recall::{self, Logins, Recall};
use crate::policy::{self, Bounds, Corroborate, Reason};
use crate::text::plural;
use crate::time::{Length, Timestamp};
use crate::windows::Window;
use event::{Event, Kind, Shown};
use evidence::Dossiers;
use judge::Charge;
use pardons::Pardons;
use wiring::{Service, Wiring};

/// How many hits are looked ahead.
pub(crate) const AHEAD: usize = 32;
/// Words that memory brings near at once.
const LINE: usize = 16;

/// The same ignored offence is told at most this often.
const IGNORED_AGAIN: Duration = Duration::from_secs(600);
/// How many ignored offences are remembered so as not to be told again.
const IGNORED_KEPT: usize = 4096;

/// All state between a hit and a change.
pub(crate) struct Pipeline {
    jails: Vec<JailState>,
    /// For each source, for each filter of its matcher, the jails that listen.
    listeners: Vec<Vec<Vec<usize>>>,
    pub(crate) ledger: Ledger,
    pub(crate) allowlist: Allowlist,
    pub(crate) bounds: Bounds,
    corroborate: Corroborate,
    /// Prefixes that were banned for proven evidence lately.
    offenders: Recall,
    /// Addresses that people have logged in from.
    logins: Logins,
    /// What everything rests on that is left to chance, the jitter of bans and who makes room in a full window: the same
    /// number and the same hits, the same bans.
    seed: u64,
    told: HashMap<(Net, usize), Timestamp, Keys>,
    dossiers: Dossiers,
    pardons: Pardons,
}

/// A jail with its window and its counts since the start.
pub(crate) struct JailState {
    pub(crate) jail: Arc<Jail>,
    name: Arc<str>,
    service: Service,
    window: Window,
    pub(crate) counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) hits: u64,
    pub(crate) offences: u64,
    pub(crate) bans: u64,
    pub(crate) ignored: u64,
}

impl JailState {
    fn new((jail, service): (Arc<Jail>, Service), seed: u64) -> JailState {
        let window = Window::new(&jail.window, jail.track).keyed(seed);
        JailState { name: jail.name.as_str().into(), service, window, jail, counts: Counts::default() }
    }

    pub(crate) fn tracked(&self) -> usize {
        self.window.tracked()
    }

    /// Sources that had to make room for others in the window's table.
    pub(crate) fn evicted(&self) -> u64 {
        self.window.evicted()
    }

    /// Whether the sources that this jail counts would be counted in the same way by `other`.
    fn counts_like(&self, other: &Jail) -> bool {
        let ours = &self.jail;
        ours.filter == other.filter
            && ours.mode == other.mode
            && ours.log_prefix == other.log_prefix
            && ours.source == other.source
            && ours.window == other.window
            && ours.prefix == other.prefix
            && ours.track == other.track
    }
}

/// What followed from some input.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) changes: Vec<Change>,
    pub(crate) events: Vec<Event>,
    /// Addresses that were banned for evidence that may be forged: did the kernel see them complete a handshake?
    pub(crate) doubted: Vec<IpAddr>,
}

impl Outcome {
    fn of(changes: Vec<Change>, events: Vec<Event>) -> Outcome {
        Outcome { changes, events, doubted: Vec::new() }
    }

    /// Nothing, with the space for more.
    pub(crate) fn clear(&mut self) {
        self.changes.clear();
        self.events.clear();
        self.doubted.clear();
    }

    /// What followed from later input.
    pub(crate) fn append(&mut self, mut next: Outcome) {
        self.changes.append(&mut next.changes);
        self.events.append(&mut next.events);
        self.doubted.append(&mut next.doubted);
    }
}

/// Why a person's wish was refused: a sentence.
pub(crate) type Refusal = String;

impl Pipeline {
    pub(crate) fn new(config: &Config, wiring: &Wiring, mut ledger: Ledger, allowlist: Allowlist) -> Pipeline {
        ledger.forget_after(longest_memory(wiring));
        let limits = &config.budget;
        let bounds = Bounds {
            budget: Budget::new(limits.per_minute, limits.at_a_time, limits.max),
            breaker: Breaker::new(config.breaker),
        };
        let seed = keyed::chance();
        Pipeline {
            jails: wiring.jails_and_services().map(|jail| JailState::new(jail, seed)).collect(),
            listeners: wiring.listeners(),
            offenders: offenders(&ledger),
            pardons: Pardons::of(&ledger),
            ledger,
            allowlist,
            bounds,
            corroborate: config.budget.corroborate,
            logins: Logins::default(),
            seed,
            told: HashMap::default(),
            dossiers: Dossiers::default(),
        }
    }

    /// Leaves nothing to chance, before the first hit: the same logs always give the same bans.
    pub(crate) fn repeatable(mut self) -> Pipeline {
        self.seed = 0;
        let keyed = |state: JailState| JailState { window: state.window.keyed(0), ..state };
        self.jails = self.jails.into_iter().map(keyed).collect();
        self
    }

    /// Takes over a new configuration. Jails that count as before keep their windows and their counts.
    pub(crate) fn reconfigure(&mut self, config: &Config, wiring: &Wiring) {
        let mut old = std::mem::take(&mut self.jails);
        let state_of =
            |(jail, service): (Arc<Jail>, Service)| match old.iter().position(|state| state.jail.name == jail.name) {
                Some(at) if old[at].counts_like(&jail) => JailState { jail, service, ..old.swap_remove(at) },
                _ => JailState::new((jail, service), self.seed),
            };
        self.jails = wiring.jails_and_services().map(state_of).collect();
        self.listeners = wiring.listeners();
        self.ledger.forget_after(longest_memory(wiring));
        self.bounds.budget.change(config.budget.per_minute, config.budget.at_a_time, config.budget.max);
        self.bounds.breaker.change(config.breaker);
        self.corroborate = config.budget.corroborate;
        self.told.clear();
        self.pardons = Pardons::of(&self.ledger);
    }

    pub(crate) fn jails(&self) -> &[JailState] {
        &self.jails
    }

    /// Counts the hits of one source. Warm hits refill the windows only: what followed from them has followed.
    pub(crate) fn on_hits(&mut self, source: usize, hits: &[Hit], warm: bool, now: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        for hits in hits.chunks(AHEAD) {
            self.look_ahead(source, hits);
            for hit in hits {
                self.on_hit(source, hit, warm, now, &mut outcome);
            }
        }
        outcome
    }

    /// Brings near what the next [`AHEAD`] hits will be counted in: in a flood of sources memory is what takes the time,
    /// and it gives many at once as soon as one. To be called before them; it changes nothing.
    pub(crate) fn look_ahead(&self, source: usize, hits: &[Hit]) {
        let mut ahead = Vec::with_capacity(AHEAD);
        for hit in hits.iter().filter(|hit| hit.effect != Effect::Forgive) {
            for state in self.listening(source, hit.filter).iter().filter_map(|at| self.jails.get(*at)) {
                let counted = state.jail.prefix.prefix_of(hit.address);
                ahead.push((counted, state.window.around(counted, hit.evidence), self.dossiers.place_of(counted)));
            }
        }
        // The looks stand close together, so that the processor takes many of them at once. What they see means nothing;
        // without it the compiler could leave them out.
        let look = |(counted, slots, place): (IpNet, &[u32], usize)| {
            let seen = [0, LINE, 2 * LINE].iter().filter_map(|at| slots.get(*at)).fold(0, |seen, word| seen ^ word);
            seen ^ u32::from(self.dossiers.look_at(place, counted))
        };
        std::hint::black_box(ahead.into_iter().map(look).fold(0, |seen, more| seen ^ more));
    }

    /// Counts one hit of a source.
    pub(crate) fn on_hit(&mut self, source: usize, hit: &Hit, warm: bool, now: Timestamp, outcome: &mut Outcome) {
        for next in 0..self.listening(source, hit.filter).len() {
            self.count(self.listening(source, hit.filter)[next], hit, warm, now, outcome);
        }
    }

    /// The jails that listen to this filter.
    fn listening(&self, source: usize, filter: u16) -> &[usize] {
        self.listeners.get(source).and_then(|filters| filters.get(usize::from(filter))).map_or(&[], Vec::as_slice)
    }

    /// Counts a hit for one jail, and judges whoever it convicts.
    fn count(&mut self, at: usize, hit: &Hit, warm: bool, now: Timestamp, outcome: &mut Outcome) {
        let state = &mut self.jails[at];
        let counted = state.jail.prefix.prefix_of(hit.address);
        if hit.effect == Effect::Forgive {
            state.window.forgive(counted, hit);
            return self.on_login(hit.address, hit.time);
        }
        if warm && self.pardons.cover(hit.address, hit.time) {
            return;
        }
        if !warm {
            state.counts.hits += u64::from(hit.count());
        }
        self.dossiers.note(counted, &state.name, hit);
        if warm && self.was_limited_for(at, counted, hit) {
            return;
        }
        let offence = self.jails[at].window.hit(counted, hit);
        if warm {
            return;
        }
        let among = if offence.is_none() { self.among_banned(at, hit, counted) } else { None };
        let (offence, neighbours) = match (&offence, &among) {
            (Some(offence), _) => (offence, None),
            (None, Some((offence, neighbours))) => (offence, Some(*neighbours)),
            (None, None) => return,
        };
        self.jails[at].counts.offences += 1;
        self.on_offence(&Charge { jail: at, hit, counted, offence, neighbours }, now, outcome);
        for address in &offence.others {
            let hit = &Hit { address: *address, user: None, ..hit.clone() };
            let counted = self.jails[at].jail.prefix.prefix_of(*address);
            self.jails[at].counts.offences += 1;
            self.on_offence(&Charge { jail: at, hit, counted, offence, neighbours: None }, now, outcome);
        }
    }

    /// What is banned: the prefix that was counted, unless somebody who may not be banned lives in it. Then it is the
    /// offender alone, so that a neighbour in the server's own network does not go free.
    fn spared(&self, counted: IpNet, address: IpAddr, now: Timestamp) -> IpNet {
        let host = IpNet::from(address);
        let only_others = counted != host
            && self.allowlist.refuses(counted, now).is_some()
            && self.allowlist.refuses(host, now).is_none();
        if only_others { host } else { counted }
    }

    /// Each ignored offence is worth one line, not one per packet; that it is banned already, none.
    fn tell_ignored(&mut self, at: usize, prefix: IpNet, reason: &Reason, now: Timestamp, outcome: &mut Outcome) {
        if matches!(reason, Reason::AlreadyBanned(_)) {
            return;
        }
        if self.told.get(&(Net(prefix), at)).is_some_and(|told| now.since(*told) < IGNORED_AGAIN) {
            return;
        }
        if self.told.len() >= IGNORED_KEPT {
            self.told.clear();
        }
        self.told.insert((Net(prefix), at), now);
        outcome.events.push(Event::ignored(now, prefix, &self.jails[at].name, reason));
    }

    /// To be called now and then: should the wall clock have been set back, forgets what was counted in the future.
    pub(crate) fn rewind(&mut self, now: Timestamp) {
        for state in &mut self.jails {
            state.window.rewind(now);
        }
    }

    /// Ends what is over.
    pub(crate) fn expire(&mut self, now: Timestamp) -> Outcome {
        let (ended, changes) = self.ledger.expire(now);
        let events = ended.iter().map(|ban| Event::of_ban(now, Kind::Expired, ban)).collect();
        let mut outcome = Outcome::of(changes, events);
        self.look_at_breaker(now, &mut outcome);
        outcome
    }

    /// Takes over newly protected or allowed networks: a ban that they cover is lifted.
    pub(crate) fn allow(&mut self, allowlist: Allowlist, now: Timestamp) -> Outcome {
        self.allowlist = allowlist;
        self.lift_allowed(now)
    }

    /// Lifts every ban, and strikes every list entry, that reaches an allowed address.
    fn lift_allowed(&mut self, now: Timestamp) -> Outcome {
        let networks: Vec<IpNet> = self.allowlist.networks(now).collect();
        self.lift_around(&networks, now)
    }

    /// The same for these allowed networks.
    fn lift_around(&mut self, networks: &[IpNet], now: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        for network in networks {
            let wider = self.ledger.bans_covering(network.addr());
            for ban in wider.into_iter().chain(self.ledger.bans_within(*network)) {
                self.lift(&ban.prefix, now, &mut outcome);
            }
        }
        outcome
    }

    fn lift(&mut self, prefix: &IpNet, now: Timestamp, outcome: &mut Outcome) {
        let Some(why) = self.allowlist.refuses(*prefix, now) else { return };
        let (ended, changes) = self.ledger.unban(prefix, now);
        outcome.changes.extend(changes);
        for ban in ended {
            let ban = Ban { reason: why.to_string().into(), ..ban };
            outcome.events.push(Event::of_ban(now, Kind::Unbanned, &ban));
        }
    }

    /// A person's ban. Refused when it would reach an allowed address.
    pub(crate) fn ban(
        &mut self,
        prefix: IpNet,
        length: Length,
        reason: &str,
        now: Timestamp,
    ) -> Result<Outcome, Refusal> {
        policy::guard(prefix, &self.allowlist, now).map_err(|why| why.to_string())?;
        let until = length.from(now);
        let count = past(&self.ledger, &prefix, now).bans + 1;
        let ban = Ban {
            prefix,
            jail: MANUAL.into(),
            scope: Scope::default(),
            since: now,
            until,
            reason: reason.into(),
            count,
            evidence: Evidence::Proven,
        };
        let changes = self.ledger.ban(ban);
        // As it stands now: it may have been banned for longer already.
        let standing = self.ledger.bans_of(&prefix.trunc()).into_iter().find(|ban| &*ban.jail == MANUAL);
        let event = standing.map(|ban| Event::of_ban(now, Kind::Banned, &ban));
        Ok(Outcome::of(changes, event.into_iter().collect()))
    }

    /// Ends the bans of these prefixes, and forgets what was counted against them. All or nothing.
    pub(crate) fn unban(
        &mut self,
        prefixes: &[IpNet],
        grant: Option<&Grant>,
        now: Timestamp,
    ) -> Result<Outcome, Refusal> {
        for prefix in prefixes {
            self.may_unban(prefix, prefixes, grant.is_some())?;
        }
        self.keep_grants(prefixes, grant, now)?;
        let mut outcome = Outcome::default();
        for prefix in prefixes {
            let (ended, changes) = self.ledger.unban(prefix, now);
            outcome.append(unbanned(&ended, changes, now));
        }
        self.forget(prefixes);
        if grant.is_some() {
            // What else reaches them, a wider ban say, would make the grant a lie.
            outcome.append(self.lift_allowed(now));
        }
        Ok(outcome)
    }

    /// What was counted against these, who are unbanned.
    fn forget(&mut self, prefixes: &[IpNet]) {
        for prefix in prefixes {
            self.offenders.forget(*prefix);
        }
        for state in &mut self.jails {
            // Where a neighbour was spared, what was counted is wider than what was banned.
            let of = |prefix: &IpNet| {
                let counted = state.jail.prefix.prefix_of(prefix.addr());
                if counted.contains(prefix) { counted } else { *prefix }
            };
            state.window.forget_all(&prefixes.iter().map(of).collect());
        }
    }

    /// Ends every ban; lists stay, they end by `import` of an empty one or with their file.
    pub(crate) fn unban_all(&mut self, grant: Option<&Grant>, now: Timestamp) -> Result<Outcome, Refusal> {
        let mut outcome = Outcome::default();
        let mut banned: Vec<IpNet> = self.ledger.bans().map(|ban| ban.prefix).collect();
        banned.dedup();
        self.keep_grants(&banned, grant, now)?;
        for prefix in &banned {
            let (ended, changes) = self.ledger.unban_owners(prefix, now);
            outcome.append(unbanned(&ended, changes, now));
        }
        self.forget(&banned);
        Ok(outcome)
    }

    /// `all`: what is to be unbanned together with it.
    fn may_unban(&self, prefix: &IpNet, all: &[IpNet], graced: bool) -> Result<(), Refusal> {
        let shown = Shown(*prefix);
        let covering = self.ledger.bans_covering(prefix.addr());
        let exact = |ban: &&Ban| ban.prefix == *prefix;
        let file =
            |ban: &Ban| ban.jail.strip_prefix(LIST).and_then(|list| list.strip_prefix(BLOCKLIST)).map(str::to_owned);
        if let Some(path) = covering.iter().filter(exact).find_map(file) {
            return Err(format!("{shown} stands in the file {path}; remove its line there"));
        }
        let wider = |ban: &&Ban| ban.prefix != *prefix && ban.prefix.contains(prefix) && !all.contains(&ban.prefix);
        let (own, wider) = (covering.iter().any(|ban| exact(&ban)), covering.iter().find(wider));
        if graced || (own && wider.is_none()) {
            return Ok(());
        }
        match wider {
            Some(Ban { prefix: wider, .. }) if own => {
                Err(format!("{shown} is also banned as part of {wider}; unban {wider} with it"))
            }
            Some(Ban { prefix: wider, .. }) => {
                Err(format!("{shown} is banned as part of {wider}; unban {wider} instead"))
            }
            None => Err(match self.ledger.bans_within(*prefix).len() {
                0 => format!("{shown} is not banned"),
                within => {
                    format!("{shown} itself is not banned; {} lie within it, unban those", plural(within as u64, "ban"))
                }
            }),
        }
    }

    /// Ends a list.
    pub(crate) fn end_list(&mut self, name: &str, now: Timestamp) -> Outcome {
        let changes = self.ledger.remove_list(name);
        let event = Event::new(now, Kind::Listed, format!("list '{name}' has ended"));
        Outcome::of(changes, vec![event])
    }
}

/// The bans of a prefix so far, those that stand included.
fn past(ledger: &Ledger, prefix: &IpNet, now: Timestamp) -> Past {
    let ended = ledger.past(prefix, now);
    let standing = ledger.bans_of(prefix).iter().filter(|ban| ban.evidence == Evidence::Proven).count();
    let bans = ended.bans.saturating_add(u32::try_from(standing).unwrap_or(u32::MAX));
    Past { bans, last_end: ended.last_end }
}

/// How long the jail with the best memory remembers a ban.
/// What follows when these were unbanned.
fn unbanned(ended: &[Ban], changes: Vec<Change>, now: Timestamp) -> Outcome {
    Outcome::of(changes, ended.iter().map(|ban| Event::of_ban(now, Kind::Unbanned, ban)).collect())
}

fn longest_memory(wiring: &Wiring) -> Duration {
    let forget = wiring.jails.iter().map(|jail| match jail.ban.forget {
        Length::For(quiet) => quiet,
        Length::Forever => Duration::MAX,
    });
    forget.max().unwrap_or(Duration::MAX)
}

/// Who has offended lately, as far as the ledger knows, and was not unbanned since.
fn offenders(ledger: &Ledger) -> Recall {
    let is_offender = |ban: &&Ban| ban.evidence == Evidence::Proven && &*ban.jail != MANUAL;
    let ended = ledger.ended().map(|ended| &ended.ban).filter(is_offender).map(|ban| (ban.since, ban.prefix));
    let unbanned = ledger.ended().filter(|ended| ended.how == How::Unbanned);
    let mut steps: Vec<(Timestamp, IpNet, bool)> =
        ended.chain(ledger.offenders()).map(|(since, prefix)| (since, prefix, true)).collect();
    steps.extend(unbanned.map(|ended| (ended.at, ended.ban.prefix, false)));
    // What is older would be forgotten again.
    if let Some(older) = steps.len().checked_sub(recall::MOST).filter(|older| *older > 0) {
        steps.select_nth_unstable(older);
        steps.drain(..older);
    }
    steps.sort_unstable();
    let mut offenders = Recall::default();
    for (at, prefix, offended) in steps {
        if offended { offenders.note(prefix, at) } else { offenders.forget(prefix) }
    }
    offenders
}

/// The jail under which a list's entries are shown is named by this and the list's name.
pub(crate) const LIST: &str = "list:";
/// Lists that a blocklist file stands behind are named by this and the file's path.
pub(crate) const BLOCKLIST: &str = "file:";

#[cfg(test)]
mod tests;
