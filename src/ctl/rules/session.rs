//! Whom the rules must not cut off: the one who calls, and every administrator who is logged in.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use crate::firewall::command;
use crate::policy::protected::{Protect, probe};
use crate::policy::sessions::{ESTABLISHED, LISTEN, Row};
use crate::rules::Host;
use crate::rules::model::{Plan, Protocol, State};
use crate::rules::simulate::{Packet, Simulator, Verdict, Way};

/// How many processes lie between a shell and whoever logged in, at most.
const MAX_ANCESTORS: usize = 64;

/// A session over SSH.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Session {
    pub(super) client: IpAddr,
    client_port: u16,
    /// The address of this machine; `None` where only the other end is known.
    server: Option<IpAddr>,
    pub(super) port: u16,
}

/// The caller's own session, and those of others.
pub(super) fn sessions(host: &Host) -> BTreeSet<Session> {
    let mut sessions: BTreeSet<Session> = own().into_iter().filter(Session::is_here).collect();
    for (network, _) in probe(&[Protect::AdminSessions]).networks {
        let client = network.addr();
        if !client.is_loopback() && !sessions.iter().any(|session| session.client == client) {
            let ports = ports_of(client, host);
            sessions.extend(ports.into_iter().map(|port| Session { client, client_port: 40_000, server: None, port }));
        }
    }
    sessions
}

/// The ports that an administrator's session may have come in by: those of SSH, if a connection is there to one of
/// them; else all that connections from there have come in by. None where the session is in another network namespace.
fn ports_of(client: IpAddr, host: &Host) -> BTreeSet<u16> {
    let mut rows = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        rows.extend(text.lines().skip(1).filter_map(Row::read));
    }
    let listening: BTreeSet<u16> = rows.iter().filter(|row| row.state == LISTEN).map(|row| row.local_port).collect();
    let from_there = rows.iter().filter(|row| row.state == ESTABLISHED && row.remote == client);
    let found: BTreeSet<u16> = from_there.map(|row| row.local_port).filter(|port| listening.contains(port)).collect();
    let is_ssh = |port: &u16| host.ssh.as_ref().is_some_and(|ssh| ssh.ports.admit(Some(*port)));
    match found.iter().find(|port| is_ssh(port)) {
        Some(port) => BTreeSet::from([*port]),
        None => found,
    }
}

/// From where the caller is logged in over SSH.
pub(crate) fn caller() -> Option<IpAddr> {
    own().map(|session| session.client)
}

/// `SSH_CONNECTION` of this process or of one that it comes from: `sudo` keeps it from its children.
fn own() -> Option<Session> {
    if let Some(session) = std::env::var("SSH_CONNECTION").ok().and_then(|text| read(&text)) {
        return Some(session);
    }
    let mut pid = std::process::id();
    for _ in 0..MAX_ANCESTORS {
        pid = parent(pid)?;
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let value = environment.split(|byte| *byte == 0).find_map(|pair| pair.strip_prefix(b"SSH_CONNECTION="));
        if let Some(session) = value.and_then(|value| read(std::str::from_utf8(value).ok()?)) {
            return Some(session);
        }
    }
    None
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    (parent > 0).then_some(parent)
}

/// `192.0.2.7 40022 198.51.100.1 22`.
fn read(text: &str) -> Option<Session> {
    let mut words = text.split(' ');
    // A link-local address of IPv6 is followed by its interface.
    let address = |word: &str| word.split('%').next()?.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    let (client, client_port) = (address(words.next()?)?, words.next()?.parse().ok()?);
    let (server, port) = (address(words.next()?)?, words.next()?.parse().ok()?);
    Some(Session { client, client_port, server: Some(server), port })
}

impl Session {
    /// Whether it came in by this network namespace: no other is changed. Where that cannot be told, it did.
    fn is_here(&self) -> bool {
        let Some(server) = self.server else { return true };
        who_has(server).is_none_or(|lines| !lines.trim().is_empty())
    }

    /// What the rules would do to the packets of this session: the first that would not pass, in words.
    pub(super) fn cut_off(&self, plan: &Plan) -> Option<String> {
        if self.client.is_loopback() {
            return None;
        }
        let input = self.server.and_then(interface_of);
        let server = self.server.unwrap_or_else(|| match self.client {
            IpAddr::V4(_) => IpAddr::from([0, 0, 0, 0]),
            IpAddr::V6(_) => IpAddr::from([0; 16]),
        });
        let (ack, syn) = (0b01_0000, 0b00_0010);
        let packet = |way, flags, state| {
            let inward = way == Way::In;
            let ends = [(self.client, self.client_port), (server, self.port)];
            let [(source, source_port), (destination, port)] = if inward { ends } else { [ends[1], ends[0]] };
            Packet {
                way,
                input: input.clone().filter(|_| inward),
                output: input.clone().filter(|_| !inward),
                source,
                destination,
                protocol: Protocol::Tcp,
                source_port: Some(source_port),
                port: Some(port),
                flags,
                state,
                fragment: false,
            }
        };
        let tries = [
            ("a packet of it", packet(Way::In, ack, State::Established)),
            ("its answer", packet(Way::Out, ack, State::Established)),
            // The kernel may begin to track connections with these very rules: then the session looks new.
            ("a packet of it, before the kernel knows the connection,", packet(Way::In, ack, State::New)),
            ("a new connection from there", packet(Way::In, syn, State::New)),
        ];
        let cut = |packet: &Packet| Simulator::new(plan).send(packet).verdict != Verdict::Accept;
        tries.iter().find(|(_, packet)| cut(packet)).map(|(what, _)| {
            format!(
                "your SSH session from {} to port {} would be cut off: {what} would be dropped",
                self.client, self.port
            )
        })
    }
}

/// The interface that has this address of ours.
fn interface_of(address: IpAddr) -> Option<String> {
    who_has(address)?.lines().next()?.split_whitespace().nth(1).map(str::to_owned)
}

/// What `ip` says of an address: a line for each interface that has it. `None` when it cannot be asked.
fn who_has(address: IpAddr) -> Option<String> {
    command::run("ip", &["-o", "addr", "show", "to", &address.to_string()], "").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_connection_names_both_ends() {
        let session = read("::ffff:192.0.2.7 40022 198.51.100.1 2222").unwrap();
        assert_eq!((session.client.to_string().as_str(), session.port), ("192.0.2.7", 2222));
        assert_eq!(read("fe80::1%eth0 4 fe80::2%eth0 22").unwrap().client.to_string(), "fe80::1");
        assert_eq!(read("192.0.2.7 40022"), None);
    }

    #[test]
    fn a_section_that_lets_the_session_stay_is_told_from_one_that_does_not() {
        let session = read("192.0.2.7 40022 198.51.100.1 22").unwrap();
        let mut host = Host::default();
        assert_eq!(session.cut_off(&crate::rules::plan(&host)), None);
        host.ssh.as_mut().unwrap().from = vec!["203.0.113.0/24".parse().unwrap()];
        assert!(session.cut_off(&crate::rules::plan(&host)).unwrap().contains("192.0.2.7"));
        host.ssh = None;
        assert!(session.cut_off(&crate::rules::plan(&host)).is_some());
    }
}
