//! The text of our rules in iptables, and what of them stands in the output of `iptables-save`. Pure: text in, text out.
//!
//! Ours are two chains, `CHAIN` and for egress `CHAIN-OUT`, and the jumps to them. Nothing else is ever named in a
//! script, so that foreign rules cannot be touched.

use std::fmt::Write as _;

use super::ipset::Family;
use super::{Settings, Target, scope};
use crate::ledger::{Protocol, Scope};

/// `multiport` takes so many ports in one rule.
const PORTS_PER_RULE: usize = 15;

/// What makes our rules, apart from the scopes.
#[derive(Debug)]
pub(super) struct Plan {
    chain: String,
    hooks: Vec<String>,
    egress: bool,
    target: Target,
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
        Plan { chain, hooks, egress: settings.egress, target: settings.target }
    }

    pub(super) fn chain(&self) -> &str {
        &self.chain
    }

    fn egress_chain(&self) -> String {
        format!("{}-OUT", self.chain)
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
    fn wanted_jumps(&self, view: &View) -> Vec<(String, usize, String)> {
        let mut wanted = Vec::new();
        for hook in self.hooks.iter().filter(|hook| view.chains.contains(hook)) {
            wanted.push((hook.clone(), 1, self.chain.clone()));
        }
        if self.egress {
            wanted.push(("OUTPUT".to_owned(), 1, self.egress_chain()));
        }
        wanted
    }

    /// Says what is wrong with our rules, if anything: `good` is what our chains were right after they were made.
    pub(super) fn damage(&self, view: &View, good: &[String]) -> Option<String> {
        if view.ours != good {
            let how = if view.ours.is_empty() { "was removed" } else { "was changed" };
            return Some(format!("the chain {} {how}", self.chain));
        }
        let wanted = self.wanted_jumps(view);
        if let Some((hook, _, chain)) = wanted.iter().find(|jump| !view.jumps.contains(jump)) {
            return Some(format!("the first rule of {hook} was not the jump to {chain}"));
        }
        let extra = view.jumps.iter().find(|jump| !wanted.contains(jump));
        extra.map(|(hook, position, chain)| format!("rule {position} of {hook} was another jump to {chain}"))
    }

    /// The input of `iptables-restore --noflush` that makes our rules right, in one step.
    pub(super) fn script(&self, view: &View, family: Family, scopes: &[Scope]) -> String {
        let mut script = format!("*filter\n:{} - [0:0]\n", self.chain);
        let out = self.egress_chain();
        if self.egress || view.chains.contains(&out) {
            let _ = writeln!(script, ":{out} - [0:0]");
        }
        self.our_rules(&mut script, family, scopes);
        let wanted = self.wanted_jumps(view);
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
        if !self.egress && view.chains.contains(&out) {
            let _ = writeln!(script, "-X {out}");
        }
        script.push_str("COMMIT\n");
        script
    }

    /// How many lines our chains have when the script was done.
    pub(super) fn size(&self, family: Family, scopes: &[Scope]) -> usize {
        let mut rules = String::new();
        self.our_rules(&mut rules, family, scopes);
        rules.lines().count() + if self.egress { 2 } else { 1 }
    }

    /// The input of `iptables-restore --noflush` that takes everything of ours out; `None` when there is nothing.
    pub(super) fn removal(&self, view: &View) -> Option<String> {
        let ours = [self.chain.clone(), self.egress_chain()];
        let there: Vec<_> = ours.iter().filter(|chain| view.chains.contains(chain)).collect();
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
        self.answers(script, family);
        for scope in scopes {
            self.rules_of(script, family, scope);
        }
    }

    /// What REJECT sends passes OUTPUT like any packet to a banned address, and must get out.
    fn answers(&self, script: &mut String, family: Family) {
        if !self.egress || self.target == Target::Drop {
            return;
        }
        let unreachable = match family {
            Family::V4 => "-p icmp -m icmp --icmp-type port-unreachable",
            Family::V6 => "-p ipv6-icmp -m icmp6 --icmpv6-type port-unreachable",
        };
        for answer in ["-p tcp -m tcp --tcp-flags RST RST", unreachable] {
            let _ = writeln!(script, "-A {} {answer} -j RETURN", self.egress_chain());
        }
    }

    fn rules_of(&self, script: &mut String, family: Family, scope: &Scope) {
        let set = self.set(family, scope);
        self.direction(script, family, scope, &self.chain, (&set, "src", "--dports"));
        if self.egress {
            // A banned address is reached through FORWARD as well; INPUT's packets are for an address of our own.
            if self.hooks.iter().any(|hook| hook != "INPUT") {
                self.direction(script, family, scope, &self.chain, (&set, "dst", "--sports"));
            }
            self.direction(script, family, scope, &self.egress_chain(), (&set, "dst", "--sports"));
        }
    }

    /// The rules that match one side of a packet. As a target, an address of this machine is never matched: should
    /// a ban cover one, it must not cut off everybody who talks to us.
    fn direction(
        &self,
        script: &mut String,
        family: Family,
        scope: &Scope,
        chain: &str,
        (set, side, ports): (&str, &str, &str),
    ) {
        let local = if side == "dst" { " -m addrtype ! --dst-type LOCAL" } else { "" };
        for (protocol, condition) in conditions(scope, ports) {
            let matched = format!("-m set --match-set {set} {side}{local}");
            for (extra, verdict) in self.verdicts(family, protocol) {
                let _ = writeln!(script, "-A {chain} {condition}{extra}{matched} -j {verdict}");
            }
        }
    }

    /// What to do with packets of a protocol (of all for `None`): further condition, and target.
    fn verdicts(&self, family: Family, protocol: Option<Protocol>) -> Vec<(&'static str, &'static str)> {
        let unreachable = match family {
            Family::V4 => "REJECT --reject-with icmp-port-unreachable",
            Family::V6 => "REJECT --reject-with icmp6-port-unreachable",
        };
        let reset = "REJECT --reject-with tcp-reset";
        match (self.target, protocol) {
            (Target::Drop, _) => vec![("", "DROP")],
            (Target::Reject, Some(Protocol::Tcp)) => vec![("", reset)],
            (Target::Reject, Some(Protocol::Udp)) => vec![("", unreachable)],
            (Target::Reject, None) => vec![("-p tcp ", reset), ("", unreachable)],
        }
    }

    /// The scopes that our rules match, and the names of their sets, read back from saved rules.
    pub(super) fn scopes(&self, view: &View, family: Family) -> Vec<Scope> {
        let mut found: Vec<(String, Vec<crate::ledger::Port>)> = Vec::new();
        for line in &view.ours {
            let words: Vec<&str> = line.split(' ').collect();
            let after = |word: &str| words.iter().position(|w| *w == word).and_then(|at| words.get(at + 1).copied());
            let (Some(set), true) = (after("--match-set"), words.contains(&"src")) else { continue };
            let protocol = if after("-p") == Some("udp") { Protocol::Udp } else { Protocol::Tcp };
            let numbers = after("--dports").unwrap_or_default().split(',').filter_map(|number| number.parse().ok());
            let ports = numbers.map(|number| crate::ledger::Port { protocol, number });
            match found.iter_mut().find(|(name, _)| name == set) {
                Some((_, list)) => list.extend(ports),
                None => found.push((set.to_owned(), ports.collect())),
            }
        }
        let scopes = found.into_iter().map(|(set, ports)| (set, scope::of(ports)));
        scopes.filter(|(set, scope)| *set == self.set(family, scope)).map(|(_, scope)| scope).collect()
    }
}

