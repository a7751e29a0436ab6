//! The other ends of administrators' sessions: authenticated SSH sessions, and remote sessions that logind knows.
//!
//! An established connection to port 22 proves nothing: who guesses passwords holds one too. Only sshd knows who was let
//! in, and says so in the title of the process that serves the session.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::policy::protected::{Reader, hex_address};

/// Programs whose processes serve sessions; `sshd-session` since OpenSSH 9.8.
const PROGRAMS: [&str; 2] = ["sshd", "sshd-session"];

/// Most processes, open files of one process, and session files looked at.
const MAX_ENTRIES: usize = 1 << 20;

/// Most bytes read of a process's name, title or status. Titles are the users' to choose.
const HEAD: u64 = 8192;

/// More than the kernel keeps of a process's name, or makes up for one of its own.
const LONGEST_NAME: usize = 128;

/// States in `/proc/net/tcp` (`include/net/tcp_states.h`).
pub(crate) const ESTABLISHED: &str = "01";
pub(crate) const LISTEN: &str = "0A";

/// How long a process may take to become sshd: it is made by another program, and becomes this one at once.
const YOUNG: Duration = Duration::from_secs(30);

/// How long one whose number was given out may take to be there.
const APPEARS: Duration = Duration::from_secs(2);

/// All processes are looked at again after this time, in case one took longer.
const ALL_AGAIN: Duration = Duration::from_secs(900);

/// Where there are more new processes between two looks, all are looked at: most of the new ones have ended already.
const MOST_NEW: u32 = 128;

pub(super) fn peers(reader: &mut Reader<'_>, processes: &mut Processes, now: Instant) -> Vec<IpAddr> {
    let mut found = logind_peers(reader);
    let pids = processes.look(reader, now);
    for sessions in by_network(reader, &pids) {
        found.extend(connection_peers(reader, &sessions));
    }
    found
}

/// Which processes may serve a session. To look at all of them again and again would be most of what an idle machine does
/// for us; so those that were something else while they were young are left alone. The kernel numbers processes in order,
/// and so the number that it gave out last tells which are new.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    /// The number given out last before the last look.
    last: Option<u32>,
    /// When all were looked at for the first time, or again.
    all: Option<Instant>,
    /// Those to look at, each with when it was first seen.
    seen: BTreeMap<u32, Instant>,
}

impl Processes {
    /// Those that have the name of sshd now.
    fn look(&mut self, reader: &mut Reader<'_>, now: Instant) -> Vec<u32> {
        // Before the look: what comes meanwhile is seen the next time.
        let last = last_number(reader);
        let new = self.new_until(last);
        self.last = last;
        if new.is_none() || self.all.is_none_or(|all| now - all >= ALL_AGAIN) {
            self.all = Some(now);
        }
        if self.all.is_some_and(|all| now - all <= YOUNG) {
            for pid in all(reader) {
                self.seen.entry(pid).or_insert(now);
            }
        }
        // A number may have been another one's before.
        self.seen.extend(new.into_iter().flatten().map(|pid| (pid, now)));
        let mut found = Vec::new();
        self.seen.retain(|pid, seen| {
            let named = has_name(reader, *pid);
            // Where that cannot be read, it is asked for again.
            let there = named.is_some() || path(reader, *pid, "").exists();
            found.extend((there && named != Some(false)).then_some(*pid));
            if there { named != Some(false) || now - *seen <= YOUNG } else { now - *seen <= APPEARS }
        });
        found
    }

    /// The processes since the last look; `None` where they cannot be told.
    fn new_until(&self, last: Option<u32>) -> Option<RangeInclusive<u32>> {
        let (before, last) = (self.last?, last?);
        // Numbers begin anew when they are used up.
        let count = last.checked_sub(before)?;
        (count <= MOST_NEW).then_some(before + 1..=last)
    }
}

/// The number that the kernel gave out last, to a process or a thread; `None` where the processes that we see are numbered
/// by others.
fn last_number(reader: &Reader<'_>) -> Option<u32> {
    let proc = reader.root.join("proc");
    let own = fs::read_link(proc.join("self")).ok()?;
    (own.to_str()? == std::process::id().to_string()).then_some(())?;
    let load = String::from_utf8(head(&proc.join("loadavg"))?).ok()?;
    load.split_whitespace().next_back()?.parse().ok()
}

