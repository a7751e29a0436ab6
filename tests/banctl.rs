//! The real `banctl` against a daemon that answers what the test wants: what it prints where, and how it exits.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "banctl/allow.rs"]
mod allow;
#[path = "banctl/convert.rs"]
mod convert;
#[path = "banctl/files.rs"]
mod files;
#[path = "banctl/objects.rs"]
mod objects;
#[path = "support/programs.rs"]
mod programs;
#[path = "banctl/replay.rs"]
mod replay;
#[path = "banctl/selftest.rs"]
mod selftest;
#[path = "banctl/why.rs"]
mod why;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::SystemTime;

use serde_json::{Value, json};
use tempfile::TempDir;

const BANCTL: &str = env!("CARGO_BIN_EXE_banctl");

/// A socket that answers the n-th request line with the n-th text, on one connection.
struct Daemon {
    folder: TempDir,
    requests: JoinHandle<Vec<Value>>,
}

impl Daemon {
    fn answering<T: Into<String>>(answers: impl IntoIterator<Item = T>) -> Daemon {
        let answers: Vec<String> = answers.into_iter().map(Into::into).collect();
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let requests = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut requests = Vec::new();
            for answer in answers {
                let Some(Ok(line)) = lines.next() else { break };
                requests.push(serde_json::from_str(&line).unwrap());
                // A client that has seen enough may be gone already.
                let _ = (&stream).write_all(answer.as_bytes());
            }
            requests
        });
        Daemon { folder, requests }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = banctl(arguments);
        command.arg("--socket").arg(self.socket());
        command
    }

    fn run(self, arguments: &[&str]) -> (Run, Vec<Value>) {
        let run = Run::of(self.command(arguments).output().unwrap());
        (run, self.requests.join().unwrap())
    }
}

fn banctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(BANCTL);
    command.args(arguments).env_clear().env("TERM", "xterm").env("TZ", "PLACE-1").stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

#[derive(Debug, PartialEq, Eq)]
struct Run {
    stdout: String,
    stderr: String,
    code: Option<i32>,
}

impl Run {
    fn of(output: Output) -> Run {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Run { stdout: text(output.stdout), stderr: text(output.stderr), code: output.status.code() }
    }

    fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn run(arguments: &[&str]) -> Run {
    Run::of(banctl(arguments).output().unwrap())
}

fn done(message: &str) -> String {
    format!("{}\n", json!({"reply": "done", "message": message, "warnings": []}))
}

fn refused(message: &str) -> String {
    format!("{}\n", json!({"reply": "refused", "message": message}))
}

/// RFC 3339 in UTC, so many seconds from now.
fn at(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    jiff::Timestamp::from_second(i64::try_from(now).unwrap() + seconds).unwrap().to_string()
}

fn ban(prefix: &str, jail: &str, until: &Value) -> Value {
    json!({
        "reply": "ban", "prefix": prefix, "jail": jail, "scope": [], "since": "2026-11-21T01:30:00Z", "until": until,
        "reason": "5 hits within 600 s", "count": 2, "evidence": "proven",
    })
}

fn lines(values: &[Value]) -> String {
    values.iter().fold(String::new(), |text, value| format!("{text}{value}\n"))
}

/// Runs on a terminal of this many columns; returns what a person sees there, messages and data.
fn on_terminal(command: &mut Command, columns: u16) -> String {
    use rustix::{pty, termios};
    let master = pty::openpt(pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY).unwrap();
    pty::grantpt(&master).unwrap();
    pty::unlockpt(&master).unwrap();
    let name = pty::ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
    let size = termios::Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    termios::tcsetwinsize(&terminal, size).unwrap();
    let mut child =
        command.stdout(terminal.try_clone().unwrap()).stderr(terminal.try_clone().unwrap()).spawn().unwrap();
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let reader = std::thread::spawn(move || {
        let mut shown = Vec::new();
        // The end of a terminal whose last program has ended is EIO.
        let _ = fs::File::from(master).read_to_end(&mut shown);
        String::from_utf8(shown).unwrap().replace("\r\n", "\n")
    });
    child.wait().unwrap();
    drop(terminal);
    reader.join().unwrap()
}

/// `banctl filters`, for the author of one.
mod filters {
    use super::*;

