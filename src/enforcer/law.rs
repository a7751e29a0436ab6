//! What the enforcer refuses whoever asks: whom it protects, prefixes that are too wide, and more than its budget. It
//! reads the configuration and this machine's addresses itself, so that a brain that was taken over cannot say otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::budget::Budget;
use super::cover::{self, Cover};
use super::witness::Witness;
use super::{fingerprint, names};
use crate::config::problem::{Problem, Problems};
use crate::config::{Config, Mode};
use crate::firewall::{self, Choice, Refused, Settings};
use crate::ledger::{Change, Entry, Scope};
use crate::policy;
use crate::policy::allowlist::Allowlist;
use crate::policy::prefix::{WIDEST, overlap};
use crate::policy::protected::{self, Protect};
use crate::sandbox::{Fence, trust};
use crate::time::Timestamp;

/// Rules of earlier configurations that are remembered: their traces may have to be taken out.
const REMEMBERED: usize = 16;

/// Most different scopes: more than any configuration has.
const MOST_SCOPES: usize = 1024;

/// Most entries that wait for the sessions to be known: 8 MiB. Before there are more, the sessions are looked up.
const MOST_FRESH: usize = 1 << 18;

/// Addresses of every machine itself.
const LOOPBACK: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
];

/// This machine's addresses are looked up again after this time.
const PROBE_AGAIN: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Law {
    path: PathBuf,
    /// Whom we protect.
    allowlist: Allowlist,
    which: Vec<Protect>,
    probed: Instant,
    /// What the last probe found.
    found: Vec<(IpNet, Protect)>,
    /// What the witness told last, of each that is protected and that only the witness can tell.
    told: BTreeMap<Protect, Vec<(IpNet, Protect)>>,
    /// How often that was something else than before.
    changes: u64,
    fresh: Fresh,
    /// Taken back, until it is said.
    taken_back: Option<Refused>,
    pub(super) budget: Budget,
    cover: Cover,
    /// Whom the other processes become, and whether they are fenced off: decided once, at the start.
    pub(super) user: String,
    pub(super) sandbox: bool,
    /// The state folder.
    state: PathBuf,
    /// What is open to this process, where it is fenced off.
    pub(super) fence: Option<Fence>,
    /// The rules of the configurations read so far, the latest last.
    known: Vec<Settings>,
    /// The scopes that were asked for so far: each makes sets, and rules that every packet meets.
    scopes: BTreeSet<Scope>,
    /// The backend that the configuration names, whatever its mode.
    named: Choice,
}

/// What was permitted lately: a session that was there already may not have been known.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    entries: Vec<(IpNet, Scope)>,
    /// [`Law::changes`] when the first of them was judged, or before.
    judged_at: u64,
}

impl Fresh {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// What may not pass, for a reply.
#[derive(Debug, Default)]
pub(super) struct Refusals(Option<Refused>);

impl Law {
    /// By the configuration at this path; the error says what is wrong with it.
    pub(super) fn read(path: &Path) -> Result<Law, String> {
        let mut law = Law {
            path: path.to_owned(),
            allowlist: Allowlist::default(),
            which: Vec::new(),
            probed: Instant::now(),
            found: Vec::new(),
            told: BTreeMap::new(),
            changes: 0,
            fresh: Fresh::default(),
            taken_back: None,
            budget: Budget::new(),
            cover: Cover::of(WIDEST),
            user: String::new(),
            sandbox: true,
            state: PathBuf::new(),
            fence: None,
            known: Vec::new(),
            scopes: BTreeSet::new(),
            named: Choice::Auto,
        };
        law.reread()?;
        // Until the witness is asked for the first time: their files are not closed yet.
        if let Some(resolvers) = law.told.get_mut(&Protect::Resolvers) {
            *resolvers = protected::probe(&[Protect::Resolvers]).networks;
            law.protect();
        }
        Ok(law)
    }

