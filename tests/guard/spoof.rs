//! Forged senders at full speed: of the gateway, the resolver, the administrator and of the whole Internet. Whoever
//! forges them gets none of the first three banned, hides no real attacker, and does not make the daemon grow.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};

use super::support::eventually;
use super::support::guard::{Guard, now};
use super::support::lab::{Host, Lab};
use super::support::processes;
use super::{PORT, passes};

const RESOLVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
const ADMIN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);

/// Forged lines of a log file beside the packets: from more senders than its jail counts at a time.
const LINES: u32 = 60_000;
/// What the daemon may take of the machine's memory through all of it, in kB.
const MOST_MEMORY: u64 = 80_000;

/// Rules that log what is dropped, as fast as a log can take it: the kernel's log belongs to all tests.
const RULES: &str = "
    sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.att.rp_filter=0
    iptables -A INPUT -p icmp -m limit --limit 500/s --limit-burst 500 -j LOG --log-prefix PING-DROP:
    iptables -A INPUT -p icmp -j DROP
    iptables -N syn_flood
    iptables -A INPUT -i att -p tcp --syn -j syn_flood
    iptables -A syn_flood -m limit --limit 500/s --limit-burst 500 -j LOG --log-prefix syn_flood:
    iptables -A syn_flood -j DROP";