    /// A folder with an empty folder of filters, a configuration that names it, and this log.
    fn workshop(log: &str) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("filters")).unwrap();
        fs::write(at("banward.toml"), format!("daemon.filters = ['{}']\n", at("filters").display())).unwrap();
        fs::write(at("log"), log).unwrap();
        folder
    }

    fn filters(folder: &TempDir, arguments: &[&str]) -> Run {
        let mut command = banctl(&["filters", "--config", "banward.toml"]);
        Run::of(command.args(arguments).current_dir(folder.path()).env("TZ", "UTC").output().unwrap())
    }

    /// Drafts a filter `x` from a log; the workshop, in which it is `x.toml`.
    fn drafted(log: &str) -> TempDir {
        let folder = workshop(log);
        let draft = filters(&folder, &["draft", "--name", "x", "log"]);
        assert_eq!(draft.code, Some(0), "{}", draft.stderr);
        fs::write(folder.path().join("x.toml"), draft.stdout).unwrap();
        folder
    }

    #[test]
    fn a_draft_proves_itself_and_hits_its_log_whatever_the_format() {
        for (log, hits) in [
            ("Nov 20 01:30:00 web d[7]: login failed for bob from 203.0.113.7\n", 1),
            ("2026-11-20 01:30:00 ERROR wrong password for \"bob\" (203.0.113.7)\n", 1),
            ("203.0.113.7 - bob [20/Nov/2026:01:30:01 +0000] \"GET /x HTTP/1.1\" 401 12 \"-\" \"curl/8\"\n", 1),
            ("{\"level\":\"warn\",\"msg\":\"login failed\",\"user\":\"bob\",\"req\":{\"ip\":\"2001:db8:1::7\"}}\n", 1),
            (
                "{\"msg\":\"login failed for bob from 203.0.113.7\"}\n{\"msg\":\"login failed for a b from 203.0.113.8\"}\n",
                2,
            ),
            ("<38>1 2026-11-20T01:30:00Z web d 4 - - denied: '''x\\' by 203.0.113.7\n", 1),
        ] {
            let folder = drafted(log);
            let proof = filters(&folder, &["test", "./x.toml"]);
            assert_eq!(proof.code, Some(0), "{log}{}", proof.stderr);
            let coverage = filters(&folder, &["coverage", "./x.toml", "--log", "log", "--json"]).json();
            assert_eq!(coverage.iter().filter_map(|row| row["hits"].as_u64()).sum::<u64>(), hits, "{log}{coverage:?}");
            assert!(coverage.iter().all(|row| row["samples"] == row["proven"]), "{coverage:?}");
            let text = fs::read_to_string(folder.path().join("x.toml")).unwrap();
            let mut samples = text.lines().filter(|line| line.starts_with("line"));
            assert!(samples.all(|line| !line.contains("203.0.113")), "a sample names somebody:\n{text}");
        }
    }

    #[test]
    fn no_name_in_a_line_chooses_whom_a_draft_accuses() {
        let honest = "Nov 20 01:30:00 web d[7]: bad user NAME from 203.0.113.7 agent \"AGENT\"\n";
        let folder = drafted(&honest.replace("NAME", "bob").replace("AGENT", "curl"));
        for (name, agent) in [
            ("bob from 192.0.2.1 agent \"x\"", "curl"),
            ("bob", "x\" from 192.0.2.1 agent \"y"),
            ("from 192.0.2.1", "from 192.0.2.1"),
        ] {
            let line = honest.trim_end().replace("NAME", name).replace("AGENT", agent);
            let tried = filters(&folder, &["test", "./x.toml", "--json", &line]).json();
            assert_ne!(tried[0]["addr"], "192.0.2.1", "{line}");
        }
    }

    #[test]
    fn lines_with_several_addresses_are_left_to_the_author() {
        let folder = workshop("Nov 20 01:30:00 web d[7]: denied 203.0.113.7 to 198.51.100.1\n");
        let draft = filters(&folder, &["draft", "--name", "x", "log"]);
        assert_eq!((draft.code, draft.stdout.as_str()), (Some(1), ""));
        assert!(draft.stderr.contains("names several addresses"), "{}", draft.stderr);
    }

    #[test]
    fn a_line_that_does_not_hit_shows_where_the_nearest_pattern_leaves_it() {
        let folder = drafted("Nov 20 01:30:00 web d[7]: login failed for 'bob' from 203.0.113.7 port 4\n");
        let line = "Nov 20 01:30:00 web d[7]: login failed for 'eve' from 192.0.2.9 gate \u{1b}[2J";
        let tried = filters(&folder, &["test", "./x.toml", line]);
        let shown = "no hit\n  login-failed-port: It fits as far as the mark; there the line goes on with \
                     \"gate \\u{1b}[2J\".\n    ^login failed for '(?<user>.*)' from <ADDR> port \\d+$\n";
        assert!(tried.stdout.starts_with(shown), "{}", tried.stdout);
        let other = filters(&folder, &["test", "./x.toml", "--json", "Nov 20 01:30:00 web e[7]: hello"]).json();
        assert_eq!(other[0]["reason"], "The line is of the program 'e'; the filter reads those of d.");
    }

    #[test]
    fn the_nearest_patterns_of_a_mistyped_line_are_those_that_know_most_of_it() {
        let sshd = concat!(env!("CARGO_MANIFEST_DIR"), "/filters/sshd.toml");
        let line = "Nov 20 01:30:00 web sshd[1]: Failed passwrd for root from 192.0.2.7 port 1 ssh2";
        let tried = filters(&workshop(""), &["test", sshd, line]);
        assert!(tried.stdout.contains("\n  failed-password: It fits as far as the mark"), "{}", tried.stdout);
        let of_others =
            tried.stdout.lines().filter(|line| line.starts_with("    ^") && !line.starts_with("    ^Failed "));
        assert_eq!(of_others.count(), 0, "{}", tried.stdout);
    }

    #[test]
    fn a_pattern_in_the_shadow_of_another_is_named() {
        let folder = workshop("");
        let pattern = |name: &str, regex: &str| {
            let hit = "[[pattern.hit]]\nline = 'no a 192.0.2.9'\naddr = '192.0.2.9'\n";
            format!("[[pattern]]\nname = '{name}'\nregex = '{regex}'\n{hit}")
        };
        let head = "description = 'd'\nformat = 'plain'\n";
        let text = format!("{head}{}{}", pattern("wide", "^no \\S+ <ADDR>$"), pattern("narrow", "^no a <ADDR>$"));
        fs::write(folder.path().join("filters/d.toml"), text).unwrap();
        let coverage = filters(&folder, &["coverage", "--json"]).json();
        assert_eq!(coverage[1]["shadowed_by"], json!(["wide"]));
        assert_eq!((&coverage[1]["proven"], &coverage[0]["proven"]), (&json!(0), &json!(1)));
        let shown = filters(&folder, &["show", "d", "--json"]).json();
        assert_eq!(shown[0]["patterns"][1]["literals"], json!(["no a "]));
        assert_eq!(filters(&folder, &["test", "d"]).code, Some(78));
        assert_eq!(filters(&folder, &["show", "x"]).code, Some(1));
    }
}

mod answers {
    //! What each command sends and prints.
    use super::*;

    #[test]
    fn list_is_a_plain_table_with_whole_times_when_piped() {
        let end = at(3629);
        let bans = [ban("2001:db8::/64", "manual", &Value::Null), ban("192.0.2.9/32", "sshd", &json!(end))];
        let (run, requests) = Daemon::answering([lines(&bans) + &done("2 bans")]).run(&["list", "--jail", "sshd"]);
        let expected = format!(
            "address        jail    since                 until                 remaining  count\n\
             192.0.2.9      sshd    2026-11-21T01:30:00Z  {end}         1h      2\n\
             2001:db8::/64  manual  2026-11-21T01:30:00Z  forever                 forever      2\n"
        );
        assert_eq!(run, Run { stdout: expected, stderr: String::new(), code: Some(0) });
        assert_eq!(requests, [json!({"version": 1, "do": "list", "jail": "sshd"})]);
    }

    #[test]
    fn list_as_json_has_exactly_the_promised_keys() {
        let answer = lines(&[ban("192.0.2.9/32", "sshd", &Value::Null)]) + &done("");
        let (run, _) = Daemon::answering([answer]).run(&["list", "--json"]);
        let line = "{\"prefix\":\"192.0.2.9/32\",\"jail\":\"sshd\",\"since\":\"2026-11-21T01:30:00Z\",\"until\":null,\
                    \"reason\":\"5 hits within 600 s\",\"count\":2,\"evidence\":\"proven\"}\n";
        assert_eq!(run, Run { stdout: line.to_owned(), stderr: String::new(), code: Some(0) });
    }

    #[test]
    fn an_empty_list_is_no_data_and_a_message() {
        let (run, _) = Daemon::answering([done("")]).run(&["list"]);
        assert_eq!(run, Run { stdout: String::new(), stderr: "Nobody is banned.\n".to_owned(), code: Some(0) });
    }

