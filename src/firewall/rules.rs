//! The text of our rules in iptables, and what of them stands in the output of `iptables-save`. Pure: text in, text out.
//!
//! Ours are two chains, `CHAIN` and for egress `CHAIN-OUT`, and the jumps to them. Nothing else is ever named in a
//! script, so that foreign rules cannot be touched.

mod phrases;

use std::fmt::Write as _;

pub(super) use self::phrases::{Side, hashlimit, verdicts};
use self::phrases::{above, answers, comment, conditions, translated};
use super::ipset::Family;
use super::translation::Translation;
use super::{FirewallError, Settings, Usual, scope};
use crate::ledger::{Port, Protocol, Scope};

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

    /// Fails where packets of banned sources would meet our rules in none of these tables.
    pub(super) fn must_be_met<'a>(&self, mut views: impl Iterator<Item = &'a View>) -> Result<(), FirewallError> {
        let is_met = |view: &View| self.hooks.iter().any(|hook| view.chains.contains(hook));
        views.any(is_met).then_some(()).ok_or_else(|| FirewallError::NoHook { hooks: self.hooks.join(", ") })
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
    use super::phrases::PORTS_PER_RULE;
    use super::*;
    use crate::firewall::Target;
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
