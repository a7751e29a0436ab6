//! What the tools say about the rules of this machine, as chains of rules. Pure: text in, chains out.

/// Who listed the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// iptables over `nf_tables`, or the only iptables there is.
    Iptables,
    Legacy,
    Nft,
}

/// A chain, in the order of its rules.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) origin: Origin,
    pub(super) ipv6: bool,
    /// `filter`; with nft `inet banward`.
    pub(super) table: String,
    pub(super) name: String,
    /// Without `-A NAME`; with nft also the line that says `type filter hook input …`.
    pub(super) rules: Vec<String>,
}

/// Reads the output of `iptables-save`.
pub(super) fn saved(text: &str, origin: Origin, ipv6: bool) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if let Some(name) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
            chains.push(Chain { origin, ipv6, table: table.clone(), name: name.to_owned(), rules: Vec::new() });
        } else if let Some((name, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) {
            let chain = chains.iter_mut().rev().find(|chain| chain.table == table && chain.name == name);
            if let Some(chain) = chain {
                chain.rules.push(rule.to_owned());
            }
        }
    }
    chains
}

/// Reads the output of `nft -t list ruleset`. A flowtable counts as a chain of its table.
pub(super) fn listed(text: &str) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    let mut table = String::new();
    let mut open: Vec<bool> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line == "}" {
            open.pop();
            continue;
        }
        if let Some(head) = line.strip_suffix('{').map(str::trim_end) {
            let is_chain = head.starts_with("chain ") || head.starts_with("flowtable ");
            if let Some(name) = head.strip_prefix("table ") {
                name.clone_into(&mut table);
            } else if is_chain && open.len() == 1 {
                let name = head.strip_prefix("chain ").unwrap_or(head).to_owned();
                let chain = Chain { origin: Origin::Nft, ipv6: false, table: table.clone(), name, rules: Vec::new() };
                chains.push(chain);
            }
            open.push(is_chain);
        } else if open.last() == Some(&true)
            && let Some(chain) = chains.last_mut()
        {
            chain.rules.push(line.to_owned());
        }
    }
    chains
}

/// The prefix that a rule writes to the kernel's log, without the blanks and colons at its end.
pub(super) fn log_prefix(rule: &str) -> Option<&str> {
    let is_log = rule.contains("-j LOG") || (rule.contains("log prefix") && !rule.contains(" group "));
    let rest = rule.split_once("--log-prefix ").or_else(|| rule.split_once("log prefix ")).filter(|_| is_log)?.1;
    let prefix = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split(' ').next(),
    };
    prefix.map(|prefix| prefix.trim_end_matches([' ', ':']))
}

/// Whether a rule of iptables ends the way of packets that belong to a connection.
pub(super) fn accepts_established(rule: &str) -> bool {
    let state = |word: &str| rule.split_once(word).and_then(|(_, rest)| rest.split(' ').next());
    let states = state("--ctstate ").or_else(|| state("--state "));
    rule.ends_with("-j ACCEPT") && states.is_some_and(|states| states.split(',').any(|state| state == "ESTABLISHED"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_rules_are_read_chain_by_chain() {
        let text = "*nat\n:INPUT ACCEPT [0:0]\n*filter\n:INPUT DROP [0:0]\n:f2b-sshd - [0:0]\n-A INPUT -j BANWARD\n\
                    -A INPUT -p icmp -j LOG --log-prefix \"PING-DROP: \"\nCOMMIT\n";
        let chains = saved(text, Origin::Legacy, true);
        assert_eq!(chains.len(), 3);
        assert_eq!((chains[1].table.as_str(), chains[1].rules.len(), chains[0].rules.len()), ("filter", 2, 0));
        assert_eq!(log_prefix(&chains[1].rules[1]), Some("PING-DROP"));
    }

    #[test]
    fn listed_chains_are_read_whatever_stands_around_them() {
        let text = "table inet t {\n\tset s {\n\t\ttype ipv4_addr\n\t\telements = { 192.0.2.1,\n\t\t\t     192.0.2.2 }\n\t}\n\
                    \tflowtable f {\n\t\thook ingress priority 0\n\t}\n\tchain input {\n\
                    \t\ttype filter hook input priority -10; policy accept;\n\t\ttcp dport { 22, 80 } jump sources\n\
                    \t\tlog prefix \"A B: \" group 3\n\t\tlimit rate 1/second log prefix \"syn_flood:\"\n\t}\n}\n\
                    table ip u {\n\tchain x {\n\t}\n}\n";
        let chains = listed(text);
        let names: Vec<_> = chains.iter().map(|chain| (chain.table.as_str(), chain.name.as_str())).collect();
        assert_eq!(names, [("inet t", "flowtable f"), ("inet t", "input"), ("ip u", "x")]);
        assert_eq!(chains[1].rules.len(), 4);
        assert_eq!(chains[1].rules.iter().filter_map(|rule| log_prefix(rule)).collect::<Vec<_>>(), ["syn_flood"]);
    }

    #[test]
    fn only_a_rule_that_lets_connections_go_on_accepts_them() {
        assert!(accepts_established("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"));
        assert!(accepts_established("-m state --state ESTABLISHED -j ACCEPT"));
        assert!(!accepts_established("-m conntrack --ctstate NEW -j ACCEPT"));
        assert!(!accepts_established("-m conntrack --ctstate ESTABLISHED -j DROP"));
    }
}
