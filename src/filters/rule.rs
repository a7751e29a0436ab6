//! The part of a `[[pattern]]` that says what matches. In: its table. Out: a compiled rule, every problem noted.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::file::{Join, Rule};
use super::json::{Condition, FieldPath, JsonRule, Scalar, Source};
use super::netfilter::{Flags, PacketRule};
use super::pattern::{JoinedRule, PatternError, TextRule, condition};
use super::{Effect, Evidence};
use crate::config::document::{Table, Value};
use crate::ledger::{Port, Protocol};

/// A regex with `<ADDR>`.
pub(crate) fn text(value: Value<'_>) -> Option<TextRule> {
    accepted(value, TextRule::new(value.string()?))
}

/// What matching lines do to a window.
pub(crate) fn effect(table: &Table<'_>, evidence: Option<Evidence>, rule: Option<&Rule>) -> Option<Effect> {
    let weight = table.get("weight");
    let Some(forgive) = table.get("forgive") else {
        let weight = weight.map_or(Some(1), |value| value.integer(1..=100));
        return u8::try_from(weight?).ok().map(Effect::Count);
    };
    if !forgive.bool()? {
        return refuse(forgive, "a pattern that does not forgive says nothing of it", "leave 'forgive' out");
    }
    if let Some(weight) = weight {
        return refuse(weight, "a line that forgives is no hit and has no weight", "leave 'weight' out");
    }
    if evidence? == Evidence::Forgeable {
        return refuse(forgive, "what may be forged forgives nothing", "only with evidence = \"proven\"");
    }
    if !rule?.settles_user() {
        let hint = "name the group (?<user>…) at the top level; let what stands before it match nothing that contains \
                    the text right in front of it, and the group nothing that contains the byte behind it, such as \
                    '(?<user>[^']*)'; or put nothing of varying length between it and <ADDR>";
        return refuse(forgive, "the line does not say for certain who logged in", hint);
    }
    Some(Effect::Forgive)
}

/// The line that names the address for others.
pub(crate) fn join(value: Value<'_>) -> Option<Join> {
    let table = value.table()?;
    let name = table.string("name").map(Box::from);
    let rule = table.get("regex").and_then(text).map(Arc::new);
    let seconds = table.get("seconds").map_or(Some(120), |value| value.integer(1..=3600));
    let late = table.get("late").map_or(Some(false), Value::bool);
    if name.is_none() || rule.is_none() {
        table.complain(table.problem("a join has a 'name' and a 'regex' with <ADDR>"));
    }
    table.finish();
    Some(Join { name: name?, rule: rule?, within: Duration::from_secs(seconds?), late: late? })
}

/// A regex without `<ADDR>`: the join of this name has the address.
pub(crate) fn joined(table: &Table<'_>, joins: &[Join]) -> Option<JoinedRule> {
    let wanted = table.get("join")?;
    let name = wanted.string()?;
    let Some(index) = joins.iter().position(|join| &*join.name == name) else {
        return refuse(wanted, "there is no such join", "write a [[join]] table with this name above");
    };
    let Some(regex) = table.get("regex") else {
        table.complain(table.problem("the key 'regex' is missing"));
        return None;
    };
    let rule = accepted(regex, JoinedRule::new(regex.string()?, u16::try_from(index).ok()?))?;
    if rule.has_id() != joins.get(index)?.rule.has_id() {
        let hint = "name the group (?<id>…) in both, or in neither: then it is the process id of the syslog header";
        return refuse(regex, "the join and this pattern do not agree on what joins them", hint);
    }
    Some(rule)
}

fn accepted<T>(value: Value<'_>, outcome: Result<T, PatternError>) -> Option<T> {
    outcome.map_err(|error| value.complain(value.problem(error.to_string()).hint(error.hint()))).ok()
}

/// The fields of a logged packet, each in place of the one that the file gives for all its patterns.
pub(crate) fn packet(table: &Table<'_>, shared: &PacketRule) -> Option<PacketRule> {
    let mut rule = shared.clone();
    let mut sound = true;
    let mut set = |outcome: Option<()>| sound &= outcome.is_some();
    if let Some(values) = table.items("prefix") {
        set(each(values, prefix).map(|list| rule.prefixes = list));
    }
    if let Some(values) = table.items("proto") {
        set(each(values, protocol).map(|list| rule.protocols = list));
    }
    if let Some(values) = table.items("in") {
        set(each(values, owned).map(|list| rule.inputs = list));
    }
    if let Some(values) = table.items("out") {
        set(each(values, owned).map(|list| rule.outputs = list));
    }
    if let Some(values) = table.items("dpt") {
        set(each(values, port_range).map(|list| rule.ports = list));
    }
    if let Some(values) = table.items("type") {
        set(each(values, |value| u8::try_from(value.integer(0..=255)?).ok()).map(|list| rule.types = list));
    }
    if let Some(values) = table.items("flags") {
        let union = |list: Vec<Flags>| list.into_iter().fold(Flags::default(), Flags::union);
        set(each(values, flag).map(|list| rule.flags = Some(union(list))));
    }
    sound.then_some(rule)
}

