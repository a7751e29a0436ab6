//! ipset's sets over netlink (`linux/netfilter/ipset/ip_set.h`): made, filled, changed, counted, read, swapped, destroyed.
//! All are of type `hash:net` with timeouts and counters. It knows sets and elements, not bans.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use ipnet::IpNet;

use super::netlink::{self, Messages, NLA_F_NET_BYTEORDER, NLM_F_CREATE, NetlinkError, Socket};
use super::{Count, FirewallError};
use crate::lock::lock;

/// Longest timeout that the kernel keeps, in seconds; it silently cuts longer ones.
pub(super) const LONGEST: Duration = Duration::from_secs(2_147_483);

/// The protocol version that every kernel since 2.6.39 accepts.
const PROTOCOL: u8 = 6;
const SUBSYSTEM: u16 = 6 << 8;
const TYPE_NAME: &str = "hash:net";

const CMD_CREATE: u16 = SUBSYSTEM + 2;
const CMD_DESTROY: u16 = SUBSYSTEM + 3;
const CMD_SWAP: u16 = SUBSYSTEM + 6;
const CMD_LIST: u16 = SUBSYSTEM + 7;
const CMD_ADD: u16 = SUBSYSTEM + 9;
const CMD_DEL: u16 = SUBSYSTEM + 10;
const CMD_TYPE: u16 = SUBSYSTEM + 13;

const ATTR_PROTOCOL: u16 = 1;
const ATTR_SETNAME: u16 = 2;
const ATTR_TYPENAME: u16 = 3;
const ATTR_REVISION: u16 = 4;
const ATTR_FAMILY: u16 = 5;
const ATTR_FLAGS: u16 = 6;
const ATTR_DATA: u16 = 7;
const ATTR_ADT: u16 = 8;
const ATTR_LINENO: u16 = 9;
/// Within `ATTR_DATA`.
const DATA_IP: u16 = 1;
const DATA_CIDR: u16 = 3;
const DATA_TIMEOUT: u16 = 6;
const DATA_FLAGS: u16 = 8;
const DATA_HASHSIZE: u16 = 18;
const DATA_MAXELEM: u16 = 19;
/// The same number in the description of a set and in that of an element.
const DATA_ELEMENTS: u16 = 24;
const DATA_BYTES: u16 = 24;
const DATA_PACKETS: u16 = 25;
/// Within `DATA_IP`.
const IP_V4: u16 = 1;
const IP_V6: u16 = 2;

/// In `DATA_FLAGS`: each element counts what it matches. 16 bytes per element.
const FLAG_WITH_COUNTERS: u32 = 1 << 3;

const FLAG_LIST_NAMES: u32 = 1 << 1;
const FLAG_LIST_HEADER: u32 = 1 << 2;

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
/// `IPSET_ERR_BUSY`: a rule uses the set.
const ERR_BUSY: i32 = 4100;
/// `IPSET_ERR_EXIST`: the element to delete is not there.
const ERR_EXIST: i32 = 4103;
/// `IPSET_ERR_HASH_FULL`, the first of the codes of a type.
const ERR_FULL: i32 = 4352;

/// How often, and after what pause, a set in use is tried again: half a second in all.
const BUSY_TRIES: usize = 25;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Messages per datagram when each stands alone, so that an error of one stops none of the others.
const CHANGES_AT_ONCE: usize = 512;
/// Elements per message when a set is filled: 800 of IPv6 with counters stay below the 64 KiB of an attribute.
const FILLED_AT_ONCE: usize = 800;
/// A set is made for this many elements at least: it costs nothing until they come.
const LEAST_CAPACITY: usize = 65_536 * 16;
const LEAST_BUCKETS: usize = 1024;
const MOST_BUCKETS: usize = 1 << 24;

/// `AF_INET` or `AF_INET6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Family; 2] = [Family::V4, Family::V6];

    pub(super) fn of(prefix: &IpNet) -> Family {
        if prefix.addr().is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Index into a pair of things, one per family.
    pub(super) fn index(self) -> usize {
        match self {
            Family::V4 => 0,
            Family::V6 => 1,
        }
    }

    /// `AF_INET`, `AF_INET6`.
    pub(super) fn number(self) -> u8 {
        match self {
            Family::V4 => 2,
            Family::V6 => 10,
        }
    }
}

