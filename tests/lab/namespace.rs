//! Namespaces, and work inside of them.

use std::fs::{self, File};
use std::path::Path;
use std::{panic, thread};

use anyhow::Context;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace, with a mount namespace if the lab has one. It lives as
/// long as this value, and as anything that was started in it.
#[derive(Debug)]
pub(crate) struct Namespace {
    net: File,
    mounts: Option<File>,
}

impl Namespace {
    /// Makes a network namespace.
    pub(crate) fn network() -> anyhow::Result<Self> {
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
            Ok(Self { net: File::open("/proc/thread-self/ns/net")?, mounts: None })
        })
    }

    /// Makes a network namespace and a mount namespace, whose mounts `prepare`
    /// arranges.
    pub(crate) fn with_mounts(prepare: impl FnOnce() -> anyhow::Result<()> + Send) -> anyhow::Result<Self> {
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
                .context("make a network and a mount namespace")?;
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                .context("make the mounts private")?;
            prepare()?;
            Ok(Self {
                net: File::open("/proc/thread-self/ns/net")?,
                mounts: Some(File::open("/proc/thread-self/ns/mnt")?),
            })
        })
    }

    /// Runs `work` in the namespace; what it starts lives there too.
    pub(crate) fn enter<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        on_a_thread(|| {
            if let Some(mounts) = &self.mounts {
                unshare(CloneFlags::CLONE_FS).context("leave the file system context of the process")?;
                setns(mounts, CloneFlags::CLONE_NEWNS).context("enter the mount namespace")?;
            }
            setns(&self.net, CloneFlags::CLONE_NEWNET).context("enter the network namespace")?;
            work()
        })
    }

    /// Makes the network namespace reachable at `path`, as runtimes do. Has to
    /// be called inside the mount namespace in which it is to be seen.
    pub(crate) fn bind(&self, path: &Path) -> anyhow::Result<()> {
        use std::os::fd::AsRawFd;
        fs::write(path, "").with_context(|| format!("create {}", path.display()))?;
        let source = format!("/proc/self/fd/{}", self.net.as_raw_fd());
        mount(Some(source.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("bind the namespace to {}", path.display()))
    }
}

/// Runs `work` on a thread that is thrown away, since it may change the
/// thread's namespaces.
fn on_a_thread<T: Send>(work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|cause| panic::resume_unwind(cause)))
}
