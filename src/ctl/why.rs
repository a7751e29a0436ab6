//! `banctl why`: an account of one address. The verdict comes first, then what stands, then how it came about.

use clap::Args;
use ipnet::IpNet;

use super::output::{Output, Style, counted, grouped};
use super::status::left_out;
use super::when::{Reader, brief};
use super::{Context, Error, target};
use crate::control::{Account, Command, Gap, KernelEntry, Reply, Why, client};
use crate::ledger::{Ban, Ended, How, Stage};
use crate::pipeline::account::{Line, Outlook, Verdict};
use crate::text::escape;
use crate::text::plural;
use crate::time::{Timestamp, Until, format_duration};

/// Jails that are shown of those that have nothing against the address.
const OTHER_JAILS: usize = 5;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banctl why 192.0.2.9
  banctl why 192.0.2.0/24
  banctl why 192.0.2.9 --json | jq .kernel")]
pub(super) struct Options {
    /// Address or network
    #[arg(value_name = "PREFIX", value_parser = target::parse)]
    prefix: IpNet,
}

pub(super) fn run(options: &Options, context: &mut Context) -> Result<(), Error> {
    let mut connection = context.connect()?;
    match connection.ask(Command::Why { prefix: options.prefix })?.only()? {
        Reply::Why(why) if context.globals.json => Ok(context.out.json(&why)?),
        Reply::Why(why) => print(&why, &mut context.out),
        Reply::Refused { message } => Err(Error::Refused(message)),
        _ => Err(client::Error::Unexpected.into()),
    }
}

fn print(why: &Why, out: &mut Output) -> Result<(), Error> {
    let reader = Reader::new(out.is_terminal());
    let account = &why.account;
    let style = if account.bans.is_empty() { Style::Good } else { Style::Bad };
    out.line(&out.styled(style, &verdict(why)))?;
    if let Some(allowed) = &account.allowed {
        out.line(&format!("It cannot be banned now: {}.", escape(allowed)))?;
    }
    section(out, "bans", account.bans.iter().map(|ban| ban_line(ban, &reader)))?;
    if !account.bans.is_empty() || why.kernel.as_ref().is_some_and(|entries| !entries.is_empty()) {
        section(out, "in the kernel", kernel_lines(why).into_iter())?;
    }
    section(out, "decisions", account.decisions.iter().map(|verdict| verdict_line(verdict, &reader)))?;
    section(out, "lines", log_lines(account, &reader).into_iter())?;
    section(out, "earlier bans", account.history.iter().map(|ended| ended_line(ended, &reader)))?;
    section(out, "the next offence", outlooks(&account.jails).into_iter())?;
    section(out, "lines that nobody read", why.gaps.iter().flat_map(|gap| gap_lines(gap, &reader)))
}

fn section(out: &mut Output, title: &str, lines: impl Iterator<Item = String>) -> Result<(), Error> {
    for (index, line) in lines.enumerate() {
        if index == 0 {
            out.line("")?;
            out.line(&out.styled(Style::Bold, title))?;
        }
        for (index, part) in out.wrap(&escape(&line), BULLET.len()).iter().enumerate() {
            out.line(&format!("{}{part}", if index == 0 { BULLET } else { "   " }))?;
        }
    }
    Ok(())
}

const BULLET: &str = " - ";

/// `192.0.2.9 is banned.` and so on.
fn verdict(why: &Why) -> String {
    let account = &why.account;
    let shown = target::show(&account.prefix);
    let whole = account.bans.iter().any(|ban| ban.prefix.contains(&account.prefix));
    match (account.bans.is_empty(), whole) {
        (true, _) if account.decisions.is_empty() && account.lines.is_empty() && account.history.is_empty() => {
            format!("{shown} is not banned, and nothing is known of it.")
        }
        (true, _) => format!("{shown} is not banned."),
        (false, true) if account.bans.iter().all(|ban| ban.scope.stage() == Stage::Limit) => {
            format!("{shown} is limited, and banned at its next offence.")
        }
        (false, true) => format!("{shown} is banned."),
        (false, false) => format!("{shown} is banned in part."),
    }
}

fn ban_line(ban: &Ban, reader: &Reader) -> String {
    let end = match ban.until {
        Until::At(end) => format!("until {}, for {} more", reader.show(end), brief(end.since(reader.now))),
        Until::Forever => "for ever".to_owned(),
    };
    let scope = if ban.scope.is_all() { String::new() } else { format!(", {}", ban.scope) };
    let (shown, since) = (target::show(&ban.prefix), reader.show(ban.since));
    format!("{shown} by {} since {since} {end}{scope}: {}; ban {} of it", ban.jail, ban.reason, ban.count)
}

