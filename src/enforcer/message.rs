//! What the two processes say to each other: a closed set. A request is answered by one reply, or by parts of one of
//! which the last says so.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::wire::{Rest, Wire};
use crate::firewall::{Choice, Count, Refused};
use crate::ledger::{Change, Entry, Scope};
use crate::time::Timestamp;

/// Entries, changes or counts in one message, so that a million of them never is one message.
pub(super) const PART: usize = 256;

/// Longest message in bytes: a part whose entries have the longest scopes.
pub(super) const LONGEST: usize = 128 * 1024;

/// Which rules are meant. The brain cannot describe rules: it names those of the configuration, which the enforcer has
/// read itself, by their fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Which {
    pub(super) settings: u64,
    pub(super) backend: Choice,
}

/// Which opened backend is meant, and when. Time is what the brain says: how long an entry lasts must not depend on when
/// the other process gets to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) session: u32,
    pub(super) now: Timestamp,
}

/// What the brain may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Opens a backend; what is said of it then names its session.
    Open(Which),
    /// Exactly these entries, in parts.
    Sync { at: At, last: bool, entries: Vec<Entry> },
    /// Steps since, in parts.
    Apply { at: At, last: bool, changes: Vec<Change> },
    /// What was found when the enforcer last rang; else it looks now whether all is as it was made, and renews what the
    /// kernel would forget.
    Inspect { at: At },
    /// Takes out everything that these rules made.
    Remove(Which),
    /// Reads entries back from the kernel.
    Held(Which),
    /// Reads what is in these scopes, with its counters.
    Look { which: Which, scopes: Vec<Scope> },
    /// Which backends have left something of ours.
    Traces(Which),
    /// Whether this address has completed a TCP handshake with us.
    Handshake(IpAddr),
    /// Reads the configuration again, for whom it protects.
    Reread,
    /// Which backends have left something of ours under this name, which an earlier configuration had for our chain: that
    /// may be taken out from now on.
    Recall(String),
}

/// What the enforcer answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// A sentence with the remedy.
    Failed(String),
    Opened {
        session: u32,
        backend: Choice,
        why: String,
    },
    /// Done; but for what is refused, if anything, and for what there is no room.
    Done {
        installed: u64,
        refused: Option<Refused>,
        shortage: Option<String>,
    },
    /// Some of what was to be set has no room: as many entries have.
    Full {
        ceiling: u64,
        refused: Option<Refused>,
        shortage: Option<String>,
    },
    /// What an inspection found, and mended.
    Mended(String),
    /// What an inspection found.
    Damaged(String),
    Entries {
        last: bool,
        entries: Vec<Entry>,
    },
    Seen {
        last: bool,
        seen: Vec<Noted>,
    },
    Backends(Vec<Choice>),
    Handshake(bool),
}

/// An entry as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) set: String,
    pub(super) prefix: IpNet,
    pub(super) scope: Scope,
    pub(super) left: Option<Duration>,
    pub(super) count: Option<Count>,
}

impl Wire for Noted {
    fn put(&self, out: &mut Vec<u8>) {
        self.set.put(out);
        self.prefix.put(out);
        self.scope.put(out);
        self.left.put(out);
        self.count.put(out);
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        let (set, prefix, scope) = (String::take(rest)?, IpNet::take(rest)?, Scope::take(rest)?);
        Some(Noted { set, prefix, scope, left: Wire::take(rest)?, count: Wire::take(rest)? })
    }
}

impl Wire for At {
    fn put(&self, out: &mut Vec<u8>) {
        self.session.put(out);
        self.now.put(out);
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        Some(At { session: u32::take(rest)?, now: Wire::take(rest)? })
    }
}

impl Wire for Which {
    fn put(&self, out: &mut Vec<u8>) {
        self.settings.put(out);
        self.backend.put(out);
    }

    fn take(rest: &mut Rest<'_>) -> Option<Self> {
        Some(Which { settings: u64::take(rest)?, backend: Choice::take(rest)? })
    }
}

/// A message between the two processes.
pub(super) trait Message: Sized {
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads a message but does not say whether something follows.
    fn read(rest: &mut Rest<'_>) -> Option<Self>;

    /// `None` for what is no such message, from its first byte to its last.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest::of(bytes);
        Self::read(&mut rest).filter(|_| rest.is_empty())
    }
}

