//! What the ledger promises, in memory and on the disk.

mod crash;
mod disk;
mod full;
mod memory;

use std::time::Duration;

use super::{Ban, Entry, Scope};
use crate::filters::Evidence;
use crate::time::{Timestamp, Until};

const NOW: Timestamp = Timestamp::from_secs(1_795_224_600);

fn after(seconds: u64) -> Timestamp {
    NOW + Duration::from_secs(seconds)
}

fn ban(prefix: &str, jail: &str, seconds: u64) -> Ban {
    Ban {
        prefix: prefix.parse().unwrap(),
        jail: jail.into(),
        scope: Scope::default(),
        since: NOW,
        until: Until::At(after(seconds)),
        reason: "5 hits in 600 s".into(),
        count: 1,
        evidence: Evidence::Proven,
    }
}

fn entry(prefix: &str, seconds: u64) -> Entry {
    Entry { prefix: prefix.parse().unwrap(), scope: Scope::default(), until: Until::At(after(seconds)) }
}

fn web() -> Scope {
    Scope::of_ports(vec!["443/tcp".parse().unwrap()])
}
