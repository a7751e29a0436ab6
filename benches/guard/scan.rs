//! Lines per second of `banctl replay`, beside ripgrep that merely counts the lines with the same literals, in any letter
//! case as they are looked for here, and beside splitting the file into lines, which is what it costs to look at it at all.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::host;
use crate::report::{Report, rate};
use crate::support::guard::Guard;
use crate::workloads::{self, LINES};

/// Of so many runs the best counts: what disturbs a run only makes it slower.
const RUNS: usize = 3;

pub(crate) fn measure(report: &mut Report) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name);

    workloads::ssh(&path("quiet.log"), 10, 1000);
    log(report, "1 % evidence", &path("quiet.log"), &["sshd".to_owned()]);
    workloads::ssh(&path("calm.log"), 0, 1);
    breadth(report, &path("calm.log"));
    workloads::ssh(&path("attack.log"), 700, 50_000);
    log(report, "70 % evidence, 50,000 sources", &path("attack.log"), &["sshd".to_owned()]);
    workloads::kernel(&path("kernel.log"));
    let kernel = ["ping-drop", "syn-flood"].map(str::to_owned);
    log(report, "kernel LOG, 500,000 forged", &path("kernel.log"), &kernel);
    workloads::access(&path("access.log"));
    log(report, "web access log, 5 % probes", &path("access.log"), &web_filters());
}

fn log(report: &mut Report, what: &str, path: &Path, filters: &[String]) {
    let literals = path.with_extension("literals");
    std::fs::write(&literals, literals_of(filters)).expect("there is room");
    let (ours, peak) = replay(filters, &[path], Processors::One, RUNS);
    let (together, _) = replay(filters, &[path], Processors::All, RUNS);
    let searched = best(|| ripgrep(path, &literals));
    let split = best(|| Some(split(path)));
    let ripgrep = searched.map_or("ripgrep is not installed".to_owned(), |seconds| {
        format!("ripgrep {}: {:.2} times that", rate(LINES.into(), seconds), seconds / ours)
    });
    let split = split.map_or(String::new(), |seconds| format!("line splitting {}", rate(LINES.into(), seconds)));
    let all = rate(LINES.into(), together);
    let beside =
        format!("{all} by all processors; {ripgrep}; {split}; {} filters, at most {peak:.0} MiB", filters.len());
    report.row(&format!("replay, {what}"), &rate(LINES.into(), ours), &beside);
}

/// The same log, several times over, with five filters and with all there are: the lines are none of the others'.
fn breadth(report: &mut Report, log: &Path) {
    const TIMES: usize = 5;
    const PAIRS: usize = 9;
    let (few, all) = (["sshd", "ping-drop", "syn-flood", "http-auth", "dovecot"].map(str::to_owned), all_filters());
    let seconds = |filters: &[String]| replay(filters, &[log; TIMES], Processors::One, 1).0;
    // In turn, because a moment in which all is slow is as long as some of them.
    let mut runs: Vec<(f64, f64)> = (0..PAIRS).map(|_| (seconds(&all), seconds(&few))).collect();
    runs.sort_by(|one, other| (one.0 / one.1).total_cmp(&(other.0 / other.1)));
    let (slow, fast) = runs[PAIRS / 2];
    let lines = u64::from(LINES) * TIMES as u64;
    let beside =
        format!("{} with five of them: {:+.0} % time, in the middle", rate(lines, fast), (slow / fast - 1.0) * 100.0);
    report.row(&format!("replay, no evidence, all {} filters", all.len()), &rate(lines, slow), &beside);
}

fn best(run: impl Fn() -> Option<f64>) -> Option<f64> {
    (0..RUNS).filter_map(|_| run()).min_by(f64::total_cmp)
}

/// Seconds that the scan takes.
pub(crate) fn seconds(filters: &[String], log: &Path) -> f64 {
    replay(filters, &[log], Processors::All, RUNS).0
}

#[derive(Clone, Copy)]
enum Processors {
    One,
    All,
}

impl Processors {
    /// A program that runs on these.
    fn command(self, program: &str) -> Command {
        match self {
            Processors::One => {
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", "0", program]);
                command
            }
            Processors::All => Command::new(program),
        }
    }
}

