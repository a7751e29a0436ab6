//! The backend for machines without ipset and without nftables' sets: a rule of iptables for each entry, below the chain
//! that the other backend for iptables has too. Rules cost time where sets do not, so there is a ceiling; of more entries
//! those that end first are enforced: who was banned lately is still at it, and lists, which end last, come last.

mod text;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;

use ipnet::IpNet;

use super::generations::Generations;
use super::ipset::{Family, Ipset};
use super::iptables::{Tools, choose, families, insist};
use super::rules::{Plan, View};
use super::{Backend, Count, FirewallError, Inspection, Seen, Settings, command};
use crate::ledger::{Change, Entry, Scope};
use crate::time::{Timestamp, Until};
use text::{Bucket, Layout, MOST_SCOPES, Rule};

type Key = (IpNet, Scope);

#[derive(Debug)]
pub(super) struct Plain {
    layout: Layout,
    tools: Tools,
    ceiling: usize,
    generations: Generations,
    families: Vec<Family>,
    /// All entries of the ledger, in the order in which they get in.
    wanted: BTreeSet<(Until, IpNet, Scope)>,
    ends: HashMap<Key, Until>,
    /// Those that have rules.
    enforced: HashMap<Key, Until>,
    /// Each has its number.
    scopes: Vec<Scope>,
    made: [Made; 2],
}

/// What is in the kernel, in one family.
#[derive(Debug, Default)]
struct Made {
    /// Our two chains, as they were right after they were made.
    ours: Vec<String>,
    buckets: HashSet<Bucket>,
    /// How many rules there are below our two chains.
    rules: usize,
}

impl Plain {
    /// Fails unless iptables takes our rules here. Changes nothing that stays.
    pub(super) fn open(settings: &Settings) -> Result<(Plain, String), FirewallError> {
        let (tools, native, why) = choose()?;
        let mut backend = Plain {
            layout: Layout { plan: Plan::new(settings), ends: true },
            tools,
            ceiling: settings.ceiling,
            generations: Generations::open(native)?,
            families: families(),
            wanted: BTreeSet::new(),
            ends: HashMap::new(),
            enforced: HashMap::new(),
            scopes: Vec::new(),
            made: Default::default(),
        };
        if backend.probe().is_err() {
            backend.layout.ends = false;
            backend.probe()?;
        }
        let ends = if backend.layout.ends { "each ends in the kernel" } else { "the daemon ends each, while it runs" };
        Ok((
            backend,
            format!(
                "{}, with a rule for each ban, {} at most; {ends}",
                why.replace(" and ipset work", " works").replace(", and ipset works", ""),
                settings.ceiling
            ),
        ))
    }

    /// Makes and removes rules in a chain that nothing leads to.
    fn probe(&self) -> Result<(), FirewallError> {
        let chain = format!("{}-TEST", self.layout.plan.chain());
        for family in &self.families {
            let script = format!("*filter\n:{chain} - [0:0]\n{}COMMIT\n", self.layout.example(&chain, *family));
            let run =
                |script: &str| command::run(self.tools.restore[family.index()], &["--noflush", "-w", "5"], script);
            run(&script)?;
            run(&format!("*filter\n-F {chain}\n-X {chain}\nCOMMIT\n"))?;
        }
        Ok(())
    }

    fn save(&self, family: Family) -> Result<String, FirewallError> {
        command::run(self.tools.save[family.index()], &["-c", "-t", "filter"], "")
    }

    fn view(&self, save: &str) -> View {
        self.layout.plan.view(&text::uncounted(save))
    }

    /// Does a script, and knows afterwards whether nobody else changed anything meanwhile.
    fn restore(&mut self, family: Family, script: &str) -> Result<(), FirewallError> {
        let before = self.generations.read()?.filter(|before| self.generations.is_intact(Some(*before)));
        command::run(self.tools.restore[family.index()], &["--noflush", "--counters", "-w", "5"], script)?;
        let now = self.generations.read()?;
        let ours = now.filter(|now| before.map(|before| before.wrapping_add(1)) == Some(*now));
        self.generations.set_intact(ours);
        Ok(())
    }

