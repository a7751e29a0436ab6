//! Who may ask the daemon, and who may change something: root all, others by their groups.

use std::sync::Arc;

use super::server::Peer;

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Read,
    Change,
}

/// Whether a user is in a group.
type IsMember = dyn Fn(u32, &str) -> bool + Send + Sync;

/// The groups; one without a name has no members.
#[derive(Clone)]
pub(crate) struct Roles {
    read: String,
    change: String,
    is_member: Arc<IsMember>,
}

impl Roles {
    pub(crate) fn of_groups(
        read: &str,
        change: &str,
        is_member: impl Fn(u32, &str) -> bool + Send + Sync + 'static,
    ) -> Roles {
        Roles { read: read.to_owned(), change: change.to_owned(), is_member: Arc::new(is_member) }
    }

    /// The role of a client, by the groups that it has now and not by those of its process. Somebody else may have to be
    /// asked for these, which nobody else waits for.
    pub(super) async fn of(self: Arc<Self>, peer: Peer) -> Option<Role> {
        let own = rustix::process::geteuid().as_raw();
        if peer.uid == 0 || self.names_nobody() {
            return self.by(peer.uid, own);
        }
        tokio::task::spawn_blocking(move || self.by(peer.uid, own)).await.ok().flatten()
    }

    fn names_nobody(&self) -> bool {
        self.read.is_empty() && self.change.is_empty()
    }

    fn by(&self, uid: u32, own: u32) -> Option<Role> {
        let belongs = |group: &str| !group.is_empty() && (self.is_member)(uid, group);
        if uid == 0 || uid == own || belongs(&self.change) {
            Some(Role::Change)
        } else {
            belongs(&self.read).then_some(Role::Read)
        }
    }

    /// Permissions of the socket. Who is in which group, the daemon looks up itself.
    pub(super) fn mode(&self) -> u32 {
        if self.names_nobody() { 0o600 } else { 0o666 }
    }

    pub(super) fn refusal(&self) -> String {
        let groups: Vec<&str> = [&*self.read, &*self.change].into_iter().filter(|group| !group.is_empty()).collect();
        match groups[..] {
            [] => "only root may talk to this daemon".to_owned(),
            _ => format!("only root and members of {} may talk to this daemon", groups.join(" and ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_may_do_all_and_others_what_their_groups_may() {
        let member = |uid: u32, group: &str| matches!((uid, group), (1000, "readers") | (1001, "changers"));
        let roles = Roles::of_groups("readers", "changers", member);
        let role = |uid| roles.by(uid, 990);
        assert_eq!((role(0), role(990), role(1001)), (Some(Role::Change), Some(Role::Change), Some(Role::Change)));
        assert_eq!((role(1000), role(1002)), (Some(Role::Read), None));
        let closed = Roles::of_groups("", "", |_, _| true);
        assert_eq!(closed.by(1000, 990), None, "no name is no group");
        assert_eq!((closed.mode(), roles.mode()), (0o600, 0o666));
    }
}
