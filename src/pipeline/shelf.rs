//! The lines of the prefixes that were seen last, for `banctl why`. A prefix has one place, which it takes from whoever
//! had it, by chance, so that nobody can choose whom to crowd out.
//!
//! This is done for every hit: a line is copied into space that is there already, and nothing is allocated.

use std::hash::BuildHasher;
use std::sync::Arc;

use ipnet::IpNet;

use crate::filters::{Hit, KEPT_OF_LINE};
use crate::keyed::{Keys, Net};
use crate::time::Timestamp;

/// Lines that are kept of a prefix.
pub(super) const LINES: usize = 5;
/// Prefixes of which lines are kept: about 4 MB at most, whatever the lines are.
pub(super) const PREFIXES: usize = 2048;

/// A line that was a hit.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    /// No other line has it.
    pub(super) number: u64,
    pub(super) time: Timestamp,
    pub(super) jail: Arc<str>,
    /// Its beginning; attacker's text.
    pub(super) line: Box<[u8]>,
}

#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// None before the first line.
    places: Vec<Place>,
    /// Room for [`LINES`] lines of each place.
    texts: Vec<u8>,
    keys: Keys,
    /// How many lines there have been.
    noted: u64,
}

#[derive(Clone, Debug, Default)]
struct Place {
    of: Option<IpNet>,
    /// How many lines there have been of this prefix, the last [`LINES`] of which are here.
    count: usize,
    lines: [Kept; LINES],
}

/// A line, but for its text.
#[derive(Clone, Debug, Default)]
struct Kept {
    number: u64,
    time: Timestamp,
    jail: Option<Arc<str>>,
    length: usize,
}

impl Shelf {
    /// Looks where the next line of this prefix will be kept, which is this place, so that it is near then.
    pub(super) fn look_at(&self, at: usize, prefix: IpNet) -> u8 {
        let look = |place: &Place| {
            let which = place.next(prefix);
            self.texts[text_of(at, which)] ^ u8::from(place.lines[which].jail.is_some())
        };
        self.places.get(at).map_or(0, look)
    }

    /// Keeps the line of a hit.
    pub(super) fn note(&mut self, prefix: IpNet, jail: &Arc<str>, hit: &Hit) {
        if self.places.is_empty() {
            self.make_room();
        }
        self.noted += 1;
        let at = self.place_of(prefix);
        let place = &mut self.places[at];
        let which = place.next(prefix);
        if place.of != Some(prefix) {
            (place.of, place.count) = (Some(prefix), 0);
        }
        place.count += 1;
        let kept = &mut place.lines[which];
        if !kept.jail.as_ref().is_some_and(|known| Arc::ptr_eq(known, jail)) {
            kept.jail = Some(Arc::clone(jail));
        }
        let text = hit.line.get(..KEPT_OF_LINE).unwrap_or(&hit.line);
        (kept.number, kept.time, kept.length) = (self.noted, hit.time, text.len());
        let start = text_of(at, which);
        self.texts[start..start + text.len()].copy_from_slice(text);
    }

    #[cold]
    fn make_room(&mut self) {
        self.places = vec![Place::default(); PREFIXES];
        self.texts = vec![0; PREFIXES * LINES * KEPT_OF_LINE];
    }

    /// The lines of a prefix, the latest last.
    pub(super) fn lines_of(&self, prefix: IpNet) -> impl Iterator<Item = Trace> {
        let at = self.place_of(prefix);
        let held = self.places.get(at).is_some_and(|place| place.of == Some(prefix));
        held.then(|| self.lines_at(at)).into_iter().flatten()
    }

    /// All prefixes of which there are lines, with these.
    pub(super) fn iter(&self) -> impl Iterator<Item = (IpNet, impl Iterator<Item = Trace>)> {
        (0..self.places.len()).filter_map(|at| Some((self.places[at].of?, self.lines_at(at))))
    }

    fn lines_at(&self, at: usize) -> impl Iterator<Item = Trace> {
        let place = &self.places[at];
        (place.count.saturating_sub(LINES)..place.count).filter_map(move |number| {
            let which = number % LINES;
            let Kept { number, time, jail, length } = &place.lines[which];
            let line = self.texts[text_of(at, which)..][..*length].into();
            Some(Trace { number: *number, time: *time, jail: jail.clone()?, line })
        })
    }

    /// The place of a prefix.
    pub(super) fn place_of(&self, prefix: IpNet) -> usize {
        usize::try_from(self.keys.hash_one(Net(prefix)) % PREFIXES as u64).unwrap_or_default()
    }
}

impl Place {
    /// Where among its lines the next one of this prefix comes: first, if it had lines of another.
    fn next(&self, prefix: IpNet) -> usize {
        if self.of == Some(prefix) { self.count % LINES } else { 0 }
    }
}

/// Where the text of a line begins.
fn text_of(place: usize, which: usize) -> usize {
    (place * LINES + which) * KEPT_OF_LINE
}