    #[test]
    fn an_empty_list_of_a_jail_that_is_not_there_names_those_that_are() {
        let status = status_screen::reply(&status_screen::status("ok", &[]));
        let answers = [done(""), status];
        let (run, requests) = Daemon::answering(answers.clone()).run(&["list", "--jail", "nosuch\u{1b}[2J"]);
        let said = "There is no ban of jail 'nosuch\\u{1b}[2J'.\n\
                    There is no such jail; there are sshd, ping-drop, manual, list:drop.\n";
        assert_eq!((run.code, run.stderr.as_str(), requests.len()), (Some(0), said, 2));
        let (run, _) = Daemon::answering(answers).run(&["list", "--jail", "sshd"]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), "There is no ban of jail 'sshd'.\n"));
    }

    #[test]
    fn a_very_long_list_is_printed_as_it_comes_and_complete() {
        let ban = |n: u32| ban(&format!("{}/32", std::net::Ipv4Addr::from(0xC612_0000 + n)), "sshd", &Value::Null);
        let bans: Vec<Value> = (0..12_000).map(ban).collect();
        let (run, _) = Daemon::answering([lines(&bans) + &done("")]).run(&["list"]);
        assert_eq!((run.stdout.lines().count(), run.code), (12_001, Some(0)));
        let widths: Vec<usize> = run.stdout.lines().map(str::len).collect();
        assert!(widths.iter().all(|width| *width == widths[0]));
        assert!(run.stdout.lines().nth(12_000).unwrap().starts_with("198.18.46.223 "));
    }

    #[test]
    fn ban_sends_each_prefix_and_repeats_what_the_daemon_says() {
        let arguments = ["ban", "192.0.2.9", "2001:db8::9", "--for", "1h30m", "--reason", "scans"];
        let (run, requests) = Daemon::answering([done("banned a"), done("banned b")]).run(&arguments);
        let said = "banned a\nbanned b\n".to_owned();
        assert_eq!(run, Run { stdout: String::new(), stderr: said, code: Some(0) });
        let request = |prefix| json!({"version": 1, "do": "ban", "prefix": prefix, "seconds": 5400, "reason": "scans"});
        assert_eq!(requests, [request("192.0.2.9/32"), request("2001:db8::9/128")]);
    }

    #[test]
    fn a_ban_by_hand_lasts_a_day_unless_told_otherwise() {
        let (_, requests) = Daemon::answering([done("")]).run(&["ban", "192.0.2.9"]);
        assert_eq!(requests[0]["seconds"], 86_400);
        let (_, requests) = Daemon::answering([done("")]).run(&["ban", "192.0.2.9", "--for", "forever"]);
        assert_eq!(requests[0]["seconds"], Value::Null);
    }

    #[test]
    fn a_refused_ban_does_not_keep_the_next_one_from_being_sent() {
        let daemon = Daemon::answering([refused("127.0.0.0/8 is allowed"), done("banned")]);
        let (run, requests) = daemon.run(&["ban", "--json", "127.0.0.1", "192.0.2.9"]);
        assert_eq!((run.code, requests.len()), (Some(1), 2));
        assert_eq!(run.stderr, "refused: 127.0.0.0/8 is allowed\nbanned\n");
        assert_eq!(
            run.json(),
            [
                json!({"prefix": "127.0.0.1/32", "result": "refused", "message": "127.0.0.0/8 is allowed"}),
                json!({"prefix": "192.0.2.9/32", "result": "done", "message": "banned", "warnings": []}),
            ]
        );
    }

    #[test]
    fn a_prefix_with_host_bits_is_refused_with_what_may_be_meant() {
        for command in ["ban", "unban"] {
            let run = run(&[command, "202.54.20.1/24"]);
            assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
            assert!(run.stderr.contains("did you mean 202.54.20.0/24, or 202.54.20.1 alone?"), "{}", run.stderr);
        }
    }

    #[test]
    fn unban_sends_its_prefixes_and_the_allowance() {
        let (run, requests) =
            Daemon::answering([done("unbanned 2")]).run(&["unban", "192.0.2.9", "192.0.2.10", "--allow", "1h"]);
        assert_eq!(run, Run { stdout: String::new(), stderr: "unbanned 2\n".to_owned(), code: Some(0) });
        let prefixes = ["192.0.2.9/32", "192.0.2.10/32"];
        let request = json!({"version": 1, "do": "unban", "prefixes": prefixes, "all": false, "allow": 3600});
        assert_eq!(requests, [request]);
        let (_, requests) = Daemon::answering([done("")]).run(&["unban", "--all"]);
        let request = json!({"version": 1, "do": "unban", "prefixes": [], "all": true, "allow": null});
        assert_eq!(requests, [request]);
    }

    #[test]
    fn unban_of_what_is_not_banned_fails_with_a_sentence() {
        let (run, _) = Daemon::answering([refused("192.0.2.9 is not banned.")]).run(&["unban", "192.0.2.9"]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(1), "refused: 192.0.2.9 is not banned.\n"));
        let partly = json!({"reply": "done", "message": "unbanned 1", "warnings": ["192.0.2.9 is not banned"]});
        let (run, _) = Daemon::answering([format!("{partly}\n")]).run(&["unban", "192.0.2.8", "192.0.2.9"]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(1), "unbanned 1\nwarning: 192.0.2.9 is not banned\n"));
    }

    #[test]
    fn reload_says_how_it_went() {
        let (run, requests) =
            Daemon::answering([refused("the old configuration stays:\nx.toml:1:1: no")]).run(&["reload"]);
        assert_eq!(requests, [json!({"version": 1, "do": "reload"})]);
        assert_eq!((run.code, run.stderr.lines().count()), (Some(1), 2));
    }

    #[test]
    fn events_are_printed_until_the_daemon_is_gone() {
        let event = json!({
            "reply": "event", "time": "2026-11-21T01:30:00Z", "event": "banned", "prefix": "192.0.2.9/32",
            "jail": "sshd", "until": null, "text": "for \u{1b}[31mever",
        });
        let answer = lines(&[event.clone(), event]);
        let (run, requests) = Daemon::answering([answer.clone()]).run(&["events"]);
        let line = "2026-11-21T01:30:00Z  banned     192.0.2.9  sshd  for \\u{1b}[31mever\n";
        assert_eq!((run.stdout, run.code), (line.repeat(2), Some(69)));
        assert!(run.stderr.contains("closed the connection"), "{}", run.stderr);
        assert_eq!(requests, [json!({"version": 1, "do": "events"})]);
        let (run, _) = Daemon::answering([answer]).run(&["events", "--json"]);
        let text = "for \u{1b}[31mever";
        let object = json!({"time": "2026-11-21T01:30:00Z", "event": "banned", "prefix": "192.0.2.9/32",
            "jail": "sshd", "until": null, "text": text});
        assert_eq!(run.json(), [object.clone(), object]);
    }
}

mod status_screen {
    //! What an administrator looks at first.
    use super::*;

    pub(super) fn status(health: &str, troubles: &[&str]) -> Value {
        json!({
            "health": health, "version": "0.1.0", "pid": 411, "started": at(-3629),
            "config": "/etc/banward/banward.toml", "backend": "iptables",
            "backend_reason": "ipset and iptables (nf_tables) work",
            "bans": 12, "listed": 21_000, "installed": 21_012,
            "jails": [
                {"jail": "sshd", "filter": "sshd", "hits": 1311, "offences": 32, "bans": 31, "banned_now": 10, "limited_now": 0,
                 "ignored": 1, "tracked": 41, "evicted": 0},
                {"jail": "ping-drop", "filter": "ping-drop", "hits": 0, "offences": 0, "bans": 2, "banned_now": 2, "limited_now": 0,
                 "ignored": 0, "tracked": 0, "evicted": 0},
            ],
            "sources": [
                {"log": "/var/log/auth.log", "lines": 120_034, "bytes": 11_000_000, "hits": 1311, "lost": 0, "suppressed": null,
                 "cut": 3,
                 "latest": at(-2), "live": true, "trouble": null},
                {"log": "/dev/kmsg", "lines": 0, "bytes": 0, "hits": 0, "lost": 0, "suppressed": null, "cut": 0, "latest": null, "live": false,
                 "trouble": "no permission"},
            ],
            "lists": [{"list": "drop", "entries": 21_000, "until": null}],
            "breaker": {"open": false, "opened": 0, "waiting": 0, "addresses": 12},
            "troubles": troubles,
        })
    }

