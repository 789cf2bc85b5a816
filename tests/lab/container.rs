//! A container: a network namespace that a runtime could have made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use nix::mount::umount;

use super::Namespace;

/// How the runtime names the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handle {
    /// A bind mount, as of containerd, CRI-O and podman.
    BindMount,
    /// `/proc/<pid>/ns/net`, as of `ctr`.
    Process,
}

/// A container.
#[derive(Debug)]
pub(crate) struct Container {
    /// `CNI_CONTAINERID`.
    pub(crate) id: String,
    /// Its namespace.
    pub(crate) namespace: Namespace,
    /// `CNI_NETNS`.
    pub(crate) path: PathBuf,
    process: Option<Child>,
}

impl Container {
    /// Makes a container beside the node.
    pub(crate) fn new(id: &str, handle: Handle, node: &Namespace, directory: &Path) -> anyhow::Result<Self> {
        let namespace = Namespace::network()?;
        let (path, process) = match handle {
            Handle::BindMount => {
                let path = directory.join(format!("cni-{id}"));
                node.enter(|| namespace.bind(&path))?;
                (path, None)
            }
            Handle::Process => {
                let process = namespace.enter(sleeper)?;
                (PathBuf::from(format!("/proc/{}/ns/net", process.id())), Some(process))
            }
        };
        Ok(Self { id: id.to_owned(), namespace, path, process })
    }

    /// Ends the container. Its path stays, and leads nowhere; its namespace is
    /// from now on an empty one that nobody uses.
    pub(super) fn end(&mut self, node: &Namespace) -> anyhow::Result<()> {
        self.namespace = Namespace::network()?;
        if self.process.is_none() {
            node.enter(|| {
                umount(&self.path).context("unmount the container's namespace")?;
                fs::remove_file(&self.path).context("remove the container's mount point")
            })?;
        }
        self.stop();
        Ok(())
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts a process that does nothing. It ends with the test process, whose
/// pipe it reads.
fn sleeper() -> anyhow::Result<Child> {
    Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("start a process to stand for a container")
}