    /// Forgets what is over, and says which entries are to have rules.
    fn choose(&mut self, now: Timestamp) -> HashMap<Key, Until> {
        while let Some((until, prefix, scope)) = self.wanted.first().filter(|(until, ..)| until.is_over(now)).cloned() {
            self.wanted.remove(&(until, prefix, scope.clone()));
            self.ends.remove(&(prefix, scope));
        }
        let first = self.wanted.iter().take(self.ceiling);
        first.map(|(until, prefix, scope)| ((*prefix, scope.clone()), *until)).collect()
    }

    fn want(&mut self, entry: &Entry) {
        let Entry { prefix, scope, until } = entry;
        self.forget(*prefix, scope);
        self.ends.insert((*prefix, scope.clone()), *until);
        self.wanted.insert((*until, *prefix, scope.clone()));
    }

    fn forget(&mut self, prefix: IpNet, scope: &Scope) {
        if let Some(until) = self.ends.remove(&(prefix, scope.clone())) {
            self.wanted.remove(&(until, prefix, scope.clone()));
        }
    }

    /// Makes all rules anew, in one step for each family.
    fn rebuild(&mut self, chosen: HashMap<Key, Until>) -> Result<(), FirewallError> {
        let mut scopes: BTreeSet<Scope> = chosen.keys().map(|(_, scope)| scope.clone()).collect();
        scopes.insert(Scope::default());
        self.scopes = scopes.into_iter().take(MOST_SCOPES).collect();
        self.enforced = chosen;
        self.enforced.retain(|(_, scope), _| self.scopes.contains(scope));
        let _news = self.layout.plan.translation.begins(self.scopes.iter());
        match insist(|| self.try_rebuild()) {
            Err(_) if self.layout.plan.translation.fall_back() => {
                insist(|| self.try_rebuild()).inspect_err(|_| self.layout.plan.translation.resume())
            }
            made => made,
        }
    }

    fn try_rebuild(&mut self) -> Result<(), FirewallError> {
        let saves = self.families.iter().map(|family| self.save(*family)).collect::<Result<Vec<String>, _>>()?;
        let views: Vec<View> = saves.iter().map(|save| self.view(save)).collect();
        self.layout.plan.must_be_met(views.iter())?;
        for (family, (save, view)) in self.families.clone().into_iter().zip(saves.iter().zip(&views)) {
            let counts = self.layout.counts(save, &self.numbers(save));
            let (mut rules, mut made) = (self.layout.top(family, &self.scopes), Made::default());
            let top = rules.lines().count();
            for (number, scope) in self.scopes.iter().enumerate() {
                rules += &self.layout.verdicts(number, scope, family);
            }
            for ((prefix, scope), until) in self.enforced.iter().filter(|((prefix, _), _)| Family::of(prefix) == family)
            {
                let Some(number) = self.scopes.iter().position(|known| known == scope) else { continue };
                let count = counts.get(&(*prefix, scope.clone())).copied().unwrap_or_default();
                for rule in self.layout.rules(number, scope, *prefix, *until) {
                    rules += &self.place(&rule, &mut made, Some(count));
                }
            }
            made.rules = rules.lines().count() - top;
            let below = self.layout.chains(self.scopes.len(), &made.buckets);
            let script = self.layout.plan.script_of(view, &self.scopes, &below, &rules);
            self.made[family.index()] = made;
            self.restore(family, &script)?;
        }
        let generation = self.generations.read()?;
        for family in self.families.clone() {
            let save = self.save(family)?;
            let ours = self.view(&save).ours;
            let top = self.layout.top(family, &self.scopes).lines().count() + self.layout.own_chains(&self.scopes);
            self.made[family.index()].ours.clone_from(&ours);
            if ours.len() != top {
                let found = format!("the chain {} is not as made", self.layout.plan.chain());
                return Err(FirewallError::Unexpected { found });
            }
            if let Some(found) = self.damage_of(family, &save) {
                return Err(FirewallError::Unexpected { found });
            }
        }
        self.generations.set_intact(generation);
        Ok(())
    }

    /// The text that adds a rule, and what has to be there before it.
    fn place(&self, rule: &Rule, made: &mut Made, count: Option<Count>) -> String {
        let fresh = rule.bucket.filter(|bucket| made.buckets.insert(*bucket));
        let jump = fresh.map(|bucket| self.layout.jump(bucket)).unwrap_or_default();
        format!("{jump}{}", self.layout.add(rule, count))
    }

