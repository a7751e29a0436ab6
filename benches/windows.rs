//! `make bench`: what one more hit costs when a jail follows as many sources as it may, and what they weigh.

#![expect(clippy::cast_precision_loss, reason = "figures for people are rounded")]

use banward::Measured;
use rustix::time::{ClockId, clock_gettime};

/// Sources that the jail may follow.
const TRACK: u32 = 1_000_000;
/// Hits that are timed.
const HITS: u32 = 3_000_000;
/// Hits that come at once: a fifth of what a block of a log has.
const BLOCK: u32 = 500;
/// Sources of the flood, each of which is forged.
const FLOOD: u32 = 10_000_000;
/// The window of the jail in milliseconds, and a bit: what is older has expired.
const WINDOW: i64 = 601_000;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("banward.toml");
    let filters = concat!(env!("CARGO_MANIFEST_DIR"), "/filters");
    let config = format!(
        "[daemon]\nfilters = [\"{filters}\"]\n[jail.sshd]\nfilter = \"sshd\"\ntrack = {TRACK}\n\
         window = {{ hitcount = 5, seconds = 600 }}\n"
    );
    std::fs::write(&path, config).expect("written");
    full_table(&path);
    flood(&path);
}

fn row(what: &str, figure: &str, beside: &str) {
    println!("{what:<52} {figure:>14}  {beside}");
}

/// Hits of sources that are followed already, of new ones, and of one that is banned.
fn full_table(config: &std::path::Path) {
    let before = resident();
    let mut jail = Measured::new(config);
    for block in 0..TRACK / BLOCK {
        jail.hits((0..BLOCK).map(|hit| (spread(block * BLOCK + hit), 0)), true);
    }
    let each = (resident() - before) as f64 / f64::from(TRACK);
    row(&format!("{} sources: each weighs", jail.tracked()), &format!("{each:.1} bytes"), "hitcount 5");
    let mut next = 0_u32;
    let known = time(|block| {
        let sources = (0..BLOCK).map(|hit| {
            next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (spread(next % TRACK), WINDOW * i64::from((block * BLOCK + hit) / 1_000_000 + 1))
        });
        jail.hits(sources, true)
    });
    row("  a hit of one of them, through window and policy", &format!("{known:.0} ns"), "at random");
    let fresh = time(|block| jail.hits((0..BLOCK).map(|hit| (spread(TRACK + block * BLOCK + hit), WINDOW * 5)), true));
    row("  a hit of a new one, for which another makes room", &format!("{fresh:.0} ns"), "");
    let banned = time(|_| jail.hits((0..BLOCK).map(|_| (spread(7), WINDOW * 5)), true));
    row("  a hit of one that is banned already", &format!("{banned:.0} ns"), "");
}

/// Forged sources in any number, and one attacker among them who hits as slowly as the window lets him.
fn flood(config: &std::path::Path) {
    let before = resident();
    let mut jail = Measured::new(config);
    let (start, mut bans) = (nanos(), 0);
    for block in 0..FLOOD / BLOCK {
        let millis = |source: u32| i64::from(source) / 20;
        if block % (FLOOD / BLOCK / 5) == 0 {
            bans += jail.hits([(u32::MAX, millis(block * BLOCK))], true);
        }
        let sources = (0..BLOCK).map(|hit| block * BLOCK + hit);
        jail.hits(sources.map(|source| (spread(source), millis(source))), false);
    }
    let each = (nanos() - start) / f64::from(FLOOD);
    row(
        &format!("{FLOOD} forged sources: resident"),
        &format!("{:.1} MiB", (resident() - before) as f64 / 1_048_576.0),
        &format!("{each:.0} ns per hit; {} followed", jail.tracked()),
    );
    row("  bans of the one attacker who hits slowly", &format!("{}", u8::from(bans > 0)), "1 is right");
}

/// Nanoseconds per hit; each call brings [`BLOCK`] of them.
fn time(mut call: impl FnMut(u32) -> usize) -> f64 {
    let start = nanos();
    let changes: usize = (0..HITS / BLOCK).map(&mut call).sum();
    let each = (nanos() - start) / f64::from(HITS);
    std::hint::black_box(changes);
    each
}

/// Nanoseconds that this thread has worked; others may be at work on the machine.
fn nanos() -> f64 {
    let worked = clock_gettime(ClockId::ThreadCPUTime);
    worked.tv_sec as f64 * 1e9 + worked.tv_nsec as f64
}

/// Another address for each number, none near the next.
fn spread(number: u32) -> u32 {
    number.wrapping_mul(0x9e37_79b1)
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it is there");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    kib * 1024
}
