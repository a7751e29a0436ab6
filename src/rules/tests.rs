//! What a section comes to, without a kernel. The kernel's own opinion is in `tests/rules`.

use super::expect::Expectation;
use super::host::{Host, Opening, Policy};
use super::iptables::tables;
use super::model::{Family, Name, Rate, Unit};
use super::saved::{View, fresh, views, without_bans};
use super::{plan, simulate::Verdict};

#[track_caller]
fn verdict(host: &Host, sentence: &str) -> Verdict {
    sentence.parse::<Expectation>().unwrap().play(&plan(host)).verdict
}

fn open(service: &str, from: &[&str]) -> Opening {
    let peers = from.iter().map(|peer| peer.parse().unwrap()).collect();
    Opening { service: service.parse().unwrap(), peers, interface: None, verdict: Policy::Accept, recent: None }
}

#[test]
fn the_way_in_for_the_administrator_stands_before_all_that_drops_but_pings() {
    let plan = plan(&Host::default());
    let rules = &plan.chain(Name::Input).unwrap().rules;
    let first_drop = rules
        .iter()
        .position(|rule| matches!(rule.then, super::model::Action::Jump(end) if end != super::model::End::Ping));
    let ssh = rules.iter().position(|rule| rule.when.ports.admit(Some(22)) && !rule.when.ports.is_empty());
    assert!(ssh.unwrap() < first_drop.unwrap());
}

#[test]
fn an_address_of_this_machine_restricts_its_family_only() {
    let host =
        Host { addresses: vec!["192.0.2.1".parse().unwrap()], services: vec![open("http", &[])], ..Host::default() };
    assert_eq!(verdict(&host, "accept in tcp 80 to 192.0.2.1"), Verdict::Accept);
    assert_eq!(verdict(&host, "drop in tcp 80 to 192.0.2.2"), Verdict::Drop);
    assert_eq!(verdict(&host, "accept in tcp 80 to 2001:db8::5"), Verdict::Accept);
}

#[test]
fn who_asks_for_an_address_is_no_spoofed_source() {
    let host = Host { services: vec![open("dhcp", &[])], ..Host::default() };
    assert_eq!(verdict(&host, "accept in udp 67 from 0.0.0.0 sport 68"), Verdict::Accept);
    assert_eq!(verdict(&Host::default(), "drop in udp 67 from 0.0.0.0 sport 68"), Verdict::Drop);
    assert_eq!(verdict(&Host::default(), "accept in udp 68 from 192.0.2.1 sport 67"), Verdict::Accept);
}

#[test]
fn many_ports_take_several_rules() {
    let ssh = Host::default().ssh.unwrap();
    let ports = super::ports::Ports::of((0..40).map(|port| (port * 2 + 1000, port * 2 + 1000)).collect());
    let host = Host { ssh: Some(super::host::Ssh { ports, ..ssh }), ..Host::default() };
    let text = fresh(&tables(&plan(&host), Family::V4));
    assert_eq!(text.matches("--dports 1000,").count(), 1);
    assert_eq!(text.matches("-m multiport").count(), 3);
}

#[test]
fn a_rate_is_written_as_iptables_shows_it() {
    let shown = |count, unit| super::iptables::lowest(Rate { count, unit }).to_string();
    assert_eq!(shown(60, Unit::Minute), "1/second");
    assert_eq!(shown(90, Unit::Minute), "90/minute");
    assert_eq!(shown(48, Unit::Day), "2/hour");
}

#[test]
fn our_jump_stands_behind_those_of_others_and_before_what_decides() {
    let save = "*filter\n:INPUT ACCEPT [0:0]\n:BANWARD - [0:0]\n-A INPUT -j BANWARD\n-A INPUT -p tcp -j f2b-sshd\n\
                -A INPUT -p udp -j DROP\nCOMMIT\n";
    let wanted = tables(&plan(&Host::default()), Family::V4).remove("filter").unwrap();
    let script = views(save)["filter"].script("filter", &wanted).unwrap();
    assert!(script.contains("\n-I INPUT 3 -j BANWARD-HOST-IN\n"), "{script}");
    assert!(!script.contains("f2b") && !script.contains("-j BANWARD\n") && !script.contains("udp -j DROP"), "{script}");
}

#[test]
fn what_is_as_wanted_needs_no_script_and_nothing_wanted_takes_all_out() {
    let wanted = tables(&plan(&Host::default()), Family::V4).remove("filter").unwrap();
    let made = View::default().script("filter", &wanted).unwrap().replace("-I INPUT 1 ", "-A INPUT ");
    let view = &views(&made)["filter"];
    assert_eq!(view.script("filter", &wanted), None);
    let removal = view.script("filter", &super::iptables::Table::default()).unwrap();
    assert!(removal.contains("-D INPUT -j BANWARD-HOST-IN\n") && removal.contains("-X BANWARD-HOST-IN\n"), "{removal}");
    assert!(!removal.contains("-A "), "{removal}");
}

#[test]
fn saved_rules_name_no_set_of_the_bans() {
    let save = "*filter\n:BANWARD - [0:0]\n:BANWARD-OUT - [0:0]\n:BANWARD-HOST-IN - [0:0]\n-A INPUT -j BANWARD\n\
                -A INPUT -j BANWARD-HOST-IN\n-A OUTPUT -j BANWARD-OUT\n\
                [1:2] -A BANWARD -m set --match-set BANWARD-4-all src -j DROP\nCOMMIT\n";
    let kept = "*filter\n:BANWARD-HOST-IN - [0:0]\n-A INPUT -j BANWARD-HOST-IN\nCOMMIT\n";
    assert_eq!(without_bans(save, "BANWARD"), kept);
}
