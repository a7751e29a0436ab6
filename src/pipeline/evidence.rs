//! What is kept of each prefix so that a decision can be accounted for: its latest lines and what was decided of it.
//! In memory only, and bounded: what is crowded out costs an answer to `banctl why`, never a ban.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ipnet::IpNet;

use super::shelf::{Shelf, Trace};
use crate::filters::Hit;
use crate::keyed::{Keys, Net};
use crate::policy::prefix::overlap;
use crate::policy::{Decision, Reason};
use crate::time::{Timestamp, Until};
use crate::windows::Offence;

/// Decisions that are kept of a prefix; the same one again is counted with the first.
const DECISIONS: usize = 5;
/// Prefixes of which decisions are kept, and up to twice as many, with the lines that led to the last one: some 4 MB,
/// 7 where lines are long. With this many a map is as full as it can be.
const DECIDED: usize = 2048 / 8 * 7;

/// What was decided of one offence.
#[derive(Clone, Debug)]
pub(super) struct Decided {
    /// Of the hit that was one too many, and how many hits were counted since when.
    pub(super) time: Timestamp,
    pub(super) hits: u32,
    /// One of those, in a word.
    pub(super) unit: &'static str,
    pub(super) first: Timestamp,
    pub(super) jail: Arc<str>,
    pub(super) decision: Decision,
    /// How often the same was decided again in a row, and when last.
    pub(super) again: u32,
    pub(super) last: Timestamp,
}

impl Decided {
    pub(super) fn of(offence: &Offence, time: Timestamp, jail: &Arc<str>, decision: &Decision) -> Decided {
        let (jail, decision) = (Arc::clone(jail), decision.clone());
        let Offence { count: hits, unit, first, .. } = *offence;
        Decided { time, hits, unit, first, jail, decision, again: 0, last: time }
    }

    fn count_again(&mut self, time: Timestamp) {
        (self.again, self.last) = (self.again.saturating_add(1), time);
    }
}

/// The decisions on one prefix, the latest last, and the lines that led to the latest.
#[derive(Clone, Debug, Default)]
pub(super) struct Case {
    pub(super) decided: VecDeque<Decided>,
    pub(super) lines: Box<[Trace]>,
}

#[derive(Debug, Default)]
pub(super) struct Dossiers {
    recent: Shelf,
    cases: Generations<Case, DECIDED>,
}

impl Case {
    fn push(&mut self, decided: Decided) {
        if self.decided.len() == DECISIONS {
            self.decided.pop_front();
        }
        // Most prefixes have one.
        self.decided.reserve_exact(1);
        self.decided.push_back(decided);
    }
}

impl Dossiers {
    /// The place for the lines of a prefix.
    pub(super) fn place_of(&self, prefix: IpNet) -> usize {
        self.recent.place_of(prefix)
    }

    /// Looks where the next line of a prefix will be kept, which has this place, so that the memory there is near then.
    pub(super) fn look_at(&self, place: usize, prefix: IpNet) -> u8 {
        self.recent.look_at(place, prefix)
    }

    /// Keeps the line of a hit.
    pub(super) fn note(&mut self, prefix: IpNet, jail: &Arc<str>, hit: &Hit) {
        self.recent.note(prefix, jail, hit);
    }

    /// Keeps a decision on an offence of a prefix that was counted as `counted`, with the lines that led to it.
    pub(super) fn decided(&mut self, prefix: IpNet, counted: IpNet, decided: Decided) {
        let case = self.cases.entry(prefix);
        let same = |last: &&mut Decided| last.jail == decided.jail && last.decision == decided.decision;
        if let Some(last) = case.decided.back_mut().filter(same) {
            return last.count_again(decided.time);
        }
        // The lines that led to a ban are worth more than those that came in spite of it.
        if !matches!(decided.decision, Decision::Ignore(Reason::AlreadyBanned(_))) {
            let of_jail = |line: &Trace| line.jail == decided.jail;
            case.lines = self.recent.lines_of(counted).filter(of_jail).collect();
        }
        case.push(decided);
    }

    /// Counts an offence of a prefix that is banned already, until then. Where nothing is known of the ban any more, this
    /// needs no place of its own.
    pub(super) fn banned_already(
        &mut self,
        prefix: IpNet,
        until: Until,
        jail: &Arc<str>,
        offence: &Offence,
        time: Timestamp,
    ) {
        let Some(case) = self.cases.known(prefix) else { return };
        let decision = Decision::Ignore(Reason::AlreadyBanned(until));
        match case.decided.back_mut().filter(|last| last.jail == *jail && last.decision == decision) {
            Some(last) => last.count_again(time),
            None => case.push(Decided::of(offence, time, jail, &decision)),
        }
    }

