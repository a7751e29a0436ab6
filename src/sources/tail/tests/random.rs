//! Random histories of a log against a model. The model is what a perfect reader would have seen: all whole lines.

use super::*;

const SEEDS: u64 = 16;
const STEPS: u64 = 150;

struct History {
    world: World,
    random: Random,
    harness: Harness,
    /// Lines seen before the last restart.
    seen: Vec<String>,
    /// All whole lines that were written.
    written: Vec<String>,
    /// The beginning of a line whose end is not written yet.
    partial: String,
}

impl History {
    fn new(seed: u64, pattern: &str) -> History {
        let world = World::new(&[pattern]);
        let harness = world.start();
        let none = Vec::new;
        History { world, random: Random::new(seed), harness, seen: none(), written: none(), partial: String::new() }
    }

    fn line(&mut self) -> String {
        let padding = "x".repeat(usize::try_from(self.random.below(200)).unwrap());
        format!("{0} {padding} {0}", self.written.len())
    }

    fn write_lines(&mut self, count: u64) {
        let mut text = String::new();
        for _ in 0..count {
            let line = self.line();
            text.push_str(&line);
            text.push('\n');
            self.written.push(std::mem::take(&mut self.partial) + &line);
        }
        self.world.append("a.log", &text);
    }

    fn write_partial(&mut self) {
        let piece = format!("({}) ", self.random.below(1000));
        self.world.append("a.log", &piece);
        self.partial.push_str(&piece);
    }

    /// Writers end their lines before logs are rotated.
    fn end_line(&mut self) {
        if !self.partial.is_empty() {
            self.write_lines(1);
        }
    }

    fn shift_generations(&mut self) {
        self.end_line();
        for number in (1..6).rev() {
            if self.world.path(&format!("a.log.{number}")).exists() {
                self.world.rename(&format!("a.log.{number}"), &format!("a.log.{}", number + 1));
            }
        }
    }

    fn await_all(&mut self) {
        let expected = self.written.len().saturating_sub(self.seen.len());
        self.harness.await_until("all lines", |harness| harness.seen.len() >= expected);
    }

    fn restart(&mut self, meanwhile: impl FnOnce(&mut History)) {
        let resume = self.harness.stop();
        self.seen.append(&mut self.harness.seen);

        meanwhile(self);
        self.harness = self.world.start_with(|spec| spec.resume = resume);
    }

    fn step(&mut self) {
        let count = 1 + self.random.below(5);
        match self.random.below(40) {
            0..16 => self.write_lines(count),
            16..20 => self.write_partial(),
            20..22 => self.write_lines(count * 1000),
            22..26 => {
                self.await_all();
                self.write_lines(count);
                self.rename();
            }
            26..30 => {
                self.await_all();
                self.write_lines(count);
                self.copytruncate();
            }
            30..32 => {
                // Nobody can read what is deleted before it was read.
                self.end_line();
                self.await_all();
                if self.world.path("a.log").exists() {
                    fs::remove_file(self.world.path("a.log")).unwrap();
                }
                // Nor what is in a file that was there only while nobody looked.
                self.write_lines(count);
                self.await_all();
            }
            32..35 => self.restart(|history| history.write_lines(count)),
            35..37 => {
                self.await_all();
                self.restart(|history| {
                    history.write_lines(count);
                    history.rename();
                    history.write_lines(count);
                });
            }
            37..39 => {
                self.await_all();
                self.restart(|history| {
                    history.write_lines(count);
                    history.copytruncate();
                    history.write_lines(count);
                });
            }
            _ => self.await_all(),
        }
    }

    fn rename(&mut self) {
        self.shift_generations();
        self.world.rename("a.log", "a.log.1");
        // The order of generations after a restart is that of their times; rotations are never so near to each other.
        rotation::after_a_clock_tick(&self.world);
    }

    fn copytruncate(&mut self) {
        self.shift_generations();
        self.world.copytruncate("a.log", "a.log.1");
        rotation::after_a_clock_tick(&self.world);
    }
}

fn every_line_counts_once(pattern: &str) {
    for seed in 0..SEEDS {
        let mut history = History::new(seed, pattern);
        // A file that comes and goes before it is ever seen is nobody's.
        history.write_lines(1);
        history.await_all();
        for _ in 0..STEPS {
            history.step();
        }
        history.end_line();
        history.await_all();
        history.harness.stop();
        history.seen.append(&mut history.harness.seen);
        let (mut seen, mut written) = (history.seen, history.written);
        seen.sort();
        written.sort();
        let first_difference = seen.iter().zip(&written).find(|(seen, written)| seen != written);
        assert_eq!((first_difference, seen.len()), (None, written.len()), "seed {seed} of {pattern}");
    }
}

#[test]
fn in_random_histories_every_line_counts_once() {
    every_line_counts_once("a.log");
}

#[test]
fn in_random_histories_every_line_counts_once_when_rotated_files_match_the_glob() {
    every_line_counts_once("a.log*");
}
