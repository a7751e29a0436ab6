//! Rules are put into the kernel on trial: they go again unless somebody says that they stay, whatever becomes of the
//! one who began.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::time::Duration;

use crate::probe::{FORMATS, Probe, said};
use crate::support::eventually;
use crate::support::guard::Guard;

/// Rules that let in `open` and nothing else.
fn only(open: &str) -> String {
    format!("ssh = {{ port = {open} }}")
}

fn opens(probe: &Probe, port: u16) -> bool {
    let attacker = &probe.lab.attacker;
    attacker.connects(attacker.server(false), port)
}

/// A server that listens on two ports.
fn listening() -> Probe {
    let probe = Probe::new();
    for port in [22, 2222] {
        probe.lab.server.listen(port);
    }
    probe
}

#[test]
fn without_a_confirmation_the_rules_are_what_they_were() {
    for format in FORMATS {
        let probe = listening();
        let saved = || probe.lab.server.sh("iptables-save -t filter | grep -v '^#'; nft list tables | grep host || :");
        probe.apply(format, &only("22"));
        let before = saved();
        probe.configure(&only("2222"));
        probe.ctl(&["rules", "apply", "--format", format, "--confirm", "5"]);
        assert!(opens(&probe, 2222) && !opens(&probe, 22), "{format}: on trial");
        eventually("the rules go", || opens(&probe, 22));
        assert!(!opens(&probe, 2222), "{format}: undone");
        assert_eq!(saved(), before, "{format}");
        probe.ctl(&["rules", "remove"]);
        assert!(opens(&probe, 22) && opens(&probe, 2222), "{format}: nothing is left");
        let late = probe.banctl(&["rules", "confirm"]);
        assert_eq!(late.status.code(), Some(1), "{}", said(&late));
    }
}

#[test]
fn confirmed_rules_stay() {
    let probe = listening();
    probe.configure(&only("2222"));
    let applied = probe.ctl(&["rules", "apply", "--confirm", "5", "--json"]);
    assert!(applied.contains("{\"result\":\"done\",\"message\":\"the rules are in the kernel, on trial"), "{applied}");
    let second = probe.banctl(&["rules", "apply", "--confirm", "5"]);
    assert!(said(&second).contains("on trial"), "{}", said(&second));
    probe.ctl(&["rules", "confirm"]);
    std::thread::sleep(Duration::from_secs(6));
    assert!(opens(&probe, 2222) && !opens(&probe, 22));
    assert!(probe.ctl(&["rules", "apply"]).contains("already"), "a second time there is nothing to do");
}

#[test]
fn the_rules_go_when_the_session_dies() {
    let probe = listening();
    probe.configure(&only("2222"));
    let config = probe.dir.path().join("banward.toml");
    let mut command = probe.lab.server.command("sh");
    // A shell that waits, with the rules on trial below it: all of it is hung up on.
    let line = format!(
        "{} --config {} rules apply --confirm 5 </dev/null; sleep 60",
        env!("CARGO_BIN_EXE_banctl"),
        config.display()
    );
    command.args(["-c", &line]).stdin(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut shell = command.spawn().unwrap();
    eventually("the rules are there", || !opens(&probe, 22));
    for signal in ["HUP", "KILL"] {
        crate::support::lab::sh(&format!("kill -{signal} -- -{} || :", shell.id()));
    }
    shell.wait().unwrap();
    eventually("the rules go", || opens(&probe, 22));
}

#[test]
fn a_watcher_that_is_ended_puts_back_what_was_there() {
    let probe = listening();
    probe.configure(&only("2222"));
    probe.ctl(&["rules", "apply", "--confirm", "600"]);
    let folder = probe.dir.path().join("state");
    let watcher = crate::support::lab::sh(&format!("pgrep -f 'rules watch .*{}'", folder.display()));
    for pid in watcher.split_whitespace() {
        crate::support::lab::sh(&format!("kill -TERM {pid} || :"));
    }
    eventually("the rules go", || opens(&probe, 22));
}

#[test]
fn rules_that_would_cut_off_the_caller_are_refused() {
    let probe = listening();
    let run = |section: &str, connection: &str| {
        probe.configure(section);
        let config = probe.dir.path().join("banward.toml");
        let mut command = probe.lab.server.command(env!("CARGO_BIN_EXE_banctl"));
        command.arg("--config").arg(config).args(["rules", "apply", "--confirm", "5"]);
        command.env("SSH_CONNECTION", probe.named(connection)).stdin(Stdio::null()).output().unwrap()
    };
    let session = "ATT4 40022 SRV-ATT4 22";
    for section in
        ["ssh = false", "ssh = { port = 2222 }", "ssh = { from = [\"VIS4\"] }", "addresses = [\"192.0.2.1\"]"]
    {
        let output = run(section, session);
        assert_eq!(output.status.code(), Some(1), "{section}");
        assert!(said(&output).contains("would be cut off"), "{section}: {}", said(&output));
        assert!(opens(&probe, 22), "{section}");
    }
    let refused = run("expect = [\"accept in tcp 80\"]", session);
    assert!(said(&refused).contains("the verdict is drop"), "{}", said(&refused));
    // Also where `sudo` has taken the variable away: the shell above still has it.
    probe.configure("ssh = false");
    let config = probe.dir.path().join("banward.toml");
    let line = format!(
        "env -u SSH_CONNECTION {} --config {} rules apply; true",
        env!("CARGO_BIN_EXE_banctl"),
        config.display()
    );
    let mut command = probe.lab.server.command("sh");
    let output = command.args(["-c", &line]).env("SSH_CONNECTION", probe.named(session)).output().unwrap();
    assert!(said(&output).contains("would be cut off"), "{}", said(&output));
    // Another network namespace's sessions are not for these rules to cut.
    let elsewhere = run("ssh = false", "198.51.100.9 40022 198.51.100.1 22");
    assert!(elsewhere.status.success(), "{}", said(&elsewhere));
    probe.ctl(&["rules", "confirm"]);
    // Through an interface that is trusted, the same session stays.
    let kept = run("ssh = false\ntrusted = [\"att\"]", session);
    assert!(kept.status.success(), "{}", said(&kept));
}

#[test]
fn a_session_that_the_kernel_does_not_know_yet_lives_on() {
    for format in FORMATS {
        let probe = Probe::new();
        // Nothing tracks connections here so far.
        probe.lab.server.sh("nft delete table inet probe");
        let listener = probe.lab.server.on(|| TcpListener::bind("0.0.0.0:22").unwrap());
        let attacker = &probe.lab.attacker;
        let mut client = attacker.connect(attacker.server(false), 22).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        probe.apply(format, "outgoing = \"drop\"");
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        }
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).expect("the client is heard");
        server.write_all(b"y").unwrap();
        client.read_exact(&mut [0]).expect("the server is heard");
    }
}