    /// Brings the rules from what they are to what they should be.
    fn follow(&mut self, now: Timestamp) -> Result<(), FirewallError> {
        let chosen = self.choose(now);
        let is_new = |(_, scope): &Key| !self.scopes.contains(scope);
        if chosen.keys().any(is_new) && self.scopes.len() < MOST_SCOPES {
            return self.rebuild(chosen);
        }
        let known = |key: &Key| self.scopes.iter().position(|scope| *scope == key.1);
        let differ = |these: &HashMap<Key, Until>, those: &HashMap<Key, Until>| -> Vec<(usize, Key, Until)> {
            let changed = these.iter().filter(|(key, until)| those.get(*key) != Some(*until));
            changed.filter_map(|(key, until)| Some((known(key)?, key.clone(), *until))).collect()
        };
        let (fresh, gone) = (differ(&chosen, &self.enforced), differ(&self.enforced, &chosen));
        // Bans that are renewed go on counting.
        let renewed =
            |entry: &(usize, Key, Until)| self.enforced.get(&entry.1).is_some_and(|until| !until.is_over(now));
        let renewed: HashSet<Key> = fresh.iter().filter(|entry| renewed(entry)).map(|entry| entry.1.clone()).collect();
        for family in self.families.clone() {
            let mut counts = HashMap::new();
            if renewed.iter().any(|(prefix, _)| Family::of(prefix) == family) {
                let save = self.save(family)?;
                counts = self.layout.counts(&save, &self.numbers(&save));
                counts.retain(|key, _| renewed.contains(key));
            }
            self.change(family, &fresh, &gone, &counts)?;
        }
        for (_, key, _) in gone {
            self.enforced.remove(&key);
        }
        self.enforced.extend(fresh.into_iter().map(|(_, key, until)| (key, until)));
        Ok(())
    }

    /// Adds the rules of these entries and then takes out those, in one step: one that is renewed holds all the time.
    fn change(
        &mut self,
        family: Family,
        fresh: &[(usize, Key, Until)],
        gone: &[(usize, Key, Until)],
        counts: &HashMap<Key, Count>,
    ) -> Result<(), FirewallError> {
        let mut made = std::mem::take(&mut self.made[family.index()]);
        let before = made.buckets.clone();
        let (mut added, mut removed) = (String::new(), String::new());
        let of_family = |entry: &&(usize, Key, Until)| Family::of(&entry.1.0) == family;
        for (number, (prefix, scope), until) in fresh.iter().filter(of_family) {
            for rule in self.layout.rules(*number, scope, *prefix, *until) {
                added += &self.place(&rule, &mut made, counts.get(&(*prefix, scope.clone())).copied());
            }
        }
        for (number, (prefix, scope), until) in gone.iter().filter(of_family) {
            for rule in self.layout.rules(*number, scope, *prefix, *until) {
                removed += &self.layout.delete(&rule);
            }
        }
        made.rules = made.rules + added.lines().count() - removed.lines().count();
        let buckets: Vec<String> = made.buckets.difference(&before).map(|bucket| self.layout.chain(*bucket)).collect();
        self.made[family.index()] = made;
        if added.is_empty() && removed.is_empty() {
            return Ok(());
        }
        let mut script = "*filter\n".to_owned();
        for chain in buckets {
            let _ = writeln!(script, ":{chain} - [0:0]");
        }
        self.restore(family, &format!("{script}{added}{removed}COMMIT\n"))
    }

    fn damage_of(&self, family: Family, save: &str) -> Option<String> {
        let made = &self.made[family.index()];
        let rules = text::below(&self.layout.plan, save).count();
        let missing =
            format!("{rules} rules stood below the chain {} instead of {}", self.layout.plan.chain(), made.rules);
        let damage = self.layout.plan.damage(&self.view(save), &made.ours, &self.scopes);
        damage.or_else(|| (rules != made.rules).then_some(missing))
    }

    /// Which scope has which number, as saved rules say.
    fn numbers(&self, save: &str) -> HashMap<usize, Scope> {
        let known: BTreeSet<Scope> = self.scopes.iter().cloned().collect();
        self.layout.numbers(save, &known)
    }
}

