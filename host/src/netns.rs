//! Network namespaces: finding out what a path is, and opening what is needed
//! inside. This module alone changes the namespace of a thread, and brings it
//! back or ends it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{FsType, fstatfs};
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};

/// `NSFS_MAGIC` of `linux/magic.h`.
const NSFS: FsType = FsType(0x6e73_6673);

nix::ioctl_none!(
    /// Tells the kind of a namespace, as the flag of clone(2); ioctl_ns(2).
    ns_get_nstype,
    0xb7,
    0x3
);

nix::ioctl_none_bad!(
    /// Opens the network namespace of a socket.
    socket_namespace,
    nix::libc::SIOCGSKNS
);

/// An open network namespace.
#[derive(Debug)]
pub(crate) struct NetnsFile {
    file: OwnedFd,
    /// The socket that told which one it is, until somebody has use for it.
    route: Mutex<Option<Socket>>,
}

/// Why a path is no usable network namespace.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetnsError {
    /// Nothing is there.
    #[error("network namespace {path}: it does not exist")]
    Absent { path: String },
    /// Something is there, but no network namespace.
    #[error("network namespace {path}: {reason}")]
    Unusable { path: String, reason: String },
}

impl NetnsFile {
    /// Opens the namespace at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, NetnsError> {
        let name = path.display().to_string();
        // O_NONBLOCK: a fifo put there by mistake must not hang the call.
        let file = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty())
            .map_err(|errno| match errno {
                nix::Error::ENOENT | nix::Error::ENOTDIR => NetnsError::Absent { path: name.clone() },
                errno => NetnsError::Unusable { path: name.clone(), reason: errno.desc().to_owned() },
            })?;
        let unusable = |reason: &str| NetnsError::Unusable { path: name.clone(), reason: reason.to_owned() };
        match fstatfs(&file) {
            Ok(status) if status.filesystem_type() == NSFS => {}
            Ok(_) => return Err(unusable("it is a file, not a namespace")),
            Err(errno) => return Err(unusable(errno.desc())),
        }
        // SAFETY: the request takes no argument and changes nothing.
        let kind = unsafe { ns_get_nstype(file.as_raw_fd()) };
        if kind == Ok(CloneFlags::CLONE_NEWNET.bits()) {
            Ok(Self { file, route: Mutex::new(None) })
        } else {
            Err(unusable("it is a namespace of another kind"))
        }
    }

    /// The namespace of the calling thread.
    pub(crate) fn current() -> Result<Self, NetnsError> {
        // The kernel first has to make the entries of this thread in /proc,
        // which takes longer than to make a socket.
        match Self::of_new_socket() {
            Ok(netns) => Ok(netns),
            // Old kernels do not know how, and it takes the right to change
            // the network.
            Err(_) => Self::open(Path::new("/proc/thread-self/ns/net")),
        }
    }

    fn of_new_socket() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        // SAFETY: the request takes no argument and returns a new descriptor,
        // which nobody else owns.
        let file = unsafe { OwnedFd::from_raw_fd(socket_namespace(socket.as_raw_fd())?) };
        Ok(Self { file, route: Mutex::new(Some(socket)) })
    }

    /// Whether both are the same namespace.
    pub(crate) fn is(&self, other: &Self) -> io::Result<bool> {
        let (mine, theirs) = (fstat(&self.file)?, fstat(&other.file)?);
        Ok((mine.st_dev, mine.st_ino) == (theirs.st_dev, theirs.st_ino))
    }

    /// The number of the namespace. Numbers are used again, so that it tells
    /// namespaces at the same path apart, and not more.
    pub(crate) fn inode(&self) -> Option<u64> {
        fstat(&self.file).ok().map(|status| status.st_ino)
    }

    /// The descriptor, for link requests that place a link in the namespace.
    pub(crate) fn raw_fd(&self) -> i32 {
        self.file.as_raw_fd()
    }

    /// Opens what operations on the namespace need: sockets and sysctl
    /// directories stay in the namespace in which they were opened. The calling
    /// thread is in it.
    pub(crate) fn own_doors(&self) -> io::Result<Doors> {
        let route = self.route.lock().unwrap_or_else(PoisonError::into_inner).take();
        Doors::open(route)
    }

    /// The same for a thread that is in `own`.
    ///
    /// It goes there and comes back, which costs less than a thread that is
    /// thrown away.
    pub(crate) fn doors(&self, own: &Self) -> io::Result<Doors> {
        enter(self)?;
        let doors = Doors::open(None);
        if let Err(error) = enter(own) {
            // Whatever came next would be done to the wrong namespace.
            eprintln!("weir: come back from the container's network namespace: {error}");
            std::process::abort();
        }
        doors
    }

    /// Runs `work` inside the namespace, on a thread that is thrown away.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            thread::Builder::new()
                .spawn_scoped(scope, || enter(self).map(|()| work()))?
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that changes a thread's namespace")]
fn enter(netns: &NetnsFile) -> io::Result<()> {
    setns(netns.file.as_fd(), CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
}

/// Ways into a namespace that work from any thread.
pub(crate) struct Doors {
    /// A routing netlink socket.
    pub(crate) route: Socket,
    /// Where IPv4's settings of links are, `all` and `default` among them.
    ///
    /// It is opened inside the namespace: `/proc/sys/net` shows whoever looks
    /// his own. Asked for `conf` from outside, the kernel does not recognize
    /// the entry that it keeps of it, adds another one each time, and passes
    /// all of them the next time (`proc_sys_compare` in
    /// fs/proc/proc_sysctl.c), those of other namespaces included.
    pub(crate) ipv4: OwnedFd,
    /// IPv6's; none on a kernel without it.
    pub(crate) ipv6: Option<OwnedFd>,
}

impl Doors {
    /// Opens the doors of the calling thread's namespace; `route` is a socket
    /// of it that is there already.
    fn open(route: Option<Socket>) -> io::Result<Self> {
        let settings =
            |path| open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
        Ok(Self {
            route: route.map_or_else(|| Socket::new(NETLINK_ROUTE), Ok)?,
            ipv4: settings("/proc/sys/net/ipv4/conf")?,
            ipv6: match settings("/proc/sys/net/ipv6/conf") {
                Err(Errno::ENOENT) => None,
                opened => Some(opened?),
            },
        })
    }
}

/// Opens an nf_tables socket in the calling thread's namespace.
pub(crate) fn netfilter_socket() -> io::Result<Socket> {
    Socket::new(NETLINK_NETFILTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_no_namespace() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = NetnsFile::open(file.path()).unwrap_err();
        assert!(matches!(error, NetnsError::Unusable { .. }), "{error}");
    }

    #[test]
    fn another_kind_of_namespace_is_no_network() {
        let error = NetnsFile::open(Path::new("/proc/self/ns/uts")).unwrap_err();
        assert!(error.to_string().contains("another kind"), "{error}");
    }

    #[test]
    fn nothing_is_absent() {
        assert!(matches!(NetnsFile::open(Path::new("/nonexistent/x")), Err(NetnsError::Absent { .. })));
    }

    #[test]
    fn the_current_namespace_is_itself() {
        let by_path = NetnsFile::open(Path::new("/proc/thread-self/ns/net")).unwrap();
        assert!(NetnsFile::current().unwrap().is(&by_path).unwrap());
        // Tests may not have the right.
        if let Ok(by_socket) = NetnsFile::of_new_socket() {
            assert!(by_socket.is(&by_path).unwrap());
        }
    }
}
