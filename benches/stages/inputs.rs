//! What the stages are given: the same bytes in every run.

use std::fmt::Write;
use std::path::Path;

use banward::{Measured, Scanner};
use tempfile::TempDir;

/// Lines of a block, and hits, bans or messages at a time.
pub(crate) const ITEMS: u32 = 2000;

/// Filters that run side by side.
const FILTERS: [&str; 6] = ["sshd", "ping-drop", "syn-flood", "nginx-http-auth", "dovecot", "postfix"];

/// What a block is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lines {
    /// Nobody wants them: they are split off and searched for literals, and that is all.
    Foreign,
    /// Another program says what sshd would: stamp and header are read, and the line is let go.
    OtherProgram,
    /// A failed log-in each.
    Failed,
    Failed6,
    /// A dropped ping each.
    Kernel,
}

pub(crate) fn block(lines: Lines) -> Vec<u8> {
    let mut text = String::new();
    for number in 0..ITEMS {
        let (a, b) = (number / 250 % 250, number % 250);
        let stamp = "Nov 21 01:30:00 web";
        let written = match lines {
            Lines::Foreign => writeln!(
                text,
                "{stamp} CRON[{number}]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)"
            ),
            Lines::OtherProgram => {
                writeln!(text, "{stamp} echo[{number}]: Failed password for root from 203.{a}.113.{b} port 4022 ssh2")
            }
            Lines::Failed => {
                writeln!(text, "{stamp} sshd[{number}]: Failed password for root from 203.{a}.113.{b} port 4022 ssh2")
            }
            Lines::Failed6 => writeln!(
                text,
                "{stamp} sshd[{number}]: Failed password for root from 2001:db8:{a:x}:{b:x}::7 port 4022 ssh2"
            ),
            Lines::Kernel => writeln!(
                text,
                "{stamp} kernel: [100.{number:06}] PING-DROP:IN=eth0 OUT= MAC=52:54:00:12:34:56:52:54:00:ab:cd:ef:08:00 \
                 SRC=203.{a}.113.{b} DST=192.0.2.10 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID={number} DF PROTO=ICMP TYPE=8 \
                 CODE=0 ID=7 SEQ=1"
            ),
        };
        written.expect("a String takes everything");
    }
    text.into_bytes()
}

/// A folder with a configuration of these jails; each follows so many sources.
fn configuration(filters: &[&str], track: u32) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("filters");
    let mut text = format!("[daemon]\nfilters = [\"{}\"]\n[defaults]\ntrack = {track}\n", folder.display());
    for filter in filters {
        write!(text, "[jail.{filter}]\nfilter = \"{filter}\"\nsource = {{ stdin = true }}\n").expect("a String");
    }
    std::fs::write(dir.path().join("banward.toml"), text).expect("written");
    dir
}

pub(crate) fn scanner() -> Scanner {
    Scanner::new(&configuration(&FILTERS, 1000).path().join("banward.toml"))
}

/// With every filter that there is, but for those that need to be told a LOG prefix.
pub(crate) fn broad_scanner() -> Scanner {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("filters");
    let files = std::fs::read_dir(folder).expect("the filters").map(|file| file.expect("a filter").path());
    let is_told = |path: &Path| {
        let text = std::fs::read_to_string(path).expect("a filter");
        text.contains("\"kernel\"") && !text.contains("\nprefix")
    };
    let name = |path: &Path| Some(path.file_stem()?.to_str()?.to_owned());
    let names: Vec<String> = files.filter(|path| !is_told(path)).filter_map(|path| name(&path)).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    Scanner::new(&configuration(&names, 1000).path().join("banward.toml"))
}

/// Windows, policy and ledger of one jail, which follows every source that the benches know.
pub(crate) fn jail() -> Measured {
    Measured::new(&configuration(&["sshd"], 100_000).path().join("banward.toml"))
}
