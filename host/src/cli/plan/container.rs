//! A container that does not exist yet.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::thread;

use anyhow::{Result, anyhow};
use nix::sched::{CloneFlags, unshare};

/// An empty network namespace, as a runtime makes one for a container. Nobody
/// else sees it, and it ends with this value.
pub(super) struct FutureContainer {
    file: File,
}

impl FutureContainer {
    /// What reports call its namespace.
    pub(super) const NAME: &'static str = "(the container's network namespace)";

    /// Makes the namespace.
    pub(super) fn make() -> Result<Self> {
        let made = thread::scope(|scope| {
            let made = scope.spawn(make_namespace).join();
            made.unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
        });
        let file = made.map_err(|error| {
            anyhow!(
                "make a network namespace for the container: {error}; run the plan as root, which it also takes to look at the node's leases and its packet filter"
            )
        })?;
        Ok(Self { file })
    }

    /// A path that leads to the namespace, in this process only.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

#[expect(clippy::disallowed_methods, reason = "of a thread that ends at once")]
fn make_namespace() -> io::Result<File> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    File::open("/proc/thread-self/ns/net")
}