/// What is to happen to one element of a set. Timeouts are whole seconds up to [`LONGEST`], 0 for ever.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// A fresh one counts from nothing, also where the kernel has not swept out one that is over.
    Add {
        set: &'a str,
        prefix: IpNet,
        timeout: u32,
        fresh: bool,
    },
    Delete {
        set: &'a str,
        prefix: IpNet,
    },
}

/// An element as the kernel holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) prefix: IpNet,
    /// Seconds left, 0 for ever.
    pub(super) timeout: u32,
    /// What it has matched; `None` in a set without counters.
    pub(super) count: Option<Count>,
}

/// While a set's elements are read, by whichever thread, the kernel refuses to swap or destroy it.
static READING: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    lock(&READING)
}

#[derive(Debug)]
pub(super) struct Ipset {
    socket: Socket,
    revision: u8,
}

impl Ipset {
    /// Fails when the kernel has no ipset or we may not use it.
    pub(super) fn open() -> Result<Ipset, FirewallError> {
        let mut socket = Socket::open().map_err(FirewallError::of("a netlink socket"))?;
        let mut messages = Messages::default();
        begin(&mut messages, CMD_TYPE, 0, Family::V4);
        messages.text(ATTR_TYPENAME, TYPE_NAME);
        messages.attribute(ATTR_FAMILY, &[Family::V4.number()]);
        let mut revision = None;
        let answer = socket.ask(&mut messages, &mut |_, body| {
            revision = netlink::attribute(body, ATTR_REVISION).and_then(|value| value.first().copied());
        });
        match (answer, revision) {
            (Ok(_), Some(revision)) => Ok(Ipset { socket, revision }),
            (Err(error @ (NetlinkError::Refused(1) | NetlinkError::Silent | NetlinkError::Socket(_))), _) => {
                Err(FirewallError::of("ipset's version")(error))
            }
            _ => Err(FirewallError::ModuleMissing { complaint: "no ipset with the type hash:net".to_owned() }),
        }
    }

    /// Makes an empty set for `expected` elements and as many more; one that is there already is left as it is.
    pub(super) fn create(&mut self, set: &str, family: Family, expected: usize) -> Result<(), FirewallError> {
        let buckets = expected.next_power_of_two().clamp(LEAST_BUCKETS, MOST_BUCKETS);
        let capacity = expected.saturating_mul(2).max(LEAST_CAPACITY);
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes();
        let mut messages = Messages::default();
        begin(&mut messages, CMD_CREATE, NLM_F_CREATE, family);
        messages.text(ATTR_SETNAME, set);
        messages.text(ATTR_TYPENAME, TYPE_NAME);
        messages.attribute(ATTR_REVISION, &[self.revision]);
        messages.attribute(ATTR_FAMILY, &[family.number()]);
        messages.open(ATTR_DATA);
        messages.attribute(DATA_HASHSIZE | NLA_F_NET_BYTEORDER, &number(buckets));
        messages.attribute(DATA_MAXELEM | NLA_F_NET_BYTEORDER, &number(capacity));
        messages.attribute(DATA_TIMEOUT | NLA_F_NET_BYTEORDER, &0u32.to_be_bytes());
        messages.attribute(DATA_FLAGS | NLA_F_NET_BYTEORDER, &FLAG_WITH_COUNTERS.to_be_bytes());
        messages.close();
        match self.socket.send_one(&mut messages) {
            Ok(()) | Err(NetlinkError::Refused(EEXIST)) => Ok(()),
            Err(error) => Err(FirewallError::of("an ipset")(error)),
        }
    }

    /// Puts many elements into a set, many per message, with what they have counted. The kernel stops at the first
    /// error.
    pub(super) fn fill(
        &mut self,
        set: &str,
        elements: &[(IpNet, u32)],
        counted: &HashMap<IpNet, Count>,
    ) -> Result<(), FirewallError> {
        let mut messages = Messages::default();
        for chunk in elements.chunks(FILLED_AT_ONCE) {
            messages.clear();
            begin(&mut messages, CMD_ADD, 0, Family::V4);
            messages.text(ATTR_SETNAME, set);
            messages.attribute(ATTR_LINENO, &1u32.to_ne_bytes());
            messages.open(ATTR_ADT);
            for (prefix, timeout) in chunk {
                element(&mut messages, prefix, Some(*timeout), counted.get(prefix));
            }
            messages.close();
            self.socket.send_one(&mut messages).map_err(|error| adding(set, error))?;
        }
        Ok(())
    }

