use std::time::Duration;

use super::*;

const LONG: Duration = Duration::from_secs(86_400);
const MINUTE: Duration = Duration::from_secs(60);
const NOW: Timestamp = Timestamp::from_secs(1_795_224_600);

fn spec() -> BanSpec {
    let length = |text: &str| text.parse().unwrap();
    let (max, forget) = (length("30d"), length("90d"));
    BanSpec { time: length("10m"), factor: 4, max, forget, decay: Length::Forever, jitter: 0, mercy: true }
}

const NOTHING: Standing = Standing { bans: 0, forgeable: 0, addresses: 0 };

/// One ban a minute and ten at a time from forgeable evidence; the breaker opens at 100 bans, 200 are the most.
fn bounds() -> Bounds {
    let limits = breaker::Limits { per_minute: 50, bans: 100, addresses: 1000, most: 200 };
    Bounds { budget: Budget::new(1, 10, LONG), breaker: Breaker::new(limits) }
}

fn case(spec: &BanSpec) -> Case<'_> {
    Case {
        prefix: "192.0.2.9/32".parse().unwrap(),
        evidence: Evidence::Proven,
        witness: None,
        login: None,
        limited: false,
        spec,
        past: Past::default(),
        standing: None,
        at: NOW,
        now: NOW,
        dice: 0,
    }
}

fn decided(case: &Case<'_>) -> Decision {
    decide(case, &Allowlist::default(), &mut bounds(), NOTHING)
}

fn ban(minutes: u32, count: u32) -> Decision {
    Decision::Ban { until: Until::At(NOW + minutes * MINUTE), count }
}

#[test]
fn the_first_offence_is_banned_for_the_first_length() {
    assert_eq!(decided(&case(&spec())), ban(10, 1));
}

#[test]
fn a_second_offence_after_the_first_ban_is_banned_for_longer() {
    let spec = spec();
    let past = Past { bans: 1, last_end: Some(NOW - MINUTE) };
    assert_eq!(decided(&Case { past, ..case(&spec) }), ban(40, 2));
}

#[test]
fn an_allowed_address_is_never_banned_whatever_else_is_true() {
    let spec = spec();
    let mut allowlist = Allowlist::default();
    allowlist.set_given(&["192.0.2.0/24".parse().unwrap()]);
    let standing = Some(Until::Forever);
    for evidence in [Evidence::Proven, Evidence::Forgeable] {
        let case = Case { evidence, standing, ..case(&spec) };
        let decision = decide(&case, &allowlist, &mut bounds(), Standing { bans: 500, ..NOTHING });
        let Decision::Ignore(Reason::Refused(refused @ Refused::Allowed(_))) = decision else { panic!("{decision:?}") };
        assert_eq!(refused.to_string(), "192.0.2.0/24 is allowed by [allow] networks");
    }
}

#[test]
fn a_protected_address_inside_the_banned_prefix_refuses_the_ban() {
    let spec = spec();
    let mut allowlist = Allowlist::default();
    allowlist.set_protected(&[("2001:db8::5/128".parse().unwrap(), protected::Protect::AdminSessions)]);
    let case = Case { prefix: "2001:db8::/64".parse().unwrap(), ..case(&spec) };
    let decision = decide(&case, &allowlist, &mut bounds(), NOTHING);
    assert!(matches!(decision, Decision::Ignore(Reason::Refused(Refused::Allowed(_)))), "{decision:?}");
}

#[test]
fn the_whole_internet_is_refused_by_whoever_asks() {
    for prefix in ["0.0.0.0/0", "::/0", "::ffff:0.0.0.0/96"] {
        let prefix = prefix.parse().unwrap();
        assert_eq!(guard(prefix, &Allowlist::default(), NOW), Err(Refused::TooWide(prefix)));
    }
    let refused = Refused::TooWide("0.0.0.0/0".parse().unwrap());
    assert_eq!(refused.to_string(), "0.0.0.0/0 is too much of the Internet; ban narrower prefixes");
    assert_eq!(guard("198.51.100.0/24".parse().unwrap(), &Allowlist::default(), NOW), Ok(()));
}

