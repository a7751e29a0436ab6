//! The text of plain rules, and what is read back from `iptables-save -c`. Pure: text in, text out.
//!
//! Below our two chains, each scope has a list of sources and one of destinations, `CHAIN-00s` and `CHAIN-00d`; a list
//! has a chain for each first octet, of IPv6 for each first group, `CHAIN-00s00c0`: so a packet meets few of the rules.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::firewall::ipset::Family;
use crate::firewall::rules::{Plan, Side, hashlimit, verdicts};
use crate::firewall::{Count, scope};
use crate::ledger::{Scope, Target};
use crate::time::{Timestamp, Until};

/// Scopes have numbers of two hexadecimal digits.
pub(super) const MOST_SCOPES: usize = 256;

/// A scope is spelled out in the comment of the rule that leads to it up to this length; a comment has 255 characters.
const LONGEST_COMMENT: usize = 200;

/// The last moment that `-m time` can be told.
const LAST_MOMENT: Timestamp = Timestamp::from_secs(i32::MAX as i64);

/// What of an address a chain is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Bucket {
    number: usize,
    side: Part,
    prefix: IpNet,
}

/// The list of a scope that a rule is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    Sources,
    Destinations,
}

/// A rule below our two chains.
#[derive(Debug)]
pub(super) struct Rule {
    /// `None` for networks that are wider than a bucket; those are in the list itself.
    pub(super) bucket: Option<Bucket>,
    list: (usize, Part),
    text: String,
}

/// An entry as it stands in saved rules.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) chain: String,
    pub(super) prefix: IpNet,
    pub(super) scope: Scope,
    pub(super) until: Until,
    pub(super) count: Count,
}

#[derive(Debug)]
pub(super) struct Layout {
    pub(super) plan: Plan,
    /// Whether the kernel can end rules by itself (`xt_time`).
    pub(super) ends: bool,
}

impl Part {
    fn letter(self) -> char {
        match self {
            Part::Sources => 's',
            Part::Destinations => 'd',
        }
    }

    fn option(self) -> &'static str {
        match self {
            Part::Sources => "-s",
            Part::Destinations => "-d",
        }
    }
}

/// The first octet of an IPv4 prefix, the first group of an IPv6 prefix.
fn bucket_of(prefix: &IpNet) -> Option<IpNet> {
    let length = if prefix.addr().is_ipv4() { 8 } else { 16 };
    let wide = IpNet::new(prefix.addr(), length).ok().filter(|_| prefix.prefix_len() >= length)?;
    Some(wide.trunc())
}

fn digits(prefix: &IpNet) -> u16 {
    match prefix {
        IpNet::V4(net) => u16::from(net.addr().octets()[0]),
        IpNet::V6(net) => net.addr().segments()[0],
    }
}

impl Layout {
    fn list(&self, number: usize, part: Part) -> String {
        format!("{}-{number:02x}{}", self.plan.chain(), part.letter())
    }

    /// The name of a bucket's chain; at most 28 characters.
    pub(super) fn chain(&self, bucket: Bucket) -> String {
        format!("{}{:04x}", self.list(bucket.number, bucket.side), digits(&bucket.prefix))
    }

    fn verdict_chain(&self, number: usize) -> String {
        format!("{}-{number:02x}v", self.plan.chain())
    }

    /// All chains below our two.
    pub(super) fn chains(&self, scopes: usize, buckets: &HashSet<Bucket>) -> Vec<String> {
        let lists = |number| {
            [self.list(number, Part::Sources), self.list(number, Part::Destinations), self.verdict_chain(number)]
        };
        (0..scopes).flat_map(lists).chain(buckets.iter().map(|bucket| self.chain(*bucket))).collect()
    }

    /// How many chains are not below.
    pub(super) fn own_chains(&self, scopes: &[Scope]) -> usize {
        if self.plan.has_egress(scopes) { 2 } else { 1 }
    }

