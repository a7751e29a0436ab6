//! What a person allows and takes back. The allowlist asks, the ledger keeps.

use ipnet::IpNet;

use super::{Outcome, Pipeline, Refusal, Shown};
use crate::policy::allowlist::{Allowed, Why};
use crate::policy::grant::Grant;
use crate::policy::prefix;
use crate::time::Timestamp;

impl Pipeline {
    /// Allows a prefix; what bans it, or a part of it, is lifted at once.
    pub(crate) fn grant(&mut self, prefix: IpNet, grant: &Grant, now: Timestamp) -> Result<Outcome, Refusal> {
        self.keep_grants(&[prefix], Some(grant), now)?;
        Ok(self.lift_around(&[prefix], now))
    }

    /// Keeps one grant for all of these prefixes, or none at all.
    pub(super) fn keep_grants(
        &mut self,
        prefixes: &[IpNet],
        grant: Option<&Grant>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let Some(grant) = grant else { return Ok(()) };
        if let Some(wide) = prefixes.iter().find(|prefix| prefix::is_too_wide(**prefix)) {
            return Err(format!("{wide} is too much of the Internet; to ban nobody, set daemon.mode = \"observe\""));
        }
        self.allowlist.grant(prefixes, grant.until, now).map_err(|why| why.to_string())?;
        for prefix in prefixes {
            self.ledger.grant(*prefix, grant.clone());
        }
        Ok(())
    }

    /// Takes a grant back: from now on the prefix is judged as any other.
    pub(crate) fn revoke(&mut self, prefix: IpNet, now: Timestamp) -> Result<(), Refusal> {
        if self.ledger.revoke(&prefix) {
            self.allowlist.revoke(prefix);
            return Ok(());
        }
        let shown = Shown(prefix);
        Err(match self.allowlist.refuses(prefix, now) {
            None => format!("{shown} is not allowed"),
            Some(Allowed { network, why: Why::Granted(_) }) => {
                format!("{shown} itself was not allowed by hand; {0} was, remove {0} instead", Shown(network))
            }
            Some(Allowed { network, .. }) if !network.contains(&prefix) => format!("{shown} is not allowed by hand"),
            Some(allowed @ Allowed { why: Why::Given, .. }) => format!("{allowed}; change the configuration"),
            Some(allowed) => format!("{allowed}; see allow.protect in the configuration"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::config::Config;
    use crate::filters::Filters;
    use crate::ledger::Ledger;
    use crate::pipeline::wiring::Wiring;
    use crate::policy::allowlist::Allowlist;
    use crate::policy::grant::MAX_GRANTS;
    use crate::sources::Place;
    use crate::time::{Length, Until};

    const NOW: Timestamp = Timestamp::from_secs(1_795_224_600);

    fn pipeline() -> Pipeline {
        let config = Config::built_in();
        let wiring = Wiring::new(&config, &Filters::default(), |_, _| Place::Stdin);
        Pipeline::new(&config, &wiring, Ledger::in_memory(), Allowlist::default())
    }

    fn grant() -> Grant {
        Grant { since: NOW, until: Until::Forever, by: Some(0), comment: "".into() }
    }

    #[test]
    fn an_unban_whose_grant_does_not_fit_is_refused_and_changes_nothing() {
        let mut pipeline = pipeline();
        let many: Vec<IpNet> = (0..u32::try_from(MAX_GRANTS).unwrap())
            .map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes()).into())
            .collect();
        pipeline.keep_grants(&many, Some(&grant()), NOW).unwrap();
        let banned: IpNet = "192.0.2.9/32".parse().unwrap();
        pipeline.ban(banned, Length::Forever, "", NOW).unwrap();
        let refused = pipeline.unban(&[banned], Some(&grant()), NOW).unwrap_err();
        assert!(refused.contains("65536 prefixes at most"), "{refused}");
        assert!(pipeline.grant(banned, &grant(), NOW).is_err());
        assert_eq!((pipeline.ledger.ban_count(), pipeline.ledger.grants().count()), (1, MAX_GRANTS));
        pipeline.revoke(many[7], NOW).unwrap();
        pipeline.unban(&[banned], Some(&grant()), NOW).unwrap();
        assert_eq!((pipeline.ledger.ban_count(), pipeline.ledger.grants().count()), (0, MAX_GRANTS));
    }

    #[test]
    fn a_grant_lifts_what_covers_it_and_what_lies_within_it() {
        let mut pipeline = pipeline();
        for banned in ["192.0.2.0/24", "192.0.2.9/32", "198.51.100.7/32", "203.0.113.4/32"] {
            pipeline.ban(banned.parse().unwrap(), Length::Forever, "", NOW).unwrap();
        }
        assert_eq!(pipeline.grant("192.0.2.200/32".parse().unwrap(), &grant(), NOW).unwrap().events.len(), 1);
        assert_eq!(pipeline.grant("198.51.100.0/24".parse().unwrap(), &grant(), NOW).unwrap().events.len(), 1);
        let left: Vec<String> = pipeline.ledger.bans().map(|ban| ban.prefix.to_string()).collect();
        assert_eq!(left, ["192.0.2.9/32", "203.0.113.4/32"]);
    }
}
