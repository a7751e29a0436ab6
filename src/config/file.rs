//! Reads the configuration files, each key over what stood before: the built-in defaults, then the main file, then
//! `conf.d/*.toml` in the order of their names. A value that is wrong by itself is noted here and changes nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document::{Document, Table, Value, nearest};
use super::jail::{read_jails, read_rules};
use super::problem::{Problem, Problems};
use super::text::{Network, Span};
use super::{Allow, Blocklist, Budget, Config, Control, Daemon, Jail, Mode, Protect, defaults};
use crate::firewall;
use crate::policy::{Corroborate, breaker};

/// Longest path of a Unix socket: `sun_path` has 108 bytes and ends with a zero.
const MAX_SOCKET_PATH: usize = 107;

/// Reads the main file and its `conf.d`. `None` when the main file cannot be read or is not TOML.
pub(super) fn read(path: &Path, problems: &Problems) -> Option<Config> {
    let main = open_main(path, problems)?;
    let additions: Vec<Document> =
        additions(path, problems).iter().filter_map(|path| Document::open(path, problems)).collect();
    let mut files = vec![main.parse(problems)?];
    files.extend(additions.iter().filter_map(|file| file.parse(problems)));

    let mut config = defaults::config(path);
    let mut template = defaults::jail();
    for file in &files {
        read_settings(&mut config, &mut template, file.root(problems));
    }
    // The jails come second: `[defaults]` of any file holds for the jails of all.
    config.jails = read_jails(&template, &files, problems);
    Some(config)
}

fn open_main(path: &Path, problems: &Problems) -> Option<Document> {
    // Where even that cannot be told, opening says why.
    if path.try_exists().unwrap_or(true) {
        return Document::open(path, problems);
    }
    let hint =
        "name the configuration with --config FILE; a commented one is installed as /usr/share/banward/banward.toml";
    problems.push(Problem::of_file(path, "there is no such file").hint(hint));
    None
}

/// The `conf.d/*.toml` beside the main file, by name.
fn additions(main: &Path, problems: &Problems) -> Vec<PathBuf> {
    let folder = main.with_file_name("conf.d");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            problems.push(Problem::of_file(&folder, format!("cannot be read: {error}")));
            return Vec::new();
        }
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let is_hidden = |path: &PathBuf| path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    paths.retain(|path| !is_hidden(path));
    let is_read = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "toml");
    let (read, others): (Vec<PathBuf>, Vec<PathBuf>) = paths.into_iter().partition(is_read);
    // A likely mistake; what editors and packages leave behind is none.
    for path in others.iter().filter(|path| path.extension().is_some_and(|extension| extension == "conf")) {
        problems.push(Problem::of_file(path, "is not read").warning().hint("name it *.toml"));
    }
    read
}

/// Puts what was written, if it made sense, in place of what stood there.
pub(super) fn set<T>(slot: &mut T, written: Option<T>) {
    if let Some(value) = written {
        *slot = value;
    }
}

fn read_settings(config: &mut Config, template: &mut Jail, root: Table<'_>) {
    let section = |key, read: &mut dyn FnMut(&Table<'_>)| {
        if let Some(table) = root.table(key) {
            read(&table);
            table.finish();
        }
    };
    section("daemon", &mut |table| read_daemon(&mut config.daemon, table));
    section("control", &mut |table| read_control(&mut config.control, table));
    section("firewall", &mut |table| read_firewall(&mut config.firewall, table));
    section("blocklist", &mut |table| read_blocklist(&mut config.blocklist, table));
    section("allow", &mut |table| read_allow(&mut config.allow, table));
    section("budget", &mut |table| read_budget(&mut config.budget, table));
    section("breaker", &mut |table| read_breaker(&mut config.breaker, table));
    section("host", &mut |table| super::host::read(config.host.get_or_insert_default(), table));
    section("defaults", &mut |table| read_rules(template, table));
    root.get("jail");
    root.finish();
}

