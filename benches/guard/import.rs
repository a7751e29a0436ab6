//! A blocklist of a million lines, and a ban that comes in the middle of it.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use crate::host::{mebibytes, resident};
use crate::latency;
use crate::report::Report;
use crate::storm::settle;
use crate::support::guard::Guard;
use crate::support::lab::Lab;

const LINES: u32 = 1_000_000;

/// Bans that are timed while the list comes and goes.
const ROUNDS: usize = 20;

pub(crate) fn measure(report: &mut Report) {
    for backend in ["iptables", "nftables"] {
        let lab = Lab::new();
        let mut guard = latency::prepare(&latency::config(backend));
        guard.append("list.txt", &list());
        guard.append("empty.txt", "");
        guard.start(&lab.server);
        let before = resident(&guard);
        let path = guard.path("list.txt");
        let file = path.to_str().expect("a path");
        let start = Instant::now();
        guard.ctl(&["import", "--name", "list", file]);
        let took = start.elapsed().as_secs_f64();
        report.row(
            &format!("{backend}: import of {LINES} lines"),
            &format!("{took:.2} s"),
            &format!("{} in the kernel", guard.status()["installed"]),
        );
        settle();
        let (all, own) = mebibytes(resident(&guard));
        report.row(&format!("{backend}: resident with that list"), &all, &own);
        while_it_changes(report, backend, &lab, &guard);
        settle();
        let (all, _) = mebibytes(resident(&guard));
        report.row(&format!("{backend}: resident when it is gone"), &all, &format!("{:.1} MiB at first", before.0));
    }
}

/// The list goes and comes and goes again, while somebody else is banned.
fn while_it_changes(report: &mut Report, backend: &str, lab: &Lab, guard: &Guard) {
    let (list, empty) = (guard.path("list.txt"), guard.path("empty.txt"));
    let import = |file: &std::path::Path| {
        guard.ctl(&["import", "--name", "list", "--empty", file.to_str().expect("a path")]);
    };
    std::thread::scope(|scope| {
        let importing = scope.spawn(|| {
            import(&empty);
            import(&list);
            import(&empty);
        });
        let mut times = Vec::new();
        while !importing.is_finished() && times.len() < ROUNDS {
            times.push(latency::of_file(lab, guard, 1).0);
        }
        importing.join().expect("it is imported");
        let rounds = times.len();
        let (median, worst) = crate::report::median_and_p99(&mut times);
        report.row(
            &format!("{backend}: append to first dropped packet, median"),
            &format!("{median:.2} ms"),
            &format!("at most {worst:.2} ms of {rounds}, while such a list is imported"),
        );
    });
}

/// Addresses and networks of both families.
fn list() -> String {
    let mut text = String::new();
    for number in 0..LINES / 4 {
        let (ipv4, ipv6) = (u32::from(Ipv4Addr::new(20, 0, 0, 0)) + number * 1024, u128::from(number) << 80);
        let ipv6 = 0x2a00_u128 << 112 | ipv6;
        writeln!(
            text,
            "{}\n{}/24\n{}\n{}/64",
            Ipv4Addr::from(ipv4 + 9),
            Ipv4Addr::from(ipv4 + 512),
            Ipv6Addr::from(ipv6 | 7),
            Ipv6Addr::from(ipv6 | 1 << 64)
        )
        .expect("a String takes everything");
    }
    text
}
