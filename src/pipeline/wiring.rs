//! Which jail listens to which filter of which source. Jails that read the same place share one source, which runs
//! each filter once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Jail};
use crate::filters::{Evidence, Filter, Filters, Matcher, Mode};
use crate::ledger::Scope;
use crate::sources::Place;
use crate::windows::Spec;

/// The enabled jails and their sources.
pub(crate) struct Wiring {
    pub(crate) jails: Vec<Arc<Jail>>,
    /// What each jail guards.
    services: Vec<Service>,
    pub(crate) sources: Vec<Source>,
}

/// What a jail's filter says of the service whose log it reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Service {
    /// Its lines name nobody who has not completed a handshake.
    pub(crate) proven: bool,
    /// Its ports; empty for all.
    pub(crate) scope: Scope,
}

impl Service {
    fn of(filter: &Filter) -> Service {
        Service { proven: filter.evidence == Evidence::Proven, scope: Scope::of_ports(filter.ports.clone()) }
    }
}

/// One place that is read, once, for all jails that listen to it.
pub(crate) struct Source {
    pub(crate) place: Place,
    pub(crate) matcher: Arc<Matcher>,
    /// For each filter of the matcher, the jails that listen to it.
    listeners: Vec<Vec<usize>>,
    /// How far back the windows of these jails look.
    pub(crate) reach: Duration,
}

/// A source while it is being put together.
struct Draft {
    place: Place,
    filters: Vec<Arc<Filter>>,
    keys: Vec<FilterKey>,
    listeners: Vec<Vec<usize>>,
    reach: Duration,
}

/// What makes two jails share one filter of a matcher.
#[derive(PartialEq, Eq)]
struct FilterKey {
    name: String,
    mode: Mode,
    log_prefix: Vec<String>,
}

impl Wiring {
    /// Wires every enabled jail to the place that `place_of` names for it.
    pub(crate) fn new(config: &Config, filters: &Filters, place_of: impl Fn(&Jail, &Filter) -> Place) -> Wiring {
        let jails: Vec<Arc<Jail>> = config.enabled().cloned().map(Arc::new).collect();
        let mut drafts: Vec<Draft> = Vec::new();
        for (index, jail) in jails.iter().enumerate() {
            let Some(filter) = filters.get(&jail.filter) else { continue };
            let place = place_of(jail, &filter);
            let at = drafts.iter().position(|draft| draft.place == place).unwrap_or_else(|| {
                drafts.push(Draft::at(place));
                drafts.len() - 1
            });
            drafts[at].listen(index, jail, &filter);
        }
        let service = |jail: &Arc<Jail>| filters.get(&jail.filter).map(|filter| Service::of(&filter));
        let services = jails.iter().map(|jail| service(jail).unwrap_or_default()).collect();
        Wiring { jails, services, sources: drafts.into_iter().map(Draft::finish).collect() }
    }

    pub(crate) fn jails_and_services(&self) -> impl Iterator<Item = (Arc<Jail>, Service)> {
        self.jails.iter().cloned().zip(self.services.iter().cloned())
    }

    pub(crate) fn listeners(&self) -> Vec<Vec<Vec<usize>>> {
        self.sources.iter().map(|source| source.listeners.clone()).collect()
    }
}

impl Source {
    /// The names of the jails that listen, in their order.
    pub(crate) fn audience(&self, jails: &[Arc<Jail>]) -> String {
        let indices: BTreeSet<usize> = self.listeners.iter().flatten().copied().collect();
        let names: Vec<&str> = indices.iter().filter_map(|index| jails.get(*index)).map(|jail| &*jail.name).collect();
        names.join(", ")
    }
}

impl Draft {
    fn at(place: Place) -> Draft {
        Draft { place, filters: Vec::new(), keys: Vec::new(), listeners: Vec::new(), reach: Duration::ZERO }
    }

    fn listen(&mut self, index: usize, jail: &Jail, filter: &Arc<Filter>) {
        let key = FilterKey { name: jail.filter.clone(), mode: jail.mode, log_prefix: jail.log_prefix.clone() };
        let at = self.keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            self.filters.push(tuned(filter, jail));
            self.keys.push(key);
            self.listeners.push(Vec::new());
            self.keys.len() - 1
        });
        self.listeners[at].push(index);
        self.reach = self.reach.max(reach(&jail.window));
    }

    fn finish(self) -> Source {
        let matcher = Arc::new(Matcher::new(self.filters));
        Source { place: self.place, matcher, listeners: self.listeners, reach: self.reach }
    }
}

/// The filter as this jail wants it.
fn tuned(filter: &Filter, jail: &Jail) -> Arc<Filter> {
    let filter = filter.with_mode(jail.mode);
    if jail.log_prefix.is_empty() { filter } else { filter.with_prefixes(&jail.log_prefix) }
}

/// How long a hit matters to a window.
fn reach(window: &Spec) -> Duration {
    match window {
        Spec::Recent { seconds, .. } | Spec::Distinct { seconds, .. } => *seconds,
        Spec::Limit { interval, burst } => interval.saturating_mul(*burst),
    }
}
