//! Which packets of a banned prefix a ban concerns, and what happens to them.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Port;
use super::limit::Limit;
use crate::text::word_of;

/// Nothing where a ban concerns all packets, as nearly all do: a million bans hold one each.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Scope(Option<Arc<Extent>>);

/// What a scope says. `None` is what `[firewall]` says, or everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Extent {
    /// Empty for all, else sorted, without duplicates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ports: Vec<Port>,
    /// Packets that come in by it, and leave by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<Interface>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) direction: Option<Direction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<Target>,
    /// So many packets of each source pass; without it, none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<Limit>,
}

static EVERYTHING: Extent = Extent { ports: Vec::new(), interface: None, direction: None, target: None, limit: None };

impl Deref for Scope {
    type Target = Extent;
    fn deref(&self) -> &Extent {
        self.0.as_deref().unwrap_or(&EVERYTHING)
    }
}

impl From<Extent> for Scope {
    fn from(mut extent: Extent) -> Scope {
        extent.ports.sort_unstable();
        extent.ports.dedup();
        Scope((extent != EVERYTHING).then(|| Arc::new(extent)))
    }
}

impl Scope {
    pub(crate) fn of_ports(ports: Vec<Port>) -> Scope {
        Scope::from(Extent { ports, ..Extent::default() })
    }

    /// The same with something changed.
    pub(crate) fn with(&self, change: impl FnOnce(&mut Extent)) -> Scope {
        let mut extent = (**self).clone();
        change(&mut extent);
        Scope::from(extent)
    }

    /// Every packet of the source, and what happens to it is what `[firewall]` says.
    pub(crate) fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it says nothing but ports, or nothing.
    pub(crate) fn is_of_ports(&self) -> bool {
        self.interface.is_none() && self.direction.is_none() && self.target.is_none() && self.limit.is_none()
    }

    /// Whether all packets that the other scope stops are stopped by this one too.
    pub(crate) fn covers(&self, other: &Scope) -> bool {
        let everywhere = self.ports.is_empty() && self.interface.is_none() && self.limit.is_none();
        let both_ways = self.direction == other.direction
            || self.direction == Some(Direction::Both)
            || other.direction == Some(Direction::In);
        self == other || (everywhere && both_ways)
    }

    /// How hard it is on the source.
    pub(crate) fn stage(&self) -> Stage {
        if self.limit.is_some() { Stage::Limit } else { Stage::Drop }
    }
}

/// What a scope says beside that a ban stops packets, in words: `80/tcp 443/udp on eth0`. Empty for everything.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: Vec<String> = self.ports.iter().map(ToString::to_string).collect();
        let ports = (!ports.is_empty()).then(|| ports.join(" "));
        let interface = self.interface.as_ref().map(|name| format!("on {name}"));
        let direction = self.direction.map(|direction| match direction {
            Direction::In => "incoming only".to_owned(),
            Direction::Both => "both ways".to_owned(),
        });
        let target = self.target.map(|target| target.to_string());
        let limit = self.limit.map(|limit| format!("limited to {limit}"));
        let said = [ports, interface, direction, target, limit];
        f.write_str(&said.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// Everything that an extent says, in order: the form for formats that do not name fields.
type Row = (Vec<Port>, Option<Interface>, Option<Direction>, Option<Target>, Option<Limit>);

/// Ports alone are a list, as earlier versions wrote it and could read it.
impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return (&self.ports, &self.interface, self.direction, self.target, self.limit).serialize(serializer);
        }
        if self.is_of_ports() { self.ports.serialize(serializer) } else { (**self).serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scope, D::Error> {
        if deserializer.is_human_readable() {
            return deserializer.deserialize_any(Written);
        }
        let (ports, interface, direction, target, limit) = Row::deserialize(deserializer)?;
        Ok(Scope::from(Extent { ports, interface, direction, target, limit }))
    }
}

struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = Scope;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of ports, or a scope")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, ports: A) -> Result<Scope, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(ports)).map(Scope::of_ports)
    }

    fn visit_map<A: MapAccess<'de>>(self, extent: A) -> Result<Scope, A::Error> {
        Extent::deserialize(MapAccessDeserializer::new(extent)).map(Scope::from)
    }
}

/// How hard a ban is on its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// Packets above a rate are dropped.
    Limit,
    Drop,
}

impl Stage {
    pub(crate) const WORDS: [(&'static str, Stage); 2] = [("limit", Stage::Limit), ("drop", Stage::Drop)];
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word_of(&Stage::WORDS, self))
    }
}

/// Which packets: those from a source, or those to it as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Direction {
    In,
    Both,
}

impl Direction {
    pub(crate) const WORDS: [(&'static str, Direction); 2] = [("in", Direction::In), ("both", Direction::Both)];
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word_of(&Direction::WORDS, self))
    }
}

/// What happens to packets of a banned source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Target {
    Drop,
    /// Answered by a reset for TCP, for the rest by "port unreachable".
    Reject,
    /// Answered by "administratively prohibited", TCP too.
    Prohibit,
}

impl Target {
    pub(crate) const WORDS: [(&'static str, Target); 3] =
        [("DROP", Target::Drop), ("REJECT", Target::Reject), ("PROHIBIT", Target::Prohibit)];
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word_of(&Target::WORDS, self))
    }
}

