//! A log that is far behind is scanned by several threads, and reported in its order: with each block the position
//! behind it, as if one thread had read them all. Each block is scanned by itself; where lines before it reach into it,
//! it is scanned again when it is its turn.

use std::ops::Range;
use std::sync::Arc;

use super::Log;
use crate::filters::{Clock, Memory};
use crate::sources::crew::{self, Feed};
use crate::sources::lines::{self, Taken};
use crate::sources::outlet::Stopped;
use crate::sources::tail::Shared;
use crate::sources::tail::reader::{BUFFER, Filled, Mark, Reader};
use crate::sources::{BLOCK, Position};
use crate::time::Timestamp;

/// So many bytes that were not read are worth more than one thread.
const WORTH_IT: u64 = 16 * BLOCK as u64;

/// Reads the whole lines of a file up to its end if there are many of them. Whatever is not plain sailing, from a
/// truncated file to a line without an end, it leaves where it stands.
pub(super) fn read(log: &Log, reader: &mut Reader, shared: &mut Shared) -> Result<(), Stopped> {
    let behind = reader.size().map_or(0, |size| size.saturating_sub(reader.mark.offset));
    // What a new file begins with is told from what other files begin with, elsewhere.
    if behind < WORTH_IT || reader.mark.offset < BLOCK as u64 {
        return Ok(());
    }
    let (scan, threads) = (Arc::clone(&shared.scan), shared.threads);
    let mut backlog = Backlog { log, reader, shared, spare: Vec::new() };
    crew::run(threads, &mut backlog, |block: &Block| {
        let mut memory = Memory::default();
        (lines::take(&*scan, &block.clock, &mut memory, block.lines(), false), memory)
    })
}

struct Backlog<'a> {
    log: &'a Log,
    reader: &'a mut Reader,
    shared: &'a mut Shared,
    /// Blocks that are done with.
    spare: Vec<Vec<u8>>,
}

/// Whole lines of a file.
struct Block {
    buffer: Vec<u8>,
    lines: Range<usize>,
    clock: Clock,
    /// Where they end.
    mark: Mark,
    position: Position,
    warm: bool,
}

impl Block {
    fn lines(&self) -> &[u8] {
        &self.buffer[self.lines.clone()]
    }
}

impl Feed for Backlog<'_> {
    type Block = Block;
    type Made = (Taken, Memory);
    type Error = Stopped;

    fn next(&mut self) -> Result<Option<Block>, Stopped> {
        let mut buffer = self.spare.pop().unwrap_or_else(|| vec![0; BUFFER]);
        let Ok(Filled::New { from, to, inside: false }) = self.reader.fill(&mut buffer) else { return Ok(None) };
        let Some(newline) = memchr::memrchr(b'\n', &buffer[from..to]) else { return Ok(None) };
        let (lines, warm) = (from..from + newline + 1, self.reader.is_warm());
        self.reader.advance(&buffer, lines.start, lines.end);
        let clock = Clock { now: Timestamp::now(), zone: self.shared.zone.clone() };
        let (mark, position) = (self.reader.mark, self.reader.position());
        Ok(Some(Block { buffer, lines, clock, mark, position, warm }))
    }

    fn done(&mut self, block: Block, made: Option<(Taken, Memory)>) -> Result<(), Stopped> {
        let reader = &mut *self.reader;
        let taken = match made {
            Some((taken, memory)) if !reader.memory.reaches(block.lines(), &memory) => {
                reader.memory.adopt(memory);
                taken
            }
            _ => lines::take(&*self.shared.scan, &block.clock, &mut reader.memory, block.lines(), false),
        };
        self.log.hand_over(taken, reader, block.mark, block.position, block.warm, self.shared)?;
        self.spare.push(block.buffer);
        Ok(())
    }
}
