//! `banctl export`: the bans of now in the format of another tool, for machines without Banward.
//!
//! Every set and chain it names is its own (`banned…`), never one of the daemon's: loading an export on the machine
//! it comes from disturbs nothing. It is data only; it is never run from here.

mod formats;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, ValueEnum};
use ipnet::IpNet;

use crate::control::Listed;
use crate::filters::Evidence;
use crate::ledger::{Ban, Scope, Stage};
use crate::time::{Timestamp, Until};

use super::list::{Bans, JsonBan};
use super::output::{self, Output, grouped};
use super::{Context, Error, target};

#[derive(Debug, Args)]
#[command(after_help = "\
Formats:
  plain     one address or network a line, as 'banctl import' reads it
  json      as 'banctl list --json'
  iptables  for 'iptables-restore --noflush', with --family ipv6 for
            ip6tables-restore; the rules do not end by themselves
  ipset     for 'ipset restore'; entries end when the bans do, after 24 days
            at the latest
  nft       for 'nft -f'; drops at once, entries end when the bans do

Examples:
  banctl export > banned.txt
  banctl export --format nft | ssh other nft -f -")]
pub(super) struct Options {
    /// Format of the output
    #[arg(long, value_enum, default_value = "plain")]
    format: Format,
    /// Only the bans of this family; iptables rules are of one family, ipv4 unless told otherwise
    #[arg(long, value_enum)]
    family: Option<Family>,
    /// Also the bans whose evidence may be forged: anybody could have chosen their addresses
    #[arg(long)]
    forgeable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Plain,
    Json,
    Iptables,
    Ipset,
    Nft,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    fn of(prefix: &IpNet) -> Family {
        if prefix.addr().is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }
}

/// What is to be dropped, by scope: each prefix once, with its latest end.
type Groups = BTreeMap<Scope, BTreeMap<IpNet, Until>>;

pub(super) fn run(options: &Options, context: &mut Context) -> Result<(), Error> {
    let mut connection = context.connect()?;
    let bans = Bans::of(&mut connection, None, false)?;
    let format = if context.globals.json { Format::Json } else { options.format };
    let family = options.family.or((format == Format::Iptables).then_some(Family::Ipv4));
    let withheld = Cell::new(0);
    let bans = bans.filter(|ban| {
        let is_out = !options.forgeable && ban.as_ref().is_ok_and(|listed| listed.ban.evidence == Evidence::Forgeable);
        withheld.set(withheld.get() + u64::from(is_out));
        !is_out
    });
    let is_wanted = |ban: &Ban| family.is_none_or(|family| family == Family::of(&ban.prefix));
    if format == Format::Json {
        print_json(bans, is_wanted, &mut context.out)?;
        say_withheld(withheld.get());
        return Ok(());
    }
    let limited = Cell::new(0);
    let bans = bans.filter(|ban| {
        let is_out = ban.as_ref().is_ok_and(|listed| listed.ban.scope.stage() == Stage::Limit);
        limited.set(limited.get() + u64::from(is_out));
        !is_out
    });
    let (groups, left_out) = collect(bans, is_wanted)?;
    let (out, now) = (&mut context.out, Timestamp::now());
    match format {
        Format::Plain | Format::Json => print_plain(&groups, out)?,
        Format::Iptables => formats::iptables(&groups, family.unwrap_or(Family::Ipv4), now, out)?,
        Format::Ipset => formats::ipset(&groups, now, out)?,
        Format::Nft => formats::nft(&groups, now, out)?,
    }
    if left_out > 0 && options.family.is_none() {
        let left_out = grouped(left_out);
        output::say(&format!("{left_out} IPv6 bans are left out; --family ipv6 prints them for ip6tables-restore."));
    }
    say_withheld(withheld.get());
    say_limited(limited.get());
    Ok(())
}

/// Evidence that may be forged stays on the machine that it was forged for.
fn say_withheld(bans: u64) {
    if bans > 0 {
        let bans = output::counted(bans, "ban", "bans");
        output::say(&format!("{bans} left out, as the addresses may be forged; --forgeable takes them in."));
    }
}

fn print_json(
    bans: impl Iterator<Item = Result<Listed, Error>>,
    is_wanted: impl Fn(&Ban) -> bool,
    out: &mut Output,
) -> Result<(), Error> {
    for listed in bans {
        let listed = listed?;
        if is_wanted(&listed.ban) {
            out.json(&JsonBan::from(listed))?;
        }
    }
    Ok(())
}

/// Who is only limited is not to be dropped elsewhere.
fn say_limited(sources: u64) {
    if sources > 0 {
        let sources = output::counted(sources, "source", "sources");
        output::say(&format!("{sources} left out that are only limited, not banned yet."));
    }
}

/// The bans that are wanted, and how many are not.
fn collect(
    bans: impl Iterator<Item = Result<Listed, Error>>,
    is_wanted: impl Fn(&Ban) -> bool,
) -> Result<(Groups, u64), Error> {
    let (mut groups, mut left_out) = (Groups::new(), 0);
    for listed in bans {
        let ban = listed?.ban;
        if is_wanted(&ban) {
            let until = groups.entry(ban.scope).or_default().entry(ban.prefix).or_insert(ban.until);
            *until = ban.until.max(*until);
        } else {
            left_out += 1;
        }
    }
    Ok((groups, left_out))
}

fn print_plain(groups: &Groups, out: &mut Output) -> Result<(), Error> {
    let prefixes: BTreeSet<&IpNet> = groups.values().flat_map(BTreeMap::keys).collect();
    for prefix in prefixes {
        out.line(&target::show(prefix))?;
    }
    // A plain list drops more than a ban of some ports does; whoever uses it should know.
    let narrow = |scope: &Scope| !scope.ports.is_empty() || scope.interface.is_some();
    let scoped: usize = groups.iter().filter(|(scope, _)| narrow(scope)).map(|(_, all)| all.len()).sum();
    if scoped > 0 {
        let scoped = grouped(scoped as u64);
        output::say(&format!(
            "{scoped} of these bans are for some ports only, or an interface, which this format cannot say."
        ));
    }
    Ok(())
}
