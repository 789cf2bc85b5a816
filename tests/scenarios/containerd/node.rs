//! A node that runs containerd, in namespaces of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;
use tempfile::TempDir;

use super::cgroup::Cgroup;
use super::cri::{Cri, PYTHON};
use crate::lab::{Namespace, is_installed, line, require};

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

/// Directories that are the node's own, and where they are in ours.
const OWN: [(&str, &str); 4] = [("/etc", "etc"), ("/opt", "opt"), ("/var/lib", "state"), ("/run", "run")];

/// How long a test may take, and a part of it.
const LIMIT: Duration = Duration::from_secs(240);
const PATIENCE: Duration = Duration::from_secs(60);

/// A running containerd with weir's plugins and no others. Fields are dropped
/// in their order: processes before all that they use.
#[derive(Debug)]
pub(super) struct Node {
    /// The runtime's interface.
    pub(super) cri: Cri,
    runtime: Runtime,
    /// Where containers belong.
    pub(super) cgroup: Cgroup,
    _namespace: Namespace,
    directory: TempDir,
}

impl Node {
    /// Starts containerd with a network.
    pub(super) fn start(conflist: &str) -> anyhow::Result<Self> {
        check_machine()?;
        let directory =
            tempfile::Builder::new().prefix("weir-cri-").tempdir().context("make the node's directory")?;
        let root = directory.path();
        furnish(root, conflist)?;
        let cgroup = Cgroup::new()?;
        let namespace = Namespace::with_mounts(|| mount_own(root))?;
        let runtime = Runtime::start(&namespace)?;
        let mut node = Self {
            cri: Cri::new(&root.join("run/containerd/containerd.sock"), LIMIT)?,
            runtime,
            cgroup,
            _namespace: namespace,
            directory,
        };
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
        line("ctr --namespace k8s.io --address")
            .arguments([self.path("run/containerd/containerd.sock")])
            .arguments(["image", "import", "--snapshotter", "native"])
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
            if let Some(status) = self.runtime.0.try_wait()? {
                bail!("containerd ended before {what}: {status}");
            }
            if Instant::now() > deadline {
                bail!("not so after {PATIENCE:?}: {what}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Runs a program where containerd runs; it has to succeed.
    pub(super) fn run(&self, command: &str) -> anyhow::Result<String> {
        self.run_words(command.split_whitespace())
    }

    /// The same, of words that may have spaces in them.
    pub(super) fn run_words<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> anyhow::Result<String> {
        line(&format!("nsenter --mount --net --pid --target {} --", self.runtime.0.id()))
            .arguments(words)
            .limit(PATIENCE)
            .succeed()
    }

    /// A path in the node's directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What CNI attachments have left behind, in words.
    pub(super) fn leftovers(&self) -> anyhow::Result<Vec<String>> {
        let mut left = Vec::new();
        let links = self.run("ip -brief link show")?;
        let is_shared =
            |text: &&str| ["lo", "cni0"].contains(&text.split_whitespace().next().unwrap_or_default());
        left.extend(links.lines().filter(|text| !is_shared(text)).map(|text| format!("a link: {text}")));
        let is_bookkeeping = |name: &str| name == "lock" || name.starts_with("last_reserved_ip.");
        for (what, directory) in [
            ("a namespace", "run/netns"),
            ("a result that libcni keeps", "state/cni/results"),
            ("a lease", "state/cni/networks/pods"),
            ("an entry of the journal", "state/weir/attachments"),
        ] {
            let names = names(&self.path(directory))?;
            left.extend(
                names.into_iter().filter(|name| !is_bookkeeping(name)).map(|name| format!("{what}: {name}")),
            );
        }
        // An element of a set or map is listed with its comment.
        let rules = self.run("nft list ruleset")?;
        left.extend(
            rules.lines().filter(|text| text.contains(":eth0:")).map(|text| format!("an element: {text}")),
        );
        left.sort();
        Ok(left)
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

fn check_machine() -> anyhow::Result<()> {
    // The first user namespace is the one that has all ids.
    let ids = fs::read_to_string("/proc/self/uid_map")?;
    require(ids.split_whitespace().eq(["0", "0", "4294967295"]), "containerd needs root")?;
    for (program, package) in [
        ("containerd", "containerd"),
        ("ctr", "containerd"),
        ("containerd-shim-runc-v2", "containerd"),
        ("runc", "runc"),
        ("busybox", "busybox-static"),
        ("ip", "iproute2"),
        ("nft", "nftables"),
        ("nsenter", "util-linux"),
    ] {
        require(is_installed(program), &format!("the program {program} is missing: install {package}"))?;
    }
    Cri::require()
}

/// Makes the directories of a node on which weir has just been installed.
fn furnish(root: &Path, conflist: &str) -> anyhow::Result<()> {
    for name in ["etc/cni/net.d", "etc/containerd", "opt", "state", "run"] {
        fs::create_dir_all(root.join(name))?;
    }
    line(env!("CARGO_BIN_EXE_weir"))
        .arguments(["install", "--bin-dir"])
        .arguments([root.join("opt/cni/bin")])
        .succeed()?;
    fs::write(root.join("etc/cni/net.d/10-weir.conflist"), conflist)?;
    fs::write(root.join("etc/containerd/config.toml"), format!("{CONFIG}{MACHINE_CONFIG}"))?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n")?;
    Ok(fs::write(root.join("etc/resolv.conf"), "")?)
}

/// Hides the machine's directories.
fn mount_own(root: &Path) -> anyhow::Result<()> {
    for (target, name) in OWN {
        mount(Some(&root.join(name)), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("mount the node's own {target}"))?;
    }
    line("ip link set lo up").succeed().map(drop)
}

fn names(directory: &Path) -> anyhow::Result<Vec<String>> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// The first process of a PID namespace, in which containerd runs. All
/// processes there, and all mounts, end with it.
#[derive(Debug)]
struct Runtime(Child);

impl Runtime {
    fn start(namespace: &Namespace) -> anyhow::Result<Self> {
        const SCRIPT: &str = "mount -t proc proc /proc && exec containerd >/run/containerd.log 2>&1";
        let limit = LIMIT.as_secs().to_string();
        namespace.enter(|| {
            // For the processes that this thread starts from now on.
            unshare(CloneFlags::CLONE_NEWPID).context("make a PID namespace")?;
            let program = line("unshare --mount timeout --kill-after 5").arguments([
                limit.as_str(),
                "sh",
                "-c",
                SCRIPT,
            ]);
            Ok(Self(program.start()?))
        })
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
