//! The system calls of the process (seccomp(2)).
//!
//! What a call has no use for and an intruder has is refused as if the process
//! lacked the permission. A list of what is allowed would be shorter to reason
//! about, but has to know every call of every version of the C library, in a
//! program that must not fail while a container waits.

use nix::libc::*;

use super::program::{Program, Verdict};

/// The newest system call that was looked at (Linux 6.10). Newer ones do not
/// exist for the process, with which every caller can cope.
const NEWEST: i64 = SYS_mseal;

/// Each gap between them costs time when the filter is installed, so that
/// calls which do nothing without a capability that the process gave up are
/// named only where they lie beside others, or open much if they go wrong.
const REFUSED: &[i64] = &[
    // Other programs and processes.
    SYS_execve,
    SYS_execveat,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_pidfd_getfd,
    SYS_kcmp,
    // Namespaces and mounts.
    SYS_unshare,
    SYS_setns,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_open_tree,
    SYS_move_mount,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_name_to_handle_at,
    SYS_open_by_handle_at,
    SYS_quotactl,
    SYS_quotactl_fd,
    SYS_fanotify_init,
    SYS_fanotify_mark,
    // The machine.
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_settimeofday,
    SYS_clock_adjtime,
    SYS_vhangup,
    SYS_nfsservctl,
    // Parts of the kernel that are attacked again and again.
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
];

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[
    SYS_kexec_file_load,
    SYS_fork,
    SYS_vfork,
    SYS_modify_ldt,
    SYS__sysctl,
    SYS_iopl,
    SYS_ioperm,
    // Long gone calls about modules, which make one interval of many.
    174,
    177,
    178,
];

#[cfg(target_arch = "aarch64")]
const REFUSED_HERE: &[i64] = &[
    // kexec_file_load, which libc does not name for musl.
    294,
];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;

#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Special treatment: threads are started, processes are not; sockets are
/// those of netlink.
const SPECIAL: &[(i64, Verdict)] = &[
    (SYS_clone, Verdict::AllowedWithFlag { flag: CLONE_THREAD as u32 }),
    // Its flags cannot be looked at. The C library falls back to clone.
    (SYS_clone3, Verdict::Missing),
    (SYS_socket, Verdict::AllowedWithValue { value: AF_NETLINK as u32 }),
];

/// The filter, made at build time: see [`Program`].
static PROGRAM: Program = Program::new(ARCHITECTURE, NEWEST, &[REFUSED, REFUSED_HERE], SPECIAL);

/// Refuses system calls from now on.
pub(super) fn restrict() -> Result<(), String> {
    seccompiler::apply_filter(PROGRAM.instructions()).map_err(|error| error.to_string())
}
