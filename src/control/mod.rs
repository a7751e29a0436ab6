//! The socket between daemon and `banctl`: one JSON object per line, versioned, bounded.
//!
//! A client sends one [`Request`] per line and reads [`Reply`] lines until one that [ends](Reply::ends) the answer.

pub(crate) mod client;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod hostile;
pub(crate) mod roles;
pub(crate) mod server;

use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::filters::{Limiter, Suppressed};
use crate::firewall::Count;
use crate::ledger::{Ban, Ended};
pub(crate) use crate::pipeline::account::Account;
pub(crate) use crate::pipeline::event::{Event, Kind};
pub(crate) use crate::pipeline::takeover::Former;

/// Version of the protocol; a daemon refuses another one and names its own.
pub(crate) const VERSION: u32 = 1;

/// Longest request line in bytes, newline included. 4,096 IPv6 prefixes of an import fit.
pub(crate) const MAX_REQUEST: usize = 256 * 1024;

/// Most prefixes in one import request; longer lists go in several.
pub(crate) const IMPORT_CHUNK: usize = 4096;

/// Most bans in one request to take them over: with the longest addresses and names they fit.
pub(crate) const TAKE_OVER_CHUNK: usize = 512;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) version: u32,
    #[serde(flatten)]
    pub(crate) command: Command,
}

/// What a client may ask. Lengths are in seconds; `null` is for ever where a ban is meant.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Command {
    /// Answered by one [`Reply::Ban`] per ban, then [`Reply::Done`].
    List {
        jail: Option<String>,
        /// Whether to ask the kernel what each ban has dropped.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        counters: bool,
    },
    Ban {
        prefix: IpNet,
        seconds: Option<u64>,
        reason: String,
    },
    /// `allow`: seconds for which these prefixes cannot be banned again by a log.
    Unban {
        prefixes: Vec<IpNet>,
        all: bool,
        allow: Option<u64>,
    },
    /// Nothing that overlaps this prefix is banned, for so many seconds; what bans it is lifted.
    Allow {
        prefix: IpNet,
        seconds: Option<u64>,
        comment: String,
    },
    /// Takes back what [`Command::Allow`], or [`Command::Unban`] with `allow`, allowed.
    Disallow {
        prefix: IpNet,
    },
    /// Answered by one [`Reply::Allowed`] per network that is never banned, then [`Reply::Done`].
    Allowed,
    /// Replaces the list called `name`. Sent repeatedly on one connection until `more` is false.
    Import {
        name: String,
        prefixes: Vec<IpNet>,
        seconds: Option<u64>,
        more: bool,
    },
    /// Takes over the bans that the program `from` has made, each with its own end; those that are over count as
    /// history. Sent repeatedly on one connection until `more` is false.
    TakeOver {
        from: String,
        bans: Vec<Former>,
        more: bool,
    },
    Status,
    /// What is known of a prefix and what was decided on it: [`Reply::Why`].
    Why {
        prefix: IpNet,
    },
    /// The bans that have ended, the latest first: one [`Reply::Ended`] each, then [`Reply::Done`].
    History {
        prefix: Option<IpNet>,
    },
    Reload,
    /// Answered by [`Reply::Event`] lines for as long as the client stays.
    Events,
}

impl Command {
    /// Whether it changes what is banned, allowed or configured.
    pub(crate) fn changes(&self) -> bool {
        match self {
            Command::Ban { .. }
            | Command::Unban { .. }
            | Command::Allow { .. }
            | Command::Disallow { .. }
            | Command::Import { .. }
            | Command::TakeOver { .. }
            | Command::Reload => true,
            Command::List { .. }
            | Command::Allowed
            | Command::Status
            | Command::Why { .. }
            | Command::History { .. }
            | Command::Events => false,
        }
    }

    /// Whether this is a piece after which others come.
    pub(crate) fn has_more(&self) -> bool {
        matches!(self, Command::Import { more: true, .. } | Command::TakeOver { more: true, .. })
    }

    /// How many entries its pieces so far have.
    pub(crate) fn entries(&self) -> usize {
        match self {
            Command::Import { prefixes, .. } => prefixes.len(),
            Command::TakeOver { bans, .. } => bans.len(),
            _ => 0,
        }
    }

