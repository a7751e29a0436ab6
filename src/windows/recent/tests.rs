use proptest::prelude::*;

use super::*;
use crate::filters::Evidence;
use crate::windows::table::SAMPLE;

fn source(number: u32) -> IpNet {
    IpNet::from(std::net::IpAddr::from(number.to_be_bytes()))
}

fn key(number: u32) -> Key {
    Key::of(source(number), Evidence::Proven)
}

fn millis(millis: i64) -> Timestamp {
    Timestamp::from_micros(1_795_224_600_000_000 + millis * 1000)
}

fn recent(hitcount: u32, seconds: u64, check: Check) -> Recent {
    Recent::new(hitcount, Duration::from_secs(seconds), Counting::Hits(check), 100)
}

/// Which of these hits of one source, in milliseconds, are offences.
fn offences(window: &mut Recent, hits: &[i64]) -> Vec<bool> {
    hits.iter().map(|hit| window.hit(key(1), millis(*hit), 1, 0).is_some()).collect()
}

#[test]
fn the_eleventh_hit_is_the_offence_at_hitcount_11() {
    let mut window = recent(11, 600, Check::Rcheck);
    for second in 1..=10 {
        assert_eq!(window.hit(key(1), millis(second * 1000), 1, 0), None, "{second}");
    }
    for second in 11..=15 {
        let first = millis((second - 10) * 1000);
        assert_eq!(window.hit(key(1), millis(second * 1000), 1, 0), Some((11, first)), "{second}");
    }
}

#[test]
fn the_edge_of_the_window_is_inclusive() {
    for seconds in [1, 600, 86_400, 7 * 86_400, 30 * 86_400] {
        let edge = i64::try_from(seconds).unwrap() * 1000;
        let mut window = recent(2, seconds, Check::Rcheck);
        assert_eq!(offences(&mut window, &[0, edge]), [false, true], "{seconds} s");
        let mut window = recent(2, seconds, Check::Rcheck);
        assert_eq!(offences(&mut window, &[0, edge + 1000]), [false, false], "{seconds} s and one more");
    }
}

#[test]
fn three_hits_in_a_second_are_told_from_three_in_a_little_more() {
    assert_eq!(
        offences(&mut recent(3, 1, Check::Rcheck), &[0, 450, 900, 1350, 1800]),
        [false, false, true, true, true]
    );
    assert_eq!(offences(&mut recent(3, 1, Check::Rcheck), &[0, 550, 1100, 1650, 2200]), [false; 5]);
}

#[test]
fn update_stamps_an_offence_twice() {
    // At 2.5 s rcheck sees 1.6 alone; update sees it twice, which with 2.5 makes three.
    let hits = [0, 400, 800, 1600, 2500];
    assert_eq!(offences(&mut recent(3, 1, Check::Rcheck), &hits), [false, false, true, false, false]);
    assert_eq!(offences(&mut recent(3, 1, Check::Update), &hits), [false, false, true, true, true]);
}

#[test]
fn hitcount_one_makes_every_hit_an_offence() {
    for check in [Check::Rcheck, Check::Update] {
        assert_eq!(offences(&mut recent(1, 1, check), &[0, 100, 5000]), [true; 3]);
        assert_eq!(offences(&mut recent(0, 1, check), &[0]), [true]);
    }
}

#[test]
fn a_repeated_line_counts_as_often_as_it_says() {
    let mut window = recent(5, 600, Check::Rcheck);
    assert_eq!(window.hit(key(1), millis(0), 4, 0), None);
    assert!(window.hit(key(1), millis(1000), 1, 0).is_some());
    assert!(window.hit(key(2), millis(1000), u32::MAX, 0).is_some());
    assert_eq!(window.hit(key(3), millis(1000), 0, 0), None);
}

#[test]
fn sources_do_not_count_for_each_other() {
    let mut window = recent(2, 600, Check::Rcheck);
    for number in 0..50 {
        assert_eq!(window.hit(key(number), millis(0), 1, 0), None);
    }
    assert_eq!(window.hit(Key::of("2001:db8::/64".parse().unwrap(), Evidence::Proven), millis(0), 1, 0), None);
    assert!(window.hit(Key::of("2001:db8::/64".parse().unwrap(), Evidence::Proven), millis(1), 1, 0).is_some());
}