fn kernel_lines(why: &Why) -> Vec<String> {
    match &why.kernel {
        None => vec!["the kernel does not tell; see 'banctl status'".to_owned()],
        Some(entries) if entries.is_empty() => vec!["nothing: its packets pass; see 'banctl status'".to_owned()],
        Some(entries) => entries.iter().map(kernel_line).collect(),
    }
}

fn kernel_line(entry: &KernelEntry) -> String {
    let KernelEntry { prefix, backend, set, ports: _, scope, seconds_left, count } = entry;
    let left = seconds_left.map_or_else(
        || "for ever".to_owned(),
        |seconds| format!("{} left", format_duration(std::time::Duration::from_secs(seconds))),
    );
    let dropped = match count {
        None => "it does not count".to_owned(),
        Some(count) if count.packets == 0 => "never hit".to_owned(),
        Some(count) => {
            let packets = counted(count.packets, "packet", "packets");
            format!("dropped {packets}, {}", counted(count.bytes, "byte", "bytes"))
        }
    };
    let scope = if scope.is_empty() { String::new() } else { format!(" ({scope})") };
    format!("{} in the set {set} of {backend}{scope}, {left}: {dropped}", target::show(prefix))
}

fn verdict_line(verdict: &Verdict, reader: &Reader) -> String {
    let Verdict { time, jail, hits, unit, first, until, count, reason, times, last, .. } = verdict;
    let hits = format!("{} in {}", plural((*hits).into(), unit), format_duration(time.since(*first)));
    let outcome = match (reason, until) {
        (Some(reason), _) => format!("ignored, for {reason}"),
        (None, Some(Until::At(end))) => format!("banned until {}", reader.show(*end)),
        (None, _) => "banned for ever".to_owned(),
    };
    let count = count.map_or_else(String::new, |count| format!(", ban {count} of it"));
    let again = again(*times, *last, reader);
    format!("{} {jail}: {hits}; {outcome}{count}{again}", reader.show_seconds(*time))
}

fn again(times: u32, last: Timestamp, reader: &Reader) -> String {
    match times {
        0 | 1 => String::new(),
        times => format!(" ({} times, last at {})", grouped(times.into()), reader.show_seconds(last)),
    }
}

/// A ban by a jail has lines, which may be gone.
fn log_lines(account: &Account, reader: &Reader) -> Vec<String> {
    let by_jail = account.bans.iter().any(|ban| account.jails.iter().any(|outlook| outlook.jail == ban.jail));
    if account.lines.is_empty() && by_jail {
        return vec!["not kept: they are in memory only, as long as there is room and the daemon runs".to_owned()];
    }
    account.lines.iter().map(|line| log_line(line, reader)).collect()
}

fn log_line(Line { time, jail, text }: &Line, reader: &Reader) -> String {
    format!("{} {jail}: {text}", reader.show_seconds(*time))
}

fn ended_line(Ended { ban, at, how }: &Ended, reader: &Reader) -> String {
    let how = match how {
        How::Expired => "expired",
        How::Unbanned => "unbanned",
    };
    let (shown, since, at) = (target::show(&ban.prefix), reader.show(ban.since), reader.show(*at));
    format!("{shown} by {} from {since}, {how} {at}: {}; ban {} of it", ban.jail, ban.reason, ban.count)
}

/// Where lines are missing, less was counted than happened.
fn gap_lines(Gap { log, lost, suppressed }: &Gap, reader: &Reader) -> Vec<String> {
    let lost = (*lost > 0).then(|| {
        let lines = counted(*lost, "line", "lines");
        format!("{log}: {lines} lost before they could be read; its counts are too low")
    });
    lost.into_iter().chain(suppressed.as_ref().map(|missing| left_out(log, missing, reader))).collect()
}

/// Of the jails that know the address, or else of some.
fn outlooks(jails: &[Outlook]) -> Vec<String> {
    let concerned = jails.iter().filter(|jail| jail.concerned).count();
    let shown = if concerned > 0 { concerned } else { OTHER_JAILS.min(jails.len()) };
    let mut lines: Vec<String> = jails.iter().take(shown).map(outlook_line).collect();
    let more = jails.len() - shown;
    if more > 0 && concerned == 0 {
        lines.push(format!("and {more} more jails; --json has them all"));
    }
    lines
}

fn outlook_line(outlook: &Outlook) -> String {
    let Outlook { jail, prefix, window, length, count, reason, .. } = outlook;
    let shown = target::show(prefix);
    match (length, reason) {
        (Some(length), _) => {
            let count = count.unwrap_or(1);
            format!("{jail} ({window}): would ban {shown} for {length}, ban {count} of it")
        }
        (None, reason) => {
            format!("{jail} ({window}): would not ban {shown}, for {}", reason.as_deref().unwrap_or("no reason"))
        }
    }
}