    /// Puts the next piece to this one; `false` when it does not belong to it.
    pub(crate) fn join(&mut self, next: Command) -> bool {
        match (self, next) {
            (
                Command::Import { name, prefixes, more, .. },
                Command::Import { name: again, prefixes: next, more: still, .. },
            ) if *name == again => {
                prefixes.extend(next);
                *more = still;
                true
            }
            (Command::TakeOver { from, bans, more }, Command::TakeOver { from: again, bans: next, more: still })
                if *from == again =>
            {
                bans.extend(next);
                *more = still;
                true
            }
            _ => false,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub(crate) enum Reply {
    Ban(Listed),
    Ended(Ended),
    Allowed(Allowed),
    Event(Arc<Event>),
    Status(Box<Status>),
    Why(Box<Why>),
    /// More of an import is awaited.
    Continue,
    /// The end of a successful answer: what was done, in sentences for a person; warnings say what was left out.
    Done {
        message: String,
        warnings: Vec<String>,
    },
    /// The request was not taken, as others needed the place of a client that had not said it yet. The connection ends;
    /// it may be asked again on another.
    Busy,
    /// The end of an answer that was refused or failed, and why.
    Refused {
        message: String,
    },
}

impl Reply {
    /// Whether this line is the last of its answer.
    pub(crate) fn ends(&self) -> bool {
        !matches!(self, Reply::Ban(_) | Reply::Ended(_) | Reply::Allowed(_) | Reply::Event(_))
    }
}

/// A ban, and if that was asked for, what its entry in the kernel has dropped; several owners of a prefix share one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Listed {
    #[serde(flatten)]
    pub(crate) ban: Ban,
    #[serde(flatten)]
    pub(crate) dropped: Option<Count>,
    /// Said where the kernel may have no room for all: whether it holds this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) in_force: Option<bool>,
}

/// The answer to `why`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Why {
    #[serde(flatten)]
    pub(crate) account: Account,
    /// What the kernel holds of it; `null` where it cannot be asked.
    pub(crate) kernel: Option<Vec<KernelEntry>>,
    /// Logs in which lines are missing.
    #[serde(default)]
    pub(crate) gaps: Vec<Gap>,
}

/// An entry of the kernel, as it is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KernelEntry {
    pub(crate) prefix: IpNet,
    pub(crate) backend: String,
    /// Of ipset, or in our table of nftables.
    pub(crate) set: String,
    /// `443/tcp`; empty for all.
    pub(crate) ports: Vec<String>,
    /// Which packets, in words; empty for all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) scope: String,
    /// `null` is for ever.
    pub(crate) seconds_left: Option<u64>,
    #[serde(flatten)]
    pub(crate) count: Option<Count>,
}

/// A network that is never banned, and who says so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Allowed {
    pub(crate) prefix: IpNet,
    pub(crate) origin: Origin,
    /// What is protected: a word of `allow.protect`.
    pub(crate) kind: Option<String>,
    #[serde(flatten)]
    pub(crate) grant: Option<Granted>,
}

/// Where an allowed network comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// `allow.networks`.
    Config,
    /// `allow.protect`: found out by the daemon.
    Protected,
    /// A person: `allow add`, `unban --allow`.
    Hand,
}

/// What a person allowed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Granted {
    pub(crate) since: crate::time::Timestamp,
    pub(crate) until: crate::time::Until,
    /// Their user id.
    pub(crate) by: Option<u32>,
    pub(crate) comment: Arc<str>,
}

/// One word for how the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Health {
    /// The kernel is being given the bans for the first time since the start or a change of the firewall's settings.
    Starting,
    Ok,
    /// Guarding, but something is wrong: see `troubles`.
    Degraded,
    /// The kernel does not hold the bans.
    Failing,
    /// `mode = "observe"`: decides, enforces nothing.
    Observing,
}

/// The answer to `status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) health: Health,
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) started: crate::time::Timestamp,
    pub(crate) config: String,
    pub(crate) backend: String,
    /// Why this backend: `ipset and iptables (nf_tables) work`.
    pub(crate) backend_reason: String,
    /// Bans in the ledger, entries of imported lists and blocklist files not counted.
    pub(crate) bans: u64,
    pub(crate) listed: u64,
    /// Entries that the kernel has confirmed.
    pub(crate) installed: u64,
    pub(crate) jails: Vec<JailStatus>,
    pub(crate) sources: Vec<SourceStatus>,
    pub(crate) lists: Vec<ListStatus>,
    pub(crate) breaker: BreakerStatus,
    /// What is wrong right now, each with its remedy.
    pub(crate) troubles: Vec<String>,
}

