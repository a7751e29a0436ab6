//! How the ledger's facts are written into the store: a short binary key, a JSON value but for
//! the pages of bans, of which there may be very many.
//!
//! A record that cannot be read is skipped and counted; it never costs another one. Keys sort so that bans come first
//! and positions last: what is written in the order of keys and cut short re-reads lines rather than skips them.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::history::{Ended, How, MAX_ENDED};
use super::pages::Page;
use super::{Ban, Scope};
use crate::filters::Evidence;
use crate::policy::grant::Grant;
use crate::sources::Position;
use crate::time::{Timestamp, Until};

/// One fact.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// As earlier versions wrote it; now bans stand in pages.
    Ban(Ban),
    Page {
        start: IpNet,
        page: Page,
    },
    /// One of the bans that ended last, the `sequence`-th of all.
    Ended {
        sequence: u64,
        ended: Ended,
    },
    Grant {
        prefix: IpNet,
        grant: Grant,
    },
    Past {
        prefix: IpNet,
        bans: u32,
        last_end: Timestamp,
    },
    Position {
        source: Arc<str>,
        log: Arc<str>,
        position: Position,
        seen: Timestamp,
    },
}

/// What a fact is about.
#[derive(Clone, Debug)]
pub(super) enum Key<'a> {
    Ban(IpNet, &'a str),
    Ended(u64),
    Grant(IpNet),
    /// The page of bans that starts with this prefix.
    Page(IpNet),
    Past(IpNet),
    Position(&'a str, &'a str),
}

const PAGE: u8 = b'a';
/// A single ban, as ledgers of format 1 have them.
const BAN: u8 = b'b';
const ENDED: u8 = b'e';
const GRANT: u8 = b'g';
const PAST: u8 = b'h';
/// The first byte of the keys of positions.
pub(super) const POSITION: u8 = b'p';

/// A time in a value: microseconds, so that nothing is rounded.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Micros(i64);

impl From<Timestamp> for Micros {
    fn from(time: Timestamp) -> Micros {
        Micros(time.as_micros())
    }
}