#[test]
fn a_late_hit_does_not_push_out_newer_ones() {
    let hits = [50_000, 51_000, 1000, 2000, 3000, 52_000];
    assert_eq!(offences(&mut recent(3, 10, Check::Rcheck), &hits), [false, false, false, false, false, true]);
}

#[test]
fn a_late_hit_counts_where_it_belongs() {
    assert_eq!(offences(&mut recent(3, 10, Check::Rcheck), &[50_000, 51_000, 45_000]), [false, false, true]);
    assert_eq!(offences(&mut recent(3, 10, Check::Rcheck), &[50_000, 51_000, 41_000]), [false, false, true]);
    assert_eq!(offences(&mut recent(3, 10, Check::Rcheck), &[50_000, 51_000, 40_000]), [false; 3]);
}

#[test]
fn a_late_hit_that_is_older_than_an_offence_is_none_itself() {
    assert_eq!(offences(&mut recent(2, 10, Check::Rcheck), &[50_000, 51_000, 49_000]), [false, true, false]);
}

#[test]
fn the_largest_hitcount_counts_exactly() {
    let mut window = Recent::new(65_535, Duration::from_secs(600), Counting::Hits(Check::Rcheck), 10);
    for hit in 0..65_534 {
        assert_eq!(window.hit(key(1), millis(hit), 1, 0), None);
    }
    assert_eq!(window.hit(key(1), millis(65_534), 1, 0), Some((65_535, millis(0))));
}

#[test]
fn what_was_forgotten_counts_no_more() {
    let mut window = recent(2, 600, Check::Rcheck);
    window.hit(key(1), millis(0), 1, 0);
    window.hit(key(2), millis(0), 1, 0);
    window.hit(key(0x0100_0000), millis(0), 1, 0);
    window.forget(source(2));
    assert_eq!(window.hit(key(2), millis(1), 1, 0), None);
    assert!(window.hit(key(1), millis(1), 1, 0).is_some());
    window.forget("0.0.0.0/24".parse().unwrap());
    assert_eq!(window.table.len(), 1);
    assert_eq!(window.hit(key(1), millis(2), 1, 0), None);
    assert!(window.hit(key(0x0100_0000), millis(2), 1, 0).is_some());
}

#[test]
fn counts_survive_the_move_of_the_base() {
    let day = 86_400_000;
    let mut window = recent(3, 10 * 86_400, Check::Rcheck);
    window.hit(key(2), millis(0), 1, 0);
    let hits = [20 * day, 24 * day, 26 * day, 36 * day, 200 * day, 201 * day, 202 * day];
    let expected = [false, false, true, false, false, false, true];
    assert_eq!(offences(&mut window, &hits), expected);
    assert_eq!(window.table.len(), 1, "a source whose stamps are out of reach is dropped");
}

#[test]
fn hits_from_before_the_reach_of_a_stamp_do_not_count() {
    let mut window = recent(2, 600, Check::Rcheck);
    window.hit(key(1), millis(0), 1, 0);
    let year = 365 * 86_400_000;
    assert_eq!(offences(&mut window, &[-year, -2 * year, -3 * year]), [false; 3]);
    assert_eq!(window.hit(key(1), Timestamp::EPOCH, 1, 0), None);
    assert!(window.hit(key(1), millis(1), 1, 0).is_some());
}

#[test]
fn after_the_clock_was_set_back_hits_count_again() {
    for ahead in [3_600_000, 100 * 365 * 86_400_000] {
        let mut window = recent(3, 600, Check::Rcheck);
        window.hit(key(2), millis(0), 1, 0);
        assert_eq!(offences(&mut window, &[0, ahead, ahead, ahead + 1]), [false, false, false, true]);
        window.rewind(millis(2000));
        assert_eq!(offences(&mut window, &[2000]), [false], "of the earlier ones, one is left at most");
        assert_eq!(offences(&mut window, &[2000, 3000]).last(), Some(&true));
    }
}

#[test]
fn a_clock_that_goes_on_forgets_nothing() {
    let mut window = recent(3, 600, Check::Rcheck);
    offences(&mut window, &[0, 1000]);
    window.rewind(millis(1000));
    assert_eq!(offences(&mut window, &[2000]), [true]);
}

