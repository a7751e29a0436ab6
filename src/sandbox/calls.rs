//! System calls that a process of ours never makes and that an attacker in it would like to: they fail as if they were
//! not permitted. What is left is much; systemd's filter in the unit is the narrower one, and this one holds without it.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

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
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mknodat,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
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
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
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

/// Flags of clone(2) that make a namespace: in one of users anybody may do what root may.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

impl Calls {
    /// From here on, in this thread and all that it starts; the error is for people.
    pub(crate) fn enforce(self) -> Result<(), String> {
        let failed = |why: seccompiler::Error| format!("system calls are not filtered (seccomp): {why}");
        let start = if self == Calls::NoPrograms { START } else { &[] };
        let mut denied: Rules = NEVER.iter().chain(start).map(|call| (*call, Vec::new())).collect();
        denied.insert(libc::SYS_clone, namespaces().map_err(|why| failed(why.into()))?);
        // Its flags lie in memory, where no filter can look. Where it is missing, libc takes clone in its place.
        let missing = Rules::from([(libc::SYS_clone3, Vec::new())]);
        apply(denied, libc::EPERM).and_then(|()| apply(missing, libc::ENOSYS)).map_err(failed)
    }
}

type Rules = BTreeMap<libc::c_long, Vec<SeccompRule>>;

/// One for each of the flags: any of them is enough.
fn namespaces() -> Result<Vec<SeccompRule>, BackendError> {
    let has = |flag: &libc::c_int| {
        let flag = u64::from(flag.cast_unsigned());
        SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag)?])
    };
    NAMESPACES.iter().map(has).collect()
}

/// These calls fail with this error.
fn apply(rules: Rules, error: libc::c_int) -> Result<(), seccompiler::Error> {
    let failing = SeccompAction::Errno(error.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, failing, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)
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

    /// The error of a system call, which a program makes that has no other way than that: 0 where it succeeds.
    fn error_of(call: libc::c_long, first: libc::c_int) -> i32 {
        // A child that comes about ends as well.
        let script = format!("syscall({call}, {first}, 0, 0, 0, 0) < 0 ? exit($!) : exit(0)");
        let status = Command::new("/usr/bin/perl").args(["-e", &script]).status().unwrap();
        status.code().unwrap()
    }

    #[test]
    fn nobody_makes_a_namespace_in_which_they_are_root() {
        let errors = std::thread::spawn(|| {
            let plain = libc::SIGCHLD;
            let ours = || {
                [plain, plain | libc::CLONE_NEWUSER, plain | libc::CLONE_NEWNS]
                    .map(|flags| error_of(libc::SYS_clone, flags))
            };
            let before = ours();
            Calls::Programs.enforce().unwrap();
            // Threads and programs still come about, without clone3.
            let thread = std::thread::spawn(|| 7).join().unwrap();
            (before, ours(), error_of(libc::SYS_unshare, libc::CLONE_NEWUSER), error_of(libc::SYS_clone3, 0), thread)
        });
        let (before, after, unshared, cloned, thread) = errors.join().unwrap();
        assert_eq!(before, [0; 3], "as root it works without the filter");
        assert_eq!((after, unshared), ([0, libc::EPERM, libc::EPERM], libc::EPERM));
        assert_eq!((cloned, thread), (libc::ENOSYS, 7));
    }
}
