//! `make bench BENCH=stages`: what one line, hit, ban or message costs in each stage of its way.

#[path = "stages/inputs.rs"]
mod inputs;

use banward::{Book, Scanner};
use divan::Bencher;
use divan::counter::ItemsCount;
use inputs::{ITEMS, Lines, block, broad_scanner, jail, scanner};

fn main() {
    divan::main();
}

/// Split into lines, and searched for the literals of all filters.
#[divan::bench]
fn a_line_that_nobody_wants(bencher: Bencher<'_, '_>) {
    scan(bencher, scanner(), Lines::Foreign);
}

/// The same with every filter there is.
#[divan::bench]
fn a_line_that_none_of_all_filters_wants(bencher: Bencher<'_, '_>) {
    scan(bencher, broad_scanner(), Lines::Foreign);
}

/// And its stamp and header read.
#[divan::bench]
fn a_line_of_another_program(bencher: Bencher<'_, '_>) {
    scan(bencher, scanner(), Lines::OtherProgram);
}

/// And its pattern tried, its address read.
#[divan::bench]
fn a_failed_log_in(bencher: Bencher<'_, '_>) {
    scan(bencher, scanner(), Lines::Failed);
}

#[divan::bench]
fn a_failed_log_in_over_ipv6(bencher: Bencher<'_, '_>) {
    scan(bencher, scanner(), Lines::Failed6);
}

#[divan::bench]
fn a_line_of_the_kernel(bencher: Bencher<'_, '_>) {
    scan(bencher, scanner(), Lines::Kernel);
}

fn scan(bencher: Bencher<'_, '_>, mut scanner: Scanner, lines: Lines) {
    let block = block(lines);
    bencher.counter(ItemsCount::new(ITEMS)).bench_local(|| scanner.scan(&block));
}

/// The first hit of a source: it is entered into the window.
#[divan::bench]
fn a_hit_in_its_window(bencher: Bencher<'_, '_>) {
    let bencher = bencher.counter(ItemsCount::new(ITEMS)).with_inputs(jail);
    bencher.bench_local_refs(|jail| jail.hits((0..ITEMS).map(|source| (source, 0)), true));
}

/// The hit that is one too many, through window, policy and ledger, until the change for the kernel.
#[divan::bench]
fn an_offence(bencher: Bencher<'_, '_>) {
    let before = || {
        let mut jail = jail();
        jail.hits((0..ITEMS).flat_map(|source| [(source, 0); 4]), true);
        jail
    };
    let bencher = bencher.counter(ItemsCount::new(ITEMS)).with_inputs(before);
    bencher.bench_local_refs(|jail| jail.hits((0..ITEMS).map(|source| (source, 1)), true));
}

/// A ban, entered into the ledger and handed to the thread that writes.
#[divan::bench]
fn a_ban_in_the_ledger(bencher: Bencher<'_, '_>) {
    let bencher = bencher.counter(ItemsCount::new(ITEMS)).with_inputs(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        (Book::open(dir.path()), dir)
    });
    bencher.bench_local_refs(|(book, _)| {
        book.ban(ITEMS);
        book.commit();
    });
}

/// A ban as a message for the kernel.
#[divan::bench]
fn a_message_for_the_kernel(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(ITEMS)).bench_local(|| banward::messages(ITEMS));
}
