//! Mistakes of the order, and of what is missing.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::line::is_address;
use super::read::{Command, Source};

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let rules: Vec<&Command> = source.commands.iter().filter(|command| !command.ipv6).collect();
    let mut findings = Vec::new();
    findings.extend(behind(&rules));
    findings.extend(no_log(&rules));
    findings.extend(missing(&rules));
    if !source.is_save {
        findings.extend(lockout(&rules));
        findings.extend(repeated(&rules));
        findings.extend(one_family(source));
    }
    findings
}

fn is_final(command: &Command) -> bool {
    matches!(command.target(), Some("DROP" | "REJECT" | "ACCEPT"))
}

fn accepts_established(command: &Command) -> bool {
    command.target() == Some("ACCEPT") && command.states().contains(&"ESTABLISHED")
}

/// Every established packet of its chain, whatever port and address.
fn accepts_all_established(command: &Command) -> bool {
    let narrow = ["-s", "-d", "--source", "--destination", "--dport", "--sport", "-p", "--protocol", "--dports"];
    accepts_established(command) && !command.has(&narrow)
}

/// Rules that come too late.
fn behind(rules: &[&Command]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut closed: BTreeMap<(String, String), &Command> = BTreeMap::new();
    let mut open: BTreeSet<(String, String)> = BTreeSet::new();
    for rule in rules {
        if rule.has(&["-F", "--flush"]) {
            closed.clear();
            open.clear();
        }
        let Some((chain, at_head)) = rule.adds_to() else { continue };
        let key = (rule.table().to_owned(), chain.to_owned());
        if at_head {
            continue;
        }
        if let Some(earlier) = closed.get(&key) {
            let target = earlier.target().unwrap_or_default();
            let message =
                format!("an earlier rule of {chain} without a condition ends in {target}: this one is never reached");
            findings.push(Finding::error("unreachable", rule.span(), message, "put it before that rule"));
        } else if is_final(rule) && rule.is_unconditional() {
            closed.insert(key.clone(), rule);
        }
        let source = rule.value(&["-s", "--source", "--src-range"]);
        let blocks = matches!(rule.target(), Some("DROP" | "REJECT"))
            && source.is_some_and(|word| is_address(&word.text) || word.text.starts_with('$'))
            && !rule.has(&["--dport", "--dports", "--destination-port"]);
        if blocks && open.contains(&key) {
            let message = "this stands behind a rule that accepts ESTABLISHED: whoever is connected stays connected";
            let remedy = format!("put it at the head with '-I {chain}', or use 'banctl ban'");
            findings.push(Finding::warning("behind-established", rule.span(), message, remedy));
        }
        if accepts_all_established(rule) {
            open.insert(key);
        }
    }
    findings
}

/// A chain that lets pass up to a limit and drops the rest, and says nothing.
fn no_log(rules: &[&Command]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let own: BTreeSet<&str> =
        rules.iter().filter_map(|rule| Some(rule.value(&["-N", "--new-chain"])?.text.as_str())).collect();
    for chain in own {
        let of: Vec<&&Command> =
            rules.iter().filter(|rule| rule.adds_to().is_some_and(|(to, _)| to == chain)).collect();
        let limits = of.iter().any(|rule| rule.has(&["limit", "hashlimit"]) && rule.target() == Some("RETURN"));
        let logs = of.iter().any(|rule| matches!(rule.target(), Some("LOG" | "NFLOG" | "ULOG")));
        let drop = of.iter().find(|rule| rule.target() == Some("DROP"));
        if let (true, false, Some(drop)) = (limits, logs, drop) {
            let message = format!("{chain} drops without a word: no log tells who floods, and nothing can ban by it");
            let remedy = format!("before it: '-A {chain} -j LOG --log-prefix \"{chain}: \"' with a hashlimit");
            findings.push(Finding::warning("no-log", drop.span(), message, remedy));
        }
    }
    findings
}

/// The last policy of a chain, with its command.
fn policy<'a>(rules: &[&'a Command], chain: &str) -> Option<(&'a Command, String)> {
    let of = rules.iter().filter(|rule| rule.table() == "filter");
    let mut found = None;
    for rule in of {
        let at = rule.words.iter().position(|word| matches!(word.text.as_str(), "-P" | "--policy"));
        let Some(at) = at else { continue };
        if let [name, value, ..] = &rule.words[at + 1..]
            && name.text.eq_ignore_ascii_case(chain)
        {
            found = Some((*rule, value.text.clone()));
        }
    }
    found
}

/// A chain and those that it leads to.
fn reached<'a>(rules: &[&'a Command], chain: &'a str) -> BTreeSet<&'a str> {
    let mut chains = BTreeSet::from([chain]);
    loop {
        let from = rules.iter().filter(|rule| rule.adds_to().is_some_and(|(to, _)| chains.contains(to)));
        let more: BTreeSet<&str> = from.filter_map(|rule| rule.target()).collect();
        let before = chains.len();
        chains.extend(more);
        if chains.len() == before {
            return chains;
        }
    }
}

