//! The text of our rules in iptables, and what of them stands in the output of `iptables-save`. Pure: text in, text out.
//!
//! Ours are two chains, `CHAIN` and for egress `CHAIN-OUT`, and the jumps to them. Nothing else is ever named in a
//! script, so that foreign rules cannot be touched.

use std::fmt::Write as _;

use super::ipset::Family;
use super::translation::Translation;
use super::{Settings, Target, Usual, scope};
use crate::ledger::limit::Limit;
use crate::ledger::{Port, Protocol, Scope};

/// `multiport` takes so many ports in one rule.
const PORTS_PER_RULE: usize = 15;

/// What makes our rules, apart from the scopes.
#[derive(Debug)]
pub(super) struct Plan {
    chain: String,
    hooks: Vec<String>,
    usual: Usual,
    pub(super) translation: Translation,
}

/// What concerns us in one family's filter table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// All chains of the table; the built-in ones are there even before the table is.
    chains: Vec<String>,
    /// The lines of our two chains, as saved.
    pub(super) ours: Vec<String>,
    /// Plain jumps to our chains: from which chain, at which position from 1, to which.
    jumps: Vec<(String, usize, String)>,
    /// Every rule elsewhere that leads to our chains, with conditions or not, as saved.
    references: Vec<String>,
}

impl Plan {
    pub(super) fn new(settings: &Settings) -> Plan {
        let hooks = settings.hooks.iter().filter(|hook| *hook != "OUTPUT").cloned().collect();
        let chain = settings.chain.as_str().to_owned();
        Plan { chain, hooks, usual: Usual::of(settings), translation: Translation::default() }
    }

    pub(super) fn chain(&self) -> &str {
        &self.chain
    }

    pub(super) fn egress_chain(&self) -> String {
        format!("{}-OUT", self.chain)
    }

    /// Whether packets through this machine meet our rules.
    pub(super) fn forwards(&self) -> bool {
        self.hooks.iter().any(|hook| hook != "INPUT")
    }

    pub(super) fn usual(&self) -> Usual {
        self.usual
    }

    /// The conditions that cover a scope on one side of a packet, each with its protocol.
    pub(super) fn conditions(&self, scope: &Scope, side: Side) -> Vec<(Option<Protocol>, String)> {
        let mut conditions = conditions(scope, side);
        if self.translation == Translation::Followed {
            conditions.extend(translated(scope, side));
        }
        conditions
    }

    /// Whether there is a chain for packets to banned sources.
    pub(super) fn has_egress(&self, scopes: &[Scope]) -> bool {
        self.usual.egress || scopes.iter().any(|scope| self.usual.stops_answers(scope))
    }

    /// The name of a set; at most 31 characters.
    pub(super) fn set(&self, family: Family, scope: &Scope) -> String {
        let digit = if family == Family::V4 { '4' } else { '6' };
        format!("{}-{digit}-{}", self.chain, scope::short_name(scope))
    }

    /// The name of a set while it is filled, before it takes the place of the other.
    pub(super) fn draft(&self, family: Family, scope: &Scope) -> String {
        let digit = if family == Family::V4 { '4' } else { '6' };
        format!("{}~{digit}-{}", self.chain, scope::short_name(scope))
    }

    /// Whether a set of this name can only be one of ours.
    pub(super) fn owns_set(&self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(&self.chain) else { return false };
        let scope = ["-4-", "-6-", "~4-", "~6-"].iter().find_map(|middle| rest.strip_prefix(middle));
        scope.is_some_and(|scope| scope == "all" || (scope.len() == 8 && scope.chars().all(|c| c.is_ascii_hexdigit())))
    }

