//! The backend for iptables: a chain of our own whose rules match ipset's sets, one pair of sets per scope. Rules are
//! made by `iptables-restore` and nearly never change; bans are elements of sets and travel over netlink.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::generations::Generations;
use super::ipset::{Element, Family, Ipset, LONGEST, Step};
use super::mirror::Mirror;
use super::rules::{Plan, View, holds_rules};
use super::{Backend, Count, FirewallError, Inspection, Seen, Settings, command};
use crate::ledger::{Change, Entry, Scope};
use crate::time::{Timestamp, Until};

/// Entries that the kernel cannot hold to their end are renewed this often, well before it would forget them.
const REARM_EVERY: Duration = Duration::from_secs(7 * 86_400);

/// Our rules are made anew when somebody changed rules meanwhile, so many times.
const TRIES: usize = 5;

/// More changes at once are a list that is loaded: they travel together rather than each in a message of its own.
const ONE_BY_ONE: usize = 256;

/// A set, an element of it, and how long that stays and whether it is new; `None` where it goes.
type Addition = (Arc<str>, IpNet, Option<(u32, bool)>);

/// The programs of one flavour of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tools {
    pub(crate) save: [&'static str; 2],
    pub(crate) restore: [&'static str; 2],
}

pub(crate) const SYSTEM: Tools =
    Tools { save: ["iptables-save", "ip6tables-save"], restore: ["iptables-restore", "ip6tables-restore"] };
const LEGACY: Tools = Tools {
    save: ["iptables-legacy-save", "ip6tables-legacy-save"],
    restore: ["iptables-legacy-restore", "ip6tables-legacy-restore"],
};
const NFT: Tools = Tools {
    save: ["iptables-nft-save", "ip6tables-nft-save"],
    restore: ["iptables-nft-restore", "ip6tables-nft-restore"],
};

#[derive(Debug)]
pub(super) struct Iptables {
    plan: Plan,
    tools: Tools,
    ipset: Ipset,
    generations: Generations,
    /// Families whose packets this machine handles.
    families: Vec<Family>,
    /// Per family, our chains as they were right after they were made.
    good: [Vec<String>; 2],
    scopes: BTreeMap<Scope, Pair>,
    armed: Timestamp,
}

/// The sets of one scope, IPv4 first.
#[derive(Debug)]
struct Pair {
    names: [Arc<str>; 2],
    mirrors: [Mirror; 2],
}

impl Iptables {
    /// Fails unless iptables can match ipset's sets here. Changes nothing that stays.
    pub(super) fn open(settings: &Settings) -> Result<(Iptables, String), FirewallError> {
        let (tools, native, why) = choose()?;
        let mut backend = Iptables {
            plan: Plan::new(settings),
            tools,
            ipset: Ipset::open()?,
            generations: Generations::open(native)?,
            families: families(),
            good: Default::default(),
            scopes: BTreeMap::new(),
            armed: Timestamp::EPOCH,
        };
        backend.probe()?;
        Ok((backend, why))
    }

    /// Makes and removes a rule in a chain that nothing leads to.
    fn probe(&mut self) -> Result<(), FirewallError> {
        let chain = format!("{}-TEST", self.plan.chain());
        for family in self.families.clone() {
            let set = self.plan.draft(family, &Scope::default());
            self.ipset.create(&set, family, 0)?;
            let rule = format!("-A {chain} -m set --match-set {set} dst -m addrtype ! --dst-type LOCAL -j DROP");
            let made = self.restore(family, &format!("*filter\n:{chain} - [0:0]\n{rule}\nCOMMIT\n"));
            let gone = made.and_then(|()| self.restore(family, &format!("*filter\n-F {chain}\n-X {chain}\nCOMMIT\n")));
            gone.and(self.ipset.destroy(&set))?;
        }
        Ok(())
    }

    fn restore(&self, family: Family, script: &str) -> Result<(), FirewallError> {
        command::run(self.tools.restore[family.index()], &["--noflush", "-w", "5"], script).map(drop)
    }

    fn view(&self, family: Family) -> Result<View, FirewallError> {
        Ok(self.plan.view(&command::run(self.tools.save[family.index()], &["-t", "filter"], "")?))
    }

    /// Makes our rules right for the scopes that there are, and remembers how they look.
    fn make_rules(&mut self) -> Result<(), FirewallError> {
        let scopes: Vec<Scope> = self.scopes.keys().cloned().collect();
        let _news = self.plan.translation.begins(scopes.iter());
        match insist(|| self.try_rules(&scopes)) {
            Err(_) if self.plan.translation.fall_back() => {
                insist(|| self.try_rules(&scopes)).inspect_err(|_| self.plan.translation.resume())
            }
            made => made,
        }
    }

    fn try_rules(&mut self, scopes: &[Scope]) -> Result<(), FirewallError> {
        let views = self.families.iter().map(|family| self.view(*family)).collect::<Result<Vec<View>, _>>()?;
        self.plan.must_be_met(views.iter())?;
        for (family, view) in self.families.iter().zip(&views) {
            self.restore(*family, &self.plan.script(view, *family, scopes))?;
        }
        let generation = self.generations.read()?;
        self.generations.set_intact(generation);
        for family in self.families.clone() {
            let view = self.view(family)?;
            if view.ours.len() != self.plan.size(family, scopes) {
                return Err(FirewallError::Unexpected {
                    found: format!("the chain {} is not as made", self.plan.chain()),
                });
            }
            if let Some(found) = self.plan.damage(&view, &view.ours, scopes) {
                return Err(FirewallError::Unexpected { found });
            }
            self.good[family.index()] = view.ours;
        }
        Ok(())
    }

    /// Fills a new set and puts it in the place of the old one, at once.
    fn replace(&mut self, scope: &Scope, family: Family, elements: &[(IpNet, u32)]) -> Result<(), FirewallError> {
        let (set, draft) = (self.plan.set(family, scope), self.plan.draft(family, scope));
        self.ipset.destroy(&draft)?;
        self.ipset.create(&draft, family, elements.len())?;
        let counted = self.counted(&set)?;
        self.ipset.fill(&draft, elements, &counted)?;
        self.ipset.create(&set, family, 0)?;
        self.ipset.swap(&draft, &set)?;
        self.ipset.destroy(&draft)
    }

    /// What the elements of a set have counted, where that is anything; a set of an earlier version counts nothing.
    fn counted(&mut self, set: &str) -> Result<HashMap<IpNet, Count>, FirewallError> {
        let mut counted = HashMap::new();
        self.ipset.each_element(set, |element| {
            let count = element.count.filter(|count| *count != Count::default());
            counted.extend(count.map(|count| (element.prefix, count)));
        })?;
        Ok(counted)
    }

    /// Makes sets and rules for the scopes that appear for the first time.
    fn add_scopes(&mut self, changes: &[Change]) -> Result<(), FirewallError> {
        let mut new = false;
        for change in changes {
            let Change::Set(Entry { scope, .. }) = change else { continue };
            if self.scopes.contains_key(scope) {
                continue;
            }
            for family in Family::BOTH {
                self.replace(scope, family, &[])?;
            }
            self.scopes.insert(scope.clone(), Pair::new(&self.plan, scope));
            new = true;
        }
        if new { self.make_rules() } else { Ok(()) }
    }

    /// Adds many elements in few messages. The kernel stops at the first that it refuses, and says so.
    fn load(&mut self, steps: &[Addition]) -> Result<(), FirewallError> {
        let mut lists: BTreeMap<&str, Vec<(IpNet, u32)>> = BTreeMap::new();
        for (set, prefix, timeout) in steps {
            let timeout = timeout.map_or(0, |(seconds, _)| seconds);
            lists.entry(set).or_default().push((*prefix, timeout));
        }
        lists.into_iter().try_for_each(|(set, elements)| self.ipset.fill(set, &elements, &HashMap::new()))
    }

    /// What is wrong with our rules, if anything; the tools run only when `nf_tables` changed, or with iptables-legacy.
    fn damage(&mut self) -> Result<Option<String>, FirewallError> {
        let generation = self.generations.read()?;
        if self.generations.is_intact(generation) {
            return Ok(None);
        }
        let scopes: Vec<Scope> = self.scopes.keys().cloned().collect();
        for family in &self.families {
            if let Some(found) = self.plan.damage(&self.view(*family)?, &self.good[family.index()], &scopes) {
                return Ok(Some(found));
            }
        }
        self.generations.set_intact(generation);
        Ok(None)
    }

    fn inspect_sets(&mut self, now: Timestamp) -> Result<Inspection, FirewallError> {
        let counts = self.ipset.counts()?;
        for pair in self.scopes.values_mut() {
            for (name, mirror) in pair.names.iter().zip(&mut pair.mirrors) {
                let least = mirror.least(now);
                match counts.get(&**name) {
                    None => return Ok(Inspection::Damaged(format!("the ipset {name} was destroyed"))),
                    Some(count) if *count < least => {
                        let text = format!("the ipset {name} held {count} entries instead of {least}");
                        return Ok(Inspection::Damaged(text));
                    }
                    Some(_) => (),
                }
            }
        }
        Ok(Inspection::Intact)
    }
}

impl Pair {
    fn new(plan: &Plan, scope: &Scope) -> Pair {
        Pair { names: Family::BOTH.map(|family| plan.set(family, scope).into()), mirrors: Default::default() }
    }
}

impl Backend for Iptables {
    fn name(&self) -> &'static str {
        "iptables"
    }

    fn sync(&mut self, entries: &[Entry], now: Timestamp) -> Result<(), FirewallError> {
        let mut lists: BTreeMap<&Scope, [Vec<(IpNet, Until)>; 2]> = BTreeMap::new();
        let everything = Scope::default();
        lists.entry(&everything).or_default();
        for entry in entries.iter().filter(|entry| !entry.until.is_over(now)) {
            let family = Family::of(&entry.prefix).index();
            lists.entry(&entry.scope).or_default()[family].push((entry.prefix.trunc(), entry.until));
        }
        let mut scopes: BTreeMap<Scope, Pair> = BTreeMap::new();
        for (scope, lists) in lists {
            let mut pair = Pair::new(&self.plan, scope);
            for (family, mut list) in Family::BOTH.into_iter().zip(lists) {
                Mirror::put_in_order(&mut list);
                let elements = list.iter().map(|(prefix, until)| (*prefix, timeout(*until, now)));
                self.replace(scope, family, &elements.collect::<Vec<_>>())?;
                pair.mirrors[family.index()] = Mirror::of(list);
            }
            scopes.insert(scope.clone(), pair);
        }
        self.scopes = scopes;
        self.armed = now;
        self.make_rules()?;
        let wanted: BTreeSet<&str> = self.scopes.values().flat_map(|pair| &pair.names).map(AsRef::as_ref).collect();
        for name in self.ipset.names()? {
            if self.plan.owns_set(&name) && !wanted.contains(name.as_str()) {
                self.ipset.destroy(&name)?;
            }
        }
        Ok(())
    }

    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Result<(), FirewallError> {
        self.add_scopes(changes)?;
        let mut steps: Vec<Addition> = Vec::with_capacity(changes.len());
        for change in changes {
            let (prefix, scope, until) = match change {
                Change::Set(entry) => (entry.prefix, &entry.scope, Some(entry.until)),
                Change::Clear { prefix, scope } => (*prefix, scope, None),
            };
            let Some(pair) = self.scopes.get_mut(scope) else { continue };
            let family = Family::of(&prefix).index();
            let (set, mirror) = (&pair.names[family], &mut pair.mirrors[family]);
            if let Some(until) = until.filter(|until| !until.is_over(now)) {
                let fresh = !mirror.holds(&prefix, now);
                mirror.set(prefix, until);
                steps.push((Arc::clone(set), prefix, Some((timeout(until, now), fresh))));
            } else {
                mirror.clear(&prefix);
                steps.push((Arc::clone(set), prefix, None));
            }
        }
        if steps.len() > ONE_BY_ONE && steps.iter().all(|(_, _, timeout)| timeout.is_some()) {
            return self.load(&steps);
        }
        let steps: Vec<Step<'_>> = steps
            .iter()
            .map(|(set, prefix, timeout)| match timeout {
                Some((timeout, fresh)) => Step::Add { set, prefix: *prefix, timeout: *timeout, fresh: *fresh },
                None => Step::Delete { set, prefix: *prefix },
            })
            .collect();
        self.ipset.change(&steps)
    }

    /// Rules are mended at once: others flush them and leave the sets, which may be large, alone.
    fn inspect(&mut self, now: Timestamp) -> Result<Inspection, FirewallError> {
        if self.plan.translation.begins(self.scopes.keys()) {
            self.make_rules()?;
        }
        let damage = self.damage()?;
        match (self.inspect_sets(now)?, damage) {
            (Inspection::Intact, Some(found)) => self.make_rules().map(|()| Inspection::Mended(found)),
            (sets, _) => Ok(sets),
        }
    }

    fn shortage(&self) -> Option<String> {
        self.plan.translation.shortage()
    }

    fn installed(&mut self, now: Timestamp) -> usize {
        self.scopes.values_mut().flat_map(|pair| &mut pair.mirrors).map(|mirror| mirror.least(now)).sum()
    }

    fn held(&mut self, now: Timestamp) -> Result<Vec<Entry>, FirewallError> {
        let mut entries = Vec::new();
        for family in Family::BOTH {
            let mut scopes = BTreeSet::from([Scope::default()]);
            if self.families.contains(&family) {
                scopes.extend(self.plan.scopes(&self.view(family)?, family));
            }
            for scope in scopes {
                self.ipset.each_element(&self.plan.set(family, &scope), |element| {
                    let until = left(element).map_or(Until::Forever, |left| Until::At(now + left));
                    entries.push(Entry { prefix: element.prefix, scope: scope.clone(), until });
                })?;
            }
        }
        Ok(entries)
    }

    fn rearm(&mut self, now: Timestamp) -> Result<(), FirewallError> {
        if now.since(self.armed) < REARM_EVERY {
            return Ok(());
        }
        let horizon = self.armed + LONGEST;
        let mut again = Vec::new();
        for (scope, pair) in &self.scopes {
            for (prefix, until) in pair.mirrors.iter().flat_map(|mirror| mirror.ending_after(horizon)) {
                again.push(Change::Set(Entry { prefix, scope: scope.clone(), until }));
            }
        }
        self.apply(&again, now)?;
        self.armed = now;
        Ok(())
    }

    fn remove(&mut self) -> Result<(), FirewallError> {
        for family in self.families.clone() {
            if let Some(script) = self.plan.removal(&self.view(family)?) {
                self.restore(family, &script)?;
            }
        }
        for name in self.ipset.names()? {
            if self.plan.owns_set(&name) {
                self.ipset.destroy(&name)?;
            }
        }
        self.scopes.clear();
        Ok(())
    }
}

