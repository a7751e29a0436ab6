//! The rules of the kernel that are ours: look at them, and bring them to what is wanted. Each family of iptables, and
//! the table of nftables, change in one step each; when a later step fails the earlier ones are taken back.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::iptables::{self, TABLES, Tables};
use super::model::{Family, Plan};
use super::{nftables, saved};
use crate::firewall::command;
use crate::firewall::iptables::{Tools, choose};
use crate::firewall::{Choice, FirewallError};

/// By which tool the rules are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Iptables,
    Nftables,
}

impl Format {
    /// The one that goes with the backend; where it is left open, the one that is installed.
    pub(crate) fn of(backend: Choice) -> Format {
        let iptables = match backend {
            Choice::Iptables | Choice::Plain => true,
            Choice::Nftables => false,
            Choice::Auto | Choice::None => command::find("iptables-restore").is_some(),
        };
        if iptables { Format::Iptables } else { Format::Nftables }
    }
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Format, Self::Err> {
        match text {
            "iptables" => Ok(Format::Iptables),
            "nft" | "nftables" => Ok(Format::Nftables),
            _ => Err("one of iptables, nft"),
        }
    }
}

/// Everything of ours, wanted or there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) v4: Tables,
    pub(crate) v6: Tables,
    /// Our table as `nft` lists it.
    pub(crate) nft: Option<String>,
}

impl State {
    /// What a plan comes to. What iptables has no place for goes to a table of nftables all the same.
    pub(crate) fn of(plan: &Plan, format: Format) -> State {
        match format {
            Format::Nftables => State { nft: nftables::table(plan), ..State::default() },
            Format::Iptables => {
                let [v4, v6] = Family::BOTH.map(|family| iptables::tables(plan, family));
                State { v4, v6, nft: nftables::table(&nftables::remainder(plan)) }
            }
        }
    }

    fn tables(&self, family: Family) -> &Tables {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// All lines, each beginning with where it belongs: for comparing.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (tool, tables) in [("iptables", &self.v4), ("ip6tables", &self.v6)] {
            for (table, content) in tables {
                for (hook, to) in &content.jumps {
                    lines.push(format!("{tool} -t {table} -A {hook} -j {to}"));
                }
                for (chain, rules) in &content.chains {
                    lines.extend(rules.iter().map(|rule| format!("{tool} -t {table} -A {chain} {rule}")));
                }
            }
        }
        let mut chain = "";
        for line in self.nft.iter().flat_map(|text| text.lines()).map(str::trim).filter(|line| !line.is_empty()) {
            if line.ends_with('{') {
                chain = line.trim_end_matches([' ', '{']);
            }
            lines.push(if line.ends_with('{') || line == "}" {
                format!("nft {line}")
            } else {
                format!("nft {chain}: {line}")
            });
        }
        lines.retain(|line| line != "nft }");
        lines
    }
}

/// The tools of this machine.
#[derive(Debug)]
pub(crate) struct Kernel {
    iptables: Option<Tools>,
    nft: bool,
    families: Vec<Family>,
}

impl Kernel {
    /// Finds the tools. One that is missing holds no rules of ours.
    pub(crate) fn open() -> Result<Kernel, FirewallError> {
        let iptables = match choose() {
            Ok((tools, _, _)) => Some(tools),
            Err(FirewallError::NotInstalled { .. }) => None,
            Err(error) => return Err(error),
        };
        let ipv6 = std::path::Path::new("/proc/thread-self/net/if_inet6").exists();
        let families = if ipv6 { Family::BOTH.to_vec() } else { vec![Family::V4] };
        Ok(Kernel { iptables, nft: command::find("nft").is_some(), families })
    }

    /// What is there.
    pub(crate) fn state(&self) -> Result<State, FirewallError> {
        let mut state = State { nft: self.nft_table()?, ..State::default() };
        for family in &self.families {
            let tables = self.views(*family)?.into_iter().map(|(name, view)| (name, view.ours));
            let tables: Tables = tables.filter(|(_, table)| !table.chains.is_empty()).collect();
            match family {
                Family::V4 => state.v4 = tables,
                Family::V6 => state.v6 = tables,
            }
        }
        Ok(state)
    }

