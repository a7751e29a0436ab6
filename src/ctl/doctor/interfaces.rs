//! The network interfaces that jails are bound to: a ban on one that does not exist stops nothing.

use super::Findings;
use crate::config::Config;
use crate::ledger::Interface;

/// The interfaces of this network namespace, one in each line but the first two.
const DEVICES: &str = "/proc/thread-self/net/dev";

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let bound = || config.enabled().filter_map(|jail| Some((&jail.name, jail.scope.interface.as_ref()?)));
    if bound().next().is_none() {
        return;
    }
    let devices = std::fs::read_to_string(DEVICES).unwrap_or_default();
    let mut missing = bound().filter(|(_, interface)| !exists(interface, &devices)).peekable();
    if missing.peek().is_none() {
        findings.ok("interfaces", "those that jails name are there");
    }
    for (jail, interface) in missing {
        let message = format!("there is no {interface}: the bans of jail {jail} stop nothing until there is");
        findings.warn("interfaces", message, "name one of those that 'ip -br link' shows");
    }
}

fn exists(interface: &Interface, devices: &str) -> bool {
    let (name, is_beginning) = interface.parts();
    let mut devices = devices.lines().filter_map(|line| Some(line.split_once(':')?.0.trim_start()));
    devices.any(|device| device == name || (is_beginning && device.starts_with(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_found_by_its_name_or_its_beginning() {
        let devices = "Inter-|   Receive\n face |bytes\n    lo: 1 2\n  eth0: 3 4\n";
        let is = |name: &str| exists(&name.parse().unwrap(), devices);
        assert!(is("eth0") && is("eth+") && is("lo"));
        assert!(!is("eth") && !is("eth1") && !is("ppp+"));
    }
}