/// The conditions that cover a scope, each with its protocol: one without a port, or several of at most 15.
fn conditions(scope: &Scope, option: &str) -> Vec<(Option<Protocol>, String)> {
    if scope.0.is_empty() {
        return vec![(None, String::new())];
    }
    let mut conditions = Vec::new();
    for (protocol, name) in [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")] {
        for chunk in scope::ports_of(scope, protocol).chunks(PORTS_PER_RULE) {
            let numbers: Vec<String> = chunk.iter().map(ToString::to_string).collect();
            conditions.push((Some(protocol), format!("-p {name} -m multiport {option} {} ", numbers.join(","))));
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
    use crate::ledger::Port;

    fn plan() -> Plan {
        Plan::new(&Settings {
            backend: Choice::Iptables,
            chain: Chain::default(),
            hooks: vec!["INPUT".to_owned(), "DOCKER-USER".to_owned()],
            egress: true,
            target: Target::Drop,
            conntrack: true,
            on_stop: OnStop::Keep,
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
        let many = scope::of((1..=31).map(|number| Port { protocol: Protocol::Tcp, number }).collect());
        let rules = conditions(&many, "--dports");
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
        let scope = scope::of(vec![Port { protocol: Protocol::Tcp, number: 80 }]);
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
        }
    }
}