#[test]
fn an_offence_during_a_ban_changes_nothing() {
    let spec = spec();
    for until in [Until::At(NOW + MINUTE), Until::Forever] {
        let decision = decided(&Case { standing: Some(until), ..case(&spec) });
        assert_eq!(decision, Decision::Ignore(Reason::AlreadyBanned(until)));
    }
}

#[test]
fn an_offence_read_after_the_ban_it_fell_into_changes_nothing() {
    let spec = spec();
    let end = NOW - 5 * MINUTE;
    let past = Past { bans: 1, last_end: Some(end) };
    let late = Case { past, at: NOW - 6 * MINUTE, ..case(&spec) };
    assert_eq!(decided(&late), Decision::Ignore(Reason::AlreadyBanned(Until::At(end))));
    let standing = Case { standing: Some(Until::At(end)), past: Past::default(), ..late };
    assert_eq!(decided(&standing), Decision::Ignore(Reason::AlreadyBanned(Until::At(end))));
}

#[test]
fn a_ban_that_is_over_but_still_in_the_ledger_does_not_save_the_offender() {
    let spec = spec();
    let past = Past { bans: 1, last_end: None };
    assert_eq!(decided(&Case { standing: Some(Until::At(NOW)), past, ..case(&spec) }), ban(40, 2));
}

#[test]
fn a_ban_runs_from_the_offence_and_one_that_is_over_already_only_counts() {
    let spec = spec();
    let late = Case { at: NOW - 4 * MINUTE, ..case(&spec) };
    assert_eq!(decided(&late), ban(6, 1));
    let too_late = Case { at: NOW - 10 * MINUTE, ..case(&spec) };
    assert_eq!(decided(&too_late), Decision::Ignore(Reason::AlreadyOver { until: Until::At(NOW), count: 1 }));
}

#[test]
fn forgeable_evidence_never_escalates() {
    let spec = spec();
    let past = Past { bans: 5, last_end: Some(NOW - MINUTE) };
    assert_eq!(decided(&Case { past, evidence: Evidence::Forgeable, ..case(&spec) }), ban(10, 6));
}

#[test]
fn forgeable_evidence_has_a_budget_and_proven_evidence_has_none() {
    let spec = spec();
    let mut bounds = bounds();
    let mut decide = |evidence, forgeable| {
        let standing = Standing { forgeable, ..NOTHING };
        decide(&Case { evidence, ..case(&spec) }, &Allowlist::default(), &mut bounds, standing)
    };
    let over = |exceeded| Decision::Ignore(Reason::OverBudget(exceeded));
    assert_eq!(decide(Evidence::Forgeable, 10), over(Exceeded::AtATime(10)));
    assert_eq!(decide(Evidence::Forgeable, 9), ban(10, 1));
    assert_eq!(decide(Evidence::Forgeable, 9), over(Exceeded::PerMinute(1)));
    assert_eq!(decide(Evidence::Proven, 1000), ban(10, 1));
}

#[test]
fn what_is_not_banned_costs_nothing_of_the_budget() {
    let spec = spec();
    let mut bounds = bounds();
    let forgeable = Case { evidence: Evidence::Forgeable, ..case(&spec) };
    let ignored = [
        Case { standing: Some(Until::Forever), ..forgeable },
        Case { at: NOW - 20 * MINUTE, ..forgeable },
        Case { prefix: "0.0.0.0/0".parse().unwrap(), ..forgeable },
    ];
    for case in ignored {
        assert!(matches!(decide(&case, &Allowlist::default(), &mut bounds, NOTHING), Decision::Ignore(_)));
    }
    assert_eq!(decide(&forgeable, &Allowlist::default(), &mut bounds, NOTHING), ban(10, 1));
}

