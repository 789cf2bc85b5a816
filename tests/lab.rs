//! A lab: a node and its containers in namespaces of their own, with the
//! directories in which plugins keep state. Nothing outside is touched, and
//! everything ends with the lab.

mod call;
mod container;
mod digest;
pub(crate) mod guest;
pub(crate) mod isolation;
mod missing;
mod namespace;
mod plugins;
mod program;
mod signing;
mod snapshot;
mod traffic;
mod waiting;
mod world;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use tempfile::TempDir;

pub(crate) use call::{Call, CniError, Reply};
pub(crate) use container::{Container, Handle};
pub(crate) use digest::changes;
pub(crate) use missing::{Missing, require};
pub(crate) use namespace::Namespace;
pub(crate) use plugins::{NATIVE_DIRECTORY, Plugins, weir};
pub(crate) use program::{Output, is_installed, line};
pub(crate) use signing::SigningKey;
pub(crate) use snapshot::{Facts, Snapshot};
pub(crate) use traffic::{Exchange, Transport};
pub(crate) use world::{Family, World, reaches};

/// Where plugins expect their state.
const CNI_STATE: &str = "/var/lib/cni";

/// A node with its containers. Fields are dropped in their order: namespaces
/// before the directory in which they are mounted.
#[derive(Debug)]
pub(crate) struct Lab {
    /// The containers, in the order in which they were made.
    pub(crate) containers: Vec<Container>,
    /// What is beyond the node, if the test asked for it.
    pub(crate) world: Option<World>,
    /// The node.
    pub(crate) node: Namespace,
    /// Where the plugin binaries are.
    pub(crate) bin: PathBuf,
    directory: TempDir,
}

impl Lab {
    /// Has a plugin be executed by a shell, after `prefix`.
    pub(crate) fn prepend(&self, plugin: &str, prefix: &str) -> anyhow::Result<()> {
        let (link, behind) = (self.bin.join(plugin), self.path("behind"));
        fs::create_dir(&behind)?;
        symlink(self.bin.join("weir"), behind.join(plugin))?;
        let draft = self.path("draft");
        fs::write(&draft, format!("#!/bin/sh\n{prefix} {}\n", behind.join(plugin).display()))?;
        fs::remove_file(&link)?;
        // Copied by another process, so that no other thread has it open.
        line(&format!("install -m 0755 {} {}", draft.display(), link.display())).succeed().map(drop)
    }

    /// Makes a node that uses `plugins`.
    pub(crate) fn new(plugins: Plugins) -> anyhow::Result<Self> {
        require(is_installed("ip"), "the program ip is missing: install iproute2")?;
        let directory =
            tempfile::Builder::new().prefix("weir-lab-").tempdir().context("make the lab's directory")?;
        let root = directory.path();
        for name in ["cni", "weir", "netns"] {
            fs::create_dir(root.join(name))?;
        }
        let bin = plugins.install(root)?;
        let node = Namespace::with_mounts(|| mount_state(root))?;
        let lab = Self { containers: Vec::new(), world: None, node, bin, directory };
        lab.on_node("ip link set lo up")?;
        Ok(lab)
    }

    /// Makes a container. Every second one is named by its process.
    pub(crate) fn add_container(&mut self) -> anyhow::Result<&Container> {
        let number = self.containers.len() + 1;
        let handle = if number.is_multiple_of(2) { Handle::Process } else { Handle::BindMount };
        self.add_container_as(&format!("c{number}"), handle)
    }

    /// Makes a container with an id of its own.
    pub(crate) fn add_container_as(&mut self, id: &str, handle: Handle) -> anyhow::Result<&Container> {
        let container = Container::new(id, handle, &self.node, &self.path("netns"))?;
        self.containers.push(container);
        self.containers.last().context("there is a container")
    }

    /// Ends a container: its namespace is gone, and so is all that was in it.
    pub(crate) fn end_container(&mut self, number: usize) -> anyhow::Result<()> {
        let container =
            self.containers.get_mut(number).with_context(|| format!("there is no container {number}"))?;
        container.end(&self.node)
    }

