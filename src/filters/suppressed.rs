//! Lines that say that other lines are missing: rate limits of the kernel, journald and rsyslog. What a log counts is
//! a sample then. In: program and message. Out: how many lines, and who left them out. Each text is as its program's
//! source has it (`lib/ratelimit.c`, `journald-server.c`, `runtime/ratelimit.c`, `imuxsock.c`).

use serde::{Deserialize, Serialize};

use super::netfilter::strip_uptime;
use crate::time::Timestamp;

/// Texts one of which each such line contains, in whatever case.
pub(super) const MARKS: [&[u8]; 2] = [b"suppressed", RATE_LIMITING];

const RATE_LIMITING: &[u8] = b"due to rate-limiting";

/// Who left lines out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Limiter {
    Kernel,
    Journald,
    Rsyslog,
}

impl Limiter {
    /// What an administrator can do about it.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Limiter::Kernel => "raise the sysctls net.core.message_burst and kernel.printk_ratelimit_burst",
            Limiter::Journald => "raise RateLimitBurst= in journald.conf",
            Limiter::Rsyslog => "raise ratelimit.burst of imjournal, or sysSock.rateLimit.burst of imuxsock",
        }
    }
}

impl std::fmt::Display for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Limiter::Kernel => "the kernel",
            Limiter::Journald => "journald",
            Limiter::Rsyslog => "rsyslog",
        })
    }
}

/// Lines that are missing from a log, and who said so last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suppressed {
    /// 0 as long as it is only known that there are some.
    pub(crate) lines: u64,
    pub(crate) by: Limiter,
    pub(crate) time: Timestamp,
}

impl Suppressed {
    pub(crate) fn add(so_far: &mut Option<Suppressed>, more: Suppressed) {
        let before = so_far.map_or(0, |before| before.lines);
        *so_far = Some(Suppressed { lines: before.saturating_add(more.lines), ..more });
    }
}

/// What a message of a program says of missing lines.
pub(super) fn read(program: &[u8], message: &[u8]) -> Option<(u64, Limiter)> {
    match program {
        b"kernel" => of_kernel(strip_uptime(message).trim_ascii_start()).map(|lines| (lines, Limiter::Kernel)),
        b"systemd-journald" => of_journald(message).map(|lines| (lines, Limiter::Journald)),
        _ if program.starts_with(b"rsyslogd") => of_rsyslog(message).map(|lines| (lines, Limiter::Rsyslog)),
        _ => None,
    }
}

/// `net_ratelimit: 12 callbacks suppressed`, `printk: 12 messages suppressed.`
fn of_kernel(message: &[u8]) -> Option<u64> {
    let text = message.strip_suffix(b".").unwrap_or(message).strip_suffix(b" suppressed")?;
    let text = text.strip_suffix(b" callbacks").or_else(|| text.strip_suffix(b" messages"))?;
    let (function, lines) = text.split_at(memchr::memrchr(b' ', text)?);
    // The name of the function that was limited, so that no text of a packet can be one.
    let name = function.strip_suffix(b":")?;
    let is_name = name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
    number(lines.get(1..)?).filter(|_| is_name)
}

/// `Suppressed 12 messages from ssh.service`.
fn of_journald(message: &[u8]) -> Option<u64> {
    let text = message.strip_prefix(b"Suppressed ")?;
    let (lines, rest) = text.split_at(memchr::memchr(b' ', text)?);
    number(lines).filter(|_| rest.starts_with(b" messages from "))
}

/// `imjournal: 12 messages lost due to rate-limiting (20000 allowed within 600 seconds)`,
/// `imuxsock lost 12 messages from pid 34 due to rate-limiting`, and that it begins.
fn of_rsyslog(message: &[u8]) -> Option<u64> {
    let end = memchr::memmem::find(message, RATE_LIMITING)?;
    let mut words = message.get(..end)?.split(u8::is_ascii_whitespace);
    if words.clone().any(|word| word == b"begin" || word == b"begins") {
        return Some(0);
    }
    words.by_ref().find_map(number)
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limiter_is_understood() {
        for (program, message, lines) in [
            ("kernel", "net_ratelimit: 12 callbacks suppressed", 12),
            ("kernel", "[12345.678901] nf_conntrack: 7 callbacks suppressed", 7),
            ("kernel", "printk: 3 messages suppressed.", 3),
            ("systemd-journald", "Suppressed 1234 messages from ssh.service", 1234),
            ("rsyslogd", "imjournal: 500 messages lost due to rate-limiting (20000 allowed within 600 seconds)", 500),
            ("rsyslogd", "imjournal: begin to drop messages due to rate-limiting", 0),
            ("rsyslogd-2177", "imuxsock lost 68 messages from pid 1234 due to rate-limiting", 68),
            ("rsyslogd", "imuxsock[pid 99]: 45 messages lost due to rate-limiting", 45),
            ("rsyslogd", "imuxsock[pid 99]: begin to drop messages due to rate-limiting", 0),
        ] {
            assert_eq!(read(program.as_bytes(), message.as_bytes()).map(|(lines, _)| lines), Some(lines), "{message}");
        }
    }

    #[test]
    fn what_others_say_is_no_limit() {
        for (program, message) in [
            ("sshd", "Suppressed 12 messages from ssh.service"),
            ("kernel", "DROP: IN=eth0 x: 12 callbacks suppressed"),
            ("kernel", "warnings suppressed"),
            ("systemd-journald", "Suppressed many messages from ssh.service"),
            ("rsyslogd", "imjournal: journal reloaded"),
        ] {
            assert_eq!(read(program.as_bytes(), message.as_bytes()), None, "{message}");
        }
    }
}
