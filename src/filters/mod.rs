//! Lines in, hits out. A filter is data (`filters/NAME.toml`); a matcher is built once from the filters of a source,
//! immutable and shared. It never reads a clock, a file or a name server.

use std::net::IpAddr;

use crate::time::Timestamp;

mod account; // whom a line says that it was
mod address; // bytes → addresses, host names
mod ambiguity; // whether attacker's text can stand where a pattern expects the address
mod bytes; // sets of bytes
mod envelope; // what containers and terminals put around a line
mod excerpt; // the lines of hits
mod file; // filter files → filters
mod grams; // where in a block one of many texts stands
mod half; // one side of a pattern, ready to match
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod hostile; // laws for fuzzers
mod json; // rules on the fields of a JSON line
mod line; // a line, taken apart as far as some filter asks
mod literals; // what a line must contain for a pattern to match
mod matcher; // blocks of lines → hits
mod memory; // what earlier lines of a log leave behind for later ones
mod netfilter; // rules on the kernel's packet log
mod pattern; // rules on text, with `<ADDR>`
mod program; // names of programs, as filters have them
mod progress; // how far a pattern comes on a line, for authors
mod rule; // what a `[[pattern]]` table asks for → rules
mod sample; // the lines by which a filter proves itself
mod steps; // a regex of the plain kind, run by hand
mod suppressed; // lines that say that others are missing
mod suspect; // what a line is like that nothing matches, for authors
mod syslog; // lines → program and message
mod texts; // which of many texts stand in a line
mod timestamp; // stamps → times

pub(crate) use account::User;
pub(crate) use address::address_at;
pub(crate) use excerpt::Excerpt;
pub(crate) use file::{Filter, Filters, Format, Mode, Pattern, Rule, prove};
pub(crate) use matcher::Matcher;
pub(crate) use memory::Memory;
pub(crate) use pattern::{trusts_end, would_find};
pub(crate) use progress::{Progress, Reach};
pub(crate) use sample::{hits_by, verify};
pub(crate) use suppressed::{Limiter, Suppressed};
pub(crate) use suspect::{Tone, layout, opened, tone};

/// How far the address of a hit can be trusted. Ordered: proven is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Evidence {
    /// The address may be spoofed: ICMP, UDP, a bare SYN.
    Forgeable,
    /// The address completed a handshake: authentication and web logs.
    Proven,
}

/// What a matched line does to the window of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It counts as this many hits, 1 to 100.
    Count(u8),
    /// A good log-in, and so no hit: what the same user failed from the same address is forgiven.
    Forgive,
}

/// One line that is evidence against one address, or, where its effect says so, for one.
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
    /// The account that was tried, where the pattern names it. Attacker's text.
    pub(crate) user: Option<User>,
    /// The port that a logged packet was sent to.
    pub(crate) port: Option<u16>,
    pub(crate) evidence: Evidence,
    pub(crate) effect: Effect,
    /// How many times this happened: 1, or N for "message repeated N times".
    pub(crate) repeat: u32,
    /// The line, at most [`KEPT_OF_LINE`] bytes of it. Attacker's text.
    pub(crate) line: Excerpt,
}

/// What a hit keeps of its line, in bytes: what an administrator reads of it. More would only cost.
pub(crate) const KEPT_OF_LINE: usize = 300;

impl Hit {
    /// How many hits it counts for; none when it forgives.
    pub(crate) fn count(&self) -> u32 {
        match self.effect {
            Effect::Count(weight) => self.repeat.saturating_mul(u32::from(weight)),
            Effect::Forgive => 0,
        }
    }
}

/// One log record whose envelope its source has opened already: the kernel's ring buffer, the journal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) time: Timestamp,
    /// `kernel`, or the syslog identifier.
    pub(crate) program: &'a [u8],
    /// The process id, as text; empty where it is not known.
    pub(crate) process: &'a [u8],
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

/// Whom a line accuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Offender {
    Address(IpAddr),
    /// A host name where the address should be. It is shown, and never resolved nor banned.
    Name(String),
}

/// What a pattern makes of a message.
pub(crate) struct Told {
    pub(crate) offender: Offender,
    pub(crate) user: Option<User>,
    pub(crate) port: Option<u16>,
    pub(crate) stamp: Option<timestamp::Stamp>,
}

impl Told {
    fn of(offender: Offender) -> Told {
        Told { offender, user: None, port: None, stamp: None }
    }
}

/// What was found in one line; other than a hit, also where it names its offender only by host name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Index into the list of filters that the matcher was made from.
    pub(crate) filter: u16,
    /// Index of the pattern within its filter.
    pub(crate) pattern: u16,
    pub(crate) offender: Offender,
    /// Log time, never later than the clock's now; now itself where the line has no stamp.
    pub(crate) time: Timestamp,
    /// Attacker's text.
    pub(crate) user: Option<User>,
    pub(crate) port: Option<u16>,
    pub(crate) evidence: Evidence,
    pub(crate) effect: Effect,
    pub(crate) repeat: u32,
}

/// What a block held apart from hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scanned {
    pub(crate) lines: u64,
    /// The time of the last line, if it has a stamp.
    pub(crate) latest: Option<Timestamp>,
}