    /// Reads the output of `iptables-save -t filter`.
    pub(super) fn view(&self, save: &str) -> View {
        let egress_chain = self.egress_chain();
        let is_ours = |chain: &str| chain == self.chain || chain == egress_chain;
        let mut view = View { chains: ["INPUT", "FORWARD", "OUTPUT"].map(str::to_owned).to_vec(), ..View::default() };
        let mut position = (String::new(), 0);
        for line in save.lines() {
            if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
                view.chains.push(chain.to_owned());
                if is_ours(chain) {
                    view.ours.push(chain.to_owned());
                }
            }
            let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) else { continue };
            if position.0 != chain {
                position = (chain.to_owned(), 0);
            }
            position.1 += 1;
            if is_ours(chain) {
                view.ours.push(line.to_owned());
            } else if let Some(target) = jump_target(rule).filter(|target| is_ours(target)) {
                view.references.push(line.to_owned());
                if rule == format!("-j {target}") {
                    view.jumps.push((chain.to_owned(), position.1, target.to_owned()));
                }
            }
        }
        view
    }

    /// The jumps that should be there: from which chain to which, at its first position.
    fn wanted_jumps(&self, view: &View, scopes: &[Scope]) -> Vec<(String, usize, String)> {
        let mut wanted = Vec::new();
        for hook in self.hooks.iter().filter(|hook| view.chains.contains(hook)) {
            wanted.push((hook.clone(), 1, self.chain.clone()));
        }
        if self.has_egress(scopes) {
            wanted.push(("OUTPUT".to_owned(), 1, self.egress_chain()));
        }
        wanted
    }

    /// Says what is wrong with our rules, if anything: `good` is what our chains were right after they were made.
    pub(super) fn damage(&self, view: &View, good: &[String], scopes: &[Scope]) -> Option<String> {
        if view.ours != good {
            let how = if view.ours.is_empty() { "was removed" } else { "was changed" };
            return Some(format!("the chain {} {how}", self.chain));
        }
        let wanted = self.wanted_jumps(view, scopes);
        if let Some((hook, _, chain)) = wanted.iter().find(|jump| !view.jumps.contains(jump)) {
            return Some(format!("the first rule of {hook} was not the jump to {chain}"));
        }
        let extra = view.jumps.iter().find(|jump| !wanted.contains(jump));
        extra.map(|(hook, position, chain)| format!("rule {position} of {hook} was another jump to {chain}"))
    }

    /// The input of `iptables-restore --noflush` that makes our rules right, in one step.
    pub(super) fn script(&self, view: &View, family: Family, scopes: &[Scope]) -> String {
        let mut rules = String::new();
        self.our_rules(&mut rules, family, scopes);
        self.script_of(view, scopes, &[], &rules)
    }

    /// The same with these rules in our chains, and with these chains below them; others below them are taken out.
    pub(super) fn script_of(&self, view: &View, scopes: &[Scope], below: &[String], rules: &str) -> String {
        let mut script = format!("*filter\n:{} - [0:0]\n", self.chain);
        let out = self.egress_chain();
        let stale: Vec<&String> = self.below(view).filter(|chain| !below.contains(chain)).collect();
        for chain in below.iter().chain(stale.iter().copied()) {
            let _ = writeln!(script, ":{chain} - [0:0]");
        }
        let egress = self.has_egress(scopes);
        if egress || view.chains.contains(&out) {
            let _ = writeln!(script, ":{out} - [0:0]");
        }
        script.push_str(rules);
        let wanted = self.wanted_jumps(view, scopes);
        for (hook, position, chain) in &view.jumps {
            let alone = view.jumps.iter().filter(|(other, _, target)| other == hook && target == chain).count() == 1;
            if !alone || !wanted.contains(&(hook.clone(), *position, chain.clone())) {
                let _ = writeln!(script, "-D {hook} -j {chain}");
            }
        }
        for jump in &wanted {
            let alone = view.jumps.iter().filter(|(hook, _, chain)| *hook == jump.0 && *chain == jump.2).count() == 1;
            if !alone || !view.jumps.contains(jump) {
                let _ = writeln!(script, "-I {} 1 -j {}", jump.0, jump.2);
            }
        }
        for chain in stale.into_iter().chain((!egress && view.chains.contains(&out)).then_some(&out)) {
            let _ = writeln!(script, "-X {chain}");
        }
        script.push_str("COMMIT\n");
        script
    }

    /// How many lines our chains have when the script was done.
    pub(super) fn size(&self, family: Family, scopes: &[Scope]) -> usize {
        let mut rules = String::new();
        self.our_rules(&mut rules, family, scopes);
        rules.lines().count() + if self.has_egress(scopes) { 2 } else { 1 }
    }

    /// The input of `iptables-restore --noflush` that takes everything of ours out; `None` when there is nothing.
    pub(super) fn removal(&self, view: &View) -> Option<String> {
        let ours = [self.chain.clone(), self.egress_chain()];
        let there: Vec<_> = ours.iter().filter(|chain| view.chains.contains(chain)).chain(self.below(view)).collect();
        if there.is_empty() {
            return None;
        }
        let mut script = "*filter\n".to_owned();
        for reference in &view.references {
            let _ = writeln!(script, "-D{}", reference.strip_prefix("-A").unwrap_or_default());
        }
        for command in ["-F", "-X"] {
            for chain in &there {
                let _ = writeln!(script, "{command} {chain}");
            }
        }
        script.push_str("COMMIT\n");
        Some(script)
    }

    fn our_rules(&self, script: &mut String, family: Family, scopes: &[Scope]) {
        self.answers(script, family, scopes);
        for scope in scopes {
            self.rules_of(script, family, scope);
        }
    }

    /// The rules that let out what our targets answer.
    pub(super) fn answers(&self, script: &mut String, family: Family, scopes: &[Scope]) {
        if self.has_egress(scopes) {
            for answer in self.usual.answering(scopes).into_iter().flat_map(|target| answers(target, family)) {
                let _ = writeln!(script, "-A {} {answer} -j RETURN", self.egress_chain());
            }
        }
    }

    /// Whether this is the name of a chain below ours, such as the plain rules have: `CHAIN-00s`, `CHAIN-00s00c0`.
    pub(super) fn is_below(&self, chain: &str) -> bool {
        let rest = chain.strip_prefix(&self.chain).and_then(|rest| rest.strip_prefix('-'));
        let Some((number, rest)) = rest.and_then(|rest| rest.split_at_checked(2)) else { return false };
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let Some(part) = rest.strip_prefix(['s', 'd', 'v']) else { return false };
        is_hex(number) && is_hex(part) && matches!(part.len(), 0 | 4)
    }

    /// The chains below ours that are there.
    pub(super) fn below<'a>(&'a self, view: &'a View) -> impl Iterator<Item = &'a String> {
        view.chains.iter().filter(|chain| self.is_below(chain))
    }

    fn rules_of(&self, script: &mut String, family: Family, scope: &Scope) {
        self.direction(script, family, scope, &self.chain, Side::From);
        if self.usual.stops_answers(scope) {
            // A banned address is reached through FORWARD as well; INPUT's packets are for an address of our own.
            if self.forwards() {
                self.direction(script, family, scope, &self.chain, Side::To);
            }
            self.direction(script, family, scope, &self.egress_chain(), Side::To);
        }
    }

    /// The rules that match one side of a packet.
    fn direction(&self, script: &mut String, family: Family, scope: &Scope, chain: &str, side: Side) {
        let set = self.set(family, scope);
        let comment = comment(scope);
        for (protocol, condition) in self.conditions(scope, side) {
            for (extra, verdict) in verdicts(self.usual.target(scope), family, protocol) {
                let matched = match scope.limit {
                    Some(limit) => above(limit, family, &set),
                    None => format!("-m set --match-set {set} {}", side.matched()),
                };
                let _ = writeln!(script, "-A {chain} {condition}{extra}{matched}{comment} -j {verdict}");
            }
        }
    }

    /// The scopes that our rules match, read back from saved rules.
    pub(super) fn scopes(&self, view: &View, family: Family) -> Vec<Scope> {
        let mut found: Vec<(String, Vec<Port>, String)> = Vec::new();
        for line in &view.ours {
            let words: Vec<&str> = line.split(' ').collect();
            if words.contains(&"--ctorigdstport") {
                continue;
            }
            let after = |word: &str| words.iter().position(|w| *w == word).and_then(|at| words.get(at + 1).copied());
            let (Some(set), true) = (after("--match-set"), words.contains(&"src")) else { continue };
            let protocol = if after("-p") == Some("udp") { Protocol::Udp } else { Protocol::Tcp };
            let numbers = after("--dports").unwrap_or_default().split(',').filter_map(|number| number.parse().ok());
            let ports = numbers.map(|number| Port { protocol, number });
            if let Some((_, list, _)) = found.iter_mut().find(|(name, ..)| name == set) {
                list.extend(ports);
            } else {
                let comment = after("--comment").map_or_else(String::new, |text| text.replace('"', ""));
                found.push((set.to_owned(), ports.collect(), comment));
            }
        }
        let scopes = found.into_iter().filter_map(|(set, ports, comment)| Some((set, scope::of(ports, &comment)?)));
        scopes.filter(|(set, scope)| *set == self.set(family, scope)).map(|(_, scope)| scope).collect()
    }
}

