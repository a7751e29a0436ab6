//! The logs that are scanned: the same bytes in every run, but for nothing.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Lines of each log.
pub(crate) const LINES: u32 = 1_000_000;

/// A stream of numbers that only looks like chance (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u32) -> u32 {
        (((self.roll() >> 32) * u64::from(end)) >> 32) as u32
    }

    fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < per_mille
    }

    /// Below `end`, small numbers far more often: the n-th in proportion to 1/n.
    fn few_often(&mut self, end: u32) -> u32 {
        let part = f64::from(self.below(1 << 24)) / f64::from(1 << 24);
        (f64::from(end).powf(part) - 1.0) as u32
    }

    fn one_of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.below(texts.len() as u32) as usize]
    }
}

/// Different addresses of the open Internet, 15 % of them IPv6 where that is wanted.
fn sources(dice: &mut Dice, count: usize, ipv6: bool) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut sources = Vec::with_capacity(count);
    while sources.len() < count {
        let bits = dice.roll();
        let source = if ipv6 && dice.chance(150) {
            Ipv6Addr::from(0x2a00_u128 << 112 | u128::from(bits) << 48 | u128::from(dice.below(65_535) + 1)).to_string()
        } else {
            Ipv4Addr::from((bits as u32 & 0x3fff_ffff) + 0x1400_0000).to_string()
        };
        if seen.insert(source.clone()) {
            sources.push(source);
        }
    }
    sources
}

/// A quarter of an hour of log lines: the stamp of the `number`-th.
struct Stamps;

impl Stamps {
    fn minutes_and_seconds(number: u32) -> (u32, u32) {
        let second = number / (LINES / 900).max(1);
        (second / 60 % 60, second % 60)
    }

    fn syslog(number: u32) -> String {
        let (minute, second) = Stamps::minutes_and_seconds(number);
        format!("Nov 21 01:{minute:02}:{second:02} srv1")
    }

    fn common_log(number: u32) -> String {
        let (minute, second) = Stamps::minutes_and_seconds(number);
        format!("21/Nov/2026:01:{minute:02}:{second:02} +0000")
    }
}

fn write(path: &Path, mut line: impl FnMut(u32) -> String) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).expect("there is room"));
    for number in 0..LINES {
        file.write_all(line(number).as_bytes()).expect("there is room");
    }
    file.flush().expect("there is room");
}

const USERS: [&str; 10] =
    ["admin", "test", "ubuntu", "oracle", "postgres", "git", "guest", "mysql", "ftpuser", "minecraft"];

/// What a server writes where nobody attacks it.
fn peaceful(dice: &mut Dice) -> String {
    let (pid, host, port) = (dice.below(400_000), dice.below(250) + 1, dice.below(64_000) + 1024);
    match dice.below(100) {
        0..30 => format!("CRON[{pid}]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)"),
        30..55 => format!("CRON[{pid}]: pam_unix(cron:session): session closed for user root"),
        55..70 => format!(
            "sshd[{pid}]: Accepted publickey for alice from 10.8.0.{host} port {port} ssh2: ED25519 SHA256:{:043x}",
            dice.roll()
        ),
        70..80 => format!("sshd[{pid}]: pam_unix(sshd:session): session opened for user bob(uid=1000) by (uid=0)"),
        80..88 => "sudo:    carol : TTY=pts/0 ; PWD=/home/carol ; USER=root ; COMMAND=/usr/bin/systemctl status nginx"
            .to_owned(),
        88..94 => format!("systemd-logind[612]: New session {pid} of user dave."),
        _ => format!("sshd[{pid}]: Received disconnect from 10.8.0.{host} port {port}:11: disconnected by user"),
    }
}

