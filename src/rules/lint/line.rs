//! Mistakes within one command.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Finding;
use super::read::{Command, DASHES, Word};
use crate::config::document::nearest;

const CHAINS: [&str; 5] = ["INPUT", "OUTPUT", "FORWARD", "PREROUTING", "POSTROUTING"];
const PROTOCOLS: [&str; 14] =
    ["tcp", "udp", "icmp", "icmpv6", "ipv6-icmp", "all", "esp", "ah", "sctp", "gre", "igmp", "udplite", "dccp", "ospf"];
/// Options with two dashes that scripts write with one, or without the blank behind them.
const LONG: [&str; 26] = [
    "dport",
    "sport",
    "dports",
    "sports",
    "state",
    "ctstate",
    "syn",
    "tcp-flags",
    "icmp-type",
    "limit",
    "limit-burst",
    "log-prefix",
    "log-level",
    "reject-with",
    "src-range",
    "dst-range",
    "to-destination",
    "to-source",
    "to-ports",
    "destination-port",
    "source-port",
    "seconds",
    "hitcount",
    "match-set",
    "name",
    "update",
];
/// Longest LOG prefix of iptables, in bytes.
const LONGEST_PREFIX: usize = 29;

pub(super) fn check(command: &Command) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(tool(command));
    for word in &command.words {
        findings.extend(glued(word));
        findings.extend(one_dash(word));
    }
    findings.extend(policy(command));
    findings.extend(letters(command));
    findings.extend(interfaces(command));
    findings.extend(protocol(command));
    for option in [["-s", "--source"], ["-d", "--destination"]] {
        findings.extend(command.value(&option).and_then(host_bits));
    }
    findings.extend(log(command));
    findings.extend(limit(command));
    findings.extend(recent(command));
    findings.extend(fragments(command));
    findings.extend(icmp(command));
    findings
}

fn tool(command: &Command) -> Option<Finding> {
    let tool = command.tool.as_ref()?;
    let name = tool.text.rsplit('/').next().unwrap_or_default();
    if name.starts_with("Iptables") {
        return Some(Finding::error("capital", tool.span, "there is no command 'Iptables'", "write 'iptables'"));
    }
    let glued = name.strip_prefix("iptables-").filter(|rest| rest.starts_with(['A', 'P', 'a', 'p']));
    let glued = glued.filter(|rest| rest.len() == 1)?;
    let remedy = format!("write 'iptables -{}'", glued.to_ascii_uppercase());
    Some(Finding::error("missing-space", tool.span, "a blank is missing between the command and its option", remedy))
}

/// `OUTPUT-p`, `--reject-withtcp-reset`.
fn glued(word: &Word) -> Option<Finding> {
    let upper = word.text.to_ascii_uppercase();
    let chain = CHAINS.iter().find(|chain| upper.strip_prefix(**chain).is_some_and(|rest| rest.starts_with('-')));
    if let Some(chain) = chain {
        let (first, rest) = word.text.split_at(chain.len());
        let remedy = format!("write '{} {rest}'", first.to_ascii_uppercase());
        let message = format!("a blank is missing in '{}'", word.text);
        return Some(Finding::error("missing-space", word.span, message, remedy));
    }
    let option = word.text.strip_prefix("--")?;
    if LONG.contains(&option) || option.contains('=') {
        return None;
    }
    let known = LONG.iter().filter(|known| option.starts_with(**known)).max_by_key(|known| known.len())?;
    let rest = option.strip_prefix(known)?;
    let value = matches!(*known, "reject-with" | "log-prefix" | "state" | "ctstate" | "icmp-type")
        || rest.starts_with(|first: char| first.is_ascii_digit() || first == '$');
    let value = value && !rest.starts_with('-');
    let message = format!("a blank is missing in '{}'", word.text);
    value.then(|| Finding::error("missing-space", word.span, message, format!("write '--{known} {rest}'")))
}

