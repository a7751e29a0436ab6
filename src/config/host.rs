//! Reads the `[host]` section.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::document::{Table, Value};
use super::file::{number, set};
use super::text::Rate;
use crate::rules::host::{Attack, Bucket, Dnat, Host, MAX_ENTRIES, Opening, Passage, Policy, Snat, Ssh};
use crate::rules::model::{self, Interface, Unit, Window};
use crate::rules::peer::Peer;
use crate::rules::ports::Ports;
use crate::rules::service::Service;

/// Longest name of an interface, without the zero (`IFNAMSIZ`).
const MAX_INTERFACE: usize = 15;

/// Longest window of a hit count.
const MAX_WINDOW: u64 = 7 * 86_400;

const POLICIES: [(&str, Policy); 3] = [("accept", Policy::Accept), ("drop", Policy::Drop), ("reject", Policy::Reject)];

/// Puts what the table says over what stood before.
pub(super) fn read(host: &mut Host, table: &Table<'_>) {
    set(&mut host.incoming, table.choice("incoming", &POLICIES));
    set(&mut host.outgoing, table.choice("outgoing", &POLICIES));
    set(&mut host.forwarding, table.choice("forwarding", &POLICIES));
    set(&mut host.addresses, peers(table, "addresses"));
    set(&mut host.trusted, entries(table, "trusted", interface));
    set(&mut host.outside, table.get("outside").map(interface));
    set(&mut host.ssh, switchable(table, "ssh", ssh).map(Switch::on));
    set(&mut host.services, entries(table, "in", |value| opening(value, "from")));
    set(&mut host.clients, entries(table, "out", |value| opening(value, "to")));
    set(&mut host.forward, entries(table, "forward", |value| passage(value.table()?)));
    set(&mut host.dnat, entries(table, "dnat", |value| dnat(value.table()?)));
    set(&mut host.snat, entries(table, "snat", |value| snat(value.table()?)));
    set(&mut host.dhcp_client, table.bool("dhcp_client"));
    let attacks = entries(table, "attacks", |value| value.choice(&Attack::WORDS));
    set(&mut host.attacks, attacks.map(|attacks| attacks.into_iter().collect()));
    set(&mut host.bogons, entries(table, "bogons", bogon));
    set(&mut host.ping, table.get("ping").and_then(|value| bucket(value.table()?)));
    set(&mut host.syn_flood, switchable(table, "syn_flood", bucket).map(Switch::on));
    set(&mut host.log, switchable(table, "log", bucket).map(Switch::on));
    let expect = entries(table, "expect", |value| value.parse("an expectation"));
    set(&mut host.expect, expect);
}

/// The items of a list, at most so many.
fn entries<'a, T>(table: &Table<'a>, key: &'static str, read: impl Fn(Value<'a>) -> Option<T>) -> Option<Vec<T>> {
    let items = table.items(key)?;
    if items.len() > MAX_ENTRIES {
        table.complain(table.problem(format!("'{key}' has more than {MAX_ENTRIES} entries")));
        return None;
    }
    Some(items.into_iter().filter_map(read).collect())
}

/// What can be switched off.
enum Switch<T> {
    Off,
    On(T),
}

impl<T> Switch<T> {
    fn on(self) -> Option<T> {
        match self {
            Switch::Off => None,
            Switch::On(value) => Some(value),
        }
    }
}

/// `false`, or a table of numbers.
fn switchable<'a, T>(table: &Table<'a>, key: &'static str, read: impl Fn(Table<'a>) -> Option<T>) -> Option<Switch<T>> {
    let value = table.get(key)?;
    if !value.is_bool() {
        return value.table().and_then(read).map(Switch::On);
    }
    if value.bool()? {
        value
            .complain(value.problem("'true' says nothing here").hint("leave it out for the default, or write numbers"));
        return None;
    }
    Some(Switch::Off)
}

/// A value was written and is wrong, which has been said.
struct Wrong;