    fn answering(status: &Value) -> Daemon {
        Daemon::answering([reply(status)])
    }

    /// What the daemon writes.
    pub(super) fn reply(status: &Value) -> String {
        let mut reply = status.clone();
        reply["reply"] = json!("status");
        format!("{reply}\n")
    }

    #[test]
    fn health_comes_first_and_troubles_with_their_remedy_last() {
        let trouble = "kmsg cannot be read. Give banward\nCAP_SYSLOG; \u{202e}odd text";
        let (run, requests) = answering(&status("degraded", &[trouble])).run(&["status"]);
        let shown = run.stdout.replace("  3s ago", "  2s ago");
        let expected = "\
degraded, guarding, but see the troubles below

daemon   banward 0.1.0, process 411, up 1h
config   /etc/banward/banward.toml
backend  iptables, because ipset and iptables (nf_tables) work
bans     12 now, and 21,000 on lists; 21,012 entries in the kernel

jail       filter      hits  offences  ignored  bans  banned now  tracked now
sshd       sshd       1,311        32        1    31          10           41
ping-drop  ping-drop      0         0        0     2           2            0

source               lines   hits  lost  cut  last line
/var/log/auth.log  120,034  1,311     0    3  2s ago
/dev/kmsg                0      0     0    0  no permission

list  entries  until
drop   21,000  forever

troubles
 - kmsg cannot be read. Give banward
   CAP_SYSLOG; \\u{202e}odd text
";
        assert_eq!(shown, expected);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
        assert_eq!(requests, [json!({"version": 1, "do": "status"})]);
    }

    #[test]
    fn as_json_it_is_the_object_on_one_line() {
        let status = status("ok", &[]);
        let (run, _) = answering(&status).run(&["status", "--json"]);
        assert_eq!(run.json(), [status]);
    }

    #[test]
    fn a_terminal_gets_colour_unless_no_color_is_set() {
        let daemon = answering(&status("ok", &[]));
        let shown = on_terminal(&mut daemon.command(&["status"]), 100);
        assert!(shown.starts_with("\u{1b}[1;32mok\u{1b}[0m, guarding"), "{shown}");
        for refusal in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let daemon = answering(&status("ok", &[]));
            let shown = on_terminal(daemon.command(&["status"]).env(refusal.0, refusal.1), 100);
            assert!(shown.starts_with("ok, guarding") && !shown.contains('\u{1b}'), "{shown}");
        }
    }

    #[test]
    fn tables_fit_the_terminal() {
        let mut status = status("ok", &[]);
        status["sources"][0]["log"] = json!(format!("/var/log/{}.log", "long/".repeat(20)));
        let daemon = answering(&status);
        let shown = without_colour(&on_terminal(&mut daemon.command(&["status"]), 80));
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        assert!(shown.contains('…') && shown.contains("120,034  1,311"), "{shown}");
    }

    #[test]
    fn a_log_that_lacks_lines_and_a_jail_that_never_hit_say_so() {
        let mut status = status("ok", &[]);
        status["sources"][0]["suppressed"] = json!({"lines": 1234, "by": "journald", "time": "2026-11-21T01:30:00Z"});
        for (field, value) in [("packets", 5), ("bytes", 300), ("never_hit", 9)] {
            status["jails"][0][field] = json!(value);
        }
        let (run, _) = answering(&status).run(&["status"]);
        let said = "\n/var/log/auth.log: 1,234 lines left out by journald, last at 2026-11-21T01:30:00Z; its counts are \
                    too low\n";
        assert!(run.stdout.contains(said), "{}", run.stdout);
        let jail = run.stdout.lines().find(|line| line.starts_with("sshd")).unwrap();
        assert!(jail.ends_with("  5          9"), "{}", run.stdout);
    }

    #[test]
    fn a_narrow_terminal_hides_what_matters_least() {
        let daemon = answering(&status("ok", &[]));
        let shown = without_colour(&on_terminal(&mut daemon.command(&["status"]), 66));
        assert!(shown.lines().all(|line| line.chars().count() <= 66), "{shown}");
        assert!(shown.contains("jail       filter      hits  offences  ignored  bans  banned now\n"), "{shown}");
        let bans = [ban("2001:db8:1234:5678::/64", "manual", &Value::Null)];
        let daemon = Daemon::answering([lines(&bans) + &done("")]);
        let shown = without_colour(&on_terminal(&mut daemon.command(&["list"]), 66));
        assert!(shown.lines().all(|line| line.chars().count() <= 66), "{shown}");
        assert!(shown.contains("2001:db8:1234:5678::/64  manual"), "{shown}");
    }

    fn without_colour(text: &str) -> String {
        let mut parts = text.split('\u{1b}');
        let first = parts.next().unwrap().to_owned();
        parts.fold(first, |plain, part| plain + part.split_once('m').unwrap().1)
    }

    #[test]
    fn troubles_are_wrapped_whole() {
        let trouble = "the kernel log cannot be read, so that ping-drop and syn-flood see nothing; give banward \
                       CAP_SYSLOG in its unit";
        let daemon = answering(&status("degraded", &[trouble]));
        let shown = on_terminal(daemon.command(&["status"]).env("NO_COLOR", "1"), 60);
        let expected = "troubles\n - the kernel log cannot be read, so that ping-drop and\n   \
                        syn-flood see nothing; give banward CAP_SYSLOG in its\n   unit\n";
        assert!(shown.ends_with(expected), "{shown}");
    }

    #[test]
    fn on_a_terminal_times_are_short_and_local() {
        let year = &at(0)[..4];
        let mut ban = ban("192.0.2.9/32", "sshd", &json!(at(605)));
        ban["since"] = json!(format!("{year}-01-02T12:30:00Z"));
        let daemon = Daemon::answering([lines(&[ban]) + &done("")]);
        let shown = on_terminal(daemon.command(&["list"]).env("NO_COLOR", "1"), 80);
        assert!(shown.contains("192.0.2.9  sshd  Jan  2 13:30  "), "{shown}");
        assert!(shown.ends_with("times in UTC+01\n"), "{shown}");
    }
}

mod failures {
    //! Exit codes and messages when something is wrong.
    use super::*;

