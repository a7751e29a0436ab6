//! Addresses, read from the bytes of a line by hand. In: text and a place. Out: the address there and where it ends.
//! A name is recognised as one, and never resolved.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Offender;
use super::bytes::run_of;

/// Longest text of an IPv6 address with an embedded IPv4 one (RFC 4291: 45 bytes), and a port or a stray colon.
const LONGEST: usize = 51;

/// What mail servers write before an IPv6 address in brackets (RFC 5321).
const TAG: &[u8] = b"IPv6:";

/// Longest interface name after `%` (`IFNAMSIZ` of the kernel is 16, with its NUL).
const LONGEST_ZONE: usize = 15;

/// Longest host name (RFC 1035).
const LONGEST_NAME: usize = 253;

/// Where an address or a name stands: its kind and the index of the first byte after it.
#[derive(Clone, Copy)]
pub(crate) struct Found<'t> {
    pub(crate) offender: Whom<'t>,
    pub(crate) end: usize,
}

/// An [`Offender`] where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom<'t> {
    Address(IpAddr),
    Name(&'t str),
}

impl From<Whom<'_>> for Offender {
    fn from(whom: Whom<'_>) -> Offender {
        match whom {
            Whom::Address(address) => Offender::Address(address),
            Whom::Name(name) => Offender::Name(name.to_owned()),
        }
    }
}

/// What stands at `start`: an address (bare or in brackets, its zone dropped), else a host name, else nothing.
/// The whole word is taken or none: `192.0.2.4` is not found in `192.0.2.45` or `192.0.2.4.example.org`.
pub(crate) fn offender_at(text: &[u8], start: usize) -> Option<Found<'_>> {
    if let Some((address, end)) = address_at(text, start) {
        return Some(Found { offender: Whom::Address(address), end });
    }
    let (name, end) = name_at(text, start)?;
    Some(Found { offender: Whom::Name(name), end })
}

/// The address at `start`, with `::ffff:a.b.c.d` folded to `a.b.c.d`, and where it ends.
pub(crate) fn address_at(text: &[u8], start: usize) -> Option<(IpAddr, usize)> {
    let rest = text.get(start..)?;
    if let Some(inside) = rest.strip_prefix(b"[") {
        let (address, length) = in_brackets(inside)?;
        return (inside.get(length) == Some(&b']')).then_some((address, start + length + 2));
    }
    let opened = start.checked_sub(1).is_some_and(|before| text[before] == b'[');
    let (address, length) = if opened { in_brackets(rest)? } else { bare(rest)? };
    ends_here(rest, length).then_some((address, start + length))
}

/// The address at `start` where a port must follow it, behind `mark`: `192.0.2.1.4711`, `2001:db8::1:443`. The text
/// itself does not tell the second from an address without a port, so the pattern must.
pub(crate) fn address_before_port(text: &[u8], start: usize, mark: u8) -> Option<Found<'_>> {
    let rest = text.get(start..)?;
    let run = run_of(rest, LONGEST + 1, is_address_byte);
    let run = rest.get(..run)?;
    let run = run.strip_suffix(b":").or_else(|| run.strip_suffix(b".")).unwrap_or(run);
    let (address, port) = run.split_at_checked(memchr::memrchr(mark, run)?)?;
    let (found, length) = bare(address).filter(|(_, length)| *length == address.len() && is_port(&port[1..]))?;
    Some(Found { offender: Whom::Address(found), end: start + length })
}

/// An address that is the whole text, apart from a port after it: `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]:80`.
pub(crate) fn whole(text: &[u8]) -> Option<IpAddr> {
    let (address, end) = address_at(text, 0)?;
    let port = text.get(end..)?;
    (port.is_empty() || port.strip_prefix(b":").is_some_and(is_port)).then_some(address)
}

