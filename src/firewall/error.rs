//! What can go wrong between us and the kernel. Each error is a sentence for the administrator, with the remedy.

use std::fmt;

use ipnet::IpNet;
use rustix::io::Errno;

use super::netlink;

/// Why the kernel does not do what it should. Each says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FirewallError {
    NotInstalled {
        tool: &'static str,
    },
    NoPermission,
    LockHeld {
        tool: &'static str,
    },
    ModuleMissing {
        complaint: String,
    },
    ToolFailed {
        tool: &'static str,
        complaint: String,
    },
    ToolHung {
        tool: &'static str,
    },
    /// The kernel's error code for something asked over netlink.
    Refused {
        doing: &'static str,
        code: i32,
    },
    Unreachable {
        doing: &'static str,
        cause: String,
    },
    SetFull {
        set: String,
    },
    /// What stands in the kernel after it was told otherwise.
    Unexpected {
        found: String,
    },
    /// A table has the name of ours, and somebody else made it.
    ForeignTable {
        table: String,
    },
    /// Packets of banned sources come through none of the chains that are to lead to ours.
    NoHook {
        hooks: String,
    },
    /// Entries that were to be set have no room.
    Full {
        ceiling: usize,
    },
    /// The kernel's sets cannot limit.
    NoLimits,
    WholeInternet {
        prefix: IpNet,
    },
    /// What the enforcer said.
    Enforcer {
        said: String,
    },
    EnforcerGone,
    NothingWorks {
        iptables: Box<FirewallError>,
        nftables: Box<FirewallError>,
    },
}

impl fmt::Display for FirewallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FirewallError::NotInstalled { tool } => {
                write!(f, "'{tool}' is not installed; install the package {}", package(tool))
            }
            FirewallError::NoPermission => {
                f.write_str("the kernel refuses changes to the firewall; run banward as root or with CAP_NET_ADMIN")
            }
            FirewallError::LockHeld { tool } => {
                write!(
                    f,
                    "'{tool}' could not get the xtables lock within 5 s; find who holds it with 'fuser -v /run/xtables.lock'"
                )
            }
            FirewallError::ModuleMissing { complaint } => {
                write!(
                    f,
                    "the kernel lacks a part of the firewall ({complaint}); load it, such as with 'modprobe -a ip_set_hash_net xt_set nf_tables'"
                )
            }
            FirewallError::ToolFailed { tool, complaint } => {
                write!(f, "'{tool}' failed: {complaint}; try it by hand, or set firewall.backend to another one")
            }
            FirewallError::ToolHung { tool } => {
                write!(f, "'{tool}' did not end within 20 s and was killed; see what keeps it busy, it is tried again")
            }
            FirewallError::Refused { doing, code } => {
                write!(f, "the kernel refused {doing}: {}; it is tried again with all entries", code_text(*code))
            }
            FirewallError::Unreachable { doing, cause } => {
                write!(f, "the kernel could not be asked ({doing}): {cause}; it is tried again")
            }
            FirewallError::SetFull { set } => {
                write!(f, "the ipset '{set}' is full; it is rebuilt larger with all entries")
            }
            FirewallError::Unexpected { found } => {
                write!(f, "{found}; see what else changes the firewall at the same time, it is tried again")
            }
            FirewallError::ForeignTable { table } => {
                write!(f, "the table inet {table} is somebody else's; give firewall.chain a name that is ours alone")
            }
            FirewallError::NoHook { hooks } => write!(
                f,
                "no chain of firewall.hooks ({hooks}) is there, so that packets of banned sources pass; name INPUT there, \
                 and FORWARD where packets pass through"
            ),
            FirewallError::Full { ceiling } => {
                write!(
                    f,
                    "more is banned than the {ceiling} plain rules that firewall.ceiling allows; the bans that end last \
                     are not in force: install ipset or nftables, or raise firewall.ceiling"
                )
            }
            FirewallError::NoLimits => f.write_str(
                "this kernel's nf_tables cannot limit sources, which takes Linux 5.11; write stage = [\"drop\"] for all jails, \
                 or use backend = \"iptables\"",
            ),
            FirewallError::WholeInternet { prefix } => {
                write!(f, "{prefix} is the whole internet and is never banned; name a longer prefix")
            }
            FirewallError::Enforcer { said } => f.write_str(said),
            FirewallError::EnforcerGone => {
                f.write_str("the enforcer process is gone; the kernel keeps what it has until the daemon starts again")
            }
            FirewallError::NothingWorks { iptables, nftables } => {
                write!(f, "no backend works: with iptables, {iptables}; with nftables, {nftables}")
            }
        }
    }
}

impl std::error::Error for FirewallError {}

fn package(tool: &str) -> &'static str {
    match tool {
        "nft" => "nftables",
        "ip" => "iproute2",
        _ => "iptables",
    }
}

/// The meaning of an error code from netlink; those from 4096 on are ipset's own.
fn code_text(code: i32) -> String {
    match code {
        4097 => "it does not speak our version of ipset's protocol (code 4097)".to_owned(),
        4098 => "it has no set type hash:net of a version we know (code 4098)".to_owned(),
        4099 => "it has no room for another set (code 4099)".to_owned(),
        4100 | 4108 => "the set is used by somebody else's rule (code 4100)".to_owned(),
        4102 => "a set of that name has another type; destroy it with 'ipset destroy' (code 4102)".to_owned(),
        4096.. => format!("ipset's error code {code}"),
        _ => std::io::Error::from_raw_os_error(code).to_string(),
    }
}

impl FirewallError {
    /// What an error of netlink means while `doing` something.
    pub(super) fn of(doing: &'static str) -> impl Fn(netlink::NetlinkError) -> FirewallError {
        move |error| match error {
            netlink::NetlinkError::Refused(code) => FirewallError::refused(doing, code),
            netlink::NetlinkError::Silent => {
                FirewallError::Unreachable { doing, cause: "no answer within 5 s".to_owned() }
            }
            netlink::NetlinkError::Socket(errno) if errno == Errno::PROTONOSUPPORT => {
                FirewallError::ModuleMissing { complaint: "no netfilter over netlink".to_owned() }
            }
            netlink::NetlinkError::Socket(errno) => FirewallError::Unreachable { doing, cause: errno.to_string() },
        }
    }

    pub(super) fn refused(doing: &'static str, code: i32) -> FirewallError {
        // Compared as numbers: ipset's own codes are no `Errno`, which ends at 4095.
        let is = |errno: Errno| errno.raw_os_error() == code;
        if is(Errno::PERM) || is(Errno::ACCESS) {
            FirewallError::NoPermission
        } else if is(Errno::OPNOTSUPP) || is(Errno::PROTONOSUPPORT) {
            FirewallError::ModuleMissing { complaint: format!("{doing} is not supported") }
        } else {
            FirewallError::Refused { doing, code }
        }
    }
}
