//! A machine with podman.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::super::machine::Machine;
use crate::lab::{NATIVE_DIRECTORY, Plugins, line, require};

/// What the README says to write into podman's configuration.
pub(super) const NETWORK: &str = include_str!("network.toml");

/// What this test has to write there as well, on a machine without
/// CAP_SYS_RESOURCE and systemd.
const MACHINE_CONFIG: &str = include_str!("machine.toml");

/// Images are not pulled here.
const POLICY: &str = r#"{ "default": [ { "type": "reject" } ] }"#;

/// Where the machine has the root directory of its containers.
const ROOT: &str = "/opt/busybox";

const BUSYBOX: &str = "/bin/busybox";

/// Where weir is installed.
const WEIR: &str = "/opt/cni/bin";

/// A machine on which podman runs containers.
#[derive(Debug)]
pub(super) struct Node(Machine);

impl Deref for Node {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.0
    }
}

impl Node {
    /// Prepares podman. Plugins that weir lacks are the native ones anyway.
    pub(super) fn start(plugins: &Plugins) -> anyhow::Result<Self> {
        Machine::require(&[
            ("podman", "podman"),
            ("conmon", "conmon"),
            ("iptables", "iptables"),
            ("sleep", "coreutils"),
        ])?;
        Self::require_backend()?;
        let native = Plugins::native_directory()?;
        let native = native.to_str().context("a path in UTF-8")?;
        let network = NETWORK.replace(NATIVE_DIRECTORY, native);
        let network = match plugins {
            Plugins::Weir => network,
            Plugins::Native(_) => network.replace(&format!("{WEIR:?}, "), ""),
        };
        let machine = Machine::start("exec sleep infinity", |root| {
            fs::create_dir(root.join("etc/containers"))?;
            fs::write(root.join("etc/containers/containers.conf"), format!("{MACHINE_CONFIG}\n{network}"))?;
            fs::write(root.join("etc/containers/policy.json"), POLICY)?;
            for file in ["passwd", "group"] {
                fs::write(root.join("etc").join(file), "root:x:0:0:root:/root:/bin/sh\n")?;
            }
            furnish_containers(&root.join(ROOT.trim_start_matches('/')))
        })?;
        Ok(Self(machine))
    }

    /// Podman lost its CNI backend in version 5.
    fn require_backend() -> anyhow::Result<()> {
        let version = line("podman --version").succeed()?;
        let number = version.rsplit(' ').next().and_then(|version| version.split('.').next());
        let number: u32 = number.unwrap_or_default().parse().with_context(|| format!("read {version:?}"))?;
        require(number < 5, &format!("{} does not call CNI plugins", version.trim()))
    }

    /// Makes a container that does nothing, with options for its network.
    pub(super) fn create_container(&self, name: &str, options: &str) -> anyhow::Result<()> {
        let group = self.cgroup.path();
        let command =
            format!("podman create --name {name} --cap-add NET_RAW --cgroup-parent {group} {options}");
        self.run(&format!("{command} --rootfs {ROOT} {BUSYBOX} sleep 600")).map(drop)
    }

    /// Makes such a container and starts it.
    pub(super) fn run_container(&self, name: &str, options: &str) -> anyhow::Result<()> {
        self.create_container(name, options)?;
        self.start_container(name)
    }

    /// Starts a container.
    pub(super) fn start_container(&self, name: &str) -> anyhow::Result<()> {
        // It is about a thread of podman itself, which may have ended.
        self.run_again_after("failed to Statfs \"/proc/", &format!("podman start {name}"))
    }

    /// Kills a container.
    pub(super) fn stop_container(&self, name: &str) -> anyhow::Result<()> {
        // On a busy machine podman does not always wait long enough for the
        // end of what it has killed.
        self.run_again_after("did not die within timeout", &format!("podman stop --time 0 {name}"))
    }

    /// Runs a program, and once more if it fails for a reason of its own.
    fn run_again_after(&self, reason: &str, command: &str) -> anyhow::Result<()> {
        match self.run(command) {
            Err(error) if error.to_string().contains(reason) => self.run(command),
            done => done,
        }
        .map(drop)
    }

    /// Runs a line of busybox's shell in a container; it has to succeed.
    pub(super) fn exec(&self, name: &str, command: &str) -> anyhow::Result<String> {
        self.run_words(["podman", "exec", name, BUSYBOX, "sh", "-c", command])
    }

    /// Runs a program in a container's network namespace.
    pub(super) fn ask(&self, name: &str, command: &str) -> anyhow::Result<Value> {
        let path = self.inspect(name)?["NetworkSettings"]["SandboxKey"].clone();
        let path = path.as_str().context("the container has a network namespace")?;
        let text = self.run(&format!("nsenter --net={path} {command}"))?;
        serde_json::from_str(&text).with_context(|| format!("read the answer of {command}: {text:?}"))
    }

    /// What podman says of a container.
    pub(super) fn inspect(&self, name: &str) -> anyhow::Result<Value> {
        let text = self.run(&format!("podman inspect {name}"))?;
        let mut all: Vec<Value> = serde_json::from_str(&text).context("read what podman says")?;
        ensure!(all.len() == 1, "podman knows {} containers of the name {name}", all.len());
        Ok(all.remove(0))
    }

    /// Removes containers.
    pub(super) fn remove(&self, names: &str) -> anyhow::Result<()> {
        self.run(&format!("podman rm --force --time 0 {names}")).map(drop)
    }
}

/// Fills the root directory of containers.
fn furnish_containers(root: &Path) -> anyhow::Result<()> {
    for name in ["bin", "dev", "etc", "proc", "sys", "tmp", "www"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy(BUSYBOX, root.join(BUSYBOX.trim_start_matches('/')))?;
    Ok(fs::set_permissions(root, fs::Permissions::from_mode(0o755))?)
}