const JAILS: &str = "[firewall]
backend = \"iptables\"
[jail.sshd]
filter = \"sshd\"
source = { files = [\"DIR/auth.log\"] }
window = { hitcount = 5, seconds = 600 }
[jail.ping-drop]
filter = \"ping-drop\"
source = \"kernel\"
window = { hitcount = 3, seconds = 60 }
[jail.syn-flood]
filter = \"syn-flood\"
source = \"kernel\"
window = { hitcount = 3, seconds = 60 }
[jail.lines]
filter = \"ping-drop\"
source = { files = [\"DIR/kern.log\"] }
window = { hitcount = 2, seconds = 60 }
track = 20000
";

/// A sequence of numbers without pattern, the same in each run.
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// An address that anybody could have.
    fn address(&mut self) -> Ipv4Addr {
        Ipv4Addr::from(0x0b00_0000 + self.next() % 0x6000_0000)
    }
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded twice")).to_be_bytes()
}

/// A ping with a forged sender.
fn ping(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut icmp = vec![8, 0, 0, 0, 0, 1, 0, 1];
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum);
    packet(1, from, to, &icmp)
}

/// A bare SYN with a forged sender.
fn syn(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let [high, low] = PORT.to_be_bytes();
    let mut tcp = vec![0x9c, 0x40, high, low, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0];
    let pseudo = [&from.octets()[..], &to.octets(), &[0, 6, 0, 20], &tcp].concat();
    tcp[16..18].copy_from_slice(&checksum(&pseudo));
    packet(6, from, to, &tcp)
}

/// The kernel fills in the checksum of the header.
fn packet(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(20 + payload.len()).expect("a short packet");
    let head = [0x45, 0, 0, length, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    [&head[..], &from.octets(), &to.octets(), payload].concat()
}

fn v4(address: IpAddr) -> Ipv4Addr {
    let IpAddr::V4(address) = address else { panic!("{address} is not IPv4") };
    address
}

/// Sends forged packets until told to stop: a third in the names of these, the rest in anybody's.
fn flood(from: &Host, protected: &[Ipv4Addr], sent: &AtomicU64, stop: &AtomicBool) {
    let to = v4(from.server(false));
    from.on(|| {
        let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW)).expect("root may");
        let mut random = Random(0x9e37_79b9);
        while !stop.load(Ordering::Relaxed) {
            let number = sent.fetch_add(1, Ordering::Relaxed);
            let chosen = usize::try_from(number / 3).expect("few") % protected.len();
            let source = if number.is_multiple_of(3) { protected[chosen] } else { random.address() };
            let packet = if number.is_multiple_of(2) { ping(source, to) } else { syn(source, to) };
            // A full queue drops it, as a cable would.
            let _lost = sendto(&raw, &packet, SendFlags::empty(), &SocketAddrV4::new(to, 0));
        }
    });
}

/// Forged lines as a kernel writes them to a file, two of each sender: some of the protected, most of others.
fn forged_lines(protected: &[Ipv4Addr]) -> String {
    let (stamp, mut random) = (now(), Random(0x1234_5678));
    let mut text = String::new();
    for number in 0..LINES / 2 {
        let chosen = usize::try_from(number / 1000).expect("few") % protected.len();
        let source = if number.is_multiple_of(1000) { protected[chosen] } else { random.address() };
        let packet = format!("PING-DROP:IN=att OUT= SRC={source} DST=10.0.0.1 PROTO=ICMP TYPE=8 CODE=0");
        text.push_str(&format!("{stamp} web kernel: {packet}\n").repeat(2));
    }
    text
}

/// Where the real SSH server listens.
const SSH_PORT: u16 = 2200;

/// A real SSH server on the lab's server. What it says goes to the log with the header that a syslog daemon writes.
struct Sshd(Child);

impl Sshd {
    fn start(lab: &Lab, guard: &Guard, log: PathBuf) -> Sshd {
        let (key, config) = (guard.path("host_key"), guard.path("sshd.conf"));
        let key = key.display();
        guard.append("sshd.conf", &format!("Port {SSH_PORT}\nHostKey {key}\nUsePAM no\nPidFile none\n"));
        lab.server.sh(&format!("mkdir -p /run/sshd; ssh-keygen -qt ed25519 -N '' -f {key}"));
        let mut command = lab.server.command("/usr/sbin/sshd");
        let mut child = command.args(["-D", "-e", "-f"]).arg(config).stderr(Stdio::piped()).spawn().expect("sshd runs");
        let (said, pid) = (child.stderr.take().expect("it is piped"), child.id());
        std::thread::spawn(move || {
            let mut log = fs::OpenOptions::new().append(true).open(log).expect("the log is there");
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                log.write_all(format!("{} web sshd[{pid}]: {}\n", now(), line.trim_end()).as_bytes()).expect("written");
            }
        });
        Sshd(child)
    }

    /// Somebody tries an account that is not there. Whoever is banned in the middle of it hears nothing more.
    fn attempt(from: &Host) {
        let options =
            "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=5";
        let server = from.server(false);
        from.sh(&format!("timeout 15 ssh {options} -p {SSH_PORT} oracle@{server} true 2>/dev/null || :"));
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Of all its processes; the pages of the program, which they share, count once.
fn memory(guard: &Guard) -> u64 {
    let of = |pid: u32, what| processes::figure(pid, what).expect("a process has memory");
    let others = processes::family(guard.pid()).into_iter().skip(1).map(|pid| of(pid, "RssAnon"));
    of(guard.pid(), "VmRSS") + others.sum::<u64>()
}

#[test]
fn forged_senders_get_nobody_protected_banned_and_hide_no_real_attacker() {
    let lab = Lab::new();
    lab.server.sh(RULES);
    let gateway = Ipv4Addr::from(u32::from(v4(lab.attacker.v4)) + 5);
    lab.server.sh(&format!("ip route add default via {gateway} dev att onlink"));
    let protected = [gateway, RESOLVER, ADMIN];
    let mut guard = Guard::new(JAILS);
    guard.append("auth.log", "");
    guard.append("kern.log", "");
    guard.append("resolv.conf", &format!("nameserver {RESOLVER}\n"));
    guard.append("session", &format!("REMOTE=1\nSTATE=active\nREMOTE_HOST={ADMIN}\n"));
    let (resolv, session) = (guard.path("resolv.conf"), guard.path("session"));
    // The daemon alone sees this resolver, and an administrator who is logged in.
    let mounts = format!(
        "mount --bind {} /etc/resolv.conf; mount -t tmpfs none /run; mkdir -p /run/systemd/sessions; \
         cp {} /run/systemd/sessions/1",
        resolv.display(),
        session.display()
    );
    guard.spawn_behind(&lab.server, &mounts);
    guard.await_ready();
    lab.server.listen(PORT);
    let _sshd = Sshd::start(&lab, &guard, guard.path("auth.log"));
    assert!(passes(&lab.visitor, false));
    let (sent, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| flood(&lab.attacker, &protected, &sent, &stop));
        let _stopped = Stop(&stop);
        for address in protected {
            guard.await_log(&format!("ignored {address} "));
        }
        guard.append("kern.log", &forged_lines(&protected));
        eventually("forged senders are banned while the budget lasts", || {
            guard.bans().iter().any(|ban| ban["evidence"] == "forgeable")
        });
        let attacker = lab.visitor.v4.to_string();
        let read = |wanted: u64| jail(&guard, "sshd")["hits"].as_u64() == Some(wanted);
        for attempts in 1..=4 {
            Sshd::attempt(&lab.visitor);
            eventually("the attempt is counted", || read(attempts));
        }
        assert!(passes(&lab.visitor, false), "four are not five");
        Sshd::attempt(&lab.visitor);
        guard.await_ban(&format!("{attacker}/32"));
        eventually("the real attacker is shut out", || !passes(&lab.visitor, false));
        assert!(read(5), "on the very hit that was one too many");
        eventually("all forged lines are read", || jail(&guard, "lines")["hits"].as_u64() == Some(LINES.into()));
        eventually("packets were counted too", || jail(&guard, "syn-flood")["offences"].as_u64() > Some(0));
        assert!(sent.load(Ordering::Relaxed) > 50_000, "the flood was one: {sent:?}");
    });
    nobody_protected_is_banned(&lab, &guard, &protected);
    let forged = guard.bans().iter().filter(|ban| ban["evidence"] == "forgeable").count();
    assert!((60..200).contains(&forged), "the budget is 60 a minute, and {forged} are banned");
    let memory = memory(&guard);
    println!("{sent:?} forged packets, {LINES} forged lines, {memory} kB");
    assert!(memory < MOST_MEMORY, "{memory} kB");
}

/// Ends the flood also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn jail(guard: &Guard, name: &str) -> serde_json::Value {
    let status = guard.status();
    let jails = status["jails"].as_array().expect("an array");
    jails.iter().find(|jail| jail["jail"] == name).expect("the jail").clone()
}

/// Neither now nor before, neither says the daemon nor the kernel.
#[track_caller]
fn nobody_protected_is_banned(lab: &Lab, guard: &Guard, protected: &[Ipv4Addr]) {
    let (now, before) = (guard.ctl(&["list"]), guard.ctl(&["history"]));
    let kernel = lab.server.sh("ipset save");
    assert!(kernel.contains(&lab.visitor.v4.to_string()), "the kernel is asked the right question: {kernel}");
    for address in protected {
        let word = format!("{address} ");
        for said in [&now, &before, &kernel] {
            assert!(!said.contains(&word) && !said.contains(&format!("{address}/")), "{address}: {said}");
        }
    }
}
