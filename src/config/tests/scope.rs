//! Keys that say which packets a ban concerns, and how it begins.

use super::*;

#[test]
fn a_jail_says_what_its_bans_concern_over_what_the_defaults_say() {
    let config = good(
        "[defaults]\ninterface = 'ppp*'\ntarget = 'PROHIBIT'\nlimit = { rate = '30/min' }\n\
         [jail.a]\nfilter = 'sshd'\ndirection = 'in'\nstage = ['limit', 'drop']\nlimit.burst = 3\nports = ['22/tcp']\n\
         [jail.b]\nfilter = 'sshd'\ninterface = 'br-lan'\ntarget = 'REJECT'\nstage = 'drop'\n",
    );
    let [a, b] = &config.jails[..] else { panic!("two jails") };
    assert_eq!(a.scope.to_string(), "22/tcp, on ppp+, incoming only, PROHIBIT");
    assert_eq!(a.stages.gentle().map(|limit| limit.to_string()).as_deref(), Some("30/minute (burst 3)"));
    assert_eq!(b.scope.to_string(), "on br-lan, REJECT");
    assert_eq!(b.stages.gentle(), None);
}

#[test]
fn interfaces_and_stages_without_meaning_are_refused() {
    let of = |key: &str| problems(&format!("[jail.a]\nfilter = 'sshd'\n{key}\n"));
    for (key, said) in [
        ("interface = 'eth0123456789abc'", "from 1 to 15 characters, this one has 16"),
        ("interface = 'eth0:1'", "name what stands before the ':' or '@'"),
        ("interface = '+'", "leave it out"),
        ("interface = 'eth0 -j ACCEPT'", "' ' does not belong"),
        ("direction = 'out'", "in"),
        ("target = 'TARPIT'", "PROHIBIT"),
        ("stage = ['limit']", "[\"limit\", \"drop\"]"),
        ("stage = ['drop', 'limit']", "a ban drops in the end"),
        ("stage = []", "a ban drops in the end"),
        ("limit = { rate = '5/s' }", "so nothing is limited"),
        ("stage = ['limit', 'drop']\nlimit = { rate = '5' }", "a slash and a unit"),
        ("stage = ['limit', 'drop']\nlimit = { burst = 0 }", "from 1 to 10000"),
        ("stage = ['limit', 'drop']\nlimit = { rate = '1/day', burst = 2 }", "more than a day"),
    ] {
        let shown = of(key);
        assert!(shown.contains(said) && shown.contains("b.toml:"), "{key}:\n{shown}");
    }
}
