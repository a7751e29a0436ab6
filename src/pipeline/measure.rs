//! A door for `benches/windows.rs`, which measures what no command shows: the way of one hit through window and policy.

use std::net::IpAddr;
use std::path::Path;

use super::Pipeline;
use super::wiring::Wiring;
use crate::filters::{Effect, Evidence, Hit};
use crate::ledger::Ledger;
use crate::policy::allowlist::Allowlist;
use crate::setup::{self, Depth};
use crate::sources::Place;
use crate::time::Timestamp;

/// The pipeline of a configuration with one jail, without logs and without a firewall.
pub struct Measured {
    pipeline: Pipeline,
}

impl Measured {
    /// # Panics
    /// When something is wrong with the configuration.
    pub fn new(config: &Path) -> Measured {
        let (setup, problems) = setup::load(config, Depth::Read);
        let setup = setup.unwrap_or_else(|| panic!("{problems:#?}"));
        let wiring = Wiring::new(&setup.config, &setup.filters, |_, _| Place::Stdin);
        Measured { pipeline: Pipeline::new(&setup.config, &wiring, Ledger::in_memory(), Allowlist::default()) }
    }

    /// Hits of the sources with these numbers, each at so many milliseconds, as a block of a log brings them; how many
    /// bans they led to.
    pub fn hits(&mut self, sources: impl IntoIterator<Item = (u32, i64)>, proven: bool) -> usize {
        let evidence = if proven { Evidence::Proven } else { Evidence::Forgeable };
        let hits: Vec<Hit> = sources.into_iter().map(|(source, millis)| hit(source, evidence, millis)).collect();
        let Some(last) = hits.last() else { return 0 };
        self.pipeline.on_hits(0, &hits, false, last.time).changes.len()
    }

    /// Sources in the table of the jail.
    pub fn tracked(&self) -> usize {
        self.pipeline.jails()[0].tracked()
    }
}

fn hit(source: u32, evidence: Evidence, millis: i64) -> Hit {
    Hit {
        address: IpAddr::from(source.to_be_bytes()),
        time: Timestamp::from_micros(1_795_224_600_000_000 + millis * 1000),
        filter: 0,
        pattern: 0,
        user: None,
        port: None,
        evidence,
        effect: Effect::Count(1),
        repeat: 1,
        line: crate::filters::Excerpt::default(),
    }
}
