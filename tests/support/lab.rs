//! A server and two other hosts, each in its own network namespace, joined by veth pairs. Gone when dropped.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How long a packet may take before it counts as dropped.
const LOST: Duration = Duration::from_millis(700);

static LABS: AtomicU32 = AtomicU32::new(0);

/// The three hosts.
pub(crate) struct Lab {
    pub(crate) server: Host,
    pub(crate) attacker: Host,
    pub(crate) visitor: Host,
}

/// A network namespace, its addresses, and those that the server has on the link to it.
pub(crate) struct Host {
    namespace: String,
    pub(crate) v4: IpAddr,
    pub(crate) v6: IpAddr,
    server_v4: IpAddr,
    server_v6: IpAddr,
}

/// Runs a tool and fails with what it said unless it succeeds.
#[track_caller]
pub(crate) fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-euc", command]).output().expect("sh runs");
    assert!(output.status.success(), "`{command}` failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Lab {
    /// Makes the hosts. Addresses are unlike those of any other lab of this machine at this time, because the
    /// kernel's log is common to all namespaces.
    pub(crate) fn new() -> Lab {
        assert!(rustix::process::geteuid().is_root(), "this test needs root: it makes network namespaces");
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let unique = format!("{}-{number}", std::process::id());
        let net = u8::try_from((std::process::id() + number * 7) % 250).expect("below 250");
        let link = u8::try_from(number % 250).expect("below 250");
        let v4 = |side: u8, last: u8| format!("10.{net}.{link}.{}", side * 16 + last).parse().expect("an address");
        let v6 = |side: u8, last: u8| format!("fd{net:02x}:{link:x}:{side:x}::{last}").parse().expect("an address");
        let host = |role: &str, side: u8, last: u8| Host {
            namespace: format!("bw-{unique}-{role}"),
            v4: v4(side, last),
            v6: v6(side, last),
            server_v4: v4(side, 1),
            server_v6: v6(side, 1),
        };
        let lab = Lab { server: host("s", 1, 1), attacker: host("a", 1, 2), visitor: host("v", 2, 2) };
        sh("sysctl -qw net.netfilter.nf_log_all_netns=1");
        for host in [&lab.server, &lab.attacker, &lab.visitor] {
            sh(&format!("ip netns add {0} && ip -n {0} link set lo up", host.namespace));
        }
        lab.join(&lab.attacker, "att");
        lab.join(&lab.visitor, "vis");
        lab
    }

    /// Joins a host to the server by a veth pair.
    fn join(&self, other: &Host, name: &str) {
        let (server, peer) = (&self.server.namespace, &other.namespace);
        sh(&format!("ip -n {server} link add {name} type veth peer name up0 netns {peer}"));
        let ends = [(server, name, other.server_v4, other.server_v6), (peer, "up0", other.v4, other.v6)];
        for (namespace, device, v4, v6) in ends {
            sh(&format!(
                "ip -n {namespace} addr add {v4}/28 dev {device} && \
                 ip -n {namespace} addr add {v6}/64 dev {device} nodad && \
                 ip -n {namespace} link set {device} up"
            ));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in [&self.server, &self.attacker, &self.visitor] {
            // The last one to hold it, a daemon say, may still be ending; the kernel removes it then.
            let _removed = Command::new("ip").args(["netns", "del", &host.namespace]).output();
        }
    }
}

impl Host {
    pub(crate) fn address(&self, v6: bool) -> IpAddr {
        if v6 { self.v6 } else { self.v4 }
    }

    /// The server as this host reaches it.
    pub(crate) fn server(&self, v6: bool) -> IpAddr {
        if v6 { self.server_v6 } else { self.server_v4 }
    }

    /// A command that runs on this host.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    /// Runs a line of shell on this host; fails with what it said unless it succeeds.
    #[track_caller]
    pub(crate) fn sh(&self, line: &str) -> String {
        let output = self.try_sh(line);
        assert!(output.status.success(), "`{line}` failed: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn try_sh(&self, line: &str) -> Output {
        self.command("sh").args(["-euc", line]).output().expect("sh runs")
    }

    /// Does something on a thread that lives on this host.
    pub(crate) fn on<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(format!("/run/netns/{}", self.namespace)).expect("the namespace is there");
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                use std::os::fd::AsFd;
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter");
                work()
            });
            inside.join().expect("the work does not panic")
        })
    }

    /// Accepts TCP connections on all addresses of this host until the test ends.
    pub(crate) fn listen(&self, port: u16) {
        let listener = self.on(move || {
            let any: SocketAddr = SocketAddr::new("::".parse().expect("an address"), port);
            TcpListener::bind(any).expect("the port is free")
        });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                drop(stream);
            }
        });
    }

    /// Whether a TCP connection from this host comes about.
    pub(crate) fn connects(&self, to: IpAddr, port: u16) -> bool {
        self.on(move || TcpStream::connect_timeout(&SocketAddr::new(to, port), LOST)).is_ok()
    }

    /// Opens a TCP connection from this host.
    pub(crate) fn connect(&self, to: IpAddr, port: u16) -> io::Result<TcpStream> {
        self.on(move || TcpStream::connect_timeout(&SocketAddr::new(to, port), LOST))
    }

    /// Whether a ping from this host is answered.
    pub(crate) fn pings(&self, to: IpAddr) -> bool {
        self.command("ping")
            .args(["-n", "-q", "-c", "1", "-W", "0.7", &to.to_string()])
            .output()
            .expect("ping runs")
            .status
            .success()
    }
}