    /// The same rules in the words of this machine's tools, which change with their version: as they come back from
    /// drafts that no packet gets to.
    pub(crate) fn worded(&self, wanted: &State) -> Result<State, FirewallError> {
        let mut worded = State::default();
        for family in &self.families {
            let tables = wanted.tables(*family);
            let (script, removal) = (saved::draft(tables), saved::draft_removal(tables));
            let mut read = Tables::new();
            if !tables.is_empty() {
                let saved = self.restore(*family, &script).and_then(|()| self.save(*family));
                self.restore(*family, &removal)?;
                read = saved::undrafted(&saved?.unwrap_or_default(), tables);
            }
            match family {
                Family::V4 => worded.v4 = read,
                Family::V6 => worded.v6 = read,
            }
        }
        if let Some(table) = &wanted.nft {
            let made = command::run("nft", &["-f", "-"], &nftables::draft(table));
            let listed = made.and_then(|_| list(nftables::DRAFT));
            command::run("nft", &["-f", "-"], &nftables::draft_removal())?;
            worded.nft = Some(nftables::undrafted(&listed?, table));
        }
        Ok(worded)
    }

    /// Whether what is there is what is wanted, in the words of this machine, the places of the jumps included.
    pub(crate) fn is(&self, wanted: &State) -> Result<bool, FirewallError> {
        for family in &self.families {
            let views = self.views(*family)?;
            for name in TABLES {
                let table = wanted.tables(*family).get(name).cloned().unwrap_or_default();
                if !views.get(name).cloned().unwrap_or_default().is(&table) {
                    return Ok(false);
                }
            }
        }
        Ok(self.nft_table()? == wanted.nft)
    }

    /// Brings the rules to what is wanted. At an error they are what they were.
    pub(crate) fn put(&self, wanted: &State) -> Result<(), FirewallError> {
        let before = self.state()?;
        self.change(wanted).inspect_err(|_| {
            // The first error is the one to tell of.
            let _ = self.change(&before);
        })
    }

    fn change(&self, wanted: &State) -> Result<(), FirewallError> {
        for family in &self.families {
            let mut script = String::new();
            let views = self.views(*family)?;
            for name in TABLES {
                let table = wanted.tables(*family).get(name).cloned().unwrap_or_default();
                let view = views.get(name).cloned().unwrap_or_default();
                script.push_str(&view.script(name, &table).unwrap_or_default());
            }
            if script.is_empty() {
                continue;
            }
            self.restore(*family, &script)?;
        }
        if self.nft_table()? != wanted.nft {
            command::run("nft", &["-f", "-"], &nftables::script(wanted.nft.as_deref()))?;
        }
        Ok(())
    }

    fn restore(&self, family: Family, script: &str) -> Result<(), FirewallError> {
        let tools = self.iptables.ok_or(FirewallError::NotInstalled { tool: "iptables-restore" })?;
        command::run(tools.restore[index(family)], &["--noflush", "-w", "5"], script).map(drop)
    }

    /// What `iptables-save` says, whole.
    pub(crate) fn save(&self, family: Family) -> Result<Option<String>, FirewallError> {
        let Some(tools) = self.iptables.filter(|_| self.families.contains(&family)) else { return Ok(None) };
        command::run(tools.save[index(family)], &[], "").map(Some)
    }

    fn views(&self, family: Family) -> Result<BTreeMap<String, saved::View>, FirewallError> {
        Ok(saved::views(&self.save(family)?.unwrap_or_default()))
    }

    /// Rules of others that see packets before ours, as `INPUT: rule`.
    pub(crate) fn foreign(&self) -> Result<Vec<String>, FirewallError> {
        let mut found = Vec::new();
        for family in &self.families {
            if let Some(view) = self.views(*family)?.get("filter") {
                let tool = if *family == Family::V4 { "iptables" } else { "ip6tables" };
                let rules = view.before("INPUT").filter(|rule| !rule.contains("-j BANWARD"));
                found.extend(rules.map(|rule| format!("{tool} -A INPUT {rule}")));
            }
        }
        Ok(found)
    }

    /// Our table as `nft` lists it, without what changes by itself.
    fn nft_table(&self) -> Result<Option<String>, FirewallError> {
        if !self.nft {
            return Ok(None);
        }
        let tables = command::run("nft", &["list", "tables"], "")?;
        let ours = format!("table inet {}", nftables::TABLE);
        if !tables.lines().any(|line| line.trim() == ours) {
            return Ok(None);
        }
        list(nftables::TABLE).map(Some)
    }
}

/// A table without what changes by itself: counters, and who is remembered.
fn list(table: &str) -> Result<String, FirewallError> {
    command::run("nft", &["-s", "-t", "list", "table", "inet", table], "")
}

fn index(family: Family) -> usize {
    usize::from(family == Family::V6)
}