    #[test]
    fn a_daemon_that_is_not_there_is_69_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("none");
        let deserted = folder.path().join("deserted");
        drop(UnixListener::bind(&deserted).unwrap());
        for socket in [absent, deserted] {
            for command in [&["list"][..], &["ban", "192.0.2.9"], &["status", "--json"], &["export"], &["events"]] {
                let run = Run::of(banctl(command).arg("--socket").arg(&socket).output().unwrap());
                assert_eq!((run.code, run.stdout.as_str()), (Some(69), ""), "{}", run.stderr);
                assert!(run.stderr.contains("the daemon is not running"), "{}", run.stderr);
                assert!(run.stderr.contains("systemctl start banward"), "{}", run.stderr);
            }
        }
    }

    #[test]
    fn a_daemon_that_hangs_up_before_the_end_is_69() {
        let half = lines(&[ban("192.0.2.9/32", "sshd", &Value::Null)]);
        for answer in [String::new(), half, "{\"reply\":\"do".to_owned()] {
            let (run, _) = Daemon::answering([answer]).run(&["list", "--json"]);
            assert_eq!(run.code, Some(69), "{}", run.stderr);
        }
    }

    #[test]
    fn what_a_busy_daemon_did_not_take_is_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let requests = std::thread::spawn(move || {
            let answers =
                ["{\"reply\":\"busy\"}\n".to_owned(), "{\"reply\":\"busy\"}\n".to_owned(), done("banned 192.0.2.9")];
            let once = |answer: String| {
                let (stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                (&stream).write_all(answer.as_bytes()).unwrap();
                line
            };
            answers.map(once)
        });
        let run = Run::of(banctl(&["ban", "192.0.2.9"]).arg("--socket").arg(&socket).output().unwrap());
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), "banned 192.0.2.9\n"));
        let [first, second, third] = requests.join().unwrap();
        assert!(first == second && second == third && first.contains("192.0.2.9"), "{first}");
    }

    #[test]
    fn a_list_that_a_busy_daemon_took_half_of_is_not_sent_again() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list");
        let many: Vec<String> = (0..200_000).map(|n| std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string()).collect();
        fs::write(&list, many.join("\n")).unwrap();
        let answers = ["{\"reply\":\"continue\"}\n", "{\"reply\":\"busy\"}\n"];
        let (run, requests) = Daemon::answering(answers).run(&["import", list.to_str().unwrap()]);
        assert_eq!((run.code, requests.len()), (Some(69), 2), "{}", run.stderr);
        assert!(run.stderr.contains("too many clients"), "{}", run.stderr);
    }

    #[test]
    fn an_answer_that_cannot_be_read_names_the_versions() {
        for answer in ["what?\n", "{\"reply\":\"new_thing\"}\n", "{\"reply\":\"continue\"}\n"] {
            let (run, _) = Daemon::answering([answer]).run(&["status"]);
            assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{}", run.stderr);
            assert!(run.stderr.contains("the daemon's answer"), "{}", run.stderr);
        }
        let (run, _) = Daemon::answering(["{}\n"]).run(&["status"]);
        assert!(run.stderr.contains("protocol version 1"), "{}", run.stderr);
    }

    #[test]
    fn an_endless_reply_line_is_given_up() {
        let (run, _) = Daemon::answering(["x".repeat(5 << 20)]).run(&["status"]);
        assert_eq!(run.code, Some(1));
        assert!(run.stderr.contains("longer than 4194304 bytes"), "{}", run.stderr);
    }

    #[test]
    fn a_refusal_is_1_and_its_text_is_escaped() {
        let (run, _) = Daemon::answering([refused("version 2 only\u{1b}[2J")]).run(&["list"]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(1), "banctl: version 2 only\\u{1b}[2J\n"));
    }

    #[test]
    fn wrong_usage_is_2_with_a_hint() {
        let cases: [(&[&str], &str); 9] = [
            (&["lsit"], "a similar subcommand exists: 'list'"),
            (&[], "Usage:"),
            (&["ban"], "<PREFIX>..."),
            (&["unban"], "<PREFIX>..."),
            (&["unban", "--all", "192.0.2.9"], "cannot be used with"),
            (&["ban", "192.0.2.9", "--for", "10"], "did you mean 10s, 10m or 10h?"),
            (&["ban", "example.org"], "not an address or network"),
            (&["scan", "x.log"], "--filter"),
            (&["unban", "\u{1b}[2J"], "'\\u{1b}[2J'"),
        ];
        for (arguments, hint) in cases {
            let run = run(arguments);
            assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{arguments:?}: {}", run.stderr);
            assert!(run.stderr.contains(hint), "{arguments:?}: {}", run.stderr);
        }
    }

    #[test]
    fn a_wrong_configuration_is_78_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("b.toml");
        fs::write(&config, "[daemon]\nsocket = \n").unwrap();
        let run = Run::of(banctl(&["status", "--config"]).arg(&config).output().unwrap());
        assert_eq!(run.code, Some(78));
        assert!(run.stderr.contains("b.toml:2:"), "{}", run.stderr);
        let run = Run::of(banctl(&["status", "--config"]).arg(folder.path().join("none.toml")).output().unwrap());
        assert_eq!(run.code, Some(78), "{}", run.stderr);
    }

    #[test]
    fn the_configuration_says_where_the_socket_is() {
        let daemon = Daemon::answering([done("")]);
        let config = daemon.folder.path().join("b.toml");
        fs::write(&config, format!("[daemon]\nsocket = {:?}\nmode = \"observe\"\n", daemon.socket())).unwrap();
        let run = Run::of(banctl(&["list", "--config"]).arg(&config).output().unwrap());
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), "Nobody is banned.\n"));
    }

    #[test]
    fn a_closed_pipe_is_silent_and_no_failure() {
        let bans = lines(&[ban("192.0.2.9/32", "sshd", &Value::Null)]).repeat(20_000);
        for arguments in [&["list"][..], &["list", "--json"], &["export"], &["completions", "bash"]] {
            let daemon = Daemon::answering([bans.clone() + &done("")]);
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let child = daemon.command(arguments).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
            let run = Run::of(child.wait_with_output().unwrap());
            assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        }
    }

    #[test]
    fn a_full_disk_is_a_failure() {
        let daemon = Daemon::answering([lines(&[ban("192.0.2.9/32", "sshd", &Value::Null)]) + &done("")]);
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let run = Run::of(daemon.command(&["list"]).stdout(full).stderr(Stdio::piped()).output().unwrap());
        assert_eq!(run.code, Some(1));
        assert!(run.stderr.contains("standard output cannot be written"), "{}", run.stderr);
    }
}

mod lists_of_others {
    //! `import` and `export`.
    use super::*;