/// The name of a network interface, or of all whose names begin so: `eth+`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Interface(Arc<str>);

/// `IFNAMSIZ` without the zero at its end.
const MAX_INTERFACE: usize = 15;

impl Interface {
    /// The name or its beginning, and whether it is a beginning.
    pub(crate) fn parts(&self) -> (&str, bool) {
        self.0.strip_suffix('+').map_or((&*self.0, false), |beginning| (beginning, true))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Interface> for String {
    fn from(interface: Interface) -> String {
        interface.0.as_ref().to_owned()
    }
}

impl TryFrom<String> for Interface {
    type Error = InterfaceError;
    fn try_from(text: String) -> Result<Interface, InterfaceError> {
        text.parse()
    }
}

/// Why a text is not an interface.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InterfaceError {
    Length(usize),
    Every,
    Alias,
    Character(char),
}

impl fmt::Display for InterfaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InterfaceError::Length(length) => {
                write!(f, "the name of an interface has from 1 to {MAX_INTERFACE} characters, this one has {length}")
            }
            InterfaceError::Every => f.write_str("every interface is what holds without this key: leave it out"),
            InterfaceError::Alias => {
                f.write_str("an alias or a peer is no interface of its own: name what stands before the ':' or '@'")
            }
            InterfaceError::Character(c) => write!(
                f,
                "'{}' does not belong in the name of an interface: it has letters, digits, '.', '_' and '-', and may \
                 end in '+' for all that begin so",
                c.escape_debug()
            ),
        }
    }
}

impl std::error::Error for InterfaceError {}

/// `eth*`, as nftables writes it, is taken for `eth+`.
impl FromStr for Interface {
    type Err = InterfaceError;
    fn from_str(text: &str) -> Result<Interface, InterfaceError> {
        let length = text.chars().count();
        if !(1..=MAX_INTERFACE).contains(&length) {
            return Err(InterfaceError::Length(length));
        }
        let (name, all) = text.strip_suffix(['*', '+']).map_or((text, ""), |beginning| (beginning, "+"));
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() {
            return Err(InterfaceError::Every);
        }
        if let Some(odd) = name.chars().find(|c| !fits(*c)).or(name.starts_with('-').then_some('-')) {
            return Err(if ":@".contains(odd) { InterfaceError::Alias } else { InterfaceError::Character(odd) });
        }
        Ok(Interface(format!("{name}{all}").into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(json: &str) -> Scope {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_scope_of_ports_is_written_and_read_as_earlier_versions_do() {
        for json in ["[]", r#"[{"protocol":"tcp","number":22},{"protocol":"udp","number":53}]"#] {
            assert_eq!(serde_json::to_string(&scope(json)).unwrap(), json);
        }
        assert_eq!(scope("[]"), Scope::default());
    }

    #[test]
    fn a_scope_that_says_more_is_read_back() {
        let json = r#"{"ports":[{"protocol":"tcp","number":22}],"interface":"eth+","direction":"in","target":"PROHIBIT","limit":{"packets":10,"per":"second","burst":20}}"#;
        assert_eq!(serde_json::to_string(&scope(json)).unwrap(), json);
        assert_eq!(
            scope(json).to_string(),
            "22/tcp, on eth+, incoming only, PROHIBIT, limited to 10/second (burst 20)"
        );
        assert_eq!(scope(json).stage(), Stage::Limit);
        assert!(serde_json::from_str::<Scope>(r#"{"interface":"eth0 -j ACCEPT"}"#).is_err());
    }

    #[test]
    fn what_covers_another_scope_stops_all_that_it_stops() {
        let all = Scope::default();
        let covers = |wide: &str, narrow: &str| scope(wide).covers(&scope(narrow));
        for narrow in [r#"{"interface":"eth0"}"#, r#"{"direction":"in"}"#, r#"[{"protocol":"tcp","number":22}]"#] {
            assert!(all.covers(&scope(narrow)) && !scope(narrow).covers(&all), "{narrow}");
        }
        assert!(covers(r#"{"direction":"both"}"#, "[]") && !covers("[]", r#"{"direction":"both"}"#));
        assert!(!covers(r#"{"limit":{"packets":1,"per":"day","burst":5}}"#, "[]"));
    }

    #[test]
    fn names_of_interfaces_are_judged_as_the_kernel_would() {
        for (text, name) in [("eth0", "eth0"), ("eth0.100", "eth0.100"), ("eth*", "eth+"), ("br-lan", "br-lan")] {
            assert_eq!(text.parse::<Interface>().unwrap().to_string(), name);
        }
        for (text, error) in [
            ("", InterfaceError::Length(0)),
            ("abcdefghijklmnop", InterfaceError::Length(16)),
            ("*", InterfaceError::Every),
            ("eth0:1", InterfaceError::Alias),
            ("eth0@if5", InterfaceError::Alias),
            ("e*0", InterfaceError::Character('*')),
            ("-i", InterfaceError::Character('-')),
            ("eth 0", InterfaceError::Character(' ')),
        ] {
            assert_eq!(text.parse::<Interface>(), Err(error), "{text}");
        }
    }
}
