//! Private namespaces of the test process, so that no test can touch the
//! machine.

use std::fs;

use anyhow::Context;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// Moves the process into namespaces of its own. It must have one thread only.
///
/// Root gets a network and a mount namespace; everybody else, and a root that
/// lacks the capability, a user namespace as well, in which it is root.
pub(crate) fn enter() -> anyhow::Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    let private = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    if !(uid.is_root() && unshare(private).is_ok()) {
        unshare(private | CloneFlags::CLONE_NEWUSER).context(
            "make user, network and mount namespaces: run the tests as root, or allow unprivileged user namespaces",
        )?;
        fs::write("/proc/self/setgroups", "deny").context("write /proc/self/setgroups")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("write /proc/self/uid_map")?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("write /proc/self/gid_map")?;
    }
    mount_private()
}

/// Keeps mounts from spreading to other mount namespaces.
fn mount_private() -> anyhow::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("make the mounts private")
}
