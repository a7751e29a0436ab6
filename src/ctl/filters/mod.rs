//! `banctl filters`: for the author of a filter. It reads filters and logs, asks no daemon and changes nothing.

mod compose;
mod coverage;
mod draft;
mod list;
mod show;
mod test;
mod wording;

use std::path::Path;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::output::say;
use super::{Context, Error, settings};
use crate::config::problem::Problems;
use crate::filters::{Filter, Filters};

#[derive(Debug, Args)]
#[command(after_help = "\
A NAME is that of a filter there is, or the path of a filter file that is still being written.

Examples:
  banctl filters                                            what there is
  banctl filters show sshd
  banctl filters draft --name gate gate.log > ./gate.toml   a filter for what stands in a log
  banctl filters test ./gate.toml                           does it prove itself?
  banctl filters test ./gate.toml 'login failed for bob from 192.0.2.9'
  banctl filters coverage ./gate.toml --log gate.log        which patterns hit how often?")]
pub(super) struct Options {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the filters there are; this is the default
    List,
    /// Show what a filter reads, and how each of its patterns is found in a log
    Show(show::Options),
    /// Try lines on a filter, and show where those that do not hit go another way
    Test(test::Options),
    /// Count the samples of each pattern, and its hits in logs
    Coverage(coverage::Options),
    /// Print a draft of a filter, made from the failures in a log
    Draft(draft::Options),
}

pub(super) fn run(options: &Options, context: &mut Context) -> Result<(), Error> {
    match options.action.as_ref().unwrap_or(&Action::List) {
        Action::List => list::run(context),
        Action::Show(options) => show::run(options, context),
        Action::Test(options) => test::run(options, context),
        Action::Coverage(options) => coverage::run(options, context),
        Action::Draft(options) => draft::run(options, context),
    }
}

/// All filters of the configuration. One with a mistake is an error.
fn all(context: &Context) -> Result<Filters, Error> {
    let problems = Problems::default();
    let filters = Filters::load(&settings::filters(&context.globals)?, &problems);
    if problems.has_errors() { Err(Error::Config(problems.into_sorted())) } else { Ok(filters) }
}

/// The filter of this name, or the one in this file: a path has a `/` or ends in `.toml`.
fn named(name: &str, context: &Context) -> Result<Arc<Filter>, Error> {
    let problems = Problems::default();
    let found = if is_path(name) {
        Filter::open(Path::new(name), &problems)
    } else {
        let folders = settings::filters(&context.globals)?;
        let filter = Filters::load_those(&folders, |other| other == name, &problems).get(name);
        if filter.is_none() && !problems.has_errors() {
            let known = Filters::load(&folders, &Problems::default());
            let known: Vec<String> = known.iter().map(|filter| filter.name.to_string()).collect();
            let hint = "A file that is still being written is given by its path, such as ./NAME.toml.";
            let known = if known.is_empty() { String::new() } else { format!(" There are: {}.", known.join(", ")) };
            return Err(Error::Refused(format!("there is no filter '{name}'.{known} {hint}")));
        }
        filter
    };
    let failed = problems.has_errors();
    let problems = problems.into_sorted();
    match found {
        Some(filter) if !failed => {
            for problem in &problems {
                say(&problem.to_string());
            }
            Ok(filter)
        }
        _ => Err(Error::Filter(problems)),
    }
}

fn is_path(name: &str) -> bool {
    name.contains('/') || Path::new(name).extension().is_some_and(|ending| ending == "toml")
}