fn put_all<T: Wire>(items: &[T], out: &mut Vec<u8>) {
    for item in items {
        item.put(out);
    }
}

impl Message for Request {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Request::Open(which) => {
                out.push(1);
                which.put(out);
            }
            Request::Sync { at, last, entries } => {
                out.push(2);
                at.put(out);
                last.put(out);
                put_all(entries, out);
            }
            Request::Apply { at, last, changes } => {
                out.push(3);
                at.put(out);
                last.put(out);
                put_all(changes, out);
            }
            Request::Inspect { at } => {
                out.push(4);
                at.put(out);
            }
            Request::Remove(which) => {
                out.push(5);
                which.put(out);
            }
            Request::Held(which) => {
                out.push(6);
                which.put(out);
            }
            Request::Look { which, scopes } => {
                out.push(7);
                which.put(out);
                put_all(scopes, out);
            }
            Request::Traces(which) => {
                out.push(8);
                which.put(out);
            }
            Request::Handshake(address) => {
                out.push(9);
                address.put(out);
            }
            Request::Reread => out.push(10),
            Request::Recall(chain) => {
                out.push(11);
                chain.put(out);
            }
        }
    }

    fn read(rest: &mut Rest<'_>) -> Option<Self> {
        Some(match u8::take(rest)? {
            1 => Request::Open(Which::take(rest)?),
            2 => Request::Sync { at: At::take(rest)?, last: bool::take(rest)?, entries: rest.all()? },
            3 => Request::Apply { at: At::take(rest)?, last: bool::take(rest)?, changes: rest.all()? },
            4 => Request::Inspect { at: At::take(rest)? },
            5 => Request::Remove(Which::take(rest)?),
            6 => Request::Held(Which::take(rest)?),
            7 => Request::Look { which: Which::take(rest)?, scopes: rest.all()? },
            8 => Request::Traces(Which::take(rest)?),
            9 => Request::Handshake(IpAddr::take(rest)?),
            10 => Request::Reread,
            11 => Request::Recall(String::take(rest)?),
            _ => return None,
        })
    }
}

impl Message for Reply {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Reply::Failed(text) => {
                out.push(1);
                text.put(out);
            }
            Reply::Opened { session, backend, why } => {
                out.push(2);
                session.put(out);
                backend.put(out);
                why.put(out);
            }
            Reply::Done { installed, refused, shortage } => {
                out.push(3);
                installed.put(out);
                refused.put(out);
                shortage.put(out);
            }
            Reply::Damaged(text) => {
                out.push(4);
                text.put(out);
            }
            Reply::Entries { last, entries } => {
                out.push(5);
                last.put(out);
                put_all(entries, out);
            }
            Reply::Seen { last, seen } => {
                out.push(6);
                last.put(out);
                put_all(seen, out);
            }
            Reply::Backends(choices) => {
                out.push(7);
                put_all(choices, out);
            }
            Reply::Handshake(seen) => {
                out.push(8);
                seen.put(out);
            }
            Reply::Full { ceiling, refused, shortage } => {
                out.push(9);
                ceiling.put(out);
                refused.put(out);
                shortage.put(out);
            }
            Reply::Mended(text) => {
                out.push(10);
                text.put(out);
            }
        }
    }

    fn read(rest: &mut Rest<'_>) -> Option<Self> {
        Some(match u8::take(rest)? {
            1 => Reply::Failed(String::take(rest)?),
            2 => {
                let (session, backend) = (u32::take(rest)?, Choice::take(rest)?);
                Reply::Opened { session, backend, why: String::take(rest)? }
            }
            3 => {
                let (installed, refused) = (u64::take(rest)?, Wire::take(rest)?);
                Reply::Done { installed, refused, shortage: Wire::take(rest)? }
            }
            4 => Reply::Damaged(String::take(rest)?),
            5 => Reply::Entries { last: bool::take(rest)?, entries: rest.all()? },
            6 => Reply::Seen { last: bool::take(rest)?, seen: rest.all()? },
            7 => Reply::Backends(rest.all()?),
            8 => Reply::Handshake(bool::take(rest)?),
            9 => {
                let (ceiling, refused) = (u64::take(rest)?, Wire::take(rest)?);
                Reply::Full { ceiling, refused, shortage: Wire::take(rest)? }
            }
            10 => Reply::Mended(String::take(rest)?),
            _ => return None,
        })
    }
}
