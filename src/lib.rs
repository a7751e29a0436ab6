//! Banward reads a server's logs, notices who attacks it, and shuts that source out in the kernel.
//!
//! The modules below stand in the order in which data flows. A stage names the types of the stages before it,
//! never of those after it; from `filters` to `ledger` nothing is async and nothing reads a clock.

mod config; // the configuration: read, checked, ready to use
mod control; // the socket between daemon and banctl
mod ctl;
mod daemon; // start-up order, one loop, reload, stop
mod filters; // lines → hits
mod firewall; // changes → the kernel and the blocklist file
mod ledger; // decisions → bans and their history, kept; changes
mod pipeline; // the synchronous heart: hit → window → policy → ledger → changes
mod policy; // offences → decisions
mod sources; // log files, kernel, journal, standard input → lines, run through the filters in the source's own thread
mod time; // leaf: points in time, durations
mod windows; // hits → offences // banctl

pub use ctl::banctl_main;
pub use daemon::banward_main;
