mod scope;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::problem::Problems;
use super::{Blocklist, Budget, Config, FilterFacts, Mode, Protect, check};
use crate::filters::Evidence;
use crate::ledger::{Port, Protocol, Scope};
use crate::policy::widen::Widen;
use crate::policy::{Corroborate, PrefixLengths, breaker};
use crate::time::Length;
use crate::{filters, firewall, sources, windows};

const PROVEN: FilterFacts =
    FilterFacts { kernel: false, needs_prefix: false, has_source: true, names_users: true, evidence: Evidence::Proven };
const KERNEL: FilterFacts = FilterFacts {
    kernel: true,
    needs_prefix: false,
    has_source: false,
    names_users: false,
    evidence: Evidence::Forgeable,
};

fn known() -> BTreeMap<String, FilterFacts> {
    let app = FilterFacts { has_source: false, ..PROVEN };
    let netfilter = FilterFacts { needs_prefix: true, ..KERNEL };
    [
        ("sshd", PROVEN),
        ("ping-drop", KERNEL),
        ("syn-flood", KERNEL),
        ("netfilter", netfilter),
        ("port-scan", netfilter),
        ("app", app),
    ]
    .map(|(name, facts)| (name.to_owned(), facts))
    .into()
}

/// What comes of files (the first is the main one) and the problems as a user sees them, without the folder.
fn load(files: &[(&str, &str)]) -> (Option<Config>, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let problems = Problems::default();
    let main = folder.path().join(files.first().map_or("banward.toml", |(name, _)| name));
    let config = Config::load(&main, &problems);
    if let Some(config) = &config {
        check(config, &known(), &problems);
    }
    let shown: Vec<String> = problems.into_sorted().iter().map(ToString::to_string).collect();
    (config, shown.join("\n").replace(&format!("{}/", folder.path().display()), ""))
}

/// The configuration of a file in which nothing is wrong.
fn good(text: &str) -> Config {
    let (config, problems) = load(&[("b.toml", text)]);
    assert_eq!(problems, "");
    config.unwrap()
}

/// The problems of a file, beside a jail that is in order.
fn problems(text: &str) -> String {
    load(&[("b.toml", text), ("conf.d/ok.toml", "[jail.ok]\nfilter = \"sshd\"\n")]).1
}

/// Asserts what a user sees. `expected` is indented as the test is.
#[track_caller]
fn assert_shown(shown: &str, expected: &str) {
    let lines: Vec<&str> = expected.lines().map(|line| line.strip_prefix("            ").unwrap_or(line)).collect();
    assert_eq!(shown.trim_end(), lines.join("\n").trim());
}

#[test]
fn the_shipped_configuration_shows_the_defaults() {
    let shipped = include_str!("../../config/banward.toml");
    let bare = "
        jail.sshd.filter = 'sshd'
        [jail.ping-drop]
        filter = 'ping-drop'
        source = 'kernel'
        window = { hitcount = 20, seconds = 60 }
        [jail.syn-flood]
        filter = 'syn-flood'
        source = 'kernel'
        window = { hitcount = 20, seconds = 60 }
    ";
    assert_eq!(
        Config { path: "banward.toml".into(), ..good(shipped) },
        Config { path: "banward.toml".into(), ..good(bare) }
    );
}

#[test]
fn the_jails_that_are_commented_out_in_the_shipped_configuration_are_in_order() {
    let examples: String = include_str!("../../config/banward.toml")
        .lines()
        .skip_while(|line| !line.starts_with("# [jail."))
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| line.starts_with('[') || line.contains(" = "))
        .fold(String::new(), |text, line| text + line + "\n");
    let config = good(&examples.replace("\"nginx\"", "\"app\""));
    assert_eq!(
        config.jails.iter().map(|jail| jail.name.as_str()).collect::<Vec<_>>(),
        ["netfilter", "port-scan", "sshd-spread", "web"]
    );
}

#[test]
fn the_host_section_that_is_commented_out_in_the_shipped_configuration_shows_the_defaults() {
    let section: String = include_str!("../../config/banward.toml")
        .lines()
        .skip_while(|line| *line != "# [host]")
        .take_while(|line| *line != "[defaults]")
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')))
        .fold(String::new(), |text, line| text + line + "\n");
    let host = |text: &str| good(&format!("jail.sshd.filter = 'sshd'\n{text}")).host;
    assert_eq!(section.lines().count(), 19, "{section}");
    assert_eq!(host(&section), host("[host]"));
    assert_eq!(host(""), None);
}

