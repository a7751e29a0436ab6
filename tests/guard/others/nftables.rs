//! The service of nftables, whose reload begins with `flush ruleset`: nothing of anybody is left, and ours is back.

use super::*;

fn a_reload_of_nftables_is_mended(backend: &str) {
    let lab = Lab::new();
    let _guard = with_ban(&lab, backend);
    let stream = Stream::new(&lab, &lab.attacker);
    for _ in 0..2 {
        // What `systemctl reload nftables` runs, up to the rules of the machine's owner.
        lab.server.sh("nft flush ruleset");
        let (packets, time) = stream.await_silence("nft flush ruleset");
        println!("{backend}, nft flush ruleset: {packets} packets passed within {time:?}");
        holds(&lab, "nft flush ruleset");
    }
}

#[test]
fn a_reload_of_nftables_is_mended_with_iptables() {
    a_reload_of_nftables_is_mended("iptables");
}

#[test]
fn a_reload_of_nftables_is_mended_with_nftables() {
    a_reload_of_nftables_is_mended("nftables");
}