fn all(reader: &mut Reader<'_>) -> Vec<u32> {
    let proc = reader.root.join("proc");
    let entries = fs::read_dir(&proc);
    let entries = reader.note(&proc, entries.map(|entries| entries.flatten().take(MAX_ENTRIES).collect::<Vec<_>>()));
    entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether a process is called sshd, which any may be.
fn has_name(reader: &Reader<'_>, pid: u32) -> Option<bool> {
    // It comes at once: to read on until its end would be one call more for each process.
    let mut name = [0; LONGEST_NAME];
    let length = File::open(path(reader, pid, "comm")).and_then(|mut file| file.read(&mut name)).ok()?;
    Some(PROGRAMS.iter().any(|program| name[..length].trim_ascii_end() == program.as_bytes()))
}

/// Sockets of one session, by inode.
struct Session {
    pid: u32,
    /// Those that may be the SSH connection itself.
    candidates: BTreeSet<u64>,
    /// All of its process, with the ports it forwards.
    all: BTreeSet<u64>,
}

/// The sessions of each network namespace: any process of it shows the connections of all.
fn by_network(reader: &mut Reader<'_>, pids: &[u32]) -> Vec<Vec<Session>> {
    let mut networks: BTreeMap<PathBuf, Vec<Session>> = BTreeMap::new();
    for pid in pids {
        if let Some(session) = session(reader, *pid) {
            let network = fs::read_link(path(reader, *pid, "ns/net")).unwrap_or_default();
            networks.entry(network).or_default().push(session);
        }
    }
    networks.into_values().collect()
}

/// The session that a process serves. Any user can name a process `sshd: root@pts/0`; only root's sshd starts one that is
/// root's itself, or is a child of root's sshd and shares its connection with it.
fn session(reader: &mut Reader<'_>, pid: u32) -> Option<Session> {
    is_session_title(&head(&path(reader, pid, "cmdline"))?).then_some(())?;
    let Process { parent, user } = sshd(reader, pid)?;
    let all = sockets(reader, pid);
    if user == 0 {
        return Some(Session { pid, candidates: all.clone(), all });
    }
    sshd(reader, parent).filter(|parent| parent.user == 0)?;
    let candidates = all.intersection(&sockets(reader, parent)).copied().collect();
    Some(Session { pid, candidates, all })
}

/// `sshd: root@pts/0` or `sshd-session: root@notty`; before the log-in, and in processes that only watch, the title ends
/// in brackets: `[preauth]`, `[net]`, `[priv]`, `[accepted]`, `[listener] …`.
fn is_session_title(title: &[u8]) -> bool {
    let title = title.split(|byte| *byte == 0).next().and_then(|title| std::str::from_utf8(title).ok());
    let (program, rest) = title.and_then(|title| title.split_once(": ")).unwrap_or_default();
    let terminal = rest.rsplit_once('@').map(|(_, terminal)| terminal.trim_end()).unwrap_or_default();
    let known = terminal == "notty" || ["pts/", "tty"].iter().any(|start| terminal.starts_with(start));
    PROGRAMS.contains(&program) && known && !terminal.ends_with(']')
}

/// The beginning of a file of a process, which may have ended.
fn head(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(HEAD).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

struct Process {
    parent: u32,
    /// The real user's number.
    user: u32,
}

/// A process that runs a program called sshd, by its executable and not by the name that it gives itself.
fn sshd(reader: &mut Reader<'_>, pid: u32) -> Option<Process> {
    let link = path(reader, pid, "exe");
    let executable = fs::read_link(&link);
    let executable = reader.note(&link, executable);
    // A package upgrade deletes the executable under running sessions.
    let name = executable.file_name()?.to_str()?.trim_end_matches(" (deleted)");
    PROGRAMS.contains(&name).then_some(())?;
    let status = String::from_utf8(head(&path(reader, pid, "status"))?).ok()?;
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    Some(Process { parent: field("PPid:")?, user: field("Uid:")? })
}

/// Inodes of the sockets that a process holds.
fn sockets(reader: &mut Reader<'_>, pid: u32) -> BTreeSet<u64> {
    let folder = path(reader, pid, "fd");
    let read = || -> io::Result<BTreeSet<u64>> {
        let files = fs::read_dir(&folder)?.flatten().take(MAX_ENTRIES);
        Ok(files.filter_map(|file| socket_inode(&fs::read_link(file.path()).ok()?)).collect())
    };
    let found = read();
    reader.note(&folder, found)
}

/// 123 of `socket:[123]`.
fn socket_inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Remote addresses of the SSH connections of these sessions. A connection that came in on a port that the session
/// itself listens on is one that it forwards (`ssh -R`): that may come from anybody.
fn connection_peers(reader: &mut Reader<'_>, sessions: &[Session]) -> Vec<IpAddr> {
    let mut owners: BTreeMap<u64, &Session> = BTreeMap::new();
    for session in sessions {
        owners.extend(session.all.iter().map(|inode| (*inode, session)));
    }
    let mut rows = Vec::new();
    for Session { pid, .. } in sessions {
        for table in ["tcp", "tcp6"] {
            let owned = |line: &str| Row::read(line).filter(|row| owners.contains_key(&row.inode));
            reader.lines(&format!("proc/{pid}/net/{table}"), |line| rows.extend(owned(line)));
        }
        // All processes of a namespace show the same; the next one is asked where this one has ended meanwhile.
        if path(reader, *pid, "net/tcp").exists() {
            break;
        }
    }
    let end = |row: &Row| owners.get(&row.inode).map(|session| (session.pid, row.local_port));
    let forwarded: BTreeSet<_> = rows.iter().filter(|row| row.state == LISTEN).filter_map(end).collect();
    let is_candidate =
        |row: &Row| owners.get(&row.inode).is_some_and(|session| session.candidates.contains(&row.inode));
    rows.retain(|row| row.state == ESTABLISHED && is_candidate(row));
    rows.retain(|row| end(row).is_some_and(|end| !forwarded.contains(&end)));
    rows.into_iter().map(|row| row.remote).collect()
}

/// One row of `/proc/net/tcp` or `tcp6`.
pub(crate) struct Row {
    pub(crate) local_port: u16,
    pub(crate) remote: IpAddr,
    pub(crate) state: String,
    inode: u64,
}

impl Row {
    pub(crate) fn read(line: &str) -> Option<Row> {
        let mut words = line.split_whitespace().skip(1);
        let (_, port) = words.next()?.split_once(':')?;
        let (remote, _) = words.next()?.split_once(':')?;
        let state = words.next()?.to_owned();
        let inode = words.nth(5)?.parse().ok()?;
        Some(Row { local_port: u16::from_str_radix(port, 16).ok()?, remote: socket_address(remote)?, state, inode })
    }
}

/// Here, unlike in the tables of routes, IPv6 too is four words in the byte order of this machine.
fn socket_address(text: &str) -> Option<IpAddr> {
    if text.len() != 32 {
        return hex_address(text);
    }
    let mut bytes = [0; 16];
    for (place, word) in bytes.chunks_exact_mut(4).zip([0, 8, 16, 24]) {
        place.copy_from_slice(&u32::from_str_radix(text.get(word..word + 8)?, 16).ok()?.to_ne_bytes());
    }
    Some(IpAddr::from(bytes).to_canonical())
}

/// Remote hosts of the sessions that logind has registered, and it registers only who was let in. A host name is left
/// out: nothing is resolved.
fn logind_peers(reader: &mut Reader<'_>) -> Vec<IpAddr> {
    let folder = reader.root.join("run/systemd/sessions");
    let entries = fs::read_dir(&folder);
    let entries = reader.note(&folder, entries.map(|entries| entries.flatten().take(MAX_ENTRIES).collect::<Vec<_>>()));
    let mut found = Vec::new();
    // The folder has pipes too, and to open one would wait for its other end.
    for entry in entries.iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())) {
        let text = fs::read_to_string(entry.path());
        let text = reader.note(&entry.path(), text);
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        if field("REMOTE") == Some("1") && field("STATE") != Some("closing") {
            found.extend(field("REMOTE_HOST").and_then(|host| host.parse::<IpAddr>().ok()));
        }
    }
    found
}

fn path(reader: &Reader<'_>, pid: u32, name: &str) -> PathBuf {
    reader.root.join("proc").join(pid.to_string()).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_title_of_a_session_is_one() {
        for title in [
            "sshd: root@pts/0",
            "sshd: root@notty",
            "sshd: bob@corp.example@pts/3,pts/4",
            "sshd-session: bob@tty1",
            "sshd: root@notty\0\0\0",
            "sshd: root@notty    ",
        ] {
            assert!(is_session_title(title.as_bytes()), "{title}");
        }
        for title in [
            "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",
            "sshd: [accepted]",
            "sshd: unknown [preauth]",
            "sshd: bob@notty [net]",
            "sshd: bob@corp.example [priv]",
            "sshd: bob@corp.example",
            "sshd: bob@internal-sftp",
            "sshd: bob",
            "sshd",
            "",
            "bash: root@pts/0",
            "\0sshd: root@pts/0",
        ] {
            assert!(!is_session_title(title.as_bytes()), "{title}");
        }
        assert!(!is_session_title(b"sshd: \xff@pts/0"));
    }
}
