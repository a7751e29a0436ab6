//! `banctl convert`: a configuration of fail2ban becomes one of ours. In: a folder like `/etc/fail2ban`, which is only
//! read. Out: `banward.toml` and filters that load, and a report of what became of each jail, key and pattern.
//!
//! `tree` reads files in fail2ban's order, `ini` interpolates, `jails` goes through what is switched on; of each filter
//! `tags`, `python`, `place` and `pattern` make expressions of ours, which `draft` proves with lines from `sample`.

mod actions;
mod dates;
mod draft;
mod filter;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod hostile;
mod ini;
mod jails;
mod output;
mod pattern;
mod place;
mod python;
mod report;
mod rules;
mod sample;
mod services;
mod tags;
mod toml;
mod tree;
mod values;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Context, Error, settings};
use crate::config::problem::{Problem, Problems};
use crate::filters::Filters;
use crate::setup::{self, Depth};
use jails::Converter;
use report::ALL;

/// Where fail2ban keeps its bans unless told otherwise.
const DATABASE: &str = "/var/lib/fail2ban/fail2ban.sqlite3";

#[derive(Debug, Args)]
#[command(after_help = "\
Services that Banward knows get its own filters; the others' expressions are
converted, each with a sample line. What cannot be converted safely is named,
and stands in the files as a comment, so that the result always loads.

Examples:
  banctl convert /etc/fail2ban
  banctl convert /etc/fail2ban --out /etc/banward --force")]
pub(super) struct Options {
    /// The configuration of fail2ban, usually /etc/fail2ban
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Where to write banward.toml and the folder filters
    #[arg(long, value_name = "DIR", default_value = "banward-converted")]
    out: PathBuf,
    /// Overwrite files that are there
    #[arg(long)]
    force: bool,
    /// Convert the filters of services, too, for which Banward has its own
    #[arg(long)]
    keep_filters: bool,
}

pub(super) fn run(options: &Options, context: &mut Context) -> Result<(), Error> {
    let dir = options.dir.as_path();
    let jails = tree::read(dir, "jail").map_err(|why| Error::Refused(format!("{why}.")))?;
    let Some(jails) = jails else {
        let path = dir.display();
        return Err(Error::Refused(format!("{path} has no jail.conf and no jail.local: is it a folder of fail2ban?")));
    };
    let (purge, database) = server(dir);
    let out = std::path::absolute(&options.out).map_err(|reason| Error::File(options.out.clone(), reason))?;
    let folders = settings::filters(&context.globals)?;
    // What an earlier conversion left there is not a filter of ours.
    let others: Vec<PathBuf> = folders.iter().filter(|folder| **folder != out.join("filters")).cloned().collect();
    let wanted = wanted_filters(&jails);
    let installed = Filters::load_those(&others, |name| wanted.contains(name), &Problems::default());
    let mut converter = Converter::new(dir, jails, purge, &installed, options.keep_filters);
    if !others.iter().any(|folder| folder.is_dir()) {
        let text = "the filters of Banward are not found, so all are converted; --config names a configuration";
        converter.report.needs_you(ALL, "filter", text);
    }
    converter.run();
    converter.firewall();
    let files = output::files(&converter.made, &folders, &out);
    output::write(&files, options.force)?;
    converter.report.print(&mut context.out, context.globals.json)?;
    std::io::Write::flush(&mut context.out)?;
    let main = out.join("banward.toml");
    conclude(&main, &options.out, &converter, &database)
}

/// The names of filters of ours that could take the place of one that a jail names.
fn wanted_filters(jails: &ini::Ini) -> BTreeSet<String> {
    let named = |section| jails.value(section, "filter").ok().flatten().unwrap_or_else(|| section.to_owned());
    let calls = jails.names().flat_map(|section| values::calls(&named(section)));
    calls.flat_map(|call| services::candidates(&call.name).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Checks what was written, as the daemon does, and says how to go on.
fn conclude(main: &Path, out: &Path, converter: &Converter<'_>, database: &str) -> Result<(), Error> {
    // Each filter has been proved when it was made.
    let (_, problems) = setup::load(main, Depth::Read);
    let errors: Vec<Problem> = problems.into_iter().filter(Problem::is_error).collect();
    if !errors.is_empty() {
        return Err(Error::Config(errors));
    }
    let jails = super::output::counted(converter.made.jails.len() as u64, "jail", "jails");
    let (path, summary) = (out.join("banward.toml"), converter.report.summary());
    super::output::say(&format!(
        "Wrote {} with {jails}, which loads; {summary}.\n\
         Once Banward runs, 'banctl import --from {database}' takes over the bans.",
        path.display()
    ));
    Ok(())
}

/// How long fail2ban remembers bans, and where.
fn server(dir: &Path) -> (String, String) {
    let ini = tree::read(dir, "fail2ban").ok().flatten().unwrap_or_default();
    let value = |key: &str| ini.value("Definition", key).ok().flatten().map(|value| value.trim().to_owned());
    let database = value("dbfile").filter(|path| path.starts_with('/')).unwrap_or_else(|| DATABASE.to_owned());
    (value("dbpurgeage").unwrap_or_else(|| "1d".to_owned()), database)
}

impl Converter<'_> {
    /// Reports what became of the actions of all jails.
    fn firewall(&mut self) {
        let names: Vec<&str> = self.made.firewalls.iter().map(String::as_str).collect();
        match names.as_slice() {
            [] => {}
            [only @ ("iptables" | "nftables")] => self.report.took(ALL, "banaction", format!("backend = \"{only}\"")),
            others => {
                let text = format!("{} became backend = \"auto\": Banward has rules of its own", others.join(", "));
                self.report.adapted(ALL, "banaction", text);
            }
        }
        if self.made.firewalls.contains("iptables") && !self.made.rejects {
            let text =
                "packets are dropped without an answer; target = \"REJECT\" answers, as fail2ban does by default";
            self.report.adapted(ALL, "blocktype", text);
        }
    }
}
