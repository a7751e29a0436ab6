//! `nf_tables` over netlink (`linux/netfilter/nf_tables.h`): elements of sets, what stands in a table, and the
//! generation of the whole rule set. Elements are /32 and /128 or the network of their set's prefix length.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::netlink::{self, Messages, NLM_F_CREATE, NetlinkError, Socket};
use super::{Count, FirewallError};

const SUBSYSTEM: u8 = 10;
const KIND: u16 = (SUBSYSTEM as u16) << 8;
const GET_CHAIN: u16 = KIND + 4;
const GET_RULE: u16 = KIND + 7;
const GET_SET: u16 = KIND + 10;
const NEW_ELEMENT: u16 = KIND + 12;
const GET_ELEMENT: u16 = KIND + 13;
const DELETE_ELEMENT: u16 = KIND + 14;
const GET_GENERATION: u16 = KIND + 16;
const DESTROY_ELEMENT: u16 = KIND + 30;

/// `NFPROTO_INET`.
const INET: u8 = 1;

/// The attribute with the table's name in chains, rules, sets and lists of elements alike.
const ATTR_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const SET_NAME: u16 = 2;
const SET_HANDLE: u16 = 16;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_TIMEOUT: u16 = 4;
const ELEMENT_EXPIRATION: u16 = 5;
const ELEMENT_EXPRESSION: u16 = 7;
/// Of a set whose elements have several.
const ELEMENT_EXPRESSIONS: u16 = 11;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const COUNTER_BYTES: u16 = 1;
const COUNTER_PACKETS: u16 = 2;
const DATA_VALUE: u16 = 1;
const GENERATION_ID: u16 = 1;

const ENOENT: i32 = 2;

/// Elements per message: so many of IPv6 with a timeout stay below the 64 KiB of an attribute, and five such messages fit a
/// socket whose buffers could not be enlarged.
pub(super) const ELEMENTS_AT_ONCE: usize = 600;

/// One element of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) address: IpAddr,
    /// Milliseconds, `None` for ever.
    pub(super) left: Option<u64>,
    /// What it has matched, in a set that counts.
    pub(super) count: Option<Count>,
}

/// An address, and for how many milliseconds it is to be in a set, `None` for ever.
pub(super) type Wanted = (IpAddr, Option<u64>);

/// What is to happen to elements of one set. Within a transaction the steps are done in order. No address may come twice in
/// one step.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// An element that is there stays as it is.
    Add { set: &'a str, elements: &'a [Wanted] },
    /// What is not there is none.
    Remove { set: &'a str, addresses: &'a [IpAddr] },
}

/// The number of the rule set's last change in this network namespace, by whomever.
pub(super) fn generation(socket: &mut Socket) -> Result<u32, FirewallError> {
    let mut messages = Messages::default();
    messages.begin(GET_GENERATION, 0, 0, 0);
    let mut generation = None;
    let answer = socket.ask(&mut messages, &mut |_, body| {
        let value = netlink::attribute(body, GENERATION_ID).and_then(|value| value.try_into().ok());
        generation = value.map(u32::from_be_bytes);
    });
    answer.map_err(FirewallError::of("the generation of nf_tables"))?;
    generation.ok_or(FirewallError::ModuleMissing { complaint: "nf_tables does not answer".to_owned() })
}

/// Whether the kernel has a message that deletes elements if they are there: since 6.3.
pub(super) fn can_destroy(socket: &mut Socket, table: &str) -> bool {
    // No set has this name; which is the answer of a kernel that knows what is asked for.
    let answer = socket.transaction(SUBSYSTEM, |messages| write(messages, DESTROY_ELEMENT, table, "-", &[]));
    answer == Err(NetlinkError::Refused(ENOENT))
}

