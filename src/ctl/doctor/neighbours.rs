//! Other programs that change the firewall or ban by logs, known by their chains, tables and files.

use std::path::Path;

use super::Findings;
use super::tables::{Chain, Origin};
use crate::firewall::Settings;

struct Neighbour {
    name: &'static str,
    /// Beginnings of names of iptables' chains.
    chains: &'static [&'static str],
    /// Tables of nftables, without their family.
    tables: &'static [&'static str],
    files: &'static [&'static str],
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Bans by the same logs.
    Rival,
    /// Makes the rules of the machine; bans stand before them.
    Rules,
    /// The same, and takes the rules of everybody out of iptables whenever it starts or reloads.
    Flushes,
    /// Leads packets to containers.
    Containers,
}

const NEIGHBOURS: [Neighbour; 9] = [
    Neighbour {
        name: "fail2ban",
        chains: &["f2b-", "fail2ban-"],
        tables: &["f2b-table"],
        files: &["run/fail2ban/fail2ban.pid", "run/fail2ban/fail2ban.sock"],
        kind: Kind::Rival,
    },
    Neighbour {
        name: "sshguard",
        chains: &["sshguard"],
        tables: &["sshguard"],
        files: &["run/sshguard.pid"],
        kind: Kind::Rival,
    },
    Neighbour {
        name: "CrowdSec",
        chains: &["CROWDSEC"],
        tables: &["crowdsec", "crowdsec6"],
        files: &["run/crowdsec.pid", "run/crowdsec-firewall-bouncer.pid"],
        kind: Kind::Rival,
    },
    Neighbour {
        name: "csf and lfd",
        chains: &["LOCALINPUT", "DENYIN"],
        tables: &[],
        files: &["run/lfd.pid", "etc/csf/csf.conf"],
        kind: Kind::Rival,
    },
    Neighbour { name: "ufw", chains: &["ufw-"], tables: &[], files: &[], kind: Kind::Rules },
    Neighbour {
        name: "firewalld",
        chains: &["IN_public", "INPUT_ZONES"],
        tables: &["firewalld"],
        files: &["run/firewalld"],
        kind: Kind::Flushes,
    },
    Neighbour {
        name: "Docker",
        chains: &["DOCKER"],
        tables: &["docker-bridges"],
        files: &["run/docker.pid", "run/docker.sock"],
        kind: Kind::Containers,
    },
    Neighbour { name: "Podman", chains: &["NETAVARK"], tables: &["netavark"], files: &[], kind: Kind::Containers },
    Neighbour { name: "Kubernetes", chains: &["KUBE-"], tables: &["kube-proxy"], files: &[], kind: Kind::Containers },
];

pub(super) fn check(root: &Path, chains: &[Chain], settings: &Settings, findings: &mut Findings) {
    let found: Vec<&Neighbour> = NEIGHBOURS.iter().filter(|neighbour| neighbour.is_here(root, chains)).collect();
    if found.is_empty() {
        return findings.ok("others", "no other program that bans or changes the firewall was found");
    }
    for Neighbour { name, kind, .. } in found {
        match kind {
            Kind::Rival => rival(name, findings),
            Kind::Rules => findings.ok("others", format!("{name} makes rules; bans stand before them")),
            Kind::Flushes => flushes(name, chains, settings, findings),
            Kind::Containers => containers(name, settings, findings),
        }
    }
}

fn flushes(name: &str, chains: &[Chain], settings: &Settings, findings: &mut Findings) {
    let ours = |chain: &Chain| chain.origin != Origin::Nft && chain.name == settings.chain.as_str();
    if !chains.iter().any(ours) {
        return findings.ok("others", format!("{name} makes rules; bans stand before them"));
    }
    let message = format!(
        "{name} makes rules; bans stand before them, but it flushes iptables when it reloads, and packets of banned \
         sources pass until the daemon has put its rules back, about a second"
    );
    findings.warn("others", message, "firewall.backend = \"nftables\": nobody flushes a table of ours");
}

fn rival(name: &str, findings: &mut Findings) {
    let remedy = match name {
        "fail2ban" => "take its jails over with 'banctl convert', then: systemctl disable --now fail2ban",
        _ => "let one program ban by each log; 'banctl unban' knows only its own bans",
    };
    findings.warn("others", format!("{name} bans on this machine too"), remedy);
}

fn containers(name: &str, settings: &Settings, findings: &mut Findings) {
    if settings.hooks.iter().any(|hook| hook == "FORWARD" || hook == "DOCKER-USER") {
        return findings.ok("others", format!("{name} leads packets to containers; bans hold for them too"));
    }
    let message = format!("{name} leads packets to containers, and bans do not hold for them");
    findings.warn("others", message, "firewall.hooks = [\"INPUT\", \"FORWARD\", \"DOCKER-USER\"]");
}

impl Neighbour {
    fn is_here(&self, root: &Path, chains: &[Chain]) -> bool {
        let chain = |chain: &Chain| match chain.origin {
            Origin::Nft => chain.table.split(' ').next_back().is_some_and(|table| self.tables.contains(&table)),
            Origin::Iptables | Origin::Legacy => self.chains.iter().any(|start| chain.name.starts_with(start)),
        };
        chains.iter().any(chain) || self.files.iter().any(|file| root.join(file).exists())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::{listed, saved};
    use super::*;

    fn found(saved_text: &str, listed_text: &str, file: Option<&str>) -> Vec<&'static str> {
        let root = tempfile::tempdir().unwrap();
        if let Some(file) = file {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let mut chains = saved(saved_text, Origin::Legacy, false);
        chains.extend(listed(listed_text));
        let here = NEIGHBOURS.iter().filter(|neighbour| neighbour.is_here(root.path(), &chains));
        here.map(|neighbour| neighbour.name).collect()
    }

    #[test]
    fn a_neighbour_is_known_by_its_chains_its_table_or_its_files() {
        assert_eq!(found("*filter\n:INPUT ACCEPT [0:0]\n:f2b-sshd - [0:0]\n", "", None), ["fail2ban"]);
        assert_eq!(found("", "table inet firewalld {\n\tchain x {\n\t}\n}\n", None), ["firewalld"]);
        assert_eq!(found("", "", Some("run/lfd.pid")), ["csf and lfd"]);
        assert_eq!(
            found("*filter\n:INPUT ACCEPT [0:0]\n", "table inet filter {\n\tchain x {\n\t}\n}\n", None).len(),
            0
        );
    }
}