    /// The rules of our two chains.
    pub(super) fn top(&self, family: Family, scopes: &[Scope]) -> String {
        let mut rules = String::new();
        self.plan.answers(&mut rules, family, scopes);
        let (chain, egress) = (self.plan.chain(), self.plan.egress_chain());
        for (number, scope) in scopes.iter().enumerate() {
            let comment = format!("-m comment --comment {}", comment(scope));
            for (_, condition) in self.plan.conditions(scope, Side::From) {
                let _ = writeln!(rules, "-A {chain} {condition}{comment} -j {}", self.list(number, Part::Sources));
            }
            if !self.plan.usual().stops_answers(scope) {
                continue;
            }
            // An address of this machine is never matched: should a ban cover one, it must not cut off everybody.
            let to = format!("-m addrtype ! --dst-type LOCAL -j {}", self.list(number, Part::Destinations));
            for chain in [self.plan.forwards().then_some(chain), Some(egress.as_str())].into_iter().flatten() {
                for (_, condition) in self.plan.conditions(scope, Side::To) {
                    let _ = writeln!(rules, "-A {chain} {condition}{to}");
                }
            }
        }
        rules
    }

    /// What happens to packets of a scope's sources, where that is more than a target.
    pub(super) fn verdicts(&self, number: usize, scope: &Scope, family: Family) -> String {
        let chain = self.verdict_chain(number);
        let above = scope.limit.map_or_else(String::new, |limit| format!("{} ", hashlimit(limit, family, &chain)));
        let verdicts = verdicts(self.plan.usual().target(scope), family, None);
        let rule = |(extra, target): (&str, &str)| format!("-A {chain} {extra}{above}-j {target}\n");
        verdicts.into_iter().filter(|_| self.target(number, scope) == chain).map(rule).collect()
    }

    fn target(&self, number: usize, scope: &Scope) -> String {
        let drops = self.plan.usual().target(scope) == Target::Drop && scope.limit.is_none();
        if drops { "DROP".to_owned() } else { self.verdict_chain(number) }
    }

    /// The rules of an entry.
    pub(super) fn rules(&self, number: usize, scope: &Scope, prefix: IpNet, until: Until) -> Vec<Rule> {
        let prefix = prefix.trunc();
        let (target, end) = (self.target(number, scope), self.end(until));
        let both = self.plan.usual().stops_answers(scope);
        let rule = |side: Part| Rule {
            bucket: bucket_of(&prefix).map(|prefix| Bucket { number, side, prefix }),
            list: (number, side),
            text: format!("{} {prefix}{end} -j {target}", side.option()),
        };
        [Some(Part::Sources), both.then_some(Part::Destinations)].into_iter().flatten().map(rule).collect()
    }

    /// When a rule ends: for us, and for the kernel.
    fn end(&self, until: Until) -> String {
        let Until::At(end) = until else { return String::new() };
        let second = Timestamp::from_secs(end.as_micros().div_euclid(1_000_000) + 1);
        let told = format!(" -m comment --comment {}", second.as_micros() / 1_000_000);
        let stop = second.to_string();
        let in_kernel = self.ends && second < LAST_MOMENT;
        if in_kernel { format!(" -m time --datestop {}{told}", stop.trim_end_matches('Z')) } else { told }
    }

    /// Rules of every form, to be tried.
    pub(super) fn example(&self, chain: &str, family: Family) -> String {
        let prefix = match family {
            Family::V4 => IpNet::V4(Ipv4Net::default()),
            Family::V6 => IpNet::V6(Ipv6Net::default()),
        };
        let end = self.end(Until::At(Timestamp::from_secs(1_795_224_600)));
        format!("-A {chain} -s {prefix}{end} -j DROP\n-A {chain} -m addrtype ! --dst-type LOCAL -j DROP\n")
    }

    fn place(&self, rule: &Rule) -> String {
        let (number, part) = rule.list;
        rule.bucket.map_or_else(|| self.list(number, part), |bucket| self.chain(bucket))
    }