/// Which side of a packet a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    From,
    To,
}

impl Side {
    /// As a target, an address of this machine is never matched: should a ban cover one, it must not cut off everybody
    /// who talks to us.
    fn matched(self) -> &'static str {
        match self {
            Side::From => "src",
            Side::To => "dst -m addrtype ! --dst-type LOCAL",
        }
    }

    fn interface(self, scope: &Scope) -> String {
        let way = if self == Side::From { "-i" } else { "-o" };
        scope.interface.as_ref().map_or_else(String::new, |interface| {
            let (name, is_beginning) = interface.parts();
            format!("{way} {name}{} ", if is_beginning { "+" } else { "" })
        })
    }

    /// What `multiport` takes at once, as its options.
    fn ports(self, numbers: &[u16]) -> impl Iterator<Item = String> {
        let option = if self == Side::From { "--dports" } else { "--sports" };
        numbers.chunks(PORTS_PER_RULE).map(move |chunk| {
            let numbers: Vec<String> = chunk.iter().map(ToString::to_string).collect();
            format!("{option} {} ", numbers.join(","))
        })
    }

    /// Banned sources begin connections; packets to them answer.
    fn in_tracking(self) -> &'static str {
        match self {
            Side::From => "ORIGINAL",
            Side::To => "REPLY",
        }
    }
}

