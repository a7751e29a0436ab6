//! Capabilities, given up for good: what is gone here no program that is started later gets back.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// No capability has a higher number than this, in any kernel that there is.
const LAST: u32 = 63;

/// To be done while the process may still change its bounding set, which is before it changes its user.
pub(crate) fn bound_to(kept: CapabilitySet) -> Result<(), Errno> {
    for capability in (0..=LAST).map(|number| CapabilitySet::from_bits_retain(1 << number)) {
        if kept.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Past the last one that this kernel knows; or who cannot do this has no such capability to lose.
            Err(Errno::INVAL | Errno::PERM) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Keeps these, as far as they are there, for this process and the programs that it starts; and nothing will give more.
pub(crate) fn keep(kept: CapabilitySet) -> Result<(), Errno> {
    // Kernels before 4.3 have no ambient set.
    let _no_such_set = clear_ambient_capability_set();
    let kept = kept & capabilities(None)?.permitted;
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: kept })?;
    for capability in kept.iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    set_no_new_privs(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_stays_so() {
        let thread = std::thread::spawn(|| {
            bound_to(CapabilitySet::NET_ADMIN).unwrap();
            keep(CapabilitySet::NET_ADMIN).unwrap();
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let more = CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN;
            let again = set_capabilities(
                None,
                CapabilitySets { effective: more, permitted: more, inheritable: CapabilitySet::empty() },
            );
            (status, again)
        });
        let (status, again) = thread.join().unwrap();
        for line in
            ["CapEff:\t0000000000001000", "CapBnd:\t0000000000001000", "CapPrm:\t0000000000001000", "NoNewPrivs:\t1"]
        {
            assert!(status.contains(line), "{line} in {status}");
        }
        assert_eq!(again, Err(Errno::PERM));
    }
}
