//! Configurations that are wrong.

use std::fs;
use std::process::{Command, Output};

use super::support::eventually;
use super::support::guard::Guard;
use super::support::lab::Lab;
use super::{backend, guarded, jail, said};

/// One mistake of each kind, in the main file, beside it, and in a filter.
fn full_of_mistakes() -> Guard {
    let guard = Guard::new(
        "[daemon]\nmod = \"observe\"\nfilters = [\"DIR/filters\"]\n\
         [allow]\nnetworks = [\"192.0.2.0/33\"]\n\
         [defaults]\nban = { time = \"10 parsecs\" }\n\
         [jail.web]\nfilter = \"web\"\nsource = { files = [\"DIR/web.log\"] }\n",
    );
    fs::create_dir_all(guard.path("filters")).unwrap();
    fs::create_dir_all(guard.path("conf.d/directory.toml")).unwrap();
    let filter = "description = \"Web\"\nformat = \"plain\"\nevidence = \"proven\"\n\n\
                  [[pattern]]\nname = \"bad\"\nregex = '^(<ADDR> failed$'\n\
                  [[pattern.hit]]\nline = \"192.0.2.1 failed\"\naddr = \"192.0.2.1\"\n";
    fs::write(guard.path("filters/web.toml"), filter).unwrap();
    guard
}

fn banward(guard: &Guard, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_banward"));
    command.arg("--config").arg(guard.path("banward.toml")).args(arguments).output().unwrap()
}

#[track_caller]
fn shows_every_mistake(guard: &Guard, output: &Output) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(78), "{said}");
    let main = guard.path("banward.toml");
    let places = [
        format!("{}:2:1: ", main.display()),
        format!("{}:5:13: ", main.display()),
        format!("{}:7:16: ", main.display()),
        format!("{}:7:", guard.path("filters/web.toml").display()),
        guard.path("conf.d/directory.toml").display().to_string(),
    ];
    for place in places {
        assert!(said.contains(&place), "{place} is not named:\n{said}");
    }
    for line in ["mod = \"observe\"", "192.0.2.0/33", "10 parsecs", "^(<ADDR> failed$"] {
        assert!(said.contains(line), "{line} is not shown:\n{said}");
    }
    assert!(said.matches(" | ").count() >= 8, "each with its line and a caret:\n{said}");
    assert!(said.matches("^\n").count() >= 4 && said.matches("hint: ").count() >= 3, "{said}");
}

#[test]
fn a_daemon_with_a_wrong_configuration_shows_every_mistake_with_its_place_and_does_not_start() {
    let guard = full_of_mistakes();
    shows_every_mistake(&guard, &banward(&guard, &[]));
    assert!(!guard.path("state").exists(), "nothing was touched");
}

#[test]
fn both_ways_to_check_show_every_mistake() {
    let guard = full_of_mistakes();
    let (by_daemon, by_tool) = (banward(&guard, &["--check"]), guard.banctl(&["check"]));
    shows_every_mistake(&guard, &by_daemon);
    shows_every_mistake(&guard, &by_tool);
    assert_eq!(said(&by_daemon), said(&by_tool));
}

#[test]
fn a_configuration_that_is_not_there_is_a_mistake_too() {
    let guard = Guard::new("");
    fs::remove_file(guard.path("banward.toml")).unwrap();
    for output in [banward(&guard, &[]), banward(&guard, &["--check"]), guard.banctl(&["check"])] {
        assert_eq!(output.status.code(), Some(78), "{}", said(&output));
        assert!(said(&output).contains("banward.toml"));
    }
}

#[test]
fn a_mistake_in_a_filter_that_nobody_uses_leaves_the_machine_guarded() {
    let lab = Lab::new();
    let config = "[daemon]\nstate_dir = \"DIR/state\"\nsocket = \"DIR/control.sock\"\n\
                  filters = [\"DIR/filters\", \"SHIPPED\"]\n[blocklist]\nwrite = \"DIR/ip.blocked\"\nread = []\n";
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/filters");
    let guard = full_of_mistakes();
    let filter = fs::read(guard.path("filters/web.toml")).unwrap();
    drop(guard);
    let mut guard = Guard::new(&(config.replace("SHIPPED", shipped) + &backend("none") + &jail("sshd", "")));
    fs::create_dir(guard.path("filters")).unwrap();
    fs::write(guard.path("filters/web.toml"), filter).unwrap();
    guard.start(&lab.server);
    let checked = guard.banctl(&["check"]);
    assert_eq!(checked.status.code(), Some(78));
    assert!(said(&checked).contains("web.toml:7:"), "a check names it: {}", said(&checked));
}

#[test]
fn a_wrong_configuration_at_a_reload_changes_nothing_and_is_shown() {
    let lab = Lab::new();
    let config = backend("iptables") + &jail("sshd", "");
    let guard = guarded(&lab, &config);
    guard.ctl(&["ban", "192.0.2.1"]);
    super::fail(&guard, 4, &lab.attacker.v4.to_string());
    guard.await_lines(4);
    guard.configure(&(config.clone() + "windows = { hitcount = 1, seconds = 60 }\n"));
    let refused = guard.banctl(&["reload"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("the old configuration stays in force"), "{}", said(&refused));
    assert!(said(&refused).contains("banward.toml:") && said(&refused).contains('^'), "{}", said(&refused));
    guard.configure(&(config.clone() + "this is no TOML\n"));
    guard.signal("HUP");
    guard.await_log("this is no TOML");
    guard.await_log("the old configuration stays in force");
    guard.configure(&config);
    assert!(guard.is_banned("192.0.2.1/32") && super::passes(&lab.attacker));
    super::fail(&guard, 1, &lab.attacker.v4.to_string());
    guard.await_ban(&format!("{}/32", lab.attacker.v4));
    eventually("counts and guarding go on", || !super::passes(&lab.attacker));
}