fn read_daemon(daemon: &mut Daemon, table: &Table<'_>) {
    set(&mut daemon.mode, table.choice("mode", &[("enforce", Mode::Enforce), ("observe", Mode::Observe)]));
    set(&mut daemon.state_dir, table.get("state_dir").and_then(absolute));
    set(&mut daemon.socket, table.get("socket").and_then(socket));
    set(&mut daemon.user, table.string("user").map(str::to_owned));
    set(&mut daemon.groups, table.strings("groups"));
    set(&mut daemon.sandbox, table.bool("sandbox"));
    set(&mut daemon.filters, table.items("filters").map(absolutes));
}

fn read_control(control: &mut Control, table: &Table<'_>) {
    set(&mut control.read_group, table.string("read_group").map(str::to_owned));
    set(&mut control.change_group, table.string("change_group").map(str::to_owned));
}

fn read_firewall(settings: &mut firewall::Settings, table: &Table<'_>) {
    use firewall::{Choice, OnStop, Target};
    set(&mut settings.backend, table.choice("backend", &Choice::WORDS));
    set(&mut settings.chain, table.parse("chain", "a name for our chain"));
    set(&mut settings.hooks, table.get("hooks").and_then(hooks));
    set(&mut settings.egress, table.bool("egress"));
    set(&mut settings.target, table.choice("target", &Target::WORDS));
    set(&mut settings.conntrack, table.bool("conntrack"));
    set(&mut settings.on_stop, table.choice("on_stop", &OnStop::WORDS));
    set(&mut settings.ceiling, number(table, "ceiling", 1, 100_000));
    let chain = settings.chain.as_str();
    let host = crate::rules::iptables::PREFIX;
    if chain.to_ascii_uppercase().replace('_', "-").starts_with(host) {
        table.complain(table.problem(format!("'chain' begins like {host}, which is for the rules of [host]")));
    }
    if settings.hooks.iter().any(|hook| hook == chain) {
        let message = format!("'chain' and 'hooks' both name {chain}, which cannot jump to itself");
        table.complain(table.problem(message));
    }
}

fn read_blocklist(blocklist: &mut Blocklist, table: &Table<'_>) {
    if let Some(write) = table.get("write") {
        match write.string() {
            Some("") => blocklist.write = None,
            Some(_) => set(&mut blocklist.write, absolute(write).map(Some)),
            None => {}
        }
    }
    set(&mut blocklist.forgeable, table.bool("forgeable"));
    set(&mut blocklist.read, table.items("read").map(absolutes));
}

fn read_allow(allow: &mut Allow, table: &Table<'_>) {
    let networks = table.items("networks");
    set(&mut allow.networks, networks.map(|items| items.into_iter().filter_map(network).collect()));
    let words = [
        ("own-addresses", Protect::OwnAddresses),
        ("gateways", Protect::Gateways),
        ("resolvers", Protect::Resolvers),
        ("admin-sessions", Protect::AdminSessions),
    ];
    let protect = table.items("protect");
    set(&mut allow.protect, protect.map(|items| items.into_iter().filter_map(|item| item.choice(&words)).collect()));
    for (key, lengths, least) in [("widest", &mut allow.widest, 1), ("together", &mut allow.together, 0)] {
        let Some(table) = table.table(key) else { continue };
        set(&mut lengths.ipv4, number(&table, "ipv4", least, 16));
        set(&mut lengths.ipv6, number(&table, "ipv6", least, 32));
        table.finish();
    }
}

fn read_budget(budget: &mut Budget, table: &Table<'_>) {
    set(&mut budget.max, table.get("max").and_then(span));
    set(&mut budget.per_minute, number(table, "per_minute", 1, 1_000_000));
    set(&mut budget.at_a_time, number(table, "at_a_time", 1, 1_000_000));
    if let Some(items) = table.items("corroborate") {
        let words = ["hits", "handshakes"].map(|word| (word, word));
        let named: Vec<&str> = items.into_iter().filter_map(|item| item.choice(&words)).collect();
        let named = |word| named.contains(&word);
        budget.corroborate = Corroborate { hits: named("hits"), handshakes: named("handshakes") };
    }
}

