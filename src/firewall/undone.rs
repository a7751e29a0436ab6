//! What was asked for and is not in force, though all went well: some of it may not be, or has no room.

use std::fmt;

/// What may not be done, whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// How many entries; one at least.
    pub(crate) count: u64,
    /// Why not the first of them.
    pub(crate) first: String,
}

/// Of one step, or of all parts of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Undone {
    pub(super) refused: Option<Refused>,
    /// Why there is no room.
    pub(super) full: Option<String>,
}

impl Refused {
    /// Counts what was refused later.
    pub(crate) fn add(known: &mut Option<Refused>, later: Option<Refused>) {
        match (known.as_mut(), later) {
            (Some(known), Some(later)) => known.count = known.count.saturating_add(later.count),
            (None, later) => *known = later,
            (Some(_), None) => {}
        }
    }
}

impl Undone {
    pub(super) fn add(&mut self, later: Undone) {
        Refused::add(&mut self.refused, later.refused);
        self.full = later.full.or(self.full.take());
    }

    /// For whoever asked.
    pub(super) fn answer(self) -> Result<(), String> {
        let said: Vec<String> = self.refused.map(|refused| refused.to_string()).into_iter().chain(self.full).collect();
        if said.is_empty() { Ok(()) } else { Err(said.join("; ")) }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the enforcer refuses this: {}", self.first)?;
        match self.count.saturating_sub(1) {
            0 => Ok(()),
            others => write!(f, " (and {others} more)"),
        }
    }
}
