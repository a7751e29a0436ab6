use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// A root file system of our own making.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Tree {
        let tree = Tree(tempfile::tempdir().unwrap());
        for (path, text) in files {
            tree.write(path, text.as_bytes());
        }
        tree
    }

    fn write(&self, path: &str, text: &[u8]) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// A process that holds these sockets.
    fn process(&self, pid: u32, parent: u32, user: u32, program: &str, title: &str, sockets: &[u64]) {
        let name = program.rsplit('/').next().unwrap();
        self.write(&format!("proc/{pid}/comm"), format!("{name}\n").as_bytes());
        self.write(&format!("proc/{pid}/cmdline"), format!("{title}\0\0\0").as_bytes());
        let status = format!("Name:\t{name}\nPPid:\t{parent}\nUid:\t{user}\t{user}\t{user}\t{user}\n");
        self.write(&format!("proc/{pid}/status"), status.as_bytes());
        self.write(&format!("proc/{pid}/net/tcp"), TCP.as_bytes());
        self.write(&format!("proc/{pid}/net/tcp6"), TCP6.as_bytes());
        self.link(&format!("proc/{pid}/exe"), program);
        self.link(&format!("proc/{pid}/ns/net"), "net:[1]");
        self.link(&format!("proc/{pid}/fd/0"), "/dev/null");
        for (number, inode) in sockets.iter().enumerate() {
            self.link(&format!("proc/{pid}/fd/{}", number + 3), &format!("socket:[{inode}]"));
        }
    }

    fn probe(&self, which: &[Protect]) -> Probed {
        probe_below(self.0.path(), which, &mut Processes::default(), Instant::now())
    }

    /// What the kernel says of the number that it gave out last, to this process.
    fn number(&self, last: u32) {
        self.write("proc/loadavg", format!("0.00 0.00 0.00 1/84 {last}\n").as_bytes());
    }

    fn found(&self, protect: Protect) -> Vec<String> {
        let probed = self.probe(&[protect]);
        assert!(probed.troubles.is_empty(), "{:?}", probed.troubles);
        assert!(probed.networks.iter().all(|(_, what)| *what == protect));
        probed.networks.iter().map(|(network, _)| network.to_string()).collect()
    }
}

/// Listening on 22 (inode 100) and 8080 (300, forwarded); connections from 198.51.100.7 (201), .8 (202) and .9 (301).
const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1 0 100 0 0 10 0
   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 300 1 0 100 0 0 10 0
   2: 020200C0:0016 076433C6:D431 01 00000000:00000000 02:000A7214 00000000     0        0 201 2 0 20 4 30 10 -1
   3: 020200C0:0016 086433C6:D432 01 00000000:00000000 02:000A7214 00000000     0        0 202 2 0 20 4 30 10 -1
   4: 020200C0:1F90 096433C6:D433 01 00000000:00000000 02:000A7214 00000000     0        0 301 2 0 20 4 30 10 -1
";
/// Connections from `2001:db8::7` (401) and, as a mapped address, 203.0.113.5 (402).
const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: B80D0120000000000000000001000000:0016 B80D0120000000000000000007000000:D434 01 00000000:00000000 02:000A7214 00000000     0        0 401 2 0 20 4 30 10 -1
   1: 0000000000000000FFFF00000202000A:0016 0000000000000000FFFF0000057100CB:D435 01 00000000:00000000 02:000A7214 00000000     0        0 402 2 0 20 4 30 10 -1
";

const SSHD: &str = "/usr/sbin/sshd";
const LISTENER: &str = "sshd: /usr/sbin/sshd -D [listener] 1 of 10-100 startups";