#[test]
fn rules_of_others_and_the_bans_survive() {
    for format in FORMATS {
        let probe = listening();
        let server = &probe.lab.server;
        let mut guard = Guard::new("[firewall]\nbackend = \"iptables\"\n");
        server.sh("iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER; iptables -N f2b-sshd");
        server.sh("iptables -A f2b-sshd -s 203.0.113.99 -j DROP; iptables -I INPUT -p tcp --dport 22 -j f2b-sshd");
        server.sh("iptables -A INPUT -s 203.0.113.98 -j DROP; nft add table inet foreign");
        guard.start(server);
        guard.ctl(&["ban", &format!("{}/32", probe.lab.visitor.v4)]);
        let foreign = || server.sh("iptables -S | grep -v BANWARD-HOST; nft list table inet foreign");
        let before = foreign();
        probe.apply(format, "forwarding = \"drop\"");
        assert_eq!(foreign(), before, "{format}");
        assert!(server.sh("iptables -S INPUT 1").contains("-j BANWARD\n"), "{format}: bans come first");
        let visitor = &probe.lab.visitor;
        assert!(opens(&probe, 22) && !visitor.connects(visitor.server(false), 22), "{format}");
        // The daemon finds nothing to mend.
        assert!(!guard.log().contains("again"), "{}", guard.log());
        guard.end("TERM");
        // A flush by somebody else leaves nobody outside, because no policy was changed.
        server.sh("iptables -F INPUT");
        assert_eq!(opens(&probe, 2222), format == "iptables");
    }
}

#[test]
fn saved_rules_come_back() {
    for format in FORMATS {
        let probe = listening();
        let folder = probe.dir.path().display().to_string();
        let server = &probe.lab.server;
        let mut guard = Guard::new("[firewall]\nbackend = \"iptables\"\n");
        guard.start(server);
        guard.ctl(&["ban", "203.0.113.9"]);
        probe.apply(format, &only("2222"));
        probe.ctl(&["rules", "save", "--folder", &folder]);
        guard.end("KILL");
        // A boot: nothing is there, no set either.
        server.sh(
            "iptables -F; iptables -X; ip6tables -F; ip6tables -X; nft delete table inet banward_host 2>/dev/null || :",
        );
        server.sh("ipset destroy");
        assert!(opens(&probe, 22), "{format}");
        probe.ctl(&["rules", "restore", "--folder", &folder]);
        assert!(opens(&probe, 2222) && !opens(&probe, 22), "{format}");
        probe.ctl(&["rules", "diff", "--format", format]);
        // As netfilter-persistent loads it, too: whole.
        if format == "iptables" {
            server.sh(&format!("iptables-restore < {folder}/rules.v4 && ip6tables-restore < {folder}/rules.v6"));
        }
        probe.ctl(&["rules", "diff", "--format", format]);
    }
}

