//! Reads a log block by block and has several threads scan the blocks. What follows is the same as if one had done it
//! all: blocks into which something reaches from the lines before them are scanned again, in their order.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::lane::{Lane, Scanned};
use crate::ctl::{Error, input};
use crate::filters::{Clock, Matcher};
use crate::pipeline::event::Event;
use crate::sources::crew::{self, Feed};

/// Bytes that are read at a time.
const BLOCK: usize = 256 * 1024;

/// How much was read.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

/// Hands out each ban, with the number of the lane in which it happens.
pub(super) fn through(
    path: &Path,
    lanes: &mut [Lane],
    clock: &Clock,
    banned: impl FnMut(usize, &Event) -> io::Result<()>,
) -> Result<Seen, Error> {
    lanes.iter_mut().for_each(Lane::begin);
    let matchers: Vec<Arc<Matcher>> = lanes.iter().map(|lane| Arc::clone(&lane.matcher)).collect();
    let file = input::open(path, "replay").map_err(|why| Error::File(path.to_owned(), why))?;
    let mut walk = Walk {
        path,
        file: Some(file),
        rest: Vec::new(),
        spare: Vec::new(),
        lanes,
        clock,
        banned,
        seen: Seen::default(),
    };
    crew::run(crew::threads(), &mut walk, |block: &Vec<u8>| {
        matchers.iter().map(|matcher| Scanned::of(matcher, block, clock)).collect()
    })?;
    Ok(walk.seen)
}

struct Walk<'a, F> {
    path: &'a Path,
    /// `None` behind its end.
    file: Option<Box<dyn Read>>,
    /// The beginning of a line that the last block ended in.
    rest: Vec<u8>,
    /// Blocks that are done with.
    spare: Vec<Vec<u8>>,
    lanes: &'a mut [Lane],
    clock: &'a Clock,
    banned: F,
    seen: Seen,
}

impl<F: FnMut(usize, &Event) -> io::Result<()>> Feed for Walk<'_, F> {
    type Block = Vec<u8>;
    type Made = Vec<Scanned>;
    type Error = Error;

    /// A line that is cut by the end of a block waits for the next.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let Some(file) = &mut self.file else { return Ok(None) };
        let mut block = self.spare.pop().unwrap_or_default();
        block.resize(BLOCK, 0);
        let mut filled = self.rest.len();
        block[..filled].copy_from_slice(&self.rest);
        let whole = loop {
            let count = file.read(&mut block[filled..]).map_err(|why| Error::File(self.path.to_owned(), why))?;
            filled += count;
            match memchr::memrchr(b'\n', &block[..filled]) {
                _ if count == 0 => {
                    self.file = None;
                    break filled;
                }
                Some(newline) => break newline + 1,
                None if filled == block.len() => break filled,
                None => {}
            }
        };
        self.rest.clear();
        self.rest.extend_from_slice(&block[whole..filled]);
        block.truncate(whole);
        Ok(Some(block).filter(|block| !block.is_empty()))
    }

    fn done(&mut self, block: Vec<u8>, made: Option<Vec<Scanned>>) -> Result<(), Error> {
        let mut made = made.into_iter().flatten();
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            let lines = lane.take(&block, made.next(), self.clock, |event| (self.banned)(number, event))?;
            self.seen.lines += if number == 0 { lines } else { 0 };
        }
        self.seen.bytes += block.len() as u64;
        self.spare.push(block);
        Ok(())
    }
}