#[test]
fn own_addresses_are_the_local_hosts_of_every_routing_table() {
    let tree = Tree::new(&[
        (
            "proc/net/fib_trie",
            "Id 100:\n  |-- 0.0.0.0\n     /0 host LOCAL\nMain:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.0\n        /8 host LOCAL\n\
             |-- 127.0.0.1\n   /32 host LOCAL\n  |-- 192.0.2.0\n   /24 link UNICAST\n  |-- 192.0.2.2\n   /32 host LOCAL\n\
             |-- 192.0.2.255\n   /32 link BROADCAST\nLocal:\n  |-- 192.0.2.2\n   /32 host LOCAL\n",
        ),
        (
            "proc/net/if_inet6",
            "00000000000000000000000000000001 01 80 10 80       lo\nfd000000000000000000000000000002 04 40 00 82     eth0\n",
        ),
    ]);
    let expected = ["127.0.0.1/32", "192.0.2.2/32", "::1/128", "fd00::2/128"];
    assert_eq!(tree.found(Protect::OwnAddresses), expected);
}

#[test]
fn gateways_are_the_next_hops_of_default_routes() {
    let tree = Tree::new(&[
        (
            "proc/net/route",
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
             eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
             eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
        ),
        (
            "proc/net/ipv6_route",
            "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n\
             00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0\n",
        ),
    ]);
    assert_eq!(tree.found(Protect::Gateways), ["192.0.2.1/32", "fd00::1/128"]);
}

#[test]
fn resolvers_are_read_behind_the_stub_too() {
    let tree = Tree::new(&[
        (
            "etc/resolv.conf",
            "# nameserver 192.0.2.1\nsearch example.net\nnameserver 127.0.0.53\nnameserver example.net\n",
        ),
        ("run/systemd/resolve/resolv.conf", "nameserver 192.0.2.53\nnameserver fe80::1%eth0\nnameserver\n"),
    ]);
    assert_eq!(tree.found(Protect::Resolvers), ["127.0.0.53/32", "192.0.2.53/32", "fe80::1/128"]);
}

#[test]
fn the_other_end_of_a_session_is_protected_and_that_of_a_log_in_attempt_is_not() {
    let tree = Tree::new(&[]);
    tree.process(1, 0, 0, SSHD, LISTENER, &[100]);
    tree.process(10, 1, 0, SSHD, "sshd: alice [priv]", &[201, 555]);
    tree.process(11, 10, 1000, SSHD, "sshd: alice@pts/0", &[201, 556]);
    tree.process(20, 1, 0, SSHD, "sshd: root [priv]", &[202]);
    tree.process(21, 20, 105, SSHD, "sshd: root [net]", &[202]);
    assert_eq!(tree.found(Protect::AdminSessions), ["198.51.100.7/32"]);
}

#[test]
fn root_s_own_session_has_no_privileged_parent() {
    let tree = Tree::new(&[]);
    tree.process(10, 1, 0, SSHD, "sshd: root@notty", &[202]);
    assert_eq!(tree.found(Protect::AdminSessions), ["198.51.100.8/32"]);
}

#[test]
fn sessions_of_newer_versions_and_over_ipv6_are_known() {
    let tree = Tree::new(&[]);
    let program = "/usr/lib/openssh/sshd-session (deleted)";
    tree.process(10, 1, 0, program, "sshd-session: bob@corp.example [priv]", &[401, 402]);
    tree.process(11, 10, 1000, program, "sshd-session: bob@corp.example@pts/0,pts/1", &[401, 402]);
    // The kernel says that the executable was deleted in its link, not in the name.
    tree.write("proc/10/comm", b"sshd-session\n");
    tree.write("proc/11/comm", b"sshd-session\n");
    assert_eq!(tree.found(Protect::AdminSessions), ["203.0.113.5/32", "2001:db8::7/128"]);
}

#[test]
fn a_session_that_ends_while_it_is_looked_at_does_not_hide_the_others() {
    let tree = Tree::new(&[]);
    tree.process(10, 1, 0, SSHD, "sshd: root@notty", &[201]);
    tree.process(11, 1, 0, SSHD, "sshd: root@notty", &[202]);
    fs::remove_dir_all(tree.0.path().join("proc/10/net")).unwrap();
    assert!(tree.found(Protect::AdminSessions).contains(&"198.51.100.8/32".to_owned()));
}

