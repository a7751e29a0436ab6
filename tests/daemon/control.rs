//! The control socket: what a daemon answers, and clients that do not behave.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use super::support::eventually;
use super::support::guard::{Guard, SECOND};
use super::support::lab::Lab;
use super::support::programs;
use super::{backend, fail, guarded, jail, passes};

fn keys(value: &serde_json::Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[track_caller]
fn has(value: &serde_json::Value, wanted: &[&str]) {
    for key in wanted {
        assert!(keys(value).contains(key), "no '{key}' in {value}");
    }
}

#[test]
fn list_status_and_events_have_their_shapes() {
    let lab = Lab::new();
    let guard = guarded(&lab, &(backend("iptables") + &jail("sshd", "")));
    let mut events = Command::new(env!("CARGO_BIN_EXE_banctl"))
        .arg("--config")
        .arg(guard.path("banward.toml"))
        .args(["events", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(events.stdout.take().unwrap()).lines();
    // Who follows hears what happens from then on: something happens until it is heard.
    let first = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| told.next().unwrap().unwrap());
        while !waiting.is_finished() {
            guard.ctl(&["ban", "192.0.2.1"]);
        }
        waiting.join().unwrap()
    });
    assert!(first.contains("\"banned\"") || first.contains("\"asked\""), "{first}");
    let prefix = format!("{}/32", lab.attacker.v4);
    let mut told = told.map(Result::unwrap);
    let audit = format!("by uid=0 pid={}: reload", guard.ctl_pid(&["reload"]));
    assert!(told.any(|line| line.contains("\"asked\"") && line.contains(&audit)), "{audit}");
    fail(&guard, 5, &lab.attacker.v4.to_string());
    let event = told.find(|line| line.contains(&prefix)).unwrap();
    let event: serde_json::Value = serde_json::from_str(&event).unwrap();
    has(&event, &["time", "event", "prefix", "jail", "until"]);
    assert_eq!((&event["event"], &event["jail"]), (&"banned".into(), &"sshd".into()));
    events.kill().unwrap();
    events.wait().unwrap();

    let ban = guard.bans().into_iter().find(|ban| ban["prefix"] == prefix).unwrap();
    has(&ban, &["prefix", "jail", "since", "until", "reason", "count", "evidence"]);
    assert_eq!((&ban["evidence"], &ban["count"]), (&"proven".into(), &1.into()));
    assert!(ban["until"].as_str().unwrap().ends_with('Z'), "{ban}");
    assert!(guard.ctl(&["list", "--jail", "manual", "--json"]).lines().count() == 1);
    let status = guard.status();
    has(&status, &["health", "pid", "backend", "bans", "installed", "jails", "sources", "troubles"]);
    assert_eq!((&status["health"], &status["bans"], &status["installed"]), (&"ok".into(), &2.into(), &2.into()));
    has(&status["jails"][0], &["jail", "filter", "hits", "offences", "bans"]);
    has(&status["sources"][0], &["log", "lines", "hits", "lost", "cut", "latest", "live"]);
    assert_eq!(status["sources"][0]["hits"], 5);
}

#[test]
fn clients_that_do_not_behave_disturb_nobody() {
    let lab = Lab::new();
    let guard = guarded(&lab, &(backend("iptables") + &jail("sshd", "")));
    let connect = || UnixStream::connect(guard.path("control.sock")).unwrap();
    let silent: Vec<UnixStream> = (0..20).map(|_| connect()).collect();
    let answer = |request: &[u8]| {
        let mut stream = connect();
        stream.set_read_timeout(Some(5 * SECOND)).unwrap();
        // It may hang up before it has read everything.
        let _refused = stream.write_all(request);
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(answer(b"\x00\xff\x1b[2J garbage\n").contains("not a request"));
    assert!(answer(b"{\"version\":99}\n").contains("version"));
    assert!(answer(b"{\"version\":1,\"command\":\"explode\"}\n").contains("refused"));
    // The refusal may be lost with the connection, as more is sent than is read.
    answer(&vec![b'x'; 2 << 20]);
    fail(&guard, 5, &lab.attacker.v4.to_string());
    eventually("guarding goes on", || !passes(&lab.attacker));
    std::thread::scope(|scope| {
        for number in 0..100 {
            let guard = &guard;
            scope.spawn(move || match number % 3 {
                0 => drop(guard.ctl(&["ban", &format!("192.0.2.{number}")])),
                1 => drop(guard.bans()),
                _ => drop(guard.status()),
            });
        }
    });
    assert_eq!(guard.bans().len(), 35);
    drop(silent);
    assert_eq!(guard.status()["health"], "ok");
}

#[test]
fn a_client_whose_place_is_needed_is_told_so() {
    let lab = Lab::new();
    let guard = guarded(&lab, &backend("none"));
    let mut silent: Vec<UnixStream> =
        (0..70).map(|_| UnixStream::connect(guard.path("control.sock")).unwrap()).collect();
    let mut said = String::new();
    silent[0].read_to_string(&mut said).unwrap();
    assert_eq!(said, "{\"reply\":\"busy\"}\n");
    assert_eq!(guard.status()["health"], "ok");
}

#[test]
fn only_root_may_ask() {
    let lab = Lab::new();
    let guard = guarded(&lab, &backend("none"));
    let mode = |name: &str| std::fs::metadata(guard.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("control.sock"), mode("state")), (0o600, 0o700));
    // Even where somebody opened the way to the socket.
    let open = |name: &str, mode: u32| {
        std::fs::set_permissions(guard.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open("", 0o755);
    let as_nobody = || {
        programs::copy(env!("CARGO_BIN_EXE_banctl"), &guard.path("banctl"));
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(guard.path("banctl"))
            .arg("--socket")
            .arg(guard.path("control.sock"))
            .args(["ban", "192.0.2.1"])
            .output()
            .unwrap();
        assert!(!output.status.success());
        super::said(&output)
    };
    assert!(as_nobody().contains("Run banctl as root"));
    open("control.sock", 0o666);
    let refused = as_nobody();
    assert!(refused.contains("only root may talk to this daemon"), "{refused}");
    assert!(guard.bans().is_empty());
}

#[test]
fn what_a_person_asked_for_survives_a_kill_the_moment_it_is_acknowledged() {
    let lab = Lab::new();
    let mut guard: Guard = guarded(&lab, &backend("iptables"));
    for round in 0..2 {
        let address = format!("192.0.2.{round}");
        guard.ctl(&["ban", &address]);
        guard.end("KILL");
        assert!(lab.server.sh("ipset save").contains(&address), "it was in the kernel");
        guard.start(&lab.server);
        assert!(guard.is_banned(&format!("{address}/32")));
        guard.ctl(&["unban", &address]);
        guard.end("KILL");
        guard.start(&lab.server);
        assert!(!guard.is_banned(&format!("{address}/32")));
    }
}
