use std::collections::BTreeMap;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::ledger::history::Past;
use crate::ledger::lists::ListError;
use crate::ledger::{Change, Direction, Exchange, Extent, How, Ledger, List, Target};
use crate::policy::grant::Grant;

fn clear(prefix: &str) -> Change {
    Change::Clear { prefix: prefix.parse().unwrap(), scope: Scope::default() }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn a_prefix_is_free_when_its_last_owner_has_ended() {
    let mut ledger = Ledger::in_memory();
    assert_eq!(ledger.ban(ban("192.0.2.9/32", "sshd", 600)), [Change::Set(entry("192.0.2.9/32", 600))]);
    assert_eq!(ledger.ban(ban("192.0.2.9/32", "web", 300)), [], "a shorter one changes nothing in the kernel");
    assert_eq!(ledger.ban(ban("192.0.2.9/32", "mail", 900)), [Change::Set(entry("192.0.2.9/32", 900))]);
    assert_eq!(ledger.next_expiry(), Some(after(300)));
    let ended = |(bans, changes): (Vec<Ban>, Vec<Change>)| {
        (bans.into_iter().map(|ban| ban.jail.to_string()).collect::<Vec<_>>(), changes)
    };
    assert_eq!(ended(ledger.expire(after(299))), (vec![], vec![]));
    assert_eq!(ended(ledger.expire(after(600))), (vec!["web".to_owned(), "sshd".to_owned()], vec![]));
    assert_eq!(ended(ledger.expire(after(900))), (vec!["mail".to_owned()], vec![clear("192.0.2.9/32")]));
    assert_eq!(ledger.next_expiry(), None);
    assert_eq!(ledger.ban_count(), 0);
}

#[test]
fn a_ban_is_never_shortened_by_its_owner_and_keeps_its_beginning() {
    let mut ledger = Ledger::in_memory();
    ledger.ban(ban("192.0.2.9/32", "manual", 600));
    assert_eq!(ledger.ban(ban("192.0.2.9/32", "manual", 60)), []);
    assert_eq!(ledger.bans().next().unwrap().until, Until::At(after(600)));
    let later = Ban { since: after(10), until: Until::Forever, ..ban("192.0.2.9/32", "manual", 0) };
    ledger.ban(later);
    let standing = ledger.bans().next().unwrap();
    assert_eq!((standing.since, standing.until), (NOW, Until::Forever));
    assert_eq!(ledger.next_expiry(), None, "the old end is forgotten");
}

#[test]
fn host_bits_of_a_ban_are_cut_off() {
    let mut ledger = Ledger::in_memory();
    ledger.ban(ban("192.0.2.9/24", "manual", 60));
    assert_eq!(ledger.unban(&net("192.0.2.77/24"), NOW).1, [clear("192.0.2.0/24")]);
}

#[test]
fn scopes_of_one_prefix_are_entries_of_their_own() {
    let mut ledger = Ledger::in_memory();
    ledger.ban(ban("192.0.2.9/32", "sshd", 600));
    let narrow = Ban { scope: web(), ..ban("192.0.2.9/32", "web", 60) };
    let narrow_entry = Entry { scope: web(), ..entry("192.0.2.9/32", 60) };
    assert_eq!(ledger.ban(narrow), [Change::Set(narrow_entry)]);
    assert_eq!(ledger.entries(NOW).len(), 2);
    let (ended, changes) = ledger.unban(&net("192.0.2.9/32"), NOW);
    assert_eq!((ended.len(), changes.len()), (2, 2));
}

#[test]
fn unban_ends_exactly_that_prefix() {
    let mut ledger = Ledger::in_memory();
    for prefix in ["192.0.2.0/24", "192.0.2.9/32", "2001:db8::/64"] {
        ledger.ban(ban(prefix, "sshd", 600));
    }
    let within = Change::Set(entry("192.0.2.9/32", 600));
    assert_eq!(ledger.unban(&net("192.0.2.0/24"), NOW).1, [within, clear("192.0.2.0/24")]);
    assert_eq!(ledger.unban(&net("192.0.2.0/24"), NOW), (vec![], vec![]), "twice does nothing");
    assert_eq!(ledger.bans_covering("192.0.2.9".parse().unwrap()).len(), 1);
    assert_eq!(ledger.bans_covering("2001:db8::1".parse().unwrap()).len(), 1);
    assert_eq!(ledger.bans_within(net("192.0.0.0/16")).len(), 1);
}

#[test]
fn former_bans_are_counted_until_they_are_forgotten_and_forgeable_ones_never() {
    let mut ledger = Ledger::in_memory();
    ledger.forget_after(Duration::from_secs(1000));
    let prefix = net("192.0.2.9/32");
    ledger.ban(ban("192.0.2.9/32", "sshd", 60));
    assert_eq!(ledger.past(&prefix, NOW), Past::default(), "a standing ban is not a former one");
    ledger.expire(after(70));
    let forged = Ban { evidence: Evidence::Forgeable, ..ban("192.0.2.9/32", "ping", 80) };
    ledger.ban(forged);
    assert_eq!(ledger.standing().forgeable, 1);
    ledger.expire(after(80));
    assert_eq!(ledger.standing().forgeable, 0);
    assert_eq!(ledger.past(&prefix, after(1059)), Past { bans: 1, last_end: Some(after(60)) }, "its own end counts");
    assert_eq!(ledger.past(&prefix, after(1060)), Past::default());
    let shown: Vec<(String, How)> = ledger.ended().map(|one| (one.ban.jail.to_string(), one.how)).collect();
    assert_eq!(shown, [("ping".to_owned(), How::Expired), ("sshd".to_owned(), How::Expired)]);
}

#[test]
fn better_evidence_for_a_standing_ban_is_kept() {
    let mut ledger = Ledger::in_memory();
    ledger.ban(Ban { evidence: Evidence::Forgeable, ..ban("192.0.2.9/32", "net", 600) });
    ledger.ban(ban("192.0.2.9/32", "net", 60));
    assert_eq!(ledger.standing().forgeable, 0);
    assert_eq!(ledger.bans().next().unwrap().until, Until::At(after(600)));
}

fn grant(seconds: u64, comment: &str) -> Grant {
    Grant { since: NOW, until: Until::At(after(seconds)), by: Some(0), comment: comment.into() }
}

#[test]
fn a_grant_holds_until_it_ends() {
    let mut ledger = Ledger::in_memory();
    ledger.grant(net("192.0.2.9/32"), grant(60, ""));
    ledger.grant(net("2001:db8::/48"), Grant { until: Until::Forever, ..grant(0, "") });
    assert_eq!(ledger.grants().count(), 2);
    assert_eq!(ledger.next_expiry(), Some(after(60)));
    ledger.expire(after(60));
    assert_eq!(ledger.grants().map(|(prefix, _)| *prefix).collect::<Vec<_>>(), [net("2001:db8::/48")]);
    assert!(ledger.revoke(&net("2001:db8::/48")));
    assert!(!ledger.revoke(&net("2001:db8::/48")));
}

#[test]
fn a_grant_again_is_never_shorter_and_keeps_what_was_said_of_it() {
    let mut ledger = Ledger::in_memory();
    ledger.grant(net("192.0.2.9/32"), grant(90, "the office"));
    ledger.grant(net("192.0.2.9/32"), grant(60, ""));
    assert_eq!(ledger.grants().collect::<Vec<_>>(), [(&net("192.0.2.9/32"), &grant(90, "the office"))]);
    assert_eq!(ledger.next_expiry(), Some(after(90)));
}

#[test]
fn a_list_replaces_the_one_of_its_name_by_the_difference() {
    let mut ledger = Ledger::in_memory();
    let nets = |texts: &[&str]| texts.iter().map(|text| net(text)).collect::<Vec<_>>();
    let until = Until::At(after(600));
    let first = ledger.put_list("a", nets(&["192.0.2.2/32", "192.0.2.1/32", "192.0.2.1/32"]), NOW, until).unwrap();
    assert_eq!(first, [Change::Set(entry("192.0.2.1/32", 600)), Change::Set(entry("192.0.2.2/32", 600))]);
    let second = ledger.put_list("a", nets(&["192.0.2.2/32", "192.0.2.3/32"]), NOW, until).unwrap();
    assert_eq!(second, [Change::Set(entry("192.0.2.3/32", 600)), clear("192.0.2.1/32")], "what is new comes first");
    assert_eq!(ledger.put_list("a", nets(&["192.0.2.3/32", "192.0.2.2/32"]), NOW, until).unwrap(), [], "twice is once");
    ledger.ban(ban("192.0.2.2/32", "sshd", 60));
    assert_eq!(ledger.remove_list("a"), [Change::Set(entry("192.0.2.2/32", 60)), clear("192.0.2.3/32")]);
    assert_eq!(ledger.next_expiry(), Some(after(60)), "the end of the list is forgotten");
}

#[test]
fn what_changes_while_a_list_is_exchanged_is_in_the_steps_that_follow() {
    let mut ledger = Ledger::in_memory();
    let nets = |texts: &[&str]| texts.iter().map(|text| net(text)).collect::<Vec<_>>();
    let list = |texts: &[&str], seconds| List::new("a", nets(texts), NOW, Until::At(after(seconds)));
    ledger.put_list("a", nets(&["192.0.2.1/32", "192.0.2.2/32"]), NOW, Until::At(after(600))).unwrap();
    let late = Exchange::of(list(&["192.0.2.9/32"], 600), ledger.list("a").cloned(), false);
    let exchange =
        Exchange::of(list(&["192.0.2.2/32", "192.0.2.3/32", "192.0.2.4/32"], 600), ledger.list("a").cloned(), false);
    let touched = ledger.exchange(exchange).unwrap();
    assert_eq!(touched, nets(&["192.0.2.3/32", "192.0.2.4/32", "192.0.2.1/32"]));
    assert!(!ledger.fits(&late), "the list that it was to replace is gone");
    ledger.ban(ban("192.0.2.1/32", "sshd", 60));
    assert_eq!(ledger.ban(ban("192.0.2.3/32", "sshd", 600)), [], "the list has it for as long");
    ledger.unban(&net("192.0.2.4/32"), NOW);
    let set = |prefix, seconds| Change::Set(entry(prefix, seconds));
    let steps = [set("192.0.2.3/32", 600), clear("192.0.2.4/32"), set("192.0.2.1/32", 60)];
    assert_eq!(ledger.steps(&touched), steps);
}

#[test]
fn a_prefix_in_a_list_and_a_ban_is_free_when_both_have_ended() {
    let mut ledger = Ledger::in_memory();
    let prefix = "192.0.2.9/32";
    ledger.put_list("a", vec![net(prefix)], NOW, Until::At(after(60))).unwrap();
    assert_eq!(ledger.ban(ban(prefix, "sshd", 30)), [], "the list lasts longer");
    assert_eq!(ledger.expire(after(30)).1, []);
    assert_eq!(ledger.expire(after(60)).1, [clear(prefix)]);
    assert_eq!(ledger.lists().count(), 0);
}

#[test]
fn unban_takes_a_prefix_out_of_lists_too() {
    let mut ledger = Ledger::in_memory();
    ledger.put_list("a", vec![net("192.0.2.9/32"), net("192.0.2.10/32")], NOW, Until::Forever).unwrap();
    let (ended, changes) = ledger.unban(&net("192.0.2.9/32"), NOW);
    assert_eq!((&*ended[0].jail, changes), ("list:a", vec![clear("192.0.2.9/32")]));
    assert_eq!(ledger.listed_count(), 1);
}

#[test]
fn a_wide_ban_takes_the_place_of_those_within_it_without_a_gap_and_gives_it_back() {
    let mut ledger = Ledger::in_memory();
    ledger.ban(ban("192.0.2.1/32", "sshd", 300));
    ledger.ban(ban("192.0.2.2/32", "sshd", 900));
    ledger.ban(Ban { scope: web(), ..ban("192.0.2.3/32", "web", 300) });
    let wide = ban("192.0.2.0/24", "sshd", 600);
    let put = Change::Set(entry("192.0.2.0/24", 600));
    let gone = Change::Clear { prefix: net("192.0.2.3/32"), scope: web() };
    assert_eq!(ledger.ban(wide), [put, clear("192.0.2.1/32"), gone], "the longer one stays");
    assert_eq!(ledger.ban(ban("192.0.2.4/32", "sshd", 500)), [], "dropped already, for longer");
    assert_eq!(ledger.entries(NOW).len(), 2);
    let (ended, changes) = ledger.unban(&net("192.0.2.0/24"), after(100));
    let back = |prefix, seconds| Change::Set(entry(prefix, seconds));
    let web = Change::Set(Entry { scope: web(), ..entry("192.0.2.3/32", 300) });
    let last = clear("192.0.2.0/24");
    assert_eq!(ended.len(), 1);
    assert_eq!(changes, [back("192.0.2.1/32", 300), web, back("192.0.2.4/32", 500), last], "with their own ends");
}

#[test]
fn a_ban_of_some_ports_takes_the_place_of_its_like_only() {
    let mut ledger = Ledger::in_memory();
    ledger.ban(ban("192.0.2.1/32", "sshd", 300));
    ledger.ban(Ban { scope: web(), ..ban("192.0.2.1/32", "web", 300) });
    let put = Change::Set(Entry { scope: web(), ..entry("192.0.2.0/24", 600) });
    let gone = Change::Clear { prefix: net("192.0.2.1/32"), scope: web() };
    assert_eq!(ledger.ban(Ban { scope: web(), ..ban("192.0.2.0/24", "web", 600) }), [put, gone]);
}

#[test]
fn lists_are_bounded_in_number_and_name() {
    let mut ledger = Ledger::in_memory();
    assert_eq!(ledger.put_list("a\nb", vec![], NOW, Until::Forever), Err(ListError::BadName));
    for number in 0..crate::ledger::lists::MAX_LISTS {
        ledger.put_list(&number.to_string(), vec![], NOW, Until::Forever).unwrap();
    }
    assert_eq!(ledger.put_list("more", vec![], NOW, Until::Forever), Err(ListError::TooManyLists));
    assert_eq!(ledger.put_list("0", vec![], NOW, Until::Forever), Ok(vec![]));
}

/// One thing that can happen to a ledger.
#[derive(Clone, Debug)]
enum Step {
    Ban { prefix: u8, jail: u8, scope: u8, seconds: u64 },
    Unban(u8),
    PutList { name: u8, prefixes: Vec<u8>, seconds: u64 },
    RemoveList(u8),
    Expire(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..6, 0_u8..3, 0_u8..6, 0_u64..100)
            .prop_map(|(prefix, jail, scope, seconds)| Step::Ban { prefix, jail, scope, seconds }),
        2 => (0_u8..6).prop_map(Step::Unban),
        3 => (0_u8..2, proptest::collection::vec(0_u8..6, 0..5), 0_u64..100)
            .prop_map(|(name, prefixes, seconds)| Step::PutList { name, prefixes, seconds }),
        1 => (0_u8..2).prop_map(Step::RemoveList),
        3 => (1_u64..30).prop_map(Step::Expire),
    ]
}