#[test]
fn at_the_bound_an_expired_source_goes_first_then_the_one_with_fewest_hits() {
    let mut window = Recent::new(5, Duration::from_secs(10), Counting::Hits(Check::Rcheck), 3);
    window.hit(key(1), millis(0), 4, 0); // expired by the time it matters
    window.hit(key(2), millis(15_000), 4, 0);
    window.hit(key(3), millis(16_000), 1, 0);
    window.hit(key(4), millis(17_000), 1, 0); // takes the place of 1
    assert_eq!((window.table.len(), window.table.evicted()), (3, 1));
    window.hit(key(5), millis(18_000), 1, 0); // takes the place of 3, as quiet as 4 but for longer
    assert!(window.table.find(&key(3)).is_none());
    assert!(window.table.find(&key(4)).is_some());
    assert!(window.hit(key(2), millis(19_000), 1, 0).is_some());
}

#[test]
fn a_hundred_thousand_sources_stay_within_64_bytes_each_however_often_they_hit() {
    let mut window = Recent::new(5, Duration::from_secs(600), Counting::Hits(Check::Rcheck), 100_000);
    for number in 0..100_000 {
        window.hit(key(number), millis(0), 1, 0);
    }
    assert_eq!((window.table.len(), window.table.evicted()), (100_000, 0));
    let bytes = window.table.bytes();
    assert!(bytes <= 6_400_000, "{bytes}");
    for number in 0..20_000 {
        window.hit(key(number), millis(0), 20, 7);
        window.hit(key(number + 100_000), millis(0), 1, 7);
    }
    assert_eq!((window.table.len(), window.table.bytes()), (100_000, bytes), "no hit allocates any more");
}

#[test]
fn any_number_of_sources_stays_within_the_capacity() {
    let mut window = Recent::new(5, Duration::from_secs(600), Counting::Hits(Check::Rcheck), 5_000);
    for number in 0..100_000 {
        window.hit(key(number), millis(i64::from(number) / 1000), 1, 0);
    }
    assert_eq!((window.table.len(), window.table.evicted()), (5_000, 95_000));
    let mut huge = Recent::new(65_535, Duration::from_secs(600), Counting::Hits(Check::Rcheck), 1_000_000);
    for number in 0..2000 {
        huge.hit(key(number), millis(0), 1, 0);
    }
    assert!(huge.table.len() < 700 && huge.table.bytes() <= 256 << 20, "{}", huge.table.len());
}

#[test]
fn a_flood_of_spoofed_sources_neither_outgrow_the_table_nor_push_out_one_attacker_who_hits_slowly() {
    let forged = |number: u32| Key::of(source(number), Evidence::Forgeable);
    let mut window = Recent::new(5, Duration::from_secs(600), Counting::Hits(Check::Rcheck), 2_000);
    let attacker = key(u32::MAX);
    let mut offences = Vec::new();
    for number in 0..100_000 {
        if number % 20_000 == 10_000 {
            offences.push(window.hit(attacker, millis(i64::from(number) * 5), 1, 0).is_some());
        }
        // Each forged source hits as often as an offence takes, short of one.
        window.hit(forged(number), millis(i64::from(number) * 5), 4, 0);
    }
    assert_eq!(offences, [false, false, false, false, true]);
    assert_eq!(window.table.len(), 2_000);
    assert!(window.table.bytes() <= 64 * 2_000);
}

#[test]
fn proven_sources_take_the_room_of_forged_ones_and_of_expired_ones_anybody() {
    let mut window = Recent::new(5, Duration::from_secs(10), Counting::Hits(Check::Rcheck), 4);
    let forged = |number| Key::of(source(number), Evidence::Forgeable);
    let is_there = |window: &Recent, key| window.table.find(&key).is_some();
    window.hit(forged(1), millis(0), 4, 0);
    for number in 2..=4 {
        window.hit(key(number), millis(0), 1, 0);
    }
    window.hit(key(5), millis(1000), 1, 0);
    assert!(!is_there(&window, forged(1)) && is_there(&window, key(2)) && is_there(&window, key(5)));
    assert_eq!(window.hit(forged(6), millis(2000), u32::MAX, 0), None, "there is no room for it");
    assert_eq!((window.table.len(), window.table.evicted()), (4, 2));
    window.hit(forged(7), millis(10_500), 1, 0);
    assert!(is_there(&window, forged(7)) && is_there(&window, key(5)));
}

