//! A machine on which containerd runs.

use std::ops::Deref;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::bail;
use serde_json::json;

use super::super::machine::{LIMIT, Machine, PATIENCE};
use super::cri::{Cri, PYTHON};
use crate::lab::{line, require};

/// The image of pods and of containers.
pub(super) const IMAGE: &str = "weir.test/busybox:1";

/// The network that the README shows.
pub(super) const CONFLIST: &str = include_str!("10-weir.conflist");

/// What the README says to write into containerd's configuration.
pub(super) const CONFIG: &str = include_str!("config.toml");

/// What this test has to write there as well.
const MACHINE_CONFIG: &str = include_str!("machine.toml");

const IMAGE_MAKER: &str = include_str!("image.py");

const BUSYBOX: &str = "/bin/busybox";

/// Where another containerd than the installed one is.
fn directory() -> Option<String> {
    env::var("CONTAINERD_REFERENCE").ok()
}

/// The command line client that belongs to it.
pub(super) fn ctr() -> String {
    directory().map_or_else(|| "ctr".to_owned(), |directory| format!("{directory}/ctr"))
}

/// Ends the test as not runnable if there is no containerd to be called.
fn require_containerd() -> anyhow::Result<()> {
    let own = ["containerd", "ctr", "containerd-shim-runc-v2"].map(|name| (name, "containerd"));
    Machine::require(if directory().is_none() { &own } else { &[] })?;
    Cri::require()
}

/// The same if it speaks no CNI 1.1.0.
pub(super) fn require_recent() -> anyhow::Result<()> {
    require_containerd()?;
    let program = directory().map_or_else(|| "containerd".to_owned(), |found| format!("{found}/containerd"));
    let version = line(&program).arguments(["--version"]).succeed()?;
    let is_old = version.split(' ').any(|word| word.trim_start_matches('v').starts_with("1."));
    require(!is_old, &format!("containerd speaks CNI 1.1.0 since 2.0, and this is {}", version.trim()))
}

/// A running containerd with weir's plugins and no others.
#[derive(Debug)]
pub(super) struct Node {
    /// The runtime's interface.
    pub(super) cri: Cri,
    machine: Machine,
}

impl Deref for Node {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl Node {
    /// Starts containerd with a network.
    pub(super) fn start(conflist: &str) -> anyhow::Result<Self> {
        require_containerd()?;
        // The shim is looked for in PATH.
        let path = directory().map(|directory| format!("PATH={directory}:$PATH && ")).unwrap_or_default();
        let script = format!("{path}exec containerd >/run/containerd.log 2>&1");
        let machine = Machine::start(&script, |root| {
            fs::create_dir(root.join("etc/containerd"))?;
            fs::write(root.join("etc/cni/net.d/10-weir.conflist"), conflist)?;
            Ok(fs::write(root.join("etc/containerd/config.toml"), format!("{CONFIG}{MACHINE_CONFIG}"))?)
        })?;
        let cri = Cri::new(&machine.path("run/containerd/containerd.sock"), LIMIT)?;
        let mut node = Self { cri, machine };
        if let Err(error) = node.get_ready() {
            bail!("{error:#}{}", node.log());
        }
        Ok(node)
    }

    /// Waits for containerd and gives it the image.
    fn get_ready(&mut self) -> anyhow::Result<()> {
        self.wait_for("containerd and its network are ready", |node| {
            let status = node.cri.try_call("Status", json!({}))?.unwrap_or_default();
            let conditions = status.pointer("/status/0/conditions").and_then(|list| list.as_array());
            Ok(conditions.is_some_and(|list| list.iter().all(|condition| condition["status"] == 1)))
        })?;
        let image = self.path("image.tar");
        line(PYTHON).arguments(["-c", IMAGE_MAKER, IMAGE, BUSYBOX]).arguments([&image]).succeed()?;
        let ctr = line(&ctr());
        // Since 2.0, containerd would do it itself, for other snapshotters.
        let help = ctr.clone().arguments(["image", "import", "--help"]).succeed()?;
        let itself = help.contains("--local").then_some("--local");
        ctr.arguments(["--namespace", "k8s.io", "--address"])
            .arguments([self.path("run/containerd/containerd.sock")])
            .arguments(["image", "import", "--snapshotter", "native"])
            .arguments(itself)
            .arguments([&image])
            .succeed()?;
        self.wait_for("containerd knows the image", |node| {
            let status = node.cri.call("ImageStatus", json!({ "image": { "image": IMAGE } }))?;
            Ok(status.get("image").is_some())
        })
    }

    /// Waits until something is so.
    pub(super) fn wait_for(
        &mut self,
        what: &str,
        mut is_so: impl FnMut(&mut Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self)? {
            if let Some(status) = self.machine.end()? {
                bail!("containerd ended before {what}: {status}");
            }
            if Instant::now() > deadline {
                bail!("not so after {PATIENCE:?}: {what}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What pods have left behind, in words.
    pub(super) fn leftovers(&self) -> anyhow::Result<Vec<String>> {
        self.machine.leftovers(&["cni0"])
    }

    /// The end of containerd's log.
    pub(super) fn log(&self) -> String {
        let log = fs::read_to_string(self.path("run/containerd.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|text| !text.contains("loading plugin")).collect();
        let tail = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
        let tail: Vec<String> = tail.iter().map(|text| text.chars().take(600).collect()).collect();
        format!("\n\ncontainerd's log:\n{}\n", tail.join("\n"))
    }
}
