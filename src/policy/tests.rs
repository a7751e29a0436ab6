use std::time::Duration;

use super::*;

const LONG: Duration = Duration::from_secs(86_400);
const MINUTE: Duration = Duration::from_secs(60);
const NOW: Timestamp = Timestamp::from_secs(1_795_224_600);

fn spec() -> BanSpec {
    let length = |text: &str| text.parse().unwrap();
    BanSpec { time: length("10m"), factor: 4, max: length("30d"), forget: length("90d") }
}

fn case(spec: &BanSpec) -> Case<'_> {
    Case {
        prefix: "192.0.2.9/32".parse().unwrap(),
        evidence: Evidence::Proven,
        spec,
        past: Past::default(),
        standing: None,
        at: NOW,
        now: NOW,
    }
}

fn decided(case: &Case<'_>) -> Decision {
    decide(case, &Allowlist::default(), &mut Budget::new(1, 10, LONG), 0)
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
        let decision = decide(&case, &allowlist, &mut Budget::new(0, 0, LONG), 5);
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
    let decision = decide(&case, &allowlist, &mut Budget::new(1, 10, LONG), 0);
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
    let mut budget = Budget::new(1, 10, LONG);
    let mut decide =
        |evidence, standing| decide(&Case { evidence, ..case(&spec) }, &Allowlist::default(), &mut budget, standing);
    let over = |exceeded| Decision::Ignore(Reason::OverBudget(exceeded));
    assert_eq!(decide(Evidence::Forgeable, 10), over(Exceeded::AtATime(10)));
    assert_eq!(decide(Evidence::Forgeable, 9), ban(10, 1));
    assert_eq!(decide(Evidence::Forgeable, 9), over(Exceeded::PerMinute(1)));
    assert_eq!(decide(Evidence::Proven, 1000), ban(10, 1));
}

#[test]
fn what_is_not_banned_costs_nothing_of_the_budget() {
    let spec = spec();
    let mut budget = Budget::new(1, 10, LONG);
    let forgeable = Case { evidence: Evidence::Forgeable, ..case(&spec) };
    let ignored = [
        Case { standing: Some(Until::Forever), ..forgeable },
        Case { at: NOW - 20 * MINUTE, ..forgeable },
        Case { prefix: "0.0.0.0/0".parse().unwrap(), ..forgeable },
    ];
    for case in ignored {
        assert!(matches!(decide(&case, &Allowlist::default(), &mut budget, 0), Decision::Ignore(_)));
    }
    assert_eq!(decide(&forgeable, &Allowlist::default(), &mut budget, 0), ban(10, 1));
}

#[test]
fn every_reason_is_a_sentence() {
    let end = Until::At(NOW);
    for (reason, said) in [
        (Reason::AlreadyBanned(end), "it is already banned until 2026-11-21T01:30:00Z"),
        (Reason::AlreadyBanned(Until::Forever), "it is already banned for ever"),
        (Reason::OverBudget(Exceeded::PerMinute(30)), "forgeable evidence makes 30 bans a minute at most"),
        (Reason::OverBudget(Exceeded::AtATime(500)), "forgeable evidence has 500 bans at a time at most"),
        (
            Reason::AlreadyOver { until: end, count: 1 },
            "the log was read late, and the ban was over at 2026-11-21T01:30:00Z",
        ),
    ] {
        assert_eq!(reason.to_string(), said);
    }
}
