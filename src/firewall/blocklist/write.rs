//! The blocklist file anew: our entries as they are now, the users' own lines as they were.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;

use super::MARKER;
use super::read::{read_marker, without_bom};
use crate::filters::Evidence;
use crate::ledger::{Ban, Scope};

/// Longest name of a jail that is written, in characters.
const MAX_JAIL: usize = 64;

/// `old` with our entries replaced by `bans`, one entry per prefix: that of the ban that ends last.
///
/// Our entries stand where the first of them stood, or at the end. Nothing else is touched, to the byte, but that a last
/// line without an end gets one when ours follow it.
pub(crate) fn rewrite<'a>(old: &[u8], bans: impl IntoIterator<Item = &'a Ban>) -> Vec<u8> {
    let entries = entries_of(bans);
    let bom = old.len() - without_bom(old).len();
    let mut new = Vec::with_capacity(old.len() + entries.len());
    new.extend(old.iter().take(bom));
    let mut entries = Some(entries);
    let mut lines = without_bom(old).split_inclusive(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let ours = read_marker(line.strip_suffix(b"\n").unwrap_or(line)).is_some();
        if !ours {
            new.extend(line);
            continue;
        }
        lines.next_if(|line| is_own_entry(line));
        new.extend(entries.take().unwrap_or_default().bytes());
    }
    if let Some(entries) = entries.filter(|entries| !entries.is_empty()) {
        if new.len() > bom && new.last() != Some(&b'\n') {
            new.push(b'\n');
        }
        new.extend(entries.bytes());
    }
    new
}

fn entries_of<'a>(bans: impl IntoIterator<Item = &'a Ban>) -> String {
    let mut latest: BTreeMap<IpNet, &Ban> = BTreeMap::new();
    for ban in bans {
        let standing = latest.entry(ban.prefix).or_insert(ban);
        // Who bans everything comes before who bans some ports: the file knows addresses only.
        let rank = |ban: &Ban| (ban.scope.is_all(), ban.until);
        if rank(ban) > rank(standing) {
            *standing = ban;
        }
    }
    let mut text = String::with_capacity(latest.len() * 100);
    for ban in latest.values() {
        let (jail, since, until) = (one_word(&ban.jail), ban.since, ban.until);
        let more = [ports(&ban.scope), evidence(ban.evidence).to_owned()].concat();
        writeln!(text, "{MARKER}jail={jail} since={since} until={until}{more}\n{}", shown(ban.prefix))
            .expect("writing to a String does not fail");
    }
    text
}

/// Whether this is how we write an entry: one canonical prefix and nothing else. A line that somebody changed is theirs.
fn is_own_entry(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Ok(text) = std::str::from_utf8(line) else { return false };
    let prefix = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    prefix.is_some_and(|prefix| shown(prefix) == text)
}

/// An address alone where the prefix is one address.
fn shown(prefix: IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() { prefix.addr().to_string() } else { prefix.to_string() }
}

fn ports(scope: &Scope) -> String {
    let ports: Vec<String> = scope.0.iter().map(ToString::to_string).collect();
    if ports.is_empty() { String::new() } else { format!(" ports={}", ports.join(",")) }
}

/// Said only where somebody else may have chosen the address.
fn evidence(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Proven => "",
        Evidence::Forgeable => " evidence=forgeable",
    }
}

/// A name as one word of printable ASCII, so that it can neither end its line nor look like another field.
fn one_word(jail: &str) -> String {
    let fit = |c: char| if c.is_ascii_graphic() && c != '=' { c } else { '_' };
    let word: String = jail.chars().take(MAX_JAIL).map(fit).collect();
    if word.is_empty() { "_".to_owned() } else { word }
}