    fn file(folder: &Path, name: &str, text: &str) -> String {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    #[test]
    fn import_sends_each_entry_once_and_names_bad_lines() {
        let folder = tempfile::tempdir().unwrap();
        let text = "# Ip address block  file\n202.54.20.22\n202.54.20.1/24\n#65.66.36.87\nexample.org\n202.54.20.22\n";
        let file = file(folder.path(), "ip.blocked", text);
        let (run, requests) =
            Daemon::answering([done("the list 'ip' has 2 entries")]).run(&["import", "--json", &file]);
        let request = json!({"version": 1, "do": "import", "name": "ip", "seconds": null, "more": false,
            "prefixes": ["202.54.20.0/24", "202.54.20.22/32"]});
        assert_eq!((requests, run.code), (vec![request], Some(0)));
        assert!(
            run.stderr.starts_with(&format!("{file}:3: warning: '202.54.20.1/24' has host bits")),
            "{}",
            run.stderr
        );
        assert!(run.stderr.contains(&format!("\n{file}:5: ")), "{}", run.stderr);
        assert_eq!(
            run.json(),
            [json!({"list": "ip", "entries": 2, "bad_lines": 1, "result": "done",
                "message": "the list 'ip' has 2 entries", "warnings": []})]
        );
    }

    #[test]
    fn a_long_list_travels_in_chunks_over_one_connection() {
        let folder = tempfile::tempdir().unwrap();
        let address = |n: u32| format!("{}\n", std::net::Ipv4Addr::from(0xC612_0000 + n));
        let file = file(folder.path(), "long.txt", &(0..10_000).map(address).collect::<String>());
        let more = "{\"reply\":\"continue\"}\n".to_owned();
        let daemon = Daemon::answering([more.clone(), more, done("")]);
        let (run, requests) = daemon.run(&["import", "--for", "7d", &file]);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        let chunk = |request: &Value| (request["prefixes"].as_array().unwrap().len(), request["more"] == true);
        assert_eq!(requests.iter().map(chunk).collect::<Vec<_>>(), [(4096, true), (4096, true), (1808, false)]);
        assert!(requests.iter().all(|request| request["name"] == "long" && request["seconds"] == 604_800));
        let (run, _) = Daemon::answering([done("too soon")]).run(&["import", &file]);
        assert_eq!(run.code, Some(1), "{}", run.stderr);
    }

    #[test]
    fn files_of_one_name_become_one_list_and_standard_input_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let list = file(folder.path(), "drop.txt", "192.0.2.1\n");
        let daemon = Daemon::answering([done("")]);
        let mut child =
            daemon.command(&["import", "--name", "drop", &list, "-"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"192.0.2.2\r\n").unwrap();
        assert!(child.wait().unwrap().success());
        let requests = daemon.requests.join().unwrap();
        assert_eq!(requests[0]["prefixes"], json!(["192.0.2.1/32", "192.0.2.2/32"]));
    }

    #[test]
    fn a_file_without_entries_changes_nothing_unless_that_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let list = file(folder.path(), "drop.txt", "# nothing\n");
        let refused = run(&["import", "--socket", "/nonexistent", &list]);
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains("nothing was changed"), "{}", refused.stderr);
        let (run, requests) = Daemon::answering([done("")]).run(&["import", "--empty", &list]);
        assert_eq!((run.code, &requests[0]["prefixes"]), (Some(0), &json!([])));
    }

    #[test]
    fn a_log_that_is_given_by_mistake_bans_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let line = "Nov 21 01:30:00 web sshd[4]: Accepted password for root from 198.51.100.7 port 4711 ssh2\n";
        let log = file(folder.path(), "auth.log", &line.repeat(2000));
        let refused = run(&["import", "--socket", "/nonexistent", &log]);
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains("nothing was changed"), "{}", refused.stderr);
        let list = file(folder.path(), "drop.txt", &format!("192.0.2.1 192.0.2.2\n{}", line.repeat(2000)));
        let (run, requests) = Daemon::answering([done("")]).run(&["import", "--json", &list]);
        assert_eq!(requests[0]["prefixes"], json!(["192.0.2.1/32", "192.0.2.2/32"]));
        assert_eq!((&run.json()[0]["entries"], &run.json()[0]["bad_lines"]), (&json!(2), &json!(2000)));
    }

    #[test]
    fn a_list_of_which_every_entry_is_refused_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let list = file(folder.path(), "drop.txt", "127.0.0.1\n");
        let why = "127.0.0.1/32 is refused: 127.0.0.0/8 is allowed";
        let answer = json!({"reply": "done", "message": "list 'drop' has 0 entries", "warnings": [why]});
        let (run, _) = Daemon::answering([format!("{answer}\n")]).run(&["import", &list]);
        let said = format!(
            "list 'drop' has 0 entries\nwarning: {why}\n\
             The list 'drop' bans nobody: each of its entries is refused, as said above.\n"
        );
        assert_eq!((run.code, run.stderr), (Some(1), said));
    }

    #[test]
    fn a_dry_run_asks_no_daemon_and_says_what_would_be_refused() {
        let folder = tempfile::tempdir().unwrap();
        let list = file(folder.path(), "drop.txt", "192.0.2.1\n127.0.0.1\n0.0.0.0/0\n198.51.100.9\n");
        let config = file(folder.path(), "b.toml", "[allow]\nnetworks = [\"127.0.0.0/8\", \"198.51.100.0/24\"]\n");
        let run = run(&["import", "--dry-run", "--config", &config, &list]);
        assert_eq!(run.code, Some(0));
        assert!(run.stderr.contains("would have 1 entry, 2 refused, 1 bad line left"), "{}", run.stderr);
        assert!(run.stderr.contains("198.51.100.9/32 would be refused: 198.51.100.0/24 is allowed"), "{}", run.stderr);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_before_anything_is_sent() {
        let run = run(&["import", "--socket", "/nonexistent", "/nonexistent/drop.txt"]);
        assert_eq!(run.code, Some(1));
        assert!(run.stderr.contains("/nonexistent/drop.txt cannot be read"), "{}", run.stderr);
    }

    fn exported(arguments: &[&str]) -> Run {
        let mut web = ban("192.0.2.10/32", "web", &json!(at(600)));
        web["scope"] = json!([{"protocol": "tcp", "number": 80}, {"protocol": "tcp", "number": 443},
            {"protocol": "udp", "number": 443}]);
        let bans = [
            ban("192.0.2.9/32", "sshd", &json!(at(60))),
            ban("192.0.2.9/32", "manual", &json!(at(100_000_000))),
            ban("192.0.2.0/24", "manual", &json!(at(600))),
            ban("198.51.100.0/24", "manual", &Value::Null),
            ban("2001:db8::/64", "sshd", &json!(at(600))),
            ban("2001:db8:1::9/128", "sshd", &Value::Null),
            web,
        ];
        let (run, _) = Daemon::answering([lines(&bans) + &done("")]).run(arguments);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        run
    }

    #[test]
    fn a_plain_export_is_one_prefix_a_line() {
        let run = exported(&["export"]);
        let expected = "192.0.2.0/24\n192.0.2.9\n192.0.2.10\n198.51.100.0/24\n2001:db8::/64\n2001:db8:1::9\n";
        assert_eq!(run.stdout, expected);
        assert!(run.stderr.contains("1 of these bans are for some ports only"), "{}", run.stderr);
        assert_eq!(exported(&["export", "--family", "ipv6"]).stdout, "2001:db8::/64\n2001:db8:1::9\n");
        assert_eq!(exported(&["export", "--format", "json"]).json().len(), 7);
    }

    #[test]
    fn what_may_be_forged_leaves_the_machine_only_when_that_is_wanted() {
        let mut forged = ban("203.0.113.9/32", "ping-drop", &json!(at(600)));
        forged["evidence"] = json!("forgeable");
        let bans = lines(&[ban("192.0.2.9/32", "sshd", &json!(at(60))), forged]) + &done("");
        for format in ["plain", "json", "ipset"] {
            let export = |more: &[&str]| {
                let arguments = [&["export", "--format", format], more].concat();
                Daemon::answering([bans.clone()]).run(&arguments).0
            };
            let run = export(&[]);
            assert!(run.stdout.contains("192.0.2.9") && !run.stdout.contains("203.0.113.9"), "{}", run.stdout);
            assert!(run.stderr.contains("1 ban left out, as the addresses may be forged"), "{}", run.stderr);
            assert!(export(&["--forgeable"]).stdout.contains("203.0.113.9"));
        }
    }

    /// Runs a shell script in a network namespace of its own, with `input` as its standard input; returns its output.
    fn in_namespace(script: &str, input: &str) -> String {
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-ec", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let run = Run::of(child.wait_with_output().unwrap());
        assert_eq!(run.code, Some(0), "kernel tests need root, iptables, ipset and nft: {}{input}", run.stderr);
        run.stdout
    }

    #[test]
    fn iptables_restore_takes_the_export_twice() {
        for (family, program) in [("ipv4", "iptables"), ("ipv6", "ip6tables")] {
            let export = exported(&["export", "--format", "iptables", "--family", family]).stdout;
            let script = format!(
                "export=$(cat); for i in 1 2; do echo \"$export\" | {program}-restore --noflush; done; \
                 {program} -S BANNED"
            );
            let rules: Vec<String> = in_namespace(&script, &export).lines().skip(1).map(str::to_owned).collect();
            let expected: &[&str] = match family {
                "ipv4" => &[
                    "-A BANNED -s 192.0.2.0/24 -j DROP",
                    "-A BANNED -s 192.0.2.9/32 -j DROP",
                    "-A BANNED -s 198.51.100.0/24 -j DROP",
                    "-A BANNED -s 192.0.2.10/32 -p tcp -m multiport --dports 80,443 -j DROP",
                    "-A BANNED -s 192.0.2.10/32 -p udp -m multiport --dports 443 -j DROP",
                ],
                _ => &["-A BANNED -s 2001:db8::/64 -j DROP", "-A BANNED -s 2001:db8:1::9/128 -j DROP"],
            };
            assert_eq!(rules, expected);
        }
    }

    #[test]
    fn ipset_restore_takes_the_export_twice_with_its_ends() {
        let run = exported(&["export", "--format", "ipset"]);
        assert!(run.stderr.contains("1 bans end after 24 days"), "{}", run.stderr);
        let script =
            "export=$(cat); for i in 1 2; do echo \"$export\" | ipset restore; done; ipset save | grep ^add | sort";
        let sets = in_namespace(script, &run.stdout);
        let entries: Vec<Vec<&str>> = sets.lines().map(|line| line.split(' ').collect()).collect();
        let names: Vec<(&str, &str)> = entries.iter().map(|words| (words[1], words[2])).collect();
        assert_eq!(
            names,
            [
                ("banned4", "192.0.2.0/24"),
                ("banned4", "192.0.2.9"),
                ("banned4", "198.51.100.0/24"),
                ("banned4-1", "192.0.2.10"),
                ("banned6", "2001:db8:1::9"),
                ("banned6", "2001:db8::/64"),
            ],
            "{sets}"
        );
        let left = |index: usize| entries[index][4].parse::<u32>().unwrap();
        assert!([0, 3, 5].iter().all(|index| (590..=600).contains(&left(*index))), "{sets}");
        assert!((2_147_400..=2_147_483).contains(&left(1)), "{sets}");
        assert_eq!((left(2), left(4)), (0, 0), "{sets}");
    }

    #[test]
    fn nft_takes_the_export_twice_and_drops_what_it_says() {
        let export = exported(&["export", "--format", "nft"]).stdout;
        let script = "export=$(cat); for i in 1 2; do echo \"$export\" | nft -f -; done; ip link set lo up; \
                      for a in 192.0.2.8 203.0.113.5 198.51.100.1; do ip addr add $a/32 dev lo; done; \
                      for a in 192.0.2.8 203.0.113.5 198.51.100.1; do \
                        ping -q -c1 -W1 -I $a 127.0.0.1 >/dev/null && echo $a passes || echo $a is dropped; done; \
                      nft list chain inet banned input";
        let shown = in_namespace(script, &export);
        assert!(shown.starts_with("192.0.2.8 is dropped\n203.0.113.5 passes\n198.51.100.1 is dropped\n"), "{shown}");
        assert!(shown.contains(" tcp dport { 80, 443 } drop"), "{shown}");
    }
}

