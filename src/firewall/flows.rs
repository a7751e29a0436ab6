//! Ends what a newly banned source has open: its entries in connection tracking are deleted.
//!
//! Its packets are dropped before that, by our rules. Entries matter to flows that pass no rule (offloaded to a
//! flowtable or a network card), and they take room in the table. Best effort, on a thread of its own: no ban waits.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::handshakes::{AF_INET, AF_INET6, CTA_IP_V4_SRC, CTA_IP_V6_SRC, CTA_TUPLE_IP, CTA_TUPLE_ORIG, GET};
use super::netlink::{Messages, NLA_F_NESTED, NetlinkError, Socket, attribute};
use super::translation::tracks_anything;
use super::{Backend, FirewallError, Inspection};
use crate::ledger::{Change, Entry, Port, Protocol, Scope};
use crate::time::Timestamp;

/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = 0x0102;
// Attributes, from `linux/netfilter/nfnetlink_conntrack.h`.
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Bans that wait; those beyond end no flow.
const WAITING: usize = 256;
/// Most entries deleted at a time.
const MOST: usize = 16_384;
/// Entries deleted in one message to the kernel.
const CHUNK: usize = 256;
/// The kernel shows its whole table for it. The thread rests at least so long, and nine times as long as that took.
const REST: Duration = Duration::from_millis(250);
const SHARE: u32 = 9;

/// A change with more bans is a list that is loaded, not an attack: it ends no flows.
const LIVE: usize = 256;

/// The same backend, but what its bans have open is ended too. Without the thread for that, packets are dropped all the
/// same.
pub(super) fn ending(backend: Box<dyn Backend>) -> Box<dyn Backend> {
    match Flows::spawn() {
        Ok(flows) => Box::new(Ending { backend, flows }),
        Err(_) => backend,
    }
}

struct Ending {
    backend: Box<dyn Backend>,
    flows: Flows,
}

impl Backend for Ending {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn sync(&mut self, entries: &[Entry], now: Timestamp) -> Result<(), FirewallError> {
        self.backend.sync(entries, now)
    }

    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Result<(), FirewallError> {
        let done = self.backend.apply(changes, now);
        // Where there was no room for all, some of them are banned all the same.
        if !matches!(done, Ok(()) | Err(FirewallError::Full { .. })) {
            return done;
        }
        let set = |change: &Change| match change {
            Change::Set(entry) => Some((entry.prefix, entry.scope.clone())),
            Change::Clear { .. } => None,
        };
        if changes.len() <= LIVE {
            changes.iter().filter_map(set).for_each(|(prefix, scope)| self.flows.end(prefix, &scope));
        }
        done
    }

    fn look_every(&self) -> Duration {
        self.backend.look_every()
    }

    fn shortage(&self) -> Option<String> {
        self.backend.shortage()
    }

    fn inspect(&mut self, now: Timestamp) -> Result<Inspection, FirewallError> {
        self.backend.inspect(now)
    }

    fn installed(&mut self, now: Timestamp) -> usize {
        self.backend.installed(now)
    }

    fn held(&mut self, now: Timestamp) -> Result<Vec<Entry>, FirewallError> {
        self.backend.held(now)
    }

    fn rearm(&mut self, now: Timestamp) -> Result<(), FirewallError> {
        self.backend.rearm(now)
    }

    fn remove(&mut self) -> Result<(), FirewallError> {
        self.backend.remove()
    }
}

/// The thread that ends flows. It ends when this is dropped.
#[derive(Debug)]
struct Flows(SyncSender<(IpNet, Scope)>);

impl Flows {
    /// In the network namespace of the caller.
    fn spawn() -> io::Result<Flows> {
        let (sender, bans) = sync_channel(WAITING);
        thread::Builder::new().name("flows".to_owned()).spawn(move || run(&bans))?;
        Ok(Flows(sender))
    }

    /// Sooner or later. Never waits.
    ///
    /// An entry does not tell by which interface its packets come: those of another one must not lose theirs.
    fn end(&self, prefix: IpNet, scope: &Scope) {
        if scope.interface.is_some() || scope.limit.is_some() {
            return;
        }
        // When so many wait already, their packets are dropped all the same.
        let _full = self.0.try_send((prefix, scope.clone()));
    }
}

fn run(bans: &Receiver<(IpNet, Scope)>) {
    while let Ok(first) = bans.recv() {
        let banned: Banned = std::iter::once(first).chain(bans.try_iter().take(WAITING)).collect();
        let start = Instant::now();
        if tracks_anything() {
            // What cannot be asked or is refused stays: our rules drop its packets.
            let _kept = Socket::open().and_then(|mut socket| end(&mut socket, &banned));
        }
        thread::sleep(REST.max(start.elapsed() * SHARE));
    }
}

