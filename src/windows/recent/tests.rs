use proptest::prelude::*;

use super::*;
use crate::windows::table::SAMPLE;

fn source(number: u32) -> IpNet {
    IpNet::from(std::net::IpAddr::from(number.to_be_bytes()))
}

fn millis(millis: i64) -> Timestamp {
    Timestamp::from_micros(1_795_224_600_000_000 + millis * 1000)
}

fn recent(hitcount: u32, seconds: u64, check: Check) -> Recent {
    Recent::new(hitcount, Duration::from_secs(seconds), check, 100)
}

/// Which of these hits of one source, in milliseconds, are offences.
fn offences(window: &mut Recent, hits: &[i64]) -> Vec<bool> {
    hits.iter().map(|hit| window.hit(source(1), millis(*hit), 1).is_some()).collect()
}

#[test]
fn the_eleventh_hit_is_the_offence_at_hitcount_11() {
    let mut window = recent(11, 600, Check::Rcheck);
    for second in 1..=10 {
        assert_eq!(window.hit(source(1), millis(second * 1000), 1), None, "{second}");
    }
    for second in 11..=15 {
        let first = millis((second - 10) * 1000);
        assert_eq!(window.hit(source(1), millis(second * 1000), 1), Some(Offence { hits: 11, first }), "{second}");
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
    assert_eq!(window.hit(source(1), millis(0), 4), None);
    assert!(window.hit(source(1), millis(1000), 1).is_some());
    assert!(window.hit(source(2), millis(1000), u32::MAX).is_some());
    assert_eq!(window.hit(source(3), millis(1000), 0), None);
}

#[test]
fn sources_do_not_count_for_each_other() {
    let mut window = recent(2, 600, Check::Rcheck);
    for number in 0..50 {
        assert_eq!(window.hit(source(number), millis(0), 1), None);
    }
    assert_eq!(window.hit("2001:db8::/64".parse().unwrap(), millis(0), 1), None);
    assert!(window.hit("2001:db8::/64".parse().unwrap(), millis(1), 1).is_some());
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
    let mut window = Recent::new(65_535, Duration::from_secs(600), Check::Rcheck, 10);
    for hit in 0..65_534 {
        assert_eq!(window.hit(source(1), millis(hit), 1), None);
    }
    assert_eq!(window.hit(source(1), millis(65_534), 1), Some(Offence { hits: 65_535, first: millis(0) }));
}

#[test]
fn what_was_forgotten_counts_no_more() {
    let mut window = recent(2, 600, Check::Rcheck);
    window.hit(source(1), millis(0), 1);
    window.hit(source(2), millis(0), 1);
    window.hit(source(0x0100_0000), millis(0), 1);
    window.forget(source(2));
    assert_eq!(window.hit(source(2), millis(1), 1), None);
    assert!(window.hit(source(1), millis(1), 1).is_some());
    window.forget("0.0.0.0/24".parse().unwrap());
    assert_eq!(window.tracked(), 1);
    assert_eq!(window.hit(source(1), millis(2), 1), None);
    assert!(window.hit(source(0x0100_0000), millis(2), 1).is_some());
}

#[test]
fn counts_survive_the_move_of_the_base() {
    let day = 86_400_000;
    let mut window = recent(3, 10 * 86_400, Check::Rcheck);
    window.hit(source(2), millis(0), 1);
    let hits = [20 * day, 24 * day, 26 * day, 36 * day, 200 * day, 201 * day, 202 * day];
    let expected = [false, false, true, false, false, false, true];
    assert_eq!(offences(&mut window, &hits), expected);
    assert_eq!(window.tracked(), 1, "a source whose stamps are out of reach is dropped");
}

#[test]
fn hits_from_before_the_reach_of_a_stamp_do_not_count() {
    let mut window = recent(2, 600, Check::Rcheck);
    window.hit(source(1), millis(0), 1);
    let year = 365 * 86_400_000;
    assert_eq!(offences(&mut window, &[-year, -2 * year, -3 * year]), [false; 3]);
    assert_eq!(window.hit(source(1), Timestamp::EPOCH, 1), None);
    assert!(window.hit(source(1), millis(1), 1).is_some());
}

#[test]
fn after_the_clock_was_set_back_hits_count_again() {
    for ahead in [3_600_000, 100 * 365 * 86_400_000] {
        let mut window = recent(3, 600, Check::Rcheck);
        window.hit(source(2), millis(0), 1);
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
    let mut window = Recent::new(5, Duration::from_secs(10), Check::Rcheck, 3);
    window.hit(source(1), millis(0), 4); // expired by the time it matters
    window.hit(source(2), millis(15_000), 4);
    window.hit(source(3), millis(16_000), 1);
    window.hit(source(4), millis(17_000), 1); // takes the place of 1
    assert_eq!((window.tracked(), window.evicted()), (3, 1));
    window.hit(source(5), millis(18_000), 1); // takes the place of 3, as quiet as 4 but for longer
    assert!(window.table.find(&Key::of(source(3))).is_none());
    assert!(window.table.find(&Key::of(source(4))).is_some());
    assert!(window.hit(source(2), millis(19_000), 1).is_some());
}

#[test]
fn a_million_sources_seen_once_stay_within_40_bytes_and_repeaters_within_64() {
    let mut window = Recent::new(11, Duration::from_secs(600), Check::Rcheck, 1_000_000);
    for number in 0..1_000_000 {
        window.hit(source(number), millis(0), 1);
    }
    assert_eq!((window.tracked(), window.evicted()), (1_000_000, 0));
    assert!(window.memory() <= 40_000_000, "{}", window.memory());
    for number in 0..200_000 {
        window.hit(source(number), millis(0), 20);
    }
    assert!(window.memory() <= 64_000_000, "{}", window.memory());
}

#[test]
fn any_number_of_sources_stays_within_the_capacity() {
    let mut window = Recent::new(5, Duration::from_secs(600), Check::Rcheck, 50_000);
    for number in 0..1_000_000 {
        window.hit(source(number), millis(i64::from(number) / 1000), 1);
    }
    assert_eq!((window.tracked(), window.evicted()), (50_000, 950_000));
    let mut huge = Recent::new(65_535, Duration::from_secs(600), Check::Rcheck, 1_000_000);
    for number in 0..2000 {
        huge.hit(source(number), millis(0), 1);
    }
    assert_eq!(huge.tracked(), MAX_STAMPS / 65_535);
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
            prop_assert_eq!(tested.hit(source(number), millis(now), repeat).is_some(), expected);
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
            let offence = tested.hit(source(1), millis(now), 1);
            sorted.insert(sorted.partition_point(|stamp| *stamp <= now), now);
            // The newest ones, where they are together and this hit is one of them.
            let newest = sorted.len().checked_sub(hitcount).map(|from| &sorted[from..]);
            let together = newest.filter(|hits| hits[0] <= now && hits[hitcount - 1] - hits[0] <= window * 1000);
            prop_assert_eq!(offence.map(|offence| offence.first), together.map(|hits| millis(hits[0])));
        }
    }

    #[test]
    fn within_a_sample_only_the_least_suspicious_source_is_ever_evicted(
        hits in prop::collection::vec((0_u32..40, 0_i64..3), 1..300),
    ) {
        let mut window = Recent::new(6, Duration::from_secs(20), Check::Rcheck, SAMPLE);
        let mut now = 0;
        for (number, step) in hits {
            now += step * 1000;
            let edge = { let tick = window.now(millis(now)).unwrap(); window.ticks.edge(tick) };
            let suspicion = |window: &mut Recent, number| {
                let slot = window.table.find(&Key::of(source(number)))?;
                let ring = *window.table.value_mut(slot);
                Some((window.stamps.count_since(ring, edge), window.stamps.newest(ring)))
            };
            let before: Vec<_> = (0..40).map(|number| suspicion(&mut window, number)).collect();
            window.hit(source(number), millis(now), 1);
            let gone = (0..40).filter(|other| *other != number && suspicion(&mut window, *other).is_none());
            for gone in gone.filter_map(|number| before[number as usize]) {
                prop_assert!(before.iter().flatten().all(|other| *other >= gone));
            }
            prop_assert!(window.tracked() <= SAMPLE);
        }
    }
}
