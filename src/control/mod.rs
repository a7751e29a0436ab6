//! The socket between daemon and `banctl`: one JSON object per line, versioned, bounded.
//!
//! A client sends one [`Request`] per line and reads [`Reply`] lines until one that [ends](Reply::ends) the answer.

pub(crate) mod client;
pub(crate) mod server;

use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::ledger::{Ban, Ended};
pub(crate) use crate::pipeline::event::{Event, Kind};

/// Version of the protocol; a daemon refuses another one and names its own.
pub(crate) const VERSION: u32 = 1;

/// Longest request line in bytes, newline included. 4,096 IPv6 prefixes of an import fit.
pub(crate) const MAX_REQUEST: usize = 256 * 1024;

/// Most prefixes in one import request; longer lists go in several.
pub(crate) const IMPORT_CHUNK: usize = 4096;

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
    /// Replaces the list called `name`. Sent repeatedly on one connection until `more` is false.
    Import {
        name: String,
        prefixes: Vec<IpNet>,
        seconds: Option<u64>,
        more: bool,
    },
    Status,
    /// The bans that have ended, the latest first: one [`Reply::Ended`] each, then [`Reply::Done`].
    History {
        prefix: Option<IpNet>,
    },
    Reload,
    /// Answered by [`Reply::Event`] lines for as long as the client stays.
    Events,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub(crate) enum Reply {
    Ban(Ban),
    Ended(Ended),
    Event(Arc<Event>),
    Status(Box<Status>),
    /// More of an import is awaited.
    Continue,
    /// The end of a successful answer: what was done, in sentences for a person; warnings say what was left out.
    Done {
        message: String,
        warnings: Vec<String>,
    },
    /// The end of an answer that was refused or failed, and why.
    Refused {
        message: String,
    },
}

impl Reply {
    /// Whether this line is the last of its answer.
    pub(crate) fn ends(&self) -> bool {
        matches!(self, Reply::Status(_) | Reply::Continue | Reply::Done { .. } | Reply::Refused { .. })
    }
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
    /// What is wrong right now, each with its remedy.
    pub(crate) troubles: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JailStatus {
    pub(crate) jail: String,
    pub(crate) filter: String,
    pub(crate) hits: u64,
    pub(crate) offences: u64,
    pub(crate) bans: u64,
    pub(crate) banned_now: u64,
    pub(crate) ignored: u64,
    /// Sources in the window's table, and how many had to make room for others since the start.
    pub(crate) tracked: u64,
    pub(crate) evicted: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SourceStatus {
    /// A file path, `kmsg`, `journal`, `stdin`.
    pub(crate) log: String,
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    pub(crate) hits: u64,
    pub(crate) lost: u64,
    pub(crate) cut: u64,
    /// Log time of the last line.
    pub(crate) latest: Option<crate::time::Timestamp>,
    pub(crate) live: bool,
    pub(crate) trouble: Option<String>,
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
    use crate::time::Until;

    #[test]
    fn every_command_survives_the_wire() {
        let prefix: IpNet = "2001:db8::/64".parse().unwrap();
        let commands = [
            Command::List { jail: Some("sshd".to_owned()) },
            Command::Ban { prefix, seconds: None, reason: "because".to_owned() },
            Command::Unban { prefixes: vec![prefix], all: false, allow: Some(3600) },
            Command::Import { name: "drop".to_owned(), prefixes: vec![prefix], seconds: Some(60), more: true },
            Command::Status,
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
