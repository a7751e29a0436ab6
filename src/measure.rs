//! Doors for `benches/stages.rs` and `benches/counts.rs`, which measure one stage at a time. Programs are built without
//! them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::filters::{Clock, Evidence, Hit, Matcher, Memory};
use crate::firewall;
use crate::ledger::{Ban, Ledger, Scope};
use crate::pipeline::wiring::Wiring;
use crate::setup::{self, Depth};
use crate::sources::Place;
use crate::time::{Timestamp, Until};

/// 2026-11-21T01:30:00Z.
const NOW: Timestamp = Timestamp::from_secs(1_795_224_600);

/// The filters of a configuration, as a source's own thread runs them.
pub struct Scanner {
    matcher: Arc<Matcher>,
    clock: Clock,
    memory: Memory,
    hits: Vec<Hit>,
}

impl Scanner {
    /// # Panics
    /// When something is wrong with the configuration, or no jail is enabled.
    pub fn new(config: &Path) -> Scanner {
        let (setup, problems) = setup::load(config, Depth::Read);
        let setup = setup.unwrap_or_else(|| panic!("{problems:#?}"));
        let wiring = Wiring::new(&setup.config, &setup.filters, |_, _| Place::Stdin);
        let matcher = Arc::clone(&wiring.sources.first().expect("a jail is enabled").matcher);
        let clock = Clock { now: NOW, zone: jiff::tz::TimeZone::UTC };
        Scanner { matcher, clock, memory: Memory::default(), hits: Vec::new() }
    }

    /// Finds the hits in whole lines; how many there are.
    pub fn scan(&mut self, block: &[u8]) -> usize {
        self.hits.clear();
        self.matcher.scan(block, &self.clock, &mut self.memory, &mut self.hits);
        self.hits.len()
    }
}

/// A ledger in a folder.
pub struct Book {
    ledger: Ledger,
    next: u32,
}

impl Book {
    /// # Panics
    /// When no ledger can be made there.
    pub fn open(folder: &Path) -> Book {
        let (ledger, _) = Ledger::open(folder, NOW).expect("the folder can be written");
        Book { ledger, next: 0 }
    }

    /// Bans so many more addresses; how many changes the kernel is to follow.
    pub fn ban(&mut self, count: u32) -> usize {
        let numbers = self.next..self.next + count;
        self.next += count;
        numbers.map(|number| self.ledger.ban(ban(number)).len()).sum()
    }

    /// Hands everything to the thread that writes; does not wait for it.
    pub fn commit(&mut self) {
        self.ledger.commit(None);
    }
}

fn ban(number: u32) -> Ban {
    Ban {
        prefix: address(number),
        jail: "sshd".into(),
        scope: Scope::default(),
        since: NOW,
        until: Until::At(NOW + Duration::from_secs(600 + u64::from(number % 600))),
        reason: "5 hits in 42s".into(),
        count: 1,
        evidence: Evidence::Proven,
    }
}

/// Another address for each number, none near the next.
fn address(number: u32) -> IpNet {
    IpNet::from(IpAddr::from(Ipv4Addr::from(number.wrapping_mul(0x9e37_79b1))))
}

/// Writes the messages that put so many bans into the kernel, and sends nothing; how many messages there are.
pub fn messages(count: u32) -> usize {
    let prefixes: Vec<IpNet> = (0..count).map(address).collect();
    firewall::messages_of(&prefixes)
}