/// Makes rules, again where somebody changed rules meanwhile: others, such as Docker when it starts, may be putting theirs
/// before ours at this moment.
pub(super) fn insist(mut make: impl FnMut() -> Result<(), FirewallError>) -> Result<(), FirewallError> {
    let mut more = 1..TRIES;
    loop {
        match make() {
            Err(FirewallError::Unexpected { .. }) if more.next().is_some() => (),
            result => return result,
        }
    }
}

/// Hands out what the sets of these scopes hold, beside the thread that changes them.
pub(super) fn look(
    settings: &Settings,
    scopes: &BTreeSet<Scope>,
    each: &mut dyn FnMut(Seen<'_>),
) -> Result<(), FirewallError> {
    let plan = Plan::new(settings);
    let mut ipset = Ipset::open()?;
    for scope in scopes {
        for family in Family::BOTH {
            let set = plan.set(family, scope);
            ipset.each_element(&set, |element| {
                each(Seen { set: &set, prefix: element.prefix, scope, left: left(element), count: element.count });
            })?;
        }
    }
    Ok(())
}

/// What is left of an element's time, `None` for ever.
fn left(element: Element) -> Option<Duration> {
    (element.timeout > 0).then(|| Duration::from_secs(u64::from(element.timeout)))
}

/// Whether there are sets of ours. Where the kernel cannot say, there are none.
pub(super) fn has_traces(settings: &Settings) -> bool {
    let plan = Plan::new(settings);
    let names = Ipset::open().and_then(|mut ipset| ipset.names()).unwrap_or_default();
    names.iter().any(|name| plan.owns_set(name))
}

/// The kernel's timeout for what is left, in whole seconds rounded up; 0 is for ever.
fn timeout(until: Until, now: Timestamp) -> u32 {
    let Some(left) = until.remaining(now) else { return 0 };
    let seconds = left.min(LONGEST).as_micros().div_ceil(1_000_000).max(1);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// IPv4, and IPv6 unless the kernel was told to do without.
pub(super) fn families() -> Vec<Family> {
    let ipv6 = std::path::Path::new("/proc/thread-self/net/if_inet6").exists();
    if ipv6 { Family::BOTH.to_vec() } else { vec![Family::V4] }
}

/// Which flavour to use, whether its rules are those of `nf_tables`, and why it. The system's own, unless only the other
/// one holds rules: that is then the one that the administrator works with.
pub(crate) fn choose() -> Result<(Tools, bool, String), FirewallError> {
    let native = command::run("iptables", &["--version"], "")?.contains("nf_tables");
    let (other, other_name) = if native { (LEGACY, "legacy") } else { (NFT, "nf_tables") };
    let in_use = |tools: Tools| {
        let saves = tools.save.iter().filter(|save| command::find(save).is_some());
        // Without a table named: naming one would make it in iptables-legacy.
        saves.filter_map(|save| command::run(save, &[], "").ok()).any(|save| holds_rules(&save))
    };
    if command::find(other.restore[0]).is_some() && in_use(other) && !in_use(SYSTEM) {
        let why = format!("iptables ({other_name}) holds this machine's rules, and ipset works");
        return Ok((other, !native, why));
    }
    let name = if native { "nf_tables" } else { "legacy" };
    Ok((SYSTEM, native, format!("iptables ({name}) and ipset work")))
}