    /// Reads the configuration again. A wrong one changes nothing.
    pub(super) fn reread(&mut self) -> Result<(), String> {
        // The daemon has looked too; but whoever has broken into it may have written a file since.
        if let Some(why) = trust::untrusted_settings(&self.path).into_iter().next() {
            return Err(format!("the enforcer does not go by the configuration: {why}"));
        }
        let problems = Problems::default();
        let config = Config::load(&self.path, &problems);
        if let Some(problem) = problems.into_sorted().into_iter().find(Problem::is_error) {
            return Err(format!("the enforcer cannot use the configuration: {problem}"));
        }
        let config = config.ok_or_else(|| "the enforcer cannot read the configuration".to_owned())?;
        self.allowlist.set_given(&config.allow.networks);
        self.allowlist.set_widest(config.allow.widest);
        self.cover.change(config.allow.together);
        let (told, seen) = config.allow.protect.into_iter().partition(|what| Witness::tells(*what));
        self.which = seen;
        self.protect_told(told);
        self.probe();
        (self.user, self.sandbox) = (config.daemon.user, config.daemon.sandbox);
        self.state = config.daemon.state_dir;
        let mut settings = config.firewall;
        self.named = settings.backend;
        if config.daemon.mode == Mode::Observe {
            settings.backend = Choice::None;
        }
        self.known.retain(|known| fingerprint(known) != fingerprint(&settings));
        self.known.push(settings);
        let surplus = self.known.len().saturating_sub(REMEMBERED);
        self.known.drain(..surplus);
        Ok(())
    }

    /// Whether these rules are or may become those of iptables, or there are such of an earlier daemon to take out.
    pub(super) fn may_need_iptables(&mut self) -> bool {
        // Observing may become enforcing, by a reload.
        if self.named.may_be_iptables() {
            return true;
        }
        let now = self.known.last().map(|settings| settings.chain.as_str().to_owned());
        let names = now.into_iter().chain(names::read(&self.state));
        let left: Vec<Choice> = names.flat_map(|name| self.recall(&name).unwrap_or_default()).collect();
        left.into_iter().any(Choice::may_be_iptables)
    }

    /// Looks up this machine's addresses, if that was long ago.
    pub(super) fn tend(&mut self) {
        if self.probed.elapsed() >= PROBE_AGAIN {
            self.probe();
        }
    }

    fn probe(&mut self) {
        self.probed = Instant::now();
        self.found = protected::probe(&self.which).networks;
        self.protect();
    }

    /// Of these it is to be told.
    fn protect_told(&mut self, kinds: Vec<Protect>) {
        let known = |kind| (kind, self.told.remove(&kind).unwrap_or_default());
        self.told = kinds.into_iter().map(known).collect();
    }

    fn protect(&mut self) {
        let told = self.told.values().flatten();
        let protected: Vec<(IpNet, Protect)> = self.found.iter().chain(told).copied().collect();
        self.allowlist.set_protected(&protected);
    }

    /// What the witness is to be asked for.
    pub(super) fn asks_for(&self) -> Vec<Protect> {
        self.told.keys().copied().collect()
    }

    /// These entries are in the kernel from now on. To be said after they are: what is looked at too early is not there.
    pub(super) fn note_fresh(&mut self, changes: &[Change]) {
        if self.told.is_empty() {
            return;
        }
        let room = MOST_FRESH.saturating_sub(self.fresh.entries.len());
        let set = changes.iter().filter_map(|change| match change {
            Change::Set(entry) => Some((entry.prefix, entry.scope.clone())),
            Change::Clear { .. } => None,
        });
        self.fresh.entries.extend(set.take(room));
    }

    /// Whether so many more can be noted. Where they cannot, the sessions are to be known before they are judged.
    pub(super) fn has_room_for(&self, count: usize) -> bool {
        self.fresh.entries.len() + count <= MOST_FRESH
    }

    /// Whether anything waits for the sessions to be looked up; `Some(true)` where so much that it should be soon.
    pub(super) fn waits(&self) -> Option<bool> {
        (!self.fresh.is_empty()).then_some(self.fresh.entries.len() > MOST_FRESH / 2)
    }

    /// What was noted since this was last asked. To be asked before the sessions are looked up.
    pub(super) fn take_fresh(&mut self) -> Fresh {
        let judged_at = self.fresh.judged_at;
        std::mem::replace(&mut self.fresh, Fresh { entries: Vec::new(), judged_at })
    }