    /// The latest lines of every prefix that has an address in common with this one.
    pub(super) fn lines(&self, prefix: IpNet) -> impl Iterator<Item = Trace> {
        self.recent.iter().filter(move |(of, _)| overlap(*of, prefix)).flat_map(|(_, lines)| lines)
    }

    /// The same for decisions.
    pub(super) fn cases(&self, prefix: IpNet) -> impl Iterator<Item = &Case> {
        self.cases.iter().filter(move |(of, _)| overlap(*of, prefix)).map(|(_, case)| case)
    }
}

/// A map of `N` to twice as many prefixes: those that were not touched for the longest time are dropped, many at once.
#[derive(Debug, Default)]
struct Generations<V, const N: usize> {
    young: HashMap<Net, V, Keys>,
    old: HashMap<Net, V, Keys>,
}

impl<V: Default, const N: usize> Generations<V, N> {
    fn entry(&mut self, prefix: IpNet) -> &mut V {
        let prefix = Net(prefix);
        if self.young.len() >= N && !self.young.contains_key(&prefix) {
            self.old.clear();
            std::mem::swap(&mut self.young, &mut self.old);
        }
        let Generations { young, old } = self;
        young.entry(prefix).or_insert_with(|| old.remove(&prefix).unwrap_or_default())
    }

    /// What is kept of a prefix, if anything is.
    fn known(&mut self, prefix: IpNet) -> Option<&mut V> {
        if let Some(value) = self.old.remove(&Net(prefix)) {
            *self.entry(prefix) = value;
        }
        self.young.get_mut(&Net(prefix))
    }

    fn iter(&self) -> impl Iterator<Item = (IpNet, &V)> {
        self.young.iter().chain(&self.old).map(|(prefix, value)| (prefix.0, value))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::pipeline::shelf::{LINES, PREFIXES};

    const NOW: Timestamp = Timestamp::from_secs(1_795_224_600);

    fn numbered(number: u32) -> IpNet {
        IpNet::from(IpAddr::from(number.to_be_bytes()))
    }

    fn hit(prefix: IpNet, line: &str) -> Hit {
        Hit {
            address: prefix.addr(),
            time: NOW,
            filter: 0,
            pattern: 0,
            user: None,
            port: None,
            effect: crate::filters::Effect::Count(1),
            evidence: crate::filters::Evidence::Proven,
            repeat: 1,
            line: line.as_bytes().into(),
        }
    }

    fn decided(decision: Decision) -> Decided {
        let jail = "sshd".into();
        Decided { time: NOW, hits: 5, unit: "hit", first: NOW, jail, decision, again: 0, last: NOW }
    }

    #[test]
    fn the_latest_lines_of_a_prefix_are_kept_and_a_flood_of_others_is_bounded() {
        let (mut dossiers, jail) = (Dossiers::default(), Arc::from("sshd"));
        for number in 0..100 {
            dossiers.note(numbered(7), &jail, &hit(numbered(7), &format!("line {number}")));
        }
        let lines: Vec<_> = dossiers.lines(numbered(7)).map(|trace| trace.line.to_vec()).collect();
        assert_eq!(lines, [b"line 95", b"line 96", b"line 97", b"line 98", b"line 99"]);
        for number in 0..100_000 {
            dossiers.note(numbered(1000 + number), &jail, &hit(numbered(1000 + number), "flood"));
        }
        assert_eq!(dossiers.lines(numbered(7)).count(), 0);
        assert!(dossiers.recent.iter().map(|(_, lines)| lines.count()).sum::<usize>() <= PREFIXES * LINES);
    }

    #[test]
    fn a_ban_keeps_its_lines_whatever_follows_and_the_same_again_is_only_counted() {
        let (mut dossiers, jail) = (Dossiers::default(), Arc::from("sshd"));
        let (prefix, other) = (numbered(7), Arc::from("web"));
        let offence = Offence { count: 5, unit: "hit", first: NOW, others: Vec::new() };
        dossiers.note(prefix, &jail, &hit(prefix, "led to it"));
        dossiers.note(prefix, &other, &hit(prefix, "of another jail"));
        dossiers.decided(prefix, prefix, decided(Decision::Ban { until: Until::Forever, count: 1 }));
        for number in 0..50_000 {
            dossiers.note(numbered(1000 + number), &jail, &hit(numbered(1000 + number), "flood"));
            dossiers.note(prefix, &jail, &hit(prefix, "came afterwards"));
            dossiers.banned_already(prefix, Until::Forever, &jail, &offence, NOW);
        }
        let case = dossiers.cases(prefix).next().unwrap();
        assert_eq!(case.lines.iter().map(|trace| &*trace.line).collect::<Vec<_>>(), [b"led to it"]);
        assert_eq!(case.decided.iter().map(|decided| decided.again).collect::<Vec<_>>(), [0, 49_999]);
    }
}
