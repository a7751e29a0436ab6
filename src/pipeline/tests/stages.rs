//! A first ban that only limits, and what makes it drop.

use super::*;
use crate::ledger::Stage;

const GENTLE: &str = "[defaults]\nstage = ['limit', 'drop']\nlimit = { rate = '7/m', burst = 3 }";

/// Stage, number and minutes left of each ban.
fn stages(pipeline: &Pipeline, now: Timestamp) -> Vec<(Stage, u32, u64)> {
    let left = |ban: Ban| ban.until.remaining(now).map_or(u64::MAX, |left| left.as_secs() / 60);
    pipeline.ledger.bans().map(|ban| (ban.scope.stage(), ban.count, left(ban))).collect()
}

#[test]
fn the_first_offence_limits_and_a_whole_further_one_drops() {
    for (filter, needed) in [(SSH, 4), (PING, 5)] {
        let mut pipeline = pipeline(GENTLE);
        let outcome = hits(&mut pipeline, filter, "192.0.2.9", needed + 3, NOW);
        assert_eq!(kinds(&outcome), [Kind::Limited], "what is left of the hits is not enough");
        assert_eq!(stages(&pipeline, NOW), [(Stage::Limit, 1, 10)]);
        let scope = pipeline.ledger.bans().next().unwrap().scope.to_string();
        assert_eq!(scope, "limited to 7/minute (burst 3)");

        let later = NOW + 5 * MINUTE;
        let outcome = hits(&mut pipeline, filter, "192.0.2.9", needed, later);
        assert_eq!(kinds(&outcome), [Kind::Banned]);
        assert_eq!(stages(&pipeline, later), [(Stage::Drop, 1, 10)], "the same ban, one stage further");
        let changes: Vec<bool> = outcome.changes.iter().map(|change| matches!(change, Change::Set(_))).collect();
        assert_eq!(changes, [true, false], "it drops before it no longer limits");
        assert!(hits(&mut pipeline, filter, "192.0.2.9", needed, later).events.is_empty(), "it is banned already");
    }
}

#[test]
fn who_was_banned_before_is_dropped_at_once() {
    let mut pipeline = pipeline(GENTLE);
    hits(&mut pipeline, SSH, "192.0.2.9", 4, NOW);
    let later = NOW + 60 * MINUTE;
    pipeline.expire(later);
    hits(&mut pipeline, SSH, "192.0.2.9", 4, later);
    assert_eq!(stages(&pipeline, later), [(Stage::Drop, 2, 40)]);
}

#[test]
fn hits_that_limited_a_source_do_not_count_again_after_a_restart() {
    let mut pipeline = pipeline(GENTLE);
    hits(&mut pipeline, SSH, "192.0.2.9", 4, NOW);
    let again = vec![hit(SSH, "192.0.2.9", NOW); 4];
    pipeline.on_hits(0, &again, true, NOW + MINUTE);
    let later = NOW + 2 * MINUTE;
    hits(&mut pipeline, SSH, "192.0.2.9", 3, later);
    assert_eq!(stages(&pipeline, later), [(Stage::Limit, 1, 8)]);
    hits(&mut pipeline, SSH, "192.0.2.9", 1, later);
    assert_eq!(stages(&pipeline, later), [(Stage::Drop, 1, 10)]);
}

#[test]
fn what_a_person_bans_is_dropped_at_once() {
    let mut pipeline = pipeline(GENTLE);
    hits(&mut pipeline, SSH, "192.0.2.9", 4, NOW);
    pipeline.ban("192.0.2.7/32".parse().unwrap(), Length::Forever, "", NOW).unwrap();
    let stages: Vec<Stage> = stages(&pipeline, NOW).into_iter().map(|(stage, ..)| stage).collect();
    assert_eq!(stages, [Stage::Drop, Stage::Limit]);
}