    /// These addresses are of this kind, now.
    pub(super) fn set_told(&mut self, kind: Protect, addresses: &[IpAddr]) {
        let now = addresses.iter().map(|address| (IpNet::from(*address), kind)).collect();
        if let Some(known) = self.told.get_mut(&kind).filter(|known| **known != now) {
            *known = now;
            self.changes += 1;
            self.protect();
        }
    }

    /// What of this may not stand, now that more is known.
    pub(super) fn take_back(&mut self, fresh: Fresh) -> Vec<Change> {
        let Fresh { mut entries, judged_at } = fresh;
        if judged_at == self.changes {
            return Vec::new();
        }
        let (now, mut refusals) = (Timestamp::now(), Refusals::default());
        entries.retain(|(prefix, _)| !refusals.permits(self.permits(*prefix, now)));
        Refused::add(&mut self.taken_back, refusals.all());
        entries.into_iter().map(|(prefix, scope)| Change::Clear { prefix, scope }).collect()
    }

    /// What was taken back since this was last asked. It is nothing of what is being asked for meanwhile.
    pub(super) fn taken_back(&mut self) -> Option<Refused> {
        self.taken_back.take()
    }

    pub(super) fn has_taken_back(&self) -> bool {
        self.taken_back.is_some()
    }

    /// The rules with this fingerprint; the configuration may have been changed to have them.
    pub(super) fn settings(&mut self, wanted: u64) -> Result<Settings, String> {
        for attempt in 0..2 {
            if let Some(known) = self.known.iter().find(|known| fingerprint(known) == wanted) {
                return Ok(known.clone());
            }
            if attempt == 0 {
                self.reread()?;
            }
        }
        let path = self.path.display();
        Err(format!("the enforcer finds other rules in {path} than the daemon has: reload or restart the daemon"))
    }

    /// The rules of now under the name that an earlier configuration had for our chain: which backends have left something
    /// of ours there. Without that nobody may take it for ours.
    pub(super) fn recall(&mut self, chain: &str) -> Result<Vec<Choice>, String> {
        let chain = chain.parse().map_err(|why| format!("the enforcer refuses such a name of a chain: {why}"))?;
        let Some(latest) = self.known.last() else { return Ok(Vec::new()) };
        let earlier = Settings { chain, ..latest.clone() };
        let traces = firewall::traces(&earlier);
        let is_known = self.known.iter().any(|known| fingerprint(known) == fingerprint(&earlier));
        if !traces.is_empty() && !is_known && self.known.len() < REMEMBERED {
            self.known.insert(0, earlier);
        }
        Ok(traces)
    }

    /// The entries that may stand; the others are noted.
    pub(super) fn permit_list(&mut self, entries: &mut Vec<Entry>, refusals: &mut Refusals) {
        let now = Timestamp::now();
        self.cover.begin();
        // What is taken back is judged with the others now.
        self.taken_back = None;
        entries.retain(|entry| refusals.permits(self.judge(entry, now)));
        let room = self.budget.list(entries.len(), Instant::now());
        if room < entries.len() {
            refusals.over_budget(entries.len() - room);
            entries.truncate(room);
        }
    }

    /// The changes that may be made; taking out is always one.
    pub(super) fn permit_changes(&mut self, changes: &mut Vec<Change>, refusals: &mut Refusals) {
        let now = Timestamp::now();
        if self.fresh.is_empty() {
            self.fresh.judged_at = self.changes;
        }
        changes.retain(|change| match change {
            Change::Set(entry) => refusals.permits(self.judge(entry, now)),
            Change::Clear { .. } => true,
        });
        let wanted = changes.iter().filter(|change| matches!(change, Change::Set(_))).count();
        let room = self.budget.changes(wanted, Instant::now());
        if room < wanted {
            refusals.over_budget(wanted - room);
            let mut left = room;
            changes.retain(|change| {
                let is_set = matches!(change, Change::Set(_));
                let fits = !is_set || left > 0;
                left = left.saturating_sub(usize::from(is_set));
                fits
            });
        }
    }