/// All values, read; `None` when one could not be.
fn each<'a, T>(values: Vec<Value<'a>>, read: impl Fn(Value<'a>) -> Option<T>) -> Option<Vec<T>> {
    let count = values.len();
    let read: Vec<T> = values.into_iter().filter_map(read).collect();
    (read.len() == count).then_some(read)
}

fn owned(value: Value<'_>) -> Option<String> {
    value.string().map(str::to_owned)
}

fn refuse<T>(value: Value<'_>, message: &str, hint: &str) -> Option<T> {
    value.complain(value.problem(message).hint(hint));
    None
}

fn prefix(value: Value<'_>) -> Option<Box<[u8]>> {
    let stem = PacketRule::stem(value.string()?);
    stem.or_else(|| refuse(value, "the prefix is empty", "write what stands behind --log-prefix"))
}

fn protocol(value: Value<'_>) -> Option<String> {
    const KNOWN: [&str; 8] = ["TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLITE", "AH", "ESP"];
    let name = value.string()?;
    let known = KNOWN.iter().find(|known| known.eq_ignore_ascii_case(name)).map(|known| (*known).to_owned());
    known.or_else(|| name.parse::<u8>().ok().map(|number| number.to_string())).or_else(|| {
        refuse(value, "unknown protocol", "one of: TCP, UDP, ICMP, ICMPv6, SCTP, UDPLITE, AH, ESP, a number")
    })
}

/// `22` or `"6000-6010"`.
fn port_range(value: Value<'_>) -> Option<RangeInclusive<u16>> {
    if !value.is_string() {
        let port = u16::try_from(value.integer(0..=65535)?).ok()?;
        return Some(port..=port);
    }
    let text = value.string()?;
    let (first, last) = text.split_once(['-', ':']).unwrap_or((text, text));
    match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
        (Ok(first), Ok(last)) if first <= last => Some(first..=last),
        _ => refuse(value, "not a port or a range of ports", "write 22 or \"6000-6010\""),
    }
}

fn flag(value: Value<'_>) -> Option<Flags> {
    Flags::named(value.string()?.as_bytes())
        .or_else(|| refuse(value, "unknown TCP flag", "one of: FIN, SYN, RST, PSH, ACK, URG, ECE, CWR"))
}

/// A port as `22/tcp`.
pub(crate) fn parse_port(value: Value<'_>) -> Option<Port> {
    let port = value.string()?.split_once('/').and_then(|(number, protocol)| {
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        };
        let number = number.parse().ok().filter(|number| *number > 0)?;
        Some(Port { protocol, number })
    });
    port.or_else(|| refuse(value, "not a port", "write it as \"22/tcp\" or \"53/udp\""))
}

/// The fields of a JSON object.
pub(crate) fn json(table: &Table<'_>) -> Option<JsonRule> {
    let path = |key| table.get(key).map(field_path);
    let (addr, field, user, time) = (path("addr"), path("field"), path("user"), path("time"));
    let regex = table.get("regex");
    let mut conditions = match table.table("when") {
        Some(when) => when.entries().into_iter().map(one_of).collect::<Option<Vec<_>>>()?,
        None => Vec::new(),
    };
    let offender = match (addr, field, regex) {
        (Some(addr), None, None) => Source::Field(addr?),
        (None, Some(field), Some(regex)) => Source::Text(field?, Box::new(text(regex)?)),
        (Some(addr), Some(field), Some(regex)) => {
            conditions.push(Condition::Matches(field?, accepted(regex, condition(regex.string()?))?));
            Source::Field(addr?)
        }
        _ => {
            let problem = table.problem("the pattern does not say where the offender stands");
            let hint = "write addr = \"FIELD\", or field = \"FIELD\" with a regex that has <ADDR> in it";
            table.complain(problem.hint(hint));
            return None;
        }
    };
    Some(JsonRule { offender, user: user.flatten(), time: time.flatten(), conditions })
}

fn field_path(value: Value<'_>) -> Option<FieldPath> {
    FieldPath::new(value.string()?)
        .or_else(|| refuse(value, "not the way to a field", "write it as \"request.remote_ip\""))
}

fn one_of((key, value): (&str, Value<'_>)) -> Option<Condition> {
    let path = FieldPath::new(key).or_else(|| refuse(value, "not the way to a field", "write it as \"a.b\""))?;
    Some(Condition::OneOf(path, each(value.items(), scalar)?))
}

fn scalar(value: Value<'_>) -> Option<Scalar> {
    if value.is_string() {
        return owned(value).map(Scalar::Text);
    }
    if value.is_bool() {
        return value.bool().map(Scalar::Bool);
    }
    value.integer(0..=u64::from(u32::MAX)).and_then(|number| i64::try_from(number).ok()).map(Scalar::Number)
}
