//! Endurance, for `make soak MINUTES=n`: attacks, rotations, reloads, flushes of the firewall, bans and unbans by hand
//! and restarts at once, with both backends. Ends with a table, and with a failure where a line or a ban was lost, where
//! somebody was banned wrongly, or where memory grows.

#![expect(clippy::unwrap_used, reason = "a soak that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod crowd;
mod tally;
mod trial;

use std::process::ExitCode;
use std::time::Duration;

use tally::Tally;
use trial::Trial;

const BACKENDS: [&str; 2] = ["iptables", "nftables"];

/// Minutes, unless an argument says otherwise.
const MINUTES: u64 = 1;

fn main() -> ExitCode {
    let argument = std::env::args().nth(1);
    let Ok(minutes) = argument.as_deref().map_or(Ok(MINUTES), str::parse) else {
        eprintln!("usage: soak [MINUTES]");
        return ExitCode::from(2);
    };
    println!("soaking for {minutes} minutes, with {} at once", BACKENDS.join(" and "));
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let trial =
            |(seed, backend)| scope.spawn(move || Trial::new(backend, seed).run(Duration::from_secs(minutes * 60)));
        let trials: Vec<_> = (1..).zip(BACKENDS).map(trial).collect();
        trials.into_iter().map(|trial| trial.join().unwrap()).collect()
    });
    print!("{}", tally::table(&BACKENDS, &tallies));
    let faults: Vec<String> = tallies.iter().flat_map(Tally::faults).collect();
    for fault in &faults {
        println!("FAILED: {fault}");
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