    fn judge(&mut self, entry: &Entry, now: Timestamp) -> Result<(), String> {
        let prefix = entry.prefix;
        if !self.scopes.contains(&entry.scope) {
            if self.scopes.len() >= MOST_SCOPES {
                return Err(format!("more than {MOST_SCOPES} different scopes"));
            }
            self.scopes.insert(entry.scope.clone());
        }
        self.permits(prefix, now)?;
        if self.cover.take(prefix) { Ok(()) } else { Err(cover::OVER.to_owned()) }
    }

    fn permits(&self, prefix: IpNet, now: Timestamp) -> Result<(), String> {
        // Even where the configuration allows nobody.
        if LOOPBACK.into_iter().any(|local| overlap(local, prefix)) {
            return Err(format!("{prefix} has addresses of this machine itself"));
        }
        policy::guard(prefix, &self.allowlist, now).map_err(|why| why.to_string())
    }
}

impl Refusals {
    fn permits(&mut self, verdict: Result<(), String>) -> bool {
        let permitted = verdict.is_ok();
        Refused::add(&mut self.0, verdict.err().map(|first| Refused { count: 1, first }));
        permitted
    }

    fn over_budget(&mut self, count: usize) {
        Refused::add(&mut self.0, Some(Refused { count: count as u64, first: super::budget::OVER.to_owned() }));
    }

    /// All of it, if there was any.
    pub(super) fn all(self) -> Option<Refused> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Until;

    fn law(config: &str) -> (tempfile::TempDir, Law) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("banward.toml");
        std::fs::write(&path, config).unwrap();
        let law = Law::read(&path).unwrap();
        (folder, law)
    }

    fn set(prefix: &str) -> Change {
        Change::Set(Entry { prefix: prefix.parse().unwrap(), scope: Scope::default(), until: Until::Forever })
    }

    fn refused(law: &mut Law, prefix: &str) -> Option<String> {
        let mut refusals = Refusals::default();
        let mut changes = vec![set(prefix)];
        law.permit_changes(&mut changes, &mut refusals);
        let refused = refusals.all();
        assert_eq!(changes.is_empty(), refused.is_some());
        refused.map(|refused| refused.to_string())
    }

    #[test]
    fn whom_the_configuration_allows_nobody_may_ban() {
        let (_folder, mut law) = law("[allow]\nnetworks = [\"192.0.2.0/24\"]\n");
        for prefix in ["192.0.2.7/32", "192.0.0.0/16", "0.0.0.0/0", "::/0", "::1/128", "127.0.0.1/32", "126.0.0.0/7"] {
            assert!(refused(&mut law, prefix).is_some_and(|why| why.starts_with("the enforcer refuses")), "{prefix}");
        }
        assert_eq!(refused(&mut law, "198.51.100.7/32"), None);
    }

    #[test]
    fn rules_that_the_configuration_does_not_have_are_refused_until_it_has_them() {
        let (folder, mut law) = law("[firewall]\nchain = \"ONE\"\n");
        let other = Settings { chain: "TWO".parse().unwrap(), ..law.known[0].clone() };
        assert!(law.settings(fingerprint(&other)).unwrap_err().contains("other rules"));
        std::fs::write(folder.path().join("banward.toml"), "[firewall]\nchain = \"TWO\"\n").unwrap();
        assert_eq!(law.settings(fingerprint(&other)).unwrap(), other);
        assert_eq!(law.known.len(), 2, "the earlier ones are remembered, to take them out");
    }

    #[test]
    fn a_configuration_that_others_may_write_is_not_read_again() {
        let (folder, mut law) = law("[allow]\nnetworks = [\"192.0.2.0/24\"]\n");
        let path = folder.path().join("banward.toml");
        std::fs::write(&path, "[allow]\nnetworks = []\n").unwrap();
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        assert!(law.reread().unwrap_err().contains("belongs to user 65534"));
        assert!(refused(&mut law, "192.0.2.7/32").is_some(), "what was read before is in force");
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        law.reread().unwrap();
        assert_eq!(refused(&mut law, "192.0.2.7/32"), None);
    }
}