/// What tells, in a saved rule, what its scope says beside ports.
fn comment(scope: &Scope) -> String {
    let rest = scope::rest_of_name(scope);
    rest.strip_prefix('_').map_or_else(String::new, |rest| format!(" -m comment --comment {rest}"))
}

/// Sources that are limited at a time, in each family; the packets of more are dropped.
const MOST_LIMITED: u32 = 65_536;

/// Packets of the set's sources above a rate that each of them has for itself, an IPv6 source being a /64. Entries of the
/// set count only what is above it.
fn above(limit: Limit, family: Family, set: &str) -> String {
    format!(
        "-m set ! --update-counters --match-set {set} src {} -m set --match-set {set} src",
        hashlimit(limit, family, set)
    )
}

/// Packets above a rate that each source has for itself.
pub(super) fn hashlimit(limit: Limit, family: Family, name: &str) -> String {
    let bits = if family == Family::V4 { 32 } else { 64 };
    // A source that is forgotten begins with its whole burst: it must have had the time to earn it.
    let expire = limit.refill().as_millis().max(1000);
    let (rate, burst) = (limit.rate(), limit.burst);
    format!(
        "-m hashlimit --hashlimit-above {rate} --hashlimit-burst {burst} --hashlimit-mode srcip \
         --hashlimit-srcmask {bits} --hashlimit-name {name} --hashlimit-htable-size 1024 \
         --hashlimit-htable-max {MOST_LIMITED} --hashlimit-htable-expire {expire}"
    )
}

/// What to do with packets of a protocol (of all for `None`): further condition, and target.
pub(super) fn verdicts(
    target: Target,
    family: Family,
    protocol: Option<Protocol>,
) -> Vec<(&'static str, &'static str)> {
    let (unreachable, prohibited) = match family {
        Family::V4 => ("REJECT --reject-with icmp-port-unreachable", "REJECT --reject-with icmp-admin-prohibited"),
        Family::V6 => ("REJECT --reject-with icmp6-port-unreachable", "REJECT --reject-with icmp6-adm-prohibited"),
    };
    let reset = "REJECT --reject-with tcp-reset";
    match (target, protocol) {
        (Target::Drop, _) => vec![("", "DROP")],
        (Target::Prohibit, _) => vec![("", prohibited)],
        (Target::Reject, Some(Protocol::Tcp)) => vec![("", reset)],
        (Target::Reject, Some(Protocol::Udp)) => vec![("", unreachable)],
        (Target::Reject, None) => vec![("-p tcp ", reset), ("", unreachable)],
    }
}

/// What a target sends passes OUTPUT like any packet to a banned address, and must get out.
fn answers(target: Target, family: Family) -> Vec<&'static str> {
    match (target, family) {
        (Target::Drop, _) => Vec::new(),
        (Target::Reject, Family::V4) => {
            vec!["-p tcp -m tcp --tcp-flags RST RST", "-p icmp -m icmp --icmp-type port-unreachable"]
        }
        (Target::Reject, Family::V6) => {
            vec!["-p tcp -m tcp --tcp-flags RST RST", "-p ipv6-icmp -m icmp6 --icmpv6-type port-unreachable"]
        }
        (Target::Prohibit, Family::V4) => vec!["-p icmp -m icmp --icmp-type communication-prohibited"],
        (Target::Prohibit, Family::V6) => vec!["-p ipv6-icmp -m icmp6 --icmpv6-type communication-prohibited"],
    }
}