/// A few prefixes that cover each other.
fn prefix_of(number: u8) -> IpNet {
    let texts = ["192.0.2.9/32", "192.0.2.0/24", "192.0.0.0/16", "2001:db8::/64", "2001:db8::/48", "198.51.100.1/32"];
    net(texts[usize::from(number)])
}

/// Some that cover others, and some that do not.
fn scope_of(number: u8) -> Scope {
    let both = |extent: &mut Extent| extent.direction = Some(Direction::Both);
    let rejects = |extent: &mut Extent| extent.target = Some(Target::Reject);
    match number {
        0 => Scope::default(),
        1 => web(),
        2 => Scope::default().with(both),
        3 => Scope::default().with(rejects),
        4 => Scope::default().with(both).with(rejects),
        _ => Scope::default().with(|extent| extent.direction = Some(Direction::In)),
    }
}

/// What happens from `now` on, and how late it is then.
fn apply(ledger: &mut Ledger, step: Step, now: u64) -> (Vec<Change>, u64) {
    let end = |seconds| Until::At(after(now + 1 + seconds));
    let changes = match step {
        Step::Ban { prefix, jail, scope, seconds } => {
            let scope = scope_of(scope);
            let jail = jail.to_string();
            ledger.ban(Ban { prefix: prefix_of(prefix), scope, until: end(seconds), ..ban("::/0", &jail, 0) })
        }
        Step::Unban(prefix) => ledger.unban(&prefix_of(prefix), after(now)).1,
        Step::PutList { name, prefixes, seconds } => {
            let prefixes = prefixes.into_iter().map(prefix_of).collect();
            ledger.put_list(&name.to_string(), prefixes, after(now), end(seconds)).unwrap()
        }
        Step::RemoveList(name) => ledger.remove_list(&name.to_string()),
        Step::Expire(seconds) => return (ledger.expire(after(now + seconds)).1, now + seconds),
    };
    (changes, now)
}

