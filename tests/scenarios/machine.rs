//! A machine for a container runtime: with processes, a network, mounts and
//! control groups of its own, on which weir has just been installed.

mod cgroup;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use crate::lab::{Namespace, is_installed, line, require};
use cgroup::Cgroup;

/// Directories that are the machine's own, and where they are in ours.
const OWN: [(&str, &str); 5] =
    [("/etc", "etc"), ("/opt", "opt"), ("/var/lib", "state"), ("/var/log", "log"), ("/run", "run")];

/// How long a test may take, and a part of it.
pub(super) const LIMIT: Duration = Duration::from_secs(240);
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A machine. Fields are dropped in their order: processes before all that
/// they use.
#[derive(Debug)]
pub(super) struct Machine {
    first: Process,
    /// Where containers belong.
    pub(super) cgroup: Cgroup,
    _namespace: Namespace,
    directory: TempDir,
}

impl Machine {
    /// Ends the test as not runnable where a program is missing, or the rights
    /// that runtimes need. Programs come with the packages that they are in.
    pub(super) fn require(programs: &[(&str, &str)]) -> anyhow::Result<()> {
        // The first user namespace is the one that has all ids.
        let ids = fs::read_to_string("/proc/self/uid_map")?;
        require(ids.split_whitespace().eq(["0", "0", "4294967295"]), "container runtimes need root")?;
        let common = [
            ("runc", "runc"),
            ("busybox", "busybox-static"),
            ("ip", "iproute2"),
            ("nft", "nftables"),
            ("nsenter", "util-linux"),
        ];
        for (program, package) in programs.iter().copied().chain(common) {
            let reason = format!("the program {program} is missing: install {package}");
            require(is_installed(program), &reason)?;
        }
        Ok(())
    }

    /// Starts a machine, whose first process is a shell with a script. Before
    /// that, `furnish` fills the directories of [`OWN`].
    pub(super) fn start(
        script: &str,
        furnish: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("weir-machine-")
            .tempdir()
            .context("make the machine's directory")?;
        let root = directory.path();
        for (_, name) in OWN {
            fs::create_dir(root.join(name))?;
        }
        fs::create_dir_all(root.join("etc/cni/net.d"))?;
        copy_alternatives(&root.join("etc/alternatives"))?;
        fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n")?;
        fs::write(root.join("etc/resolv.conf"), "")?;
        line(env!("CARGO_BIN_EXE_weir"))
            .arguments(["install", "--bin-dir"])
            .arguments([root.join("opt/cni/bin")])
            .succeed()?;
        furnish(root)?;
        let cgroup = Cgroup::new()?;
        let namespace = Namespace::with_mounts(|| mount_own(root))?;
        let first = Process::start(&namespace, script)?;
        Ok(Self { first, cgroup, _namespace: namespace, directory })
    }

    /// Runs a program on the machine; it has to succeed.
    pub(super) fn run(&self, command: &str) -> anyhow::Result<String> {
        self.run_words(command.split_whitespace())
    }

    /// The same, of words that may have spaces in them.
    pub(super) fn run_words<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> anyhow::Result<String> {
        line(&format!("nsenter --mount --net --pid --target {} --", self.first.0.id()))
            .arguments(words)
            .limit(PATIENCE)
            .succeed()
    }

    /// A path in the machine's directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// How the first process ended, if it has.
    pub(super) fn end(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.first.0.try_wait()?)
    }

    /// What CNI attachments have left behind, in words. The bridges are there
    /// for all of them.
    pub(super) fn leftovers(&self, bridges: &[&str]) -> anyhow::Result<Vec<String>> {
        let mut left = Vec::new();
        let links = self.run("ip -brief link show")?;
        let is_shared = |text: &&str| {
            let name = text.split_whitespace().next().unwrap_or_default();
            name == "lo" || bridges.contains(&name)
        };
        left.extend(links.lines().filter(|text| !is_shared(text)).map(|text| format!("a link: {text}")));
        let is_bookkeeping = |name: &str| name == "lock" || name.starts_with("last_reserved_ip.");
        let networks = self.path("state/cni/networks");
        let networks = names(&networks)?.into_iter().map(|name| ("a lease", networks.join(name)));
        let others = [
            ("a namespace", "run/netns"),
            ("a result that libcni keeps", "state/cni/results"),
            ("an entry of the journal", "state/weir/attachments"),
        ];
        let others = others.into_iter().map(|(what, directory)| (what, self.path(directory)));
        for (what, directory) in others.chain(networks) {
            let names = names(&directory)?;
            left.extend(
                names.into_iter().filter(|name| !is_bookkeeping(name)).map(|name| format!("{what}: {name}")),
            );
        }
        // An element of a set or map is listed with its comment.
        let rules = self.run("nft list ruleset")?;
        left.extend(
            rules.lines().filter(|text| text.contains(":eth")).map(|text| format!("an element: {text}")),
        );
        left.sort();
        Ok(left)
    }
}

/// Debian's programs are links to there, as iptables is.
fn copy_alternatives(target: &Path) -> anyhow::Result<()> {
    const ALTERNATIVES: &str = "/etc/alternatives";
    fs::create_dir(target)?;
    for name in names(Path::new(ALTERNATIVES))? {
        // There is a README beside them.
        if let Ok(program) = fs::read_link(Path::new(ALTERNATIVES).join(&name)) {
            symlink(program, target.join(&name))?;
        }
    }
    Ok(())
}

/// Whether the README shows lines that a test uses.
pub(super) fn readme_shows(all: &[&str]) -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    require(path.is_file(), "there is no README.md")?;
    let readme = fs::read_to_string(path)?;
    for lines in all {
        ensure!(readme.contains(lines.trim()), "the README does not show these lines:\n{lines}");
    }
    Ok(())
}

/// Hides the real machine's directories.
fn mount_own(root: &Path) -> anyhow::Result<()> {
    for (target, name) in OWN {
        mount(Some(&root.join(name)), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("mount the machine's own {target}"))?;
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

/// The first process of a PID namespace. All processes there, and all mounts,
/// end with it.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn start(namespace: &Namespace, script: &str) -> anyhow::Result<Self> {
        let script = format!("mount -t proc proc /proc && {script}");
        let limit = LIMIT.as_secs().to_string();
        namespace.enter(|| {
            // For the processes that this thread starts from now on.
            unshare(CloneFlags::CLONE_NEWPID).context("make a PID namespace")?;
            let program = line("unshare --mount timeout --kill-after 5").arguments([
                limit.as_str(),
                "sh",
                "-c",
                script.as_str(),
            ]);
            Ok(Self(program.start()?))
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
