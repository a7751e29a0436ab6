//! Names for scopes: a set exists once per scope, and its name tells which.

use std::fmt::Write as _;

use crate::ledger::{Port, Protocol, Scope};

/// Eight characters that stand for a scope in the name of an ipset, where there is no room to spell it: `all`, or
/// the FNV-1a hash of its ports, which is the same in every version and on every machine.
pub(super) fn short_name(scope: &Scope) -> String {
    if scope.0.is_empty() {
        return "all".to_owned();
    }
    let mut hash: u32 = 0x811c_9dc5;
    for port in scope.0.iter() {
        let [high, low] = port.number.to_be_bytes();
        for byte in [u8::from(port.protocol == Protocol::Udp), high, low] {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
    format!("{hash:08x}")
}

/// A scope spelled out: `all`, `80t_443t_443u`. At most 7 characters per port.
pub(super) fn long_name(scope: &Scope) -> String {
    let mut name = String::new();
    for port in scope.0.iter() {
        let separator = if name.is_empty() { "" } else { "_" };
        let letter = if port.protocol == Protocol::Tcp { 't' } else { 'u' };
        let _ = write!(name, "{separator}{}{letter}", port.number);
    }
    if name.is_empty() { "all".to_owned() } else { name }
}

/// Reads what [`long_name`] wrote.
pub(super) fn parse_long_name(name: &str) -> Option<Scope> {
    if name == "all" {
        return Some(Scope::default());
    }
    let ports = name.split('_').map(|part| {
        let (number, protocol) = match part.strip_suffix('t') {
            Some(number) => (number, Protocol::Tcp),
            None => (part.strip_suffix('u')?, Protocol::Udp),
        };
        Some(Port { protocol, number: number.parse().ok()? })
    });
    ports.collect::<Option<Vec<_>>>().map(of)
}

/// The scope of these ports, in the order that makes equal scopes equal.
pub(super) fn of(mut ports: Vec<Port>) -> Scope {
    ports.sort_unstable();
    ports.dedup();
    Scope(ports.into())
}

/// The ports of one protocol.
pub(super) fn ports_of(scope: &Scope, protocol: Protocol) -> Vec<u16> {
    scope.0.iter().filter(|port| port.protocol == protocol).map(|port| port.number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(list: &[(Protocol, u16)]) -> Scope {
        of(list.iter().map(|&(protocol, number)| Port { protocol, number }).collect())
    }

    #[test]
    fn a_scope_spelled_out_is_read_back() {
        let web = ports(&[(Protocol::Udp, 443), (Protocol::Tcp, 443), (Protocol::Tcp, 80)]);
        assert_eq!(long_name(&web), "80t_443t_443u");
        assert_eq!(parse_long_name("80t_443t_443u"), Some(web));
        assert_eq!(parse_long_name("all"), Some(Scope::default()));
        assert_eq!(parse_long_name("80x"), None);
        assert_eq!(parse_long_name(""), None);
    }

    #[test]
    fn short_names_differ_by_protocol_and_stay_the_same_for_ever() {
        assert_eq!(short_name(&Scope::default()), "all");
        assert_eq!(short_name(&ports(&[(Protocol::Tcp, 80)])).len(), 8);
        assert_ne!(short_name(&ports(&[(Protocol::Tcp, 80)])), short_name(&ports(&[(Protocol::Udp, 80)])));
    }
}
