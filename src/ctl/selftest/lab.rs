//! A private network: the guarded host and what is outside of it, two network namespaces joined by a cable. They have
//! a name for a moment only, and are gone with this process however it ends.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::firewall::command;

/// The port that the guarded host listens on.
const PORT: u16 = 80;

/// How long a connection may take before its packets count as dropped.
const LOST: Timespec = Timespec { tv_sec: 0, tv_nsec: 700_000_000 };

/// When no datagram has come for so long, the others were dropped.
const QUIET: Duration = Duration::from_millis(200);

/// Addresses of one family, all for documentation (RFC 5737, RFC 3849).
pub(super) struct Side {
    pub(super) family: &'static str,
    guarded: IpAddr,
    pub(super) banned: IpAddr,
    /// Of one who is limited before: a jail limits whom it has not banned yet.
    pub(super) limited: IpAddr,
    neighbour: IpAddr,
    length: u8,
}

/// The two hosts.
pub(super) struct Lab {
    guarded: File,
    outside: File,
    pub(super) sides: Vec<Side>,
    /// Of the guarded host, one per side.
    listeners: Vec<TcpListener>,
}

impl Lab {
    /// Fails with what the system lacks.
    pub(super) fn new() -> Result<Lab, String> {
        let (guarded, outside) = namespaces()?;
        let mut lab = Lab { guarded, outside, sides: Vec::new(), listeners: Vec::new() };
        lab.sides = sides(lab.guard(has_ipv6)?);
        let inside = lab.sides.iter().map(|side| (side.guarded, side.length)).collect::<Vec<_>>();
        let addresses = |side: &Side| [side.banned, side.limited, side.neighbour].map(|address| (address, side.length));
        let others = lab.sides.iter().flat_map(addresses).collect::<Vec<_>>();
        lab.guard(|| equip(&inside))??;
        within(&lab.outside, || equip(&others))??;
        let listen = || inside.iter().map(|(address, _)| listen(*address)).collect();
        let listeners: io::Result<Vec<TcpListener>> = lab.guard(listen)?;
        lab.listeners = listeners.map_err(|error| format!("nothing can listen in it: {error}"))?;
        Ok(lab)
    }

    /// Does something on a thread of the guarded host; what it starts lives there too.
    pub(super) fn guard<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, String> {
        within(&self.guarded, work)
    }

    /// Whether packets of the address that gets banned arrive, and those of its neighbour do: if not, the network is
    /// at fault and nothing is proved.
    pub(super) fn passes(&self, side: &Side) -> Result<bool, String> {
        let to = SocketAddr::new(side.guarded, PORT);
        // Connections that nobody takes out would fill the queue, and the kernel would drop the next.
        while self.listeners.iter().any(|listener| listener.accept().is_ok()) {}
        let (neighbour, banned) = within(&self.outside, || (connect(side.neighbour, to), connect(side.banned, to)))?;
        neighbour.map_err(|error| format!("{}, which is not banned, does not get through: {error}", side.neighbour))?;
        match banned {
            Ok(()) => Ok(true),
            // The last two are how "administratively prohibited" is told, in IPv4 and IPv6.
            Err(Errno::TIMEDOUT | Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::ACCESS) => Ok(false),
            Err(error) => Err(format!("no packet of {} can be sent: {error}", side.banned)),
        }
    }

    /// Sends so many datagrams at once from the address that gets limited; how many arrive. Those of its neighbour must.
    pub(super) fn arriving(&self, side: &Side, count: usize) -> Result<usize, String> {
        let ears = self.guard(|| UdpSocket::bind((side.guarded, PORT)))?;
        let counted = ears.and_then(|ears| {
            ears.set_read_timeout(Some(QUIET))?;
            within(&self.outside, || [side.limited, side.neighbour].map(|from| send(from, ears.local_addr()?, count)))
                .map_err(io::Error::other)?
                .into_iter()
                .collect::<io::Result<()>>()?;
            let senders = std::iter::from_fn(|| ears.recv_from(&mut [0; 8]).ok());
            let senders: Vec<IpAddr> = senders.map(|(_, sender)| sender.ip()).collect();
            Ok([side.limited, side.neighbour].map(|address| senders.iter().filter(|from| **from == address).count()))
        });
        match counted.map_err(|error| format!("no datagram can be sent: {error}"))? {
            [limited, neighbours] if neighbours == count => Ok(limited),
            [_, few] => {
                Err(format!("only {few} of {count} packets of {}, which is not banned, arrive", side.neighbour))
            }
        }
    }
}