impl From<Micros> for Timestamp {
    fn from(micros: Micros) -> Timestamp {
        Timestamp::from_micros(micros.0)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct BanValue {
    scope: Scope,
    since: Micros,
    until: Option<Micros>,
    reason: Arc<str>,
    count: u32,
    evidence: Evidence,
}

#[derive(Debug, Serialize, Deserialize)]
struct EndedValue {
    sequence: u64,
    prefix: IpNet,
    jail: Arc<str>,
    ban: BanValue,
    at: Micros,
    how: How,
}

#[derive(Debug, Serialize, Deserialize)]
struct GrantValue {
    /// `null` is for ever.
    until: Option<Micros>,
    /// The rest is missing in ledgers of earlier versions.
    #[serde(default)]
    since: Option<Micros>,
    #[serde(default)]
    by: Option<u32>,
    #[serde(default)]
    comment: Arc<str>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PastValue {
    bans: u32,
    last_end: Micros,
}

#[derive(Debug, Serialize, Deserialize)]
struct PositionValue {
    position: Position,
    seen: Micros,
}

/// `None` is for ever.
fn end(until: Until) -> Option<Micros> {
    match until {
        Until::At(end) => Some(end.into()),
        Until::Forever => None,
    }
}

fn until(end: Option<Micros>) -> Until {
    end.map_or(Until::Forever, |end| Until::At(end.into()))
}

impl GrantValue {
    fn of(grant: &Grant) -> GrantValue {
        let (until, since) = (end(grant.until), Some(grant.since.into()));
        GrantValue { until, since, by: grant.by, comment: Arc::clone(&grant.comment) }
    }

    fn into_grant(self) -> Grant {
        let since = self.since.map_or(Timestamp::EPOCH, Timestamp::from);
        Grant { since, until: until(self.until), by: self.by, comment: self.comment }
    }
}

impl BanValue {
    fn of(ban: &Ban) -> BanValue {
        let until = end(ban.until);
        let (scope, reason) = (ban.scope.clone(), Arc::clone(&ban.reason));
        BanValue { scope, since: ban.since.into(), until, reason, count: ban.count, evidence: ban.evidence }
    }

    fn into_ban(self, prefix: IpNet, jail: Arc<str>) -> Ban {
        Ban {
            prefix,
            jail,
            scope: self.scope,
            since: self.since.into(),
            until: until(self.until),
            reason: self.reason,
            count: self.count,
            evidence: self.evidence,
        }
    }
}

impl Record {
    pub(super) fn key(&self) -> Key<'_> {
        match self {
            Record::Ban(ban) => Key::Ban(ban.prefix, &ban.jail),
            Record::Page { start, .. } => Key::Page(*start),
            Record::Ended { sequence, .. } => Key::Ended(*sequence),
            Record::Grant { prefix, .. } => Key::Grant(*prefix),
            Record::Past { prefix, .. } => Key::Past(*prefix),
            Record::Position { source, log, .. } => Key::Position(source, log),
        }
    }

    pub(super) fn value(&self) -> Vec<u8> {
        match self {
            Record::Ban(ban) => json(&BanValue::of(ban)),
            Record::Page { page, .. } => page.bytes(),
            Record::Ended { sequence, ended } => {
                let (prefix, jail) = (ended.ban.prefix, Arc::clone(&ended.ban.jail));
                let (ban, at) = (BanValue::of(&ended.ban), ended.at.into());
                json(&EndedValue { sequence: *sequence, prefix, jail, ban, at, how: ended.how })
            }
            Record::Grant { grant, .. } => json(&GrantValue::of(grant)),
            Record::Past { bans, last_end, .. } => json(&PastValue { bans: *bans, last_end: (*last_end).into() }),
            Record::Position { position, seen, .. } => {
                json(&PositionValue { position: position.clone(), seen: (*seen).into() })
            }
        }
    }

    /// `None` when key or value is not one that [`Record::key`] and [`Record::value`] make.
    pub(super) fn read(key: &[u8], value: &[u8]) -> Option<Record> {
        let (tag, rest) = key.split_first()?;
        match *tag {
            PAGE => {
                let start: Vec<u8> = rest.iter().map(|byte| !byte).collect();
                Some(Record::Page { start: read_prefix(&start)?.0, page: Page::read(value)? })
            }
            BAN => {
                let (prefix, jail) = read_prefix(rest)?;
                let jail = std::str::from_utf8(jail).ok()?.into();
                Some(Record::Ban(serde_json::from_slice::<BanValue>(value).ok()?.into_ban(prefix, jail)))
            }
            ENDED => {
                let EndedValue { sequence, prefix, jail, ban, at, how } = serde_json::from_slice(value).ok()?;
                let ended = Ended { ban: ban.into_ban(prefix, jail), at: at.into(), how };
                Some(Record::Ended { sequence, ended })
            }
            GRANT => {
                let value: GrantValue = serde_json::from_slice(value).ok()?;
                Some(Record::Grant { prefix: read_prefix(rest)?.0, grant: value.into_grant() })
            }
            PAST => {
                let PastValue { bans, last_end } = serde_json::from_slice(value).ok()?;
                Some(Record::Past { prefix: read_prefix(rest)?.0, bans, last_end: last_end.into() })
            }
            POSITION => {
                let (source, log) = std::str::from_utf8(rest).ok()?.split_once('\0')?;
                let PositionValue { position, seen } = serde_json::from_slice(value).ok()?;
                Some(Record::Position { source: source.into(), log: log.into(), position, seen: seen.into() })
            }
            _ => None,
        }
    }
}

impl Key<'_> {
    pub(super) fn bytes(&self) -> Vec<u8> {
        match *self {
            Key::Ban(prefix, jail) => [&[BAN], &*prefix_bytes(prefix), jail.as_bytes()].concat(),
            // A ring of slots: the number of these records is bounded without ever deleting one.
            Key::Ended(sequence) => [&[ENDED], (sequence % u64::from(MAX_ENDED)).to_be_bytes().as_slice()].concat(),
            Key::Grant(prefix) => [&[GRANT], &*prefix_bytes(prefix)].concat(),
            // Inverted, so that groups are written from the last page to the first: see `pages.rs`.
            Key::Page(start) => {
                std::iter::once(PAGE).chain(prefix_bytes(start).into_iter().map(|byte| !byte)).collect()
            }
            Key::Past(prefix) => [&[PAST], &*prefix_bytes(prefix)].concat(),
            Key::Position(source, log) => [&[POSITION], source.as_bytes(), b"\0", log.as_bytes()].concat(),
        }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("values of records have no map with other keys than strings")
}

/// Family, network address, length.
fn prefix_bytes(prefix: IpNet) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(18);
    match prefix.network() {
        IpAddr::V4(address) => {
            bytes.push(4);
            bytes.extend(address.octets());
        }
        IpAddr::V6(address) => {
            bytes.push(6);
            bytes.extend(address.octets());
        }
    }
    bytes.push(prefix.prefix_len());
    bytes
}

/// The prefix at the start of a key, and the rest of the key.
fn read_prefix(bytes: &[u8]) -> Option<(IpNet, &[u8])> {
    let (family, bytes) = bytes.split_first()?;
    let (address, bytes) = match family {
        4 => bytes.split_first_chunk::<4>().map(|(octets, rest)| (IpAddr::from(*octets), rest))?,
        6 => bytes.split_first_chunk::<16>().map(|(octets, rest)| (IpAddr::from(*octets), rest))?,
        _ => return None,
    };
    let (length, bytes) = bytes.split_first()?;
    Some((IpNet::new(address, *length).ok()?.trunc(), bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::{Port, Protocol};
    use crate::sources::Position;

    fn ban() -> Ban {
        Ban {
            prefix: "2001:db8::/64".parse().unwrap(),
            jail: "sshd".into(),
            scope: Scope::of_ports(vec![Port { protocol: Protocol::Tcp, number: 22 }]),
            since: Timestamp::from_micros(1_795_224_600_123_456),
            until: Until::Forever,
            reason: "a \"reason\"\n".into(),
            count: 3,
            evidence: Evidence::Proven,
        }
    }

    fn samples() -> Vec<Record> {
        let position = Position::File { device: 1, inode: u64::MAX, offset: 3, tail: 4 };

        let (prefix, time) = ("192.0.2.9/32".parse().unwrap(), Timestamp::from_micros(1_234_567));
        vec![
            Record::Ban(ban()),
            Record::Ban(Ban { prefix, until: Until::At(time), ..ban() }),
            Record::Ended { sequence: 10_003, ended: Ended { ban: ban(), at: time, how: How::Unbanned } },
            Record::Grant {
                prefix,
                grant: Grant { since: time, until: Until::Forever, by: Some(1000), comment: "the office".into() },
            },
            Record::Past { prefix, bans: 7, last_end: time },
            Record::Position { source: "files:/a".into(), log: "/a b".into(), position, seen: time },
        ]
    }

    #[test]
    fn what_is_written_is_read_back_to_the_microsecond() {
        for record in samples() {
            assert_eq!(Record::read(&record.key().bytes(), &record.value()), Some(record));
        }
    }

    #[test]
    fn a_grant_of_an_earlier_version_is_read() {
        let Some(Record::Grant { grant, .. }) = Record::read(&samples()[3].key().bytes(), br#"{"until":1234567}"#)
        else {
            panic!("it is a grant");
        };
        assert_eq!((grant.until, grant.by), (Until::At(Timestamp::from_micros(1_234_567)), None));
    }

    #[test]
    fn a_cut_or_foreign_record_is_none_and_never_a_panic() {
        for record in samples() {
            let (key, value) = (record.key().bytes(), record.value());
            for end in 0..value.len() {
                assert_eq!(Record::read(&key, &value[..end]), None);
            }
            for end in 0..key.len() {
                let _ = Record::read(&key[..end], &value);
            }
        }
        assert_eq!(Record::read(b"?", b"{}"), None);
        assert_eq!(Record::read(&[BAN, 4, 1, 2, 3, 4, 33], &Record::Ban(ban()).value()), None, "a /33 of IPv4");
    }

    fn any_net() -> impl Strategy<Value = IpNet> {
        let v4 = (any::<[u8; 4]>(), 0_u8..=32).prop_map(|(octets, length)| IpNet::new(octets.into(), length));
        let v6 = (any::<[u8; 16]>(), 0_u8..=128).prop_map(|(octets, length)| IpNet::new(octets.into(), length));
        prop_oneof![v4, v6].prop_map(|net| net.unwrap().trunc())
    }

    prop_compose! {
        fn any_ban()(
            prefix in any_net(), jail in ".{0,40}", since in any::<i64>(), until in any::<Option<i64>>(), reason in ".{0,80}",
            count in any::<u32>(), forgeable in any::<bool>(), ports in proptest::collection::vec(any::<(bool, u16)>(), 0..5),
        ) -> Ban {
            let protocol = |tcp| if tcp { Protocol::Tcp } else { Protocol::Udp };
            let ports: Vec<Port> = ports.into_iter().map(|(tcp, number)| Port { protocol: protocol(tcp), number }).collect();
            Ban {
                prefix,
                jail: jail.into(),
                scope: Scope::of_ports(ports),
                since: Timestamp::from_micros(since),
                until: until.map_or(Until::Forever, |end| Until::At(Timestamp::from_micros(end))),
                reason: reason.into(),
                count,
                evidence: if forgeable { Evidence::Forgeable } else { Evidence::Proven },
            }
        }
    }

    proptest! {
        #[test]
        fn any_ban_is_read_as_it_was_written(ban in any_ban(), sequence in any::<u64>(), at in any::<i64>()) {
            let ended = Ended { ban: ban.clone(), at: Timestamp::from_micros(at), how: How::Unbanned };
            for record in [Record::Ban(ban), Record::Ended { sequence, ended }] {
                prop_assert_eq!(Record::read(&record.key().bytes(), &record.value()), Some(record));
            }
        }

        #[test]
        fn any_position_is_read_as_it_was_written(
            source in "[^\0]{0,40}", log in ".{0,80}", numbers in any::<[u64; 4]>(), cursor in ".{0,80}", kind in 0..3, seen in any::<i64>(),
        ) {
            let seen = Timestamp::from_micros(seen);
            let position = match kind {
                0 => Position::File { device: numbers[0], inode: numbers[1], offset: numbers[2], tail: numbers[3] },
                1 => Position::Kmsg { boot: cursor, sequence: numbers[0] },
                _ => Position::Journal { cursor, time: seen },
            };
            let record = Record::Position { source: source.into(), log: log.into(), position, seen };
            prop_assert_eq!(Record::read(&record.key().bytes(), &record.value()), Some(record));
        }
    }
}
