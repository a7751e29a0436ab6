//! What the earlier lines of a log leave behind for its later ones. In: addresses and accusations, each under the key
//! of its connection, session or queue entry. Out: the address for an accusation. Bounded in number and in log time.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use super::Finding;
use super::Suppressed;
use super::envelope::Torn;
use super::matcher::Owner;
use super::suppressed;
use super::syslog::REPEATED;
use super::texts::Ahead;
use crate::time::Timestamp;

/// Most keys that are remembered of one log; the oldest makes room.
const MOST_KEYS: usize = 4096;

/// The memory of one log. It belongs to the thread that reads the log; filters are shared, memories never are.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(super) torn: Torn,
    /// Lines that the log says are missing, since it was last taken.
    pub(super) suppressed: Option<Suppressed>,
    /// Space: for lines that must be rewritten to be read, for what is ahead in a block, for the parts to try on a line.
    pub(super) scratch: Vec<u8>,
    pub(super) ahead: Ahead,
    pub(super) wanted: Vec<Owner>,
    pub(super) last: LastLine,
    /// Whether some line has belonged together with others.
    joined: bool,
    said: HashMap<Key, (Timestamp, Said)>,
    /// The keys of `said` in the order in which they came.
    order: VecDeque<Key>,
    /// Keyed by chance, so that nobody can choose two texts with the same key.
    keys: RandomState,
}

/// The last line so far that anything was found in, for a line behind it that says how often it came again.
#[derive(Debug, Default)]
pub(super) struct LastLine {
    /// Where the next line begins, in the block at hand.
    next: usize,
    /// Whose line it was.
    host: Vec<u8>,
    /// Empty where nothing was found, or it has been said already how often it came again.
    findings: Vec<Finding>,
}

impl LastLine {
    /// Whether the line that begins here is the next one.
    pub(super) fn is_before(&self, start: usize) -> bool {
        self.next == start && !self.findings.is_empty()
    }

    /// What it found, if a line of the same host says that it came again so often. It can be said once.
    pub(super) fn again(&mut self, host: &[u8], repeat: u32, time: Timestamp) -> impl Iterator<Item = Finding> {
        let mut findings = std::mem::take(&mut self.findings);
        findings.retain(|_| self.host == host);
        findings.into_iter().map(move |finding| Finding { time, repeat, ..finding })
    }

    /// An empty list, for what the next line finds.
    pub(super) fn take_space(&mut self) -> Vec<Finding> {
        let mut findings = std::mem::take(&mut self.findings);
        findings.clear();
        findings
    }

    /// What a line has found, in a list that may be empty.
    pub(super) fn keep<'l>(&mut self, next: usize, findings: Vec<Finding>, host: impl FnOnce() -> &'l [u8]) {
        if !findings.is_empty() {
            self.next = next;
            self.host.clear();
            self.host.extend_from_slice(host());
        }
        self.findings = findings;
    }

    /// A block of this length has ended; what came last in it is before the first line of the next.
    pub(super) fn begin_block(&mut self, length: usize) {
        if self.next < length {
            self.findings.clear();
        }
        self.next = 0;
    }
}

/// Which lines belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(u64);

/// What was said under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Address(IpAddr),
    /// The line that should name the address has none.
    Nobody,
    Accusation(Accusation),
}

/// A line that accuses whoever the key belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Accusation {
    pub(super) pattern: u16,
    pub(super) repeat: u32,
}

impl Memory {
    /// Keeps what a message says of missing lines, if that is what it says.
    pub(super) fn note_suppressed(&mut self, program: &[u8], message: &[u8], time: Timestamp) {
        if let Some((lines, by)) = suppressed::read(program, message) {
            Suppressed::add(&mut self.suppressed, Suppressed { lines, by, time });
        }
    }

    /// Whether a block, scanned with a memory of its own, may have given something else than with this one, which the
    /// lines before it have left behind.
    pub(crate) fn reaches(&self, block: &[u8], own: &Memory) -> bool {
        let first = block.split(|byte| *byte == b'\n').next().unwrap_or_default();
        own.joined
            || self.torn.is_torn()
            || !self.last.findings.is_empty() && memchr::memmem::find(first, REPEATED).is_some()
    }

    /// Takes over what such a block leaves behind, where this memory did not reach into it.
    pub(crate) fn adopt(&mut self, own: Memory) {
        (self.torn, self.last) = (own.torn, own.last);
        if let Some(suppressed) = own.suppressed {
            Suppressed::add(&mut self.suppressed, suppressed);
        }
    }