    /// The rule that leads to a bucket.
    pub(super) fn jump(&self, bucket: Bucket) -> String {
        let list = self.list(bucket.number, bucket.side);
        format!("-A {list} {} {} -j {}\n", bucket.side.option(), bucket.prefix, self.chain(bucket))
    }

    /// With what it has counted before, which is kept on the side of sources.
    pub(super) fn add(&self, rule: &Rule, count: Option<Count>) -> String {
        let count = count.filter(|count| *count != Count::default() && rule.list.1 == Part::Sources);
        let counted = count.map_or_else(String::new, |count| format!("[{}:{}] ", count.packets, count.bytes));
        format!("{counted}-A {} {}\n", self.place(rule), rule.text)
    }

    pub(super) fn delete(&self, rule: &Rule) -> String {
        format!("-D {} {}\n", self.place(rule), rule.text)
    }

    /// Which scope has which number: one of these, or as the comment of the rule that leads to it spells it.
    pub(super) fn numbers(&self, save: &str, known: &BTreeSet<Scope>) -> HashMap<usize, Scope> {
        let mut numbers = HashMap::new();
        let lead = format!("{}-", self.plan.chain());
        for rule in save.lines().filter_map(|line| line.split_once(&format!("-A {} ", self.plan.chain()))) {
            let number = after(rule.1, "-j").and_then(|target| target.strip_prefix(&lead)?.strip_suffix('s'));
            let number = number.and_then(|digits| usize::from_str_radix(digits, 16).ok());
            let Some((number, name)) = number.zip(after(rule.1, "--comment")) else { continue };
            let scope = known.iter().find(|scope| comment(scope) == name).cloned();
            numbers.extend(scope.or_else(|| scope::parse_long_name(name)).map(|scope| (number, scope)));
        }
        numbers
    }

    /// The entries that saved rules hold. What was dropped to a destination counts with what came from it.
    pub(super) fn entries(&self, save: &str, numbers: &HashMap<usize, Scope>) -> Vec<Held> {
        let mut entries: HashMap<(usize, IpNet), Held> = HashMap::new();
        let lead = format!("{}-", self.plan.chain());
        for (count, chain, rule) in below(&self.plan, save) {
            let digits = chain.strip_prefix(&lead).and_then(|rest| rest.get(..2));
            let Some(number) = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok()) else { continue };
            let (Some(scope), Some(address)) = (numbers.get(&number), after(rule, "-s").or_else(|| after(rule, "-d")))
            else {
                continue;
            };
            let leads_on = after(rule, "-j").is_some_and(|target| self.plan.is_below(target) && !target.ends_with('v'));
            let Some(prefix) = address.parse::<IpNet>().ok().filter(|_| !leads_on) else { continue };
            let end = after(rule, "--comment").and_then(|seconds| seconds.parse().ok());
            let until = end.map_or(Until::Forever, |seconds| Until::At(Timestamp::from_secs(seconds)));
            let nothing = Count::default();
            let fresh = || Held { chain: chain.to_owned(), prefix, scope: scope.clone(), until, count: nothing };
            let held = entries.entry((number, prefix)).or_insert_with(fresh);
            held.count.packets += count.packets;
            held.count.bytes += count.bytes;
        }
        entries.into_values().collect()
    }

    pub(super) fn counts(&self, save: &str, numbers: &HashMap<usize, Scope>) -> HashMap<(IpNet, Scope), Count> {
        let held = self.entries(save, numbers);
        held.into_iter().map(|held| ((held.prefix, held.scope), held.count)).collect()
    }
}

/// A scope in the comment of the rule that leads to its list.
fn comment(scope: &Scope) -> String {
    let long = scope::long_name(scope);
    if long.len() <= LONGEST_COMMENT { long } else { scope::short_name(scope) }
}