fn is_port(digits: &[u8]) -> bool {
    (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
}

/// Whether a byte can be part of an address; one that touches another such byte was cut out of a longer word.
pub(crate) fn is_address_byte(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || byte == b':' || byte == b'.'
}

/// What a bracket before it leaves to be read: an address, perhaps behind `IPv6:`.
fn in_brackets(text: &[u8]) -> Option<(IpAddr, usize)> {
    let tag = if text.starts_with(TAG) { TAG.len() } else { 0 };
    bare(text.get(tag..)?).map(|(address, length)| (address, tag + length))
}

fn bare(text: &[u8]) -> Option<(IpAddr, usize)> {
    if let Some((address, length)) = ipv4(text)
        && text.get(length).is_none_or(|next| !next.is_ascii_digit())
    {
        return Some((IpAddr::V4(address), length));
    }
    let (address, length) = ipv6(text)?;
    let length = length + zone(text.get(length..)?);
    Some((address.to_canonical(), length))
}

/// What Erlang prints between braces, which belong to the pattern: `192,0,2,1` or `8193,3512,0,0,0,0,0,1`.
pub(crate) fn tuple_at(text: &[u8], start: usize) -> Option<Found<'_>> {
    let rest = text.get(start..)?;
    let close = rest.iter().take(LONGEST).position(|byte| *byte == b'}')?;
    let mut groups = [0u16; 8];
    let mut count = 0;
    for group in rest.get(..close)?.split(|byte| *byte == b',') {
        let plain = !group.is_empty() && group.iter().all(u8::is_ascii_digit);
        *groups.get_mut(count)? = std::str::from_utf8(group).ok().filter(|_| plain)?.parse().ok()?;
        count += 1;
    }
    let octet = |group: u16| u8::try_from(group).ok();
    let address = match (count, groups) {
        (4, [a, b, c, d, ..]) => IpAddr::V4(Ipv4Addr::new(octet(a)?, octet(b)?, octet(c)?, octet(d)?)),
        (8, groups) => IpAddr::V6(Ipv6Addr::from(groups)).to_canonical(),
        _ => return None,
    };
    Some(Found { offender: Whom::Address(address), end: start + close })
}

/// Four decimal numbers. Leading zeros do not make them octal, and no number has more than three digits.
fn ipv4(text: &[u8]) -> Option<(Ipv4Addr, usize)> {
    let (mut octets, mut at) = ([0u8; 4], 0);
    for (index, octet) in octets.iter_mut().enumerate() {
        if index > 0 {
            at += text.get(at).filter(|byte| **byte == b'.').map(|_| 1)?;
        }
        let (number, digits) = up_to_three_digits(text.get(at..)?)?;
        *octet = u8::try_from(number).ok()?;
        at += digits;
    }
    Some((Ipv4Addr::from(octets), at))
}

/// A number and how many digits it has. All three are looked at in any case: how many there are nobody can foresee, least
/// of all a processor.
#[inline]
fn up_to_three_digits(text: &[u8]) -> Option<(u16, usize)> {
    // The end of the text ends a number, as any other byte does.
    let digit = |at: usize| u16::from(text.get(at).map_or(u8::MAX, |byte| byte.wrapping_sub(b'0')));
    let (first, second, third) = (digit(0), digit(1), digit(2));
    let (two, three) = (second <= 9, second <= 9 && third <= 9);
    let number = if two { first * 10 + second } else { first };
    let number = if three { number * 10 + third } else { number };
    (first <= 9).then_some((number, 1 + usize::from(two) + usize::from(three)))
}

/// All forms of RFC 4291, also without any compression, as the kernel prints them. A colon or full stop after the
/// address belongs to the sentence around it, and a last group that no address can have is a port.
fn ipv6(text: &[u8]) -> Option<(IpAddr, usize)> {
    let run = run_of(text, LONGEST + 1, is_address_byte);
    let parse = |length: usize| -> Option<Ipv6Addr> {
        let text = text.get(..length)?;
        groups(text).or_else(|| std::str::from_utf8(text).ok().filter(|text| text.contains('.'))?.parse().ok())
    };
    if !(2..=LONGEST).contains(&run) {
        return None;
    }
    if let Some(address) = parse(run) {
        return Some((IpAddr::V6(address), run));
    }
    let shorter = memchr::memrchr2(b':', b'.', text.get(..run)?)?;
    let behind = text.get(shorter + 1..run)?;
    let is_port = is_port(behind) && text.get(shorter) == Some(&b':');
    parse(shorter).filter(|_| is_port || behind.is_empty()).map(|address| (IpAddr::V6(address), shorter))
}