    /// What the log has said of missing lines since the last call.
    pub(crate) fn take_suppressed(&mut self) -> Option<Suppressed> {
        self.suppressed.take()
    }

    /// The key of a text (`id`) by which lines of a host belong together for one join of one filter.
    pub(super) fn key(&self, filter: u16, join: u16, host: &[u8], id: &[u8]) -> Key {
        Key(self.keys.hash_one((filter, join, host, id)))
    }

    /// Keeps the address of a key; gives the accusation that waits for it.
    pub(super) fn name(
        &mut self,
        key: Key,
        address: Option<IpAddr>,
        now: Timestamp,
        within: Duration,
    ) -> Option<Accusation> {
        let before = self.keep(key, now, address.map_or(Said::Nobody, Said::Address));
        match before {
            Some((time, Said::Accusation(accusation))) if is_near(time, now, within) => Some(accusation),
            _ => None,
        }
    }

    /// The address of a key.
    pub(super) fn address(&mut self, key: Key, now: Timestamp, within: Duration) -> Option<IpAddr> {
        self.joined = true;
        match self.said.get(&key)? {
            (time, Said::Address(address)) if is_near(*time, now, within) => Some(*address),
            _ => None,
        }
    }

    /// Keeps an accusation until the address of its key is named.
    pub(super) fn accuse(&mut self, key: Key, accusation: Accusation, now: Timestamp) {
        self.keep(key, now, Said::Accusation(accusation));
    }

    fn keep(&mut self, key: Key, now: Timestamp, said: Said) -> Option<(Timestamp, Said)> {
        self.joined = true;
        let before = self.said.insert(key, (now, said));
        if before.is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > MOST_KEYS
            && let Some(oldest) = self.order.pop_front()
        {
            self.said.remove(&oldest);
        }
        before
    }
}

fn is_near(time: Timestamp, now: Timestamp, within: Duration) -> bool {
    u128::from(time.as_micros().abs_diff(now.as_micros())) <= within.as_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    const ADDRESS: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

    #[test]
    fn an_address_is_known_under_its_key_for_its_time() {
        let mut memory = Memory::default();
        let key = memory.key(0, 0, b"host", b"411");
        memory.name(key, ADDRESS, at(0), MINUTE);
        assert_eq!(memory.address(key, at(60), MINUTE), ADDRESS);
        assert_eq!(memory.address(key, at(61), MINUTE), None);
        for other in
            [memory.key(1, 0, b"host", b"411"), memory.key(0, 0, b"h", b"411"), memory.key(0, 0, b"host", b"4")]
        {
            assert_eq!(memory.address(other, at(0), MINUTE), None);
        }
    }

    #[test]
    fn a_key_that_is_used_again_forgets_whose_it_was() {
        let mut memory = Memory::default();
        let key = memory.key(0, 0, b"", b"411");
        memory.name(key, ADDRESS, at(0), MINUTE);
        memory.name(key, None, at(1), MINUTE);
        assert_eq!(memory.address(key, at(1), MINUTE), None);
    }

    #[test]
    fn an_accusation_waits_for_its_address_once() {
        let mut memory = Memory::default();
        let key = memory.key(0, 0, b"", b"q");
        let accusation = Accusation { pattern: 3, repeat: 1 };
        memory.accuse(key, accusation.clone(), at(0));
        assert_eq!(memory.name(key, ADDRESS, at(5), MINUTE), Some(accusation.clone()));
        assert_eq!(memory.name(key, ADDRESS, at(5), MINUTE), None);
        memory.accuse(key, accusation, at(10));
        assert_eq!(memory.name(key, ADDRESS, at(90), MINUTE), None);
    }

    #[test]
    fn the_oldest_key_makes_room() {
        let mut memory = Memory::default();
        let key = |memory: &Memory, number: usize| memory.key(0, 0, b"", &number.to_le_bytes());
        for number in 0..=MOST_KEYS {
            let key = key(&memory, number);
            memory.name(key, ADDRESS, at(0), MINUTE);
        }
        assert_eq!(memory.address(key(&memory, 0), at(0), MINUTE), None);
        assert_eq!(memory.address(key(&memory, 1), at(0), MINUTE), ADDRESS);
        assert_eq!((memory.said.len(), memory.order.len()), (MOST_KEYS, MOST_KEYS));
    }
}
