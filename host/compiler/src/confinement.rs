//! Giving up rights before anything of a third party is read: what a component
//! can make of a fault in the compiler is what this process can do.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

/// Memory, in bytes.
const MEMORY: u64 = 2 << 30;

/// Time of the processor, in seconds.
const TIME: u64 = 120;

/// What it may write, in bytes.
const OUTPUT: u64 = 1 << 30;

/// The user that owns nothing.
const NOBODY: u32 = 65534;

/// Gives up all that compiling does not need.
pub(crate) fn enter() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY)?;
    setrlimit(Resource::RLIMIT_CPU, TIME, TIME)?;
    setrlimit(Resource::RLIMIT_FSIZE, OUTPUT, OUTPUT)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // The three that are open; no file can be opened from now on.
    setrlimit(Resource::RLIMIT_NOFILE, 3, 3)?;
    prctl::set_no_new_privs()?;
    if geteuid().is_root() {
        // In a user namespace there may be nobody else to become; root is
        // nobody outside of it, too.
        let _ = setgroups(&[]);
        let (group, user) = (Gid::from_raw(NOBODY), Uid::from_raw(NOBODY));
        if setresgid(group, group, group).is_ok() {
            let _ = setresuid(user, user, user);
        }
    }
    // Nobody waits for it once weir is gone. Becoming somebody else would
    // undo this.
    prctl::set_pdeathsig(Signal::SIGKILL)
}
