//! The real kernel, with real packets: each test makes two network namespaces joined by a cable, one guarded, one with
//! hosts that send. Needs root; without it the tests fail.

mod begun;
mod counters;
mod flows;
mod plain;
mod reject;
mod scopes;
mod undone;

use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::process::Command as Process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::task::spawn;
use super::*;
use crate::ledger::{Port, Protocol, Scope};
use crate::time::Until;

/// What is tested: a backend, and for iptables on which flavour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavour {
    Nft,
    Legacy,
    Nftables,
    /// As with a kernel that cannot be told to delete what may be absent.
    OldNftables,
    /// A rule for each entry, in either iptables.
    Plain,
    PlainLegacy,
}

const ALL: [Flavour; 4] = [Flavour::Nft, Flavour::Legacy, Flavour::Nftables, Flavour::Plain];
/// For what depends on how elements are deleted.
const WITH_BOTH_NFTABLES: [Flavour; 5] =
    [Flavour::Nft, Flavour::Legacy, Flavour::Nftables, Flavour::OldNftables, Flavour::Plain];
/// For what the tools do differently.
const WITH_BOTH_PLAIN: [Flavour; 5] =
    [Flavour::Nft, Flavour::Legacy, Flavour::Nftables, Flavour::Plain, Flavour::PlainLegacy];

impl Flavour {
    fn choice(self) -> Choice {
        match self {
            Flavour::Nft | Flavour::Legacy => Choice::Iptables,
            Flavour::Nftables | Flavour::OldNftables => Choice::Nftables,
            Flavour::Plain | Flavour::PlainLegacy => Choice::Plain,
        }
    }

    fn is_legacy(self) -> bool {
        matches!(self, Flavour::Legacy | Flavour::PlainLegacy)
    }
}

/// Per family: a guarded address, a sender in its network, another one in it, one in another network, guarded there.
const SIDES: [[&str; 5]; 2] = [
    ["10.99.1.1", "10.99.1.2", "10.99.1.3", "10.99.2.2", "10.99.2.1"],
    ["fd99:0:0:1::1", "fd99:0:0:1::2", "fd99:0:0:1::3", "fd99:0:0:2::2", "fd99:0:0:2::1"],
];

/// Two namespaces, removed in the end.
struct Net {
    guarded: String,
    senders: String,
    listeners: Vec<TcpListener>,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Net {
    fn new() -> Net {
        assert!(
            rustix::process::geteuid().is_root(),
            "the tests of the firewall need root: they make network namespaces"
        );
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("bw-{}-{number}-{side}", std::process::id());
        let mut net = Net { guarded: name("g"), senders: name("s"), listeners: Vec::new() };
        for side in [&net.guarded, &net.senders] {
            tool("ip", &["netns", "add", side]);
            tool("ip", &["-n", side, "link", "set", "lo", "up"]);
        }
        let peer = ["peer", "name", "v0", "netns", &net.senders];
        tool("ip", &[&["-n", &net.guarded, "link", "add", "v0", "type", "veth"][..], &peer].concat());
        for [guard, one, two, other, guard_too] in SIDES {
            let length = if guard.contains(':') { 64 } else { 24 };
            for (side, address) in [
                (&net.guarded, guard),
                (&net.guarded, guard_too),
                (&net.senders, one),
                (&net.senders, two),
                (&net.senders, other),
            ] {
                let address = format!("{address}/{length}");
                let nodad: &[&str] = if length == 64 { &["nodad"] } else { &[] };
                tool("ip", &[&["-n", side, "address", "add", &address, "dev", "v0"][..], nodad].concat());
            }
        }
        for side in [&net.guarded, &net.senders] {
            tool("ip", &["-n", side, "link", "set", "v0", "up"]);
        }
        net.warm_up();
        net.listeners = net.guard(|| [80, 8080].map(|port| TcpListener::bind(("::", port)).unwrap()).into());
        net
    }

    /// Until every host knows its neighbours.
    fn warm_up(&self) {
        for [guard, one, two, other, guard_too] in SIDES {
            for (from, to) in [(one, guard), (two, guard), (other, guard_too)] {
                eventually("the cable carries pings", || self.ping(from, to));
            }
        }
    }

    fn guard<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(&self.guarded, work)
    }