/// A value that may be left out.
fn optional<'a, T>(
    table: &Table<'a>,
    key: &'static str,
    read: impl Fn(Value<'a>) -> Option<T>,
) -> Result<Option<T>, Wrong> {
    table.get(key).map(|value| read(value).ok_or(Wrong)).transpose()
}

fn peers(table: &Table<'_>, key: &'static str) -> Option<Vec<Peer>> {
    entries(table, key, |value| value.parse("an address, a network or a range"))
}

fn interface(value: Value<'_>) -> Option<Interface> {
    let name = value.string()?;
    let stem = name.strip_suffix('+').unwrap_or(name);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    let fits = !stem.is_empty() && name.len() <= MAX_INTERFACE && stem.bytes().all(allowed) && !stem.starts_with('-');
    if !fits {
        let problem = value.problem(format!("\"{}\" is not the name of an interface", name.escape_debug()));
        value.complain(problem.hint("such as \"eth0\", or \"ppp+\" for all whose names begin so"));
    }
    fits.then(|| Interface { name: name.to_owned(), not: false })
}

fn ssh(table: Table<'_>) -> Option<Ssh> {
    let ports = entries(&table, "port", |value| value.integer(1..=65_535));
    let ports =
        ports.map_or_else(|| vec![22], |ports| ports.into_iter().filter_map(|port| u16::try_from(port).ok()).collect());
    if table.items("port").is_some_and(|items| items.is_empty()) {
        table.complain(table.problem("no port at all lets nobody in").hint("write ssh = false if that is meant"));
        return None;
    }
    let from = peers(&table, "from").unwrap_or_default();
    let recent = optional(&table, "recent", window);
    table.finish();
    let ports = Ports::of(ports.into_iter().map(|port| (port, port)).collect());
    Some(Ssh { ports, from, recent: recent.ok()? })
}

/// `{ hitcount = 10, seconds = 600 }`: no more than so many within that time.
fn window(value: Value<'_>) -> Option<Window> {
    let table = value.table()?;
    // The kernel keeps no more stamps than fit a byte.
    let hitcount = number(&table, "hitcount", 1, 254);
    let seconds = number(&table, "seconds", 1, MAX_WINDOW);
    for key in ["hitcount", "seconds"] {
        if table.get(key).is_none() {
            table.complain(table.problem(format!("'{key}' is missing")).hint("{ hitcount = 10, seconds = 600 }"));
        }
    }
    table.finish();
    Some(Window { hitcount: hitcount?, seconds: seconds? })
}

/// `{ limit = "1/s", burst = 5 }`: so many at once, then at that rate.
fn bucket(table: Table<'_>) -> Option<Bucket> {
    let rate: Option<Rate> = table.parse("limit", "a rate such as \"1/s\"");
    if table.get("limit").is_none() {
        table.complain(table.problem("'limit' is missing").hint("{ limit = \"1/s\", burst = 5 }"));
    }
    let burst = if table.get("burst").is_some() { number(&table, "burst", 1, 10_000) } else { Some(5) };
    table.finish();
    Some(Bucket { rate: per_unit(rate?.interval()), burst: burst? })
}

/// The rate of one per this time, as a whole number per the shortest unit that fits.
fn per_unit(each: Duration) -> model::Rate {
    let each = each.as_nanos().max(1);
    for unit in Unit::ALL {
        let whole = u128::from(unit.seconds()) * 1_000_000_000;
        let count = (whole + each / 2) / each;
        // What was lost when the rate was divided is less than a nanosecond each.
        if count > 0
            && whole.abs_diff(count * each) < count.max(1)
            && let Ok(count) = u32::try_from(count)
        {
            return model::Rate { count, unit };
        }
    }
    model::Rate { count: 1, unit: Unit::Day }
}