/// The word after an option, without quotes.
fn after<'a>(rule: &'a str, option: &str) -> Option<&'a str> {
    let mut words = rule.split(' ');
    words.find(|word| *word == option)?;
    words.next().map(|word| word.trim_matches('"'))
}

/// The rules below our two chains: count, chain, and the rule itself.
pub(super) fn below<'a>(plan: &'a Plan, save: &'a str) -> impl Iterator<Item = (Count, &'a str, &'a str)> {
    save.lines().filter_map(move |line| {
        let (count, rule) = line.strip_prefix('[')?.split_once("] -A ")?;
        let (packets, bytes) = count.split_once(':')?;
        let (chain, rule) = rule.split_once(' ')?;
        let count = Count { packets: packets.parse().ok()?, bytes: bytes.parse().ok()? };
        plan.is_below(chain).then_some((count, chain, rule))
    })
}

/// Saved rules without what they have counted.
pub(super) fn uncounted(save: &str) -> String {
    let line = |line: &str| match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((_, rule)) => format!("{rule}\n"),
        None => format!("{line}\n"),
    };
    save.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::{Chain, Choice, OnStop, Settings};

    fn layout(chain: &str) -> Layout {
        let settings = Settings {
            backend: Choice::Plain,
            chain: chain.parse::<Chain>().unwrap(),
            hooks: vec!["INPUT".to_owned()],
            egress: true,
            target: Target::Drop,
            conntrack: true,
            on_stop: OnStop::Keep,
            ceiling: 10,
        };
        Layout { plan: Plan::new(&settings), ends: true }
    }

    #[test]
    fn the_longest_chain_gives_names_that_fit_and_are_known_as_ours() {
        let layout = layout("A23456789012345678_-");
        let prefix = bucket_of(&"2001:db8::/64".parse().unwrap()).unwrap();
        let bucket = Bucket { number: MOST_SCOPES - 1, side: Part::Destinations, prefix };
        let chain = layout.chain(bucket);
        assert!(chain.len() <= 28 && chain.ends_with("-ffd2001"), "{chain}");
        assert!(layout.chains(1, &HashSet::from([bucket])).iter().all(|chain| layout.plan.is_below(chain)));
        for foreign in ["A23456789012345678_--OUT", "A23456789012345678_--HOST", "A23456789012345678_--00s1"] {
            assert!(!layout.plan.is_below(foreign), "{foreign}");
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let layout = layout("BANWARD");
        let scopes = [Scope::default(), scope::parse_long_name("80t_443u_ibr/2dlan").unwrap()];
        let until = Until::At(Timestamp::from_secs(1_795_224_600));
        let mut save = layout.top(Family::V4, &scopes);
        let entries = [("192.0.2.9/32", until), ("192.0.0.0/4", Until::Forever)];
        for (number, scope) in scopes.iter().enumerate() {
            for (prefix, until) in entries {
                for rule in layout.rules(number, scope, prefix.parse().unwrap(), until) {
                    save += &rule.bucket.map(|bucket| format!("[0:0] {}", layout.jump(bucket))).unwrap_or_default();
                    let _ = writeln!(save, "[1:84] -A {} {}", layout.place(&rule), rule.text);
                }
            }
        }
        let numbers = layout.numbers(&save, &BTreeSet::new());
        let mut held = layout.entries(&save, &numbers);
        held.sort_by_key(|held| (held.scope.clone(), held.prefix));
        let found: Vec<_> = held.iter().map(|held| (held.prefix.to_string(), held.scope.clone())).collect();
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!((found[1].0.as_str(), &found[1].1), ("192.0.2.9/32", &scopes[0]));
        // Rounded up to a whole second.
        assert_eq!(held[1].until, Until::At(Timestamp::from_secs(1_795_224_601)));
        assert_eq!((held[0].until, held[3].scope.clone()), (Until::Forever, scopes[1].clone()));
        assert_eq!(held[1].count, Count { packets: 2, bytes: 168 });
    }
}
