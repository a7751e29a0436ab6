//! What fuzzers begin with: the samples of all shipped filters, and a few inputs of each other kind.

use std::path::{Path, PathBuf};

/// The texts of all files in a folder of the project with this extension, in the order of names.
fn files(folder: &str, extension: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub fn filter_files() -> Vec<Vec<u8>> {
    files("filters", "toml")
}

/// The lines of all samples, each by itself; lines that belong together in one input.
pub fn lines() -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    for file in filter_files() {
        let table: toml::Table = std::str::from_utf8(&file).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
        collect(&toml::Value::Table(table), &mut lines);
    }
    lines
}

fn collect(value: &toml::Value, lines: &mut Vec<Vec<u8>>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                match (key.as_str(), value) {
                    ("line", toml::Value::String(line)) => lines.push(line.clone().into_bytes()),
                    ("lines", toml::Value::Array(several)) => {
                        let several: Vec<&str> = several.iter().filter_map(toml::Value::as_str).collect();
                        lines.push(several.join("\n").into_bytes());
                    }
                    _ => collect(value, lines),
                }
            }
        }
        toml::Value::Array(values) => values.iter().for_each(|value| collect(value, lines)),
        _ => {}
    }
}

pub fn json_lines() -> Vec<Vec<u8>> {
    lines().into_iter().filter(|line| line.contains(&b'{')).collect()
}

pub fn kernel_lines() -> Vec<Vec<u8>> {
    lines().into_iter().filter(|line| line.windows(5).any(|piece| piece == b" SRC=")).collect()
}

/// The beginnings of lines, and layouts that none of them has.
pub fn stamps() -> Vec<Vec<u8>> {
    let mut stamps: Vec<Vec<u8>> = lines().into_iter().map(|line| line[..line.len().min(48)].to_vec()).collect();
    stamps.extend(bytes(&[
        "@4000000037c219bf2ef02e94 x",
        "2024-02-30 25:61:61,999999999 +9999",
        "Feb 29 00:00:60 9999",
    ]));
    stamps
}

pub fn records() -> Vec<Vec<u8>> {
    bytes(&[
        "4,1803,123456789,-;PING-DROP:IN=eth0 OUT= SRC=192.0.2.9 DST=198.51.100.1 PROTO=ICMP TYPE=8 CODE=0\n SUBSYSTEM=net",
        "30,18446744073709551615,18446744073709551615,c,caller=T1;a\\x0ab\\x5c\\xff\n",
        r#"{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1795224600123456","MESSAGE":"Failed password for root from 192.0.2.9 port 4711 ssh2","SYSLOG_IDENTIFIER":"sshd","_COMM":"sshd","_PID":"411"}"#,
        r#"{"__CURSOR":"","__REALTIME_TIMESTAMP":"99999999999999999999","MESSAGE":[70,255,0],"SYSLOG_IDENTIFIER":["a","b"],"_PID":null}"#,
    ])
}

pub fn blocklists() -> Vec<Vec<u8>> {
    let marker = "# banward: jail=sshd since=2026-11-21T01:30:00Z until=2026-11-21T01:40:00Z\n192.0.2.9\n";
    let mut lists = bytes(&[
        "# Ip address block  file\n202.54.20.22\n202.54.20.1/24\n#65.66.36.87\n",
        "\u{feff}192.0.2.1-192.0.2.77 ; a range\r\n::1 2001:db8::/32 ::ffff:192.0.2.1/120\n0.0.0.0/0\n5-4\n",
        "0.0.0.0-255.255.255.255\n1.2.3.4-::1\n9.9.9.9-1.1.1.1\n::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff\n",
        "# banward: jail=x since=1970-01-01T00:00:00Z until=forever ports=22/tcp,53/udp evidence=forgeable\n2001:db8::/64\nx",
    ]);
    lists.push(marker.as_bytes().to_vec());
    lists
}

pub fn ledger() -> Vec<Vec<u8>> {
    let ban = r#"{"scope":[],"since":1,"until":null,"reason":"x","count":1,"evidence":"proven"}"#;
    let key: &[u8] = b"b\x04\xc0\x00\x02\x09\x20sshd";
    let mut seeds = vec![[key, b"\xff", ban.as_bytes()].concat()];
    seeds.extend(bytes(&[
        "pauto\0/var/log/auth.log\u{00ff}{\"position\":{\"file\":{\"device\":1,\"inode\":2,\"offset\":3}},\"seen\":4}",
        "h{\"bans\":4294967295,\"last_end\":9223372036854775807}",
        "e{\"sequence\":18446744073709551615,\"prefix\":\"::/0\",\"jail\":\"x\",\"ban\":{},\"at\":-1,\"how\":\"expired\"}",
        "g{\"until\":-9223372036854775808}",
    ]));
    seeds
}

pub fn requests() -> Vec<Vec<u8>> {
    bytes(&[
        r#"{"version":1,"do":"status"}"#,
        r#"{"version":1,"do":"list","jail":"sshd","counters":true}"#,
        r#"{"version":1,"do":"ban","prefix":"192.0.2.9/32","seconds":18446744073709551615,"reason":"x"}"#,
        r#"{"version":1,"do":"unban","prefixes":["192.0.2.9/32","2001:db8::/64"],"all":false,"allow":3600}"#,
        r#"{"version":1,"do":"allow","prefix":"192.0.2.0/24","seconds":null,"comment":"office"}"#,
        r#"{"version":1,"do":"import","name":"x","prefixes":["192.0.2.9/32"],"seconds":null,"more":true}"#,
        r#"{"version":1,"do":"why","prefix":"192.0.2.9/32"}"#,
        r#"{"version":4294967296,"do":[]}"#,
    ])
}

/// Configurations and filters that people bring along, as the tests of the conversion have them.
pub fn fail2ban() -> Vec<Vec<u8>> {
    let mut files = [files("tests/fail2ban", "conf"), files("tests/fail2ban/filter.d", "conf")].concat();
    files.extend(bytes(&[
        "[DEFAULT]\na = %(b)s%(b)s\nb = %(c)s%(c)s\nc = %(a)s\n[sshd]\nenabled = true\nport = %(known/port)s\n",
        "[Definition]\nfailregex = ^(?:x(?=y)|(?<!a)b)\\s*<HOST>(?:\\s+\\d{1,3})?$\n  ^<F-USER>\\S+</F-USER> from <ADDR>$\n",
        "(?ix) ^ (?P<a>b # c\n ) [^]x-]{2,} \\Z <HOST> (?P=a) (?(a)b|c)",
    ]));
    files
}