    /// Opens the backend of a flavour in the guarded namespace.
    fn open(&self, flavour: Flavour, change: impl FnOnce(&mut Settings)) -> Box<dyn Backend> {
        if flavour.is_legacy() {
            // Rules in iptables-legacy alone are what makes it the flavour to use.
            self.run("iptables-legacy -A INPUT -s 198.51.100.7 -j ACCEPT");
        }
        let mut settings = Settings { backend: flavour.choice(), ..settings() };
        change(&mut settings);
        if flavour == Flavour::OldNftables {
            let (mut backend, _) = self.guard(|| nftables::Nftables::open(&settings).unwrap());
            backend.can_destroy = false;
            return Box::new(backend);
        }
        let (backend, why) = self.guard(|| open(&settings).unwrap());
        assert_eq!(why.contains("legacy"), flavour.is_legacy(), "{why}");
        backend
    }

    /// Runs a command line in the guarded namespace and gives its output.
    fn run(&self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        tool("ip", &[&["netns", "exec", &self.guarded][..], &words].concat())
    }

    /// Everything in the guarded firewall, without counters and dates.
    fn rules(&self) -> String {
        let mut text = String::new();
        for save in ["iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"] {
            text += &self.run(save);
        }
        text += &self.run("ipset save");
        text += &self.run("nft -s list ruleset");
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let line = line.split(" timeout ").next().unwrap_or_default();
            if line.starts_with(':') { line.split('[').next().unwrap_or_default() } else { line }
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn ping(&self, from: &str, to: &str) -> bool {
        let arguments = ["netns", "exec", &self.senders, "ping", "-c1", "-W0.3", "-I", from, to];
        Process::new("ip").args(arguments).output().unwrap().status.success()
    }

    /// Tries to connect from one address to another, for a third of a second.
    fn connect(&self, from: &str, to: &str, port: u16) -> Result<(), Errno> {
        within(&self.senders, || connect(from.parse().unwrap(), SocketAddr::new(to.parse().unwrap(), port)))
    }

    fn reaches(&self, from: &str, to: &str) -> bool {
        let (ping, tcp) = (self.ping(from, to), self.connect(from, to, 80).is_ok());
        assert_eq!(ping, tcp, "pings and connections from {from} to {to} fare alike");
        tcp
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for side in [&self.guarded, &self.senders] {
            let _ = Process::new("ip").args(["netns", "del", side]).status();
        }
    }
}

fn tool(name: &str, arguments: &[&str]) -> String {
    let output = Process::new(name).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs in a thread of its own, inside a namespace.
fn within<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        let namespace = File::open(format!("/run/netns/{name}")).unwrap();
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    };
    std::thread::scope(|scope| scope.spawn(enter).join()).unwrap()
}

fn connect(from: IpAddr, to: SocketAddr) -> Result<(), Errno> {
    let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK, None)?;
    rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
    match rustix::net::connect(&socket, &to) {
        Err(Errno::INPROGRESS) => (),
        other => return other,
    }
    let patience = Timespec { tv_sec: 0, tv_nsec: 330_000_000 };
    if poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&patience))? == 0 {
        return Err(Errno::TIMEDOUT);
    }
    sockopt::socket_error(&socket)?
}

pub(super) fn settings() -> Settings {
    Settings {
        backend: Choice::Auto,
        chain: Chain::default(),
        hooks: ["INPUT", "FORWARD", "DOCKER-USER"].map(str::to_owned).into(),
        egress: true,
        target: Target::Drop,
        conntrack: true,
        on_stop: OnStop::Keep,
        ceiling: crate::firewall::CEILING,
    }
}

fn entry(prefix: &str, seconds: u64) -> Entry {
    let until = Until::At(Timestamp::now() + Duration::from_secs(seconds));
    Entry { prefix: net(prefix), scope: Scope::default(), until }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap_or_else(|_| text.parse::<IpAddr>().unwrap().into())
}

fn clear(prefix: &str) -> Change {
    Change::Clear { prefix: net(prefix), scope: Scope::default() }
}

/// Waits until something is so, ten seconds at most.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn intact(backend: &mut dyn Backend) -> bool {
    backend.inspect(Timestamp::now()).unwrap() == Inspection::Intact
}

