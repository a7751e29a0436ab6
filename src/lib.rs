//! Banward reads a server's logs, notices who attacks it, and shuts that source out in the kernel.
//!
//! The modules below stand in the order in which data flows. A stage names the types of the stages before it,
//! never of those after it; from `filters` to `ledger` nothing is async and nothing reads a clock.

// leaf: points in time, durations, how both are shown
mod time;

// leaf: text from outside, fit for a terminal or a log
mod text;

// leaf: what the daemon says
mod logger;

// leaf: mutexes, as they are taken
mod lock;

// leaf: hashes that nobody outside can foresee
mod keyed;

// leaf: very many small entries in order
mod leaves;

// leaf: very many prefixes in order
mod netmap;

// files that people write → the configuration, or all that is wrong with it
mod config;

// lines → hits
mod filters;

// log files, kernel, journal, standard input → lines, run through the filters in the source's own thread
mod sources;

// hits → offences
mod windows;

// offences → decisions
mod policy;

// decisions → bans and their history, kept → changes
mod ledger;

// changes → the kernel and the blocklist file
mod firewall;

// what a process gives up: its user, capabilities, files, system calls
mod sandbox;

// memory that goes back to the system
mod memory;

// the process that holds the firewall, and refuses what no brain may ask for
mod enforcer;

// the `[host]` section → the rules of the host itself, their verdicts, and other people's mistakes
mod rules;

// the synchronous heart: hit → window → policy → ledger → changes
mod pipeline;

// the configuration and its filters, read and checked together
mod setup;

// the socket between daemon and banctl
mod control;

// start-up order, one loop, reload, stop
mod daemon;

// banctl: one file per subcommand
mod ctl;

// a door for fuzzers
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod hostile;
// single stages, opened for the benches
#[cfg(feature = "bench")]
mod measure;

pub use ctl::banctl_main;
pub use daemon::banward_main;

#[cfg(feature = "bench")]
#[doc(hidden)]
pub use {measure::Book, measure::Scanner, measure::messages, pipeline::measure::Measured};