fn read_breaker(limits: &mut breaker::Limits, table: &Table<'_>) {
    set(&mut limits.per_minute, number(table, "per_minute", 1, 1_000_000));
    set(&mut limits.bans, number(table, "bans", 1, 100_000_000));
    set(&mut limits.addresses, number(table, "addresses", 1, 1 << 32));
    set(&mut limits.most, number(table, "most", 1, 100_000_000));
    if limits.most < limits.bans {
        let message = format!("'most' is {}, so there are never as many as 'bans' says, {}", limits.most, limits.bans);
        table.complain(table.problem(message).hint("the breaker opens at 'bans'; at 'most' nothing more is banned"));
    }
}

/// A whole number within bounds that its type can hold.
pub(super) fn number<T: TryFrom<u64>>(table: &Table<'_>, key: &'static str, least: u64, most: u64) -> Option<T> {
    table.integer(key, least..=most).and_then(|number| T::try_from(number).ok())
}

pub(super) fn span(value: Value<'_>) -> Option<Duration> {
    if !value.is_string() {
        let problem = value.problem("a duration is written with its units");
        value.complain(problem.hint("\"90s\", \"10m\", \"1h30m\", \"7d\""));
        return None;
    }
    value.parse("a duration such as \"10m\"").map(|Span(length)| length)
}

fn network(value: Value<'_>) -> Option<ipnet::IpNet> {
    let Network(written) = value.parse("an address or a prefix")?;
    let network = written.trunc();
    if network != written {
        let message = format!("{written} has host bits set, taken as {network}");
        value.complain(value.problem(message).warning());
    }
    if network.prefix_len() == 0 {
        let problem = value.problem("this allows every address of its family: none of them will be banned");
        value.complain(problem.warning());
    }
    Some(network)
}

fn absolutes(items: Vec<Value<'_>>) -> Vec<PathBuf> {
    items.into_iter().filter_map(absolute).collect()
}

/// A path that means the same wherever the daemon was started.
fn absolute(value: Value<'_>) -> Option<PathBuf> {
    let text = value.string()?;
    if !text.starts_with('/') {
        value.complain(value.problem("must be an absolute path, beginning with '/'"));
        return None;
    }
    Some(PathBuf::from(text))
}

fn socket(value: Value<'_>) -> Option<PathBuf> {
    let path = absolute(value)?;
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        let message = format!("the path of a socket may have {MAX_SOCKET_PATH} bytes at most");
        value.complain(value.problem(message));
        return None;
    }
    Some(path)
}

/// Longest name of a chain in iptables (`XT_EXTENSION_MAXNAMELEN`).
const MAX_HOOK: usize = 28;
/// What hooks are nearly always: a name much like one of these is mistyped, and nothing would be blocked there.
const STANDARD: [&str; 4] = ["INPUT", "FORWARD", "OUTPUT", "DOCKER-USER"];

fn hooks(value: Value<'_>) -> Option<Vec<String>> {
    let hooks: Vec<String> = value.items().into_iter().map(hook).collect::<Option<_>>()?;
    if hooks.iter().all(|hook| hook == "OUTPUT") {
        let problem = value.problem("without a hook, packets of banned addresses would pass");
        value.complain(problem.hint("leave 'hooks' out; to enforce nothing, set backend = \"none\""));
        return None;
    }
    Some(hooks)
}

fn hook(value: Value<'_>) -> Option<String> {
    let name = value.string()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    let fits = (1..=MAX_HOOK).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('-');
    if !fits {
        let problem = value.problem(format!("\"{}\" is not the name of a chain", name.escape_debug()));
        value.complain(problem.hint(format!("it has from 1 to {MAX_HOOK} of A-Z a-z 0-9 _ - and no '-' at first")));
    }
    let capitals = STANDARD.iter().find(|known| known.eq_ignore_ascii_case(name)).copied();
    let meant = capitals.or_else(|| nearest(name, &STANDARD).filter(|known| !name.starts_with(known)));
    match meant {
        Some(meant) if meant != name => {
            let problem = value.problem(format!("\"{}\" is hardly the name of a chain", name.escape_debug()));
            value.complain(problem.hint(format!("did you mean \"{meant}\"?")));
            None
        }
        _ => fits.then(|| name.to_owned()),
    }
}
