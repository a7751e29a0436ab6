//! What is done about an offender. In: `action` with everything it refers to, and `port`. Out: which firewall, and which
//! ports; what is no matter of a firewall is named.

use std::collections::BTreeSet;

use super::values::{Call, port, words};

/// Most ports that a jail of ours may name.
const MOST_PORTS: usize = crate::config::MAX_PORTS;

/// Beginnings of the names of actions that change a firewall other than iptables and nftables.
const OTHER_FIREWALLS: [&str; 11] =
    ["firewallcmd", "ufw", "shorewall", "ipfw", "bsd-ipfw", "pf", "ipfilter", "npf", "route", "hostsdeny", "osx-"];

/// The actions of a jail.
#[derive(Debug, Default)]
pub(super) struct Actions {
    /// `iptables`, `nftables`, or the name of an action of another firewall.
    pub(super) firewalls: BTreeSet<String>,
    pub(super) all_ports: bool,
    /// Chains that are named.
    pub(super) chains: BTreeSet<String>,
    pub(super) rejects: bool,
    /// The names of actions that tell somebody, or do what we do not know.
    pub(super) others: BTreeSet<String>,
}

pub(super) fn read(calls: &[Call]) -> Actions {
    let mut actions = Actions::default();
    for Call { name, options } in calls {
        let firewall = if name.starts_with("iptables") || name.starts_with("ip6tables") {
            "iptables"
        } else if name.starts_with("nftables") {
            "nftables"
        } else if OTHER_FIREWALLS.iter().any(|start| name.starts_with(start)) {
            name
        } else {
            actions.others.insert(name.clone());
            continue;
        };
        actions.firewalls.insert(firewall.to_owned());
        let kind = options.get("type").map_or("", String::as_str);
        actions.all_ports |= name.contains("allports") || kind == "allports";
        actions.chains.extend(options.get("chain").filter(|chain| !chain.is_empty() && !chain.contains('<')).cloned());
        actions.rejects |= options.get("blocktype").is_some_and(|kind| kind.to_uppercase().contains("REJECT"));
    }
    actions
}

/// Which ports a jail drops.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ports {
    All,
    Some(Vec<String>),
    /// More than a jail may name.
    TooMany,
    Unknown(String),
}

pub(super) fn ports(text: &str, protocol: &str, services: &str) -> Ports {
    let (mut named, mut count) = (Vec::new(), 0);
    let suffixes: Vec<String> = match protocol {
        "all" => vec![String::new()],
        _ => words(protocol).filter(|word| matches!(*word, "tcp" | "udp")).map(|word| format!("/{word}")).collect(),
    };
    let suffixes = if suffixes.is_empty() { vec!["/tcp".to_owned()] } else { suffixes };
    for word in words(text) {
        let (first, last) = word.split_once([':', '-']).unwrap_or((word, word));
        let range = port(first, services).zip(port(last, services));
        let single = port(word, services);
        let Some((first, last)) = single.map(|port| (port, port)).or(range) else {
            return Ports::Unknown(word.to_owned());
        };
        if word == "any" || word == "all" || (first <= 1 && last == u16::MAX) {
            return Ports::All;
        }
        count += usize::from(last.saturating_sub(first)) + 1;
        for suffix in &suffixes {
            let range = if first == last { first.to_string() } else { format!("{}-{last}", first.max(1)) };
            let port = format!("{range}{suffix}");
            if !named.contains(&port) {
                named.push(port);
            }
        }
    }
    let each = if protocol == "all" { 2 } else { suffixes.len() };
    match named.len() {
        0 => Ports::All,
        _ if count * each > MOST_PORTS => Ports::TooMany,
        _ => Ports::Some(named),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::convert::values::calls;

    #[test]
    fn ports_are_named_as_we_write_them() {
        let some = |ports: &[&str]| Ports::Some(ports.iter().map(|port| (*port).to_owned()).collect());
        assert_eq!(ports("http,https", "tcp", ""), some(&["80/tcp", "443/tcp"]));
        assert_eq!(ports("5060:5061", "tcp,udp", ""), some(&["5060-5061/tcp", "5060-5061/udp"]));
        assert_eq!(ports("ftp-data 21", "all", ""), some(&["20", "21"]));
        assert_eq!(ports("0:65535", "tcp", ""), Ports::All);
        assert_eq!(ports("1000:2000", "tcp", ""), Ports::TooMany);
        assert_eq!(ports("http,gate", "tcp", ""), Ports::Unknown("gate".to_owned()));
    }

    #[test]
    fn firewalls_are_told_from_what_only_tells_somebody() {
        let actions = read(&calls("nftables[type=allports, chain=\"GATE\"]\nsome-mail[dest=\"a@b\"]"));
        assert_eq!(actions.firewalls.into_iter().collect::<Vec<_>>(), ["nftables"]);
        assert!(actions.all_ports && actions.chains.contains("GATE") && actions.others.contains("some-mail"));
    }
}