impl Backend for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn sync(&mut self, entries: &[Entry], now: Timestamp) -> Result<(), FirewallError> {
        self.wanted.clear();
        self.ends.clear();
        for entry in entries {
            self.want(entry);
        }
        let chosen = self.choose(now);
        self.rebuild(chosen)?;
        // What a time with ipset has left. Where there is none, nothing was.
        if let Ok(mut ipset) = Ipset::open() {
            for name in ipset.names()?.iter().filter(|name| self.layout.plan.owns_set(name)) {
                ipset.destroy(name)?;
            }
        }
        Ok(())
    }

    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Result<(), FirewallError> {
        for change in changes {
            match change {
                Change::Set(entry) => self.want(entry),
                Change::Clear { prefix, scope } => self.forget(*prefix, scope),
            }
        }
        self.follow(now)?;
        let out = |change: &Change| match change {
            Change::Set(Entry { prefix, scope, until }) => {
                !until.is_over(now) && !self.enforced.contains_key(&(*prefix, scope.clone()))
            }
            Change::Clear { .. } => false,
        };
        if changes.iter().any(out) { Err(FirewallError::Full { ceiling: self.ceiling }) } else { Ok(()) }
    }

    fn inspect(&mut self, now: Timestamp) -> Result<Inspection, FirewallError> {
        if self.layout.plan.translation.begins(self.scopes.iter()) {
            let chosen = self.choose(now);
            self.rebuild(chosen)?;
        }
        let generation = self.generations.read()?;
        if self.generations.is_intact(generation) {
            return Ok(Inspection::Intact);
        }
        for family in self.families.clone() {
            let save = self.save(family)?;
            if let Some(found) = self.damage_of(family, &save) {
                let chosen = self.choose(now);
                return self.rebuild(chosen).map(|()| Inspection::Mended(found));
            }
        }
        self.generations.set_intact(generation);
        Ok(Inspection::Intact)
    }

    fn shortage(&self) -> Option<String> {
        let short = self.wanted.len() > self.enforced.len();
        let full = short.then(|| FirewallError::Full { ceiling: self.ceiling }.to_string());
        full.or_else(|| self.layout.plan.translation.shortage())
    }

    fn installed(&mut self, now: Timestamp) -> usize {
        self.enforced.values().filter(|until| !until.is_over(now)).count()
    }

    fn held(&mut self, _now: Timestamp) -> Result<Vec<Entry>, FirewallError> {
        let mut entries = Vec::new();
        for family in self.families.clone() {
            let save = self.save(family)?;
            let numbers = self.layout.numbers(&save, &BTreeSet::new());
            let held = self.layout.entries(&save, &numbers);
            entries.extend(held.into_iter().map(|held| Entry {
                prefix: held.prefix,
                scope: held.scope,
                until: held.until,
            }));
        }
        Ok(entries)
    }

    /// Takes out what is over, and lets in what waits for room.
    fn rearm(&mut self, now: Timestamp) -> Result<(), FirewallError> {
        self.follow(now)
    }

    fn remove(&mut self) -> Result<(), FirewallError> {
        for family in self.families.clone() {
            let save = self.save(family)?;
            if let Some(script) = self.layout.plan.removal(&self.view(&save)) {
                self.restore(family, &script)?;
            }
        }
        self.enforced.clear();
        Ok(())
    }
}

/// Hands out what the rules of these scopes hold, beside the thread that changes them.
pub(super) fn look(
    settings: &Settings,
    scopes: &BTreeSet<Scope>,
    each: &mut dyn FnMut(Seen<'_>),
) -> Result<(), FirewallError> {
    let (tools, ..) = choose()?;
    let layout = Layout { plan: Plan::new(settings), ends: true };
    let now = Timestamp::now();
    for family in families() {
        let save = command::run(tools.save[family.index()], &["-c", "-t", "filter"], "")?;
        for held in layout.entries(&save, &layout.numbers(&save, scopes)) {
            if !held.until.is_over(now) && scopes.contains(&held.scope) {
                let (prefix, left) = (held.prefix, held.until.remaining(now));
                each(Seen { set: &held.chain, prefix, scope: &held.scope, left, count: Some(held.count) });
            }
        }
    }
    Ok(())
}

/// Whether there are chains of ours that only this backend makes. Where the tools cannot say, there are none.
pub(super) fn has_traces(settings: &Settings) -> bool {
    let plan = Plan::new(settings);
    let Ok((tools, ..)) = choose() else { return false };
    let saves = tools.save.iter().filter_map(|tool| command::run(tool, &["-t", "filter"], "").ok());
    saves.map(|save| plan.view(&save)).any(|view| plan.below(&view).next().is_some())
}
