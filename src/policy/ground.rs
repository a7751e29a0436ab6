//! What made a ban differ from the plain one, kept as data and said in the ban's reason.

use std::fmt;

use ipnet::IpNet;

use crate::policy::widen::Wide;

/// What shows that an address is really where it says, and no friend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Witness {
    /// A hit whose evidence is proven, within the hour before.
    Hit,
    /// The kernel has an established connection from there.
    Handshake,
}

/// Why a ban is not the plain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ground {
    /// Forgeable evidence, as good as proven.
    Corroborated(Witness),
    /// Fewer hits than usual, because something in this prefix is banned.
    Neighbours(IpNet),
    /// Enough of its inhabitants have offended.
    Widened(Wide),
    /// Somebody logged in from there.
    Mercy,
}

/// For a list of such in the reason of a ban, behind `5 hits in 42s; `.
impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ground::Corroborated(Witness::Hit) => f.write_str("confirmed by a hit that cannot be forged"),
            Ground::Corroborated(Witness::Handshake) => f.write_str("confirmed by a connection of the same address"),
            Ground::Neighbours(prefix) => write!(f, "fewer than usual, as others in {prefix} are banned"),
            Ground::Widened(wide) => wide.fmt(f),
            Ground::Mercy => f.write_str("with mercy, as people log in from there too"),
        }
    }
}