const PROTOCOLS: [(Protocol, &str); 2] = [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")];

/// By the ports that packets have: one condition without a port, or several of at most 15.
fn conditions(scope: &Scope, side: Side) -> Vec<(Option<Protocol>, String)> {
    let interface = side.interface(scope);
    if scope.ports.is_empty() {
        return vec![(None, interface)];
    }
    let mut conditions = Vec::new();
    for (protocol, name) in PROTOCOLS {
        for ports in side.ports(&scope::ports_of(scope, protocol)) {
            conditions.push((Some(protocol), format!("{interface}-p {name} -m multiport {ports}")));
        }
    }
    conditions
}

/// By the port that the first packet of a connection was sent to, where it has another one now. What goes by the port that
/// it has is left out: a limit is not to count it twice.
fn translated(scope: &Scope, side: Side) -> Vec<(Option<Protocol>, String)> {
    let interface = side.interface(scope);
    let mut conditions = Vec::new();
    for (protocol, name) in PROTOCOLS {
        let numbers = scope::ports_of(scope, protocol);
        let others: Vec<String> = side.ports(&numbers).map(|ports| format!("-m multiport ! {ports}")).collect();
        let others = others.concat();
        for number in numbers {
            let sent = format!("--ctstate DNAT --ctdir {} --ctorigdstport {number}", side.in_tracking());
            conditions.push((Some(protocol), format!("{interface}-p {name} -m conntrack {sent} {others}")));
        }
    }
    conditions
}

/// Where a saved rule leads.
fn jump_target(rule: &str) -> Option<&str> {
    let mut words = rule.split(' ');
    words.find(|word| *word == "-j" || *word == "-g")?;
    words.next()
}

/// Whether a saved table holds anything that somebody made.
pub(super) fn holds_rules(save: &str) -> bool {
    save.lines().any(|line| {
        let mut words = line.split(' ');
        let chain = words.next().is_some_and(|word| word.starts_with(':'));
        line.starts_with("-A ") || (chain && words.next() != Some("ACCEPT"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::{Chain, Choice, OnStop};

    fn plan() -> Plan {
        Plan::new(&Settings {
            backend: Choice::Iptables,
            chain: Chain::default(),
            hooks: vec!["INPUT".to_owned(), "DOCKER-USER".to_owned()],
            egress: true,
            target: Target::Drop,
            conntrack: true,
            on_stop: OnStop::Keep,
            ceiling: crate::firewall::CEILING,
        })
    }

    #[test]
    fn a_jump_is_moved_to_the_first_position_and_foreign_rules_are_not_named() {
        let save = ":INPUT ACCEPT [0:0]\n:BANWARD - [0:0]\n-A INPUT -p icmp -j LOG\n-A INPUT -j BANWARD\n-A INPUT -j BANWARD\n";
        let view = plan().view(save);
        let script = plan().script(&view, Family::V4, &[Scope::default()]);
        assert_eq!(script.matches("-D INPUT -j BANWARD\n").count(), 2);
        assert_eq!(script.matches("-I INPUT 1 -j BANWARD\n").count(), 1);
        assert!(!script.contains("icmp") && !script.contains("DOCKER-USER"), "{script}");
    }

    #[test]
    fn more_than_fifteen_ports_take_several_rules() {
        let many = Scope::of_ports((1..=31).map(|number| Port { protocol: Protocol::Tcp, number }).collect());
        let rules = conditions(&many, Side::From);
        assert_eq!(rules.len(), 3);
        assert!(rules.iter().all(|(_, rule)| rule.matches(',').count() < PORTS_PER_RULE));
    }

    #[test]
    fn only_sets_of_exactly_our_form_are_ours() {
        let plan = plan();
        for name in ["BANWARD-4-all", "BANWARD~6-all", "BANWARD-6-0a1b2c3d"] {
            assert!(plan.owns_set(name), "{name}");
        }
        for name in ["BANWARD-4-4-all", "BANWARD", "BANWARD-4-allow", "BANWARDS-4-all", "BANWARD-4-0a1b2c3dx"] {
            assert!(!plan.owns_set(name), "{name}");
        }
    }

    #[test]
    fn the_longest_chain_gives_names_that_fit() {
        let chain: Chain = "A23456789012345678_-".parse().unwrap();
        let plan = Plan::new(&Settings { chain, ..settings() });
        let scope = Scope::of_ports(vec![Port { protocol: Protocol::Tcp, number: 80 }]);
        assert!(plan.set(Family::V6, &scope).len() <= 31 && plan.draft(Family::V6, &scope).len() <= 31);
        assert!(plan.egress_chain().len() <= 28);
    }

    fn settings() -> Settings {
        Settings {
            backend: Choice::Iptables,
            chain: Chain::default(),
            hooks: Vec::new(),
            egress: false,
            target: Target::Drop,
            conntrack: true,
            on_stop: OnStop::Keep,
            ceiling: crate::firewall::CEILING,
        }
    }
}