/// Does all the steps or none, with one number of generation, or none where all is so already.
pub(super) fn transaction(
    socket: &mut Socket,
    table: &str,
    steps: &[Step<'_>],
    can_destroy: bool,
) -> Result<(), FirewallError> {
    let answer = socket.transaction(SUBSYSTEM, |messages| {
        for step in steps {
            match step {
                Step::Add { set, elements } => {
                    elements.chunks(ELEMENTS_AT_ONCE).for_each(|part| write(messages, NEW_ELEMENT, table, set, part));
                }
                Step::Remove { set, addresses } => {
                    for part in addresses.chunks(ELEMENTS_AT_ONCE) {
                        let part: Vec<Wanted> = part.iter().map(|address| (*address, None)).collect();
                        if can_destroy {
                            write(messages, DESTROY_ELEMENT, table, set, &part);
                        } else {
                            // What is not there would fail the whole transaction.
                            write(messages, NEW_ELEMENT, table, set, &part);
                            write(messages, DELETE_ELEMENT, table, set, &part);
                        }
                    }
                }
            }
        }
    });
    answer.map_err(FirewallError::of("changes to a set of nf_tables"))
}

/// One message about elements of a set.
fn write(messages: &mut Messages, kind: u16, table: &str, set: &str, elements: &[Wanted]) {
    messages.begin(kind, if kind == NEW_ELEMENT { NLM_F_CREATE } else { 0 }, INET, 0);
    messages.text(ATTR_TABLE, table);
    messages.text(LIST_SET, set);
    messages.open(LIST_ELEMENTS);
    for (address, left) in elements {
        messages.open(LIST_ELEMENT);
        messages.open(ELEMENT_KEY);
        match address {
            IpAddr::V4(address) => messages.attribute(DATA_VALUE, &address.octets()),
            IpAddr::V6(address) => messages.attribute(DATA_VALUE, &address.octets()),
        }
        messages.close();
        if let Some(left) = left {
            messages.attribute(ELEMENT_TIMEOUT, &left.to_be_bytes());
        }
        messages.close();
    }
    messages.close();
}

/// All elements of a set. Empty when there is no such set.
pub(super) fn elements(socket: &mut Socket, table: &str, set: &str) -> Result<Vec<Element>, FirewallError> {
    let mut elements = Vec::new();
    each_element(socket, table, set, |element| elements.extend(read_element(element)))?;
    Ok(elements)
}

/// Whether an address is in a set.
pub(super) fn holds(socket: &mut Socket, table: &str, set: &str, address: IpAddr) -> Result<bool, FirewallError> {
    let mut messages = Messages::default();
    write(&mut messages, GET_ELEMENT, table, set, &[(address, None)]);
    match socket.ask(&mut messages, &mut |_, _| ()) {
        Ok(_) => Ok(true),
        Err(NetlinkError::Refused(ENOENT)) => Ok(false),
        Err(error) => Err(FirewallError::of("a look at a set of nf_tables")(error)),
    }
}

/// How many elements a set has. Takes time in proportion to them.
pub(super) fn count(socket: &mut Socket, table: &str, set: &str) -> Result<usize, FirewallError> {
    let mut count = 0;
    each_element(socket, table, set, |_| count += 1)?;
    Ok(count)
}

fn each_element(socket: &mut Socket, table: &str, set: &str, mut each: impl FnMut(&[u8])) -> Result<(), FirewallError> {
    let mut messages = Messages::default();
    messages.begin(GET_ELEMENT, 0, INET, 0);
    messages.text(ATTR_TABLE, table);
    messages.text(LIST_SET, set);
    let answer = socket.dump(&mut messages, |_, body| {
        let list = netlink::attribute(body, LIST_ELEMENTS).unwrap_or_default();
        netlink::attributes(list).for_each(|(_, element)| each(element));
    });
    match answer {
        Ok(_) | Err(NetlinkError::Refused(ENOENT)) => Ok(()),
        Err(error) => Err(FirewallError::of("a look at a set of nf_tables")(error)),
    }
}

pub(super) fn read_element(element: &[u8]) -> Option<Element> {
    let value = netlink::attribute(netlink::attribute(element, ELEMENT_KEY)?, DATA_VALUE)?;
    let address: IpAddr = match value.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into(),
        _ => return None,
    };
    let number = |kind| netlink::attribute(element, kind).and_then(|v| v.try_into().ok()).map(u64::from_be_bytes);
    // An element that never ends has no timeout, or on newer kernels one of 0.
    let left = number(ELEMENT_TIMEOUT).filter(|timeout| *timeout != 0).and_then(|_| number(ELEMENT_EXPIRATION));
    Some(Element { address, left, count: read_count(element) })
}

