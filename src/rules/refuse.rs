//! Rules that drop: packets of attacks, floods, and what is left at the end. Each kind ends in a chain of its own, which
//! first logs, so much per source, and then drops: one flood cannot hide another in the log.

use std::collections::BTreeSet;

use super::host::{Attack, Bucket, Host, Policy};
use super::model::{ALL_FLAGS, Action, Chain, End, Flags, Limit, Name, PING, Protocol, Rule, State, When};
use super::peer::Peer;

/// No flag at all, all of them, and those that light up like a tree.
const NULL: u8 = 0;
const XMAS: [u8; 2] = [ALL_FLAGS, 0b10_1001];

/// What never gets past the door, whatever is open.
pub(super) fn attacks(host: &Host) -> Vec<Rule> {
    let mut rules = Vec::new();
    for attack in &host.attacks {
        let (whens, end) = match attack {
            Attack::Xmas => (XMAS.map(exactly).to_vec(), End::Xmas),
            Attack::Null => (vec![exactly(NULL)], End::Null),
            Attack::NewWithoutSyn => (vec![new_without_syn()], End::NotSyn),
            Attack::Invalid => (vec![When { states: vec![State::Invalid], ..When::default() }], End::Invalid),
            Attack::Bogons => {
                let from = |network| When { source: Some(Peer::Network(network)), ..When::default() };
                (host.bogons.iter().copied().map(from).collect(), End::Bogon)
            }
            // These are gone before any of the other chains sees them.
            Attack::Fragments => continue,
        };
        rules.extend(whens.into_iter().map(|when| Rule { when, then: Action::Jump(end) }));
    }
    rules.extend(syn_flood(host));
    rules
}

fn exactly(set: u8) -> When {
    let flags = Some(Flags { of: ALL_FLAGS, set, not: false });
    When { protocol: Some(Protocol::Tcp), flags, ..When::default() }
}

fn new_without_syn() -> When {
    let flags = Some(Flags { not: true, ..Flags::SYN });
    When { protocol: Some(Protocol::Tcp), flags, states: vec![State::New], ..When::default() }
}

/// Above this limit even what is open is closed to the source.
fn syn_flood(host: &Host) -> Option<Rule> {
    let limit = Some(above("syn", host.syn_flood?));
    let when = When { protocol: Some(Protocol::Tcp), flags: Some(Flags::SYN), limit, ..When::default() };
    Some(Rule { when, then: Action::Jump(End::Syn) })
}

/// Pings above the limit.
pub(super) fn pings(host: &Host) -> Vec<Rule> {
    let when = |ping| When { protocol: Some(ping), limit: Some(above("ping", host.ping)), ..When::default() };
    PING.map(|ping| Rule { when: when(ping), then: Action::Jump(End::Ping) }).to_vec()
}

fn above(name: &str, bucket: Bucket) -> Limit {
    Limit { name: name.to_owned(), rate: bucket.rate, burst: bucket.burst, above: true }
}

/// Fragments, before the kernel puts them together and nobody can tell any more.
pub(super) fn early(host: &Host) -> Vec<Rule> {
    let wanted = host.attacks.contains(&Attack::Fragments);
    let when = When { fragment: true, ..When::default() };
    wanted.then_some(Rule { when, then: Action::Jump(End::Fragment) }).into_iter().collect()
}

/// The chains that the others jump to.
pub(super) fn ends(host: &Host, chains: &[Chain]) -> Vec<Chain> {
    let jumps = chains.iter().flat_map(|chain| &chain.rules).filter_map(|rule| match rule.then {
        Action::Jump(end) => Some(end),
        _ => None,
    });
    let ends: BTreeSet<End> = jumps.collect();
    ends.into_iter().map(|end| Chain { name: Name::End(end), rules: end_rules(host, end) }).collect()
}

fn end_rules(host: &Host, end: End) -> Vec<Rule> {
    let mut rules = Vec::new();
    if let Some(Bucket { rate, burst }) = host.log {
        let limit = Limit { name: format!("log_{}", end.word()), rate, burst, above: false };
        let when = When { limit: Some(limit), ..When::default() };
        rules.push(Rule { when, then: Action::Log(end.log_prefix()) });
    }
    let policy = match end {
        End::In => host.incoming,
        End::Out => host.outgoing,
        End::Forward => host.forwarding,
        _ => Policy::Drop,
    };
    rules.extend(refusal(When::default(), policy));
    rules
}

/// To drop, or to refuse politely as each protocol does.
pub(super) fn refusal(when: When, policy: Policy) -> Vec<Rule> {
    if policy != Policy::Reject {
        return vec![Rule { when, then: Action::Drop }];
    }
    match when.protocol {
        Some(Protocol::Tcp) => vec![Rule { when, then: Action::Reset }],
        Some(_) => vec![Rule { when, then: Action::Unreachable }],
        None => {
            let tcp = When { protocol: Some(Protocol::Tcp), ..when.clone() };
            vec![Rule { when: tcp, then: Action::Reset }, Rule { when, then: Action::Unreachable }]
        }
    }
}