/// At most eight groups of hexadecimal digits; once, `::` in place of some. Nearly all addresses are written so.
fn groups(text: &[u8]) -> Option<Ipv6Addr> {
    let (mut groups, mut count, mut gap) = ([0u16; 8], 0, None);
    let mut rest = text;
    if let Some(after) = rest.strip_prefix(b"::") {
        (gap, rest) = (Some(0), after);
    }
    while !rest.is_empty() {
        let digits = run_of(rest, 4, |byte| byte.is_ascii_hexdigit());
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok());
        let group = rest.get(..digits)?.iter().try_fold(0, |group, byte| Some(group << 4 | digit(byte)?));
        *groups.get_mut(count).filter(|_| digits > 0)? = group?;
        count += 1;
        rest = rest.get(digits..)?;
        if let Some(after) = rest.strip_prefix(b"::") {
            (gap, rest) = (Some(gap.xor(Some(count))?), after);
        } else if !rest.is_empty() {
            rest = rest.strip_prefix(b":").filter(|rest| !rest.is_empty())?;
        }
    }
    match gap {
        None if count == 8 => {}
        Some(gap) if count < 8 => groups[gap..].rotate_right(8 - count),
        _ => return None,
    }
    Some(Ipv6Addr::from(groups))
}

/// The length of `%eth0` at the start of the text, 0 when there is none.
fn zone(text: &[u8]) -> usize {
    let Some(name) = text.strip_prefix(b"%") else { return 0 };
    let is_zone = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'@');
    let length = name.iter().take(LONGEST_ZONE).take_while(is_zone).count();
    if length == 0 { 0 } else { length + 1 }
}

/// Whether a bare address may end here: what follows does not go on as an address or a host name.
fn ends_here(text: &[u8], length: usize) -> bool {
    let next = text.get(length).copied().unwrap_or(b' ');
    let after = text.get(length + 1).copied().unwrap_or(b' ');
    match next {
        b'.' => !after.is_ascii_alphanumeric(),
        b'_' => false,
        _ => !next.is_ascii_alphanumeric(),
    }
}

