//! Names for scopes: a set exists once per scope, and its name tells which.

use std::fmt::Write as _;

use crate::ledger::limit::{Limit, Unit};
use crate::ledger::{Direction, Extent, Interface, Port, Protocol, Scope, Target};
use crate::text::meaning_of;

/// Eight characters that stand for a scope in the name of an ipset, where there is no room to spell it: `all`, or
/// the FNV-1a hash of its ports and whatever else it says, which is the same in every version and on every machine.
pub(super) fn short_name(scope: &Scope) -> String {
    if scope.is_all() {
        return "all".to_owned();
    }
    let mut hash: u32 = 0x811c_9dc5;
    let mut add = |byte: u8| hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    for port in &scope.ports {
        let [high, low] = port.number.to_be_bytes();
        [u8::from(port.protocol == Protocol::Udp), high, low].into_iter().for_each(&mut add);
    }
    rest_of_name(scope).bytes().for_each(&mut add);
    format!("{hash:08x}")
}

/// A scope spelled out: `all`, `80t_443t_443u`, `80t_ieth0_din_tREJECT_l10s20`. Ports have at most 7 characters each, the
/// rest has 83.
pub(super) fn long_name(scope: &Scope) -> String {
    let mut name = String::new();
    for port in &scope.ports {
        let separator = if name.is_empty() { "" } else { "_" };
        let letter = if port.protocol == Protocol::Tcp { 't' } else { 'u' };
        let _ = write!(name, "{separator}{}{letter}", port.number);
    }
    let ports = if name.is_empty() { "all" } else { &name };
    format!("{ports}{}", rest_of_name(scope))
}

/// What a scope says beside ports, each part with its letter: `_ieth0_din`.
pub(super) fn rest_of_name(scope: &Scope) -> String {
    let mut name = String::new();
    if let Some(interface) = &scope.interface {
        let _ = write!(name, "_i{}", escaped(&interface.to_string()));
    }
    if let Some(direction) = scope.direction {
        let _ = write!(name, "_d{direction}");
    }
    if let Some(target) = scope.target {
        let _ = write!(name, "_t{target}");
    }
    if let Some(Limit { packets, per, burst }) = scope.limit {
        let _ = write!(name, "_l{packets}{:.1}{burst}", per.word());
    }
    name
}

/// What nft allows in the name of a set and is no `_`, which separates; the rest as `/` and two digits.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'.' {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "/{byte:02x}");
        }
    }
    escaped
}

fn unescaped(text: &str) -> Option<String> {
    let mut parts = text.split('/');
    let mut unescaped = parts.next()?.to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        unescaped.push(char::from(u8::from_str_radix(digits, 16).ok()?));
        unescaped.push_str(rest);
    }
    Some(unescaped)
}

/// Reads what [`long_name`] wrote.
pub(super) fn parse_long_name(name: &str) -> Option<Scope> {
    let mut extent = Extent::default();
    let mut parts = name.split('_').peekable();
    if parts.next_if_eq(&"all").is_none() {
        while let Some(part) = parts.next_if(|part| part.starts_with(|c: char| c.is_ascii_digit())) {
            extent.ports.push(parse_port(part)?);
        }
        if extent.ports.is_empty() {
            return None;
        }
    }
    for part in parts {
        let (letter, value) = part.split_at_checked(1)?;
        match letter {
            "i" => extent.interface = Some(unescaped(value)?.parse::<Interface>().ok()?),
            "d" => extent.direction = Some(meaning_of(&Direction::WORDS, value)?),
            "t" => extent.target = Some(meaning_of(&Target::WORDS, value)?),
            "l" => extent.limit = Some(parse_limit(value)?),
            _ => return None,
        }
    }
    Some(Scope::from(extent))
}

fn parse_port(part: &str) -> Option<Port> {
    let (number, protocol) = match part.strip_suffix('t') {
        Some(number) => (number, Protocol::Tcp),
        None => (part.strip_suffix('u')?, Protocol::Udp),
    };
    Some(Port { protocol, number: number.parse().ok()? })
}

fn parse_limit(text: &str) -> Option<Limit> {
    let (at, letter) = text.char_indices().find(|(_, c)| c.is_ascii_alphabetic())?;
    let per = Unit::ALL.into_iter().find(|unit| unit.word().starts_with(letter))?;
    Some(Limit { packets: text.get(..at)?.parse().ok()?, per, burst: text.get(at + 1..)?.parse().ok()? })
}

/// The scope of these ports and of what [`rest_of_name`] wrote, without the first `_`.
pub(super) fn of(ports: Vec<Port>, rest: &str) -> Option<Scope> {
    let rest = if rest.is_empty() { Scope::default() } else { parse_long_name(&format!("all_{rest}"))? };
    Some(rest.with(|extent| extent.ports = ports))
}

/// The ports of one protocol.
pub(super) fn ports_of(scope: &Scope, protocol: Protocol) -> Vec<u16> {
    scope.ports.iter().filter(|port| port.protocol == protocol).map(|port| port.number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(list: &[(Protocol, u16)]) -> Scope {
        Scope::of_ports(list.iter().map(|&(protocol, number)| Port { protocol, number }).collect())
    }

    #[test]
    fn a_scope_spelled_out_is_read_back() {
        let web = ports(&[(Protocol::Udp, 443), (Protocol::Tcp, 443), (Protocol::Tcp, 80)]);
        assert_eq!(long_name(&web), "80t_443t_443u");
        for name in [
            "80t_443t_443u",
            "all",
            "all_ieth0.100",
            "all_ibr/2dlan/5f/2b",
            "80t_din",
            "all_dboth_tPROHIBIT",
            "443u_ippp0_din_tREJECT_l10s20",
            "all_l1d10000",
        ] {
            let scope = parse_long_name(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(long_name(&scope), name);
        }
        assert_eq!(parse_long_name("80t_443t_443u"), Some(web));
        for name in ["80x", "", "ieth0", "all_", "all_x1", "all_l10", "all_ieth/2", "all_ieth/20"] {
            assert_eq!(parse_long_name(name), None, "{name}");
        }
    }

    #[test]
    fn short_names_differ_and_stay_the_same_for_ever() {
        assert_eq!(short_name(&Scope::default()), "all");
        let names = [
            ("80t", "1ab0ac27"),
            ("80u", "dbc9f8dc"),
            ("80t_ieth0", "f217792a"),
            ("80t_din", "810c5f5b"),
            ("all_ieth0", "568b05e4"),
        ];
        for (long, short) in names {
            assert_eq!(short_name(&parse_long_name(long).unwrap()), short, "{long}");
        }
    }
}