#[test]
fn what_may_be_forged_does_not_add_to_what_is_proven() {
    let mut window = recent(3, 600, Check::Rcheck);
    window.hit(Key::of(source(1), Evidence::Forgeable), millis(0), 2, 0);
    assert_eq!(window.hit(key(1), millis(0), 2, 0), None);
    assert!(window.hit(key(1), millis(0), 1, 0).is_some());
}

#[test]
fn a_log_in_of_the_future_changes_nothing_for_those_who_come_when_the_clock_is_right_again() {
    let far = millis(60 * 24 * 3_600_000);
    for whose in [1, 2] {
        let mut window = recent(2, 600, Check::Rcheck);
        window.hit(key(1), millis(0), 1, 7);
        window.forgive(&key(whose), far, || Some(9));
        window.rewind(millis(2000));
        window.hit(key(1), millis(3000), 1, 7);
        assert!(window.hit(key(1), millis(4000), 1, 7).is_some(), "of {whose}");
    }
}

#[test]
fn what_is_forgiven_is_of_that_tag_and_not_later() {
    let mut window = recent(3, 600, Check::Rcheck);
    window.hit(key(1), millis(0), 1, 7);
    window.hit(key(1), millis(1000), 1, 8);
    window.hit(key(1), millis(3000), 1, 7);
    window.forgive(&key(2), millis(3000), || Some(7));
    window.forgive(&key(1), millis(2000), || Some(7));
    assert!(window.hit(key(1), millis(4000), 1, 9).is_some(), "those at 1, 3 and 4 s");
    let mut window = recent(2, 600, Check::Rcheck);
    window.hit(key(1), millis(0), 1, 7);
    window.forgive(&key(1), millis(1000), || Some(7));
    assert_eq!(window.table.len(), 0);
    assert_eq!(window.hit(key(1), millis(2000), 1, 7), None);
}

/// `xt_recent`, said plainly: all stamps are kept.
struct Model {
    hitcount: usize,
    window: i64,
    check: Check,
    stamps: Vec<i64>,
}

impl Model {
    fn hit(&mut self, now: i64) -> bool {
        self.stamps.push(now);
        let over = self.stamps.iter().filter(|stamp| now - **stamp <= self.window).count() >= self.hitcount;
        if over && self.check == Check::Update {
            self.stamps.push(now);
        }
        over
    }
}

fn check() -> impl Strategy<Value = Check> {
    prop_oneof![Just(Check::Rcheck), Just(Check::Update)]
}