#[test]
fn what_is_wrong_with_a_host_section_is_shown_at_its_place() {
    let shown = problems(
        "[host]\nincoming = 'block'\nin = ['htpp', { service = '22/tpc' }, { from = '192.0.2.1/24', service = 'http' }]\n\
         ssh = { from = 'example.org', port = 0 }\nping = true\nexpect = ['accept in tcp']\noutside = 'a b'\nsnat = [{}]\n\
         dnat = [{ service = 'ping', to = '192.0.2.1' }]\nlog = true\nssh_port = 22\n",
    );
    for expected in [
        "b.toml:2:12: \"block\" is none of accept, drop, reject",
        "b.toml:3:7: \"htpp\" is not a service",
        "b.toml:3:27: \"22/tpc\" is not a service",
        "hint: 'tpc' is neither tcp nor udp",
        "b.toml:3:48: \"192.0.2.1/24\" is not an address, a network or a range",
        "hint: it has host bits set; the network is \"192.0.2.0/24\"",
        "b.toml:4:16: \"example.org\" is not an address, a network or a range",
        "b.toml:4:38: must be from 1 to 65535",
        "b.toml:5:8: expected a table",
        "b.toml:6:11: \"accept in tcp\" is not an expectation",
        "b.toml:7:11: \"a b\" is not the name of an interface",
        "b.toml:8:9: 'via' is missing",
        "b.toml:9:9: 'on' is missing",
        "b.toml:9:9: only a service with ports can be handed on",
        "b.toml:10:7: 'true' says nothing here",
        "b.toml:11:1: unknown key 'ssh_port'",
    ] {
        assert!(shown.contains(expected), "{expected}\n--- in\n{shown}");
    }
    assert!(problems("[firewall]\nchain = 'BANWARD-HOST'\n").contains("which is for the rules of [host]"));
}