/// Looks at the same tree again and again; at what time is said in seconds.
struct Looks<'a>(&'a Tree, Processes, Instant);

impl Looks<'_> {
    fn at(&mut self, second: u64) -> Vec<String> {
        let now = self.2 + Duration::from_secs(second);
        let probed = probe_below(self.0.0.path(), &[Protect::AdminSessions], &mut self.1, now);
        probed.networks.iter().map(|(network, _)| network.to_string()).collect()
    }
}

#[test]
fn who_looks_again_finds_new_sessions_keeps_those_there_are_and_forgets_those_that_ended() {
    let tree = Tree::new(&[]);
    tree.link("proc/self", &std::process::id().to_string());
    tree.number(10);
    tree.process(9, 1, 0, SSHD, LISTENER, &[100]);
    tree.process(10, 1, 0, "/usr/bin/bash", "bash", &[]);
    let mut looks = Looks(&tree, Processes::default(), Instant::now());
    assert_eq!((looks.at(0), looks.at(60)), (vec![], vec![]));
    // Its number is given out before it can be seen, and it becomes sshd a moment later.
    tree.number(12);
    assert_eq!(looks.at(75), [""; 0]);
    tree.process(12, 9, 0, "/usr/lib/systemd/systemd", "(sshd)", &[202]);
    assert_eq!(looks.at(90), [""; 0]);
    fs::remove_dir_all(tree.0.path().join("proc/12")).unwrap();
    tree.process(12, 9, 0, SSHD, "sshd: root@notty", &[202]);
    assert_eq!(looks.at(105), ["198.51.100.8/32"]);
    assert_eq!(looks.at(600), ["198.51.100.8/32"]);
    fs::remove_dir_all(tree.0.path().join("proc/12")).unwrap();
    assert_eq!(looks.at(615), [""; 0]);
}

#[test]
fn all_processes_are_looked_at_where_numbers_begin_anew_and_now_and_then() {
    let tree = Tree::new(&[]);
    tree.link("proc/self", &std::process::id().to_string());
    tree.number(9999);
    let mut looks = Looks(&tree, Processes::default(), Instant::now());
    assert_eq!((looks.at(0), looks.at(60)), (vec![], vec![]));
    tree.process(10, 1, 0, SSHD, "sshd: root@notty", &[201]);
    assert_eq!(looks.at(75), [""; 0], "it was there before, as something else");
    assert_eq!(looks.at(960), ["198.51.100.7/32"]);
    tree.process(11, 1, 0, SSHD, "sshd: root@notty", &[202]);
    tree.number(11);
    assert_eq!(looks.at(1035), ["198.51.100.7/32", "198.51.100.8/32"]);
}

#[test]
fn where_processes_are_numbered_by_others_all_are_looked_at_each_time() {
    let tree = Tree::new(&[]);
    tree.link("proc/self", "1");
    tree.number(9999);
    let mut looks = Looks(&tree, Processes::default(), Instant::now());
    assert_eq!((looks.at(0), looks.at(60)), (vec![], vec![]));
    tree.process(10, 1, 0, SSHD, "sshd: root@notty", &[201]);
    assert_eq!(looks.at(75), ["198.51.100.7/32"]);
}

#[test]
fn a_user_cannot_forge_a_session() {
    let tree = Tree::new(&[]);
    // With a shell, or another program root runs, as its parent.
    tree.process(10, 9, 1000, SSHD, "sshd: root@pts/0", &[201]);
    tree.process(9, 1, 0, "/usr/sbin/cron", "cron", &[201]);
    // With a parent that calls itself sshd.
    tree.process(20, 19, 1000, SSHD, "sshd: root@pts/0", &[202]);
    tree.process(19, 1, 1000, SSHD, LISTENER, &[202]);
    // With a copy of another program under that name, started with root's rights.
    tree.process(30, 1, 0, "/usr/bin/su", "sshd: root@pts/0", &[401]);
    tree.write("proc/30/comm", b"sshd\n");
    // With a connection that its root parent does not share.
    tree.process(40, 39, 1000, SSHD, "sshd: eve@pts/0", &[402]);
    tree.process(39, 1, 0, SSHD, "sshd: eve [priv]", &[]);
    assert_eq!(tree.found(Protect::AdminSessions), [""; 0]);
}

