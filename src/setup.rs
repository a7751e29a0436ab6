//! The configuration and its filters, read and checked together. In: the main file. Out: both, or every problem.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::problem::{Problem, Problems};
use crate::config::{self, Config, FilterFacts};
use crate::filters::{Filter, Filters, Format};

/// What a daemon or a replay works with.
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) filters: Filters,
}

/// How much of the filters is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Those of enabled jails are read. A mistake in another one is no reason to leave the machine unguarded.
    Read,
    /// All are read, and each proves itself on its samples.
    Prove,
}

/// Reads everything and notes every problem; with an error among them there is no result.
pub(crate) fn load(path: &Path, depth: Depth) -> (Option<Setup>, Vec<Problem>) {
    let problems = Problems::default();
    let setup = Config::load(path, &problems).map(|config| {
        let filters = match depth {
            Depth::Read => read_used(&config, &problems),
            Depth::Prove => Filters::load(&config.daemon.filters, &problems),
        };
        if depth == Depth::Prove {
            filters.verify(&problems);
        }
        config::check(&config, &facts(&filters), &problems);
        Setup { config, filters }
    });
    let usable = !problems.has_errors();
    (setup.filter(|_| usable), problems.into_sorted())
}

/// The filters of enabled jails. When one is missing all are read, so that a hint can name those there are.
fn read_used(config: &Config, problems: &Problems) -> Filters {
    if config.enabled().next().is_none() {
        return Filters::default();
    }
    let used = |name: &str| config.enabled().any(|jail| jail.filter == name);
    let filters = Filters::load_those(&config.daemon.filters, used, problems);
    if config.enabled().all(|jail| filters.get(&jail.filter).is_some()) || problems.has_errors() {
        return filters;
    }
    Filters::load(&config.daemon.filters, &Problems::default())
}

fn facts(filters: &Filters) -> BTreeMap<String, FilterFacts> {
    let facts = |filter: &Filter| FilterFacts {
        kernel: filter.format == Format::Kernel,
        needs_prefix: filter.needs_prefix(),
        has_source: !(filter.logs.is_empty() && filter.units.is_empty() && filter.identifiers().is_empty()),
        names_users: filter.names_users(),
        evidence: filter.evidence,
    };
    filters.iter().map(|filter| (filter.name.to_string(), facts(filter))).collect()
}
