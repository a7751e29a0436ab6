//! `banctl import`: blocklist files become lists of the daemon, and the bans of fail2ban become bans of ours. In: text
//! that strangers wrote. A bad line is named and costs nothing else.

mod fail2ban;
mod takeover;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use ipnet::IpNet;
use serde::Serialize;

use crate::config::problem::Severity;
use crate::control::client::{self, Connection, Written};
use crate::control::{Command, IMPORT_CHUNK, Reply};
use crate::firewall::blocklist::{self, Line, LineProblem, Parsed};
use crate::time::{Length, Timestamp};

use super::output::{self, counted};
use super::{Context, Error, Outcome, ban, input, settings};

/// Largest file that is read, in bytes: some ten million addresses.
const MAX_FILE: u64 = 256 << 20;

/// Longest name of a list, in characters.
const LONGEST_NAME: usize = 64;

#[derive(Debug, Args)]
#[command(after_help = "\
A file holds one address, network (192.0.2.0/24) or range
(192.0.2.1-192.0.2.7) a line, with # and ; comments. A line with anything else
on it bans nobody. The list replaces the one of the same name, so that
importing twice changes nothing. What is allowed is refused, entry by entry.

With --from, the bans that fail2ban has made are taken over with their ends,
and how often each address was banned before.

Examples:
  banctl import --from /var/lib/fail2ban/fail2ban.sqlite3
  banctl import --dry-run drop.txt
  banctl import --for 7d drop.txt edrop.txt
  curl -s https://example.org/drop.txt | banctl import --name drop -")]
pub(super) struct Options {
    /// Blocklist files; - is standard input
    #[arg(value_name = "FILE", required_unless_present = "from")]
    files: Vec<PathBuf>,
    /// Database of fail2ban, in place of blocklist files
    #[arg(long, value_name = "DATABASE", conflicts_with_all = ["files", "length", "name", "empty"])]
    from: Option<PathBuf>,
    /// How long the list holds: 1h, 7d, or forever
    #[arg(long = "for", id = "length", value_name = "LENGTH", default_value = "forever", value_parser = ban::parse_length)]
    length: Length,
    /// Say what would be imported, without the daemon
    #[arg(long)]
    dry_run: bool,
    /// Name of the list; the default is the name of the file without its ending
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,
    /// Accept files without any entry: their lists become empty
    #[arg(long)]
    empty: bool,
}

/// What one or several files want banned under one name.
#[derive(Default)]
struct List {
    /// Sorted, each once.
    prefixes: Vec<IpNet>,
    bad_lines: usize,
}

/// What became of a list, as `--json` prints it.
#[derive(Serialize)]
struct JsonImport<'a> {
    list: &'a str,
    entries: usize,
    bad_lines: usize,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

pub(super) fn run(options: &Options, context: &mut Context) -> Result<(), Error> {
    if let Some(database) = &options.from {
        return takeover::run(database, options.dry_run, context);
    }
    let lists = read_all(options)?;
    // A download that failed leaves an empty file; it must not let everybody in again.
    if let Some((name, _)) = lists.iter().find(|(_, list)| list.prefixes.is_empty() && !options.empty) {
        return Err(Error::Refused(format!(
            "there is no entry for the list '{name}', so nothing was changed. With --empty it would become empty."
        )));
    }
    let mut connection = if options.dry_run { None } else { Some(context.connect()?) };
    let mut complete = true;
    for (name, list) in &lists {
        let outcome = match &mut connection {
            Some(connection) => send(connection, name, list, ban::seconds(options.length))?,
            None => rehearse(name, list, &settings::allowed(&context.globals)?),
        };
        outcome.say();
        if context.globals.json {
            let (entries, bad_lines) = (list.prefixes.len(), list.bad_lines);
            context.out.json(&JsonImport { list: name, entries, bad_lines, outcome: &outcome })?;
        }
        let spared = spares_all(list, &outcome);
        if spared {
            output::say(&format!("The list '{name}' bans nobody: each of its entries is refused, as said above."));
        }
        complete &= !outcome.is_refused() && !spared;
    }
    if complete { Ok(()) } else { Err(Error::Said) }
}

/// Reads all files before anything is sent. Files of the same name make up one list: neither replaces the other.
fn read_all(options: &Options) -> Result<BTreeMap<String, List>, Error> {
    let mut lists: BTreeMap<String, List> = BTreeMap::new();
    for file in &options.files {
        let bytes = read(file).map_err(|reason| Error::File(file.clone(), reason))?;
        let (prefixes, problems, bad_lines) = parse(&bytes, Timestamp::now());
        name_problems(file, &problems);
        let name = options.name.clone().unwrap_or_else(|| name_of(file));
        let list = lists.entry(name).or_default();
        list.prefixes.extend(prefixes);
        list.bad_lines += bad_lines;
    }
    for list in lists.values_mut() {
        list.prefixes.sort_unstable();
        list.prefixes.dedup();
    }
    Ok(lists)
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let source = input::open(path, "import --name NAME")?;
    let mut bytes = Vec::new();
    source.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other("it is larger than 256 MiB"));
    }
    Ok(bytes)
}

