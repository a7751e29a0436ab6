//! The backend for nftables: one table of our own, `inet banward`. Bans are elements of hash sets, one set per family,
//! prefix length and scope, with another one beside it that counts what they stop; an interval set would take time in
//! proportion to its size for each ban. Structure is made by `nft` and nearly never changes; elements travel over netlink.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::iter::zip;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::mirror::Mirror;
use super::netlink::Socket;
use super::nft::{self, ELEMENTS_AT_ONCE, Element, Step, Wanted};
use super::nft_rules::{Key, Layout, OUR_CHAINS};
use super::{Backend, Count, FirewallError, Inspection, Seen, Settings, command};
use crate::ledger::limit::{Limit, Unit};
use crate::ledger::{Change, Entry, Extent, Scope};
use crate::time::{Timestamp, Until};

/// More changes at once are a list that is loaded.
const ONE_BY_ONE: usize = 256;

/// A limit such as a scope may have.
const LIMIT: Limit = Limit { packets: 1, per: Unit::Second, burst: 1 };

/// Times that differ by less are the same, in milliseconds.
const SAME_TIME: u64 = 2000;

/// Counting elements may take this share of the time: one in so many.
const COUNTING_SHARE: u32 = 20;

/// A list is read again when somebody changed something meanwhile, so many times.
const TRIES: usize = 10;

/// What an address is to be.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Free,
    /// For so many milliseconds, `None` for ever. A fresh one counts from nothing.
    Banned {
        left: Option<u64>,
        fresh: bool,
    },
}

#[derive(Debug)]
struct Set {
    bans: String,
    counts: String,
    mirror: Mirror,
}

/// Of the kinds that are banned as nothing else is configured.
const USUAL: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 32)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 64)),
];

#[derive(Debug)]
pub(super) struct Nftables {
    layout: Layout,
    socket: Socket,
    /// See [`nft::can_destroy`].
    pub(super) can_destroy: bool,
    sets: BTreeMap<Key, Set>,
    /// The generation of the rule set at which everything was last known to be in place.
    generation: Option<u32>,
    /// Of our table, when it was right.
    fingerprint: Option<u64>,
    /// Elements are not counted before this moment.
    count_again: Option<Instant>,
    /// Whether sets can limit sources one by one.
    limits: bool,
}

impl Nftables {
    /// Fails unless `nft` and the kernel accept our table. Changes nothing.
    pub(super) fn open(settings: &Settings) -> Result<(Nftables, String), FirewallError> {
        let mut backend = Nftables {
            layout: Layout::new(settings),
            socket: Socket::open().map_err(FirewallError::of("a netlink socket"))?,
            can_destroy: false,
            sets: BTreeMap::new(),
            generation: None,
            fingerprint: None,
            count_again: None,
            limits: true,
        };
        backend.layout.must_be_met(settings)?;
        nft::generation(&mut backend.socket)?;
        let chains = nft::chains(&mut backend.socket, &backend.layout.table)?;
        if !chains.is_empty() && !chains.iter().any(|chain| OUR_CHAINS.contains(&chain.as_str())) {
            return Err(FirewallError::ForeignTable { table: backend.layout.table });
        }
        backend.can_destroy = nft::can_destroy(&mut backend.socket, &backend.layout.table);
        let address = IpNet::from(IpAddr::from([192, 0, 2, 1]));
        let limited = Scope::from(Extent { limit: Some(LIMIT), ..Extent::default() });
        let examples = [Key::of(&address, &Scope::default()), Key::of(&address, &limited)];
        let check =
            |layout: &Layout, keys: &[Key]| command::run("nft", &["--check", "-f", "-"], &layout.script(keys, &[]));
        backend.limits = check(&backend.layout, &examples).is_ok();
        if !backend.limits && check(&backend.layout, &examples[..1]).is_err() {
            backend.layout.counts = false;
            check(&backend.layout, &examples[..1])?;
        }
        Ok((backend, "nftables works".to_owned()))
    }

