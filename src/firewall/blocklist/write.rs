//! The blocklist file anew: our entries as they are now, the users' own lines as they were.

use std::io::{self, BufRead, Write};
use std::net::IpAddr;

use ipnet::IpNet;

use super::MARKER;
use super::read::{read_marker, without_bom};
use crate::filters::Evidence;
use crate::ledger::{Ban, Scope, Stage};

/// Longest name of a jail that is written, in characters.
const MAX_JAIL: usize = 64;

/// `old` with our entries replaced by `bans`, one entry per prefix: that of the ban that ends last. The bans come sorted by
/// prefix. Who is only limited does not stand in it: those who read it drop everything of whoever does. Neither the old
/// file nor the new one is ever in memory as a whole.
///
/// Our entries stand where the first of them stood, or at the end. Nothing else is touched, to the byte, but that a last
/// line without an end gets one when ours follow it.
pub(crate) fn rewrite(
    old: &mut impl BufRead,
    bans: impl IntoIterator<Item = Ban>,
    new: &mut impl Write,
) -> io::Result<()> {
    let mut bans = Some(bans);
    let mut line = Vec::new();
    old.read_until(b'\n', &mut line)?;
    if without_bom(&line).len() < line.len() {
        new.write_all(&line[..line.len() - without_bom(&line).len()])?;
        line.drain(..line.len() - without_bom(&line).len());
    }
    let mut ended = true;
    while !line.is_empty() {
        let ours = read_marker(line.strip_suffix(b"\n").unwrap_or(&line)).is_some();
        if ours {
            if let Some(bans) = bans.take() {
                write_entries(bans, "", new)?;
            }
            // The entry itself, unless somebody changed it.
            line.clear();
            old.read_until(b'\n', &mut line)?;
            if !is_own_entry(&line) {
                continue;
            }
        } else {
            ended = line.last() == Some(&b'\n');
            new.write_all(&line)?;
        }
        line.clear();
        old.read_until(b'\n', &mut line)?;
    }
    bans.map_or(Ok(()), |bans| write_entries(bans, if ended { "" } else { "\n" }, new))
}

/// `before` comes before the first entry, if there is any.
fn write_entries(bans: impl IntoIterator<Item = Ban>, before: &str, new: &mut impl Write) -> io::Result<()> {
    let mut before = Some(before);
    let mut latest: Option<Ban> = None;
    // Who bans everything comes before who bans some ports: the file knows addresses only.
    let rank = |ban: &Ban| (ban.scope.is_all(), ban.until);
    for ban in bans.into_iter().filter(|ban| ban.scope.stage() == Stage::Drop) {
        match &latest {
            Some(standing) if standing.prefix == ban.prefix && rank(standing) >= rank(&ban) => continue,
            Some(standing) if standing.prefix != ban.prefix => write_entry(standing, new)?,
            _ => (),
        }
        if let Some(before) = before.take() {
            new.write_all(before.as_bytes())?;
        }
        latest = Some(ban);
    }
    latest.as_ref().map_or(Ok(()), |last| write_entry(last, new))
}

fn write_entry(ban: &Ban, new: &mut impl Write) -> io::Result<()> {
    let (jail, since, until) = (one_word(&ban.jail), ban.since, ban.until);
    let (scope, evidence) = (scope(&ban.scope), evidence(ban.evidence));
    writeln!(new, "{MARKER}jail={jail} since={since} until={until}{scope}{evidence}\n{}", shown(ban.prefix))
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

fn scope(scope: &Scope) -> String {
    let ports: Vec<String> = scope.ports.iter().map(ToString::to_string).collect();
    let fields = [
        ("ports", Some(ports.join(",")).filter(|ports| !ports.is_empty())),
        ("interface", scope.interface.as_ref().map(ToString::to_string)),
        ("direction", scope.direction.map(|direction| direction.to_string())),
        ("target", scope.target.map(|target| target.to_string())),
    ];
    fields.into_iter().filter_map(|(key, value)| Some(format!(" {key}={}", value?))).collect()
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
