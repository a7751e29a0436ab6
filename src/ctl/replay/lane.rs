//! One configuration at work on a log that is replayed.

use std::io;
use std::sync::Arc;

use crate::filters::{Clock, Effect, Hit, Matcher, Memory};
use crate::ledger::Ledger;
use crate::pipeline::event::{Event, Kind};
use crate::pipeline::wiring::Wiring;
use crate::pipeline::{AHEAD, Outcome, Pipeline};
use crate::policy::allowlist::Allowlist;
use crate::setup::Setup;
use crate::sources::Place;
use crate::time::Timestamp;

pub(super) struct Lane {
    pipeline: Pipeline,
    pub(super) matcher: Arc<Matcher>,
    /// The latest log time so far.
    now: Timestamp,
    memory: Memory,
    /// Space for the hits of a block.
    hits: Vec<Hit>,
    pub(super) hit_count: u64,
}

/// What the filters make of a block.
pub(super) struct Scanned {
    lines: u64,
    hits: Vec<Hit>,
    /// What the block leaves behind for the next.
    memory: Memory,
}

impl Lane {
    pub(super) fn new(setup: &Setup) -> Lane {
        // Every enabled jail reads every file: which log a line came from is for the filters to tell.
        let wiring = Wiring::new(&setup.config, &setup.filters, |_, _| Place::Stdin);
        let mut allowlist = Allowlist::default();
        allowlist.set_given(&setup.config.allow.networks);
        allowlist.set_widest(setup.config.allow.widest);
        let pipeline = Pipeline::new(&setup.config, &wiring, Ledger::in_memory(), allowlist).repeatable();
        let matcher = match wiring.sources.first() {
            Some(source) => source.matcher.clone(),
            None => Arc::new(Matcher::new(Vec::new())),
        };
        Lane { pipeline, matcher, now: Timestamp::EPOCH, memory: Memory::default(), hits: Vec::new(), hit_count: 0 }
    }

    /// Another log begins.
    pub(super) fn begin(&mut self) {
        self.memory = Memory::default();
    }

    /// Sources in the tables of all windows.
    pub(super) fn sources(&self) -> u64 {
        self.pipeline.jails().iter().map(|jail| jail.tracked() as u64).sum()
    }

    /// What follows from a block, which may have been scanned already, by itself. Hands out the bans; says how many
    /// lines it has.
    pub(super) fn take(
        &mut self,
        block: &[u8],
        scanned: Option<Scanned>,
        clock: &Clock,
        banned: impl FnMut(&Event) -> io::Result<()>,
    ) -> io::Result<u64> {
        let (mut hits, lines) = match scanned {
            Some(Scanned { hits, lines, memory }) if !self.memory.reaches(block, &memory) => {
                self.memory.adopt(memory);
                (hits, lines)
            }
            _ => scan(&self.matcher, block, &mut self.memory, clock, std::mem::take(&mut self.hits)),
        };
        self.judge(&hits, banned)?;
        hits.clear();
        self.hits = hits;
        Ok(lines)
    }

    fn judge(&mut self, hits: &[Hit], mut banned: impl FnMut(&Event) -> io::Result<()>) -> io::Result<()> {
        self.hit_count += hits.iter().filter(|hit| hit.effect != Effect::Forgive).count() as u64;
        let mut outcome = Outcome::default();
        for hits in hits.chunks(AHEAD) {
            self.pipeline.look_ahead(0, hits);
            for hit in hits {
                self.now = self.now.max(hit.time);
                if self.pipeline.ledger.next_expiry().is_some_and(|end| end <= self.now) {
                    self.pipeline.expire(self.now);
                }
                self.pipeline.on_hit(0, hit, false, self.now, &mut outcome);
                outcome
                    .events
                    .iter()
                    .filter(|event| matches!(event.kind, Kind::Banned | Kind::Limited))
                    .try_for_each(&mut banned)?;
                outcome.clear();
            }
        }
        Ok(())
    }
}

impl Scanned {
    /// With a memory of its own.
    pub(super) fn of(matcher: &Matcher, block: &[u8], clock: &Clock) -> Scanned {
        let mut memory = Memory::default();
        let (hits, lines) = scan(matcher, block, &mut memory, clock, Vec::new());
        Scanned { lines, hits, memory }
    }
}

/// The hits are added to those given.
fn scan(matcher: &Matcher, block: &[u8], memory: &mut Memory, clock: &Clock, mut hits: Vec<Hit>) -> (Vec<Hit>, u64) {
    let lines = matcher.scan(block, clock, memory, &mut hits).lines;
    (hits, lines)
}