proptest! {
    #[test]
    fn who_follows_the_changes_holds_the_entries(steps in proptest::collection::vec(any_step(), 0..60)) {
        let mut ledger = Ledger::in_memory();
        let mut follower: BTreeMap<(IpNet, Scope), Until> = BTreeMap::new();
        let mut now = 0;
        for step in steps {
            let (changes, later) = apply(&mut ledger, step, now);
            now = later;
            for change in changes {
                match change {
                    Change::Set(Entry { prefix, scope, until }) => {
                        prop_assert_ne!(follower.insert((prefix, scope), until), Some(until), "a step in place");
                    }
                    Change::Clear { prefix, scope } => {
                        prop_assert!(follower.remove(&(prefix, scope)).is_some(), "nothing there to clear");
                    }
                }
            }
            let entries = ledger.entries(after(now));
            let held: BTreeMap<_, _> = entries.iter().map(|e| ((e.prefix, e.scope.clone()), e.until)).collect();
            prop_assert_eq!(held.len(), entries.len(), "one entry per prefix and scope");
            prop_assert_eq!(&held, &follower);
            let drops = |entry: &Entry, ban: &Ban| {
                entry.prefix.contains(&ban.prefix) && entry.scope.covers(&ban.scope) && entry.until >= ban.until
            };
            prop_assert!(ledger.bans().all(|ban| ban.until.is_over(after(now)) || entries.iter().any(|e| drops(e, &ban))));
            let standing = ledger.bans().count();
            prop_assert_eq!(ledger.ban_count(), standing);
        }
    }
}
