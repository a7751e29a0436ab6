//! Whether anybody changed rules, for the backends of iptables: `nf_tables` numbers each change of the whole rule set.
//! iptables-legacy has no such thing, and its rules must be read each time.

use super::netlink::Socket;
use super::{FirewallError, nft};

#[derive(Debug)]
pub(super) struct Generations {
    /// `None` with iptables-legacy.
    socket: Option<Socket>,
    /// The generation at which everything was last known to be in place.
    intact: Option<u32>,
}

impl Generations {
    /// `native`: whether the rules are those of `nf_tables`.
    pub(super) fn open(native: bool) -> Result<Generations, FirewallError> {
        let socket = native.then(|| Socket::open().map_err(FirewallError::of("a netlink socket"))).transpose()?;
        Ok(Generations { socket, intact: None })
    }

    pub(super) fn read(&mut self) -> Result<Option<u32>, FirewallError> {
        self.socket.as_mut().map(nft::generation).transpose()
    }

    /// Whether nobody changed anything up to this generation since everything was in place.
    pub(super) fn is_intact(&self, read: Option<u32>) -> bool {
        read.is_some() && read == self.intact
    }

    /// Everything was in place at this generation.
    pub(super) fn set_intact(&mut self, read: Option<u32>) {
        self.intact = read;
    }
}