    /// Does many steps, each for itself; those behind a failed one are done as well. The first error is returned.
    pub(super) fn change(&mut self, steps: &[Step<'_>]) -> Result<(), FirewallError> {
        let mut messages = Messages::default();
        let mut first_error = None;
        for chunk in steps.chunks(CHANGES_AT_ONCE) {
            messages.clear();
            for step in chunk {
                write_step(&mut messages, step);
            }
            let refused = self.socket.send(&mut messages).map_err(FirewallError::of("changes to an ipset"))?;
            for (index, code) in refused {
                if let Some(error) = chunk.get(index).and_then(|step| failed(step, code)) {
                    first_error.get_or_insert(error);
                }
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Exchanges the elements of two sets at once; rules keep their set's name.
    pub(super) fn swap(&mut self, one: &str, other: &str) -> Result<(), FirewallError> {
        let mut messages = Messages::default();
        begin(&mut messages, CMD_SWAP, 0, Family::V4);
        messages.text(ATTR_SETNAME, one);
        messages.text(ATTR_TYPENAME, other);
        let _alone = alone();
        self.socket.send_one(&mut messages).map_err(FirewallError::of("the exchange of an ipset"))
    }

    /// Destroys a set; one that is absent is fine. Waits a while for rules that used it: `nf_tables` lets go of what a
    /// removed rule held only some milliseconds after it said that the rule is gone.
    pub(super) fn destroy(&mut self, set: &str) -> Result<(), FirewallError> {
        let mut messages = Messages::default();
        begin(&mut messages, CMD_DESTROY, 0, Family::V4);
        messages.text(ATTR_SETNAME, set);
        let _alone = alone();
        let mut answer = self.socket.send_one(&mut messages);
        for _ in 0..BUSY_TRIES {
            if answer != Err(NetlinkError::Refused(ERR_BUSY)) {
                break;
            }
            std::thread::sleep(BUSY_PAUSE);
            answer = self.socket.send_one(&mut messages);
        }
        match answer {
            Ok(()) | Err(NetlinkError::Refused(ENOENT)) => Ok(()),
            Err(error) => Err(FirewallError::of("the removal of an ipset")(error)),
        }
    }

    /// The names of all sets, whoever made them.
    pub(super) fn names(&mut self) -> Result<Vec<String>, FirewallError> {
        let mut names = Vec::new();
        self.list(None, FLAG_LIST_NAMES, |body| {
            names.extend(netlink::attribute(body, ATTR_SETNAME).map(|name| netlink::text(name).to_owned()));
        })?;
        Ok(names)
    }

    /// How many elements each set holds, whoever made it. Those that are over count until they are swept out. Takes the
    /// same time however many there are.
    pub(super) fn counts(&mut self) -> Result<HashMap<String, usize>, FirewallError> {
        let mut counts = HashMap::new();
        self.list(None, FLAG_LIST_HEADER, |body| {
            let name = netlink::attribute(body, ATTR_SETNAME).map(|name| netlink::text(name).to_owned());
            let elements = netlink::attribute(body, ATTR_DATA).and_then(|data| netlink::attribute(data, DATA_ELEMENTS));
            let count = elements.and_then(big_endian).and_then(|number| usize::try_from(number).ok());
            counts.extend(name.zip(count));
        })?;
        Ok(counts)
    }

    /// Hands out all elements of a set; none when there is no such set. Half a microsecond for each, so for many it is
    /// no work for the thread that bans.
    pub(super) fn each_element(&mut self, set: &str, mut each: impl FnMut(Element)) -> Result<(), FirewallError> {
        let _alone = alone();
        self.list(Some(set), 0, |body| {
            let list = netlink::attribute(body, ATTR_ADT).unwrap_or_default();
            netlink::attributes(list).filter_map(|(_, data)| read_element(data)).for_each(&mut each);
        })?;
        Ok(())
    }

    /// `Ok(false)` when there is no such set.
    fn list(&mut self, set: Option<&str>, flags: u32, mut each: impl FnMut(&[u8])) -> Result<bool, FirewallError> {
        let mut messages = Messages::default();
        begin(&mut messages, CMD_LIST, 0, Family::V4);
        if let Some(set) = set {
            messages.text(ATTR_SETNAME, set);
        }
        messages.attribute(ATTR_FLAGS | NLA_F_NET_BYTEORDER, &flags.to_be_bytes());
        match self.socket.dump(&mut messages, |_, body| each(body)) {
            Ok(_) => Ok(true),
            Err(NetlinkError::Refused(ENOENT)) => Ok(false),
            Err(error) => Err(FirewallError::of("a look at an ipset")(error)),
        }
    }
}

/// How many messages make bans of these; for the benches.
#[cfg(feature = "bench")]
pub(crate) fn messages_of(prefixes: &[IpNet]) -> usize {
    let mut messages = Messages::default();
    for prefix in prefixes {
        write_step(&mut messages, &Step::Add { set: "banward-4", prefix: *prefix, timeout: 600, fresh: true });
    }
    messages.len()
}

fn begin(messages: &mut Messages, command: u16, flags: u16, family: Family) {
    messages.begin(command, flags, family.number(), 0);
    messages.attribute(ATTR_PROTOCOL, &[PROTOCOL]);
}

/// Without `NLM_F_EXCL`: adding again sets the timeout anew, deleting what is absent is done.
fn write_step(messages: &mut Messages, step: &Step<'_>) {
    let nothing = Count::default();
    let (command, set, prefix, timeout, count) = match step {
        Step::Add { set, prefix, timeout, fresh } => (CMD_ADD, set, prefix, Some(*timeout), fresh.then_some(&nothing)),
        Step::Delete { set, prefix } => (CMD_DEL, set, prefix, None, None),
    };
    begin(messages, command, 0, Family::of(prefix));
    messages.text(ATTR_SETNAME, set);
    element(messages, prefix, timeout, count);
}

/// An element always carries its timeout when added: without one an element that is there would become one for ever.
/// Without a count, one that is there keeps its own.
pub(super) fn element(messages: &mut Messages, prefix: &IpNet, timeout: Option<u32>, count: Option<&Count>) {
    messages.open(ATTR_DATA);
    messages.open(DATA_IP);
    match prefix.network() {
        IpAddr::V4(address) => messages.attribute(IP_V4 | NLA_F_NET_BYTEORDER, &address.octets()),
        IpAddr::V6(address) => messages.attribute(IP_V6 | NLA_F_NET_BYTEORDER, &address.octets()),
    }
    messages.close();
    messages.attribute(DATA_CIDR, &[prefix.prefix_len()]);
    if let Some(timeout) = timeout {
        messages.attribute(DATA_TIMEOUT | NLA_F_NET_BYTEORDER, &timeout.to_be_bytes());
    }
    if let Some(Count { packets, bytes }) = count {
        messages.attribute(DATA_BYTES | NLA_F_NET_BYTEORDER, &bytes.to_be_bytes());
        messages.attribute(DATA_PACKETS | NLA_F_NET_BYTEORDER, &packets.to_be_bytes());
    }
    messages.close();
}

pub(super) fn read_element(data: &[u8]) -> Option<Element> {
    let (kind, octets) = netlink::attributes(netlink::attribute(data, DATA_IP)?).next()?;
    let address: IpAddr = match kind {
        IP_V4 => Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into(),
        IP_V6 => Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into(),
        _ => return None,
    };
    let length = *netlink::attribute(data, DATA_CIDR)?.first()?;
    let timeout = netlink::attribute(data, DATA_TIMEOUT).and_then(big_endian)?;
    let number = |kind| netlink::attribute(data, kind).and_then(|value| value.try_into().ok()).map(u64::from_be_bytes);
    let count = number(DATA_PACKETS).zip(number(DATA_BYTES)).map(|(packets, bytes)| Count { packets, bytes });
    Some(Element { prefix: IpNet::new(address, length).ok()?, timeout, count })
}

fn big_endian(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// What a refused step means; nothing when it deleted what was not there.
fn failed(step: &Step<'_>, code: i32) -> Option<FirewallError> {
    match step {
        Step::Delete { .. } if code == ERR_EXIST => None,
        Step::Delete { .. } => Some(FirewallError::refused("the removal of a ban from its ipset", code)),
        Step::Add { set, .. } => Some(adding(set, NetlinkError::Refused(code))),
    }
}

fn adding(set: &str, error: NetlinkError) -> FirewallError {
    match error {
        NetlinkError::Refused(ERR_FULL) => FirewallError::SetFull { set: set.to_owned() },
        error => FirewallError::of("a ban in its ipset")(error),
    }
}