    /// Connects the node to a network beyond it.
    pub(crate) fn add_world(&mut self) -> anyhow::Result<&World> {
        let world = World::beyond(&self.node)?;
        Ok(self.world.insert(world))
    }

    /// A path in the lab's directory. `cni` is `/var/lib/cni` on the node,
    /// `weir` weir's own state.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A call without anything about a container.
    pub(crate) fn call(&self, plugin: &str, command: &str) -> Call {
        self.call_binary(self.bin.join(plugin), command)
    }

    /// The same, of any binary.
    pub(crate) fn call_binary(&self, binary: PathBuf, command: &str) -> Call {
        Call::new(binary, command, &self.bin)
            .variable("WEIR_STATE_DIR", self.path("weir"))
            .variable("WEIR_POLICY_DIR", self.path("policy"))
            .variable("WEIR_AUDIT_FILE", self.path("audit.jsonl"))
            // Some native plugins make temporary files.
            .variable("TMPDIR", self.path(""))
    }

    /// A call about an interface of a container.
    pub(crate) fn call_for(&self, plugin: &str, command: &str, container: &Container, ifname: &str) -> Call {
        self.call(plugin, command)
            .variable("CNI_CONTAINERID", &container.id)
            .variable("CNI_NETNS", &container.path)
            .variable("CNI_IFNAME", ifname)
    }

    /// Makes a call on the node.
    pub(crate) fn run(&self, call: &Call) -> anyhow::Result<Reply> {
        let output = self.node.enter(|| call.program().run())?;
        Reply::read(&output)
    }

    /// Runs a program on the node; it has to succeed.
    pub(crate) fn on_node(&self, command: &str) -> anyhow::Result<String> {
        self.node.enter(|| line(command).succeed())
    }

    /// Runs a program in a container's network; it has to succeed.
    pub(crate) fn in_container(&self, number: usize, command: &str) -> anyhow::Result<String> {
        let container =
            self.containers.get(number).with_context(|| format!("there is no container {number}"))?;
        container.namespace.enter(|| line(command).succeed())
    }

    /// Puts a native plugin beside weir's, if weir does not serve the type.
    pub(crate) fn lend_native(&self, plugin: &str) -> anyhow::Result<()> {
        let place = self.bin.join(plugin);
        if place.exists() {
            return Ok(());
        }
        let native = Plugins::native_directory()?.join(plugin);
        require(native.is_file(), &format!("there is no native plugin {plugin}"))?;
        symlink(native, &place).with_context(|| format!("link {}", place.display()))
    }

    /// The directory of a network's leases.
    pub(crate) fn leases(&self, network: &str) -> PathBuf {
        self.path("cni").join("networks").join(network)
    }
}

/// Puts the lab's own state where plugins expect that of the node, and makes
/// everything else read-only: a plugin that is led astray changes nothing.
fn mount_state(root: &Path) -> anyhow::Result<()> {
    let bind = |from: &Path, to: &Path| {
        mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("mount {} on {}", from.display(), to.display()))
    };
    let state = Path::new(CNI_STATE);
    if !state.is_dir() {
        // It cannot be made without touching the machine: hide its parent.
        let parent = Path::new("/var/lib");
        let hides_lab = [root, plugins::weir()].into_iter().any(|path| path.starts_with(parent));
        ensure!(
            !hides_lab,
            "create {CNI_STATE}, or run the tests from a directory outside of {}",
            parent.display()
        );
        mount(None::<&str>, parent, Some("tmpfs"), MsFlags::empty(), None::<&str>)
            .context("mount a tmpfs")?;
        fs::create_dir(state)?;
    }
    bind(&root.join("cni"), state)?;
    bind(root, root)?;
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_RELATIME;
    match mount(None::<&str>, "/", None::<&str>, read_only, None::<&str>) {
        // In a user namespace, mount flags of the machine may be locked; there
        // its files belong to somebody else anyway.
        Ok(()) | Err(Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno).context("make the file system read-only"),
    }
}
