use std::os::unix::fs::FileExt;

use super::*;

/// A log of `count` lines, one a second from second 1000, with unstamped lines in between.
fn stamped(count: u64) -> String {
    let lines: Vec<String> = (1000..1000 + count).map(|second| format!("{second} line\n  more of it\n")).collect();
    lines.concat()
}

#[test]
fn a_first_start_begins_at_the_first_line_that_is_not_too_old() {
    let world = World::new(&["a.log"]);
    world.append("a.log", &stamped(100_000));
    for (since, first) in [(0, 1000), (1000, 1000), (1001, 1001), (50_123, 50_123), (100_999, 100_999)] {
        let mut harness = world.start_with(|spec| (spec.start, spec.since) = (true, Timestamp::from_secs(since)));
        assert_eq!(harness.seen.first().map(String::as_str), Some(format!("{first} line").as_str()), "since {since}");
        assert_eq!(harness.seen.len() as u64, 2 * (101_000 - first), "since {since}");
        harness.stop();
    }
}

#[test]
fn a_first_start_of_a_log_that_is_too_old_or_has_no_stamps_begins_at_its_end() {
    let world = World::new(&["a.log", "b.log"]);
    world.append("a.log", &stamped(10));
    world.append("b.log", &"no stamp\n".repeat(100_000));
    let mut harness = world.start_with(|spec| (spec.start, spec.since) = (true, Timestamp::from_secs(2000)));
    assert_eq!(harness.lines, 0);
    world.append("b.log", "new\n");
    expect(&mut harness, &["new"]);
}

#[test]
fn a_first_start_finds_its_line_in_many_gigabytes_and_behind_zeros() {
    let world = World::new(&["a.log"]);
    // A line of second 1000 and so on in each MiB, and holes between.
    let file = File::create(world.path("a.log")).unwrap();
    for step in 0..8000_u64 {
        file.write_all_at(format!("\n{} line\n", 1000 + step).as_bytes(), step << 20).unwrap();
    }
    // As after a loss of power.
    file.write_all_at(b"\n9500 behind zeros\n9501 behind zeros\n", 8010 << 20).unwrap();
    for (since, first, count) in
        [(8998, "8998 line", 4), (9000, "9500 behind zeros", 2), (9501, "9501 behind zeros", 1)]
    {
        let mut harness = world.start_with(|spec| (spec.start, spec.since) = (true, Timestamp::from_secs(since)));
        let lines: Vec<&String> = harness.seen.iter().filter(|line| line.starts_with(['8', '9'])).collect();
        assert_eq!((lines[0].as_str(), lines.len()), (first, count), "since {since}");
        harness.stop();
    }
}

#[test]
fn a_first_start_misses_no_line_behind_more_zeros_than_it_looks_through() {
    let world = World::new(&["a.log"]);
    let file = File::create(world.path("a.log")).unwrap();
    file.write_all_at(b"1000 line\n1001 line\n", 0).unwrap();
    let lines: Vec<String> = (9000..9010).map(|second| format!("\n{second} line")).collect();
    file.write_all_at((lines.concat() + "\n").as_bytes(), 200 << 20).unwrap();
    for (since, first) in [(2000, 9000_u64), (9000, 9000), (9004, 9004), (9009, 9009)] {
        let mut harness = world.start_with(|spec| (spec.start, spec.since) = (true, Timestamp::from_secs(since)));
        let lines: Vec<&String> = harness.seen.iter().filter(|line| line.starts_with('9')).collect();
        assert_eq!(
            (lines[0].as_str(), lines.len() as u64),
            (format!("{first} line").as_str(), 9010 - first),
            "{since}"
        );
        harness.stop();
    }
}

#[test]
fn a_restart_goes_on_where_it_was_left() {
    let world = World::new(&["a.log"]);
    world.append("a.log", "one\n");
    let mut harness = world.start();
    let resume = harness.stop();
    world.append("a.log", "two\n");
    let mut harness = world.start_with(|spec| spec.resume = resume);
    expect(&mut harness, &["two"]);
    assert_eq!(harness.warm_lines, 0);
}

#[test]
fn after_a_rotation_while_it_was_stopped_the_rest_of_the_old_file_comes_first() {
    let world = World::new(&["a.log"]);
    world.append("a.log", "one\n");
    let mut harness = world.start();
    let resume = harness.stop();
    world.append("a.log", "two\n");
    world.rename("a.log", "a.log.1");
    let mut harness = world.start_with(|spec| spec.resume.clone_from(&resume));
    expect(&mut harness, &["two"]);
    harness.stop();
    world.append("a.log", "three\n");
    let mut harness = world.start_with(|spec| spec.resume = resume);
    expect(&mut harness, &["two", "three"]);
    assert_eq!(harness.lost_texts, Vec::<String>::new());
}

