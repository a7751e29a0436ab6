//! What a daemon costs to which nothing happens.

use std::fmt::Write;
use std::time::Duration;

use crate::host::{cpu, mebibytes, resident, switches, threads};
use crate::latency;
use crate::report::Report;
use crate::scan;
use crate::support::lab::Lab;

/// The daemon looks around less often once nothing has happened for half a minute.
const SETTLED: Duration = Duration::from_secs(40);
const WATCHED: Duration = Duration::from_secs(60);

/// Both at the same time: neither does anything.
pub(crate) fn measure(report: &mut Report) {
    let (few_lab, all_lab) = (Lab::new(), Lab::new());
    let mut five = String::new();
    for jail in ["sshd", "sshd2", "sshd3"] {
        write!(five, "[jail.{jail}]\nfilter = \"sshd\"\nsource = {{ files = [\"DIR/auth.log\"] }}\n")
            .expect("a String");
    }
    for jail in ["ping-drop", "syn-flood"] {
        write!(five, "[jail.{jail}]\nfilter = \"{jail}\"\nsource = \"kernel\"\n").expect("a String");
    }
    let filters = scan::all_filters();
    let all = scan::jails(&filters, "{ files = [\"DIR/auth.log\"] }");
    let start = |lab: &Lab, jails: &str| latency::start(lab, &format!("[firewall]\nbackend = \"iptables\"\n{jails}"));
    let guards = [(start(&few_lab, &five), 5), (start(&all_lab, &all), filters.len())];
    std::thread::sleep(SETTLED);
    let before: Vec<(u64, Duration)> = guards.iter().map(|(guard, _)| (switches(guard), cpu(guard))).collect();
    std::thread::sleep(WATCHED);
    for ((guard, jails), (switched, worked)) in guards.iter().zip(before) {
        let wakes = (switches(guard) - switched) as f64 / WATCHED.as_secs_f64();
        let busy = cpu(guard).saturating_sub(worked);
        let (all, own) = mebibytes(resident(guard));
        report.row(&format!("idle, {jails} jails: resident"), &all, &format!("{own}; {} threads", threads(guard)));
        report.row(&format!("idle, {jails} jails: wake-ups of all threads"), &format!("{wakes:.2} /s"), "");
        report.row(
            &format!("idle, {jails} jails: processor time in a minute"),
            &format!("{:.1} ms", busy.as_secs_f64() * 1e3),
            "",
        );
    }
}
