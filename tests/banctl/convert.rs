//! `banctl convert` on a configuration in the format of fail2ban, of services that do not exist (`tests/fail2ban`).

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::{Run, banctl};

/// A folder to convert into, and a configuration that knows our filters.
struct Desk(TempDir);

impl Desk {
    fn new() -> Desk {
        let desk = Desk(tempfile::tempdir().unwrap());
        let filters = Path::new(env!("CARGO_MANIFEST_DIR")).join("filters");
        fs::write(desk.path("own.toml"), format!("[daemon]\nfilters = [\"{}\"]\n", filters.display())).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let mut command = banctl(arguments);
        Run::of(command.current_dir(self.0.path()).args(["--config", "own.toml"]).output().unwrap())
    }

    fn convert(&self, more: &[&str]) -> Run {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fail2ban").display().to_string();
        self.run(&[&["convert", &source, "--out", "out"], more].concat())
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The lines that a converted filter takes for hits, as line number and address.
    fn hits(&self, filter: &str, log: &str) -> Vec<(u64, String)> {
        fs::write(self.path("log"), log).unwrap();
        let scan = self.run(&["scan", "--filters", "out/filters", "--filter", filter, "--json", "log"]);
        assert_eq!(scan.code, Some(0), "{scan:?}");
        let rows = scan.stdout.lines().map(|row| serde_json::from_str::<Value>(row).unwrap());
        // Host names are found, too, and accuse nobody.
        rows.filter_map(|row| Some((row["line"].as_u64()?, row["addr"].as_str()?.to_owned()))).collect()
    }
}

#[test]
fn what_was_converted_loads_and_every_key_and_pattern_is_reported() {
    let desk = Desk::new();
    let run = desk.convert(&["--json"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let check = desk.run(&["check", "out/banward.toml"]);
    assert!(check.stdout.starts_with("banward.toml: 5 jails, ") && check.code == Some(0), "{check:?}");

    let rows: Vec<Value> = run.stdout.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let told = |verdict: &str, jail: &str, key: &str, text: &str| {
        rows.iter().any(|row| {
            row["verdict"] == verdict
                && row["jail"] == jail
                && row["key"] == key
                && row["text"].as_str().unwrap().contains(text)
        })
    };
    for (verdict, jail, key, text) in [
        ("taken_over", "sshd", "filter", "filter \"sshd\" of Banward"),
        ("taken_over", "all jails", "banaction", "backend = \"iptables\""),
        ("taken_over", "gatekeeper", "failregex", "4 patterns in filters/gatekeeper.toml"),
        ("taken_over", "drawbridge", "backend", "drawbridge.service"),
        ("adapted", "all jails", "bantime.rndtime", "left out"),
        ("adapted", "turnstile", "ignoreip", "203.0.113.7 is allowed for all jails"),
        ("adapted", "gatekeeper", "filter", "failregex 1: possessive quantifiers"),
        ("needs_you", "all jails", "ignoreip", "office.example.org"),
        ("needs_you", "gatekeeper", "failregex", "the back-reference (?P=quote)"),
        ("needs_you", "gatekeeper", "failregex", "attacker's text can choose the address"),
        ("needs_you", "gatekeeper", "failregex", "the look-ahead (?!test)"),
        ("adapted", "doorbell", "filter", "a line before it, of the same process, names the address"),
        ("needs_you", "gatekeeper", "failregex", "it names no address"),
        ("needs_you", "turnstile", "action", "letter is left out"),
        ("needs_you", "drawbridge", "enabled", "switched off"),
        ("needs_you", "moat", "ignorecommand", "no program is asked"),
        ("needs_you", "moat", "failregex", "datepattern"),
    ] {
        assert!(told(verdict, jail, key, text), "{verdict} {jail} {key} {text}\n{}", run.stdout);
    }
}

#[test]
fn jails_keep_their_settings_in_the_order_in_which_fail2ban_reads_them() {
    let desk = Desk::new();
    desk.convert(&[]);
    let main = desk.read("out/banward.toml");
    for text in [
        "backend = \"iptables\"\n",
        "networks = [\"127.0.0.0/8\", \"::1/128\", \"198.51.100.0/24\", \"203.0.113.7/32\"]\n",
        "window = { hitcount = 5, seconds = 600 }\nban = { time = \"10m\", factor = 2, max = \"7d\", forget = \"30d\" }\n",
        "[jail.sshd]\nfilter = \"sshd\"\nmode = \"aggressive\"\nsource = { files = [\"/var/log/secure\"] }\n\
         ports = [\"22/tcp\"]\nwindow = { hitcount = 4, seconds = 600 }\n",
        "ports = [\"4711/tcp\", \"443/tcp\"]\nwindow = { hitcount = 3, seconds = 97200 }\nban = { time = \"forever\"",
        "enabled = false\nfilter = \"drawbridge\"\n",
        "units = [\"drawbridge.service\"], identifiers = [\"bridged\"]",
        "# [jail.portcullis]\n",
    ] {
        assert!(main.contains(text), "{text}\n---\n{main}");
    }
}

#[test]
fn converted_filters_accuse_whom_the_old_ones_did_and_nobody_else() {
    let desk = Desk::new();
    desk.convert(&[]);
    let log = "2026-11-21 01:30:00 WARN gate=7 refused [bob] from host 192.0.2.1\n\
               2026-11-21 01:30:00 WARN gate=7 refused [x from 198.51.100.9] from 2001:db8::1 again\n\
               2026-11-21 01:30:00 WARN gate=7 refused [bob] from 192.0.2.10.example.org\n\
               2026-11-21 01:30:00 ALARM stolen key at 192.0.2.3:4711\n\
               2026-11-21 01:30:00 TAILGATING by 192.0.2.4\n\
               2026-11-21 01:30:00 NOTE test by 192.0.2.5\n";
    let found = desk.hits("gatekeeper", log);
    let wanted = [(1, "192.0.2.1"), (2, "2001:db8::1"), (4, "192.0.2.3"), (5, "192.0.2.4")];
    assert_eq!(found, wanted.map(|(line, address)| (line, address.to_owned())));

    let log = "Nov 21 01:30:00 web doorbelld[7]: error: wrong code for unknown x from 198.51.100.9 from 192.0.2.1 port 22\n\
               Nov 21 01:30:00 web doorbell-session[7]: rang and ran: 192.0.2.2 port 1\n\
               Nov 21 01:30:00 web other[7]: rang and ran: 192.0.2.3 port 1\n\
               Nov 21 01:30:00 web doorbelld[8]: visitor 192.0.2.4 port 1\n\
               Nov 21 01:30:00 web doorbelld[9]: gave up waiting\n\
               Nov 21 01:30:00 web doorbelld[8]: error: gave up waiting\n";
    let wanted = [(1, "192.0.2.1"), (2, "192.0.2.2"), (6, "192.0.2.4")];
    assert_eq!(desk.hits("doorbell", log), wanted.map(|(line, address)| (line, address.to_owned())));

    let log = "192.0.2.1 - - [21/Nov/2026:01:30:00 +0000] \"GET /turnstile/a HTTP/1.1\" 403 12\n\
               192.0.2.2 - - [21/Nov/2026:01:30:00 +0000] \"GET /turnstile/a HTTP/1.1\" 200 12\n";
    assert_eq!(desk.hits("turnstile", log), [(1, "192.0.2.1".to_owned())]);
}

#[test]
fn nothing_is_overwritten_unless_that_is_wanted() {
    let desk = Desk::new();
    fs::create_dir(desk.path("out")).unwrap();
    fs::write(desk.path("out/banward.toml"), "# mine\n").unwrap();
    let run = desk.convert(&[]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("is there already, so nothing was written"), "{run:?}");
    assert_eq!(desk.read("out/banward.toml"), "# mine\n");
    assert!(!desk.path("out/filters").exists());
    assert_eq!(desk.convert(&["--force"]).code, Some(0));
    assert!(desk.read("out/banward.toml").contains("[jail.gatekeeper]"));
}

#[test]
fn the_filter_of_a_known_service_is_converted_on_demand_beside_ours() {
    let desk = Desk::new();
    fs::create_dir_all(desk.path("etc/filter.d")).unwrap();
    fs::write(desk.path("etc/jail.local"), "[sshd]\nenabled = yes\nlogpath = /var/log/x.log\n").unwrap();
    fs::write(desk.path("etc/filter.d/sshd.conf"), "[Definition]\nfailregex = ^no door for <HOST>$\n").unwrap();
    assert_eq!(desk.run(&["convert", "etc", "--out", "out", "--keep-filters"]).code, Some(0));
    assert!(desk.read("out/banward.toml").contains("filter = \"sshd-fail2ban\""));
    assert_eq!(desk.hits("sshd-fail2ban", "no door for 192.0.2.1\n"), [(1, "192.0.2.1".to_owned())]);
}

#[test]
fn a_folder_that_is_none_of_fail2ban_is_refused() {
    let desk = Desk::new();
    let run = desk.run(&["convert", "."]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    assert!(run.stderr.contains(". has no jail.conf and no jail.local"), "{run:?}");
}