#[test]
fn a_rotated_file_that_was_compressed_meanwhile_is_said_to_be_lost() {
    let world = World::new(&["a.log"]);
    world.append("a.log", "one\n");
    let mut harness = world.start();
    let resume = harness.stop();
    fs::remove_file(world.path("a.log")).unwrap();
    world.append("a.log.1.gz", "compressed");
    world.append("a.log", "new\n");
    let mut harness = world.start_with(|spec| spec.resume = resume);
    expect(&mut harness, &["new"]);
    assert_eq!(harness.lost_texts.len(), 1);
}

#[test]
fn a_file_is_known_by_what_was_read_of_it_when_its_inode_has_changed() {
    let world = World::new(&["a.log"]);
    world.append("a.log", "one\n");
    let mut harness = world.start();
    let resume = harness.stop();
    fs::copy(world.path("a.log"), world.path("restored")).unwrap();
    fs::remove_file(world.path("a.log")).unwrap();
    world.rename("restored", "a.log");
    world.append("a.log", "two\n");
    let mut harness = world.start_with(|spec| spec.resume = resume);
    expect(&mut harness, &["two"]);
}

/// Reads ten lines, and gives the position after each.
fn ten_lines(world: &World) -> Vec<Position> {
    let mut harness = world.start();
    (0..10)
        .map(|number: usize| {
            world.append("a.log", &format!("{number}\n"));
            harness.await_until("the line", |harness| harness.seen.len() > number);
            harness.positions[world.path("a.log").to_str().unwrap()].clone()
        })
        .collect()
}

/// What the source does that was left behind the line 6 and refills its windows from a time on.
fn refilled_since(second: i64) -> (Vec<String>, u64) {
    let world = World::new(&["a.log"]);
    let left = ten_lines(&world)[6].clone();
    let mut harness = world.start_with(|spec| {
        spec.resume = [(Arc::from(world.path("a.log").to_str().unwrap()), left)].into();
        spec.since = Timestamp::from_secs(second);
        spec.refill = true;
    });
    expect(&mut harness, &["7", "8", "9"]);
    (harness.seen.clone(), harness.warm_lines)
}

#[test]
fn lines_that_windows_still_look_at_are_warm_up_to_where_the_log_was_left() {
    assert_eq!(refilled_since(4).1, 3);
    assert_eq!(refilled_since(0).1, 7);
}

#[test]
fn lines_that_windows_still_look_at_are_warm_in_older_generations_too() {
    let world = World::new(&["a.log"]);
    let stamps: Vec<String> = (990..1000).map(|second| second.to_string()).collect();
    world.append("a.log", &(stamps.join("\n") + "\n"));
    let mut harness = world.start();
    harness.await_until("the lines", |harness| harness.seen.len() == 10);
    for second in 1000..1003 {
        world.rename("a.log", "a.log.1");
        world.append("a.log", &format!("{second}\n"));
        harness.await_until("the line", |harness| harness.seen.last() == Some(&second.to_string()));
        rotation::after_a_clock_tick(&world);
        world.rename("a.log.1", &format!("a.log.{}", 2000 - second));
    }
    let resume = harness.stop();
    world.append("a.log", "1003\n");
    let mut harness = world.start_with(|spec| {
        (spec.resume, spec.refill, spec.since) = (resume, true, Timestamp::from_secs(995));
    });
    expect(&mut harness, &["1003"]);
    assert_eq!(harness.warm_lines, 5 + 3, "and none of them twice");
}

#[test]
fn a_log_that_was_left_long_ago_has_no_warm_lines_and_skips_none() {
    assert_eq!(refilled_since(1000), (["7", "8", "9"].map(str::to_owned).to_vec(), 0));
}

#[test]
fn a_restart_within_a_line_that_was_cut_passes_over_its_rest() {
    let world = World::new(&["a.log"]);
    world.append("a.log", &"x".repeat(3 * MAX_LINE));
    let mut harness = world.start();
    harness.await_until("the cut", |harness| harness.cut == 1);
    let resume = harness.stop();
    world.append("a.log", "from 192.0.2.1\nnext\n");
    let mut harness = world.start_with(|spec| spec.resume = resume);
    expect(&mut harness, &["next"]);
}