/// The bans whose flows end, found by address.
#[derive(Debug, Default)]
pub(super) struct Banned {
    lengths: Vec<u8>,
    scopes: HashMap<IpNet, Vec<Scope>>,
}

impl FromIterator<(IpNet, Scope)> for Banned {
    fn from_iter<T: IntoIterator<Item = (IpNet, Scope)>>(bans: T) -> Banned {
        let mut banned = Banned::default();
        for (prefix, scope) in bans {
            banned.lengths.push(prefix.prefix_len());
            banned.scopes.entry(prefix.trunc()).or_default().push(scope);
        }
        banned.lengths.sort_unstable();
        banned.lengths.dedup();
        banned
    }
}

impl Banned {
    /// Whether a flow from this address to this port is one that a ban drops.
    fn holds(&self, source: IpAddr, port: Option<Port>) -> bool {
        let of_length = |length: &u8| self.scopes.get(&IpNet::new(source, *length).ok()?.trunc());
        let mut scopes = self.lengths.iter().filter_map(of_length).flatten();
        scopes.any(|scope| scope.ports.is_empty() || port.is_some_and(|port| scope.ports.contains(&port)))
    }
}

/// Deletes the entries of these sources; gives how many there were.
fn end(socket: &mut Socket, banned: &Banned) -> Result<usize, NetlinkError> {
    let mut ended = 0;
    for family in [AF_INET, AF_INET6] {
        let mut question = Messages::default();
        question.begin(GET, 0, family, 0);
        let mut found: Vec<Vec<u8>> = Vec::new();
        socket.dump(&mut question, |_, entry| {
            if found.len() < MOST && is_of(entry, banned) {
                found.push(entry.to_vec());
            }
        })?;
        for chunk in found.chunks(CHUNK) {
            let mut messages = Messages::default();
            for entry in chunk {
                delete(&mut messages, family, entry);
            }
            // Those that ended meanwhile are refused.
            let _gone = socket.send(&mut messages)?;
        }
        ended += found.len();
    }
    Ok(ended)
}

/// The same entry and no later one: by its number as well as by its ends.
fn delete(messages: &mut Messages, family: u8, entry: &[u8]) {
    messages.begin(DELETE, 0, family, 0);
    for (kind, flags) in [(CTA_TUPLE_ORIG, NLA_F_NESTED), (CTA_ID, 0), (CTA_ZONE, 0)] {
        if let Some(value) = attribute(entry, kind) {
            messages.attribute(kind | flags, value);
        }
    }
}

/// Whether the flow was opened by one of these sources, to what it is banned from.
pub(super) fn is_of(entry: &[u8], banned: &Banned) -> bool {
    let nested = |path: &[u16]| path.iter().try_fold(entry, |bytes, kind| attribute(bytes, *kind));
    let v4 = nested(&[CTA_TUPLE_ORIG, CTA_TUPLE_IP, CTA_IP_V4_SRC]);
    let v6 = nested(&[CTA_TUPLE_ORIG, CTA_TUPLE_IP, CTA_IP_V6_SRC]);
    let address = |bytes: &[u8]| -> Option<IpAddr> {
        let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
    };
    let Some(source) = v4.or(v6).and_then(address) else { return false };
    let protocol = match nested(&[CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, CTA_PROTO_NUM]) {
        Some([TCP]) => Some(Protocol::Tcp),
        Some([UDP]) => Some(Protocol::Udp),
        _ => None,
    };
    let number = nested(&[CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT]);
    let number = number.and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
    banned.holds(source, protocol.zip(number).map(|(protocol, number)| Port { protocol, number }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_ended_by_a_ban_of_its_source_from_its_port() {
        let port = |number| Some(Port { protocol: Protocol::Tcp, number });
        let web = Scope::of_ports(port(80).into_iter().collect());
        let prefixes = [("192.0.2.0/24", Scope::default()), ("2001:db8::9/128", web)];
        let banned: Banned = prefixes.map(|(prefix, scope)| (prefix.parse().unwrap(), scope)).into_iter().collect();
        let holds = |address: &str, port| banned.holds(address.parse().unwrap(), port);
        assert!(holds("192.0.2.7", None) && holds("192.0.2.7", port(22)));
        assert!(!holds("192.0.3.7", port(22)) && !holds("2001:db8::8", port(80)));
        assert!(holds("2001:db8::9", port(80)));
        assert!(!holds("2001:db8::9", port(22)) && !holds("2001:db8::9", None));
    }
}