/// `-dport`: iptables takes it for `-d port`.
fn one_dash(word: &Word) -> Option<Finding> {
    let option = word.text.strip_prefix('-').filter(|option| !option.starts_with('-') && !word.quoted)?;
    LONG.contains(&option).then(|| {
        let message = format!("'-{option}' is read as '-{}' with the value '{}'", &option[..1], &option[1..]);
        Finding::error("one-dash", word.span, message, format!("write '--{option}'"))
    })
}

/// `-p INPUT DROP`, which asks for a protocol called INPUT.
fn policy(command: &Command) -> Option<Finding> {
    let value = command.value(&["-p"])?;
    let chain = CHAINS.iter().find(|chain| value.text.eq_ignore_ascii_case(chain))?;
    let message = format!("'-p {}' asks for a protocol of that name and sets no policy", value.text);
    Some(Finding::error("policy", value.span, message, format!("write '-P {chain}' with a capital P")))
}

fn interfaces(command: &Command) -> Option<Finding> {
    let (chain, _) = command.adds_to()?;
    let (option, other, why) = match chain.to_ascii_uppercase().as_str() {
        "OUTPUT" | "POSTROUTING" => ("-i", "-o", "nothing comes in there"),
        "INPUT" | "PREROUTING" => ("-o", "-i", "nothing leaves there"),
        _ => return None,
    };
    let word = command.words.iter().find(|word| word.text == option && !word.quoted)?;
    let message = format!("'{option}' cannot be used in {chain}: {why}, so the command fails");
    Some(Finding::error("wrong-interface", word.span, message, format!("write '{other}'")))
}

/// `-a input`: letters have their size.
fn letters(command: &Command) -> Option<Finding> {
    if let Some(word) = command.words.first().filter(|word| word.text == "-a") {
        return Some(Finding::error(
            "letters",
            word.span,
            "there is no option '-a'",
            "write '-A' with a capital letter",
        ));
    }
    let chain = command.value(&["-A", "-I", "-P", "-F", "-D"])?;
    let known = CHAINS.iter().find(|known| chain.text.eq_ignore_ascii_case(known) && chain.text != **known)?;
    let message = format!("there is no chain '{}': names of chains are in capital letters", chain.text);
    Some(Finding::error("letters", chain.span, message, format!("write '{known}'")))
}

fn protocol(command: &Command) -> Option<Finding> {
    let value = command.value(&["-p", "--protocol", "--proto"])?;
    let text = value.text.to_ascii_lowercase();
    let variable = text.starts_with('$') || text.starts_with(|first: char| first.is_ascii_digit());
    if variable || PROTOCOLS.contains(&text.as_str()) || CHAINS.iter().any(|chain| chain.eq_ignore_ascii_case(&text)) {
        return None;
    }
    let message = format!("there is no protocol '{}'", value.text);
    let likely = nearest(&text, &PROTOCOLS).unwrap_or("tcp");
    Some(Finding::error("protocol", value.span, message, format!("write '-p {likely}'")))
}

fn host_bits(word: &Word) -> Option<Finding> {
    let network: IpNet = word.text.parse().ok()?;
    if network.trunc() == network {
        return None;
    }
    let (message, network) =
        (format!("{network} has host bits set; the rule is for all of {}", network.trunc()), network);
    let remedy = format!("write '{}' for the network, or '{}' for the address", network.trunc(), network.addr());
    Some(Finding::warning("host-bits", word.span, message, remedy))
}

fn log(command: &Command) -> Option<Finding> {
    if command.target() != Some("LOG") {
        return None;
    }
    let Some(prefix) = command.value(&["--log-prefix"]) else {
        let message = "without a prefix the lines of this rule cannot be told from those of others";
        return Some(Finding::warning("log-prefix", command.span(), message, "add '--log-prefix \"HOST-DROP: \"'"));
    };
    if prefix.text.len() > LONGEST_PREFIX {
        let message = format!("a prefix has {LONGEST_PREFIX} characters at most; this one is cut or refused");
        return Some(Finding::error("log-prefix", prefix.span, message, "shorten it"));
    }
    if prefix.text.ends_with(' ') || prefix.text.starts_with('$') {
        return None;
    }
    let message = format!("without a blank at its end the line reads '{}IN=eth0'", prefix.text);
    let remedy = format!("write '--log-prefix \"{} \"'", prefix.text);
    Some(Finding::warning("log-prefix", prefix.span, message, remedy))
}

