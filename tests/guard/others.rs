//! Other programs that change the firewall of the server: ufw, firewalld, Docker, the real ones. Each has the server's
//! network, and mounts and processes of its own: nothing of this machine is changed, and all of it ends with the test.

#[path = "others/docker.rs"]
mod docker;
#[path = "others/firewalld.rs"]
mod firewalld;
#[path = "others/nftables.rs"]
mod nftables;
#[path = "others/ufw.rs"]
mod ufw;

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::support::eventually;
use super::support::guard::Guard;
use super::support::lab::{Host, Lab};
use super::{PORT, banned_as, brute_force, guarded, passes};

/// Where tools are looked for; the tester's own `PATH` may lead to another Python than these programs need.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Processes of their own on a host. Killed when dropped, with all that they started.
struct Others {
    keeper: Child,
    /// The first one of them.
    first: String,
}

impl Others {
    /// Begins with these lines of shell, which may mount what they like.
    #[track_caller]
    fn on(host: &Host, shell: &str) -> Others {
        let mut unshare = host.command("unshare");
        unshare.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        unshare.args(["sh", "-euc", &format!("mount -t tmpfs run /run\n{shell}\necho ready\nexec sleep infinity")]);
        let mut keeper = unshare.env("PATH", PATH).stdout(Stdio::piped()).spawn().expect("unshare runs");
        let mut word = String::new();
        let stdout = keeper.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut word).expect("it can be read");
        assert_eq!(word, "ready\n", "the mounts are made");
        let children = format!("/proc/{0}/task/{0}/children", keeper.id());
        let first = std::fs::read_to_string(children).expect("it runs").trim().to_owned();
        Others { keeper, first }
    }

    fn try_sh(&self, line: &str) -> Output {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &self.first, "--mount", "--net", "--pid", "sh", "-euc", line]);
        nsenter.env("PATH", PATH).output().expect("nsenter runs")
    }

    /// Runs a line of shell; fails with what it said unless it succeeds.
    #[track_caller]
    fn sh(&self, line: &str) -> String {
        let output = self.try_sh(line);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{line}` failed: {said}{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts a program that goes on; what it says is in `/run/NAME.log`.
    fn start(&self, name: &str, line: &str) {
        self.sh(&format!("{line} >/run/{name}.log 2>&1 </dev/null &"));
    }

    /// Waits until a line of shell succeeds; fails with the log of a program that was started.
    #[track_caller]
    fn await_sh(&self, line: &str, name: &str) {
        let deadline = Instant::now() + super::support::PATIENCE;
        while !self.try_sh(line).status.success() {
            assert!(
                Instant::now() < deadline,
                "`{line}` never succeeds:\n{}",
                self.sh(&format!("cat /run/{name}.log"))
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        // Its children end with it: it was told so.
        let _killed = self.keeper.kill();
        let _reaped = self.keeper.wait();
    }
}

/// Datagrams from a host to the server, one every two milliseconds, and when they arrived.
struct Stream {
    arrived: Arc<Mutex<Vec<Instant>>>,
    over: Arc<AtomicBool>,
}

impl Stream {
    fn new(lab: &Lab, from: &Host) -> Stream {
        let stream = Stream { arrived: Arc::default(), over: Arc::default() };
        let server = SocketAddr::new(from.server(false), PORT);
        let ears = lab.server.on(move || UdpSocket::bind(server).expect("the port is free"));
        ears.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let mouth = from.on(|| UdpSocket::bind("0.0.0.0:0").expect("a port"));
        let (over, arrived) = (Arc::clone(&stream.over), Arc::clone(&stream.arrived));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                if ears.recv(&mut [0; 16]).is_ok() {
                    arrived.lock().expect("nobody panics").push(Instant::now());
                }
            }
        });
        let over = Arc::clone(&stream.over);
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                // Refused where nobody listens any more.
                let _sent = mouth.send_to(b"datagram", server);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        stream
    }

    /// How many have arrived since this was last asked, and the time from the first to the last of them.
    fn passed(&self) -> (usize, Duration) {
        let arrived = std::mem::take(&mut *self.arrived.lock().expect("nobody panics"));
        let span = arrived.last().zip(arrived.first()).map(|(last, first)| last.duration_since(*first));
        (arrived.len(), span.unwrap_or_default())
    }

    /// Until nothing has arrived for a while; what passed before it.
    #[track_caller]
    fn await_silence(&self, what: &str) -> (usize, Duration) {
        let mut last = Instant::now();
        let mut before = 0;
        eventually(&format!("{what}: packets of a banned source pass no more"), || {
            let now = self.arrived.lock().expect("nobody panics").len();
            if now != before {
                (before, last) = (now, Instant::now());
            }
            last.elapsed() > Duration::from_millis(600)
        });
        self.passed()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A guarded server on which the attacker is banned, both ways.
fn with_ban(lab: &Lab, backend: &str) -> Guard {
    let guard = guarded(lab, backend, "");
    for v6 in [false, true] {
        brute_force(&guard, &lab.attacker, v6);
        guard.await_ban(&banned_as(&lab.attacker, v6));
    }
    eventually("the attacker is shut out", || !passes(&lab.attacker, false) && !passes(&lab.attacker, true));
    guard
}

/// That the attacker is shut out, and the visitor not.
#[track_caller]
fn holds(lab: &Lab, after: &str) {
    for v6 in [false, true] {
        eventually(&format!("after '{after}' the visitor gets in"), || passes(&lab.visitor, v6));
        assert!(!passes(&lab.attacker, v6), "after '{after}' the attacker gets in");
    }
}
