//! Lines in, hits out. A filter is data (`filters/NAME.toml`); a matcher is built once from the filters of a source,
//! immutable and shared. It never reads a clock, a file or a name server.

use std::net::IpAddr;

use crate::time::Timestamp;

/// How far the address of a hit can be trusted. Ordered: proven is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Evidence {
    /// The address may be spoofed: ICMP, UDP, a bare SYN.
    Forgeable,
    /// The address completed a handshake: authentication and web logs.
    Proven,
}

/// One line that is evidence against one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// As the line has it, with `::ffff:a.b.c.d` folded to `a.b.c.d`.
    pub(crate) address: IpAddr,
    /// Log time, never later than the time of reading.
    pub(crate) time: Timestamp,
    /// Index into the list of filters that the matcher was made from.
    pub(crate) filter: u16,
    /// Index of the pattern within its filter.
    pub(crate) pattern: u16,
    /// The account that was tried, where the pattern names it. Attacker's text, at most 64 bytes.
    pub(crate) user: Option<Box<str>>,
    pub(crate) evidence: Evidence,
    /// How many times this happened: 1, or N for "message repeated N times".
    pub(crate) repeat: u32,
}

/// One log record whose envelope its source has opened already: the kernel's ring buffer, the journal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) time: Timestamp,
    /// `kernel`, or the syslog identifier.
    pub(crate) program: &'a [u8],
    pub(crate) message: &'a [u8],
}

/// What is needed to turn the stamp of a line into a time.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// When the line was read: later stamps are clamped to it, and it gives year-less stamps their year.
    pub(crate) now: Timestamp,
    /// The zone of stamps that name none.
    pub(crate) zone: jiff::tz::TimeZone,
}
