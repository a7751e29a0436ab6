//! What each of the daemon's processes can do right now, as the kernel says.

use std::fs;

use super::Findings;
use crate::control::Status;

/// Bits of `CapEff` (`linux/capability.h`) that a process of ours may have.
const NAMES: [(u32, &str); 4] =
    [(2, "CAP_DAC_READ_SEARCH"), (12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (19, "CAP_SYS_PTRACE")];
const CAP_NET_ADMIN: u32 = 12;

/// Hidden arguments of `banward` by which the processes are told apart.
const ROLES: [(&str, &str); 2] = [("--enforcer", "enforcer"), ("--witness", "witness")];

/// A process, from `/proc/PID/status`.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    pid: u32,
    role: &'static str,
    uid: u32,
    effective: u64,
    no_new_privs: bool,
    filtered: bool,
}

pub(super) fn check(status: &Status, findings: &mut Findings) {
    let children = format!("/proc/{0}/task/{0}/children", status.pid);
    let children = fs::read_to_string(&children).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    let roles = children.filter_map(|pid| Some((pid, role(pid)?)));
    let processes: Vec<Process> = std::iter::once((status.pid, "brain"))
        .chain(roles)
        .filter_map(|(pid, role)| Process::read(pid, role))
        .collect();
    for process in &processes {
        process.show(findings);
    }
    if processes.is_empty() {
        let message = format!("/proc/{}/status does not tell them", status.pid);
        findings.warn("capabilities", message, "call banctl on the same machine");
    } else if !processes.iter().any(|process| process.role == "enforcer") {
        findings.bad("capabilities", "there is no enforcer process: no ban can be made", "systemctl restart banward");
    }
}

fn role(pid: u32) -> Option<&'static str> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let is = |argument: &str| line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes());
    ROLES.iter().find(|(argument, _)| is(argument)).map(|(_, role)| *role)
}

impl Process {
    fn read(pid: u32, role: &'static str) -> Option<Process> {
        Process::parse(pid, role, &fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }

    fn parse(pid: u32, role: &'static str, status: &str) -> Option<Process> {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
        Some(Process {
            pid,
            role,
            uid: field("Uid:")?.parse().ok()?,
            effective: u64::from_str_radix(field("CapEff:")?, 16).ok()?,
            no_new_privs: field("NoNewPrivs:") == Some("1"),
            filtered: field("Seccomp:") == Some("2"),
        })
    }

    fn capabilities(&self) -> String {
        let named = NAMES.iter().filter(|(bit, _)| self.effective >> bit & 1 == 1).map(|(_, name)| *name);
        let mut words: Vec<&str> = named.collect();
        if self.effective & !NAMES.iter().fold(0, |all, (bit, _)| all | 1 << bit) != 0 {
            words.push("others");
        }
        if words.is_empty() { "none".to_owned() } else { words.join(" ") }
    }

    fn show(&self, findings: &mut Findings) {
        let Process { pid, role, uid, .. } = self;
        let privileges = if self.no_new_privs { "gains no privileges" } else { "may gain privileges" };
        let calls = if self.filtered { "system calls filtered" } else { "system calls not filtered" };
        let capabilities = self.capabilities();
        let text = format!("{role}: process {pid}, user {uid}, capabilities {capabilities}; {privileges}, {calls}");
        let allowed = match *role {
            "enforcer" => &["CAP_NET_ADMIN", "CAP_NET_RAW"][..],
            "witness" => &["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"],
            _ => &["none"],
        };
        let surplus = capabilities.split(' ').any(|word| word != "none" && !allowed.contains(&word));
        if *role == "enforcer" && self.effective >> CAP_NET_ADMIN & 1 == 0 {
            let remedy = "run the daemon as root, or give its unit CAP_NET_ADMIN in CapabilityBoundingSet=";
            findings.bad("capabilities", format!("{text}: it cannot change the firewall"), remedy);
        } else if surplus || !self.no_new_privs || !self.filtered {
            let remedy = "systemctl restart banward; daemon.sandbox = true; its log says what this kernel lacks";
            findings.warn("capabilities", text, remedy);
        } else {
            findings.ok("capabilities", text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn process(role: &'static str, effective: &str) -> Process {
        let status = format!("Name:\tbanward\nUid:\t990\t990\nCapEff:\t{effective}\nNoNewPrivs:\t1\nSeccomp:\t2\n");
        Process::parse(7, role, &status).unwrap()
    }

    #[test]
    fn what_a_process_may_is_judged_by_its_role() {
        for (role, effective, verdict) in [
            ("brain", "0000000000000000", Verdict::Ok),
            ("brain", "0000000000001000", Verdict::Warn),
            ("enforcer", "0000000000001000", Verdict::Ok),
            ("enforcer", "0000000000000000", Verdict::Bad),
            ("enforcer", "000001ffffffffff", Verdict::Warn),
            ("witness", "0000000000080004", Verdict::Ok),
        ] {
            let mut findings = Findings::default();
            process(role, effective).show(&mut findings);
            assert_eq!(findings.0[0].verdict, verdict, "{role} {effective}");
        }
        assert_eq!(process("enforcer", "0000000000003000").capabilities(), "CAP_NET_ADMIN CAP_NET_RAW");
        assert_eq!(Process::parse(7, "brain", "Name:\tbanward\n"), None);
    }
}