/// A host name with at least one letter; `UNKNOWN`, as daemons write where they know none, is not one.
fn name_at(text: &[u8], start: usize) -> Option<(&str, usize)> {
    let rest = text.get(start..)?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let length = run_of(rest, LONGEST_NAME + 1, is_name);
    let name = std::str::from_utf8(rest.get(..length)?).ok()?;
    let plausible = length <= LONGEST_NAME
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.contains(|letter: char| letter.is_ascii_alphabetic())
        && !name.eq_ignore_ascii_case("unknown");
    plausible.then_some((name, start + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<(String, usize)> {
        address_at(text.as_bytes(), 0).map(|(address, end)| (address.to_string(), end))
    }

    #[test]
    fn every_written_form_of_an_address_is_read() {
        for (text, address, end) in [
            ("192.0.2.9 port", "192.0.2.9", 9),
            ("192.000.002.009", "192.0.2.9", 15),
            ("192.0.2.9:80", "192.0.2.9", 9),
            ("192.0.2.9.", "192.0.2.9", 9),
            ("::ffff:192.0.2.9 x", "192.0.2.9", 16),
            ("2001:db8::1 port", "2001:db8::1", 11),
            ("2001:db8::1: 11: bye", "2001:db8::1", 11),
            ("2001:0db8:0bad:0000:0000:0000:0000:0042 ", "2001:db8:bad::42", 39),
            ("fe80::1%eth0 x", "fe80::1", 12),
            ("[2001:db8::1]:22", "2001:db8::1", 13),
            ("[192.0.2.9]:22", "192.0.2.9", 11),
            ("[fe80::1%eth0]", "fe80::1", 14),
            ("::1", "::1", 3),
            ("2001:db8::1:50550 x", "2001:db8::1", 11),
            ("1:2:3:4:5:6:7:8:443", "1:2:3:4:5:6:7:8", 15),
            ("2001:db8::1:443 x", "2001:db8::1:443", 15),
            ("[IPv6:2001:db8::1]:25", "2001:db8::1", 18),
            ("[IPv6:::ffff:192.0.2.9]", "192.0.2.9", 23),
        ] {
            assert_eq!(at(text), Some((address.to_owned(), end)), "{text}");
        }
    }

    #[test]
    fn a_part_of_a_longer_word_is_no_address() {
        for text in [
            "192.0.2.256",
            "192.0.2",
            "1192.0.2.1",
            "192.0.2.1.5",
            "192.0.2.1.example.org",
            "192.0.2.1a",
            "192.0.2.0001",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
        for text in [
            "2001:db8::1::2",
            "12:34:56",
            "[2001:db8::1",
            ":",
            "::g",
            "1:2:3:4:5:6:7:8:9:1",
            "2001:db8::1:123456",
            "IPv6:2001:db8::1",
            "[IPv6:]",
            "[ipv6:2001:db8::1]",
            "",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn addresses_are_those_of_the_library(text in "[0-9a-fF:.]{0,12}|(?:[0-9a-f]{1,5}:){6,8}[0-9a-f.:]{0,4}|[0-9]{1,3}(?:\\.[0-9]{1,3}){3}|[0-9a-f:]{0,30}") {
            let bytes = text.as_bytes();
            let library = text.parse::<Ipv6Addr>().ok();
            let by_hand = groups(bytes);
            proptest::prop_assert!(by_hand == library || by_hand.is_none() && text.contains('.'));
            if let Ok(address) = text.parse::<Ipv4Addr>() {
                proptest::prop_assert_eq!(ipv4(bytes), Some((address, bytes.len())));
            }
        }
    }

    #[test]
    fn numbers_between_braces_are_an_address() {
        let at = |text: &str| tuple_at(text.as_bytes(), 1).map(|found| (Offender::from(found.offender), found.end));
        let address = |text: &str| Offender::Address(text.parse().unwrap());
        assert_eq!(at("{192,0,2,9},4711}"), Some((address("192.0.2.9"), 10)));
        assert_eq!(at("{8193,3512,0,0,0,0,0,9}"), Some((address("2001:db8::9"), 22)));
        assert_eq!(at("{0,0,0,0,0,65535,49152,521}"), Some((address("192.0.2.9"), 26)));
        for text in
            ["{192,0,2}", "{192,0,2,256}", "{192,0,2,1", "{192,,2,1}", "{1,2,3,4,5,6,7,8,9}", "{192.0.2.1}", "{}"]
        {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn a_port_behind_an_address_is_read_where_there_must_be_one() {
        let at = |text: &str, mark| {
            let found = address_before_port(text.as_bytes(), 0, mark)?;
            Some((Offender::from(found.offender), found.end))
        };
        let address = |text: &str| Offender::Address(text.parse().unwrap());
        assert_eq!(at("192.0.2.9.4711 x", b'.'), Some((address("192.0.2.9"), 9)));
        assert_eq!(at("2001:db8::9.4711", b'.'), Some((address("2001:db8::9"), 11)));
        assert_eq!(at("2001:db8::9:443]", b':'), Some((address("2001:db8::9"), 11)));
        assert_eq!(at("2001:db8::9:443: x", b':'), Some((address("2001:db8::9"), 11)));
        assert_eq!(at("192.0.2.9.4711: x", b'.'), Some((address("192.0.2.9"), 9)));
        assert_eq!(at("::ffff:192.0.2.9:443", b':'), Some((address("192.0.2.9"), 16)));
        for (text, mark) in [
            ("192.0.2.9", b'.'),
            ("192.0.2.9.471100", b'.'),
            ("192.0.2.9.4711.1", b'.'),
            ("1.192.0.2.9.4711", b'.'),
            ("2001:db8::9:ab", b':'),
            ("host.example.org.4711", b'.'),
            ("", b'.'),
        ] {
            assert_eq!(at(text, mark), None, "{text}");
        }
    }

    #[test]
    fn a_whole_text_may_carry_a_port_and_nothing_else() {
        assert_eq!(whole(b"192.0.2.1:4711"), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(whole(b"[2001:db8::1]:443"), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(whole(b"192.0.2.1, 198.51.100.1"), None);
        assert_eq!(whole(b"192.0.2.1:"), None);
    }

    #[test]
    fn a_host_name_is_told_from_an_address() {
        let found = offender_at(b"from host.example.org port", 5).unwrap();
        assert_eq!((Offender::from(found.offender), found.end), (Offender::Name("host.example.org".to_owned()), 21));
        assert!(offender_at(b"UNKNOWN", 0).is_none());
        assert!(offender_at(b"1234", 0).is_none());
        assert!(offender_at(b"x", 9).is_none());
    }
}