#[test]
fn a_difference_is_told_and_made_good() {
    for format in FORMATS {
        let probe = listening();
        probe.apply(format, &only("2222"));
        probe.lab.server.sh(if format == "nft" {
            "nft insert rule inet banward_host input tcp dport 22 accept"
        } else {
            "iptables -I BANWARD-HOST-IN -p tcp --dport 22 -j ACCEPT"
        });
        let diff = probe.banctl(&["rules", "diff", "--format", format, "--json"]);
        assert_eq!(diff.status.code(), Some(1), "{}", said(&diff));
        let rows: Vec<serde_json::Value> = said(&diff).lines().map(|row| serde_json::from_str(row).unwrap()).collect();
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(rows[0]["is"], "extra");
        probe.apply(format, &only("2222"));
        assert!(!opens(&probe, 22), "{format}");
    }
    // A jump that stands behind a rule of somebody else that decides.
    let probe = listening();
    probe.apply("iptables", &only("2222"));
    probe.lab.server.sh("iptables -I INPUT -p tcp --dport 22 -j ACCEPT");
    let diff = probe.banctl(&["rules", "diff"]);
    assert!(said(&diff).contains("do not stand where they belong"), "{}", said(&diff));
    probe.apply("iptables", &only("2222"));
    assert!(!opens(&probe, 22));
}

#[test]
fn rules_that_the_kernel_refuses_change_nothing() {
    let probe = listening();
    probe.apply("iptables", &only("22"));
    let before = probe.lab.server.sh("iptables-save | grep -v '^#'");
    // A table of this name that iptables cannot work with: IPv4 would succeed, and IPv6 fails.
    probe.lab.server.sh("nft delete table ip6 filter; nft add table ip6 filter");
    probe.lab.server.sh("nft 'add chain ip6 filter INPUT { type filter hook input priority 5; }'");
    probe.configure(&only("2222"));
    let output = probe.banctl(&["rules", "apply", "--format", "iptables", "--confirm", "5"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(probe.lab.server.sh("iptables-save | grep -v '^#'"), before);
    assert!(opens(&probe, 22) && !opens(&probe, 2222));
    assert_eq!(probe.banctl(&["rules", "confirm"]).status.code(), Some(1), "nothing is on trial");
}

#[test]
fn a_shell_script_makes_the_same_rules() {
    let probe = listening();
    probe.configure(&only("2222"));
    let script = probe.ctl(&["rules", "show", "--format", "sh"]);
    let path = probe.dir.path().join("rules.sh");
    std::fs::write(&path, script).unwrap();
    let path = path.display();
    let list = |probe: &Probe| probe.lab.server.sh("iptables -S; ip6tables -S");
    probe.lab.server.sh(&format!("sh {path}"));
    let once = list(&probe);
    probe.lab.server.sh(&format!("sh {path}"));
    assert_eq!(list(&probe), once, "run twice it changes nothing");
    assert!(opens(&probe, 2222) && !opens(&probe, 22));
    probe.ctl(&["rules", "diff", "--format", "iptables"]);
    probe.lab.server.sh(&format!("sh {path} stop"));
    assert!(opens(&probe, 22) && !list(&probe).contains("BANWARD"));
}

/// A real SSH server on the lab's server, on a port that nobody expects, and a client's command line for it.
fn sshd(probe: &Probe) -> (std::process::Child, String) {
    let dir = probe.dir.path().display().to_string();
    let config = format!(
        "Port 2222\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/key.pub\nStrictModes no\nPermitRootLogin yes\n\
         UsePAM no\nPidFile none\n"
    );
    std::fs::write(probe.dir.path().join("sshd.conf"), config).expect("written");
    for name in ["host", "key"] {
        crate::support::lab::sh(&format!("ssh-keygen -qt ed25519 -N '' -f {dir}/{name}"));
    }
    crate::support::lab::sh("mkdir -p /run/sshd");
    let mut server = probe.lab.server.command("/usr/sbin/sshd");
    let child =
        server.args(["-D", "-f", &format!("{dir}/sshd.conf")]).stderr(Stdio::null()).spawn().expect("sshd runs");
    eventually("sshd listens", || opens(probe, 2222));
    let options = "-q -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=5";
    let address = probe.lab.attacker.server(false);
    (child, format!("ssh {options} -i {dir}/key -p 2222 root@{address}"))
}

#[test]
fn a_real_session_is_seen_with_its_port_and_goes_on() {
    let probe = Probe::new();
    let (mut server, ssh) = sshd(&probe);
    let config = probe.dir.path().join("banward.toml").display().to_string();
    let apply = format!("{} --config {config} rules apply --confirm 60 </dev/null 2>&1", env!("CARGO_BIN_EXE_banctl"));
    let attacker = &probe.lab.attacker;

    probe.configure("");
    let refused = attacker.sh(&format!("{ssh} '{apply}' || :"));
    assert!(refused.contains("to port 2222 would be cut off"), "{refused}");
    // From elsewhere, while somebody is logged in.
    let line = format!("{ssh} 'echo in; sleep 20'");
    let mut session = attacker.command("sh").args(["-c", &line]).stdout(Stdio::piped()).spawn().unwrap();
    session.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
    let check = probe.banctl(&["rules", "check"]);
    assert!(said(&check).contains("to port 2222 would be cut off"), "{}", said(&check));
    session.kill().unwrap();
    session.wait().unwrap();

    probe.configure(&only("2222"));
    let applied = attacker.sh(&format!("{ssh} '{apply}; echo still here'"));
    assert!(applied.contains("on trial") && applied.contains("still here"), "{applied}");
    probe.ctl(&["rules", "confirm"]);
    server.kill().unwrap();
    server.wait().unwrap();
}
