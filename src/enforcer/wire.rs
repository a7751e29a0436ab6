//! How a message is written: a tag, then its parts, all of fixed order and little-endian. Whoever reads trusts nothing:
//! what is short, too long, unknown or followed by something else is no message.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::MAX_PORTS;
use crate::firewall::{Choice, Count, Refused};
use crate::ledger::limit::{LONGEST_REFILL, Limit, Unit};
use crate::ledger::{Change, Direction, Entry, Extent, Interface, Port, Protocol, Scope, Target};
use crate::time::{Timestamp, Until};

/// Longest text in a message, in bytes.
pub(super) const MAX_TEXT: usize = 4000;

/// A value that can be written and read back.
pub(super) trait Wire: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(rest: &mut Rest<'_>) -> Option<Self>;
}

/// What is left of a message.
pub(super) struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    pub(super) fn of(message: &'a [u8]) -> Rest<'a> {
        Rest(message)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    /// All values to the end of the message.
    pub(super) fn all<T: Wire>(&mut self) -> Option<Vec<T>> {
        let mut values = Vec::new();
        while !self.is_empty() {
            values.push(T::take(self)?);
        }
        Some(values)
    }
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn take(rest: &mut Rest<'_>) -> Option<Self> {
                rest.array().map(<$type>::from_le_bytes)
            }
        }
    )*};
}

number!(u8, u16, u32, u64, i64);

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        match u8::take(rest)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        if bool::take(rest)? { T::take(rest).map(Some) } else { Some(None) }
    }
}

/// What is longer than a text may be is cut.
impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        let end = (0..=MAX_TEXT.min(self.len())).rev().find(|end| self.is_char_boundary(*end));
        let text = self.get(..end.unwrap_or(0)).unwrap_or_default();
        u16::try_from(text.len()).unwrap_or_default().put(out);
        out.extend_from_slice(text.as_bytes());
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        let length = usize::from(u16::take(rest)?);
        let bytes = rest.bytes(length).filter(|_| length <= MAX_TEXT)?;
        String::from_utf8(bytes.to_vec()).ok()
    }
}

impl Wire for IpAddr {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            IpAddr::V4(address) => {
                out.push(4);
                out.extend_from_slice(&address.octets());
            }
            IpAddr::V6(address) => {
                out.push(6);
                out.extend_from_slice(&address.octets());
            }
        }
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        match u8::take(rest)? {
            4 => rest.array::<4>().map(IpAddr::from),
            6 => rest.array::<16>().map(IpAddr::from),
            _ => None,
        }
    }
}

impl Wire for IpNet {
    fn put(&self, out: &mut Vec<u8>) {
        self.prefix_len().put(out);
        self.addr().put(out);
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        let length = u8::take(rest)?;
        IpNet::new(IpAddr::take(rest)?, length).ok()
    }
}

impl Wire for Port {
    fn put(&self, out: &mut Vec<u8>) {
        (self.protocol == Protocol::Udp).put(out);
        self.number.put(out);
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        let protocol = if bool::take(rest)? { Protocol::Udp } else { Protocol::Tcp };
        Some(Port { protocol, number: u16::take(rest)? })
    }
}

/// One of few: its place among their words.
macro_rules! choice {
    ($($type:ty),*) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                let place = <$type>::WORDS.iter().position(|(_, value)| value == self);
                out.push(place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX));
            }

            fn take(rest: &mut Rest<'_>) -> Option<Self> {
                let place = usize::from(u8::take(rest)?);
                <$type>::WORDS.get(place).map(|(_, value)| *value)
            }
        }
    )*};
}

choice!(Choice, Direction, Target);

/// It becomes a part of our rules: what is not the name of an interface is no message.
impl Wire for Interface {
    fn put(&self, out: &mut Vec<u8>) {
        self.to_string().put(out);
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        String::take(rest)?.parse().ok()
    }
}

impl Wire for Limit {
    fn put(&self, out: &mut Vec<u8>) {
        self.packets.put(out);
        let unit = Unit::ALL.iter().position(|unit| *unit == self.per);
        out.push(unit.and_then(|unit| u8::try_from(unit).ok()).unwrap_or(u8::MAX));
        self.burst.put(out);
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        let packets = u32::take(rest)?;
        let per = *Unit::ALL.get(usize::from(u8::take(rest)?))?;
        let limit = Limit { packets, per, burst: u32::take(rest)? };
        (limit.packets > 0 && limit.burst > 0 && limit.refill() <= LONGEST_REFILL).then_some(limit)
    }
}

/// One byte where a ban concerns everything, as nearly all do.
impl Wire for Scope {
    fn put(&self, out: &mut Vec<u8>) {
        (!self.is_all()).put(out);
        if self.is_all() {
            return;
        }
        u16::try_from(self.ports.len()).unwrap_or(u16::MAX).put(out);
        self.ports.iter().for_each(|port| port.put(out));
        self.interface.put(out);
        self.direction.put(out);
        self.target.put(out);
        self.limit.put(out);
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        if !bool::take(rest)? {
            return Some(Scope::default());
        }
        let count = usize::from(u16::take(rest)?);
        let ports: Vec<Port> = (0..count).map(|_| Port::take(rest)).collect::<Option<_>>()?;
        // Sorted and without duplicates, as a scope is everywhere.
        let in_order = ports.is_sorted_by(|one, next| one < next);
        let scope = Scope::from(Extent {
            ports,
            interface: Wire::take(rest)?,
            direction: Wire::take(rest)?,
            target: Wire::take(rest)?,
            limit: Wire::take(rest)?,
        });
        (in_order && count <= MAX_PORTS && !scope.is_all()).then_some(scope)
    }
}

impl Wire for Timestamp {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_micros().put(out);
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        let micros = i64::take(rest)?;
        // Others are brought into its range, and so are never written.
        Some(Timestamp::from_micros(micros)).filter(|time| time.as_micros() == micros)
    }
}

impl Wire for Until {
    fn put(&self, out: &mut Vec<u8>) {
        let end = match self {
            Until::Forever => None,
            Until::At(end) => Some(*end),
        };
        end.put(out);
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        let end: Option<Timestamp> = Wire::take(rest)?;
        Some(end.map_or(Until::Forever, Until::At))
    }
}

impl Wire for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_secs().put(out);
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        u64::take(rest).map(Duration::from_secs)
    }
}

impl Wire for Count {
    fn put(&self, out: &mut Vec<u8>) {
        self.packets.put(out);
        self.bytes.put(out);
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        Some(Count { packets: u64::take(rest)?, bytes: u64::take(rest)? })
    }
}

impl Wire for Refused {
    fn put(&self, out: &mut Vec<u8>) {
        self.count.put(out);
        self.first.put(out);
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        Some(Refused { count: u64::take(rest)?, first: String::take(rest)? })
    }
}

impl Wire for Entry {
    fn put(&self, out: &mut Vec<u8>) {
        self.prefix.put(out);
        self.scope.put(out);
        self.until.put(out);
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        Some(Entry { prefix: IpNet::take(rest)?, scope: Scope::take(rest)?, until: Until::take(rest)? })
    }
}

impl Wire for Change {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Change::Set(entry) => {
                out.push(1);
                entry.put(out);
            }
            Change::Clear { prefix, scope } => {
                out.push(0);
                prefix.put(out);
                scope.put(out);
            }
        }
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        match u8::take(rest)? {
            0 => Some(Change::Clear { prefix: IpNet::take(rest)?, scope: Scope::take(rest)? }),
            1 => Entry::take(rest).map(Change::Set),
            _ => None,
        }
    }
}
