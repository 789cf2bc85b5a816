//! The network namespaces of a trial: the node's, those of the containers and
//! that of a host outside.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, getegid, geteuid};

use super::uplink::Uplink;
use crate::firewall::Firewall;
use crate::netlink::{Budget, Netns, VethEnd};
use crate::netns::{NetnsFile, netfilter_socket};

/// How long a trial may take.
const TIME: Duration = Duration::from_secs(120);

/// A container, or a host.
pub(super) struct Container {
    pub(super) name: &'static str,
    /// The file that the namespace is mounted on.
    pub(super) path: PathBuf,
    pub(super) file: NetnsFile,
    pub(super) netns: Arc<Netns>,
}

/// The node: the namespace that this process is in.
pub(super) struct Node {
    pub(super) netns: Arc<Netns>,
    pub(super) containers: Vec<Container>,
    pub(super) outside: Container,
    /// How the node and the host outside are connected.
    pub(super) uplinks: [Uplink; 2],
}

impl Node {
    /// Moves this process into namespaces of its own, and makes the others.
    pub(super) fn enter(directory: &Path, containers: &[&'static str], uplinks: [Uplink; 2]) -> Result<Self> {
        leave_the_machine()?;
        let budget = Arc::new(Budget::until(Instant::now() + TIME));
        let netns = Netns::host(Arc::new(NetnsFile::current()?), Arc::clone(&budget))
            .context("open the node's namespace")?;
        let containers =
            containers.iter().map(|name| Container::new(directory, name, &budget)).collect::<Result<_>>()?;
        let outside = Container::new(directory, "outside", &budget)?;
        let node = Self { netns: Arc::new(netns), containers, outside, uplinks };
        node.connect_outside().context("connect the node with a host outside")?;
        Ok(node)
    }

    fn connect_outside(&self) -> Result<()> {
        let end = |name: &str, last| VethEnd { name: name.to_owned(), mac: [2, 0, 0, 0, 0, last], up: true };
        let outside = &self.outside.netns;
        let (near, far) = self.netns.create_veth(&end("uplink", 1), &end("eth0", 2), outside, 0, None)?;
        self.netns.set_up(self.netns.link_by_name("lo")?.index, true)?;
        for uplink in self.uplinks {
            if uplink.node.address.is_ipv6() {
                // There is nobody else who could have these addresses.
                for (netns, name) in [(&self.netns, "uplink"), (outside, "eth0")] {
                    let _ = netns.set_sysctl(false, &format!("conf/{name}/accept_dad"), "0");
                }
            }
            self.netns.add_address(near.index, uplink.node)?;
            outside.add_address(far.index, uplink.outside)?;
        }
        Ok(())
    }

    /// Every address of the node.
    pub(super) fn addresses(&self) -> Result<HashSet<IpAddr>> {
        let mut all = HashSet::new();
        for link in self.netns.links()? {
            all.extend(self.netns.addresses(link.index, None)?.iter().map(|address| address.prefix.address));
        }
        Ok(all)
    }

    /// The packet filter of the node.
    pub(super) fn firewall(&self) -> Result<Firewall> {
        Ok(Firewall::new(netfilter_socket().context("open an nf_tables socket")?, TIME)?)
    }

    /// The addresses that are masqueraded.
    pub(super) fn masqueraded(&self) -> Result<HashSet<IpAddr>> {
        Ok(self.firewall()?.masquerade_owners()?.into_iter().map(|(_, source, _)| source).collect())
    }
}

impl Container {
    fn new(directory: &Path, name: &'static str, budget: &Arc<Budget>) -> Result<Self> {
        let path = directory.join(name);
        let made = thread::scope(|scope| {
            let made = scope.spawn(|| make_namespace(&path)).join();
            made.unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
        });
        made.with_context(|| format!("make a network namespace at {}", path.display()))?;
        let netns = Netns::container(NetnsFile::open(&path)?, &NetnsFile::current()?, Arc::clone(budget))
            .with_context(|| format!("enter the network namespace {}", path.display()))?;
        let file = NetnsFile::open(&path)?;
        Ok(Self { name, path, file, netns: Arc::new(netns) })
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Else the file under it, and the trial's directory, would stay.
        if let Err(errno) = umount2(&self.path, MntFlags::MNT_DETACH) {
            eprintln!("weir: unmount {}: {}", self.path.display(), errno.desc());
        }
    }
}

/// Makes a namespace and mounts it on a file, as container runtimes do. The
/// calling thread is in it afterwards.
#[expect(clippy::disallowed_methods, reason = "the one place that makes namespaces")]
fn make_namespace(path: &Path) -> io::Result<()> {
    File::create_new(path)?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

/// Moves the process into network and mount namespaces of its own, and without
/// root into a user namespace in which it is root.
#[expect(clippy::disallowed_methods, reason = "the one place that makes namespaces")]
fn leave_the_machine() -> Result<()> {
    let own = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    let (user, group) = (geteuid(), getegid());
    if user == Uid::from_raw(0) && unshare(own).is_ok() {
        return be_private();
    }
    unshare(CloneFlags::CLONE_NEWUSER | own).map_err(|errno| {
        anyhow!(
            "make namespaces for the trial: {}; this machine allows that to root only: use sudo",
            errno.desc()
        )
    })?;
    let map = |file: &str, line: String| fs::write(file, line).with_context(|| format!("write {file}"));
    map("/proc/self/setgroups", "deny".to_owned())?;
    map("/proc/self/uid_map", format!("0 {user} 1"))?;
    map("/proc/self/gid_map", format!("0 {group} 1"))?;
    be_private()
}

/// Keeps what is mounted here from showing anywhere else.
fn be_private() -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("make the trial's mounts private")
}
