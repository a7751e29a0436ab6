//! The configuration. In: TOML files. Out: a [`Config`] ready to use, or all problems at once.
//! It never touches the network, the firewall or the ledger.

pub(crate) mod document;
pub(crate) mod problem;