#[test]
fn a_banned_source_is_shut_out_and_others_are_not_until_it_is_unbanned() {
    for flavour in WITH_BOTH_NFTABLES {
        let net = Net::new();
        let mut backend = net.open(flavour, |_| ());
        net.guard(|| backend.sync(&[], Timestamp::now()).unwrap());
        for [guard, bad, good, ..] in SIDES {
            assert!(net.reaches(bad, guard), "{flavour:?} {bad} before");
            // Banned twice, the second time for another length; unbanned once.
            for seconds in [600, 6000, 60] {
                net.guard(|| backend.apply(&[Change::Set(entry(bad, seconds))], Timestamp::now()).unwrap());
            }
            assert!(!net.reaches(bad, guard), "{flavour:?} {bad} banned");
            assert!(net.reaches(good, guard), "{flavour:?} {good} not banned");
            net.guard(|| backend.apply(&[clear(bad), clear(bad), clear(good)], Timestamp::now()).unwrap());
            assert!(net.reaches(bad, guard), "{flavour:?} {bad} unbanned");
            net.guard(|| assert!(intact(&mut *backend)));
        }
    }
}

#[test]
fn a_ban_ends_by_itself_in_the_kernel() {
    for flavour in WITH_BOTH_PLAIN {
        let net = Net::new();
        let mut backend = net.open(flavour, |_| ());
        net.guard(|| backend.sync(&SIDES.map(|[_, bad, ..]| entry(bad, 2)), Timestamp::now()).unwrap());
        assert!(
            SIDES.iter().all(|[guard, bad, ..]| net.connect(bad, guard, 80) == Err(Errno::TIMEDOUT)),
            "{flavour:?}"
        );
        drop(backend);
        for [guard, bad, ..] in SIDES {
            eventually("the ban of 2 seconds ends", || net.connect(bad, guard, 80).is_ok());
            assert!(net.reaches(bad, guard), "{flavour:?}");
        }
    }
}

#[test]
fn a_banned_network_and_an_address_in_it_are_apart() {
    for flavour in ALL {
        let net = Net::new();
        let mut backend = net.open(flavour, |_| ());
        net.guard(|| backend.sync(&[], Timestamp::now()).unwrap());
        for ([guard, one, two, other, guard_too], network) in SIDES.into_iter().zip(["10.99.1.0/24", "fd99:0:0:1::/64"])
        {
            let both = [Change::Set(entry(network, 600)), Change::Set(entry(one, 600))];
            net.guard(|| backend.apply(&both, Timestamp::now()).unwrap());
            // The guarded address is in the banned network too: nobody else must suffer from that.
            assert!(!net.reaches(one, guard) && !net.reaches(two, guard), "{flavour:?} {network}");
            assert!(net.reaches(other, guard_too), "{flavour:?} {other}");
            net.guard(|| backend.apply(&[clear(network)], Timestamp::now()).unwrap());
            assert!(!net.reaches(one, guard) && net.reaches(two, guard), "{flavour:?} {network} unbanned");
        }
    }
}

#[test]
fn a_scope_of_ports_leaves_other_ports_open() {
    for flavour in ALL {
        let net = Net::new();
        let mut backend = net.open(flavour, |_| ());
        net.guard(|| backend.sync(&[], Timestamp::now()).unwrap());
        for [guard, bad, ..] in SIDES {
            let ports = [(Protocol::Tcp, 80), (Protocol::Tcp, 443), (Protocol::Udp, 443)];
            let scope = Scope::of_ports(ports.map(|(protocol, number)| Port { protocol, number }).into());
            let entry = Entry { scope: scope.clone(), ..entry(bad, 600) };
            net.guard(|| backend.apply(&[Change::Set(entry.clone())], Timestamp::now()).unwrap());
            assert_eq!(net.connect(bad, guard, 80), Err(Errno::TIMEDOUT), "{flavour:?}");
            assert_eq!(net.connect(bad, guard, 8080), Ok(()), "{flavour:?}");
            assert!(net.ping(bad, guard));
            let held = net.guard(|| backend.held(Timestamp::now()).unwrap());
            assert!(held.iter().any(|held| held.prefix == entry.prefix && held.scope == scope), "{flavour:?} {held:?}");
            let clear = Change::Clear { prefix: entry.prefix, scope };
            net.guard(|| backend.apply(&[clear], Timestamp::now()).unwrap());
            assert_eq!(net.connect(bad, guard, 80), Ok(()), "{flavour:?}");
        }
    }
}