#[test]
fn who_comes_through_a_forwarded_port_is_not_protected() {
    let tree = Tree::new(&[]);
    tree.process(10, 1, 0, SSHD, "sshd: root@notty", &[300, 202, 301]);
    assert_eq!(tree.found(Protect::AdminSessions), ["198.51.100.8/32"]);
}

#[test]
fn remote_sessions_of_logind_are_protected_unless_they_are_closing() {
    let tree = Tree::new(&[
        ("run/systemd/sessions/1", "UID=1000\nSTATE=active\nREMOTE=1\nREMOTE_HOST=203.0.113.20\nSERVICE=sshd\n"),
        ("run/systemd/sessions/2", "STATE=closing\nREMOTE=1\nREMOTE_HOST=203.0.113.21\n"),
        ("run/systemd/sessions/3", "STATE=active\nREMOTE=0\nREMOTE_HOST=203.0.113.22\n"),
        ("run/systemd/sessions/4", "STATE=online\nREMOTE=1\nREMOTE_HOST=host.example.net\n"),
    ]);
    let pipe = tree.0.path().join("run/systemd/sessions/1.ref");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_eq!(tree.found(Protect::AdminSessions), ["203.0.113.20/32"]);
}

#[test]
fn a_system_without_these_files_protects_nothing_and_is_no_trouble() {
    let which = Protect::WORDS.map(|(_, protect)| protect);
    let probed = Tree::new(&[]).probe(&which);
    assert!(probed.networks.is_empty() && probed.troubles.is_empty(), "{probed:?}");
}

#[test]
fn what_cannot_be_read_is_said_with_the_remedy() {
    let tree = Tree::new(&[("run/systemd/sessions", "not a folder")]);
    fs::create_dir_all(tree.0.path().join("etc/resolv.conf")).unwrap();
    let probed = tree.probe(&[Protect::Resolvers, Protect::AdminSessions]);
    let said: Vec<String> = probed.troubles.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2);
    assert!(
        said[0].starts_with("an address that is a resolver of this machine may be unprotected, as /"),
        "{}",
        said[0]
    );
    assert!(said[0].ends_with("put it in [allow] networks"), "{}", said[0]);
    assert!(said[1].contains("CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"), "{}", said[1]);
}

#[test]
fn the_words_of_the_configuration_are_known_and_others_are_refused() {
    for (word, protect) in Protect::WORDS {
        assert_eq!(word.parse(), Ok(protect));
    }
    assert_eq!(
        "gateway".parse::<Protect>().unwrap_err().to_string(),
        "'gateway' is nothing that can be protected; choose from own-addresses, gateways, resolvers, admin-sessions"
    );
}

#[test]
fn this_machine_s_loopback_address_is_found() {
    let probed = probe(&[Protect::OwnAddresses]);
    assert!(probed.networks.contains(&("127.0.0.1/32".parse().unwrap(), Protect::OwnAddresses)), "{probed:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_content_of_these_files_makes_a_reader_fail(
        noise in prop::collection::vec(any::<u8>(), 0..300),
        words in "([0-9a-fA-F:é@\\[\\]/ \n]|[|]-- |/32 host LOCAL|nameserver |00000000 ){0,60}",
    ) {
        let tree = Tree::new(&[]);
        tree.process(10, 1, 0, SSHD, "sshd: root@notty", &[202]);
        let paths = ["proc/net/fib_trie", "proc/net/if_inet6", "proc/net/route", "proc/net/ipv6_route",
            "etc/resolv.conf", "run/systemd/sessions/1", "proc/10/net/tcp", "proc/10/status", "proc/10/cmdline"];
        for text in [&noise[..], words.as_bytes()] {
            for path in paths {
                tree.write(path, text);
            }
            tree.probe(&Protect::WORDS.map(|(_, protect)| protect));
        }
    }
}