#[test]
fn every_key_is_read() {
    let config = good(
        r#"
        [daemon]
        mode = "observe"
        state_dir = "/s"
        socket = "/s/sock"
        filters = "/f"
        [firewall]
        backend = "nftables"
        chain = "GUARD"
        hooks = ["INPUT"]
        egress = false
        target = "REJECT"
        conntrack = false
        on_stop = "remove"
        [blocklist]
        write = ""
        forgeable = false
        read = []
        [allow]
        networks = ["192.0.2.7", "2001:db8::/32"]
        protect = ["gateways"]
        widest = { ipv4 = 12, ipv6 = 20 }
        together = { ipv4 = 6, ipv6 = 0 }
        [budget]
        max = "5m"
        per_minute = 7
        at_a_time = 8
        corroborate = ["handshakes"]
        [breaker]
        per_minute = 9
        bans = 10
        addresses = 11
        most = 12
        [jail.j]
        enabled = false
        filter = "netfilter"
        mode = "aggressive"
        source = { files = ["/var/log/kern*.log"] }
        ports = ["53", "9/udp"]
        log_prefix = "MY:"
        window = { hitcount = 3, seconds = "2m", check = "update" }
        ban = { time = "1m", factor = 1, max = "forever", forget = "1d", decay = "2h", jitter = 3, mercy = false }
        prefix = { ipv4 = 24, ipv6 = 56 }
        widen = { neighbours = 3, seconds = "2m", ipv4 = [20, 24, 24], ipv6 = 48, threshold = 60 }
        track = 9
        [jail.k]
        filter = "app"
        source = { journal = { units = ["a.service"], identifiers = ["b"] } }
        [jail.l]
        filter = "app"
        source = { stdin = true }
        window = { limit = "2/m", burst = 30 }
        "#,
    );
    assert_eq!(config.daemon.mode, Mode::Observe);
    assert_eq!(config.daemon.state_dir, Path::new("/s"));
    assert_eq!(config.daemon.socket, Path::new("/s/sock"));
    assert_eq!(config.daemon.filters, [Path::new("/f")]);
    let settings = firewall::Settings {
        backend: firewall::Choice::Nftables,
        chain: "GUARD".parse().unwrap(),
        hooks: vec!["INPUT".to_owned()],
        egress: false,
        target: firewall::Target::Reject,
        conntrack: false,
        on_stop: firewall::OnStop::Remove,
        ceiling: crate::firewall::CEILING,
    };
    assert_eq!(config.firewall, settings);
    let Blocklist { write, forgeable, read } = config.blocklist;
    assert_eq!((write, forgeable, read), (None, false, vec![]));
    assert_eq!(config.allow.networks, ["192.0.2.7/32".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
    assert_eq!(config.allow.protect, [Protect::Gateways].into());
    let lengths = [(12, 20), (6, 0)].map(|(ipv4, ipv6)| PrefixLengths { ipv4, ipv6 });
    assert_eq!([config.allow.widest, config.allow.together], lengths);
    let corroborate = Corroborate { hits: false, handshakes: true };
    assert_eq!(config.budget, Budget { max: Duration::from_secs(300), per_minute: 7, at_a_time: 8, corroborate });
    assert_eq!(config.breaker, breaker::Limits { per_minute: 9, bans: 10, addresses: 11, most: 12 });

    let [j, k, l] = &config.jails[..] else { panic!("three jails") };
    assert_eq!((j.enabled, j.mode, j.track), (false, filters::Mode::Aggressive, 9));
    assert_eq!(j.source, sources::Choice::Files(vec!["/var/log/kern*.log".to_owned()]));
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    let ports = [(tcp, 53), (udp, 9), (udp, 53)].map(|(protocol, number)| Port { protocol, number });
    assert_eq!(j.scope, Scope::of_ports(ports.to_vec()));
    assert_eq!(j.log_prefix, ["MY:"]);
    let seconds = Duration::from_secs(120);
    assert_eq!(j.window, windows::Spec::Recent { hitcount: 3, seconds, check: windows::Check::Update });
    assert_eq!((j.ban.time, j.ban.factor, j.ban.max), (Length::For(Duration::from_secs(60)), 1, Length::Forever));
    let (hours, ipv4, ipv6) = (Length::For(Duration::from_secs(7200)), vec![24, 20], vec![48]);
    assert_eq!((j.ban.decay, j.ban.jitter, j.ban.mercy), (hours, 3, false));
    assert_eq!((j.prefix.ipv4, j.prefix.ipv6), (24, 56));
    assert_eq!(j.widen, Widen { neighbours: 3, seconds, ipv4, ipv6, threshold: 60 });
    let (units, identifiers) = (vec!["a.service".to_owned()], vec!["b".to_owned()]);
    assert_eq!(k.source, sources::Choice::Journal { units, identifiers });
    assert_eq!(l.source, sources::Choice::Stdin);
    assert_eq!(l.window, windows::Spec::Limit { interval: Duration::from_secs(30), burst: 30 });
}

#[test]
fn a_jail_takes_from_the_defaults_what_it_does_not_set_and_later_files_win_key_by_key() {
    let (config, shown) = load(&[
        ("b.toml", "[jail.a]\nfilter = 'sshd'\nban.factor = 2\n[jail.b]\nfilter = 'app'\n"),
        ("conf.d/10.toml", "[defaults]\nban.time = '1h'\ntrack = 5\n[jail.a]\nban.max = '2h'\nfilter = 'app'\n"),
        ("conf.d/20.toml", "[defaults]\ntrack = 6\n[jail.a]\nfilter = 'sshd'\n[jail.b]\nenabled = false\n"),
        ("conf.d/README", "not a configuration"),
        ("conf.d/.20.toml", "what an editor left there"),
        ("conf.d/30.toml", "[jail.b]\nsource = { stdin = true }\n"),
    ]);
    assert_eq!(shown, "");
    let config = config.unwrap();
    let hours = |hours: u64| Length::For(Duration::from_secs(3600 * hours));
    let [a, b] = &config.jails[..] else { panic!("two jails") };
    assert_eq!((a.filter.as_str(), a.ban.time, a.ban.factor, a.ban.max), ("sshd", hours(1), 2, hours(2)));
    assert_eq!((b.enabled, b.ban.factor, b.track, &b.source), (false, 4, 6, &sources::Choice::Stdin));
    assert_eq!(config.enabled().count(), 1);
}

#[test]
fn a_missing_file_names_the_option_to_give_one() {
    let (config, shown) = load(&[]);
    assert!(config.is_none());
    assert_shown(
        &shown,
        "
            banward.toml: there is no such file
              hint: name the configuration with --config FILE; a commented one is installed as /usr/share/banward/banward.toml",
    );
}

#[test]
fn an_empty_file_is_valid_and_watches_nothing() {
    let (config, shown) = load(&[("b.toml", "")]);
    assert!(config.unwrap().jails.is_empty());
    assert_shown(
        &shown,
        "
            b.toml: warning: no jail is switched on, so no log is watched
              hint: add one: [jail.sshd] with filter = \"sshd\"",
    );
}

#[test]
fn all_problems_of_all_files_are_shown_at_once() {
    let (_, shown) = load(&[
        ("b.toml", "[daemon]\nmod = 'observe'\nmode = 'obsreve'\n[jail.sshd]\nfilter = 'shsd'\n[fierwall]\n"),
        ("conf.d/a.toml", "[defaults\n"),
        ("conf.d/b.toml", "[jail.sshd]\nban = { time = '1x' }\n"),
    ]);
    assert_shown(
        &shown,
        r#"
            b.toml:2:1: unknown key 'mod'
            2 | mod = 'observe'
              | ^^^
              hint: did you mean 'mode'?
            b.toml:3:8: "obsreve" is none of enforce, observe
            3 | mode = 'obsreve'
              |        ^^^^^^^^^
              hint: did you mean "observe"?
            b.toml:5:10: there is no filter "shsd"
            5 | filter = 'shsd'
              |          ^^^^^^
              hint: did you mean "sshd"?
            b.toml:6:2: unknown key 'fierwall'
            6 | [fierwall]
              |  ^^^^^^^^
              hint: did you mean 'firewall'?
            conf.d/a.toml:1:10: unclosed table, expected `]`
            1 | [defaults
              |          ^
            conf.d/b.toml:2:16: "1x" is not a duration such as "10m"
            2 | ban = { time = '1x' }
              |                ^^^^
              hint: 'x' is not a unit of time"#,
    );
}

#[test]
fn settings_that_would_take_over_or_miss_a_chain_are_refused() {
    assert_shown(
        &problems("[firewall]\nchain = \"INPUT\"\nhooks = [\"-j\"]\n"),
        r#"
            b.toml:2:9: "INPUT" is not a name for our chain
            2 | chain = "INPUT"
              |         ^^^^^^^
              hint: the firewall itself uses this name; take one that is ours alone, such as "BANWARD"
            b.toml:3:10: "-j" is not the name of a chain
            3 | hooks = ["-j"]
              |          ^^^^
              hint: it has from 1 to 28 of A-Z a-z 0-9 _ - and no '-' at first"#,
    );
    assert_shown(
        &problems("[firewall]\nchain = \"INPUT-RULES-OF-MY-OWN\"\nhooks = [\"BANWARD\"]\n"),
        r#"
            b.toml:1:1: 'chain' and 'hooks' both name BANWARD, which cannot jump to itself
            1 | [firewall]
              | ^^^^^^^^^^
            b.toml:2:9: "INPUT-RULES-OF-MY-OWN" is not a name for our chain
            2 | chain = "INPUT-RULES-OF-MY-OWN"
              |         ^^^^^^^^^^^^^^^^^^^^^^^
              hint: a letter, then letters, digits, '-' and '_', 20 characters at most"#,
    );
    assert_shown(
        &problems("[firewall]\nhooks = []\n"),
        r#"
            b.toml:2:9: without a hook, packets of banned addresses would pass
            2 | hooks = []
              |         ^^
              hint: leave 'hooks' out; to enforce nothing, set backend = "none""#,
    );
    for (typed, meant) in
        [("INPTU", "INPUT"), ("input", "INPUT"), ("FORWRAD", "FORWARD"), ("DOCKER_USER", "DOCKER-USER")]
    {
        let said = problems(&format!("[firewall]\nhooks = [\"INPUT\", \"{typed}\"]\n"));
        assert!(said.contains(&format!("did you mean \"{meant}\"?")), "{typed}: {said}");
    }
    assert!(problems("[firewall]\nhooks = [\"INPUT2\", \"ufw-before-input\"]\n").is_empty());
    assert!(problems("[firewall]\nhooks = [\"OUTPUT\"]\n").contains("would pass"));
}

#[test]
fn paths_that_depend_on_where_the_daemon_starts_or_that_no_socket_can_have_are_refused() {
    let long = "x".repeat(107);
    assert_shown(
        &problems(&format!("[daemon]\nstate_dir = \"state\"\nsocket = \"/{long}\"\n")),
        &format!(
            r#"
            b.toml:2:13: must be an absolute path, beginning with '/'
            2 | state_dir = "state"
              |             ^^^^^^^
            b.toml:3:10: the path of a socket may have 107 bytes at most
            3 | socket = "/{}
              |          {}"#,
            &long[..89],
            "^".repeat(91)
        ),
    );
}

#[test]
fn allowed_networks_with_host_bits_are_taken_as_networks_with_a_warning() {
    let text =
        "[allow]\nnetworks = [\n\"192.0.2.9/24\",\n\"192.0.2.300\",\n\"0.0.0.0/0\"]\n[jail.ok]\nfilter = 'sshd'\n";
    let (config, shown) = load(&[("b.toml", text)]);
    assert_eq!(config.unwrap().allow.networks, ["192.0.2.0/24".parse().unwrap(), "0.0.0.0/0".parse().unwrap()]);
    assert_shown(
        &shown,
        r#"
            b.toml:3:1: warning: 192.0.2.9/24 has host bits set, taken as 192.0.2.0/24
            3 | "192.0.2.9/24",
              | ^^^^^^^^^^^^^^
            b.toml:4:1: "192.0.2.300" is not an address or a prefix
            4 | "192.0.2.300",
              | ^^^^^^^^^^^^^
              hint: write "192.0.2.7", "192.0.2.0/24" or "2001:db8::/32"
            b.toml:5:1: warning: this allows every address of its family: none of them will be banned
            5 | "0.0.0.0/0"]
              | ^^^^^^^^^^^"#,
    );
}

#[test]
fn a_window_may_count_what_differs() {
    use windows::{Distinct, Spec};
    let text = "[jail.a]
filter = 'sshd'
window = { hitcount = 4, seconds = '1m', distinct = 'users' }
[jail.b]
filter = 'sshd'
window = { hitcount = 9, seconds = 60, distinct = 'sources' }
[jail.c]
filter = 'ping-drop'
window = { hitcount = 20, seconds = 60, distinct = 'ports' }
source = 'kernel'
";
    let (seconds, config) = (Duration::from_secs(60), good(text));
    let windows: Vec<&Spec> = config.jails.iter().map(|jail| &jail.window).collect();
    let spec = |hitcount, of| Spec::Distinct { hitcount, seconds, of };
    assert_eq!(windows, [&spec(4, Distinct::Users), &spec(9, Distinct::Sources), &spec(20, Distinct::Ports)]);
}

#[test]
fn a_window_that_waits_for_what_its_filter_never_tells_is_refused() {
    let text = "[jail.a]
filter = 'ping-drop'
source = 'kernel'
window = { hitcount = 4, seconds = 60, distinct = 'users' }
[jail.b]
filter = 'ping-drop'
source = 'kernel'
window = { hitcount = 4, seconds = 60, distinct = 'sources' }
[jail.c]
filter = 'sshd'
window = { hitcount = 4, seconds = 60, distinct = 'ports' }
";
    let problems = load(&[("b.toml", text)]).1;
    for (jail, filter, what) in [("a", "ping-drop", "users"), ("b", "ping-drop", "users"), ("c", "sshd", "ports")] {
        let sentence = format!("jail {jail}: filter \"{filter}\" names no {what}, so the window never overflows");
        assert!(problems.contains(&sentence), "{problems}");
    }
    let update = text.replace("distinct = 'users'", "distinct = 'users', check = 'update'");
    assert!(load(&[("b.toml", &update)]).1.contains("'distinct' knows no \"update\""));
}

#[test]
fn windows_that_cannot_count_are_refused() {
    let text = "[jail.a]
filter = 'sshd'
window = { hitcount = 0, seconds = 60 }
[jail.b]
filter = 'sshd'
window = { hitcount = 65536, seconds = '0s' }
[jail.c]
filter = 'sshd'
window = { hitcount = 3 }
[jail.d]
filter = 'sshd'
window = { limit = '1/week' }
[jail.e]
filter = 'sshd'
window = { limit = '1/s', seconds = 3 }
[jail.f]
filter = 'sshd'
window = { hitcount = 3, seconds = '400d', check = 'set' }
";
    assert_shown(
        &load(&[("b.toml", text)]).1,
        r#"
            b.toml:3:23: must be from 1 to 65535
            3 | window = { hitcount = 0, seconds = 60 }
              |                       ^
            b.toml:6:23: must be from 1 to 65535
            6 | window = { hitcount = 65536, seconds = '0s' }
              |                       ^^^^^
            b.toml:6:40: "0s" is not a duration such as "10m"
            6 | window = { hitcount = 65536, seconds = '0s' }
              |                                        ^^^^
              hint: it must be a second at least
            b.toml:9:10: a window needs 'hitcount' and 'seconds', or 'limit'
            9 | window = { hitcount = 3 }
              |          ^^^^^^^^^^^^^^^^
              hint: write { hitcount = 5, seconds = 600 } or { limit = "1/s", burst = 30 }
            b.toml:12:20: "1/week" is not a rate such as "1/s"
            12 | window = { limit = '1/week' }
               |                    ^^^^^^^^
              hint: 'week' is none of second, minute, hour, day
            b.toml:15:27: unknown key 'seconds'
            15 | window = { limit = '1/s', seconds = 3 }
               |                           ^^^^^^^
              hint: known here: limit, burst
            b.toml:18:36: a window may be 366 days at most
            18 | window = { hitcount = 3, seconds = '400d', check = 'set' }
               |                                    ^^^^^^
            b.toml:18:52: "set" is none of rcheck, update
            18 | window = { hitcount = 3, seconds = '400d', check = 'set' }
               |                                                    ^^^^^"#,
    );
}

#[test]
fn bans_that_contradict_themselves_are_refused_where_they_are_written() {
    let text = "[defaults]
ban = { time = '60d', factor = 0 }
[jail.a]
filter = 'sshd'
[jail.b]
filter = 'sshd'
window = { limit = '1/s' }
[jail.c]
filter = 'sshd'
ban = { time = 'forever', max = '1d' }
[jail.d]
filter = 'ping-drop'
source = 'kernel'
ban = { time = '1h', forget = '0s' }
prefix = { ipv4 = 7, ipv6 = 31 }
track = 0
";
    assert_shown(
        &load(&[("b.toml", text)]).1,
        r#"
            b.toml:2:7: ban.time 60d is longer than ban.max 30d
            2 | ban = { time = '60d', factor = 0 }
              |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              hint: raise 'max' too
            b.toml:2:32: must be from 1 to 1000
            2 | ban = { time = '60d', factor = 0 }
              |                                ^
            b.toml:10:7: ban.time forever is longer than ban.max 1d
            10 | ban = { time = 'forever', max = '1d' }
               |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              hint: raise 'max' too
            b.toml:14:7: warning: jail d: its evidence can be forged, so it bans for 10m at most, not 1h
            14 | ban = { time = '1h', forget = '0s' }
               |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              hint: budget.max says how long
            b.toml:14:31: "0s" is not a duration such as "10m"
            14 | ban = { time = '1h', forget = '0s' }
               |                               ^^^^
              hint: it must be a second at least
            b.toml:15:19: must be from 8 to 32
            15 | prefix = { ipv4 = 7, ipv6 = 31 }
               |                   ^
            b.toml:15:29: must be from 32 to 128
            15 | prefix = { ipv4 = 7, ipv6 = 31 }
               |                             ^^
            b.toml:16:9: must be from 1 to 10000000
            16 | track = 0
               |         ^"#,
    );
}

#[test]
fn jails_that_do_not_suit_their_filter_are_refused() {
    let text = "[jail.a]
enabled = true
[jail.b]
filter = 'webmail'
[jail.c]
filter = 'netfilter'
source = 'kernel'
[jail.d]
filter = 'sshd'
log_prefix = 'SSH:'
source = 'kernel'
[jail.e]
filter = 'app'
[jail.manual]
filter = 'app'
[jail.'a b']
filter = 'app'
[jail]
f = 3
[jail.g]
filter = 'netfilter'
log_prefix = ['']
";
    assert_shown(
        &load(&[("b.toml", text)]).1,
        r#"
            b.toml:1:1: jail a names no filter
            1 | [jail.a]
              | ^^^^^^^^
              hint: filters found: app, netfilter, ping-drop, port-scan, sshd, syn-flood
            b.toml:4:10: there is no filter "webmail"
            4 | filter = 'webmail'
              |          ^^^^^^^^^
              hint: filters found: app, netfilter, ping-drop, port-scan, sshd, syn-flood
            b.toml:6:10: jail c: filter "netfilter" goes by a LOG prefix, and none is named
            6 | filter = 'netfilter'
              |          ^^^^^^^^^^^
              hint: add log_prefix = "MY-DROP:", as in the rule's --log-prefix
            b.toml:10:14: jail d: filter "sshd" takes no log_prefix
            10 | log_prefix = 'SSH:'
               |              ^^^^^^
              hint: use filter = "netfilter"
            b.toml:11:10: jail d: filter "sshd" does not read the kernel's log
            11 | source = 'kernel'
               |          ^^^^^^^^
              hint: use source = "auto"
            b.toml:13:10: jail e: filter "app" does not say where its lines are
            13 | filter = 'app'
               |          ^^^^^
              hint: set source = { files = ["/var/log/NAME.log"] }
            b.toml:14:1: "manual" cannot name a jail
            14 | [jail.manual]
               | ^^^^^^^^^^^^^
              hint: a name has at most 64 of A-Z a-z 0-9 . _ - and is not 'manual'
            b.toml:16:1: "a b" cannot name a jail
            16 | [jail.'a b']
               | ^^^^^^^^^^^^
              hint: a name has at most 64 of A-Z a-z 0-9 . _ - and is not 'manual'
            b.toml:19:5: expected a table, found an integer
            19 | f = 3
               |     ^
            b.toml:21:10: jail g: filter "netfilter" does not say where its lines are
            21 | filter = 'netfilter'
               |          ^^^^^^^^^^^
              hint: set source = "kernel"
            b.toml:22:15: a LOG prefix has from 1 to 127 printable bytes
            22 | log_prefix = ['']
               |               ^^
              hint: write what stands after --log-prefix in the rule"#,
    );
}

#[test]
fn sources_without_lines_are_refused() {
    let text = "[jail.a]
filter = 'sshd'
source = { files = [] }
[jail.b]
filter = 'sshd'
source = { journal = { unit = [] } }
[jail.c]
filter = 'sshd'
source = { stdin = false }
[jail.d]
filter = 'sshd'
source = { files = ['/var/log/a'], stdin = true }
[jail.e]
filter = 'sshd'
source = '/var/log/auth.log'
[jail.f]
filter = 'sshd'
source = { files = ['log/***'] }
[jail.g]
filter = 'sshd'
source = { files = ['auth.log'] }
";
    assert_shown(
        &load(&[("b.toml", text)]).1,
        r#"
            b.toml:3:10: a source of no file has no lines
            3 | source = { files = [] }
              |          ^^^^^^^^^^^^^^
              hint: sources: "auto", "kernel", { files = ["/var/log/*.log"] }, { journal = { units = ["ssh.service"] } }, { stdin = true }
            b.toml:6:10: a journal source names at least one unit or identifier
            6 | source = { journal = { unit = [] } }
              |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^
              hint: sources: "auto", "kernel", { files = ["/var/log/*.log"] }, { journal = { units = ["ssh.service"] } }, { stdin = true }
            b.toml:6:24: unknown key 'unit'
            6 | source = { journal = { unit = [] } }
              |                        ^^^^
              hint: did you mean 'units'?
            b.toml:9:10: a source is one of files, journal or stdin = true
            9 | source = { stdin = false }
              |          ^^^^^^^^^^^^^^^^^
              hint: sources: "auto", "kernel", { files = ["/var/log/*.log"] }, { journal = { units = ["ssh.service"] } }, { stdin = true }
            b.toml:12:10: a source is one of files, journal or stdin = true
            12 | source = { files = ['/var/log/a'], stdin = true }
               |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              hint: sources: "auto", "kernel", { files = ["/var/log/*.log"] }, { journal = { units = ["ssh.service"] } }, { stdin = true }
            b.toml:15:10: a path is not a source by itself
            15 | source = '/var/log/auth.log'
               |          ^^^^^^^^^^^^^^^^^^^
              hint: sources: "auto", "kernel", { files = ["/var/log/*.log"] }, { journal = { units = ["ssh.service"] } }, { stdin = true }
            b.toml:18:10: "log/***" names no log files: wildcards are either regular `*` or recursive `**`
            18 | source = { files = ['log/***'] }
               |          ^^^^^^^^^^^^^^^^^^^^^^^
            b.toml:21:10: "auth.log" names no log files: a path must begin with '/'
            21 | source = { files = ['auth.log'] }
               |          ^^^^^^^^^^^^^^^^^^^^^^^^"#,
    );
}

#[test]
fn ports_that_contradict_themselves_are_refused() {
    let text = "[jail.a]
filter = 'sshd'
ports = []
[jail.b]
filter = 'sshd'
ports = ['1-65535']
[jail.c]
filter = 'sshd'
ports = ['53', '50-60/udp', 'http']
window = { limit = '1/s' }
";
    assert_shown(
        &load(&[("b.toml", text)]).1,
        r#"
            b.toml:3:9: no port at all would drop nothing
            3 | ports = []
              |         ^^
              hint: leave 'ports' out to drop every packet of a banned address
            b.toml:6:10: with this there are 131070 ports, at most 64 may be named
            6 | ports = ['1-65535']
              |          ^^^^^^^^^
              hint: leave 'ports' out to drop every packet of a banned address
            b.toml:9:16: warning: some of this is named already
            9 | ports = ['53', '50-60/udp', 'http']
              |                ^^^^^^^^^^^
            b.toml:9:29: "http" is not a port such as "443/tcp"
            9 | ports = ['53', '50-60/udp', 'http']
              |                             ^^^^^^
              hint: 'http' is not a port number from 1 to 65535"#,
    );
}

#[test]
fn numbers_where_texts_with_units_are_wanted_are_explained() {
    assert_shown(
        &load(&[("b.toml", "[jail.a]\nfilter = 'sshd'\nban.time = 600\nports = [22]\n")]).1,
        r#"
            b.toml:3:12: a duration is written with its units
            3 | ban.time = 600
              |            ^^^
              hint: "90s", "10m", "1h30m", "7d"
            b.toml:4:10: a port is written with its protocol
            4 | ports = [22]
              |          ^^
              hint: "443/tcp", "1000-1010/udp", or "53" for both"#,
    );
}

#[test]
fn a_jail_that_is_switched_off_may_have_a_filter_that_is_not_there() {
    let (_, shown) = load(&[("b.toml", "[jail.a]\nfilter = 'sshd'\n[jail.b]\nfilter = 'gone'\nenabled = false\n")]);
    assert_shown(&shown, "");
}

#[test]
fn a_jail_that_only_stands_elsewhere_is_the_same_jail() {
    let (a, b) = (good("[jail.a]\nfilter = 'sshd'\n"), good("\n\n[jail.a]\nenabled = true\nfilter = 'sshd'\n"));
    assert_eq!(a.jails, b.jails);
}

#[test]
fn a_jail_that_is_another_one_again_is_pointed_out() {
    let text = "[jail.a]
filter = 'sshd'
[jail.b]
filter = 'sshd'
[jail.c]
filter = 'sshd'
window = { limit = '1/s' }
[jail.d]
filter = 'sshd'
enabled = false
";
    assert_shown(
        &load(&[("b.toml", text)]).1,
        r"
            b.toml:3:1: warning: jail b counts the same lines in the same way as jail a
            3 | [jail.b]
              | ^^^^^^^^
              hint: give it another filter, source or window",
    );
}

#[test]
fn numbers_may_be_written_in_every_way_that_toml_knows() {
    let config = good("[defaults]\nwindow = { hitcount = 0x10, seconds = 1_000 }\n[jail.a]\nfilter = 'sshd'\n");
    let seconds = Duration::from_secs(1000);
    let window = windows::Spec::Recent { hitcount: 16, seconds, check: windows::Check::Rcheck };
    assert_eq!(config.jails[0].window, window);
}

proptest::proptest! {
    /// A configuration is written by hand: whatever stands in it, its problems are said, and nothing falls over.
    #[test]
    fn a_mutilated_configuration_never_makes_the_reader_panic(
        cuts in proptest::collection::vec((0usize..6000, 0usize..12, "[\\PC\n\t\u{0}]{0,6}"), 1..8),
    ) {
        let mut text = include_str!("../../config/banward.toml").to_owned();
        for (start, length, replacement) in cuts {
            let boundary = |index: usize| (0..=index.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
            let (start, end) = (boundary(start).unwrap(), boundary(start + length).unwrap());
            text.replace_range(start..end, &replacement);
        }
        let (config, shown) = load(&[("b.toml", &text)]);
        proptest::prop_assert!(config.is_some() || !shown.is_empty());
    }
}