    /// Makes table, chains, rules and sets right for these keys, and remembers how that looks.
    fn make_structure(&mut self, keys: &[Key], stale: &[String]) -> Result<(), FirewallError> {
        if !self.limits && keys.iter().any(|key| key.scope.limit.is_some()) {
            return Err(FirewallError::NoLimits);
        }
        let _news = self.layout.translation.begins(keys.iter().map(|key| &key.scope));
        let make = |layout: &Layout| command::run("nft", &["-f", "-"], &layout.script(keys, stale));
        if let Err(error) = make(&self.layout) {
            if !self.layout.translation.fall_back() {
                return Err(error);
            }
            make(&self.layout).inspect_err(|_| self.layout.translation.resume())?;
        }
        let generation = nft::generation(&mut self.socket)?;
        self.fingerprint = nft::fingerprint(&mut self.socket, &self.layout.table)?;
        self.generation = self.fingerprint.is_some().then_some(generation);
        Ok(())
    }

    /// Does the steps in one transaction; the generation that results is known to be ours when nobody else's came between.
    /// One that changes nothing has none: so what somebody else did before is told by the generation before.
    fn transaction(&mut self, steps: &[Step<'_>]) -> Result<(), FirewallError> {
        let before = nft::generation(&mut self.socket)?;
        nft::transaction(&mut self.socket, &self.layout.table, steps, self.can_destroy)?;
        let now = nft::generation(&mut self.socket)?;
        let is_ours = now == before || now == before.wrapping_add(1);
        self.generation = self.generation.filter(|known| *known == before && is_ours).map(|_| now);
        Ok(())
    }

    /// Makes elements absent, then those with a time present, each few in one transaction: adding alone would not renew the
    /// time of one that is there.
    fn put(&mut self, key: &Key, wanted: &[(IpAddr, Fate)]) -> Result<(), FirewallError> {
        let (bans, counts) = (key.bans(), key.counts());
        for chunk in wanted.chunks(ELEMENTS_AT_ONCE) {
            let (mut all, mut set, mut uncounted) = (Vec::new(), Vec::new(), Vec::new());
            for (address, fate) in chunk {
                all.push(*address);
                match fate {
                    Fate::Banned { left, fresh: false } => set.push((*address, *left)),
                    Fate::Banned { left, fresh: true } => {
                        set.push((*address, *left));
                        uncounted.push(*address);
                    }
                    Fate::Free => uncounted.push(*address),
                }
            }
            if !self.can_destroy {
                // One that is not there would have to be added first, for which there may be no room.
                uncounted = self.held_of(&counts, uncounted)?;
            }
            self.transaction(&[
                Step::Remove { set: &bans, addresses: &all },
                Step::Add { set: &bans, elements: &set },
                Step::Remove { set: &counts, addresses: &uncounted },
            ])?;
        }
        Ok(())
    }

    /// Those of the addresses that are in a set.
    fn held_of(&mut self, set: &str, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, FirewallError> {
        let (socket, table) = (&mut self.socket, &self.layout.table);
        let held = |address: IpAddr| match nft::holds(socket, table, set, address) {
            Ok(held) => held.then_some(Ok(address)),
            Err(error) => Some(Err(error)),
        };
        addresses.into_iter().filter_map(held).collect()
    }

    /// Adds what is not there.
    fn add(&mut self, key: &Key, missing: &[Wanted]) -> Result<(), FirewallError> {
        let bans = key.bans();
        missing
            .chunks(ELEMENTS_AT_ONCE)
            .try_for_each(|elements| self.transaction(&[Step::Add { set: &bans, elements }]))
    }

    /// Brings one set from what it holds to what it should hold, in the order of addresses. What stays is not touched.
    fn reconcile(&mut self, key: &Key, wanted: &[Wanted]) -> Result<(), FirewallError> {
        let (mut changes, mut there) = (Vec::new(), vec![false; wanted.len()]);
        let place = |address: &IpAddr| wanted.binary_search_by_key(address, |(address, _)| *address).ok();
        for Element { address, left: held, .. } in self.elements(&key.bans())? {
            let same = |wanted: Option<u64>| match (held, wanted) {
                (Some(held), Some(wanted)) => held.abs_diff(wanted) <= SAME_TIME,
                (held, wanted) => held == wanted,
            };
            let Some(at) = place(&address) else {
                changes.push((address, Fate::Free));
                continue;
            };
            there[at] = true;
            if !same(wanted[at].1) {
                changes.push((address, Fate::Banned { left: wanted[at].1, fresh: false }));
            }
        }
        let missing = zip(wanted, &there).filter(|(_, there)| !**there).map(|(wanted, _)| *wanted);
        self.add(key, &missing.collect::<Vec<_>>())?;
        self.put(key, &changes)?;
        let mut over = self.elements(&key.counts())?;
        over.retain(|element| place(&element.address).is_none());
        let over: Vec<(IpAddr, Fate)> = over.iter().map(|element| (element.address, Fate::Free)).collect();
        self.put(key, &over)
    }

    fn elements(&mut self, set: &str) -> Result<Vec<Element>, FirewallError> {
        nft::elements(&mut self.socket, &self.layout.table, set)
    }

    /// Whether each set holds as much as it should. Takes time in proportion to the bans: only called when somebody
    /// changed something in `nf_tables`, and only for a small share of the time.
    fn inspect_sets(&mut self, now: Timestamp) -> Result<Inspection, FirewallError> {
        let start = Instant::now();
        for set in self.sets.values_mut() {
            let least = set.mirror.least(now);
            let count = nft::count(&mut self.socket, &self.layout.table, &set.bans)?;
            if count < least {
                let text = format!("the set {} held {count} entries instead of {least}", set.bans);
                return Ok(Inspection::Damaged(text));
            }
        }
        self.count_again = Some(Instant::now() + start.elapsed() * COUNTING_SHARE);
        Ok(Inspection::Intact)
    }

    fn add_sets(&mut self, changes: &[Change]) -> Result<(), FirewallError> {
        let before = self.sets.len();
        for change in changes {
            let Change::Set(Entry { prefix, scope, .. }) = change else { continue };
            let key = Key::of(prefix, scope);
            self.sets.entry(key).or_insert_with_key(|key| Set::new(key, Mirror::default()));
        }
        if self.sets.len() == before {
            return Ok(());
        }
        let keys: Vec<Key> = self.sets.keys().cloned().collect();
        self.make_structure(&keys, &[])
    }
}

impl Set {
    fn new(key: &Key, mirror: Mirror) -> Set {
        Set { bans: key.bans(), counts: key.counts(), mirror }
    }

    fn is_called(&self, name: &str) -> bool {
        self.bans == name || self.counts == name
    }
}

impl Backend for Nftables {
    fn name(&self) -> &'static str {
        "nftables"
    }

    fn sync(&mut self, entries: &[Entry], now: Timestamp) -> Result<(), FirewallError> {
        let mut listed: BTreeMap<Key, Vec<(IpNet, Until)>> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| !entry.until.is_over(now)) {
            listed.entry(Key::of(&entry.prefix, &entry.scope)).or_default().push((entry.prefix.trunc(), entry.until));
        }
        // Making a set takes the kernel some 20 ms: not when the first attacker of a kind is to be banned.
        for usual in USUAL {
            listed.entry(Key::of(&usual, &Scope::default())).or_default();
        }
        let (mut wanted, mut sets) = (BTreeMap::new(), BTreeMap::new());
        for (key, mut list) in listed {
            Mirror::put_in_order(&mut list);
            let left = |(prefix, until): &(IpNet, Until)| (prefix.network(), milliseconds(*until, now));
            wanted.insert(key.clone(), list.iter().map(left).collect::<Vec<Wanted>>());
            let set = Set::new(&key, Mirror::of(list));
            sets.insert(key, set);
        }
        let keys: Vec<Key> = sets.keys().cloned().collect();
        let present = self.present()?;
        let stale = present.into_iter().filter(|(name, _)| !sets.values().any(|set| set.is_called(name)));
        let stale: Vec<(String, Option<Key>)> = stale.collect();
        let moves = stale.iter().any(|(_, key)| key.as_ref().is_some_and(|key| sets.contains_key(key)));
        self.sets = sets;
        if moves {
            self.fill_ahead(&keys, &wanted)?;
        }
        let stale: Vec<String> = stale.into_iter().map(|(name, _)| name).collect();
        self.make_structure(&keys, &stale)?;
        for (key, wanted) in wanted {
            self.reconcile(&key, &wanted)?;
        }
        Ok(())
    }

    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Result<(), FirewallError> {
        self.add_sets(changes)?;
        // Of several changes to the same entry the last one counts: deleting twice in one transaction is refused.
        let mut steps: BTreeMap<Key, HashMap<IpAddr, Fate>> = BTreeMap::new();
        // Of a list that is loaded, what is not there need not be deleted before, nor has it counted anything.
        let mut missing: BTreeMap<Key, Vec<Wanted>> = BTreeMap::new();
        for change in changes {
            let (prefix, scope, until) = match change {
                Change::Set(entry) => (&entry.prefix, &entry.scope, Some(entry.until)),
                Change::Clear { prefix, scope } => (prefix, scope, None),
            };
            let key = Key::of(prefix, scope);
            let Some(set) = self.sets.get_mut(&key) else { continue };
            let until = until.filter(|until| !until.is_over(now));
            let fresh = !set.mirror.holds(prefix, now);
            let is_missing = changes.len() > ONE_BY_ONE && !set.mirror.knows(prefix);
            if let Some(until) = until.filter(|_| is_missing) {
                set.mirror.set(*prefix, until);
                missing.entry(key).or_default().push((prefix.network(), milliseconds(until, now)));
                continue;
            }
            let fate = if let Some(until) = until {
                set.mirror.set(*prefix, until);
                Fate::Banned { left: milliseconds(until, now), fresh }
            } else {
                set.mirror.clear(prefix);
                Fate::Free
            };
            steps.entry(key).or_default().insert(prefix.network(), fate);
        }
        missing.iter().try_for_each(|(key, elements)| self.add(key, elements))?;
        for (key, wanted) in steps {
            self.put(&key, &wanted.into_iter().collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn inspect(&mut self, now: Timestamp) -> Result<Inspection, FirewallError> {
        if self.layout.translation.begins(self.sets.keys().map(|key| &key.scope)) {
            let keys: Vec<Key> = self.sets.keys().cloned().collect();
            self.make_structure(&keys, &[])?;
        }
        let generation = nft::generation(&mut self.socket)?;
        if self.generation == Some(generation) {
            return Ok(Inspection::Intact);
        }
        let Some(found) = nft::fingerprint(&mut self.socket, &self.layout.table)? else {
            return Ok(Inspection::Intact);
        };
        if self.fingerprint.is_some_and(|good| good != found) {
            return Ok(Inspection::Damaged(format!("the table inet {} was removed or changed", self.layout.table)));
        }
        self.fingerprint = Some(found);
        if self.count_again.is_some_and(|moment| Instant::now() < moment) {
            return Ok(Inspection::Intact);
        }
        let inspection = self.inspect_sets(now)?;
        if inspection == Inspection::Intact {
            self.generation = Some(generation);
        }
        Ok(inspection)
    }

    fn shortage(&self) -> Option<String> {
        self.layout.translation.shortage()
    }

    fn installed(&mut self, now: Timestamp) -> usize {
        self.sets.values_mut().map(|set| set.mirror.least(now)).sum()
    }

    fn held(&mut self, now: Timestamp) -> Result<Vec<Entry>, FirewallError> {
        let mut entries = Vec::new();
        for (name, key) in self.present()? {
            let Some(key) = key else { continue };
            for Element { address, left, .. } in self.elements(&name)? {
                let Ok(prefix) = IpNet::new(address, key.length) else { continue };
                let until = left.map_or(Until::Forever, |left| Until::At(now + Duration::from_millis(left)));
                entries.push(Entry { prefix, scope: key.scope.clone(), until });
            }
        }
        Ok(entries)
    }

    fn remove(&mut self) -> Result<(), FirewallError> {
        // Added first, because deleting what is absent is refused.
        let script = format!("add table inet {0}\ndelete table inet {0}\n", self.layout.table);
        command::run("nft", &["-f", "-"], &script)?;
        self.sets.clear();
        (self.generation, self.fingerprint) = (None, None);
        Ok(())
    }
}

impl Nftables {
    /// Fills new sets before rules match them in the place of others: those of a version that counted in the bans.
    fn fill_ahead(&mut self, keys: &[Key], wanted: &BTreeMap<Key, Vec<Wanted>>) -> Result<(), FirewallError> {
        command::run("nft", &["-f", "-"], &self.layout.empty_sets(keys))?;
        for (key, wanted) in wanted {
            self.reconcile(key, wanted)?;
        }
        Ok(())
    }

    /// The sets of our table, with what they are for where the name tells.
    fn present(&mut self) -> Result<Vec<(String, Option<Key>)>, FirewallError> {
        let names = (0..TRIES).find_map(|_| nft::sets(&mut self.socket, &self.layout.table).transpose()).transpose()?;
        let names = names.ok_or(FirewallError::Unexpected { found: "the rule set changes all the time".to_owned() })?;
        // Anonymous sets belong to their rules.
        let ours = names.into_iter().filter(|name| !name.starts_with("__"));
        let known = |name: &str| self.sets.iter().find(|(_, set)| set.bans == name).map(|(key, _)| key.clone());
        let with_key = |name: String| {
            let key = Key::parse(&name).or_else(|| known(&name));
            (name, key)
        };
        Ok(ours.map(with_key).collect())
    }
}

/// Hands out what the sets of these scopes hold, beside the thread that changes them.
pub(super) fn look(
    settings: &Settings,
    scopes: &BTreeSet<Scope>,
    each: &mut dyn FnMut(Seen<'_>),
) -> Result<(), FirewallError> {
    let table = Layout::new(settings).table;
    let mut socket = Socket::open().map_err(FirewallError::of("a netlink socket"))?;
    let mut names = None;
    for _ in 0..TRIES {
        names = nft::sets(&mut socket, &table)?;
        if names.is_some() {
            break;
        }
    }
    for name in names.unwrap_or_default() {
        let Some((scope, length, counts)) = Key::of_set(&name, scopes) else { continue };
        let counted = nft::elements(&mut socket, &table, &counts)?;
        let counted: HashMap<IpAddr, Count> =
            counted.into_iter().filter_map(|element| Some((element.address, element.count?))).collect();
        for Element { address, left, .. } in nft::elements(&mut socket, &table, &name)? {
            let count = Some(counted.get(&address).copied().unwrap_or_default());
            let Ok(prefix) = IpNet::new(address, length) else { continue };
            each(Seen { set: &name, prefix, scope, left: left.map(Duration::from_millis), count });
        }
    }
    Ok(())
}

/// Whether our table is there. Where the kernel cannot say, it is not.
pub(super) fn has_traces(settings: &Settings) -> bool {
    let table = Layout::new(settings).table;
    let Ok(mut socket) = Socket::open() else { return false };
    let chains = nft::chains(&mut socket, &table).unwrap_or_default();
    chains.iter().any(|chain| OUR_CHAINS.contains(&chain.as_str()))
}

/// What is left in milliseconds, `None` for ever.
fn milliseconds(until: Until, now: Timestamp) -> Option<u64> {
    let left = until.remaining(now)?;
    Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1))
}
