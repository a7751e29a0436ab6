//! A list that somebody wants banned. To judge a million prefixes and to put them in order takes a while, so it is done
//! beside the pipeline, which then takes the list at once.

use ipnet::IpNet;

use super::event::{Event, Kind};
use super::{Pipeline, Refusal};
use crate::ledger::{Exchange, List};
use crate::policy;
use crate::policy::allowlist::Allowlist;
use crate::text::plural;
use crate::time::{Timestamp, Until};

/// A list as it is wanted.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) name: String,
    pub(crate) prefixes: Vec<IpNet>,
    pub(crate) since: Timestamp,
    pub(crate) until: Until,
    /// Whether what stands already is to be asked for again.
    pub(crate) all: bool,
}

/// What a list is judged by, and which list is in its place.
#[derive(Debug)]
pub(crate) struct Basis {
    allowlist: Allowlist,
    old: Option<List>,
}

/// A list that was judged: prefixes that reach an allowed address are left out, and named.
#[derive(Debug)]
pub(crate) struct Import {
    list: List,
    refused: Vec<Refusal>,
    all: bool,
    allowlist: Allowlist,
    exchange: Exchange,
}

/// A list that is in the ledger.
pub(crate) struct Taken {
    /// Prefixes whose [steps](crate::ledger::Ledger::steps) the kernel is to follow, in this order.
    pub(crate) touched: Vec<IpNet>,
    /// As in [`Wish`].
    pub(crate) all: bool,
    pub(crate) event: Event,
    pub(crate) refused: Vec<Refusal>,
}

impl Import {
    pub(crate) fn prepare(wish: Wish, basis: Basis) -> Import {
        Import::judge(wish, Vec::new(), basis)
    }

    /// Once more, by what is there now.
    pub(crate) fn prepare_again(self, basis: Basis) -> Import {
        let Import { list: List { name, prefixes, since, until }, refused, all, .. } = self;
        let wish = Wish { name: name.to_string(), prefixes: prefixes.to_vec(), since, until, all };
        Import::judge(wish, refused, basis)
    }

    fn judge(wish: Wish, mut refused: Vec<Refusal>, basis: Basis) -> Import {
        let (Wish { name, mut prefixes, since, until, all }, Basis { allowlist, old }) = (wish, basis);
        prefixes.retain(|prefix| {
            let verdict = policy::guard(*prefix, &allowlist, since);
            refused.extend(verdict.err().map(|why| why.to_string()));
            verdict.is_ok()
        });
        let list = List::new(&name, prefixes, since, until);
        let exchange = Exchange::of(list.clone(), old, all);
        Import { list, refused, all, allowlist, exchange }
    }

    pub(crate) fn name(&self) -> &str {
        &self.list.name
    }
}

impl Pipeline {
    /// What a list of this name is to be judged by.
    pub(crate) fn basis(&self, name: &str) -> Basis {
        Basis { allowlist: self.allowlist.clone(), old: self.ledger.list(name).cloned() }
    }

    /// Whether that is still what it was judged by.
    pub(crate) fn fits(&self, import: &Import) -> bool {
        import.allowlist == self.allowlist && self.ledger.fits(&import.exchange)
    }

    /// Takes a list that [fits](Pipeline::fits), whatever its size, at once.
    pub(crate) fn import(&mut self, import: Import, now: Timestamp) -> Result<Taken, Refusal> {
        let Import { list, refused, all, exchange, .. } = import;
        let touched = self.ledger.exchange(exchange).map_err(|why| why.to_string())?;
        let text = format!("list '{}' has {}", list.name, plural(list.prefixes.len() as u64, "entry"));
        Ok(Taken { touched, all, event: Event::new(now, Kind::Listed, text), refused })
    }
}