/// The entries of a blocklist, without those of our own that are over, what is wrong with which line, and how many lines
/// are left out.
fn parse(bytes: &[u8], now: Timestamp) -> (Vec<IpNet>, Vec<LineProblem>, usize) {
    let Parsed { lines, problems, bad_lines } = blocklist::parse(bytes);
    let is_over = |line: &Line| line.known.as_ref().is_some_and(|known| known.until.is_over(now));
    let standing = lines.into_iter().filter(|line| !is_over(line));
    (standing.flat_map(|line| line.prefixes).collect(), problems, bad_lines)
}

/// The parser names a bounded number of lines.
fn name_problems(file: &Path, problems: &[LineProblem]) {
    for LineProblem { line, severity, message } in problems {
        let kind = if *severity == Severity::Error { "" } else { "warning: " };
        output::say(&format!("{}:{line}: {kind}{message}", file.display()));
    }
}

/// `/tmp/Spam DROP.txt` → `spam-drop`.
fn name_of(file: &Path) -> String {
    if file == Path::new("-") {
        return "stdin".to_owned();
    }
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let name: String = stem.chars().take(LONGEST_NAME).map(|c| if is_name_character(c) { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "list".to_owned() } else { name.to_owned() }
}

fn parse_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > LONGEST_NAME || !text.chars().all(is_name_character) {
        return Err(format!("a name has 1 to {LONGEST_NAME} characters of a-z, 0-9, '-', '_' and '.'"));
    }
    Ok(text.to_owned())
}

fn is_name_character(character: char) -> bool {
    matches!(character, 'a'..='z' | '0'..='9' | '-' | '_' | '.')
}

/// Sends a list in chunks; each is written while the daemon reads the one before.
fn send(connection: &mut Connection, name: &str, list: &List, seconds: Option<u64>) -> Result<Outcome, Error> {
    let mut rest = list.prefixes.as_slice();
    let mut write_next = || {
        let (chunk, later) = rest.split_at(rest.len().min(IMPORT_CHUNK));
        rest = later;
        let (name, prefixes, more) = (name.to_owned(), chunk.to_vec(), !rest.is_empty());
        Written::of(Command::Import { name, prefixes, seconds, more }).map(|written| (written, more))
    };
    let (mut written, mut more) = write_next()?;
    loop {
        let answer = connection.ask_written(written)?;
        let next = if more { Some(write_next()?) } else { None };
        match (answer.only()?, next) {
            (Reply::Continue, Some(next)) => (written, more) = next,
            // An end before the last chunk would lose the rest of the list without a word.
            (Reply::Done { .. }, Some(_)) => return Err(client::Error::Unexpected.into()),
            (end, _) => return Outcome::of(end),
        }
    }
}

/// Whether there is a warning for each entry: what is done of a list is warned of when it is refused, and only then.
fn spares_all(list: &List, outcome: &Outcome) -> bool {
    let Outcome::Done { warnings, .. } = outcome else { return false };
    !list.prefixes.is_empty() && warnings.len() >= list.prefixes.len()
}

/// What an import would do, as far as that is known without the daemon.
fn rehearse(name: &str, list: &List, allowed: &[IpNet]) -> Outcome {
    let refusal = |prefix: &IpNet| {
        if prefix.prefix_len() == 0 {
            return Some(format!("{prefix} would be refused: it covers everything"));
        }
        let net = allowed.iter().find(|net| prefix.contains(*net) || net.contains(prefix))?;
        Some(format!("{prefix} would be refused: {net} is allowed"))
    };
    let warnings: Vec<String> = list.prefixes.iter().filter_map(refusal).collect();
    let added = (list.prefixes.len() - warnings.len()) as u64;
    let message = format!(
        "dry run: list '{name}' would have {}, {} refused, {} left out. \
         The daemon also refuses what covers this machine, its gateways, resolvers and administrators.",
        counted(added, "entry", "entries"),
        output::grouped(warnings.len() as u64),
        counted(list.bad_lines as u64, "bad line", "bad lines")
    );
    Outcome::Done { message, warnings }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_our_own_that_are_over_are_not_imported() {
        let file =
            b"# banward: jail=sshd since=2026-11-21T01:30:00Z until=2026-11-21T01:40:00Z\n192.0.2.9\n192.0.2.10\n";
        let now = "2026-11-22T00:00:00Z".parse().unwrap();
        assert_eq!(parse(file, now).0, ["192.0.2.10/32".parse().unwrap()]);
    }

    #[test]
    fn a_list_is_named_after_its_file() {
        let names = ["/tmp/Spam DROP.txt", "-", "a/firehol_level1.netset", "/tmp/.."].map(|f| name_of(Path::new(f)));
        assert_eq!(names, ["spam-drop", "stdin", "firehol_level1", "list"]);
    }
}
