//! What this machine depends on, and so is never banned: its own addresses, its gateways and resolvers, and the other
//! ends of its administrators' sessions. In: the files in which the system tells them. Out: prefixes, and what could
//! not be read. The daemon calls it at the edge and hands the result to the allowlist; it never writes anything.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use ipnet::IpNet;

use crate::policy::sessions::{self, Processes};
use crate::text::{meaning_of, word_of};

/// Most addresses of one kind; a machine that has more protects these.
const MAX_ADDRESSES: usize = 16_384;

/// Most bytes read of one file: some 400,000 rows of `/proc/net/tcp`.
const MAX_FILE: u64 = 64 << 20;

/// A kind of addresses that can be protected, by its word in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protect {
    OwnAddresses,
    Gateways,
    Resolvers,
    AdminSessions,
}

impl Protect {
    const WORDS: [(&str, Protect); 4] = [
        ("own-addresses", Protect::OwnAddresses),
        ("gateways", Protect::Gateways),
        ("resolvers", Protect::Resolvers),
        ("admin-sessions", Protect::AdminSessions),
    ];

    /// As the configuration has it.
    pub(crate) fn word(self) -> &'static str {
        word_of(&Protect::WORDS, &self)
    }
}

impl FromStr for Protect {
    type Err = UnknownProtect;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        meaning_of(&Protect::WORDS, text).ok_or_else(|| UnknownProtect(text.to_owned()))
    }
}

/// For a sentence that begins with an address: `it is …`.
impl fmt::Display for Protect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protect::OwnAddresses => "an address of this machine",
            Protect::Gateways => "a gateway of this machine",
            Protect::Resolvers => "a resolver of this machine",
            Protect::AdminSessions => "the other end of an administrator's session",
        })
    }
}

/// A word that names nothing that can be protected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownProtect(String);

impl fmt::Display for UnknownProtect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = Protect::WORDS.map(|(word, _)| word).join(", ");
        write!(f, "'{}' is nothing that can be protected; choose from {words}", self.0.escape_debug())
    }
}

impl std::error::Error for UnknownProtect {}

/// What a probe found.
#[derive(Debug, Default)]
pub(crate) struct Probed {
    pub(crate) networks: Vec<(IpNet, Protect)>,
    /// What could not be read: addresses may be missing.
    pub(crate) troubles: Vec<Unreadable>,
}

/// A file of the system that tells of protected addresses cannot be read.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) path: PathBuf,
    pub(crate) error: io::Error,
    pub(crate) protect: Protect,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, error) = (self.path.display(), &self.error);
        write!(f, "an address that is {} may be unprotected, as {path} cannot be read ({error}); ", self.protect)?;
        match self.protect {
            Protect::AdminSessions => f.write_str(
                "give banward CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, or put the address in [allow] networks",
            ),
            _ => f.write_str("put it in [allow] networks"),
        }
    }
}

/// Asks the system for all of these. A file that does not exist tells of nothing, and is no trouble.
pub(crate) fn probe(which: &[Protect]) -> Probed {
    probe_again(which, &mut Processes::default(), Instant::now())
}

/// The same for who asks again and again, and so knows most processes.
pub(crate) fn probe_again(which: &[Protect], processes: &mut Processes, now: Instant) -> Probed {
    probe_below(Path::new("/"), which, processes, now)
}

fn probe_below(root: &Path, which: &[Protect], processes: &mut Processes, now: Instant) -> Probed {
    let mut probed = Probed::default();
    for protect in which {
        let mut reader = Reader { root, protect: *protect, troubles: &mut probed.troubles };
        let mut addresses = match protect {
            Protect::OwnAddresses => own_addresses(&mut reader),
            Protect::Gateways => gateways(&mut reader),
            Protect::Resolvers => resolvers(&mut reader),
            Protect::AdminSessions => sessions::peers(&mut reader, processes, now),
        };
        addresses.retain(|address| !address.is_unspecified());
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES);
        probed.networks.extend(addresses.into_iter().map(|address| (IpNet::from(address), *protect)));
    }
    probed
}

/// Reads files below a root, remembers what it could not read, and takes what is not there for empty.
pub(super) struct Reader<'a> {
    pub(super) root: &'a Path,
    protect: Protect,
    troubles: &'a mut Vec<Unreadable>,
}

impl Reader<'_> {
    /// Shows each line of a file, as long as they last.
    pub(super) fn lines(&mut self, path: &str, mut show: impl FnMut(&str)) {
        let path = self.root.join(path);
        let read = File::open(&path).and_then(|file| {
            for line in BufReader::new(file.take(MAX_FILE)).split(b'\n') {
                show(&String::from_utf8_lossy(&line?));
            }
            Ok(())
        });
        self.note(&path, read);
    }

    /// The answer, or its default and a trouble, unless the file (or its process) is gone.
    pub(super) fn note<T: Default>(&mut self, path: &Path, result: io::Result<T>) -> T {
        result.unwrap_or_else(|error| {
            let gone = error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(NO_SUCH_PROCESS);
            // One is enough to say what is missing.
            if !gone && self.troubles.iter().all(|known| known.protect != self.protect) {
                self.troubles.push(Unreadable { path: path.to_owned(), error, protect: self.protect });
            }
            T::default()
        })
    }
}

/// Reading a file of a process that has just ended.
const NO_SUCH_PROCESS: i32 = rustix::io::Errno::SRCH.raw_os_error();

fn own_addresses(reader: &mut Reader<'_>) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut leaf = None;
    reader.lines("proc/net/fib_trie", |line| {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("|--"), Some(address), _) => leaf = address.parse::<IpAddr>().ok(),
            // Wider local routes say "everything ends here" for a transparent proxy; they are not our addresses.
            (Some("/32"), Some("host"), Some("LOCAL")) => found.extend(leaf),
            _ => (),
        }
    });
    reader.lines("proc/net/if_inet6", |line| found.extend(line.split_whitespace().next().and_then(hex_address)));
    found
}

/// Next hops of default routes.
fn gateways(reader: &mut Reader<'_>) -> Vec<IpAddr> {
    let mut found = Vec::new();
    reader.lines("proc/net/route", |line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, "00000000", gateway, _, _, _, _, "00000000", ..] = words[..] {
            found.extend(hex_address(gateway));
        }
    });
    reader.lines("proc/net/ipv6_route", |line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, "00", _, _, gateway, ..] = words[..] {
            found.extend(hex_address(gateway));
        }
    });
    found
}

fn resolvers(reader: &mut Reader<'_>) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for path in ["etc/resolv.conf", "run/systemd/resolve/resolv.conf"] {
        reader.lines(path, |line| {
            let mut words = line.split_whitespace();
            if words.next() == Some("nameserver") {
                let address = words.next().and_then(|word| word.split('%').next());
                found.extend(address.and_then(|address| address.parse::<IpAddr>().ok()));
            }
        });
    }
    found
}

/// An address in hexadecimal: IPv4 as the kernel has it in memory, in the byte order of this machine; IPv6 as written.
pub(super) fn hex_address(text: &str) -> Option<IpAddr> {
    match text.len() {
        8 => u32::from_str_radix(text, 16).ok().map(|word| Ipv4Addr::from(word.to_ne_bytes()).into()),
        32 => u128::from_str_radix(text, 16).ok().map(|number| IpAddr::from(number.to_be_bytes()).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