mod replays {
    //! `banctl replay`: who would have been banned. The daemon counts with the same code.
    use super::*;

    /// Who is banned by a log under a configuration of one jail, and for what.
    fn banned(jail: &str, log: &[String]) -> Vec<(String, String)> {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let filters = concat!(env!("CARGO_MANIFEST_DIR"), "/filters");
        fs::write(path("b.toml"), format!("[daemon]\nfilters = ['{filters}']\n[jail.j]\n{jail}\n")).unwrap();
        fs::write(path("log"), log.concat()).unwrap();
        let run = run(&["--config", &path("b.toml"), "--json", "replay", &path("log")]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
        let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
        let rows = run.json();
        let bans = rows[..rows.len() - 1].iter().map(|row| (text(row, "prefix"), text(row, "reason")));
        let mut bans: Vec<_> = bans.collect();
        bans.sort();
        bans
    }

    fn sshd(second: usize, message: &str) -> String {
        format!("2026-11-20T01:{:02}:{:02}Z web sshd[411]: {message} port 4711 ssh2\n", second / 60, second % 60)
    }

    fn failed(second: usize, user: &str, address: &str) -> String {
        sshd(second, &format!("Failed password for {user} from {address}"))
    }

    fn packet(second: usize, address: &str, port: usize) -> String {
        format!(
            "2026-11-20T01:{:02}:{:02}Z web kernel: MY-DROP:IN=eth0 OUT= SRC={address} DST=198.51.100.1 LEN=60 \
             PROTO=TCP SPT=41812 DPT={port} WINDOW=64240 RES=0x00 SYN URGP=0\n",
            second / 60,
            second % 60
        )
    }

    const PLAIN: &str = "filter = 'sshd'\nwindow = { hitcount = 3, seconds = 600 }";

    #[test]
    fn who_logs_in_is_forgiven_and_who_tries_others_with_an_account_of_his_own_is_not() {
        let mut log = Vec::new();
        for round in 0..5 {
            let second = round * 10;
            log.push(failed(second, "bob", "192.0.2.1"));
            log.push(failed(second, "bob", "192.0.2.1"));
            log.push(sshd(second + 1, "Accepted password for bob from 192.0.2.1"));
            log.push(failed(second, "root", "192.0.2.66"));
            log.push(sshd(second + 1, "Accepted password for mallory from 192.0.2.66"));
        }
        let reason = "3 hits in 20s; with mercy, as people log in from there too";
        assert_eq!(banned(PLAIN, &log), [("192.0.2.66/32".to_owned(), reason.to_owned())]);
    }

    #[test]
    fn a_name_that_looks_like_the_end_of_a_login_forgives_nobody_else() {
        let mut log = Vec::new();
        for second in 0..3 {
            log.push(failed(second, "root", "192.0.2.66"));
            for name in ["root from 192.0.2.66 port 4711 ssh2", "root from 192.0.2.66 port 1 ssh2: RSA SHA256:a"] {
                log.push(sshd(second, &format!("Accepted password for {name} from 203.0.113.5")));
                log.push(failed(second, &format!("x ssh2 Accepted password for {name}"), "203.0.113.6"));
            }
        }
        let who: Vec<String> = banned(PLAIN, &log).into_iter().map(|(prefix, _)| prefix).collect();
        assert_eq!(who, ["192.0.2.66/32", "203.0.113.6/32"]);
    }

    #[test]
    fn a_port_scan_is_told_from_a_client_that_knocks_at_one_port() {
        let jail = "filter = 'port-scan'\nsource = 'kernel'\nlog_prefix = 'MY-DROP:'\n\
                    window = { hitcount = 20, seconds = 60, distinct = 'ports' }";
        let scan = (0..25).map(|n| packet(n, "192.0.2.66", 1000 + n));
        let knock = (0..50).map(|n| packet(n, "192.0.2.1", 443 + n % 3));
        let log: Vec<String> = scan.chain(knock).collect();
        assert_eq!(banned(jail, &log), [("192.0.2.66/32".to_owned(), "20 ports in 19s".to_owned())]);
    }

    #[test]
    fn an_account_that_many_try_bans_all_of_them_but_where_its_owner_logs_in() {
        let jail = "filter = 'sshd'\nwindow = { hitcount = 4, seconds = 600, distinct = 'sources' }";
        let owner = "198.51.100.7";
        let mut log = vec![failed(0, "bob", owner), sshd(1, &format!("Accepted password for bob from {owner}"))];
        log.extend((1..=3).map(|n| failed(1 + n, "bob", &format!("192.0.2.{n}"))));
        log.extend((5..=9).map(|n| failed(n, &format!("user{n}"), "192.0.2.77")));
        log.push(failed(10, "bob", owner));
        assert_eq!(banned(jail, &log), []);
        log.push(failed(11, "bob", "192.0.2.4"));
        let all = (1..=4).map(|n| (format!("192.0.2.{n}/32"), "4 sources in 9s".to_owned()));
        assert_eq!(banned(jail, &log), all.collect::<Vec<_>>());
    }
}

mod words {
    //! Help, completions and the manual say the same.
    use super::*;

