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
