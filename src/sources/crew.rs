//! Blocks of one log, worked on by several threads at once. Blocks go in and what was made of them comes out in the same
//! order; it knows nothing of logs.

use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Most threads that work on one log.
const MOST: usize = 16;

/// Blocks that lie ready for each of them, or were worked on and wait for their turn.
const READY: usize = 2;

/// Where the blocks come from, and who takes what was made of them: one thread, which does nothing else meanwhile.
pub(crate) trait Feed {
    type Block: Send;
    type Made: Send;
    type Error;

    /// The next block; `None` when there is none.
    fn next(&mut self) -> Result<Option<Self::Block>, Self::Error>;

    /// Takes a block back with what was made of it; nothing, where there are no threads to make it.
    fn done(&mut self, block: Self::Block, made: Option<Self::Made>) -> Result<(), Self::Error>;
}

/// How many threads are worth starting for one log: none where there is one processor.
pub(crate) fn threads() -> usize {
    match thread::available_parallelism().map_or(1, NonZero::get) {
        1 => 0,
        processors => processors.min(MOST),
    }
}

/// Hands all blocks of `feed` through `work`. At most a few blocks per thread are under way.
pub(crate) fn run<F: Feed>(
    threads: usize,
    feed: &mut F,
    work: impl Fn(&F::Block) -> F::Made + Sync,
) -> Result<(), F::Error> {
    if threads == 0 {
        while let Some(block) = feed.next()? {
            feed.done(block, None)?;
        }
        return Ok(());
    }
    // Most often there is nothing, and nobody is started for it.
    let Some(first) = feed.next()? else { return Ok(()) };
    thread::scope(|scope| {
        let hands: Vec<Hand<F>> = (0..threads)
            .map(|_| {
                let (blocks, todo) = sync_channel::<F::Block>(READY);
                let (done, made) = sync_channel(READY);
                let work = &work;
                scope.spawn(move || {
                    for block in todo {
                        let made = work(&block);
                        if done.send((block, made)).is_err() {
                            return;
                        }
                    }
                });
                Hand { blocks, made }
            })
            .collect();
        rounds(&hands, feed, first)
    })
}

/// One of the threads. It ends when nobody has blocks for it any more.
struct Hand<F: Feed> {
    blocks: SyncSender<F::Block>,
    made: Receiver<(F::Block, F::Made)>,
}

/// Deals the blocks out in turn, and takes them back in the same turn.
fn rounds<F: Feed>(hands: &[Hand<F>], feed: &mut F, first: F::Block) -> Result<(), F::Error> {
    let (mut given, mut taken, mut next) = (0, 0, Some(first));
    loop {
        while given - taken < hands.len() * READY
            && let Some(block) = next.take()
        {
            // It fails only after a panic of the thread, which `scope` passes on.
            let _panicked = hands[given % hands.len()].blocks.send(block);
            given += 1;
            next = feed.next()?;
        }
        if given == taken {
            return Ok(());
        }
        let Ok((block, made)) = hands[taken % hands.len()].made.recv() else { return Ok(()) };
        taken += 1;
        feed.done(block, Some(made))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers up to an end; what came back, and when to give up.
    struct Numbers {
        next: u64,
        end: u64,
        back: Vec<u64>,
        enough: usize,
    }

    impl Feed for Numbers {
        type Block = u64;
        type Made = u64;
        type Error = ();

        fn next(&mut self) -> Result<Option<u64>, ()> {
            self.next += 1;
            Ok(Some(self.next).filter(|number| *number <= self.end))
        }

        fn done(&mut self, block: u64, made: Option<u64>) -> Result<(), ()> {
            assert!(made.is_none_or(|made| made == block * 2));
            self.back.push(block);
            if self.back.len() < self.enough { Ok(()) } else { Err(()) }
        }
    }

    fn numbers(threads: usize, end: u64, enough: usize) -> (Result<(), ()>, Vec<u64>) {
        let mut numbers = Numbers { next: 0, end, back: Vec::new(), enough };
        let outcome = run(threads, &mut numbers, |number| {
            // Some take longer, so that they are overtaken.
            std::hint::black_box((0..number % 7 * 1000).fold(0, |sum, step| sum ^ step));
            number * 2
        });
        (outcome, numbers.back)
    }

    #[test]
    fn blocks_come_back_in_order_from_any_number_of_threads() {
        for threads in 0..5 {
            for end in [0, 1, 3, 1000] {
                assert_eq!(numbers(threads, end, usize::MAX), (Ok(()), (1..=end).collect()));
            }
        }
    }

    #[test]
    fn whoever_takes_them_may_give_up() {
        for threads in 0..4 {
            let (outcome, back) = numbers(threads, 1000, 10);
            assert_eq!((outcome, back), (Err(()), (1..=10).collect()));
        }
    }
}
