//! A short run of every target: its seeds, what was found before, and some thousands of inputs made of them.

use std::path::Path;
use std::time::{Duration, Instant};

use super::mutate::{Numbers, input};
use super::{TARGETS, Target};

/// Inputs for each target. `BANWARD_INPUTS` in the environment asks for more, `BANWARD_SEED` for others.
const INPUTS: usize = 2000;

/// No input may take longer, by far: what is linear takes milliseconds, also where others work beside it.
const PATIENCE: Duration = Duration::from_secs(20);

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("a target")
}

/// Shows the input that breaks a law, so that it can be kept.
struct Shown<'d>(&'d str, &'d [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: {}", self.0, self.1.escape_ascii());
        }
    }
}

fn feed(target: &Target, data: &[u8]) {
    let (_shown, start) = (Shown(target.name, data), Instant::now());
    (target.run)(data);
    assert!(start.elapsed() < PATIENCE, "{:?} for {} bytes", start.elapsed(), data.len());
}

fn attack(name: &str, inputs: usize) {
    let target = target(name);
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "nothing to begin with");
    // What is made once, such as the matcher of all filters, is no input's fault.
    (target.run)(b"");
    for seed in &seeds {
        feed(target, seed);
    }
    let mut numbers = Numbers::new(u64::try_from(number("BANWARD_SEED", 1)).expect("a seed fits"));
    for _ in 0..number("BANWARD_INPUTS", inputs) {
        feed(target, &input(&seeds, &mut numbers));
    }
}

#[test]
fn hostile_lines_accuse_only_whom_they_name() {
    attack("line", 1000);
}

#[test]
fn hostile_json_accuses_only_whom_it_names() {
    attack("json", INPUTS);
}

#[test]
fn hostile_headers_are_parts_of_their_lines() {
    attack("header", INPUTS);
}

#[test]
fn hostile_stamps_end_and_lie_in_no_future() {
    attack("stamp", INPUTS);
}

#[test]
fn hostile_packets_have_the_sender_that_they_name() {
    attack("netfilter", INPUTS);
}

#[test]
fn hostile_filter_files_are_taken_or_refused_in_words() {
    attack("filter_file", 150);
}

#[test]
fn hostile_records_of_kernel_and_journal_stay_one_line() {
    attack("record", INPUTS);
}

#[test]
fn hostile_lists_cover_nobody_else_and_keep_the_users_lines() {
    attack("blocklist", INPUTS);
}

#[test]
fn hostile_answers_of_the_kernel_are_read_within_their_bounds() {
    attack("netlink", INPUTS);
}

#[test]
fn hostile_records_of_the_ledger_come_back_the_same() {
    attack("ledger", INPUTS);
}

#[test]
fn hostile_requests_are_refused_in_words_or_come_back_the_same() {
    attack("control", INPUTS);
}

#[test]
fn hostile_configurations_of_fail2ban_are_converted_or_refused_in_words() {
    attack("convert", INPUTS);
}

/// `fuzz/regressions/TARGET/*`: inputs that broke something once.
#[test]
fn what_fuzzers_found_stays_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions");
    let mut fed = 0;
    for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        for file in std::fs::read_dir(entry.path()).unwrap().map(Result::unwrap) {
            feed(target(name.to_str().unwrap()), &std::fs::read(file.path()).unwrap());
            fed += 1;
        }
    }
    assert!(fed > 0, "nothing in {}", folder.display());
}

#[test]
fn every_target_has_its_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for Target { name, .. } in &TARGETS {
        let source = std::fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(source.contains(&format!("run(\"{name}\", data)")), "fuzz_targets/{name}.rs runs another target");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml does not have {name}");
    }
}
