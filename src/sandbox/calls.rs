//! System calls that a process of ours never makes and that an attacker in it would like to: they fail as if they were
//! not permitted. What is left is much; systemd's filter in the unit is the narrower one, and this one holds without it.

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// What a process may do besides reading and writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// It starts no program.
    NoPrograms,
    /// It starts programs, those that the fence lets it.
    Programs,
}

/// Whose memory, which kernel, which mounts, who one is: nothing that reads logs or fills sets has to do with these.
const NEVER: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_capset,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mknodat,
    libc::SYS_mount,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_settimeofday,
    libc::SYS_setuid,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

const START: &[libc::c_long] = &[libc::SYS_execve, libc::SYS_execveat];

impl Calls {
    /// From here on, in this thread and all that it starts; the error is for people.
    pub(crate) fn enforce(self) -> Result<(), String> {
        let failed = |why: &dyn std::fmt::Display| format!("system calls are not filtered (seccomp): {why}");
        let start = if self == Calls::NoPrograms { START } else { &[] };
        let rules = NEVER.iter().chain(start).map(|call| (*call, Vec::new())).collect();
        let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let machine = std::env::consts::ARCH.try_into().map_err(|why| failed(&why))?;
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, machine).map_err(|why| failed(&why))?;
        let program: BpfProgram = filter.try_into().map_err(|why| failed(&why))?;
        seccompiler::apply_filter(&program).map_err(|why| failed(&why))
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_without_programs_starts_none_and_neither_changes_its_groups() {
        let thread = std::thread::spawn(|| {
            Calls::Programs.enforce().unwrap();
            assert!(Command::new("/bin/true").status().unwrap().success());
            Calls::NoPrograms.enforce().unwrap();
            let started = Command::new("/bin/true").status().map_err(|why| why.kind());
            (started, rustix::thread::set_thread_groups(&[]))
        });
        let (started, grouped) = thread.join().unwrap();
        assert_eq!(started.unwrap_err(), ErrorKind::PermissionDenied);
        assert_eq!(grouped, Err(rustix::io::Errno::PERM));
    }
}