/// A service by its name alone, or a table that says more. `peers` is the key of the other end.
fn opening(value: Value<'_>, other: &'static str) -> Option<Opening> {
    if value.is_string() {
        let service = value.parse("a service")?;
        let verdict = Policy::Accept;
        return Some(Opening { service, peers: Vec::new(), interface: None, verdict, recent: None });
    }
    let table = value.table()?;
    let service = service(&table);
    let peers = peers(&table, other).unwrap_or_default();
    let interface = optional(&table, "on", interface);
    let verdict = table.get("verdict").map_or(Some(Policy::Accept), |value| value.choice(&POLICIES));
    let recent = if other == "from" { optional(&table, "recent", window) } else { Ok(None) };
    table.finish();
    let (interface, recent) = (interface.ok()?, recent.ok()?);
    Some(Opening { service: service?, peers, interface, verdict: verdict?, recent })
}

fn service(table: &Table<'_>) -> Option<Service> {
    let service = table.parse("service", "a service");
    if table.get("service").is_none() {
        table.complain(table.problem("'service' is missing").hint("such as \"http\", \"8080/tcp\" or \"all\""));
    }
    service
}

fn passage(table: Table<'_>) -> Option<Passage> {
    let all = || "all".parse().ok();
    let service = if table.get("service").is_some() { table.parse("service", "a service") } else { all() };
    let (from, to) = (peers(&table, "from").unwrap_or_default(), peers(&table, "to").unwrap_or_default());
    let (input, output) = (optional(&table, "on", interface), optional(&table, "via", interface));
    let verdict = table.get("verdict").map_or(Some(Policy::Accept), |value| value.choice(&POLICIES));
    table.finish();
    Some(Passage { service: service?, from, to, input: input.ok()?, output: output.ok()?, verdict: verdict? })
}

fn dnat(table: Table<'_>) -> Option<Dnat> {
    let wanted = service(&table);
    if let Some(service) = &wanted
        && service.parts.iter().any(|part| part.ports.is_empty())
    {
        table.complain(table.problem("only a service with ports can be handed on"));
    }
    let from = peers(&table, "from").unwrap_or_default();
    let on = optional(&table, "on", interface);
    if matches!(on, Ok(None)) {
        let problem = table.problem("'on' is missing: without it, what inner machines ask of others is handed on too");
        table.complain(problem.hint("the interface to the outside, such as \"eth0\""));
    }
    let to: Option<IpAddr> = table.parse("to", "an address");
    if table.get("to").is_none() {
        table.complain(table.problem("'to' is missing: the machine that serves"));
    }
    let port = optional(&table, "port", |value| u16::try_from(value.integer(1..=65_535)?).ok());
    table.finish();
    Some(Dnat { service: wanted?, from, interface: on.ok()?, to: to?, port: port.ok()? })
}

fn snat(table: Table<'_>) -> Option<Snat> {
    let from = peers(&table, "from").unwrap_or_default();
    let via = optional(&table, "via", interface);
    if matches!(via, Ok(None)) {
        let problem = table.problem("'via' is missing: without it, packets between inner machines are changed too");
        table.complain(problem.hint("the interface to the outside, such as \"eth0\""));
    }
    let source = optional(&table, "source", |value| value.parse("an address or a range"));
    if let Ok(Some(Peer::Network(network))) = source
        && network.prefix_len() != network.max_prefix_len()
    {
        table.complain(table.problem("'source' is an address or a range of them, not a network"));
    }
    table.finish();
    Some(Snat { from, interface: via.ok()?, source: source.ok()? })
}

fn bogon(value: Value<'_>) -> Option<IpNet> {
    match value.parse::<Peer>("a network")? {
        Peer::Network(network) if network.prefix_len() > 0 => Some(network),
        _ => {
            value.complain(value.problem("name a network, and not all of them"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_whole_number_of_its_shortest_unit() {
        let of = |text: &str| {
            let rate: Rate = text.parse().unwrap();
            per_unit(rate.interval()).to_string()
        };
        for (written, shown) in [
            ("1/s", "1/second"),
            ("3/s", "3/second"),
            ("60/min", "1/second"),
            ("7/minute", "7/minute"),
            ("90/min", "90/minute"),
            ("120/hour", "2/minute"),
            ("1/day", "1/day"),
            ("10000/s", "10000/second"),
        ] {
            assert_eq!(of(written), shown, "{written}");
        }
    }
}
