//! Attackers and innocents in an sshd log: who fails so often that the jail bans them, and who fails once less. Each
//! has a /24 of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use super::guard::{jail_of, open_log};
use super::random::Random;

/// Failures that are one too many.
pub(crate) const HITCOUNT: u64 = 3;

/// Sources that are at it at the same time.
const AT_ONCE: usize = 8;

/// An address of its own for every kind and number.
pub(crate) fn address(kind: u8, number: u32) -> String {
    format!("{kind}.{}.{}.{}", number / 250 % 250, number % 250, 1 + number / 62_500)
}

pub(crate) struct Attack {
    log: PathBuf,
    kind: u8,
    pub(crate) random: Random,
    next: u32,
    /// How many lines each still writes, and whether it will have been one too many.
    active: BTreeMap<String, (u64, bool)>,
    /// Who has to be banned.
    pub(crate) guilty: BTreeSet<String>,
    pub(crate) lines: u64,
}

impl Attack {
    /// Attackers of this kind (the first byte of their addresses) in this log.
    pub(crate) fn new(log: PathBuf, kind: u8, seed: u64) -> Attack {
        let (active, guilty) = (BTreeMap::new(), BTreeSet::new());
        Attack { log, kind, random: Random::new(seed), next: 0, active, guilty, lines: 0 }
    }

    /// The jail that watches this log.
    pub(crate) fn jail(name: &str) -> String {
        jail_of(name, HITCOUNT) + "ban = { time = \"1h\" }\n"
    }

    /// One of them fails once more. Some lines are written in two pieces.
    pub(crate) fn strike(&mut self) {
        while self.active.len() < AT_ONCE {
            let guilty = self.random.one_in(2);
            let address = address(self.kind, self.next);
            self.active.insert(address, (if guilty { HITCOUNT } else { HITCOUNT - 1 }, guilty));
            self.next += 1;
        }
        let which = self.random.index(self.active.len());
        let (address, (left, guilty)) = self.active.iter_mut().nth(which).expect("it is below their number");
        let (address, guilty) = (address.clone(), *guilty);
        let stamp = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00");
        let line = format!("{stamp} web sshd[4711]: Failed password for root from {address} port 40022 ssh2\n");
        *left -= 1;
        let over = *left == 0;
        let mut log = open_log(&self.log);
        let cut = if self.random.one_in(10) { self.random.index(line.len()) } else { 0 };
        log.write_all(&line.as_bytes()[..cut]).expect("written");
        log.write_all(&line.as_bytes()[cut..]).expect("written");
        self.lines += 1;
        if over {
            self.active.remove(&address);
            if guilty {
                self.guilty.insert(address);
            }
        }
    }

    /// Whether one who wrote such an address may be banned.
    pub(crate) fn is_innocent(&self, address: &str) -> bool {
        address.starts_with(&format!("{}.", self.kind)) && !self.guilty.contains(address)
    }

    /// As logrotate does it, which keeps `generations` of them.
    pub(crate) fn rotate(&self, generations: u32) {
        let name = |number: u32| PathBuf::from(format!("{}.{number}", self.log.display()));
        for number in (1..generations).rev() {
            if name(number).exists() {
                fs::rename(name(number), name(number + 1)).expect("renamed");
            }
        }
        fs::rename(&self.log, name(1)).expect("renamed");
        drop(open_log(&self.log));
    }
}