#[test]
fn packets_to_a_banned_address_are_dropped_as_well_if_wanted() {
    for flavour in ALL {
        for egress in [true, false] {
            let net = Net::new();
            let mut backend = net.open(flavour, |settings| {
                settings.egress = egress;
                settings.hooks = vec!["FORWARD".to_owned()];
            });
            net.guard(|| backend.sync(&SIDES.map(|[_, bad, ..]| entry(bad, 600)), Timestamp::now()).unwrap());
            for [guard, bad, good, ..] in SIDES {
                assert_eq!(net.reaches(bad, guard), !egress, "{flavour:?}");
                assert!(net.reaches(good, guard), "{flavour:?}");
            }
        }
    }
}

#[test]
fn a_second_start_changes_nothing_and_removal_leaves_only_what_is_foreign() {
    for flavour in ALL {
        let net = Net::new();
        let variant = if flavour.is_legacy() { "legacy" } else { "nft" };
        for line in
            ["-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-A INPUT -p tcp --dport 22 -j ACCEPT", "-P FORWARD DROP"]
        {
            net.run(&format!("iptables-{variant} {line}"));
        }
        net.run("ipset create BANWARD-allow hash:ip");
        if flavour.is_legacy() {
            net.run("iptables-legacy -A INPUT -s 198.51.100.7 -j ACCEPT");
        }
        let foreign = net.rules();
        let entries = SIDES.map(|[_, bad, ..]| entry(bad, 600));
        let start = || {
            let mut backend = open_again(&net, flavour);
            net.guard(|| backend.sync(&entries, Timestamp::now()).unwrap());
            backend
        };
        drop(start());
        let first = net.rules();
        assert_ne!(first, foreign);
        let mut backend = start();
        assert_eq!(net.rules(), first, "{flavour:?}");
        net.guard(|| backend.remove().unwrap());
        let left = net.rules();
        let without_empty =
            |text: &str| text.lines().filter(|line| !is_empty_builtin(line)).collect::<Vec<_>>().join("\n");
        assert_eq!(without_empty(&left), without_empty(&foreign), "{flavour:?}");
        assert!(!left.contains("BANWARD-4") && !left.contains("banward"), "{flavour:?} {left}");
        net.guard(|| backend.remove().unwrap());
    }
}

/// A table that iptables makes when it is first used, and that stays without effect.
fn is_empty_builtin(line: &str) -> bool {
    let line = line.trim();
    ["*filter", "COMMIT", "table ip6 filter {", "}", "", "policy accept"].contains(&line)
        || (line.starts_with(':') && line.ends_with("ACCEPT"))
        || line.starts_with("chain ")
        || line.starts_with("type filter hook")
}

fn open_again(net: &Net, flavour: Flavour) -> Box<dyn Backend> {
    let backend = flavour.choice();
    net.guard(|| open(&Settings { backend, ..settings() }).unwrap().0)
}

#[test]
fn damage_is_noticed_though_a_change_that_changes_nothing_came_between() {
    for flavour in [Flavour::Nftables, Flavour::OldNftables] {
        let net = Net::new();
        let mut backend = net.open(flavour, |_| ());
        net.guard(|| backend.sync(&[entry("192.0.2.1", 600)], Timestamp::now()).unwrap());
        net.guard(|| assert!(intact(&mut *backend) && intact(&mut *backend)));
        net.run("nft flush chain inet banward sources");
        net.guard(|| backend.apply(&[clear("192.0.2.2")], Timestamp::now()).unwrap());
        net.guard(|| assert!(!intact(&mut *backend), "{flavour:?}"));
    }
}