fn sides(ipv6: bool) -> Vec<Side> {
    let mut sides = vec![Side {
        family: "IPv4",
        guarded: [192, 0, 2, 1].into(),
        banned: [192, 0, 2, 2].into(),
        limited: [192, 0, 2, 4].into(),
        neighbour: [192, 0, 2, 3].into(),
        length: 24,
    }];
    let address = |last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
    if ipv6 {
        let (guarded, banned, limited, neighbour) = (address(1), address(2), address(4), address(3));
        sides.push(Side { family: "IPv6", guarded, banned, limited, neighbour, length: 64 });
    }
    sides
}

fn has_ipv6() -> bool {
    Path::new("/proc/thread-self/net/if_inet6").exists()
}

/// Names of namespaces, which `ip` needs to make them; taken away when dropped.
struct Names([String; 2]);

impl Drop for Names {
    fn drop(&mut self) {
        for name in &self.0 {
            // One that was never made is not there to be removed.
            let _absent = command::run("ip", &["netns", "delete", name], "");
        }
    }
}

/// Two namespaces with a cable between them, its ends called `cable`.
fn namespaces() -> Result<(File, File), String> {
    let name = |role| format!("banward-selftest-{}-{role}", std::process::id());
    let names = Names([name("guarded"), name("outside")]);
    let [guarded, outside] = &names.0;
    for name in &names.0 {
        ip(&["netns", "add", name])?;
    }
    let peer = ["peer", "name", "cable", "netns", outside];
    ip(&[&["-n", guarded, "link", "add", "cable", "type", "veth"][..], &peer].concat())?;
    let open = |name: &String| File::open(Path::new("/run/netns").join(name)).map_err(|error| error.to_string());
    Ok((open(guarded)?, open(outside)?))
}

/// Gives the host that this thread is on its addresses.
fn equip(addresses: &[(IpAddr, u8)]) -> Result<(), String> {
    for (address, length) in addresses {
        let address = format!("{address}/{length}");
        let add = ["address", "add", &address, "dev", "cable"];
        // Without the second in which IPv6 looks whether somebody else has the address.
        let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        ip(&[&add[..], nodad].concat())?;
    }
    ["lo", "cable"].iter().try_for_each(|device| ip(&["link", "set", device, "up"]))
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    command::run("ip", arguments, "").map(drop).map_err(|error| error.to_string())
}

/// Runs on a thread of its own, inside a namespace.
fn within<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> Result<T, String> {
    let enter = || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| format!("the private network cannot be entered: {error}"))?;
        Ok(work())
    };
    std::thread::scope(|scope| scope.spawn(enter).join()).unwrap_or_else(|_| Err("it panicked".to_owned()))
}

fn listen(address: IpAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((address, PORT))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn send(from: IpAddr, to: SocketAddr, count: usize) -> io::Result<()> {
    let mouth = UdpSocket::bind((from, 0))?;
    (0..count).try_for_each(|_| mouth.send_to(b"?", to).map(drop))
}

/// Opens a TCP connection, which ends at once.
fn connect(from: IpAddr, to: SocketAddr) -> Result<(), Errno> {
    let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
    match rustix::net::connect(&socket, &to) {
        Err(Errno::INPROGRESS) => (),
        other => return other,
    }
    let mut waiting = [PollFd::new(&socket, PollFlags::OUT)];
    if rustix::io::retry_on_intr(|| poll(&mut waiting, Some(&LOST)))? == 0 {
        return Err(Errno::TIMEDOUT);
    }
    sockopt::socket_error(&socket)?
}
