//! Whether packets meet our rules under another port than they were sent to: behind a redirection, or on their way to
//! a container whose port is published. Rules then look at the port that connection tracking remembers, too.

use crate::ledger::Scope;

/// How many entries this network namespace tracks; the file is not there where none are.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// Whether anything is tracked here. Asking the kernel itself would load its connection tracking.
pub(super) fn tracks_anything() -> bool {
    std::fs::read_to_string(COUNT).is_ok_and(|count| count.trim() != "0")
}

/// What is known of it. Nothing is translated that is not tracked; and rules that ask for it would have a machine track
/// everything that did not before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Translation {
    /// Nothing has been tracked so far.
    #[default]
    Unseen,
    /// Our rules look at the port before it, too.
    Followed,
    /// They cannot.
    Impossible,
}

impl Translation {
    /// To be asked now and then: whether the rules of these scopes have to be made anew, because it was noticed just now.
    pub(super) fn begins<'s>(&mut self, mut scopes: impl Iterator<Item = &'s Scope>) -> bool {
        let begins = *self == Translation::Unseen && scopes.any(|scope| !scope.ports.is_empty()) && tracks_anything();
        if begins {
            *self = Translation::Followed;
        }
        begins
    }

    /// The kernel did not take the rules: whether they are worth another try without that look.
    pub(super) fn fall_back(&mut self) -> bool {
        let falls = *self == Translation::Followed;
        if falls {
            *self = Translation::Impossible;
        }
        falls
    }

    /// Nor without it: something else is wrong, and may pass.
    pub(super) fn resume(&mut self) {
        *self = Translation::Followed;
    }

    /// What that means, as a sentence.
    pub(super) fn shortage(self) -> Option<String> {
        (self == Translation::Impossible).then(|| {
            "this kernel cannot tell to which port a translated packet was sent (xt_conntrack, nft_ct), so bans of some \
             ports hold only for the port that packets have behind the translation; name that one in `ports`, too"
                .to_owned()
        })
    }
}
