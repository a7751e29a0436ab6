//! The real `banctl` against a daemon that answers what the test wants: what it prints where, and how it exits.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

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

    fn status(health: &str, troubles: &[&str]) -> Value {
        json!({
            "health": health, "version": "0.1.0", "pid": 411, "started": at(-3629),
            "config": "/etc/banward/banward.toml", "backend": "iptables",
            "backend_reason": "ipset and iptables (nf_tables) work",
            "bans": 12, "listed": 21_000, "installed": 21_012,
            "jails": [
                {"jail": "sshd", "filter": "sshd", "hits": 1311, "offences": 32, "bans": 31, "banned_now": 10,
                 "ignored": 1, "tracked": 41, "evicted": 0},
                {"jail": "ping-drop", "filter": "ping-drop", "hits": 0, "offences": 0, "bans": 2, "banned_now": 2,
                 "ignored": 0, "tracked": 0, "evicted": 0},
            ],
            "sources": [
                {"log": "/var/log/auth.log", "lines": 120_034, "bytes": 11_000_000, "hits": 1311, "lost": 0, "cut": 3,
                 "latest": at(-2), "live": true, "trouble": null},
                {"log": "/dev/kmsg", "lines": 0, "bytes": 0, "hits": 0, "lost": 0, "cut": 0, "latest": null, "live": false,
                 "trouble": "no permission"},
            ],
            "lists": [{"list": "drop", "entries": 21_000, "until": null}],
            "troubles": troubles,
        })
    }

    fn answering(status: &Value) -> Daemon {
        let mut reply = status.clone();
        reply["reply"] = json!("status");
        Daemon::answering([format!("{reply}\n")])
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
    fn a_dry_run_asks_no_daemon_and_says_what_would_be_refused() {
        let folder = tempfile::tempdir().unwrap();
        let list = file(folder.path(), "drop.txt", "192.0.2.1\n127.0.0.1\n0.0.0.0/0\n198.51.100.9\n");
        let config = file(folder.path(), "b.toml", "[allow]\nnetworks = [\"127.0.0.0/8\", \"198.51.100.0/24\"]\n");
        let run = run(&["import", "--dry-run", "--config", &config, &list]);
        assert_eq!(run.code, Some(0));
        assert!(run.stderr.contains("would have 1 entries, 2 refused, 1 bad lines"), "{}", run.stderr);
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

mod words {
    //! Help, completions and the manual say the same.
    use super::*;

    const SUBCOMMANDS: [&str; 14] = [
        "list",
        "ban",
        "unban",
        "history",
        "status",
        "import",
        "export",
        "check",
        "filters",
        "scan",
        "replay",
        "reload",
        "events",
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
        assert_eq!(listed[..14], SUBCOMMANDS);
        assert_eq!(listed[14..], ["help"]);
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