#[test]
fn damage_is_noticed_and_healed() {
    for flavour in WITH_BOTH_PLAIN {
        let net = Net::new();
        let mut backend = net.open(flavour, |_| ());
        let [guard, bad, ..] = SIDES[0];
        let entries = [entry(bad, 600), entry("192.0.2.0/24", 600), entry(SIDES[1][1], 600)];
        let damages = match flavour {
            Flavour::Nft => vec![
                "iptables-nft -F",
                "ip6tables-nft -F BANWARD",
                "iptables-nft -D INPUT -j BANWARD",
                "iptables-nft -I INPUT -j ACCEPT",
                "iptables-nft -A INPUT -j BANWARD",
                "iptables-nft -N DOCKER-USER",
                "nft flush ruleset",
                "ipset flush",
                "ipset del BANWARD-4-all 192.0.2.0/24",
                "ipset flush BANWARD-6-all",
            ],
            Flavour::Legacy => {
                vec![
                    "iptables-legacy -F BANWARD-OUT",
                    "ip6tables-legacy -F",
                    "iptables-legacy -I INPUT -j ACCEPT",
                    "ipset flush BANWARD-6-all",
                ]
            }
            Flavour::Plain => vec![
                "iptables-nft -F",
                "iptables-nft -I INPUT -j ACCEPT",
                "iptables-nft -F BANWARD-00s",
                "iptables-nft -F BANWARD-00s00c0",
                "iptables-nft -D BANWARD-00d00c0 1",
                "ip6tables-nft -F BANWARD",
                "nft flush ruleset",
            ],
            Flavour::PlainLegacy => vec!["iptables-legacy -F BANWARD-00s", "ip6tables-legacy -F"],
            Flavour::Nftables | Flavour::OldNftables => vec![
                "nft flush ruleset",
                "nft delete table inet banward",
                "nft flush chain inet banward sources",
                "nft flush chain inet banward input",
                "nft flush chain inet banward from_4_32_all",
                "nft flush set inet banward v4_32_all",
                "nft delete element inet banward v4_24_all { 192.0.2.0 }",
            ],
        };
        for damage in damages {
            net.guard(|| backend.sync(&entries, Timestamp::now()).unwrap());
            net.guard(|| assert!(intact(&mut *backend) && intact(&mut *backend), "{flavour:?} before {damage}"));
            net.run(damage);
            net.guard(|| assert!(!intact(&mut *backend), "{flavour:?} {damage}"));
            net.guard(|| backend.sync(&entries, Timestamp::now()).unwrap());
            net.guard(|| assert!(intact(&mut *backend), "{flavour:?} after {damage}"));
            assert_eq!(net.connect(bad, guard, 80), Err(Errno::TIMEDOUT), "{flavour:?} {damage}");
        }
        if flavour != Flavour::Nftables {
            let variant = if flavour.is_legacy() { "iptables-legacy" } else { "iptables-nft" };
            let input = net.run(&format!("{variant} -S INPUT 1"));
            assert_eq!(input.trim(), "-A INPUT -j BANWARD");
        }
    }
}

#[test]
fn what_others_change_is_no_damage() {
    for flavour in ALL {
        let net = Net::new();
        let mut backend = net.open(flavour, |_| ());
        net.guard(|| backend.sync(&[entry("192.0.2.1", 600)], Timestamp::now()).unwrap());
        let variant = if flavour.is_legacy() { "iptables-legacy" } else { "iptables-nft" };
        net.run(&format!("{variant} -A INPUT -p tcp --dport 22 -j ACCEPT"));
        net.run("ipset create theirs hash:ip");
        net.run("nft add table inet theirs");
        net.guard(|| assert!(intact(&mut *backend), "{flavour:?}"));
    }
}

#[test]
fn what_was_put_is_held_and_read_back() {
    for flavour in ALL {
        let net = Net::new();
        let mut backend = net.open(flavour, |_| ());
        let forever = Entry { until: Until::Forever, ..entry("192.0.2.9", 1) };
        let years = Duration::from_secs(3 * 365 * 86_400);
        let long = Entry { until: Until::At(Timestamp::now() + years), ..entry("2001:db8::/32", 1) };
        let over = Entry { until: Until::At(Timestamp::now()), ..entry("192.0.2.77", 1) };
        let entries = [entry("198.51.100.0/25", 600), entry("2001:db8:1:2::/64", 7200), forever, long, over];
        net.guard(|| backend.sync(&entries, Timestamp::now()).unwrap());
        // Another process reads it back.
        let mut backend = open_again(&net, flavour);
        let held = net.guard(|| backend.held(Timestamp::now()).unwrap());
        assert_eq!(held.len(), 4, "{flavour:?} {held:?}");
        for entry in &entries[..4] {
            let found = held.iter().find(|held| held.prefix == entry.prefix).unwrap();
            let longest = if flavour.choice() == Choice::Iptables { ipset::LONGEST } else { years };
            let left = |until: Until| until.remaining(Timestamp::now()).map(|left| left.min(longest).as_secs());
            match (left(found.until), left(entry.until)) {
                (Some(found), Some(wanted)) => assert!(found.abs_diff(wanted) <= 3, "{flavour:?} {found} {wanted}"),
                (found, wanted) => assert_eq!(found, wanted, "{flavour:?}"),
            }
        }
    }
}

