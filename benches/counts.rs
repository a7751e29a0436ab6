//! `make counts`: each stage once, with the same input every time. `tools/counts.sh` runs this in callgrind and counts the
//! instructions of every function `stage_…`; a slow-down is seen without a clock, on a busy machine too.
//!
//! Each function says its own name to nobody, because the linker makes one function of two that do the same.

#[path = "stages/inputs.rs"]
mod inputs;

use std::hint::black_box;

use banward::{Book, Measured, Scanner};
use inputs::{ITEMS, Lines, block, broad_scanner, jail, scanner};

fn main() {
    println!("items {ITEMS}");
    let (mut scanner, mut broad) = (scanner(), broad_scanner());
    let blocks = [Lines::Foreign, Lines::OtherProgram, Lines::Failed, Lines::Failed6, Lines::Kernel].map(block);
    let [foreign, other, failed, failed6, kernel] = &blocks;
    // Once before: what a filter prepares at its first line is no part of what a line costs.
    let warm: Vec<usize> = blocks.iter().map(|block| scanner.scan(block)).collect();
    let expected = [0, 0, ITEMS, ITEMS, ITEMS].map(|hits| hits as usize);
    assert_eq!(warm, expected, "the inputs are not what they are to be");
    assert_eq!(broad.scan(foreign), 0, "no filter wants them");
    stage_line_nobody_wants(&mut scanner, foreign);
    stage_line_nobody_wants_with_all_filters(&mut broad, foreign);
    stage_line_of_another_program(&mut scanner, other);
    stage_failed_log_in(&mut scanner, failed);
    stage_failed_log_in_ipv6(&mut scanner, failed6);
    stage_line_of_the_kernel(&mut scanner, kernel);
    let mut jail = jail();
    stage_hit_of_a_new_source(&mut jail);
    jail.hits((0..ITEMS).flat_map(|source| [(source, 0); 3]), true);
    assert_eq!(stage_offence(&mut jail), ITEMS as usize, "each is banned");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut book = Book::open(dir.path());
    book.ban(ITEMS);
    book.commit();
    stage_ban_in_the_ledger(&mut book);
    stage_write_of_a_ban(&mut book);
    stage_message_for_the_kernel();
}

#[inline(never)]
fn stage_line_nobody_wants(scanner: &mut Scanner, block: &[u8]) {
    black_box("line nobody wants");
    scanner.scan(block);
}

#[inline(never)]
fn stage_line_nobody_wants_with_all_filters(scanner: &mut Scanner, block: &[u8]) {
    black_box("line that none of all filters wants");
    scanner.scan(block);
}

#[inline(never)]
fn stage_line_of_another_program(scanner: &mut Scanner, block: &[u8]) {
    black_box("line of another program");
    scanner.scan(block);
}

#[inline(never)]
fn stage_failed_log_in(scanner: &mut Scanner, block: &[u8]) {
    black_box("failed log-in");
    scanner.scan(block);
}

#[inline(never)]
fn stage_failed_log_in_ipv6(scanner: &mut Scanner, block: &[u8]) {
    black_box("failed log-in over IPv6");
    scanner.scan(block);
}

#[inline(never)]
fn stage_line_of_the_kernel(scanner: &mut Scanner, block: &[u8]) {
    black_box("line of the kernel");
    scanner.scan(block);
}

#[inline(never)]
fn stage_hit_of_a_new_source(jail: &mut Measured) {
    jail.hits((0..black_box(ITEMS)).map(|source| (source, 0)), true);
}

#[inline(never)]
fn stage_offence(jail: &mut Measured) -> usize {
    jail.hits((0..black_box(ITEMS)).map(|source| (source, 1)), true)
}

#[inline(never)]
fn stage_ban_in_the_ledger(book: &mut Book) {
    book.ban(black_box(ITEMS));
}

/// Only what the thread that decides has to do; the writing itself is another thread's.
#[inline(never)]
fn stage_write_of_a_ban(book: &mut Book) {
    book.commit();
}

#[inline(never)]
fn stage_message_for_the_kernel() {
    banward::messages(black_box(ITEMS));
}