    const SUBCOMMANDS: [&str; 21] = [
        "list",
        "ban",
        "unban",
        "allow",
        "history",
        "why",
        "status",
        "metrics",
        "import",
        "convert",
        "export",
        "check",
        "filters",
        "scan",
        "replay",
        "rules",
        "reload",
        "events",
        "doctor",
        "selftest",
        "completions",
    ];

    #[test]
    fn the_manual_names_every_subcommand_and_option() {
        let manual = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/man/banctl.8")).unwrap();
        // In the source of a page a hyphen that is one is written `\-`.
        let manual = manual.replace("\\-", "-");
        let overview = run(&["--help"]);
        assert_eq!(overview.code, Some(0));
        for subcommand in SUBCOMMANDS {
            assert!(overview.stdout.contains(&format!("\n  {subcommand} ")), "{subcommand}: {}", overview.stdout);
            assert!(manual.contains(&format!("\n.SS {subcommand}\n")), "{subcommand} has no section");
            let help = run(&[subcommand, "--help"]).stdout;
            let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
            for option in words.filter(|word| word.starts_with("--") && word.len() > 2) {
                assert!(manual.contains(option), "{subcommand} {option} is not in banctl.8");
            }
        }
    }

    #[test]
    fn the_overview_lists_no_subcommand_that_the_tests_do_not_know() {
        let overview = run(&["--help"]).stdout;
        let commands = overview.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
        let listed: Vec<&str> = commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
        let (listed, help) = listed.split_at(SUBCOMMANDS.len());
        assert_eq!(listed, SUBCOMMANDS);
        assert_eq!(help, ["help"]);
    }

    #[test]
    fn the_manual_pages_render_without_a_complaint() {
        for page in ["banward.8", "banctl.8", "banward.toml.5", "banward-filter.5"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man").join(page);
            let mut child = Command::new("groff")
                .args(["-man", "-ww", "-Tutf8", "-P-cbou"])
                .arg(&path)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take();
            let run = Run::of(child.wait_with_output().unwrap());
            assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{page}");
            assert!(run.stdout.contains("NAME"), "{page}");
        }
    }

    #[test]
    fn each_shell_gets_completions_that_know_the_subcommands() {
        for shell in ["bash", "zsh", "fish"] {
            let run = run(&["completions", shell]);
            assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
            assert!(SUBCOMMANDS.iter().all(|subcommand| run.stdout.contains(subcommand)), "{shell}");
        }
    }

    #[test]
    fn the_version_is_that_of_the_package() {
        assert_eq!(run(&["--version"]).stdout, concat!("banctl ", env!("CARGO_PKG_VERSION"), "\n"));
    }
}

#[test]
fn what_is_expected_of_the_rules_is_told_as_json_too() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("banward.toml");
    fs::write(&config, "[host]\nexpect = ['accept in tcp 22', 'accept in ping', 'drop in tcp 80 flags NONE']\n")
        .unwrap();
    let config = config.display().to_string();
    let run = Run::of(banctl(&["--config", &config, "--json", "rules", "check"]).output().unwrap());
    assert_eq!(run.code, Some(1), "{run:?}");
    let rows: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows: Vec<&Value> = rows.iter().filter(|row| row.get("expect").is_some()).collect();
    assert_eq!(rows[0]["holds"], json!(true));
    assert_eq!((&rows[1]["holds"], &rows[1]["verdict"]), (&json!(false), &json!("drop")));
    assert_eq!(rows[2]["logged"], json!(["NULL-DROP: "]));
    assert!(run.stderr.contains("1 fail"), "{run:?}");
}

#[test]
fn mistakes_of_a_script_are_told_with_their_place_and_as_json_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fw.sh");
    fs::write(&path, "ip6tables -F\niptables -F\niptables -A INPUT -p \x1b[31mtpc -j ACCEPT\n").unwrap();
    let path = path.display().to_string();
    let run = Run::of(banctl(&["rules", "lint", &path]).output().unwrap());
    assert_eq!(run.code, Some(1));
    assert!(run.stdout.starts_with(&format!("{path}:3:22: there is no protocol")), "{run:?}");
    assert!(!run.stdout.contains('\x1b'), "{run:?}");
    let run = Run::of(banctl(&["rules", "lint", "--json", &path]).output().unwrap());
    let row: Value = serde_json::from_str(run.stdout.trim_end()).unwrap();
    assert_eq!((&row["line"], &row["code"], &row["severity"]), (&json!(3), &json!("protocol"), &json!("error")));
    let good = Run::of(banctl(&["rules", "lint", "/dev/null"]).output().unwrap());
    assert_eq!((good.code, good.stdout.as_str()), (Some(0), ""));
}

#[test]
fn without_a_host_section_there_are_no_rules_to_make() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("banward.toml");
    fs::write(&config, "").unwrap();
    let run = Run::of(banctl(&["--config", &config.display().to_string(), "rules", "show"]).output().unwrap());
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("has no [host] section"), "{run:?}");
    fs::write(&config, "[host]\nincoming = 'block'\n").unwrap();
    let run = Run::of(banctl(&["--config", &config.display().to_string(), "rules", "apply"]).output().unwrap());
    assert_eq!(run.code, Some(78), "{run:?}");
}