fn read_count(element: &[u8]) -> Option<Count> {
    let several = netlink::attribute(element, ELEMENT_EXPRESSIONS).unwrap_or_default();
    let expressions = netlink::attributes(several).map(|(_, expression)| expression);
    netlink::attribute(element, ELEMENT_EXPRESSION).into_iter().chain(expressions).find_map(counter)
}

fn counter(expression: &[u8]) -> Option<Count> {
    if netlink::text(netlink::attribute(expression, EXPRESSION_NAME)?) != "counter" {
        return None;
    }
    let data = netlink::attribute(expression, EXPRESSION_DATA)?;
    let number = |kind| netlink::attribute(data, kind).and_then(|v| v.try_into().ok()).map(u64::from_be_bytes);
    Some(Count { packets: number(COUNTER_PACKETS)?, bytes: number(COUNTER_BYTES)? })
}

/// The names of the sets of a table; `None` when the list changed while it was read.
pub(super) fn sets(socket: &mut Socket, table: &str) -> Result<Option<Vec<String>>, FirewallError> {
    let mut names = Vec::new();
    let consistent = list(socket, GET_SET, table, |body| {
        names.extend(netlink::attribute(body, SET_NAME).map(|name| netlink::text(name).to_owned()));
    })?;
    Ok(consistent.then_some(names))
}

/// The names of the chains of a table.
pub(super) fn chains(socket: &mut Socket, table: &str) -> Result<Vec<String>, FirewallError> {
    let mut names = Vec::new();
    list(socket, GET_CHAIN, table, |body| {
        names.extend(netlink::attribute(body, CHAIN_NAME).map(|name| netlink::text(name).to_owned()));
    })?;
    Ok(names)
}

/// A number that is another one when a chain, a rule or a set of the table is another one, elements aside; `None`
/// when something changed while it was read.
pub(super) fn fingerprint(socket: &mut Socket, table: &str) -> Result<Option<u64>, FirewallError> {
    let mut hash = DefaultHasher::new();
    let mut consistent = true;
    for kind in [GET_CHAIN, GET_RULE] {
        consistent &= list(socket, kind, table, |body| body.hash(&mut hash))?;
    }
    consistent &= list(socket, GET_SET, table, |body| {
        (netlink::attribute(body, SET_NAME), netlink::attribute(body, SET_HANDLE)).hash(&mut hash);
    })?;
    Ok(consistent.then(|| hash.finish()))
}

/// Lists the things of one kind in a table. The kernel may ignore the wish for one table only.
fn list(socket: &mut Socket, kind: u16, table: &str, mut each: impl FnMut(&[u8])) -> Result<bool, FirewallError> {
    let mut messages = Messages::default();
    messages.begin(kind, 0, INET, 0);
    messages.text(ATTR_TABLE, table);
    let answer = socket.dump(&mut messages, |_, body| {
        if netlink::attribute(body, ATTR_TABLE).map(netlink::text) == Some(table) {
            each(body);
        }
    });
    match answer {
        Ok(consistent) => Ok(consistent),
        Err(NetlinkError::Refused(ENOENT)) => Ok(true),
        Err(error) => Err(FirewallError::of("a look at a table of nf_tables")(error)),
    }
}