#[test]
fn every_reason_is_a_sentence() {
    let end = Until::At(NOW);
    for (reason, said) in [
        (Reason::AlreadyBanned(end), "it is already banned until 2026-11-21T01:30:00Z"),
        (Reason::AlreadyBanned(Until::Forever), "it is already banned for ever"),
        (Reason::OverBudget(Exceeded::PerMinute(30)), "forgeable evidence makes 30 bans a minute at most"),
        (Reason::OverBudget(Exceeded::AtATime(500)), "forgeable evidence has 500 bans at a time at most"),
        (Reason::Waiting(Overrun::PerMinute(9)), "its evidence can be forged, and there are more than 9 bans a minute"),
        (Reason::Full(9), "there are 9 bans, and no more at a time are allowed"),
        (
            Reason::AlreadyOver { until: end, count: 1 },
            "the log was read late, and the ban was over at 2026-11-21T01:30:00Z",
        ),
    ] {
        assert_eq!(reason.to_string(), said);
    }
}

#[test]
fn a_witness_makes_forgeable_evidence_as_good_as_proven() {
    let spec = spec();
    let past = Past { bans: 1, last_end: Some(NOW - MINUTE) };
    for witness in [Witness::Hit, Witness::Handshake] {
        let case = Case { evidence: Evidence::Forgeable, witness: Some(witness), past, ..case(&spec) };
        assert_eq!(decided(&case), ban(40, 2), "{witness:?}");
        let over_budget = Standing { forgeable: 10, ..NOTHING };
        assert_eq!(decide(&case, &Allowlist::default(), &mut bounds(), over_budget), ban(40, 2));
    }
}

#[test]
fn a_witness_against_an_address_with_good_log_ins_proves_nothing() {
    let spec = spec();
    let past = Past { bans: 1, last_end: Some(NOW - MINUTE) };
    let (witness, login) = (Some(Witness::Hit), Some(NOW));
    let case = Case { evidence: Evidence::Forgeable, witness, login, past, ..case(&spec) };
    assert_eq!(case.weight(), Evidence::Forgeable);
    assert!(matches!(decided(&case), Decision::Ban { until, .. } if until < Until::At(NOW + 10 * MINUTE)));
}

#[test]
fn an_address_with_good_log_ins_is_banned_shorter_and_never_longer_than_that() {
    let spec = spec();
    let past = Past { bans: 5, last_end: Some(NOW - MINUTE) };
    let decision = decided(&Case { login: Some(NOW), past, ..case(&spec) });
    assert_eq!(decision, Decision::Ban { until: Until::At(NOW + Duration::from_secs(150)), count: 6 });
}

#[test]
fn while_the_breaker_is_open_forgeable_evidence_waits_and_proven_goes_on_to_a_hard_bound() {
    let spec = spec();
    let mut bounds = bounds();
    let many = Standing { bans: 100, ..NOTHING };
    assert!(bounds.breaker.look(many, NOW).is_some());
    let mut decide = |evidence, standing| {
        let case = Case { evidence, ..case(&spec) };
        decide(&case, &Allowlist::default(), &mut bounds, standing)
    };
    let waiting = Decision::Ignore(Reason::Waiting(Overrun::Bans(100)));
    assert_eq!(decide(Evidence::Forgeable, many), waiting);
    assert_eq!(decide(Evidence::Proven, Standing { bans: 199, ..NOTHING }), ban(10, 1));
    assert_eq!(decide(Evidence::Proven, Standing { bans: 200, ..NOTHING }), Decision::Ignore(Reason::Full(200)));
    assert_eq!(bounds.breaker.waiting(), 1);
}

#[test]
fn equal_dice_make_equal_jitter() {
    let jittery = BanSpec { jitter: 20, ..spec() };
    let with = |dice| decided(&Case { dice, ..case(&jittery) });
    assert_eq!(with(1 << 63), with(1 << 63));
    assert!(matches!(with(1 << 63), Decision::Ban { until, .. } if until > Until::At(NOW + 10 * MINUTE)));
    assert_eq!(with(0), ban(10, 1));
}
