//! A container: a network namespace that a runtime could have made.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;

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
                let process = namespace.enter(|| sleeper())?;
                (PathBuf::from(format!("/proc/{}/ns/net", process.id())), Some(process))
            }
        };
        Ok(Self { id: id.to_owned(), namespace, path, process })
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
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