proptest! {
    #[test]
    fn recent_decides_as_the_kernel_does(
        hitcount in 1_usize..24,
        window in 1_i64..20,
        check in check(),
        steps in prop::collection::vec((0_u32..3, 0_i64..8, 1_u32..3), 1..200),
    ) {
        let mut tested = recent(u32::try_from(hitcount).unwrap(), u64::try_from(window).unwrap(), check);
        let model = || Model { hitcount, window: window * 1000, check, stamps: Vec::new() };
        let mut models = [model(), model(), model()];
        let mut now = 0;
        for (number, quarters, repeat) in steps {
            now += quarters * 250;
            let expected = (0..repeat).fold(false, |_, _| models[number as usize].hit(now));
            prop_assert_eq!(tested.hit(key(number), millis(now), repeat, 0).is_some(), expected);
        }
    }

    #[test]
    fn in_whatever_order_hits_are_read_an_offence_has_enough_of_them_within_the_window(
        hitcount in 1_usize..8,
        window in 1_i64..20,
        times in prop::collection::vec(0_i64..400, 1..100),
    ) {
        let mut tested = recent(u32::try_from(hitcount).unwrap(), u64::try_from(window).unwrap(), Check::Rcheck);
        let mut sorted: Vec<i64> = Vec::new();
        for quarters in times {
            let now = quarters * 250;
            let offence = tested.hit(key(1), millis(now), 1, 0);
            sorted.insert(sorted.partition_point(|stamp| *stamp <= now), now);
            // The newest ones, where they are together and this hit is one of them.
            let newest = sorted.len().checked_sub(hitcount).map(|from| &sorted[from..]);
            let together = newest.filter(|hits| hits[0] <= now && hits[hitcount - 1] - hits[0] <= window * 1000);
            prop_assert_eq!(offence.map(|(_, first)| first), together.map(|hits| millis(hits[0])));
        }
    }

    #[test]
    fn within_a_sample_only_the_least_suspicious_source_is_ever_evicted(
        hits in prop::collection::vec((0_u32..40, 0_i64..3), 1..300),
    ) {
        let mut window = Recent::new(6, Duration::from_secs(20), Counting::Hits(Check::Rcheck), SAMPLE);
        let mut now = 0;
        for (number, step) in hits {
            now += step * 1000;
            let edge = { let tick = window.now(millis(now)).unwrap(); window.ticks.edge(tick) };
            let suspicion = |window: &Recent, number| {
                let stamps = window.marks.stamps(window.table.words(window.table.find(&key(number))?));
                Some((stamps.iter().filter(|stamp| **stamp >= edge).count(), stamps.iter().max().copied()))
            };
            let before: Vec<_> = (0..40).map(|number| suspicion(&window, number)).collect();
            window.hit(key(number), millis(now), 1, 0);
            let gone = (0..40).filter(|other| *other != number && suspicion(&window, *other).is_none());
            for gone in gone.filter_map(|number| before[number as usize]) {
                prop_assert!(before.iter().flatten().all(|other| *other >= gone));
            }
            prop_assert!(window.table.len() <= SAMPLE);
        }
    }

    #[test]
    fn different_tags_count_as_a_plain_list_says(
        hitcount in 1_usize..8,
        window in 1_i64..20,
        steps in prop::collection::vec((0_u16..12, 1_i64..8, 0_u8..6), 1..200),
    ) {
        let hits = u32::try_from(hitcount).unwrap();
        let seconds = Duration::from_secs(u64::try_from(window).unwrap());
        let mut tested = Recent::new(hits, seconds, Counting::Tags, 10);
        let mut seen: Vec<(i64, u16)> = Vec::new();
        let mut now = 0;
        for (tag, quarters, forgive) in steps {
            now += quarters * 250;
            if forgive == 0 {
                tested.forgive(&key(1), millis(now), || Some(tag));
                seen.retain(|(_, other)| *other != tag);
                continue;
            }
            seen.retain(|(_, other)| *other != tag);
            seen.push((now, tag));
            let surplus = seen.len().saturating_sub(hitcount);
            seen.drain(..surplus);
            let recent = seen.iter().filter(|(time, _)| now - time <= window * 1000).count();
            prop_assert_eq!(tested.hit(key(1), millis(now), 1, tag).is_some(), recent >= hitcount);
        }
    }

    #[test]
    fn a_window_with_good_logins_decides_as_a_plain_list_does(
        hitcount in 1_usize..8,
        window in 1_i64..20,
        steps in prop::collection::vec((1_u16..5, 1_i64..8, 0_u8..6), 1..200),
    ) {
        let mut tested = recent(u32::try_from(hitcount).unwrap(), u64::try_from(window).unwrap(), Check::Rcheck);
        let mut seen: Vec<(i64, u16)> = Vec::new();
        let mut now = 0;
        for (tag, quarters, forgive) in steps {
            now += quarters * 250;
            if forgive == 0 {
                tested.forgive(&key(1), millis(now), || Some(tag));
                seen.retain(|(_, other)| *other != tag);
                continue;
            }
            seen.push((now, tag));
            // Only the newest are known. To push out older ones that still count takes an offence, so nobody can wash
            // them away by a good log-in.
            let surplus = seen.len().saturating_sub(hitcount);
            seen.drain(..surplus);
            let recent = seen.iter().filter(|(time, _)| now - time <= window * 1000).count();
            prop_assert_eq!(tested.hit(key(1), millis(now), 1, tag).is_some(), recent >= hitcount);
        }
    }
}

#[test]
fn a_tally_is_what_the_window_holds_and_changes_nothing() {
    let mut window = recent(5, 60, Check::Rcheck);
    assert_eq!(window.tally(&key(1), millis(0)), None);
    for second in [0, 10, 50] {
        window.hit(key(1), millis(second * 1000), 1, 0);
    }
    let tally =
        |hits, first: i64, last: i64| Some(Tally { hits, first: millis(first * 1000), last: millis(last * 1000) });
    for _ in 0..2 {
        assert_eq!(window.tally(&key(1), millis(60_000)), tally(3, 0, 50));
        assert_eq!(window.tally(&key(1), millis(60_001)), tally(2, 10, 50));
        assert_eq!(window.tally(&key(1), millis(999_000)), tally(0, 50, 50), "the latest hit is known however old");
        assert_eq!(window.tally(&key(2), millis(60_000)), None);
    }
}
