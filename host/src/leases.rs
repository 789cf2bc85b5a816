//! Address leases of a network, in the format of the reference `host-local`
//! plugin and under its lock, so that both may serve one network in turns.
//!
//! `<data dir>/<network>/` holds one file per leased address; its name is the
//! address, its content the container id and the interface. The file is the
//! lease: everything else, the index included, can be deleted at any time.
//!
//! No operation reads all leases. Which addresses an owner holds is answered
//! by an [`index`] beside the pool, and a free address is found by probing.

mod directory;
mod index;
mod pool;
mod range;
mod record;
mod slot;

#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use pool::Pool;
pub(crate) use range::AddressRange;

/// The attachment to which an address is leased.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    /// `CNI_CONTAINERID`.
    pub(crate) container_id: String,
    /// `CNI_IFNAME`.
    pub(crate) ifname: String,
}

/// Where the leases of a network are.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    /// `dataDir` of the configuration, `/var/lib/cni/networks` by default.
    pub(crate) data_dir: PathBuf,
    /// The network's name, a single path component.
    pub(crate) network: String,
    /// The directory of the indexes of all pools.
    pub(crate) index_dir: PathBuf,
    /// Whether no link may be on the way: others than the operator may have
    /// put one there since it was looked at.
    pub(crate) is_real: bool,
}

impl Location {
    /// The directory of the network's leases.
    fn directory(&self) -> PathBuf {
        self.data_dir.join(&self.network)
    }
}

/// Why a lease operation was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    /// Another process holds the lock for longer than we may wait.
    #[error(
        "lock {}: another process held it for more than {} ms; try again, and if it stays so, look for the \
         process that hangs in /proc/locks",
        path.display(),
        waited.as_millis()
    )]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// The address belongs to someone else.
    #[error("reserve {address}: it is leased to {holder} ({}); release it there or request another", path.display())]
    Taken {
        /// The address.
        address: IpAddr,
        /// The owner, for people.
        holder: String,
        /// The lease.
        path: PathBuf,
    },
    /// An argument makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The caller's journal could not take note of a lease, which was
    /// therefore not made.
    #[error("reserve {address}: note it in the journal: {reason}")]
    Journal {
        /// The address that would have been leased.
        address: IpAddr,
        /// Why not, and what to do.
        reason: String,
    },
    /// The file system failed.
    #[error("{action} {}: {source}{}", path.display(), advice(source))]
    Io {
        /// What was attempted, such as `create the lease`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl LeaseError {
    fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.to_owned(), source: source.into() }
    }
}

const NO_DIRECTORY: &str =
    "; symbolic links are not followed here, and a file is no directory: move it aside";

/// What an operator can do about an error of the file system.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; the plugin has to run as root, and the path must not be immutable"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free space or inodes on that file system"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; remount it writable, or set \"dataDir\" to another directory",
        io::ErrorKind::NotADirectory => NO_DIRECTORY,
        _ if error.raw_os_error() == Some(nix::libc::ELOOP) => NO_DIRECTORY,
        _ => "",
    }
}