#[test]
fn a_sync_takes_out_what_is_not_in_the_list() {
    for flavour in ALL {
        let net = Net::new();
        let mut backend = net.open(flavour, |_| ());
        let scoped = Entry {
            scope: Scope::of_ports(vec![Port { protocol: Protocol::Tcp, number: 80 }]),
            ..entry("192.0.2.3", 60)
        };
        let first = [entry("192.0.2.1", 600), entry("192.0.2.2", 600), entry("198.51.100.0/24", 60), scoped];
        net.guard(|| backend.sync(&first, Timestamp::now()).unwrap());
        let second = [entry("192.0.2.2", 6000), entry("192.0.2.4", 600)];
        net.guard(|| backend.sync(&second, Timestamp::now()).unwrap());
        let mut held = net.guard(|| backend.held(Timestamp::now()).unwrap());
        held.sort_by_key(|entry| entry.prefix);
        let prefixes: Vec<_> = held.iter().map(|entry| entry.prefix).collect();
        assert_eq!(prefixes, second.clone().map(|entry| entry.prefix), "{flavour:?}");
        assert!(held[0].until.remaining(Timestamp::now()).unwrap().as_secs() > 5000, "{flavour:?}");
        assert!(!net.rules().contains("198.51.100.0"), "{flavour:?}");
    }
}

#[test]
fn a_hundred_thousand_entries_are_synced_and_one_more_takes_no_longer_for_it() {
    for flavour in [Flavour::Nft, Flavour::Nftables] {
        let net = Net::new();
        let mut backend = net.open(flavour, |_| ());
        let until = Until::At(Timestamp::now() + Duration::from_secs(3600));
        let prefix = |number: u32| IpNet::from(IpAddr::from((0x0b00_0000u32 + number).to_be_bytes()));
        let entries: Vec<Entry> =
            (0..100_000).map(|number| Entry { prefix: prefix(number), scope: Scope::default(), until }).collect();
        let timed = |work: &mut (dyn FnMut() + Send)| {
            let start = Instant::now();
            net.guard(work);
            start.elapsed()
        };
        let filled = timed(&mut || backend.sync(&entries, Timestamp::now()).unwrap());
        let again = timed(&mut || backend.sync(&entries, Timestamp::now()).unwrap());
        let one = timed(&mut || backend.apply(&[Change::Set(entry("192.0.2.1", 60))], Timestamp::now()).unwrap());
        println!("{flavour:?}: 100,000 entries in {filled:?}, again in {again:?}, one more in {one:?}");
        assert_eq!(net.guard(|| backend.held(Timestamp::now()).unwrap().len()), 100_001, "{flavour:?}");
        net.guard(|| assert!(intact(&mut *backend), "{flavour:?}"));
    }
}

#[test]
fn a_ban_longer_than_ipset_can_hold_is_renewed_in_time() {
    let net = Net::new();
    let mut backend = net.open(Flavour::Nft, |_| ());
    let (now, day) = (Timestamp::now(), 86_400);
    net.guard(|| backend.sync(&[entry("192.0.2.1", 30 * day), entry("192.0.2.2", 600)], now).unwrap());
    let mut left = |address: &str| {
        let held = net.guard(|| backend.held(now).unwrap());
        let found = held.into_iter().find(|entry| entry.prefix == super::tests::net(address)).unwrap();
        found.until.remaining(now).unwrap().as_secs() / day
    };
    assert_eq!((left("192.0.2.1"), left("192.0.2.2")), (24, 0));
    for (days, expected) in [(6, 24), (8, 22)] {
        net.guard(|| backend.rearm(now + Duration::from_secs(days * day)).unwrap());
        let held = net.guard(|| backend.held(now).unwrap());
        let found = held.iter().find(|entry| entry.prefix == super::tests::net("192.0.2.1")).unwrap();
        assert_eq!((found.until.remaining(now).unwrap() + Duration::from_secs(60)).as_secs() / day, expected);
    }
}