/// How much logs have banned, against what they may.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BreakerStatus {
    /// Forgeable evidence bans nobody at the moment, and no ban widens.
    pub(crate) open: bool,
    /// How often it has opened since the start, and how many offences were ignored because it was open.
    pub(crate) opened: u64,
    pub(crate) waiting: u64,
    /// Addresses (in IPv6 networks of 64 bits) that bans cover.
    pub(crate) addresses: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JailStatus {
    pub(crate) jail: String,
    pub(crate) filter: String,
    pub(crate) hits: u64,
    pub(crate) offences: u64,
    pub(crate) bans: u64,
    /// Those that only limit included.
    pub(crate) banned_now: u64,
    #[serde(default)]
    pub(crate) limited_now: u64,
    pub(crate) ignored: u64,
    /// Sources in the window's table, and how many had to make room for others since the start.
    pub(crate) tracked: u64,
    pub(crate) evicted: u64,
    /// Left out where there are many bans, and where the kernel cannot tell.
    #[serde(flatten)]
    pub(crate) dropped: Option<Dropped>,
}

/// What the bans of a jail that stand have dropped.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Dropped {
    #[serde(flatten)]
    pub(crate) count: Count,
    /// How many of the bans have dropped nothing.
    pub(crate) never_hit: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SourceStatus {
    /// A file path, `kmsg`, `journal`, `stdin`.
    pub(crate) log: String,
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    pub(crate) hits: u64,
    pub(crate) lost: u64,
    /// Lines that the log says were left out of it.
    #[serde(default)]
    pub(crate) suppressed: Option<Missing>,
    pub(crate) cut: u64,
    /// Log time of the last line.
    pub(crate) latest: Option<crate::time::Timestamp>,
    pub(crate) live: bool,
    pub(crate) trouble: Option<String>,
    /// Who besides services may write this log, and so decides whom its lines ban.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) forgers: Option<String>,
}

/// Lines that a log says were left out of it: how many, by whom, and when that was said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Missing {
    pub(crate) lines: u64,
    pub(crate) by: Limiter,
    pub(crate) time: crate::time::Timestamp,
}

impl Missing {
    pub(crate) fn of(Suppressed { lines, by, time }: Suppressed) -> Missing {
        Missing { lines, by, time }
    }
}

/// A log that lacks lines, so that what is counted in it is too low.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Gap {
    pub(crate) log: String,
    pub(crate) lost: u64,
    pub(crate) suppressed: Option<Missing>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ListStatus {
    pub(crate) list: String,
    pub(crate) entries: u64,
    pub(crate) until: crate::time::Until,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Timestamp, Until};

    #[test]
    fn every_command_survives_the_wire() {
        let prefix: IpNet = "2001:db8::/64".parse().unwrap();
        let commands = [
            Command::List { jail: Some("sshd".to_owned()), counters: true },
            Command::Ban { prefix, seconds: None, reason: "because".to_owned() },
            Command::Unban { prefixes: vec![prefix], all: false, allow: Some(3600) },
            Command::Import { name: "drop".to_owned(), prefixes: vec![prefix], seconds: Some(60), more: true },
            Command::TakeOver {
                from: "fail2ban".to_owned(),
                bans: vec![Former {
                    prefix,
                    jail: "sshd".to_owned(),
                    since: Timestamp::EPOCH,
                    until: Until::Forever,
                    count: 3,
                }],
                more: false,
            },
            Command::Allow { prefix, seconds: None, comment: "the office".to_owned() },
            Command::Disallow { prefix },
            Command::Allowed,
            Command::Status,
            Command::Why { prefix },
            Command::Reload,
            Command::Events,
        ];
        for command in commands {
            let line = serde_json::to_string(&Request { version: VERSION, command }).unwrap();
            let read: Request = serde_json::from_str(&line).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), line);
        }
    }

    #[test]
    fn an_event_tells_a_ban_for_ever_from_no_ban() {
        let of = |text: &str| serde_json::from_str::<Event>(text).unwrap().until;
        let time = r#""time":"2026-11-21T01:30:00Z","event":"banned","text":"t""#;
        assert_eq!(of(&format!("{{{time},\"until\":null}}")), Some(Until::Forever));
        assert_eq!(of(&format!("{{{time}}}")), None);
    }
}
