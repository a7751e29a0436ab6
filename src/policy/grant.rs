//! What a person allowed, beside the configuration: `banctl allow add` and `banctl unban --allow`.

use std::fmt;
use std::sync::Arc;

use crate::time::{Timestamp, Until};

/// Most grants at a time.
pub(crate) const MAX_GRANTS: usize = 65_536;

/// One prefix's permission; the prefix is the key under which it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) since: Timestamp,
    pub(crate) until: Until,
    /// User id of who asked; unknown in ledgers of earlier versions.
    pub(crate) by: Option<u32>,
    /// What they said of it, for whoever reads the list later.
    pub(crate) comment: Arc<str>,
}

impl Grant {
    /// What holds after the same prefix was granted again: never less time.
    pub(crate) fn renewed(&self, again: Grant) -> Grant {
        let comment = if again.comment.is_empty() { Arc::clone(&self.comment) } else { again.comment };
        Grant { since: self.since, until: self.until.max(again.until), by: again.by, comment }
    }
}

/// For the end of a sentence: ` (uid 1000: the office)`; nothing where nothing is known.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.by, &*self.comment) {
            (None, "") => Ok(()),
            (None, comment) => write!(f, " ({comment})"),
            (Some(uid), "") => write!(f, " (uid {uid})"),
            (Some(uid), comment) => write!(f, " (uid {uid}: {comment})"),
        }
    }
}