/// Seconds that the scan takes, and the most memory of the whole program in MiB.
fn replay(filters: &[String], logs: &[&Path], processors: Processors, runs: usize) -> (f64, f64) {
    let guard = Guard::new(&format!("[defaults]\ntrack = 1000000\n{}", jails(filters, "{ stdin = true }")));
    let mut most: f64 = 0.0;
    let runs = (0..runs).map(|_| {
        let output = guard.path("replayed");
        let mut child = processors
            .command(env!("CARGO_BIN_EXE_banctl"))
            .args(["--config", guard.path("banward.toml").to_str().expect("a path"), "replay", "--json"])
            .args(logs)
            .stdout(File::create(&output).expect("written"))
            .stderr(Stdio::null())
            .spawn()
            .expect("banctl runs");
        while child.try_wait().expect("it can be asked").is_none() {
            most = most.max(host::status(child.id(), "VmHWM:").unwrap_or(0.0));
            std::thread::sleep(Duration::from_millis(5));
        }
        let said = std::fs::read_to_string(output).expect("read");
        let summary: serde_json::Value =
            serde_json::from_str(said.lines().last().unwrap_or_default()).expect("its speed");
        summary["seconds"].as_f64().expect("its speed")
    });
    let seconds = runs.fold(f64::INFINITY, f64::min);
    (seconds, most)
}

/// The texts one of which a line must have that these filters look at, a line each.
fn literals_of(filters: &[String]) -> String {
    let literals = filters.iter().flat_map(|filter| {
        let mut banctl = Command::new(env!("CARGO_BIN_EXE_banctl"));
        let shown = banctl.args(["filters", "show", "--json"]).arg(path_of(filter)).output().expect("banctl runs");
        let said: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
        let patterns = said["patterns"].as_array().cloned().expect("patterns");
        let literals = patterns.iter().flat_map(|pattern| pattern["literals"].as_array().cloned().unwrap_or_default());
        literals.filter_map(|literal| Some(literal.as_str()?.to_owned())).collect::<Vec<_>>()
    });
    let all: BTreeSet<String> = literals.collect();
    all.into_iter().map(|literal| literal + "\n").collect()
}

/// Seconds in which ripgrep counts the lines with any of the literals in a file, on one thread.
fn ripgrep(path: &Path, literals: &Path) -> Option<f64> {
    let start = Instant::now();
    let ran = Command::new("rg").args(["-j1", "-c", "-a", "-F", "-i", "-f"]).arg(literals).arg(path).output();
    ran.is_ok().then(|| start.elapsed().as_secs_f64())
}

/// Seconds in which a file is read and its lines are told apart.
fn split(path: &Path) -> f64 {
    let (mut file, mut block, mut lines) = (File::open(path).expect("it is there"), vec![0; 256 * 1024], 0);
    let start = Instant::now();
    loop {
        let read = file.read(&mut block).expect("it can be read");
        if read == 0 {
            break;
        }
        for end in memchr::memchr_iter(b'\n', &block[..read]) {
            lines += usize::from(std::hint::black_box(end) < read);
        }
    }
    assert_eq!(lines, LINES as usize, "the log is whole");
    start.elapsed().as_secs_f64()
}

fn filter_text(filter: &str) -> String {
    std::fs::read_to_string(path_of(filter)).expect("a filter")
}

fn path_of(filter: &str) -> PathBuf {
    folder().join(format!("{filter}.toml"))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("filters")
}

pub(crate) fn all_filters() -> Vec<String> {
    let files = std::fs::read_dir(folder()).expect("the filters");
    let mut all: Vec<String> =
        files.filter_map(|file| Some(file.ok()?.path().file_stem()?.to_str()?.to_owned())).collect();
    all.sort();
    all
}

/// Those for access logs.
fn web_filters() -> Vec<String> {
    all_filters().into_iter().filter(|filter| has_format(&filter_text(filter), "clf")).collect()
}

fn has_format(text: &str, format: &str) -> bool {
    text.lines().any(|line| line.starts_with("format") && line.contains(&format!("\"{format}\"")))
}

/// A jail for each filter, all with the same source.
pub(crate) fn jails(filters: &[String], source: &str) -> String {
    let mut jails = String::new();
    for filter in filters {
        // Those that go by a LOG prefix take the one they have, or this one.
        let text = filter_text(filter);
        let open = has_format(&text, "kernel") && !text.contains("\nprefix");
        let prefix = if open { "log_prefix = \"BENCH-DROP:\"\n" } else { "" };
        write!(jails, "[jail.\"all-{filter}\"]\nfilter = \"{filter}\"\nsource = {source}\n{prefix}").expect("a String");
    }
    jails
}
