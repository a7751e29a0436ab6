//! Changes in, packets dropped. A backend is a projection of the ledger that may be thrown away at any moment: one
//! `sync` rebuilds it. Foreign rules are never touched.

pub(crate) mod blocklist; // the plain list beside any backend
mod bulk; // lists that are loaded while attacks are banned
pub(crate) mod command; // runs iptables-restore and nft: no shell, no waiting without end
mod error; // what can go wrong, with the remedy
mod flows; // ends what a banned source has open
mod generations; // whether anybody changed rules, for iptables
pub(crate) mod handshakes; // who has completed one, by the kernel's connection tracking
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod hostile; // laws for fuzzers
mod ipset; // ipset's sets over netlink
pub(crate) mod iptables; // backend: a chain in iptables that matches ipset's sets
mod looking; // when what is in the kernel is looked at
mod mirror; // what a backend has put into the kernel
mod netlink; // messages to the kernel and its answers
mod nft; // nf_tables' sets, elements and generation over netlink
mod nft_rules; // the text of our table in nftables
mod nftables; // backend: one table of nf_tables
mod none; // backend: nothing
mod plain; // backend: a rule of iptables for each entry, where there is no ipset
mod rules; // the text of our rules in iptables
mod scope; // names of sets
pub(crate) mod task; // the thread that owns the backend
#[cfg(test)]
mod tests;
mod translation; // packets whose port is another one by the time that they meet our rules
mod undone; // what was asked for and is not in force

#[cfg(feature = "bench")]
pub(crate) use ipset::messages_of;

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub(crate) use crate::ledger::Target;
use crate::ledger::{Change, Direction, Entry, Scope};
use crate::lock::lock;
use crate::text::meaning_of;
use crate::time::Timestamp;

pub(crate) use error::FirewallError;
pub(crate) use looking::{Looking, look_over};
pub(crate) use task::{Report, Task};
pub(crate) use undone::Refused;

/// The `[firewall]` section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) backend: Choice,
    pub(crate) chain: Chain,
    /// Chains of the filter table that get a jump, those that exist: `INPUT`, `FORWARD`, `DOCKER-USER`.
    pub(crate) hooks: Vec<String>,
    /// Whether packets *to* a banned address are dropped as well, where a scope does not say.
    pub(crate) egress: bool,
    /// What happens to packets where a scope does not say.
    pub(crate) target: Target,
    /// Whether what a newly banned source has open is ended in connection tracking too.
    pub(crate) conntrack: bool,
    pub(crate) on_stop: OnStop,
    /// So many entries at most where each is a rule.
    pub(crate) ceiling: usize,
}

/// The usual ceiling: a packet meets some 270 of 10,000 rules, about 2 us. Making them takes a quarter of a second.
pub(crate) const CEILING: usize = 10_000;

/// Which backend is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Auto,
    Iptables,
    Nftables,
    /// A rule of iptables for each entry.
    Plain,
    None,
}

/// What happens to the rules when the daemon stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnStop {
    Keep,
    Remove,
}

/// What holds where a scope leaves it to `[firewall]`.
#[derive(Clone, Copy, Debug)]
struct Usual {
    egress: bool,
    target: Target,
}

impl Usual {
    fn of(settings: &Settings) -> Usual {
        Usual { egress: settings.egress, target: settings.target }
    }

    /// Whether packets to a source are stopped too. What is limited is limited by what it sends.
    fn stops_answers(self, scope: &Scope) -> bool {
        let both = scope.direction.map_or(self.egress, |direction| direction == Direction::Both);
        both && scope.limit.is_none()
    }

    /// What happens to the packets that are stopped. Those above a limit are too many to be answered.
    fn target(self, scope: &Scope) -> Target {
        if scope.limit.is_some() { Target::Drop } else { scope.target.unwrap_or(self.target) }
    }

    /// The targets of these scopes that answer.
    fn answering(self, scopes: impl IntoIterator<Item = impl std::borrow::Borrow<Scope>>) -> Vec<Target> {
        let mut targets: Vec<Target> = scopes.into_iter().map(|scope| self.target(scope.borrow())).collect();
        targets.sort_unstable();
        targets.dedup();
        targets.retain(|target| *target != Target::Drop);
        targets
    }
}

/// The name of our chain and sets (iptables), in lower case of our table (nftables).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain(String);

/// Longest name of a chain: with the suffixes of sets it fits the 31 characters of an ipset name.
const LONGEST_CHAIN: usize = 20;