#[test]
fn forwarded_packets_from_and_to_a_banned_address_are_dropped() {
    for flavour in ALL {
        let net = Net::new();
        let inner = Net::new();
        // A host behind the guarded one, reached through it.
        tool(
            "ip",
            &["-n", &net.guarded, "link", "add", "v1", "type", "veth", "peer", "name", "v1", "netns", &inner.guarded],
        );
        for (side, address) in [(&net.guarded, "10.99.3.1/24"), (&inner.guarded, "10.99.3.2/24")] {
            tool("ip", &["-n", side, "address", "add", address, "dev", "v1"]);
            tool("ip", &["-n", side, "link", "set", "v1", "up"]);
        }
        tool("ip", &["-n", &inner.guarded, "link", "set", "v0", "down"]);
        tool("ip", &["-n", &inner.guarded, "route", "add", "default", "via", "10.99.3.1"]);
        tool("ip", &["-n", &net.senders, "route", "add", "10.99.3.0/24", "via", "10.99.1.1"]);
        net.run("sysctl -qw net.ipv4.ip_forward=1");
        let [_, bad, good, ..] = SIDES[0];
        eventually("packets are forwarded", || net.ping(bad, "10.99.3.2") && net.ping(good, "10.99.3.2"));

        let mut backend = net.open(flavour, |_| ());
        net.guard(|| backend.sync(&[entry(bad, 600)], Timestamp::now()).unwrap());
        assert!(!net.reaches(bad, "10.99.3.2") && net.reaches(good, "10.99.3.2"), "{flavour:?}");
        // What leaves for the banned address is dropped on its way out, not only the answer on its way back.
        let echos = || {
            let counts = tool("ip", &["netns", "exec", &net.senders, "cat", "/proc/net/snmp"]);
            let mut lines = counts.lines().filter(|line| line.starts_with("Icmp: "));
            let (names, counts) = (lines.next().unwrap().split(' '), lines.next().unwrap().split(' '));
            names.zip(counts).find(|(name, _)| *name == "InEchos").unwrap().1.parse::<u64>().unwrap()
        };
        let before = echos();
        let ping =
            |to: &str| within(&inner.guarded, || Process::new("ping").args(["-c3", "-i0.1", "-W0.3", to]).output());
        assert!(!ping(bad).unwrap().status.success(), "{flavour:?}");
        assert_eq!(echos(), before, "{flavour:?}: packets left for the banned address");
        assert!(ping(good).unwrap().status.success(), "{flavour:?}");
    }
}

#[test]
fn auto_prefers_iptables_with_ipset_and_says_why() {
    let net = Net::new();
    let (backend, why) = net.guard(|| open(&settings()).unwrap());
    assert_eq!(backend.name(), "iptables");
    assert_eq!(why, "iptables (nf_tables) and ipset work");
    let (backend, _) = net.guard(|| open(&Settings { backend: Choice::None, ..settings() }).unwrap());
    assert_eq!(backend.name(), "none");
    assert!(!net.rules().contains("BANWARD"), "opening leaves nothing");
}

#[test]
fn a_table_of_somebody_else_is_left_alone() {
    let net = Net::new();
    net.run("nft add table inet banward");
    net.run("nft add chain inet banward input");
    let before = net.rules();
    let error = net.guard(|| open(&Settings { backend: Choice::Nftables, ..settings() }).map(drop).unwrap_err());
    assert_eq!(error, FirewallError::ForeignTable { table: "banward".to_owned() });
    assert_eq!(net.rules(), before);
}

/// The owner of a task: answers for the whole list.
struct Owner {
    task: Task,
    reports: tokio::sync::mpsc::Receiver<Report>,
    ledger: Vec<Entry>,
}

impl Owner {
    fn new(net: &Net, flavour: Flavour, ledger: Vec<Entry>) -> Owner {
        Owner::with(net, flavour, ledger, |_| ())
    }

    fn with(net: &Net, flavour: Flavour, ledger: Vec<Entry>, change: impl FnOnce(&mut Settings)) -> Owner {
        let backend = flavour.choice();
        let (sender, reports) = tokio::sync::mpsc::channel(16);
        let mut settings = Settings { backend, ..settings() };
        change(&mut settings);
        let task = net.guard(|| spawn(settings, Box::new(open_ending_flows), sender).unwrap());
        Owner { task, reports, ledger }
    }

