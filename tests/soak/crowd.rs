//! Who writes the log: offenders, who fail once too often, and innocents, who do not. There are only so many addresses,
//! so that what the daemon remembers of them does not grow; each is left alone until all is forgotten of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::support::attack::address;
use super::support::guard::open_log;
use super::support::random::Random;

/// The jail: so many failures within so many seconds are a ban for so many seconds.
const HITCOUNT: u32 = 3;
const SECONDS: u64 = 30;
const BAN: u64 = 45;
/// Addresses that come in turn. At 40 new ones a second, which is the most, one comes again after two minutes.
const ADDRESSES: u32 = 4800;
/// Of these addresses, by their first byte.
const KIND: u8 = 20;
/// Sources that are at it at the same time.
const AT_ONCE: usize = 8;
/// A ban that did not come within this time is lost: restarts and a busy machine included.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an address deserves.
#[derive(Clone, Copy)]
enum Desert {
    /// It has offended at this moment, and was not seen banned yet.
    Due(Instant),
    /// It was seen banned for what it did at this moment.
    Banned(Instant),
}

pub(crate) struct Crowd {
    log: PathBuf,
    random: Random,
    next: u32,
    /// How many lines each still writes, and whether it will have been one too many.
    active: Vec<(String, u32, bool)>,
    deserts: BTreeMap<String, Desert>,
    pub(crate) lines: u64,
    pub(crate) offenders: u64,
    pub(crate) seen: u64,
    pub(crate) lost: Vec<String>,
    pub(crate) wrong: Vec<String>,
}

impl Crowd {
    pub(crate) fn new(log: PathBuf, seed: u64) -> Crowd {
        let random = Random::new(seed);
        let (active, deserts, lost, wrong) = (Vec::new(), BTreeMap::new(), Vec::new(), Vec::new());
        Crowd { log, random, next: 0, active, deserts, lines: 0, offenders: 0, seen: 0, lost, wrong }
    }

    pub(crate) fn jail() -> String {
        format!(
            "[jail.sshd]\nfilter = \"sshd\"\nsource = {{ files = [\"DIR/sshd.log\"] }}\n\
             window = {{ hitcount = {HITCOUNT}, seconds = {SECONDS} }}\nban = {{ time = \"{BAN}s\", factor = 1 }}\n"
        )
    }

    /// Somebody fails once more.
    pub(crate) fn strike(&mut self) {
        while self.active.len() < AT_ONCE {
            let guilty = self.random.one_in(2);
            let lines = if guilty { HITCOUNT } else { HITCOUNT - 1 };
            self.active.push((address(KIND, self.next % ADDRESSES), lines, guilty));
            self.next += 1;
        }
        let which = self.random.index(self.active.len());
        let (address, left, guilty) = &mut self.active[which];
        let stamp = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00");
        let line = format!("{stamp} web sshd[4711]: Failed password for root from {address} port 40022 ssh2\n");
        open_log(&self.log).write_all(line.as_bytes()).unwrap();
        self.lines += 1;
        *left -= 1;
        if *left > 0 {
            return;
        }
        if *guilty {
            self.deserts.insert(address.clone(), Desert::Due(Instant::now()));
            self.offenders += 1;
        }
        self.active.remove(which);
    }

    /// As logrotate does it.
    pub(crate) fn rotate(&self) {
        let name = |number: u32| PathBuf::from(format!("{}.{number}", self.log.display()));
        for number in (1..5).rev().filter(|number| name(*number).exists()) {
            fs::rename(name(number), name(number + 1)).unwrap();
        }
        fs::rename(&self.log, name(1)).unwrap();
        drop(open_log(&self.log));
    }

    /// Compares who is banned with who deserves it.
    pub(crate) fn judge(&mut self, banned: impl Iterator<Item = String>) {
        for address in banned.filter(|address| address.starts_with(&format!("{KIND}."))) {
            match self.deserts.get_mut(&address) {
                Some(desert @ Desert::Due(_)) => {
                    let Desert::Due(at) = *desert else { continue };
                    *desert = Desert::Banned(at);
                    self.seen += 1;
                }
                Some(Desert::Banned(_)) => {}
                // Its last line is being written at this moment.
                None if self.active.iter().any(|(other, _, guilty)| *other == address && *guilty) => {}
                None => self.wrong.push(address),
            }
        }
        let over = Duration::from_secs(BAN) + PATIENCE;
        let lost = &mut self.lost;
        self.deserts.retain(|address, desert| match desert {
            Desert::Due(at) if at.elapsed() > PATIENCE => {
                lost.push(address.clone());
                false
            }
            Desert::Due(_) => true,
            Desert::Banned(at) => at.elapsed() < over,
        });
    }

    /// Whether everybody who deserves it was seen banned.
    pub(crate) fn is_settled(&self) -> bool {
        self.deserts.values().all(|desert| matches!(desert, Desert::Banned(_)))
    }
}
