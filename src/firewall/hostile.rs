//! Laws of what reads the blocklist and the kernel's answers, for fuzzers (see `hostile.rs`).

use std::net::IpAddr;

use ipnet::IpNet;

use super::blocklist::{self, Line};
use super::netlink::{self, Messages};
use super::{Count, flows, handshakes, ipset, nft};
use crate::filters::Evidence;
use crate::ledger::{Ban, Scope};
use crate::time::{Timestamp, Until};

/// Nothing of a list covers everybody, every problem is on a line that there is, and a file that was written anew has
/// the users' own lines as they were, and our entries besides.
pub(crate) fn blocklist(data: &[u8]) {
    let parsed = blocklist::parse(data);
    let lines = data.split(|byte| *byte == b'\n').count();
    assert!(parsed.problems.iter().all(|problem| (1..=lines).contains(&problem.line)), "a problem on no line");
    let prefixes = || parsed.lines.iter().flat_map(|line| &line.prefixes);
    assert!(prefixes().all(|prefix| prefix.prefix_len() > 0 && *prefix == prefix.trunc()), "not a network");
    let mut bans: Vec<Ban> = prefixes().take(8).map(|prefix| ban(*prefix)).collect();
    bans.sort_by_key(|ban| ban.prefix);
    let written = rewritten(data, &bans);
    assert_eq!(rewritten(&written, &bans), written, "written twice, it is another one");
    let again = blocklist::parse(&written);
    // An entry below a line of ours that is not as we write it was changed by somebody, and is theirs from now on.
    let users = |lines: &[Line]| -> Vec<Vec<IpNet>> {
        lines.iter().filter(|line| line.known.is_none()).map(|line| line.prefixes.clone()).collect()
    };
    let mut kept = users(&again.lines).into_iter();
    assert!(users(&parsed.lines).iter().all(|line| kept.any(|other| other == *line)), "an entry of the users is lost");
    let ours = |wanted: &Ban| again.lines.iter().any(|line| line.known.is_some() && line.prefixes == [wanted.prefix]);
    assert!(bans.iter().all(ours), "an entry of ours is missing");
}

fn rewritten(mut old: &[u8], bans: &[Ban]) -> Vec<u8> {
    let mut new = Vec::new();
    blocklist::rewrite(&mut old, bans.iter().cloned(), &mut new).expect("memory takes all that is written");
    new
}

fn ban(prefix: IpNet) -> Ban {
    Ban {
        prefix,
        jail: "sshd".into(),
        scope: Scope::default(),
        since: Timestamp::EPOCH,
        until: Until::Forever,
        reason: "".into(),
        count: 1,
        evidence: Evidence::Proven,
    }
}

/// Bytes of the kernel are read without a panic; what is read as an element is the same when written and read again.
pub(crate) fn netlink(data: &[u8]) {
    netlink::payloads(data).chain([data]).for_each(body);
}

fn body(body: &[u8]) {
    let attributes: Vec<(u16, &[u8])> = netlink::attributes(body).collect();
    assert!(attributes.iter().map(|(_, value)| value.len() + 4).sum::<usize>() <= body.len(), "more than there is");
    let _handshake = handshakes::is_handshake(body, 1, &[192, 0, 2, 9]);
    let _flow =
        flows::is_of(body, &[(IpNet::from(IpAddr::from([192, 0, 2, 9])), Scope::default())].into_iter().collect());
    for (_, value) in attributes {
        let _text = netlink::text(value);
        for (_, value) in netlink::attributes(value) {
            let _element = nft::read_element(value);
            if let Some(element) = ipset::read_element(value) {
                let count = element.count.unwrap_or(Count::default());
                assert_eq!(written(element.prefix.trunc(), element.timeout, &count), Some(element.prefix.trunc()));
            }
        }
    }
}

fn written(prefix: IpNet, timeout: u32, count: &Count) -> Option<IpNet> {
    let data = message(prefix, timeout, count);
    let body = netlink::payloads(&data).next()?;
    let (_, element) = netlink::attributes(body).next()?;
    ipset::read_element(element).map(|element| element.prefix)
}

fn message(prefix: IpNet, timeout: u32, count: &Count) -> Vec<u8> {
    let mut messages = Messages::default();
    messages.begin(0, 0, 0, 0);
    ipset::element(&mut messages, &prefix, Some(timeout), Some(count));
    messages.into_bytes()
}

/// An answer of ipset as the kernel gives it, and one of conntrack's kind.
pub(crate) fn replies() -> Vec<Vec<u8>> {
    let prefixes = ["192.0.2.9/32", "198.51.100.0/24", "2001:db8::/64"];
    let elements = prefixes.map(|prefix| message(prefix.parse().expect("a prefix"), 600, &Count::default()));
    let mut nested = Messages::default();
    nested.begin(0, 0, 2, 0);
    for kind in [1u16, 1, 1] {
        nested.open(kind);
    }
    nested.attribute(1, &[192, 0, 2, 9]);
    (0..3).for_each(|_| nested.close());
    elements.into_iter().chain([nested.into_bytes()]).collect()
}