/// An SSH server's log of which so many per mille are failed log-ins, from so many sources; few of them do most of it.
pub(crate) fn ssh(path: &Path, per_mille: u32, count: usize) {
    let dice = &mut Dice(0x5eed_0001 + u64::from(per_mille));
    let sources = sources(dice, count, true);
    let mut fresh = 0;
    write(path, |number| {
        let stamp = Stamps::syslog(number);
        if !dice.chance(per_mille) {
            return format!("{stamp} {}\n", peaceful(dice));
        }
        // One in ten is somebody new, until all have come.
        let at = if fresh < count && dice.chance(100) {
            fresh += 1;
            fresh - 1
        } else {
            dice.few_often(count as u32) as usize
        };
        let (pid, source, port) = (dice.below(400_000), &sources[at], dice.below(64_000) + 1024);
        match dice.below(10) {
            0..6 => format!("{stamp} sshd[{pid}]: Failed password for root from {source} port {port} ssh2\n"),
            6..8 => format!("{stamp} sshd[{pid}]: Invalid user {} from {source} port {port}\n", dice.one_of(&USERS)),
            _ => {
                let user = dice.one_of(&USERS);
                format!("{stamp} sshd[{pid}]: Failed password for invalid user {user} from {source} port {port} ssh2\n")
            }
        }
    });
}

/// The kernel's LOG lines, four in five of them evidence; half a million senders are forged, two thousand come back.
pub(crate) fn kernel(path: &Path) {
    const FORGED: u32 = 500_000;
    let dice = &mut Dice(0x5eed_0002);
    let sources = sources(dice, FORGED as usize, false);
    let mut fresh = 0;
    write(path, |number| {
        let (stamp, kind) = (Stamps::syslog(number), dice.below(100));
        let (port, id) = (dice.below(64_000) + 1024, dice.below(65_536));
        let (prefix, rest) = match kind {
            0..40 => ("PING-DROP:", format!("PROTO=ICMP TYPE=8 CODE=0 ID={id} SEQ=1")),
            40..80 => ("syn_flood ", format!("PROTO=TCP SPT={port} DPT=80 WINDOW=1024 RES=0x00 SYN URGP=0")),
            80..95 => ("[UFW BLOCK] ", format!("PROTO=TCP SPT={port} DPT={id} WINDOW=65535 RES=0x00 SYN URGP=0")),
            _ => ("INPUT-OK: ", format!("PROTO=UDP SPT=53 DPT={port} LEN=80")),
        };
        let at = if kind < 80 && fresh < FORGED && dice.chance(700) {
            fresh += 1;
            fresh - 1
        } else {
            dice.below(2000)
        };
        format!(
            "{stamp} kernel: [{}.{id:06}] {prefix}IN=eth0 OUT= MAC=52:54:00:12:34:56:52:54:00:ab:cd:ef:08:00 SRC={} \
             DST=192.0.2.10 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID={id} DF {rest}\n",
            100_000 + number / 1000,
            sources[at as usize]
        )
    });
}

/// A web server's access log of which one line in twenty is a probe or a refused log-in.
pub(crate) fn access(path: &Path) {
    const PROBES: [&str; 6] = [
        "/wp-login.php",
        "/.env",
        "/phpmyadmin/index.php",
        "/cgi-bin/test.cgi",
        "/.git/config",
        "/boaform/admin/formLogin",
    ];
    const AGENTS: [&str; 3] = [
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
        "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
        "curl/8.5.0",
    ];
    let dice = &mut Dice(0x5eed_0003);
    let (visitors, attackers) = (sources(dice, 20_000, true), sources(dice, 5000, true));
    write(path, |number| {
        let (stamp, agent) = (Stamps::common_log(number), dice.one_of(&AGENTS));
        if dice.chance(50) {
            let source = &attackers[dice.few_often(5000) as usize];
            return if dice.chance(700) {
                let probe = dice.one_of(&PROBES);
                format!("{source} - - [{stamp}] \"GET {probe} HTTP/1.1\" 404 153 \"-\" \"{agent}\"\n")
            } else {
                format!("{source} - admin [{stamp}] \"POST /api/login HTTP/1.1\" 401 179 \"-\" \"{agent}\"\n")
            };
        }
        let source = &visitors[dice.few_often(20_000) as usize];
        let (status, size, page) = (if dice.chance(930) { 200 } else { 304 }, dice.below(90_000), dice.below(9999));
        format!(
            "{source} - - [{stamp}] \"GET /static/app-{}.js?v={} HTTP/2.0\" {status} {size} \
             \"https://example.org/page/{page}\" \"{agent}\"\n",
            dice.below(500),
            dice.below(99)
        )
    });
}