/// Names of chains, targets and tables that are somebody else's, in lower case.
const TAKEN: [&str; 18] = [
    "input",
    "forward",
    "output",
    "prerouting",
    "postrouting",
    "docker-user",
    "accept",
    "drop",
    "reject",
    "log",
    "queue",
    "return",
    "filter",
    "nat",
    "mangle",
    "raw",
    "security",
    "firewalld",
];

impl Chain {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Chain {
    fn default() -> Self {
        Chain("BANWARD".to_owned())
    }
}

impl FromStr for Chain {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if text.len() > LONGEST_CHAIN || !plain || !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err("a letter, then letters, digits, '-' and '_', 20 characters at most");
        }
        if TAKEN.contains(&text.to_ascii_lowercase().as_str()) {
            return Err("the firewall itself uses this name; take one that is ours alone, such as \"BANWARD\"");
        }
        Ok(Chain(text.to_owned()))
    }
}

impl Choice {
    /// As the configuration says it, and as each backend names itself.
    pub(crate) const WORDS: [(&'static str, Choice); 5] = [
        ("auto", Choice::Auto),
        ("iptables", Choice::Iptables),
        ("nftables", Choice::Nftables),
        ("plain", Choice::Plain),
        ("none", Choice::None),
    ];

    /// The choice of the backend that calls itself so.
    pub(crate) fn named(name: &str) -> Option<Choice> {
        meaning_of(&Choice::WORDS, name)
    }

    /// Whether the rules are, or may come to be, those of iptables.
    pub(crate) fn may_be_iptables(self) -> bool {
        matches!(self, Choice::Auto | Choice::Iptables | Choice::Plain)
    }

    /// Whether both make the same chains of iptables. Each takes out what the other has left when it makes its own.
    pub(crate) fn shares_chains(self, other: Choice) -> bool {
        let in_iptables = |choice| matches!(choice, Choice::Iptables | Choice::Plain);
        self == other || (in_iptables(self) && in_iptables(other))
    }
}

impl OnStop {
    pub(crate) const WORDS: [(&'static str, OnStop); 2] = [("keep", OnStop::Keep), ("remove", OnStop::Remove)];
}

/// A way to enforce. Its methods run in one thread and return when the kernel has answered.
///
/// No prefix of length 0 ever gets here: the task refuses it.
pub(crate) trait Backend: Send {
    fn name(&self) -> &'static str;

    /// Makes the kernel hold exactly these entries, and the rules that use them, whatever it held before. Packets of a
    /// source that was and stays banned never pass meanwhile. Of several entries with the same prefix and scope the
    /// last one counts; those that are over are left out.
    fn sync(&mut self, entries: &[Entry], now: Timestamp) -> Result<(), FirewallError>;

    /// Follows the ledger after a `sync`. Setting again renews the time; clearing what is absent is no error. At an
    /// error any part of it may have been done: what helps is a `sync`.
    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Result<(), FirewallError>;

    /// Begins to [apply](Backend::apply) a part of a list, and may return before that is done: then `None`, and in its turn
    /// [`Backend::finish`] says how it went. What is applied meanwhile comes after it.
    fn begin(&mut self, changes: &[Change], now: Timestamp) -> Option<Result<(), FirewallError>> {
        Some(self.apply(changes, now))
    }

    /// Whether it is not here that the work is done: to begin then takes no time.
    fn works_elsewhere(&self) -> bool {
        false
    }

    /// Waits for the first that was begun and is not finished.
    fn finish(&mut self) -> Result<(), FirewallError> {
        Ok(())
    }

    /// How often it is to be looked at.
    fn look_every(&self) -> Duration {
        looking::LOOK_EVERY
    }

    /// Whether everything that was put into the kernel is still there. Cheap: called that often.
    fn inspect(&mut self, now: Timestamp) -> Result<Inspection, FirewallError>;

    /// What is wrong with its room, where it has less than is wanted. The same sentence until that changes.
    fn shortage(&self) -> Option<String> {
        None
    }

    /// How many entries the kernel holds, those left out that end within seconds.
    fn installed(&mut self, now: Timestamp) -> usize;

    /// Reads the entries back from the kernel, also those of an earlier process.
    fn held(&mut self, now: Timestamp) -> Result<Vec<Entry>, FirewallError>;

    /// Renews what the kernel would forget too early. Called with each look; nearly always there is nothing to do.
    fn rearm(&mut self, _now: Timestamp) -> Result<(), FirewallError> {
        Ok(())
    }

    /// What was not done since this was last asked, or since the last `sync`, because it may not be; the rest was.
    fn refused(&mut self) -> Option<Refused> {
        None
    }

    /// Takes out everything that is ours, also what an earlier process left.
    fn remove(&mut self) -> Result<(), FirewallError>;
}

/// A backend, and why this one.
pub(crate) type Opened = (Box<dyn Backend>, String);

/// The result of [`Backend::inspect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Inspection {
    Intact,
    /// The rules were damaged and are right again; all entries were there. A sentence that says what was found.
    Mended(String),
    /// A sentence that says what was found.
    Damaged(String),
}

/// What an entry of the kernel has matched since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// An entry as the kernel holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    /// The name of the set that it is in.
    pub(crate) set: &'a str,
    pub(crate) prefix: IpNet,
    pub(crate) scope: &'a Scope,
    /// `None` for ever.
    pub(crate) left: Option<Duration>,
    /// `None` where the kernel is too old to count.
    pub(crate) count: Option<Count>,
}

/// Hands out every entry of these scopes that the kernel holds, with what it has counted. For other threads than the
/// task's: many entries take a while, and bans do not wait for it. `backend` must be the one that is in use.
pub(crate) fn look(
    settings: &Settings,
    scopes: &BTreeSet<Scope>,
    each: &mut dyn FnMut(Seen<'_>),
) -> Result<(), FirewallError> {
    match settings.backend {
        Choice::Iptables => iptables::look(settings, scopes, each),
        Choice::Nftables => nftables::look(settings, scopes, each),
        Choice::Plain => plain::look(settings, scopes, each),
        Choice::Auto | Choice::None => Ok(()),
    }
}

/// Opens the backend that is wanted, or the one that works here, and says why that one. Sets come first: plain rules are
/// few, and cost every packet.
pub(crate) fn open(settings: &Settings) -> Result<Opened, FirewallError> {
    /// What works is tried out in chains of one name: by one thread at a time.
    static TRIED: Mutex<()> = Mutex::new(());
    let _alone = lock(&TRIED);
    match settings.backend {
        Choice::None => {
            Ok((Box::new(none::Nothing), "the configuration says so; packets of banned sources pass".to_owned()))
        }
        Choice::Iptables => match iptables::Iptables::open(settings) {
            Err(lacking) if is_lacking(&lacking) => open_plain(settings, &lacking).map_err(|_| lacking),
            opened => opened.map(boxed),
        },
        Choice::Nftables => nftables::Nftables::open(settings).map(boxed),
        Choice::Plain => plain::Plain::open(settings).map(boxed),
        Choice::Auto => match iptables::Iptables::open(settings) {
            Ok(opened) => Ok(boxed(opened)),
            // Passing troubles: to settle elsewhere because of one would leave the rules in two places.
            Err(error @ (FirewallError::LockHeld { .. } | FirewallError::ToolHung { .. })) => Err(error),
            Err(iptables) => match nftables::Nftables::open(settings) {
                Ok((backend, why)) => Ok((Box::new(backend), format!("{why}, and iptables does not: {iptables}"))),
                Err(nftables) if is_lacking(&iptables) => {
                    let neither = |_| nothing_works(iptables.clone(), nftables);
                    open_plain(settings, &iptables).map_err(neither)
                }
                Err(nftables) => Err(nothing_works(iptables, nftables)),
            },
        },
    }
}

fn boxed((backend, why): (impl Backend + 'static, String)) -> (Box<dyn Backend>, String) {
    (Box::new(backend), why)
}

/// Whether a part of the kernel is missing, which stays so.
fn is_lacking(error: &FirewallError) -> bool {
    matches!(error, FirewallError::ModuleMissing { .. })
}

fn open_plain(settings: &Settings, lacking: &FirewallError) -> Result<(Box<dyn Backend>, String), FirewallError> {
    let (backend, why) = plain::Plain::open(settings)?;
    Ok((Box::new(backend), format!("{why}; sets do not: {lacking}")))
}

fn nothing_works(iptables: FirewallError, nftables: FirewallError) -> FirewallError {
    FirewallError::NothingWorks { iptables: Box::new(iptables), nftables: Box::new(nftables) }
}

/// The same, and what a newly banned source has open is ended where that is wanted.
pub(crate) fn open_ending_flows(settings: &Settings) -> Result<Opened, FirewallError> {
    let (backend, why) = open(settings)?;
    let wanted = settings.conntrack && settings.backend != Choice::None;
    Ok((if wanted { flows::ending(backend) } else { backend }, why))
}

/// The backends that have left something of ours in the kernel, in this process or an earlier one.
pub(crate) fn traces(settings: &Settings) -> Vec<Choice> {
    let iptables = iptables::has_traces(settings).then_some(Choice::Iptables);
    let nftables = nftables::has_traces(settings).then_some(Choice::Nftables);
    let plain = plain::has_traces(settings).then_some(Choice::Plain);
    iptables.into_iter().chain(nftables).chain(plain).collect()
}
