//! The files that a conversion writes.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::jails::{Jail, Made};
use super::toml::{comment, list, quoted};
use crate::ctl::Error;

/// Chains that our configuration names anyhow.
const HOOKS: [&str; 3] = ["INPUT", "FORWARD", "DOCKER-USER"];

/// Networks that are always allowed.
const LOCAL: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// Paths with their texts.
pub(super) fn files(made: &Made, folders: &[PathBuf], out: &Path) -> Vec<(PathBuf, String)> {
    let filters = out.join("filters");
    let mut files = vec![(out.join("banward.toml"), configuration(made, folders, &filters))];
    for (name, text) in &made.filters {
        files.push((filters.join(format!("{name}.toml")), text.clone()));
    }
    for (name, text) in &made.sketches {
        files.push((filters.join(format!("{name}.toml.sketch")), text.clone()));
    }
    files
}

/// Writes them all, or none where one is there and may not be overwritten.
pub(super) fn write(files: &[(PathBuf, String)], force: bool) -> Result<(), Error> {
    if let Some((path, _)) = files.iter().find(|(path, _)| path.exists() && !force) {
        let path = path.display();
        return Err(Error::Refused(format!(
            "{path} is there already, so nothing was written. --out names another folder, --force overwrites."
        )));
    }
    for (path, text) in files {
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = folder.and_then(|()| std::fs::write(path, text));
        written.map_err(|reason| Error::Refused(format!("{} cannot be written: {reason}.", path.display())))?;
    }
    Ok(())
}

fn configuration(made: &Made, folders: &[PathBuf], filters: &Path) -> String {
    let mut text =
        "# Converted from fail2ban by 'banctl convert'. Keys that are not here have their defaults.\n".to_owned();
    let mut places: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let own = filters.display().to_string();
    if !places.contains(&own) {
        places.push(own);
    }
    let _ = writeln!(text, "\n[daemon]\nfilters = {}", list(&places));
    let _ = writeln!(text, "\n[firewall]\nbackend = \"{}\"", backend(made));
    let more: Vec<&str> =
        made.chains.iter().map(String::as_str).filter(|chain| !HOOKS.contains(chain) && is_chain(chain)).collect();
    if !more.is_empty() {
        let _ = writeln!(text, "hooks = {}", list(&[HOOKS.as_slice(), &more].concat()));
    }
    if made.rejects {
        text.push_str("target = \"REJECT\"\n");
    }
    let mut allowed: Vec<String> = LOCAL.iter().map(|net| (*net).to_owned()).collect();
    for net in &made.allowed {
        if !allowed.contains(&net.to_string()) {
            allowed.push(net.to_string());
        }
    }
    let _ = writeln!(text, "\n[allow]\nnetworks = {}", list(&allowed));
    if let Some(rules) = &made.defaults {
        let _ = writeln!(text, "\n[defaults]\nwindow = {}\nban = {}", rules.window, rules.ban);
    }
    made.jails.iter().for_each(|jail| add_jail(&mut text, jail, made));
    for (name, why) in &made.lost {
        let _ = writeln!(text, "\n{}\n{}", comment(&format!("Needs you: {why}.")), comment(&format!("[jail.{name}]")));
    }
    text
}

fn add_jail(text: &mut String, jail: &Jail, made: &Made) {
    let _ = writeln!(text, "\n[jail.{}]", quoted_key(&jail.name));
    if let Some(why) = &jail.off {
        let _ = writeln!(text, "{}\nenabled = false", comment(&format!("Needs you: {why}.")));
    }
    let _ = writeln!(text, "filter = {}", quoted(&jail.filter));
    if jail.strict {
        text.push_str("mode = \"aggressive\"\n");
    }
    let _ = writeln!(text, "source = {}", jail.source);
    if let Some(ports) = &jail.ports {
        let _ = writeln!(text, "ports = {}", list(ports));
    }
    let defaults = made.defaults.as_ref();
    if defaults.is_none_or(|defaults| defaults.window != jail.rules.window) {
        let _ = writeln!(text, "window = {}", jail.rules.window);
    }
    if defaults.is_none_or(|defaults| defaults.ban != jail.rules.ban) {
        let _ = writeln!(text, "ban = {}", jail.rules.ban);
    }
}

/// A key; one with a full stop in it would be two.
fn quoted_key(name: &str) -> String {
    if name.contains('.') { quoted(name) } else { name.to_owned() }
}

fn backend(made: &Made) -> &str {
    let mut names = made.firewalls.iter();
    match (names.next().map(String::as_str), names.next()) {
        (Some(only @ ("iptables" | "nftables")), None) => only,
        _ => "auto",
    }
}

fn is_chain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=28).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('-')
}