    /// Of a backend that is made without a kernel.
    fn of<B: Backend + 'static>(made: impl Fn() -> B + Send + 'static, ledger: Vec<Entry>) -> Owner {
        let (sender, reports) = tokio::sync::mpsc::channel(16);
        let opener = move |_: &Settings| -> Result<Opened, FirewallError> { Ok((Box::new(made()), String::new())) };
        let task = spawn(settings(), Box::new(opener), sender).unwrap();
        Owner { task, reports, ledger }
    }

    /// Waits for a report, and gives all up to it.
    fn until(&mut self, wanted: impl Fn(&Report) -> bool) -> Vec<Report> {
        let mut reports = Vec::new();
        loop {
            let report = self.reports.blocking_recv().expect("the task runs until it is stopped");
            if report == Report::NeedSync {
                self.task.sync(self.ledger.clone());
            }
            reports.push(report);
            if reports.last().is_some_and(&wanted) {
                return reports;
            }
        }
    }

    fn apply(&mut self, change: Change) -> Result<(), String> {
        let (done, answer) = tokio::sync::oneshot::channel();
        if let Change::Set(entry) = &change {
            self.ledger.push(entry.clone());
        }
        self.task.apply(vec![change], Some(done));
        answer.blocking_recv().expect("every change is answered")
    }

    fn stop(self, on_stop: OnStop) {
        self.task.stop(on_stop).unwrap();
    }
}

#[test]
fn the_task_enforces_repairs_and_removes() {
    for flavour in [Flavour::Nft, Flavour::Nftables] {
        let net = Net::new();
        let [guard, bad, good, ..] = SIDES[0];
        let mut owner = Owner::new(&net, flavour, vec![entry("192.0.2.1", 600)]);
        let reports = owner.until(|report| matches!(report, Report::Synced { .. }));
        assert!(matches!(reports[..], [Report::Opened { .. }, Report::NeedSync, Report::Synced { entries: 1, .. }]));

        assert_eq!(owner.apply(Change::Set(entry(bad, 600))), Ok(()));
        assert!(!net.reaches(bad, guard) && net.reaches(good, guard), "{flavour:?}");
        assert!(owner.apply(Change::Set(entry("0.0.0.0/0", 600))).unwrap_err().contains("whole internet"));
        assert!(net.reaches(good, guard), "{flavour:?}");

        net.run("nft flush ruleset");
        let reports = owner.until(|report| matches!(report, Report::Repaired { .. }));
        assert!(format!("{reports:?}").to_lowercase().contains("banward was removed"), "{flavour:?} {reports:?}");
        assert!(!net.reaches(bad, guard) && net.reaches(good, guard), "{flavour:?}");

        owner.stop(OnStop::Remove);
        assert!(!net.rules().to_lowercase().contains("banward"), "{flavour:?}");
        assert!(net.reaches(bad, guard), "{flavour:?}");
    }
}

#[test]
fn trouble_is_told_once_with_its_remedy_and_its_end_as_well() {
    let net = Net::new();
    let [guard, bad, ..] = SIDES[0];
    net.run("ipset create BANWARD-4-all hash:ip");
    let mut owner = Owner::new(&net, Flavour::Nft, vec![entry(bad, 600)]);
    let reports = owner.until(|report| matches!(report, Report::Trouble(_)));
    assert!(format!("{reports:?}").contains("destroy it with 'ipset destroy'"), "{reports:?}");
    let refused = owner.apply(Change::Set(entry("192.0.2.1", 600))).unwrap_err();
    assert!(refused.contains("another type"), "{refused}");
    // Another attempt fails for the same reason, and is not told again.
    owner.until(|report| matches!(report, Report::Opened { .. }));
    net.run("ipset destroy BANWARD-4-all");
    let reports = owner.until(|report| matches!(report, Report::Recovered));
    assert!(!reports.iter().any(|report| matches!(report, Report::Trouble(_))), "{reports:?}");
    eventually("the ban is in force", || net.connect(bad, guard, 80) == Err(Errno::TIMEDOUT));
    owner.stop(OnStop::Keep);
    assert!(!net.reaches(bad, guard), "rules that are kept still work");
}

#[test]
fn names_of_chains_are_checked() {
    assert_eq!("BANWARD".parse::<Chain>().unwrap().as_str(), "BANWARD");
    for name in ["", "INPUT", "filter", "A 1", "-A", "A\nB", "A2345678901234567890X"] {
        assert!(name.parse::<Chain>().is_err(), "{name:?}");
    }
}