/// What a chain that drops by default cannot do without.
fn missing(rules: &[&Command]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let accepts = |chain: &str, wanted: &dyn Fn(&Command) -> bool| {
        let chains = reached(rules, chain);
        let of = rules.iter().filter(|rule| rule.adds_to().is_some_and(|(to, _)| chains.contains(to)));
        let mut accepting = of.filter(|rule| rule.target() == Some("ACCEPT"));
        accepting.any(|rule| wanted(rule))
    };
    for chain in ["INPUT", "OUTPUT"] {
        let Some((command, _)) = policy(rules, chain).filter(|(_, value)| value.eq_ignore_ascii_case("DROP")) else {
            continue;
        };
        let interface = if chain == "INPUT" { "-i" } else { "-o" };
        if !accepts(chain, &|rule| rule.value(&[interface]).is_some_and(|word| word.text == "lo" || rule.has(&["!"]))) {
            let message = format!("{chain} drops what the machine sends to itself: local services fail in odd ways");
            let remedy = format!("add '-A {chain} {interface} lo -j ACCEPT'");
            findings.push(Finding::warning("no-loopback", command.span(), message, remedy));
        }
        let answers = accepts(chain, &|rule| accepts_established(rule) || rule.is_unconditional());
        let stateless =
            chain == "OUTPUT" && accepts(chain, &|rule| rule.has(&["--sport", "--source-port", "--sports"]));
        if !answers && !stateless {
            let message = match chain {
                "INPUT" => {
                    "INPUT drops the answers to what the machine itself asks: no name is resolved, no update comes"
                }
                _ => "OUTPUT drops the answers of the services that INPUT lets in",
            };
            let remedy = format!("add '-A {chain} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT'");
            findings.push(Finding::error("no-answers", command.span(), message, remedy));
        }
    }
    findings
}

fn lets_in_ssh(command: &Command, input: &BTreeSet<&str>) -> bool {
    let Some((chain, _)) = command.adds_to() else { return false };
    let port = command.value(&["--dport", "--dports", "--destination-port", "-dport"]);
    let ssh = port.is_some_and(|word| word.text.split(',').any(|port| port == "22" || port == "ssh"));
    let all = accepts_all_established(command) || command.is_unconditional();
    input.contains(chain) && command.target() == Some("ACCEPT") && (ssh || all)
}

/// A moment in which the one who runs the script over SSH is shut out: and then the rest never runs.
fn lockout(rules: &[&Command]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let drops =
        |command: &&&Command| policy(&[command], "INPUT").is_some_and(|(_, value)| value.eq_ignore_ascii_case("DROP"));
    let Some((at, drop)) = rules.iter().enumerate().find(|(_, command)| drops(command)) else { return findings };
    let input = reached(rules, "INPUT");
    let first_ssh = rules.iter().position(|command| lets_in_ssh(command, &input));
    if first_ssh.is_none_or(|ssh| ssh > at) {
        let message = match first_ssh {
            Some(_) => {
                "from here on everything is dropped until SSH is let in below: over SSH the script may stop here"
            }
            None => "everything is dropped and SSH is not let in: over SSH this locks you out",
        };
        let remedy = "let SSH in first and set the policy last; 'banctl rules apply' does both in one step and takes \
                      it back unless you confirm";
        findings.push(Finding::error("lockout", drop.span(), message, remedy));
    }
    let flush = rules.iter().position(|command| command.has(&["-F", "--flush"]) && command.table() == "filter");
    if let Some(flush) = flush {
        let opened = policy(&rules[..flush], "INPUT").is_some_and(|(_, value)| value.eq_ignore_ascii_case("ACCEPT"));
        if !opened {
            let message = "when the script runs a second time the policy is DROP already: this flush cuts off SSH";
            let remedy = "write '-P INPUT ACCEPT' before it, or change everything in one step with iptables-restore";
            findings.push(Finding::error("flush-then-drop", rules[flush].span(), message, remedy));
        }
    }
    findings
}

/// Rules that are added again with every run.
fn repeated(rules: &[&Command]) -> Vec<Finding> {
    let mut flushed: BTreeSet<(String, Option<String>)> = BTreeSet::new();
    let mut said: BTreeSet<(String, String)> = BTreeSet::new();
    let mut findings = Vec::new();
    for rule in rules {
        let table = rule.table().to_owned();
        if rule.has(&["-F", "--flush", "-C", "--check", "-D", "--delete"]) {
            let value = rule.value(&["-F", "--flush", "-C", "--check", "-D", "--delete"]);
            let chain = value.map(|word| word.text.clone()).filter(|text| !text.starts_with('-'));
            flushed.insert((table.clone(), chain));
        }
        let Some((chain, _)) = rule.adds_to() else { continue };
        let clean =
            flushed.contains(&(table.clone(), None)) || flushed.contains(&(table.clone(), Some(chain.to_owned())));
        if !clean && said.insert((table, chain.to_owned())) {
            let message = format!("every run adds the rules of {chain} once more: nothing takes the old ones out");
            let remedy = format!(
                "flush a chain of your own first ('-F {chain}'), ask '-C' before '-A', or use iptables-restore"
            );
            findings.push(Finding::warning("not-idempotent", rule.span(), message, remedy));
        }
    }
    findings
}

/// IPv6 is open.
fn one_family(source: &Source) -> Option<Finding> {
    let first = source.commands.iter().find(|command| command.adds_to().is_some() || command.has(&["-P"]))?;
    if source.commands.iter().any(|command| command.ipv6) {
        return None;
    }
    let message = "these rules are for IPv4 alone: over IPv6 everything is open";
    let remedy = "say the same with ip6tables (and let ICMPv6 in), or use '[host]', which makes both";
    Some(Finding::error("ipv4-only", first.span(), message, remedy))
}