/// A limit that all sources share: who fills it shuts out everybody else, or hides behind it.
fn limit(command: &Command) -> Option<Finding> {
    let word = command.words.iter().find(|word| word.text == "--limit" || word.text == "limit")?;
    if command.value(&["-m", "--match"]).is_none() || command.has(&["hashlimit"]) {
        return None;
    }
    let uses = command.words.windows(2).any(|pair| pair[0].text == "-m" && pair[1].text == "limit");
    if !uses {
        return None;
    }
    let remedy = "count each source by itself: '-m hashlimit --hashlimit-upto 1/s --hashlimit-burst 10 \
                  --hashlimit-mode srcip --hashlimit-name NAME'";
    match command.target() {
        Some("LOG" | "NFLOG") => {
            let message = "all sources share this limit: one that floods hides the others from the log, and the lines \
                           are samples, not counts";
            Some(Finding::warning("shared-log-limit", word.span, message, remedy))
        }
        Some("ACCEPT" | "RETURN") => {
            let message = "all sources share this limit: one that floods shuts out everybody else";
            Some(Finding::error("shared-limit", word.span, message, remedy))
        }
        _ => None,
    }
}

fn recent(command: &Command) -> Option<Finding> {
    let word = command.words.iter().find(|word| word.text == "--set" && command.has(&["recent"]))?;
    let states = command.states();
    if states.is_empty() || states.contains(&"ESTABLISHED") {
        let message = "every packet is counted, not every connection: a long honest session runs into the hit count";
        return Some(Finding::error("recent-established", word.span, message, "match '--ctstate NEW' only"));
    }
    None
}

fn fragments(command: &Command) -> Option<Finding> {
    let word = command.words.iter().find(|word| matches!(word.text.as_str(), "-f" | "--fragment"))?;
    command.adds_to()?;
    let message = "where connections are tracked, the kernel puts fragments together before any rule sees one: this \
                   never matches";
    let remedy = "leave it out, or drop them in nftables before that: '[host] attacks' with \"fragments\"";
    Some(Finding::warning("fragments", word.span, message, remedy))
}

fn icmp(command: &Command) -> Option<Finding> {
    let value = command.value(&["-p", "--protocol"])?;
    let (chain, _) = command.adds_to()?;
    let drops = matches!(command.target(), Some("DROP" | "REJECT"));
    let all = value.text == "icmp" && !command.has(&["--icmp-type"]) && drops && chain != "OUTPUT";
    let message = "this drops every kind of ICMP, not pings alone: without 'fragmentation needed' connections hang";
    let remedy = "name the kind: '-p icmp --icmp-type echo-request'";
    all.then(|| Finding::warning("all-icmp", value.span, message, remedy))
}

/// Typographic characters, wherever they stand.
pub(super) fn typography(line: &str, offset: usize) -> Option<Finding> {
    let odd = |letter: char| DASHES.contains(&letter) || matches!(letter, '“' | '”' | '‘' | '’' | '\u{a0}');
    let (at, letter) = line.char_indices().find(|(_, letter)| odd(*letter))?;
    let (what, plain) = match letter {
        '\u{a0}' => ("blank", "a plain blank"),
        '“' | '”' => ("quote", "'\"'"),
        '‘' | '’' => ("quote", "\"'\""),
        _ => ("dash", "'-', and '--' before a long option"),
    };
    let span = (offset + at, offset + at + letter.len_utf8());
    let message = format!("a typographic {what} from a web page: no command understands it");
    Some(Finding::error("typography", span, message, format!("write {plain}")))
}

/// An address that is written where a rule wants one.
pub(super) fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok()
}
