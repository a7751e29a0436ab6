//! `make bench`: the figures of the programs, each beside what it is to be compared with in the same run.
//!
//! These are measurements, not tests: nothing fails because a machine is slow. Figures of one run may be compared
//! with each other; machines differ, and so do hours. `BENCH=name` runs one part, `BENCH_OUT=file` keeps the table.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people are rounded"
)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod host;
mod idle;
mod import;
mod latency;
mod million;
mod report;
mod rivals;
mod scan;
mod storm;
mod workloads;

use report::Report;

type Part = (&'static str, fn(&mut Report));

const PARTS: [Part; 6] = [
    ("scan", scan::measure),
    ("latency", latency::measure),
    ("storm", storm::measure),
    ("million", million::measure),
    ("import", import::measure),
    ("idle", idle::measure),
];

fn main() {
    let wanted = std::env::var("BENCH").unwrap_or_default();
    let mut report = Report::open();
    // Rivals must be installed for it, so it is only measured when asked for: 'make bench-rivals'.
    if wanted == "rivals" {
        return rivals::measure(&mut report);
    }
    let mut parts = PARTS.iter().filter(|(name, _)| wanted.is_empty() || *name == wanted).peekable();
    if parts.peek().is_none() {
        let names = PARTS.map(|(name, _)| name).join(", ");
        eprintln!("there is no part '{wanted}': name one of stages, windows, {names}, rivals");
        std::process::exit(2);
    }
    parts.for_each(|(_, part)| part(&mut report));
}
