//! Asks the kernel's connection tracking whether an address has completed a TCP handshake with this machine.
//!
//! It changes nothing. The kernel walks its whole table for each question (it has no index by source), so questions are asked on a thread of their own, and few of them.

use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;

use super::netlink::{Messages, NetlinkError, Socket, attribute};

/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_GET`.
pub(super) const GET: u16 = 0x0101;
// Attributes, from `linux/netfilter/nfnetlink_conntrack.h`.
pub(super) const CTA_TUPLE_ORIG: u16 = 1;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_FILTER: u16 = 25;
pub(super) const CTA_TUPLE_IP: u16 = 1;
pub(super) const CTA_IP_V4_SRC: u16 = 1;
pub(super) const CTA_IP_V6_SRC: u16 = 3;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
/// Of the tuple, the source is to be compared and nothing else.
const CTA_FILTER_IP_SRC: u32 = 1;
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;

/// Traffic was seen in both directions, and the connection is not one that is dropped when the table is full.
const IPS_ASSURED: u32 = 1 << 2;
/// `TCP_CONNTRACK_ESTABLISHED`
const ESTABLISHED: u8 = 3;

pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

/// Questions that wait; those beyond are not asked.
const WAITING: usize = 64;
/// Rest between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// What the thread finds.
#[derive(Debug)]
pub(crate) enum Report {
    Seen(IpAddr),
    /// The kernel cannot be asked.
    Trouble(String),
    /// It can again.
    Recovered,
}

/// The thread that asks. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Handshakes(SyncSender<IpAddr>);

impl Handshakes {
    /// `has_shaken` asks the kernel, or says why it cannot be asked.
    pub(crate) fn spawn(
        has_shaken: impl Fn(IpAddr) -> Result<bool, String> + Send + 'static,
        reports: mpsc::Sender<Report>,
    ) -> io::Result<Handshakes> {
        let (sender, questions) = sync_channel(WAITING);
        let run = move || run(&questions, &reports, has_shaken);
        thread::Builder::new().name("handshakes".to_owned()).spawn(run)?;
        Ok(Handshakes(sender))
    }

    /// Asks about an address, sooner or later. Never waits.
    pub(crate) fn ask(&self, address: IpAddr) {
        // When so many wait already, this ban stays what it is: short.
        let _full = self.0.try_send(address);
    }
}

fn run(
    questions: &Receiver<IpAddr>,
    reports: &mpsc::Sender<Report>,
    has_shaken: impl Fn(IpAddr) -> Result<bool, String>,
) {
    let mut failing = false;
    while let Ok(address) = questions.recv() {
        let answer = has_shaken(address);
        let recovered = std::mem::replace(&mut failing, answer.is_err()) && !failing;
        let report = match answer {
            Ok(false) => None,
            Ok(true) => Some(Report::Seen(address)),
            Err(why) => Some(Report::Trouble(why)),
        };
        let told = recovered.then_some(Report::Recovered).into_iter().chain(report);
        if told.into_iter().any(|report| reports.blocking_send(report).is_err()) {
            return;
        }
        thread::sleep(PAUSE);
    }
}

/// Asks about one address.
pub(crate) fn has_shaken(address: IpAddr) -> Result<bool, String> {
    Socket::open().and_then(|mut socket| seen(&mut socket, address)).map_err(in_words)
}

fn in_words(why: NetlinkError) -> String {
    let why = match why {
        NetlinkError::Refused(code) => io::Error::from_raw_os_error(code).to_string(),
        NetlinkError::Socket(errno) => errno.to_string(),
        NetlinkError::Silent => "no answer".to_owned(),
    };
    format!(
        "the kernel's connection tracking cannot be asked for handshakes ({why}); \
         load nf_conntrack_netlink, or take \"handshakes\" out of budget.corroborate"
    )
}

/// Whether this address has opened a TCP connection that is established and assured: a sender of forged packets does
/// not see the answers, and never gets so far. A table that changes meanwhile may hide a connection, and never makes one.
pub(super) fn seen(socket: &mut Socket, address: IpAddr) -> Result<bool, NetlinkError> {
    let (family, kind, bytes) = match address {
        IpAddr::V4(address) => (AF_INET, CTA_IP_V4_SRC, address.octets().to_vec()),
        IpAddr::V6(address) => (AF_INET6, CTA_IP_V6_SRC, address.octets().to_vec()),
    };
    let mut question = Messages::default();
    question.begin(GET, 0, family, 0);
    if address.is_ipv4() {
        question.open(CTA_TUPLE_ORIG);
        question.open(CTA_TUPLE_IP);
        question.attribute(kind, &bytes);
        question.close();
        question.close();
        question.open(CTA_FILTER);
        question.attribute(CTA_FILTER_ORIG_FLAGS, &CTA_FILTER_IP_SRC.to_ne_bytes());
        question.close();
    }
    let mut found = false;
    // A kernel before 5.8 does not know the filter and shows all, and up to 6.18 at least it takes IPv6 sources the
    // wrong way round (it leaves out those that are equal): the source is compared here too.
    socket.dump(&mut question, |_, entry| found |= is_handshake(entry, kind, &bytes))?;
    Ok(found)
}

pub(super) fn is_handshake(entry: &[u8], kind: u16, source: &[u8]) -> bool {
    let nested = |path: &[u16]| path.iter().try_fold(entry, |bytes, kind| attribute(bytes, *kind));
    let status = nested(&[CTA_STATUS]).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
    nested(&[CTA_TUPLE_ORIG, CTA_TUPLE_IP, kind]) == Some(source)
        && nested(&[CTA_PROTOINFO, CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE]) == Some(&[ESTABLISHED])
        && status & IPS_ASSURED != 0
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::process::Command;

    use rustix::net::{AddressFamily, SocketType};
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

    use super::*;

    fn ip(words: &str) {
        let done = Command::new("ip").args(words.split(' ')).output().unwrap();
        assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Moves this thread into a new network namespace, in which connections are tracked.
    struct Namespace(String);

    impl Namespace {
        fn enter() -> Namespace {
            let name = format!("bw-{}-shake", std::process::id());
            ip(&format!("netns add {name}"));
            let namespace = Namespace(name);
            ip(&format!("-n {} link set lo up", namespace.0));
            let rules = "add table inet t; add chain inet t c { type filter hook input priority 0; }; \
                         add rule inet t c ct state established accept";
            let done = Command::new("ip").args(["netns", "exec", &namespace.0, "nft", rules]).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            let file = std::fs::File::open(format!("/run/netns/{}", namespace.0)).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            namespace
        }
    }

    impl Drop for Namespace {
        fn drop(&mut self) {
            let _removed = Command::new("ip").args(["netns", "del", &self.0]).output();
        }
    }

    /// A connection from this loopback address to that one.
    fn connect(from: SocketAddr, to: SocketAddr) -> TcpStream {
        let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket(family, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &from).unwrap();
        rustix::net::connect(&socket, &to).unwrap();
        TcpStream::from(socket)
    }

    #[test]
    fn only_who_opened_an_established_connection_has_completed_a_handshake() {
        std::thread::spawn(|| {
            let _namespace = Namespace::enter();
            let listener = TcpListener::bind("[::]:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let host = |last| IpAddr::from(Ipv4Addr::new(127, 0, 0, last));
            let _client = connect(SocketAddr::new(host(2), 0), SocketAddr::new(host(3), port));
            let v6: IpAddr = "::1".parse().unwrap();
            let _other = connect(SocketAddr::new(v6, 0), SocketAddr::new(v6, port));
            let mut socket = Socket::open().unwrap();
            let mut seen = |address| seen(&mut socket, address).unwrap();
            assert!(seen(host(2)) && seen(v6));
            assert!(!seen(host(3)), "who was connected to has not opened the connection");
            assert!(!seen(host(4)) && !seen("::2".parse().unwrap()));
        })
        .join()
        .unwrap();
    }
}
