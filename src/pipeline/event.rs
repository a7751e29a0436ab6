//! What happened, for the log and for `banctl events`.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::ledger::{Ban, Stage};
use crate::policy::Reason;
use crate::time::{Timestamp, Until};

/// Something that happened. Text from outside in it is escaped by whoever shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) time: Timestamp,
    #[serde(rename = "event")]
    pub(crate) kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefix: Option<IpNet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jail: Option<Arc<str>>,
    /// Left out where there is no ban; `null` is a ban for ever.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "given")]
    pub(crate) until: Option<Until>,
    /// A sentence, or the reason of a ban.
    pub(crate) text: String,
    /// It is only told: nothing is enforced.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(crate) observed: bool,
}

/// A field that is there has a value, even where that is `null`.
fn given<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Every kind of event there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Banned,
    /// Its packets above a rate are dropped; the next offence drops all of them.
    Limited,
    /// So many neighbours have offended that their prefix is banned; `Banned` follows.
    Widened,
    /// A standing ban rests on better evidence than before, and may be longer for it.
    Confirmed,
    Unbanned,
    Expired,
    /// An offence that did not become a ban, and why.
    Ignored,
    /// There are more bans than the breaker lets through, or no longer.
    BreakerOpened,
    BreakerClosed,
    /// A list was imported, or a blocklist file read.
    Listed,
    /// Somebody else removed what we had put into the kernel; it is back.
    Repaired,
    /// Something does not work; the text names the remedy.
    Trouble,
    Recovered,
    /// Log lines that will never be read.
    Lost,
    /// Somebody asked for a change; what came of it follows.
    Asked,
    Started,
    Reloaded,
    Stopped,
}

impl Kind {
    /// Whether it tells until when something is banned from now on.
    fn starts(self) -> bool {
        matches!(self, Kind::Banned | Kind::Limited | Kind::Widened | Kind::Confirmed)
    }

    /// Where nothing is enforced.
    fn observed(self) -> &'static str {
        match self {
            Kind::Banned => "would ban",
            Kind::Limited => "would limit",
            Kind::Widened => "would widen to",
            other => other.as_str(),
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Banned => "banned",
            Kind::Limited => "limited",
            Kind::Widened => "widened",
            Kind::Confirmed => "confirmed",
            Kind::Unbanned => "unbanned",
            Kind::Expired => "expired",
            Kind::Ignored => "ignored",
            Kind::BreakerOpened => "breaker_opened",
            Kind::BreakerClosed => "breaker_closed",
            Kind::Listed => "listed",
            Kind::Repaired => "repaired",
            Kind::Trouble => "trouble",
            Kind::Recovered => "recovered",
            Kind::Lost => "lost",
            Kind::Asked => "asked",
            Kind::Started => "started",
            Kind::Reloaded => "reloaded",
            Kind::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Event {
    pub(crate) fn new(time: Timestamp, kind: Kind, text: impl Into<String>) -> Event {
        Event { time, kind, prefix: None, jail: None, until: None, text: text.into(), observed: false }
    }

    /// A ban that begins, or becomes harder.
    pub(crate) fn of_new(time: Timestamp, ban: &Ban) -> Event {
        let kind = match ban.scope.stage() {
            Stage::Limit => Kind::Limited,
            Stage::Drop => Kind::Banned,
        };
        Event::of_ban(time, kind, ban)
    }

    pub(crate) fn of_ban(time: Timestamp, kind: Kind, ban: &Ban) -> Event {
        let (prefix, jail, until) = (Some(ban.prefix), Some(ban.jail.clone()), Some(ban.until));
        Event { time, kind, prefix, jail, until, text: ban.reason.to_string(), observed: false }
    }

    pub(crate) fn ignored(time: Timestamp, prefix: IpNet, jail: &Arc<str>, reason: &Reason) -> Event {
        let (prefix, jail) = (Some(prefix), Some(jail.clone()));
        Event { prefix, jail, ..Event::new(time, Kind::Ignored, reason.to_string()) }
    }
}

/// One line with fixed keys: `banned 192.0.2.9 jail=sshd until=… reason="5 hits in 42s"`.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(prefix), Some(jail)) = (self.prefix, &self.jail) else {
            return write!(f, "{}: {}", self.kind, self.text);
        };
        let word = if self.observed { self.kind.observed() } else { self.kind.as_str() };
        write!(f, "{word} {} jail={jail}", Shown(prefix))?;
        if let Some(until) = self.until.filter(|_| self.kind.starts()) {
            write!(f, " until={until}")?;
        }
        write!(f, " reason=\"{}\"", self.text)
    }
}

/// A prefix as people write it: a host without its length.
pub(crate) struct Shown(pub(crate) IpNet);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}
